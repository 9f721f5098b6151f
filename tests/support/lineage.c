#include "tests/support/lineage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/repository/pack.h"
#include "server/repository/reader.h"
#include "tests/support/test.h"

#define PAGE_LOG2      13
#define LARGE_PAGES    131072u
#define SLAB_PAGES     512u
#define PACK_SLABS     32u // of data: 16,384 pages, 128 MiB
#define PACK_PAGES     (SLAB_PAGES * PACK_SLABS)
#define PACK_BYTES     (128 * HF_MIB)
#define MAP_SLAB_BYTES (256 * HF_KIB)
#define MAP_PACK_BYTES (120 * HF_MIB)
#define FOLDER_FILES   1000

/* The map packs as they are written: objects gather until they fill a slab. */
struct mapping {
    struct test_vault *vault;
    struct hf_id session, pack;
    struct hf_slab_worker *worker;
    struct hf_pack_cipher *cipher;
    struct hf_pack_writer *writer; // NULL: the next object begins a pack
    uint32_t slab;
    uint8_t kinds[4096];
    size_t lengths[4096], count; // of the slab that is being gathered
    struct hf_buf bodies;
    json_t *packs; // rows of the COMMIT
    size_t used_count;
    struct hf_manifest_summary used[4096]; // map packs
    uint64_t next_page;                    // of all data packs together
    struct hf_id *data;                    // ids of the data packs
    size_t data_count;
};

static const uint8_t no_hash[HF_SHA256_BYTES];

static void
add_row(struct mapping *mapping, const struct hf_id *pack, int kind, uint64_t bytes, const uint8_t *sha256)
{
    char id[HF_ID_TEXT_BYTES], hash[2 * HF_SHA256_BYTES + 1];
    hf_hex_format(sha256, HF_SHA256_BYTES, hash);
    assert_int_equal(json_array_append_new(mapping->packs, json_pack("[s, i, I, s]", hf_id_format(pack, id), kind,
                                                                     (json_int_t)bytes, hash)),
                     0);
}

static void
end_slab(struct mapping *mapping)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(64 * HF_MIB), sealed = HF_BUF_INIT(64 * HF_MIB);
    struct hf_slab_info info = {.number = mapping->slab, .kind = HF_SLAB_OBJECTS, .items = (uint32_t)mapping->count};
    if (mapping->count == 0)
        return;
    hf_assert_ok(hf_objects_join(mapping->kinds, mapping->lengths, mapping->count, mapping->bodies.data,
                                 mapping->bodies.length, &plain, &err),
                 &err);
    hf_assert_ok(hf_slab_seal(mapping->worker, mapping->cipher, &info, plain.data, plain.length, &sealed, &err), &err);
    hf_assert_ok(hf_pack_writer_slab(mapping->writer, &info, sealed.data, sealed.length, NULL, 0, NULL, &err), &err);
    mapping->slab++;
    mapping->count = 0;
    hf_buf_clear(&mapping->bodies);
}

static void
end_pack(struct mapping *mapping)
{
    struct hf_error err;
    uint64_t bytes;
    uint8_t sha256[HF_SHA256_BYTES];
    end_slab(mapping);
    if (mapping->writer == NULL)
        return;
    hf_assert_ok(hf_pack_writer_finish(&mapping->writer, mapping->worker, &bytes, sha256, &err), &err);
    hf_pack_cipher_freep(&mapping->cipher);
    add_row(mapping, &mapping->pack, HF_PACK_MAP, bytes, sha256);
}

static void
begin_pack(struct mapping *mapping)
{
    struct hf_error err;
    const struct hf_vault_keys *keys = hf_vault_keys(mapping->vault->vault);
    mapping->pack = hf_id_new();
    mapping->slab = 0;
    const struct hf_pack_identity identity = {.kind = HF_PACK_MAP,
                                              .suite = hf_suite_best(),
                                              .repository = keys->repository,
                                              .vault = keys->vault,
                                              .pack = mapping->pack,
                                              .session = mapping->session,
                                              .key_epoch = keys->epochs[keys->epoch_count - 1].epoch,
                                              .created_at = 1700000000000};
    hf_assert_ok(hf_pack_cipher_new(&identity, keys, &mapping->cipher, &err), &err);
    hf_assert_ok(hf_pack_writer_new(hf_vault_backend(mapping->vault->vault), mapping->cipher, &mapping->writer, &err),
                 &err);
    assert_true(mapping->used_count < HF_LENGTH(mapping->used));
    mapping->used[mapping->used_count++] = (struct hf_manifest_summary){mapping->pack, 0};
}

static struct hf_object_ref
add_object(struct mapping *mapping, enum hf_object_kind kind, const struct hf_buf *body)
{
    struct hf_error err;
    if (mapping->count == HF_LENGTH(mapping->kinds) || mapping->bodies.length + body->length > MAP_SLAB_BYTES)
        end_slab(mapping);
    if (mapping->writer != NULL && hf_pack_writer_bytes(mapping->writer) > MAP_PACK_BYTES)
        end_pack(mapping);
    if (mapping->writer == NULL)
        begin_pack(mapping);
    hf_assert_ok(hf_buf_add(&mapping->bodies, body->data, body->length, &err), &err);
    mapping->kinds[mapping->count] = (uint8_t)kind;
    mapping->lengths[mapping->count] = body->length;
    if (kind != HF_OBJECT_MANIFEST_ROOT)
        mapping->used[mapping->used_count - 1].live++;
    return (struct hf_object_ref){mapping->pack, mapping->slab, (uint32_t)mapping->count++};
}

/* The next pages of the data packs, in order. */
static struct hf_object_ref
add_leaf(struct mapping *mapping, uint32_t pages, struct hf_leaf *leaf)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_LEAF_MOST);
    hf_leaf_clear(leaf);
    leaf->page_log2 = PAGE_LOG2;
    for (uint32_t left = pages; left > 0;) {
        const uint64_t at = mapping->next_page;
        const uint32_t in_slab = (uint32_t)(at % SLAB_PAGES);
        const uint32_t part = SLAB_PAGES - in_slab < left ? SLAB_PAGES - in_slab : left;
        hf_assert_ok(hf_leaf_add(leaf, HF_EXTENT_STORED, part, &mapping->data[at / PACK_PAGES],
                                 (uint32_t)(at % PACK_PAGES / SLAB_PAGES), in_slab, &err),
                     &err);
        mapping->next_page += part;
        left -= part;
    }
    hf_assert_ok(hf_leaf_encode(leaf, &body, &err), &err);
    return add_object(mapping, HF_OBJECT_LEAF, &body);
}

static int
by_id(const void *a, const void *b)
{
    return hf_id_compare(a, b); // of ids, and of summary rows, which begin with one
}

static struct hf_manifest_page_ref
add_page(struct mapping *mapping, const struct hf_manifest_file *files, size_t count)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_manifest_page_ref page = {.files = (uint32_t)count};
    hf_assert_ok(hf_manifest_page_encode(files, count, &body, &err), &err);
    hf_manifest_page_digest(hf_vault_keys(mapping->vault->vault), body.data, body.length, page.digest);
    page.ref = add_object(mapping, HF_OBJECT_MANIFEST_PAGE, &body);
    return page;
}

/* A folder with files of one size, in pages of the manifest. */
static void
add_folder(struct mapping *mapping, size_t files, uint32_t file_pages, struct hf_manifest_folder *folder,
           struct lineage_made *made)
{
    static struct hf_manifest_file listed[HF_MANIFEST_PAGE_FILES];
    static struct hf_object_ref leaves[HF_MANIFEST_PAGE_FILES][LARGE_PAGES / HF_LEAF_PAGES];
    static char names[HF_MANIFEST_PAGE_FILES][16];
    struct hf_leaf leaf;
    hf_leaf_init(&leaf, PAGE_LOG2);
    folder->mode = 0700;
    folder->pages = calloc(files / HF_MANIFEST_PAGE_FILES + 1, sizeof *folder->pages);
    assert_non_null(folder->pages);
    for (size_t done = 0; done < files;) {
        size_t count = 0;
        for (; count < HF_MANIFEST_PAGE_FILES && done < files; count++, done++) {
            size_t leaf_count = 0;
            snprintf(names[count], sizeof names[count], "%08zu", 16384 + done);
            for (uint32_t left = file_pages; left > 0;) {
                const uint32_t part = left < HF_LEAF_PAGES ? left : HF_LEAF_PAGES;
                leaves[count][leaf_count++] = add_leaf(mapping, part, &leaf);
                left -= part;
            }
            listed[count] = (struct hf_manifest_file){.name = names[count],
                                                      .kind = HF_FILE_RELATION,
                                                      .page_log2 = PAGE_LOG2,
                                                      .mode = 0600,
                                                      .modified_at = 1700000000000,
                                                      .size = (uint64_t)file_pages << PAGE_LOG2,
                                                      .leaf_count = leaf_count,
                                                      .leaves = leaves[count]};
            made->leaves += leaf_count;
            made->bytes += listed[count].size;
        }
        folder->pages[folder->page_count++] = add_page(mapping, listed, count);
    }
    made->files += files;
    hf_leaf_done(&leaf);
}

static void
make_hole(const struct test_vault *vault, const struct hf_id *pack)
{
    char name[HF_PACK_NAME_BYTES], path[800];
    snprintf(path, sizeof path, "%s/%s", vault->place, hf_pack_name(&vault->id, pack, name));
    *strrchr(path, '/') = '\0';
    assert_true(mkdir(path, 0700) == 0 || access(path, F_OK) == 0);
    path[strlen(path)] = '/';
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, PACK_BYTES), 0);
}

static void
enter(struct test_vault *vault, enum hf_log_kind kind, json_t *public_part, json_t *sealed_part)
{
    struct hf_error err;
    const struct hf_log_append entry = {
        .kind = kind, .time = 1700000000000, .public_part = public_part, .sealed_part = sealed_part};
    assert_non_null(public_part);
    hf_assert_ok(hf_vault_append(vault->vault, &entry, &vault->signing, NULL, NULL, &err), &err);
    json_decref(public_part);
    json_decref(sealed_part);
}

/* Root and COMMIT; the folders are shared. */
static struct hf_id
commit(struct mapping *mapping, struct hf_manifest_root *root)
{
    struct hf_error err;
    char session[HF_ID_TEXT_BYTES], backup[HF_ID_TEXT_BYTES], pack[HF_ID_TEXT_BYTES];
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    root->backup = hf_id_new();
    root->session = mapping->session;
    hf_assert_ok(hf_manifest_root_encode(root, &body, &err), &err);
    const struct hf_object_ref at = add_object(mapping, HF_OBJECT_MANIFEST_ROOT, &body);
    end_pack(mapping);
    hf_assert_ok(hf_backend_barrier(hf_vault_backend(mapping->vault->vault), &err), &err);
    enter(mapping->vault, HF_LOG_COMMIT,
          json_pack("{s:s, s:s, s:n, s:{s:s, s:i, s:i}, s:o, s:[]}", "session",
                    hf_id_format(&mapping->session, session), "backup", hf_id_format(&root->backup, backup), "parent",
                    "root", "pack", hf_id_format(&at.pack, pack), "slab", (int)at.slab, "index", (int)at.index, "packs",
                    mapping->packs, "dropped"),
          json_pack("{s:s, s:{s:s}}", "source", "clinic", "facts", "engine", "postgres"));
    mapping->packs = json_array();
    return root->backup;
}

static void
begin_session(struct mapping *mapping)
{
    char session[HF_ID_TEXT_BYTES];
    mapping->session = hf_id_new();
    enter(mapping->vault, HF_LOG_INTENT,
          json_pack("{s:s, s:[], s:n, s:s}", "session", hf_id_format(&mapping->session, session), "parents",
                    "builds_on", "operation", "backup"),
          NULL);
}

void
lineage_make(struct test_vault *vault, const struct lineage_size *size, struct lineage_made *ret)
{
    struct hf_error err;
    char facts[] = "{\"engine\":\"postgres\"}";
    struct mapping *mapping = calloc(1, sizeof *mapping);
    const uint64_t pages = (uint64_t)size->large_files * LARGE_PAGES + size->small_files;
    const size_t folder_count = 2 + size->small_files / FOLDER_FILES;
    struct hf_manifest_folder *folders = calloc(folder_count, sizeof *folders);
    assert_non_null(mapping);
    assert_non_null(folders);
    *ret = (struct lineage_made){.pages = pages};
    mapping->vault = vault;
    mapping->bodies = HF_BUF_INIT(8 * HF_MIB);
    mapping->packs = json_array();
    mapping->data_count = (size_t)((pages + PACK_PAGES - 1) / PACK_PAGES);
    mapping->data = calloc(mapping->data_count, sizeof *mapping->data);
    assert_non_null(mapping->data);
    hf_assert_ok(hf_slab_worker_new(1, &mapping->worker, &err), &err);
    begin_session(mapping);
    for (size_t i = 0; i < mapping->data_count; i++) {
        mapping->data[i] = hf_id_new();
        add_row(mapping, &mapping->data[i], HF_PACK_DATA, PACK_BYTES, no_hash);
    }
    ret->data_packs = mapping->data_count;

    folders[0].path = strdup("");
    add_folder(mapping, size->large_files, LARGE_PAGES, &folders[0], ret);
    size_t made = 1;
    for (size_t left = size->small_files; left > 0; made++) {
        const size_t part = left < FOLDER_FILES ? left : FOLDER_FILES;
        assert_true(asprintf(&folders[made].path, "f%05zu", made) > 0);
        add_folder(mapping, part, 1, &folders[made], ret);
        left -= part;
    }

    size_t rows = 0;
    struct hf_manifest_summary *summary = calloc(mapping->data_count + HF_LENGTH(mapping->used), sizeof *summary);
    assert_non_null(summary);
    for (size_t i = 0; i < mapping->data_count; i++) {
        const uint64_t first = (uint64_t)i * PACK_PAGES;
        summary[rows++] =
            (struct hf_manifest_summary){mapping->data[i], pages - first < PACK_PAGES ? pages - first : PACK_PAGES};
    }
    for (size_t i = 0; i < mapping->used_count; i++)
        summary[rows++] = mapping->used[i];
    qsort(summary, rows, sizeof *summary, by_id);
    struct hf_manifest_root root = {.vault = vault->id,
                                    .started_at = 1700000000000,
                                    .finished_at = 1700000000001,
                                    .file_count = ret->files,
                                    .logical_bytes = ret->bytes,
                                    .facts = facts,
                                    .folder_count = made,
                                    .folders = folders,
                                    .summary_count = rows,
                                    .summary = summary};
    for (size_t i = 0; i < size->backups; i++) {
        if (i > 0)
            begin_session(mapping);
        ret->newest = commit(mapping, &root);
    }
    for (size_t i = 0; i < mapping->data_count; i++)
        make_hole(vault, &mapping->data[i]);

    for (size_t i = 0; i < made; i++) {
        free(folders[i].path);
        free(folders[i].pages);
    }
    free(folders);
    free(summary);
    free(mapping->data);
    json_decref(mapping->packs);
    hf_buf_done(&mapping->bodies);
    hf_slab_worker_freep(&mapping->worker);
    free(mapping);
}

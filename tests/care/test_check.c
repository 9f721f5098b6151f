#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "server/repository/pack.h"
#include "server/repository/reader.h"
#include "tests/support/vault.h"

/*
 * Repositories that are well sealed, signed and named, and yet do not say the truth: a small backup is written
 * object by object, and one thing about it is false.  Whoever holds the keys can write that, or a writer with a
 * fault; check level 2 has to notice.
 */

#define PAGE      8192
#define A_PAGES   5
#define A_TAIL    100 // bytes of its last page
#define A_SIZE    ((A_PAGES - 1) * PAGE + A_TAIL)
#define A_FIRST   3 // pages of it in the first slab; page 3 is zeros, the tail lies in the second slab
#define B_SIZE    70
#define GAP_BYTES 24

/* What is not true of a backup.  All zeros: everything is. */
struct lies {
    uint8_t kind_in_commit; // of the data pack
    bool header_session;    // the data pack says it is of another session
    bool objects_in_data_pack;
    bool gap;            // bytes between the slabs of the data pack
    bool short_page;     // page 1 of "a" is stored without its last byte
    bool unlisted_file;  // the data pack's directory does not list "b"
    uint8_t listed_log2; // it lists "a" with pages of this size
    bool directory_tag, directory_crc;
    bool file_crc, file_digest;
    uint64_t file_size;      // of "a", as its manifest says
    uint8_t leaf_log2;       // of the map of "a"
    int data_live, map_live; // added to what the summary says
    bool no_map_row;         // the summary does not list the map pack
    bool stranger_row;       // the summary lists a pack that nobody committed
    int bytes;               // added to what the root counts
    bool facts, parent, session;
    bool no_commit_of_data; // the COMMIT does not name the data pack
    enum { END_AS_IT_IS, END_WITH_BYTES, END_OF_LONGER_DIRECTORY, END_RESERVED } end; // of the data pack
    bool page_files;           // root and list of files count one file more than is listed
    uint8_t b_log2;            // of "b", as its manifest and map say
    bool past_end;             // the map of "b" leads past the end of its slab
    bool data_hash, root_hash; // the COMMIT has another one
    bool root_apart;           // the root has a map pack of its own
    bool object_count;         // the map slab's header counts one object more
};

struct small_backup {
    struct test_vault *vault;
    const struct lies *lies;
    struct hf_id session, backup, data_pack, map_pack, root_pack;
    struct hf_slab_worker *worker;
    uint8_t a[A_SIZE], b[B_SIZE];
    struct hf_page_check a_checks[A_PAGES], b_check;
    uint64_t data_bytes, map_bytes, root_bytes;
    uint8_t data_sha256[HF_SHA256_BYTES], map_sha256[HF_SHA256_BYTES], root_sha256[HF_SHA256_BYTES];
};

/* The damages that a check told of. */
struct told {
    int count;
    char first[HF_ERROR_MESSAGE_BYTES];
    enum hf_damage_kind kind; // of the first
    struct hf_id pack;
    int summaries; // of how many the message is that the summary counts otherwise
    int files;     // of how many it is a file that is affected
};

static const uint8_t zeros[PAGE];

static size_t
page_bytes(const struct small_backup *made, unsigned page)
{
    if (made->lies->short_page && page == 1)
        return PAGE - 1;
    return page + 1 < A_PAGES ? PAGE : A_TAIL;
}

struct small_pack { // being written
    struct hf_pack_cipher *cipher;
    struct hf_pack_writer *writer;
};

static struct small_pack
begin_pack(const struct small_backup *made, const struct hf_id *pack, enum hf_pack_kind kind)
{
    struct hf_error err;
    struct small_pack begun;
    const struct hf_vault_keys *keys = hf_vault_keys(made->vault->vault);
    const bool strange = made->lies->header_session && kind == HF_PACK_DATA;
    const struct hf_pack_identity identity = {.kind = kind,
                                              .suite = hf_suite_best(),
                                              .repository = keys->repository,
                                              .vault = keys->vault,
                                              .pack = *pack,
                                              .session = strange ? hf_id_new() : made->session,
                                              .key_epoch = keys->epochs[keys->epoch_count - 1].epoch,
                                              .created_at = 1700000000000};
    hf_assert_ok(hf_pack_cipher_new(&identity, keys, &begun.cipher, &err), &err);
    hf_assert_ok(hf_pack_writer_new(hf_vault_backend(made->vault->vault), begun.cipher, &begun.writer, &err), &err);
    return begun;
}

static void
end_pack(const struct small_backup *made, struct small_pack *pack, uint64_t *ret_bytes,
         uint8_t ret_sha256[static HF_SHA256_BYTES])
{
    struct hf_error err;
    hf_assert_ok(hf_pack_writer_finish(&pack->writer, made->worker, ret_bytes, ret_sha256, &err), &err);
    hf_pack_cipher_freep(&pack->cipher);
}

static void
put_slab(const struct small_backup *made, const struct small_pack *pack, struct hf_slab_info *info,
         const struct hf_buf *plain, const struct hf_page_run *runs, size_t run_count,
         const struct hf_page_check *checks)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(4 * HF_MIB);
    hf_assert_ok(hf_slab_seal(made->worker, pack->cipher, info, plain->data, plain->length, &sealed, &err), &err);
    if (made->lies->gap && info->kind == HF_SLAB_PAGES && info->number == 0) {
        hf_assert_ok(hf_buf_add_zeros(&sealed, GAP_BYTES, &err), &err);
        sealed.data[sealed.length - GAP_BYTES / 2] = 1;
    }
    hf_assert_ok(hf_pack_writer_slab(pack->writer, info, sealed.data, sealed.length, runs, run_count, checks, &err),
                 &err);
}

static void
put_pages_slab(const struct small_backup *made, const struct small_pack *pack, uint32_t number,
               const struct hf_page_run *runs, size_t run_count, const uint8_t *pages, size_t length,
               const struct hf_page_check *checks)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(HF_KIB), plain = HF_BUF_INIT(HF_MIB);
    struct hf_slab_info info = {.number = number, .kind = HF_SLAB_PAGES};
    for (size_t i = 0; i < run_count; i++)
        info.items += runs[i].count;
    hf_assert_ok(hf_page_list_put(runs, run_count, &list, &err) &&
                     hf_buf_put_u32(&plain, (uint32_t)list.length, &err) &&
                     hf_buf_add(&plain, list.data, list.length, &err) && hf_buf_add(&plain, pages, length, &err),
                 &err);
    put_slab(made, pack, &info, &plain, runs, run_count, checks);
}

/* Puts 8 bytes in front of the trailer, and has the trailer say what it is to say. */
static void
change_end(struct small_backup *made)
{
    struct hf_error err;
    char name[HF_PACK_NAME_BYTES];
    const struct hf_id vault = hf_vault_id(made->vault->vault);
    struct hf_backend *backend = hf_vault_backend(made->vault->vault);
    _cleanup_(hf_buf_done) struct hf_buf pack = HF_BUF_INIT(HF_MIB);
    hf_pack_name(&vault, &made->data_pack, name);
    hf_assert_ok(hf_backend_barrier(backend, &err) && hf_backend_get(backend, name, &pack, &err) &&
                     hf_backend_delete(backend, name, &err),
                 &err);
    uint8_t trailer[HF_PACK_TRAILER], more[8] = {0};
    memcpy(trailer, pack.data + pack.length - HF_PACK_TRAILER, HF_PACK_TRAILER);
    more[4] = made->lies->end == END_WITH_BYTES;
    if (made->lies->end == END_OF_LONGER_DIRECTORY)
        hf_put_u64(trailer + 16, hf_get_u64(trailer + 16) + 8);
    trailer[50] = made->lies->end == END_RESERVED;
    hf_put_u32(trailer + 60, hf_crc32c(0, trailer, 60));
    hf_buf_truncate(&pack, pack.length - HF_PACK_TRAILER);
    hf_assert_ok(hf_buf_add(&pack, more, sizeof more, &err) && hf_buf_add(&pack, trailer, sizeof trailer, &err) &&
                     hf_backend_put_exclusive(backend, name, pack.data, pack.length, &err),
                 &err);
    made->data_bytes = pack.length;
    hf_sha256(pack.data, pack.length, made->data_sha256);
}

/* Slab 0: pages 0 to 2 of "a".  Slab 1: its tail, then "b". */
static void
write_data_pack(struct small_backup *made)
{
    struct hf_error err;
    const struct lies *lies = made->lies;
    const struct hf_vault_keys *keys = hf_vault_keys(made->vault->vault);
    struct small_pack pack = begin_pack(made, &made->data_pack, HF_PACK_DATA);
    uint32_t number = 0;
    for (unsigned page = 0; page < A_PAGES; page++) {
        const uint8_t *bytes = page == A_FIRST ? zeros : made->a + page * PAGE;
        hf_page_tag(keys, bytes, page_bytes(made, page), made->a_checks[page].tag);
        made->a_checks[page].crc32c = hf_crc32c(0, bytes, page_bytes(made, page));
    }
    hf_page_tag(keys, made->b, B_SIZE, made->b_check.tag);
    made->b_check.crc32c = hf_crc32c(0, made->b, B_SIZE);

    hf_assert_ok(hf_pack_writer_file(pack.writer, 0, lies->listed_log2 > 0 ? lies->listed_log2 : 13, "a", &err), &err);
    if (!lies->unlisted_file)
        hf_assert_ok(hf_pack_writer_file(pack.writer, 1, 16, "b", &err), &err);

    struct hf_page_check in_directory[A_FIRST];
    memcpy(in_directory, made->a_checks, sizeof in_directory);
    in_directory[1].tag[3] ^= lies->directory_tag;
    in_directory[1].crc32c ^= lies->directory_crc;
    struct hf_page_run runs[2] = {{.file = 0, .page_log2 = 13, .first_page = 0, .count = A_FIRST}, {0}};
    size_t run_count = 1, length = (size_t)A_FIRST * PAGE;
    uint8_t pages[A_FIRST * PAGE];
    memcpy(pages, made->a, sizeof pages);
    if (lies->short_page) {
        runs[0] = (struct hf_page_run){.file = 0, .page_log2 = 13, .first_page = 0, .count = 2, .short_by = 1};
        runs[1] = (struct hf_page_run){.file = 0, .page_log2 = 13, .first_page = 2, .count = 1};
        run_count = 2;
        length--;
        memmove(pages + 2 * PAGE - 1, pages + 2 * PAGE, PAGE);
    }
    put_pages_slab(made, &pack, number++, runs, run_count, pages, length, in_directory);

    uint8_t second[A_TAIL + B_SIZE];
    memcpy(second, made->a + (A_PAGES - 1) * PAGE, A_TAIL);
    memcpy(second + A_TAIL, made->b, B_SIZE);
    const struct hf_page_check second_checks[] = {made->a_checks[A_PAGES - 1], made->b_check};
    const struct hf_page_run second_runs[] = {
        {.file = 0, .page_log2 = 13, .first_page = A_PAGES - 1, .count = 1, .short_by = PAGE - A_TAIL},
        {.file = 1, .page_log2 = 16, .first_page = 0, .count = 1, .short_by = 65536 - B_SIZE}};
    put_pages_slab(made, &pack, number++, second_runs, 2, second, sizeof second, second_checks);

    if (lies->objects_in_data_pack) {
        _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_KIB);
        struct hf_slab_info info = {.number = number, .kind = HF_SLAB_OBJECTS, .items = 1};
        const uint8_t kind = HF_OBJECT_LEAF;
        const size_t one = 1;
        hf_assert_ok(hf_objects_join(&kind, &one, 1, zeros, 1, &plain, &err), &err);
        put_slab(made, &pack, &info, &plain, NULL, 0, NULL);
    }
    end_pack(made, &pack, &made->data_bytes, made->data_sha256);
    if (lies->end != END_AS_IT_IS)
        change_end(made);
}

static void
encode_leaves(const struct small_backup *made, struct hf_buf *a, struct hf_buf *b)
{
    struct hf_error err;
    struct hf_leaf leaf;
    hf_leaf_init(&leaf, made->lies->leaf_log2 > 0 ? made->lies->leaf_log2 : 13);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, A_FIRST, &made->data_pack, 0, 0, &err) &&
                     hf_leaf_add(&leaf, HF_EXTENT_ZEROS, 1, NULL, 0, 0, &err) &&
                     hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &made->data_pack, 1, 0, &err) &&
                     hf_leaf_encode(&leaf, a, &err),
                 &err);
    hf_leaf_done(&leaf);
    hf_leaf_init(&leaf, made->lies->b_log2 > 0 ? made->lies->b_log2 : 16);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &made->data_pack, 1, made->lies->past_end ? 2 : 1, &err) &&
                     hf_leaf_encode(&leaf, b, &err),
                 &err);
    hf_leaf_done(&leaf);
}

static void
digest_of(const struct small_backup *made, const struct hf_page_check *checks, size_t count, uint64_t size,
          uint8_t ret[static HF_FILE_DIGEST_BYTES])
{
    struct hf_error err;
    struct hf_file_digest *digest;
    hf_assert_ok(hf_file_digest_new(hf_vault_keys(made->vault->vault), &digest, &err), &err);
    for (size_t i = 0; i < count; i++)
        hf_file_digest_add(digest, checks[i].tag);
    hf_file_digest_end(digest, size, ret);
    hf_file_digest_freep(&digest);
}

static void
write_map(const struct small_backup *made, const struct hf_id *id, const uint8_t *kinds,
          const struct hf_buf *const *objects, size_t count, uint64_t *ret_bytes,
          uint8_t ret_sha256[static HF_SHA256_BYTES])
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf bodies = HF_BUF_INIT(16 * HF_KIB), plain = HF_BUF_INIT(16 * HF_KIB);
    size_t lengths[4];
    for (size_t i = 0; i < count; i++) {
        lengths[i] = objects[i]->length;
        hf_assert_ok(hf_buf_add(&bodies, objects[i]->data, objects[i]->length, &err), &err);
    }
    hf_assert_ok(hf_objects_join(kinds, lengths, count, bodies.data, bodies.length, &plain, &err), &err);
    struct small_pack pack = begin_pack(made, id, HF_PACK_MAP);
    struct hf_slab_info info = {
        .number = 0, .kind = HF_SLAB_OBJECTS, .items = (uint32_t)count + made->lies->object_count};
    put_slab(made, &pack, &info, &plain, NULL, 0, NULL);
    end_pack(made, &pack, ret_bytes, ret_sha256);
}

/* One slab: the leaves of "a" and "b", the list of files, the root. */
static struct hf_object_ref
write_map_pack(struct small_backup *made, const char *facts)
{
    struct hf_error err;
    const struct lies *lies = made->lies;
    _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(HF_KIB), b = HF_BUF_INIT(HF_KIB), page = HF_BUF_INIT(HF_KIB),
                                         root = HF_BUF_INIT(4 * HF_KIB);
    encode_leaves(made, &a, &b);

    const struct hf_object_ref a_leaf = {made->map_pack, 0, 0}, b_leaf = {made->map_pack, 0, 1};
    struct hf_manifest_file files[] = {{.name = "a",
                                        .kind = HF_FILE_RELATION,
                                        .page_log2 = 13,
                                        .mode = 0600,
                                        .size = lies->file_size > 0 ? lies->file_size : A_SIZE,
                                        .crc32c = hf_crc32c(0, made->a, A_SIZE),
                                        .leaf_count = 1,
                                        .leaves = &a_leaf},
                                       {.name = "b",
                                        .kind = HF_FILE_OTHER,
                                        .page_log2 = lies->b_log2 > 0 ? lies->b_log2 : 16,
                                        .mode = 0600,
                                        .size = B_SIZE,
                                        .crc32c = hf_crc32c(0, made->b, B_SIZE),
                                        .leaf_count = 1,
                                        .leaves = &b_leaf}};
    digest_of(made, made->a_checks, A_PAGES, files[0].size, files[0].digest);
    digest_of(made, &made->b_check, 1, B_SIZE, files[1].digest);
    files[0].crc32c ^= lies->file_crc;
    files[1].digest[7] ^= lies->file_digest;
    hf_assert_ok(hf_manifest_page_encode(files, 2, &page, &err), &err);

    struct hf_manifest_page_ref page_ref = {.ref = {made->map_pack, 0, 2}, .files = 2u + lies->page_files};
    hf_manifest_page_digest(hf_vault_keys(made->vault->vault), page.data, page.length, page_ref.digest);
    char top[] = "";
    struct hf_manifest_folder folder = {.path = top, .mode = 0700, .page_count = 1, .pages = &page_ref};
    struct hf_manifest_summary summary[3] = {{made->data_pack, (uint64_t)(A_FIRST + 2 + lies->data_live)}};
    size_t rows = 1;
    if (!lies->no_map_row)
        summary[rows++] = (struct hf_manifest_summary){made->map_pack, (uint64_t)(3 + lies->map_live)};
    if (lies->stranger_row)
        summary[rows++] = (struct hf_manifest_summary){{{0xff, 0xff, 0xff, 0xff}}, 1};
    for (size_t i = 1; i < rows; i++) // sorted by pack
        for (size_t n = i; n > 0 && hf_id_compare(&summary[n].pack, &summary[n - 1].pack) < 0; n--) {
            const struct hf_manifest_summary swapped = summary[n];
            summary[n] = summary[n - 1];
            summary[n - 1] = swapped;
        }
    char other_facts[] = "{\"engine\":\"other\"}";
    const struct hf_manifest_root says = {.backup = made->backup,
                                          .vault = hf_vault_id(made->vault->vault),
                                          .session = lies->session ? hf_id_new() : made->session,
                                          .parent = lies->parent ? hf_id_new() : HF_ID_NONE,
                                          .started_at = 1700000000000,
                                          .finished_at = 1700000000001,
                                          .file_count = 2u + lies->page_files,
                                          .logical_bytes = (uint64_t)((int64_t)files[0].size + B_SIZE + lies->bytes),
                                          .facts = lies->facts ? other_facts : (char *)(uintptr_t)facts,
                                          .folder_count = 1,
                                          .folders = &folder,
                                          .summary_count = rows,
                                          .summary = summary};
    hf_assert_ok(hf_manifest_root_encode(&says, &root, &err), &err);

    const uint8_t kinds[] = {HF_OBJECT_LEAF, HF_OBJECT_LEAF, HF_OBJECT_MANIFEST_PAGE, HF_OBJECT_MANIFEST_ROOT};
    const struct hf_buf *const objects[] = {&a, &b, &page, &root};
    const size_t first = lies->root_apart ? 3 : 4;
    write_map(made, &made->map_pack, kinds, objects, first, &made->map_bytes, made->map_sha256);
    if (!lies->root_apart)
        return (struct hf_object_ref){made->map_pack, 0, 3};
    write_map(made, &made->root_pack, kinds + 3, objects + 3, 1, &made->root_bytes, made->root_sha256);
    made->root_sha256[3] ^= lies->root_hash;
    return (struct hf_object_ref){made->root_pack, 0, 0};
}

static void
append_entry(struct test_vault *vault, enum hf_log_kind kind, json_t *public_part, json_t *sealed_part)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    assert_non_null(public_part);
    hf_assert_ok(hf_vault_read(vault->vault, NULL, NULL, &state, &err), &err);
    hf_assert_ok(hf_vault_log_append(hf_vault_get_log(vault->vault),
                                     &(struct hf_log_append){kind, 1700000000000, 0, public_part, sealed_part},
                                     &vault->signing, &err),
                 &err);
    hf_json_freep(&public_part);
    hf_json_freep(&sealed_part);
}

static json_t *
pack_row(const struct hf_id *pack, uint8_t kind, uint64_t bytes, const uint8_t sha256[static HF_SHA256_BYTES])
{
    char id[HF_ID_TEXT_BYTES], hash[2 * HF_SHA256_BYTES + 1];
    hf_hex_format(sha256, HF_SHA256_BYTES, hash);
    return json_pack("[s, i, I, s]", hf_id_format(pack, id), kind, (json_int_t)bytes, hash);
}

static void
write_small_backup(struct test_vault *vault, const struct lies *lies, struct small_backup *made)
{
    struct hf_error err;
    char session[HF_ID_TEXT_BYTES], backup[HF_ID_TEXT_BYTES], map[HF_ID_TEXT_BYTES];
    *made = (struct small_backup){.vault = vault,
                                  .lies = lies,
                                  .session = hf_id_new(),
                                  .backup = hf_id_new(),
                                  .data_pack = hf_id_new(),
                                  .map_pack = hf_id_new(),
                                  .root_pack = hf_id_new()};
    for (size_t i = 0; i < A_SIZE; i++)
        made->a[i] = i / PAGE == A_FIRST ? 0 : (uint8_t)(i * 7 + i / PAGE + 1);
    memset(made->b, 'b', B_SIZE);
    hf_id_format(&made->session, session);
    hf_id_format(&made->backup, backup);
    hf_assert_ok(hf_slab_worker_new(1, &made->worker, &err), &err);
    append_entry(vault, HF_LOG_INTENT,
                 json_pack("{s:s, s:[], s:n, s:s}", "session", session, "parents", "builds_on", "operation", "backup"),
                 NULL);
    write_data_pack(made);
    made->data_sha256[3] ^= lies->data_hash;
    const struct hf_object_ref root = write_map_pack(made, "{\"engine\":\"postgres\"}");
    hf_assert_ok(hf_backend_barrier(hf_vault_backend(vault->vault), &err), &err);
    json_t *packs = json_array();
    if (!lies->no_commit_of_data)
        json_array_append_new(packs,
                              pack_row(&made->data_pack, lies->kind_in_commit > 0 ? lies->kind_in_commit : HF_PACK_DATA,
                                       made->data_bytes, made->data_sha256));
    json_array_append_new(packs, pack_row(&made->map_pack, HF_PACK_MAP, made->map_bytes, made->map_sha256));
    if (lies->root_apart)
        json_array_append_new(packs, pack_row(&made->root_pack, HF_PACK_MAP, made->root_bytes, made->root_sha256));
    append_entry(vault, HF_LOG_COMMIT,
                 json_pack("{s:s, s:s, s:n, s:{s:s, s:i, s:i}, s:o, s:[]}", "session", session, "backup", backup,
                           "parent", "root", "pack", hf_id_format(&root.pack, map), "slab", (int)root.slab, "index",
                           (int)root.index, "packs", packs, "dropped"),
                 json_pack("{s:s, s:{s:s}}", "source", "clinic", "facts", "engine", "postgres"));
    hf_slab_worker_freep(&made->worker);
}

static void
listen(void *context, const struct hf_damage *damage)
{
    struct told *told = context;
    print_message("# %s: %s\n", hf_damage_kind_name(damage->kind), damage->message);
    told->summaries += strstr(damage->message, "says that it uses") != NULL;
    told->files += damage->file != NULL;
    if (told->count++ == 0) {
        snprintf(told->first, sizeof told->first, "%s", damage->message);
        told->kind = damage->kind;
        told->pack = damage->pack;
    }
}

static struct told
check(struct test_vault *vault, int level, const struct hf_id *backup)
{
    struct hf_error err;
    struct told told = {0};
    struct hf_check_report report;
    const struct hf_check_options options = {
        .level = level, .workers = 2, .backup = backup, .damage = listen, .context = &told};
    hf_assert_ok(hf_repository_check(vault->repository, &options, &report, &err), &err);
    assert_int_equal(report.damages, told.count);
    return told;
}

/*
 * Writes a backup with these lies, and expects just one damage, whose message holds `naming`; of all, and of it alone.
 */
static void
expect_one(const struct lies *lies, enum hf_damage_kind kind, const char *naming)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, lies, &made);
    const struct told told = check(&vault, 2, NULL), of_backup = check(&vault, 2, &made.backup);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.kind, kind);
    if (strstr(told.first, naming) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", told.first, naming);
    assert_true(of_backup.count >= 1);
    test_vault_done(&vault);
}

HF_TEST(a_backup_that_says_the_truth_has_no_damage)
{
    struct test_vault vault;
    struct small_backup made;
    struct hf_error err;
    struct hf_check_report report;
    const struct lies none = {0};
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &none, &made);
    for (int level = 0; level <= 2; level++)
        assert_int_equal(check(&vault, level, NULL).count, 0);
    assert_int_equal(check(&vault, 2, &made.backup).count, 0);

    /* The same with nothing but the vault in hand. */
    hf_assert_ok(hf_vault_check(vault.vault, &(struct hf_check_options){.level = 2}, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.files, 2);
    assert_int_equal(report.pages, A_FIRST + 2);
    assert_int_equal(report.slabs, 3);
    assert_int_equal(report.backups, 1);
    test_vault_done(&vault);
}

HF_TEST(a_summary_that_counts_other_pages_than_the_maps_use_is_noticed)
{
    expect_one(&(struct lies){.data_live = 1}, HF_DAMAGE_MAP, "says that it uses 6 pages or objects");
    expect_one(&(struct lies){.data_live = -1}, HF_DAMAGE_MAP, "says that it uses 4 pages or objects");
}

HF_TEST(a_summary_that_counts_other_map_objects_is_noticed)
{
    expect_one(&(struct lies){.map_live = 1}, HF_DAMAGE_MAP, "its maps use 3");
}

HF_TEST(a_summary_without_a_pack_that_is_used_is_noticed)
{
    expect_one(&(struct lies){.no_map_row = true}, HF_DAMAGE_MAP, "says that it uses 0 pages or objects");
}

HF_TEST(a_summary_that_counts_on_a_pack_nobody_committed_is_noticed)
{
    expect_one(&(struct lies){.stranger_row = true}, HF_DAMAGE_MAP, "which no COMMIT that counts has brought");
}

HF_TEST(pages_in_a_pack_that_was_not_committed_are_noticed)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.no_commit_of_data = true}, &made);
    const struct told told = check(&vault, 2, NULL);
    assert_int_equal(told.count, 3); // both files, and the summary
    assert_non_null(strstr(told.first, "which no COMMIT that counts has brought"));
    test_vault_done(&vault);
}

HF_TEST(a_page_that_is_shorter_than_the_file_asks_for_is_noticed)
{
    expect_one(&(struct lies){.short_page = true}, HF_DAMAGE_MAP, "holds 8191 bytes of it, its size asks for 8192");
}

HF_TEST(a_tail_of_another_length_than_the_file_asks_for_is_noticed)
{
    expect_one(&(struct lies){.file_size = A_SIZE + 1}, HF_DAMAGE_MAP, "holds 100 bytes of it, its size asks for 101");
}

HF_TEST(a_map_of_other_pages_than_the_file_has_is_noticed)
{
    expect_one(&(struct lies){.leaf_log2 = 12}, HF_DAMAGE_MAP, "its map has 5 pages of 4096 bytes at byte 0");
}

HF_TEST(a_false_crc_of_a_file_is_noticed)
{
    expect_one(&(struct lies){.file_crc = true}, HF_DAMAGE_MAP, "file \"a\" does not have the CRC-32C of the backup");
}

HF_TEST(a_false_digest_of_a_file_is_noticed)
{
    expect_one(&(struct lies){.file_digest = true}, HF_DAMAGE_MAP, "file \"b\" does not have the digest of the backup");
}

HF_TEST(a_root_that_counts_other_bytes_than_its_files_have_is_noticed)
{
    expect_one(&(struct lies){.bytes = 1}, HF_DAMAGE_MAP, "files of 32938 bytes, it counts 32939");
}

HF_TEST(facts_and_ancestors_other_than_those_of_the_commit_are_noticed)
{
    expect_one(&(struct lies){.facts = true}, HF_DAMAGE_MAP, "has another facts than its COMMIT");
    expect_one(&(struct lies){.parent = true}, HF_DAMAGE_MAP, "has another parent than its COMMIT");
    expect_one(&(struct lies){.session = true}, HF_DAMAGE_MAP, "has another session than its COMMIT");
}

HF_TEST(a_pack_of_another_kind_than_its_commit_says_is_noticed)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.kind_in_commit = HF_PACK_STREAM}, &made);
    const struct told told = check(&vault, 2, NULL);
    assert_true(told.count > 1); // and none of its slabs is one of a stream
    assert_int_equal(told.kind, HF_DAMAGE_ALTERED);
    assert_true(hf_id_equal(&told.pack, &made.data_pack));
    assert_non_null(strstr(told.first, "is a data pack, the log says stream"));
    test_vault_done(&vault);
}

HF_TEST(a_pack_of_another_session_than_the_one_that_commits_it_is_noticed)
{
    expect_one(&(struct lies){.header_session = true}, HF_DAMAGE_ALTERED, "which did not commit it");
}

HF_TEST(map_objects_in_a_data_pack_are_noticed)
{
    expect_one(&(struct lies){.objects_in_data_pack = true}, HF_DAMAGE_ALTERED,
               "slab 2: a slab of kind 2 in a data pack");
}

HF_TEST(a_map_slab_with_other_objects_than_it_counts_is_noticed)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.object_count = true}, &made);
    const struct told told = check(&vault, 2, NULL);
    assert_non_null(strstr(told.first, "slab 0: it holds 4 objects, its header says 5"));
    test_vault_done(&vault);
}

HF_TEST(bytes_between_slabs_are_noticed)
{
    expect_one(&(struct lies){.gap = true}, HF_DAMAGE_ALTERED, "holds bytes between its slabs");
}

HF_TEST(the_end_of_a_pack_holds_what_the_format_says_and_nothing_else)
{
    expect_one(&(struct lies){.end = END_WITH_BYTES}, HF_DAMAGE_ALTERED, "holds bytes between its slabs");
    const struct lies others[] = {{.end = END_OF_LONGER_DIRECTORY}, {.end = END_RESERVED}};
    for (size_t i = 0; i < HF_LENGTH(others); i++) {
        struct test_vault vault;
        struct small_backup made;
        test_vault_make(&vault, hf_test_folder());
        write_small_backup(&vault, &others[i], &made);
        const struct told told = check(&vault, 2, NULL);
        assert_non_null(strstr(told.first, "does not fit its directory"));
        assert_true(hf_id_equal(&told.pack, &made.data_pack));
        test_vault_done(&vault);
    }
}

HF_TEST(a_root_that_counts_more_files_than_are_listed_is_noticed)
{
    expect_one(&(struct lies){.page_files = true}, HF_DAMAGE_MAP, "the manifest lists 2 files, it counts 3");
}

HF_TEST(pages_of_another_size_than_the_map_says_are_noticed)
{
    expect_one(&(struct lies){.b_log2 = 15}, HF_DAMAGE_MAP, "slab 1 holds 70 bytes of it");
}

HF_TEST(a_map_that_leads_past_the_end_of_a_slab_is_noticed)
{
    expect_one(&(struct lies){.past_end = true}, HF_DAMAGE_MAP, "its map leads past the end of pack");
}

HF_TEST(one_backup_alone_is_checked_with_all_that_its_maps_need)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.root_apart = true}, &made);
    assert_int_equal(check(&vault, 2, &made.backup).count, 0);
    write_small_backup(&vault, &(struct lies){.root_apart = true, .no_map_row = true}, &made);
    const struct told told = check(&vault, 2, &made.backup); // both files, and their list
    assert_int_equal(told.count, 3);
    assert_non_null(strstr(told.first, "which the manifest's summary does not list"));
    test_vault_done(&vault);
}

HF_TEST(a_pack_that_only_holds_the_root_is_looked_at_too)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.root_apart = true, .root_hash = true}, &made);
    const struct told told = check(&vault, 2, &made.backup);
    assert_int_equal(told.count, 1);
    assert_true(hf_id_equal(&told.pack, &made.root_pack));
    test_vault_done(&vault);
}

HF_TEST(a_hash_that_nothing_inside_explains_is_told)
{
    expect_one(&(struct lies){.data_hash = true}, HF_DAMAGE_ALTERED, "its hash is not the one in the log");
}

/* In the middle of slab 0. */
static void
damage_slab(const struct small_backup *made, const struct hf_id *pack)
{
    char name[HF_PACK_NAME_BYTES], path[800];
    uint8_t byte;
    const struct hf_id id = hf_vault_id(made->vault->vault);
    snprintf(path, sizeof path, "%s/%s", made->vault->place, hf_pack_name(&id, pack, name));
    assert_int_equal(chmod(path, 0600), 0);
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, HF_PACK_HEADER + HF_SLAB_HEADER + 20), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, HF_PACK_HEADER + HF_SLAB_HEADER + 20), 1);
}

HF_TEST(a_damaged_slab_explains_the_hash_and_names_its_files)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){0}, &made);
    damage_slab(&made, &made.data_pack);
    const struct told told = check(&vault, 2, NULL);
    assert_int_equal(told.count, 2); // the slab, and "a"
    assert_int_equal(told.files, 1);
    assert_non_null(strstr(told.first, "slab 0: the seal does not hold"));
    assert_non_null(strstr(check(&vault, 1, NULL).first, "its hash is not the one in the log"));
    test_vault_done(&vault);
}

HF_TEST(while_maps_cannot_be_read_nothing_is_said_of_the_summary)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.root_apart = true}, &made);
    damage_slab(&made, &made.map_pack);
    const struct told told = check(&vault, 2, NULL);
    assert_int_equal(told.count, 2); // the slab, and the list of files
    assert_int_equal(told.summaries, 0);
    test_vault_done(&vault);
}

HF_TEST(a_map_that_is_shorter_than_the_file_is_noticed)
{
    expect_one(&(struct lies){.file_size = (uint64_t)(A_PAGES + 1) * PAGE}, HF_DAMAGE_MAP,
               "its map has 5 pages of 8192 bytes at byte 0, its size is 49152");
}

HF_TEST(a_check_with_room_for_one_directory_finds_the_same)
{
    struct test_vault vault;
    struct small_backup made;
    struct hf_error err;
    struct hf_check_report report;
    test_vault_make(&vault, hf_test_folder());
    for (int i = 0; i < 5; i++)
        write_small_backup(&vault, &(struct lies){.file_crc = i == 3}, &made);
    hf_assert_ok(hf_repository_check(vault.repository,
                                     &(struct hf_check_options){.level = 2, .workers = 3, .memory_bytes = 1}, &report,
                                     &err),
                 &err);
    assert_int_equal(report.damages, 1);
    assert_int_equal(report.files, 10);
    test_vault_done(&vault);
}

HF_TEST(tags_and_crcs_of_a_directory_that_are_not_those_of_the_pages_are_noticed)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){.directory_tag = true}, &made);
    write_small_backup(&vault, &(struct lies){.directory_crc = true}, &made);
    const struct told told = check(&vault, 2, NULL);
    assert_int_equal(told.count, 4); // a slab and the file in it, of both
    assert_non_null(strstr(told.first, "slab 0: page 1 has not the tag of the directory"));
    test_vault_done(&vault);
}

HF_TEST(pages_of_a_file_that_the_directory_does_not_list_are_noticed)
{
    expect_one(&(struct lies){.unlisted_file = true}, HF_DAMAGE_ALTERED, "has pages of a file that it does not list");
    expect_one(&(struct lies){.listed_log2 = 14}, HF_DAMAGE_ALTERED, "has pages of a file that it does not list");
}

HF_TEST(one_damage_does_not_hide_another)
{
    struct test_vault vault;
    struct small_backup made;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault,
                       &(struct lies){.file_crc = true, .file_digest = true, .data_live = 2, .bytes = 5, .facts = true},
                       &made);
    assert_int_equal(check(&vault, 2, NULL).count, 5);
    test_vault_done(&vault);
}

HF_TEST(a_pack_that_is_gone_is_named_with_every_file_that_needs_it)
{
    struct test_vault vault;
    struct small_backup made;
    struct hf_error err;
    char name[HF_PACK_NAME_BYTES];
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){0}, &made);
    const struct hf_id id = hf_vault_id(vault.vault);
    hf_assert_ok(hf_backend_delete(hf_vault_backend(vault.vault), hf_pack_name(&id, &made.data_pack, name), &err),
                 &err);
    for (int level = 0; level <= 2; level++) {
        const struct told told = check(&vault, level, NULL);
        assert_int_equal(told.kind, HF_DAMAGE_MISSING);
        assert_true(hf_id_equal(&told.pack, &made.data_pack));
        assert_int_equal(told.count, level < 2 ? 1 : 3);
    }
    test_vault_done(&vault);
}

HF_TEST(a_check_that_is_cancelled_says_so)
{
    struct test_vault vault;
    struct small_backup made;
    struct hf_error err;
    struct hf_check_report report;
    const atomic_bool cancel = true;
    test_vault_make(&vault, hf_test_folder());
    write_small_backup(&vault, &(struct lies){0}, &made);
    assert_false(hf_repository_check(vault.repository, &(struct hf_check_options){.level = 2, .cancel = &cancel},
                                     &report, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    test_vault_done(&vault);
}

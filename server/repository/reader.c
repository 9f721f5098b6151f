#include "server/repository/reader.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/repository/object_reader.h"

struct hf_backup {
    struct hf_vault *vault; // borrowed from the caller
    struct hf_pack_reader *packs;
    struct hf_object_reader *objects;
    struct hf_manifest_root *root;
};

struct hf_file_digest {
    crypto_generichash_state state;
};

/* What hf_backup_find() and hf_backup_read_file() look for. */
struct wanted {
    const char *path;
    hf_backup_file_visitor *visit;
    void *context;
    bool found;
};

static bool visit_page(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_folder *folder,
                       const struct hf_manifest_page_ref *ref, hf_backup_file_visitor *visit, void *context,
                       struct hf_error *err);
static bool read_page(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_folder *folder,
                      const struct hf_manifest_page_ref *page, struct hf_manifest_page **ret, struct hf_error *err);
static bool visit_files(const struct hf_manifest_folder *folder, const struct hf_manifest_page *page,
                        hf_backup_file_visitor *visit, void *context, struct hf_error *err);
static bool visit_wanted(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool read_content(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_file *file,
                         struct hf_buf *content, struct hf_error *err);
static bool add_extent(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
                       const struct hf_extent *extent, struct hf_buf *slab, struct hf_buf *content,
                       struct hf_error *err);

bool
hf_backup_open(struct hf_vault *vault, const struct hf_id *backup, struct hf_backup **ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state;
    if (!hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    const struct hf_vault_backup *found = hf_vault_state_backup(state, backup);
    if (found == NULL || found->pruned)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(backup, text));

    _cleanup_(hf_backup_freep) struct hf_backup *opened = calloc(1, sizeof *opened);
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    if (opened == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for backup \"%s\"", hf_id_format(backup, text));
    opened->vault = vault;
    const struct hf_object_ref ref = {found->root_pack, found->root_slab, found->root_index};
    if (!hf_slab_worker_new(1, &worker, err) || !hf_vault_pack_reader(vault, &opened->packs, err) ||
        !hf_object_reader_new(opened->packs, &opened->objects, err) ||
        !hf_object_read(opened->objects, worker, &ref, HF_OBJECT_MANIFEST_ROOT, &bytes, err) ||
        !hf_manifest_root_decode(bytes.data, bytes.length, &opened->root, err))
        return hf_fail_within(err, "the manifest of backup \"%s\"", hf_id_format(backup, text));
    const struct hf_id vault_id = hf_vault_id(vault);
    if (!hf_id_equal(&opened->root->backup, backup) || !hf_id_equal(&opened->root->vault, &vault_id))
        return hf_fail(err, HF_ERR_CORRUPT, "the manifest of backup \"%s\" is that of another backup",
                       hf_id_format(backup, text));
    *ret = HF_TAKE(opened);
    return true;
}

void
hf_backup_freep(struct hf_backup **backup)
{
    if (*backup == NULL)
        return;
    hf_manifest_root_freep(&(*backup)->root);
    hf_object_reader_freep(&(*backup)->objects);
    hf_pack_reader_freep(&(*backup)->packs);
    free(*backup);
    *backup = NULL;
}

const struct hf_manifest_root *
hf_backup_root(const struct hf_backup *backup)
{
    return backup->root;
}

struct hf_pack_reader *
hf_backup_packs(struct hf_backup *backup)
{
    return backup->packs;
}

const struct hf_vault_keys *
hf_backup_keys(const struct hf_backup *backup)
{
    return hf_vault_keys(backup->vault);
}

bool
hf_backup_files(struct hf_backup *backup, struct hf_slab_worker *worker, hf_backup_file_visitor *visit, void *context,
                struct hf_error *err)
{
    for (size_t i = 0; i < backup->root->folder_count; i++) {
        const struct hf_manifest_folder *folder = &backup->root->folders[i];
        for (size_t page = 0; page < folder->page_count; page++)
            if (!visit_page(backup, worker, folder, &folder->pages[page], visit, context, err))
                return false;
    }
    return true;
}

bool
hf_backup_files_left(struct hf_backup *backup, struct hf_slab_worker *worker, hf_backup_file_visitor *visit,
                     hf_backup_lost_visitor *lost, void *context, struct hf_error *err)
{
    for (size_t i = 0; i < backup->root->folder_count; i++) {
        const struct hf_manifest_folder *folder = &backup->root->folders[i];
        for (size_t n = 0; n < folder->page_count; n++) {
            _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page = NULL;
            struct hf_error why;
            if (read_page(backup, worker, folder, &folder->pages[n], &page, &why)) {
                if (!visit_files(folder, page, visit, context, err))
                    return false;
                continue;
            }
            *err = why;
            if (why.kind == HF_ERR_NO_MEMORY || why.kind == HF_ERR_CANCELLED ||
                !lost(context, folder->path, folder->pages[n].files, &why, err))
                return false;
        }
    }
    return true;
}

bool
hf_backup_find(struct hf_backup *backup, struct hf_slab_worker *worker, const char *path, hf_backup_file_visitor *visit,
               void *context, struct hf_error *err)
{
    struct wanted wanted = {.path = path, .visit = visit, .context = context};
    const char *slash = strrchr(path, '/');
    const size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    for (size_t i = 0; i < backup->root->folder_count && !wanted.found; i++) {
        const struct hf_manifest_folder *folder = &backup->root->folders[i];
        if (strlen(folder->path) != length || memcmp(folder->path, path, length) != 0)
            continue;
        for (size_t page = 0; page < folder->page_count && !wanted.found; page++)
            if (!visit_page(backup, worker, folder, &folder->pages[page], visit_wanted, &wanted, err))
                return false;
    }
    return wanted.found || hf_fail(err, HF_ERR_NOT_FOUND, "the backup has no file \"%s\"", path);
}

bool
hf_backup_leaf(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_object_ref *ref,
               struct hf_leaf *leaf, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    return hf_object_read(backup->objects, worker, ref, HF_OBJECT_LEAF, &bytes, err) &&
           hf_leaf_decode(bytes.data, bytes.length, "a map leaf", leaf, err);
}

struct read_file {
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    struct hf_buf *content;
};

static bool
read_found(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    const struct read_file *read = context;
    return read_content(read->backup, read->worker, file, read->content, err) ||
           hf_fail_within(err, "file \"%s\"", path);
}

bool
hf_backup_read_file(struct hf_backup *backup, struct hf_slab_worker *worker, const char *path, struct hf_buf *content,
                    struct hf_error *err)
{
    struct read_file read = {backup, worker, content};
    hf_buf_clear(content);
    return hf_backup_find(backup, worker, path, read_found, &read, err);
}

bool
hf_file_digest_new(const struct hf_vault_keys *keys, struct hf_file_digest **ret, struct hf_error *err)
{
    /* The state wants 64-byte alignment. */
    struct hf_file_digest *digest = aligned_alloc(64, (sizeof *digest + 63) & ~(size_t)63);
    if (digest == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a file's digest");
    static const char label[] = "holdfast file";
    crypto_generichash_init(&digest->state, keys->digest_key.bytes, keys->digest_key.length, HF_FILE_DIGEST_BYTES);
    crypto_generichash_update(&digest->state, (const uint8_t *)label, strlen(label));
    *ret = digest;
    return true;
}

void
hf_file_digest_add(struct hf_file_digest *digest, const uint8_t tag[static HF_TAG_BYTES])
{
    crypto_generichash_update(&digest->state, tag, HF_TAG_BYTES);
}

void
hf_file_digest_add_many(struct hf_file_digest *digest, const uint8_t *tags, size_t pages)
{
    crypto_generichash_update(&digest->state, tags, pages * HF_TAG_BYTES);
}

void
hf_file_digest_end(struct hf_file_digest *digest, uint64_t size, uint8_t ret[static HF_FILE_DIGEST_BYTES])
{
    uint8_t text[8];
    hf_put_u64(text, size);
    crypto_generichash_update(&digest->state, text, sizeof text);
    crypto_generichash_final(&digest->state, ret, HF_FILE_DIGEST_BYTES);
}

void
hf_file_digest_freep(struct hf_file_digest **digest)
{
    if (*digest == NULL)
        return;
    sodium_memzero(*digest, sizeof **digest);
    free(*digest);
    *digest = NULL;
}

static bool
visit_page(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_folder *folder,
           const struct hf_manifest_page_ref *ref, hf_backup_file_visitor *visit, void *context, struct hf_error *err)
{
    _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page = NULL;
    return read_page(backup, worker, folder, ref, &page, err) && visit_files(folder, page, visit, context, err);
}

static bool
read_page(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_folder *folder,
          const struct hf_manifest_page_ref *page, struct hf_manifest_page **ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    uint8_t digest[HF_FILE_DIGEST_BYTES];
    if (!hf_object_read(backup->objects, worker, &page->ref, HF_OBJECT_MANIFEST_PAGE, &bytes, err))
        return hf_fail_within(err, "the list of files in folder \"%s\"", folder->path);
    hf_manifest_page_digest(hf_vault_keys(backup->vault), bytes.data, bytes.length, digest);
    if (sodium_memcmp(digest, page->digest, sizeof digest) != 0)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "the list of files in folder \"%s\" is not the one the manifest was made with", folder->path);
    return hf_manifest_page_decode(bytes.data, bytes.length, ret, err) ||
           hf_fail_within(err, "the list of files in folder \"%s\"", folder->path);
}

static bool
visit_files(const struct hf_manifest_folder *folder, const struct hf_manifest_page *page, hf_backup_file_visitor *visit,
            void *context, struct hf_error *err)
{
    for (size_t i = 0; i < page->file_count; i++) {
        char path[HF_PATH_MOST + 1];
        const int length =
            snprintf(path, sizeof path, "%s%s%s", folder->path, folder->path[0] == 0 ? "" : "/", page->files[i].name);
        if (length < 0 || (size_t)length >= sizeof path || !hf_path_check(path, err))
            return hf_fail(err, HF_ERR_CORRUPT, "folder \"%s\" lists a file whose name cannot be", folder->path);
        if (!visit(context, path, &page->files[i], err))
            return false;
    }
    return true;
}

static bool
visit_wanted(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct wanted *wanted = context;
    if (wanted->found || strcmp(path, wanted->path) != 0)
        return true;
    wanted->found = true;
    return wanted->visit(wanted->context, path, file, err);
}

static bool
read_content(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_manifest_file *file,
             struct hf_buf *content, struct hf_error *err)
{
    _cleanup_(hf_file_digest_freep) struct hf_file_digest *digest = NULL;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    _cleanup_(hf_buf_done) struct hf_buf slab = HF_BUF_INIT(HF_SLAB_RAW_MOST + HF_KIB);
    hf_leaf_init(&leaf, file->page_log2);
    for (size_t i = 0; i < file->leaf_count; i++) {
        if (!hf_backup_leaf(backup, worker, &file->leaves[i], &leaf, err))
            return false;
        for (size_t extent = 0; extent < leaf.extent_count; extent++)
            if (!add_extent(backup, worker, &leaf, &leaf.extents[extent], &slab, content, err))
                return false;
    }
    if (content->length > file->size) // the last page is short, and zeros come whole
        content->length = file->size;
    if (content->length < file->size)
        return hf_fail(err, HF_ERR_CORRUPT, "its map holds %zu bytes, its size is %llu", content->length,
                       (unsigned long long)file->size);
    if (content->data != NULL)
        content->data[content->length] = 0;

    uint8_t tag[HF_TAG_BYTES], sum[HF_FILE_DIGEST_BYTES];
    if (!hf_file_digest_new(hf_vault_keys(backup->vault), &digest, err))
        return false;
    const size_t page = (size_t)1 << file->page_log2;
    for (size_t at = 0; at < content->length; at += page) {
        hf_page_tag(hf_vault_keys(backup->vault), content->data + at,
                    content->length - at < page ? content->length - at : page, tag);
        hf_file_digest_add(digest, tag);
    }
    hf_file_digest_end(digest, file->size, sum);
    return sodium_memcmp(sum, file->digest, sizeof sum) == 0 ||
           hf_fail(err, HF_ERR_CORRUPT, "its content does not have the digest of the backup");
}

static bool
add_extent(struct hf_backup *backup, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
           const struct hf_extent *extent, struct hf_buf *slab, struct hf_buf *content, struct hf_error *err)
{
    if (extent->type == HF_EXTENT_ZEROS)
        return hf_buf_add_zeros(content, (size_t)extent->count << leaf->page_log2, err);
    if (extent->type == HF_EXTENT_LOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%u of its pages are lost", extent->count);

    struct hf_slab_pages *pages = NULL;
    if (!hf_pack_reader_slab(backup->packs, worker, &leaf->packs[extent->pack], extent->slab, NULL, slab, err) ||
        !hf_slab_pages_read(slab->data, slab->length, &pages, err))
        return false;
    bool ok = extent->first + extent->count <= pages->count ||
              hf_fail(err, HF_ERR_CORRUPT, "its map leads past the end of slab %u", extent->slab);
    if (ok) {
        const size_t from = pages->offset[extent->first], to = pages->offset[extent->first + extent->count];
        ok = hf_buf_add(content, slab->data + from, to - from, err);
    }
    hf_slab_pages_freep(&pages);
    return ok;
}

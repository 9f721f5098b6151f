#include "server/repository/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/keys/derive.h"
#include "server/keys/keys.h"
#include "server/repository/codec.h"

#define PAGE_VERSION        1
#define ROOT_VERSION        1
#define MODE_MOST           07777
#define COMPONENT_MOST      255
#define LINK_TARGET_MOST    HF_PATH_MOST
#define REF_LEAST_BYTES     3  // pack, slab and index, a byte each
#define FILE_LEAST_BYTES    44 // a name of one byte, no leaf
#define FOLDER_LEAST_BYTES  3
#define PAGE_REF_LEAST      36
#define LINK_LEAST_BYTES    4
#define SUMMARY_LEAST_BYTES 2
#define PACKS_OUT_OF_ORDER  "a place in a pack is none, or the packs are not in the order of their first use"
#define SHOWN_PATH          "%.200s" // in messages: the reason must fit behind it

/* An object being written: the pack table stands in front of what uses it, so the rest waits in `body`. */
struct encoder {
    struct hf_id *packs;
    size_t pack_count, pack_room;
    struct hf_id_index index;
    struct hf_buf body;
};

/* An object being read. */
struct decoder {
    struct hf_reader bytes;
    const char *what; // "manifest page" or "manifest root"
    struct hf_id *packs;
    size_t pack_count, packs_used;
};

/* Where the next leaves and names of a page go. */
struct page_memory {
    struct hf_object_ref *leaves;
    char *names;
};

static void encoder_done(struct encoder *to);
static bool put_file(struct encoder *to, const struct hf_manifest_file *file, struct hf_error *err);
static bool put_ref(struct encoder *to, const struct hf_object_ref *ref, struct hf_error *err);
static bool put_pack(struct encoder *to, const struct hf_id *pack, struct hf_error *err);
static bool finish_object(struct encoder *to, struct hf_buf *out, size_t start, struct hf_error *err);
static void decoder_done(struct decoder *from);
static bool take_version(struct decoder *from, uint8_t version, struct hf_error *err);
static bool take_packs(struct decoder *from, struct hf_error *err);
static bool take_count(struct decoder *from, size_t least_bytes, size_t most, const char *of, size_t *ret,
                       struct hf_error *err);
static bool make_page(struct decoder *from, struct hf_manifest_page *page, struct page_memory *ret,
                      struct hf_error *err);
static bool take_file(struct decoder *from, struct page_memory *memory, struct hf_manifest_file *file,
                      struct hf_error *err);
static bool take_ref(struct decoder *from, struct hf_object_ref *ret);
static bool take_pack(struct decoder *from, struct hf_id *ret);
static bool finish_decoding(struct decoder *from, struct hf_error *err);
static bool put_root_head(const struct hf_manifest_root *root, struct hf_buf *out, struct hf_error *err);
static bool put_folders(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err);
static bool put_links(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err);
static bool put_summary(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err);
static bool take_root_head(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err);
static void take_id(struct decoder *from, struct hf_id *ret);
static bool take_folders(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err);
static bool take_folder(struct decoder *from, struct hf_manifest_folder *folder, uint64_t *files, struct hf_error *err);
static bool take_links(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err);
static bool take_summary(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err);
static bool take_text(struct decoder *from, size_t most, char **ret, struct hf_error *err);
static bool make_array(size_t count, size_t size, void *ret, struct hf_error *err);
static bool refuse(const struct decoder *from, struct hf_error *err, const char *format, ...) HF_PRINTF(3, 4);
static const char *component_fault(const char *name, size_t length);
static const char *path_fault(const char *path);

void
hf_manifest_page_freep(struct hf_manifest_page **page)
{
    if (*page == NULL)
        return;
    free((*page)->memory);
    free(*page);
    *page = NULL;
}

bool
hf_manifest_page_encode(const struct hf_manifest_file *files, size_t count, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(encoder_done) struct encoder to = {.body = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST)};
    const size_t start = out->length;

    if (count > HF_MANIFEST_PAGE_FILES)
        return hf_fail(err, HF_ERR_USAGE, "a manifest page cannot hold %zu files, the limit is %d", count,
                       HF_MANIFEST_PAGE_FILES);
    if (!hf_buf_put_varint(&to.body, count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(files[i - 1].name, files[i].name) >= 0)
            return hf_fail(err, HF_ERR_USAGE, "files are out of order in a manifest page: \"%s\" after \"%s\"",
                           files[i].name, files[i - 1].name);
        if (!put_file(&to, &files[i], err))
            return false;
    }
    if (hf_buf_put_u8(out, PAGE_VERSION, err) && finish_object(&to, out, start, err))
        return true;
    hf_buf_truncate(out, start);
    return false;
}

bool
hf_manifest_page_decode(const uint8_t *bytes, size_t length, struct hf_manifest_page **ret, struct hf_error *err)
{
    _cleanup_(decoder_done) struct decoder from = {.bytes = HF_READER(bytes, length), .what = "manifest page"};
    _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page = NULL;
    struct page_memory memory = {0};

    if (!make_array(1, sizeof *page, &page, err))
        return false;
    if (!take_version(&from, PAGE_VERSION, err) || !take_packs(&from, err) ||
        !take_count(&from, FILE_LEAST_BYTES, HF_MANIFEST_PAGE_FILES, "files", &page->file_count, err) ||
        !make_page(&from, page, &memory, err))
        return false;
    for (size_t i = 0; i < page->file_count; i++) {
        if (!take_file(&from, &memory, &page->files[i], err))
            return false;
        if (i > 0 && strcmp(page->files[i - 1].name, page->files[i].name) >= 0)
            return refuse(&from, err, "its files are not sorted by name");
    }
    if (!finish_decoding(&from, err))
        return false;
    *ret = HF_TAKE(page);
    return true;
}

void
hf_manifest_page_digest(const struct hf_vault_keys *keys, const uint8_t *bytes, size_t length,
                        uint8_t ret[static HF_FILE_DIGEST_BYTES])
{
    assert(keys->digest_key.length == HF_KEY_BYTES);
    hf_derive(keys->digest_key.bytes, "holdfast manifest page", bytes, length, ret);
}

void
hf_manifest_root_freep(struct hf_manifest_root **root)
{
    if (*root == NULL)
        return;
    for (size_t i = 0; i < (*root)->folder_count; i++) {
        free((*root)->folders[i].path);
        free((*root)->folders[i].pages);
    }
    for (size_t i = 0; i < (*root)->link_count; i++) {
        free((*root)->links[i].path);
        free((*root)->links[i].target);
    }
    free((*root)->facts);
    free((*root)->folders);
    free((*root)->links);
    free((*root)->summary);
    free(*root);
    *root = NULL;
}

bool
hf_manifest_root_encode(const struct hf_manifest_root *root, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(encoder_done) struct encoder to = {.body = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST)};
    const size_t start = out->length;

    if (put_folders(&to, root, err) && put_links(&to, root, err) && put_summary(&to, root, err) &&
        put_root_head(root, out, err) && finish_object(&to, out, start, err))
        return true;
    hf_buf_truncate(out, start);
    return false;
}

bool
hf_manifest_root_decode(const uint8_t *bytes, size_t length, struct hf_manifest_root **ret, struct hf_error *err)
{
    _cleanup_(decoder_done) struct decoder from = {.bytes = HF_READER(bytes, length), .what = "manifest root"};
    _cleanup_(hf_manifest_root_freep) struct hf_manifest_root *root = NULL;

    if (!make_array(1, sizeof *root, &root, err))
        return false;
    if (!take_version(&from, ROOT_VERSION, err) || !take_root_head(&from, root, err) || !take_packs(&from, err) ||
        !take_folders(&from, root, err) || !take_links(&from, root, err) || !take_summary(&from, root, err) ||
        !finish_decoding(&from, err))
        return false;
    *ret = HF_TAKE(root);
    return true;
}

bool
hf_path_check(const char *path, struct hf_error *err)
{
    const char *fault = path_fault(path);
    if (fault == NULL)
        return true;
    return hf_fail(err, HF_ERR_USAGE, "path \"" SHOWN_PATH "\" cannot stand in a backup: %s", path, fault);
}

static void
encoder_done(struct encoder *to)
{
    free(to->packs);
    hf_id_index_done(&to->index);
    hf_buf_done(&to->body);
}

static bool
put_file(struct encoder *to, const struct hf_manifest_file *file, struct hf_error *err)
{
    const char *fault = component_fault(file->name, strlen(file->name));
    if (fault != NULL)
        return hf_fail(err, HF_ERR_USAGE, "file \"" SHOWN_PATH "\" cannot stand in a manifest: %s", file->name, fault);
    assert(file->kind >= HF_FILE_RELATION && file->kind <= HF_FILE_CAPTURED);
    assert(file->page_log2 >= HF_PAGE_LOG2_LEAST && file->page_log2 <= HF_PAGE_LOG2_MOST);
    if (file->mode > MODE_MOST)
        return hf_fail(err, HF_ERR_USAGE, "file \"%s\" cannot stand in a manifest: mode %o is more than permissions",
                       file->name, file->mode);
    if (file->leaf_count != hf_leaves_of(file->size, file->page_log2))
        return hf_fail(err, HF_ERR_USAGE,
                       "file \"%s\" cannot stand in a manifest: %zu map leaves for %" PRIu64 " bytes, %" PRIu64
                       " are needed",
                       file->name, file->leaf_count, file->size, hf_leaves_of(file->size, file->page_log2));

    struct hf_buf *body = &to->body;
    if (!hf_buf_put_string(body, file->name, strlen(file->name), err) ||
        !hf_buf_put_u8(body, (uint8_t)file->kind, err) || !hf_buf_put_u8(body, file->page_log2, err) ||
        !hf_buf_put_varint(body, file->mode, err) || !hf_buf_put_varint(body, hf_zigzag(file->modified_at), err) ||
        !hf_buf_put_varint(body, file->size, err) || !hf_buf_put_u32(body, file->crc32c, err) ||
        !hf_buf_add(body, file->digest, sizeof file->digest, err) || !hf_buf_put_varint(body, file->leaf_count, err))
        return false;
    for (size_t i = 0; i < file->leaf_count; i++)
        if (!put_ref(to, &file->leaves[i], err))
            return hf_fail_within(err, "file \"%s\"", file->name);
    return true;
}

static bool
put_ref(struct encoder *to, const struct hf_object_ref *ref, struct hf_error *err)
{
    char pack[HF_ID_TEXT_BYTES];
    if (ref->slab >= HF_PACK_SLABS_MOST)
        return hf_fail(err, HF_ERR_USAGE, "pack \"%s\" cannot have a slab %u, the limit is %u slabs",
                       hf_id_format(&ref->pack, pack), ref->slab, HF_PACK_SLABS_MOST);
    return put_pack(to, &ref->pack, err) && hf_buf_put_varint(&to->body, ref->slab, err) &&
           hf_buf_put_varint(&to->body, ref->index, err);
}

/* Its place in the table, where it is put when it is not there yet. */
static bool
put_pack(struct encoder *to, const struct hf_id *pack, struct hf_error *err)
{
    const size_t known = hf_id_index_find(&to->index, to->packs, to->pack_count, pack);
    if (known != HF_ID_INDEX_NONE)
        return hf_buf_put_varint(&to->body, known, err);

    if (to->pack_count == to->pack_room) {
        const size_t room = to->pack_room == 0 ? 64 : 2 * to->pack_room;
        struct hf_id *packs = realloc(to->packs, room * sizeof packs[0]);
        if (packs == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a manifest of %zu packs", to->pack_count + 1);
        to->packs = packs;
        to->pack_room = room;
    }
    to->packs[to->pack_count] = *pack;
    return hf_id_index_add(&to->index, to->packs, to->pack_count, err) &&
           hf_buf_put_varint(&to->body, to->pack_count++, err);
}

/* The pack table and what uses it, behind the head that `out` has from `start` on. */
static bool
finish_object(struct encoder *to, struct hf_buf *out, size_t start, struct hf_error *err)
{
    if (!hf_buf_put_varint(out, to->pack_count, err) ||
        !hf_buf_add(out, to->packs, to->pack_count * sizeof to->packs[0], err) ||
        !hf_buf_add(out, to->body.data, to->body.length, err))
        return false;
    if (out->length - start > HF_MANIFEST_OBJECT_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a manifest object of %zu bytes is over the limit of %zu",
                       out->length - start, HF_MANIFEST_OBJECT_MOST);
    return true;
}

static void
decoder_done(struct decoder *from)
{
    free(from->packs);
}

static bool
take_version(struct decoder *from, uint8_t version, struct hf_error *err)
{
    if (from->bytes.length > HF_MANIFEST_OBJECT_MOST)
        return refuse(from, err, "it has %zu bytes, the limit is %zu", from->bytes.length, HF_MANIFEST_OBJECT_MOST);
    if (hf_reader_u8(&from->bytes) != version)
        return refuse(from, err, "it is not of version %u", version);
    return true;
}

static bool
take_packs(struct decoder *from, struct hf_error *err)
{
    _cleanup_(hf_id_index_done) struct hf_id_index index = {0};
    bool distinct;

    if (!take_count(from, HF_ID_BYTES, SIZE_MAX, "packs", &from->pack_count, err) ||
        !make_array(from->pack_count, HF_ID_BYTES, &from->packs, err))
        return false;
    memcpy(from->packs, hf_reader_bytes(&from->bytes, from->pack_count * HF_ID_BYTES), from->pack_count * HF_ID_BYTES);
    if (!hf_id_index_fill(&index, from->packs, from->pack_count, &distinct, err))
        return false;
    if (!distinct)
        return refuse(from, err, "a pack stands in its table twice");
    return true;
}

/* How many follow, of which each takes `least_bytes` at least: so that no count asks for more memory than its bytes. */
static bool
take_count(struct decoder *from, size_t least_bytes, size_t most, const char *of, size_t *ret, struct hf_error *err)
{
    const uint64_t count = hf_reader_varint(&from->bytes);
    if (!hf_reader_ok(&from->bytes) || count > (from->bytes.length - from->bytes.position) / least_bytes)
        return refuse(from, err, "it is cut off before its %s end", of);
    if (count > most)
        return refuse(from, err, "it has %" PRIu64 " %s, the limit is %zu", count, of, most);
    *ret = (size_t)count;
    return true;
}

/*
 * Goes through the files once to learn how much memory their leaves and names take.  It only follows
 * the lengths; take_file() judges what stands between them.
 */
static bool
make_page(struct decoder *from, struct hf_manifest_page *page, struct page_memory *ret, struct hf_error *err)
{
    struct hf_reader ahead = from->bytes;
    size_t leaves = 0, names = 0;

    for (size_t i = 0; i < page->file_count && hf_reader_ok(&ahead); i++) {
        size_t name_length;
        (void)hf_reader_string(&ahead, COMPONENT_MOST, &name_length);
        (void)hf_reader_bytes(&ahead, 2);
        (void)hf_reader_varint(&ahead);
        (void)hf_reader_varint(&ahead);
        (void)hf_reader_varint(&ahead);
        (void)hf_reader_bytes(&ahead, 4 + HF_FILE_DIGEST_BYTES);
        const uint64_t count = hf_reader_varint_max(&ahead, (ahead.length - ahead.position) / REF_LEAST_BYTES);
        for (uint64_t n = 0; n < count * 3 && hf_reader_ok(&ahead); n++)
            (void)hf_reader_varint(&ahead);
        leaves += (size_t)count;
        names += name_length + 1;
    }
    if (!hf_reader_ok(&ahead))
        return refuse(from, err, "it is cut off before its files end");

    const size_t files_bytes = page->file_count * sizeof page->files[0];
    const size_t leaves_bytes = leaves * sizeof ret->leaves[0];
    uint8_t *memory;
    if (!make_array(files_bytes + leaves_bytes + names, 1, &memory, err))
        return false;
    page->memory = memory;
    page->files = (void *)memory;
    ret->leaves = (void *)(memory + files_bytes);
    ret->names = (char *)(memory + files_bytes + leaves_bytes);
    return true;
}

static bool
take_file(struct decoder *from, struct page_memory *memory, struct hf_manifest_file *file, struct hf_error *err)
{
    struct hf_reader *bytes = &from->bytes;
    size_t name_length;
    const uint8_t *name = hf_reader_string(bytes, COMPONENT_MOST, &name_length);
    const uint8_t kind = hf_reader_u8(bytes);
    file->page_log2 = hf_reader_u8(bytes);
    file->mode = (uint32_t)hf_reader_varint_max(bytes, MODE_MOST);
    file->modified_at = hf_unzigzag(hf_reader_varint(bytes));
    file->size = hf_reader_varint(bytes);
    file->crc32c = hf_reader_u32(bytes);
    const uint8_t *digest = hf_reader_bytes(bytes, HF_FILE_DIGEST_BYTES);
    const uint64_t leaves = hf_reader_varint(bytes);
    if (!hf_reader_ok(bytes))
        return refuse(from, err, "a number of a file is out of range");
    if (component_fault((const char *)name, name_length) != NULL)
        return refuse(from, err, "the name of a file is no name");
    if (kind < HF_FILE_RELATION || kind > HF_FILE_CAPTURED)
        return refuse(from, err, "there is no kind %u of files", kind);
    if (file->page_log2 < HF_PAGE_LOG2_LEAST || file->page_log2 > HF_PAGE_LOG2_MOST)
        return refuse(from, err, "no page size is like this");
    if (leaves != hf_leaves_of(file->size, file->page_log2))
        return refuse(from, err, "the leaves of a file do not match its size");

    memcpy(memory->names, name, name_length); // make_page() left room, and the NUL behind it
    file->name = memory->names;
    memory->names += name_length + 1;
    file->kind = (enum hf_file_kind)kind;
    memcpy(file->digest, digest, sizeof file->digest);
    file->leaf_count = (size_t)leaves;
    file->leaves = memory->leaves;
    for (size_t i = 0; i < file->leaf_count; i++)
        if (!take_ref(from, memory->leaves++))
            return refuse(from, err, PACKS_OUT_OF_ORDER);
    return true;
}

static bool
take_ref(struct decoder *from, struct hf_object_ref *ret)
{
    if (!take_pack(from, &ret->pack))
        return false;
    ret->slab = (uint32_t)hf_reader_varint_max(&from->bytes, HF_PACK_SLABS_MOST - 1);
    ret->index = (uint32_t)hf_reader_varint_max(&from->bytes, UINT32_MAX);
    return hf_reader_ok(&from->bytes);
}

/* A pack by its place in the table: one that came before, or the next. */
static bool
take_pack(struct decoder *from, struct hf_id *ret)
{
    const uint64_t at = hf_reader_varint(&from->bytes);
    if (!hf_reader_ok(&from->bytes) || at > from->packs_used || at >= from->pack_count)
        return false;
    if (at == from->packs_used)
        from->packs_used++;
    *ret = from->packs[at];
    return true;
}

static bool
finish_decoding(struct decoder *from, struct hf_error *err)
{
    if (from->packs_used != from->pack_count)
        return refuse(from, err, "a pack in its table is never used");
    if (!hf_reader_finished(&from->bytes))
        return refuse(from, err, "bytes follow its end");
    return true;
}

static bool
put_root_head(const struct hf_manifest_root *root, struct hf_buf *out, struct hf_error *err)
{
    const size_t facts_length = strlen(root->facts);
    if (facts_length > HF_FACTS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the facts of a backup are %zu bytes long, the limit is %zu", facts_length,
                       HF_FACTS_MOST);
    if (root->started_at < 0 || root->finished_at < 0)
        return hf_fail(err, HF_ERR_USAGE, "a manifest cannot have a time before 1970");
    return hf_buf_put_u8(out, ROOT_VERSION, err) && hf_buf_add(out, root->backup.bytes, HF_ID_BYTES, err) &&
           hf_buf_add(out, root->vault.bytes, HF_ID_BYTES, err) &&
           hf_buf_add(out, root->session.bytes, HF_ID_BYTES, err) &&
           hf_buf_add(out, root->parent.bytes, HF_ID_BYTES, err) &&
           hf_buf_put_varint(out, (uint64_t)root->started_at, err) &&
           hf_buf_put_varint(out, (uint64_t)root->finished_at, err) && hf_buf_put_varint(out, root->file_count, err) &&
           hf_buf_put_varint(out, root->logical_bytes, err) && hf_buf_put_string(out, root->facts, facts_length, err);
}

static bool
put_folders(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err)
{
    uint64_t files = 0;

    if (root->folder_count == 0 || root->folders[0].path[0] != '\0')
        return hf_fail(err, HF_ERR_USAGE, "a manifest needs the top folder, first of all");
    if (root->folder_count > HF_FOLDERS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a backup of %zu folders is over the limit of %u", root->folder_count,
                       HF_FOLDERS_MOST);
    if (!hf_buf_put_varint(&to->body, root->folder_count, err))
        return false;
    for (size_t i = 0; i < root->folder_count; i++) {
        const struct hf_manifest_folder *folder = &root->folders[i];
        if (i > 0 && !hf_path_check(folder->path, err))
            return false;
        if (i > 0 && strcmp(root->folders[i - 1].path, folder->path) >= 0)
            return hf_fail(err, HF_ERR_USAGE, "folders are out of order in a manifest: \"" SHOWN_PATH "\"",
                           folder->path);
        if (folder->mode > MODE_MOST)
            return hf_fail(err, HF_ERR_USAGE, "folder \"" SHOWN_PATH "\": mode %o is more than permissions",
                           folder->path, folder->mode);
        if (!hf_buf_put_string(&to->body, folder->path, strlen(folder->path), err) ||
            !hf_buf_put_varint(&to->body, folder->mode, err) || !hf_buf_put_varint(&to->body, folder->page_count, err))
            return false;
        for (size_t n = 0; n < folder->page_count; n++) {
            const struct hf_manifest_page_ref *page = &folder->pages[n];
            if (page->files == 0 || page->files > HF_MANIFEST_PAGE_FILES)
                return hf_fail(err, HF_ERR_USAGE, "folder \"" SHOWN_PATH "\": a page of %u files", folder->path,
                               page->files);
            if (!put_ref(to, &page->ref, err) || !hf_buf_put_varint(&to->body, page->files, err) ||
                !hf_buf_add(&to->body, page->digest, sizeof page->digest, err))
                return false;
            files += page->files;
        }
    }
    if (files != root->file_count)
        return hf_fail(err, HF_ERR_USAGE, "a manifest of %" PRIu64 " files has pages for %" PRIu64, root->file_count,
                       files);
    return true;
}

static bool
put_links(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err)
{
    if (root->link_count > HF_LINKS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a backup of %zu links is over the limit of %u", root->link_count,
                       HF_LINKS_MOST);
    if (!hf_buf_put_varint(&to->body, root->link_count, err))
        return false;
    for (size_t i = 0; i < root->link_count; i++) {
        const struct hf_manifest_link *link = &root->links[i];
        const size_t length = strlen(link->target);
        if (!hf_path_check(link->path, err))
            return false;
        if (i > 0 && strcmp(root->links[i - 1].path, link->path) >= 0)
            return hf_fail(err, HF_ERR_USAGE, "links are out of order in a manifest: \"" SHOWN_PATH "\"", link->path);
        if (length == 0 || length > LINK_TARGET_MOST)
            return hf_fail(err, HF_ERR_USAGE, "link \"" SHOWN_PATH "\": a target of %zu bytes, 1 to %d are allowed",
                           link->path, length, LINK_TARGET_MOST);
        if (!hf_buf_put_string(&to->body, link->path, strlen(link->path), err) ||
            !hf_buf_put_string(&to->body, link->target, length, err))
            return false;
    }
    return true;
}

static bool
put_summary(struct encoder *to, const struct hf_manifest_root *root, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];

    if (!hf_buf_put_varint(&to->body, root->summary_count, err))
        return false;
    for (size_t i = 0; i < root->summary_count; i++) {
        const struct hf_manifest_summary *row = &root->summary[i];
        if (i > 0 && hf_id_compare(&root->summary[i - 1].pack, &row->pack) >= 0)
            return hf_fail(err, HF_ERR_USAGE, "the summary of a manifest is out of order: pack \"%s\"",
                           hf_id_format(&row->pack, text));
        if (row->live == 0)
            return hf_fail(err, HF_ERR_USAGE, "the summary of a manifest has a pack of which nothing is live: \"%s\"",
                           hf_id_format(&row->pack, text));
        if (!put_pack(to, &row->pack, err) || !hf_buf_put_varint(&to->body, row->live, err))
            return false;
    }
    return true;
}

static bool
take_root_head(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err)
{
    take_id(from, &root->backup);
    take_id(from, &root->vault);
    take_id(from, &root->session);
    take_id(from, &root->parent);
    root->started_at = (int64_t)hf_reader_varint_max(&from->bytes, INT64_MAX);
    root->finished_at = (int64_t)hf_reader_varint_max(&from->bytes, INT64_MAX);
    root->file_count = hf_reader_varint(&from->bytes);
    root->logical_bytes = hf_reader_varint(&from->bytes);
    return take_text(from, HF_FACTS_MOST, &root->facts, err);
}

static void
take_id(struct decoder *from, struct hf_id *ret)
{
    const uint8_t *bytes = hf_reader_bytes(&from->bytes, HF_ID_BYTES);
    if (bytes != NULL)
        memcpy(ret->bytes, bytes, HF_ID_BYTES);
}

static bool
take_folders(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err)
{
    uint64_t files = 0;
    size_t count = 0;

    if (!take_count(from, FOLDER_LEAST_BYTES, HF_FOLDERS_MOST, "folders", &count, err) ||
        !make_array(count, sizeof root->folders[0], &root->folders, err))
        return false;
    root->folder_count = count;
    for (size_t i = 0; i < count; i++) {
        struct hf_manifest_folder *folder = &root->folders[i];
        if (!take_folder(from, folder, &files, err))
            return false;
        if (i > 0 && path_fault(folder->path) != NULL)
            return refuse(from, err, "the path of a folder is no path");
        if (i > 0 && strcmp(root->folders[i - 1].path, folder->path) >= 0)
            return refuse(from, err, "its folders are not sorted by path");
    }
    if (count == 0 || root->folders[0].path[0] != '\0')
        return refuse(from, err, "it has no top folder");
    if (files != root->file_count)
        return refuse(from, err, "it has pages for %" PRIu64 " files, not for %" PRIu64, files, root->file_count);
    return true;
}

/* `files` is a sum that cannot wrap: each page adds at most 512 and takes 36 bytes. */
static bool
take_folder(struct decoder *from, struct hf_manifest_folder *folder, uint64_t *files, struct hf_error *err)
{
    size_t count;

    if (!take_text(from, HF_PATH_MOST, &folder->path, err))
        return false;
    folder->mode = (uint32_t)hf_reader_varint_max(&from->bytes, MODE_MOST);
    if (!take_count(from, PAGE_REF_LEAST, SIZE_MAX, "pages", &count, err) ||
        !make_array(count, sizeof folder->pages[0], &folder->pages, err))
        return false;
    folder->page_count = count;
    for (size_t i = 0; i < count; i++) {
        struct hf_manifest_page_ref *page = &folder->pages[i];
        if (!take_ref(from, &page->ref))
            return refuse(from, err, PACKS_OUT_OF_ORDER);
        page->files = (uint32_t)hf_reader_varint_max(&from->bytes, HF_MANIFEST_PAGE_FILES);
        const uint8_t *digest = hf_reader_bytes(&from->bytes, sizeof page->digest);
        if (digest == NULL || page->files == 0)
            return refuse(from, err, "a page lists no files, or too many");
        memcpy(page->digest, digest, sizeof page->digest);
        *files += page->files;
    }
    return true;
}

static bool
take_links(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err)
{
    size_t count = 0;

    if (!take_count(from, LINK_LEAST_BYTES, HF_LINKS_MOST, "links", &count, err) ||
        !make_array(count, sizeof root->links[0], &root->links, err))
        return false;
    root->link_count = count;
    for (size_t i = 0; i < count; i++) {
        struct hf_manifest_link *link = &root->links[i];
        if (!take_text(from, HF_PATH_MOST, &link->path, err) || !take_text(from, LINK_TARGET_MOST, &link->target, err))
            return false;
        if (path_fault(link->path) != NULL || link->target[0] == '\0')
            return refuse(from, err, "the path or the target of a link is none");
        if (i > 0 && strcmp(root->links[i - 1].path, link->path) >= 0)
            return refuse(from, err, "its links are not sorted by path");
    }
    return true;
}

static bool
take_summary(struct decoder *from, struct hf_manifest_root *root, struct hf_error *err)
{
    size_t count = 0;

    if (!take_count(from, SUMMARY_LEAST_BYTES, SIZE_MAX, "summary", &count, err) ||
        !make_array(count, sizeof root->summary[0], &root->summary, err))
        return false;
    root->summary_count = count;
    for (size_t i = 0; i < count; i++) {
        struct hf_manifest_summary *row = &root->summary[i];
        if (!take_pack(from, &row->pack))
            return refuse(from, err, PACKS_OUT_OF_ORDER);
        if (i > 0 && hf_id_compare(&root->summary[i - 1].pack, &row->pack) >= 0)
            return refuse(from, err, "its summary is not sorted by pack");
        row->live = hf_reader_varint(&from->bytes);
        if (row->live == 0)
            return refuse(from, err, "nothing is live of a pack in its summary");
    }
    return true;
}

static bool
take_text(struct decoder *from, size_t most, char **ret, struct hf_error *err)
{
    size_t length;
    const uint8_t *text = hf_reader_string(&from->bytes, most, &length);
    if (text == NULL || memchr(text, '\0', length) != NULL)
        return refuse(from, err, "a text is cut off, too long, or has a NUL in it");
    if (!make_array(length + 1, 1, ret, err))
        return false;
    memcpy(*ret, text, length);
    return true;
}

/* Zeroed memory into the pointer that `ret` points to; an empty array is memory too. */
static bool
make_array(size_t count, size_t size, void *ret, struct hf_error *err)
{
    void *array = calloc(count == 0 ? 1 : count, size);
    if (array == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a manifest: %zu pieces of %zu bytes", count, size);
    memcpy(ret, &array, sizeof array);
    return true;
}

static bool
refuse(const struct decoder *from, struct hf_error *err, const char *format, ...)
{
    char why[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged at byte %zu: %s", from->what, from->bytes.position, why);
}

/* What keeps bytes from being the name of a file or folder, or NULL. */
static const char *
component_fault(const char *name, size_t length)
{
    if (length == 0)
        return "a name in it is empty";
    if (length > COMPONENT_MOST)
        return "a name in it is longer than 255 bytes";
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
        return "a name in it is \".\" or \"..\"";
    for (size_t i = 0; i < length; i++) {
        const uint8_t byte = (uint8_t)name[i];
        if (byte == '/')
            return "a name in it has a slash";
        if (byte < 0x20 || byte == 0x7f)
            return "a name in it has a control byte";
    }
    return NULL;
}

static const char *
path_fault(const char *path)
{
    if (strnlen(path, HF_PATH_MOST + 1) > HF_PATH_MOST)
        return "it is longer than 4096 bytes";
    if (path[0] == '\0')
        return "it is empty";
    for (const char *name = path;;) {
        const char *end = strchrnul(name, '/');
        const char *fault = component_fault(name, (size_t)(end - name));
        if (fault != NULL)
            return fault;
        if (*end == '\0')
            return NULL;
        name = end + 1;
    }
}

#include "server/repository/session_internal.h"

#include <sodium.h>
#include <string.h>

#include "base/time.h"

static bool collect_folders(struct hf_session *session, struct hf_error *err);
static void sort_folders(struct hf_session *session);
static bool add_parent(struct hf_session *session, size_t known, const char *path, struct hf_error *err);
static bool add_folder(struct hf_session *session, const char *path, size_t length, uint32_t mode,
                       struct hf_error *err);
static size_t parent_length(const char *path);
static bool write_folder(struct hf_session *session, struct hf_manifest_folder *folder,
                         struct hf_session_file *const *files, size_t *next_file, struct hf_manifest_root *root,
                         struct hf_error *err);
static bool write_page(struct hf_session *session, struct hf_manifest_folder *folder,
                       const struct hf_manifest_file *files, size_t count, struct hf_error *err);
static bool find_shared(const struct hf_session *session, const struct hf_manifest_folder *folder,
                        const uint8_t *digest, struct hf_object_ref *ret);
static bool fill_summary(struct hf_session *session, struct hf_manifest_root *root, struct hf_error *err);
static const char *file_name(const struct hf_session_file *file, size_t *ret_folder_length);
static int by_folder_and_name(const void *a, const void *b);
static int by_path(const void *a, const void *b);
static int by_link_path(const void *a, const void *b);
static int by_pack(const void *a, const void *b);

#define DEFAULT_FOLDER_MODE 0700

bool
session_write_manifest(struct hf_session *session, const char *facts, struct hf_object_ref *ret,
                       uint64_t *ret_logical_bytes, struct hf_error *err)
{
    if (!collect_folders(session, err))
        return false;
    /* A copy: the writer thread still finds files by their ordinals. */
    _cleanup_(hf_freep) struct hf_session_file **files = malloc((session->file_count + 1) * sizeof *files);
    if (files == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the manifest");
    if (session->file_count > 0)
        memcpy(files, session->files, session->file_count * sizeof *files);
    qsort(files, session->file_count, sizeof *files, by_folder_and_name);
    if (session->link_count > 0)
        qsort(session->links, session->link_count, sizeof *session->links, by_link_path);

    struct hf_manifest_root root = {
        .backup = session->backup,
        .vault = hf_vault_id(session->vault),
        .session = session->id,
        .parent = session->parent.cache != NULL ? session->parent.backup : HF_ID_NONE,
        .started_at = session->started_at,
        .finished_at = hf_time_now_ms(),
        .facts = (char *)(uintptr_t)facts,
        .folder_count = session->folder_count,
        .folders = session->folders,
        .link_count = session->link_count,
        .links = session->links,
    };
    size_t next_file = 0;
    for (size_t i = 0; i < session->folder_count; i++)
        if (!write_folder(session, &session->folders[i], files, &next_file, &root, err))
            return false;

    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    const bool ok = fill_summary(session, &root, err) && hf_manifest_root_encode(&root, &bytes, err) &&
                    session_store_object(session, HF_OBJECT_MANIFEST_ROOT, bytes.data, bytes.length, ret, err);
    free(root.summary);
    *ret_logical_bytes = root.logical_bytes;
    return ok;
}

/* Every folder that was told, and every one that a file, a link or another folder lies in; sorted, once each. */
static bool
collect_folders(struct hf_session *session, struct hf_error *err)
{
    const char *before = "";
    if (!add_folder(session, "", 0, DEFAULT_FOLDER_MODE, err))
        return false;
    for (size_t i = 0; i < session->link_count; i++)
        if (!add_folder(session, session->links[i].path, parent_length(session->links[i].path), DEFAULT_FOLDER_MODE,
                        err))
            return false;
    for (size_t i = 0; i < session->file_count; i++) {
        const char *path = session->files[i]->path;
        const size_t length = parent_length(path);
        if (parent_length(before) == length && memcmp(before, path, length) == 0)
            continue; // files of one folder mostly come one after the other
        before = path;
        if (!add_folder(session, path, length, DEFAULT_FOLDER_MODE, err))
            return false;
    }
    sort_folders(session);

    size_t known;
    do {
        known = session->folder_count;
        for (size_t i = 0; i < known; i++)
            if (!add_parent(session, known, session->folders[i].path, err))
                return false;
        sort_folders(session);
    } while (session->folder_count > known);
    return true;
}

/* Sorted, and of equal paths one: what the source told of its mode wins over what we assumed. */
static void
sort_folders(struct hf_session *session)
{
    qsort(session->folders, session->folder_count, sizeof *session->folders, by_path);
    size_t kept = 0;
    for (size_t i = 0; i < session->folder_count; i++) {
        struct hf_manifest_folder *folder = &session->folders[i];
        if (kept > 0 && strcmp(session->folders[kept - 1].path, folder->path) == 0) {
            if (session->folders[kept - 1].mode == DEFAULT_FOLDER_MODE)
                session->folders[kept - 1].mode = folder->mode;
            free(folder->path);
            continue;
        }
        session->folders[kept++] = *folder;
    }
    session->folder_count = kept;
}

/*
 * The folder that `path` lies in, unless it is among the first `known`, which are sorted, or was the last to be added.
 */
static bool
add_parent(struct hf_session *session, size_t known, const char *path, struct hf_error *err)
{
    char parent[HF_PATH_MOST + 1];
    const struct hf_manifest_folder wanted = {.path = parent};
    const size_t length = parent_length(path);
    memcpy(parent, path, length);
    parent[length] = 0;
    return bsearch(&wanted, session->folders, known, sizeof wanted, by_path) != NULL ||
           strcmp(session->folders[session->folder_count - 1].path, parent) == 0 ||
           add_folder(session, parent, length, DEFAULT_FOLDER_MODE, err);
}

static bool
add_folder(struct hf_session *session, const char *path, size_t length, uint32_t mode, struct hf_error *err)
{
    char copy[HF_PATH_MOST + 1];
    memcpy(copy, path, length);
    copy[length] = 0;
    return hf_session_folder(session, copy, mode, err);
}

static bool
write_folder(struct hf_session *session, struct hf_manifest_folder *folder, struct hf_session_file *const *files,
             size_t *next_file, struct hf_manifest_root *root, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_manifest_file *page = calloc(HF_MANIFEST_PAGE_FILES, sizeof *page);
    if (page == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a manifest page");

    size_t count = 0;
    const size_t folder_length = strlen(folder->path);
    while (*next_file < session->file_count) {
        const struct hf_session_file *file = files[*next_file];
        size_t length;
        const char *name = file_name(file, &length);
        if (length != folder_length || memcmp(file->path, folder->path, length) != 0)
            break;
        page[count] = (struct hf_manifest_file){.name = name,
                                                .kind = file->kind,
                                                .page_log2 = file->page_log2,
                                                .mode = file->mode,
                                                .modified_at = file->modified_at,
                                                .size = file->size,
                                                .crc32c = file->crc32c,
                                                .leaf_count = file->leaf_count,
                                                .leaves = file->leaves};
        memcpy(page[count++].digest, file->digest, HF_FILE_DIGEST_BYTES);
        root->logical_bytes += file->size;
        root->file_count++;
        (*next_file)++;
        if (count == HF_MANIFEST_PAGE_FILES) {
            if (!write_page(session, folder, page, count, err))
                return false;
            count = 0;
        }
    }
    return count == 0 || write_page(session, folder, page, count, err);
}

static bool
write_page(struct hf_session *session, struct hf_manifest_folder *folder, const struct hf_manifest_file *files,
           size_t count, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_manifest_page_ref *grown = realloc(folder->pages, (folder->page_count + 1) * sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the manifest");
    folder->pages = grown;
    struct hf_manifest_page_ref *page = &folder->pages[folder->page_count];
    page->files = (uint32_t)count;
    if (!hf_manifest_page_encode(files, count, &bytes, err))
        return false;
    hf_manifest_page_digest(hf_vault_keys(session->vault), bytes.data, bytes.length, page->digest);
    if (!find_shared(session, folder, page->digest, &page->ref) &&
        !session_store_object(session, HF_OBJECT_MANIFEST_PAGE, bytes.data, bytes.length, &page->ref, err))
        return false;
    folder->page_count++;
    return session_count_live(session, &page->ref.pack, 1, err);
}

static bool
find_shared(const struct hf_session *session, const struct hf_manifest_folder *folder, const uint8_t *digest,
            struct hf_object_ref *ret)
{
    if (session->parent_root == NULL || session->parent.cache == NULL)
        return false;
    const struct hf_manifest_folder *found =
        bsearch(folder, session->parent_root->folders, session->parent_root->folder_count, sizeof *folder, by_path);
    for (size_t i = 0; found != NULL && i < found->page_count; i++)
        if (memcmp(found->pages[i].digest, digest, HF_FILE_DIGEST_BYTES) == 0 &&
            !session_is_condemned(session, &found->pages[i].ref.pack, found->pages[i].ref.slab)) {
            *ret = found->pages[i].ref;
            return true;
        }
    return false;
}

static bool
fill_summary(struct hf_session *session, struct hf_manifest_root *root, struct hf_error *err)
{
    root->summary = calloc(session->live_count + 1, sizeof *root->summary);
    if (root->summary == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the manifest");
    for (size_t i = 0; i < session->live_room; i++)
        if (session->live[i].live > 0)
            root->summary[root->summary_count++] =
                (struct hf_manifest_summary){session->live[i].pack, session->live[i].live};
    qsort(root->summary, root->summary_count, sizeof *root->summary, by_pack);
    return true;
}

static size_t
parent_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static const char *
file_name(const struct hf_session_file *file, size_t *ret_folder_length)
{
    *ret_folder_length = parent_length(file->path);
    return *ret_folder_length == 0 ? file->path : file->path + *ret_folder_length + 1;
}

/* In the order of the folders, which are sorted as whole paths, then of the names. */
static int
by_folder_and_name(const void *a, const void *b)
{
    const struct hf_session_file *left = *(const struct hf_session_file *const *)a;
    const struct hf_session_file *right = *(const struct hf_session_file *const *)b;
    size_t left_length, right_length;
    const char *left_name = file_name(left, &left_length), *right_name = file_name(right, &right_length);
    const int folders = memcmp(left->path, right->path, left_length < right_length ? left_length : right_length);
    if (folders != 0)
        return folders;
    if (left_length != right_length)
        return left_length < right_length ? -1 : 1;
    return strcmp(left_name, right_name);
}

static int
by_path(const void *a, const void *b)
{
    return strcmp(((const struct hf_manifest_folder *)a)->path, ((const struct hf_manifest_folder *)b)->path);
}

static int
by_link_path(const void *a, const void *b)
{
    return strcmp(((const struct hf_manifest_link *)a)->path, ((const struct hf_manifest_link *)b)->path);
}

static int
by_pack(const void *a, const void *b)
{
    return hf_id_compare(&((const struct hf_manifest_summary *)a)->pack,
                         &((const struct hf_manifest_summary *)b)->pack);
}

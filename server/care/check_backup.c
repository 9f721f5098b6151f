#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/care/check_internal.h"

#define DIRECTORIES_MOST    256
#define DIRECTORIES_DEFAULT (96 * HF_MIB)

/* Directories of data packs that were needed last; the oldest that nobody uses goes when there are too many. */
struct kept_directory {
    struct hf_id pack;
    struct hf_pack_directory *directory; // NULL: free
    size_t bytes;
    unsigned users;
    uint64_t used_at;
};

struct kept_directories {
    pthread_mutex_t lock; // held while a directory is fetched too: neighbours mostly want the same one
    uint64_t counter;
    size_t bytes, most;
    struct kept_directory items[DIRECTORIES_MOST];
};

/* A file as it is walked through: what its pages add up to, and the directory that was used last. */
struct walk {
    struct check *check;
    struct hf_slab_worker *worker;
    const struct checked_file *checked;
    struct hf_file_digest *digest;
    uint32_t crc32c;
    uint64_t left; // bytes of the file not yet seen
    struct kept_directory *kept;
};

static bool check_root(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err);
static bool take_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool check_sums(struct check *check, struct hf_error *err);
static void *file_work(void *context);
static bool check_file(struct check *check, struct hf_slab_worker *worker, const struct checked_file *checked,
                       struct hf_error *err);
static bool count_use(struct check *check, const struct hf_id *pack, uint64_t count);
static const char *why_unknown(const struct check *check, const struct hf_id *pack);
static bool add_leaf(struct walk *walk, const struct hf_leaf *leaf, struct hf_error *err);
static void add_zeros(struct walk *walk, uint64_t length);
static bool add_stored(struct walk *walk, const struct hf_leaf *leaf, const struct hf_extent *extent, uint64_t length,
                       struct hf_error *err);
static bool hold_directory(struct walk *walk, const struct hf_id *pack, struct hf_error *err);
static void release_directory(struct walk *walk);
static bool keep_directory(struct kept_directories *kept, struct hf_pack_reader *packs, struct hf_slab_worker *worker,
                           const struct hf_id *pack, struct kept_directory **ret, struct hf_error *err);
static size_t directory_bytes(const struct hf_pack_directory *directory);
static void check_summary(struct check *check, const struct hf_id *backup);
static void free_files(struct check *check);

bool
check_backup(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err)
{
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    free_files(check);
    hf_backup_freep(&check->backup);
    for (size_t i = 0; i < check->wanted_count; i++)
        atomic_store(&check->wanted[i].in_use, 0);
    if (check->directories == NULL) {
        check->directories = calloc(1, sizeof *check->directories);
        if (check->directories == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for directories of packs");
        pthread_mutex_init(&check->directories->lock, NULL);
        check->directories->most =
            check->options->memory_bytes > 0 ? check->options->memory_bytes : DIRECTORIES_DEFAULT;
    }
    if (!hf_slab_worker_new(1, &worker, err))
        return false;

    if (!hf_backup_open(check->vault, &backup->backup, &check->backup, err)) {
        if (!check_is_damage(err))
            return false;
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL, err->message);
        return true;
    }
    if (!check_root(check, backup, err))
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL, err->message);
    atomic_store(&check->maps_read, true);
    if (!hf_backup_files(check->backup, worker, take_file, check, err)) {
        if (!check_is_damage(err))
            return false;
        atomic_store(&check->maps_read, false);
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL, err->message);
    } else if (!check_sums(check, err)) {
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL, err->message);
    }
    if (!check_run_workers(check, file_work, err))
        return false;
    if (atomic_load(&check->maps_read))
        check_summary(check, &backup->backup);
    return true;
}

void
check_backup_done(struct check *check)
{
    free_files(check);
    hf_backup_freep(&check->backup);
    if (check->directories == NULL)
        return;
    for (size_t i = 0; i < DIRECTORIES_MOST; i++)
        hf_pack_directory_freep(&check->directories->items[i].directory);
    pthread_mutex_destroy(&check->directories->lock);
    free(check->directories);
    check->directories = NULL;
}

/* The manifest says once more what its COMMIT says: both are signed or sealed, and must agree. */
static bool
check_root(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_manifest_root *root = hf_backup_root(check->backup);
    const char *differs = !hf_id_equal(&root->session, &backup->session)                     ? "session"
                          : !hf_id_equal(&root->parent, &backup->parent)                     ? "parent"
                          : backup->facts != NULL && strcmp(root->facts, backup->facts) != 0 ? "facts"
                                                                                             : NULL;
    return differs == NULL ||
           hf_fail(err, HF_ERR_CORRUPT, "the manifest of backup \"%s\" has another %s than its COMMIT",
                   hf_id_format(&backup->backup, text), differs);
}

static bool
take_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct check *check = context;
    if (check->file_count == check->file_room) {
        const size_t room = check->file_room > 0 ? 2 * check->file_room : 1024;
        struct checked_file *grown = realloc(check->files, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
        check->files = grown;
        check->file_room = room;
    }
    struct hf_object_ref *leaves = malloc((file->leaf_count + 1) * sizeof *leaves);
    char *copy = strdup(path);
    if (leaves == NULL || copy == NULL) {
        free(leaves);
        free(copy);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
    }
    if (file->leaf_count > 0)
        memcpy(leaves, file->leaves, file->leaf_count * sizeof *leaves);
    struct checked_file *checked = &check->files[check->file_count++];
    checked->path = copy;
    checked->file = *file;
    checked->file.name = NULL;
    checked->file.leaves = leaves;
    return true;
}

static bool
check_sums(struct check *check, struct hf_error *err)
{
    const struct hf_manifest_root *root = hf_backup_root(check->backup);
    uint64_t bytes = 0;
    for (size_t i = 0; i < check->file_count; i++)
        bytes += check->files[i].file.size;
    if (root->file_count != check->file_count)
        return hf_fail(err, HF_ERR_CORRUPT, "the manifest lists %zu files, it counts %llu", check->file_count,
                       (unsigned long long)root->file_count);
    return root->logical_bytes == bytes ||
           hf_fail(err, HF_ERR_CORRUPT, "the manifest lists files of %llu bytes, it counts %llu",
                   (unsigned long long)bytes, (unsigned long long)root->logical_bytes);
}

static void *
file_work(void *context)
{
    struct check *check = context;
    struct hf_error err;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    if (!hf_slab_worker_new(1, &worker, &err)) {
        check_fail(check, &err);
        return NULL;
    }
    while (!check_cancelled(check)) {
        pthread_mutex_lock(&check->lock);
        const struct checked_file *file =
            !check->failed && check->next < check->file_count ? &check->files[check->next++] : NULL;
        if (file != NULL)
            check->report->files++;
        pthread_mutex_unlock(&check->lock);
        if (file == NULL)
            return NULL;
        if (check_file(check, worker, file, &err))
            continue;
        if (!check_is_damage(&err)) {
            check_fail(check, &err);
            return NULL;
        }
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &hf_backup_root(check->backup)->backup, file->path,
                   err.message);
    }
    return NULL;
}

/*
 * No page is read again: digest and CRC-32C are made from the tags and CRCs of the pages.  After the first fault
 * the rest of the maps is still read, for the summary.
 */
static bool
check_file(struct check *check, struct hf_slab_worker *worker, const struct checked_file *checked, struct hf_error *err)
{
    const struct hf_manifest_file *file = &checked->file;
    _cleanup_(hf_file_digest_freep) struct hf_file_digest *digest = NULL;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    uint8_t sum[HF_FILE_DIGEST_BYTES];
    char text[HF_ID_TEXT_BYTES];
    struct hf_error failure;
    bool ok = true;
    hf_leaf_init(&leaf, file->page_log2);
    if (!hf_file_digest_new(hf_vault_keys(check->vault), &digest, err))
        return false;
    struct walk walk = {.check = check, .worker = worker, .checked = checked, .digest = digest, .left = file->size};
    for (size_t i = 0; i < file->leaf_count; i++) {
        if (!count_use(check, &file->leaves[i].pack, 1) && ok)
            ok = hf_fail(err, HF_ERR_CORRUPT, "its map lies in pack \"%s\", which %s",
                         hf_id_format(&file->leaves[i].pack, text), why_unknown(check, &file->leaves[i].pack));
        if (!hf_backup_leaf(check->backup, worker, &file->leaves[i], &leaf, &failure)) {
            atomic_store(&check->maps_read, false);
            *err = ok ? failure : *err;
            ok = false;
            if (!check_is_damage(&failure))
                break;
            continue;
        }
        for (size_t n = 0; n < leaf.extent_count; n++)
            if (leaf.extents[n].type == HF_EXTENT_STORED)
                (void)count_use(check, &leaf.packs[leaf.extents[n].pack], leaf.extents[n].count); // add_stored says it
        ok = ok && add_leaf(&walk, &leaf, err);
    }
    release_directory(&walk);
    if (!ok)
        return hf_fail_within(err, "file \"%s\"", checked->path);
    hf_file_digest_end(digest, file->size, sum);
    if (sodium_memcmp(sum, file->digest, sizeof sum) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "file \"%s\" does not have the digest of the backup", checked->path);
    return walk.crc32c == file->crc32c ||
           hf_fail(err, HF_ERR_CORRUPT, "file \"%s\" does not have the CRC-32C of the backup", checked->path);
}

/* False: the pack is none of those that were looked at. */
static bool
count_use(struct check *check, const struct hf_id *pack, uint64_t count)
{
    struct checked_pack *checked = check_find_pack(check, pack);
    if (checked != NULL)
        atomic_fetch_add(&checked->in_use, count);
    return checked != NULL;
}

static const char *
why_unknown(const struct check *check, const struct hf_id *pack)
{
    return hf_vault_state_pack(check->state, pack) == NULL ? "no COMMIT that counts has brought"
                                                           : "the manifest's summary does not list";
}

static bool
add_leaf(struct walk *walk, const struct hf_leaf *leaf, struct hf_error *err)
{
    const uint8_t page_log2 = walk->checked->file.page_log2;
    const uint64_t size = walk->checked->file.size;
    const uint64_t wanted = walk->left < (uint64_t)HF_LEAF_PAGES << page_log2
                                ? (walk->left + ((uint64_t)1 << page_log2) - 1) >> page_log2
                                : HF_LEAF_PAGES;
    if (leaf->page_log2 != page_log2 || leaf->pages != wanted)
        return hf_fail(err, HF_ERR_CORRUPT, "its map has %u pages of %u bytes at byte %llu, its size is %llu",
                       leaf->pages, 1u << leaf->page_log2, (unsigned long long)(size - walk->left),
                       (unsigned long long)size);
    for (size_t i = 0; i < leaf->extent_count; i++) {
        const struct hf_extent *extent = &leaf->extents[i];
        const uint64_t room = (uint64_t)extent->count << page_log2;
        const uint64_t length = walk->left < room ? walk->left : room;
        if (extent->type == HF_EXTENT_LOST)
            return hf_fail(err, HF_ERR_CORRUPT, "page %llu: %u pages are lost",
                           (unsigned long long)((size - walk->left) >> page_log2), extent->count);
        if (extent->type == HF_EXTENT_ZEROS)
            add_zeros(walk, length);
        else if (!add_stored(walk, leaf, extent, length, err))
            return hf_fail_within(err, "page %llu", (unsigned long long)((size - walk->left) >> page_log2));
        walk->left -= length;
    }
    return true;
}

static void
add_zeros(struct walk *walk, uint64_t length)
{
    static const uint8_t zeros[HF_PAGE_MOST];
    const size_t page_bytes = (size_t)1 << walk->checked->file.page_log2;
    uint8_t tag[HF_TAG_BYTES];
    uint32_t crc = 0;
    for (size_t made = 0, part; length > 0; length -= part) {
        part = length < page_bytes ? (size_t)length : page_bytes;
        if (part != made) { // the first page, and a short last one
            hf_page_tag(hf_vault_keys(walk->check->vault), zeros, part, tag);
            crc = hf_crc32c(0, zeros, part);
            made = part;
        }
        hf_file_digest_add(walk->digest, tag);
        walk->crc32c = hf_crc32c_combine(walk->crc32c, crc, part);
    }
}

/* `length`: bytes of the file that these pages must hold. */
static bool
add_stored(struct walk *walk, const struct hf_leaf *leaf, const struct hf_extent *extent, uint64_t length,
           struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_id *pack = &leaf->packs[extent->pack];
    const struct checked_pack *known = check_find_pack(walk->check, pack);
    hf_id_format(pack, text);
    if (known == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "lies in pack \"%s\", which %s", text, why_unknown(walk->check, pack));
    if (known->broken || (known->broken_slabs != NULL && extent->slab < known->slab_count &&
                          (known->broken_slabs[extent->slab / 8] >> extent->slab % 8 & 1) != 0))
        return hf_fail(err, HF_ERR_CORRUPT, "lies in pack \"%s\", slab %u, which is missing or damaged", text,
                       extent->slab);
    if (!hold_directory(walk, pack, err))
        return false;

    const struct hf_pack_directory *directory = walk->kept->directory;
    const uint32_t end = extent->first + extent->count;
    if (extent->slab >= directory->slab_count || directory->slabs[extent->slab].kind != HF_SLAB_PAGES ||
        end > directory->slabs[extent->slab].items)
        return hf_fail(err, HF_ERR_CORRUPT, "its map leads past the end of pack \"%s\", slab %u", text, extent->slab);
    const struct hf_page_check *checks = directory->checks + directory->page_start[extent->slab];
    uint32_t page = 0; // of the slab
    for (size_t i = directory->run_start[extent->slab]; page < end; i++) {
        const struct hf_page_run *run = &directory->runs[i];
        for (uint32_t n = 0; n < run->count && page < end; n++, page++) {
            if (page < extent->first)
                continue;
            const uint32_t stored = (1u << run->page_log2) - (n + 1 == run->count ? run->short_by : 0);
            const uint64_t room = (uint64_t)1 << leaf->page_log2;
            if (run->page_log2 != leaf->page_log2 || stored != (length < room ? length : room))
                return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u holds %u bytes of it, its size asks for %llu",
                               text, extent->slab, stored, (unsigned long long)(length < room ? length : room));
            hf_file_digest_add(walk->digest, checks[page].tag);
            walk->crc32c = hf_crc32c_combine(walk->crc32c, checks[page].crc32c, stored);
            length -= stored;
        }
    }
    return true;
}

/* Keeps hold of the pack's directory until another one is wanted. */
static bool
hold_directory(struct walk *walk, const struct hf_id *pack, struct hf_error *err)
{
    struct kept_directories *kept = walk->check->directories;
    if (walk->kept != NULL && hf_id_equal(&walk->kept->pack, pack))
        return true;
    release_directory(walk);
    pthread_mutex_lock(&kept->lock);
    const bool ok = keep_directory(kept, walk->check->packs, walk->worker, pack, &walk->kept, err);
    pthread_mutex_unlock(&kept->lock);
    return ok;
}

static void
release_directory(struct walk *walk)
{
    if (walk->kept == NULL)
        return;
    pthread_mutex_lock(&walk->check->directories->lock);
    walk->kept->users--;
    pthread_mutex_unlock(&walk->check->directories->lock);
    walk->kept = NULL;
}

/* There are more places than workers, and each holds one: a place that nobody uses is always found. */
static bool
keep_directory(struct kept_directories *kept, struct hf_pack_reader *packs, struct hf_slab_worker *worker,
               const struct hf_id *pack, struct kept_directory **ret, struct hf_error *err)
{
    for (size_t i = 0; i < DIRECTORIES_MOST; i++) {
        struct kept_directory *item = &kept->items[i];
        if (item->directory == NULL || !hf_id_equal(&item->pack, pack))
            continue;
        item->users++;
        item->used_at = ++kept->counter;
        *ret = item;
        return true;
    }

    struct hf_pack_directory *directory;
    if (!hf_pack_reader_directory(packs, worker, pack, &directory, err))
        return false;
    const size_t bytes = directory_bytes(directory);
    struct kept_directory *place;
    for (;;) {
        struct kept_directory *oldest = NULL;
        place = NULL;
        for (size_t i = 0; i < DIRECTORIES_MOST; i++) {
            struct kept_directory *item = &kept->items[i];
            if (item->directory == NULL)
                place = item;
            else if (item->users == 0 && (oldest == NULL || item->used_at < oldest->used_at))
                oldest = item;
        }
        if (oldest == NULL || (place != NULL && kept->bytes + bytes <= kept->most))
            break;
        kept->bytes -= oldest->bytes;
        hf_pack_directory_freep(&oldest->directory);
    }
    kept->bytes += bytes;
    *place = (struct kept_directory){*pack, directory, bytes, 1, ++kept->counter};
    *ret = place;
    return true;
}

static size_t
directory_bytes(const struct hf_pack_directory *directory)
{
    return directory->page_count * sizeof *directory->checks + directory->run_count * sizeof *directory->runs +
           directory->slab_count * (sizeof *directory->slabs + 2 * sizeof(size_t)) +
           directory->file_count * (sizeof *directory->files + 64);
}

/* What collection counts with, against what the maps say. */
static void
check_summary(struct check *check, const struct hf_id *backup)
{
    char message[HF_ERROR_MESSAGE_BYTES], text[HF_ID_TEXT_BYTES], backup_text[HF_ID_TEXT_BYTES];
    const struct hf_manifest_root *root = hf_backup_root(check->backup);
    hf_id_format(backup, backup_text);
    for (size_t i = 0; i < root->folder_count; i++)
        for (size_t n = 0; n < root->folders[i].page_count; n++) {
            const struct hf_id *pack = &root->folders[i].pages[n].ref.pack;
            if (count_use(check, pack, 1))
                continue;
            snprintf(message, sizeof message, "the list of files in folder \"%.200s\" lies in pack \"%s\", which %s",
                     root->folders[i].path, hf_id_format(pack, text), why_unknown(check, pack));
            check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, backup, NULL, message);
        }

    size_t row = 0; // of the summary, which is sorted as the packs are
    for (size_t i = 0; i <= check->wanted_count; i++) {
        const struct checked_pack *pack = i < check->wanted_count ? &check->wanted[i] : NULL;
        for (; row < root->summary_count &&
               (pack == NULL || hf_id_compare(&root->summary[row].pack, &pack->pack->pack) < 0);
             row++) {
            snprintf(message, sizeof message, "the manifest of backup \"%s\" counts on pack \"%s\", which %s",
                     backup_text, hf_id_format(&root->summary[row].pack, text),
                     why_unknown(check, &root->summary[row].pack));
            check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, backup, NULL, message);
        }
        if (pack == NULL)
            return;
        uint64_t told = 0;
        const uint64_t counted = atomic_load(&pack->in_use);
        if (row < root->summary_count && hf_id_equal(&root->summary[row].pack, &pack->pack->pack))
            told = root->summary[row++].live;
        if (told == counted)
            continue;
        snprintf(
            message, sizeof message,
            "the manifest of backup \"%s\" says that it uses %llu pages or objects of pack \"%s\", its maps use %llu",
            backup_text, (unsigned long long)told, hf_id_format(&pack->pack->pack, text), (unsigned long long)counted);
        check_tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, backup, NULL, message);
    }
}

static void
free_files(struct check *check)
{
    for (size_t i = 0; i < check->file_count; i++) {
        free(check->files[i].path);
        free((void *)(uintptr_t)check->files[i].file.leaves);
    }
    free(check->files);
    check->files = NULL;
    check->file_count = check->file_room = 0;
}

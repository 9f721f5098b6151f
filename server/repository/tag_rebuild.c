#include <sodium.h>
#include <string.h>

#include "server/repository/reader.h"
#include "server/repository/tag_cache.h"

/* Directories kept in memory while tags are looked up: up to 2 MiB each for a full pack. */
#define DIRECTORIES_KEPT 32

struct kept_directory {
    struct hf_id pack;
    uint64_t used_at; // 0: empty
    struct hf_pack_directory *directory;
};

struct rebuild {
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    struct hf_tag_cache_writer *writer;
    struct hf_census *census;
    uint64_t counter;
    struct kept_directory kept[DIRECTORIES_KEPT];
    uint8_t tags[HF_LEAF_PAGES * HF_TAG_BYTES];
};

static bool rebuild_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool leaf_tags(struct rebuild *rebuild, const struct hf_leaf *leaf, uint64_t tail_bytes, struct hf_error *err);
static bool stored_tags(struct rebuild *rebuild, const struct hf_leaf *leaf, const struct hf_extent *extent,
                        uint8_t *tags, struct hf_error *err);
static bool find_directory(struct rebuild *rebuild, const struct hf_id *pack, struct hf_pack_directory **ret,
                           struct hf_error *err);
static void zero_tags(const struct rebuild *rebuild, const struct hf_leaf *leaf, uint32_t first, uint32_t count,
                      uint64_t tail_bytes, uint8_t *tags);

bool
hf_tag_cache_rebuild(struct hf_vault *vault, const struct hf_id *backup, const char *path, struct hf_error *err)
{
    _cleanup_(hf_backup_freep) struct hf_backup *opened = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    _cleanup_(hf_freep) struct rebuild *rebuild = calloc(1, sizeof *rebuild);
    if (rebuild == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
    if (!hf_backup_open(vault, backup, &opened, err) || !hf_slab_worker_new(1, &worker, err) ||
        !hf_tag_cache_writer_new(path, hf_vault_keys(vault), backup, &writer, err) || !hf_census_new(&census, err))
        return false;

    rebuild->backup = opened;
    rebuild->worker = worker;
    rebuild->writer = writer;
    rebuild->census = census;
    const bool ok = hf_backup_files(opened, worker, rebuild_file, rebuild, err);
    for (size_t i = 0; i < DIRECTORIES_KEPT; i++)
        hf_pack_directory_freep(&rebuild->kept[i].directory);
    return ok && hf_tag_cache_writer_finish(&writer, census, err);
}

static bool
rebuild_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct rebuild *rebuild = context;
    _cleanup_(hf_freep) struct hf_cached_leaf *cached = calloc(file->leaf_count + 1, sizeof *cached);
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    hf_leaf_init(&leaf, file->page_log2);
    if (cached == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");

    const uint64_t tail_bytes = file->size & (((uint64_t)1 << file->page_log2) - 1);
    for (size_t i = 0; i < file->leaf_count; i++) {
        cached[i].ref = file->leaves[i];
        if (!hf_backup_leaf(rebuild->backup, rebuild->worker, &file->leaves[i], &leaf, err) ||
            !leaf_tags(rebuild, &leaf, i + 1 == file->leaf_count ? tail_bytes : 0, err) ||
            !hf_tag_cache_writer_tags(rebuild->writer, rebuild->tags, leaf.pages, &cached[i].frame, err))
            return hf_fail_within(err, "file \"%s\"", path);
        cached[i].pages = leaf.pages;
    }
    const struct hf_cached_file row = {.path = path,
                                       .page_log2 = file->page_log2,
                                       .size = file->size,
                                       .leaf_count = file->leaf_count,
                                       .leaves = cached};
    return hf_tag_cache_writer_file(rebuild->writer, &row, err);
}

/* tail_bytes: length of the leaf's last page when it is the file's short one, else 0. */
static bool
leaf_tags(struct rebuild *rebuild, const struct hf_leaf *leaf, uint64_t tail_bytes, struct hf_error *err)
{
    uint32_t page = 0;
    for (size_t i = 0; i < leaf->extent_count; i++) {
        const struct hf_extent *extent = &leaf->extents[i];
        uint8_t *tags = rebuild->tags + (size_t)page * HF_TAG_BYTES;
        if (extent->type == HF_EXTENT_STORED) {
            if (!stored_tags(rebuild, leaf, extent, tags, err))
                return false;
        } else if (extent->type == HF_EXTENT_ZEROS) {
            zero_tags(rebuild, leaf, page, extent->count, tail_bytes, tags);
        } else {
            /* A tag that no page has: a lost page always counts as changed. */
            randombytes_buf(tags, (size_t)extent->count * HF_TAG_BYTES);
        }
        page += extent->count;
    }
    return true;
}

static bool
stored_tags(struct rebuild *rebuild, const struct hf_leaf *leaf, const struct hf_extent *extent, uint8_t *tags,
            struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct hf_pack_directory *directory;
    const struct hf_id *pack = &leaf->packs[extent->pack];
    if (!find_directory(rebuild, pack, &directory, err))
        return false;
    if (extent->slab >= directory->slab_count ||
        extent->first + extent->count > directory->page_start[extent->slab + 1] - directory->page_start[extent->slab])
        return hf_fail(err, HF_ERR_CORRUPT, "the map leads past the end of pack \"%s\", slab %u",
                       hf_id_format(pack, text), extent->slab);
    for (uint32_t i = 0; i < extent->count; i++)
        memcpy(tags + (size_t)i * HF_TAG_BYTES,
               directory->checks[directory->page_start[extent->slab] + extent->first + i].tag, HF_TAG_BYTES);
    return hf_census_set_stored(rebuild->census, pack, extent->slab, directory->slabs[extent->slab].items, err) &&
           hf_census_add_live(rebuild->census, pack, extent->slab, extent->count, err);
}

static bool
find_directory(struct rebuild *rebuild, const struct hf_id *pack, struct hf_pack_directory **ret, struct hf_error *err)
{
    struct kept_directory *oldest = &rebuild->kept[0];
    for (size_t i = 0; i < DIRECTORIES_KEPT; i++) {
        struct kept_directory *kept = &rebuild->kept[i];
        if (kept->used_at != 0 && hf_id_equal(&kept->pack, pack)) {
            kept->used_at = ++rebuild->counter;
            *ret = kept->directory;
            return true;
        }
        if (kept->used_at < oldest->used_at)
            oldest = kept;
    }
    oldest->used_at = 0;
    hf_pack_directory_freep(&oldest->directory);
    if (!hf_pack_reader_directory(hf_backup_packs(rebuild->backup), rebuild->worker, pack, &oldest->directory, err))
        return false;
    oldest->pack = *pack;
    oldest->used_at = ++rebuild->counter;
    *ret = oldest->directory;
    return true;
}

static void
zero_tags(const struct rebuild *rebuild, const struct hf_leaf *leaf, uint32_t first, uint32_t count,
          uint64_t tail_bytes, uint8_t *tags)
{
    static const uint8_t zeros[HF_PAGE_MOST];
    const size_t page_bytes = (size_t)1 << leaf->page_log2;
    uint8_t whole[HF_TAG_BYTES];
    hf_page_tag(hf_backup_keys(rebuild->backup), zeros, page_bytes, whole);
    for (uint32_t i = 0; i < count; i++)
        memcpy(tags + (size_t)i * HF_TAG_BYTES, whole, sizeof whole);
    if (tail_bytes > 0 && first + count == leaf->pages)
        hf_page_tag(hf_backup_keys(rebuild->backup), zeros, tail_bytes, tags + (size_t)(count - 1) * HF_TAG_BYTES);
}

#include "server/repository/page_checks.h"

#include <pthread.h>
#include <string.h>

#include "server/repository/page_tag.h"

struct kept_directory {
    struct hf_id pack;
    uint64_t used_at; // 0: empty
    struct hf_pack_directory *directory;
};

struct hf_page_checks {
    struct hf_pack_reader *packs;     // borrowed
    const struct hf_vault_keys *keys; // borrowed
    pthread_mutex_t lock;
    uint64_t counter;
    struct kept_directory kept[HF_PAGE_CHECKS_PACKS];
};

static void of_zeros(const struct hf_page_checks *checks, size_t length, struct hf_page_check *ret);
static bool of_stored(struct hf_page_checks *checks, struct hf_slab_worker *worker, const struct hf_id *pack,
                      uint32_t slab, uint32_t first, uint32_t count, struct hf_page_check *ret, struct hf_error *err);
static bool find_directory(struct hf_page_checks *checks, struct hf_slab_worker *worker, const struct hf_id *pack,
                           struct hf_pack_directory **ret, struct hf_error *err);

bool
hf_page_checks_new(struct hf_pack_reader *packs, const struct hf_vault_keys *keys, struct hf_page_checks **ret,
                   struct hf_error *err)
{
    struct hf_page_checks *checks = calloc(1, sizeof *checks);
    if (checks == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page checks");
    checks->packs = packs;
    checks->keys = keys;
    pthread_mutex_init(&checks->lock, NULL);
    *ret = checks;
    return true;
}

void
hf_page_checks_freep(struct hf_page_checks **checks)
{
    if (*checks == NULL)
        return;
    for (size_t i = 0; i < HF_PAGE_CHECKS_PACKS; i++)
        hf_pack_directory_freep(&(*checks)->kept[i].directory);
    pthread_mutex_destroy(&(*checks)->lock);
    free(*checks);
    *checks = NULL;
}

bool
hf_page_checks_get(struct hf_page_checks *checks, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
                   uint32_t first, uint32_t count, size_t tail_bytes, struct hf_page_check *ret, struct hf_error *err)
{
    const uint32_t end = first + count;
    for (size_t i = 0; i < leaf->extent_count; i++) {
        const struct hf_extent *extent = &leaf->extents[i];
        const uint32_t extent_end = extent->start + extent->count;
        if (extent_end <= first || extent->start >= end)
            continue;
        const uint32_t from = extent->start > first ? extent->start : first, to = extent_end < end ? extent_end : end;
        struct hf_page_check *at = ret + (from - first);
        if (extent->type == HF_EXTENT_STORED) {
            if (!of_stored(checks, worker, &leaf->packs[extent->pack], extent->slab,
                           extent->first + (from - extent->start), to - from, at, err))
                return false;
        } else if (extent->type == HF_EXTENT_ZEROS) {
            of_zeros(checks, (size_t)1 << leaf->page_log2, at);
            for (uint32_t page = 1; page < to - from; page++)
                at[page] = at[0];
            if (tail_bytes > 0 && to == leaf->pages)
                of_zeros(checks, tail_bytes, &at[to - from - 1]);
        } else {
            return hf_fail(err, HF_ERR_CORRUPT, "%u of its pages are lost", extent->count);
        }
    }
    return end <= leaf->pages || hf_fail(err, HF_ERR_CORRUPT, "its map ends after %u pages", leaf->pages);
}

static void
of_zeros(const struct hf_page_checks *checks, size_t length, struct hf_page_check *ret)
{
    static const uint8_t zeros[HF_PAGE_MOST];
    hf_page_tag(checks->keys, zeros, length, ret->tag);
    ret->crc32c = hf_crc32c(0, zeros, length);
}

static bool
of_stored(struct hf_page_checks *checks, struct hf_slab_worker *worker, const struct hf_id *pack, uint32_t slab,
          uint32_t first, uint32_t count, struct hf_page_check *ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct hf_pack_directory *directory;
    pthread_mutex_lock(&checks->lock);
    bool ok = find_directory(checks, worker, pack, &directory, err);
    if (ok && (slab >= directory->slab_count ||
               first + count > directory->page_start[slab + 1] - directory->page_start[slab]))
        ok = hf_fail(err, HF_ERR_CORRUPT, "the map leads past the end of pack \"%s\", slab %u",
                     hf_id_format(pack, text), slab);
    if (ok)
        memcpy(ret, &directory->checks[directory->page_start[slab] + first], count * sizeof *ret);
    pthread_mutex_unlock(&checks->lock);
    return ok;
}

/* Under the lock.  The one not used for longest makes room. */
static bool
find_directory(struct hf_page_checks *checks, struct hf_slab_worker *worker, const struct hf_id *pack,
               struct hf_pack_directory **ret, struct hf_error *err)
{
    struct kept_directory *oldest = &checks->kept[0];
    for (size_t i = 0; i < HF_PAGE_CHECKS_PACKS; i++) {
        struct kept_directory *kept = &checks->kept[i];
        if (kept->used_at != 0 && hf_id_equal(&kept->pack, pack)) {
            kept->used_at = ++checks->counter;
            *ret = kept->directory;
            return true;
        }
        if (kept->used_at < oldest->used_at)
            oldest = kept;
    }
    oldest->used_at = 0;
    hf_pack_directory_freep(&oldest->directory);
    if (!hf_pack_reader_directory(checks->packs, worker, pack, &oldest->directory, err))
        return false;
    oldest->pack = *pack;
    oldest->used_at = ++checks->counter;
    *ret = oldest->directory;
    return true;
}

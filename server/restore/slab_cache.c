#include "server/restore/slab_cache.h"

#include <pthread.h>
#include <string.h>

#define SLAB_BYTES    (320 * HF_KIB) // about what one takes, page list and table included
#define ENTRIES_LEAST 16

enum entry_state { EMPTY, OPENING, OPEN, BROKEN };

struct entry {
    struct hf_cached_slab slab; // first: give_back gets it as the entry
    enum entry_state state;
    struct hf_id pack;
    uint32_t number;
    unsigned users;
    uint64_t used_at;
    size_t next;             // in the hash chain, entry index + 1; 0: end
    struct hf_error failure; // BROKEN
};

struct hf_slab_cache {
    struct hf_pack_reader *packs; // borrowed from the caller
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t counter, opened, opened_bytes;
    size_t count;
    struct entry *entries;
    size_t bucket_count; // a power of two
    size_t *buckets;     // entry index + 1
};

static struct entry *find(struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number);
static struct entry *claim(struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number);
static void unlink_entry(struct hf_slab_cache *cache, struct entry *entry);
static size_t bucket_of(const struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number);

bool
hf_slab_cache_new(struct hf_pack_reader *packs, size_t bytes, struct hf_slab_cache **ret, struct hf_error *err)
{
    _cleanup_(hf_slab_cache_freep) struct hf_slab_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for opened slabs");
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->changed, NULL);
    cache->packs = packs;
    cache->count = bytes / SLAB_BYTES > ENTRIES_LEAST ? bytes / SLAB_BYTES : ENTRIES_LEAST;
    cache->bucket_count = 64;
    while (cache->bucket_count < 2 * cache->count)
        cache->bucket_count *= 2;
    cache->entries = calloc(cache->count, sizeof *cache->entries);
    cache->buckets = calloc(cache->bucket_count, sizeof *cache->buckets);
    if (cache->entries == NULL || cache->buckets == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for opened slabs");
    for (size_t i = 0; i < cache->count; i++)
        cache->entries[i].slab.plain = HF_BUF_INIT(HF_SLAB_RAW_MOST + HF_KIB);
    *ret = HF_TAKE(cache);
    return true;
}

void
hf_slab_cache_freep(struct hf_slab_cache **cache)
{
    if (*cache == NULL)
        return;
    for (size_t i = 0; (*cache)->entries != NULL && i < (*cache)->count; i++) {
        hf_buf_done(&(*cache)->entries[i].slab.plain);
        hf_slab_pages_freep(&(*cache)->entries[i].slab.pages);
    }
    pthread_mutex_destroy(&(*cache)->lock);
    pthread_cond_destroy(&(*cache)->changed);
    free((*cache)->entries);
    free((*cache)->buckets);
    free(*cache);
    *cache = NULL;
}

bool
hf_slab_cache_get(struct hf_slab_cache *cache, struct hf_slab_worker *worker, const struct hf_id *pack, uint32_t slab,
                  const struct hf_cached_slab **ret, struct hf_error *err)
{
    pthread_mutex_lock(&cache->lock);
    struct entry *entry;
    while ((entry = find(cache, pack, slab)) == NULL && (entry = claim(cache, pack, slab)) == NULL)
        pthread_cond_wait(&cache->changed, &cache->lock); // every entry is in use: one comes back soon
    entry->users++;
    entry->used_at = ++cache->counter;

    if (entry->state == EMPTY) {
        entry->state = OPENING;
        pthread_mutex_unlock(&cache->lock);
        struct hf_error failure = {0};
        const bool ok =
            hf_pack_reader_slab(cache->packs, worker, pack, slab, NULL, &entry->slab.plain, &failure) &&
            hf_slab_pages_read(entry->slab.plain.data, entry->slab.plain.length, &entry->slab.pages, &failure);
        pthread_mutex_lock(&cache->lock);
        entry->state = ok ? OPEN : BROKEN;
        entry->failure = failure;
        cache->opened++;
        cache->opened_bytes += entry->slab.plain.length;
        pthread_cond_broadcast(&cache->changed);
    }
    while (entry->state == OPENING)
        pthread_cond_wait(&cache->changed, &cache->lock);
    const bool ok = entry->state == OPEN;
    if (!ok) {
        *err = entry->failure;
        if (--entry->users == 0)
            unlink_entry(cache, entry);
        pthread_cond_broadcast(&cache->changed);
    }
    pthread_mutex_unlock(&cache->lock);
    *ret = ok ? &entry->slab : NULL;
    return ok;
}

void
hf_slab_cache_give_back(struct hf_slab_cache *cache, const struct hf_cached_slab *slab)
{
    struct entry *entry = (struct entry *)(uintptr_t)slab;
    pthread_mutex_lock(&cache->lock);
    if (--entry->users == 0)
        pthread_cond_broadcast(&cache->changed);
    pthread_mutex_unlock(&cache->lock);
}

void
hf_slab_cache_counts(struct hf_slab_cache *cache, uint64_t *ret_slabs, uint64_t *ret_bytes)
{
    pthread_mutex_lock(&cache->lock);
    *ret_slabs = cache->opened;
    *ret_bytes = cache->opened_bytes;
    pthread_mutex_unlock(&cache->lock);
}

static struct entry *
find(struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number)
{
    for (size_t at = cache->buckets[bucket_of(cache, pack, number)]; at != 0; at = cache->entries[at - 1].next)
        if (cache->entries[at - 1].number == number && hf_id_equal(&cache->entries[at - 1].pack, pack))
            return &cache->entries[at - 1];
    return NULL;
}

/* The one that nobody uses and that was used longest ago; linked under its new name. */
static struct entry *
claim(struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number)
{
    struct entry *oldest = NULL;
    for (size_t i = 0; i < cache->count; i++) {
        struct entry *entry = &cache->entries[i];
        if (entry->users == 0 && (oldest == NULL || entry->used_at < oldest->used_at))
            oldest = entry;
    }
    if (oldest == NULL)
        return NULL;
    if (oldest->state != EMPTY)
        unlink_entry(cache, oldest);
    oldest->pack = *pack;
    oldest->number = number;
    size_t *bucket = &cache->buckets[bucket_of(cache, pack, number)];
    oldest->next = *bucket;
    *bucket = (size_t)(oldest - cache->entries) + 1;
    return oldest;
}

static void
unlink_entry(struct hf_slab_cache *cache, struct entry *entry)
{
    const size_t name = (size_t)(entry - cache->entries) + 1;
    size_t *at = &cache->buckets[bucket_of(cache, &entry->pack, entry->number)];
    while (*at != name)
        at = &cache->entries[*at - 1].next;
    *at = entry->next;
    entry->state = EMPTY;
    entry->used_at = 0;
}

static size_t
bucket_of(const struct hf_slab_cache *cache, const struct hf_id *pack, uint32_t number)
{
    uint64_t start;
    memcpy(&start, pack->bytes, sizeof start);
    return (start + number * UINT64_C(0x9e3779b97f4a7c15)) & (cache->bucket_count - 1);
}

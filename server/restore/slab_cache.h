/*
 * slab_cache.h - slabs kept open while leaves next to each other need them
 *
 * Several threads ask; a slab that two want at once is opened by one and waited for by the other.
 */
#pragma once
#include "server/repository/pack.h"

struct hf_slab_cache;
struct hf_cached_slab {
    struct hf_buf plain;
    struct hf_slab_pages *pages;
};

HF_MUST_CHECK bool hf_slab_cache_new(struct hf_pack_reader *packs, size_t bytes, struct hf_slab_cache **ret,
                                     struct hf_error *err);
void hf_slab_cache_freep(struct hf_slab_cache **cache);
/* Holds the slab until hf_slab_cache_give_back().  `worker` is the calling thread's. */
HF_MUST_CHECK bool hf_slab_cache_get(struct hf_slab_cache *cache, struct hf_slab_worker *worker,
                                     const struct hf_id *pack, uint32_t slab, const struct hf_cached_slab **ret,
                                     struct hf_error *err);
void hf_slab_cache_give_back(struct hf_slab_cache *cache, const struct hf_cached_slab *slab);
/* How many were opened so far, and their plaintext. */
void hf_slab_cache_counts(struct hf_slab_cache *cache, uint64_t *ret_slabs, uint64_t *ret_bytes);

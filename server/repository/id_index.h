/*
 * id_index.h - the place of an id in an array, without walking the array
 *
 * Maps and manifests name each pack once, in a table, and then by its place there; the census keeps
 * counts by pack.  All of them ask "where is this id?" for every run of pages.  The array stays its
 * owner's, plain and in the order of the first use; this is the hash table beside it.
 *
 * The hash is keyed with random bits of this process, so that ids chosen by somebody else cannot
 * make it slow.  A handful of ids costs no memory: they are walked.
 */
#pragma once
#include "base/id.h"

#define HF_ID_INDEX_NONE SIZE_MAX

/* All zeros is an empty index.  An owner that empties its array and starts again need not tell. */
struct hf_id_index {
    uint32_t *slots;   // place in the array + 1; 0: free
    size_t slot_count; // a power of two, or 0 while the ids are walked
};

void hf_id_index_done(struct hf_id_index *index);

/* The place of `id` among ids[0] .. ids[count - 1], all of which were added; or HF_ID_INDEX_NONE. */
size_t hf_id_index_find(const struct hf_id_index *index, const struct hf_id *ids, size_t count, const struct hf_id *id);
/* Takes note of ids[count], which the owner has just put behind ids[0 .. count - 1] and which is not among them. */
HF_MUST_CHECK bool hf_id_index_add(struct hf_id_index *index, const struct hf_id *ids, size_t count,
                                   struct hf_error *err);
/* Fills an empty index with ids[0 .. count - 1]; *ret_distinct false (and the index useless) when one comes twice. */
HF_MUST_CHECK bool hf_id_index_fill(struct hf_id_index *index, const struct hf_id *ids, size_t count,
                                    bool *ret_distinct, struct hf_error *err);

/*
 * page_checks.h - tag and CRC-32C of stored pages, without opening them
 *
 * Both stand in the directory of the pack.  The directories that were used last are kept: up to 2 MiB each for a full
 * pack.  Any threads, each with its own worker.
 */
#pragma once
#include "server/repository/map.h"
#include "server/repository/pack.h"

#define HF_PAGE_CHECKS_PACKS 32 // kept at most

struct hf_page_checks;

/* The reader and the keys are borrowed. */
HF_MUST_CHECK bool hf_page_checks_new(struct hf_pack_reader *packs, const struct hf_vault_keys *keys,
                                      struct hf_page_checks **ret, struct hf_error *err);
void hf_page_checks_freep(struct hf_page_checks **checks);

/*
 * Of the pages [first, first + count) of a leaf.  tail_bytes: length of the leaf's last page when it is the file's
 * short one, else 0.  CORRUPT: the map leads to where no page is, or the pages are known to be lost.
 */
HF_MUST_CHECK bool hf_page_checks_get(struct hf_page_checks *checks, struct hf_slab_worker *worker,
                                      const struct hf_leaf *leaf, uint32_t first, uint32_t count, size_t tail_bytes,
                                      struct hf_page_check *ret, struct hf_error *err);

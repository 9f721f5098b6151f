/*
 * synthetic_log.h - vault logs for tests of the catalog, made of nothing but a number
 *
 * Entry n of a vault is always the same: a LINEAGE, then rounds of ten entries in which a backup is begun,
 * committed, tried, held, damaged and healed, with ids drawn from (vault, n).
 */
#pragma once
#include "catalog/catalog.h"

#define SYNTHETIC_ROUND 10 // entries of one round; a round holds one COMMIT that counts

struct hf_id synthetic_id(unsigned vault, const char *what, uint64_t n);

/* The parts belong to the entry: synthetic_done() frees them.  Without keys the sealed parts are NULL. */
struct hf_catalog_entry synthetic_entry(unsigned vault, uint64_t n);
void synthetic_done(struct hf_catalog_entry *entry);

/* The same for an entry of a test's own; takes the JSON values over; time is 1000 * n. */
struct hf_catalog_entry synthetic_entry_of(unsigned vault, uint64_t n, const char *kind, json_t *public_part,
                                           json_t *sealed_part);
json_t *synthetic_commit(unsigned vault, const struct hf_id *session, const struct hf_id *backup, uint64_t n);

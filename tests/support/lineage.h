/*
 * lineage.h - a backup of any size without its data: true maps, manifest and log, and packs that are holes
 *
 * Files of 1 GiB as a server makes them, and as many small ones as asked for, in folders of a thousand.  Every data
 * pack is a sparse file of the size that the log says; nothing in it can be opened.  So what only counts, plans and
 * keeps books can be run at 10 TB, and its memory measured.
 */
#pragma once
#include "tests/support/vault.h"

struct lineage_size {
    size_t large_files; // of 1 GiB: 131,072 pages, 32 leaves
    size_t small_files; // of one page
    size_t backups;     // the further ones share everything with the first
};
struct lineage_made {
    uint64_t bytes, pages, leaves, files, data_packs;
    struct hf_id newest;
};
void lineage_make(struct test_vault *vault, const struct lineage_size *size, struct lineage_made *ret);

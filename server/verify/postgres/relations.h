/*
 * relations.h - every table read, every index checked, in every database of the promoted copy
 *
 * Four looks that together see what one alone does not:
 *   - each table is counted by reading all of it (a sequence is asked for its value), and verify_heapam looks at every
 *     tuple, its transactions and TOAST;
 *   - each btree is checked against its table (bt_index_check, heapallindexed): a row without its index entry shows;
 *   - each table with a btree is counted once more through it: an index entry whose row is gone shows, as a
 *     difference or as a read beyond the end of a file that was cut;
 *   - blocks that are all zeros in the files although an index points into them show as such.
 * Databases that forbid connections are opened for the purpose: it is a copy.
 */
#pragma once
#include <stdatomic.h>
#include "server/verify/postgres/query.h"
#include "server/verify/verify.h"

#define HF_DATABASES_MOST   10000
#define HF_ZERO_BLOCKS_MOST 65536

/* A block of a relation's main fork that was all zeros in the backup, though not at the file's end. */
struct hf_zero_block {
    uint32_t database; // oid; 0: shared
    uint32_t file_node;
    uint32_t block;
};

struct hf_relations_options {
    struct hf_query_target target;
    unsigned jobs;                           // connections at once
    const struct hf_zero_block *zero_blocks; // sorted by database
    size_t zero_block_count;
    bool zero_blocks_cut;           // there were more
    const atomic_bool *cancel;      // or NULL
    _Atomic uint64_t *done, *total; // bytes of relations looked at; or NULL
};

/*
 * Settles the checks "environment", "tables_read", "heap", "indexes", "index_to_table" and "zero_blocks" of the
 * report.  False only for what is no verdict: memory, cancelled.
 */
HF_MUST_CHECK bool hf_relations_check(const struct hf_relations_options *options, struct hf_verify_report *report,
                                      struct hf_relations_outcome *ret, struct hf_error *err);

/*
 * multixact.h - whether pg_multixact knows who holds a row that several transactions hold at once
 *
 * Such a row's xmax is the number of a multixact.  Two folders say which transactions it stands for (PostgreSQL 13 to
 * 18, little-endian, pages of 8192 bytes, 32 in a file whose name is its number in hex):
 *
 *     offsets/  u32 a multixact, 2048 a page: the number of its first member.  0 is no member's number
 *     members/  groups of 20 bytes, 409 a page, four members each: 4 bytes of flags, then four u32 transaction ids
 *
 * Both are written ahead like tables: after recovery a row's multixact is there, or pages of it were lost.
 */
#pragma once
#include "server/verify/report.h"

struct hf_multixacts;

/*
 * Of the data directory that `folder` is open on, for multixacts from `oldest` up to `next`; both 0: not known, and
 * then the check cannot tell.  The check is borrowed.
 */
HF_MUST_CHECK bool hf_multixacts_open(int folder, uint32_t oldest, uint32_t next, struct hf_verify_check *check,
                                      struct hf_multixacts **ret, struct hf_error *err);
void hf_multixacts_freep(struct hf_multixacts **multixacts);

/* A row's multixact; where it lies.  What is wrong is told once for each pair of relation file and page. */
void hf_multixacts_check(struct hf_multixacts *multixacts, uint32_t multixact, const char *path, uint32_t block);
void hf_multixacts_settle(struct hf_multixacts *multixacts);

/*
 * pages.h - the pages of a copy, looked at as files: on their way in, and after it was shut down
 */
#pragma once
#include <stdatomic.h>
#include "server/source/postgres/facts.h"
#include "server/verify/postgres/relations.h"
#include "server/verify/report.h"

struct hf_pages_watch; // collects while a restore writes, from any threads

HF_MUST_CHECK bool hf_pages_watch_new(const struct hf_recovery_facts *facts, struct hf_pages_watch **ret,
                                      struct hf_error *err);
void hf_pages_watch_freep(struct hf_pages_watch **watch);
/* A hf_restore_page_check; context is the watch. */
void hf_pages_watch_check(void *context, const char *path, uint64_t file_size, uint64_t first_page,
                          const uint8_t *pages, size_t length);
/* Settles the check: bad pages by name.  Pending ones are for the check after replay. */
void hf_pages_watch_settle(struct hf_pages_watch *watch, struct hf_verify_check *check);
/* Blocks that are zeros, sorted; borrowed from the watch.  *ret_cut: there were more than are kept. */
const struct hf_zero_block *hf_pages_watch_zeros(struct hf_pages_watch *watch, size_t *ret_count, bool *ret_cut);

/*
 * Every relation below `data` once more, when no server has it open; settles four checks.
 *
 * `pages`: no page may fail now, replay has mended what was being written during the backup.
 *
 * `blocks`: a block of which the visibility map says that all its rows are visible is there and not all zeros, says so
 * itself, and holds no row that a committed transaction deleted.
 *
 * `commit_log` (pg_xact, two bits a transaction), for the transactions from oldest_xid up to next_xid: a row
 * whose hint bits say that its transaction committed while the log does not is proof that the log is not the
 * one this row was written under; a page that is not there was lost.  A page that says nothing of any of its
 * transactions (32 at least), with no row to tell, leaves the check undetermined.
 *
 * `multixacts`: what several transactions hold of a row at once is found in pg_multixact (multixact.h).
 */
struct hf_offline_options {
    const char *data;
    const struct hf_recovery_facts *facts;
    uint32_t oldest_xid, next_xid;     // 0, 0: not known, then the commit log cannot be judged.  Older rows are frozen,
                                       // and their part of the log may be gone
    uint32_t oldest_multi, next_multi; // likewise
    const atomic_bool *cancel;         // or NULL
};
struct hf_offline_checks {
    struct hf_verify_check *pages, *blocks, *commit_log, *multixacts;
};
HF_MUST_CHECK bool hf_pages_check_offline(const struct hf_offline_options *options,
                                          const struct hf_offline_checks *checks, struct hf_error *err);

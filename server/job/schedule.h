/*
 * schedule.h - when something is due by itself
 *
 * A source's backup_every, verify_every and retention_every are intervals, and so are the appliance's own (scrub.every,
 * catalog_check_every: rows with the source "").  When each is due next stands in the catalog (a local table), so that
 * it survives a restart; what was missed while no daemon ran is due at once, and once only: two missed backups are one
 * backup.  There is no jitter: the same catalog and clock give the same times.
 *
 *   first seen, the source has no backup or no attempt   due now
 *   first seen otherwise, or the interval was changed    one interval after the newest one began
 *   due and started                                      the first multiple of the interval after now
 *   interval off, or source removed                      forgotten
 */
#pragma once
#include "catalog/catalog.h"

/* The first of due + k * every (k >= 1) that lies after now. */
int64_t hf_schedule_after(int64_t due, int64_t every_ms, int64_t now);

struct hf_schedule_entry {
    const char *source, *kind; // "backup", "verify", "retention apply"; "catalog check"
    int64_t every_ms;          // 0: off
    int64_t newest_at;         // when the newest one of the kind began, -1 when there was none
};

/* Starts a job; false when it could not be queued: it stays due. */
typedef bool hf_schedule_start(void *context, const char *source, const char *kind, struct hf_error *err);

/*
 * Looks at one entry: brings its row up to date and calls `start` when it is due.  *next_at is lowered to when
 * it is due next.  Errors: those of the catalog and of `start`.
 */
HF_MUST_CHECK bool hf_schedule_look(struct hf_catalog *catalog, const struct hf_schedule_entry *entry, int64_t now,
                                    hf_schedule_start *start, void *context, int64_t *next_at, struct hf_error *err);

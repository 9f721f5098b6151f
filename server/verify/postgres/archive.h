/*
 * archive.h - the log that was archived behind a backup, replayed by its copy
 *
 *     begin -> prove -> place the first piece -> (the copy starts) -> piece by piece, as it replays -> the end, exactly
 *           -> follow what comes in, until the copy stands where the source stood -> (it is promoted)
 *
 * What the archive holds when the attempt begins is proven record by record before the copy starts, and lies in its
 * pg_wal a window at a time.  The copy is a standby without upstream: it reads pg_wal, asks nobody and reaches nothing.
 *
 * Check "archive", examined: the commits behind the backup's own log.
 *   passed            the copy stands exactly where the archive ended when the attempt began
 *   failed            stored log is damaged or missing with no gap recorded (the store is to blame), or the copy
 *                     stopped before the end or went beyond it
 *   not_determinable  the archive does not reach the backup's end, though it was waited for; a recorded gap bounds what
 *                     can be replayed; the backup lies on a branch that the archive has left.  What there is was
 *                     replayed
 *
 * Check "caught_up": the source is asked for its position once the archive is replayed, and the copy gets what the
 * receiver brings from then on.  Passed when it has replayed up to there in time; else not_determinable, since what is
 * late is the way here and not the backup, or failed, when the copy ended or stopped amid log that it was given.
 *
 * Both are required of a backup whose source has a stream, and of no other: then they say so.
 */
#pragma once
#include "server/source/postgres/replay.h"
#include "server/verify/engine.h"
#include "server/verify/postgres/query.h"

struct hf_copy_log;

/* The archive as it is now.  *ret is NULL when there is none; the checks say so then. */
HF_MUST_CHECK bool hf_copy_log_begin(struct hf_attempt *attempt, const struct hf_recovery_facts *facts,
                                     struct hf_copy_log **ret, struct hf_error *err);
void hf_copy_log_freep(struct hf_copy_log **log);

/* Bytes of scratch that replaying needs besides the copy of `bytes`. */
uint64_t hf_copy_log_room(const struct hf_copy_log *log, uint64_t bytes);

/* Proves the log and places its first piece, before the folder is given away. */
HF_MUST_CHECK bool hf_copy_log_place(struct hf_copy_log *log, struct hf_error *err);
/* Which timeline the copy follows, for its settings: a number, or NULL for the newest it finds. */
const char *hf_copy_log_timeline(const struct hf_copy_log *log);
/* Where the backup's own log ends, on that timeline's path. */
uint64_t hf_copy_log_own_end(const struct hf_copy_log *log);

/* Settle "archive" and "caught_up".  The attempt is over when the copy does not go on. */
HF_MUST_CHECK bool hf_copy_log_replay(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_error *err);
HF_MUST_CHECK bool hf_copy_log_follow(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_error *err);

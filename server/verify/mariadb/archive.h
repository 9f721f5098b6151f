/*
 * archive.h - the binary log that was archived behind a backup, replayed by its copy's own applier
 *
 *     begin -> place: proven, laid into the folder as a relay log -> (the copy starts) -> replay, to the GTID exactly
 *           -> follow: one more piece, up to where the source stood -> the copy is started again, without it
 *
 * What the archive holds when the attempt begins is read and checked event by event before the copy starts.  Each piece
 * is laid down while no server runs on the folder, so nothing is ever written beside a hostile server.  Accounts come
 * into force for the replay (apply.h), so the copy that is checked afterwards is a server started anew.
 *
 * Check "archive", examined: the transactions behind the backup.
 *   passed            the copy has exactly the GTIDs of the archive as it was when the attempt began
 *   failed            stored log is damaged or missing with no gap recorded (the store is to blame), or the copy could
 *                     not apply it, or came to other GTIDs
 *   not_determinable  the archive does not reach the backup's end, though it was waited for; a recorded gap bounds what
 *                     can be replayed; the backup does not lie on the way to the newest timeline.  What there is was
 *                     replayed
 *
 * Check "caught_up": the source is asked for the GTIDs of its log once the archive is replayed.  Passed when the copy
 * has them in time; else not_determinable, since what is late is the way here and not the backup, or failed, when the
 * copy could not apply what came.
 *
 * Both are required of a backup whose source has a stream, and of no other: then they say so.
 */
#pragma once
#include "server/source/mariadb/gtid.h"
#include "server/verify/engine.h"
#include "server/verify/mariadb/query.h"

struct hf_binlog_copy;

/* The archive as it is now.  *ret is NULL when there is none; the checks say so then. */
HF_MUST_CHECK bool hf_binlog_copy_begin(struct hf_attempt *attempt, const json_t *facts, struct hf_binlog_copy **ret,
                                        struct hf_error *err);
void hf_binlog_copy_freep(struct hf_binlog_copy **copy);

/* Bytes of scratch that replaying needs besides the copy of `bytes`. */
uint64_t hf_binlog_copy_room(struct hf_binlog_copy *copy, uint64_t bytes);

/* Proves the log and lays it into the folder, which is ours. */
HF_MUST_CHECK bool hf_binlog_copy_place(struct hf_binlog_copy *copy, struct hf_error *err);
/* Whether the folder has a relay log: the server that is started next must be told so. */
bool hf_binlog_copy_is_placed(const struct hf_binlog_copy *copy);

/* Settles "archive", unless place() has.  The attempt is over when the copy does not go on. */
HF_MUST_CHECK bool hf_binlog_copy_replay(struct hf_binlog_copy *copy, struct hf_asker_conn *conn, struct hf_error *err);
/*
 * Asks the source, and waits for the archive to have that.  *ret_more: that is to be laid down with
 * hf_binlog_copy_place_more(), while no server runs, and replayed with hf_binlog_copy_replay_more().
 */
HF_MUST_CHECK bool hf_binlog_copy_sample(struct hf_binlog_copy *copy, bool *ret_more, struct hf_error *err);
HF_MUST_CHECK bool hf_binlog_copy_place_more(struct hf_binlog_copy *copy, struct hf_error *err);
HF_MUST_CHECK bool hf_binlog_copy_replay_more(struct hf_binlog_copy *copy, struct hf_asker_conn *conn,
                                              struct hf_error *err);

/*
 * session_partial.h - what a session that was cut off leaves to the next one
 *
 * Suspended or killed: one that is killed cannot leave anything, so a session notes what is there each time it has
 * stored another 256 MiB, and an eighth of all it has stored, in the same two files.  For a note the packs are closed
 * and synced; of open files it has the leaves that are finished.  What was stored behind the last note is stored again.
 * A note is the session's own until it ends: COMMIT and ABORT remove it.
 *
 * A source that goes away in the middle has cost hours; what is stored by then need not be stored again.  A suspended
 * session stays open in the log, which keeps its packs from collection, and leaves two files in the cache folder:
 *
 *   <vault>.partial        a tag cache (tag_cache.h) of the files so far, unfinished ones up to where they got, under
 *                          the id that the backup would have had
 *   <vault>.partial.json   canonical JSON, an object, written when all else is durable:
 *                            version  1
 *                            session, backup  ids
 *                            parent   what it was compared with, or null: what it kept of that lies in that backup's
 *                                     packs
 *                            bytes    how far it got
 *                            packs    [[id, kind, bytes, sha256], ...] as in COMMIT: its own, and those it had adopted
 *                            seal     hex of H(digest key; "holdfast partial" || the text without this member)
 *                          Ids and hashes stand open in the log too, so it is not encrypted; it is sealed, since
 *                          COMMIT will sign what it says.
 *
 *   INTENT ─ suspend ─▶ INTENT of the next one (builds_on) ─▶ its COMMIT (packs that it uses) ─▶ END of the first
 *                  └──▶ a file is damaged or a pack is missing ─▶ ABORT
 */
#pragma once
#include "server/repository/session_internal.h"

/*
 * Opens session->partial when a suspended session of this appliance left one that is whole, and was compared with the
 * parent we have (opened before).  What is of no use is removed: only a lack of memory is an error.
 */
HF_MUST_CHECK bool session_open_partial(struct hf_session *session, const struct hf_vault_state *state,
                                        struct hf_error *err);
/*
 * We hold the vault's lock: whatever this appliance left open belongs to nobody alive.  It gets END when a later backup
 * was built on it, stays open when this session builds on it, and gets ABORT otherwise.
 */
HF_MUST_CHECK bool session_end_leftovers(struct hf_session *session, const struct hf_vault_state *state,
                                         struct hf_error *err);
/* After hf_session_flush().  False: nothing was left behind, abort. */
HF_MUST_CHECK bool session_leave_partial(struct hf_session *session, struct hf_error *err);
/*
 * In the assembler, between two spans: notes what is there, when enough has been stored since the last note.  What keeps it
 * from being noted costs the notes and not the backup.
 */
void session_note_partial(struct hf_session *session);
/* The session ends, and its packs with it or by its COMMIT: its own note goes. */
void session_forget_note(struct hf_session *session);
/* Before our COMMIT: of the packs that were left, session->adopted keeps those that this backup uses. */
void session_keep_used_packs(struct hf_session *session);
/* After our COMMIT: what we were built on has served.  What cannot be done the next session does. */
void session_end_partial(struct hf_session *session);

/*
 * binlog_archive.h - the binary log as the archive has it: transactions in a row, found by GTID
 *
 * server/stream/ keeps bytes by (timeline, position).  Here a position counts bytes of events, from the first one that
 * was ever archived: names of files and a server's own positions come again after a failover, a reset or a rebuilt
 * server.  What is stored:
 *   - every event of every transaction, as the server sent it; a transaction enters whole, unless it has more than 1
 *     MiB;
 *   - before the first transaction of each file of the server, its format description, real ROTATE and STOP, lists of
 *     GTIDs and checkpoints as far as they came;
 *   - no heartbeat, no artificial event.
 * Behind a gap the count goes on at the next multiple of 1 MiB, since nobody knows how long the missing part was; there
 * the archive begins with a format description again.  Where history has parted (a reset server, a transaction that was
 * cut off and never came again) a new timeline begins, with a history file as PostgreSQL's (timeline.h).
 *
 * A mark (server/stream/journal.h) of this engine is a JSON object:
 *   flavor       "mariadb" or "mysql"
 *   gtids        what was logged before this position, as servers write it; "" for a log without GTIDs
 *   format       position of the format description that holds here, as base/lsn.h has it; null: it comes next
 *   file, file_position   the server's name for this position, at the server with server_id
 *   server_id    of the server it came from
 */
#pragma once
#include "server/source/mariadb/event.h"
#include "server/stream/archive.h"

#define HF_BINLOG_NO_FORMAT  UINT64_MAX
#define HF_BINLOG_AFTER_GAP  HF_MIB // the count goes on at the next multiple
#define HF_BINLOG_PLACE_TEXT (HF_JOURNAL_MARK_MOST)

/* A place in the archive, between two transactions.  Owner of the set: whoever has the place. */
struct hf_binlog_place {
    uint64_t position;
    enum hf_gtid_flavor flavor;
    struct hf_gtid_set gtids;
    uint64_t format; // or HF_BINLOG_NO_FORMAT
    char file[HF_BINLOG_NAME_BYTES];
    uint64_t file_position;
    uint32_t server_id;
};

void hf_binlog_place_done(struct hf_binlog_place *place);
HF_MUST_CHECK bool hf_binlog_place_copy(const struct hf_binlog_place *from, struct hf_binlog_place *ret,
                                        struct hf_error *err);
HF_MUST_CHECK bool hf_binlog_place_format(const struct hf_binlog_place *place, struct hf_buf *out,
                                          struct hf_error *err);
HF_MUST_CHECK bool hf_binlog_place_parse(uint64_t position, const char *text, struct hf_binlog_place *ret,
                                         struct hf_error *err);
/* Follows one event that was archived: the server's position always, the rest when a transaction has ended. */
HF_MUST_CHECK bool hf_binlog_place_follow(struct hf_binlog_place *place, const struct hf_binlog_walk *walk,
                                          const struct hf_binlog_step *step, uint64_t end, struct hf_error *err);

/* One archived event. */
struct hf_binlog_record {
    uint64_t position;
    const uint8_t *data;
    size_t length;
    const struct hf_binlog_step *step;
    const struct hf_binlog_walk *walk;
    const struct hf_binlog_place *before; // the last place between transactions
};
/* Borrowed for the call.  *ret_go_on false ends the scan. */
typedef bool hf_binlog_visitor(void *context, const struct hf_binlog_record *record, bool *ret_go_on,
                               struct hf_error *err);

/*
 * Hands over every event from `from` up to `to`, which lies between two events; `from` moves to the last place between
 * transactions.  Errors: those of hf_stream_read; CORRUPT for bytes that are no events.
 */
HF_MUST_CHECK bool hf_binlog_scan(struct hf_archive *archive, const struct hf_timeline_path *path,
                                  struct hf_binlog_place *from, uint64_t to, hf_binlog_visitor *visit, void *context,
                                  struct hf_error *err);

/* Adds the bytes of the format description that holds at a place; *ret_at: its position. */
HF_MUST_CHECK bool hf_binlog_format_at(struct hf_archive *archive, const struct hf_timeline_path *path,
                                       const struct hf_binlog_place *place, struct hf_buf *out, uint64_t *ret_at,
                                       struct hf_error *err);

/* The end of the last whole transaction at or before `whole`, found from the nearest mark.  *ret_found false: none. */
HF_MUST_CHECK bool hf_binlog_find_end(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t whole,
                                      bool *ret_found, struct hf_binlog_place *ret, struct hf_error *err);
/*
 * Where reading begins for a copy that has `start`: the newest marked place at which nothing was logged that it does
 * not have; and the window that lies in, and the next one (end 0: there is none).
 *
 * After a reset the same numbers come again, so `start` can have been reached in several windows.  Then the newest
 * counts in which that was at or before known_at_ms (when the copy was known to have it, by the server's clock; 0: not
 * known).
 *
 * NOT_FOUND: the archive begins behind `start`, or ends before it, and says where; CONFLICT: several windows could be
 * meant.
 */
HF_MUST_CHECK bool hf_binlog_find_start(struct hf_archive *archive, const struct hf_timeline_path *path,
                                        const struct hf_gtid_set *start, int64_t known_at_ms,
                                        struct hf_binlog_place *ret, struct hf_window *ret_window,
                                        struct hf_window *ret_next, struct hf_error *err);

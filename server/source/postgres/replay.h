/*
 * replay.h - a restored PostgreSQL folder brought to a moment behind its backup, with the archive's log
 *
 * First the proof: every byte from the backup's start to the place where a recovery to the target stops is read from
 * the archive and walked over record by record (wal_format.h), before anybody touches the folder.  Then, in the folder:
 *
 *     pg_wal/<segment>            the log as the server names it; the last one is filled with zeros
 *     pg_wal/<timeline>.history   for every step of the path that is not the first
 *     postgresql.auto.conf        the target and no other, archive_mode = off, restore_command = 'exit 1': the server
 *                                 demands one, and takes this answer for "look into pg_wal"
 *     recovery.signal             without it a server would replay whatever log lies there, behind the target too: so
 *                                 all of this is written while the folder has no global/pg_control
 *                                 (hf_restore_options.finish)
 *
 * A segment in which a timeline begins has the bytes of the one before up to that place, as the server makes it.
 */
#pragma once
#include "server/source/postgres/facts.h"
#include "server/source/postgres/wal_format.h"
#include "server/stream/archive.h"

struct hf_replay_options {
    struct hf_archive *archive;            // borrowed
    const struct hf_recovery_facts *facts; // of the backup; borrowed
    struct hf_wal_target target;
    uint32_t timeline;   // 0: the archive's newest
    uint64_t search_end; // the target is not sought from here on; 0: up to the archive's end
    const char *action;  // at the target: promote, pause or shutdown; borrowed
    bool owner;          // what is written goes to uid and gid
    uid_t uid;
    gid_t gid;
    bool shared;               // for a feed whose folder will be another uid's, to whom we cannot give files: see there
    bool up_to_gap;            // of all the log: what lies before a gap is taken, instead of refusing
    const atomic_bool *cancel; // or NULL
};

struct hf_replay;

/* What the proof has found. */
struct hf_replay_facts {
    uint32_t timeline;
    uint64_t own_end;       // where the log that lies in the backup ends, on this timeline's path
    uint64_t from, to;      // read and found whole; a recovery needs nothing behind `to`
    int64_t last_commit_at; // the newest commit that the folder will have, as far as this log tells; 0: none in it
    bool to_the_end;        // it stops where the log does: there is nothing behind the target
    uint64_t end;     // where a server stands that has replayed all of it: behind `to` when that cuts off a void rest
    uint64_t commits; // that were found behind the backup's own log
    uint64_t gap_from, gap_to; // up_to_gap: why it ends there; 0: no gap
    bool gap_recorded;         // the vault log says that what lies between is missing for good
};

/*
 * Errors: NOT_FOUND when the target is beyond the archive, or not in it, with the nearest moments in the hint; CORRUPT
 * for a gap or damaged log on the way, named; CONFLICT when the backup is not on the timeline's path; USAGE when the
 * target lies before the backup's end.
 */
HF_MUST_CHECK bool hf_replay_prove(const struct hf_replay_options *options, struct hf_replay **ret,
                                   struct hf_error *err);
void hf_replay_freep(struct hf_replay **replay);
struct hf_replay_facts hf_replay_proven(const struct hf_replay *replay);

/* A part of the archive that is not there, and in which a backup's own log ends. */
struct hf_replay_hole {
    uint64_t from, to; // from 0: the archive begins at `to`, behind the backup
    bool recorded;     // as above; of an archive that begins there always
};
/*
 * Whether the log behind a backup can be replayed at all: *ret_found, with the hole, when its own log ends in one. 
 * Errors: those of the path.
 */
HF_MUST_CHECK bool hf_replay_find_hole(const struct hf_replay_options *options, bool *ret_found,
                                       struct hf_replay_hole *ret, struct hf_error *err);

/*
 * What has come into the archive since counts too, up to its last whole record, also on a newer timeline: for a server
 * that follows.  This part is not walked over; the receiver did it, and the server does.  *ret_end: where it ends now.
 * CONFLICT: the newest timeline has left the path before `at`, which the server has replayed.
 */
HF_MUST_CHECK bool hf_replay_follow(struct hf_replay *replay, uint64_t at, uint64_t *ret_end, struct hf_error *err);

/* Writes all of it into the restored folder, durable on return.  The options must live until then. */
HF_MUST_CHECK bool hf_replay_write(struct hf_replay *replay, const char *folder, uint64_t *ret_log_bytes,
                                   struct hf_error *err);

/*
 * The same log for a server that runs on the folder as a standby (or is about to): in pieces, so that little of it lies
 * there at a time.  Segments and history files are written and nothing else, and no segment is synced: the folder
 * will be thrown away.  `shared`: pg_wal and what is written there can then be read and written by everybody who gets
 * that far, so the folder above must keep all others out.  The server may be hostile: no link in pg_wal is followed,
 * and pg_wal is the one that was there at first.
 */
struct hf_replay_feed;

/* The replay is borrowed. */
HF_MUST_CHECK bool hf_replay_feed_open(struct hf_replay *replay, const char *folder, struct hf_replay_feed **ret,
                                       struct hf_error *err);
void hf_replay_feed_freep(struct hf_replay_feed **feed);
/* Goes on up to `until`, or to the end.  *ret_fed: all below it lies in the folder. */
HF_MUST_CHECK bool hf_replay_feed(struct hf_replay_feed *feed, uint64_t until, uint64_t *ret_fed, struct hf_error *err);

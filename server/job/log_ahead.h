/*
 * log_ahead.h - the archive of a source's log for servers in recovery, read ahead of them
 *
 * A server in recovery asks for one segment after the other and waits for each.  So what comes behind the one it got is
 * decoded while it replays: by a thread of ours, into the folder .holdfast-prefetch beside the wanted file, from where
 * the next request takes it with a rename.  Only files that this process has put there are ever handed out: what an
 * earlier one left may not have reached the disk before a power cut, and half a segment reads as the end of the log.
 *
 * Nothing is synced: a server asks again for what it lost in a crash, and syncs itself what it keeps of the log.
 *
 * The end of the archive, a history file and an error are only told from the archive as it is now; a whole segment may
 * come from what was known of it before, for log does not change.
 */
#pragma once
#include "server/source/postgres/archive_file.h"

#define HF_LOG_AHEAD_SEGMENTS_MOST 64                       // fetched in advance for one place
#define HF_LOG_AHEAD_BYTES_MOST    (512 * (uint64_t)HF_MIB) // likewise
#define HF_LOG_AHEAD_PLACES_MOST   4                        // servers that are fed at once; for more nothing is fetched
#define HF_LOG_AHEAD_ROOM_LEFT     (256 * (uint64_t)HF_MIB) // nothing is fetched in advance into the last of a disk

struct hf_log_ahead;

/* The vault is borrowed, and used by nobody else meanwhile. */
HF_MUST_CHECK bool hf_log_ahead_start(struct hf_vault *vault, struct hf_log_ahead **ret, struct hf_error *err);

struct hf_log_wish {
    const char *file, *to; // the file's name; the absolute path where it is wanted
    int64_t asker;         // user id
    int64_t segments;      // to be fetched in advance
};
/* Errors and the answer are those of archive_file.h and log_place.h. */
HF_MUST_CHECK bool hf_log_ahead_get(struct hf_log_ahead *ahead, const struct hf_log_wish *wish,
                                    enum hf_archive_answer *ret, struct hf_error *err);

/* Ends the thread, and removes what was fetched and not taken.  NULL is fine. */
void hf_log_ahead_stopp(struct hf_log_ahead **ahead);

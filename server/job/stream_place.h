/*
 * stream_place.h - where in its source's stream a backup stands, as the vault log tells it
 *
 * PostgreSQL: the LSN at which the backup starts is the position.  MariaDB, whose backups know only what was committed in
 * them: the newest mark (server/stream/journal.h) that has nothing which the backup lacks, among those that were stored
 * before the backup began: numbers come again when a log is reset, and what was there before a backup cannot have come
 * again.  The events that follow are read by the format description that the mark names, which may lie far before it.
 */
#pragma once
#include "server/repository/repository.h"

struct hf_stream_place {
    uint64_t position; // from which the stream is followed; 0: not known
    uint64_t needs;    // another position that must stay with it; HF_RETENTION_NO_NEED
};

/* What does not read leaves it not known, or behind an older mark: then more stays. */
void hf_stream_place_find(const struct hf_vault_state *state, const struct hf_vault_backup *backup,
                          struct hf_stream_place *ret);

/*
 * label.h - backup_label, the few lines that tell a server where to begin recovery
 *
 *     START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
 *     CHECKPOINT LOCATION: 0/2000060
 *     BACKUP METHOD: streamed
 *     BACKUP FROM: primary
 *     START TIME: 2026-11-22 14:03:07 UTC
 *     LABEL: nightly
 *     START TIMELINE: 1
 *
 * An incremental backup has a line INCREMENTAL FROM LSN: no server starts from it, so it is refused here.
 */
#pragma once
#include <stdint.h>
#include "base/error.h"

struct hf_postgres_label {
    uint64_t start_lsn, checkpoint_lsn;
    uint32_t timeline;
    bool from_standby;
};

/* Errors: CORRUPT naming the line that is missing or wrong. */
HF_MUST_CHECK bool hf_postgres_label_parse(const char *text, struct hf_postgres_label *ret, struct hf_error *err);

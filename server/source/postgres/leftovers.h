/*
 * leftovers.h - replication slots of ours that are still on a source
 *
 * A temporary slot of a backup is gone with its connection.  What can stay is a stream's permanent slot
 * after the stream was given up, and such a slot keeps log until the source's disk is full.  Ours are
 * those named holdfast_<tag>_...; another appliance has another tag, and its slots are never touched.
 */
#pragma once
#include "server/source/source.h"

#define HF_LEFTOVERS_MOST 64

struct hf_leftover {
    char name[64];
    bool ours;   // has our tag; else another appliance's
    bool active; // someone streams from it now
    bool temporary;
    int64_t kept_bytes; // of log, because of it; -1 when not known
    bool dropped;       // by this call
};

struct hf_leftovers {
    struct hf_leftover items[HF_LEFTOVERS_MOST];
    size_t count;
    size_t ours; // of these, ours and still there
};

/*
 * Lists all slots named holdfast_..., and with `drop` drops those of ours that nobody uses.
 * Errors: those of hf_postgres_connect; DENIED when a slot of ours could not be dropped.
 */
HF_MUST_CHECK bool hf_postgres_leftovers(const struct hf_source_target *target, bool drop, struct hf_leftovers *ret,
                                         struct hf_error *err);

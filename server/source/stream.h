/*
 * stream.h - receiving what a database writes, as it writes it: what an engine is asked for, and what it tells
 *
 * An engine knows how its log is fetched and checked; server/stream/ keeps it.  What an engine does is told where it
 * does it (postgres/stream_receive.h).
 */
#pragma once
#include "server/source/source.h"
#include "server/stream/writer.h"

#define HF_STREAM_SLOT_BYTES 64

#define HF_STREAM_POSITION_BYTES 512 // of an engine's words for a position, with the NUL; longer ones are cut

/* Whether the server's commits wait for us (MariaDB, MySQL). */
enum hf_semi_sync { HF_SEMI_SYNC_UNKNOWN, HF_SEMI_SYNC_OFF, HF_SEMI_SYNC_ON, HF_SEMI_SYNC_LOST };

/* As it is now; positions are just behind the last byte, 0 while not known. */
struct hf_stream_report {
    struct hf_stream_positions positions;
    uint64_t server_end;
    int64_t caught_up_at; // last moment at which all that the server had was durable here; 0: not yet
    uint32_t server_timeline;
    bool from_standby;
    bool clock_known; // the next one was measured, within the last minute or two
    int64_t server_clock_ahead_ms;
    /* Of an engine that knows places by other names than positions: its words for them; NULL: positions say it all. */
    const char *received_text, *durable_text, *server_text;
    enum hf_semi_sync semi_sync;
    int64_t semi_sync_lost_at; // since when; 0: it is not lost
};

#define HF_STREAM_WHY_BYTES 256

/* The server keeps more for us than its owner allows: what is behind is given up. */
struct hf_stream_let_go {
    atomic_bool asked;             // set by anybody, after `why`; taken back by the engine when it is done
    char why[HF_STREAM_WHY_BYTES]; // the cause of the gap
};

/* Everything is borrowed. */
struct hf_stream_receive {
    const struct hf_source_target *target; // with identity and stream_slot
    struct hf_stream_writer *writer;
    const atomic_bool *cancel;
    struct hf_stream_let_go *let_go; // or NULL
    const char *released;            // why there is no slot any more, when we know; or NULL, or empty
    void *context;
    void (*report)(void *context, const struct hf_stream_report *report); // about once a second, and on events
    /* Something a person should know: a gap, a timeline, a slot that had to be made anew.  `gap`: log is missing. */
    void (*tell)(void *context, bool gap, const char *sentence);
};

/* The slot's usual name: holdfast_<slot tag>_stream. */
const char *hf_stream_slot_name(const char *slot_tag, char name[static HF_STREAM_SLOT_BYTES]);
/* USAGE when it is not [a-z0-9_]{1,63}. */
HF_MUST_CHECK bool hf_stream_check_slot(const char *slot, struct hf_error *err);

#include "server/stream/seal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/time.h"

#define LOOK_BACK 256 // stretches in which a journal's bytes can be that were sealed before a crash

/* One journal on its way into packs. */
struct sealing {
    struct stream_sealer *sealer;
    const struct hf_vault_state *state;
    struct hf_stretch_writer *stretch;
    struct hf_stretch_options options; // of the open stretch
    struct hf_frame mark;              // the last one, for the next stretch; kind 0: none
    struct hf_buf mark_text;
    uint8_t previous[HF_SHA256_BYTES];
};

static bool take_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length,
                       struct hf_error *err);
static bool keep_mark(struct sealing *sealing, const struct hf_frame *frame, const uint8_t *data, size_t length,
                      struct hf_error *err);
static bool is_sealed(const struct hf_vault_state *state, const struct hf_frame *frame, size_t length);
static bool open_stretch(struct sealing *sealing, struct hf_error *err);
static bool close_stretch(struct sealing *sealing, struct hf_error *err);
static void find_previous(const struct hf_vault_state *state, uint8_t previous[static HF_SHA256_BYTES]);
static bool begin_session(struct stream_sealer *sealer, const struct hf_vault_state *state, struct hf_error *err);
static bool commit(struct sealing *sealing, const struct hf_id *pack, const struct hf_stretch *stretch,
                   struct hf_error *err);
static json_t *commit_public(const struct stream_sealer *sealer, const struct hf_id *stretch, const struct hf_id *pack,
                             const struct hf_stretch *sealed);
static json_t *commit_sealed(const struct stream_sealer *sealer, const struct hf_stretch *stretch);
static bool write_end(struct stream_sealer *sealer, const struct hf_id *session, struct hf_error *err);
static bool append(struct stream_sealer *sealer, enum hf_log_kind kind, const json_t *public_part,
                   const json_t *sealed_part, struct hf_error *err);

bool
sealer_init(struct stream_sealer *sealer, const struct hf_stream_options *options, struct hf_error *err)
{
    *sealer = (struct stream_sealer){
        .vault = options->vault, .source = options->source, .signing = options->signing, .session = hf_id_new()};
    return hf_slab_worker_new(options->zstd_level > 0 ? options->zstd_level : 1, &sealer->worker, err);
}

void
sealer_done(struct stream_sealer *sealer)
{
    hf_slab_worker_freep(&sealer->worker);
}

bool
sealer_journal(struct stream_sealer *sealer, const char *path, struct hf_error *err)
{
    struct sealing sealing = {.sealer = sealer, .mark_text = HF_BUF_INIT(HF_JOURNAL_MARK_MOST)};
    struct hf_journal_ending ending;
    if (!hf_vault_read(sealer->vault, NULL, NULL, &sealing.state, err))
        return false;
    find_previous(sealing.state, sealing.previous);
    const bool ok = hf_journal_read(path, hf_vault_keys(sealer->vault), take_frame, &sealing, &ending, err) &&
                    close_stretch(&sealing, err);
    hf_stretch_writer_abortp(&sealing.stretch);
    hf_buf_done(&sealing.mark_text);
    if (!ok)
        return hf_fail_within(err, "could not seal a part of the stream");
    if (ending.damaged > 0)
        hf_log_warning(NULL, "journal \"%s\" had lost %u frames from frame %u on; they are asked for again", path,
                       ending.damaged, ending.first_damaged);
    if (unlink(path) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove journal \"%s\"", path);
    return true;
}

bool
sealer_gap(struct stream_sealer *sealer, const struct hf_vault_gap *gap, const char *cause, struct hf_error *err)
{
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *public_part = json_object();
    _cleanup_(hf_json_freep) json_t *sealed_part =
        json_pack("{s:I, s:s, s:I, s:s, s:s}", "from_timeline", (json_int_t)gap->from_timeline, "from",
                  hf_lsn_format(gap->from, from), "timeline", (json_int_t)gap->timeline, "to",
                  hf_lsn_format(gap->to, to), "cause", cause);
    if (public_part == NULL || sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return append(sealer, HF_LOG_GAP, public_part, sealed_part, err) ||
           hf_fail_within(err, "could not record a gap from %s to %s", from, to);
}

bool
sealer_end(struct stream_sealer *sealer, struct hf_error *err)
{
    return !sealer->begun || write_end(sealer, &sealer->session, err);
}

static bool
take_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct sealing *sealing = context;
    if (frame->kind == HF_FRAME_MARK && !keep_mark(sealing, frame, data, length, err))
        return false;
    if (is_sealed(sealing->state, frame, length) || (frame->kind == HF_FRAME_MARK && sealing->stretch == NULL))
        return true;
    if (sealing->stretch != NULL && !hf_stretch_writer_takes(sealing->stretch, frame, length) &&
        !close_stretch(sealing, err))
        return false;
    return (sealing->stretch != NULL || open_stretch(sealing, err)) &&
           hf_stretch_writer_add(sealing->stretch, frame, data, length, err);
}

/* A crash between COMMIT and removal, or a power cut that brought the file back: nothing is committed twice. */
static bool
is_sealed(const struct hf_vault_state *state, const struct hf_frame *frame, size_t length)
{
    const size_t first = state->stretch_count > LOOK_BACK ? state->stretch_count - LOOK_BACK : 0;
    for (size_t i = state->stretch_count; i-- > first;) {
        const struct hf_vault_stretch *stretch = &state->stretches[i];
        if (frame->kind == HF_FRAME_LOG && stretch->timeline == frame->timeline && stretch->start <= frame->position &&
            frame->position + length <= stretch->end)
            return true;
        for (size_t history = 0; frame->kind == HF_FRAME_HISTORY && history < stretch->history_count; history++)
            if (stretch->histories[history] == frame->timeline)
                return true;
    }
    return false;
}

static bool
open_stretch(struct sealing *sealing, struct hf_error *err)
{
    struct stream_sealer *sealer = sealing->sealer;
    if (!begin_session(sealer, sealing->state, err))
        return false;
    sealing->options = (struct hf_stretch_options){.vault = sealer->vault,
                                                   .worker = sealer->worker,
                                                   .session = sealer->session,
                                                   .pack = hf_id_new(),
                                                   .epoch = sealing->state->epoch,
                                                   .previous = sealing->previous};
    if (!hf_stretch_writer_new(&sealing->options, &sealing->stretch, err))
        return false;
    return sealing->mark.kind == 0 || hf_stretch_writer_add(sealing->stretch, &sealing->mark, sealing->mark_text.data,
                                                            sealing->mark_text.length, err);
}

static bool
keep_mark(struct sealing *sealing, const struct hf_frame *frame, const uint8_t *data, size_t length,
          struct hf_error *err)
{
    sealing->mark = *frame;
    hf_buf_clear(&sealing->mark_text);
    return hf_buf_add(&sealing->mark_text, data, length, err);
}

/* Pack, its name, COMMIT: in that order (promise 2). */
static bool
close_stretch(struct sealing *sealing, struct hf_error *err)
{
    _cleanup_(hf_stretch_done) struct hf_stretch stretch = {0};
    if (sealing->stretch == NULL)
        return true;
    if (!hf_stretch_writer_finish(&sealing->stretch, &stretch, err) ||
        !hf_backend_barrier(hf_vault_backend(sealing->sealer->vault), err) ||
        !commit(sealing, &sealing->options.pack, &stretch, err))
        return false;
    memcpy(sealing->previous, stretch.sha256, sizeof sealing->previous);
    return true;
}

static void
find_previous(const struct hf_vault_state *state, uint8_t previous[static HF_SHA256_BYTES])
{
    memset(previous, 0, HF_SHA256_BYTES);
    if (state->stretch_count > 0)
        memcpy(previous, state->stretches[state->stretch_count - 1].sha256, HF_SHA256_BYTES);
}

/* What earlier receivers of ours left open will bring nothing any more: the lock is ours. */
static bool
begin_session(struct stream_sealer *sealer, const struct hf_vault_state *state, struct hf_error *err)
{
    if (sealer->begun)
        return true;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct hf_vault_session left = state->sessions[i]; // the list may move when the log is read
        if (left.is_stream && left.state == HF_SESSION_OPEN &&
            hf_id_equal(&left.appliance, &sealer->signing->appliance) && !write_end(sealer, &left.session, err))
            return false;
    }
    _cleanup_(hf_json_freep) json_t *entry =
        json_pack("{s:o, s:[], s:n, s:s}", "session", hf_json_id_text(&sealer->session), "parents", "builds_on",
                  "operation", "stream");
    if (entry == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    if (!append(sealer, HF_LOG_INTENT, entry, NULL, err))
        return false;
    sealer->begun = true;
    return true;
}

static bool
commit(struct sealing *sealing, const struct hf_id *pack, const struct hf_stretch *stretch, struct hf_error *err)
{
    struct stream_sealer *sealer = sealing->sealer;
    const struct hf_id id = hf_id_new();
    _cleanup_(hf_json_freep) json_t *public_part = commit_public(sealer, &id, pack, stretch);
    _cleanup_(hf_json_freep) json_t *sealed_part = commit_sealed(sealer, stretch);
    if (public_part == NULL || sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return append(sealer, HF_LOG_COMMIT, public_part, sealed_part, err) &&
           hf_vault_read(sealer->vault, NULL, NULL, &sealing->state, err);
}

static json_t *
commit_public(const struct stream_sealer *sealer, const struct hf_id *stretch, const struct hf_id *pack,
              const struct hf_stretch *sealed)
{
    return json_pack("{s:o, s:o, s:[[o, i, I, o]], s:[]}", "session", hf_json_id_text(&sealer->session), "stretch",
                     hf_json_id_text(stretch), "packs", hf_json_id_text(pack), HF_PACK_STREAM,
                     (json_int_t)sealed->stored_bytes, hf_json_hex(sealed->sha256, HF_SHA256_BYTES), "dropped");
}

static json_t *
commit_sealed(const struct stream_sealer *sealer, const struct hf_stretch *stretch)
{
    char start[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES], whole[HF_LSN_TEXT_BYTES];
    json_t *histories = json_array();
    for (size_t i = 0; histories != NULL && i < stretch->history_count; i++)
        if (json_array_append_new(histories, json_integer(stretch->histories[i])) != 0) {
            json_decref(histories);
            return NULL;
        }
    json_t *part = json_pack("{s:s, s:{s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o}}", "source", sealer->source,
                             "stream", "timeline", (json_int_t)stretch->timeline, "start",
                             hf_lsn_format(stretch->start, start), "end", hf_lsn_format(stretch->end, end), "whole",
                             hf_lsn_format(stretch->whole, whole), "first_time", (json_int_t)stretch->first_time,
                             "last_time", (json_int_t)stretch->last_time, "commits", (json_int_t)stretch->commits,
                             "previous", hf_json_hex(stretch->previous, HF_SHA256_BYTES), "histories", histories);
    if (part != NULL && !hf_stretch_describe_marks(stretch, json_object_get(part, "stream"))) {
        json_decref(part);
        return NULL;
    }
    return part;
}

static bool
write_end(struct stream_sealer *sealer, const struct hf_id *session, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *entry = json_pack("{s:o}", "session", hf_json_id_text(session));
    if (entry == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return append(sealer, HF_LOG_END, entry, NULL, err);
}

/* Backups, verdicts and others write into the same log: whoever is second reads on and takes the next number. */
static bool
append(struct stream_sealer *sealer, enum hf_log_kind kind, const json_t *public_part, const json_t *sealed_part,
       struct hf_error *err)
{
    uint8_t hash[HF_SHA256_BYTES];
    const struct hf_log_append entry = {kind, hf_time_now_ms(), HF_LOG_EPOCH_NOW, public_part, sealed_part};
    if (!hf_vault_append(sealer->vault, &entry, sealer->signing, NULL, NULL, err))
        return false;
    sealer->sequence = hf_vault_log_head(hf_vault_get_log(sealer->vault), hash);
    return true;
}

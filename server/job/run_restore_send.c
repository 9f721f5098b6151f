#include "server/job/run_restore_send.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/scratch.h"
#include "server/job/moments.h"
#include "server/job/restore_work.h"
#include "server/job/send_copy.h"

#define SCRATCH_EXTRA (64 * HF_MIB)

static bool open_scratch(struct hf_worker *worker, uint64_t bytes, struct hf_scratch **ret, struct hf_error *err);
static uint64_t bytes_of(const struct hf_restore_work *work);

bool
hf_restore_is_elsewhere(const char *target)
{
    return strncmp(target, "ssh://", 6) == 0;
}

bool
hf_restore_send_run(struct hf_worker *worker, const json_t *request, const char *place, json_t **ret_result,
                    struct hf_error *err)
{
    _cleanup_(hf_restore_work_done) struct hf_restore_work work = {0};
    _cleanup_(hf_scratch_freep) struct hf_scratch *scratch = NULL;
    _cleanup_(hf_sftp_freep) struct hf_sftp *client = NULL;
    _cleanup_(hf_json_freep) json_t *result = json_object();
    struct hf_restore_outcome written;
    struct hf_send_outcome sent;
    struct hf_ssh_place there;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    hf_worker_progress(worker, "plan", 0, 0);
    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    struct hf_restore_options options = {.workers = (unsigned)hf_worker_settings(worker)->workers,
                                         .cancel = hf_worker_cancel(worker),
                                         .done = &relay.done,
                                         .total = &relay.total};
    if (!hf_restore_work_begin(worker, request, &options, &relay, &work, err))
        return false;
    if (work.engine->complete != NULL)
        return hf_fail(err, HF_ERR_USAGE, "backups of %s cannot be restored to another host: restore here and copy it",
                       work.engine->product);
    const uint64_t bytes = bytes_of(&work);
    if (!hf_send_begin(place, bytes, &client, &there, err) || !open_scratch(worker, bytes, &scratch, err))
        return false;
    _cleanup_(hf_freep) char *folder = hf_path_join(hf_scratch_path(scratch), "data");
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    atomic_store(&relay.phase, "write");
    if (!hf_restore_work_write(worker, &work, &options, &relay, folder, &written, err))
        return false;
    atomic_store(&relay.done, 0);
    atomic_store(&relay.phase, "send");
    const struct hf_send_options sending = {.cancel = options.cancel, .done = &relay.done, .total = &relay.total};
    if (!hf_send_folder(client, &there, folder, &sending, &sent, err))
        return hf_fail_within(err, "restore to \"%s\"", place);
    if (!sent.synced)
        hf_worker_note(worker, HF_LOG_WARNING, "the server there cannot sync files: run \"sync\" on that host");
    if (!hf_restore_work_describe(&work, request, result, err) ||
        !hf_json_set(result, "backup", hf_json_id_text(&work.backup), err) ||
        !hf_json_set(result, "state", json_string(work.state), err) ||
        !hf_json_set(result, "to", json_string(place), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)sent.files), err) ||
        !hf_json_set(result, "bytes", json_integer((json_int_t)sent.bytes), err) ||
        !hf_json_set(result, "synced", json_boolean(sent.synced), err) ||
        !hf_json_set(result, "slot", json_string(work.opened.slot.name), err) ||
        !hf_json_set(result, "server_version", json_string(work.shared.server_version), err) ||
        !hf_json_set(result, "duration_ms", json_integer((json_int_t)written.duration_ms), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

static bool
open_scratch(struct hf_worker *worker, uint64_t bytes, struct hf_scratch **ret, struct hf_error *err)
{
    const struct hf_settings *settings = hf_worker_settings(worker);
    const struct hf_scratch_options options = {.folder = settings->scratch.folder,
                                               .bytes = bytes,
                                               .prefer_memory = bytes <= (uint64_t)settings->scratch.memory};
    return hf_dir_make(settings->scratch.folder, 0711, err) && hf_scratch_open(&options, ret, err);
}

static uint64_t
bytes_of(const struct hf_restore_work *work)
{
    return work->size.bytes + work->size.bytes / 50 + work->moments->log_bytes(work) + SCRATCH_EXTRA;
}

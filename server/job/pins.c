#include "server/job/daemon_internal.h"

#include <assert.h>

#include "base/log.h"

static bool write_pin(struct hf_daemon *daemon, enum hf_log_kind kind, const struct hf_id *vault,
                      const struct hf_id *reader, const struct hf_id *backup, struct hf_error *err);
static bool tidy_vault(struct hf_daemon *daemon, const struct hf_id *vault, struct hf_error *err);
static bool is_running(const struct hf_daemon *daemon, const struct hf_id *reader);

bool
hf_job_pin(struct hf_daemon *daemon, struct hf_job *job, const struct hf_id *vault, const struct hf_id *backup,
           struct hf_error *err)
{
    // In a copy nothing is written: when its next sync takes away what the original deleted, the reader fails by name.
    if (hf_records_read_only(daemon->records))
        return true;
    if (!hf_records_can_sign(daemon->records)) { // nobody collects on this machine
        hf_log_warning(NULL, "the backup is read without being held: this machine cannot write into the log");
        return true;
    }
    assert(job->pin_count < HF_JOB_PINS_MOST && (job->pin_count == 0 || hf_id_equal(vault, &job->pinned_vault)));
    if (!write_pin(daemon, HF_LOG_PIN, vault, &job->id, backup, err))
        return hf_fail_within(err, "the backup cannot be held while it is read");
    job->pinned_vault = *vault;
    job->pinned_backups[job->pin_count++] = *backup;
    return true;
}

void
hf_job_unpin(struct hf_daemon *daemon, struct hf_job *job)
{
    struct hf_error err;
    for (; job->pin_count > 0; job->pin_count--)
        if (!write_pin(daemon, HF_LOG_UNPIN, &job->pinned_vault, &job->id, &job->pinned_backups[job->pin_count - 1],
                       &err))
            hf_log_warning(&err, "a backup that job %s \"%s\" has held stays pinned until the next collection",
                           job->kind->name, job->subject);
}

bool
hf_pins_tidy(struct hf_daemon *daemon, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (!hf_records_read(daemon->records, err) ||
        !hf_repository_vaults(hf_records_repository(daemon->records), &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!tidy_vault(daemon, &vaults[i], err))
            return false;
    return true;
}

/* Writing moves the list: it is looked at from the start after each. */
static bool
tidy_vault(struct hf_daemon *daemon, const struct hf_id *vault, struct hf_error *err)
{
    for (;;) {
        const struct hf_vault_state *state;
        const struct hf_vault_pin *dead = NULL;
        if (!hf_records_state(daemon->records, vault, &state, err))
            return false;
        for (size_t i = 0; i < state->pin_count && dead == NULL; i++)
            if (hf_id_equal(&state->pins[i].appliance, &hf_records_signing(daemon->records)->appliance) &&
                !is_running(daemon, &state->pins[i].reader))
                dead = &state->pins[i];
        if (dead == NULL)
            return true;
        const struct hf_vault_pin pin = *dead;
        if (!write_pin(daemon, HF_LOG_UNPIN, vault, &pin.reader, &pin.backup, err))
            return false;
    }
}

static bool
is_running(const struct hf_daemon *daemon, const struct hf_id *reader)
{
    for (size_t i = 0; i < daemon->job_count; i++)
        if (hf_id_equal(&daemon->jobs[i]->id, reader))
            return true;
    return false;
}

static bool
write_pin(struct hf_daemon *daemon, enum hf_log_kind kind, const struct hf_id *vault, const struct hf_id *reader,
          const struct hf_id *backup, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *part =
        json_pack("{s:o, s:o}", "reader", hf_json_id_text(reader), "backup", hf_json_id_text(backup));
    if (part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_record record = {.vault = *vault, .kind = kind, .time = hf_daemon_now(daemon), .public_part = part};
    return hf_records_append(daemon->records, &record, err);
}

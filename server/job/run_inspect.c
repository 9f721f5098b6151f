#include "server/job/kinds.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/job/live_copy.h"
#include "server/job/restore_choice.h"

#define MINUTES_DEFAULT 60
#define MINUTES_MOST    (7 * 24 * 60)
#define LOOK_EVERY_US   100000
#define SERVICE         "copy"

static bool tell_how(struct hf_worker *worker, const struct hf_live_copy *copy, struct hf_error *err);
static bool write_service(const struct hf_query_target *target, const char *path, struct hf_error *err);
static bool wait_for_the_end(struct hf_worker *worker, struct hf_live_copy *copy, int64_t minutes, const char **ret_why,
                             struct hf_error *err);

bool
hf_inspect_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    const json_t *minutes = json_object_get(hf_job_arguments(job), "minutes");
    const json_int_t wanted = minutes == NULL ? MINUTES_DEFAULT : json_integer_value(minutes);
    struct hf_restore_target moment;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    json_t *source;
    if (wanted < 1 || wanted > MINUTES_MOST)
        return hf_fail(err, HF_ERR_USAGE, "\"--minutes\" is a number from 1 to %d", MINUTES_MOST);
    if (!hf_restore_choose(daemon, job, &moment, &request, err) ||
        !hf_daemon_describe_source(daemon, hf_job_subject(job), &source, err) ||
        !hf_json_set(request, "source", source, err) || !hf_json_set(request, "minutes", json_integer(wanted), err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

bool
hf_inspect_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_live_copy_freep) struct hf_live_copy *copy = NULL;
    _cleanup_(hf_json_freep) json_t *result = json_object();
    int64_t minutes;
    const char *why;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_integer(request, "minutes", "the request", 1, MINUTES_MOST, &minutes, err))
        return false;
    const struct hf_live_copy_options options = {.lives_ms = (uint64_t)minutes * 60000};
    if (!hf_live_copy_open(worker, request, &options, &copy, err) || !tell_how(worker, copy, err) ||
        !wait_for_the_end(worker, copy, minutes, &why, err))
        return false;
    const struct hf_restore_work *work = hf_live_copy_work(copy);
    if (!hf_restore_work_describe(work, request, result, err) ||
        !hf_json_set(result, "backup", hf_json_id_text(&work->backup), err) ||
        !hf_json_set(result, "state", json_string(work->state), err) ||
        !hf_json_set(result, "ended", json_string(why), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

/* A service file, since the options that the copy cannot override are longer than a line that a person would copy. */
static bool
tell_how(struct hf_worker *worker, const struct hf_live_copy *copy, struct hf_error *err)
{
    const struct hf_query_target target = hf_live_copy_target(copy);
    char path[4096];
    const char *slash = strrchr(target.folder, '/');
    snprintf(path, sizeof path, "%.*s/service", (int)(slash - target.folder), target.folder);
    if (!write_service(&target, path, err))
        return false;
    hf_worker_progress(worker, "ready", 0, 0);
    hf_worker_note(worker, HF_LOG_INFO, "PGSERVICEFILE=%s psql service=" SERVICE, path);
    return true;
}

/* Beside the socket's folder, so that both go together; readable by us alone, as the socket is. */
static bool
write_service(const struct hf_query_target *target, const char *path, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(16 * HF_KIB);
    for (const char *at = target->user; *at != '\0'; at++)
        if ((uint8_t)*at < 0x20)
            return hf_fail(err, HF_ERR_USAGE, "the name of the source's first role has a control character");
    return hf_buf_printf(&text, err,
                         "# A restored database in a sandbox: read-only, for the user that asked for it.\n"
                         "[" SERVICE "]\nhost=%s\nport=%u\nuser=%s\ndbname=postgres\nsslmode=disable\n"
                         "gssencmode=disable\noptions=%s\n",
                         target->folder, target->port, target->user, target->options) &&
           hf_file_publish(path, hf_buf_text(&text), text.length, 0600, HF_PUBLISH_EXCLUSIVE, err);
}

/* Who cancels has seen enough: that is no failure. */
static bool
wait_for_the_end(struct hf_worker *worker, struct hf_live_copy *copy, int64_t minutes, const char **ret_why,
                 struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + (uint64_t)minutes * 60 * UINT64_C(1000000000);
    while (!atomic_load(hf_worker_cancel(worker))) {
        if (!hf_live_copy_lives(copy, err))
            return false;
        if (hf_monotonic_ns() > until) {
            *ret_why = "time";
            return true;
        }
        usleep(LOOK_EVERY_US);
    }
    *ret_why = "asked";
    return true;
}

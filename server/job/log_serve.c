#include "server/job/log_serve.h"

#include <stdio.h>
#include <string.h>

#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/log_socket.h"

#define KIND "log serve"

/* The sources with a stream; the name is the last one's. */
struct streamed {
    struct hf_daemon *daemon;
    char name[HF_JOB_SUBJECT_BYTES];
    size_t count;
};

static bool count_streamed(void *context, const struct hf_source_row *row, struct hf_error *err);

bool
hf_log_serve_begin(struct hf_daemon *daemon, const char *source, struct hf_error *err)
{
    char path[HF_SOCKET_BYTES];
    if (!hf_log_socket(daemon->socket, source, path) || daemon->stopping)
        return true;
    for (size_t i = 0; i < daemon->job_count; i++)
        if (strcmp(daemon->jobs[i]->kind->name, KIND) == 0 && strcmp(daemon->jobs[i]->subject, source) == 0 &&
            !daemon->jobs[i]->cancelled)
            return true;
    _cleanup_(hf_json_freep) json_t *arguments = json_pack("{s:s}", "source", source);
    if (arguments == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    return hf_daemon_add_job(daemon, KIND, arguments, "wal-get", NULL, err);
}

void
hf_log_serve_end_all(struct hf_daemon *daemon)
{
    for (size_t i = daemon->job_count; i > 0; i--) // a queued one leaves the list at once
        if (strcmp(daemon->jobs[i - 1]->kind->name, KIND) == 0)
            hf_jobs_cancel(daemon, daemon->jobs[i - 1]);
}

bool
hf_log_serve_only(struct hf_daemon *daemon, char name[static HF_JOB_SUBJECT_BYTES], struct hf_error *err)
{
    struct streamed streamed = {.daemon = daemon};
    if (!hf_catalog_sources(hf_daemon_catalog(daemon), count_streamed, &streamed, err))
        return false;
    if (streamed.count != 1)
        return hf_fail(err, HF_ERR_USAGE, "%zu sources are streamed", streamed.count) ||
               hf_fail_hint(err, "Name one with --source.");
    snprintf(name, HF_JOB_SUBJECT_BYTES, "%s", streamed.name);
    return true;
}

static bool
count_streamed(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct streamed *streamed = context;
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    if (!hf_daemon_source(streamed->daemon, row->name, &settings, err))
        return false;
    if (settings->stream) {
        streamed->count++;
        snprintf(streamed->name, sizeof streamed->name, "%s", row->name);
    }
    return true;
}

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/process.h"

/* What a daemon that was killed left behind. */
struct lost_jobs {
    struct hf_daemon *daemon;
    struct hf_job **jobs;
    size_t count;
};

static bool name_subject(struct hf_daemon *daemon, const struct hf_job_kind *kind, const json_t *arguments,
                         char subject[static HF_JOB_SUBJECT_BYTES], struct hf_error *err);
static bool record_job(struct hf_daemon *daemon, const struct hf_job *job, struct hf_error *err);
static bool keep_job(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err);
static bool make_job(const struct hf_job_kind *kind, const char *requested_by, struct hf_job **ret,
                     struct hf_error *err);
static bool take_order(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err);
static bool keep_order(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool take_lost(void *context, const struct hf_job_row *row, struct hf_error *err);
static unsigned copies(const struct hf_daemon *daemon, enum hf_job_state state);
static struct hf_job *next_to_start(const struct hf_daemon *daemon);
static bool may_start(const struct hf_daemon *daemon, const struct hf_job *job);
static void start_job(struct hf_daemon *daemon, struct hf_job *job);
static bool take_event(struct hf_daemon *daemon, struct hf_job *job, json_t *event, struct hf_error *err);
static bool take_state(struct hf_daemon *daemon, struct hf_job *job, const json_t *event, struct hf_error *err);
static void note_phase(struct hf_daemon *daemon, struct hf_job *job, const char *phase, uint64_t done, uint64_t total);
static void judge_end(struct hf_job *job, int status);
static void end_job(struct hf_daemon *daemon, struct hf_job *job, enum hf_job_state state);
static bool write_records(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err);
static void tell_ending(struct hf_daemon *daemon, struct hf_job *job, enum hf_job_state state, enum hf_exit code);
static void set_state(struct hf_job *job, enum hf_job_state state);
static void forget_job(struct hf_daemon *daemon, struct hf_job *job);
static void free_job(struct hf_job *job);

bool
hf_jobs_add(struct hf_daemon *daemon, const struct hf_job_wish *wish, struct hf_job **ret, struct hf_error *err)
{
    const struct hf_job_kind *kind = hf_jobs_kind(daemon, wish->kind);
    if (kind == NULL)
        return hf_fail(err, HF_ERR_USAGE, "this holdfastd does not know the command \"%.64s\"", wish->kind);
    if (daemon->stopping)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "holdfastd is stopping");
    if ((kind->needs & HF_JOB_NEEDS_SIGNER) != 0 && !hf_records_can_sign(daemon->records) &&
        !hf_records_read_only(daemon->records)) { // of a copy the kinds themselves say what cannot be done
        hf_fail(err, HF_ERR_DENIED, "this machine has no signing key of the repository: a %s could not be recorded",
                kind->name);
        return hf_fail_hint(err, "It can list and restore.  To go on with it, bring \"%s\" from the old state folder.",
                            HF_STATE_SIGNING_KEY);
    }
    if (daemon->job_count == HF_JOBS_QUEUED_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "%d jobs are waiting already", HF_JOBS_QUEUED_MOST);

    const char *source = json_string_value(json_object_get(wish->arguments, "source"));
    if (kind->endless && source != NULL && hf_stream_job(daemon, source) != NULL)
        return hf_fail(err, HF_ERR_CONFLICT, "the log of \"%s\" is being received already", source);

    struct hf_job *job;
    if (!make_job(kind, wish->requested_by, &job, err))
        return false;
    job->id = hf_id_new();
    job->queued_at = hf_daemon_now(daemon);
    job->asker = wish->asker;
    job->arguments = json_deep_copy(wish->arguments);
    if (job->arguments == NULL)
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    if (job->arguments == NULL || !name_subject(daemon, kind, job->arguments, job->subject, err) ||
        (kind->sandboxed && !take_order(daemon, job, err)) || !record_job(daemon, job, err) ||
        !keep_job(daemon, job, err)) {
        free_job(job);
        return false;
    }
    *ret = job;
    return true;
}

bool
hf_jobs_clear_up(struct hf_daemon *daemon, struct hf_error *err)
{
    int count;
    struct lost_jobs lost = {.daemon = daemon};
    bool fine = hf_catalog_jobs_running(hf_daemon_catalog(daemon), take_lost, &lost, err) &&
                hf_catalog_jobs_lost(hf_daemon_catalog(daemon), hf_daemon_now(daemon), &count, err);
    for (size_t i = 0; i < lost.count; i++) {
        struct hf_error failure;
        if (fine && !write_records(daemon, lost.jobs[i], &failure))
            hf_log_error(&failure, "the records of job %s \"%s\" could not be written", lost.jobs[i]->kind->name,
                         lost.jobs[i]->subject);
        free_job(lost.jobs[i]);
    }
    free(lost.jobs);
    if (fine && count > 0)
        hf_log_warning(NULL, "%d jobs were under way when holdfastd was killed; they are lost", count);
    return fine;
}

void
hf_jobs_cancel(struct hf_daemon *daemon, struct hf_job *job)
{
    if (job->cancelled)
        return;
    job->cancelled = true;
    if (job->state == HF_JOB_QUEUED) {
        hf_fail(&job->why, HF_ERR_CANCELLED, "the job was cancelled before it began");
        job->has_failed = true;
        end_job(daemon, job, HF_JOB_CANCELLED);
        return;
    }
    hf_process_signal(&job->process, SIGTERM);
    job->kill_at_ns = hf_monotonic_ns() + HF_JOB_GRACE_MS * UINT64_C(1000000);
}

void
hf_jobs_cancel_all(struct hf_daemon *daemon)
{
    for (size_t i = daemon->job_count; i > 0; i--) // a queued one leaves the list at once
        hf_jobs_cancel(daemon, daemon->jobs[i - 1]);
}

struct hf_job *
hf_jobs_find(struct hf_daemon *daemon, const struct hf_id *id)
{
    for (size_t i = 0; i < daemon->job_count; i++)
        if (hf_id_equal(&daemon->jobs[i]->id, id))
            return daemon->jobs[i];
    return NULL;
}

const struct hf_job_kind *
hf_jobs_kind(const struct hf_daemon *daemon, const char *name)
{
    for (size_t i = 0; i < daemon->program->kind_count; i++)
        if (strcmp(daemon->program->kinds[i].name, name) == 0)
            return &daemon->program->kinds[i];
    return NULL;
}

void
hf_jobs_advance(struct hf_daemon *daemon)
{
    for (size_t i = 0; i < daemon->job_count; i++) {
        struct hf_job *job = daemon->jobs[i];
        if (job->kill_at_ns != 0 && hf_monotonic_ns() >= job->kill_at_ns) {
            hf_process_signal(&job->process, SIGKILL);
            job->kill_at_ns = 0;
        }
    }
    // Starting one can end it, and its end can queue others: each time the list is looked at from its front.
    for (struct hf_job *job = next_to_start(daemon); job != NULL; job = next_to_start(daemon))
        start_job(daemon, job);
}

size_t
hf_jobs_running(const struct hf_daemon *daemon)
{
    size_t running = 0;
    for (size_t i = 0; i < daemon->job_count; i++)
        running += daemon->jobs[i]->state == HF_JOB_RUNNING ? 1 : 0;
    return running;
}

unsigned
hf_jobs_sandbox_share(const struct hf_daemon *daemon)
{
    const struct hf_sandbox_budget budget = hf_sandbox_budget_of(daemon->settings);
    return hf_sandbox_budget_share(&budget, copies(daemon, HF_JOB_RUNNING) + copies(daemon, HF_JOB_QUEUED));
}

uint64_t
hf_jobs_deadline_ns(const struct hf_daemon *daemon)
{
    uint64_t first = 0;
    for (size_t i = 0; i < daemon->job_count; i++) {
        uint64_t kill_at = daemon->jobs[i]->kill_at_ns;
        if (kill_at != 0 && (first == 0 || kill_at < first))
            first = kill_at;
    }
    return first;
}

void
hf_jobs_hear_events(struct hf_daemon *daemon, struct hf_job *job)
{
    struct hf_error err;
    if (!hf_wire_receive(&job->events, &err)) {
        hf_job_break(job, &err);
        return;
    }
    while (!job->broken) {
        _cleanup_(hf_json_freep) json_t *event = NULL;
        if (!hf_wire_next(&job->events, &event, &err) || (event != NULL && !take_event(daemon, job, event, &err))) {
            hf_job_break(job, &err);
            return;
        }
        if (event == NULL)
            return;
    }
}

void
hf_jobs_hear_end(struct hf_daemon *daemon, struct hf_job *job)
{
    bool ended;
    int status = 0;
    struct hf_error err;
    pid_t group = job->process.pid;
    if (!hf_process_wait(&job->process, 0, &ended, &status, &err)) {
        hf_log_error(&err, "could not hear how job %s ended", job->kind->name);
        hf_process_kill(&job->process);
        ended = true;
    }
    if (!ended)
        return;
    kill(-group, SIGKILL); // whatever it had started and did not wait for

    // What it said before it ended may still lie in the pipe.
    struct pollfd rest = {.fd = job->events.fd, .events = POLLIN};
    while (!job->events.ended && !job->broken && poll(&rest, 1, 0) > 0)
        hf_jobs_hear_events(daemon, job);
    judge_end(job, status);
    enum hf_job_state state = !job->has_failed                                      ? HF_JOB_FINISHED
                              : job->cancelled || job->why.kind == HF_ERR_CANCELLED ? HF_JOB_CANCELLED
                                                                                    : HF_JOB_FAILED;
    end_job(daemon, job, state);
}

void
hf_jobs_free_all(struct hf_daemon *daemon)
{
    for (size_t i = 0; i < daemon->job_count; i++)
        free_job(daemon->jobs[i]);
    free(daemon->jobs);
    free(daemon->pauses);
    daemon->pauses = NULL;
    daemon->pause_count = 0;
    daemon->jobs = NULL;
    daemon->job_count = 0;
}

bool
hf_job_note_arguments(struct hf_daemon *daemon, const struct hf_job *job, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf arguments = HF_BUF_INIT(HF_WIRE_REQUEST_MOST);
    return hf_json_canonical(job->arguments, &arguments, err) &&
           hf_catalog_job_arguments(hf_daemon_catalog(daemon), &job->id, hf_buf_text(&arguments), err);
}

void
hf_job_break(struct hf_job *job, const struct hf_error *why)
{
    job->broken = true;
    hf_json_freep(&job->result);
    job->why = *why;
    hf_fail_within(&job->why, "the job's worker did not keep to the protocol");
    job->has_failed = true;
    hf_process_signal(&job->process, SIGKILL);
}

struct hf_id
hf_job_id(const struct hf_job *job)
{
    return job->id;
}

const char *
hf_job_subject(const struct hf_job *job)
{
    return job->subject;
}

const json_t *
hf_job_arguments(const struct hf_job *job)
{
    return job->arguments;
}

int64_t
hf_job_asker(const struct hf_job *job)
{
    return job->asker;
}

const char *
hf_job_requested_by(const struct hf_job *job)
{
    return job->requested_by;
}

int64_t
hf_job_started_at(const struct hf_job *job)
{
    return job->started_at;
}

void
hf_job_set_vault(struct hf_job *job, const struct hf_id *vault)
{
    job->rights.vault = *vault;
}

struct hf_id
hf_job_vault(const struct hf_job *job)
{
    return job->rights.vault;
}

void
hf_job_bad_news(struct hf_job *job)
{
    job->bad_news = true;
}

static bool
name_subject(struct hf_daemon *daemon, const struct hf_job_kind *kind, const json_t *arguments,
             char subject[static HF_JOB_SUBJECT_BYTES], struct hf_error *err)
{
    const json_t *source = json_object_get(arguments, "source");
    subject[0] = '\0';
    if (!kind->of_source)
        return true;
    if (source == NULL && kind->source_optional)
        return true;
    if (!json_is_string(source))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" needs the name of a source", kind->name);

    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    if (!hf_daemon_source(daemon, json_string_value(source), &settings, err))
        return false;
    snprintf(subject, HF_JOB_SUBJECT_BYTES, "%s", settings->name);
    return true;
}

static bool
record_job(struct hf_daemon *daemon, const struct hf_job *job, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf arguments = HF_BUF_INIT(HF_WIRE_REQUEST_MOST);
    if (job->kind->often)
        return true;
    if (!hf_json_canonical(job->arguments, &arguments, err))
        return false;
    const struct hf_job_new row = {
        .job = job->id,
        .kind = job->kind->name,
        .subject = job->subject,
        .arguments = hf_buf_text(&arguments),
        .requested_by = job->requested_by,
        .queued_at = job->queued_at,
    };
    return hf_catalog_job_add(hf_daemon_catalog(daemon), &row, err);
}

static bool
keep_job(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err)
{
    struct hf_job **longer = reallocarray(daemon->jobs, daemon->job_count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    daemon->jobs = longer;
    longer[daemon->job_count++] = job;
    return true;
}

static bool
make_job(const struct hf_job_kind *kind, const char *requested_by, struct hf_job **ret, struct hf_error *err)
{
    struct hf_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    *job = (struct hf_job){
        .kind = kind,
        .state = HF_JOB_QUEUED,
        .process = HF_PROCESS_NONE,
        .events.fd = -1,
        .oracle_fd = -1,
        .question = HF_BUF_INIT(HF_JOB_QUESTION_MOST),
        .answer = HF_BUF_INIT_SECRET(HF_JOB_ANSWER_MOST),
    };
    snprintf(job->requested_by, sizeof job->requested_by, "%s", requested_by);
    *ret = job;
    return true;
}

/* Which of those that wait is the most urgent is settled when it is queued. */
static bool
take_order(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    bool found, any_proven;
    struct hf_job_order ignored;
    job->order = (struct hf_job_order){.asked = strncmp(job->requested_by, HF_BY_PERSON, strlen(HF_BY_PERSON)) == 0,
                                       .newest_at = -1};
    if (!hf_catalog_newest_backup(catalog, job->subject, NULL, &found, keep_order, &job->order, err) ||
        !hf_catalog_newest_backup(catalog, job->subject, &proven, &any_proven, keep_order, &ignored, err))
        return false;
    job->order.never_proven = found && !any_proven;
    if (!found || job->order.asked)
        return true;
    _cleanup_(hf_process_state_done) struct hf_process_state state = {.unproven_since = -1};
    struct hf_error ignored_failure; // which is next is no reason not to queue it
    job->order.changed = hf_process_look(daemon, job->subject, &state, &ignored_failure) && state.unproven_since >= 0;
    return true;
}

static bool
keep_order(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct hf_job_order *order = context;
    (void)err;
    order->newest_open = row->state == HF_BACKUP_UNPROVEN;
    order->newest_at = row->started_at >= 0 ? row->started_at : row->committed_at;
    return true;
}

/* One that nobody runs any more, as its kind's conclude() is to see it; a kind of another version has none. */
static bool
take_lost(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    struct lost_jobs *lost = context;
    const struct hf_job_kind *kind = hf_jobs_kind(lost->daemon, row->kind);
    if (kind == NULL || kind->conclude == NULL)
        return true;
    struct hf_job **longer = reallocarray(lost->jobs, lost->count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the jobs that are lost");
    lost->jobs = longer;

    struct hf_job *job;
    if (!make_job(kind, row->requested_by, &job, err))
        return false;
    lost->jobs[lost->count++] = job;
    job->id = row->job;
    job->queued_at = row->queued_at;
    job->started_at = row->started_at;
    snprintf(job->subject, sizeof job->subject, "%s", row->subject);
    job->has_failed = true;
    hf_fail(&job->why, HF_ERR_UNAVAILABLE, "holdfastd was killed while it was under way");
    return hf_json_parse(row->arguments, strlen(row->arguments), "the arguments of a job", &job->arguments, err);
}

static struct hf_job *
next_to_start(const struct hf_daemon *daemon)
{
    struct hf_job *next = NULL;
    for (size_t i = 0; i < daemon->job_count; i++) {
        struct hf_job *job = daemon->jobs[i];
        if (job->state != HF_JOB_QUEUED || !may_start(daemon, job))
            continue;
        if (next == NULL ||
            (next->kind->sandboxed && job->kind->sandboxed && hf_job_goes_before(&job->order, &next->order)))
            next = job;
    }
    return next;
}

/* A check that reads what a collection removes would call it damage. */
static bool
is_apart(const struct hf_job_kind *kind, const struct hf_job_kind *other)
{
    return kind->apart != NULL && strcmp(kind->apart, other->name) == 0;
}

static bool
takes_place(const struct hf_job_kind *kind)
{
    return !kind->background && !kind->sandboxed;
}

/* How many jobs with a copy in a sandbox are in that state. */
static unsigned
copies(const struct hf_daemon *daemon, enum hf_job_state state)
{
    unsigned count = 0;
    for (size_t i = 0; i < daemon->job_count; i++)
        count += daemon->jobs[i]->kind->sandboxed && daemon->jobs[i]->state == state;
    return count;
}

/* Locks are per source and kind: two backups of one source wait for each other, a backup and a verification do not. */
static bool
may_start(const struct hf_daemon *daemon, const struct hf_job *job)
{
    size_t places = 0;
    for (size_t i = 0; i < daemon->job_count; i++)
        places += daemon->jobs[i]->state == HF_JOB_RUNNING && takes_place(daemon->jobs[i]->kind);
    if (job->kind->sandboxed && copies(daemon, HF_JOB_RUNNING) >= hf_sandbox_budget_of(daemon->settings).places)
        return false;
    if (takes_place(job->kind) && places >= (size_t)daemon->settings->jobs_at_once)
        return false;
    for (size_t i = 0; i < daemon->job_count; i++) {
        const struct hf_job *other = daemon->jobs[i];
        if (other->state != HF_JOB_RUNNING)
            continue;
        if (other->kind == job->kind && strcmp(other->subject, job->subject) == 0)
            return false;
        if (is_apart(job->kind, other->kind) || is_apart(other->kind, job->kind))
            return false;
    }
    return true;
}

static void
start_job(struct hf_daemon *daemon, struct hf_job *job)
{
    bool changed;
    struct hf_error err;
    set_state(job, HF_JOB_RUNNING);
    job->started_at = hf_daemon_now(daemon);
    if (job->kind->often ||
        hf_catalog_job_start(hf_daemon_catalog(daemon), &job->id, job->started_at, &changed, &err)) {
        if (job->kind->run == NULL && job->kind->prepare(daemon, job, &job->result, &err)) {
            end_job(daemon, job, HF_JOB_FINISHED);
            return;
        }
        if (job->kind->run != NULL && hf_job_launch(daemon, job, &err)) {
            hf_server_tell(daemon, job, hf_event_job(&job->id, hf_job_state_name(HF_JOB_RUNNING)));
            return;
        }
    }
    job->why = err;
    job->has_failed = true;
    end_job(daemon, job, HF_JOB_FAILED);
}

static bool
take_event(struct hf_daemon *daemon, struct hf_job *job, json_t *event, struct hf_error *err)
{
    static const char what[] = "the worker's event";
    const char *name, *phase;
    int64_t done, total, code;
    json_t *result;
    if (!hf_json_string(event, "event", what, &name, err))
        return false;
    if (job->result != NULL || job->has_failed)
        return hf_fail(err, HF_ERR_CORRUPT, "the worker went on after its last word");

    if (strcmp(name, "progress") == 0) {
        if (!hf_json_string(event, "phase", what, &phase, err) ||
            !hf_json_integer(event, "done", what, 0, INT64_MAX, &done, err) ||
            !hf_json_integer(event, "total", what, 0, INT64_MAX, &total, err))
            return false;
        note_phase(daemon, job, phase, (uint64_t)done, (uint64_t)total);
    } else if (strcmp(name, "note") == 0) {
        hf_log_info("job %s \"%s\": %s", job->kind->name, job->subject,
                    json_string_value(json_object_get(event, "message")));
    } else if (strcmp(name, "keep") == 0) {
        if (job->kind->keep == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "the worker has something kept, and its kind keeps nothing");
        if (!hf_json_object(event, "kept", what, &result, err))
            return false;
        return job->kind->keep(daemon, job, result, err); // between the two: clients hear nothing of it
    } else if (strcmp(name, "state") == 0) {
        return take_state(daemon, job, event, err);
    } else if (strcmp(name, "result") == 0) {
        if (!hf_json_object(event, "result", what, &result, err) ||
            !hf_json_integer(event, "exit", what, HF_EXIT_DONE, HF_EXIT_BAD_NEWS, &code, err))
            return false;
        job->result = json_incref(result);
        job->bad_news = job->bad_news || code == HF_EXIT_BAD_NEWS;
        return true; // told at the end, when its records are written
    } else if (strcmp(name, "error") == 0) {
        hf_event_read_error(event, &job->why);
        job->has_failed = true;
        return true;
    } else {
        return hf_fail(err, HF_ERR_CORRUPT, "%s is called \"%.32s\"", what, name);
    }
    hf_server_tell(daemon, job, json_incref(event));
    return true;
}

/* New log entries are read at once; after a gap the source gets a new backup to start from. */
static bool
take_state(struct hf_daemon *daemon, struct hf_job *job, const json_t *event, struct hf_error *err)
{
    json_t *state;
    int64_t sequence, gaps;
    struct hf_error why;
    if (!hf_json_object(event, "state", "the worker's event", &state, err) ||
        !hf_json_integer(state, "sequence", "the worker's event", 0, INT64_MAX, &sequence, err) ||
        !hf_json_integer(state, "gaps", "the worker's event", 0, INT64_MAX, &gaps, err))
        return false;
    const int64_t known = json_integer_value(json_object_get(job->report, "sequence"));
    const int64_t known_gaps = json_integer_value(json_object_get(job->report, "gaps"));
    json_decref(job->report);
    job->report = json_incref(state);
    if (sequence > known && !hf_id_is_none(&job->rights.vault) &&
        !hf_records_read_vault(daemon->records, &job->rights.vault, &why))
        hf_log_warning(&why, "the log of a stream could not be read");
    if (gaps > known_gaps && !hf_watch_anchor(daemon, job->subject, &why))
        hf_log_warning(&why, "no backup of \"%s\" could be started after a gap in its log", job->subject);
    return true;
}

/* The catalog hears of each phase as it begins, never of every byte. */
static void
note_phase(struct hf_daemon *daemon, struct hf_job *job, const char *phase, uint64_t done, uint64_t total)
{
    struct hf_error err;
    if (strcmp(phase, job->phase) == 0)
        return;
    snprintf(job->phase, sizeof job->phase, "%s", phase);
    if (!job->kind->often && !hf_catalog_progress_put(hf_daemon_catalog(daemon), &job->id, job->phase, done, total,
                                                      hf_daemon_now(daemon), &err))
        hf_log_warning(&err, "the phase of a job is not noted");
}

/* Without its last word a worker has failed, however it ended. */
static void
judge_end(struct hf_job *job, int status)
{
    if (job->result != NULL || job->has_failed)
        return;
    job->has_failed = true;
    if (job->cancelled)
        hf_fail(&job->why, HF_ERR_CANCELLED, "the job was cancelled");
    else if (WIFSIGNALED(status))
        hf_fail(&job->why, HF_ERR_UNAVAILABLE, "the job's worker was killed by signal %d (%s)", WTERMSIG(status),
                sigdescr_np(WTERMSIG(status)));
    else
        hf_fail(&job->why, HF_ERR_UNAVAILABLE, "the job's worker ended with status %d and no answer",
                WEXITSTATUS(status));
}

static void
end_job(struct hf_daemon *daemon, struct hf_job *job, enum hf_job_state state)
{
    struct hf_error err;
    bool changed;
    bool began = job->state == HF_JOB_RUNNING;
    if (began && !write_records(daemon, job, &err)) {
        hf_log_error(&err, "the records of job %s \"%s\" could not be written", job->kind->name, job->subject);
        if (!job->has_failed) {
            job->why = err;
            job->has_failed = true;
            state = HF_JOB_FAILED;
        }
    }
    if (began)
        hf_job_unpin(daemon, job);
    set_state(job, state);
    enum hf_exit code = job->has_failed ? hf_exit_of(&job->why) : job->bad_news ? HF_EXIT_BAD_NEWS : HF_EXIT_DONE;
    if (!job->kind->often &&
        !hf_catalog_job_end(hf_daemon_catalog(daemon), &job->id, hf_job_state_name(state), (int)code,
                            job->has_failed ? &job->why : NULL, hf_daemon_now(daemon), &changed, &err))
        hf_log_error(&err, "the end of job %s \"%s\" is not noted", job->kind->name, job->subject);
    tell_ending(daemon, job, state, code);
    forget_job(daemon, job);
}

/*
 * First the catalog hears what the worker wrote into the log; what the kind concludes builds on it.  What others wrote
 * into other vaults is read as well, and is no reason to fail this job.
 */
static bool
write_records(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err)
{
    struct hf_error read_err;
    bool read =
        hf_id_is_none(&job->rights.vault) || hf_records_read_vault(daemon->records, &job->rights.vault, &read_err);
    if (!read)
        *err = read_err;
    else if (!hf_records_read(daemon->records, &read_err))
        hf_log_warning(&read_err, "not every log could be read");
    if (job->kind->conclude != NULL &&
        !job->kind->conclude(daemon, job, &job->result, job->has_failed ? &job->why : NULL, err))
        return false;
    return read;
}

static void
tell_ending(struct hf_daemon *daemon, struct hf_job *job, enum hf_job_state state, enum hf_exit code)
{
    if (job->has_failed) {
        hf_log_warning(&job->why, "job %s \"%s\" %s", job->kind->name, job->subject, hf_job_state_name(state));
        hf_server_tell_end(daemon, job, hf_event_error(&job->why));
        return;
    }
    hf_log_info("job %s \"%s\" finished%s", job->kind->name, job->subject,
                code == HF_EXIT_BAD_NEWS ? " with bad news" : "");
    hf_server_tell_end(daemon, job, hf_event_result(code, json_incref(job->result)));
}

static void
set_state(struct hf_job *job, enum hf_job_state state)
{
    assert(hf_job_state_may(job->state, state));
    job->state = state;
}

static void
forget_job(struct hf_daemon *daemon, struct hf_job *job)
{
    for (size_t i = 0; i < daemon->job_count; i++) {
        if (daemon->jobs[i] != job)
            continue;
        memmove(&daemon->jobs[i], &daemon->jobs[i + 1], (daemon->job_count - i - 1) * sizeof *daemon->jobs);
        daemon->job_count--;
        break;
    }
    free_job(job);
}

static void
free_job(struct hf_job *job)
{
    hf_process_kill(&job->process);
    if (job->events.fd >= 0)
        hf_wire_done(&job->events);
    hf_closep(&job->oracle_fd);
    hf_buf_done(&job->question);
    hf_buf_done(&job->answer);
    json_decref(job->arguments);
    json_decref(job->result);
    json_decref(job->report);
    free(job);
}

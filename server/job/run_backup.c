#include "server/job/kinds.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/bell.h"
#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/backup_base.h"
#include "server/job/session_sink.h"
#include "server/source/facts.h"

#define REPORT_EVERY_MS  200
#define HEAL_MOST        65536
#define ENVIRONMENT_MOST (16 * HF_MIB)
#define ENVIRONMENT_PATH "holdfast_config/environment.json"

/* What a backup has in hand. */
struct taking {
    struct hf_worker *worker;
    struct hf_worker_source source;
    struct hf_source_identity identity;
    struct hf_page_faults faults;
    struct hf_session_sink *sink;
    struct hf_session *session;
    struct hf_backup_build build;
    struct hf_source_progress progress;
    struct hf_heal *heal;
    size_t heal_count;
    char *cache_folder;

    pthread_t reporter;
    bool reporting;
    struct hf_bell over; // the reporter leaves
};

/* What the data directory does not hold, fetched while it is copied. */
struct capture {
    struct taking *taking;
    pthread_t thread;
    bool running, ok;
    struct hf_error err;
};

static bool add_heal(void *context, const struct hf_damage_row *row, struct hf_error *err);
static bool read_heal(struct taking *taking, const json_t *request, struct hf_error *err);
static bool find_timeline(struct hf_vault *vault, uint32_t *ret, struct hf_error *err);
static bool begin(struct taking *taking, const json_t *request, struct hf_error *err);
static bool copy(struct taking *taking, struct hf_backup_facts *facts, struct hf_error *err);
static bool start_capture(struct capture *capture, struct hf_error *err);
static bool end_capture(struct capture *capture, struct hf_error *err);
static void *capture_main(void *context);
static bool capture_environment(struct taking *taking, struct hf_error *err);
static bool commit(struct taking *taking, const struct hf_backup_facts *facts, json_t **ret_result,
                   struct hf_error *err);
static bool describe_outcome(const struct taking *taking, const struct hf_session_outcome *outcome,
                             const struct hf_backup_facts *facts, const struct hf_session_counts *counts,
                             const struct hf_id *parent, const char *why, json_t **ret, struct hf_error *err);
static void *report(void *context);
static void stop_reporting(struct taking *taking);

/* Damage that is known of goes along: those pages are stored anew. */
bool
hf_backup_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *request = json_object();
    json_t *source, *heal = json_array();
    if (request == NULL || !hf_json_set(request, "heal", heal, err) ||
        !hf_daemon_describe_source(daemon, hf_job_subject(job), &source, err) ||
        !hf_json_set(request, "source", source, err) ||
        !hf_catalog_damages(hf_daemon_catalog(daemon), add_heal, heal, err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

bool
hf_backup_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct taking taking = {.worker = worker};
    struct hf_backup_facts facts = {0};
    if (!hf_bell_init(&taking.over, err))
        return false;
    hf_page_faults_init(&taking.faults);
    const bool ok =
        begin(&taking, request, err) && copy(&taking, &facts, err) && commit(&taking, &facts, ret_result, err);
    stop_reporting(&taking);
    hf_bell_done(&taking.over);
    /* A source that went away may come back: what has arrived need not be sent again. */
    if (taking.session != NULL && !ok && err->kind == HF_ERR_UNAVAILABLE &&
        hf_session_suspend(&taking.session, "source_lost"))
        hf_worker_note(worker, HF_LOG_INFO, "the next backup builds on the files that have arrived");
    if (taking.session != NULL)
        hf_session_abort(&taking.session, !ok && err->kind == HF_ERR_CANCELLED ? "cancelled" : "failed");
    hf_backup_build_done(&taking.build);
    hf_session_sink_freep(&taking.sink);
    hf_page_faults_done(&taking.faults);
    hf_backup_facts_done(&facts);
    hf_worker_source_done(&taking.source);
    free(taking.heal);
    free(taking.cache_folder);
    return ok;
}

static bool
add_heal(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    json_t *list = context;
    _cleanup_(hf_json_freep) json_t *packs = NULL;
    if (row->packs == NULL)
        return true;
    if (!hf_json_parse(row->packs, strlen(row->packs), "a damage's packs", &packs, err))
        return false;
    if (json_array_size(list) < HEAL_MOST && json_array_extend(list, packs) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of damaged packs");
    return true;
}

/* Rows are [pack id, slab or null]. */
static bool
read_heal(struct taking *taking, const json_t *request, struct hf_error *err)
{
    json_t *list;
    if (!hf_json_array(request, "heal", "the request", &list, err))
        return false;
    taking->heal = calloc(json_array_size(list) + 1, sizeof *taking->heal);
    if (taking->heal == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of damaged packs");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *slab = json_array_get(row, 1);
        const char *pack = json_string_value(json_array_get(row, 0));
        struct hf_heal *heal = &taking->heal[taking->heal_count];
        if (pack == NULL || !hf_id_parse(pack, &heal->pack, NULL))
            continue; // an older record's shape: nothing that could be healed by it
        heal->slab = json_is_integer(slab) ? (uint32_t)json_integer_value(slab) : HF_HEAL_WHOLE_PACK;
        taking->heal_count++;
    }
    return true;
}

static bool
begin(struct taking *taking, const json_t *request, struct hf_error *err)
{
    const struct hf_settings *settings = hf_worker_settings(taking->worker);
    struct hf_vault *vault;
    json_t *described;
    hf_worker_progress(taking->worker, "connect", 0, 0);
    if (!hf_json_object(request, "source", "the request", &described, err) || !read_heal(taking, request, err) ||
        !hf_worker_source_open(described, &taking->source, err) ||
        !taking->source.engine->identify(&taking->source.target, &taking->identity, err) ||
        !hf_worker_vault_of(taking->worker, taking->source.engine->name, taking->identity.text, &vault, err))
        return false;

    if (!find_timeline(vault, &taking->source.target.newest_timeline, err))
        return false;
    taking->cache_folder = hf_path_join(settings->state, "cache");
    if (taking->cache_folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_make(taking->cache_folder, 0700, err) ||
        !hf_session_sink_new(taking->source.engine, &taking->faults, &taking->sink, err))
        return false;
    struct hf_session_options options = {.source = taking->source.target.name,
                                         .operation = "backup",
                                         .signing = hf_worker_signing(taking->worker),
                                         .cache_folder = taking->cache_folder,
                                         .workers = (unsigned)settings->workers,
                                         .zstd_level = (int)settings->compression_level,
                                         .cancel = hf_worker_cancel(taking->worker),
                                         .heal = taking->heal,
                                         .heal_count = taking->heal_count};
    hf_session_sink_options(taking->sink, &options);
    return hf_session_begin(vault, &options, &taking->session, err) &&
           hf_backup_build_begin(vault, taking->session, taking->source.engine, taking->source.settings, &taking->build,
                                 err);
}

static bool
copy(struct taking *taking, struct hf_backup_facts *facts, struct hf_error *err)
{
    struct hf_source_target target = taking->source.target;
    target.identity = taking->identity.text; // the one the vault was chosen for
    const struct hf_source_settings *settings = taking->source.settings;
    const struct hf_backup_request request = {
        .target = &target,
        .base = taking->build.possible ? &taking->build.base : NULL,
        .sink = hf_session_sink_of(taking->sink, taking->session),
        .faults = &taking->faults,
        .progress = &taking->progress,
        .label = "holdfast",
        .fast_checkpoint = strcmp(settings->checkpoint, "fast") == 0,
        .max_rate_kib = (uint32_t)(settings->max_rate / 1024),
    };
    hf_worker_progress(taking->worker, "copy", 0, 0);
    taking->reporting = pthread_create(&taking->reporter, NULL, report, taking) == 0;
    struct capture capture = {.taking = taking};
    bool ok = start_capture(&capture, err) && taking->source.engine->backup(&request, facts, err);
    if (!end_capture(&capture, ok ? err : NULL))
        ok = false;
    stop_reporting(taking);
    return ok;
}

static bool
start_capture(struct capture *capture, struct hf_error *err)
{
    const int failure = pthread_create(&capture->thread, NULL, capture_main, capture);
    capture->running = failure == 0;
    if (failure == 0)
        return true;
    errno = failure;
    return hf_fail_errno(err, HF_ERR_NONE, "could not start a thread");
}

/* The first failure is the one that is told: err is NULL when there was one already. */
static bool
end_capture(struct capture *capture, struct hf_error *err)
{
    if (!capture->running)
        return true;
    pthread_join(capture->thread, NULL);
    if (!capture->ok && err != NULL)
        *err = capture->err;
    return capture->ok;
}

static void *
capture_main(void *context)
{
    struct capture *capture = context;
    capture->ok = capture_environment(capture->taking, &capture->err);
    return NULL;
}

/* Sealed with the backup like any file of it. */
static bool
capture_environment(struct taking *taking, struct hf_error *err)
{
    const struct hf_backup_sink *sink = hf_session_sink_of(taking->sink, taking->session);
    _cleanup_(hf_json_freep) json_t *environment = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(ENVIRONMENT_MOST);
    if (!taking->source.engine->capture_environment(&taking->source.target, sink, &environment, err) ||
        !hf_json_canonical(environment, &text, err))
        return hf_fail_within(err, "the settings of \"%s\"", taking->source.target.name);
    const struct hf_backup_file file = {.path = ENVIRONMENT_PATH,
                                        .kind = HF_BACKUP_FILE_CAPTURED,
                                        .mode = 0600,
                                        .modified_at = hf_time_now_ms(),
                                        .size = text.length,
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    return hf_backup_sink_put(sink, &file, text.data, text.length, err);
}

static bool
commit(struct taking *taking, const struct hf_backup_facts *facts, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = NULL;
    struct hf_session_outcome outcome;
    const struct hf_session_counts *live = hf_session_counts(taking->session);
    const char *why;
    const struct hf_id parent = hf_session_parent(taking->session, &why);
    char why_text[200];
    snprintf(why_text, sizeof why_text, "%s", why);
    const struct hf_facts_extra extra = {.engine = taking->source.engine->name,
                                         .superuser =
                                             taking->identity.superuser[0] != 0 ? taking->identity.superuser : NULL,
                                         .logical_bytes = atomic_load(&live->bytes_taken)};

    hf_worker_progress(taking->worker, "commit", 0, 0);
    if (!hf_session_flush(taking->session, err) || !hf_worker_go_on(taking->worker, err))
        return false;
    struct hf_session_counts counts;
    atomic_init(&counts.pages, atomic_load(&live->pages));
    atomic_init(&counts.pages_stored, atomic_load(&live->pages_stored));
    atomic_init(&counts.pages_aged, atomic_load(&live->pages_aged));
    atomic_init(&counts.pages_healed, atomic_load(&live->pages_healed));
    atomic_init(&counts.pages_kept, atomic_load(&live->pages_kept));
    if (!hf_facts_to_json(facts, &taking->faults, &extra, &json, err) ||
        !hf_backup_build_describe(&taking->build, atomic_load(&live->pages_kept), json, err) ||
        !hf_session_commit(&taking->session, json, &outcome, err))
        return false;
    if (taking->faults.bad > 0) {
        hf_worker_note(taking->worker, HF_LOG_WARNING,
                       "%llu pages were damaged on the source before the backup; the backup keeps them as they are",
                       (unsigned long long)taking->faults.bad);
        hf_worker_bad_news(taking->worker);
    }
    return describe_outcome(taking, &outcome, facts, &counts, &parent, why_text, ret_result, err) &&
           hf_json_set(*ret_result, "scan", json_copy(json_object_get(json, "scan")), err);
}

static bool
describe_outcome(const struct taking *taking, const struct hf_session_outcome *outcome,
                 const struct hf_backup_facts *facts, const struct hf_session_counts *counts,
                 const struct hf_id *parent, const char *why, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *result = json_object();
    if (result == NULL || !hf_json_set(result, "backup", hf_json_id_text(&outcome->backup), err) ||
        !hf_json_set(result, "source", json_string(taking->source.target.name), err) ||
        !hf_json_set(result, "parent", hf_id_is_none(parent) ? json_null() : hf_json_id_text(parent), err) ||
        !hf_json_set(result, "stored_whole_because", why[0] != 0 ? json_string(why) : json_null(), err) ||
        !hf_json_set(result, "state", json_string("unproven"), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)outcome->files), err) ||
        !hf_json_set(result, "logical_bytes", json_integer((json_int_t)outcome->logical_bytes), err) ||
        !hf_json_set(result, "stored_bytes", json_integer((json_int_t)outcome->stored_bytes), err) ||
        !hf_json_set(result, "pages", json_integer((json_int_t)atomic_load(&counts->pages)), err) ||
        !hf_json_set(result, "pages_stored", json_integer((json_int_t)atomic_load(&counts->pages_stored)), err) ||
        !hf_json_set(result, "pages_kept", json_integer((json_int_t)atomic_load(&counts->pages_kept)), err) ||
        !hf_json_set(result, "pages_aged", json_integer((json_int_t)atomic_load(&counts->pages_aged)), err) ||
        !hf_json_set(result, "pages_healed", json_integer((json_int_t)atomic_load(&counts->pages_healed)), err) ||
        !hf_json_set(result, "bad_pages", json_integer((json_int_t)taking->faults.bad), err) ||
        !hf_json_set(result, "pending_pages", json_integer((json_int_t)taking->faults.pending), err) ||
        !hf_json_set(result, "duration_ms", json_integer(facts->stopped_at - facts->started_at), err))
        return false;
    *ret = HF_TAKE(result);
    return true;
}

/* Passes counts to whoever watches, and the wish to stop to the source. */
static void *
report(void *context)
{
    struct taking *taking = context;
    do {
        if (atomic_load(hf_worker_cancel(taking->worker)))
            atomic_store(&taking->progress.cancel, true);
        hf_worker_progress(taking->worker, "copy", atomic_load(&taking->progress.done),
                           atomic_load(&taking->progress.total));
    } while (!hf_bell_wait(&taking->over, REPORT_EVERY_MS));
    return NULL;
}

static void
stop_reporting(struct taking *taking)
{
    hf_bell_ring(&taking->over);
    if (taking->reporting)
        pthread_join(taking->reporter, NULL);
    taking->reporting = false;
}

/* Of the log that was received; a server on an older one is no longer the source. */
static bool
find_timeline(struct hf_vault *vault, uint32_t *ret, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    *ret = 0;
    for (size_t i = 0; i < state->stretch_count; i++)
        if (state->stretches[i].source != NULL && state->stretches[i].timeline > *ret)
            *ret = state->stretches[i].timeline;
    return true;
}

/*
 * The second place: made (repo copy), brought up to date (repo sync), and used to mend the first (repo heal).  Neither
 * of the first two is handed a key: the repository stays locked in their workers.
 */
#include <stdio.h>
#include <string.h>

#include "server/job/damage.h"
#include "server/job/daemon_internal.h"
#include "server/job/open_repository.h"
#include "server/job/second_places.h"
#include "server/care/copy.h"

#define PROBLEMS_SHOWN_MOST 1000
#define RATE_MOST_KIB       (64LL * 1024 * 1024)

/* Problems as they are told: [{kind, object, message}]; the counts go on. */
struct problems {
    json_t *rows;
    bool out_of_memory;
};

static bool copy_to(struct hf_worker *worker, const json_t *request, const char *place, struct hf_progress_relay *relay,
                    json_t **ret, struct hf_error *err);
static bool copy_row(const char *place, const struct hf_copy_report *report, const struct problems *problems,
                     int64_t compared_at, json_t **ret, struct hf_error *err);
static bool failed_row(const char *place, const struct hf_error *why, json_t **ret, struct hf_error *err);
static void take_problem(void *context, const struct hf_copy_problem *problem);
static bool is_bad_news(const json_t *row);
static bool look_again(struct hf_worker *worker, struct hf_repository *repository, const json_t *known, json_t *sound,
                       struct hf_error *err);

/* The packs that were found whole, of those that were asked for. */
struct looking {
    json_t *sound;
    bool out_of_memory;
};
static void take_judgement(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound);

bool
hf_copy_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {
        {"to", 's', true}, {"fast", 'b', false}, {"read_back", 'b', false}, {"rate", 'i', false}};
    const json_t *arguments = hf_job_arguments(job), *rate = json_object_get(arguments, "rate");
    const char *to = json_string_value(json_object_get(arguments, "to"));
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    if (rate != NULL && (json_integer_value(rate) < 0 || json_integer_value(rate) > RATE_MOST_KIB))
        return hf_fail(err, HF_ERR_USAGE, "the rate is a number of KiB a second, 0 to %lld; 0 is no limit",
                       RATE_MOST_KIB);
    const int64_t bytes =
        rate != NULL ? json_integer_value(rate) * (int64_t)HF_KIB : hf_daemon_settings(daemon)->second_place.rate;
    // A disk at hand is read again; over a network that would be everything twice.
    const bool read_back = hf_place_is_local(to) || json_is_true(json_object_get(arguments, "read_back"));
    *ret_request =
        json_pack("{s:[s], s:b, s:b, s:b, s:I, s:{}, s:I, s:I}", "places", to, "make", 1, "fast",
                  (int)json_is_true(json_object_get(arguments, "fast")), "read_back", (int)read_back, "window_ms",
                  (json_int_t)0, "compared", "rate", (json_int_t)bytes, "now", (json_int_t)hf_daemon_now(daemon));
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_sync_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"to", 's', false}, {"fast", 'b', false}};
    const struct hf_settings *settings = hf_daemon_settings(daemon);
    const char *to = json_string_value(json_object_get(hf_job_arguments(job), "to"));
    _cleanup_(hf_json_freep) json_t *places = json_array(), *compared = NULL;
    if (!hf_arguments_check(hf_job_arguments(job), known, HF_LENGTH(known), err))
        return false;
    // By itself it reads a share there each time, as a scrub does here: else every interval would read all.
    const bool fast = strcmp(hf_job_requested_by(job), "schedule") == 0 ||
                      json_is_true(json_object_get(hf_job_arguments(job), "fast"));
    if (to != NULL && json_array_append_new(places, json_string(to)) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    for (char **place = settings->second_place.at; to == NULL && place != NULL && *place != NULL; place++)
        if (json_array_append_new(places, json_string(*place)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (json_array_size(places) == 0) {
        hf_fail(err, HF_ERR_USAGE, "no second place is set");
        return hf_fail_hint(err, "Make one with \"holdfast repo copy --to PLACE\", and name it in the settings below "
                                 "second_place.at.");
    }
    if (!hf_second_places_compared(hf_daemon_catalog(daemon), places, &compared, err))
        return false;
    *ret_request = json_pack("{s:O, s:b, s:b, s:b, s:I, s:O, s:I, s:I}", "places", places, "make", 0, "fast", (int)fast,
                             "read_back", 0, "window_ms", (json_int_t)settings->scrub.window_ms, "compared", compared,
                             "rate", (json_int_t)settings->second_place.rate, "now", (json_int_t)hf_daemon_now(daemon));
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_copy_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *result = json_object(), *rows = json_array();
    json_t *places;
    const json_t *place;
    size_t index;
    if (result == NULL || rows == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_array(request, "places", "the request", &places, err))
        return false;
    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    json_array_foreach(places, index, place)
    {
        json_t *row;
        struct hf_error why = {0};
        atomic_store(&relay.done, 0);
        atomic_store(&relay.total, 0);
        atomic_store(&relay.phase, "copy");
        if (!copy_to(worker, request, json_string_value(place), &relay, &row, &why)) {
            // One place that is away keeps nobody from the next.
            if (json_array_size(places) == 1 || why.kind == HF_ERR_CANCELLED) {
                *err = why;
                return false;
            }
            if (!failed_row(json_string_value(place), &why, &row, err))
                return false;
        }
        if (is_bad_news(row))
            hf_worker_bad_news(worker);
        if (json_array_append_new(rows, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    }
    if (!hf_json_set(result, "places", json_incref(rows), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

bool
hf_copy_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                 struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const int64_t now = hf_daemon_now(daemon);
    const char *to = json_string_value(json_object_get(hf_job_arguments(job), "to"));
    json_t *rows, *row;
    size_t index;
    if (*result == NULL) {
        char **at = hf_daemon_settings(daemon)->second_place.at;
        if (to == NULL && at != NULL && at[1] == NULL)
            to = at[0];
        return to == NULL || why == NULL || hf_second_place_keep(catalog, to, NULL, why, now, err);
    }
    if (!hf_json_array(*result, "places", "the result", &rows, err))
        return false;
    json_array_foreach(rows, index, row)
    {
        const char *place, *message = json_string_value(json_object_get(row, "error"));
        struct hf_error failure;
        if (!hf_json_string(row, "place", "the result", &place, err))
            return false;
        if (message != NULL)
            hf_fail(&failure, HF_ERR_UNAVAILABLE, "%s", message);
        if (!hf_second_place_keep(catalog, place, message != NULL ? NULL : row, message != NULL ? &failure : NULL, now,
                                  err))
            return false;
    }
    return true;
}

bool
hf_heal_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"from", 's', true}, {"dry_run", 'b', false}};
    const json_t *arguments = hf_job_arguments(job);
    json_t *packs;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    if (hf_records_read_only(hf_daemon_records(daemon)))
        return hf_fail(err, HF_ERR_CONFLICT,
                       "this is a copy: it is mended by \"holdfast repo sync\" from its original");
    if (!hf_damage_known_packs(daemon, &packs, err))
        return false;
    *ret_request = json_pack("{s:s, s:b, s:o}", "from", json_string_value(json_object_get(arguments, "from")),
                             "dry_run", (int)json_is_true(json_object_get(arguments, "dry_run")), "known", packs);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_heal_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *here = NULL, *there = NULL;
    _cleanup_(hf_json_freep) json_t *result = json_object(), *rows = json_array(), *sound = json_array();
    struct problems problems = {.rows = rows};
    struct hf_heal_report report;
    const char *from;
    bool dry_run;
    json_t *known;
    if (result == NULL || rows == NULL || sound == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_string(request, "from", "the request", &from, err) ||
        !hf_json_boolean(request, "dry_run", "the request", &dry_run, err) ||
        !hf_json_array(request, "known", "the request", &known, err) ||
        !hf_repository_open(hf_worker_settings(worker)->repository, HF_ACCESS_REPAIR, &here, err) ||
        !hf_repository_open(from, HF_ACCESS_READ, &there, err))
        return false;

    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    atomic_store(&relay.phase, "heal");
    const struct hf_heal_options options = {.dry_run = dry_run,
                                            .cancel = hf_worker_cancel(worker),
                                            .problem = take_problem,
                                            .context = &problems,
                                            .done = &relay.done,
                                            .total = &relay.total};
    if (!hf_repository_heal(here, there, &options, &report, err) ||
        (!dry_run && !look_again(worker, here, known, sound, err)))
        return false;
    if (problems.out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_set(result, "from", json_string(from), err) ||
        !hf_json_set(result, "dry_run", json_boolean(dry_run), err) ||
        !hf_json_set(result, "objects", json_incref(rows), err) ||
        !hf_json_set(result, "damaged", json_integer((json_int_t)report.damaged), err) ||
        !hf_json_set(result, "healed", json_integer((json_int_t)report.healed), err) ||
        !hf_json_set(result, "healed_bytes", json_integer((json_int_t)report.healed_bytes), err) ||
        !hf_json_set(result, "sound", json_incref(sound), err))
        return false;
    if (report.healed < report.damaged || (dry_run && report.damaged > 0))
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

/* Backups whose known damages are all gone are healed. */
bool
hf_heal_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                 struct hf_error *err)
{
    json_t *sound;
    _cleanup_(hf_json_freep) json_t *affected = json_array();
    (void)job;
    if (*result == NULL || why != NULL || json_is_true(json_object_get(*result, "dry_run")))
        return true;
    return hf_json_array(*result, "sound", "the result", &sound, err) &&
           hf_damage_record_healed(daemon, sound, affected, err);
}

static bool
copy_to(struct hf_worker *worker, const json_t *request, const char *place, struct hf_progress_relay *relay,
        json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *source = NULL;
    _cleanup_(hf_copy_report_done) struct hf_copy_report report = {0};
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    struct problems problems = {.rows = rows};
    const json_t *compared = json_object_get(json_object_get(request, "compared"), place);
    const struct hf_copy_options options = {
        .make = json_is_true(json_object_get(request, "make")),
        .fast = json_is_true(json_object_get(request, "fast")),
        .reread_window_ms = json_integer_value(json_object_get(request, "window_ms")),
        .reread_since = compared == NULL ? -1 : json_integer_value(compared),
        .read_back = json_is_true(json_object_get(request, "read_back")),
        .bytes_per_second = (uint64_t)json_integer_value(json_object_get(request, "rate")),
        .now = json_integer_value(json_object_get(request, "now")),
        .cancel = hf_worker_cancel(worker),
        .problem = take_problem,
        .context = &problems,
        .done = &relay->done,
        .total = &relay->total};
    if (!hf_repository_open(hf_worker_settings(worker)->repository, HF_ACCESS_READ, &source, err) ||
        !hf_repository_copy(source, place, &options, &report, err))
        return false;
    if (rows == NULL || problems.out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    const bool all_read = !options.fast || options.reread_window_ms > 0;
    return copy_row(place, &report, &problems, all_read ? options.now : -1, ret, err);
}

static bool
copy_row(const char *place, const struct hf_copy_report *report, const struct problems *problems, int64_t compared_at,
         json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *heads = json_object();
    const uint64_t left = report->damaged + report->differ;
    for (size_t i = 0; i < report->head_count; i++) {
        char text[HF_ID_TEXT_BYTES];
        if (!hf_json_set(heads, hf_id_format(&report->heads[i].vault, text),
                         json_integer((json_int_t)report->heads[i].sequence), err))
            return false;
    }
    *ret = json_pack("{s:s, s:b, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "place", place,
                     "made", (int)report->made, "complete", (int)(left == 0), "durability",
                     hf_durability_name(report->durability), "entries", (json_int_t)report->entries, "objects",
                     (json_int_t)report->objects, "bytes", (json_int_t)report->bytes, "kept", (json_int_t)report->kept,
                     "kept_bytes", (json_int_t)report->kept_bytes, "removed", (json_int_t)report->removed,
                     "removed_bytes", (json_int_t)report->removed_bytes, "repaired", (json_int_t)report->repaired,
                     "problem_count", (json_int_t)left, "problems", problems->rows, "heads", heads);
    const uint64_t ms = report->elapsed_ms > 0 ? report->elapsed_ms : 1;
    const double written = (double)report->bytes * 1000 / (double)ms;
    return *ret != NULL
               ? hf_json_set(*ret, "compared", json_integer((json_int_t)report->compared), err) &&
                     hf_json_set(*ret, "compared_bytes", json_integer((json_int_t)report->compared_bytes), err) &&
                     hf_json_set(*ret, "compared_at", compared_at < 0 ? json_null() : json_integer(compared_at), err) &&
                     hf_json_set(*ret, "elapsed_ms", json_integer((json_int_t)ms), err) &&
                     hf_json_set(*ret, "bytes_per_second", json_integer((json_int_t)written), err)
               : hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static bool
failed_row(const char *place, const struct hf_error *why, json_t **ret, struct hf_error *err)
{
    *ret = json_pack("{s:s, s:b, s:s, s:s}", "place", place, "complete", 0, "error", why->message, "hint", why->hint);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static void
take_problem(void *context, const struct hf_copy_problem *problem)
{
    struct problems *problems = context;
    if (json_array_size(problems->rows) >= PROBLEMS_SHOWN_MOST)
        return;
    json_t *row = json_pack("{s:s, s:s, s:s}", "kind", hf_copy_problem_name(problem->kind), "object", problem->object,
                            "message", problem->message);
    if (json_array_append_new(problems->rows, row) != 0)
        problems->out_of_memory = true;
}

/* Also what was mended: the place lost or altered it. */
static bool
is_bad_news(const json_t *row)
{
    return !json_is_true(json_object_get(row, "complete")) || json_integer_value(json_object_get(row, "repaired")) > 0;
}

/* Reads the packs once more of which a damage is known, by the log's hash. */
static bool
look_again(struct hf_worker *worker, struct hf_repository *repository, const json_t *known, json_t *sound,
           struct hf_error *err)
{
    const size_t count = json_array_size(known);
    _cleanup_(hf_freep) struct hf_id *packs = calloc(count + 1, sizeof *packs);
    struct looking looking = {.sound = sound};
    struct hf_check_report report;
    if (packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(known, i));
        if (text == NULL || !hf_id_parse(text, &packs[i], err))
            return hf_fail(err, HF_ERR_CORRUPT, "the request names no packs");
    }
    const struct hf_check_options options = {.level = 1,
                                             .packs = packs,
                                             .pack_count = count,
                                             .workers = 1,
                                             .cancel = hf_worker_cancel(worker),
                                             .judged = take_judgement,
                                             .context = &looking};
    if (count > 0 && !hf_repository_check(repository, &options, &report, err))
        return false;
    return !looking.out_of_memory || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static void
take_judgement(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound)
{
    struct looking *looking = context;
    (void)vault;
    if (sound && json_array_append_new(looking->sound, hf_json_id_text(pack)) != 0)
        looking->out_of_memory = true;
}

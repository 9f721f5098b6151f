#include "server/report/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "server/report/controls.h"
#include "server/report/forecast.h"

#define DAY_MS  (INT64_C(24) * 3600 * 1000)
#define NO_TIME INT64_C(-1)

/* The month of one source while it is added up. */
struct month {
    const struct gathering *work;
    const char *source;
    json_t *row;
    int64_t from, to; // ms
    int64_t as_of;
};

/* Times of one kind, to be put in order. */
struct times {
    int64_t *list;
    size_t count;
    json_int_t over; // longer than the objective
};

static bool list_sources(const struct gathering *work, json_t **ret, struct hf_error *err);
static bool add_name(json_t *names, const char *name, struct hf_error *err);
static bool add_source(const struct gathering *work, const char *source, json_t *model, struct hf_error *err);
static bool add_days(struct month *month, struct hf_error *err);
static const char *name_day(const struct month *month, int64_t from, int64_t to);
static const json_t *summary_of(const struct month *month, const char *backup, const char *result);
static bool add_counts(struct month *month, struct hf_error *err);
static bool add_attempts(struct month *month, struct hf_error *err);
static json_t *closing(const struct month *month, const json_t *failed);
static bool add_times(struct month *month, const char *member, const char *of, const char *objective,
                      struct hf_error *err);
static int compare_times(const void *a, const void *b);
static bool add_forecast(struct month *month, struct hf_error *err);
static bool add_gaps(struct month *month, struct hf_error *err);
static bool take_gap(void *context, const struct hf_gap_row *row, struct hf_error *err);
static bool is_of(const struct month *month, const json_t *row);
static bool within(const struct month *month, int64_t ms);

bool
hf_gather_month(struct gathering *work, json_t *model, struct hf_error *err)
{
    int64_t from, to;
    json_t *names, *sources = json_array(), *days = json_array();
    size_t index;
    json_t *name;
    if (!hf_json_set(model, "sources", sources, err) || !hf_json_set(model, "days", days, err) ||
        !hf_report_month(work->request->month, &from, &to, err))
        return false;
    const bool in_progress = work->request->as_of < to;
    for (int64_t day = from, number = 1; day < to; day += DAY_MS, number++)
        if (!hf_words_add(days, json_integer(number), err))
            return false;
    if (!hf_json_set(model, "kind", json_string("month"), err) ||
        !hf_json_set(model, "month", json_string(work->request->month), err) ||
        !hf_json_set(model, "from", hf_gather_time(from), err) || !hf_json_set(model, "to", hf_gather_time(to), err) ||
        !hf_json_set(model, "in_progress", json_boolean(in_progress), err) ||
        !hf_json_set(model, "as_of", hf_gather_time(in_progress ? work->request->as_of : to), err) ||
        !hf_json_set(model, "source", work->request->source == NULL ? json_null() : json_string(work->request->source),
                     err) ||
        !hf_json_set(model, "acts", json_integer(work->acts), err) || !list_sources(work, &names, err))
        return false;
    _cleanup_(hf_json_freep) json_t *owned = names;
    json_array_foreach(owned, index, name)
    {
        if (!add_source(work, json_string_value(name), model, err))
            return false;
    }
    return hf_controls_judge(model, err);
}

/* Those the daemon knows, and those that only backups of the month speak of: a removed source is not forgotten. */
static bool
list_sources(const struct gathering *work, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *names = json_array();
    json_t *row;
    size_t index;
    int64_t from, to;
    if (names == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    if (!hf_report_month(work->request->month, &from, &to, err))
        return false;
    json_array_foreach(hf_at(work->request->known, "sources"), index, row)
    {
        const char *name = hf_text_at(row, "name");
        if ((work->request->source == NULL || strcmp(work->request->source, name) == 0) && !add_name(names, name, err))
            return false;
    }
    json_array_foreach(work->backups, index, row)
    {
        const int64_t ended = hf_gather_ms(row, "ended_at");
        if (ended >= from && ended < to && !add_name(names, hf_text_at(row, "source"), err))
            return false;
    }
    *ret = HF_TAKE(names);
    return true;
}

static bool
add_name(json_t *names, const char *name, struct hf_error *err)
{
    size_t index;
    json_t *known;
    json_array_foreach(names, index, known)
    {
        if (strcmp(json_string_value(known), name) == 0)
            return true;
    }
    return name[0] == '\0' || hf_words_add(names, json_string(name), err);
}

static bool
add_source(const struct gathering *work, const char *source, json_t *model, struct hf_error *err)
{
    const json_t *known = hf_gather_known(work, source);
    struct month month = {.work = work, .source = source, .row = json_object(), .as_of = work->request->as_of};
    if (!hf_words_add(json_object_get(model, "sources"), month.row, err) ||
        !hf_report_month(work->request->month, &month.from, &month.to, err))
        return false;
    return hf_json_set(month.row, "name", json_string(source), err) &&
           hf_json_set(month.row, "engine", json_string(hf_text_at(known, "engine")), err) &&
           hf_json_set(month.row, "known", json_deep_copy(known), err) && add_days(&month, err) &&
           add_counts(&month, err) && add_attempts(&month, err) &&
           add_times(&month, "recover_ms", "recover", "objective_recovery_ms", err) &&
           add_times(&month, "loss_ms", "loss", "objective_loss_ms", err) && add_forecast(&month, err) &&
           add_gaps(&month, err);
}

static bool
add_days(struct month *month, struct hf_error *err)
{
    json_t *days = json_array();
    json_int_t covered = 0, past = 0;
    if (!hf_json_set(month->row, "days", days, err))
        return false;
    for (int64_t day = month->from; day < month->to; day += DAY_MS) {
        const char *name = day > month->as_of ? "future" : name_day(month, day, day + DAY_MS);
        covered += strcmp(name, "proven") == 0;
        past += day <= month->as_of;
        if (!hf_words_add(days, json_string(name), err))
            return false;
    }
    return hf_json_set(month->row, "covered_days", json_integer(covered), err) &&
           hf_json_set(month->row, "past_days", json_integer(past), err);
}

/* The best that a backup of that day has come to, by what verified documents say. */
static const char *
name_day(const struct month *month, int64_t from, int64_t to)
{
    const char *best = "none";
    size_t index;
    json_t *backup;
    json_array_foreach(month->work->backups, index, backup)
    {
        const int64_t ended = hf_gather_ms(backup, "ended_at");
        const char *id = hf_text_at(backup, "backup"), *state = hf_text_at(backup, "state");
        if (ended < from || ended >= to || !is_of(month, backup))
            continue;
        if (strcmp(state, "proven") == 0 && summary_of(month, id, "passed") != NULL)
            return "proven";
        if (strcmp(state, "failed") == 0 || strcmp(state, "damaged") == 0)
            best = "failed";
        else if (strcmp(best, "failed") != 0)
            best = summary_of(month, id, "inconclusive") != NULL ? "inconclusive"
                   : strcmp(best, "none") == 0                   ? "backup"
                                                                 : best;
    }
    return best;
}

/* The newest verified attempt on a backup with that result. */
static const json_t *
summary_of(const struct month *month, const char *backup, const char *result)
{
    for (size_t i = json_array_size(month->work->summaries); i > 0; i--) {
        const json_t *summary = json_array_get(month->work->summaries, i - 1);
        if (strcmp(hf_text_at(summary, "backup"), backup) == 0 && strcmp(hf_text_at(summary, "result"), result) == 0)
            return summary;
    }
    return NULL;
}

static bool
add_counts(struct month *month, struct hf_error *err)
{
    json_int_t backups = 0, proven = 0, of_catalog = 0, verified = 0, bad_pages = 0;
    int64_t newest = NO_TIME;
    size_t index;
    json_t *row;
    json_array_foreach(month->work->backups, index, row)
    {
        const int64_t ended = hf_gather_ms(row, "ended_at");
        const bool is_proven = strcmp(hf_text_at(row, "state"), "proven") == 0 &&
                               summary_of(month, hf_text_at(row, "backup"), "passed") != NULL;
        if (!is_of(month, row))
            continue;
        if (is_proven && ended > newest && ended < month->to)
            newest = ended;
        if (!within(month, ended))
            continue;
        backups++;
        proven += is_proven;
        bad_pages += hf_number_at(row, "bad_pages", 0) > 0;
    }
    json_array_foreach(month->work->attempts, index, row) of_catalog +=
        is_of(month, row) && within(month, hf_gather_ms(row, "recorded_at"));
    json_array_foreach(month->work->summaries, index, row) verified +=
        is_of(month, row) && within(month, hf_gather_ms(row, "created_at"));
    return hf_json_set(month->row, "backups", json_integer(backups), err) &&
           hf_json_set(month->row, "proven", json_integer(proven), err) &&
           hf_json_set(month->row, "damaged_at_source", json_integer(bad_pages), err) &&
           hf_json_set(month->row, "newest_proven_at", hf_gather_time(newest), err) &&
           hf_json_set(month->row, "unsupported", json_integer(of_catalog > verified ? of_catalog - verified : 0), err);
}

static bool
add_attempts(struct month *month, struct hf_error *err)
{
    json_t *failed = json_array(), *inconclusive = json_array(), *summary, *exceptions;
    json_int_t attempts = 0, passed = 0;
    size_t index;
    if (!hf_json_set(month->row, "failed", failed, err) || !hf_json_set(month->row, "inconclusive", inconclusive, err))
        return false;
    json_array_foreach(month->work->summaries, index, summary)
    {
        const char *result = hf_text_at(summary, "result");
        if (!is_of(month, summary) || !within(month, hf_gather_ms(summary, "created_at")))
            continue;
        attempts++;
        passed += strcmp(result, "passed") == 0;
        if (strcmp(result, "passed") == 0)
            continue;
        json_t *copy = json_deep_copy(summary);
        if (!hf_words_add(strcmp(result, "failed") == 0 ? failed : inconclusive, copy, err) ||
            !hf_json_set(copy, "closed_by", closing(month, summary), err) ||
            !hf_gather_exceptions_of(month->work, hf_text_at(summary, "evidence"), month->as_of, &exceptions, err) ||
            !hf_json_set(copy, "exceptions", exceptions, err))
            return false;
    }
    return hf_json_set(month->row, "attempts", json_integer(attempts), err) &&
           hf_json_set(month->row, "passed", json_integer(passed), err);
}

/* The next attempt on this source that passed: since then something can be restored again. */
static json_t *
closing(const struct month *month, const json_t *failed)
{
    size_t index;
    json_t *summary;
    json_array_foreach(month->work->summaries, index, summary)
    {
        if (is_of(month, summary) && hf_number_at(summary, "index", 0) > hf_number_at(failed, "index", 0) &&
            strcmp(hf_text_at(summary, "result"), "passed") == 0)
            return json_pack("{s:O, s:O, s:O}", "evidence", hf_at(summary, "evidence"), "backup",
                             hf_at(summary, "backup"), "at", hf_at(summary, "created_at"));
    }
    return json_null();
}

static bool
add_times(struct month *month, const char *member, const char *of, const char *objective, struct hf_error *err)
{
    const size_t most = json_array_size(month->work->summaries);
    const int64_t aim = hf_number_at(hf_at(month->row, "known"), objective, -1);
    _cleanup_(hf_freep) int64_t *list = calloc(most + 1, sizeof *list);
    struct times times = {.list = list};
    size_t index;
    json_t *summary;
    if (list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    json_array_foreach(month->work->summaries, index, summary)
    {
        const int64_t ms = hf_number_at(summary, member, -1);
        if (ms < 0 || !is_of(month, summary) || !within(month, hf_gather_ms(summary, "created_at")))
            continue;
        times.list[times.count++] = ms;
        times.over += aim >= 0 && ms > aim;
    }
    qsort(times.list, times.count, sizeof *times.list, compare_times);
    const bool any = times.count > 0;
    return hf_json_set(month->row, of,
                       json_pack("{s:I, s:o, s:o, s:I, s:o}", "count", (json_int_t)times.count, "middle_ms",
                                 any ? json_integer(times.list[times.count / 2]) : json_null(), "most_ms",
                                 any ? json_integer(times.list[times.count - 1]) : json_null(), "over", times.over,
                                 "objective_ms", aim < 0 ? json_null() : json_integer(aim)),
                       err);
}

static int
compare_times(const void *a, const void *b)
{
    const int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* For the newest backup before the end of the month, from the attempts before it. */
static bool
add_forecast(struct month *month, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_recovery_sample *samples =
        calloc(json_array_size(month->work->summaries) + 1, sizeof *samples);
    struct hf_forecast forecast;
    size_t count = 0, index;
    json_t *row;
    int64_t bytes = -1;
    if (samples == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    json_array_foreach(month->work->summaries, index, row)
    {
        if (is_of(month, row) && hf_gather_ms(row, "created_at") < month->to &&
            hf_forecast_sample(row, &samples[count]))
            count++;
    }
    json_array_foreach(month->work->backups, index, row)
    {
        if (bytes < 0 && is_of(month, row) && hf_gather_ms(row, "ended_at") < month->to)
            bytes = hf_number_at(row, "logical_bytes", -1);
    }
    if (bytes < 0 || !hf_forecast_make(samples, count, bytes, &forecast))
        return hf_json_set(month->row, "forecast", json_null(), err);
    return hf_json_set(month->row, "forecast",
                       json_pack("{s:I, s:I, s:o}", "recovery_ms", (json_int_t)forecast.recovery_ms, "attempts",
                                 (json_int_t)forecast.attempts, "error_ppm",
                                 forecast.error_ppm < 0 ? json_null() : json_integer(forecast.error_ppm)),
                       err);
}

static bool
add_gaps(struct month *month, struct hf_error *err)
{
    struct hf_id vault;
    if (!hf_json_set(month->row, "gaps", json_array(), err) ||
        !hf_catalog_source_vault(month->work->catalog, month->source, &vault, err))
        return false;
    return hf_id_is_none(&vault) || hf_catalog_gaps(month->work->catalog, &vault, take_gap, month, err);
}

static bool
take_gap(void *context, const struct hf_gap_row *row, struct hf_error *err)
{
    struct month *month = context;
    if (!within(month, row->noticed_at))
        return true;
    return hf_words_add(json_object_get(month->row, "gaps"),
                        json_pack("{s:o, s:o, s:o, s:o, s:b}", "from", hf_gather_name(row->from), "to",
                                  hf_gather_name(row->to), "cause", hf_gather_name(row->cause), "noticed_at",
                                  hf_gather_time(row->noticed_at), "bounded", (int)row->anchored),
                        err);
}

static bool
is_of(const struct month *month, const json_t *row)
{
    return strcmp(hf_text_at(row, "source"), month->source) == 0;
}

static bool
within(const struct month *month, int64_t ms)
{
    return ms >= month->from && ms < month->to;
}

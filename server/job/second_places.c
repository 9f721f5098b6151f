#include "server/job/second_places.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "catalog/view.h"

#define FACT_PREFIX "second place "
#define FACT_MOST   (4 * HF_MIB)

/* A place, compared with what the catalog knows. */
struct compared {
    const json_t *heads;
    int64_t behind;
    struct hf_id newest; // backup that is there
    int64_t newest_at;
};

static bool read_fact(struct hf_catalog *catalog, const char *place, json_t **ret, struct hf_error *err);
static bool describe(struct hf_catalog *catalog, const struct hf_settings *settings, const char *place, int64_t now,
                     json_t *list, bool *bad, struct hf_error *err);
static bool compare_head(void *context, const struct hf_vault_row *row, struct hf_error *err);
static bool compare_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static int64_t copied_up_to(const struct compared *compared, const struct hf_id *vault);
static int64_t moment_of(const json_t *fact, const char *member);
static json_t *moment_text(int64_t moment);

bool
hf_second_place_keep(struct hf_catalog *catalog, const char *place, const json_t *row, const struct hf_error *why,
                     int64_t now, struct hf_error *err)
{
    char name[HF_SETTINGS_TEXT_MOST + sizeof FACT_PREFIX];
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FACT_MOST);
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    if (!read_fact(catalog, place, &fact, err))
        return false;
    if (fact == NULL)
        fact = json_object();
    if (row != NULL && (!hf_json_set(fact, "heads", json_incref(json_object_get(row, "heads")), err) ||
                        !hf_json_set(fact, "durability", json_incref(json_object_get(row, "durability")), err) ||
                        !hf_json_set(fact, "problems", json_incref(json_object_get(row, "problem_count")), err)))
        return false;
    const json_t *compared = json_object_get(row, "compared_at");
    if (json_is_integer(compared) && !hf_json_set(fact, "compared_at", json_integer(json_integer_value(compared)), err))
        return false;
    const bool complete = row != NULL && json_is_true(json_object_get(row, "complete"));
    if ((complete && !hf_json_set(fact, "completed_at", json_integer(now), err)) ||
        !hf_json_set(fact, "tried_at", json_integer(now), err) ||
        !hf_json_set(fact, "error", why == NULL ? json_null() : json_string(why->message), err) ||
        !hf_json_canonical(fact, &text, err))
        return false;
    snprintf(name, sizeof name, FACT_PREFIX "%s", place);
    return hf_catalog_fact_put(catalog, name, hf_buf_text(&text), err);
}

bool
hf_second_places_status(struct hf_catalog *catalog, const struct hf_settings *settings, int64_t now, json_t **ret,
                        bool *ret_bad, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    *ret_bad = false;
    for (char **place = settings->second_place.at; place != NULL && *place != NULL; place++)
        if (!describe(catalog, settings, *place, now, list, ret_bad, err))
            return false;
    *ret = HF_TAKE(list);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the second places");
}

bool
hf_second_places_tried_at(struct hf_catalog *catalog, const struct hf_settings *settings, int64_t *ret,
                          struct hf_error *err)
{
    *ret = -1;
    for (char **place = settings->second_place.at; place != NULL && *place != NULL; place++) {
        _cleanup_(hf_json_freep) json_t *fact = NULL;
        if (!read_fact(catalog, *place, &fact, err))
            return false;
        const int64_t tried = moment_of(fact, "tried_at");
        if (tried > *ret)
            *ret = tried;
    }
    return true;
}

bool
hf_second_places_compared(struct hf_catalog *catalog, const json_t *places, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *known = json_object();
    const json_t *place;
    size_t index;
    json_array_foreach(places, index, place)
    {
        _cleanup_(hf_json_freep) json_t *fact = NULL;
        if (!read_fact(catalog, json_string_value(place), &fact, err))
            return false;
        const int64_t compared = moment_of(fact, "compared_at");
        if (compared >= 0 && !hf_json_set(known, json_string_value(place), json_integer(compared), err))
            return false;
    }
    *ret = HF_TAKE(known);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the second places");
}

static bool
read_fact(struct hf_catalog *catalog, const char *place, json_t **ret, struct hf_error *err)
{
    char name[HF_SETTINGS_TEXT_MOST + sizeof FACT_PREFIX];
    _cleanup_(hf_freep) char *text = NULL;
    snprintf(name, sizeof name, FACT_PREFIX "%s", place);
    *ret = NULL;
    return hf_catalog_fact_get(catalog, name, &text, err) &&
           (text == NULL || hf_json_parse(text, strlen(text), "what is remembered of a second place", ret, err));
}

static bool
describe(struct hf_catalog *catalog, const struct hf_settings *settings, const char *place, int64_t now, json_t *list,
         bool *bad, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    if (!read_fact(catalog, place, &fact, err))
        return false;
    struct compared compared = {.heads = json_object_get(fact, "heads"), .newest_at = -1};
    if (!hf_catalog_vaults(catalog, compare_head, &compared, err) ||
        !hf_catalog_backups(catalog, NULL, false, compare_backup, &compared, err))
        return false;
    const int64_t completed = moment_of(fact, "completed_at"), oldest = settings->second_place.oldest_ms;
    const int64_t problems = json_integer_value(json_object_get(fact, "problems"));
    const json_t *error = json_object_get(fact, "error");
    // What was never there, or is too old, is bad news; a run that failed once is not yet.
    const char *state = "current";
    if (json_is_string(error) || problems > 0)
        state = "failed";
    if (completed < 0)
        state = "never";
    else if (oldest > 0 && now - completed > oldest)
        state = "late";
    *bad = *bad || strcmp(state, "current") != 0;
    json_t *row = json_pack(
        "{s:s, s:s, s:o, s:o, s:O?, s:I, s:o, s:o, s:I, s:O?}", "place", place, "state", state, "completed_at",
        moment_text(completed), "tried_at", moment_text(moment_of(fact, "tried_at")), "durability",
        json_object_get(fact, "durability"), "behind", (json_int_t)compared.behind, "newest_backup",
        hf_id_is_none(&compared.newest) ? json_null() : hf_json_id_text(&compared.newest), "newest_backup_at",
        moment_text(compared.newest_at), "problems", (json_int_t)problems, "error", error);
    return json_array_append_new(list, row) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the second places");
}

static bool
compare_head(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    struct compared *compared = context;
    const int64_t more = (int64_t)row->head - copied_up_to(compared, &row->vault);
    (void)err;
    compared->behind += more > 0 ? more : 0;
    return true;
}

static bool
compare_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct compared *compared = context;
    (void)err;
    if ((int64_t)row->sequence > copied_up_to(compared, &row->vault) || row->committed_at <= compared->newest_at)
        return true;
    compared->newest = row->backup;
    compared->newest_at = row->committed_at;
    return true;
}

static int64_t
copied_up_to(const struct compared *compared, const struct hf_id *vault)
{
    char text[HF_ID_TEXT_BYTES];
    return json_integer_value(json_object_get(compared->heads, hf_id_format(vault, text)));
}

/* -1: never. */
static int64_t
moment_of(const json_t *fact, const char *member)
{
    const json_t *value = json_object_get(fact, member);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static json_t *
moment_text(int64_t moment)
{
    char text[HF_TIME_TEXT_BYTES];
    return moment < 0 ? json_null() : json_string(hf_time_format(moment, text));
}

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/open_repository.h"
#include "server/repository/pack.h"
#include "server/repository/reader.h"
#include "server/retention/lock.h"

#define REASON_MOST 500 // bytes
#define PASSWD_MOST (16 * HF_KIB)
#define NO_REASON   "none given"

/* A backup that is to be kept or let go. */
struct subject {
    bool found;
    struct hf_id backup, vault;
    char source[HF_SOURCE_NAME_BYTES];
    int64_t pruned_at;
};

/* The holds of one backup that have not ended, and which of them is meant. */
struct held {
    struct hf_id backup;
    int64_t now, wanted; // the number of one; 0: all
    size_t count;
    uint64_t newest;
    bool has_wanted;
};

/* Holds and locks as they are listed. */
struct listing {
    struct hf_daemon *daemon;
    const char *source; // NULL: of all
    json_t *rows;
};

static bool find_subject(struct hf_daemon *daemon, const json_t *arguments, struct subject *ret, struct hf_error *err);
static bool keep_subject(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool read_reason(const json_t *arguments, const char **ret, struct hf_error *err);
static bool read_until(const json_t *arguments, int64_t *ret, struct hf_error *err);
static bool choose_holds(struct hf_daemon *daemon, const json_t *arguments, struct held *held, struct hf_error *err);
static bool count_held(void *context, const struct hf_hold_row *row, struct hf_error *err);
static bool append(struct hf_daemon *daemon, const struct subject *subject, enum hf_log_kind kind, json_t *public_part,
                   json_t *sealed_part, struct hf_error *err);
static bool add_hold(void *context, const struct hf_hold_row *row, struct hf_error *err);
static size_t row_of_lock(const json_t *rows, const char *backup);
static bool retain_packs(struct hf_worker *worker, const struct hf_id *id, int64_t until, size_t *ret_packs,
                         struct hf_error *err);
static bool retain_pack(struct hf_vault *vault, const struct hf_vault_state *state, const struct hf_id *pack,
                        int64_t until, struct hf_error *err);
static json_t *time_json(int64_t ms);

const char *
hf_person_name(const char *requested_by, char name[static HF_PERSON_BYTES])
{
    char buffer[PASSWD_MOST];
    struct passwd entry, *found = NULL;
    unsigned uid;
    snprintf(name, HF_PERSON_BYTES, "%s", requested_by);
    if (sscanf(requested_by, "uid %u", &uid) == 1 && getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 &&
        found != NULL)
        snprintf(name, HF_PERSON_BYTES, "%s", found->pw_name);
    return name;
}

bool
hf_holds_answer_add(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                    struct hf_error *err)
{
    static const struct hf_argument known[] = {{"backup", 's', true}, {"reason", 's', true}, {"until", 's', false}};
    char person[HF_PERSON_BYTES];
    const char *reason;
    struct subject subject = {.found = false};
    int64_t until = INT64_MAX;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !read_reason(arguments, &reason, err) ||
        !find_subject(daemon, arguments, &subject, err) ||
        (json_object_get(arguments, "until") != NULL && !read_until(arguments, &until, err)))
        return false;
    char text[HF_TIME_TEXT_BYTES];
    if (until <= hf_daemon_now(daemon))
        return hf_fail(err, HF_ERR_USAGE, "%s is past: a hold ends in the future, or when it is released",
                       hf_time_format(until, text));
    hf_person_name(daemon->asker, person);
    if (!append(daemon, &subject, HF_LOG_HOLD,
                json_pack("{s:o, s:o}", "backup", hf_json_id_text(&subject.backup), "until",
                          until == INT64_MAX ? json_null() : json_integer(until)),
                json_pack("{s:s, s:s}", "reason", reason, "person", person), err))
        return false;
    *ret_result = json_pack("{s:o, s:s, s:s, s:s, s:o}", "backup", hf_json_id_text(&subject.backup), "source",
                            subject.source, "person", person, "reason", reason, "until", time_json(until));
    return true;
}

bool
hf_holds_answer_release(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                        struct hf_error *err)
{
    static const struct hf_argument known[] = {
        {"backup", 's', true}, {"reason", 's', true}, {"hold", 'i', false}, {"all", 'b', false}};
    char person[HF_PERSON_BYTES];
    const char *reason;
    struct subject subject = {.found = false};
    struct held held = {.now = hf_daemon_now(daemon), .wanted = json_integer_value(json_object_get(arguments, "hold"))};
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !read_reason(arguments, &reason, err) ||
        !find_subject(daemon, arguments, &subject, err))
        return false;
    held.backup = subject.backup;
    if (!choose_holds(daemon, arguments, &held, err))
        return false;
    hf_person_name(daemon->asker, person);
    json_t *named = held.wanted == 0 ? json_null() : json_integer(held.wanted);
    if (!append(daemon, &subject, HF_LOG_RELEASE,
                json_pack("{s:o, s:o}", "backup", hf_json_id_text(&subject.backup), "hold", named),
                json_pack("{s:s, s:s}", "reason", reason, "person", person), err))
        return false;
    const size_t released = held.wanted == 0 ? held.count : 1;
    *ret_result = json_pack("{s:o, s:s, s:s, s:s, s:I, s:I}", "backup", hf_json_id_text(&subject.backup), "source",
                            subject.source, "person", person, "reason", reason, "released", (json_int_t)released,
                            "left", (json_int_t)(held.count - released));
    return true;
}

bool
hf_holds_answer_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                     struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}};
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    struct listing listing = {
        .daemon = daemon, .source = json_string_value(json_object_get(arguments, "source")), .rows = rows};
    if (!hf_catalog_holds(hf_daemon_catalog(daemon), add_hold, &listing, err))
        return false;
    *ret_result = json_pack("{s:O}", "holds", rows);
    return true;
}

/* {backup, vault, source, until, change}; the lock there may be long enough, and then there is nothing to do. */
bool
hf_lock_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"backup", 's', true}, {"until", 's', true}, {"reason", 's', false}};
    static const char *const words[] = {
        [HF_LOCK_NEW] = "new", [HF_LOCK_EXTENDED] = "extended", [HF_LOCK_TOO_LITTLE] = "too_little"};
    const json_t *arguments = hf_job_arguments(job);
    struct subject subject = {.found = false};
    const struct hf_vault_state *state;
    enum hf_lock_change change;
    int64_t until;
    const char *reason = NO_REASON;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        (json_object_get(arguments, "reason") != NULL && !read_reason(arguments, &reason, err)) ||
        !find_subject(daemon, arguments, &subject, err) || !read_until(arguments, &until, err) ||
        !hf_records_state(daemon->records, &subject.vault, &state, err))
        return false;
    const struct hf_vault_backup *backup = hf_vault_state_backup(state, &subject.backup);
    const int64_t current = backup == NULL ? INT64_MIN : backup->locked_until;
    if (!hf_lock_judge(current, until, hf_daemon_now(daemon), &change, err) ||
        !hf_job_pin(daemon, job, &subject.vault, &subject.backup,
                    err)) // its packs stay where they are until it is done
        return false;
    hf_job_set_vault(job, &subject.vault);
    *ret_request =
        json_pack("{s:o, s:s, s:I, s:s}", "backup", hf_json_id_text(&subject.backup), "source", subject.source, "until",
                  (json_int_t)(change == HF_LOCK_TOO_LITTLE ? current : until), "change", words[change]);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

/* First the packs, then the entry: a lock that stands in the log is one that the storage knows of. */
bool
hf_lock_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    static const char what[] = "the request";
    struct hf_id id;
    int64_t until;
    const char *change;
    size_t packs = 0;
    if (!hf_json_id(request, "backup", what, &id, err) ||
        !hf_json_integer(request, "until", what, 0, HF_JSON_INTEGER_MOST, &until, err) ||
        !hf_json_string(request, "change", what, &change, err))
        return false;
    if (strcmp(change, "too_little") != 0 && !retain_packs(worker, &id, until, &packs, err))
        return false;
    // Local disk is the only storage there is, and it keeps no promise against its owner.
    *ret_result = json_pack(
        "{s:s, s:s, s:s, s:I, s:o, s:I, s:s}", "backup", json_string_value(json_object_get(request, "backup")),
        "source", json_string_value(json_object_get(request, "source")), "change", change, "until_ms",
        (json_int_t)until, "until", time_json(until), "packs", (json_int_t)packs, "storage", "advisory");
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

bool
hf_lock_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                 struct hf_error *err)
{
    static const char what[] = "the result";
    char person[HF_PERSON_BYTES];
    struct subject subject = {.found = false};
    int64_t until;
    const char *change, *reason = json_string_value(json_object_get(hf_job_arguments(job), "reason"));
    if (why != NULL)
        return true;
    if (!hf_json_string(*result, "change", what, &change, err) ||
        !hf_json_integer(*result, "until_ms", what, 0, HF_JSON_INTEGER_MOST, &until, err) ||
        !find_subject(daemon, *result, &subject, err))
        return false;
    hf_person_name(hf_job_requested_by(job), person);
    json_object_del(*result, "until_ms");
    if (strcmp(change, "too_little") == 0)
        return true;
    return append(daemon, &subject, HF_LOG_LOCK,
                  json_pack("{s:o, s:I}", "backup", hf_json_id_text(&subject.backup), "until", (json_int_t)until),
                  json_pack("{s:s, s:s}", "reason", reason == NULL ? NO_REASON : reason, "person", person), err);
}

static bool
find_subject(struct hf_daemon *daemon, const json_t *arguments, struct subject *ret, struct hf_error *err)
{
    const char *text = json_string_value(json_object_get(arguments, "backup"));
    struct hf_id id;
    bool found;
    if (text == NULL || !hf_id_parse(text, &id, NULL))
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not the id of a backup", text == NULL ? "" : text);
    if (!hf_catalog_backup(hf_daemon_catalog(daemon), &id, &found, keep_subject, ret, err))
        return false;
    if (!found) {
        hf_fail(err, HF_ERR_NOT_FOUND, "there is no backup \"%s\"", text);
        return hf_fail_hint(err, "\"holdfast backups\" shows those there are.");
    }
    if (ret->pruned_at >= 0) {
        char when[HF_TIME_TEXT_BYTES];
        return hf_fail(err, HF_ERR_CONFLICT, "backup \"%s\" was removed at %s", text,
                       hf_time_format(ret->pruned_at, when));
    }
    return true;
}

static bool
keep_subject(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct subject *subject = context;
    (void)err;
    *subject = (struct subject){.found = true, .backup = row->backup, .vault = row->vault, .pruned_at = row->pruned_at};
    snprintf(subject->source, sizeof subject->source, "%s", row->source == NULL ? "" : row->source);
    return true;
}

/* It stands in signed records and in tables: one line, and not a novel. */
static bool
read_reason(const json_t *arguments, const char **ret, struct hf_error *err)
{
    const char *reason = json_string_value(json_object_get(arguments, "reason"));
    if (strspn(reason, " ") == strlen(reason))
        return hf_fail(err, HF_ERR_USAGE, "the reason is empty");
    if (strlen(reason) > REASON_MOST)
        return hf_fail(err, HF_ERR_USAGE, "the reason is longer than %d bytes", REASON_MOST);
    for (const char *at = reason; *at != '\0'; at++)
        if ((uint8_t)*at < 0x20 || *at == 0x7F)
            return hf_fail(err, HF_ERR_USAGE, "the reason contains a control character");
    *ret = reason;
    return true;
}

static bool
read_until(const json_t *arguments, int64_t *ret, struct hf_error *err)
{
    return hf_time_parse(json_string_value(json_object_get(arguments, "until")), ret, err);
}

/* One person's hold is not ended with another's by mistake: of several one is named, or all are meant. */
static bool
choose_holds(struct hf_daemon *daemon, const json_t *arguments, struct held *held, struct hf_error *err)
{
    const bool all = json_is_true(json_object_get(arguments, "all"));
    char text[HF_ID_TEXT_BYTES];
    if (json_object_get(arguments, "hold") != NULL && (held->wanted < 1 || all))
        return hf_fail(err, HF_ERR_USAGE,
                       all ? "either one hold is named, or all are meant" : "holds are numbered from 1 on");
    if (!hf_catalog_holds(hf_daemon_catalog(daemon), count_held, held, err))
        return false;
    hf_id_format(&held->backup, text);
    if (held->wanted == 0 && held->count > 1 && !all) {
        hf_fail(err, HF_ERR_CONFLICT, "backup \"%s\" has %zu holds", text, held->count);
        return hf_fail_hint(err, "\"holdfast hold list\" shows their numbers; --hold NUMBER ends one, --all ends all.");
    }
    if (held->wanted != 0 && !held->has_wanted) {
        hf_fail(err, HF_ERR_NOT_FOUND, "backup \"%s\" has no hold %" PRId64, text, held->wanted);
        return hf_fail_hint(err, "\"holdfast hold list\" shows those there are.");
    }
    if (held->wanted == 0 && !all && held->count == 1)
        held->wanted = (int64_t)held->newest;
    return true;
}

static bool
count_held(void *context, const struct hf_hold_row *row, struct hf_error *err)
{
    struct held *held = context;
    (void)err;
    const bool lasts = row->until < 0 || row->until > held->now;
    if (!lasts || strcmp(row->kind, "hold") != 0 || !hf_id_equal(&row->backup, &held->backup))
        return true;
    held->count++;
    held->newest = row->sequence;
    held->has_wanted = held->has_wanted || row->sequence == (uint64_t)held->wanted;
    return true;
}

/* Takes both parts. */
static bool
append(struct hf_daemon *daemon, const struct subject *subject, enum hf_log_kind kind, json_t *public_part,
       json_t *sealed_part, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *said = public_part, *sealed = sealed_part;
    if (said == NULL || sealed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    const struct hf_record record = {.vault = subject->vault,
                                     .kind = kind,
                                     .time = hf_daemon_now(daemon),
                                     .public_part = said,
                                     .sealed_part = sealed};
    return hf_records_append(daemon->records, &record, err);
}

/* Of several locks of one backup the longest, which is the last; what has ended holds no more. */
static bool
add_hold(void *context, const struct hf_hold_row *row, struct hf_error *err)
{
    struct listing *listing = context;
    struct subject subject = {.found = false};
    char text[HF_ID_TEXT_BYTES];
    bool found;
    if (row->until >= 0 && row->until <= hf_daemon_now(listing->daemon))
        return true;
    if (!hf_catalog_backup(hf_daemon_catalog(listing->daemon), &row->backup, &found, keep_subject, &subject, err))
        return false;
    if (!found || subject.pruned_at >= 0 || (listing->source != NULL && strcmp(listing->source, subject.source) != 0))
        return true;
    hf_id_format(&row->backup, text);
    const size_t shorter = strcmp(row->kind, "lock") == 0 ? row_of_lock(listing->rows, text) : SIZE_MAX;
    if (shorter != SIZE_MAX)
        json_array_remove(listing->rows, shorter);
    json_t *shown =
        json_pack("{s:I, s:s, s:s, s:s, s:o, s:o, s:s?, s:s?}", "number", (json_int_t)row->sequence, "backup", text,
                  "source", subject.source, "kind", row->kind, "since", time_json(row->since), "until",
                  time_json(row->until < 0 ? INT64_MAX : row->until), "person", row->person, "reason", row->reason);
    return json_array_append_new(listing->rows, shown) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the holds");
}

static size_t
row_of_lock(const json_t *rows, const char *backup)
{
    size_t index;
    const json_t *row;
    json_array_foreach(rows, index, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "kind")), "lock") == 0 &&
            strcmp(json_string_value(json_object_get(row, "backup")), backup) == 0)
            return index;
    }
    return SIZE_MAX;
}

static bool
retain_packs(struct hf_worker *worker, const struct hf_id *id, int64_t until, size_t *ret_packs, struct hf_error *err)
{
    struct hf_vault *vault; // the worker's
    const struct hf_vault_state *state;
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    if (!hf_worker_vault(worker, &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err) ||
        !hf_backup_open(vault, id, &backup, err))
        return false;
    const struct hf_manifest_root *root = hf_backup_root(backup);
    const struct hf_vault_backup *known = hf_vault_state_backup(state, id);
    size_t packs = 0;
    bool with_root = false; // the summary need not list it: the root itself is not counted there
    for (; packs < root->summary_count; packs++) {
        hf_worker_progress(worker, "lock", packs, root->summary_count);
        with_root = with_root || hf_id_equal(&root->summary[packs].pack, &known->root_pack);
        if (!hf_worker_go_on(worker, err) || !retain_pack(vault, state, &root->summary[packs].pack, until, err))
            return false;
    }
    if (!with_root && !retain_pack(vault, state, &known->root_pack, until, err))
        return false;
    *ret_packs = packs + (with_root ? 0 : 1);
    return true;
}

/* Where it lies now: in an object of its own, or with others in a container. */
static bool
retain_pack(struct hf_vault *vault, const struct hf_vault_state *state, const struct hf_id *pack, int64_t until,
            struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES];
    const struct hf_id id = hf_vault_id(vault);
    const struct hf_vault_pack *known = hf_vault_state_pack(state, pack);
    if (known == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is needed, and no entry of the log has it",
                       hf_id_format(pack, text));
    hf_pack_name(&id, &known->object, name);
    return hf_backend_retain_until(hf_vault_backend(vault), name, until, err);
}

static json_t *
time_json(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return ms == INT64_MAX ? json_null() : json_string(hf_time_format(ms, text));
}

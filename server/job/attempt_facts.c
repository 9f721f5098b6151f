#include "server/job/attempt_facts.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/evidence/document.h"
#include "server/job/known.h"
#include "server/job/process.h"

#define PROGRAM_MOST (256 * HF_MIB)

/* The backup as the catalog has it. */
struct stored {
    struct hf_id parent, vault;
    int64_t files, bad_pages, bytes;
};

static bool add_head(struct hf_daemon *daemon, json_t *head, struct hf_error *err);
static bool add_clock(json_t *head, struct hf_error *err);
static bool hash_program(char text[static 2 * HF_SHA256_BYTES + 1]);
static bool add_policy(struct hf_daemon *daemon, const char *source, json_t *content, struct hf_error *err);
static bool add_targets(const char *target, const char *measured, const char *met, json_t *content,
                        struct hf_error *err);
static bool add_loss(json_t *content, json_t *result, struct hf_error *err);
static bool add_storage(struct hf_daemon *daemon, json_t *content, struct stored *ret, struct hf_error *err);
static bool keep_stored(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool add_key(json_t *content, const json_t *result, struct hf_error *err);
static bool add_host(json_t *content, struct hf_error *err);
static bool add_process(struct hf_daemon *daemon, const char *source, json_t *content, struct hf_error *err);
static bool add_forecast(struct hf_daemon *daemon, const char *source, int64_t bytes, json_t *content, json_t *result,
                         struct hf_error *err);
static bool set_known(json_t *object, const char *member, json_t *value, struct hf_error *err);
static bool set_number(json_t *object, const char *member, int64_t number, const char *missing, struct hf_error *err);
static json_t *text(const char *words);
static json_t *retention_words(const struct hf_source_settings *source);

bool
hf_attempt_complete(struct hf_daemon *daemon, const char *source, json_t *content, json_t *result, struct hf_error *err)
{
    struct stored stored = {.files = -1, .bad_pages = -1, .bytes = -1};
    return add_head(daemon, json_object_get(content, "head"), err) && add_policy(daemon, source, content, err) &&
           add_loss(content, result, err) &&
           add_targets("rto_target_s", "time_to_recover_ms", "rto_target_met", content, err) &&
           add_targets("rpo_target_s", "data_loss_window_ms", "rpo_target_met", content, err) &&
           add_storage(daemon, content, &stored, err) && add_key(content, result, err) && add_host(content, err) &&
           add_process(daemon, source, content, err) &&
           add_forecast(daemon, source, stored.bytes, content, result, err);
}

bool
hf_act_head(struct hf_daemon *daemon, const struct hf_id *evidence, json_t **ret, struct hf_error *err)
{
    const struct hf_id *appliance = &hf_records_signing(hf_daemon_records(daemon))->appliance;
    _cleanup_(hf_json_freep) json_t *head =
        json_pack("{s:o, s:s, s:o, s:{s:s}, s:o, s:{}}", "evidence_id", hf_json_id_text(evidence), "kind", "act",
                  "appliance_id", hf_json_id_text(appliance), "software", "version", HF_VERSION, "created_at",
                  hf_evidence_time(hf_daemon_now(daemon)), "clock");
    if (head == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a document");
    json_t *clock = json_object_get(head, "clock");
    if (!hf_evidence_set_unknown(head, "site", "no site is named in the settings", err) ||
        !hf_evidence_set_unknown(json_object_get(head, "software"), "build", "not recorded", err) ||
        !hf_evidence_set_unknown(clock, "source", "not asked", err) ||
        !hf_evidence_set_unknown(clock, "offset_ns", "not asked", err) || !add_head(daemon, head, err))
        return false;
    *ret = HF_TAKE(head);
    return true;
}

static bool
add_head(struct hf_daemon *daemon, json_t *head, struct hf_error *err)
{
    const char *site = hf_daemon_settings(daemon)->evidence.site;
    char build[2 * HF_SHA256_BYTES + 1];
    if (site != NULL && !set_known(head, "site", text(site), err))
        return false;
    if (hash_program(build) && !set_known(json_object_get(head, "software"), "build", json_string(build), err))
        return false;
    return add_clock(head, err);
}

/* What the kernel says of the clock: followed by a time service or not. */
static bool
add_clock(json_t *head, struct hf_error *err)
{
    struct timex state = {.modes = 0};
    json_t *clock = json_object_get(head, "clock");
    const int answer = adjtimex(&state);
    if (answer < 0)
        return true; // it stays unknown
    const bool synchronised = answer != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
    if (!set_known(clock, "source",
                   json_string(synchronised ? "kernel, synchronised by a time service"
                                            : "kernel, not known to be synchronised"),
                   err))
        return false;
    return !synchronised ||
           set_known(clock, "offset_ns",
                     json_integer((json_int_t)state.offset * ((state.status & STA_NANO) != 0 ? 1 : 1000)), err);
}

/* Of holdfastd as it was started; once in its life. */
static bool
hash_program(char ret[static 2 * HF_SHA256_BYTES + 1])
{
    static char known[2 * HF_SHA256_BYTES + 1];
    uint8_t hash[HF_SHA256_BYTES];
    if (known[0] == '\0') {
        _cleanup_(hf_buf_done) struct hf_buf program = HF_BUF_INIT(PROGRAM_MOST);
        char path[4096];
        const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
        struct hf_error ignored;
        if (length <= 0)
            return false;
        path[length] = '\0';
        if (!hf_file_read(path, &program, &ignored))
            return false;
        hf_sha256(program.data, program.length, hash);
        for (size_t i = 0; i < sizeof hash; i++)
            snprintf(known + 2 * i, 3, "%02x", hash[i]);
    }
    memcpy(ret, known, sizeof known);
    return true;
}

/* The source's settings are what its owner decided. */
static bool
add_policy(struct hf_daemon *daemon, const char *source, json_t *content, struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    _cleanup_(hf_json_freep) json_t *object = NULL;
    _cleanup_(hf_buf_done) struct hf_buf canonical = HF_BUF_INIT(HF_MIB);
    uint8_t hash[HF_SHA256_BYTES];
    struct hf_error gone;
    const json_t *id = json_object_get(json_object_get(content, "subject"), "source_id");
    if (!hf_daemon_source(daemon, source, &settings, &gone))
        return true; // removed meanwhile: the policy stays unknown
    if (!hf_source_settings_to_json(settings, &object, err) || !hf_json_canonical(object, &canonical, err))
        return false;
    hf_sha256(canonical.data, canonical.length, hash);
    json_t *policy = json_pack("{s:O, s:o}", "policy_id", id, "policy_sha256", hf_json_hex(hash, sizeof hash));
    const int64_t rto = settings->objective.recovery_ms, rpo = settings->objective.data_loss_ms;
    return set_known(content, "policy", policy, err) &&
           (settings->tier != NULL ? hf_json_set(policy, "tier", text(settings->tier), err)
                                   : hf_evidence_set_unknown(policy, "tier", "no tier is set for this source", err)) &&
           set_number(policy, "rto_target_s", rto > 0 ? rto / 1000 : -1, "no objective is set", err) &&
           set_number(policy, "rpo_target_s", rpo > 0 ? rpo / 1000 : -1, "no objective is set", err) &&
           hf_json_set(policy, "retention", retention_words(settings), err) &&
           hf_evidence_set_unknown(policy, "approved_by", "settings need no second person yet", err) &&
           hf_evidence_set_unknown(policy, "approved_at", "settings need no second person yet", err);
}

static json_t *
retention_words(const struct hf_source_settings *source)
{
    char words[256];
    snprintf(words, sizeof words,
             "last %lld, hourly %lld, daily %lld, weekly %lld, monthly %lld, yearly %lld, at least %lld",
             (long long)source->retention.last, (long long)source->retention.hourly, (long long)source->retention.daily,
             (long long)source->retention.weekly, (long long)source->retention.monthly,
             (long long)source->retention.yearly, (long long)source->retention.minimum);
    return json_string(words);
}

/* Compared in whole seconds, rounded up, as document.h has it. */
static bool
add_targets(const char *target, const char *measured, const char *met, json_t *content, struct hf_error *err)
{
    json_t *figures = json_object_get(content, "rto_rpo");
    const json_t *aim = json_object_get(json_object_get(content, "policy"), target),
                 *ms = json_object_get(figures, measured);
    if (!json_is_object(figures) || !json_is_integer(aim) || !json_is_integer(ms))
        return true;
    const json_int_t needed = (json_integer_value(ms) + 999) / 1000;
    return set_known(figures, met, json_boolean(needed <= json_integer_value(aim)), err);
}

/*
 * Where the copy was not brought up to the live source, it holds what was there when the backup ended, or at the newest
 * commit that was replayed: so old was that when the attempt began.  Only a copy that passed holds anything for sure.
 */
static bool
add_loss(json_t *content, json_t *result, struct hf_error *err)
{
    json_t *figures = json_object_get(content, "rto_rpo"), *attempt = json_object_get(content, "attempt");
    const char *ended = json_string_value(json_object_get(json_object_get(content, "backup"), "ended_at"));
    const char *started = json_string_value(json_object_get(attempt, "started_at"));
    const char *outcome = json_string_value(json_object_get(attempt, "result"));
    int64_t from, to, commit;
    const char *newest[] = {
        json_string_value(json_object_get(json_object_get(content, "stream"), "newest_commit_at")),
        json_string_value(json_object_get(figures, "recovered_commit_at")),
    };
    if (json_is_object(figures) && json_is_null(json_object_get(figures, "data_loss_window_ms")) && outcome != NULL &&
        strcmp(outcome, "passed") == 0 && ended != NULL && started != NULL && hf_time_parse(ended, &from, NULL) &&
        hf_time_parse(started, &to, NULL)) {
        for (size_t i = 0; i < HF_LENGTH(newest); i++)
            if (newest[i] != NULL && hf_time_parse(newest[i], &commit, NULL) && commit > from)
                from = commit;
        if (!set_known(figures, "data_loss_window_ms", json_integer(to > from ? to - from : 0), err))
            return false;
    }
    const json_t *loss = json_object_get(figures, "data_loss_window_ms");
    return !json_is_integer(loss) || hf_json_set(result, "data_loss_ms", json_integer(json_integer_value(loss)), err);
}

static bool
add_storage(struct hf_daemon *daemon, json_t *content, struct stored *ret, struct hf_error *err)
{
    json_t *storage = json_object();
    struct hf_id id;
    bool found;
    if (!hf_json_set(content, "storage", storage, err) ||
        !hf_json_id(json_object_get(content, "backup"), "backup_id", "the evidence", &id, err) ||
        !hf_catalog_backup(hf_daemon_catalog(daemon), &id, &found, keep_stored, ret, err))
        return false;
    // Whatever was transferred, the stored backup is complete: an incremental one is folded in on arrival.
    return hf_json_set(storage, "type", json_string("full"), err) &&
           (hf_id_is_none(&ret->parent)
                ? hf_evidence_set_unknown(storage, "parent_id", "it was compared with none", err)
                : hf_json_set(storage, "parent_id", hf_json_id_text(&ret->parent), err)) &&
           set_number(storage, "files", ret->files, "not recorded", err) &&
           set_number(storage, "bad_pages", ret->bad_pages, "not recorded", err) &&
           hf_evidence_set_unknown(storage, "key_generation", "packs of several generations may be in it", err);
}

static bool
keep_stored(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    *(struct stored *)context = (struct stored){.parent = row->parent,
                                                .vault = row->vault,
                                                .files = row->files,
                                                .bad_pages = row->bad_pages,
                                                .bytes = row->logical_bytes};
    return true;
}

static bool
add_key(json_t *content, const json_t *result, struct hf_error *err)
{
    static const char why[] = "the attempt ended before a slot had opened";
    const json_t *key = json_object_get(result, "key");
    if (json_is_object(key))
        return hf_json_set(content, "key", json_deep_copy(key), err);
    json_t *none = json_pack("{s:s, s:i}", "chosen", "none", "reachable", 0);
    return hf_json_set(content, "key", none, err) && hf_evidence_set_unknown(none, "slot_id", why, err) &&
           hf_evidence_set_unknown(none, "slot_name", why, err) && hf_evidence_set_unknown(none, "slot_kind", why, err);
}

static bool
add_host(json_t *content, struct hf_error *err)
{
    struct utsname names;
    struct sysinfo memory;
    json_t *host = json_object();
    char system[2 * sizeof names.sysname];
    if (!hf_json_set(content, "host", host, err))
        return false;
    if (uname(&names) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not ask for the name of this host");
    snprintf(system, sizeof system, "%s %s", names.sysname, names.release);
    const bool known = sysinfo(&memory) == 0;
    return hf_json_set(host, "name", text(names.nodename), err) && hf_json_set(host, "system", text(system), err) &&
           hf_json_set(host, "machine", text(names.machine), err) &&
           set_number(host, "processors", sysconf(_SC_NPROCESSORS_ONLN), "not known", err) &&
           set_number(host, "memory_bytes", known ? (int64_t)memory.totalram * memory.mem_unit : -1, "not known", err);
}

static bool
add_process(struct hf_daemon *daemon, const char *source, json_t *content, struct hf_error *err)
{
    _cleanup_(hf_process_state_done) struct hf_process_state state = {.parts = NULL};
    struct hf_error gone;
    if (!hf_process_look(daemon, source, &state, &gone)) {
        if (gone.kind == HF_ERR_NOT_FOUND)
            return true; // the source was removed meanwhile
        *err = gone;
        return false;
    }
    const json_t *engine = json_object_get(state.parts, "engine"),
                 *inside = json_object_get(json_object_get(content, "restore"), "engine_version");
    json_t *process = json_pack(
        "{s:o, s:O, s:O, s:I, s:O, s:O}", "fingerprint", hf_json_hex(state.fingerprint, sizeof state.fingerprint),
        "settings_sha256", json_object_get(state.parts, "settings"), "software",
        json_object_get(state.parts, "software"), "key_slots", (json_int_t)state.key_slots, "key_slots_sha256",
        json_object_get(state.parts, "key_slots"), "changed", state.changed);
    const bool unproven = state.unproven_since >= 0;
    if (!hf_json_set(content, "process", process, err) ||
        !(json_is_string(engine) ? hf_json_set(process, "engine", text(json_string_value(engine)), err)
                                 : hf_evidence_set_unknown(process, "engine", "not recorded", err)) ||
        !(json_is_string(inside) ? hf_json_set(process, "sandbox_engine", text(json_string_value(inside)), err)
                                 : hf_evidence_set_unknown(process, "sandbox_engine", "no server answered", err)))
        return false;
    if (!unproven && !hf_json_set(process, "changed", json_array(), err))
        return false;
    return (unproven ? hf_json_set(process, "unproven_since", hf_evidence_time(state.unproven_since), err)
                     : hf_evidence_set_unknown(process, "unproven_since", "it is proven since the last change", err)) &&
           set_number(process, "proven_since", state.proven_since, "nothing has changed since it was added", err);
}

/* From the attempts before this one, and compared with the objective by whoever reads it. */
static bool
add_forecast(struct hf_daemon *daemon, const char *source, int64_t bytes, json_t *content, json_t *result,
             struct hf_error *err)
{
    struct hf_forecast forecast;
    bool known;
    const json_t *aim = json_object_get(json_object_get(content, "policy"), "rto_target_s");
    if (!hf_known_forecast(daemon, source, bytes, &known, &forecast, err))
        return false;
    if (!known)
        return hf_evidence_set_unknown(content, "forecast", "no earlier attempt to go by", err);
    json_t *group = json_pack("{s:I, s:I}", "recovery_ms", (json_int_t)forecast.recovery_ms, "attempts",
                              (json_int_t)forecast.attempts);
    return hf_json_set(content, "forecast", group, err) &&
           set_number(group, "error_ppm", forecast.error_ppm, "no earlier forecast to compare", err) &&
           set_number(group, "objective_ms", json_is_integer(aim) ? json_integer_value(aim) * 1000 : -1,
                      "no objective is set", err) &&
           hf_json_set(result, "forecast_ms", json_integer((json_int_t)forecast.recovery_ms), err);
}

/* What was unknown until now. */
static bool
set_known(json_t *object, const char *member, json_t *value, struct hf_error *err)
{
    json_t *unknown = json_object_get(object, "unknown");
    (void)json_object_del(unknown, member);
    if (unknown != NULL && json_object_size(unknown) == 0)
        (void)json_object_del(object, "unknown");
    return hf_json_set(object, member, value, err);
}

static bool
set_number(json_t *object, const char *member, int64_t number, const char *missing, struct hf_error *err)
{
    return number < 0 ? hf_evidence_set_unknown(object, member, missing, err)
                      : hf_json_set(object, member, json_integer(number), err);
}

static json_t *
text(const char *words)
{
    return hf_evidence_name(words, strlen(words));
}

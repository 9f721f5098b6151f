/*
 * Reads what is stored again, the pack that has waited longest first, and compares it with the log.  No key is opened
 * unless something does not compare: then the credential unlocks, and the damage is followed to the pages it costs.
 * What was seen of each pack goes to the daemon a few at a time, so that whoever is killed loses a few seconds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rate.h"
#include "base/time.h"
#include "catalog/local.h"
#include "server/care/scrub.h"
#include "server/job/daemon_internal.h"
#include "server/job/damage.h"
#include "server/job/open_repository.h"
#include "server/job/scrub_times.h"

#define KEEP_EACH_NS  UINT64_C(2000000000)
#define KEEP_MOST     256
#define NAP_NS        20000000L // between looks at the wish to stop
#define RATE_MOST_MIB 65536
#define IO_CLASS_IDLE (3 << 13) // ioprio_set(): only when nobody else wants the disk

struct scrubbing {
    struct hf_worker *worker;
    struct hf_rate rate;
    struct hf_damages damages;
    size_t count, room;
    struct hf_scrub_pack *packs;
    const json_t *known; // ids of packs that are known to be damaged
    json_t *sound;       // of those: found whole
    json_t *checked;     // [[vault, pack, sound], ...], not yet sent
    uint64_t sent_ns;
    bool out_of_memory;
};

static void step_back(void);
static bool read_request(struct scrubbing *scrubbing, const json_t *request, struct hf_scrub_share *share,
                         struct hf_error *err);
static bool load_packs(struct scrubbing *scrubbing, struct hf_error *err);
static bool take_pack(void *context, const struct hf_pack_check_row *row, struct hf_error *err);
static bool is_known(const json_t *known, const struct hf_id *pack);
static bool scrub_vaults(struct scrubbing *scrubbing, struct hf_repository *repository, size_t chosen,
                         struct hf_progress_relay *relay, struct hf_check_report *sum, struct hf_error *err);
static bool scrub_vault(struct scrubbing *scrubbing, struct hf_repository *repository, const struct hf_id *vault,
                        size_t chosen, struct hf_progress_relay *relay, struct hf_check_report *sum,
                        struct hf_error *err);
static void pace(void *context, uint64_t bytes);
static void judged(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound);
static void take_damage(void *context, const struct hf_damage *damage);
static void send_checked(struct scrubbing *scrubbing);
static bool find_affected(struct scrubbing *scrubbing, struct hf_repository *repository, json_t *result,
                          struct hf_error *err);
static void scrubbing_done(struct scrubbing *scrubbing);

bool
hf_scrub_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"rate", 'i', false}, {"all", 'b', false}};
    const struct hf_settings *settings = hf_daemon_settings(daemon);
    const json_t *arguments = hf_job_arguments(job), *rate = json_object_get(arguments, "rate");
    const int64_t now = hf_daemon_now(daemon);
    const int64_t mib = rate != NULL ? json_integer_value(rate) : settings->scrub.rate / (int64_t)HF_MIB;
    struct hf_scrub_times times;
    json_t *packs;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    if (mib < 0 || mib > RATE_MOST_MIB)
        return hf_fail(err, HF_ERR_USAGE, "the rate is a number of MiB a second, 0 to %d; 0 is no limit",
                       RATE_MOST_MIB);
    if (!hf_scrub_times_read(hf_daemon_catalog(daemon), &times, err))
        return false;
    if (times.pass_began_at < 0 || times.pass_began_at > now) { // the first one ever; or the clock was set back
        times.pass_began_at = now;
        if (!hf_scrub_times_begin_pass(hf_daemon_catalog(daemon), now, err))
            return false;
    }
    if (!hf_damage_known_packs(daemon, &packs, err))
        return false;
    *ret_request = json_pack("{s:I, s:b, s:o, s:I, s:I, s:I, s:I}", "rate", (json_int_t)mib, "all",
                             (int)json_is_true(json_object_get(arguments, "all")), "known", packs, "pass_began_at",
                             (json_int_t)times.pass_began_at, "now", (json_int_t)now, "every_ms",
                             (json_int_t)(settings->scrub.every_ms > 0 ? settings->scrub.every_ms : 0), "window_ms",
                             (json_int_t)settings->scrub.window_ms);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_scrub_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(scrubbing_done) struct scrubbing scrubbing = {
        .worker = worker, .sound = json_array(), .checked = json_array(), .sent_ns = hf_monotonic_ns()};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    struct hf_scrub_share share;
    struct hf_check_report sum = {0};
    uint64_t bytes;
    if (result == NULL || scrubbing.sound == NULL || scrubbing.checked == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    step_back();
    if (!hf_damages_init(&scrubbing.damages, err) || !read_request(&scrubbing, request, &share, err) ||
        !load_packs(&scrubbing, err) ||
        !hf_repository_open(hf_worker_settings(worker)->repository, HF_ACCESS_READ, &repository, err))
        return false;
    const size_t chosen = hf_scrub_choose(scrubbing.packs, scrubbing.count, &share, &bytes);

    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    atomic_store(&relay.total, bytes);
    atomic_store(&relay.phase, "scrub");
    const uint64_t began = hf_monotonic_ns();
    const bool ok = scrub_vaults(&scrubbing, repository, chosen, &relay, &sum, err);
    send_checked(&scrubbing); // also what was seen before it was cancelled
    if (!ok || !find_affected(&scrubbing, repository, result, err) ||
        !hf_json_set(result, "sound", json_incref(scrubbing.sound), err) ||
        !hf_json_set(result, "damages", json_incref(scrubbing.damages.rows), err) ||
        !hf_json_set(result, "damage_count", json_integer((json_int_t)sum.damages), err) ||
        !hf_json_set(result, "packs", json_integer((json_int_t)sum.packs), err) ||
        !hf_json_set(result, "pack_bytes", json_integer((json_int_t)sum.pack_bytes), err) ||
        !hf_json_set(result, "packs_kept", json_integer((json_int_t)scrubbing.count), err) ||
        !hf_json_set(result, "log_entries", json_integer((json_int_t)sum.log_entries), err) ||
        !hf_json_set(result, "orphans", json_integer((json_int_t)sum.orphans), err) ||
        !hf_json_set(result, "orphan_bytes", json_integer((json_int_t)sum.orphan_bytes), err) ||
        !hf_json_set(result, "duration_ms", json_integer((json_int_t)((hf_monotonic_ns() - began) / 1000000)), err))
        return false;
    if (scrubbing.out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for what was looked at");
    if (sum.damages > 0)
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

/* In the daemon, while the worker goes on. */
bool
hf_scrub_keep(struct hf_daemon *daemon, struct hf_job *job, const json_t *kept, struct hf_error *err)
{
    static const char what[] = "what was looked at";
    const int64_t now = hf_daemon_now(daemon);
    json_t *checked, *row;
    size_t index;
    (void)job;
    if (!hf_json_array(kept, "checked", what, &checked, err))
        return false;
    json_array_foreach(checked, index, row)
    {
        struct hf_id vault, pack;
        const char *vault_text = json_string_value(json_array_get(row, 0));
        const char *pack_text = json_string_value(json_array_get(row, 1));
        if (vault_text == NULL || pack_text == NULL || !hf_id_parse(vault_text, &vault, NULL) ||
            !hf_id_parse(pack_text, &pack, NULL))
            return hf_fail(err, HF_ERR_CORRUPT, "%s is not [vault, pack, sound]", what);
        if (!hf_catalog_pack_check_put(hf_daemon_catalog(daemon), &vault, &pack, now,
                                       json_is_true(json_array_get(row, 2)), err))
            return false;
    }
    return true;
}

bool
hf_scrub_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                  struct hf_error *err)
{
    json_t *affected, *sound, *row;
    size_t index;
    (void)job;
    if (why != NULL || *result == NULL)
        return true;
    if (!hf_json_array(*result, "affected", "the result", &affected, err) ||
        !hf_json_array(*result, "sound", "the result", &sound, err))
        return false;
    json_array_foreach(affected, index, row)
    {
        if (!hf_damage_record(daemon, row, "found by the scrub", err))
            return false;
    }
    bool complete;
    return hf_damage_record_healed(daemon, sound, affected, err) &&
           hf_catalog_pack_check_trim(hf_daemon_catalog(daemon), err) &&
           hf_scrub_times_end_pass(hf_daemon_catalog(daemon), hf_daemon_now(daemon), &complete, err) &&
           hf_json_set(*result, "pass_complete", json_boolean(complete), err);
}

/* Behind everybody else, for the processor and for the disk. */
static void
step_back(void)
{
    (void)setpriority(PRIO_PROCESS, 0, 19);
    (void)syscall(SYS_ioprio_set, 1, 0, IO_CLASS_IDLE);
}

static bool
read_request(struct scrubbing *scrubbing, const json_t *request, struct hf_scrub_share *share, struct hf_error *err)
{
    static const char what[] = "the request";
    int64_t rate;
    json_t *known;
    *share = (struct hf_scrub_share){0};
    if (!hf_json_integer(request, "rate", what, 0, RATE_MOST_MIB, &rate, err) ||
        !hf_json_boolean(request, "all", what, &share->all, err) ||
        !hf_json_array(request, "known", what, &known, err) ||
        !hf_json_integer(request, "pass_began_at", what, 0, INT64_MAX, &share->pass_began_at, err) ||
        !hf_json_integer(request, "now", what, 0, INT64_MAX, &share->now, err) ||
        !hf_json_integer(request, "every_ms", what, 0, INT64_MAX, &share->every_ms, err) ||
        !hf_json_integer(request, "window_ms", what, 1, INT64_MAX, &share->window_ms, err))
        return false;
    scrubbing->known = known;
    hf_rate_init(&scrubbing->rate, (uint64_t)rate * HF_MIB, (uint64_t)rate * HF_MIB / 4, hf_monotonic_ns());
    return true;
}

/* The times are the daemon's; beside it we read. */
static bool
load_packs(struct scrubbing *scrubbing, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(hf_worker_settings(scrubbing->worker)->state, HF_STATE_CATALOG);
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = NULL;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return hf_catalog_open(path, HF_CATALOG_READ, &catalog, err) &&
           hf_catalog_pack_checks(catalog, take_pack, scrubbing, err);
}

static bool
take_pack(void *context, const struct hf_pack_check_row *row, struct hf_error *err)
{
    struct scrubbing *scrubbing = context;
    if (scrubbing->count == scrubbing->room) {
        const size_t room = scrubbing->room > 0 ? 2 * scrubbing->room : 1024;
        struct hf_scrub_pack *grown = reallocarray(scrubbing->packs, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
        scrubbing->packs = grown;
        scrubbing->room = room;
    }
    const bool damaged = !row->sound || is_known(scrubbing->known, &row->pack);
    scrubbing->packs[scrubbing->count++] =
        (struct hf_scrub_pack){.vault = row->vault,
                               .pack = row->pack,
                               .bytes = row->bytes > 0 ? (uint64_t)row->bytes : 0,
                               .checked_at = damaged ? HF_SCRUB_DAMAGED : row->checked_at};
    return true;
}

static bool
is_known(const json_t *known, const struct hf_id *pack)
{
    char text[HF_ID_TEXT_BYTES];
    size_t index;
    const json_t *id;
    hf_id_format(pack, text);
    json_array_foreach(known, index,
                       id) if (json_is_string(id) && strcmp(json_string_value(id), text) == 0) return true;
    return false;
}

/* All vaults: of one without a chosen pack the log is read and the store is walked. */
static bool
scrub_vaults(struct scrubbing *scrubbing, struct hf_repository *repository, size_t chosen,
             struct hf_progress_relay *relay, struct hf_check_report *sum, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (!hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!scrub_vault(scrubbing, repository, &vaults[i], chosen, relay, sum, err))
            return false;
    return true;
}

static bool
scrub_vault(struct scrubbing *scrubbing, struct hf_repository *repository, const struct hf_id *vault, size_t chosen,
            struct hf_progress_relay *relay, struct hf_check_report *sum, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *packs = calloc(chosen + 1, sizeof *packs);
    struct hf_check_report report;
    size_t count = 0;
    if (packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < chosen; i++)
        if (hf_id_equal(&scrubbing->packs[i].vault, vault))
            packs[count++] = scrubbing->packs[i].pack;
    const struct hf_check_options options = {.level = 1,
                                             .vault = vault,
                                             .packs = packs,
                                             .pack_count = count,
                                             .workers = 1,
                                             .cancel = hf_worker_cancel(scrubbing->worker),
                                             .damage = take_damage,
                                             .context = scrubbing,
                                             .pace = pace,
                                             .judged = judged,
                                             .done = &relay->done};
    if (!hf_repository_check(repository, &options, &report, err))
        return false;
    sum->damages += report.damages;
    sum->packs += report.packs;
    sum->pack_bytes += report.pack_bytes;
    sum->log_entries += report.log_entries;
    sum->orphans += report.orphans;
    sum->orphan_bytes += report.orphan_bytes;
    return true;
}

/* Waits for the tokens, and wakes up for whoever wants us to stop. */
static void
pace(void *context, uint64_t bytes)
{
    struct scrubbing *scrubbing = context;
    uint64_t now = hf_monotonic_ns();
    const uint64_t until = now + hf_rate_take(&scrubbing->rate, bytes, now);
    for (; now < until && !atomic_load(hf_worker_cancel(scrubbing->worker)); now = hf_monotonic_ns()) {
        const uint64_t left = until - now;
        const struct timespec nap = {.tv_nsec = left < NAP_NS ? (long)left : NAP_NS};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    }
}

static void
judged(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound)
{
    struct scrubbing *scrubbing = context;
    json_t *row = json_pack("[o, o, b]", hf_json_id_text(vault), hf_json_id_text(pack), (int)sound);
    if (json_array_append_new(scrubbing->checked, row) != 0 ||
        (sound && is_known(scrubbing->known, pack) &&
         json_array_append_new(scrubbing->sound, hf_json_id_text(pack)) != 0))
        scrubbing->out_of_memory = true;
    if (json_array_size(scrubbing->checked) >= KEEP_MOST || hf_monotonic_ns() - scrubbing->sent_ns >= KEEP_EACH_NS)
        send_checked(scrubbing);
}

static void
take_damage(void *context, const struct hf_damage *damage)
{
    struct scrubbing *scrubbing = context;
    hf_damages_take(&scrubbing->damages, damage);
}

static void
send_checked(struct scrubbing *scrubbing)
{
    if (json_array_size(scrubbing->checked) == 0)
        return;
    hf_worker_keep(scrubbing->worker, json_pack("{s:O}", "checked", scrubbing->checked));
    (void)json_array_clear(scrubbing->checked);
    scrubbing->sent_ns = hf_monotonic_ns();
}

/* Only now a key is needed. */
static bool
find_affected(struct scrubbing *scrubbing, struct hf_repository *repository, json_t *result, struct hf_error *err)
{
    const struct hf_credential *credential = hf_worker_credential(scrubbing->worker);
    const bool any = json_array_size(scrubbing->damages.rows) > 0;
    struct hf_slot_info slot;
    json_t *affected;
    if (any && credential == NULL)
        return hf_fail(err, HF_ERR_DENIED, "no key was handed to this job");
    return (!any || hf_repository_unlock(repository, credential, &slot, err)) &&
           hf_damages_affected(&scrubbing->damages, repository, hf_worker_cancel(scrubbing->worker), &affected, err) &&
           hf_json_set(result, "affected", affected, err);
}

static void
scrubbing_done(struct scrubbing *scrubbing)
{
    hf_damages_done(&scrubbing->damages);
    hf_json_freep(&scrubbing->sound);
    hf_json_freep(&scrubbing->checked);
    free(scrubbing->packs);
}

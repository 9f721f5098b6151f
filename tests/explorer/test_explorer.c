/*
 * The real functions, many histories: writers, pruning, collection, readers and takeovers of two appliances take turns
 * in one small vault, and at any durable operation of one of them the others may do something first, or it dies there.
 * Whatever happened: every backup that counts can be read in full and is as it was, nothing that was acknowledged is
 * lost, and the next collection leaves no garbage.
 *
 * A history follows from its number.  SEED and CAMPAIGN_SECONDS in the environment (tests/campaign explorer) make it
 * run on from another number, for longer.
 */
#include "tests/support/test.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "server/repository/reader.h"
#include "server/repository/session.h"
#include "tests/support/vault.h"

#define PAGES        64
#define PAGE         (8 * HF_KIB)
#define BACKUPS_MOST 32
#define STEPS_MOST   9
#define SECONDS      25
#define HISTORIES    2500 // at least, unless the seconds run out
#define DEPTH_MOST   2

/* One of the two that share the vault. */
struct appliance {
    struct hf_signing signing;
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    char cache[600];
};

/* A backup whose COMMIT was acknowledged, or may stand in the log. */
struct taken {
    struct hf_id backup;
    bool acknowledged, pruned;
    uint32_t versions[PAGES];
};

/* A process: it has its own handle of the vault, and may die. */
struct process {
    struct hf_vault *vault;
    struct hf_backend *backend;
    int dies_at; // durable operations from now; 0: it lives
    bool dead;
    struct process *before; // whose turn it was
};

static struct {
    struct test_vault vault; // place and first appliance
    struct appliance appliances[2];
    struct hf_buf keys; // of the vault of this history
    struct hf_id id;
    struct process *running;
    int depth;
    uint64_t chance;
    uint32_t version, versions[PAGES];
    size_t count;
    struct taken taken[BACKUPS_MOST];
    pthread_t main;
    int holder;         // the appliance that took the vault over last; 0 before
    uint64_t takeovers; // in this history
    uint64_t histories, steps, deaths, nested, commits, prunes, moved, deleted, reads, taken_over, shut_out;
} world;

static void step(void);

static uint64_t
draw(uint64_t below)
{
    world.chance ^= world.chance << 13;
    world.chance ^= world.chance >> 7;
    world.chance ^= world.chance << 17;
    return (world.chance >> 11) % below;
}

/* ------------------------------------------------------------------------------------------- dying and interleaving */

static struct process *
process_of(const struct hf_backend *backend)
{
    for (struct process *at = world.running; at != NULL; at = at->before)
        if (at->backend == backend)
            return at;
    return NULL;
}

/*
 * In front of each durable operation.  False: the process died before it; *ret_after: it dies when that is done.
 */
static bool
may_do(const struct hf_backend *backend, bool *ret_after, struct hf_error *err)
{
    struct process *process = process_of(backend);
    *ret_after = false;
    if (process == NULL)
        return true;
    if (!process->dead && process->dies_at > 0 && --process->dies_at == 0) {
        world.deaths++;
        *ret_after = draw(2) == 0;
        process->dead = !*ret_after;
    }
    if (process->dead)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the process has died");
    if (!*ret_after && pthread_equal(pthread_self(), world.main) && world.depth < DEPTH_MOST && draw(100) < 12) {
        world.nested++;
        step();
    }
    return true;
}

static bool
has_done(const struct hf_backend *backend, bool dies, bool ok, struct hf_error *err)
{
    if (!dies)
        return ok;
    process_of(backend)->dead = true;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "the process has died");
}

bool __real_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                     struct hf_error *err);
bool __wrap_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                     struct hf_error *err);
bool __real_hf_backend_delete(struct hf_backend *backend, const char *name, struct hf_error *err);
bool __wrap_hf_backend_delete(struct hf_backend *backend, const char *name, struct hf_error *err);
bool __real_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool __wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool __real_hf_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                            struct hf_error *err);
bool __wrap_hf_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                            struct hf_error *err);
bool __real_hf_backend_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data,
                                 size_t length, struct hf_error *err);
bool __wrap_hf_backend_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data,
                                 size_t length, struct hf_error *err);

bool
__wrap_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                struct hf_error *err)
{
    bool dies;
    return may_do(backend, &dies, err) &&
           has_done(backend, dies, __real_hf_backend_put_exclusive(backend, name, data, length, err), err);
}

bool
__wrap_hf_backend_delete(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    bool dies;
    return may_do(backend, &dies, err) && has_done(backend, dies, __real_hf_backend_delete(backend, name, err), err);
}

bool
__wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err)
{
    bool dies;
    return may_do(backend, &dies, err) && has_done(backend, dies, __real_hf_backend_barrier(backend, err), err);
}

bool
__wrap_hf_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                       struct hf_error *err)
{
    bool dies;
    if (!may_do(backend, &dies, err))
        return false;
    if (!dies)
        return __real_hf_upload_begin(backend, name, expected, ret, err);
    return has_done(backend, true, true, err);
}

/* Reading changes nothing, but others may do something in the middle of it. */
bool
__wrap_hf_backend_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                            struct hf_error *err)
{
    const struct process *process = process_of(backend);
    if (process != NULL && process->dead)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the process has died");
    if (process != NULL && pthread_equal(pthread_self(), world.main) && world.depth < DEPTH_MOST && draw(100) < 2) {
        world.nested++;
        step();
    }
    return __real_hf_backend_get_range(backend, name, offset, data, length, err);
}

/* ------------------------------------------------------------------------------------------------ what processes do */

static void
process_begin(struct process *process, bool may_die)
{
    struct hf_error err;
    struct hf_vault_keys *keys;
    *process = (struct process){.before = world.running};
    hf_assert_ok(hf_vault_keys_import(world.keys.data, world.keys.length, &keys, &err), &err);
    hf_assert_ok(hf_vault_open_with_keys(world.vault.place, keys, hf_repository_signers(world.vault.repository),
                                         &process->vault, &err),
                 &err);
    process->backend = hf_vault_backend(process->vault);
    process->dies_at = may_die && draw(4) == 0 ? 1 + (int)draw(14) : 0;
    world.running = process;
    world.depth++;
}

static void
process_end(struct process *process)
{
    world.depth--;
    world.running = process->before;
    hf_vault_freep(&process->vault);
}

static void
fill_page(uint8_t *page, size_t number, uint32_t version)
{
    uint64_t at = ((uint64_t)version << 32 | number) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < PAGE; i += 8) {
        at ^= at << 13;
        at ^= at >> 7;
        at ^= at << 17;
        hf_put_u64(page + i, at);
    }
}

static bool
hand_over(struct hf_session *session, const uint32_t versions[static PAGES], struct hf_error *err)
{
    static uint8_t pages[PAGES * PAGE];
    struct hf_session_file *file;
    const struct hf_session_file_info info = {
        .path = "base/1", .kind = HF_FILE_RELATION, .page_log2 = 13, .mode = 0600};
    for (size_t i = 0; i < PAGES; i++)
        fill_page(pages + i * PAGE, i, versions[i]);
    return hf_session_folder(session, "", 0700, err) && hf_session_folder(session, "base", 0700, err) &&
           hf_session_file_begin(session, &info, &file, err) && hf_session_file_write(file, pages, sizeof pages, err) &&
           hf_session_file_end(&file, err);
}

static void
back_up(const struct appliance *who)
{
    struct process process;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    uint32_t versions[PAGES];
    if (world.count == BACKUPS_MOST)
        return;
    world.version++;
    for (size_t i = draw(2) * PAGES / 2, end = i + PAGES / 2; i < end; i++) // one half, as a table that is rewritten
        world.versions[i] = world.version;
    world.versions[draw(PAGES)] = world.version;
    memcpy(versions, world.versions, sizeof versions);

    process_begin(&process, true);
    const struct hf_session_options options = {.source = "clinic",
                                               .operation = "backup",
                                               .signing = &who->signing,
                                               .cache_folder = who->cache,
                                               .workers = 1,
                                               .ageing_percent = 1,
                                               .memory_bytes = HF_MIB};
    if (hf_session_begin(process.vault, &options, &session, &err)) {
        struct taken taken = {.backup = hf_session_backup_id(session)};
        memcpy(taken.versions, versions, sizeof versions);
        _cleanup_(hf_json_freep) json_t *facts = json_object();
        const bool cut_off = draw(12) == 0;
        if (!hand_over(session, versions, &err)) {
            hf_session_abort(&session, "failed");
        } else if (cut_off) {
            (void)!hf_session_suspend(&session, "cut_off");
        } else {
            const uint64_t takeovers = world.takeovers;
            taken.acknowledged = hf_session_commit(&session, facts, &outcome, &err);
            world.commits += taken.acknowledged;
            world.shut_out += !taken.acknowledged && world.takeovers > takeovers;
            if (world.count < BACKUPS_MOST)
                world.taken[world.count++] = taken;
        }
    }
    process_end(&process);
}

static bool
append(struct process *process, const struct appliance *who, enum hf_log_kind kind, json_t *part, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *owned = part;
    const struct hf_log_append entry = {kind, 1, HF_LOG_EPOCH_NOW, owned, NULL};
    return hf_vault_append(process->vault, &entry, &who->signing, NULL, NULL, err);
}

/* Any but the newest that was acknowledged: somebody wants to restore something. */
static void
prune(const struct appliance *who)
{
    struct process process;
    struct hf_error err;
    if (world.count < 2)
        return;
    struct taken *taken = &world.taken[draw(world.count - 1)];
    if (taken->pruned)
        return;
    process_begin(&process, true);
    const bool pruned =
        append(&process, who, HF_LOG_PRUNE,
               json_pack("{s:[o], s:s}", "backups", hf_json_id_text(&taken->backup), "reason", "expired"), &err);
    taken->pruned = taken->pruned || pruned || process.dead; // it may stand in the log
    world.prunes += pruned;
    process_end(&process);
}

static void
collect(const struct appliance *who, bool may_die)
{
    struct process process;
    struct hf_error err = {0};
    struct hf_collect_report report = {0};
    const struct hf_collect_options options = {.signing = &who->signing,
                                               .cache_folder = who->cache,
                                               .now = INT64_C(1800000000000),
                                               .live_percent = draw(2) == 0 ? 60 : 100,
                                               .container_bytes = draw(2) == 0 ? 1 : HF_MIB};
    process_begin(&process, may_die);
    const bool ok = hf_vault_collect(process.vault, &options, &report, &err);
    if (!ok && !process.dead && err.kind != HF_ERR_CONFLICT)
        fail_msg("history %llu: a collection failed: %s", (unsigned long long)world.histories, err.message);
    const bool shut_out = strcmp(report.unreadable, "another appliance writes to the vault") == 0;
    if (ok && report.unreadable[0] != 0 && !shut_out && !process.dead && world.depth == 1)
        fail_msg("history %llu: a manifest is unreadable: %s", (unsigned long long)world.histories, report.unreadable);
    assert_int_equal(report.damaged, 0);
    world.moved += report.moved;
    world.deleted += report.deleted;
    process_end(&process);
}

static bool
read_whole(struct process *process, const struct taken *taken, struct hf_error *err)
{
    static uint8_t page[PAGE];
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(PAGES * PAGE + HF_KIB);
    if (!hf_slab_worker_new(1, &worker, err) || !hf_backup_open(process->vault, &taken->backup, &backup, err) ||
        !hf_backup_read_file(backup, worker, "base/1", &content, err))
        return false;
    assert_int_equal(content.length, PAGES * PAGE);
    for (size_t i = 0; i < PAGES; i++) {
        fill_page(page, i, taken->versions[i]);
        assert_memory_equal(content.data + i * PAGE, page, PAGE);
    }
    return true;
}

/* Pinned: it must succeed.  Without a pin it may fail, and what it gives is right all the same. */
static void
read_one(const struct appliance *who)
{
    struct process process;
    struct hf_error err;
    if (world.count == 0)
        return;
    const struct taken *taken = &world.taken[draw(world.count)];
    const struct hf_id reader = hf_id_new();
    const uint64_t takeovers = world.takeovers;
    process_begin(&process, true);
    const bool pinned = draw(4) != 0 && append(&process, who, HF_LOG_PIN,
                                               json_pack("{s:o, s:o}", "reader", hf_json_id_text(&reader), "backup",
                                                         hf_json_id_text(&taken->backup)),
                                               &err);
    const bool read = read_whole(&process, taken, &err);
    if (pinned && !read && !process.dead && world.takeovers == takeovers) // a takeover ends others' pins
        fail_msg("history %llu: a pinned backup does not read: %s", (unsigned long long)world.histories, err.message);
    world.reads += read;
    if (pinned)
        (void)!append(
            &process, who, HF_LOG_UNPIN,
            json_pack("{s:o, s:o}", "reader", hf_json_id_text(&reader), "backup", hf_json_id_text(&taken->backup)),
            &err);
    process_end(&process);
}

/* What others left open ends: pins, and sessions, of which the newest go first. */
static bool
end_others(struct process *process, const struct appliance *who, struct hf_error *err)
{
    for (;;) {
        const struct hf_vault_state *log;
        const struct hf_vault_session *session = NULL;
        const struct hf_vault_pin *pin = NULL;
        if (!hf_vault_read(process->vault, NULL, NULL, &log, err))
            return false;
        for (size_t i = log->session_count; i-- > 0 && session == NULL;)
            if (log->sessions[i].state == HF_SESSION_OPEN)
                session = &log->sessions[i];
        for (size_t i = 0; i < log->pin_count && pin == NULL; i++)
            if (!hf_id_equal(&log->pins[i].appliance, &who->signing.appliance))
                pin = &log->pins[i];
        if (session == NULL && pin == NULL)
            return true;
        if (!append(process, who, session != NULL ? HF_LOG_ABORT : HF_LOG_UNPIN,
                    session != NULL
                        ? json_pack("{s:o, s:s}", "session", hf_json_id_text(&session->session), "reason", "taken_over")
                        : json_pack("{s:o, s:o}", "reader", hf_json_id_text(&pin->reader), "backup",
                                    hf_json_id_text(&pin->backup)),
                    err))
            return false;
    }
}

/* From here on the other one writes nothing, whatever it is in the middle of. */
static void
take_over(const struct appliance *who)
{
    struct process process;
    struct hf_error err;
    const struct hf_vault_state *log;
    process_begin(&process, true);
    if (hf_vault_read(process.vault, NULL, NULL, &log, &err)) {
        _cleanup_(hf_json_freep) json_t *said = json_pack("{s:I}", "epoch", (json_int_t)log->epoch + 1);
        const struct hf_log_append entry = {HF_LOG_EPOCH, 1, log->epoch + 1, said, NULL};
        const bool done = hf_vault_append(process.vault, &entry, &who->signing, NULL, NULL, &err);
        world.takeovers += done || process.dead; // it may stand in the log
        world.taken_over += done;
        (void)!(done && end_others(&process, who, &err));
    }
    process_end(&process);
    process_begin(&process, false);
    hf_assert_ok(hf_vault_read(process.vault, NULL, NULL, &log, &err), &err);
    if (log->epoch > 0)
        world.holder = !hf_id_equal(&log->holder, &world.appliances[0].signing.appliance);
    process_end(&process);
}

/* Mostly by the one whose vault it is. */
static void
step(void)
{
    const struct appliance *who = &world.appliances[world.holder ^ (draw(4) == 0)];
    world.steps++;
    if (draw(30) == 0) {
        take_over(who);
        return;
    }
    switch (draw(8)) {
    case 0:
    case 1:
    case 2:
        back_up(who);
        break;
    case 3:
    case 4:
        prune(who);
        break;
    case 5:
    case 6:
        collect(who, true);
        break;
    default:
        read_one(who);
    }
}

/* ------------------------------------------------------------------------------------------------------ one history */

static void
print_damage(void *context, const struct hf_damage *damage)
{
    (void)context;
    print_message("# damage: %s\n", damage->message);
}

/* The pins of readers that died are taken back by the daemon, before it collects. */
static void
take_back_pins(struct process *process)
{
    struct hf_error err;
    for (;;) {
        const struct hf_vault_state *log;
        hf_assert_ok(hf_vault_read(process->vault, NULL, NULL, &log, &err), &err);
        if (log->pin_count == 0)
            return;
        const struct hf_vault_pin pin = log->pins[0];
        const bool first = hf_id_equal(&pin.appliance, &world.appliances[0].signing.appliance);
        hf_assert_ok(append(process, &world.appliances[!first], HF_LOG_UNPIN,
                            json_pack("{s:o, s:o}", "reader", hf_json_id_text(&pin.reader), "backup",
                                      hf_json_id_text(&pin.backup)),
                            &err),
                     &err);
    }
}

static void
forget_notes(void)
{
    char text[HF_ID_TEXT_BYTES], path[700];
    for (size_t i = 0; i < 2; i++) { // a suspended session that nobody will go on with
        snprintf(path, sizeof path, "%s/%s.partial.json", world.appliances[i].cache, hf_id_format(&world.id, text));
        (void)unlink(path);
    }
}

static void
judge(void)
{
    struct process process;
    struct hf_error err;
    const struct hf_vault_state *log;
    struct hf_check_report report;
    const struct hf_check_options options = {.level = 2, .workers = 1, .damage = print_damage};
    world.depth = DEPTH_MOST; // nobody interferes any more
    process_begin(&process, false);
    hf_assert_ok(hf_vault_check(process.vault, &options, &report, &err), &err);
    if (report.damages != 0)
        fail_msg("history %llu: %llu damages", (unsigned long long)world.histories, (unsigned long long)report.damages);
    hf_assert_ok(hf_vault_read(process.vault, NULL, NULL, &log, &err), &err);
    size_t counting = 0;
    for (size_t i = 0; i < world.count; i++) {
        const struct hf_vault_backup *backup = hf_vault_state_backup(log, &world.taken[i].backup);
        if (world.taken[i].acknowledged && (backup == NULL || (backup->pruned && !world.taken[i].pruned)))
            fail_msg("history %llu: an acknowledged backup is gone", (unsigned long long)world.histories);
        if (backup == NULL || backup->pruned)
            continue;
        counting++;
        hf_assert_ok(read_whole(&process, &world.taken[i], &err), &err);
        hf_assert_ok(hf_vault_read(process.vault, NULL, NULL, &log, &err), &err);
    }
    for (size_t i = 0; i < log->backup_count; i++)
        counting -= !log->backups[i].pruned;
    assert_int_equal(counting, 0); // and no other is listed
    take_back_pins(&process);
    if (log->epoch > 0) // a takeover that was cut off is repeated
        hf_assert_ok(end_others(&process, &world.appliances[world.holder], &err), &err);
    process_end(&process);

    /* Both appliances tidy; the second run finds what waited for the other's sessions. */
    forget_notes();
    for (int i = 0; i < 4; i++)
        collect(&world.appliances[i % 2], false);
    process_begin(&process, false);
    hf_assert_ok(hf_vault_check(process.vault, &options, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    if (report.orphans != 0)
        fail_msg("history %llu: %llu objects are left over", (unsigned long long)world.histories,
                 (unsigned long long)report.orphans);
    process_end(&process);
    world.depth = 0;
}

static void
history(uint64_t number)
{
    struct hf_error err;
    struct hf_vault *made;
    char identity[32], path[700], text[HF_ID_TEXT_BYTES];
    world.chance = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    world.histories = number;
    world.count = 0;
    world.version = 0;
    world.holder = 0;
    world.takeovers = 0;
    memset(world.versions, 0, sizeof world.versions);
    snprintf(identity, sizeof identity, "%llu", (unsigned long long)number);
    const struct hf_vault_new how = {
        .engine = "postgres", .identity = identity, .name = "clinic", .signer = &world.appliances[0].signing, .now = 1};
    hf_assert_ok(hf_vault_create(world.vault.repository, &how, &made, &err), &err);
    world.id = hf_vault_id(made);
    hf_buf_clear(&world.keys);
    hf_assert_ok(hf_vault_keys_export(hf_vault_keys(made), &world.keys, &err), &err);
    hf_vault_freep(&made);

    for (uint64_t i = 0, steps = 3 + draw(STEPS_MOST - 2); i < steps; i++)
        step();
    judge();
    snprintf(path, sizeof path, "%s/vaults/%s", world.vault.place, hf_id_format(&world.id, text));
    hf_assert_ok(hf_dir_remove_tree(path, &err), &err);
}

static bool
sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
     struct hf_error *err)
{
    (void)err;
    return crypto_sign_detached(signature, NULL, bytes, length, ((const struct appliance *)context)->secret) == 0;
}

static void
world_make(void)
{
    struct hf_error err;
    test_vault_make(&world.vault, hf_test_folder());
    const struct hf_id id = hf_repository_id(world.vault.repository);
    struct hf_root_bundle bundle = *hf_repository_signers(world.vault.repository);
    world.main = pthread_self();
    world.keys = HF_BUF_INIT_SECRET(HF_MIB);
    for (int i = 0; i < 2; i++) {
        struct appliance *made = &world.appliances[i];
        snprintf(made->cache, sizeof made->cache, "%s%d", world.vault.cache, i);
        hf_assert_ok(hf_dir_make(made->cache, 0700, &err), &err);
        crypto_sign_keypair(made->signing.public_key, made->secret);
        made->signing.appliance = hf_id_new();
        made->signing.context = made;
        made->signing.sign = sign;
        hf_assert_ok(hf_root_bundle_add_signer(hf_repository_backend(world.vault.repository), &id,
                                               hf_repository_root_key(world.vault.repository), &bundle, &made->signing,
                                               i == 0 ? &world.vault.signing : &world.appliances[0].signing, "explorer",
                                               1, &err),
                     &err);
    }
    hf_assert_ok(hf_repository_reload_signers(world.vault.repository, &err), &err);
}

static double
seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

HF_TEST(whatever_order_things_happen_in_and_whoever_dies_every_backup_that_counts_is_whole)
{
    const char *seed = getenv("SEED"), *campaign = getenv("CAMPAIGN_SECONDS");
    const double end = seconds() + (campaign != NULL ? atof(campaign) : SECONDS);
    uint64_t number = seed != NULL ? strtoull(seed, NULL, 10) * 1000000 : 1;
    world_make();
    uint64_t done = 0;
    for (; seconds() < end && (campaign != NULL || done < HISTORIES); done++)
        history(number++);
    print_message("# %llu histories, %llu steps, %llu in the middle of others, %llu deaths: %llu commits, %llu pruned, "
                  "%llu packs deleted, %llu moved, %llu read, %llu taken over, %llu shut out in their commit\n",
                  (unsigned long long)done, (unsigned long long)world.steps, (unsigned long long)world.nested,
                  (unsigned long long)world.deaths, (unsigned long long)world.commits, (unsigned long long)world.prunes,
                  (unsigned long long)world.deleted, (unsigned long long)world.moved, (unsigned long long)world.reads,
                  (unsigned long long)world.taken_over, (unsigned long long)world.shut_out);
    assert_true(world.deaths > 0 && world.nested > 0 && world.moved > 0 && world.reads > 0 && world.taken_over > 0);
    hf_buf_done(&world.keys);
    test_vault_done(&world.vault);
}

#include "tests/support/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/care/check.h"
#include "base/time.h"
#include "server/repository/container.h"
#include "server/repository/reader.h"
#include "tests/support/collecting.h"
#include "tests/support/model.h"

#define BYTES (4 * HF_MIB)
#define MOST  8

/* A vault with a row of backups: each a generation of the model later than the one before. */
struct place {
    struct test_vault vault;
    char scratch[512];
    unsigned count;
    struct hf_id backups[MOST];
    struct model models[MOST];
};

static void
place_make(struct place *place, unsigned backups)
{
    struct hf_error err;
    *place = (struct place){.count = backups};
    test_vault_make(&place->vault, hf_test_folder());
    snprintf(place->scratch, sizeof place->scratch, "%s", hf_test_folder());
    for (unsigned i = 0; i < backups; i++) {
        struct hf_session_outcome outcome;
        struct hf_session_options options = model_options(&place->vault);
        options.ageing_percent = 1; // thin slabs are what we are after
        model_make(&place->models[i], BYTES, i == 0 ? 0 : 40 + i);
        if (i > 0) { // less than half of the first pack lives on
            assert_int_equal(place->models[i].files[0].size, place->models[0].files[0].size);
            memcpy(place->models[i].files[0].bytes, place->models[0].files[0].bytes,
                   place->models[0].files[0].size / 2);
        }
        hf_assert_ok(model_back_up(&place->models[i], place->vault.vault, &options, &outcome, &err), &err);
        place->backups[i] = outcome.backup;
    }
}

static void
place_done(struct place *place)
{
    for (unsigned i = 0; i < place->count; i++)
        model_done(&place->models[i]);
    test_vault_done(&place->vault);
}

static const struct hf_vault_state *
state_of(struct place *place)
{
    struct hf_error err;
    const struct hf_vault_state *log;
    hf_assert_ok(hf_vault_read(place->vault.vault, NULL, NULL, &log, &err), &err);
    return log;
}

static void
prune_up_to(struct place *place, unsigned count)
{
    struct hf_error err;
    for (unsigned i = 0; i < count; i++)
        hf_assert_ok(collecting_prune(&place->vault, &place->backups[i], &err), &err);
}

static struct hf_collect_report
collect(struct place *place, unsigned live_percent)
{
    struct hf_error err;
    struct hf_collect_report report;
    struct hf_collect_options options = collecting_options(&place->vault);
    options.live_percent = live_percent;
    hf_assert_ok(collecting_run(&place->vault, &options, &report, &err), &err);
    return report;
}

static void
assert_restores(struct place *place, unsigned from)
{
    for (unsigned i = from; i < place->count; i++)
        model_assert_restores(&place->models[i], place->vault.vault, &place->backups[i], place->scratch);
}

/* Of the last pack that was moved: path of the object it lies in. */
static struct hf_id
moved_pack(struct place *place, char path[static 1024])
{
    const struct hf_vault_state *log = state_of(place);
    for (size_t i = 0; i < log->pack_count; i++) {
        char name[HF_PLACE_BYTES];
        uint64_t bytes;
        if (log->packs[i].moved == 0)
            continue;
        snprintf(path, 1024, "%s/%s", place->vault.place,
                 hf_vault_state_place(log, &place->vault.id, &log->packs[i], name, &bytes, NULL));
        return log->packs[i].pack;
    }
    fail_msg("no pack was moved");
    return HF_ID_NONE;
}

static void
flip(const char *path, off_t at)
{
    uint8_t byte;
    assert_int_equal(chmod(path, 0600), 0);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Somebody who locks every pack where it lies, when the first container is about to be finished. */
static struct {
    struct hf_backend *backend; // NULL: not, or done
    struct hf_id vault;
    const struct hf_vault_state *state;
    int64_t until;
} meanwhile;

bool __real_hf_container_writer_finish(struct hf_container_writer **writer, uint64_t *ret_bytes,
                                       uint8_t sha256[static HF_SHA256_BYTES], struct hf_error *err);
bool __wrap_hf_container_writer_finish(struct hf_container_writer **writer, uint64_t *ret_bytes,
                                       uint8_t sha256[static HF_SHA256_BYTES], struct hf_error *err);
bool
__wrap_hf_container_writer_finish(struct hf_container_writer **writer, uint64_t *ret_bytes,
                                  uint8_t sha256[static HF_SHA256_BYTES], struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    struct hf_backend *backend = meanwhile.backend;
    meanwhile.backend = NULL;
    for (size_t i = 0; backend != NULL && i < meanwhile.state->pack_count; i++)
        (void)!hf_backend_retain_until(backend, hf_pack_name(&meanwhile.vault, &meanwhile.state->packs[i].pack, name),
                                       meanwhile.until, err);
    return __real_hf_container_writer_finish(writer, ret_bytes, sha256, err);
}

HF_TEST(nothing_goes_while_every_backup_counts)
{
    struct place place;
    place_make(&place, 3);
    const struct hf_collect_report report = collect(&place, 0);
    assert_int_equal(report.packs, 0);
    assert_int_equal(report.condemned, 0);
    assert_int_equal(report.moved, 0);
    collecting_assert_whole(&place.vault, 0);
    place_done(&place);
}

HF_TEST(packs_that_no_kept_backup_needs_are_condemned_deleted_and_unlinked_in_one_run)
{
    struct place place;
    place_make(&place, 4);
    const size_t before = state_of(&place)->pack_count;
    prune_up_to(&place, 3);
    const struct hf_collect_report report = collect(&place, 1);
    assert_true(report.deleted > 0);
    assert_int_equal(report.condemned, report.deleted);
    assert_int_equal(report.packs, report.deleted);
    assert_int_equal(state_of(&place)->pack_count, before - report.deleted);
    collecting_assert_whole(&place.vault, 0);
    assert_restores(&place, 3);
    place_done(&place);
}

HF_TEST(thin_packs_are_moved_and_every_reader_finds_them)
{
    struct place place;
    struct hf_error err;
    place_make(&place, 5);
    prune_up_to(&place, 4);
    struct hf_collect_report report = collect(&place, 60);
    assert_true(report.moved > 0);
    assert_true(report.containers > 0);
    assert_true(report.container_bytes < report.moved_bytes);
    assert_int_equal(report.damaged, 0);
    collecting_assert_whole(&place.vault, 0);
    assert_restores(&place, 4);

    /* Keyless, too. */
    struct hf_check_report checked;
    const struct hf_check_options keyless = {.level = 1, .workers = 1};
    hf_assert_ok(hf_repository_check(place.vault.repository, &keyless, &checked, &err), &err);
    assert_int_equal(checked.damages, 0);
    assert_int_equal(checked.orphans, 0);

    /* The next backup builds on it, with its tags made anew from moved packs. */
    char cache[1024];
    char text[HF_ID_TEXT_BYTES];
    snprintf(cache, sizeof cache, "%s/%s.tags", place.vault.cache, hf_id_format(&place.vault.id, text));
    assert_int_equal(unlink(cache), 0);
    struct hf_session_outcome outcome;
    struct hf_session *session;
    const struct hf_session_options options = model_options(&place.vault);
    hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
    const struct hf_id parent = hf_session_parent(session, NULL);
    assert_true(hf_id_equal(&parent, &place.backups[4]));
    hf_assert_ok(model_hand_over(&place.models[4], session, &err), &err);
    const uint64_t stored = atomic_load(&hf_session_counts(session)->pages_healed);
    assert_int_equal(stored, 0);
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    model_assert_restores(&place.models[4], place.vault.vault, &outcome.backup, place.scratch);

    /* Moved again, out of the containers. */
    hf_assert_ok(collecting_prune(&place.vault, &place.backups[4], &err), &err);
    report = collect(&place, 100);
    collecting_assert_whole(&place.vault, 0);
    model_assert_restores(&place.models[4], place.vault.vault, &outcome.backup, place.scratch);

    /* And what is as it should be stays where it is. */
    report = collect(&place, 60);
    assert_int_equal(report.moved, 0);
    assert_int_equal(report.packs, 0);
    place_done(&place);
}

HF_TEST(a_pinned_backup_is_not_pruned_and_what_is_condemned_waits_for_who_was_there_before)
{
    struct place place;
    struct hf_error err;
    const struct hf_id reader = hf_id_new();
    place_make(&place, 4);
    hf_assert_ok(collecting_pin(&place.vault, HF_LOG_PIN, &reader, &place.backups[3], &err), &err);
    assert_false(collecting_prune(&place.vault, &place.backups[3], &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "is pinned by a reader"));

    prune_up_to(&place, 3);
    struct hf_collect_report report = collect(&place, 100);
    assert_true(report.condemned > 0);
    assert_int_equal(report.deleted, 0);
    assert_true(report.moved > 0);
    assert_true(report.waiting > 0); // the objects that packs were moved out of
    assert_int_equal(report.packs, 0);
    assert_restores(&place, 3);

    hf_assert_ok(collecting_pin(&place.vault, HF_LOG_UNPIN, &reader, &place.backups[3], &err), &err);
    report = collect(&place, 100);
    assert_true(report.deleted > 0);
    assert_true(report.packs > report.deleted);
    assert_int_equal(report.waiting, 0);
    collecting_assert_whole(&place.vault, 0);
    assert_restores(&place, 3);
    place_done(&place);
}

HF_TEST(a_session_under_way_keeps_its_parent_and_what_it_may_build_on)
{
    struct place place;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    place_make(&place, 4);
    prune_up_to(&place, 3);
    const struct hf_session_options options = model_options(&place.vault);
    hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
    assert_false(collecting_prune(&place.vault, &place.backups[3], &err));
    assert_non_null(strstr(err.message, "an open session builds on backup"));

    /* As another process of this appliance would: the lock shows that the session lives. */
    struct test_vault other = place.vault;
    struct hf_collect_report report = {0};
    hf_assert_ok(hf_vault_open(place.vault.repository, &place.vault.id, &other.vault, &err), &err);
    struct hf_collect_options collecting = collecting_options(&place.vault);
    collecting.live_percent = 100;
    hf_assert_ok(hf_vault_collect(other.vault, &collecting, &report, &err), &err);
    assert_int_equal(report.sessions_aborted, 0);
    assert_true(report.moved > 0);
    assert_int_equal(report.packs, 0);
    hf_vault_freep(&other.vault);

    hf_assert_ok(model_hand_over(&place.models[3], session, &err), &err);
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    model_assert_restores(&place.models[3], place.vault.vault, &outcome.backup, place.scratch);
    report = collect(&place, 100);
    assert_true(report.packs > 0);
    collecting_assert_whole(&place.vault, 0);
    model_assert_restores(&place.models[3], place.vault.vault, &outcome.backup, place.scratch);
    place_done(&place);
}

HF_TEST(a_reader_that_was_at_it_follows_a_pack_to_its_new_place)
{
    struct place place;
    struct hf_error err;
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(2 * BYTES);
    place_make(&place, 4);
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_backup_open(place.vault.vault, &place.backups[3], &backup, &err), &err);
    const struct model_file *file = &place.models[3].files[0];
    hf_assert_ok(hf_backup_read_file(backup, worker, file->path, &content, &err), &err);

    prune_up_to(&place, 3);
    const struct hf_collect_report report = collect(&place, 100); // it had no pin: the objects are gone
    assert_true(report.moved > 0 && report.packs > 0);
    hf_assert_ok(hf_backup_read_file(backup, worker, file->path, &content, &err), &err);
    assert_int_equal(content.length, file->size);
    assert_memory_equal(content.data, file->bytes, file->size);
    place_done(&place);
}

HF_TEST(a_vault_with_an_unreadable_manifest_is_left_alone_and_says_why)
{
    struct place place;
    char path[1024], name[HF_PLACE_BYTES];
    uint64_t bytes;
    place_make(&place, 3);
    prune_up_to(&place, 2);
    const struct hf_vault_state *log = state_of(&place);
    const struct hf_vault_pack *root = hf_vault_state_pack(log, &log->backups[2].root_pack);
    snprintf(path, sizeof path, "%s/%s", place.vault.place,
             hf_vault_state_place(log, &place.vault.id, root, name, &bytes, NULL));
    assert_int_equal(unlink(path), 0);
    const struct hf_collect_report report = collect(&place, 100);
    assert_int_equal(report.condemned + report.deleted + report.moved + report.packs, 0);
    assert_non_null(strstr(report.unreadable, "is missing"));
    place_done(&place);
}

HF_TEST(a_damaged_object_is_not_copied)
{
    struct place place;
    struct hf_error err;
    place_make(&place, 4);
    prune_up_to(&place, 3);
    const struct hf_vault_state *log = state_of(&place);
    for (size_t i = 0; i < log->pack_count; i++) {
        char path[1024], name[HF_PLACE_BYTES];
        uint64_t bytes;
        if (log->packs[i].kind != HF_PACK_DATA)
            continue;
        snprintf(path, sizeof path, "%s/%s", place.vault.place,
                 hf_vault_state_place(log, &place.vault.id, &log->packs[i], name, &bytes, NULL));
        flip(path, (off_t)bytes / 3);
    }
    const struct hf_collect_report report = collect(&place, 100);
    assert_true(report.damaged > 0);
    log = state_of(&place);
    for (size_t i = 0; i < log->pack_count; i++)
        assert_true(log->packs[i].kind != HF_PACK_DATA || log->packs[i].moved == 0);
    (void)err;
    place_done(&place);
}

static void
count_damage(void *context, const struct hf_damage *damage)
{
    (void)damage;
    (*(unsigned *)context)++;
}

HF_TEST(every_flipped_byte_of_a_container_is_found_with_and_without_keys)
{
    struct place place;
    struct hf_error err;
    char path[1024];
    struct stat status;
    place_make(&place, 4);
    prune_up_to(&place, 3);
    (void)collect(&place, 100);
    (void)moved_pack(&place, path);
    assert_int_equal(stat(path, &status), 0);
    for (off_t at = 0; at < status.st_size; at += at < 300 || at > status.st_size - 400 ? 13 : status.st_size / 40) {
        flip(path, at);
        for (int level = 1; level <= 2; level++) {
            unsigned found = 0;
            struct hf_check_report report;
            const struct hf_check_options options = {
                .level = level, .workers = 2, .damage = count_damage, .context = &found};
            hf_assert_ok(hf_vault_check(place.vault.vault, &options, &report, &err), &err);
            if (found == 0)
                fail_msg("level %d does not find byte %lld", level, (long long)at);
        }
        flip(path, at);
    }
    collecting_assert_whole(&place.vault, 0);
    place_done(&place);
}

HF_TEST(a_lost_container_is_healed_by_the_next_backup)
{
    struct place place;
    struct hf_error err;
    char path[1024];
    struct hf_session_outcome outcome;
    place_make(&place, 4);
    prune_up_to(&place, 3);
    (void)collect(&place, 100);
    const struct hf_id pack = moved_pack(&place, path);
    const struct hf_vault_state *log = state_of(&place);
    for (size_t i = 0; i < log->object_count; i++) { // those with data: a lost map would cost the parent
        char name[HF_PACK_NAME_BYTES];
        bool data = false;
        for (size_t n = 0; n < log->pack_count; n++)
            data = data ||
                   (hf_id_equal(&log->packs[n].object, &log->objects[i].object) && log->packs[n].kind == HF_PACK_DATA);
        snprintf(path, sizeof path, "%s/%s", place.vault.place,
                 hf_pack_name(&place.vault.id, &log->objects[i].object, name));
        if (data)
            assert_int_equal(unlink(path), 0);
    }
    (void)pack;
    const struct hf_session_options options = model_options(&place.vault);
    hf_assert_ok(model_back_up(&place.models[3], place.vault.vault, &options, &outcome, &err), &err);
    model_assert_restores(&place.models[3], place.vault.vault, &outcome.backup, place.scratch);
    place_done(&place);
}

HF_TEST(what_the_storage_has_locked_stays_and_is_told)
{
    struct place place;
    struct hf_error err;
    place_make(&place, 4);
    const struct hf_vault_state *log = state_of(&place);
    for (size_t i = 0; i < log->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES];
        hf_assert_ok(hf_backend_retain_until(hf_vault_backend(place.vault.vault),
                                             hf_pack_name(&place.vault.id, &log->packs[i].pack, name),
                                             INT64_C(4000000000000), &err),
                     &err);
    }
    prune_up_to(&place, 3);
    const struct hf_collect_report report = collect(&place, 1);
    assert_true(report.deleted > 0);
    assert_int_equal(report.packs, 0);
    assert_int_equal(report.locked, report.deleted);
    assert_true(report.locked_bytes > 0);
    place_done(&place);
}

HF_TEST(an_object_that_is_locked_is_moved_when_that_is_over_and_a_lock_that_comes_meanwhile_goes_along)
{
    struct place place;
    struct hf_error err;
    place_make(&place, 5);
    prune_up_to(&place, 4);
    struct hf_backend *backend = hf_vault_backend(place.vault.vault);
    const struct hf_vault_state *log = state_of(&place);
    char name[HF_PACK_NAME_BYTES];
    const size_t packs = log->pack_count;
    for (size_t i = 0; i < packs; i++)
        hf_assert_ok(hf_backend_retain_until(backend, hf_pack_name(&place.vault.id, &log->packs[i].pack, name),
                                             hf_time_now_ms() + 3600000, &err),
                     &err);
    assert_int_equal(collect(&place, 60).moved, 0);

    // Over: the locks are moved into the past, as the clock would.
    char command[1200];
    snprintf(command, sizeof command, "find '%s/locks' -type f -exec sh -c 'echo holdfast-lock-1 12 >\"$1\"' - {} ';'",
             place.vault.place);
    assert_int_equal(system(command), 0);
    meanwhile.backend = backend;
    meanwhile.vault = place.vault.id;
    meanwhile.state = state_of(&place);
    meanwhile.until = hf_time_now_ms() + 7200000;
    const struct hf_collect_report report = collect(&place, 60);
    assert_null(meanwhile.backend);
    assert_true(report.containers > 0);
    char path[1024];
    int64_t until;
    moved_pack(&place, path);
    hf_assert_ok(hf_backend_retained_until(backend, path + strlen(place.vault.place) + 1, &until, &err), &err);
    assert_true(until == meanwhile.until);
    assert_restores(&place, 4);
    place_done(&place);
}

HF_TEST(sessions_without_a_living_writer_are_ended_and_their_containers_go)
{
    struct place place;
    struct hf_error err;
    place_make(&place, 2);
    const struct hf_id session = hf_id_new();
    _cleanup_(hf_json_freep) json_t *part = json_pack("{s:o, s:[], s:n, s:s}", "session", hf_json_id_text(&session),
                                                      "parents", "builds_on", "operation", "collect");
    const struct hf_log_append intent = {HF_LOG_INTENT, 1, HF_LOG_EPOCH_NOW, part, NULL};
    hf_assert_ok(hf_vault_append(place.vault.vault, &intent, &place.vault.signing, NULL, NULL, &err), &err);
    struct hf_collect_report report = collect(&place, 0);
    assert_int_equal(report.sessions_aborted, 1);

    /* What it would still have moved is void. */
    const struct hf_vault_state *log = state_of(&place);
    const struct hf_id object = hf_id_new();
    _cleanup_(hf_json_freep) json_t *late =
        json_pack("{s:o, s:[[o, o]], s:[[o, i, s]]}", "session", hf_json_id_text(&session), "packs",
                  hf_json_id_text(&log->packs[0].pack), hf_json_id_text(&object), "objects", hf_json_id_text(&object),
                  1, "0000000000000000000000000000000000000000000000000000000000000000");
    const struct hf_log_append relocate = {HF_LOG_RELOCATE, 1, HF_LOG_EPOCH_NOW, late, NULL};
    assert_false(hf_vault_append(place.vault.vault, &relocate, &place.vault.signing, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "was aborted"));
    place_done(&place);
}

#include "tests/support/test.h"

#include "catalog/view.h"
#include "tests/catalog/synthetic_log.h"

/* One catalog and the next sequence of vault 1. */
struct bench {
    struct hf_catalog *catalog;
    uint64_t next;
};

static struct bench
begin(const char *engine)
{
    struct bench bench = {.next = 1};
    struct hf_error err;
    char path[128];
    snprintf(path, sizeof path, "%s/catalog.db", hf_test_folder());
    hf_assert_ok(hf_catalog_open(path, HF_CATALOG_SCRATCH, &bench.catalog, &err), &err);
    _cleanup_(synthetic_done) struct hf_catalog_entry entry =
        synthetic_entry_of(1, bench.next++, "LINEAGE", json_pack("{s:s, s:s}", "engine", engine, "lineage", "00"),
                           json_pack("{s:s, s:s}", "identity", "7", "name", "clinic"));
    hf_assert_ok(hf_catalog_apply(bench.catalog, &entry, &err), &err);
    return bench;
}

static void
end(struct bench *bench)
{
    hf_catalog_freep(&bench->catalog);
}

static bool
try_entry(struct bench *bench, const char *kind, json_t *public_part, json_t *sealed_part, struct hf_error *err)
{
    _cleanup_(synthetic_done) struct hf_catalog_entry entry =
        synthetic_entry_of(1, bench->next, kind, public_part, sealed_part);
    if (!hf_catalog_apply(bench->catalog, &entry, err))
        return false;
    bench->next++;
    return true;
}

static void
say(struct bench *bench, const char *kind, json_t *public_part, json_t *sealed_part)
{
    struct hf_error err;
    hf_assert_ok(try_entry(bench, kind, public_part, sealed_part, &err), &err);
}

static json_t *
of_id(const char *member, const struct hf_id *id)
{
    return json_pack("{s:o}", member, hf_json_id_text(id));
}

static void
say_intent(struct bench *bench, const struct hf_id *session)
{
    json_t *part = of_id("session", session);
    json_object_set_new(part, "operation", json_string("backup"));
    say(bench, "INTENT", part, NULL);
}

static void
say_commit(struct bench *bench, const struct hf_id *session, const struct hf_id *backup)
{
    say(bench, "COMMIT", synthetic_commit(1, session, backup, bench->next), json_pack("{s:s}", "source", "clinic"));
}

static void
say_verdict(struct bench *bench, const struct hf_id *backup, const char *result)
{
    struct hf_id attempt = hf_id_new();
    json_t *part = of_id("backup", backup);
    json_object_set_new(part, "attempt", hf_json_id_text(&attempt));
    json_object_set_new(part, "result", json_string(result));
    say(bench, "VERDICT", part, json_pack("{s:s}", "reason", "because"));
}

static struct hf_id
say_backup(struct bench *bench)
{
    struct hf_id session = hf_id_new(), backup = hf_id_new();
    say_intent(bench, &session);
    say_commit(bench, &session, &backup);
    return backup;
}

static bool
keep_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    *(struct hf_backup_row *)context = *row;
    return true;
}

static bool
is_there(struct bench *bench, const struct hf_id *backup, struct hf_backup_row *ret)
{
    bool found;
    struct hf_error err;
    hf_assert_ok(hf_catalog_backup(bench->catalog, backup, &found, keep_backup, ret, &err), &err);
    return found;
}

static const char *
state_of(struct bench *bench, const struct hf_id *backup)
{
    struct hf_backup_row row;
    assert_true(is_there(bench, backup, &row));
    return hf_backup_state_name(row.state);
}

HF_TEST(a_commit_becomes_a_backup_with_what_its_parts_say)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id session = hf_id_new(), backup = hf_id_new();
    struct hf_error err;
    say_intent(&bench, &session);
    say(&bench, "COMMIT", synthetic_commit(1, &session, &backup, 3),
        json_pack("{s:s, s:{s:I, s:I, s:s, s:s, s:I, s:s, s:I, s:I, s:I}}", "source", "clinic", "facts", "started_at",
                  (json_int_t)10, "finished_at", (json_int_t)20, "start_lsn", "0/28", "stop_lsn", "0/100", "timeline",
                  (json_int_t)2, "server_version", "15.20", "logical_bytes", (json_int_t)4096, "files", (json_int_t)9,
                  "bad_pages", (json_int_t)1));

    bool found;
    struct hf_backup_row row;
    hf_assert_ok(hf_catalog_backup(bench.catalog, &backup, &found, keep_backup, &row, &err), &err);
    assert_true(found && hf_id_equal(&row.backup, &backup) && hf_id_is_none(&row.parent));
    assert_int_equal(row.started_at, 10);
    assert_int_equal(row.finished_at, 20);
    assert_int_equal(row.committed_at, 3000);
    assert_int_equal(row.timeline, 2);
    assert_int_equal(row.logical_bytes, 4096);
    assert_int_equal(row.stored_bytes, 1024);
    assert_int_equal(row.files, 9);
    assert_int_equal(row.bad_pages, 1);
    assert_int_equal(row.state, HF_BACKUP_UNPROVEN);
    assert_int_equal(row.pruned_at, -1);

    struct hf_id vault;
    hf_assert_ok(hf_catalog_source_vault(bench.catalog, "clinic", &vault, &err), &err);
    struct hf_id expected = synthetic_id(1, "vault", 0);
    assert_true(hf_id_equal(&vault, &expected));
    hf_assert_ok(hf_catalog_source_vault(bench.catalog, "nobody", &vault, &err), &err);
    assert_true(hf_id_is_none(&vault));
}

HF_TEST(a_void_entry_moves_the_head_and_changes_nothing_else)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    _cleanup_(hf_buf_done) struct hf_buf before = HF_BUF_INIT(HF_MIB), after = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    struct hf_id backup = say_backup(&bench), pack = synthetic_id(1, "data pack", bench.next - 1),
                 session = hf_id_new();
    say_intent(&bench, &session);
    struct {
        const char *kind;
        json_t *said;
    } late[] = {
        {"COMMIT", synthetic_commit(1, &session, &session, 99)},
        {"ABORT", json_pack("{s:o, s:s}", "session", hf_json_id_text(&session), "reason", "late")},
        {"END", of_id("session", &session)},
        {"INTENT", json_pack("{s:o, s:s}", "session", hf_json_id_text(&backup), "operation", "backup")},
        {"PRUNE", json_pack("{s:[o], s:s}", "backups", hf_json_id_text(&backup), "reason", "expired")},
        {"CONDEMN", json_pack("{s:[o], s:s}", "packs", hf_json_id_text(&pack), "reason", "unused")},
        {"HOLD", of_id("backup", &backup)},
        {"EPOCH", json_pack("{s:i}", "epoch", 9)},
    };
    hf_assert_ok(hf_catalog_dump(bench.catalog, &before, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(late); i++) {
        _cleanup_(synthetic_done) struct hf_catalog_entry entry =
            synthetic_entry_of(1, bench.next++, late[i].kind, late[i].said, NULL);
        entry.counts = false;
        hf_assert_ok(hf_catalog_apply(bench.catalog, &entry, &err), &err);
    }
    hf_assert_ok(hf_catalog_dump(bench.catalog, &after, &err), &err);
    const char *old = hf_buf_text(&before), *now = hf_buf_text(&after);
    const char *head = strstr(now, "\nlog_head ");
    assert_non_null(head);
    const size_t same = (size_t)(head - now);
    assert_memory_equal(now, old, same);
    assert_string_equal(strchr(head + 1, '\n'), strchr(strstr(old, "\nlog_head ") + 1, '\n'));
}

HF_TEST(verdicts_move_the_state_as_drawn)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id backup = say_backup(&bench);
    static const char *const steps[][2] = {
        {"inconclusive", "unproven"}, {"passed", "proven"},   {"inconclusive", "proven"}, {"failed", "failed"},
        {"passed", "proven"},         {"damaged", "damaged"}, {"failed", "damaged"},      {"inconclusive", "damaged"},
        {"healed", "unproven"},       {"damaged", "damaged"}, {"passed", "proven"},
    };
    for (size_t i = 0; i < HF_LENGTH(steps); i++) {
        say_verdict(&bench, &backup, steps[i][0]);
        assert_string_equal(state_of(&bench, &backup), steps[i][1]);
    }
}

static bool
count_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    (void)err;
    assert_string_equal(row->reason, "because");
    assert_string_equal(row->source, "clinic");
    ++*(int *)context;
    return true;
}

static bool
count_damage(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    (void)err;
    assert_string_equal(row->reason, "because");
    ++*(int *)context;
    return true;
}

HF_TEST(attempts_are_kept_and_damage_lasts_until_it_is_healed)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id backup = say_backup(&bench);
    struct hf_error err;
    int attempts = 0, damages = 0;
    say_verdict(&bench, &backup, "passed");
    say_verdict(&bench, &backup, "inconclusive");
    say_verdict(&bench, &backup, "damaged");
    hf_assert_ok(hf_catalog_attempts(bench.catalog, &backup, "clinic", 10, count_attempt, &attempts, &err), &err);
    assert_int_equal(attempts, 2);
    attempts = 0;
    hf_assert_ok(hf_catalog_attempts(bench.catalog, NULL, NULL, 1, count_attempt, &attempts, &err), &err);
    assert_int_equal(attempts, 1);
    hf_assert_ok(hf_catalog_damages(bench.catalog, count_damage, &damages, &err), &err);
    assert_int_equal(damages, 1);
    say_verdict(&bench, &backup, "healed");
    damages = 0;
    hf_assert_ok(hf_catalog_damages(bench.catalog, count_damage, &damages, &err), &err);
    assert_int_equal(damages, 0);
}

HF_TEST(a_verdict_on_a_backup_that_does_not_count_changes_no_state)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id unknown = hf_id_new();
    struct hf_backup_row row;
    say_verdict(&bench, &unknown, "passed");
    assert_false(is_there(&bench, &unknown, &row));
}

static bool
count_rows(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)row;
    (void)err;
    ++*(int *)context;
    return true;
}

HF_TEST(a_pruned_backup_is_left_out_unless_asked_for)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id first = say_backup(&bench), second = say_backup(&bench);
    struct hf_error err;
    struct hf_backup_row row;
    struct hf_source_counts counts;
    int kept = 0, all = 0;
    bool found;
    say_verdict(&bench, &first, "passed");
    say(&bench, "PRUNE", json_pack("{s:[o], s:s}", "backups", hf_json_id_text(&first), "reason", "expired"), NULL);

    hf_assert_ok(hf_catalog_backups(bench.catalog, "clinic", false, count_rows, &kept, &err), &err);
    hf_assert_ok(hf_catalog_backups(bench.catalog, NULL, true, count_rows, &all, &err), &err);
    assert_int_equal(kept, 1);
    assert_int_equal(all, 2);
    hf_assert_ok(hf_catalog_newest_backup(bench.catalog, "clinic", NULL, &found, keep_backup, &row, &err), &err);
    assert_true(found && hf_id_equal(&row.backup, &second));
    const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    hf_assert_ok(hf_catalog_newest_backup(bench.catalog, "clinic", &proven, &found, keep_backup, &row, &err), &err);
    assert_false(found);
    hf_assert_ok(hf_catalog_source_counts(bench.catalog, "clinic", &counts, &err), &err);
    assert_int_equal(counts.backups, 1);
    assert_int_equal(counts.by_state[HF_BACKUP_UNPROVEN], 1);
    assert_int_equal(counts.by_state[HF_BACKUP_PROVEN], 0);
    assert_int_equal(counts.stored_bytes, 1024);
}

static bool
keep_source(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    (void)err;
    char *text = context;
    snprintf(text + strlen(text), 200, "%s %s %s %s;", row->name, row->engine, row->origin, row->settings);
    return true;
}

static void
say_source(struct bench *bench, const struct hf_id *id, json_t *sealed)
{
    json_t *part = of_id("id", id);
    json_object_set_new(part, "subject", json_string("source"));
    say(bench, "POLICY", part, sealed);
}

HF_TEST(sources_follow_the_policy_entries_of_the_house_vault)
{
    _cleanup_(end) struct bench bench = begin("house");
    struct hf_id clinic = hf_id_new(), lab = hf_id_new();
    struct hf_error err;
    char text[1024] = "";
    static const char form[] = "{s:s, s:s, s:s, s:{s:s, s:s}}";
    say_source(
        &bench, &lab,
        json_pack(form, "change", "set", "name", "lab", "origin", "file", "settings", "engine", "postgres", "a", "b"));
    say_source(&bench, &clinic,
               json_pack(form, "change", "set", "name", "clinic", "origin", "command", "settings", "engine", "postgres",
                         "a", "b"));
    say_source(&bench, &clinic,
               json_pack(form, "change", "set", "name", "clinic", "origin", "command", "settings", "engine", "postgres",
                         "a", "c"));
    hf_assert_ok(hf_catalog_sources(bench.catalog, keep_source, text, &err), &err);
    assert_string_equal(text, "clinic postgres command {\"a\":\"c\",\"engine\":\"postgres\"};"
                              "lab postgres file {\"a\":\"b\",\"engine\":\"postgres\"};");

    say_source(&bench, &clinic, json_pack("{s:s}", "change", "remove"));
    bool found;
    hf_assert_ok(hf_catalog_source(bench.catalog, "clinic", &found, keep_source, text, &err), &err);
    assert_false(found);

    // The name is free again, for another id.
    struct hf_id again = hf_id_new();
    say_source(&bench, &again,
               json_pack(form, "change", "set", "name", "clinic", "origin", "file", "settings", "engine", "postgres",
                         "a", "d"));
    text[0] = '\0';
    hf_assert_ok(hf_catalog_source(bench.catalog, "clinic", &found, keep_source, text, &err), &err);
    assert_true(found);
    assert_string_equal(text, "clinic postgres file {\"a\":\"d\",\"engine\":\"postgres\"};");
}

HF_TEST(a_source_in_another_vault_than_the_house_is_no_source)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id id = hf_id_new();
    struct hf_error err;
    char text[256] = "";
    say_source(&bench, &id,
               json_pack("{s:s, s:s, s:s, s:{s:s}}", "change", "set", "name", "evil", "origin", "file", "settings",
                         "engine", "postgres"));
    hf_assert_ok(hf_catalog_sources(bench.catalog, keep_source, text, &err), &err);
    assert_string_equal(text, "");
}

HF_TEST(packs_are_condemned_moved_and_deleted)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_error err;
    (void)say_backup(&bench);
    struct hf_id pack = synthetic_id(1, "data pack", bench.next - 1);
    say(&bench, "CONDEMN", json_pack("{s:[o], s:s}", "packs", hf_json_id_text(&pack), "reason", "unused"), NULL);
    say(&bench, "RELOCATE", json_pack("{s:[[o, s]]}", "packs", hf_json_id_text(&pack), "cold/1"), NULL);
    _cleanup_(hf_buf_done) struct hf_buf dump = HF_BUF_INIT(HF_MIB);
    hf_assert_ok(hf_catalog_dump(bench.catalog, &dump, &err), &err);
    assert_non_null(
        strstr(hf_buf_text(&dump), "[\"object\",\"cold/1\"],[\"condemned_at\",4000],[\"deleted_at\",null]"));
    say(&bench, "DELETE", json_pack("{s:[o], s:s}", "packs", hf_json_id_text(&pack), "reason", "unused"), NULL);
    hf_buf_clear(&dump);
    hf_assert_ok(hf_catalog_dump(bench.catalog, &dump, &err), &err);
    assert_non_null(strstr(hf_buf_text(&dump), "[\"deleted_at\",6000],[\"reason\",\"unused\"]"));
}

static bool
count_hold(void *context, const struct hf_hold_row *row, struct hf_error *err)
{
    (void)err;
    char *text = context;
    snprintf(text + strlen(text), 100, "%s by %s until %d;", row->kind, row->person, (int)row->until);
    return true;
}

HF_TEST(a_release_ends_holds_and_no_locks)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id backup = say_backup(&bench);
    struct hf_error err;
    char text[256] = "";
    say(&bench, "HOLD", of_id("backup", &backup), json_pack("{s:s, s:s}", "person", "anna", "reason", "r"));
    say(&bench, "LOCK", json_pack("{s:o, s:i}", "backup", hf_json_id_text(&backup), "until", 99),
        json_pack("{s:s}", "person", "ben"));
    hf_assert_ok(hf_catalog_holds(bench.catalog, count_hold, text, &err), &err);
    assert_string_equal(text, "hold by anna until -1;lock by ben until 99;");
    say(&bench, "RELEASE", json_pack("{s:o, s:i}", "backup", hf_json_id_text(&backup), "hold", 1), NULL);
    text[0] = '\0';
    hf_assert_ok(hf_catalog_holds(bench.catalog, count_hold, text, &err), &err);
    assert_string_equal(text, "hold by anna until -1;lock by ben until 99;"); // there is no hold of that number
    say(&bench, "RELEASE", of_id("backup", &backup), NULL);                   // as older logs say it
    text[0] = '\0';
    hf_assert_ok(hf_catalog_holds(bench.catalog, count_hold, text, &err), &err);
    assert_string_equal(text, "lock by ben until 99;");
}

HF_TEST(pins_keys_and_shredding_are_known)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id backup = say_backup(&bench);
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf dump = HF_BUF_INIT(HF_MIB);
    json_t *pin = of_id("backup", &backup), *unpin = of_id("backup", &backup);
    json_object_set_new(pin, "reader", json_string("r1"));
    json_object_set_new(unpin, "reader", json_string("r1"));
    say(&bench, "PIN", pin, NULL);
    say(&bench, "KEY", json_pack("{s:i, s:[]}", "generation", 2, "slots"), NULL);
    say(&bench, "SHRED", json_pack("{s:i}", "generation", 2), NULL);
    hf_assert_ok(hf_catalog_dump(bench.catalog, &dump, &err), &err);
    assert_non_null(strstr(hf_buf_text(&dump), "[\"key_generation\",2],[\"shredded_at\",6000]"));
    assert_non_null(strstr(hf_buf_text(&dump), "pin [["));
    say(&bench, "UNPIN", unpin, NULL);
    hf_buf_clear(&dump);
    hf_assert_ok(hf_catalog_dump(bench.catalog, &dump, &err), &err);
    assert_null(strstr(hf_buf_text(&dump), "pin [["));
}

HF_TEST(a_hole_another_entry_at_the_head_and_an_unknown_kind_are_conflicts)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_error err;
    char vault[HF_ID_TEXT_BYTES], message[200];
    struct hf_id id = synthetic_id(1, "vault", 0);
    hf_id_format(&id, vault);

    bench.next = 3;
    assert_false(try_entry(&bench, "CHECKPOINT", json_object(), NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    snprintf(message, sizeof message,
             "log entry 3 of vault \"%s\" comes too early: the catalog knows the log up to entry 1", vault);
    assert_string_equal(err.message, message);

    bench.next = 1;
    assert_false(try_entry(&bench, "CHECKPOINT", json_object(), NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    snprintf(message, sizeof message, "log entry 1 of vault \"%s\" is not the one that the catalog knows", vault);
    assert_string_equal(err.message, message);

    bench.next = 2;
    assert_false(try_entry(&bench, "TELEPORT", json_object(), NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "is of kind \"TELEPORT\", which this program does not know"));
    say(&bench, "CHECKPOINT", json_object(), NULL);
}

HF_TEST(a_malformed_entry_is_corrupt_by_member_and_changes_nothing)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id session = hf_id_new(), backup = hf_id_new();
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf before = HF_BUF_INIT(HF_MIB), after = HF_BUF_INIT(HF_MIB);
    say_intent(&bench, &session);
    hf_assert_ok(hf_catalog_dump(bench.catalog, &before, &err), &err);

    json_t *late = synthetic_commit(1, &session, &backup, 3); // fails only after its packs were added
    json_object_del(late, "root");
    struct {
        const char *kind;
        json_t *public_part, *sealed_part;
        const char *message;
    } cases[] = {
        {"INTENT", json_object(), NULL, "member \"session\" is missing"},
        {"COMMIT", late, NULL, "member \"root\" is missing"},
        {"COMMIT", synthetic_commit(1, &session, &backup, 3), json_pack("{s:i}", "source", 3),
         "member \"source\" is not text"},
        {"COMMIT", synthetic_commit(1, &session, &backup, 3), json_pack("{s:{s:s}}", "facts", "files", "many"),
         "member \"files\" is not an integer"},
        {"PRUNE", json_pack("{s:[s], s:s}", "backups", "zz", "reason", "r"), NULL,
         "member \"backups\" has an entry that is not an id"},
        {"VERDICT",
         json_pack("{s:o, s:o, s:s}", "backup", hf_json_id_text(&backup), "attempt", hf_json_id_text(&session),
                   "result", "splendid"),
         NULL, "\"splendid\" is no result of a verdict"},
        {"EPOCH", json_pack("{s:i}", "epoch", -1), NULL, "member \"epoch\" is -1, which is not within"},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        assert_false(try_entry(&bench, cases[i].kind, cases[i].public_part, cases[i].sealed_part, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        if (strstr(err.message, cases[i].message) == NULL || strncmp(err.message, "log entry 3 of vault", 20) != 0)
            fail_msg("%s", err.message);
        hf_buf_clear(&after);
        hf_assert_ok(hf_catalog_dump(bench.catalog, &after, &err), &err);
        assert_string_equal(hf_buf_text(&before), hf_buf_text(&after));
    }
}

HF_TEST(entries_read_without_keys_leave_columns_empty_and_break_nothing)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_id session = hf_id_new(), backup = hf_id_new(), attempt = hf_id_new();
    struct hf_error err;
    bool found;
    struct hf_backup_row row;
    say_intent(&bench, &session);
    say(&bench, "COMMIT", synthetic_commit(1, &session, &backup, 3), NULL);
    say(&bench, "HOLD", of_id("backup", &backup), NULL);
    say(&bench, "GAP", json_object(), NULL);
    say(&bench, "VERDICT",
        json_pack("{s:o, s:o, s:s}", "backup", hf_json_id_text(&backup), "attempt", hf_json_id_text(&attempt), "result",
                  "passed"),
        NULL);
    json_t *policy = of_id("id", &attempt);
    json_object_set_new(policy, "subject", json_string("source"));
    say(&bench, "POLICY", policy, NULL);
    hf_assert_ok(hf_catalog_backup(bench.catalog, &backup, &found, keep_backup, &row, &err), &err);
    assert_true(found);
    assert_null(row.source);
    assert_int_equal(row.logical_bytes, -1);
    assert_int_equal(row.state, HF_BACKUP_PROVEN);
}

static bool
keep_vault(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    (void)err;
    snprintf(context, 200, "%s %s %s head %d packs %d bytes %d", row->engine, row->identity, row->name, (int)row->head,
             (int)row->packs, (int)row->bytes);
    return true;
}

HF_TEST(a_vault_knows_its_lineage_head_and_size)
{
    _cleanup_(end) struct bench bench = begin("postgres");
    struct hf_error err;
    char text[200];
    (void)say_backup(&bench);
    hf_assert_ok(hf_catalog_vaults(bench.catalog, keep_vault, text, &err), &err);
    assert_string_equal(text, "postgres 7 clinic head 3 packs 2 bytes 1024");
}

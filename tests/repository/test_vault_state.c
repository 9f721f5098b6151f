#include "tests/support/test.h"

#include "server/repository/vault_state.h"

/* A log without a store: entries are made here and applied one after the other, from entry 1 on. */
struct log {
    struct hf_vault_state *state;
    uint64_t next;
    bool counts;         // the last entry
    struct hf_error err; // of the last entry that was refused
};

#define SESSION "11111111111111111111111111111111"
#define LATER   "22222222222222222222222222222222"
#define BACKUP  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ANOTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DATA    "dddddddddddddddddddddddddddddddd"
#define MAP     "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define ZEROS   "0000000000000000000000000000000000000000000000000000000000000000"
#define ROW(id) "[\"" id "\", 1, 1000, \"" ZEROS "\"]"
#define COMMIT_OF(session, backup, packs)                                                                              \
    "{\"session\": \"" session "\", \"backup\": \"" backup "\", \"parent\": null, \"root\": {\"pack\": \"" MAP         \
    "\", \"slab\": 0, \"index\": 0}, \"packs\": [" packs "], \"dropped\": []}"
#define INTENT_OF(session)                                                                                             \
    "{\"session\": \"" session "\", \"parents\": [], \"builds_on\": null, \"operation\": \"backup\"}"
#define OF(session) "{\"session\": \"" session "\"}"

static void
log_begin(struct log *log)
{
    *log = (struct log){.next = 1};
    hf_assert_ok(vault_state_new(&log->state, &log->err), &log->err);
}

static bool
apply(struct log *log, enum hf_log_kind kind, uint64_t epoch, const char *public_part, const char *sealed_part)
{
    struct hf_log_entry entry = {.kind = kind, .sequence = log->next++, .time = 1700000000000, .epoch = epoch};
    hf_assert_ok(hf_json_parse(public_part, strlen(public_part), "public part", &entry.public_part, &log->err),
                 &log->err);
    if (sealed_part != NULL)
        hf_assert_ok(hf_json_parse(sealed_part, strlen(sealed_part), "sealed part", &entry.sealed_part, &log->err),
                     &log->err);
    const bool ok = vault_state_apply(log->state, &entry, &log->counts, &log->err);
    hf_log_entry_done(&entry);
    return ok;
}

static void
take(struct log *log, enum hf_log_kind kind, uint64_t epoch, const char *public_part)
{
    hf_assert_ok(apply(log, kind, epoch, public_part, NULL), &log->err);
}

static struct hf_id
id_of(const char *text)
{
    struct hf_id id;
    struct hf_error err;
    hf_assert_ok(hf_id_parse(text, &id, &err), &err);
    return id;
}

static const struct hf_vault_pack *
pack_of(const struct log *log, const char *text)
{
    const struct hf_id id = id_of(text);
    return hf_vault_state_pack(log->state, &id);
}

HF_TEST(a_session_that_commits_brings_its_backup_and_its_packs)
{
    struct log log;
    const struct hf_id session = id_of(SESSION);
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ROW(MAP) "," ROW(DATA)));
    assert_int_equal(log.state->backup_count, 1);
    assert_int_equal(log.state->backups[0].stored_bytes, 2000);
    assert_int_equal(log.state->sessions[0].state, HF_SESSION_COMMITTED);
    assert_int_equal(log.state->pack_count, 2);
    assert_non_null(pack_of(&log, DATA));
    assert_int_equal(pack_of(&log, DATA)->sequence, 2);
    assert_true(hf_id_equal(&pack_of(&log, DATA)->session, &session));
    hf_vault_state_freep(&log.state);
}

HF_TEST(after_an_epoch_no_older_entry_of_any_kind_counts)
{
    static const struct {
        enum hf_log_kind kind;
        const char *said;
    } late[] = {
        {HF_LOG_INTENT, INTENT_OF(LATER)},
        {HF_LOG_ABORT, OF(SESSION)},
        {HF_LOG_END, OF(SESSION)},
        {HF_LOG_PRUNE, "{\"backups\": [\"" BACKUP "\"], \"reason\": \"expired\"}"},
        {HF_LOG_DELETE, "{\"packs\": [\"" DATA "\"], \"reason\": \"unused\"}"},
        {HF_LOG_EPOCH, "{\"epoch\": 9}"},
        {HF_LOG_COMMIT, COMMIT_OF(SESSION, ANOTHER, "")},
        {HF_LOG_LINEAGE, "{\"engine\": \"postgres\", \"lineage\": \"\"}"},
    };
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF("33333333333333333333333333333333"));
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF("33333333333333333333333333333333", BACKUP, ROW(DATA)));
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_EPOCH, 3, "{\"epoch\": 3}");
    for (size_t i = 0; i < HF_LENGTH(late); i++) {
        print_message("# %s of epoch 2\n", hf_log_kind_name(late[i].kind));
        take(&log, late[i].kind, 2, late[i].said);
        assert_int_equal(log.state->session_count, 2);
        assert_int_equal(log.state->sessions[1].state, HF_SESSION_OPEN);
        assert_int_equal(log.state->backup_count, 1);
        assert_false(log.state->backups[0].pruned);
        assert_non_null(pack_of(&log, DATA));
        assert_int_equal(log.state->epoch, 3);
        assert_null(log.state->engine);
    }

    /* The same from the new writer does count. */
    take(&log, HF_LOG_PRUNE, 3, late[3].said);
    assert_true(log.state->backups[0].pruned);
    take(&log, HF_LOG_CONDEMN, 3, late[4].said);
    assert_int_equal(pack_of(&log, DATA)->condemned, log.next - 1);
    take(&log, HF_LOG_ABORT, 3, late[1].said);
    assert_int_equal(log.state->sessions[1].state, HF_SESSION_ABORTED);
    take(&log, HF_LOG_DELETE, 3, late[4].said);
    assert_null(pack_of(&log, DATA));
    take(&log, HF_LOG_EPOCH, 9, late[5].said);
    assert_int_equal(log.state->epoch, 9);
    hf_vault_state_freep(&log.state);
}

HF_TEST(an_epoch_never_goes_down)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_EPOCH, 2, "{\"epoch\": 2}");
    take(&log, HF_LOG_EPOCH, 2, "{\"epoch\": 1}");
    assert_false(log.counts);
    assert_int_equal(log.state->epoch, 2);
    hf_vault_state_freep(&log.state);
}

HF_TEST(a_commit_of_an_epoch_that_nobody_declared_is_void)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_COMMIT, 1, COMMIT_OF(SESSION, BACKUP, ROW(DATA)));
    assert_int_equal(log.state->backup_count, 0);
    assert_int_equal(log.state->pack_count, 0);
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ROW(DATA)));
    assert_int_equal(log.state->backup_count, 1);
    hf_vault_state_freep(&log.state);
}

HF_TEST(a_session_that_began_before_the_epoch_may_commit_in_it)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_EPOCH, 1, "{\"epoch\": 1}");
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ""));
    assert_int_equal(log.state->backup_count, 0);
    take(&log, HF_LOG_COMMIT, 1, COMMIT_OF(SESSION, BACKUP, ""));
    assert_int_equal(log.state->backup_count, 1);
    hf_vault_state_freep(&log.state);
}

HF_TEST(a_pack_is_committed_once)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    assert_false(apply(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ROW(DATA) "," ROW(MAP) "," ROW(DATA)), NULL));
    assert_int_equal(log.err.kind, HF_ERR_CORRUPT);
    assert_string_equal(log.err.message, "log entry 2: pack \"" DATA "\" was committed before");
    hf_vault_state_freep(&log.state);

    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ROW(DATA)));
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(LATER));
    assert_false(apply(&log, HF_LOG_COMMIT, 0, COMMIT_OF(LATER, ANOTHER, ROW(MAP) "," ROW(DATA)), NULL));
    assert_string_equal(log.err.message, "log entry 4: pack \"" DATA "\" was committed before");
    hf_vault_state_freep(&log.state);
}

HF_TEST(what_only_one_entry_can_say_is_refused_from_a_second)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    assert_false(apply(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION), NULL));
    assert_string_equal(log.err.message, "log entry 2: a second INTENT of one session");
    take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ""));
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(LATER));
    assert_false(apply(&log, HF_LOG_COMMIT, 0, COMMIT_OF(LATER, BACKUP, ""), NULL));
    assert_string_equal(log.err.message, "log entry 5: a second COMMIT of one backup");
    hf_vault_state_freep(&log.state);
}

HF_TEST(the_packs_of_a_session_that_is_continued_may_be_committed_by_the_one_that_continues_it)
{
    struct log log;
    const struct hf_id first = id_of(SESSION), second = id_of(LATER), stranger = id_of(ANOTHER);
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
    take(&log, HF_LOG_INTENT, 0,
         "{\"session\": \"" LATER "\", \"parents\": [], \"builds_on\": \"" SESSION "\", \"operation\": \"backup\"}");
    assert_true(vault_state_session_brought(log.state, &second, &first));
    assert_true(vault_state_session_brought(log.state, &second, &second));
    assert_false(vault_state_session_brought(log.state, &first, &second));
    assert_false(vault_state_session_brought(log.state, &second, &stranger));
    hf_vault_state_freep(&log.state);
}

HF_TEST(a_lineage_that_would_never_be_found_again_is_refused)
{
    struct log log;
    char hash[2 * HF_SHA256_BYTES + 1], said[200];
    log_begin(&log);
    hf_assert_ok(vault_lineage_hash("postgres", "7300000000000000001", hash, &log.err), &log.err);
    snprintf(said, sizeof said, "{\"engine\": \"postgres\", \"lineage\": \"%s\"}", hash);
    assert_false(apply(&log, HF_LOG_LINEAGE, 0, said, "{\"identity\": \"7300000000000000002\", \"name\": \"x\"}"));
    assert_int_equal(log.err.kind, HF_ERR_CORRUPT);
    assert_string_equal(log.err.message, "log entry 1: its lineage is not the hash of engine and identity");
    hf_vault_state_freep(&log.state);

    log_begin(&log);
    hf_assert_ok(apply(&log, HF_LOG_LINEAGE, 0, said, "{\"identity\": \"7300000000000000001\", \"name\": \"x\"}"),
                 &log.err);
    assert_string_equal(log.state->identity, "7300000000000000001");
    hf_vault_state_freep(&log.state);
}

#define STRETCH "55555555555555555555555555555555"
#define STREAM  "66666666666666666666666666666666"

HF_TEST(the_pack_of_a_stretch_goes_when_the_stretch_was_given_up)
{
    struct log log;
    log_begin(&log);
    take(&log, HF_LOG_INTENT, 0,
         "{\"session\": \"" STREAM "\", \"parents\": [], \"builds_on\": null, \"operation\": \"stream\"}");
    take(&log, HF_LOG_COMMIT, 0,
         "{\"session\": \"" STREAM "\", \"stretch\": \"" STRETCH "\", \"packs\": [[\"" DATA "\", 3, 1000, \"" ZEROS
         "\"]], \"dropped\": []}");
    assert_int_equal(log.state->stretch_count, 1);
    assert_true(hf_vault_state_stretch(log.state, 2) == &log.state->stretches[0]);
    assert_null(hf_vault_state_stretch(log.state, 1));
    assert_null(hf_vault_state_stretch(log.state, 3));

    take(&log, HF_LOG_CONDEMN, 0, "{\"packs\": [\"" DATA "\"], \"reason\": \"unused\"}");
    assert_false(log.counts);
    take(&log, HF_LOG_PRUNE, 0, "{\"stretches\": [\"" SESSION "\"], \"reason\": \"before_backups\"}");
    assert_false(log.counts);
    take(&log, HF_LOG_PRUNE, 0, "{\"stretches\": [], \"reason\": \"before_backups\"}");
    assert_false(log.counts);
    take(&log, HF_LOG_PRUNE, 0, "{\"stretches\": [\"" STRETCH "\"], \"reason\": \"before_backups\"}");
    assert_true(log.counts && log.state->stretches[0].pruned);
    take(&log, HF_LOG_PRUNE, 0, "{\"stretches\": [\"" STRETCH "\"], \"reason\": \"before_backups\"}");
    assert_false(log.counts);
    take(&log, HF_LOG_CONDEMN, 0, "{\"packs\": [\"" DATA "\"], \"reason\": \"unused\"}");
    assert_true(log.counts);
    take(&log, HF_LOG_DELETE, 0, "{\"packs\": [\"" DATA "\"], \"reason\": \"unused\"}");
    assert_true(log.counts);
    assert_null(pack_of(&log, DATA));
    hf_vault_state_freep(&log.state);
}

HF_TEST(a_pack_is_not_deleted_while_somebody_from_before_its_condemnation_is_there)
{
    static const char pack[] = "{\"packs\": [\"" DATA "\"], \"reason\": \"unused\"}";
    static const struct {
        enum hf_log_kind open, close;
        const char *opened, *closed;
    } others[] = {
        {HF_LOG_PIN, HF_LOG_UNPIN, "{\"reader\": \"" LATER "\", \"backup\": \"" ANOTHER "\"}",
         "{\"reader\": \"" LATER "\", \"backup\": \"" ANOTHER "\"}"},
        {HF_LOG_INTENT, HF_LOG_END, INTENT_OF("44444444444444444444444444444444"),
         OF("44444444444444444444444444444444")},
    };
    for (size_t i = 0; i < HF_LENGTH(others); i++) {
        struct log log;
        log_begin(&log);
        take(&log, HF_LOG_INTENT, 0, INTENT_OF(SESSION));
        take(&log, HF_LOG_COMMIT, 0, COMMIT_OF(SESSION, BACKUP, ROW(DATA)));
        take(&log, HF_LOG_INTENT, 0, INTENT_OF("33333333333333333333333333333333"));
        take(&log, HF_LOG_COMMIT, 0, COMMIT_OF("33333333333333333333333333333333", ANOTHER, ROW(MAP)));
        take(&log, HF_LOG_PRUNE, 0, "{\"backups\": [\"" BACKUP "\"], \"reason\": \"expired\"}");
        take(&log, others[i].open, 0, others[i].opened);
        take(&log, HF_LOG_CONDEMN, 0, pack);
        assert_true(log.counts);
        take(&log, HF_LOG_DELETE, 0, pack);
        assert_false(log.counts);
        assert_non_null(pack_of(&log, DATA));
        take(&log, others[i].close, 0, others[i].closed);
        take(&log, HF_LOG_DELETE, 0, pack);
        assert_true(log.counts);
        assert_null(pack_of(&log, DATA));
        hf_vault_state_freep(&log.state);
    }
}

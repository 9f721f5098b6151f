#include "tests/report/clinic.h"

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "tests/catalog/synthetic_log.h"
#include "tests/evidence/contents.h"

#define FIRST_DAY_MS INT64_C(1793491200000) // 2026-11-01T00:00:00Z
#define HOUR_MS      INT64_C(3600000)
#define DAY_MS       (24 * HOUR_MS)

static const char *const names[] = {"clinic", "archive"};

/* The checks of a verification of PostgreSQL. */
static const struct {
    const char *id, *title;
    int examined;
} checks[] = {
    {"key", "The key in the safe opens the repository", 1},
    {"packs", "Every stored object is there", 24},
    {"room", "There is room for the copy", -1},
    {"slabs", "Every stored piece is unaltered and complete", 11873},
    {"manifest", "The files are those the server listed", 1412},
    {"page_checksums", "No stored page is damaged", 329411},
    {"start", "The copy starts", -1},
    {"consistency", "Recovery reaches consistency", -1},
    {"replay", "All stored log is replayed", 33554432},
    {"promote", "The copy opens for writing", -1},
    {"environment", "This host sorts as the source does", 4},
    {"tables_read", "Every row of every table can be read", 8211004},
    {"heap", "Rows and their transactions are sound", 118},
    {"indexes", "Every index holds every row", 143},
    {"index_to_table", "Every index entry has its row", 143},
    {"zero_blocks", "No used block is empty", 118},
    {"page_checksums_after", "No page is damaged after recovery", 329988},
    {"visible_blocks", "No block is lost that held rows", 118},
    {"commit_log", "The commit log agrees with the rows", 41},
};

static void apply(struct clinic *clinic, unsigned vault, int64_t time, const char *kind, json_t *public_part,
                  json_t *sealed_part);
static json_t *content(const struct clinic *clinic, const struct clinic_day *day, const struct hf_id *backup,
                       int64_t ended);
static json_t *checks_of(const struct clinic_day *day);
static void set_text(json_t *content, const char *group, const char *member, const char *text);
static void set(json_t *content, const char *group, const char *member, json_t *value);
static void set_unknown(json_t *content, const char *group, const char *member, const char *reason);
static json_t *time_text(int64_t ms);
static json_t *make(const struct clinic *clinic, const struct hf_report_request *request);

struct clinic
clinic_new(void)
{
    struct clinic clinic = {.folder = hf_test_folder()};
    struct hf_error err;
    clinic.ledger_folder = test_path(clinic.folder, "ledger");
    clinic.signer = test_signer(clinic.folder);
    hf_assert_ok(hf_ledger_create(clinic.ledger_folder, clinic.signer, &err), &err);
    const struct hf_ledger_options options = {.folder = clinic.ledger_folder, .signer = clinic.signer};
    hf_assert_ok(hf_ledger_open(&options, &clinic.ledger, &err), &err);
    hf_assert_ok(hf_catalog_open(test_path(clinic.folder, "catalog.db"), HF_CATALOG_SCRATCH, &clinic.catalog, &err),
                 &err);
    for (unsigned i = 0; i < 2; i++)
        apply(&clinic, i, FIRST_DAY_MS, "LINEAGE", json_pack("{s:s, s:s}", "engine", "postgresql", "lineage", "00ff"),
              json_pack("{s:s, s:s}", "identity", "7123", "name", names[i]));
    clinic.known = json_pack(
        "{s:s, s:s, s:[{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:{s:n, s:[], s:i}}, {s:s, s:s, s:n, s:n, s:n, s:n, s:b, "
        "s:{s:s, s:[s, s], s:i}}], s:[{s:s, s:s, s:b, s:s, s:s, s:b}, {s:s, s:s, s:b, s:n, s:s, s:b}]}",
        "appliance", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "site",
        "Klinik S\xC3\xBC"
        "d, Wien",
        "sources", "name", "clinic", "engine", "postgresql", "tier", "1, patients are treated with it",
        "objective_recovery_ms", (json_int_t)3600000, "objective_loss_ms", (json_int_t)900000, "verify_every_ms",
        (json_int_t)86400000, "stream", 1, "process", "unproven_since", "changed", "proven_since", 0, "name", "archive",
        "engine", "postgresql", "tier", "objective_recovery_ms", "objective_loss_ms", "verify_every_ms", "stream", 0,
        "process", "unproven_since", "2026-11-20T09:12:00.000Z", "changed", "settings", "key_slots", "proven_since", 1,
        "keys", "name", "server", "kind", "key_file", "unattended", 1, "opened_at", "2026-11-24T02:10:00.000Z",
        "due_at", "2027-02-22T02:10:00.000Z", "overdue", 0, "name", "safe", "kind", "passphrase", "unattended", 0,
        "opened_at", "due_at", "2026-11-02T10:00:00.000Z", "overdue", 1);
    assert_non_null(clinic.known);
    return clinic;
}

void
clinic_done(struct clinic *clinic)
{
    hf_ledger_close(clinic->ledger);
    hf_signer_close(clinic->signer);
    hf_signer_close(clinic->before);
    hf_catalog_freep(&clinic->catalog);
    json_decref(clinic->known);
}

struct hf_id
clinic_add(struct clinic *clinic, const struct clinic_day *day)
{
    const unsigned vault = day->source, number = clinic->entries[vault];
    const int64_t ended = FIRST_DAY_MS + (day->day - 1) * DAY_MS + day->hour * HOUR_MS;
    const struct hf_id session = synthetic_id(vault, "session", number), backup = synthetic_id(vault, "backup", number),
                       attempt = synthetic_id(vault, "attempt", number);
    struct hf_receipt receipt = {.evidence_id = {{0}}};
    struct hf_error err;
    const char *name = day->name != NULL ? day->name : names[vault];
    apply(clinic, vault, ended, "INTENT",
          json_pack("{s:o, s:s}", "session", hf_json_id_text(&session), "operation", "backup"), NULL);
    apply(clinic, vault, ended, "COMMIT", synthetic_commit(vault, &session, &backup, number),
          json_pack("{s:s, s:{s:I, s:I, s:I, s:s, s:s, s:i, s:s, s:i}}", "source", name, "facts", "logical_bytes",
                    (json_int_t)(INT64_C(2700000000) + day->day * 1000000), "started_at", (json_int_t)(ended - 252000),
                    "finished_at", (json_int_t)ended, "start_lsn", "0/3000028", "server_version", "15.14", "timeline",
                    1, "stop_lsn", "0/3000138", "bad_pages", 0));
    if (day->result == NULL)
        return backup;
    if (!day->without_document) {
        json_t *document = content(clinic, day, &backup, ended);
        hf_assert_ok(hf_ledger_append(clinic->ledger, document, &receipt, &err), &err);
        json_decref(document);
    }
    clinic->documents++;
    apply(clinic, vault, ended + HOUR_MS, "VERDICT",
          json_pack("{s:s, s:o, s:o, s:s}", "result", day->result, "backup", hf_json_id_text(&backup), "attempt",
                    hf_json_id_text(&attempt), "state", "proven"),
          json_pack("{s:o}", "evidence_id", hf_json_id_text(&receipt.evidence_id)));
    return backup;
}

void
clinic_add_unsupported(struct clinic *clinic, unsigned source, const struct hf_id *backup)
{
    const struct hf_id attempt = synthetic_id(source, "later attempt", clinic->entries[source]);
    apply(clinic, source, FIRST_DAY_MS + 25 * DAY_MS, "VERDICT",
          json_pack("{s:s, s:o, s:o, s:s}", "result", "passed", "backup", hf_json_id_text(backup), "attempt",
                    hf_json_id_text(&attempt), "state", "proven"),
          json_object());
}

void
clinic_add_gap(struct clinic *clinic, unsigned source, unsigned day, const char *cause)
{
    apply(clinic, source, FIRST_DAY_MS + (day - 1) * DAY_MS + 5 * HOUR_MS, "GAP", json_object(),
          json_pack("{s:s, s:s, s:s}", "from", "1/5A000000", "to", "1/5C004A10", "cause", cause));
}

void
clinic_fill(struct clinic *clinic)
{
    for (unsigned day = 1; day <= 24; day++) {
        struct clinic_day clinic_day = {.source = 0, .day = day, .hour = 2, .result = "passed"};
        if (day == 9) {
            clinic_day.result = "failed";
            clinic_day.reason = "an index lacks 1 of 41,220 rows";
            clinic_day.finding = "clinic.public.appointments_by_day";
        }
        if (day == 16) {
            clinic_day.result = "inconclusive";
            clinic_day.reason = "the copy needs 2.9 GiB, and the scratch folder has 1.1 GiB left";
        }
        if (day != 13)
            clinic_add(clinic, &clinic_day);
        if (day % 3 == 0)
            clinic_add(clinic, &(struct clinic_day){.source = 1,
                                                    .day = day,
                                                    .hour = 4,
                                                    .result = day == 24 ? "failed" : "passed",
                                                    .reason = day == 24 ? "2 pages of a table are damaged" : NULL,
                                                    .finding = day == 24 ? "archive.public.letters block 88" : NULL});
        if (day % 5 == 0)
            clinic_add(clinic, &(struct clinic_day){.source = 1, .day = day, .hour = 16});
    }
    clinic_add_gap(clinic, 0, 13, "the server dropped the slot: max_slot_wal_keep_size was reached");
}

json_t *
clinic_month(struct clinic *clinic, const char *source)
{
    const struct hf_report_request request = {.source = source, .month = "2026-11"};
    return make(clinic, &request);
}

json_t *
clinic_backup(struct clinic *clinic, const struct hf_id *backup)
{
    const struct hf_report_request request = {.backup = *backup};
    return make(clinic, &request);
}

struct hf_buf
clinic_render(const json_t *model, enum hf_report_format format, enum hf_paper paper)
{
    struct hf_buf out = HF_BUF_INIT(HF_REPORT_MOST);
    struct hf_error err;
    hf_assert_ok(hf_report_render(model, format, paper, &out, &err), &err);
    return out;
}

static json_t *
make(const struct clinic *clinic, const struct hf_report_request *request)
{
    struct hf_report_request whole = *request;
    json_t *model = NULL;
    struct hf_error err;
    whole.as_of = FIRST_DAY_MS + 23 * DAY_MS + 12 * HOUR_MS;
    whole.known = clinic->known;
    struct hf_public_key keys[2] = {*hf_signer_public_key(clinic->signer)};
    if (clinic->before != NULL)
        keys[1] = *hf_signer_public_key(clinic->before);
    const struct hf_ledger_options options = {.folder = clinic->ledger_folder,
                                              .trust = {.keys = keys, .count = clinic->before != NULL ? 2 : 1}};
    hf_assert_ok(hf_report_gather(&whole, &options, clinic->catalog, &model, &err), &err);
    return model;
}

void
clinic_rotate(struct clinic *clinic)
{
    const char *path = test_path(clinic->folder, "signing-key.next");
    struct hf_error err;
    hf_ledger_close(clinic->ledger);
    clinic->before = clinic->signer;
    hf_assert_ok(hf_signer_create(path, TEST_KEY_NAME, &err), &err);
    hf_assert_ok(hf_signer_open(path, &clinic->signer, &err), &err);
    const struct hf_ledger_options options = {.folder = clinic->ledger_folder,
                                              .signer = clinic->signer,
                                              .trust = {.keys = hf_signer_public_key(clinic->before), .count = 1}};
    hf_assert_ok(hf_ledger_open(&options, &clinic->ledger, &err), &err);
}

static void
apply(struct clinic *clinic, unsigned vault, int64_t time, const char *kind, json_t *public_part, json_t *sealed_part)
{
    struct hf_error err;
    _cleanup_(synthetic_done) struct hf_catalog_entry entry =
        synthetic_entry_of(vault, ++clinic->entries[vault], kind, public_part, sealed_part);
    entry.time = time;
    hf_assert_ok(hf_catalog_apply(clinic->catalog, &entry, &err), &err);
}

static json_t *
content(const struct clinic *clinic, const struct clinic_day *day, const struct hf_id *backup, int64_t ended)
{
    json_t *document = test_content_numbered(1000 + clinic->documents);
    const int64_t begin = ended + 60000, restore_ms = 30000 + day->day * 100, recover_ms = restore_ms + 11000;
    const bool passed = strcmp(day->result, "passed") == 0, tried = strcmp(day->result, "inconclusive") != 0;
    json_object_del(document, "controls");
    json_object_set_new(document, "controls",
                        json_pack("[{s:s, s:s, s:s, s:[s]}, {s:s, s:s, s:s, s:[s, s]}, {s:s, s:s, s:s, s:[s]}]",
                                  "framework", "HIPAA", "ref", "164.308(a)(7)(ii)(A)", "verdict",
                                  tried ? "passed" : "not_run", "because", "slabs", "framework", "HIPAA", "ref",
                                  "164.308(a)(7)(ii)(D)", "verdict",
                                  passed  ? "passed"
                                  : tried ? "failed"
                                          : "not_run",
                                  "because", "start", "indexes", "framework", "SOC 2", "ref", "A1.3", "verdict",
                                  passed  ? "passed"
                                  : tried ? "failed"
                                          : "not_run",
                                  "because", "indexes"));
    json_object_set_new(document, "checks", checks_of(day));
    set_text(document, "subject", "source_name", day->name != NULL ? day->name : names[day->source]);
    set(document, "backup", "backup_id", hf_json_id_text(backup));
    set(document, "backup", "ended_at", time_text(ended));
    set(document, "head", "created_at", time_text(begin + 250000));
    set(document, "attempt", "started_at", time_text(begin));
    set(document, "attempt", "ended_at", time_text(begin + 250000));
    set_text(document, "attempt", "result", day->result);
    if (!passed) {
        json_object_del(json_object_get(document, "attempt"), "unknown");
        set_text(document, "attempt", "reason", day->reason);
    }
    set_text(document, "backup", "state_after", passed ? "proven" : tried ? "failed" : "unproven");
    set(document, "restore", "phases",
        json_pack("[{s:s, s:o, s:I}, {s:s, s:o, s:I}, {s:s, s:o, s:I}, {s:s, s:o, s:I}]", "phase", "restore",
                  "started_at", time_text(begin), "duration_ms", (json_int_t)restore_ms, "phase", "recover",
                  "started_at", time_text(begin + 31000), "duration_ms", (json_int_t)11000, "phase", "check",
                  "started_at", time_text(begin + 42000), "duration_ms", (json_int_t)198000, "phase", "check_files",
                  "started_at", time_text(begin + 240000), "duration_ms", (json_int_t)9000));
    set(document, "rto_rpo", "time_to_recover_ms", json_integer(recover_ms));
    set(document, "rto_rpo", "data_loss_window_ms", json_integer(day->source == 0 ? 2500 : 61000));
    if (!tried) {
        set_unknown(document, "rto_rpo", "time_to_recover_ms", "it never served");
        set_unknown(document, "rto_rpo", "data_loss_window_ms", "it never served");
        set_unknown(document, "rto_rpo", "rto_target_met", "it never served");
        set_unknown(document, "rto_rpo", "rpo_target_met", "it never served");
    }
    set_unknown(document, "rto_rpo", "caught_up", "the copy was not followed to the live source");
    json_object_set_new(document, "key",
                        json_pack("{s:s, s:s, s:s, s:s, s:i}", "slot_id", "abababababababababababababababab",
                                  "slot_name", "server", "slot_kind", "key_file", "chosen", "round_robin", "reachable",
                                  1));
    json_object_set_new(document, "host",
                        json_pack("{s:s, s:s, s:s, s:i, s:I}", "name", "keeper", "system", "Linux 6.1", "machine",
                                  "x86_64", "processors", 8, "memory_bytes", (json_int_t)INT64_C(33000000000)));
    return document;
}

static json_t *
checks_of(const struct clinic_day *day)
{
    json_t *list = json_array();
    const bool failed = strcmp(day->result, "failed") == 0, stopped = strcmp(day->result, "inconclusive") == 0;
    for (size_t i = 0; i < HF_LENGTH(checks); i++) {
        const bool bad = failed && strcmp(checks[i].id, "indexes") == 0;
        const bool room = stopped && strcmp(checks[i].id, "room") == 0;
        const bool reached = !stopped || i < 2 || room;
        json_t *check =
            json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:[]}", "id", checks[i].id, "title",
                      i == 0 && day->hostile_check != NULL ? day->hostile_check : checks[i].title, "verdict",
                      bad        ? "failed"
                      : room     ? "not_determinable"
                      : !reached ? "not_run"
                                 : "passed",
                      "required", 1, "method", "as_written", "reason",
                      bad || room ? day->reason
                      : reached   ? "it passed"
                                  : "it was not reached",
                      "findings");
        json_t *unknown = json_pack("{s:s, s:s}", "coverage_ppm", "not counted", "detail_sha256", "nothing was found");
        json_object_set_new(check, "unknown", unknown);
        json_object_set_new(check, "coverage_ppm", json_null());
        json_object_set_new(check, "detail_sha256", json_null());
        if (reached && !bad && !room) {
            json_object_set_new(check, "reason", json_null());
            json_object_set_new(unknown, "reason", json_string("it passed"));
        }
        if (reached && checks[i].examined >= 0) {
            json_object_set_new(check, "examined", json_integer(checks[i].examined));
            json_object_set_new(check, "bad", json_integer(bad));
        } else {
            json_object_set_new(check, "examined", json_null());
            json_object_set_new(check, "bad", json_null());
            json_object_set_new(unknown, "examined", json_string("nothing is counted"));
            json_object_set_new(unknown, "bad", json_string("nothing is counted"));
        }
        json_object_set_new(check, "duration_ms", json_integer(reached ? 120 + (json_int_t)(i * i * 190) : 0));
        if (bad && day->finding != NULL)
            json_array_append_new(
                json_object_get(check, "findings"),
                json_pack("{s:s, s:s, s:i}", "what", "missing_index_entry", "object", day->finding, "block", 88));
        json_array_append_new(list, check);
    }
    return list;
}

static void
set_text(json_t *content, const char *group, const char *member, const char *text)
{
    set(content, group, member, json_string(text));
}

static void
set(json_t *content, const char *group, const char *member, json_t *value)
{
    assert_non_null(value);
    assert_int_equal(json_object_set_new(json_object_get(content, group), member, value), 0);
}

static void
set_unknown(json_t *content, const char *group, const char *member, const char *reason)
{
    struct hf_error err;
    hf_assert_ok(hf_evidence_set_unknown(json_object_get(content, group), member, reason, &err), &err);
}

static json_t *
time_text(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_string(hf_time_format(ms, text));
}

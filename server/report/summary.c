#include <string.h>

#include "server/report/words.h"

static json_t *failed_checks(const json_t *checks);
static json_t *undetermined_checks(const json_t *checks);
static json_t *copy(const json_t *object, const char *path);
static json_int_t phase_ms(const json_t *restore, const char *phase);
static json_int_t count(const json_t *checks, const char *verdict);

json_t *
hf_report_summary(const struct hf_evidence *evidence)
{
    const json_t *content = evidence->content, *checks = hf_at(content, "checks");
    const json_int_t restore_ms = phase_ms(hf_at(content, "restore"), "restore");
    json_t *summary =
        json_pack("{s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "evidence",
                  hf_json_id_text(&evidence->evidence_id), "index", (json_int_t)evidence->index, "content_sha256",
                  hf_json_hex(evidence->content_sha256, sizeof evidence->content_sha256), "created_at",
                  copy(content, "head.created_at"), "backup", copy(content, "backup.backup_id"), "source",
                  copy(content, "subject.source_name"), "engine", copy(content, "subject.engine"), "result",
                  copy(content, "attempt.result"), "reason", copy(content, "attempt.reason"), "state_after",
                  copy(content, "backup.state_after"), "started_at", copy(content, "attempt.started_at"));
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ended_at",
        copy(content, "attempt.ended_at"), "duration_ms", copy(content, "attempt.duration_ms"), "recover_ms",
        copy(content, "rto_rpo.time_to_recover_ms"), "loss_ms", copy(content, "rto_rpo.data_loss_window_ms"),
        "restored_bytes", copy(content, "restore.bytes_restored"), "restore_ms",
        restore_ms < 0 ? json_null() : json_integer(restore_ms), "checks", (json_int_t)json_array_size(checks),
        "passed", count(checks, "passed"), "failed", failed_checks(checks), "undetermined", undetermined_checks(checks),
        "slot", copy(content, "restore.key_slot"), "level", copy(content, "sandbox.level"), "scratch",
        copy(content, "sandbox.scratch.kind"), "requested_by", copy(content, "people.requested_by"), "software",
        copy(content, "head.software.version"), "cipher", copy(content, "backup.cipher"));
    if (summary == NULL || more == NULL || json_object_update(summary, more) != 0) {
        json_decref(summary);
        summary = NULL;
    }
    json_decref(more);
    return summary;
}

/* What failed, with the first place that was found. */
static json_t *
failed_checks(const json_t *checks)
{
    json_t *list = json_array(), *check;
    size_t index;
    json_array_foreach(checks, index, check)
    {
        const json_t *finding = json_array_get(hf_at(check, "findings"), 0);
        if (strcmp(hf_text_at(check, "verdict"), "failed") == 0)
            json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o}", "id", copy(check, "id"), "title",
                                                  copy(check, "title"), "reason", copy(check, "reason"), "finding",
                                                  copy(finding, "object")));
    }
    return list;
}

static json_t *
undetermined_checks(const json_t *checks)
{
    json_t *list = json_array(), *check;
    size_t index;
    json_array_foreach(checks, index, check)
    {
        if (strcmp(hf_text_at(check, "verdict"), "not_determinable") == 0)
            json_array_append_new(list, copy(check, "title"));
    }
    return list;
}

static json_t *
copy(const json_t *object, const char *path)
{
    const json_t *found = hf_at(object, path);
    return found == NULL ? json_null() : json_deep_copy(found);
}

/* -1: there was no such phase. */
static json_int_t
phase_ms(const json_t *restore, const char *phase)
{
    size_t index;
    json_t *row;
    json_array_foreach(hf_at(restore, "phases"), index, row)
    {
        if (strcmp(hf_text_at(row, "phase"), phase) == 0)
            return (json_int_t)hf_number_at(row, "duration_ms", -1);
    }
    return -1;
}

static json_int_t
count(const json_t *checks, const char *verdict)
{
    json_int_t found = 0;
    size_t index;
    json_t *check;
    json_array_foreach(checks, index, check) found += strcmp(hf_text_at(check, "verdict"), verdict) == 0;
    return found;
}

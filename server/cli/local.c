#include "server/cli/local.h"

#include "server/evidence/verify.h"

#define REFERENCE_MOST HF_MIB

static const char *text_or_null(const char *text);

bool
hf_cli_evidence_verify(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    struct hf_evidence_report report;
    char evidence[HF_ID_TEXT_BYTES], backup[HF_ID_TEXT_BYTES], vault[HF_ID_TEXT_BYTES], key[HF_KEY_ID_TEXT_BYTES];
    const struct hf_evidence_files files = {
        .document = json_string_value(json_object_get(cli->arguments, "file")),
        .proof = json_string_value(json_object_get(cli->arguments, "proof")),
        .public_key = json_string_value(json_object_get(cli->arguments, "public_key")),
        .checkpoint = json_string_value(json_object_get(cli->arguments, "checkpoint")),
    };
    if (!hf_evidence_verify_files(&files, &report, err)) {
        // That it does not hold is the answer that was asked for, and it is bad.
        if (err->kind == HF_ERR_CORRUPT)
            cli->exit = HF_EXIT_BAD_NEWS;
        return false;
    }
    *ret =
        json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:s, s:s, s:o, s:I, s:I, s:o}", "evidence",
                  hf_id_format(&report.evidence_id, evidence), "kind", report.kind, "created_at", report.created_at,
                  "result", text_or_null(report.result), "backup",
                  hf_id_is_none(&report.backup_id) ? NULL : hf_id_format(&report.backup_id, backup), "vault",
                  hf_id_is_none(&report.vault_id) ? NULL : hf_id_format(&report.vault_id, vault), "state",
                  text_or_null(report.state), "origin", report.origin, "key_id", hf_key_id_format(report.key_id, key),
                  "content_sha256", hf_json_hex(report.content_sha256, sizeof report.content_sha256), "index",
                  (json_int_t)report.index, "checkpoint_size", (json_int_t)report.checkpoint_size, "held_checkpoint",
                  report.held_size == 0 ? json_null() : json_integer((json_int_t)report.held_size));
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

bool
hf_cli_settings(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(REFERENCE_MOST);
    (void)cli;
    if (!hf_settings_reference(&text, err))
        return false;
    *ret = json_pack("{s:s}", "reference", hf_buf_text(&text));
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

bool
hf_cli_version(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    (void)cli;
    *ret = json_pack("{s:s}", "version", HF_VERSION);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static const char *
text_or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

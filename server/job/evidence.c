#include "server/job/evidence.h"

#include "base/file.h"
#include "base/log.h"

bool
hf_evidence_folder(const struct hf_settings *settings, char **ret, struct hf_error *err)
{
    *ret = hf_path_join(settings->repository, "evidence");
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

bool
hf_evidence_open_ledger(struct hf_daemon *daemon, bool write, struct hf_ledger **ret, struct hf_error *err)
{
    struct hf_signer *signer = hf_records_signer(hf_daemon_records(daemon));
    _cleanup_(hf_freep) char *folder = NULL;
    struct hf_error missing;
    if (!hf_evidence_folder(hf_daemon_settings(daemon), &folder, err))
        return false;
    if (signer == NULL)
        return hf_fail(err, HF_ERR_DENIED, "this machine has no signing key: it cannot read its ledger");
    const struct hf_ledger_options options = {
        .folder = folder,
        .signer = write ? signer : NULL,
        .trust = {.keys = hf_signer_public_key(signer), .count = 1},
    };
    if (hf_ledger_open(&options, ret, &missing))
        return true;
    if (!write || missing.kind != HF_ERR_NOT_FOUND) {
        *err = missing;
        return false;
    }
    return hf_ledger_create(folder, signer, err) && hf_ledger_open(&options, ret, err);
}

bool
hf_evidence_enter(struct hf_daemon *daemon, json_t *content, struct hf_receipt *ret, struct hf_error *err)
{
    const char *witness = hf_daemon_settings(daemon)->evidence.witness;
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    struct hf_error why;
    if (!hf_evidence_open_ledger(daemon, true, &ledger, err) || !hf_ledger_append(ledger, content, ret, err))
        return false;
    if (witness != NULL && !hf_ledger_witness(ledger, witness, &why))
        hf_log_warning(&why, "the witness was not shown the newest checkpoint; the status says so until it is");
    return true;
}

bool
hf_evidence_look(struct hf_daemon *daemon, struct hf_error *err)
{
    struct hf_records *records = hf_daemon_records(daemon);
    const char *witness = hf_daemon_settings(daemon)->evidence.witness;
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    struct hf_error why;
    if (hf_records_signer(records) == NULL)
        return true;
    if (!hf_evidence_open_ledger(daemon, false, &ledger, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND)
            return true;
        *err = why;
        return false;
    }
    // What the witness missed while it was away is made good here.
    return witness == NULL || hf_records_read_only(records) || hf_ledger_witness(ledger, witness, err);
}

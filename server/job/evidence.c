#include "server/job/evidence.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

bool
hf_evidence_folder(const struct hf_settings *settings, char **ret, struct hf_error *err)
{
    *ret = hf_path_join(settings->repository, "evidence");
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

/* The bundle was checked when it was read: each record is signed by the one before it. */
bool
hf_evidence_trusted(struct hf_daemon *daemon, struct hf_public_key keys[static HF_TRUST_MOST_KEYS], size_t *ret_count,
                    struct hf_error *err)
{
    struct hf_records *records = hf_daemon_records(daemon);
    struct hf_signer *signer = hf_records_signer(records);
    const struct hf_root_bundle *known = hf_repository_signers(hf_records_repository(records));
    if (signer == NULL)
        return hf_fail(err, HF_ERR_DENIED,
                       "this machine has no signing key: it does not know whose evidence to believe");
    const struct hf_public_key *own = hf_signer_public_key(signer);
    size_t count = 0;
    keys[count++] = *own;
    for (size_t i = known->signer_count; i > 0 && count < HF_TRUST_MOST_KEYS; i--) { // newest first
        const struct hf_signer_record *record = &known->signers[i - 1];
        if (memcmp(record->public_key, own->bytes, sizeof own->bytes) != 0 &&
            hf_public_key_make(own->name, record->public_key, &keys[count]) && strcmp(record->name, own->name) == 0)
            count++;
    }
    *ret_count = count;
    return true;
}

bool
hf_evidence_trusted_json(struct hf_daemon *daemon, json_t **ret, struct hf_error *err)
{
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    size_t count;
    _cleanup_(hf_json_freep) json_t *list = json_array();
    char line[HF_PUBLIC_KEY_TEXT_BYTES];
    if (!hf_evidence_trusted(daemon, keys, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(list, json_string(hf_public_key_format(&keys[i], line))) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for public keys");
    *ret = HF_TAKE(list);
    return true;
}

bool
hf_evidence_trusted_parse(const json_t *list, struct hf_public_key keys[static HF_TRUST_MOST_KEYS], size_t *ret_count,
                          struct hf_error *err)
{
    const size_t count = json_array_size(list);
    if (count == 0 || count > HF_TRUST_MOST_KEYS)
        return hf_fail(err, HF_ERR_USAGE, "there are %zu public keys, not 1 to %d", count, HF_TRUST_MOST_KEYS);
    for (size_t i = 0; i < count; i++) {
        const char *line = json_string_value(json_array_get(list, i));
        if (line == NULL || !hf_public_key_parse(line, &keys[i], err))
            return line != NULL || hf_fail(err, HF_ERR_USAGE, "a public key is no text");
    }
    *ret_count = count;
    return true;
}

bool
hf_evidence_read_entry(struct hf_daemon *daemon, const struct hf_id *id, struct hf_evidence *ret, struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    _cleanup_(hf_freep) char *folder = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    char text[HF_ID_TEXT_BYTES], path[4096], what[64];
    struct hf_receipt entry;
    struct hf_hash leaf;
    size_t count;
    hf_id_format(id, text);
    snprintf(what, sizeof what, "evidence \"%s\"", text);
    if (!hf_evidence_folder(hf_daemon_settings(daemon), &folder, err) ||
        !hf_evidence_trusted(daemon, keys, &count, err) || !hf_evidence_open_ledger(daemon, false, &ledger, err))
        return false;
    const struct hf_trust trust = {.keys = keys, .count = count};
    snprintf(path, sizeof path, "%s/%s.json", folder, text);
    if (!hf_file_read(path, &bytes, err) || !hf_evidence_parse(bytes.data, bytes.length, what, &evidence, err) ||
        !hf_evidence_check_seal(&evidence, what, &trust, err) ||
        !hf_ledger_entry(ledger, evidence.index, &entry, err) || !hf_merkle_leaf(bytes.data, bytes.length, &leaf, err))
        return false;
    if (!hf_hash_equal(&leaf, &entry.leaf))
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not the one that the ledger has at its place", what);
    *ret = evidence;
    evidence = (struct hf_evidence){0};
    return true;
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
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    size_t count;
    if (!hf_evidence_trusted(daemon, keys, &count, err))
        return false;
    const struct hf_ledger_options options = {
        .folder = folder,
        .signer = write ? signer : NULL,
        .trust = {.keys = keys, .count = count},
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

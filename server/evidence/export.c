#include "server/evidence/export.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/time.h"
#include "server/evidence/bundle/embedded.h"
#include "server/evidence/ledger_internal.h"

#define PATH_BYTES  4096
#define LEAVES_MOST (256 * HF_MIB) // some 2,700,000 entries

/* A bundle on its way. */
struct bundle {
    const char *output;
    struct hf_ledger *ledger;
    json_t *files; // name: hash
};

static bool make_folders(const char *output, struct hf_error *err);
static bool find_range(struct bundle *bundle, int64_t from, int64_t to, struct hf_export_report *report,
                       struct hf_error *err);
static bool read_document(struct bundle *bundle, const struct hf_receipt *entry, struct hf_buf *bytes, int64_t *ret_at,
                          struct hf_error *err);
static bool write_entry(struct bundle *bundle, uint64_t index, struct hf_error *err);
static bool write_leaves(struct bundle *bundle, struct hf_error *err);
static bool write_common(struct bundle *bundle, const struct hf_public_key *key, struct hf_error *err);
static bool write_file(struct bundle *bundle, const char *name, const void *bytes, size_t length, struct hf_error *err);
static bool write_manifest(struct bundle *bundle, const struct hf_export_report *report, int64_t from, int64_t to,
                           struct hf_error *err);

bool
hf_evidence_export(const struct hf_ledger_options *options, int64_t from, int64_t to, const char *output,
                   struct hf_export_report *ret, struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    _cleanup_(hf_json_freep) json_t *files = json_object();
    struct bundle bundle = {.output = output, .files = files};
    struct hf_export_report report = {0};
    if (files == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the bundle");
    if (!hf_ledger_open(options, &ledger, err))
        return false;
    bundle.ledger = ledger;
    report.entries = ledger->tree.size;
    if (!find_range(&bundle, from, to, &report, err) || !make_folders(output, err))
        return false;
    for (uint64_t i = report.first; i < report.first + report.count; i++)
        if (!write_entry(&bundle, i, err))
            return false;
    if (!write_leaves(&bundle, err) || !write_common(&bundle, &ledger->keys[0], err) ||
        !write_manifest(&bundle, &report, from, to, err))
        return false;
    *ret = report;
    return true;
}

bool
hf_evidence_export_sign(const char *output, struct hf_signer *signer, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf message = HF_BUF_INIT(HF_EXPORT_MANIFEST_MOST + HF_KIB);
    uint8_t signature[HF_SIGNATURE_BYTES];
    char path[PATH_BYTES], text[2 * HF_SIGNATURE_BYTES + 2];
    snprintf(path, sizeof path, "%s/manifest.json", output);
    if (!hf_buf_add(&message, HF_EXPORT_SCHEMA, sizeof HF_EXPORT_SCHEMA, err) || !hf_file_read(path, &message, err) ||
        !hf_signer_sign(signer, message.data, message.length, signature, err))
        return false;
    for (size_t i = 0; i < sizeof signature; i++)
        snprintf(text + 2 * i, 3, "%02x", signature[i]);
    strcpy(text + 2 * sizeof signature, "\n");
    snprintf(path, sizeof path, "%s/manifest.sig", output);
    return hf_file_publish(path, text, strlen(text), 0644, HF_PUBLISH_EXCLUSIVE, err);
}

static bool
make_folders(const char *output, struct hf_error *err)
{
    char path[PATH_BYTES];
    bool is_empty;
    if (strlen(output) + 64 > sizeof path)
        return hf_fail(err, HF_ERR_USAGE, "the name of the bundle is longer than %d bytes", PATH_BYTES - 64);
    if (!hf_dir_make(output, 0755, err) || !hf_dir_is_empty(output, &is_empty, err))
        return false;
    if (!is_empty)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is not empty", output);
    snprintf(path, sizeof path, "%s/documents", output);
    if (!hf_dir_make(path, 0755, err))
        return false;
    snprintf(path, sizeof path, "%s/proofs", output);
    return hf_dir_make(path, 0755, err);
}

/* From the first to the last made in that time: clocks may go back, the order of the ledger does not. */
static bool
find_range(struct bundle *bundle, int64_t from, int64_t to, struct hf_export_report *report, struct hf_error *err)
{
    uint64_t last = 0;
    bool found = false;
    for (uint64_t i = 0; i < report->entries; i++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
        struct hf_receipt entry;
        int64_t at;
        if (!hf_ledger_entry(bundle->ledger, i, &entry, err) || !read_document(bundle, &entry, &bytes, &at, err))
            return false;
        if (at < from || at >= to)
            continue;
        if (!found)
            report->first = i;
        found = true;
        last = i;
    }
    if (!found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "no evidence was made in that time");
    report->count = last - report->first + 1;
    return true;
}

/* Form, seal and leaf: what does not hold is not handed out. */
static bool
read_document(struct bundle *bundle, const struct hf_receipt *entry, struct hf_buf *bytes, int64_t *ret_at,
              struct hf_error *err)
{
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    char name[HF_LEDGER_ENTRY_NAME_BYTES];
    const char *created_at;
    struct hf_hash leaf;
    json_t *head;
    hf_ledger_entry_name(&entry->evidence_id, ".json", name);
    if (!hf_ledger_read_file(bundle->ledger, name, HF_EVIDENCE_MOST_BYTES, bytes, err) ||
        !hf_evidence_parse(bytes->data, bytes->length, name, &evidence, err) ||
        !hf_evidence_check_seal(&evidence, name, &bundle->ledger->trust, err) ||
        !hf_merkle_leaf(bytes->data, bytes->length, &leaf, err))
        return false;
    if (!hf_hash_equal(&leaf, &entry->leaf))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not the document that was entered", name);
    return hf_json_object(evidence.content, "head", name, &head, err) &&
           hf_json_string(head, "created_at", name, &created_at, err) && hf_time_parse(created_at, ret_at, err);
}

static bool
write_entry(struct bundle *bundle, uint64_t index, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf proof = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    struct hf_receipt entry;
    char id[HF_ID_TEXT_BYTES], name[HF_LEDGER_ENTRY_NAME_BYTES + 16];
    int64_t at;
    if (!hf_ledger_entry(bundle->ledger, index, &entry, err) || !read_document(bundle, &entry, &bytes, &at, err) ||
        !hf_ledger_prove(bundle->ledger, index, &proof, err))
        return false;
    snprintf(name, sizeof name, "documents/%s.json", hf_id_format(&entry.evidence_id, id));
    if (!write_file(bundle, name, bytes.data, bytes.length, err))
        return false;
    snprintf(name, sizeof name, "proofs/%s.proof", id);
    return write_file(bundle, name, proof.data, proof.length, err);
}

static bool
write_leaves(struct bundle *bundle, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(LEAVES_MOST);
    for (uint64_t i = 0; i < bundle->ledger->tree.size; i++) {
        struct hf_receipt entry;
        char id[HF_ID_TEXT_BYTES], leaf[2 * HF_SHA256_BYTES + 1];
        if (!hf_ledger_entry(bundle->ledger, i, &entry, err))
            return false;
        for (size_t n = 0; n < HF_SHA256_BYTES; n++)
            snprintf(leaf + 2 * n, 3, "%02x", entry.leaf.bytes[n]);
        if (!hf_buf_printf(&text, err, "%s %s\n", hf_id_format(&entry.evidence_id, id), leaf))
            return false;
    }
    return write_file(bundle, "leaves", text.data, text.length, err);
}

static bool
write_common(struct bundle *bundle, const struct hf_public_key *key, struct hf_error *err)
{
    char line[HF_PUBLIC_KEY_TEXT_BYTES + 1];
    hf_public_key_format(key, line);
    strcat(line, "\n");
    return write_file(bundle, "public-key", line, strlen(line), err) &&
           write_file(bundle, "checkpoint", bundle->ledger->checkpoint_text.data,
                      bundle->ledger->checkpoint_text.length, err) &&
           write_file(bundle, "README.txt", hf_bundle_readme, hf_bundle_readme_bytes, err) &&
           write_file(bundle, "verify.py", hf_bundle_verifier, hf_bundle_verifier_bytes, err);
}

static bool
write_file(struct bundle *bundle, const char *name, const void *bytes, size_t length, struct hf_error *err)
{
    uint8_t hash[HF_SHA256_BYTES];
    char path[PATH_BYTES];
    hf_sha256(bytes, length, hash);
    snprintf(path, sizeof path, "%s/%s", bundle->output, name);
    return hf_file_publish(path, bytes, length, 0644, HF_PUBLISH_EXCLUSIVE, err) &&
           hf_json_set(bundle->files, name, hf_json_hex(hash, sizeof hash), err);
}

static bool
write_manifest(struct bundle *bundle, const struct hf_export_report *report, int64_t from, int64_t to,
               struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_EXPORT_MANIFEST_MOST);
    char path[PATH_BYTES], first[HF_TIME_TEXT_BYTES], last[HF_TIME_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *manifest = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:O}", "schema", HF_EXPORT_SCHEMA, "from", hf_time_format(from, first), "to",
        hf_time_format(to, last), "origin", bundle->ledger->checkpoint.origin, "first", (json_int_t)report->first,
        "count", (json_int_t)report->count, "files", bundle->files);
    if (manifest == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the bundle");
    snprintf(path, sizeof path, "%s/manifest.json", bundle->output);
    return hf_json_canonical(manifest, &text, err) &&
           hf_file_publish(path, text.data, text.length, 0644, HF_PUBLISH_EXCLUSIVE, err);
}

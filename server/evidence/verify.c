#include "server/evidence/verify.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "server/evidence/ledger.h"

#define HELD_MOST_BYTES (16 * HF_MIB) // a witness file of some 60,000 checkpoints
#define PROOF_WORDS     "c2sp.org/tlog-proof@v1\n"

static bool is_proof(const struct hf_buf *text);
static bool compare_held(const struct hf_buf *held, const char *name, const void *proof_text, size_t proof_length,
                         const char *proof_name, const struct hf_trust *trust, struct hf_evidence_report *report,
                         struct hf_error *err);
static bool verify_named(const void *document, size_t document_length, const char *document_name, const void *proof,
                         size_t proof_length, const char *proof_name, const struct hf_trust *trust,
                         struct hf_evidence_report *ret, struct hf_error *err);
static void fill_report(const struct hf_evidence *evidence, const struct hf_proof *proof,
                        struct hf_evidence_report *report);
static void copy_member(const json_t *object, const char *member, char text[static HF_EVIDENCE_MOST_WORD + 1]);
static bool read_piece(const char *path, const char *piece, struct hf_buf *out, struct hf_error *err);
static char *proof_beside(const char *document_path, struct hf_error *err);

bool
hf_evidence_verify(const void *document, size_t document_length, const void *proof, size_t proof_length,
                   const struct hf_trust *trust, struct hf_evidence_report *ret, struct hf_error *err)
{
    return verify_named(document, document_length, "the document", proof, proof_length, "the proof", trust, ret, err);
}

bool
hf_evidence_verify_files(const struct hf_evidence_files *files, struct hf_evidence_report *ret, struct hf_error *err)
{
    const char *document_path = files->document, *proof_path = files->proof, *public_key_path = files->public_key;
    _cleanup_(hf_buf_done) struct hf_buf document = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf proof = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf held = HF_BUF_INIT(HELD_MOST_BYTES);
    _cleanup_(hf_freep) char *beside = NULL;
    struct hf_public_key key;

    if (public_key_path == NULL) {
        hf_fail(err, HF_ERR_USAGE, "cannot verify \"%s\" without the appliance's public key", document_path);
        return hf_fail_hint(err,
                            "Give the file with --public-key. It must not come along with the evidence: take the one "
                            "that was printed or handed over when the appliance was set up.");
    }
    if (files->checkpoint != NULL && !read_piece(files->checkpoint, "checkpoint", &held, err))
        return false;
    if (proof_path == NULL && is_proof(&held))
        proof_path = files->checkpoint; // a proof carries the checkpoint it leads to
    if (proof_path == NULL && (proof_path = beside = proof_beside(document_path, err)) == NULL)
        return false;
    if (!hf_public_key_read_file(public_key_path, &key, err) ||
        !read_piece(document_path, "document", &document, err) || !read_piece(proof_path, "proof", &proof, err))
        return false;
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_evidence_report report;
    if (!verify_named(document.data, document.length, document_path, proof.data, proof.length, proof_path, &trust,
                      &report, err))
        return false;
    if (held.length > 0 && !is_proof(&held) &&
        !compare_held(&held, files->checkpoint, proof.data, proof.length, proof_path, &trust, &report, err))
        return false;
    *ret = report;
    return true;
}

static bool
is_proof(const struct hf_buf *text)
{
    return strncmp(hf_buf_text(text), PROOF_WORDS, sizeof PROOF_WORDS - 1) == 0;
}

/* A checkpoint as it was signed, or a witness file that ends in one: the proof must lead to this very state. */
static bool
compare_held(const struct hf_buf *held, const char *name, const void *proof_text, size_t proof_length,
             const char *proof_name, const struct hf_trust *trust, struct hf_evidence_report *report,
             struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf newest = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    struct hf_checkpoint checkpoint;
    struct hf_proof proof;

    if (strstr(hf_buf_text(held), "\n%%\n") != NULL) {
        if (!hf_witness_newest(held->data, held->length, name, &newest, err))
            return false;
    } else if (held->length > HF_CHECKPOINT_MOST_BYTES) {
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is longer than any checkpoint", name);
    } else if (!hf_buf_add(&newest, held->data, held->length, err)) {
        return false;
    }
    if (!hf_checkpoint_open(newest.data, newest.length, name, trust, &checkpoint, NULL, err) ||
        !hf_proof_open(proof_text, proof_length, proof_name, trust, &proof, err))
        return false;
    if (checkpoint.size != proof.checkpoint.size) {
        hf_fail(err, checkpoint.size <= report->index ? HF_ERR_CORRUPT : HF_ERR_USAGE,
                "\"%s\" was signed for %llu entries, \"%s\" leads to the ledger of %llu", name,
                (unsigned long long)checkpoint.size, proof_name, (unsigned long long)proof.checkpoint.size);
        return checkpoint.size <= report->index
                   ? hf_fail_hint(err, "The document is entry %llu: it was not in the ledger when that was signed.",
                                  (unsigned long long)report->index)
                   : hf_fail_hint(err, "\"holdfast evidence export\" writes proofs that all lead to one checkpoint.");
    }
    if (!hf_hash_equal(&checkpoint.root, &proof.checkpoint.root)) {
        hf_fail(err, HF_ERR_CORRUPT, "\"%s\" and \"%s\" were both signed for %llu entries, and differ", name,
                proof_name, (unsigned long long)checkpoint.size);
        return hf_fail_hint(err, "The appliance signed two histories. Keep both files.");
    }
    report->held_size = checkpoint.size;
    return true;
}

static bool
verify_named(const void *document, size_t document_length, const char *document_name, const void *proof_text,
             size_t proof_length, const char *proof_name, const struct hf_trust *trust, struct hf_evidence_report *ret,
             struct hf_error *err)
{
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    struct hf_proof proof;
    struct hf_hash leaf;

    if (!hf_evidence_parse(document, document_length, document_name, &evidence, err) ||
        !hf_evidence_check_seal(&evidence, document_name, trust, err) ||
        !hf_proof_open(proof_text, proof_length, proof_name, trust, &proof, err))
        return false;

    if (strcmp(proof.checkpoint.origin, evidence.origin) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is of ledger \"%s\", %s of \"%s\"", proof_name, proof.checkpoint.origin,
                       document_name, evidence.origin);
    if (proof.index != evidence.index)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is for entry %llu, %s was sealed as entry %llu", proof_name,
                       (unsigned long long)proof.index, document_name, (unsigned long long)evidence.index);
    if (!hf_merkle_leaf(document, document_length, &leaf, err))
        return false;
    if (!hf_merkle_check_inclusion(&leaf, proof.index, proof.checkpoint.size, &proof.path, &proof.checkpoint.root))
        return hf_fail(err, HF_ERR_CORRUPT, "%s does not lead from %s to the root of the ledger", proof_name,
                       document_name);

    struct hf_evidence_report report = {0};
    fill_report(&evidence, &proof, &report);
    *ret = report;
    return true;
}

static void
fill_report(const struct hf_evidence *evidence, const struct hf_proof *proof, struct hf_evidence_report *report)
{
    const json_t *head = json_object_get(evidence->content, "head");
    const json_t *backup = json_object_get(evidence->content, "backup");
    const json_t *shred = json_object_get(evidence->content, "shred");

    report->evidence_id = evidence->evidence_id;
    copy_member(head, "kind", report->kind);
    copy_member(head, "created_at", report->created_at);
    copy_member(json_object_get(evidence->content, "attempt"), "result", report->result);
    if (backup != NULL) {
        (void)!hf_json_id(backup, "backup_id", "evidence", &report->backup_id, NULL); // the rules have been checked
        copy_member(backup, "state_after", report->state);
    } else if (shred != NULL) {
        (void)!hf_json_id(shred, "vault_id", "evidence", &report->vault_id, NULL); // likewise
        strcpy(report->result, "done");
    } else {
        copy_member(json_object_get(evidence->content, "act"), "outcome", report->result);
    }
    strcpy(report->origin, evidence->origin);
    memcpy(report->key_id, evidence->key_id, sizeof report->key_id);
    memcpy(report->content_sha256, evidence->content_sha256, sizeof report->content_sha256);
    report->index = evidence->index;
    report->checkpoint_size = proof->checkpoint.size;
    report->foreign_signatures = proof->foreign_signatures;
}

/* Words, which are never longer; nothing where the member is not there. */
static void
copy_member(const json_t *object, const char *member, char text[static HF_EVIDENCE_MOST_WORD + 1])
{
    const char *value = json_string_value(json_object_get(object, member));
    snprintf(text, HF_EVIDENCE_MOST_WORD + 1, "%s", value != NULL ? value : "");
}

static bool
read_piece(const char *path, const char *piece, struct hf_buf *out, struct hf_error *err)
{
    struct hf_error why = {0};

    if (hf_file_read(path, out, &why))
        return true;
    if (why.kind == HF_ERR_NO_SPACE)
        why.kind = HF_ERR_CORRUPT; // longer than any there can be
    if (err != NULL)
        *err = why;
    return hf_fail_within(err, "could not read the %s", piece);
}

static char *
proof_beside(const char *document_path, struct hf_error *err)
{
    static const char from[] = ".json", to[] = ".proof";
    size_t length = strlen(document_path), stem = length - (sizeof from - 1);

    if (length < sizeof from || strcmp(document_path + stem, from) != 0) {
        hf_fail(err, HF_ERR_USAGE, "\"%s\" does not end in \"%s\", so its proof cannot be found", document_path, from);
        return NULL;
    }
    char *path = malloc(stem + sizeof to);
    if (path == NULL) {
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        return NULL;
    }
    memcpy(path, document_path, stem);
    memcpy(path + stem, to, sizeof to);
    return path;
}

/*
 * What an auditor may be handed: a public key, a document and a proof.  Whatever is accepted is written again as the
 * very bytes it came from, and what verifies consists of parts that are each accepted.
 *
 * Input: 2 bytes length of the key's line, the line, 4 bytes length of the document, the document, the proof.
 */
#include <assert.h>
#include <string.h>

#include "server/evidence/verify.h"
#include "tests/fuzz/fuzz.h"

static bool check_key(const uint8_t *text, size_t length, struct hf_public_key *ret);
static bool check_document(const uint8_t *bytes, size_t length);
static bool check_proof(const uint8_t *text, size_t length, const struct hf_trust *trust);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_reader reader = HF_READER(data, size);
    struct hf_public_key key;
    struct hf_evidence_report report;

    size_t key_length = hf_reader_u16(&reader);
    const uint8_t *key_text = hf_reader_bytes(&reader, key_length);
    size_t document_length = hf_reader_u32(&reader);
    const uint8_t *document = hf_reader_bytes(&reader, document_length);
    if (!hf_reader_ok(&reader))
        return 0;
    const uint8_t *proof = data + reader.position;
    size_t proof_length = size - reader.position;

    bool key_ok = check_key(key_text, key_length, &key);
    const struct hf_trust trust = {.keys = &key, .count = key_ok ? 1 : 0};
    bool document_ok = check_document(document, document_length);
    bool proof_ok = check_proof(proof, proof_length, &trust);
    if (hf_evidence_verify(document, document_length, proof, proof_length, &trust, &report, NULL))
        assert(key_ok && document_ok && proof_ok && report.index < report.checkpoint_size);
    return 0;
}

static bool
check_key(const uint8_t *text, size_t length, struct hf_public_key *ret)
{
    char line[HF_PUBLIC_KEY_TEXT_BYTES], again[HF_PUBLIC_KEY_TEXT_BYTES];

    if (length >= sizeof line)
        return false;
    memcpy(line, text, length);
    line[length] = 0;
    if (!hf_public_key_parse(line, ret, NULL))
        return false;
    assert(strcmp(hf_public_key_format(ret, again), line) == 0);
    return true;
}

static bool
check_document(const uint8_t *bytes, size_t length)
{
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    _cleanup_(hf_json_freep) json_t *document = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    struct hf_error err;

    if (!hf_evidence_parse(bytes, length, "document", &evidence, &err)) {
        assert(err.kind == HF_ERR_CORRUPT && evidence.content == NULL);
        return false;
    }
    bool written = hf_evidence_check_content(evidence.content, &err) &&
                   hf_json_parse(bytes, length, "document", &document, &err) &&
                   hf_json_canonical(document, &again, &err);
    assert(written && again.length == length && memcmp(again.data, bytes, length) == 0);
    return true;
}

static bool
check_proof(const uint8_t *text, size_t length, const struct hf_trust *trust)
{
    _cleanup_(hf_buf_done) struct hf_buf head = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    struct hf_checkpoint checkpoint;
    struct hf_proof proof;
    struct hf_error err;

    if (!hf_proof_open(text, length, "proof", trust, &proof, &err)) {
        assert(err.kind == HF_ERR_CORRUPT);
        return false;
    }
    bool written = hf_proof_format(proof.index, &proof.path, "", 0, &head, &err);
    assert(written && head.length <= length && memcmp(head.data, text, head.length) == 0);
    bool opened =
        hf_checkpoint_open(text + head.length, length - head.length, "checkpoint", trust, &checkpoint, NULL, &err);
    assert(opened && checkpoint.size == proof.checkpoint.size &&
           hf_hash_equal(&checkpoint.root, &proof.checkpoint.root));
    return true;
}

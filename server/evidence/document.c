#include "server/evidence/document.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/evidence/schema.h"

static bool hash_content(const json_t *content, uint8_t digest[static HF_SHA256_BYTES], struct hf_error *err);
static bool check_own_work(const struct hf_buf *bytes, const struct hf_public_key *key, struct hf_error *err);
static bool add_signed_bytes(const struct hf_evidence *evidence, struct hf_buf *out, struct hf_error *err);
static bool copy_object(json_t *object, json_t **ret, struct hf_error *err);
static bool make_seal(const struct hf_evidence *evidence, bool with_signature, json_t **ret, struct hf_error *err);
static bool add_document(const struct hf_evidence *evidence, bool with_signature, struct hf_buf *out,
                         struct hf_error *err);
static bool parse_seal(const json_t *document, const char *what, struct hf_evidence *evidence, struct hf_error *err);

void
hf_evidence_done(struct hf_evidence *evidence)
{
    hf_json_freep(&evidence->content);
}

bool
hf_evidence_check_content(const json_t *content, struct hf_error *err)
{
    return hf_schema_check(content, "evidence", HF_ERR_USAGE, err);
}

bool
hf_evidence_seal(json_t *content, struct hf_signer *signer, uint64_t index, struct hf_buf *out,
                 struct hf_id *ret_evidence_id, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {.index = index};
    const struct hf_public_key *key = hf_signer_public_key(signer);

    assert(index < HF_MERKLE_MOST_LEAVES);
    if (!hf_evidence_check_content(content, err))
        return false;
    evidence.content = json_incref(content);
    strcpy(evidence.origin, key->name);
    memcpy(evidence.key_id, key->id, sizeof key->id);
    if (!hf_json_id(json_object_get(content, "head"), "evidence_id", "evidence", &evidence.evidence_id, err) ||
        !hash_content(content, evidence.content_sha256, err) || !add_signed_bytes(&evidence, &bytes, err) ||
        !hf_signer_sign(signer, bytes.data, bytes.length, evidence.signature, err))
        return false;

    hf_buf_clear(&bytes);
    if (!add_document(&evidence, true, &bytes, err) || !check_own_work(&bytes, key, err) ||
        !hf_buf_add(out, bytes.data, bytes.length, err))
        return false;
    *ret_evidence_id = evidence.evidence_id;
    return true;
}

bool
hf_evidence_parse(const void *bytes, size_t length, const char *what, struct hf_evidence *ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *document = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    uint8_t digest[HF_SHA256_BYTES];

    if (length > HF_EVIDENCE_MOST_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has %zu bytes, a document has at most %zu", what, length,
                       HF_EVIDENCE_MOST_BYTES);
    if (!hf_json_parse(bytes, length, what, &document, err) || !parse_seal(document, what, &evidence, err))
        return false;

    if (!copy_object(document, &evidence.content, err))
        return false;
    (void)json_object_del(evidence.content, "seal"); // which parse_seal() found there
    if (!hf_schema_check(evidence.content, what, HF_ERR_CORRUPT, err) ||
        !hf_json_id(json_object_get(evidence.content, "head"), "evidence_id", what, &evidence.evidence_id, err))
        return false;

    // Written again from what was understood: any other way of writing it, and anything not understood, shows here.
    if (!add_document(&evidence, true, &again, err))
        return false;
    if (again.length != length || memcmp(again.data, bytes, length) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not in canonical form: it was written again by someone else", what);
    if (!hash_content(evidence.content, digest, err))
        return false;
    if (memcmp(digest, evidence.content_sha256, sizeof digest) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s was altered: its content does not fit its SHA-256", what);

    *ret = evidence;
    evidence.content = NULL;
    return true;
}

bool
hf_evidence_check_seal(const struct hf_evidence *evidence, const char *what, const struct hf_trust *trust,
                       struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES + HF_KIB);
    char id[HF_KEY_ID_TEXT_BYTES];
    const struct hf_public_key *key = hf_trust_find(trust, evidence->origin, evidence->key_id);

    if (key == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is sealed by key \"%s\" (%s), which we were not given", what,
                       evidence->origin, hf_key_id_format(evidence->key_id, id));
    if (!add_signed_bytes(evidence, &bytes, err))
        return false;
    if (!hf_public_key_check(key, bytes.data, bytes.length, evidence->signature))
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not what key \"%s\" signed", what, key->name);
    return true;
}

json_t *
hf_evidence_time(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_string(hf_time_format(ms, text));
}

json_t *
hf_evidence_name(const char *text, size_t length)
{
    static const char cut[] = "...";
    char name[HF_EVIDENCE_MOST_TEXT + 1];
    size_t used = 0;

    // First valid UTF-8 in at most as many bytes as could ever be shown, then character by character.
    _cleanup_(hf_json_freep) json_t *valid = hf_json_foreign_text(text, length, 2 * HF_EVIDENCE_MOST_TEXT);
    if (valid == NULL)
        return NULL;
    for (const char *at = json_string_value(valid); *at != 0;) {
        char piece[16];
        const char *start = at;
        uint32_t character = hf_schema_next_character(&at);
        if (hf_schema_is_printable(character) && character != '\\')
            snprintf(piece, sizeof piece, "%.*s", (int)(at - start), start);
        else
            snprintf(piece, sizeof piece, "\\u{%x}", character);
        if (used + strlen(piece) + strlen(cut) > HF_EVIDENCE_MOST_TEXT) {
            strcpy(name + used, cut);
            used += strlen(cut);
            break;
        }
        strcpy(name + used, piece);
        used += strlen(piece);
    }
    return used > 0 ? json_stringn(name, used) : json_string("\\u{}"); // no name at all: a text has at least a byte
}

bool
hf_evidence_set_unknown(json_t *object, const char *member, const char *reason, struct hf_error *err)
{
    json_t *unknown = json_object_get(object, "unknown");

    if (unknown == NULL) {
        if (!hf_json_set(object, "unknown", json_object(), err))
            return false;
        unknown = json_object_get(object, "unknown");
    }
    return hf_json_set(unknown, member, json_string(reason), err) && hf_json_set(object, member, json_null(), err);
}

static bool
hash_content(const json_t *content, uint8_t digest[static HF_SHA256_BYTES], struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);

    if (!hf_json_canonical(content, &text, err))
        return hf_fail_within(err, "evidence");
    hf_sha256(text.data, text.length, digest);
    return true;
}

/* What is entered stays for years: it is read once as an auditor would, before anyone relies on it. */
static bool
check_own_work(const struct hf_buf *bytes, const struct hf_public_key *key, struct hf_error *err)
{
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    const struct hf_trust trust = {.keys = key, .count = 1};
    struct hf_error why = {0};

    if (hf_evidence_parse(bytes->data, bytes->length, "document", &evidence, &why) &&
        hf_evidence_check_seal(&evidence, "document", &trust, &why))
        return true;
    if (why.kind == HF_ERR_NO_MEMORY)
        return hf_fail(err, HF_ERR_NO_MEMORY, "%s", why.message);
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not seal evidence: what was written does not verify: %s",
                   why.message);
}

static bool
add_signed_bytes(const struct hf_evidence *evidence, struct hf_buf *out, struct hf_error *err)
{
    // sizeof counts the 0 byte that ends the name.
    return hf_buf_add(out, HF_EVIDENCE_SCHEMA, sizeof HF_EVIDENCE_SCHEMA, err) &&
           add_document(evidence, false, out, err);
}

/* The object with the same members.  json_copy() itself leaves members out when memory runs short, and says nothing. */
static bool
copy_object(json_t *object, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *copy = json_copy(object);

    if (copy == NULL || json_object_size(copy) != json_object_size(object))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an evidence document");
    *ret = HF_TAKE(copy);
    return true;
}

static bool
add_document(const struct hf_evidence *evidence, bool with_signature, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *document = NULL, *seal = NULL;

    if (!copy_object(evidence->content, &document, err) || !make_seal(evidence, with_signature, &seal, err) ||
        !hf_json_set(document, "seal", HF_TAKE(seal), err))
        return false;
    if (!hf_json_canonical(document, out, err))
        return hf_fail_within(err, "evidence");
    return true;
}

static bool
make_seal(const struct hf_evidence *evidence, bool with_signature, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *seal = json_object(), *log = json_object();

    if (seal == NULL || log == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a seal");
    if (!hf_json_set(log, "origin", json_string(evidence->origin), err) ||
        !hf_json_set(log, "index", json_integer((json_int_t)evidence->index), err) ||
        !hf_json_set(log, "size", json_integer((json_int_t)evidence->index + 1), err) ||
        !hf_json_set(seal, "content_sha256", hf_json_hex(evidence->content_sha256, HF_SHA256_BYTES), err) ||
        !hf_json_set(seal, "key_id", hf_json_hex(evidence->key_id, HF_KEY_ID_BYTES), err) ||
        !hf_json_set(seal, "log", HF_TAKE(log), err))
        return false;
    if (with_signature && !hf_json_set(seal, "signature", hf_json_hex(evidence->signature, HF_SIGNATURE_BYTES), err))
        return false;
    *ret = HF_TAKE(seal);
    return true;
}

/* Members too many, and a size that is not index + 1, show when the document is written again. */
static bool
parse_seal(const json_t *document, const char *what, struct hf_evidence *evidence, struct hf_error *err)
{
    json_t *seal, *log;
    const char *origin;
    int64_t index;

    if (!hf_json_object(document, "seal", what, &seal, err) || !hf_json_object(seal, "log", what, &log, err) ||
        !hf_json_string(log, "origin", what, &origin, err) ||
        !hf_json_integer(log, "index", what, 0, HF_JSON_INTEGER_MOST - 1, &index, err) ||
        !hf_json_bytes(seal, "content_sha256", what, evidence->content_sha256, HF_SHA256_BYTES, err) ||
        !hf_json_bytes(seal, "key_id", what, evidence->key_id, HF_KEY_ID_BYTES, err) ||
        !hf_json_bytes(seal, "signature", what, evidence->signature, HF_SIGNATURE_BYTES, err))
        return false;
    if (strlen(origin) >= sizeof evidence->origin)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"origin\" is longer than %zu bytes", what,
                       sizeof evidence->origin - 1);
    strcpy(evidence->origin, origin);
    evidence->index = (uint64_t)index;
    return true;
}

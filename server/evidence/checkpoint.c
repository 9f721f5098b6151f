#include "server/evidence/checkpoint.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#define EM_DASH_SPACE    "\xe2\x80\x94 "
#define PROOF_HEAD       "c2sp.org/tlog-proof@v1"
#define STAMP_BYTES      (HF_KEY_ID_BYTES + HF_SIGNATURE_BYTES) // what the base64 of our signature line holds
#define BASE64_MOST      sodium_base64_ENCODED_LEN(STAMP_BYTES, sodium_base64_VARIANT_ORIGINAL)
#define MOST_STAMP_BYTES (8 * HF_KIB) // of any key: post-quantum signatures have up to 5 KB
#define NUMBER_MOST      24

/* A line within borrowed text, without its newline. */
struct line {
    const char *text;
    size_t length;
};

/* What is left to read. */
struct lines {
    const char *at, *end;
};

/* The signature lines of one note as they are gone through. */
struct signatures {
    const struct hf_trust *trust;
    const void *body; // what was signed
    size_t body_length;
    bool seen[HF_TRUST_MOST_KEYS];
    size_t known, foreign;
};

static bool add_base64_line(struct hf_buf *out, const void *bytes, size_t length, struct hf_error *err);
static bool parse_body(struct lines *lines, const char *what, struct hf_checkpoint *checkpoint, struct hf_error *err);
static bool check_signature_line(struct line line, const char *what, struct signatures *signatures,
                                 struct hf_error *err);
static bool check_known_signature(struct line base64, size_t index, const char *what, struct signatures *signatures,
                                  struct hf_error *err);
static bool next_line(struct lines *lines, struct line *ret);
static bool line_is(struct line line, const char *text);
static bool line_begins(struct line *line, const char *text);
static bool split_at_space(struct line *line, struct line *ret_before);
static bool parse_number(struct line line, uint64_t *ret);
static bool parse_base64(struct line line, uint8_t *bytes, size_t length);
static bool is_name(struct line line);

bool
hf_checkpoint_sign(const struct hf_checkpoint *checkpoint, struct hf_signer *signer, struct hf_buf *out,
                   struct hf_error *err)
{
    const struct hf_public_key *key = hf_signer_public_key(signer);
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    uint8_t stamp[STAMP_BYTES];

    assert(strcmp(checkpoint->origin, key->name) == 0);
    if (!hf_buf_printf(&body, err, "%s\n%llu\n", checkpoint->origin, (unsigned long long)checkpoint->size) ||
        !add_base64_line(&body, checkpoint->root.bytes, sizeof checkpoint->root.bytes, err))
        return false;

    memcpy(stamp, key->id, HF_KEY_ID_BYTES);
    if (!hf_signer_sign(signer, body.data, body.length, stamp + HF_KEY_ID_BYTES, err))
        return false;
    return hf_buf_add(out, body.data, body.length, err) &&
           hf_buf_printf(out, err, "\n" EM_DASH_SPACE "%s ", key->name) &&
           add_base64_line(out, stamp, sizeof stamp, err);
}

bool
hf_checkpoint_open(const void *text, size_t length, const char *what, const struct hf_trust *trust,
                   struct hf_checkpoint *ret, size_t *ret_foreign, struct hf_error *err)
{
    struct lines lines = {.at = text, .end = (const char *)text + length};
    struct signatures signatures = {.trust = trust, .body = text};
    struct hf_checkpoint checkpoint = {0};
    struct line line;

    assert(trust->count <= HF_TRUST_MOST_KEYS);
    if (length > HF_CHECKPOINT_MOST_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has %zu bytes, at most %zu are allowed", what, length,
                       HF_CHECKPOINT_MOST_BYTES);
    if (!parse_body(&lines, what, &checkpoint, err))
        return false;
    signatures.body_length = (size_t)(lines.at - (const char *)text);
    if (!next_line(&lines, &line) || line.length != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has no empty line before its signatures", what);

    while (lines.at != lines.end) {
        if (!next_line(&lines, &line))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint ends within a line", what);
        if (!check_signature_line(line, what, &signatures, err))
            return false;
    }
    if (signatures.known == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint of ledger \"%s\" is not signed by a key we were given",
                       what, checkpoint.origin);
    // A key speaks for the ledger of its own name only.
    for (size_t i = 0; i < trust->count; i++)
        if (signatures.seen[i] && strcmp(trust->keys[i].name, checkpoint.origin) != 0)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint of ledger \"%s\" is signed by key \"%s\"", what,
                           checkpoint.origin, trust->keys[i].name);

    *ret = checkpoint;
    if (ret_foreign != NULL)
        *ret_foreign = signatures.foreign;
    return true;
}

bool
hf_proof_format(uint64_t index, const struct hf_merkle_path *path, const void *checkpoint, size_t checkpoint_length,
                struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_printf(out, err, PROOF_HEAD "\nindex %llu\n", (unsigned long long)index))
        return false;
    for (size_t i = 0; i < path->length; i++)
        if (!add_base64_line(out, path->hashes[i].bytes, sizeof path->hashes[i].bytes, err))
            return false;
    return hf_buf_add_text(out, "\n", err) && hf_buf_add(out, checkpoint, checkpoint_length, err);
}

bool
hf_proof_open(const void *text, size_t length, const char *what, const struct hf_trust *trust, struct hf_proof *ret,
              struct hf_error *err)
{
    struct lines lines = {.at = text, .end = (const char *)text + length};
    struct hf_proof proof = {0};
    struct line line;

    if (length > HF_PROOF_MOST_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: proof has %zu bytes, at most %zu are allowed", what, length,
                       HF_PROOF_MOST_BYTES);
    if (!next_line(&lines, &line) || !line_is(line, PROOF_HEAD))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: not a proof, its first line is not \"" PROOF_HEAD "\"", what);
    if (!next_line(&lines, &line) || !line_begins(&line, "index ") || !parse_number(line, &proof.index))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: proof has no \"index\" and number on its second line", what);

    for (;;) {
        if (!next_line(&lines, &line))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: proof ends before its checkpoint", what);
        if (line.length == 0)
            break;
        if (proof.path.length == HF_MERKLE_MOST_PATH)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: proof has more than %d hashes", what, HF_MERKLE_MOST_PATH);
        struct hf_hash *hash = &proof.path.hashes[proof.path.length++];
        if (!parse_base64(line, hash->bytes, sizeof hash->bytes))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: hash %zu of the proof is not base64 of %d bytes", what,
                           proof.path.length, HF_SHA256_BYTES);
    }
    if (!hf_checkpoint_open(lines.at, (size_t)(lines.end - lines.at), what, trust, &proof.checkpoint,
                            &proof.foreign_signatures, err))
        return false;

    *ret = proof;
    return true;
}

const struct hf_public_key *
hf_trust_find(const struct hf_trust *trust, const char *name, const uint8_t id[static HF_KEY_ID_BYTES])
{
    for (size_t i = 0; i < trust->count; i++)
        if (strcmp(trust->keys[i].name, name) == 0 && memcmp(trust->keys[i].id, id, HF_KEY_ID_BYTES) == 0)
            return &trust->keys[i];
    return NULL;
}

static bool
add_base64_line(struct hf_buf *out, const void *bytes, size_t length, struct hf_error *err)
{
    char text[BASE64_MOST];

    assert(length <= STAMP_BYTES);
    sodium_bin2base64(text, sizeof text, bytes, length, sodium_base64_VARIANT_ORIGINAL);
    return hf_buf_printf(out, err, "%s\n", text);
}

static bool
parse_body(struct lines *lines, const char *what, struct hf_checkpoint *checkpoint, struct hf_error *err)
{
    struct line line;

    if (!next_line(lines, &line) || !is_name(line))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint does not begin with the ledger's name", what);
    memcpy(checkpoint->origin, line.text, line.length);
    if (!next_line(lines, &line) || !parse_number(line, &checkpoint->size))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has no size on its second line", what);
    if (!next_line(lines, &line) || !parse_base64(line, checkpoint->root.bytes, sizeof checkpoint->root.bytes))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has no root on its third line", what);
    return true;
}

static bool
check_signature_line(struct line line, const char *what, struct signatures *signatures, struct hf_error *err)
{
    uint8_t stamp[MOST_STAMP_BYTES];
    size_t length = 0;
    struct line name;

    if (!line_begins(&line, EM_DASH_SPACE) || !split_at_space(&line, &name) || !is_name(name))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has a signature line that is none", what);
    if (sodium_base642bin(stamp, sizeof stamp, line.text, line.length, NULL, &length, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        length <= HF_KEY_ID_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has a signature by \"%.*s\" that is not base64", what,
                       (int)name.length, name.text);

    for (size_t i = 0; i < signatures->trust->count; i++)
        if (line_is(name, signatures->trust->keys[i].name) &&
            memcmp(stamp, signatures->trust->keys[i].id, HF_KEY_ID_BYTES) == 0)
            return check_known_signature(line, i, what, signatures, err);

    if (signatures->foreign == HF_CHECKPOINT_MOST_FOREIGN)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint has more than %d signatures by unknown keys", what,
                       HF_CHECKPOINT_MOST_FOREIGN);
    signatures->foreign++;
    return true;
}

static bool
check_known_signature(struct line base64, size_t index, const char *what, struct signatures *signatures,
                      struct hf_error *err)
{
    const struct hf_public_key *key = &signatures->trust->keys[index];
    uint8_t stamp[STAMP_BYTES];

    if (signatures->seen[index])
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint is signed twice by key \"%s\"", what, key->name);
    if (!parse_base64(base64, stamp, sizeof stamp) ||
        !hf_public_key_check(key, signatures->body, signatures->body_length, stamp + HF_KEY_ID_BYTES))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: checkpoint is not what key \"%s\" signed", what, key->name);
    signatures->seen[index] = true;
    signatures->known++;
    return true;
}

/* False at the end of the text, and for a last line without its newline. */
static bool
next_line(struct lines *lines, struct line *ret)
{
    if (lines->at == lines->end)
        return false;
    const char *newline = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
    if (newline == NULL)
        return false;
    *ret = (struct line){.text = lines->at, .length = (size_t)(newline - lines->at)};
    lines->at = newline + 1;
    return true;
}

static bool
line_is(struct line line, const char *text)
{
    return line.length == strlen(text) && memcmp(line.text, text, line.length) == 0;
}

/* Takes the beginning off the line when it is there. */
static bool
line_begins(struct line *line, const char *text)
{
    size_t length = strlen(text);
    if (line->length < length || memcmp(line->text, text, length) != 0)
        return false;
    line->text += length;
    line->length -= length;
    return true;
}

/* The part before the first space; the line keeps what is after it. */
static bool
split_at_space(struct line *line, struct line *ret_before)
{
    const char *space = memchr(line->text, ' ', line->length);
    if (space == NULL)
        return false;
    *ret_before = (struct line){.text = line->text, .length = (size_t)(space - line->text)};
    line->text += ret_before->length + 1;
    line->length -= ret_before->length + 1;
    return true;
}

static bool
parse_number(struct line line, uint64_t *ret)
{
    uint64_t value = 0;

    if (line.length == 0 || line.length > NUMBER_MOST || (line.length > 1 && line.text[0] == '0'))
        return false;
    for (size_t i = 0; i < line.length; i++) {
        if (line.text[i] < '0' || line.text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(line.text[i] - '0');
        if (value > HF_MERKLE_MOST_LEAVES) // 2^53 * 10 is far from overflow, so it is enough to look now
            return false;
    }
    *ret = value;
    return true;
}

/* Exactly these bytes, in the one way of writing them.  That libsodium refuses spare bits is seen, not promised. */
static bool
parse_base64(struct line line, uint8_t *bytes, size_t length)
{
    char again[BASE64_MOST];
    size_t got = 0;

    assert(length <= STAMP_BYTES);
    if (sodium_base642bin(bytes, length, line.text, line.length, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) !=
            0 ||
        got != length)
        return false;
    sodium_bin2base64(again, sizeof again, bytes, length, sodium_base64_VARIANT_ORIGINAL);
    return line_is(line, again);
}

/* What a key or a ledger may be called; sign.h has the rule. */
static bool
is_name(struct line line)
{
    if (line.length == 0 || line.length >= HF_KEY_NAME_BYTES)
        return false;
    for (size_t i = 0; i < line.length; i++)
        if (line.text[i] <= 0x20 || line.text[i] >= 0x7f || line.text[i] == '+')
            return false;
    return true;
}

#include <sodium.h>

#include "tests/evidence/contents.h"

#include "server/evidence/checkpoint.h"

#define EM_DASH "\xe2\x80\x94"

/* A signed checkpoint of size 3 with a root of 0x07 bytes. */
static struct hf_buf
signed_checkpoint(struct hf_public_key *ret_key)
{
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_checkpoint checkpoint = {.size = 3};
    struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    struct hf_error err;

    strcpy(checkpoint.origin, TEST_KEY_NAME);
    memset(checkpoint.root.bytes, 7, sizeof checkpoint.root.bytes);
    hf_assert_ok(hf_checkpoint_sign(&checkpoint, signer, &text, &err), &err);
    *ret_key = *hf_signer_public_key(signer);
    hf_signer_close(signer);
    return text;
}

static void
assert_refused(const struct hf_buf *text, const struct hf_public_key *key, const char *part)
{
    const struct hf_trust trust = {.keys = key, .count = 1};
    struct hf_checkpoint checkpoint;
    struct hf_error err;

    assert_false(hf_checkpoint_open(text->data, text->length, "note", &trust, &checkpoint, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

HF_TEST(a_checkpoint_is_a_c2sp_signed_note)
{
    struct hf_public_key key;
    struct hf_buf text = signed_checkpoint(&key);

    assert_memory_equal(text.data,
                        TEST_KEY_NAME "\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n" EM_DASH " " TEST_KEY_NAME
                                      " BMiRR",
                        strlen(TEST_KEY_NAME) * 2 + 2 + 1 + 44 + 1 + 1 + 5 + 5);
    assert_int_equal(text.data[text.length - 1], '\n');
    hf_buf_done(&text);
}

HF_TEST(a_checkpoint_is_read_back_with_the_key_that_signed_it)
{
    struct hf_public_key key;
    struct hf_buf text = signed_checkpoint(&key);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_checkpoint checkpoint;
    size_t foreign = 9;
    struct hf_error err;

    hf_assert_ok(hf_checkpoint_open(text.data, text.length, "note", &trust, &checkpoint, &foreign, &err), &err);
    assert_string_equal(checkpoint.origin, TEST_KEY_NAME);
    assert_int_equal(checkpoint.size, 3);
    assert_int_equal(checkpoint.root.bytes[31], 7);
    assert_int_equal(foreign, 0);
    hf_buf_done(&text);
}

HF_TEST(a_checkpoint_is_refused_without_a_key_that_signed_it)
{
    struct hf_public_key key, other;
    struct hf_buf text = signed_checkpoint(&key);
    const struct hf_trust nobody = {0};
    struct hf_checkpoint checkpoint;
    struct hf_error err;

    assert_false(hf_checkpoint_open(text.data, text.length, "note", &nobody, &checkpoint, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message,
                        "note: checkpoint of ledger \"" TEST_KEY_NAME "\" is not signed by a key we were given");
    other = key;
    other.id[0] ^= 1;
    assert_refused(&text, &other, "not signed by a key we were given");
    other = key;
    other.bytes[0] ^= 1; // the same name and id, as an attacker can make them
    assert_refused(&text, &other, "is not what key");
    hf_buf_done(&text);
}

HF_TEST(signatures_by_unknown_keys_are_counted_up_to_sixteen)
{
    struct hf_public_key key;
    struct hf_buf text = signed_checkpoint(&key);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_checkpoint checkpoint;
    size_t foreign;
    struct hf_error err;

    for (size_t i = 1; i <= HF_CHECKPOINT_MOST_FOREIGN; i++) {
        hf_assert_ok(hf_buf_printf(&text, &err, EM_DASH " witness%zu.example AQIDBAUG\n", i), &err);
        hf_assert_ok(hf_checkpoint_open(text.data, text.length, "note", &trust, &checkpoint, &foreign, &err), &err);
        assert_int_equal(foreign, i);
    }
    hf_assert_ok(hf_buf_add_text(&text, EM_DASH " one.more AQIDBAUG\n", &err), &err);
    assert_refused(&text, &key, "more than 16 signatures");
    hf_buf_done(&text);
}

HF_TEST(a_malformed_signature_line_is_refused_even_when_another_holds)
{
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"\n", "signature line that is none"},
        {"- witness AQIDBAUG\n", "signature line that is none"},
        {EM_DASH " witness\n", "signature line that is none"},
        {EM_DASH "  AQIDBAUG\n", "signature line that is none"},
        {EM_DASH " wit+ness AQIDBAUG\n", "signature line that is none"},
        {EM_DASH " witness AQIDB\n", "not base64"},
        {EM_DASH " witness AQIDBA==\n", "not base64"}, // a key id without signature
        {EM_DASH " witness AQIDBAUG", "ends within a line"},
        {EM_DASH " " TEST_KEY_NAME " BMiRRQ==\n", "not base64"},
        {EM_DASH " " TEST_KEY_NAME " BMiRRQEB\n", "signed twice"},
    };

    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_public_key key;
        struct hf_buf text = signed_checkpoint(&key);
        struct hf_error err;
        hf_assert_ok(hf_buf_add_text(&text, cases[i].line, &err), &err);
        assert_refused(&text, &key, cases[i].part);
        hf_buf_done(&text);
    }
}

HF_TEST(a_key_speaks_for_the_ledger_of_its_own_name_only)
{
    // The bytes that would be the checkpoint of another ledger, signed by our key all the same.
    static const char body[] = "other.example/ledger\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_public_key key = *hf_signer_public_key(signer);
    struct hf_buf text = HF_BUF_INIT(HF_KIB);
    uint8_t stamp[HF_KEY_ID_BYTES + HF_SIGNATURE_BYTES];
    char base64[128];
    struct hf_error err;

    memcpy(stamp, key.id, HF_KEY_ID_BYTES);
    hf_assert_ok(hf_signer_sign(signer, body, strlen(body), stamp + HF_KEY_ID_BYTES, &err), &err);
    sodium_bin2base64(base64, sizeof base64, stamp, sizeof stamp, sodium_base64_VARIANT_ORIGINAL);
    hf_assert_ok(hf_buf_printf(&text, &err, "%s\n" EM_DASH " " TEST_KEY_NAME " %s\n", body, base64), &err);
    assert_refused(&text, &key, "is signed by key");
    hf_signer_close(signer);
    hf_buf_done(&text);
}

HF_TEST(a_malformed_body_is_refused_by_the_line_that_is_wrong)
{
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"", "does not begin with the ledger's name"},
        {"\n3\n", "does not begin with the ledger's name"},
        {"a b\n3\n", "does not begin with the ledger's name"},
        {"a\n", "no size"},
        {"a\n03\n", "no size"},
        {"a\n+3\n", "no size"},
        {"a\n\n", "no size"},
        {"a\n9007199254740992\n", "no size"},
        {"a\n99999999999999999999999999\n", "no size"},
        {"a\n3\n", "no root"},
        {"a\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n\n", "no root"},
        {"a\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwd=\n\n", "no root"}, // spare bits set
        {"a\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nextension\n\n", "no empty line"},
    };
    struct hf_public_key key;
    struct hf_buf kept = signed_checkpoint(&key);

    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_buf text = HF_BUF_INIT(HF_KIB);
        struct hf_error err;
        hf_assert_ok(hf_buf_add_text(&text, cases[i].body, &err), &err);
        assert_refused(&text, &key, cases[i].part);
        hf_buf_done(&text);
    }
    hf_buf_done(&kept);
}

HF_TEST(a_proof_is_a_c2sp_tlog_proof_and_is_read_back)
{
    struct hf_public_key key;
    struct hf_buf checkpoint = signed_checkpoint(&key), text = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_merkle_path path = {.length = 2};
    struct hf_proof proof;
    struct hf_error err;

    memset(path.hashes, 1, sizeof path.hashes);
    hf_assert_ok(hf_proof_format(2, &path, checkpoint.data, checkpoint.length, &text, &err), &err);
    assert_memory_equal(text.data,
                        "c2sp.org/tlog-proof@v1\nindex 2\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
                        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\n" TEST_KEY_NAME "\n3\n",
                        23 + 8 + 45 + 45 + 1 + strlen(TEST_KEY_NAME) + 3);
    hf_assert_ok(hf_proof_open(text.data, text.length, "proof", &trust, &proof, &err), &err);
    assert_int_equal(proof.index, 2);
    assert_int_equal(proof.path.length, 2);
    assert_memory_equal(proof.path.hashes, path.hashes, 2 * sizeof path.hashes[0]);
    assert_int_equal(proof.checkpoint.size, 3);
    hf_buf_done(&checkpoint);
    hf_buf_done(&text);
}

HF_TEST(a_malformed_proof_is_refused_by_what_is_wrong_with_it)
{
    static const struct {
        const char *head, *part;
    } cases[] = {
        {"", "first line"},
        {"c2sp.org/tlog-proof@v2\nindex 2\n\n", "first line"},
        {"c2sp.org/tlog-proof@v1\nextra AAAA\nindex 2\n\n", "\"index\""},
        {"c2sp.org/tlog-proof@v1\nindex 02\n\n", "\"index\""},
        {"c2sp.org/tlog-proof@v1\nindex -2\n\n", "\"index\""},
        {"c2sp.org/tlog-proof@v1\nindex 2\nAAAA\n\n", "hash 1 of the proof"},
        {"c2sp.org/tlog-proof@v1\nindex 2\n", "hash 1 of the proof"}, // the checkpoint is taken for the path
    };
    struct hf_public_key key;
    struct hf_buf checkpoint = signed_checkpoint(&key);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_proof proof;
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_buf text = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
        hf_assert_ok(hf_buf_add_text(&text, cases[i].head, &err), &err);
        hf_assert_ok(hf_buf_add(&text, checkpoint.data, checkpoint.length, &err), &err);
        assert_false(hf_proof_open(text.data, text.length, "proof", &trust, &proof, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        if (strstr(err.message, cases[i].part) == NULL)
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].part);
        hf_buf_done(&text);
    }
    hf_buf_done(&checkpoint);
}

HF_TEST(a_proof_with_too_many_hashes_or_bytes_is_refused_by_the_limit)
{
    struct hf_public_key key;
    struct hf_buf checkpoint = signed_checkpoint(&key), text = HF_BUF_INIT(HF_MIB);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_proof proof;
    struct hf_error err;

    hf_assert_ok(hf_buf_add_text(&text, "c2sp.org/tlog-proof@v1\nindex 2\n", &err), &err);
    for (size_t i = 0; i <= HF_MERKLE_MOST_PATH; i++)
        hf_assert_ok(hf_buf_add_text(&text, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n", &err), &err);
    hf_assert_ok(hf_buf_add_text(&text, "\n", &err), &err);
    hf_assert_ok(hf_buf_add(&text, checkpoint.data, checkpoint.length, &err), &err);
    assert_false(hf_proof_open(text.data, text.length, "proof", &trust, &proof, &err));
    assert_string_equal(err.message, "proof: proof has more than 64 hashes");

    hf_assert_ok(hf_buf_add_zeros(&text, HF_PROOF_MOST_BYTES, &err), &err);
    assert_false(hf_proof_open(text.data, text.length, "proof", &trust, &proof, &err));
    assert_non_null(strstr(err.message, "at most"));
    hf_buf_done(&checkpoint);
    hf_buf_done(&text);
}

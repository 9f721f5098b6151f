/* The signing key in a recovery kit: it comes back as it was, and from nothing else than that. */
#include "tests/support/test.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/evidence/sign.h"
#include "server/job/sealed_signer.h"
#include "tests/support/vault.h"

struct bench {
    struct test_vault vault;
    char key[600], restored[600];
    struct hf_buf kit;
};

static void
begin(struct bench *bench)
{
    struct hf_error err;
    const char *folder = hf_test_folder();
    *bench = (struct bench){.kit = HF_BUF_INIT(HF_KIT_MOST)};
    test_vault_make(&bench->vault, folder);
    snprintf(bench->key, sizeof bench->key, "%s/signing.key", folder);
    snprintf(bench->restored, sizeof bench->restored, "%s/restored.key", folder);
    hf_assert_ok(hf_signer_create(bench->key, "ward", &err), &err);
    hf_assert_ok(hf_buf_add_text(&bench->kit, "Holdfast recovery kit\n\n", &err), &err);
    hf_assert_ok(hf_sealed_signer_add(bench->vault.repository, bench->key, &bench->kit, &err), &err);
}

static void
end(struct bench *bench)
{
    hf_buf_done(&bench->kit);
    test_vault_done(&bench->vault);
}

HF_TEST(what_a_kit_holds_is_the_key_and_an_existing_one_is_never_replaced)
{
    struct bench bench;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf before = HF_BUF_INIT(HF_KIB), after = HF_BUF_INIT(HF_KIB);
    begin(&bench);
    hf_assert_ok(hf_sealed_signer_restore(bench.vault.repository, hf_buf_text(&bench.kit), bench.restored, &err), &err);
    hf_assert_ok(hf_file_read(bench.key, &before, &err) && hf_file_read(bench.restored, &after, &err), &err);
    assert_int_equal(before.length, after.length);
    assert_memory_equal(before.data, after.data, before.length);
    assert_null(strstr(hf_buf_text(&bench.kit), strstr(hf_buf_text(&before), "seed ") + strlen("seed ")));
    assert_false(hf_sealed_signer_restore(bench.vault.repository, hf_buf_text(&bench.kit), bench.restored, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    end(&bench);
}

HF_TEST(no_altered_character_and_no_shortened_kit_gives_a_key)
{
    struct bench bench;
    struct hf_error err;
    begin(&bench);
    const char *at;
    size_t length;
    hf_assert_ok(hf_sealed_signer_find(hf_buf_text(&bench.kit), &at, &length, &err), &err);
    for (size_t i = 0; i < 2 * length; i++) {
        _cleanup_(hf_freep) char *text = strndup(at, i < length ? length : i - length);
        assert_non_null(text);
        if (i < length)
            text[i] ^= 1;
        if (hf_sealed_signer_restore(bench.vault.repository, text, bench.restored, &err))
            fail_msg("character %zu: a key came out", i);
        assert_true(err.kind == HF_ERR_USAGE || err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_CONFLICT ||
                    err.kind == HF_ERR_DENIED);
        assert_int_equal(access(bench.restored, F_OK), -1);
    }
    end(&bench);
}

HF_TEST(a_kit_of_another_repository_is_told_from_a_damaged_one)
{
    struct bench bench, other;
    struct hf_error err;
    begin(&bench);
    begin(&other);
    assert_false(hf_sealed_signer_restore(other.vault.repository, hf_buf_text(&bench.kit), other.restored, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "the kit is of another repository");
    end(&other);
    end(&bench);
}

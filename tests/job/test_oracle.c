#include "tests/support/test.h"

#include "server/job/oracle.h"
#include "tests/support/vault.h"

/* What a session would have signed: the bytes of a real entry, caught on their way. */
static uint8_t caught[4096];
static size_t caught_length;

static bool
catch_bytes(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
            struct hf_error *err)
{
    (void)context;
    (void)signature;
    assert_true(length <= sizeof caught);
    memcpy(caught, bytes, length);
    caught_length = length;
    return hf_fail(err, HF_ERR_CANCELLED, "caught");
}

/* An INTENT for a real vault, and the rights of the job that would write it. */
static void
begin(struct test_vault *made, struct hf_oracle_rights *rights)
{
    static const enum hf_log_kind kinds[] = {HF_LOG_INTENT, HF_LOG_COMMIT};
    const struct hf_vault_state *state;
    struct hf_error err;
    test_vault_make(made, hf_test_folder());
    hf_assert_ok(hf_vault_read(made->vault, NULL, NULL, &state, &err), &err);
    const struct hf_id session = hf_id_new();
    _cleanup_(hf_json_freep) json_t *part = json_pack("{s:o}", "session", hf_json_id_text(&session));
    const struct hf_log_append append = {.kind = HF_LOG_INTENT, .time = 5, .public_part = part};
    struct hf_signing signing = made->signing;
    signing.sign = catch_bytes;
    assert_false(hf_vault_log_append(hf_vault_get_log(made->vault), &append, &signing, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);

    *rights = (struct hf_oracle_rights){
        .repository = hf_repository_id(made->repository),
        .appliance = made->signing.appliance,
        .vault = hf_vault_id(made->vault),
        .kinds = kinds,
        .kind_count = HF_LENGTH(kinds),
        .least_sequence = 2,
    };
    memcpy(rights->public_key, made->signing.public_key, sizeof rights->public_key);
}

HF_TEST(an_entry_as_the_session_writes_it_is_allowed)
{
    _cleanup_(test_vault_done) struct test_vault made;
    struct hf_oracle_rights rights;
    struct hf_error err;
    begin(&made, &rights);
    hf_assert_ok(hf_oracle_check_entry(&rights, caught, caught_length, &err), &err);
    assert_int_equal(rights.least_sequence, 2);
    hf_assert_ok(hf_oracle_check_entry(&rights, caught, caught_length, &err), &err); // written again after a failure
}

HF_TEST(no_altered_byte_of_what_is_checked_passes)
{
    // Offsets of the header whose every value would do: the low bytes of time, epoch, and the hash of the entry before.
    _cleanup_(test_vault_done) struct test_vault made;
    struct hf_oracle_rights rights;
    struct hf_error err;
    begin(&made, &rights);
    for (size_t at = 0; at < HF_LOG_HEADER; at++) {
        bool free_choice = (at >= 16 && at < 31) || (at >= 80 && at < 120);
        struct hf_oracle_rights own = rights;
        caught[at] ^= 0x80;
        bool allowed = hf_oracle_check_entry(&own, caught, caught_length, &err);
        caught[at] ^= 0x80;
        if (allowed && !free_choice)
            fail_msg("byte %zu may be anything", at);
        if (!allowed)
            assert_int_equal(err.kind, HF_ERR_DENIED);
    }
}

HF_TEST(foreign_kinds_vaults_and_appliances_are_refused_by_name)
{
    _cleanup_(test_vault_done) struct test_vault made;
    struct hf_oracle_rights rights, other;
    struct hf_error err;
    begin(&made, &rights);

    caught[10] = HF_LOG_PRUNE;
    assert_false(hf_oracle_check_entry(&rights, caught, caught_length, &err));
    assert_string_equal(err.message, "this job may not write PRUNE entries (kind 9)");
    caught[10] = HF_LOG_INTENT;

    other = rights;
    other.vault = hf_id_new();
    assert_false(hf_oracle_check_entry(&other, caught, caught_length, &err));
    assert_string_equal(err.message, "the log entry is not of this job's vault");
    other.vault = HF_ID_NONE;
    memset(caught + 48, 0, HF_ID_BYTES); // an entry that names no vault is no key to having none
    assert_false(hf_oracle_check_entry(&other, caught, caught_length, &err));
    assert_string_equal(err.message, "the log entry is not of this job's vault");
    memcpy(caught + 48, rights.vault.bytes, HF_ID_BYTES);

    other = rights;
    other.appliance = hf_id_new();
    assert_false(hf_oracle_check_entry(&other, caught, caught_length, &err));
    assert_string_equal(err.message, "the log entry names another appliance");
}

HF_TEST(a_sequence_never_goes_back)
{
    _cleanup_(test_vault_done) struct test_vault made;
    struct hf_oracle_rights rights;
    struct hf_error err;
    begin(&made, &rights);
    hf_put_u64(caught + 16, 9);
    hf_assert_ok(hf_oracle_check_entry(&rights, caught, caught_length, &err), &err);
    hf_put_u64(caught + 16, 8);
    assert_false(hf_oracle_check_entry(&rights, caught, caught_length, &err));
    assert_string_equal(err.message, "log entry 8 is already written");
    hf_put_u64(caught + 16, 0);
    assert_false(hf_oracle_check_entry(&rights, caught, caught_length, &err));
}

HF_TEST(lengths_must_add_up_and_no_prefix_is_an_entry)
{
    _cleanup_(test_vault_done) struct test_vault made;
    struct hf_oracle_rights rights;
    struct hf_error err;
    begin(&made, &rights);
    for (size_t length = 0; length < caught_length; length++)
        assert_false(hf_oracle_check_entry(&rights, caught, length, &err));
    assert_false(hf_oracle_check_entry(&rights, caught, caught_length + 1, &err));
    assert_string_equal(err.message, "the lengths in the log entry do not add up");
    hf_put_u32(caught + 152, UINT32_MAX);
    hf_put_u32(caught + 156, UINT32_MAX);
    assert_false(hf_oracle_check_entry(&rights, caught, caught_length, &err));
}

HF_TEST(evidence_and_checkpoints_are_no_entries)
{
    static const char *const texts[] = {"holdfast.evidence/v1", "test\n7\nAAAA\n", "HFLOG001"};
    struct hf_oracle_rights rights = {.vault = hf_id_new()};
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(texts); i++) {
        assert_false(hf_oracle_check_entry(&rights, (const uint8_t *)texts[i], strlen(texts[i]) + 1, &err));
        assert_string_equal(err.message, "these bytes are no log entry");
    }
}

#include "tests/support/vault.h"

#include <sodium.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/time.h"
#include "tests/support/test.h"

static bool
sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
     struct hf_error *err)
{
    (void)err;
    const struct test_vault *vault = context;
    return crypto_sign_detached(signature, NULL, bytes, length, vault->signing_secret) == 0;
}

void
test_vault_make(struct test_vault *made, const char *folder)
{
    struct hf_error err;
    *made = (struct test_vault){0};
    snprintf(made->place, sizeof made->place, "%s/repository", folder);
    snprintf(made->cache, sizeof made->cache, "%s/cache", folder);
    hf_assert_ok(hf_dir_make(made->cache, 0700, &err), &err);

    crypto_sign_keypair(made->signing.public_key, made->signing_secret);
    made->signing.appliance = hf_id_new();
    made->signing.context = made;
    made->signing.sign = sign;
    made->credential.kind = HF_SLOT_KEY_FILE;
    hf_assert_ok(hf_secret_random(&made->credential.key, HF_KEY_BYTES, &err), &err);

    const struct hf_repository_new how = {.credential = &made->credential,
                                          .slot = {.name = "test"},
                                          .signer = &made->signing,
                                          .signer_name = "test",
                                          .now = hf_time_now_ms()};
    hf_assert_ok(hf_repository_create(made->place, &how, &made->repository, &err), &err);
    const struct hf_vault_new lineage = {.engine = "postgres",
                                         .identity = "7300000000000000001",
                                         .name = "clinic",
                                         .signer = &made->signing,
                                         .now = hf_time_now_ms()};
    hf_assert_ok(hf_vault_create(made->repository, &lineage, &made->vault, &err), &err);
    made->id = hf_vault_id(made->vault);
}

void
test_vault_reopen(struct test_vault *vault)
{
    struct hf_error err;
    struct hf_slot_info slot;
    test_vault_close(vault);
    hf_assert_ok(hf_repository_open(vault->place, HF_ACCESS_WRITE, &vault->repository, &err), &err);
    hf_assert_ok(hf_repository_unlock(vault->repository, &vault->credential, &slot, &err), &err);
    hf_assert_ok(hf_vault_open(vault->repository, &vault->id, &vault->vault, &err), &err);
}

void
test_vault_close(struct test_vault *vault)
{
    hf_vault_freep(&vault->vault);
    hf_repository_freep(&vault->repository);
}

void
test_vault_begin_round(struct test_vault *vault, const char *template, const char *round)
{
    struct hf_error err;
    int status;
    const struct hf_process_options copy = {.argv = (const char *const[]){"cp", "-a", template, round, NULL},
                                            .stdin_fd = -1,
                                            .stdout_fd = -1,
                                            .stderr_fd = STDERR_FILENO};
    test_vault_close(vault);
    hf_assert_ok(hf_dir_remove_tree(round, &err), &err);
    hf_assert_ok(hf_process_run(&copy, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    snprintf(vault->place, sizeof vault->place, "%s/repository", round);
    snprintf(vault->cache, sizeof vault->cache, "%s/cache", round);
    test_vault_reopen(vault);
}

void
test_vault_done(struct test_vault *vault)
{
    test_vault_close(vault);
    hf_credential_done(&vault->credential);
}

/*
 * vault.h - a throw-away repository with one vault, for tests of what lies above the formats
 *
 * Keys cost the least that Argon2id allows; the signer is a fresh Ed25519 key in memory.
 */
#pragma once
#include "server/repository/repository.h"

struct test_vault {
    char place[512];                 // the repository's folder
    char cache[512];                 // for tag caches and locks
    struct hf_credential credential; // opens the repository's one slot
    struct hf_signing signing;
    uint8_t signing_secret[64];
    struct hf_id id; // of the vault
    struct hf_repository *repository;
    struct hf_vault *vault;
};

void test_vault_make(struct test_vault *made, const char *folder);
void test_vault_reopen(struct test_vault *vault); // as a new process would: repository, unlock, vault
void test_vault_close(struct test_vault *vault);  // until it is opened again, maybe at another place
/*
 * For tests that harm it: opens a fresh copy of <template>, the folder it was made in, in the place of the last
 * <round>.
 */
void test_vault_begin_round(struct test_vault *vault, const char *template, const char *round);
void test_vault_done(struct test_vault *vault);

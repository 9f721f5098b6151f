/*
 * log_entry.h - one entry of the vault log, from its bytes: for vault_log.c, for the copier, which has
 * no key (server/care/copy.h), and for the tests that look at the parser alone
 */
#pragma once
#include "server/repository/vault_log.h"

/* Where a log ends: 0 and zeros before the first entry. */
struct hf_log_position {
    uint64_t sequence;
    uint8_t hash[HF_SHA256_BYTES];
};

/*
 * Checks the bytes of the entry that follows `before`: place, chain, form, signature, and signer and sealed part
 * as far as the options allow.  CORRUPT names the entry.  Free with hf_log_entry_done.
 */
HF_MUST_CHECK bool hf_log_entry_open(const struct hf_vault_log_options *options, const struct hf_log_position *before,
                                     const uint8_t *bytes, size_t length, struct hf_log_entry *ret,
                                     struct hf_error *err);

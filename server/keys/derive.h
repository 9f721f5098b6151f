/*
 * derive.h - H(key; label || bytes) of format.h: keys from keys, and what commits to them
 */
#pragma once
#include <sodium.h>
#include <string.h>
#include "server/storage/format.h"

static inline void
hf_derive(const uint8_t key[static HF_KEY_BYTES], const char *label, const void *bytes, size_t length,
          uint8_t ret[static HF_KEY_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, HF_KEY_BYTES, HF_KEY_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label));
    crypto_generichash_update(&state, bytes, length);
    crypto_generichash_final(&state, ret, HF_KEY_BYTES);
    sodium_memzero(&state, sizeof state);
}

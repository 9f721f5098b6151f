/*
 * digest.h - SHA-256 (OpenSSL, with the CPU's instructions) and CRC-32C
 *
 * CRC-32C is the polynomial of RFC 3720 as PostgreSQL and InnoDB use it: start all ones, final
 * complement, reflected; the value of "123456789" is 0xe3069283.
 */
#pragma once
#include "base/error.h"

#define HF_SHA256_BYTES 32

struct hf_sha256; // a running digest
HF_MUST_CHECK bool hf_sha256_new(struct hf_sha256 **ret, struct hf_error *err);
void hf_sha256_add(struct hf_sha256 *running, const void *data, size_t length);
void hf_sha256_end(struct hf_sha256 *running, uint8_t digest[static HF_SHA256_BYTES]); // and starts anew
void hf_sha256_freep(struct hf_sha256 **running);
void hf_sha256(const void *data, size_t length, uint8_t digest[static HF_SHA256_BYTES]);

/* Goes on from `crc` (0 to start). */
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t length);
/* The checksum of A followed by B, from theirs and B's length: no byte is read again. */
uint32_t hf_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);

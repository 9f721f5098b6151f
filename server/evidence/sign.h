/*
 * sign.h - the appliance's signing key, and the public keys others check it with
 *
 * What the appliance states about backups must be checkable by someone who does not trust it today,
 * with one line of text received long ago.  So there is one Ed25519 key, made when the appliance is
 * set up, and a public line to print and to keep somewhere else.
 *
 * The secret file: text, mode 0600, exactly these four lines, each ended by one newline:
 *
 *     holdfast-signing-key/v1
 *     name <name>                   the key's name and the ledger's origin: 1 to 127 bytes, ASCII 0x21 to 0x7e, no "+"
 *     key_id <8 lower-case hex>     as below; a file damaged in any line no longer fits it
 *     seed <64 lower-case hex>      the 32-byte secret of RFC 8032
 *
 * The public line (C2SP's form of a note verifier key), and in a file one newline after it:
 *
 *     <name>+<key id>+<base64 of 0x01 || the 32-byte public key>
 *
 * key id = the first 4 bytes of SHA-256(name || 0x0a || 0x01 || public key), as 8 lower-case hex digits.
 * It tells keys apart; it does not protect anything.
 *
 * The key signs statements of several kinds.  None can pass for another, because each kind begins with bytes
 * that no other kind begins with: an evidence document with "holdfast.evidence/v1" and a 0 byte (document.h); a
 * checkpoint is text without a 0 byte (checkpoint.h).  Whoever lets it sign something else, such as the vault
 * log's entries, begins that with a name of its own and a 0 byte.
 *
 * Source: RFC 8032 (Ed25519), C2SP signed-note (key names and ids).
 */
#pragma once
#include <stdint.h>
#include "base/error.h"

#define HF_SIGNATURE_BYTES       64
#define HF_PUBLIC_KEY_BYTES      32
#define HF_KEY_ID_BYTES          4
#define HF_KEY_ID_TEXT_BYTES     9   // 8 hex digits and the 0
#define HF_KEY_NAME_BYTES        128 // 127 and the 0
#define HF_PUBLIC_KEY_TEXT_BYTES 192 // name + 8 hex + 44 base64, two "+", the 0: at most 182

struct hf_public_key {
    char name[HF_KEY_NAME_BYTES];
    uint8_t id[HF_KEY_ID_BYTES]; // always follows from name and bytes
    uint8_t bytes[HF_PUBLIC_KEY_BYTES];
};

struct hf_signer;

/*
 * Makes a key and its file.  The folder must exist; an existing file is never replaced.
 * Errors: USAGE for a name that breaks the rules above, CONFLICT when the file exists, those of writing.
 */
HF_MUST_CHECK bool hf_signer_create(const char *path, const char *name, struct hf_error *err);

/*
 * Owner: the caller, until hf_signer_close(), which accepts NULL.
 * Errors: NOT_FOUND, DENIED when others could read the file or it is not ours, CORRUPT when a line is not as above.
 */
HF_MUST_CHECK bool hf_signer_open(const char *path, struct hf_signer **ret, struct hf_error *err);
void hf_signer_close(struct hf_signer *signer);
void hf_signer_closep(struct hf_signer **signer); // what _cleanup_() calls

const struct hf_public_key *hf_signer_public_key(const struct hf_signer *signer); // borrowed from the signer

/*
 * Signs bytes; the same bytes always give the same signature.  The signer is a void * so that rooms below this one
 * can be handed (hf_signer_sign, signer) as a callback and its context.  Each signature is checked before it is
 * given out: one made by faulty memory would lie in the ledger for ever and could betray the key.
 * Errors: CORRUPT when that check fails.
 */
HF_MUST_CHECK bool hf_signer_sign(void *signer, const void *bytes, size_t length,
                                  uint8_t signature[static HF_SIGNATURE_BYTES], struct hf_error *err);

/* Whether the signature is this key's over these bytes. */
HF_MUST_CHECK bool hf_public_key_check(const struct hf_public_key *key, const void *bytes, size_t length,
                                       const uint8_t signature[static HF_SIGNATURE_BYTES]);

/* The public line without its newline; returns text. */
const char *hf_public_key_format(const struct hf_public_key *key, char text[static HF_PUBLIC_KEY_TEXT_BYTES]);
const char *hf_key_id_format(const uint8_t id[static HF_KEY_ID_BYTES], char text[static HF_KEY_ID_TEXT_BYTES]);

/* From a name and 32 bytes, as the repository's list of signers has them; false for a name that breaks the rules. */
HF_MUST_CHECK bool hf_public_key_make(const char *name, const uint8_t bytes[static HF_PUBLIC_KEY_BYTES],
                                      struct hf_public_key *ret);

/* A public line without newline; only the one form above is taken.  Errors: USAGE says what is wrong with it. */
HF_MUST_CHECK bool hf_public_key_parse(const char *text, struct hf_public_key *ret, struct hf_error *err);

/* A file that holds the line, its newline and nothing else.  Errors: NOT_FOUND, CORRUPT, those of reading. */
HF_MUST_CHECK bool hf_public_key_read_file(const char *path, struct hf_public_key *ret, struct hf_error *err);

/* Writes that file, mode 0644; an existing one gives way. */
HF_MUST_CHECK bool hf_public_key_write_file(const struct hf_public_key *key, const char *path, struct hf_error *err);

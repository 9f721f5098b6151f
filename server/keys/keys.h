/*
 * keys.h - from a passphrase or a key file to the key of a pack
 *
 *   slot (passphrase, key file, recipient, command)
 *     -> root key, 32 random bytes, the same behind every slot
 *        -> root bundle: the list of signers
 *        -> vault bundle: the keys of one database lineage
 *           -> pack key (pack.h), log records, tags, digests
 *
 * Slot: keys/slot-<slot id>, 512 bytes
 * offset  bytes  meaning
 *      0      8  magic "HFSLOT01"
 *      8      2  version: 1
 *     10      2  kind: 1 passphrase, 2 key file, 3 X25519 recipient, 4 external command
 *     12      4  root key generation, from 1 (in_force.h says which one opens the repository)
 *     16     16  repository id
 *     32     16  slot id
 *     48      8  created at
 *     56     64  name: UTF-8, padded with NULs ("safe", "server")
 *    120      8  passphrase: Argon2id operations; else 0
 *    128      8  passphrase: Argon2id memory in bytes; else 0
 *    136     16  passphrase: salt; else 0
 *    152     32  recipient: its public key; key file: H(file's key; "holdfast key file"); else 0
 *    184     32  recipient: the ephemeral public key; else 0
 *    216     64  command: its name in the settings, which is the slot's name, padded with NULs; else 0
 *    280     88  reserved
 *    368     32  key commitment: H(wrapping key; "holdfast commit")
 *    400     24  nonce, random
 *    424     32  the root key, sealed
 *    456     16  tag
 *    472     36  reserved
 *    508      4  CRC-32C of bytes 0..507
 * Cipher: XChaCha20-Poly1305; associated data: bytes 0..399.
 * Wrapping key: passphrase: Argon2id13(passphrase, salt, operations, memory) -> 32 bytes; key file:
 * H(the file's 32 bytes; "holdfast slot" || slot id); recipient: H(X25519(ephemeral, recipient);
 * "holdfast slot" || ephemeral public || recipient public || slot id); command: H(the 32 bytes the command
 * prints; "holdfast slot" || slot id).
 * Key file: text, one line "holdfast-key-1 <64 hex digits>".  Recipient secret: "holdfast-secret-1 <64 hex>",
 * public: "holdfast-recipient-1 <64 hex>".
 *
 * Root bundle: keys/root-<generation>, an envelope (kind 1, wrapping key: the root key) around
 *   u32 version 1, u32 signer count, then per signer 192 bytes: public key 32 (Ed25519), appliance id 16,
 *   added at 8, name 64 (padded with NULs), 8 reserved, signature 64 by the signer before it (the first: by
 *   itself) over "holdfast signer" || repository id || the signer's bytes 0..127.
 * Vault bundle: vaults/<vault id>/keys-<generation>, an envelope (kind 2, wrapping key: the root key) around
 *   u32 version 1, u32 epoch count, map key 32, record key 32, digest key 32, tag key 16, reserved 16, then
 *   per key epoch 80 bytes: u32 epoch (from 1), u32 reserved, created at 8, data secret 32 (an X25519
 *   secret, so that ingest can one day seal without it), data public 32.
 * The highest generation counts; the vault log's KEY entries name the generation they know, so that an
 * older bundle put back is noticed: a vault whose bundles are all older than its log's KEY is CORRUPT.  While there are
 * slots of a root key that is not in force yet (rotation.h), bundles that another key sealed are passed over.
 */
#pragma once
#include "base/secret.h"
#include "server/storage/backend.h"
#include "server/storage/format.h"

#define HF_SLOT_BYTES        512
#define HF_SLOT_NAME_BYTES   64
#define HF_SLOTS_MOST        64
#define HF_SLOTS_STORED_MOST (3 * HF_SLOTS_MOST) // with those of a rotation under way
#define HF_SIGNERS_MOST      64
#define HF_EPOCHS_MOST       1024
#define HF_SIGNATURE_BYTES   64
#define HF_PUBLIC_BYTES      32

enum hf_slot_kind { HF_SLOT_PASSPHRASE = 1, HF_SLOT_KEY_FILE = 2, HF_SLOT_RECIPIENT = 3, HF_SLOT_COMMAND = 4 };

struct hf_slot_info {
    struct hf_id id;
    enum hf_slot_kind kind;
    char name[HF_SLOT_NAME_BYTES];
    int64_t created_at;
    uint32_t generation;                 // of the root key inside
    uint8_t public_key[HF_PUBLIC_BYTES]; // of a recipient; of a key file its fingerprint; else zeros
};
const char *hf_slot_kind_name(enum hf_slot_kind kind); // "passphrase", "key_file", "recipient", "command"
HF_MUST_CHECK bool hf_slot_kind_parse(const char *name, enum hf_slot_kind *ret, struct hf_error *err); // USAGE

/* What opens a slot, or makes a new one.  Exactly the member for `kind` is read. */
struct hf_credential {
    enum hf_slot_kind kind;
    struct hf_secret passphrase; // as typed, without the line end
    struct hf_secret key;        // 32 bytes: of the key file, the recipient's secret, or what the command printed
    uint8_t recipient[HF_PUBLIC_BYTES]; // only to make a recipient slot
    const char *slot;                   // borrowed: opens the slot of this name only; NULL: any that it fits
};
void hf_credential_done(struct hf_credential *credential);

/*
 * Writes a fresh key file (mode 0600, never over an existing one) and reads one.  Reading also takes the
 * secret of a recipient: the word in the file decides which kind comes out.
 */
HF_MUST_CHECK bool hf_key_file_create(const char *path, struct hf_credential *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_key_file_read(const char *path, struct hf_credential *ret, struct hf_error *err);

/* The same for a recipient: the secret goes into the file, to be kept apart, its public half into ret->recipient. */
HF_MUST_CHECK bool hf_recipient_create(const char *path, struct hf_credential *ret, struct hf_error *err);
#define HF_RECIPIENT_TEXT_BYTES 86
const char *hf_recipient_format(const uint8_t recipient[static HF_PUBLIC_BYTES],
                                char text[static HF_RECIPIENT_TEXT_BYTES]); // returns text
HF_MUST_CHECK bool hf_recipient_parse(const char *text, uint8_t ret[static HF_PUBLIC_BYTES], struct hf_error *err);

/* Argon2id costs; 0 means libsodium's "moderate" for new slots.  Tests use the least. */
struct hf_slot_options {
    const char *name; // 1 to 63 bytes
    uint64_t argon2_operations;
    uint64_t argon2_memory_bytes;
    uint32_t generation; // of the root key; 0: the one in force
};

HF_MUST_CHECK bool hf_slot_add(struct hf_backend *backend, const struct hf_id *repository,
                               const struct hf_credential *credential, const struct hf_slot_options *options,
                               const struct hf_secret *root_key, int64_t now, struct hf_slot_info *ret,
                               struct hf_error *err);
/* Those in force.  CORRUPT when one of them is damaged, by name; adding and opening go on without it. */
HF_MUST_CHECK bool hf_slot_list(struct hf_backend *backend, const struct hf_id *repository,
                                struct hf_slot_info ret[static HF_SLOTS_MOST], size_t *ret_count, struct hf_error *err);
/*
 * Unwraps the root key through the first slot of the credential's kind that it opens; says which.
 * DENIED: no slot opens with it ("wrong passphrase"); CORRUPT: a slot that should is damaged, by name;
 * NOT_FOUND: no slot of that kind.
 */
HF_MUST_CHECK bool hf_slot_open(struct hf_backend *backend, const struct hf_id *repository,
                                const struct hf_credential *credential, struct hf_secret *ret_root_key,
                                struct hf_slot_info *ret_slot, struct hf_error *err);

/* The same for slots of one generation of the root key, and the list of all generations. */
HF_MUST_CHECK bool hf_slot_open_generation(struct hf_backend *backend, const struct hf_id *repository,
                                           const struct hf_credential *credential, uint32_t generation,
                                           struct hf_secret *ret_root_key, struct hf_slot_info *ret_slot,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_slot_list_all(struct hf_backend *backend, const struct hf_id *repository,
                                    struct hf_slot_info ret[static HF_SLOTS_STORED_MOST], size_t *ret_count,
                                    struct hf_error *err);
/* Overwrites and removes it; a missing one is fine.  That another one opens is for the caller to know. */
HF_MUST_CHECK bool hf_slot_remove(struct hf_backend *backend, const struct hf_id *id, struct hf_error *err);

struct hf_signer_record {
    uint8_t public_key[HF_PUBLIC_BYTES];
    struct hf_id appliance;
    int64_t added_at;
    char name[64];
    uint8_t signature[HF_SIGNATURE_BYTES];
};

/* Signs for us: server/evidence's signer, or a request over a pipe to the process that holds the key. */
struct hf_signing {
    void *context; // borrowed
    uint8_t public_key[HF_PUBLIC_BYTES];
    struct hf_id appliance;
    bool (*sign)(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
                 struct hf_error *err);
};
bool hf_signature_valid(const uint8_t public_key[static HF_PUBLIC_BYTES], const void *bytes, size_t length,
                        const uint8_t signature[static HF_SIGNATURE_BYTES]);

struct hf_root_bundle {
    uint32_t generation;
    size_t signer_count;
    struct hf_signer_record signers[HF_SIGNERS_MOST];
};
/* NOT_FOUND: there is none.  CORRUPT, DENIED: the newest cannot be opened; older ones are never taken for it. */
HF_MUST_CHECK bool hf_root_bundle_read(struct hf_backend *backend, const struct hf_id *repository,
                                       const struct hf_secret *root_key, struct hf_root_bundle *ret,
                                       struct hf_error *err);
/*
 * Writes generation bundle->generation + 1 with a signer added and leaves that in *bundle.  The first (of an empty
 * bundle) signs itself; later ones are signed by the newest before them, else USAGE.  CONFLICT: another process
 * was first, or the signer is known already.
 */
HF_MUST_CHECK bool hf_root_bundle_add_signer(struct hf_backend *backend, const struct hf_id *repository,
                                             const struct hf_secret *root_key, struct hf_root_bundle *bundle,
                                             const struct hf_signing *new_signer, const struct hf_signing *by,
                                             const char *name, int64_t now, struct hf_error *err);
bool hf_root_bundle_knows(const struct hf_root_bundle *bundle, const uint8_t public_key[static HF_PUBLIC_BYTES]);

struct hf_key_epoch {
    uint32_t epoch;
    int64_t created_at;
    struct hf_secret data_secret; // 32 bytes
    uint8_t data_public[HF_PUBLIC_BYTES];
};

/* All secrets are locked memory; owner: whoever opened it, until hf_vault_keys_freep(). */
struct hf_vault_keys {
    struct hf_id repository, vault;
    uint32_t generation;
    struct hf_secret map_key, record_key, digest_key, tag_key; // 32, 32, 32 and 16 bytes
    size_t epoch_count;                                        // the last one seals new packs
    struct hf_key_epoch *epochs;
};
/* Draws the keys of a new vault.  CONFLICT: it has some.  Reading as with the root bundle. */
HF_MUST_CHECK bool hf_vault_keys_create(struct hf_backend *backend, const struct hf_id *repository,
                                        const struct hf_id *vault, const struct hf_secret *root_key, int64_t now,
                                        struct hf_vault_keys **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_vault_keys_read(struct hf_backend *backend, const struct hf_id *repository,
                                      const struct hf_id *vault, const struct hf_secret *root_key,
                                      struct hf_vault_keys **ret, struct hf_error *err);
void hf_vault_keys_freep(struct hf_vault_keys **keys);
/*
 * Writes generation keys->generation + 1 with one more key epoch, which seals new packs from then on, and reads it
 * back.  CONFLICT: somebody else was first.
 */
HF_MUST_CHECK bool hf_vault_keys_add_epoch(struct hf_backend *backend, const struct hf_vault_keys *keys,
                                           const struct hf_secret *root_key, int64_t now, struct hf_error *err);
/*
 * Their plain bytes, for handing them to a child over a pipe, and back: repository id 16, vault id 16,
 * u32 generation, then the vault bundle's plain bytes.
 */
HF_MUST_CHECK bool hf_vault_keys_export(const struct hf_vault_keys *keys, struct hf_buf *secret, struct hf_error *err);
HF_MUST_CHECK bool hf_vault_keys_import(const void *bytes, size_t length, struct hf_vault_keys **ret,
                                        struct hf_error *err);

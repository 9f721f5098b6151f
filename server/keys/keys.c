#include "server/keys/keys.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/keys/envelope.h"
#include "server/keys/generations.h"
#include "server/keys/in_force.h"
#include "server/keys/stored_keys.h"

#define VERSION 1

#define NAME_BYTES     HF_GENERATION_NAME_BYTES
#define WHAT_BYTES     (NAME_BYTES + 16)
#define BUNDLE_HEADER  8
#define SIGNER_BYTES   192
#define SIGNER_SIGNED  128
#define VAULT_HEADER   (BUNDLE_HEADER + 3 * HF_KEY_BYTES + HF_TAG_BYTES + VAULT_RESERVED)
#define VAULT_RESERVED 16
#define EPOCH_BYTES    (16 + HF_KEY_BYTES + HF_PUBLIC_BYTES)

#define ROOT_PLAIN_MOST  (BUNDLE_HEADER + HF_SIGNERS_MOST * SIGNER_BYTES)
#define VAULT_PLAIN_MOST (VAULT_HEADER + HF_EPOCHS_MOST * EPOCH_BYTES)

/* In a signer's bytes. */
#define AT_SIGNER_APPLIANCE 32
#define AT_SIGNER_ADDED     48
#define AT_SIGNER_NAME      56
#define AT_SIGNER_RESERVED  120

#define SIGNED_LABEL       "holdfast signer"
#define SIGNED_LABEL_BYTES (sizeof SIGNED_LABEL - 1)
#define STATEMENT_BYTES    (SIGNED_LABEL_BYTES + HF_ID_BYTES + SIGNER_SIGNED)

_Static_assert(SIGNER_SIGNED + HF_SIGNATURE_BYTES == SIGNER_BYTES, "a signer's fields fill it");
_Static_assert(HF_SIGNATURE_BYTES == crypto_sign_BYTES && HF_PUBLIC_BYTES == crypto_sign_PUBLICKEYBYTES, "Ed25519");
_Static_assert(HF_KEY_BYTES == crypto_scalarmult_SCALARBYTES && HF_PUBLIC_BYTES == crypto_scalarmult_BYTES, "X25519");

static void root_prefix(char prefix[static NAME_BYTES]);
static bool find_newest(struct hf_backend *backend, const char *prefix, uint32_t *ret_generation, struct hf_error *err);
static bool open_generation(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                            const struct hf_secret *root_key, struct hf_buf *plain, char what[static WHAT_BYTES],
                            struct hf_error *err);
static bool rotation_is_pending(struct hf_backend *backend, const struct hf_id *repository, bool *ret,
                                struct hf_error *err);
static bool open_newest(struct hf_backend *backend, const char *prefix, struct hf_envelope *envelope,
                        const struct hf_secret *root_key, struct hf_buf *plain, char what[static WHAT_BYTES],
                        struct hf_error *err);
static bool write_generation(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                             const struct hf_secret *root_key, const struct hf_buf *plain, struct hf_error *err);

static bool check_new_signer(const struct hf_root_bundle *bundle, const struct hf_signing *new_signer,
                             const struct hf_signing *by, const char *name, struct hf_error *err);
static bool sign_record(const struct hf_id *repository, const struct hf_signing *by, struct hf_signer_record *record,
                        struct hf_error *err);
static void put_statement(const struct hf_id *repository, const struct hf_signer_record *record,
                          uint8_t statement[static STATEMENT_BYTES]);
static bool put_root_bundle(const struct hf_root_bundle *bundle, struct hf_buf *plain, struct hf_error *err);
static bool parse_root_bundle(const struct hf_id *repository, const struct hf_buf *plain, const char *what,
                              struct hf_root_bundle *ret, struct hf_error *err);
static bool parse_signer(struct hf_reader *reader, struct hf_signer_record *ret);
static bool follows(const struct hf_id *repository, const struct hf_root_bundle *before,
                    const struct hf_signer_record *record);

static bool draw_vault_keys(struct hf_vault_keys *keys, int64_t now, struct hf_error *err);
static bool put_vault_keys(const struct hf_vault_keys *keys, struct hf_buf *plain, struct hf_error *err);
static bool parse_vault_keys(struct hf_reader *reader, const char *what, struct hf_vault_keys *keys,
                             struct hf_error *err);
static bool take_secret(struct hf_reader *reader, size_t length, struct hf_secret *ret, struct hf_error *err);
static void take_zeros(struct hf_reader *reader, size_t length);

bool
hf_signature_valid(const uint8_t public_key[static HF_PUBLIC_BYTES], const void *bytes, size_t length,
                   const uint8_t signature[static HF_SIGNATURE_BYTES])
{
    return crypto_sign_verify_detached(signature, bytes, length, public_key) == 0;
}

bool
hf_root_bundle_read(struct hf_backend *backend, const struct hf_id *repository, const struct hf_secret *root_key,
                    struct hf_root_bundle *ret, struct hf_error *err)
{
    char prefix[NAME_BYTES], what[WHAT_BYTES];
    root_prefix(prefix);
    struct hf_envelope envelope = {.kind = HF_ENVELOPE_ROOT_BUNDLE, .repository = *repository, .object = *repository};
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(ROOT_PLAIN_MOST);
    struct hf_root_bundle bundle;
    if (!open_newest(backend, prefix, &envelope, root_key, &plain, what, err) ||
        !parse_root_bundle(repository, &plain, what, &bundle, err))
        return false;
    bundle.generation = envelope.generation;
    *ret = bundle;
    return true;
}

bool
hf_root_bundle_add_signer(struct hf_backend *backend, const struct hf_id *repository, const struct hf_secret *root_key,
                          struct hf_root_bundle *bundle, const struct hf_signing *new_signer,
                          const struct hf_signing *by, const char *name, int64_t now, struct hf_error *err)
{
    if (!check_new_signer(bundle, new_signer, by, name, err))
        return false;

    struct hf_root_bundle next = *bundle;
    next.generation++;
    struct hf_signer_record *record = &next.signers[next.signer_count++];
    *record = (struct hf_signer_record){.appliance = new_signer->appliance, .added_at = now};
    memcpy(record->public_key, new_signer->public_key, HF_PUBLIC_BYTES);
    memcpy(record->name, name, strlen(name));

    char prefix[NAME_BYTES];
    root_prefix(prefix);
    const struct hf_envelope envelope = {.kind = HF_ENVELOPE_ROOT_BUNDLE,
                                         .generation = next.generation,
                                         .repository = *repository,
                                         .object = *repository};
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(ROOT_PLAIN_MOST);
    if (!sign_record(repository, by, record, err) || !put_root_bundle(&next, &plain, err) ||
        !write_generation(backend, prefix, &envelope, root_key, &plain, err))
        return hf_fail_within(err, "could not add signer \"%s\"", name);
    *bundle = next;
    return true;
}

bool
hf_root_bundle_knows(const struct hf_root_bundle *bundle, const uint8_t public_key[static HF_PUBLIC_BYTES])
{
    for (size_t i = 0; i < bundle->signer_count; i++)
        if (memcmp(bundle->signers[i].public_key, public_key, HF_PUBLIC_BYTES) == 0)
            return true;
    return false;
}

bool
hf_vault_keys_create(struct hf_backend *backend, const struct hf_id *repository, const struct hf_id *vault,
                     const struct hf_secret *root_key, int64_t now, struct hf_vault_keys **ret, struct hf_error *err)
{
    char prefix[NAME_BYTES];
    uint32_t newest;
    hf_vault_bundle_prefix(vault, prefix);
    if (!find_newest(backend, prefix, &newest, err))
        return false;
    if (newest > 0)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s%08x\" exists already: the vault has its keys", prefix, newest);

    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    keys->repository = *repository;
    keys->vault = *vault;
    keys->generation = 1;

    const struct hf_envelope envelope = {
        .kind = HF_ENVELOPE_VAULT_BUNDLE, .generation = 1, .repository = *repository, .object = *vault};
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(VAULT_PLAIN_MOST);
    if (!draw_vault_keys(keys, now, err) || !put_vault_keys(keys, &plain, err) ||
        !write_generation(backend, prefix, &envelope, root_key, &plain, err))
        return false;
    *ret = HF_TAKE(keys);
    return true;
}

bool
hf_vault_keys_read(struct hf_backend *backend, const struct hf_id *repository, const struct hf_id *vault,
                   const struct hf_secret *root_key, struct hf_vault_keys **ret, struct hf_error *err)
{
    char prefix[NAME_BYTES], what[WHAT_BYTES];
    hf_vault_bundle_prefix(vault, prefix);
    struct hf_envelope envelope = {.kind = HF_ENVELOPE_VAULT_BUNDLE, .repository = *repository, .object = *vault};
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(VAULT_PLAIN_MOST);
    if (!open_newest(backend, prefix, &envelope, root_key, &plain, what, err))
        return false;

    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    keys->repository = *repository;
    keys->vault = *vault;
    keys->generation = envelope.generation;
    struct hf_reader reader = HF_READER(plain.data, plain.length);
    if (!parse_vault_keys(&reader, what, keys, err))
        return false;
    *ret = HF_TAKE(keys);
    return true;
}

void
hf_vault_keys_freep(struct hf_vault_keys **keys)
{
    if (*keys == NULL)
        return;
    hf_secret_done(&(*keys)->map_key);
    hf_secret_done(&(*keys)->record_key);
    hf_secret_done(&(*keys)->digest_key);
    hf_secret_done(&(*keys)->tag_key);
    for (size_t i = 0; i < (*keys)->epoch_count; i++)
        hf_secret_done(&(*keys)->epochs[i].data_secret);
    free((*keys)->epochs);
    free(*keys);
    *keys = NULL;
}

bool
hf_vault_keys_export(const struct hf_vault_keys *keys, struct hf_buf *secret, struct hf_error *err)
{
    assert(secret->secret);
    return hf_buf_add(secret, keys->repository.bytes, HF_ID_BYTES, err) &&
           hf_buf_add(secret, keys->vault.bytes, HF_ID_BYTES, err) && hf_buf_put_u32(secret, keys->generation, err) &&
           put_vault_keys(keys, secret, err);
}

bool
hf_vault_keys_import(const void *bytes, size_t length, struct hf_vault_keys **ret, struct hf_error *err)
{
    static const char what[] = "the handed over keys of a vault";
    struct hf_reader reader = HF_READER(bytes, length);
    const uint8_t *repository = hf_reader_bytes(&reader, HF_ID_BYTES), *vault = hf_reader_bytes(&reader, HF_ID_BYTES);
    uint32_t generation = hf_reader_u32(&reader);
    if (!hf_reader_ok(&reader) || generation == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s are cut off", what);

    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    memcpy(keys->repository.bytes, repository, HF_ID_BYTES);
    memcpy(keys->vault.bytes, vault, HF_ID_BYTES);
    keys->generation = generation;
    if (!parse_vault_keys(&reader, what, keys, err))
        return false;
    *ret = HF_TAKE(keys);
    return true;
}

bool
hf_vault_keys_add_epoch(struct hf_backend *backend, const struct hf_vault_keys *keys, const struct hf_secret *root_key,
                        int64_t now, struct hf_error *err)
{
    char prefix[NAME_BYTES];
    struct hf_key_epoch *longer = calloc(keys->epoch_count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    _cleanup_(hf_freep) struct hf_key_epoch *epochs = longer;
    if (keys->epoch_count == HF_EPOCHS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the vault has %d data keys, and more are not allowed", HF_EPOCHS_MOST);

    // All but the last secret stay with `keys`: this is only a view of them for writing.
    struct hf_vault_keys next = *keys;
    struct hf_key_epoch *added = &epochs[keys->epoch_count];
    memcpy(epochs, keys->epochs, keys->epoch_count * sizeof *epochs);
    next.generation = keys->generation + 1;
    next.epochs = epochs;
    next.epoch_count = keys->epoch_count + 1;
    *added = (struct hf_key_epoch){.epoch = (uint32_t)next.epoch_count, .created_at = now};
    hf_vault_bundle_prefix(&keys->vault, prefix);
    const struct hf_envelope envelope = {.kind = HF_ENVELOPE_VAULT_BUNDLE,
                                         .generation = next.generation,
                                         .repository = keys->repository,
                                         .object = keys->vault};
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(VAULT_PLAIN_MOST);
    bool written = hf_secret_random(&added->data_secret, HF_KEY_BYTES, err);
    if (written) {
        crypto_scalarmult_base(added->data_public, added->data_secret.bytes);
        written =
            put_vault_keys(&next, &plain, err) && write_generation(backend, prefix, &envelope, root_key, &plain, err);
    }
    hf_secret_done(&added->data_secret);
    return written && hf_bundle_prove(backend, prefix, &envelope, root_key, &plain, err);
}

bool
hf_bundle_prove(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                const struct hf_secret *root_key, const struct hf_buf *expected, struct hf_error *err)
{
    char what[WHAT_BYTES];
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(expected->limit);
    if (!open_generation(backend, prefix, envelope, root_key, &plain, what, err))
        return hf_fail_within(err, "the new keys do not open");
    if (plain.length != expected->length || sodium_memcmp(plain.data, expected->data, plain.length) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s does not hold what was written", what);
    return true;
}

bool
hf_bundle_rewrap(struct hf_backend *backend, const char *prefix, const struct hf_envelope *of,
                 const struct hf_secret *old_key, const struct hf_secret *new_key, struct hf_error *err)
{
    char what[WHAT_BYTES];
    struct hf_envelope envelope = *of;
    uint32_t newest;
    _cleanup_(hf_buf_done) struct hf_buf plain =
        HF_BUF_INIT_SECRET(of->kind == HF_ENVELOPE_ROOT_BUNDLE ? ROOT_PLAIN_MOST : VAULT_PLAIN_MOST);
    if (!open_newest(backend, prefix, &envelope, old_key, &plain, what, err) ||
        !find_newest(backend, prefix, &newest, err))
        return false;
    envelope.generation = newest + 1;
    return write_generation(backend, prefix, &envelope, new_key, &plain, err) &&
           hf_bundle_prove(backend, prefix, &envelope, new_key, &plain, err);
}

bool
hf_bundle_newest(struct hf_backend *backend, const char *prefix, const struct hf_envelope *of,
                 const struct hf_secret *root_key, uint32_t *ret_generation, struct hf_error *err)
{
    char what[WHAT_BYTES];
    struct hf_envelope envelope = *of;
    _cleanup_(hf_buf_done) struct hf_buf plain =
        HF_BUF_INIT_SECRET(of->kind == HF_ENVELOPE_ROOT_BUNDLE ? ROOT_PLAIN_MOST : VAULT_PLAIN_MOST);
    if (!open_newest(backend, prefix, &envelope, root_key, &plain, what, err))
        return false;
    *ret_generation = envelope.generation;
    return true;
}

static void
root_prefix(char prefix[static NAME_BYTES])
{
    snprintf(prefix, NAME_BYTES, HF_ROOT_BUNDLE_PREFIX);
}

void
hf_vault_bundle_prefix(const struct hf_id *vault, char prefix[static HF_GENERATION_NAME_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(prefix, HF_GENERATION_NAME_BYTES, "vaults/%s/keys-", hf_id_format(vault, text));
}

static bool
find_newest(struct hf_backend *backend, const char *prefix, uint32_t *ret_generation, struct hf_error *err)
{
    return hf_generation_newest(backend, prefix, UINT64_MAX, ret_generation, err);
}

/*
 * Sets the envelope's generation, and `what` to a name for messages.  One that another root key sealed is passed over
 * only while a root key waits to come into force: else a newer one that does not open would go unnoticed.
 */
static bool
open_newest(struct hf_backend *backend, const char *prefix, struct hf_envelope *envelope,
            const struct hf_secret *root_key, struct hf_buf *plain, char what[static WHAT_BYTES], struct hf_error *err)
{
    if (!find_newest(backend, prefix, &envelope->generation, err))
        return false;
    if (envelope->generation == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "repository \"%s\" has no \"%s*\"", hf_backend_place(backend), prefix);

    for (;;) {
        struct hf_error problem = {0};
        bool pending = false;
        uint32_t before;
        if (open_generation(backend, prefix, envelope, root_key, plain, what, &problem))
            return true;
        if (problem.kind == HF_ERR_DENIED) {
            if (!rotation_is_pending(backend, &envelope->repository, &pending, err) ||
                !hf_generation_newest(backend, prefix, envelope->generation, &before, err))
                return false;
        }
        if (!pending || before == 0) {
            if (err != NULL)
                *err = problem;
            return false;
        }
        envelope->generation = before;
    }
}

static bool
open_generation(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                const struct hf_secret *root_key, struct hf_buf *plain, char what[static WHAT_BYTES],
                struct hf_error *err)
{
    char name[NAME_BYTES];
    hf_generation_name(prefix, envelope->generation, name);
    snprintf(what, WHAT_BYTES, "key bundle \"%s\"", name);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(plain->limit + HF_ENVELOPE_EXTRA);
    struct hf_error problem;
    if (!hf_backend_get(backend, name, &sealed, &problem)) {
        if (problem.kind == HF_ERR_NO_SPACE)
            return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it is longer than %zu bytes", what, sealed.limit);
        if (err != NULL)
            *err = problem;
        return false;
    }
    return hf_envelope_open(envelope, root_key, sealed.data, sealed.length, what, plain, err);
}

static bool
rotation_is_pending(struct hf_backend *backend, const struct hf_id *repository, bool *ret, struct hf_error *err)
{
    struct hf_slot_info slots[HF_SLOTS_STORED_MOST];
    size_t count;
    uint32_t in_force;
    *ret = false;
    if (!hf_in_force_find(backend, &in_force, err) || !hf_slot_list_all(backend, repository, slots, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        *ret = *ret || slots[i].generation > in_force;
    return true;
}

static bool
write_generation(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                 const struct hf_secret *root_key, const struct hf_buf *plain, struct hf_error *err)
{
    char name[NAME_BYTES];
    hf_generation_name(prefix, envelope->generation, name);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(plain->limit + HF_ENVELOPE_EXTRA);
    return hf_envelope_seal(envelope, root_key, plain->data, plain->length, &sealed, err) &&
           hf_backend_put_exclusive(backend, name, sealed.data, sealed.length, err);
}

static bool
check_new_signer(const struct hf_root_bundle *bundle, const struct hf_signing *new_signer, const struct hf_signing *by,
                 const char *name, struct hf_error *err)
{
    char padded[sizeof bundle->signers[0].name] = {0};
    if (strlen(name) >= sizeof padded)
        return hf_fail(err, HF_ERR_USAGE, "name \"%.80s\" of a signer has more than %zu bytes", name,
                       sizeof padded - 1);
    memcpy(padded, name, strlen(name));
    if (!hf_key_name_valid(padded, sizeof padded))
        return hf_fail(err, HF_ERR_USAGE, "a signer needs a name that can be shown");
    if (bundle->signer_count == HF_SIGNERS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the repository has %d signers, and more are not allowed",
                       HF_SIGNERS_MOST);
    if (hf_root_bundle_knows(bundle, new_signer->public_key))
        return hf_fail(err, HF_ERR_CONFLICT, "the key of signer \"%s\" is known already", name);

    const uint8_t *required =
        bundle->signer_count == 0 ? new_signer->public_key : bundle->signers[bundle->signer_count - 1].public_key;
    if (memcmp(by->public_key, required, HF_PUBLIC_BYTES) != 0)
        return hf_fail(err, HF_ERR_USAGE, "signer \"%s\" must be confirmed by %s", name,
                       bundle->signer_count == 0 ? "itself, as it is the first"
                                                 : bundle->signers[bundle->signer_count - 1].name);
    return true;
}

static bool
sign_record(const struct hf_id *repository, const struct hf_signing *by, struct hf_signer_record *record,
            struct hf_error *err)
{
    uint8_t statement[STATEMENT_BYTES];
    put_statement(repository, record, statement);
    if (!by->sign(by->context, statement, sizeof statement, record->signature, err))
        return false;
    if (!hf_signature_valid(by->public_key, statement, sizeof statement, record->signature))
        return hf_fail(err, HF_ERR_CORRUPT, "the signature that was given does not fit the signing key");
    return true;
}

/* What a signature in the list is about. */
static void
put_statement(const struct hf_id *repository, const struct hf_signer_record *record,
              uint8_t statement[static STATEMENT_BYTES])
{
    memcpy(statement, SIGNED_LABEL, SIGNED_LABEL_BYTES);
    memcpy(statement + SIGNED_LABEL_BYTES, repository->bytes, HF_ID_BYTES);
    uint8_t *at = statement + SIGNED_LABEL_BYTES + HF_ID_BYTES;
    memcpy(at, record->public_key, HF_PUBLIC_BYTES);
    memcpy(at + AT_SIGNER_APPLIANCE, record->appliance.bytes, HF_ID_BYTES);
    hf_put_u64(at + AT_SIGNER_ADDED, (uint64_t)record->added_at);
    memcpy(at + AT_SIGNER_NAME, record->name, sizeof record->name);
    memset(at + AT_SIGNER_RESERVED, 0, SIGNER_SIGNED - AT_SIGNER_RESERVED);
}

static bool
put_root_bundle(const struct hf_root_bundle *bundle, struct hf_buf *plain, struct hf_error *err)
{
    static const struct hf_id nobody; // only the signer's own bytes of the statement are wanted
    if (!hf_buf_put_u32(plain, VERSION, err) || !hf_buf_put_u32(plain, (uint32_t)bundle->signer_count, err))
        return false;
    for (size_t i = 0; i < bundle->signer_count; i++) {
        uint8_t statement[STATEMENT_BYTES];
        put_statement(&nobody, &bundle->signers[i], statement);
        if (!hf_buf_add(plain, statement + STATEMENT_BYTES - SIGNER_SIGNED, SIGNER_SIGNED, err) ||
            !hf_buf_add(plain, bundle->signers[i].signature, HF_SIGNATURE_BYTES, err))
            return false;
    }
    return true;
}

static bool
parse_root_bundle(const struct hf_id *repository, const struct hf_buf *plain, const char *what,
                  struct hf_root_bundle *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(plain->data, plain->length);
    uint32_t version = hf_reader_u32(&reader), count = hf_reader_u32(&reader);
    if (!hf_reader_ok(&reader) || version != VERSION)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has version %u, which this program does not know", what, version);
    if (count == 0 || count > HF_SIGNERS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%s lists %u signers, where 1 to %d are allowed", what, count,
                       HF_SIGNERS_MOST);

    ret->signer_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct hf_signer_record *record = &ret->signers[i];
        if (!parse_signer(&reader, record))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: signer %u cannot be read", what, i + 1);
        if (!follows(repository, ret, record))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: signer %u is not confirmed by the one before it", what, i + 1);
        ret->signer_count++;
    }
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "%s has bytes after its end", what);
    return true;
}

static bool
parse_signer(struct hf_reader *reader, struct hf_signer_record *ret)
{
    const uint8_t *bytes = hf_reader_bytes(reader, SIGNER_BYTES);
    if (bytes == NULL)
        return false;
    memcpy(ret->public_key, bytes, HF_PUBLIC_BYTES);
    memcpy(ret->appliance.bytes, bytes + AT_SIGNER_APPLIANCE, HF_ID_BYTES);
    ret->added_at = (int64_t)hf_get_u64(bytes + AT_SIGNER_ADDED);
    memcpy(ret->name, bytes + AT_SIGNER_NAME, sizeof ret->name);
    memcpy(ret->signature, bytes + SIGNER_SIGNED, HF_SIGNATURE_BYTES);
    return hf_key_name_valid(ret->name, sizeof ret->name) &&
           sodium_is_zero(bytes + AT_SIGNER_RESERVED, SIGNER_SIGNED - AT_SIGNER_RESERVED) == 1;
}

/* New to the list, and signed by the one before; the first by itself. */
static bool
follows(const struct hf_id *repository, const struct hf_root_bundle *before, const struct hf_signer_record *record)
{
    const uint8_t *by =
        before->signer_count == 0 ? record->public_key : before->signers[before->signer_count - 1].public_key;
    uint8_t statement[STATEMENT_BYTES];
    put_statement(repository, record, statement);
    return !hf_root_bundle_knows(before, record->public_key) &&
           hf_signature_valid(by, statement, sizeof statement, record->signature);
}

static bool
draw_vault_keys(struct hf_vault_keys *keys, int64_t now, struct hf_error *err)
{
    keys->epochs = calloc(1, sizeof *keys->epochs);
    if (keys->epochs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    keys->epoch_count = 1;
    keys->epochs[0] = (struct hf_key_epoch){.epoch = 1, .created_at = now};
    if (!hf_secret_random(&keys->map_key, HF_KEY_BYTES, err) ||
        !hf_secret_random(&keys->record_key, HF_KEY_BYTES, err) ||
        !hf_secret_random(&keys->digest_key, HF_KEY_BYTES, err) ||
        !hf_secret_random(&keys->tag_key, HF_TAG_BYTES, err) ||
        !hf_secret_random(&keys->epochs[0].data_secret, HF_KEY_BYTES, err))
        return false;
    crypto_scalarmult_base(keys->epochs[0].data_public, keys->epochs[0].data_secret.bytes);
    return true;
}

static bool
put_vault_keys(const struct hf_vault_keys *keys, struct hf_buf *plain, struct hf_error *err)
{
    if (!hf_buf_put_u32(plain, VERSION, err) || !hf_buf_put_u32(plain, (uint32_t)keys->epoch_count, err) ||
        !hf_buf_add(plain, keys->map_key.bytes, HF_KEY_BYTES, err) ||
        !hf_buf_add(plain, keys->record_key.bytes, HF_KEY_BYTES, err) ||
        !hf_buf_add(plain, keys->digest_key.bytes, HF_KEY_BYTES, err) ||
        !hf_buf_add(plain, keys->tag_key.bytes, HF_TAG_BYTES, err) || !hf_buf_add_zeros(plain, VAULT_RESERVED, err))
        return false;
    for (size_t i = 0; i < keys->epoch_count; i++) {
        const struct hf_key_epoch *epoch = &keys->epochs[i];
        if (!hf_buf_put_u32(plain, epoch->epoch, err) || !hf_buf_put_u32(plain, 0, err) ||
            !hf_buf_put_u64(plain, (uint64_t)epoch->created_at, err) ||
            !hf_buf_add(plain, epoch->data_secret.bytes, HF_KEY_BYTES, err) ||
            !hf_buf_add(plain, epoch->data_public, HF_PUBLIC_BYTES, err))
            return false;
    }
    return true;
}

/* Ids and generation of `keys` are set already; what was taken before a failure is freed with it. */
static bool
parse_vault_keys(struct hf_reader *reader, const char *what, struct hf_vault_keys *keys, struct hf_error *err)
{
    uint32_t version = hf_reader_u32(reader), count = hf_reader_u32(reader);
    if (!hf_reader_ok(reader) || version != VERSION)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: version %u, which this program does not know", what, version);
    if (count == 0 || count > HF_EPOCHS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: %u key epochs, where 1 to %d are allowed", what, count,
                       HF_EPOCHS_MOST);
    keys->epochs = calloc(count, sizeof *keys->epochs);
    if (keys->epochs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of a vault");
    keys->epoch_count = count;

    if (!take_secret(reader, HF_KEY_BYTES, &keys->map_key, err) ||
        !take_secret(reader, HF_KEY_BYTES, &keys->record_key, err) ||
        !take_secret(reader, HF_KEY_BYTES, &keys->digest_key, err) ||
        !take_secret(reader, HF_TAG_BYTES, &keys->tag_key, err))
        return false;
    take_zeros(reader, VAULT_RESERVED);
    for (uint32_t i = 0; i < count; i++) {
        struct hf_key_epoch *epoch = &keys->epochs[i];
        epoch->epoch = hf_reader_u32(reader);
        take_zeros(reader, 4);
        epoch->created_at = (int64_t)hf_reader_u64(reader);
        if (!take_secret(reader, HF_KEY_BYTES, &epoch->data_secret, err))
            return false;
        const uint8_t *public_key = hf_reader_bytes(reader, HF_PUBLIC_BYTES);
        if (public_key == NULL)
            break;
        uint8_t fitting[HF_PUBLIC_BYTES];
        crypto_scalarmult_base(fitting, epoch->data_secret.bytes);
        memcpy(epoch->data_public, public_key, HF_PUBLIC_BYTES);
        if (epoch->epoch != i + 1 || memcmp(fitting, public_key, HF_PUBLIC_BYTES) != 0)
            hf_reader_refuse(reader);
    }
    if (!hf_reader_finished(reader))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: the keys inside are not in order", what);
    return true;
}

/* Zeros when the reader has failed: the caller looks at the end. */
static bool
take_secret(struct hf_reader *reader, size_t length, struct hf_secret *ret, struct hf_error *err)
{
    const uint8_t *bytes = hf_reader_bytes(reader, length);
    return bytes == NULL ? hf_secret_init(ret, length, err) : hf_secret_copy(ret, bytes, length, err);
}

static void
take_zeros(struct hf_reader *reader, size_t length)
{
    const uint8_t *bytes = hf_reader_bytes(reader, length);
    if (bytes != NULL && sodium_is_zero(bytes, length) != 1)
        hf_reader_refuse(reader);
}

#include "server/keys/keys.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "server/keys/derive.h"
#include "server/keys/in_force.h"
#include "server/keys/stored_keys.h"

#define MAGIC   "HFSLOT01"
#define VERSION 1

#define AT_VERSION    8
#define AT_KIND       10
#define AT_GENERATION 12
#define AT_REPOSITORY 16
#define AT_ID         32
#define AT_CREATED    48
#define AT_NAME       56
#define AT_OPERATIONS 120
#define AT_MEMORY     128
#define AT_SALT       136
#define AT_RECIPIENT  152
#define AT_EPHEMERAL  184
#define AT_COMMAND    216
#define AT_RESERVED_1 280
#define AT_COMMITMENT 368
#define AT_NONCE      400
#define AT_SEALED     424
#define AT_RESERVED_2 472
#define AT_CRC        508

_Static_assert(AT_CRC + 4 == HF_SLOT_BYTES, "the slot's fields fill it");
_Static_assert(AT_RECIPIENT - AT_SALT == crypto_pwhash_SALTBYTES, "the salt fits its field");
_Static_assert(AT_SEALED - AT_NONCE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "the nonce fits its field");
_Static_assert(AT_RESERVED_2 - AT_SEALED == HF_KEY_BYTES + HF_AEAD_TAG_BYTES, "root key and tag fit their fields");
_Static_assert(AT_RESERVED_1 - AT_COMMAND == HF_SLOT_NAME_BYTES, "the command's name fits its field");

#define SLOT_PREFIX       "keys/slot-"
#define SLOT_OBJECT_BYTES (sizeof SLOT_PREFIX + HF_ID_TEXT_BYTES)

/* A slot that someone altered must not make us work for hours or take all memory. */
#define OPERATIONS_MOST 64
#define MEMORY_MOST     (4 * HF_GIB)
#define PASSPHRASE_MOST (4 * HF_KIB)

#define KEY_FILE_WORD  "holdfast-key-1 "
#define SECRET_WORD    "holdfast-secret-1 "
#define RECIPIENT_WORD "holdfast-recipient-1 "
#define KEY_LINE_MOST  128

/* The objects of all slots, by name; while the root key is replaced there are two generations of them. */
struct slot_names {
    size_t count;
    struct hf_id ids[HF_SLOTS_STORED_MOST];
};

/* What came of the slots that were tried. */
struct tally {
    size_t refused; // intact, of the credential's kind, and made with another key
    size_t later;   // intact, of a generation that is not in force yet
    size_t current; // intact, of the generation in force
    size_t damaged;
    bool blame;              // a damaged one may be the one that should have opened
    struct hf_error problem; // of the first damaged one, or of the first to blame
};

static bool write_key_line(const char *path, const char *word, const struct hf_secret *key, struct hf_error *err);
static bool parse_key_line(const struct hf_secret *line, const char *word, struct hf_secret *ret, bool *ret_matches,
                           struct hf_error *err);

static bool check_new_slot(const struct hf_credential *credential, const struct hf_slot_options *options,
                           struct hf_error *err);
static void fill_plain_fields(uint8_t raw[static HF_SLOT_BYTES], const struct hf_credential *credential,
                              const struct hf_slot_options *options);
static bool draw_wrapping_key(uint8_t raw[static HF_SLOT_BYTES], const struct hf_credential *credential,
                              struct hf_secret *ret, struct hf_error *err);
static void seal_root_key(uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *wrapping,
                          const struct hf_secret *root_key);

static bool list_slot_names(struct hf_backend *backend, struct slot_names *ret, struct hf_error *err);
static bool note_slot_name(void *context, const struct hf_object_info *object, struct hf_error *err);
static const char *slot_object(const struct hf_id *id, char name[static SLOT_OBJECT_BYTES]);
static bool read_slot(struct hf_backend *backend, const struct hf_id *repository, const struct hf_id *id,
                      uint8_t raw[static HF_SLOT_BYTES], struct hf_slot *ret, struct hf_error *err);
static bool fields_fit_kind(const uint8_t *raw, enum hf_slot_kind kind);
static bool zero(const uint8_t *raw, size_t from, size_t to);

static bool has_room(struct hf_backend *backend, const struct hf_id *repository, const struct slot_names *names,
                     uint32_t generation);
static bool is_for(const struct hf_slot *slot, const struct hf_credential *credential);
static bool open_one(const struct hf_slot *slot, const struct hf_credential *credential, const char *what,
                     struct hf_secret *ret_root_key, struct hf_error *err);
static bool stretch_passphrase(const uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *passphrase,
                               struct hf_secret *wrapping, struct hf_error *err);
static bool derive_wrapping_key(const struct hf_slot *slot, const struct hf_credential *credential, const char *what,
                                struct hf_secret *ret, struct hf_error *err);
static void derive_shared(const uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *shared,
                          struct hf_secret *wrapping);
static bool fail_none_opened(const struct tally *tally, enum hf_slot_kind kind, const char *place,
                             struct hf_error *err);
static const char *credential_name(enum hf_slot_kind kind);

void
hf_credential_done(struct hf_credential *credential)
{
    hf_secret_done(&credential->passphrase);
    hf_secret_done(&credential->key);
    memset(credential, 0, sizeof *credential);
}

/* By kind: in JSON and on the command line, and what a person calls it. */
static const char *const kind_names[] = {
    [HF_SLOT_PASSPHRASE] = "passphrase",
    [HF_SLOT_KEY_FILE] = "key_file",
    [HF_SLOT_RECIPIENT] = "recipient",
    [HF_SLOT_COMMAND] = "command",
};

const char *
hf_slot_kind_name(enum hf_slot_kind kind)
{
    assert(kind >= HF_SLOT_PASSPHRASE && kind <= HF_SLOT_COMMAND);
    return kind_names[kind];
}

bool
hf_slot_kind_parse(const char *name, enum hf_slot_kind *ret, struct hf_error *err)
{
    for (size_t i = HF_SLOT_PASSPHRASE; i < HF_LENGTH(kind_names); i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *ret = (enum hf_slot_kind)i;
            return true;
        }
    }
    return hf_fail(err, HF_ERR_USAGE,
                   "\"%.64s\" is no kind of key slot; it can be passphrase, key_file, recipient or command", name);
}

bool
hf_key_file_create(const char *path, struct hf_credential *ret, struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_KEY_FILE};
    if (!hf_secret_random(&credential.key, HF_KEY_BYTES, err))
        return false;

    if (!write_key_line(path, KEY_FILE_WORD, &credential.key, err))
        return hf_fail_within(err, "could not make key file \"%s\"", path);

    *ret = credential;
    credential = (struct hf_credential){0};
    return true;
}

bool
hf_recipient_create(const char *path, struct hf_credential *ret, struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_RECIPIENT};
    if (!hf_secret_random(&credential.key, HF_KEY_BYTES, err))
        return false;
    crypto_scalarmult_base(credential.recipient, credential.key.bytes);
    if (!write_key_line(path, SECRET_WORD, &credential.key, err))
        return hf_fail_within(err, "could not make the secret of a recipient, \"%s\"", path);

    *ret = credential;
    credential = (struct hf_credential){0};
    return true;
}

const char *
hf_recipient_format(const uint8_t recipient[static HF_PUBLIC_BYTES], char text[static HF_RECIPIENT_TEXT_BYTES])
{
    memcpy(text, RECIPIENT_WORD, strlen(RECIPIENT_WORD));
    hf_hex_format(recipient, HF_PUBLIC_BYTES, text + strlen(RECIPIENT_WORD));
    return text;
}

bool
hf_recipient_parse(const char *text, uint8_t ret[static HF_PUBLIC_BYTES], struct hf_error *err)
{
    size_t length = strlen(RECIPIENT_WORD);
    if (strncmp(text, RECIPIENT_WORD, length) == 0 && hf_hex_parse(text + length, ret, HF_PUBLIC_BYTES, NULL))
        return true;
    return hf_fail(err, HF_ERR_USAGE, "\"%.100s\" is not a recipient: \"" RECIPIENT_WORD "\" and 64 hex digits", text);
}

bool
hf_key_file_read(const char *path, struct hf_credential *ret, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret line = {0};
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_KEY_FILE};
    if (!hf_secret_read_file(&line, path, KEY_LINE_MOST, true, err))
        return false;

    bool matches;
    if (!parse_key_line(&line, KEY_FILE_WORD, &credential.key, &matches, err))
        return false;
    if (!matches) {
        credential.kind = HF_SLOT_RECIPIENT;
        if (!parse_key_line(&line, SECRET_WORD, &credential.key, &matches, err))
            return false;
    }
    if (!matches) {
        hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not a key file", path);
        return hf_fail_hint(err,
                            "A key file is one line, \"holdfast-key-1\" or \"holdfast-secret-1\" and 64 hex digits.");
    }
    if (credential.kind == HF_SLOT_RECIPIENT)
        crypto_scalarmult_base(credential.recipient, credential.key.bytes);

    *ret = credential;
    credential = (struct hf_credential){0};
    return true;
}

bool
hf_slot_add(struct hf_backend *backend, const struct hf_id *repository, const struct hf_credential *credential,
            const struct hf_slot_options *options, const struct hf_secret *root_key, int64_t now,
            struct hf_slot_info *ret, struct hf_error *err)
{
    assert(root_key->length == HF_KEY_BYTES);
    struct slot_names names;
    uint32_t generation = options->generation;
    if (!check_new_slot(credential, options, err) || !list_slot_names(backend, &names, err) ||
        (generation == 0 && !hf_in_force_find(backend, &generation, err)))
        return false;
    if (!has_room(backend, repository, &names, generation))
        return hf_fail(err, HF_ERR_NO_SPACE, "repository \"%s\" has %d key slots, and more are not allowed",
                       hf_backend_place(backend), HF_SLOTS_MOST);

    struct hf_id id = hf_id_new();
    uint8_t raw[HF_SLOT_BYTES] = MAGIC;
    hf_put_u16(raw + AT_VERSION, VERSION);
    hf_put_u16(raw + AT_KIND, (uint16_t)credential->kind);
    hf_put_u32(raw + AT_GENERATION, generation);
    memcpy(raw + AT_REPOSITORY, repository->bytes, HF_ID_BYTES);
    memcpy(raw + AT_ID, id.bytes, HF_ID_BYTES);
    hf_put_u64(raw + AT_CREATED, (uint64_t)now);
    fill_plain_fields(raw, credential, options);

    _cleanup_(hf_secret_done) struct hf_secret wrapping = {0};
    if (!draw_wrapping_key(raw, credential, &wrapping, err))
        return hf_fail_within(err, "could not make key slot \"%s\"", options->name);
    seal_root_key(raw, &wrapping, root_key);
    hf_put_u32(raw + AT_CRC, hf_crc32c(0, raw, AT_CRC));

    // What no reader would take is never written.
    char object[SLOT_OBJECT_BYTES];
    struct hf_slot slot;
    if (!hf_slot_parse(raw, sizeof raw, repository, &id, slot_object(&id, object), &slot, err) ||
        !hf_backend_put_exclusive(backend, object, raw, sizeof raw, err))
        return hf_fail_within(err, "could not make key slot \"%s\"", options->name);
    *ret = slot.info;
    return true;
}

bool
hf_slot_list(struct hf_backend *backend, const struct hf_id *repository, struct hf_slot_info ret[static HF_SLOTS_MOST],
             size_t *ret_count, struct hf_error *err)
{
    struct hf_slot_info all[HF_SLOTS_STORED_MOST];
    size_t count, current = 0;
    uint32_t in_force;
    if (!hf_slot_list_all(backend, repository, all, &count, err) || !hf_in_force_find(backend, &in_force, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (all[i].generation != in_force)
            continue;
        if (current == HF_SLOTS_MOST)
            return hf_fail(err, HF_ERR_NO_SPACE, "repository \"%s\" has more than %d key slots",
                           hf_backend_place(backend), HF_SLOTS_MOST);
        ret[current++] = all[i];
    }
    *ret_count = current;
    return true;
}

bool
hf_slot_list_all(struct hf_backend *backend, const struct hf_id *repository,
                 struct hf_slot_info ret[static HF_SLOTS_STORED_MOST], size_t *ret_count, struct hf_error *err)
{
    struct slot_names names;
    if (!list_slot_names(backend, &names, err))
        return false;

    struct hf_slot_info infos[HF_SLOTS_STORED_MOST];
    for (size_t i = 0; i < names.count; i++) {
        uint8_t raw[HF_SLOT_BYTES];
        struct hf_slot slot;
        if (!read_slot(backend, repository, &names.ids[i], raw, &slot, err))
            return false;
        infos[i] = slot.info;
    }
    memcpy(ret, infos, names.count * sizeof *ret);
    *ret_count = names.count;
    return true;
}

bool
hf_slot_open(struct hf_backend *backend, const struct hf_id *repository, const struct hf_credential *credential,
             struct hf_secret *ret_root_key, struct hf_slot_info *ret_slot, struct hf_error *err)
{
    uint32_t in_force;
    return hf_in_force_find(backend, &in_force, err) &&
           hf_slot_open_generation(backend, repository, credential, in_force, ret_root_key, ret_slot, err);
}

bool
hf_slot_open_generation(struct hf_backend *backend, const struct hf_id *repository,
                        const struct hf_credential *credential, uint32_t generation, struct hf_secret *ret_root_key,
                        struct hf_slot_info *ret_slot, struct hf_error *err)
{
    struct slot_names names;
    if (!list_slot_names(backend, &names, err))
        return false;

    struct tally tally = {0};
    for (size_t i = 0; i < names.count; i++) {
        uint8_t raw[HF_SLOT_BYTES];
        struct hf_slot slot = {.info.kind = credential->kind};
        struct hf_error problem;
        char object[SLOT_OBJECT_BYTES];
        bool readable = read_slot(backend, repository, &names.ids[i], raw, &slot, &problem);
        if (readable && slot.info.generation != generation) {
            tally.later += slot.info.generation > generation;
            continue;
        }
        tally.current += readable;
        if (readable && !is_for(&slot, credential))
            continue;
        if (readable && open_one(&slot, credential, slot_object(&names.ids[i], object), ret_root_key, &problem)) {
            *ret_slot = slot.info;
            return true;
        }
        if (problem.kind == HF_ERR_DENIED && readable) {
            tally.refused++;
        } else if (problem.kind == HF_ERR_CORRUPT) {
            bool blame = slot.info.kind == credential->kind;
            if (tally.damaged++ == 0 || (blame && !tally.blame))
                tally.problem = problem;
            tally.blame = tally.blame || blame;
        } else {
            if (err != NULL)
                *err = problem;
            return false;
        }
    }
    if (tally.current == 0 && tally.later > 0)
        return hf_fail(err, HF_ERR_CORRUPT, "repository \"%s\" has key slots of a later root key only: \"%s*\" is lost",
                       hf_backend_place(backend), HF_IN_FORCE_PREFIX);
    return fail_none_opened(&tally, credential->kind, hf_backend_place(backend), err);
}

bool
hf_slot_remove(struct hf_backend *backend, const struct hf_id *id, struct hf_error *err)
{
    char object[SLOT_OBJECT_BYTES];
    return hf_backend_destroy(backend, slot_object(id, object), err);
}

bool
hf_slot_parse(const uint8_t *raw, size_t length, const struct hf_id *repository, const struct hf_id *id,
              const char *what, struct hf_slot *ret, struct hf_error *err)
{
    if (length != HF_SLOT_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: it has %zu bytes and not %d", what, length,
                       HF_SLOT_BYTES);
    if (memcmp(raw, MAGIC, AT_VERSION) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: it does not begin as one", what);
    if (hf_get_u32(raw + AT_CRC) != hf_crc32c(0, raw, AT_CRC))
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: its checksum is wrong", what);
    if (hf_get_u16(raw + AT_VERSION) != VERSION || hf_get_u32(raw + AT_GENERATION) == 0)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "key slot \"%s\" has version %u of generation %u, which this program does not know", what,
                       hf_get_u16(raw + AT_VERSION), hf_get_u32(raw + AT_GENERATION));
    if (memcmp(raw + AT_REPOSITORY, repository->bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" belongs to another repository", what);
    if (memcmp(raw + AT_ID, id->bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is another slot under this name", what);

    struct hf_slot slot = {
        .info.id = *id,
        .info.kind = (enum hf_slot_kind)hf_get_u16(raw + AT_KIND),
        .info.created_at = (int64_t)hf_get_u64(raw + AT_CREATED),
        .info.generation = hf_get_u32(raw + AT_GENERATION),
        .argon2_operations = hf_get_u64(raw + AT_OPERATIONS),
        .argon2_memory_bytes = hf_get_u64(raw + AT_MEMORY),
        .raw = raw,
    };
    memcpy(slot.info.name, raw + AT_NAME, HF_SLOT_NAME_BYTES);
    memcpy(slot.info.public_key, raw + AT_RECIPIENT, HF_PUBLIC_BYTES);
    if (!hf_key_name_valid(slot.info.name, sizeof slot.info.name))
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" has a name that cannot be shown", what);
    if (!fields_fit_kind(raw, slot.info.kind) || !zero(raw, AT_RESERVED_1, AT_COMMITMENT) ||
        !zero(raw, AT_RESERVED_2, AT_CRC))
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" has fields that its kind does not", what);
    *ret = slot;
    return true;
}

bool
hf_key_name_valid(const char *name, size_t size)
{
    size_t length = strnlen(name, size);
    if (length == 0 || length == size || sodium_is_zero((const uint8_t *)name + length, size - length) != 1)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    _cleanup_(hf_json_freep) json_t *utf8 = json_stringn(name, length); // NULL for what is no UTF-8
    return utf8 != NULL;
}

static bool
write_key_line(const char *path, const char *word, const struct hf_secret *key, struct hf_error *err)
{
    size_t length = strlen(word), digits = 2 * key->length;
    _cleanup_(hf_secret_done) struct hf_secret line = {0};
    if (!hf_secret_init(&line, length + digits + 1, err))
        return false;
    memcpy(line.bytes, word, length);
    hf_hex_format(key->bytes, key->length, (char *)line.bytes + length);
    line.bytes[length + digits] = '\n';
    return hf_file_publish(path, line.bytes, line.length, 0600, HF_PUBLISH_EXCLUSIVE, err);
}

/* *ret_matches: the line is this word and a key. */
static bool
parse_key_line(const struct hf_secret *line, const char *word, struct hf_secret *ret, bool *ret_matches,
               struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret text = {0}, key = {0};
    size_t length = strlen(word);
    *ret_matches = false;
    if (line->length != length + 2 * HF_KEY_BYTES || memcmp(line->bytes, word, length) != 0)
        return true;
    if (!hf_secret_init(&text, line->length + 1, err) || !hf_secret_init(&key, HF_KEY_BYTES, err))
        return false;

    memcpy(text.bytes, line->bytes, line->length); // and a NUL behind it
    if (!hf_hex_parse((const char *)text.bytes + length, key.bytes, key.length, NULL))
        return true;
    *ret = key;
    key = (struct hf_secret){0};
    *ret_matches = true;
    return true;
}

static bool
check_new_slot(const struct hf_credential *credential, const struct hf_slot_options *options, struct hf_error *err)
{
    char name[HF_SLOT_NAME_BYTES] = {0};
    if (strlen(options->name) >= sizeof name)
        return hf_fail(err, HF_ERR_USAGE, "name \"%.80s\" of a key slot has more than %zu bytes", options->name,
                       sizeof name - 1);
    strcpy(name, options->name);
    if (!hf_key_name_valid(name, sizeof name))
        return hf_fail(err, HF_ERR_USAGE, "a key slot needs a name that can be shown");

    switch (credential->kind) {
    case HF_SLOT_PASSPHRASE:
        if (credential->passphrase.length == 0 || credential->passphrase.length > PASSPHRASE_MOST)
            return hf_fail(err, HF_ERR_USAGE, "passphrase of key slot \"%s\" must have 1 to %zu bytes", options->name,
                           PASSPHRASE_MOST);
        if (options->argon2_operations > OPERATIONS_MOST || options->argon2_memory_bytes > MEMORY_MOST)
            return hf_fail(err, HF_ERR_USAGE, "costs of key slot \"%s\" are beyond %d operations and %zu bytes",
                           options->name, OPERATIONS_MOST, MEMORY_MOST);
        return true;
    case HF_SLOT_KEY_FILE:
    case HF_SLOT_COMMAND:
        if (credential->key.length != HF_KEY_BYTES)
            return hf_fail(err, HF_ERR_USAGE, "key of key slot \"%s\" has %zu bytes and not %d", options->name,
                           credential->key.length, HF_KEY_BYTES);
        return true;
    case HF_SLOT_RECIPIENT:
        return true;
    }
    return hf_fail(err, HF_ERR_USAGE, "key slot \"%s\" is of no known kind", options->name);
}

/* What depends on the kind, as far as it is no secret. */
static void
fill_plain_fields(uint8_t raw[static HF_SLOT_BYTES], const struct hf_credential *credential,
                  const struct hf_slot_options *options)
{
    uint64_t operations = options->argon2_operations, memory = options->argon2_memory_bytes;
    memcpy(raw + AT_NAME, options->name, strlen(options->name));

    switch (credential->kind) {
    case HF_SLOT_PASSPHRASE:
        hf_put_u64(raw + AT_OPERATIONS, operations == 0 ? crypto_pwhash_OPSLIMIT_MODERATE : operations);
        hf_put_u64(raw + AT_MEMORY, memory == 0 ? crypto_pwhash_MEMLIMIT_MODERATE : memory);
        randombytes_buf(raw + AT_SALT, crypto_pwhash_SALTBYTES);
        break;
    case HF_SLOT_KEY_FILE:
        hf_derive(credential->key.bytes, "holdfast key file", NULL, 0, raw + AT_RECIPIENT);
        break;
    case HF_SLOT_RECIPIENT:
        memcpy(raw + AT_RECIPIENT, credential->recipient, HF_PUBLIC_BYTES);
        break;
    case HF_SLOT_COMMAND:
        memcpy(raw + AT_COMMAND, options->name, strlen(options->name));
        break;
    }
}

/* For a new slot; a recipient's is made with a secret of the moment, so that only the recipient can make it again. */
static bool
draw_wrapping_key(uint8_t raw[static HF_SLOT_BYTES], const struct hf_credential *credential, struct hf_secret *ret,
                  struct hf_error *err)
{
    if (!hf_secret_init(ret, HF_KEY_BYTES, err))
        return false;
    if (credential->kind == HF_SLOT_PASSPHRASE)
        return stretch_passphrase(raw, &credential->passphrase, ret, err);
    if (credential->kind != HF_SLOT_RECIPIENT) {
        hf_derive(credential->key.bytes, "holdfast slot", raw + AT_ID, HF_ID_BYTES, ret->bytes);
        return true;
    }

    _cleanup_(hf_secret_done) struct hf_secret ephemeral = {0}, shared = {0};
    if (!hf_secret_random(&ephemeral, HF_KEY_BYTES, err) || !hf_secret_init(&shared, HF_KEY_BYTES, err))
        return false;
    crypto_scalarmult_base(raw + AT_EPHEMERAL, ephemeral.bytes);
    if (crypto_scalarmult(shared.bytes, ephemeral.bytes, credential->recipient) != 0)
        return hf_fail(err, HF_ERR_USAGE, "the recipient's public key is not one");
    derive_shared(raw, &shared, ret);
    return true;
}

static void
seal_root_key(uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *wrapping, const struct hf_secret *root_key)
{
    hf_derive(wrapping->bytes, "holdfast commit", NULL, 0, raw + AT_COMMITMENT);
    randombytes_buf(raw + AT_NONCE, AT_SEALED - AT_NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(raw + AT_SEALED, NULL, root_key->bytes, root_key->length, raw, AT_NONCE,
                                               NULL, raw + AT_NONCE, wrapping->bytes);
}

static bool
list_slot_names(struct hf_backend *backend, struct slot_names *ret, struct hf_error *err)
{
    struct slot_names names = {0};
    if (!hf_backend_list(backend, SLOT_PREFIX, note_slot_name, &names, err))
        return hf_fail_within(err, "could not list the key slots of \"%s\"", hf_backend_place(backend));
    *ret = names;
    return true;
}

static bool
note_slot_name(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct slot_names *names = context;
    struct hf_id id;
    size_t prefix = strlen(SLOT_PREFIX);
    if (strncmp(object->name, SLOT_PREFIX, prefix) != 0 || !hf_id_parse(object->name + prefix, &id, NULL))
        return true;
    if (names->count == HF_SLOTS_STORED_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "there are more than %d", HF_SLOTS_STORED_MOST);
    names->ids[names->count++] = id;
    return true;
}

static const char *
slot_object(const struct hf_id *id, char name[static SLOT_OBJECT_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, SLOT_OBJECT_BYTES, SLOT_PREFIX "%s", hf_id_format(id, text));
    return name;
}

/* On failure ret->info.kind is the kind that the damaged bytes claim, where they claim one. */
static bool
read_slot(struct hf_backend *backend, const struct hf_id *repository, const struct hf_id *id,
          uint8_t raw[static HF_SLOT_BYTES], struct hf_slot *ret, struct hf_error *err)
{
    char object[SLOT_OBJECT_BYTES];
    bool found;
    uint64_t size;
    slot_object(id, object);
    if (!hf_backend_stat(backend, object, &found, &size, err))
        return false;
    if (!found)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" went away while it was read", object);
    if (size != HF_SLOT_BYTES)
        return hf_slot_parse(raw, (size_t)size, repository, id, object, ret, err);
    if (!hf_backend_get_range(backend, object, 0, raw, HF_SLOT_BYTES, err))
        return false;

    uint16_t kind = hf_get_u16(raw + AT_KIND);
    if (kind >= HF_SLOT_PASSPHRASE && kind <= HF_SLOT_COMMAND)
        ret->info.kind = (enum hf_slot_kind)kind;
    return hf_slot_parse(raw, HF_SLOT_BYTES, repository, id, object, ret, err);
}

static bool
fields_fit_kind(const uint8_t *raw, enum hf_slot_kind kind)
{
    uint64_t operations = hf_get_u64(raw + AT_OPERATIONS), memory = hf_get_u64(raw + AT_MEMORY);
    switch (kind) {
    case HF_SLOT_PASSPHRASE:
        return operations >= crypto_pwhash_OPSLIMIT_MIN && operations <= OPERATIONS_MOST &&
               memory >= crypto_pwhash_MEMLIMIT_MIN && memory <= MEMORY_MOST && zero(raw, AT_RECIPIENT, AT_RESERVED_1);
    case HF_SLOT_KEY_FILE:
        return zero(raw, AT_OPERATIONS, AT_RECIPIENT) && zero(raw, AT_EPHEMERAL, AT_RESERVED_1);
    case HF_SLOT_RECIPIENT:
        return zero(raw, AT_OPERATIONS, AT_RECIPIENT) && zero(raw, AT_COMMAND, AT_RESERVED_1);
    case HF_SLOT_COMMAND:
        return zero(raw, AT_OPERATIONS, AT_COMMAND) && memcmp(raw + AT_COMMAND, raw + AT_NAME, HF_SLOT_NAME_BYTES) == 0;
    }
    return false;
}

static bool
zero(const uint8_t *raw, size_t from, size_t to)
{
    return sodium_is_zero(raw + from, to - from) == 1;
}

/* A slot that cannot be read takes a place too. */
static bool
has_room(struct hf_backend *backend, const struct hf_id *repository, const struct slot_names *names,
         uint32_t generation)
{
    size_t taken = 0;
    for (size_t i = 0; i < names->count; i++) {
        uint8_t raw[HF_SLOT_BYTES];
        struct hf_slot slot;
        taken +=
            !read_slot(backend, repository, &names->ids[i], raw, &slot, NULL) || slot.info.generation == generation;
    }
    return taken < HF_SLOTS_MOST;
}

/* Of a command it is known which slot it is for; what other kinds open shows when they are tried. */
static bool
is_for(const struct hf_slot *slot, const struct hf_credential *credential)
{
    return slot->info.kind == credential->kind &&
           (credential->slot == NULL || strcmp(slot->info.name, credential->slot) == 0);
}

/* DENIED: the slot was made with another key. */
static bool
open_one(const struct hf_slot *slot, const struct hf_credential *credential, const char *what,
         struct hf_secret *ret_root_key, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret wrapping = {0}, root_key = {0};
    if (!derive_wrapping_key(slot, credential, what, &wrapping, err) || !hf_secret_init(&root_key, HF_KEY_BYTES, err))
        return false;

    uint8_t commitment[HF_KEY_BYTES];
    hf_derive(wrapping.bytes, "holdfast commit", NULL, 0, commitment);
    if (sodium_memcmp(commitment, slot->raw + AT_COMMITMENT, sizeof commitment) != 0)
        return hf_fail(err, HF_ERR_DENIED, "key slot \"%s\" was made with another key", what);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(root_key.bytes, NULL, NULL, slot->raw + AT_SEALED,
                                                   HF_KEY_BYTES + HF_AEAD_TAG_BYTES, slot->raw, AT_NONCE,
                                                   slot->raw + AT_NONCE, wrapping.bytes) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: its seal is broken", what);
    *ret_root_key = root_key;
    root_key = (struct hf_secret){0};
    return true;
}

static bool
stretch_passphrase(const uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *passphrase,
                   struct hf_secret *wrapping, struct hf_error *err)
{
    uint64_t operations = hf_get_u64(raw + AT_OPERATIONS), memory = hf_get_u64(raw + AT_MEMORY);
    if (crypto_pwhash(wrapping->bytes, wrapping->length, (const char *)passphrase->bytes, passphrase->length,
                      raw + AT_SALT, operations, (size_t)memory, crypto_pwhash_ALG_ARGON2ID13) == 0)
        return true;
    if (operations < crypto_pwhash_OPSLIMIT_MIN || memory < crypto_pwhash_MEMLIMIT_MIN)
        return hf_fail(err, HF_ERR_USAGE, "Argon2id needs at least %d operation and %d bytes",
                       (int)crypto_pwhash_OPSLIMIT_MIN, (int)crypto_pwhash_MEMLIMIT_MIN);
    return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a passphrase that needs %llu bytes",
                   (unsigned long long)memory);
}

static bool
derive_wrapping_key(const struct hf_slot *slot, const struct hf_credential *credential, const char *what,
                    struct hf_secret *ret, struct hf_error *err)
{
    if (!hf_secret_init(ret, HF_KEY_BYTES, err))
        return false;
    if (credential->kind == HF_SLOT_PASSPHRASE)
        return stretch_passphrase(slot->raw, &credential->passphrase, ret, err);

    if (credential->key.length != HF_KEY_BYTES)
        return hf_fail(err, HF_ERR_USAGE, "a key has %zu bytes and not %d", credential->key.length, HF_KEY_BYTES);
    if (credential->kind != HF_SLOT_RECIPIENT) {
        hf_derive(credential->key.bytes, "holdfast slot", slot->raw + AT_ID, HF_ID_BYTES, ret->bytes);
        return true;
    }

    uint8_t public_key[HF_PUBLIC_BYTES];
    crypto_scalarmult_base(public_key, credential->key.bytes);
    if (memcmp(public_key, slot->raw + AT_RECIPIENT, sizeof public_key) != 0)
        return hf_fail(err, HF_ERR_DENIED, "key slot \"%s\" is for another recipient", what);
    _cleanup_(hf_secret_done) struct hf_secret shared = {0};
    if (!hf_secret_init(&shared, HF_KEY_BYTES, err))
        return false;
    if (crypto_scalarmult(shared.bytes, credential->key.bytes, slot->raw + AT_EPHEMERAL) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: its share is not a public key", what);
    derive_shared(slot->raw, &shared, ret);
    return true;
}

static void
derive_shared(const uint8_t raw[static HF_SLOT_BYTES], const struct hf_secret *shared, struct hf_secret *wrapping)
{
    uint8_t parties[2 * HF_PUBLIC_BYTES + HF_ID_BYTES];
    memcpy(parties, raw + AT_EPHEMERAL, HF_PUBLIC_BYTES);
    memcpy(parties + HF_PUBLIC_BYTES, raw + AT_RECIPIENT, HF_PUBLIC_BYTES);
    memcpy(parties + 2 * HF_PUBLIC_BYTES, raw + AT_ID, HF_ID_BYTES);
    hf_derive(shared->bytes, "holdfast slot", parties, sizeof parties, wrapping->bytes);
}

/* Damage is named unless intact slots of the kind were there to refuse, and it claims to be of another kind. */
static bool
fail_none_opened(const struct tally *tally, enum hf_slot_kind kind, const char *place, struct hf_error *err)
{
    const char *credential = credential_name(kind);
    if (tally->damaged > 0 && (tally->blame || tally->refused == 0)) {
        hf_fail(err, HF_ERR_CORRUPT, "%s", tally->problem.message);
        hf_fail_hint(err, "No other key slot of \"%s\" opens with this %s.", place, credential);
        return false;
    }
    if (tally->refused == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "repository \"%s\" has no key slot for a %s", place, credential);
    hf_fail(err, HF_ERR_DENIED, "wrong %s: none of the %zu key slots for one in repository \"%s\" opens with it",
            credential, tally->refused, place);
    if (tally->damaged > 0)
        hf_fail_hint(err, "Another slot cannot be read: %s.", tally->problem.message);
    return false;
}

static const char *
credential_name(enum hf_slot_kind kind)
{
    static const char *const names[] = {
        [HF_SLOT_PASSPHRASE] = "passphrase",
        [HF_SLOT_KEY_FILE] = "key file",
        [HF_SLOT_RECIPIENT] = "recipient's secret",
        [HF_SLOT_COMMAND] = "key command",
    };
    return names[kind];
}

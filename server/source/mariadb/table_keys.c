#include "server/source/mariadb/table_keys.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#define SALTED        "Salted__"
#define SALTED_BYTES  8
#define BLOCK         16
#define KEY_MOST      32
#define PASSWORD_MOST 256 // the plugin's own limit
#define ROOT_PAGE     3
#define TYPE_INDEX    17855
#define SEGMENT_LEAF  74
#define SEGMENT_TOP   84
#define OPENED_BYTES  128 // of a page, from where it is sealed: enough for both segments

static const uint8_t magic[6] = {0x73, 0x0e, 0x0c, 0x52, 0x45, 0x74};

struct key {
    uint32_t id;
    size_t length;
    uint8_t bytes[KEY_MOST];
};

struct hf_table_keys {
    struct hf_secret text;  // ends with NUL
    struct hf_secret store; // of HF_TABLE_KEYS_MOST keys
    size_t count;
};

static bool open_file(struct hf_secret *sealed, const char *file, const char *password_file, struct hf_secret *ret,
                      struct hf_error *err);
static void derive(const struct hf_secret *password, const uint8_t *salt, uint8_t ret[static KEY_MOST + BLOCK]);
static bool read_lines(struct hf_table_keys *keys, const char *file, struct hf_error *err);
static bool read_line(const char *line, size_t length, struct key *ret);
static const struct key *find(const struct hf_table_keys *keys, uint32_t id);
static bool decipher(const EVP_CIPHER *kind, const uint8_t *key, const uint8_t *vector, bool back, const uint8_t *data,
                     size_t length, uint8_t *ret);
static const EVP_CIPHER *cipher_of(size_t key_bytes, int mode);
static uint32_t get_u32(const uint8_t *at);
static void put_u32_little(uint8_t *at, uint32_t value);

bool
hf_table_keys_read(const char *file, const char *password_file, struct hf_table_keys **ret, struct hf_error *err)
{
    _cleanup_(hf_table_keys_freep) struct hf_table_keys *keys = calloc(1, sizeof *keys);
    _cleanup_(hf_secret_done) struct hf_secret read = {0}, opened = {0};
    if (keys == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of tables");
    if (!hf_secret_read_file(&read, file, HF_TABLE_KEYS_FILE_MOST, false, err))
        return false;
    const bool sealed = read.length >= 2 * SALTED_BYTES && memcmp(read.bytes, SALTED, SALTED_BYTES) == 0;
    if (sealed && !open_file(&read, file, password_file, &opened, err))
        return false;
    const struct hf_secret *text = sealed ? &opened : &read;
    if (text->length == 0 || memchr(text->bytes, '\0', text->length) != NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" holds no keys of tables", file);
    if (!hf_secret_init(&keys->text, text->length + 1, err) ||
        !hf_secret_init(&keys->store, HF_TABLE_KEYS_MOST * sizeof(struct key), err))
        return false;
    memcpy(keys->text.bytes, text->bytes, text->length);
    if (!read_lines(keys, file, err))
        return false;
    *ret = HF_TAKE(keys);
    return true;
}

void
hf_table_keys_freep(struct hf_table_keys **keys)
{
    if (*keys == NULL)
        return;
    hf_secret_done(&(*keys)->text);
    hf_secret_done(&(*keys)->store);
    free(*keys);
    *keys = NULL;
}

const char *
hf_table_keys_text(const struct hf_table_keys *keys)
{
    return (const char *)keys->text.bytes;
}

bool
hf_table_crypt_read(const uint8_t *page, uint32_t page_bytes, struct hf_table_crypt *ret)
{
    const uint8_t *at = memmem(page, page_bytes, magic, sizeof magic);
    if (at == NULL || (size_t)(page + page_bytes - at) < 33 || at[6] != 1 || at[7] != BLOCK)
        return false;
    ret->key_id = get_u32(at + 28);
    memcpy(ret->vector, at + 8, BLOCK);
    return true;
}

enum hf_table_key_verdict
hf_table_keys_try(const struct hf_table_keys *keys, const struct hf_innodb_space *space,
                  const struct hf_table_crypt *crypt, bool counter, const uint8_t *page)
{
    uint8_t own[KEY_MOST], vector[BLOCK], opened[OPENED_BYTES];
    const size_t from = space->full_crc32 ? 26 : 38;
    const uint32_t version = get_u32(page + (space->full_crc32 ? 0 : 26));
    if (get_u32(page + 4) != ROOT_PAGE || (page[24] << 8 | page[25]) != TYPE_INDEX || version == 0)
        return HF_TABLE_KEY_UNJUDGED;
    const struct key *key = find(keys, crypt->key_id);
    if (key == NULL)
        return HF_TABLE_KEY_MISSING;
    put_u32_little(vector, space->id);
    put_u32_little(vector + 4, ROOT_PAGE);
    put_u32_little(vector + 8, get_u32(page + 20));
    put_u32_little(vector + 12, get_u32(page + 16));
    // A tablespace's key is one block, whatever its own key has: AES-128.
    bool ok = decipher(cipher_of(key->length, EVP_CIPH_ECB_MODE), key->bytes, NULL, false, crypt->vector, BLOCK, own) &&
              decipher(cipher_of(BLOCK, counter ? EVP_CIPH_CTR_MODE : EVP_CIPH_CBC_MODE), own, vector, true,
                       page + from, sizeof opened, opened);
    ok = ok && get_u32(opened + SEGMENT_LEAF - from) == space->id && get_u32(opened + SEGMENT_TOP - from) == space->id;
    explicit_bzero(own, sizeof own);
    explicit_bzero(opened, sizeof opened);
    return ok ? HF_TABLE_KEY_OPENS : HF_TABLE_KEY_WRONG;
}

static bool
open_file(struct hf_secret *sealed, const char *file, const char *password_file, struct hf_secret *ret,
          struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret password = {0}, opened = {0};
    uint8_t made[KEY_MOST + BLOCK];
    const uint8_t *body = sealed->bytes + 2 * SALTED_BYTES;
    const size_t length = sealed->length - 2 * SALTED_BYTES;
    if (password_file == NULL) {
        hf_fail(err, HF_ERR_USAGE, "\"%s\", the keys of tables, is sealed with a password", file);
        return hf_fail_hint(err, "Set table_keys_password to a file that holds the password alone.");
    }
    if (!hf_secret_read_file(&password, password_file, PASSWORD_MOST, true, err) ||
        !hf_secret_init(&opened, length + BLOCK, err))
        return false;
    derive(&password, sealed->bytes + SALTED_BYTES, made);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int some = 0, rest = 0;
    const bool ok = context != NULL &&
                    EVP_DecryptInit_ex(context, EVP_aes_256_cbc(), NULL, made, made + KEY_MOST) == 1 &&
                    EVP_DecryptUpdate(context, opened.bytes, &some, body, (int)length) == 1 &&
                    EVP_DecryptFinal_ex(context, opened.bytes + some, &rest) == 1;
    EVP_CIPHER_CTX_free(context);
    explicit_bzero(made, sizeof made);
    if (!ok)
        return hf_fail(err, HF_ERR_USAGE, "the password in \"%s\" does not open the keys of tables in \"%s\"",
                       password_file, file);
    return hf_secret_copy(ret, opened.bytes, (size_t)(some + rest), err);
}

static void
derive(const struct hf_secret *password, const uint8_t *salt, uint8_t ret[static KEY_MOST + BLOCK])
{
    uint8_t input[SHA_DIGEST_LENGTH + PASSWORD_MOST + SALTED_BYTES], digest[SHA_DIGEST_LENGTH];
    for (size_t made = 0; made < KEY_MOST + BLOCK;) {
        size_t length = made == 0 ? 0 : sizeof digest;
        memcpy(input, digest, length);
        memcpy(input + length, password->bytes, password->length);
        length += password->length;
        memcpy(input + length, salt, SALTED_BYTES);
        SHA1(input, length + SALTED_BYTES, digest);
        const size_t taken = KEY_MOST + BLOCK - made < sizeof digest ? KEY_MOST + BLOCK - made : sizeof digest;
        memcpy(ret + made, digest, taken);
        made += taken;
    }
    explicit_bzero(input, sizeof input);
    explicit_bzero(digest, sizeof digest);
}

static bool
read_lines(struct hf_table_keys *keys, const char *file, struct hf_error *err)
{
    struct key *list = (struct key *)(void *)keys->store.bytes;
    size_t number = 0;
    for (const char *at = hf_table_keys_text(keys), *next; *at != '\0'; at = next) {
        size_t length = strcspn(at, "\n");
        next = at + length + (at[length] != '\0');
        number++;
        length = strcspn(at, "#\n");
        while (length > 0 && (at[length - 1] == ' ' || at[length - 1] == '\t' || at[length - 1] == '\r'))
            length--;
        if (length == 0)
            continue;
        if (keys->count == HF_TABLE_KEYS_MOST)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" has more than %d keys of tables", file, HF_TABLE_KEYS_MOST);
        if (!read_line(at, length, &list[keys->count]))
            return hf_fail(err, HF_ERR_USAGE, "line %zu of \"%s\" is no key of tables: it must be <id>;<hex digits>",
                           number, file);
        keys->count++;
    }
    return keys->count > 0 || hf_fail(err, HF_ERR_USAGE, "\"%s\" holds no keys of tables", file);
}

static bool
read_line(const char *line, size_t length, struct key *ret)
{
    uint64_t id = 0;
    size_t at = 0;
    for (; at < length && at < 10 && line[at] >= '0' && line[at] <= '9'; at++)
        id = id * 10 + (uint64_t)(line[at] - '0');
    if (id == 0 || id > UINT32_MAX || at == length || line[at] != ';')
        return false;
    const size_t digits = length - ++at;
    char text[2 * KEY_MOST + 1];
    if (digits != 32 && digits != 48 && digits != 64)
        return false;
    for (size_t i = 0; i < digits; i++)
        text[i] = line[at + i] >= 'A' && line[at + i] <= 'F' ? (char)(line[at + i] - 'A' + 'a') : line[at + i];
    text[digits] = '\0';
    ret->id = (uint32_t)id;
    ret->length = digits / 2;
    const bool ok = hf_hex_parse(text, ret->bytes, ret->length, NULL);
    explicit_bzero(text, sizeof text);
    return ok;
}

static const struct key *
find(const struct hf_table_keys *keys, uint32_t id)
{
    const struct key *list = (const struct key *)(const void *)keys->store.bytes;
    for (size_t i = 0; i < keys->count; i++)
        if (list[i].id == id)
            return &list[i];
    return NULL;
}

/* Whole blocks, without padding. */
static bool
decipher(const EVP_CIPHER *kind, const uint8_t *key, const uint8_t *vector, bool back, const uint8_t *data,
         size_t length, uint8_t *ret)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = 0;
    const bool ok = context != NULL && EVP_CipherInit_ex(context, kind, NULL, key, vector, !back) == 1 &&
                    EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
                    EVP_CipherUpdate(context, ret, &done, data, (int)length) == 1 && (size_t)done == length;
    EVP_CIPHER_CTX_free(context);
    return ok;
}

static const EVP_CIPHER *
cipher_of(size_t key_bytes, int mode)
{
    if (mode == EVP_CIPH_CBC_MODE)
        return EVP_aes_128_cbc();
    if (mode == EVP_CIPH_CTR_MODE)
        return EVP_aes_128_ctr();
    return key_bytes == 16 ? EVP_aes_128_ecb() : key_bytes == 24 ? EVP_aes_192_ecb() : EVP_aes_256_ecb();
}

static uint32_t
get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void
put_u32_little(uint8_t *at, uint32_t value)
{
    for (size_t i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

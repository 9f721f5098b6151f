#include "server/keys/superblock.h"

#include <assert.h>
#include <string.h>

#include "base/json.h"
#include "server/keys/derive.h"

#define MAGIC     "HFREPO01"
#define VERSION   1
#define READ_MOST (4 * HF_KIB) // a newer version's may be longer, and is then refused by name

#define MARK_MOST (4 * HF_KIB)

#define AT_VERSION    8
#define AT_RESERVED_1 12
#define AT_REPOSITORY 16
#define AT_CREATED    32
#define AT_FEATURES   40
#define AT_RESERVED_2 72
#define AT_CRC        156
#define AT_MAC        160

/* By enum hf_access: the feature bits that this program knows. */
static const uint64_t known_features[4] = {0, 0, 0, 0};

static bool parse(const struct hf_buf *bytes, const char *place, struct hf_superblock *ret, struct hf_error *err);
static bool refuse_copy(struct hf_backend *backend, struct hf_error *err);
static bool all_zero(const uint8_t *bytes, size_t length);
static bool check_features(const struct hf_superblock *superblock, enum hf_access access, const char *place,
                           struct hf_error *err);
static void mac(const uint8_t raw[static HF_SUPERBLOCK_BYTES], const struct hf_secret *root_key,
                uint8_t ret[static HF_KEY_BYTES]);

bool
hf_superblock_create(struct hf_backend *backend, const struct hf_id *repository, int64_t now,
                     const struct hf_secret *root_key, struct hf_error *err)
{
    uint8_t raw[HF_SUPERBLOCK_BYTES] = MAGIC;
    hf_put_u32(raw + AT_VERSION, VERSION);
    memcpy(raw + AT_REPOSITORY, repository->bytes, HF_ID_BYTES);
    hf_put_u64(raw + AT_CREATED, (uint64_t)now);
    hf_put_u32(raw + AT_CRC, hf_crc32c(0, raw, AT_CRC));
    mac(raw, root_key, raw + AT_MAC);

    struct hf_error problem;
    if (hf_backend_put_exclusive(backend, HF_SUPERBLOCK_NAME, raw, sizeof raw, &problem))
        return true;
    if (problem.kind == HF_ERR_CONFLICT)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a repository already", hf_backend_place(backend));
    if (err != NULL)
        *err = problem;
    return hf_fail_within(err, "could not make a repository in \"%s\"", hf_backend_place(backend));
}

bool
hf_superblock_read(struct hf_backend *backend, enum hf_access access, struct hf_superblock *ret, struct hf_error *err)
{
    const char *place = hf_backend_place(backend);
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(READ_MOST);
    struct hf_error problem;
    if (!hf_backend_get(backend, HF_SUPERBLOCK_NAME, &bytes, &problem)) {
        if (problem.kind == HF_ERR_NOT_FOUND) {
            // Often the disk is not there and this is the folder it is mounted on: nothing may be made here unasked.
            hf_fail(err, HF_ERR_NOT_FOUND, "\"%s\" is no repository", place);
            return hf_fail_hint(err, "If a disk is mounted there, mount it. To make a new one: holdfast repo init.");
        }
        if (problem.kind == HF_ERR_NO_SPACE)
            return hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is longer than %zu bytes", place, READ_MOST);
        if (err != NULL)
            *err = problem;
        return hf_fail_within(err, "could not read the superblock of \"%s\"", place);
    }

    struct hf_superblock superblock;
    if (!parse(&bytes, place, &superblock, err) || !check_features(&superblock, access, place, err))
        return false;
    if (access != HF_ACCESS_READ && !refuse_copy(backend, err))
        return false;
    *ret = superblock;
    return true;
}

bool
hf_superblock_sound(const void *bytes, size_t length, const struct hf_id *repository)
{
    struct hf_superblock superblock;
    const struct hf_buf view = {.data = (uint8_t *)(uintptr_t)bytes, .length = length};
    return parse(&view, "", &superblock, NULL) && hf_id_equal(&superblock.repository, repository);
}

bool
hf_copy_mark_read(struct hf_backend *backend, bool *ret_found, struct hf_copy_mark *ret, struct hf_error *err)
{
    const char *what = "the mark of a copy";
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(MARK_MOST);
    _cleanup_(hf_json_freep) json_t *mark = NULL;
    struct hf_error problem;
    if (!hf_backend_get(backend, HF_COPY_MARK_NAME, &bytes, &problem)) {
        *ret_found = false;
        if (problem.kind == HF_ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = problem;
        return false;
    }
    *ret_found = true;
    ret->synced_at = -1;
    return hf_json_parse(bytes.data, bytes.length, what, &mark, err) &&
           hf_json_id(mark, "repository", what, &ret->repository, err) &&
           hf_json_integer(mark, "made_at", what, 0, INT64_MAX, &ret->made_at, err) &&
           (json_is_null(json_object_get(mark, "synced_at")) ||
            hf_json_integer(mark, "synced_at", what, 0, INT64_MAX, &ret->synced_at, err));
}

bool
hf_copy_mark_write(struct hf_backend *backend, const struct hf_copy_mark *mark, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(MARK_MOST);
    _cleanup_(hf_json_freep) json_t *object = json_pack(
        "{s:o, s:I, s:o}", "repository", hf_json_id_text(&mark->repository), "made_at", (json_int_t)mark->made_at,
        "synced_at", mark->synced_at < 0 ? json_null() : json_integer((json_int_t)mark->synced_at));
    if (object == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the mark of a copy");
    return hf_json_canonical(object, &bytes, err) &&
           hf_backend_replace(backend, HF_COPY_MARK_NAME, bytes.data, bytes.length, err);
}

bool
hf_superblock_check(const struct hf_superblock *superblock, const struct hf_secret *root_key, struct hf_error *err)
{
    uint8_t expected[HF_KEY_BYTES];
    mac(superblock->raw, root_key, expected);
    if (sodium_memcmp(expected, superblock->mac, sizeof expected) != 0) {
        char text[HF_ID_TEXT_BYTES];
        return hf_fail(err, HF_ERR_CORRUPT, "superblock of repository %s was altered: the root key does not confirm it",
                       hf_id_format(&superblock->repository, text));
    }
    return true;
}

static bool
parse(const struct hf_buf *bytes, const char *place, struct hf_superblock *ret, struct hf_error *err)
{
    const uint8_t *raw = bytes->data;
    if (bytes->length < AT_RESERVED_1 || memcmp(raw, MAGIC, AT_VERSION) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is damaged: it does not begin as one", place);
    const bool as_long = bytes->length == HF_SUPERBLOCK_BYTES;
    if (as_long &&
        hf_get_u32(raw + AT_CRC) != hf_crc32c(0, raw, AT_CRC)) // before a flipped bit passes for a new format
        return hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is damaged: its checksum is wrong", place);
    if (hf_get_u32(raw + AT_VERSION) != VERSION) {
        hf_fail(err, HF_ERR_CONFLICT, "repository \"%s\" has format %u, and this program knows only %d", place,
                hf_get_u32(raw + AT_VERSION), VERSION);
        return hf_fail_hint(err, "Use the version of Holdfast that made it, or a newer one.");
    }
    if (!as_long)
        return hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is damaged: it has %zu bytes and not %d", place,
                       bytes->length, HF_SUPERBLOCK_BYTES);
    if (!all_zero(raw + AT_RESERVED_1, AT_REPOSITORY - AT_RESERVED_1) ||
        !all_zero(raw + AT_RESERVED_2, AT_CRC - AT_RESERVED_2))
        return hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is damaged: reserved bytes are in use", place);

    memcpy(ret->raw, raw, sizeof ret->raw);
    memcpy(ret->repository.bytes, raw + AT_REPOSITORY, HF_ID_BYTES);
    ret->created_at = (int64_t)hf_get_u64(raw + AT_CREATED);
    for (size_t i = 0; i < HF_LENGTH(ret->features); i++)
        ret->features[i] = hf_get_u64(raw + AT_FEATURES + 8 * i);
    memcpy(ret->mac, raw + AT_MAC, sizeof ret->mac);
    return true;
}

static bool
refuse_copy(struct hf_backend *backend, struct hf_error *err)
{
    bool found;
    uint64_t size;
    if (!hf_backend_stat(backend, HF_COPY_MARK_NAME, &found, &size, err))
        return false;
    if (!found)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a copy of a repository: it can only be read", hf_backend_place(backend));
    return hf_fail_hint(err, "If the original is lost, \"holdfast repo promote\" makes a repository of the copy.");
}

static bool
all_zero(const uint8_t *bytes, size_t length)
{
    return sodium_is_zero(bytes, length) == 1;
}

/* Who collects or repairs also writes, and who writes also reads; a repairer must know everything. */
static bool
check_features(const struct hf_superblock *superblock, enum hf_access access, const char *place, struct hf_error *err)
{
    static const char *const verbs[] = {"read", "write to", "collect in", "repair"};
    assert((size_t)access < HF_LENGTH(verbs));
    for (size_t i = 0; i <= (size_t)access; i++) {
        uint64_t unknown = superblock->features[i] & ~known_features[i];
        if (unknown == 0)
            continue;
        hf_fail(err, HF_ERR_CONFLICT,
                "cannot %s repository \"%s\": it uses features 0x%llx, which are newer than this program",
                verbs[access], place, (unsigned long long)unknown);
        return hf_fail_hint(err, "Use the version of Holdfast that made it, or a newer one.");
    }
    return true;
}

static void
mac(const uint8_t raw[static HF_SUPERBLOCK_BYTES], const struct hf_secret *root_key, uint8_t ret[static HF_KEY_BYTES])
{
    assert(root_key->length == HF_KEY_BYTES);
    hf_derive(root_key->bytes, "holdfast superblock", raw, AT_MAC, ret);
}

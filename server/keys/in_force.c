#include "server/keys/in_force.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/keys/derive.h"
#include "server/keys/generations.h"

#define MAGIC   "HFROOT01"
#define VERSION 1
#define LABEL   "holdfast in force"

#define AT_VERSION    8
#define AT_GENERATION 12
#define AT_REPOSITORY 16
#define AT_SINCE      32
#define AT_RESERVED_1 40
#define AT_MAC        64
#define AT_RESERVED_2 96
#define AT_CRC        124

#define SUPERBLOCK_SIGNED 160

_Static_assert(AT_CRC + 4 == HF_IN_FORCE_BYTES, "the object's fields fill it");
_Static_assert(AT_RESERVED_2 - AT_MAC == HF_KEY_BYTES, "the code fits its field");

static const char *object_name(uint32_t generation, char name[static HF_GENERATION_NAME_BYTES]);
static void compute_mac(const uint8_t raw[static HF_IN_FORCE_BYTES], const struct hf_superblock *superblock,
                        const struct hf_secret *root_key, uint8_t ret[static HF_KEY_BYTES]);
static bool read_object(struct hf_backend *backend, uint32_t generation, uint8_t raw[static HF_IN_FORCE_BYTES],
                        struct hf_error *err);

bool
hf_in_force_find(struct hf_backend *backend, uint32_t *ret_generation, struct hf_error *err)
{
    uint32_t newest;
    if (!hf_generation_newest(backend, HF_IN_FORCE_PREFIX, UINT64_MAX, &newest, err))
        return false;
    *ret_generation = newest == 0 ? 1 : newest;
    return true;
}

bool
hf_in_force_create(struct hf_backend *backend, const struct hf_superblock *superblock, uint32_t generation,
                   const struct hf_secret *root_key, int64_t now, struct hf_error *err)
{
    char name[HF_GENERATION_NAME_BYTES];
    uint8_t raw[HF_IN_FORCE_BYTES] = MAGIC;
    hf_put_u32(raw + AT_VERSION, VERSION);
    hf_put_u32(raw + AT_GENERATION, generation);
    memcpy(raw + AT_REPOSITORY, superblock->repository.bytes, HF_ID_BYTES);
    hf_put_u64(raw + AT_SINCE, (uint64_t)now);
    compute_mac(raw, superblock, root_key, raw + AT_MAC);
    hf_put_u32(raw + AT_CRC, hf_crc32c(0, raw, AT_CRC));
    return hf_backend_put_exclusive(backend, object_name(generation, name), raw, sizeof raw, err);
}

bool
hf_in_force_check(struct hf_backend *backend, const struct hf_superblock *superblock, uint32_t generation,
                  const struct hf_secret *root_key, struct hf_error *err)
{
    if (generation == 1)
        return hf_superblock_check(superblock, root_key, err);

    uint8_t raw[HF_IN_FORCE_BYTES], expected[HF_KEY_BYTES];
    char name[HF_GENERATION_NAME_BYTES];
    if (!read_object(backend, generation, raw, err))
        return false;
    if (memcmp(raw + AT_REPOSITORY, superblock->repository.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" belongs to another repository", object_name(generation, name));
    compute_mac(raw, superblock, root_key, expected);
    if (sodium_memcmp(expected, raw + AT_MAC, sizeof expected) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" or the superblock was altered: the root key does not confirm them",
                       object_name(generation, name));
    return true;
}

bool
hf_in_force_remove_older(struct hf_backend *backend, uint32_t generation, struct hf_error *err)
{
    return hf_generation_remove_below(backend, HF_IN_FORCE_PREFIX, generation, err);
}

static const char *
object_name(uint32_t generation, char name[static HF_GENERATION_NAME_BYTES])
{
    return hf_generation_name(HF_IN_FORCE_PREFIX, generation, name);
}

static void
compute_mac(const uint8_t raw[static HF_IN_FORCE_BYTES], const struct hf_superblock *superblock,
            const struct hf_secret *root_key, uint8_t ret[static HF_KEY_BYTES])
{
    uint8_t said[AT_MAC + SUPERBLOCK_SIGNED];
    memcpy(said, raw, AT_MAC);
    memcpy(said + AT_MAC, superblock->raw, SUPERBLOCK_SIGNED);
    hf_derive(root_key->bytes, LABEL, said, sizeof said, ret);
}

static bool
read_object(struct hf_backend *backend, uint32_t generation, uint8_t raw[static HF_IN_FORCE_BYTES],
            struct hf_error *err)
{
    char name[HF_GENERATION_NAME_BYTES];
    bool found;
    uint64_t size;
    object_name(generation, name);
    if (!hf_backend_stat(backend, name, &found, &size, err))
        return false;
    if (!found)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" went away while it was read", name);
    if (size != HF_IN_FORCE_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is damaged: it has %" PRIu64 " bytes and not %d", name, size,
                       HF_IN_FORCE_BYTES);
    if (!hf_backend_get_range(backend, name, 0, raw, HF_IN_FORCE_BYTES, err))
        return false;
    if (memcmp(raw, MAGIC, AT_VERSION) != 0 || hf_get_u32(raw + AT_CRC) != hf_crc32c(0, raw, AT_CRC))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is damaged: its checksum is wrong", name);
    if (hf_get_u32(raw + AT_VERSION) != VERSION || hf_get_u32(raw + AT_GENERATION) != generation)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" says version %u of generation %u", name,
                       hf_get_u32(raw + AT_VERSION), hf_get_u32(raw + AT_GENERATION));
    if (sodium_is_zero(raw + AT_RESERVED_1, AT_MAC - AT_RESERVED_1) != 1 ||
        sodium_is_zero(raw + AT_RESERVED_2, AT_CRC - AT_RESERVED_2) != 1)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is damaged: reserved bytes are in use", name);
    return true;
}

/*
 * A key slot that is accepted has nothing in it that was not checked: one changed bit, another repository or
 * another id and it is refused.  The checksum is mended first, or no changed input would get past it.
 */
#include <assert.h>
#include <string.h>

#include "server/keys/stored_keys.h"
#include "tests/fuzz/fuzz.h"

#define AT_REPOSITORY 16
#define AT_ID         32
#define AT_CHECKSUM   508

static void check_slot(const uint8_t *raw, const struct hf_id *repository, const struct hf_id *id,
                       const struct hf_slot *slot);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_id repository = HF_ID_NONE, id = HF_ID_NONE;
    struct hf_slot slot = {0};
    struct hf_error err;
    uint8_t raw[HF_SLOT_BYTES];
    if (size != HF_SLOT_BYTES) {
        assert(!hf_slot_parse(data, size, &repository, &id, "slot", &slot, &err));
        assert(err.kind == HF_ERR_CORRUPT && slot.raw == NULL);
        return 0;
    }
    memcpy(raw, data, sizeof raw);
    hf_put_u32(raw + AT_CHECKSUM, hf_crc32c(0, raw, AT_CHECKSUM));
    memcpy(repository.bytes, raw + AT_REPOSITORY, HF_ID_BYTES);
    memcpy(id.bytes, raw + AT_ID, HF_ID_BYTES);
    if (!hf_slot_parse(raw, sizeof raw, &repository, &id, "slot", &slot, &err)) {
        assert(err.kind == HF_ERR_CORRUPT && slot.raw == NULL);
        return 0;
    }
    check_slot(raw, &repository, &id, &slot);
    return 0;
}

static void
check_slot(const uint8_t *raw, const struct hf_id *repository, const struct hf_id *id, const struct hf_slot *slot)
{
    assert(slot->info.kind >= HF_SLOT_PASSPHRASE && slot->info.kind <= HF_SLOT_COMMAND);
    assert(memchr(slot->info.name, '\0', sizeof slot->info.name) != NULL && slot->info.name[0] != '\0');
    assert(slot->argon2_memory_bytes <= 4 * HF_GIB && slot->argon2_operations <= 64);
    assert((slot->argon2_memory_bytes > 0) == (slot->info.kind == HF_SLOT_PASSPHRASE));

    struct hf_slot other;
    struct hf_id elsewhere = *repository, another = *id;
    elsewhere.bytes[0] ^= 1;
    another.bytes[0] ^= 1;
    assert(!hf_slot_parse(raw, HF_SLOT_BYTES, &elsewhere, id, "slot", &other, NULL));
    assert(!hf_slot_parse(raw, HF_SLOT_BYTES, repository, &another, "slot", &other, NULL));

    uint8_t changed[HF_SLOT_BYTES];
    memcpy(changed, raw, sizeof changed);
    changed[hf_get_u32(raw + AT_CHECKSUM) % HF_SLOT_BYTES] ^= 1;
    assert(!hf_slot_parse(changed, sizeof changed, repository, id, "slot", &other, NULL));
}

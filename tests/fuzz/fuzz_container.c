/*
 * A container's index that is accepted encodes to the very bytes it came from, and every part of it lies within the
 * object.  The CRC-32C at the end is put right first, so that what it guards is reached.
 */
#include <assert.h>
#include <string.h>

#include "server/repository/container.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MOST HF_MIB
#define END        (1 << 20) // where the index of the object would lie

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_buf_done) struct hf_buf index = HF_BUF_INIT(INPUT_MOST), again = HF_BUF_INIT(INPUT_MOST);
    _cleanup_(hf_container_freep) struct hf_container *container = NULL;
    struct hf_error err;
    if (size > INPUT_MOST - 8 || !hf_buf_add(&index, data, size, &err))
        return 0;
    if (size >= 4)
        hf_put_u32(index.data + size - 4, hf_crc32c(0, index.data, size - 4));
    if (!hf_container_index_decode(size > 0 ? index.data : (const uint8_t *)"", size, END, "a container", &container,
                                   &err)) {
        assert(err.kind == HF_ERR_CORRUPT && container == NULL);
        return 0;
    }
    bool encoded = hf_container_index_encode(container, &again, &err);
    assert(encoded && again.length == size && memcmp(again.data, index.data, size) == 0);
    for (size_t i = 0; i < container->member_count; i++) {
        const struct hf_container_member *member = &container->members[i];
        assert(hf_container_find(container, &member->pack) == member);
        assert(member->directory_offset + member->directory_length <= END);
        for (size_t slab = 0; slab < member->live_count; slab++) {
            assert(hf_container_slab(member, member->live[slab].number) == &member->live[slab]);
            assert(member->live[slab].offset + member->live[slab].length <= member->directory_offset);
        }
    }
    return 0;
}

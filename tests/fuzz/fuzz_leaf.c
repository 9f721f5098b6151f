/* A map leaf that is accepted encodes to the very bytes it came from, and says of every page where it lies. */
#include <assert.h>
#include <string.h>

#include "server/repository/map.h"
#include "tests/fuzz/fuzz.h"

static void check_places(const struct hf_leaf *leaf);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;

    hf_leaf_init(&leaf, HF_PAGE_LOG2_LEAST);
    if (!hf_leaf_decode(data, size, "leaf", &leaf, &err)) {
        assert(err.kind == HF_ERR_CORRUPT);
        assert(leaf.pages == 0 && leaf.extent_count == 0 && leaf.pack_count == 0);
        return 0;
    }
    bool encoded = hf_leaf_encode(&leaf, &again, &err);
    assert(encoded && again.length == size && memcmp(again.data, data, size) == 0);
    check_places(&leaf);
    return 0;
}

static void
check_places(const struct hf_leaf *leaf)
{
    assert(leaf->pages <= HF_LEAF_PAGES);
    for (uint32_t page = 0; page < leaf->pages; page++) {
        const struct hf_id *pack = NULL;
        uint32_t slab = 0, index = 0;
        if (hf_leaf_find(leaf, page, &pack, &slab, &index) == HF_EXTENT_STORED)
            assert(pack >= leaf->packs && pack < leaf->packs + leaf->pack_count && slab < HF_PACK_SLABS_MOST &&
                   index < HF_SLAB_PAGES_MOST);
    }
}

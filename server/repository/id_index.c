#include "server/repository/id_index.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define MOST_WALKED 8 // ids that are compared one by one: about what a hash and a miss cost

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint64_t key[2];

static void draw_key(void);
static bool rebuild(struct hf_id_index *index, const struct hf_id *ids, size_t count, size_t slot_count,
                    struct hf_error *err);
static void place(struct hf_id_index *index, const struct hf_id *id, size_t at);
static size_t home_slot(const struct hf_id_index *index, const struct hf_id *id);

void
hf_id_index_done(struct hf_id_index *index)
{
    free(index->slots);
    *index = (struct hf_id_index){0};
}

size_t
hf_id_index_find(const struct hf_id_index *index, const struct hf_id *ids, size_t count, const struct hf_id *id)
{
    if (count <= MOST_WALKED) {
        for (size_t i = 0; i < count; i++)
            if (hf_id_equal(&ids[i], id))
                return i;
        return HF_ID_INDEX_NONE;
    }

    size_t slot = home_slot(index, id);
    while (index->slots[slot] != 0) {
        if (hf_id_equal(&ids[index->slots[slot] - 1], id))
            return index->slots[slot] - 1;
        slot = (slot + 1) & (index->slot_count - 1);
    }
    return HF_ID_INDEX_NONE;
}

/* At most half full, so that a walk from the home slot is short. */
bool
hf_id_index_add(struct hf_id_index *index, const struct hf_id *ids, size_t count, struct hf_error *err)
{
    assert(count < UINT32_MAX);
    if (count < MOST_WALKED)
        return true;
    if (count == MOST_WALKED || 2 * (count + 1) > index->slot_count) {
        size_t needed = index->slot_count == 0 ? 8 * MOST_WALKED : index->slot_count;
        while (needed < 2 * (count + 1))
            needed *= 2;
        return rebuild(index, ids, count + 1, needed, err);
    }
    place(index, &ids[count], count);
    return true;
}

bool
hf_id_index_fill(struct hf_id_index *index, const struct hf_id *ids, size_t count, bool *ret_distinct,
                 struct hf_error *err)
{
    *ret_distinct = false;
    for (size_t i = 0; i < count; i++) {
        if (hf_id_index_find(index, ids, i, &ids[i]) != HF_ID_INDEX_NONE)
            return true;
        if (!hf_id_index_add(index, ids, i, err))
            return false;
    }
    *ret_distinct = true;
    return true;
}

static bool
rebuild(struct hf_id_index *index, const struct hf_id *ids, size_t count, size_t slot_count, struct hf_error *err)
{
    pthread_once(&key_once, draw_key);
    if (slot_count > index->slot_count) {
        uint32_t *slots = calloc(slot_count, sizeof slots[0]);
        if (slots == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an index of %zu ids", count);
        free(index->slots);
        index->slots = slots;
        index->slot_count = slot_count;
    } else {
        memset(index->slots, 0, index->slot_count * sizeof index->slots[0]);
    }
    for (size_t i = 0; i < count; i++)
        place(index, &ids[i], i);
    return true;
}

static void
draw_key(void)
{
    randombytes_buf(key, sizeof key);
}

static void
place(struct hf_id_index *index, const struct hf_id *id, size_t at)
{
    size_t slot = home_slot(index, id);
    while (index->slots[slot] != 0)
        slot = (slot + 1) & (index->slot_count - 1);
    index->slots[slot] = (uint32_t)at + 1;
}

/* Both halves of the id, mixed with the key by one wide product: every bit of it depends on all of them. */
static size_t
home_slot(const struct hf_id_index *index, const struct hf_id *id)
{
    uint64_t half[2];
    memcpy(half, id->bytes, sizeof half);
    __extension__ unsigned __int128 product = (unsigned __int128)(half[0] ^ key[0]) * (half[1] ^ key[1]);
    return (size_t)((uint64_t)product ^ (uint64_t)(product >> 64)) & (index->slot_count - 1);
}

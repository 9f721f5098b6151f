#include "server/repository/tag_cache.h"

#include <assert.h>
#include <string.h>

#include "server/repository/census_internal.h"

#define COUNT_MOST       255 // counts stick there
#define FIRST_PACKS      64
#define FIRST_SLABS      64
#define PACK_LEAST_BYTES 19 // id, count of slabs, one slab

struct slab_counts {
    uint8_t live, stored; // as they are on disk
};

struct pack_counts {
    uint32_t slab_count, slab_room;
    struct slab_counts *slabs; // by slab number
};

struct hf_census {
    size_t pack_count, pack_room;
    struct hf_id *ids;         // of packs[i]
    struct pack_counts *packs; // in the order they were first told about
    struct hf_id_index index;
};

static bool find_or_add(struct hf_census *census, const struct hf_id *pack, uint32_t slab, struct slab_counts **ret,
                        struct hf_error *err);
static bool add_pack(struct hf_census *census, const struct hf_id *pack, struct hf_error *err);
static bool reserve_packs(struct hf_census *census, size_t count, struct hf_error *err);
static bool reserve_slabs(struct pack_counts *pack, uint32_t count, struct hf_error *err);
static uint8_t add_sticking(uint8_t count, uint32_t more);
static size_t *order_of_ids(const struct hf_census *census, size_t *ret_count);
static int by_id(const void *a, const void *b, void *ids);
static bool is_live(const struct pack_counts *pack);
static bool decode_pack(struct hf_reader *reader, struct hf_census *census, struct hf_error *err);

bool
hf_census_new(struct hf_census **ret, struct hf_error *err)
{
    struct hf_census *census = calloc(1, sizeof *census);
    if (census == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a census of slabs");
    *ret = census;
    return true;
}

void
hf_census_freep(struct hf_census **census)
{
    if (*census == NULL)
        return;
    for (size_t i = 0; i < (*census)->pack_count; i++)
        free((*census)->packs[i].slabs);
    free((*census)->packs);
    free((*census)->ids);
    hf_id_index_done(&(*census)->index);
    free(*census);
    *census = NULL;
}

bool
hf_census_set_stored(struct hf_census *census, const struct hf_id *pack, uint32_t slab, uint32_t pages,
                     struct hf_error *err)
{
    struct slab_counts *counts;
    if (!find_or_add(census, pack, slab, &counts, err))
        return false;
    counts->stored = add_sticking(0, pages);
    return true;
}

bool
hf_census_add_live(struct hf_census *census, const struct hf_id *pack, uint32_t slab, uint32_t pages,
                   struct hf_error *err)
{
    struct slab_counts *counts;
    if (!find_or_add(census, pack, slab, &counts, err))
        return false;
    counts->live = add_sticking(counts->live, pages);
    return true;
}

void
hf_census_get(const struct hf_census *census, const struct hf_id *pack, uint32_t slab, unsigned *ret_live,
              unsigned *ret_stored)
{
    const size_t at = hf_id_index_find(&census->index, census->ids, census->pack_count, pack);
    const bool known = at != HF_ID_INDEX_NONE && slab < census->packs[at].slab_count;
    *ret_live = known ? census->packs[at].slabs[slab].live : 0;
    *ret_stored = known ? census->packs[at].slabs[slab].stored : 0;
}

/* Pages that two files share are live twice: never over 100. */
unsigned
hf_census_live_percent(const struct hf_census *census, const struct hf_id *pack, uint32_t slab)
{
    unsigned live, stored;
    hf_census_get(census, pack, slab, &live, &stored);
    if (stored == 0 || stored == COUNT_MOST || live >= stored)
        return 100;
    return live * 100 / stored;
}

bool
hf_census_encode(const struct hf_census *census, hf_census_sink *sink, void *context, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf head = HF_BUF_INIT(64);
    size_t count;
    _cleanup_(hf_freep) size_t *order = order_of_ids(census, &count);
    if (order == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a census of %zu packs", census->pack_count);

    if (!hf_buf_put_varint(&head, count, err) || !sink(context, head.data, head.length, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct pack_counts *pack = &census->packs[order[i]];
        hf_buf_clear(&head);
        if (!hf_buf_add(&head, census->ids[order[i]].bytes, HF_ID_BYTES, err) ||
            !hf_buf_put_varint(&head, pack->slab_count, err) || !sink(context, head.data, head.length, err) ||
            !sink(context, (const uint8_t *)pack->slabs, pack->slab_count * sizeof pack->slabs[0], err))
            return false;
    }
    return true;
}

bool
hf_census_decode(struct hf_reader *reader, struct hf_census **ret, struct hf_error *err)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    const uint64_t count = hf_reader_varint(reader);
    if (!hf_reader_ok(reader) || count > (reader->length - reader->position) / PACK_LEAST_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "the census of slabs is cut off");
    if (!hf_census_new(&census, err) || !reserve_packs(census, (size_t)count, err))
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (!decode_pack(reader, census, err))
            return false;
    *ret = HF_TAKE(census);
    return true;
}

static bool
find_or_add(struct hf_census *census, const struct hf_id *pack, uint32_t slab, struct slab_counts **ret,
            struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    if (slab >= HF_PACK_SLABS_MOST)
        return hf_fail(err, HF_ERR_USAGE, "pack \"%s\" cannot have a slab %u, the limit is %u slabs",
                       hf_id_format(pack, text), slab, HF_PACK_SLABS_MOST);

    size_t at = hf_id_index_find(&census->index, census->ids, census->pack_count, pack);
    if (at == HF_ID_INDEX_NONE) {
        if (!add_pack(census, pack, err))
            return false;
        at = census->pack_count - 1;
    }
    struct pack_counts *counts = &census->packs[at];
    if (slab >= counts->slab_count) {
        if (!reserve_slabs(counts, slab + 1, err))
            return false;
        counts->slab_count = slab + 1;
    }
    *ret = &counts->slabs[slab];
    return true;
}

static bool
add_pack(struct hf_census *census, const struct hf_id *pack, struct hf_error *err)
{
    if (!reserve_packs(census, census->pack_count + 1, err))
        return false;
    census->ids[census->pack_count] = *pack;
    census->packs[census->pack_count] = (struct pack_counts){0};
    if (!hf_id_index_add(&census->index, census->ids, census->pack_count, err))
        return false;
    census->pack_count++;
    return true;
}

static bool
reserve_packs(struct hf_census *census, size_t count, struct hf_error *err)
{
    if (count <= census->pack_room)
        return true;
    size_t room = census->pack_room == 0 ? FIRST_PACKS : 2 * census->pack_room;
    if (room < count)
        room = count;
    struct hf_id *ids = realloc(census->ids, room * sizeof ids[0]);
    if (ids != NULL)
        census->ids = ids;
    struct pack_counts *packs = realloc(census->packs, room * sizeof packs[0]);
    if (packs != NULL)
        census->packs = packs;
    if (ids == NULL || packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a census of %zu packs", count);
    census->pack_room = room;
    return true;
}

/* New slabs are unknown ones: zeros. */
static bool
reserve_slabs(struct pack_counts *pack, uint32_t count, struct hf_error *err)
{
    if (count <= pack->slab_room)
        return true;
    uint32_t room = pack->slab_room == 0 ? FIRST_SLABS : 2 * pack->slab_room;
    if (room < count)
        room = count;
    struct slab_counts *slabs = realloc(pack->slabs, room * sizeof slabs[0]);
    if (slabs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a census of %u slabs", count);
    memset(slabs + pack->slab_room, 0, (room - pack->slab_room) * sizeof slabs[0]);
    pack->slabs = slabs;
    pack->slab_room = room;
    return true;
}

static uint8_t
add_sticking(uint8_t count, uint32_t more)
{
    return more >= (uint32_t)(COUNT_MOST - count) ? COUNT_MOST : (uint8_t)(count + more);
}

/* The places of the packs that have a live page, sorted by id; NULL when out of memory. */
static size_t *
order_of_ids(const struct hf_census *census, size_t *ret_count)
{
    size_t *order = malloc((census->pack_count + 1) * sizeof order[0]);
    size_t count = 0;
    if (order == NULL)
        return NULL;
    for (size_t i = 0; i < census->pack_count; i++)
        if (is_live(&census->packs[i]))
            order[count++] = i;
    qsort_r(order, count, sizeof order[0], by_id, census->ids);
    *ret_count = count;
    return order;
}

static int
by_id(const void *a, const void *b, void *ids)
{
    const struct hf_id *all = ids;
    return hf_id_compare(&all[*(const size_t *)a], &all[*(const size_t *)b]);
}

static bool
is_live(const struct pack_counts *pack)
{
    for (uint32_t i = 0; i < pack->slab_count; i++)
        if (pack->slabs[i].live > 0)
            return true;
    return false;
}

static bool
decode_pack(struct hf_reader *reader, struct hf_census *census, struct hf_error *err)
{
    _Static_assert(sizeof(struct slab_counts) == 2, "a slab's counts are two bytes, live and stored");
    struct hf_id id;
    const uint8_t *bytes = hf_reader_bytes(reader, HF_ID_BYTES);
    const uint32_t count = (uint32_t)hf_reader_varint_max(reader, HF_PACK_SLABS_MOST);
    const uint8_t *counts = hf_reader_bytes(reader, count * sizeof(struct slab_counts));
    if (counts == NULL || count == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the census of slabs is cut off");

    memcpy(id.bytes, bytes, HF_ID_BYTES);
    if (census->pack_count > 0 && hf_id_compare(&census->ids[census->pack_count - 1], &id) >= 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the census of slabs is not sorted by pack");
    if (!add_pack(census, &id, err))
        return false;
    struct pack_counts *pack = &census->packs[census->pack_count - 1];
    if (!reserve_slabs(pack, count, err))
        return false;
    memcpy(pack->slabs, counts, count * sizeof pack->slabs[0]);
    pack->slab_count = count;
    return true;
}

#include "server/repository/map.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "server/repository/codec.h"

#define LEAF_VERSION      1
#define FIRST_ROOM        16 // extents or packs that a leaf makes room for at first
#define EXTENT_MOST_BYTES 16 // encoded: 3 + 2 + 4 + 2 at the limits of format.h
#define EXTENTS_AT_ONCE   64 // encoded before the buffer is asked for room

/* The types as they are stored; the others are those of enum hf_extent_type. */
#define WIRE_GOES_ON 1

/* A leaf being read: which extents may follow. */
struct leaf_reader {
    struct hf_reader bytes;
    const char *what;
    struct hf_leaf *leaf;
    size_t packs_used;
    struct hf_extent stored; // the stored extent before; count 0: none
};

static bool check_stored(const struct hf_id *pack, uint32_t slab, uint32_t first, uint32_t count, struct hf_error *err);
static bool continues(const struct hf_leaf *leaf, enum hf_extent_type type, const struct hf_id *pack, uint32_t slab,
                      uint32_t first);
static bool reserve_extents(struct hf_leaf *leaf, size_t count, struct hf_error *err);
static bool place_pack(struct hf_leaf *leaf, const struct hf_id *pack, uint32_t *ret, struct hf_error *err);
static bool reserve_packs(struct hf_leaf *leaf, size_t count, struct hf_error *err);
static const struct hf_extent *extent_at(const struct hf_leaf *leaf, uint32_t page);
static bool put_packs(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err);
static bool put_extents(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err);
static uint8_t *put_extent(uint8_t *at, const struct hf_extent *extent, struct hf_extent *stored);
static uint8_t *put_varint(uint8_t *at, uint64_t value);
static bool take_head(struct leaf_reader *reader, struct hf_error *err);
static bool take_packs(struct leaf_reader *reader, struct hf_error *err);
static bool take_extents(struct leaf_reader *reader, struct hf_error *err);
static const char *take_extent(struct leaf_reader *reader);
static const char *take_place(struct leaf_reader *reader, unsigned type, struct hf_extent *extent);
static inline uint64_t take_varint(struct hf_reader *bytes);
static bool refuse(const struct leaf_reader *reader, const char *why, struct hf_error *err);
static bool take_object_table(struct hf_reader *table, size_t most, struct hf_object **ret, size_t *ret_count,
                              struct hf_error *err);

bool
hf_object_ref_equal(const struct hf_object_ref *a, const struct hf_object_ref *b)
{
    return hf_id_equal(&a->pack, &b->pack) && a->slab == b->slab && a->index == b->index;
}

void
hf_leaf_init(struct hf_leaf *leaf, uint8_t page_log2)
{
    assert(page_log2 >= HF_PAGE_LOG2_LEAST && page_log2 <= HF_PAGE_LOG2_MOST);
    *leaf = (struct hf_leaf){.page_log2 = page_log2};
}

void
hf_leaf_done(struct hf_leaf *leaf)
{
    free(leaf->extents);
    free(leaf->packs);
    hf_id_index_done(&leaf->pack_index);
    *leaf = (struct hf_leaf){.page_log2 = leaf->page_log2};
}

void
hf_leaf_clear(struct hf_leaf *leaf)
{
    leaf->pages = 0;
    leaf->extent_count = 0;
    leaf->pack_count = 0;
}

bool
hf_leaf_add(struct hf_leaf *leaf, enum hf_extent_type type, uint32_t count, const struct hf_id *pack, uint32_t slab,
            uint32_t first, struct hf_error *err)
{
    assert(count > 0 && (pack != NULL) == (type == HF_EXTENT_STORED) && (pack != NULL || (slab == 0 && first == 0)));
    if (count > HF_LEAF_PAGES - leaf->pages)
        return hf_fail(err, HF_ERR_USAGE, "a map leaf of %u pages cannot take %u more, the limit is %u", leaf->pages,
                       count, HF_LEAF_PAGES);
    if (type == HF_EXTENT_STORED && !check_stored(pack, slab, first, count, err))
        return false;

    if (continues(leaf, type, pack, slab, first)) {
        leaf->extents[leaf->extent_count - 1].count += count;
        leaf->pages += count;
        return true;
    }

    struct hf_extent extent = {.type = type, .start = leaf->pages, .count = count, .slab = slab, .first = first};
    if (!reserve_extents(leaf, leaf->extent_count + 1, err))
        return false;
    if (type == HF_EXTENT_STORED && !place_pack(leaf, pack, &extent.pack, err)) // last: nothing may fail behind it
        return false;
    leaf->extents[leaf->extent_count++] = extent;
    leaf->pages += count;
    return true;
}

bool
hf_leaf_add_from(struct hf_leaf *leaf, const struct hf_leaf *from, uint32_t first, uint32_t count, struct hf_error *err)
{
    assert(leaf != from);
    if (leaf->page_log2 != from->page_log2)
        return hf_fail(err, HF_ERR_USAGE, "a map leaf of %u-byte pages cannot take pages of %u bytes",
                       1u << leaf->page_log2, 1u << from->page_log2);
    if (first > from->pages || count > from->pages - first)
        return hf_fail(err, HF_ERR_USAGE, "a map leaf of %u pages has no pages %u to %" PRIu64, from->pages, first,
                       (uint64_t)first + count);
    if (count > HF_LEAF_PAGES - leaf->pages)
        return hf_fail(err, HF_ERR_USAGE, "a map leaf of %u pages cannot take %u more, the limit is %u", leaf->pages,
                       count, HF_LEAF_PAGES);
    if (count == 0)
        return true;

    for (const struct hf_extent *extent = extent_at(from, first); count > 0; extent++) {
        const bool stored = extent->type == HF_EXTENT_STORED;
        const uint32_t skip = first - extent->start;
        const uint32_t take = count < extent->count - skip ? count : extent->count - skip;
        if (!hf_leaf_add(leaf, extent->type, take, stored ? &from->packs[extent->pack] : NULL, extent->slab,
                         stored ? extent->first + skip : 0, err))
            return false;
        first += take;
        count -= take;
    }
    return true;
}

enum hf_extent_type
hf_leaf_find(const struct hf_leaf *leaf, uint32_t page, const struct hf_id **ret_pack, uint32_t *ret_slab,
             uint32_t *ret_index)
{
    assert(page < leaf->pages);
    const struct hf_extent *extent = extent_at(leaf, page);
    if (extent->type == HF_EXTENT_STORED) {
        *ret_pack = &leaf->packs[extent->pack];
        *ret_slab = extent->slab;
        *ret_index = extent->first + (page - extent->start);
    }
    return extent->type;
}

bool
hf_leaf_encode(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err)
{
    const size_t before = out->length;
    if (hf_buf_put_u8(out, LEAF_VERSION, err) && hf_buf_put_u8(out, leaf->page_log2, err) &&
        put_packs(leaf, out, err) && put_extents(leaf, out, err))
        return true;
    hf_buf_truncate(out, before);
    return false;
}

bool
hf_leaf_decode(const uint8_t *bytes, size_t length, const char *what, struct hf_leaf *leaf, struct hf_error *err)
{
    struct leaf_reader reader = {.bytes = HF_READER(bytes, length), .what = what, .leaf = leaf};

    hf_leaf_clear(leaf);
    if (length > HF_LEAF_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it has %zu bytes, a leaf has at most %zu", what, length,
                       HF_LEAF_MOST);
    if (take_head(&reader, err) && take_packs(&reader, err) && take_extents(&reader, err))
        return true;
    hf_leaf_clear(leaf);
    return false;
}

bool
hf_objects_split(const uint8_t *plain, size_t length, size_t most, struct hf_object **ret, size_t *ret_count,
                 struct hf_error *err)
{
    struct hf_reader reader = HF_READER(plain, length);
    _cleanup_(hf_freep) struct hf_object *objects = NULL;
    size_t count;
    if (!take_object_table(&reader, most, &objects, &count, err))
        return false;

    for (size_t i = 0; i < count; i++)
        objects[i].bytes = hf_reader_bytes(&reader, objects[i].length);
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "map slab is damaged: its %zu objects do not fill its %zu bytes", count,
                       length);
    *ret = HF_TAKE(objects);
    *ret_count = count;
    return true;
}

bool
hf_objects_join(const uint8_t *kinds, const size_t *lengths, size_t count, const uint8_t *bodies, size_t bodies_length,
                struct hf_buf *out, struct hf_error *err)
{
    const size_t before = out->length;
    bool ok = hf_buf_put_varint(out, count, err);
    size_t total = 0;
    for (size_t i = 0; ok && i < count; i++) {
        assert(kinds[i] >= HF_OBJECT_LEAF && kinds[i] <= HF_OBJECT_MANIFEST_ROOT);
        ok = hf_buf_put_u8(out, kinds[i], err) && hf_buf_put_varint(out, lengths[i], err);
        total += lengths[i];
    }
    assert(!ok || total == bodies_length);
    if (ok && hf_buf_add(out, bodies, bodies_length, err))
        return true;
    hf_buf_truncate(out, before);
    return false;
}

static bool
check_stored(const struct hf_id *pack, uint32_t slab, uint32_t first, uint32_t count, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    if (slab >= HF_PACK_SLABS_MOST)
        return hf_fail(err, HF_ERR_USAGE, "pack \"%s\" cannot have a slab %u, the limit is %u slabs",
                       hf_id_format(pack, text), slab, HF_PACK_SLABS_MOST);
    if (first >= HF_SLAB_PAGES_MOST || count > HF_SLAB_PAGES_MOST - first)
        return hf_fail(err, HF_ERR_USAGE,
                       "pack \"%s\", slab %u, cannot have pages %u to %" PRIu64 ", the limit is %u pages",
                       hf_id_format(pack, text), slab, first, (uint64_t)first + count, HF_SLAB_PAGES_MOST);
    return true;
}

static bool
continues(const struct hf_leaf *leaf, enum hf_extent_type type, const struct hf_id *pack, uint32_t slab, uint32_t first)
{
    if (leaf->extent_count == 0)
        return false;
    const struct hf_extent *last = &leaf->extents[leaf->extent_count - 1];
    if (last->type != type || type != HF_EXTENT_STORED)
        return last->type == type;
    return last->slab == slab && last->first + last->count == first && hf_id_equal(&leaf->packs[last->pack], pack);
}

static bool
reserve_extents(struct hf_leaf *leaf, size_t count, struct hf_error *err)
{
    if (count <= leaf->extent_room)
        return true;
    size_t room = leaf->extent_room == 0 ? FIRST_ROOM : leaf->extent_room;
    while (room < count)
        room *= 2;
    struct hf_extent *extents = realloc(leaf->extents, room * sizeof extents[0]);
    if (extents == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a map leaf of %zu extents", count);
    leaf->extents = extents;
    leaf->extent_room = room;
    return true;
}

static bool
place_pack(struct hf_leaf *leaf, const struct hf_id *pack, uint32_t *ret, struct hf_error *err)
{
    const size_t known = hf_id_index_find(&leaf->pack_index, leaf->packs, leaf->pack_count, pack);
    if (known != HF_ID_INDEX_NONE) {
        *ret = (uint32_t)known;
        return true;
    }
    const struct hf_id copy = *pack; // it may stand in the array that is about to move
    if (!reserve_packs(leaf, leaf->pack_count + 1, err))
        return false;
    leaf->packs[leaf->pack_count] = copy;
    if (!hf_id_index_add(&leaf->pack_index, leaf->packs, leaf->pack_count, err))
        return false;
    *ret = (uint32_t)leaf->pack_count++;
    return true;
}

static bool
reserve_packs(struct hf_leaf *leaf, size_t count, struct hf_error *err)
{
    if (count <= leaf->pack_room)
        return true;
    size_t room = leaf->pack_room == 0 ? FIRST_ROOM : leaf->pack_room;
    while (room < count)
        room *= 2;
    struct hf_id *packs = realloc(leaf->packs, room * sizeof packs[0]);
    if (packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a map leaf of %zu packs", count);
    leaf->packs = packs;
    leaf->pack_room = room;
    return true;
}

/* The extent that holds a page the leaf has. */
static const struct hf_extent *
extent_at(const struct hf_leaf *leaf, uint32_t page)
{
    size_t low = 0, high = leaf->extent_count; // it is one of [low, high)
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (leaf->extents[middle].start <= page)
            low = middle;
        else
            high = middle;
    }
    return &leaf->extents[low];
}

static bool
put_packs(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err)
{
    return hf_buf_put_varint(out, leaf->pack_count, err) &&
           hf_buf_add(out, leaf->packs, leaf->pack_count * sizeof leaf->packs[0], err);
}

static bool
put_extents(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err)
{
    uint8_t scratch[EXTENTS_AT_ONCE * EXTENT_MOST_BYTES];
    struct hf_extent stored = {0};

    if (!hf_buf_put_varint(out, leaf->extent_count, err))
        return false;
    for (size_t i = 0; i < leaf->extent_count;) {
        uint8_t *at = scratch;
        for (size_t n = 0; n < EXTENTS_AT_ONCE && i < leaf->extent_count; n++, i++)
            at = put_extent(at, &leaf->extents[i], &stored);
        if (!hf_buf_add(out, scratch, (size_t)(at - scratch), err))
            return false;
    }
    return true;
}

/* `stored` is the stored extent before (count 0: none), and then this one. */
static uint8_t *
put_extent(uint8_t *at, const struct hf_extent *extent, struct hf_extent *stored)
{
    if (extent->type != HF_EXTENT_STORED)
        return put_varint(at, (uint64_t)extent->count << 2 | extent->type);

    if (stored->count > 0 && extent->pack == stored->pack && extent->slab == stored->slab &&
        extent->first == stored->first + stored->count) {
        at = put_varint(at, (uint64_t)extent->count << 2 | WIRE_GOES_ON);
    } else {
        at = put_varint(at, (uint64_t)extent->count << 2 | HF_EXTENT_STORED);
        at = put_varint(at, extent->pack);
        at = put_varint(at, hf_zigzag((int64_t)extent->slab - (int64_t)stored->slab));
        at = put_varint(at, extent->first);
    }
    *stored = *extent;
    return at;
}

static uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

static bool
take_head(struct leaf_reader *reader, struct hf_error *err)
{
    if (hf_reader_u8(&reader->bytes) != LEAF_VERSION)
        return refuse(reader, "it is not a map leaf of version 1", err);
    const uint8_t page_log2 = hf_reader_u8(&reader->bytes);
    if (page_log2 < HF_PAGE_LOG2_LEAST || page_log2 > HF_PAGE_LOG2_MOST)
        return refuse(reader, "no page size is like this", err);
    reader->leaf->page_log2 = page_log2;
    return true;
}

static bool
take_packs(struct leaf_reader *reader, struct hf_error *err)
{
    struct hf_leaf *leaf = reader->leaf;
    const size_t count = (size_t)hf_reader_varint_max(&reader->bytes, HF_LEAF_PAGES);
    const uint8_t *ids = hf_reader_bytes(&reader->bytes, count * HF_ID_BYTES);
    if (ids == NULL)
        return refuse(reader, "the table of packs is cut off", err);

    bool distinct;
    if (!reserve_packs(leaf, count, err))
        return false;
    if (count > 0)
        memcpy(leaf->packs, ids, count * HF_ID_BYTES);
    if (!hf_id_index_fill(&leaf->pack_index, leaf->packs, count, &distinct, err))
        return false;
    if (!distinct)
        return refuse(reader, "a pack stands in its table twice", err);
    leaf->pack_count = count;
    return true;
}

static bool
take_extents(struct leaf_reader *reader, struct hf_error *err)
{
    struct hf_leaf *leaf = reader->leaf;
    const size_t count = (size_t)hf_reader_varint_max(&reader->bytes, HF_LEAF_PAGES);
    if (!hf_reader_ok(&reader->bytes) || count > reader->bytes.length - reader->bytes.position)
        return refuse(reader, "the extents are cut off", err);
    if (!reserve_extents(leaf, count, err))
        return false;

    for (size_t i = 0; i < count; i++) {
        const char *why = take_extent(reader);
        if (why != NULL)
            return refuse(reader, why, err);
    }
    if (reader->packs_used != leaf->pack_count)
        return refuse(reader, "a pack in its table is never used", err);
    if (!hf_reader_finished(&reader->bytes))
        return refuse(reader, "bytes follow the last extent", err);
    return true;
}

/* Takes one extent into the room that was made for it.  Returns what is wrong with it, or NULL. */
static const char *
take_extent(struct leaf_reader *reader)
{
    struct hf_leaf *leaf = reader->leaf;
    const uint64_t head = take_varint(&reader->bytes);
    const unsigned type = head & 3;
    if (!hf_reader_ok(&reader->bytes))
        return "an extent is cut off";
    if (head >> 2 == 0 || head >> 2 > HF_LEAF_PAGES - leaf->pages)
        return "the extents do not add up to a leaf";

    struct hf_extent extent = {.start = leaf->pages, .count = (uint32_t)(head >> 2)};
    const struct hf_extent *last = leaf->extent_count == 0 ? NULL : &leaf->extents[leaf->extent_count - 1];
    if (type == HF_EXTENT_ZEROS || type == HF_EXTENT_LOST) {
        extent.type = (enum hf_extent_type)type;
        if (last != NULL && last->type == extent.type)
            return "two extents of one kind should be one";
    } else {
        const char *why = take_place(reader, type, &extent);
        if (why != NULL)
            return why;
        if (type == WIRE_GOES_ON && last->type == HF_EXTENT_STORED)
            return "an extent only goes on, it should be one with the extent before";
        reader->stored = extent;
    }
    leaf->extents[leaf->extent_count++] = extent;
    leaf->pages += extent.count;
    return NULL;
}

/* Pack, slab and first page of a stored extent.  Returns what is wrong with them, or NULL. */
static const char *
take_place(struct leaf_reader *reader, unsigned type, struct hf_extent *extent)
{
    const struct hf_extent *stored = &reader->stored;

    extent->type = HF_EXTENT_STORED;
    if (type == WIRE_GOES_ON) {
        if (stored->count == 0)
            return "the first stored extent says that it goes on";
        extent->pack = stored->pack;
        extent->slab = stored->slab;
        extent->first = stored->first + stored->count;
    } else {
        const uint64_t pack = take_varint(&reader->bytes);
        const uint64_t slab_step = take_varint(&reader->bytes);
        const uint64_t first = take_varint(&reader->bytes);
        if (!hf_reader_ok(&reader->bytes))
            return "an extent is cut off";
        if (pack > reader->packs_used || pack >= reader->leaf->pack_count)
            return "the packs do not stand in the order of their first use";
        const uint64_t slab = stored->slab + (uint64_t)hf_unzigzag(slab_step); // wraps below zero: too large
        if (slab >= HF_PACK_SLABS_MOST)
            return "a slab number is out of range";
        if (first >= HF_SLAB_PAGES_MOST)
            return "a slab does not have so many pages";
        if (stored->count > 0 && pack == stored->pack && slab == stored->slab && first == stored->first + stored->count)
            return "an extent that goes on is written out";
        if (pack == reader->packs_used)
            reader->packs_used++;
        extent->pack = (uint32_t)pack;
        extent->slab = (uint32_t)slab;
        extent->first = (uint32_t)first;
    }
    if (extent->count > HF_SLAB_PAGES_MOST - extent->first)
        return "a slab does not have so many pages";
    return NULL;
}

/* hf_reader_varint() without a call for one and two bytes, which is nearly all that a leaf has. */
static inline uint64_t
take_varint(struct hf_reader *bytes)
{
    if (!bytes->failed && bytes->length - bytes->position >= 2) {
        const uint8_t *at = bytes->data + bytes->position;
        if (at[0] < 0x80) {
            bytes->position += 1;
            return at[0];
        }
        if (at[1] < 0x80 && at[1] != 0) {
            bytes->position += 2;
            return (uint64_t)(at[0] & 0x7f) | (uint64_t)at[1] << 7;
        }
    }
    return hf_reader_varint(bytes);
}

static bool
refuse(const struct leaf_reader *reader, const char *why, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged at byte %zu: %s", reader->what, reader->bytes.position, why);
}

static bool
take_object_table(struct hf_reader *table, size_t most, struct hf_object **ret, size_t *ret_count, struct hf_error *err)
{
    const uint64_t count = hf_reader_varint(table);
    if (!hf_reader_ok(table) || count > (table->length - table->position) / 2)
        return hf_fail(err, HF_ERR_CORRUPT, "map slab is damaged: the table of its objects is cut off");
    if (count > most)
        return hf_fail(err, HF_ERR_CORRUPT, "map slab is damaged: it has %" PRIu64 " objects, the limit is %zu", count,
                       most);

    _cleanup_(hf_freep) struct hf_object *objects = calloc(count == 0 ? 1 : (size_t)count, sizeof objects[0]);
    if (objects == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for %" PRIu64 " objects of a map slab", count);
    for (size_t i = 0; i < count; i++) {
        const uint8_t kind = hf_reader_u8(table);
        if (hf_reader_ok(table) && (kind < HF_OBJECT_LEAF || kind > HF_OBJECT_MANIFEST_ROOT))
            return hf_fail(err, HF_ERR_CORRUPT, "map slab is damaged: object %zu is of kind %u, which there is not", i,
                           kind);
        objects[i].kind = (enum hf_object_kind)kind;
        objects[i].length = (size_t)hf_reader_varint(table);
    }
    if (!hf_reader_ok(table))
        return hf_fail(err, HF_ERR_CORRUPT, "map slab is damaged: the table of its objects is cut off");
    *ret = HF_TAKE(objects);
    *ret_count = (size_t)count;
    return true;
}

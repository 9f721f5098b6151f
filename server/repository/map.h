/*
 * map.h - where each page of a file lies
 *
 * A file's map is a row of leaves, each for up to 4,096 pages.  A leaf says for every page of its
 * stretch: zeros, stored at (pack, slab, index in the slab), or lost.  Leaves are objects in map
 * packs; an unchanged leaf is shared by reference between backups, so that every backup has a
 * complete map and none needs another.
 *
 * A map object is named by (pack id, slab number, index in the slab): struct hf_object_ref.
 *
 * Leaf, an object of kind 1 (pack.h)
 *   u8 version 1; u8 log2 of the page size
 *   varint count of packs, then their ids, 16 bytes each: the leaf's own pack table
 *   varint count of extents, then per extent
 *     varint (pages << 2 | type), pages >= 1; type
 *       0 zeros
 *       1 goes on: same pack and slab as the stored extent before, at the page index after its end
 *       2 stored: varint pack (index in the table), zigzag varint slab number minus that of the stored extent
 *         before (0 for the first), varint index of the first page in the slab
 *       3 lost: these pages are known to be gone
 * Extents follow each other without gaps from the leaf's first page.
 *
 * One map has one spelling, so that equal leaves are equal bytes and the reader refuses every other:
 * extents that could be one are one (zeros after zeros, lost after lost, the next pages of the same
 * slab), "goes on" stands wherever it can, and the pack table holds the packs that are used, once,
 * in the order of their first use.
 */
#pragma once
#include "server/repository/id_index.h"
#include "server/storage/format.h"

enum hf_object_kind { HF_OBJECT_LEAF = 1, HF_OBJECT_MANIFEST_PAGE = 2, HF_OBJECT_MANIFEST_ROOT = 3 };

struct hf_object_ref {
    struct hf_id pack;
    uint32_t slab;
    uint32_t index;
};
bool hf_object_ref_equal(const struct hf_object_ref *a, const struct hf_object_ref *b);

enum hf_extent_type { HF_EXTENT_ZEROS = 0, HF_EXTENT_STORED = 2, HF_EXTENT_LOST = 3 };

struct hf_extent {
    enum hf_extent_type type;
    uint32_t start; // its first page, counted from the leaf's
    uint32_t count; // pages
    uint32_t pack;  // STORED: index in the leaf's pack table
    uint32_t slab;
    uint32_t first; // index in the slab
};

/*
 * A leaf in memory: extents in order.  Adding a page that continues the last extent extends it.  The
 * arrays are there to be read; only the functions below write them.
 */
struct hf_leaf {
    uint8_t page_log2;
    uint32_t pages; // sum of the extents' counts, at most HF_LEAF_PAGES
    size_t extent_count, extent_room;
    struct hf_extent *extents;
    size_t pack_count, pack_room;
    struct hf_id *packs;
    struct hf_id_index pack_index;
};

void hf_leaf_init(struct hf_leaf *leaf, uint8_t page_log2);
void hf_leaf_done(struct hf_leaf *leaf);
void hf_leaf_clear(struct hf_leaf *leaf); // forgets extents and packs, keeps the memory

/*
 * Adds `count` pages at the end.  pack NULL, slab and first 0 for zeros and lost.
 * USAGE: over HF_LEAF_PAGES, or not a place a page can have (format.h).  The leaf is then as it was.
 */
HF_MUST_CHECK bool hf_leaf_add(struct hf_leaf *leaf, enum hf_extent_type type, uint32_t count, const struct hf_id *pack,
                               uint32_t slab, uint32_t first, struct hf_error *err);
/*
 * Adds the pages [first, first + count) of another leaf as they stand there.  Finds the first of them
 * in O(log extents).  USAGE: pages of another size, past the end, or too many; after NO_MEMORY some
 * pages may have been added.
 */
HF_MUST_CHECK bool hf_leaf_add_from(struct hf_leaf *leaf, const struct hf_leaf *from, uint32_t first, uint32_t count,
                                    struct hf_error *err);
/*
 * Where one page lies; pack, slab and index are written for STORED.  page < leaf->pages.  O(log
 * extents); who goes through all pages walks leaf->extents instead.
 */
enum hf_extent_type hf_leaf_find(const struct hf_leaf *leaf, uint32_t page, const struct hf_id **ret_pack,
                                 uint32_t *ret_slab, uint32_t *ret_index);

/* Only packs that an extent uses get into the table, in the order of their first use. */
HF_MUST_CHECK bool hf_leaf_encode(const struct hf_leaf *leaf, struct hf_buf *out, struct hf_error *err);
/*
 * Replaces what is in `leaf` (initialised before).  CORRUPT with `what` in the message ("leaf 3 of
 * "base/1/2""), and the leaf is empty.  Every index and sum is checked; what is accepted encodes to
 * the same bytes again.
 */
HF_MUST_CHECK bool hf_leaf_decode(const uint8_t *bytes, size_t length, const char *what, struct hf_leaf *leaf,
                                  struct hf_error *err);

/* The objects of a map slab's plaintext: a table into borrowed bytes. */
struct hf_object {
    enum hf_object_kind kind;
    const uint8_t *bytes;
    size_t length;
};
/* At most `most` objects.  CORRUPT when the table does not add up to exactly `length`.  free() the table. */
HF_MUST_CHECK bool hf_objects_split(const uint8_t *plain, size_t length, size_t most, struct hf_object **ret,
                                    size_t *ret_count, struct hf_error *err);
/* The reverse: `bodies` are the objects' bytes one after the other, `kinds` and `lengths` tell them apart. */
HF_MUST_CHECK bool hf_objects_join(const uint8_t *kinds, const size_t *lengths, size_t count, const uint8_t *bodies,
                                   size_t bodies_length, struct hf_buf *out, struct hf_error *err);

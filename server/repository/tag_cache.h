/*
 * tag_cache.h - the newest backup's page tags, at hand for the next one
 *
 * A backup compares each page with its parent by tag.  The tags lie in the pack directories, in the
 * order pages were stored; this local file holds them again in the order of files and pages, with the
 * share of each slab that is still live.  It is sealed, derived, and never trusted over the packs: when
 * it is missing, damaged or of another backup, it is made anew from maps and directories
 * (session.h) or the backup stores every page.
 *
 * File (one a vault, in the appliance's state folder):
 *   u32 length of the envelope that follows, envelope (kind 4, object id: the vault id, wrapping key: the vault's
 *   record key) around: u32 version 1, cache key 32 (random), backup id 16, u64 offset and u64 length of the index
 *   frame; zeros for both until the cache is complete: the envelope is fixed in length and rewritten last.
 *   Frames: u32 length of the ciphertext, ciphertext, tag 16.  Cipher: XChaCha20-Poly1305 (IETF), key: the cache key,
 *   nonce: the frame's offset in the file as 8 bytes, then 16 zeros; associated data: the backup id.
 *   A tag frame holds the tags of up to 4,096 pages of one file.  The index frame (zstd, then sealed; it ends the
 *   file) holds: varint count of files; per file, sorted by path: string path, u8 page_log2, varint size, varint count
 *   of leaves, per leaf: varint offset of its tag frame, varint plaintext length; object ref of the leaf (pack 16,
 *   varint slab, varint index); then the census: varint count of packs, sorted by id, those with no live page left out;
 *   per pack: id, varint count of slabs, per slab u8 live pages, u8 stored pages (255: 255 or more).
 */
#pragma once
#include "server/repository/manifest.h"

#define HF_TAG_CACHE_INDEX_MOST (512 * HF_MIB) // before compression; 10 TB of 8-KiB pages take about 100 MiB

/*
 * Writing: files in any order, each with its leaves in order.  One thread, and one writer of a path at
 * a time (the vault's lock sees to it): the file is written as "<path>.new", and what a killed writer
 * left there is replaced.  The keys are borrowed for the writer's life.
 */
struct hf_tag_cache_writer;
HF_MUST_CHECK bool hf_tag_cache_writer_new(const char *path, const struct hf_vault_keys *keys,
                                           const struct hf_id *backup, struct hf_tag_cache_writer **ret,
                                           struct hf_error *err);
void hf_tag_cache_writer_freep(struct hf_tag_cache_writer **writer); // an unfinished file is removed
/* Another path for finish() to put the file at, in the same folder. */
HF_MUST_CHECK bool hf_tag_cache_writer_aim(struct hf_tag_cache_writer *writer, const char *path, struct hf_error *err);
/* Writes one frame, 1 to HF_LEAF_PAGES tags; the result goes into struct hf_cached_leaf. */
struct hf_cached_leaf {
    uint64_t frame; // offset
    uint32_t pages;
    struct hf_object_ref ref;
};
HF_MUST_CHECK bool hf_tag_cache_writer_tags(struct hf_tag_cache_writer *writer, const uint8_t *tags, uint32_t pages,
                                            uint64_t *ret_frame, struct hf_error *err);
struct hf_cached_file {
    const char *path;
    uint8_t page_log2;
    uint64_t size;
    size_t leaf_count;
    const struct hf_cached_leaf *leaves;
};
/* Takes a copy.  USAGE: its leaves are not those of its size, or their frames are not in this cache. */
HF_MUST_CHECK bool hf_tag_cache_writer_file(struct hf_tag_cache_writer *writer, const struct hf_cached_file *file,
                                            struct hf_error *err);

/*
 * Writes a whole cache of its own at `path`, sealed with another key, of what was told so far and of `more` files; their
 * frames are this writer's, which goes on as if nothing had been.
 */
struct hf_census;
HF_MUST_CHECK bool hf_tag_cache_writer_copy(struct hf_tag_cache_writer *writer, const char *path,
                                            const struct hf_cached_file *more, size_t more_count,
                                            const struct hf_census *census, struct hf_error *err);

/*
 * How many pages of each slab are live in the newest backup, of how many it holds: 2 bytes a slab in
 * memory, both counts stick at 255.  Not thread safe.
 */
HF_MUST_CHECK bool hf_census_new(struct hf_census **ret, struct hf_error *err);
void hf_census_freep(struct hf_census **census);
/* How many pages a slab holds; told once for each slab that add_live will meet or may meet. */
HF_MUST_CHECK bool hf_census_set_stored(struct hf_census *census, const struct hf_id *pack, uint32_t slab,
                                        uint32_t pages, struct hf_error *err);
HF_MUST_CHECK bool hf_census_add_live(struct hf_census *census, const struct hf_id *pack, uint32_t slab, uint32_t pages,
                                      struct hf_error *err);
/* Both 0 for a slab nobody told about. */
void hf_census_get(const struct hf_census *census, const struct hf_id *pack, uint32_t slab, unsigned *ret_live,
                   unsigned *ret_stored);
/* Per cent of the slab's pages that are live; 100 when it is unknown or either count sticks at 255. */
unsigned hf_census_live_percent(const struct hf_census *census, const struct hf_id *pack, uint32_t slab);

/*
 * Writes the index (files and census), fdatasync, rename: only now does the cache exist.  Frees the
 * writer in any case; after a failure the cache that was there before still is.  CONFLICT: a path was
 * told twice.
 */
HF_MUST_CHECK bool hf_tag_cache_writer_finish(struct hf_tag_cache_writer **writer, const struct hf_census *census,
                                              struct hf_error *err);

/* Reading.  The index is in memory; frames are read when asked for.  Any threads after open. */
struct hf_tag_cache;
/*
 * The keys are not kept.  NOT_FOUND, DENIED (another key), CORRUPT, or CONFLICT when it is not of
 * `backup`: all mean "make it anew".
 */
HF_MUST_CHECK bool hf_tag_cache_open(const char *path, const struct hf_vault_keys *keys, const struct hf_id *backup,
                                     struct hf_tag_cache **ret, struct hf_error *err);
void hf_tag_cache_freep(struct hf_tag_cache **cache);
/* NULL when the parent has no such file. */
const struct hf_cached_file *hf_tag_cache_find(const struct hf_tag_cache *cache, const char *path);
/* tags: room for leaf->pages * 16 bytes.  The leaf is one of this cache's.  CORRUPT: the frame was altered. */
HF_MUST_CHECK bool hf_tag_cache_tags(const struct hf_tag_cache *cache, const struct hf_cached_leaf *leaf, uint8_t *tags,
                                     struct hf_error *err);
/* The census of the parent, moved out to the caller; NULL the second time.  Before other threads use the cache. */
struct hf_census *hf_tag_cache_take_census(struct hf_tag_cache *cache);

/*
 * Makes the cache of a backup anew from its maps and the pack directories (tag_rebuild.c): nothing in
 * it is believed that a pack does not say.  Reads no page.
 */
struct hf_vault;
HF_MUST_CHECK bool hf_tag_cache_rebuild(struct hf_vault *vault, const struct hf_id *backup, const char *path,
                                        struct hf_error *err);

/*
 * container.h - several packs in one object, without the slabs nobody needs
 *
 * Collection makes room by copying what is still live of thin packs into a new object.  It copies sealed bytes as they
 * are and needs no data key: a slab keeps its name (pack, number), its nonce and its tag, and a pack its header and its
 * directory.  The log's RELOCATE says which container a pack is read from, and holds the SHA-256 of the whole object.
 * A container is written once, and may be copied from again.
 *
 * Container: vaults/<vault id>/packs/<xx>/<object id>
 *   header 256 | member | member | ... | index | trailer 64
 *
 * Header
 * offset  bytes  meaning
 *      0      8  magic "HFCONT01"
 *      8      2  version: 1
 *     10      6  reserved
 *     16     16  repository id
 *     32     16  vault id
 *     48     16  object id
 *     64     16  session id: of the INTENT ("collect") under which it was written
 *     80      8  created at
 *     88      8  writer epoch
 *     96    156  reserved
 *    252      4  CRC-32C of bytes 0..251
 *
 * Member: one pack (pack.h), each part at an 8-byte boundary, gaps are zeros
 *   the pack's header, 256 bytes | the slabs that are live, in the order of their numbers | the directory slab
 *
 * Index, at an 8-byte boundary; members sorted by pack id, none twice
 *   u32 count of members; per member
 *     pack id 16; u64 offset of the header; u64 offset of the directory slab; u64 length of the directory slab
 *     (header, ciphertext and tag); u32 count of slabs the pack had, without the directory; u32 count of live slabs;
 *     per live slab, by number, ascending: u32 number, u64 offset, u32 length (header, ciphertext and tag)
 *   u32 CRC-32C of the index before it
 *
 * Trailer
 *      0      8  magic "HFCEND01"
 *      8      8  offset of the index
 *     16      8  length of the index, its CRC-32C included
 *     24      4  count of members
 *     28     32  reserved
 *     60      4  CRC-32C of bytes 0..59
 *
 * The index is public and authenticated by the RELOCATE alone; whoever opens a slab checks its seal, which binds pack
 * header and number.  A slab that is not listed was needed by no backup when the pack was copied.
 */
#pragma once
#include "server/repository/pack.h"

#define HF_CONTAINER_TARGET     HF_PACK_TARGET
#define HF_CONTAINER_INDEX_MOST (64 * HF_MIB)

struct hf_container_slab {
    uint32_t number, length;
    uint64_t offset;
};
struct hf_container_member {
    struct hf_id pack; // first, for searching
    uint64_t header_offset, directory_offset, directory_length;
    uint32_t slab_count;
    size_t live_count;
    struct hf_container_slab *live; // in the container's own memory
};
struct hf_container {
    struct hf_id object, session;
    size_t member_count;
    struct hf_container_member *members;
    size_t live_count;
    struct hf_container_slab *live; // of all members
};
void hf_container_freep(struct hf_container **container);

/* Header, trailer and index.  NOT_FOUND: there is no such object.  CORRUPT names it. */
HF_MUST_CHECK bool hf_container_read(struct hf_backend *backend, const struct hf_id *repository,
                                     const struct hf_id *vault, const struct hf_id *object, struct hf_container **ret,
                                     struct hf_error *err);
/* NULL: the pack is none of its members. */
const struct hf_container_member *hf_container_find(const struct hf_container *container, const struct hf_id *pack);
/* NULL: the slab was left behind. */
const struct hf_container_slab *hf_container_slab(const struct hf_container_member *member, uint32_t number);
/*
 * The index of an object whose members lie in bytes 256..end - 1.  Every offset and count is checked; what is accepted
 * encodes to the same bytes again.
 */
HF_MUST_CHECK bool hf_container_index_decode(const uint8_t *bytes, size_t length, uint64_t end, const char *what,
                                             struct hf_container **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_container_index_encode(const struct hf_container *container, struct hf_buf *out,
                                             struct hf_error *err);

struct hf_container_identity {
    struct hf_id repository, vault, object, session;
    uint64_t writer_epoch;
    int64_t created_at;
};
struct hf_container_writer;
HF_MUST_CHECK bool hf_container_writer_new(struct hf_backend *backend, // borrowed for the writer's life
                                           const struct hf_container_identity *identity,
                                           struct hf_container_writer **ret, struct hf_error *err);
/* A pack begins: its header, then its live slabs by number, then its directory.  Packs come in any order. */
HF_MUST_CHECK bool hf_container_writer_pack(struct hf_container_writer *writer, const struct hf_id *pack,
                                            const uint8_t header[static HF_PACK_HEADER], struct hf_error *err);
HF_MUST_CHECK bool hf_container_writer_slab(struct hf_container_writer *writer, uint32_t number, const uint8_t *stored,
                                            size_t length, struct hf_error *err);
HF_MUST_CHECK bool hf_container_writer_directory(struct hf_container_writer *writer, uint32_t slab_count,
                                                 const uint8_t *stored, size_t length, struct hf_error *err);
uint64_t hf_container_writer_bytes(const struct hf_container_writer *writer); // so far
/* Frees the writer in any case.  The object is durable, its name after the next barrier. */
HF_MUST_CHECK bool hf_container_writer_finish(struct hf_container_writer **writer, uint64_t *ret_bytes,
                                              uint8_t ret_sha256[static HF_SHA256_BYTES], struct hf_error *err);
void hf_container_writer_abortp(struct hf_container_writer **writer);

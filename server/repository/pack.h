/*
 * pack.h - packs and slabs: sealed bytes, written once
 *
 * A slab is up to 256 KiB of pages (or a handful of map objects), compressed together and sealed once
 * in its life.  A pack is a file of slabs that ends with a sealed directory.  A slab is named by
 * (pack id, slab number), never by an offset: relocation copies its bytes verbatim and the name holds.
 *
 * Pack: vaults/<vault id>/packs/<xx>/<pack id>
 *   header 256 | slab 0 | slab 1 | ... | directory slab | trailer 64
 *
 * Header
 * offset  bytes  meaning
 *      0      8  magic "HFPACK01"
 *      8      2  version: 1
 *     10      1  kind: 1 data (pages), 2 map (leaves, manifests), 3 stream, 4 records
 *     11      1  suite: 1 AES-256-GCM, 2 XChaCha20-Poly1305 (3 is kept for AEGIS-256)
 *     12      1  compression of slabs that are compressed: 1 zstd
 *     13      1  hash that the log keeps of the whole pack: 1 SHA-256
 *     14      2  flags: 0
 *     16     16  repository id
 *     32     16  vault id
 *     48     16  pack id
 *     64     16  session id
 *     80      4  key epoch
 *     84      2  parity data blocks, 0: no parity
 *     86      2  parity blocks
 *     88      8  created at
 *     96     32  X25519 public share of the writer; zeros: the pack key comes from the data secret itself
 *    128     32  key commitment: H(pack key; "holdfast commit")
 *    160      8  writer epoch
 *    168     84  reserved
 *    252      4  CRC-32C of bytes 0..251
 *
 * Pack key = H(K; "holdfast pack" || header bytes 8..127), where K is the data secret of the key epoch for
 * kinds data, stream and records, and the vault's map key for kind map.
 * Directory key = H(map key; "holdfast directory" || header bytes 8..127), for every kind: the tag cache and
 * collection work without the data secret.
 *
 * Slab, at any 8-byte boundary (gaps are zeros)
 *      0      4  magic "HFSL"
 *      4      4  slab number, from 0; the directory has number 0xffffffff
 *      8      4  plaintext length, at most 1 MiB (map objects: 64 MiB, directory: 256 MiB)
 *     12      4  length of the compressed plaintext, which is what is sealed; never more than the plaintext's
 *     16      1  kind: 1 pages, 2 map objects, 3 directory, 4 stream
 *     17      1  compression: 0 none, 1 zstd (one frame)
 *     18      2  flags: 0
 *     20      4  pages or objects inside; directory: slabs that it lists
 *     24      4  reserved
 *     28      4  CRC-32C of bytes 0..27
 *     32      n  ciphertext
 *   32+n     16  tag
 * Nonce: the slab number as 4 little-endian bytes, then zeros, 12 bytes for suite 1 and 24 for suite 2.
 * Associated data: the pack header's 256 bytes || the slab header's 32 bytes.
 * A pack key never seals two slabs of one number: numbers only count up within the one writer that
 * drew the pack id, and what failed half-way is never written again under that id.
 *
 * Plaintext of a pages slab: u32 length of the page list, the page list, the pages.
 *   Page list: varint count of runs; per run: varint file ordinal, varint log2 of the page size, varint first
 *   page, varint count of pages, varint bytes missing in the run's last page (a file's short tail).
 *   Pages follow in the order of the runs without gaps.  A page's index in the slab counts over all runs.
 * Plaintext of a map slab: varint count of objects; per object: u8 kind (1 leaf, 2 manifest page,
 *   3 manifest root), varint length; then the objects' bytes in that order (map.h, manifest.h).
 * Plaintext of the directory: u32 version 1; varint count of slabs; per slab: varint offset / 8,
 *   varint plaintext length, varint sealed length (n above), u8 kind, varint pages or objects;
 *   varint count of files; per file: varint ordinal, u8 log2 of the page size, string path;
 *   then per pages slab, in order: its page list once more (string), then per page: tag 16, CRC-32C u32.
 *   The directory is cut at HF_DIRECTORY_MOST; the writer closes the pack before.
 *
 * Trailer
 *      0      8  magic "HFPEND01"
 *      8      8  offset of the directory slab
 *     16      8  length of the directory slab: header, ciphertext and tag
 *     24      8  offset of the parity, 0
 *     32      8  length of the parity, 0
 *     40      4  count of slabs, without the directory
 *     44     16  reserved
 *     60      4  CRC-32C of bytes 0..59
 */
#pragma once
#include "server/keys/keys.h"

#define HF_PACK_HEADER       256
#define HF_PACK_TRAILER      64
#define HF_SLAB_HEADER       32
#define HF_SLAB_DIRECTORY_NO 0xffffffffu

enum hf_pack_kind { HF_PACK_DATA = 1, HF_PACK_MAP = 2, HF_PACK_STREAM = 3, HF_PACK_RECORDS = 4 };
enum hf_slab_kind { HF_SLAB_PAGES = 1, HF_SLAB_OBJECTS = 2, HF_SLAB_DIRECTORY = 3, HF_SLAB_STREAM = 4 };
enum hf_suite { HF_SUITE_AES256_GCM = 1, HF_SUITE_XCHACHA20 = 2 };

/* AES where the CPU has it, else XChaCha20. */
enum hf_suite hf_suite_best(void);

/* The name of a pack's object: vaults/<vault>/packs/<xx>/<pack>. */
#define HF_PACK_NAME_BYTES 128
const char *hf_pack_name(const struct hf_id *vault, const struct hf_id *pack, char name[static HF_PACK_NAME_BYTES]);

/* A run of pages of one file as it stands in a slab. */
struct hf_page_run {
    uint32_t file; // ordinal in the session
    uint8_t page_log2;
    uint64_t first_page;
    uint32_t count;
    uint32_t short_by; // bytes missing in the last page
};

/* Keys and header of one pack, for sealing (one writer) or opening (any threads). */
struct hf_pack_cipher;

struct hf_pack_identity {
    enum hf_pack_kind kind;
    enum hf_suite suite;
    struct hf_id repository, vault, pack, session;
    uint32_t key_epoch;
    uint64_t writer_epoch;
    int64_t created_at;
};

/* For a new pack: draws nothing itself, the caller drew identity->pack. */
HF_MUST_CHECK bool hf_pack_cipher_new(const struct hf_pack_identity *identity, const struct hf_vault_keys *keys,
                                      struct hf_pack_cipher **ret, struct hf_error *err);
/* From a stored header: checks magic, CRC, ids (repository, vault, expected pack) and key commitment. */
HF_MUST_CHECK bool hf_pack_cipher_from_header(const uint8_t header[static HF_PACK_HEADER],
                                              const struct hf_vault_keys *keys, const struct hf_id *expected_pack,
                                              struct hf_pack_cipher **ret, struct hf_error *err);
void hf_pack_cipher_freep(struct hf_pack_cipher **cipher);
const uint8_t *hf_pack_cipher_header(const struct hf_pack_cipher *cipher); // HF_PACK_HEADER bytes
const struct hf_pack_identity *hf_pack_cipher_identity(const struct hf_pack_cipher *cipher);

/* A worker's own tools: a zstd context for each direction, a cipher context, scratch.  Not shared between threads. */
struct hf_slab_worker;
HF_MUST_CHECK bool hf_slab_worker_new(int zstd_level, struct hf_slab_worker **ret, struct hf_error *err);
void hf_slab_worker_freep(struct hf_slab_worker **worker);

struct hf_slab_info {
    uint32_t number;
    enum hf_slab_kind kind;
    uint32_t plain_length;
    uint32_t sealed_length; // of the ciphertext, without tag
    uint32_t items;         // pages or objects
    uint64_t offset;        // in the pack
};

/*
 * Compresses and seals `plain`; the result (header, ciphertext, tag, padded to 8) replaces what is in
 * `out`.  info->number, kind and items are the caller's, the lengths are filled in.
 */
HF_MUST_CHECK bool hf_slab_seal(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher,
                                struct hf_slab_info *info, const uint8_t *plain, size_t length, struct hf_buf *out,
                                struct hf_error *err);
/* Checks that sealed bytes open and decompress to exactly `plain`: catches a bad compressor or bad memory. */
HF_MUST_CHECK bool hf_slab_prove(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher,
                                 const struct hf_slab_info *info, const uint8_t *sealed, size_t sealed_length,
                                 const uint8_t *plain, size_t length, struct hf_error *err);
/*
 * Opens one slab's stored bytes (header first) as slab `number` of the pack.  `plain` is replaced.
 * CORRUPT names pack and slab, and whether header, seal or compression is at fault.
 */
HF_MUST_CHECK bool hf_slab_open(struct hf_slab_worker *worker, const struct hf_pack_cipher *cipher, uint32_t number,
                                const uint8_t *stored, size_t stored_length, struct hf_slab_info *ret_info,
                                struct hf_buf *plain, struct hf_error *err);

/* Encodes and decodes the page list of a pages slab. */
HF_MUST_CHECK bool hf_page_list_put(const struct hf_page_run *runs, size_t count, struct hf_buf *out,
                                    struct hf_error *err);
HF_MUST_CHECK bool hf_page_list_get(const uint8_t *bytes, size_t length, struct hf_page_run *runs, size_t most,
                                    size_t *ret_count, uint32_t *ret_pages, uint64_t *ret_bytes, struct hf_error *err);

/* The pages of an opened slab: page i stands at plain[offset[i]] .. plain[offset[i + 1] - 1]. */
struct hf_slab_pages {
    uint32_t count;
    size_t run_count;
    struct hf_page_run runs[HF_SLAB_PAGES_MOST];
    uint32_t offset[HF_SLAB_PAGES_MOST + 1];
};
/* Reads the page list of a pages slab's plaintext into *pages, which is made when NULL and reused otherwise. */
HF_MUST_CHECK bool hf_slab_pages_read(const uint8_t *plain, size_t length, struct hf_slab_pages **pages,
                                      struct hf_error *err);
void hf_slab_pages_freep(struct hf_slab_pages **pages);

/* The directory of a pack, in memory. */
struct hf_pack_file {
    uint32_t ordinal;
    uint8_t page_log2;
    char *path;
};
struct hf_page_check {
    uint8_t tag[HF_TAG_BYTES];
    uint32_t crc32c;
};
struct hf_pack_directory {
    size_t slab_count;
    struct hf_slab_info *slabs; // by number
    size_t file_count;
    struct hf_pack_file *files; // by ordinal, ascending
    size_t *run_start;          // slab n's runs are runs[run_start[n]] .. runs[run_start[n + 1] - 1]
    size_t run_count;
    struct hf_page_run *runs;
    size_t *page_start; // slab n's pages begin at checks[page_start[n]]
    size_t page_count;
    struct hf_page_check *checks;
};
void hf_pack_directory_freep(struct hf_pack_directory **directory);

/*
 * Writes one pack in order: header, slabs, directory, trailer; then the object is durable (its name
 * after the next barrier).  One thread at a time.
 */
struct hf_pack_writer;
HF_MUST_CHECK bool hf_pack_writer_new(struct hf_backend *backend,
                                      const struct hf_pack_cipher *cipher, // both borrowed for the writer's life
                                      struct hf_pack_writer **ret, struct hf_error *err);
/* The file must be told before the first slab that has pages of it. */
HF_MUST_CHECK bool hf_pack_writer_file(struct hf_pack_writer *writer, uint32_t ordinal, uint8_t page_log2,
                                       const char *path, struct hf_error *err);
/* Slabs come in the order of their numbers.  `runs` and `checks` only for pages slabs. */
HF_MUST_CHECK bool hf_pack_writer_slab(struct hf_pack_writer *writer, const struct hf_slab_info *info,
                                       const uint8_t *stored, size_t stored_length, const struct hf_page_run *runs,
                                       size_t run_count, const struct hf_page_check *checks, struct hf_error *err);
uint64_t hf_pack_writer_bytes(const struct hf_pack_writer *writer); // so far, directory included as estimated
/* Frees the writer in any case. */
HF_MUST_CHECK bool hf_pack_writer_finish(struct hf_pack_writer **writer, struct hf_slab_worker *worker,
                                         uint64_t *ret_bytes, uint8_t ret_sha256[static HF_SHA256_BYTES],
                                         struct hf_error *err);
void hf_pack_writer_abortp(struct hf_pack_writer **writer);

/* Where a pack lies that was moved: see container.h. */
struct hf_pack_move {
    struct hf_id pack, object;
};
/*
 * Reads the log anew for where moved packs lie; sorted by pack; free() the array.  Any thread may be the one that asks.
 */
typedef bool hf_pack_moves_reader(void *context, struct hf_pack_move **ret, size_t *ret_count, struct hf_error *err);

/*
 * Reads stored packs: keeps headers, ciphers and directories of the packs it has seen, within a
 * limit, least recently used first to go.  Any threads.
 *
 * Packs may be moved while they are read: `known` (taken over) says what was moved so far, and whoever meets an object
 * that is missing asks `moves` and tries once more.  Both NULL: every pack lies under its own name;
 * hf_vault_pack_reader() (repository.h) knows better.
 */
struct hf_pack_reader;
HF_MUST_CHECK bool hf_pack_reader_new(struct hf_backend *backend, const struct hf_vault_keys *keys,
                                      struct hf_pack_move *known, size_t known_count, hf_pack_moves_reader *moves,
                                      void *context, struct hf_pack_reader **ret, struct hf_error *err);
void hf_pack_reader_freep(struct hf_pack_reader **reader);
/* What the packs that it has opened so far are sealed with: bit 1 << enum hf_suite of each. */
unsigned hf_pack_reader_suites(struct hf_pack_reader *reader);
/* The slab table only (offsets and lengths), or the whole directory.  Owner of the latter: the caller. */
HF_MUST_CHECK bool hf_pack_reader_slabs(struct hf_pack_reader *reader, const struct hf_id *pack,
                                        struct hf_slab_info **ret_slabs, size_t *ret_count, struct hf_error *err);
HF_MUST_CHECK bool hf_pack_reader_directory(struct hf_pack_reader *reader, struct hf_slab_worker *worker,
                                            const struct hf_id *pack, struct hf_pack_directory **ret,
                                            struct hf_error *err);
/* The pack's header as it is stored. */
HF_MUST_CHECK bool hf_pack_reader_header(struct hf_pack_reader *reader, const struct hf_id *pack,
                                         uint8_t header[static HF_PACK_HEADER], struct hf_error *err);
/* A slab's offset (in whichever object) where the slab was left behind when its pack was moved. */
#define HF_SLAB_LEFT_BEHIND UINT64_MAX
/* Fetches and opens one slab.  CORRUPT when it was left behind. */
HF_MUST_CHECK bool hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker,
                                       const struct hf_id *pack, uint32_t number, struct hf_slab_info *ret_info,
                                       struct hf_buf *plain, struct hf_error *err);

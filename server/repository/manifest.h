/*
 * manifest.h - the files of a backup, paged by folder
 *
 * The root names the folders and, for each, the pages that list its files.  A page that holds the
 * same bytes as one of the parent backup is shared by reference, so that a million files cost what
 * changed.  A file's entry leads to the leaves of its map (map.h).
 *
 * Manifest page, an object of kind 2: files of one folder, sorted by name, at most 512
 *   u8 version 1
 *   varint count of packs, then their ids: the page's own pack table
 *   varint count of files, then per file
 *     string name (no "/"), u8 kind (1 relation, 2 other, 3 WAL, 4 captured configuration),
 *     u8 log2 of the page size, varint mode (permission bits), zigzag varint modified at,
 *     varint size in bytes, u32 CRC-32C of the content, digest 32,
 *     varint count of leaves, then per leaf: varint pack (index), varint slab, varint index
 *   A file of n bytes has ceil(n / page size) pages and ceil(pages / 4096) leaves.
 *   Digest = H(digest key; "holdfast file" || the tags of its pages in order || u64 size).
 *   The tag of a page is SipHash-2-4-128(tag key; the page's bytes as far as the file reaches).
 *
 * Manifest root, an object of kind 3
 *   u8 version 1; backup id 16; vault id 16; session id 16; parent backup id 16 (zeros: none);
 *   varint started at; varint finished at; varint count of files; varint logical bytes;
 *   string facts (canonical JSON: what the engine told, see server/source/source.h)
 *   varint count of packs, then their ids: the root's own pack table
 *   varint count of folders, then per folder, sorted by path, the top folder "" first:
 *     string path, varint mode, varint count of pages, then per page: varint pack, varint slab, varint index,
 *     varint files, 32 bytes H(digest key; "holdfast manifest page" || the page's bytes)
 *   varint count of links, sorted by path, then per link: string path, string target as it was at the source
 *   varint count of summary rows, sorted by pack id, then per row: varint pack (index), varint live:
 *     every pack this backup uses; live is, for a data pack, the pages that the maps point to (a page that two
 *     files share counts twice) and, for a map pack, the leaves and manifest pages referred to (the root itself is
 *     not counted).  What collection counts with.
 *   The count of files is the sum over the pages; live is at least 1.  Every folder that a file, a link or another
 *   folder lies in is listed.
 *
 * Sorted is by strcmp() or the bytes of the id, and nothing comes twice.  A pack table holds the packs
 * that are used, once, in the order of their first use.  So one manifest has one spelling, and the
 * reader refuses every other.
 */
#pragma once
#include "server/repository/map.h"

#define HF_FOLDERS_MOST (1u << 20)
#define HF_LINKS_MOST   (1u << 16)

enum hf_file_kind { HF_FILE_RELATION = 1, HF_FILE_OTHER = 2, HF_FILE_WAL = 3, HF_FILE_CAPTURED = 4 };

struct hf_manifest_file {
    const char *name; // owner: the page
    enum hf_file_kind kind;
    uint8_t page_log2;
    uint32_t mode;
    int64_t modified_at;
    uint64_t size;
    uint32_t crc32c;
    uint8_t digest[HF_FILE_DIGEST_BYTES];
    size_t leaf_count;
    const struct hf_object_ref *leaves; // owner: the page
};

struct hf_manifest_page {
    size_t file_count;
    struct hf_manifest_file *files;
    void *memory; // one piece: files, their leaves and names lie in it
};
void hf_manifest_page_freep(struct hf_manifest_page **page);
/*
 * Adds the page's bytes to `out`.  USAGE names the file that cannot stand in a page: a name that is no
 * component of a path, out of order, leaves that do not match the size.
 */
HF_MUST_CHECK bool hf_manifest_page_encode(const struct hf_manifest_file *files, size_t count, struct hf_buf *out,
                                           struct hf_error *err);
/* CORRUPT says what is wrong and where.  What is accepted encodes to the same bytes again. */
HF_MUST_CHECK bool hf_manifest_page_decode(const uint8_t *bytes, size_t length, struct hf_manifest_page **ret,
                                           struct hf_error *err);

/* H(digest key; "holdfast manifest page" || bytes): what makes two backups share a page. */
struct hf_vault_keys;
void hf_manifest_page_digest(const struct hf_vault_keys *keys, const uint8_t *bytes, size_t length,
                             uint8_t ret[static HF_FILE_DIGEST_BYTES]);

struct hf_manifest_page_ref {
    struct hf_object_ref ref;
    uint32_t files;
    uint8_t digest[HF_FILE_DIGEST_BYTES];
};
struct hf_manifest_folder {
    char *path;
    uint32_t mode;
    size_t page_count;
    struct hf_manifest_page_ref *pages;
};
struct hf_manifest_link {
    char *path;
    char *target;
};
struct hf_manifest_summary {
    struct hf_id pack;
    uint64_t live; // pages of a data pack, objects of a map pack
};
struct hf_manifest_root {
    struct hf_id backup, vault, session, parent;
    int64_t started_at, finished_at;
    uint64_t file_count, logical_bytes;
    char *facts; // canonical JSON
    size_t folder_count;
    struct hf_manifest_folder *folders;
    size_t link_count;
    struct hf_manifest_link *links;
    size_t summary_count;
    struct hf_manifest_summary *summary;
};
void hf_manifest_root_freep(struct hf_manifest_root **root); // the struct and all in it, each from malloc
/* Like the functions for a page.  The facts are text here; who reads them parses them. */
HF_MUST_CHECK bool hf_manifest_root_encode(const struct hf_manifest_root *root, struct hf_buf *out,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_manifest_root_decode(const uint8_t *bytes, size_t length, struct hf_manifest_root **ret,
                                           struct hf_error *err);

/*
 * A path in a backup: 1 to 4,096 bytes, components of 1 to 255 bytes joined by "/", none "." or "..",
 * no leading or trailing "/", no control bytes.  Anything else is refused by name, on the way in and
 * on the way out.
 */
HF_MUST_CHECK bool hf_path_check(const char *path, struct hf_error *err);

/*
 * innodb.h - pages of InnoDB's tablespaces: how large they are, and whether their checksums hold
 *
 * Numbers are big endian.  Every page begins with
 *
 *     0 u32 checksum (of full_crc32: key version, part of what the checksum covers)   4 u32 page number
 *    16 u64 LSN   24 u16 type   26 u32 key version (old form, not page 0)   30 u32 checksum of the encrypted page (old
 *                 form)
 *    34 u32 tablespace
 *
 * and the first page of a tablespace goes on with   38 u32 tablespace   54 u32 flags:
 *
 *     full_crc32  bit 4 set     bits 0-3 log2 of the page's bytes, less 9   bits 5-7 how pages are compressed, 0: not
 *     old form    bit 4 clear   bits 1-4 page of ROW_FORMAT=COMPRESSED: 0 none, else 512 << n bytes on disk
 *                               bits 6-9 page: 0 16 KiB, else 512 << n   bit 13 (MySQL) encrypted
 *                               bit 16 (MariaDB) page compressed
 *
 * (Bits 1-4 of the old form reach 5 at most, so bit 4 tells the two apart.)
 *
 *     full_crc32      last 4 bytes: CRC-32C of all before, also when encrypted.  A compressed page (type with bit 15)
 *                     has (type & 0x7fff) * 256 bytes that count, its checksum at their end
 *     crc32           bytes 0-3 and 8 before the end: CRC-32C of 4..25 xor CRC-32C of 38..(8 before the end); the last
 *                     four are the LSN's low half
 *     innodb          (before crc32) the same places, other sums; none: 0xdeadbeef in both
 *     ROW_FORMAT=COMPRESSED   bytes 0-3 alone: CRC-32C of 4..15 xor of 24..25 xor of 34..end
 *     encrypted, old form     bytes 30-33 of MariaDB: sum as crc32 over what is on disk.  MySQL's (type 15 to 17) keep
 *                     the crc32 form
 *     page compressed, old form (type 34354, 37401; MySQL 14, 17)   nothing that holds without unpacking it: not judged
 *
 * A page of zeros was never written, and is legal.  Each page names its number and its tablespace (but a
 * compressed or encrypted one of full_crc32 not that): both must be right.
 * Pages of the first tablespace in which copies lie while they are written (doublewrite: the second and third extent)
 * are not judged: the backup tool leaves them out, and recovery does not read them in a copy.
 *
 * Source: the layouts follow MariaDB's documentation of InnoDB's file formats; all but MySQL's and innodb's own sums
 * were compared with tablespaces that MariaDB 10.11 wrote.
 */
#pragma once
#include "server/source/source.h"

#define HF_INNODB_HEADER_BYTES 58 // of the first page: what hf_innodb_space_read needs
#define HF_INNODB_PAGE_LEAST   1024
#define HF_INNODB_PAGE_MOST    65536

struct hf_innodb_space {
    uint32_t id, flags;
    uint32_t page_bytes; // as it lies on the disk
    bool full_crc32;
    bool compressed; // ROW_FORMAT=COMPRESSED
};

/* False when that is not the beginning of a tablespace's first page. */
bool hf_innodb_space_read(const uint8_t *page, size_t length, struct hf_innodb_space *ret);
/* The same from the flags alone, for further files of the first tablespace. */
bool hf_innodb_space_of(uint32_t id, uint32_t flags, struct hf_innodb_space *ret);

/* HF_PAGE_OK, _NEW, _BAD or _UNJUDGED.  `page` has space->page_bytes bytes. */
enum hf_page_verdict hf_innodb_page_verdict(const struct hf_innodb_space *space, uint32_t number, const uint8_t *page);

/* The check_word of a file, and what it means.  A file whose first page cannot be read has checksums false. */
uint64_t hf_innodb_check_word(const struct hf_innodb_space *space);

/* Of struct hf_source_engine. */
void hf_innodb_check_pages(struct hf_page_faults *faults, const struct hf_backup_file *file, uint64_t first_page,
                           const uint8_t *data, size_t length);

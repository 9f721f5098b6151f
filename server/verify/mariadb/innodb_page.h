/*
 * innodb_page.h - whether a page of InnoDB is what was written, by its checksum
 *
 * All numbers big-endian.  Of a page:
 *      0  4  checksum (not with full_crc32)         24  2  type; bit 15 with full_crc32: page-compressed
 *      4  4  page number                            26  4  key version, 0: not encrypted (8 bytes of flush LSN before)
 *     16  8  LSN of the last change                 34  4  tablespace
 * and at its end 8 bytes: checksum and low half of the LSN; with full_crc32 the checksum alone in the last 4.
 *
 * Of page 0, at 54: 4 bytes of flags.  Bit 4: full_crc32, then bits 0-3 are the page size as 512 << n and bits 5-7 how
 * pages are compressed.  Else bits 1-4: size of compressed pages (ROW_FORMAT=COMPRESSED) as 512 << n, 6-9: page size,
 * 0 for 16 KiB, bit 16: page-compressed.
 *
 * Checksums are CRC-32C: full_crc32 over all but itself; crc32 of bytes 4 to 26 xor that of 38 to the last 8;
 * of compressed pages 4 to 16 xor 24 to 26 xor 34 to the end.  Source: MariaDB 10.11, storage/innobase/buf/buf0buf.cc
 * and include/fsp0types.h.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HF_INNODB_PAGE_LEAST 1024
#define HF_INNODB_PAGE_MOST  65536
#define HF_INNODB_FLAGS_END  58 // of page 0, to read the flags

struct hf_innodb_space {
    uint32_t page_bytes; // of a page in the file
    bool full_crc32, compressed_rows, compressed_pages;
};

/* From the start of page 0; false when those are no flags. */
bool hf_innodb_space_parse(const uint8_t *start, size_t length, struct hf_innodb_space *ret);

enum hf_innodb_verdict {
    HF_INNODB_OK,
    HF_INNODB_EMPTY,    // all zeros: never used, which is legal
    HF_INNODB_UNJUDGED, // of a form that carries no checksum that can be checked without the server
    HF_INNODB_BAD,
};
/* `number`: which page of the file this is. */
enum hf_innodb_verdict hf_innodb_page_check(const struct hf_innodb_space *space, const uint8_t *page, uint64_t number);

/*
 * page_check.h - is this page of a PostgreSQL relation what the server wrote?
 *
 * The server could check while it sends, one page at a time; we tell it not to and check on our own
 * threads.  A backup reads pages while they are being written, so a page that fails is only certainly
 * bad when it says it is older than the backup: otherwise the WAL of the backup holds a whole image of it.
 *
 * Page header (little endian): 0 u64 LSN as two u32, high first; 8 u16 checksum; 10 u16 flags; 12 u16 lower;
 * 14 u16 upper; 16 u16 special; 18 u16 page size + layout version (4); 20 u32 prune xid.
 *
 * Checksum, layout version 4: the page as 64 rows of 32 words of 32 bits, its checksum field taken as 0;
 * each of 32 lanes starts at its own constant and takes one word a row, s = (s ^ w) * 16777619 ^ ((s ^ w) >> 17),
 * then two rows of zeros; the lanes xored, xored with the absolute block number, modulo 65535, plus 1.
 * Source: PostgreSQL, src/include/storage/checksum_impl.h; checked against pg_checksums in the tests.
 */
#pragma once
#include "server/source/source.h"

#define HF_POSTGRES_PAGE_BYTES        8192
#define HF_POSTGRES_PAGE_HEADER_BYTES 24

/* Of a whole page; the stored checksum does not matter.  Never 0. */
uint16_t hf_postgres_page_checksum(const uint8_t page[static HF_POSTGRES_PAGE_BYTES], uint32_t block);

/*
 * `block` is absolute within the relation's fork: segment number x blocks of a segment + block.  Without
 * checksums only the header is judged: flags, order of its pointers, size and version.
 */
enum hf_page_verdict hf_postgres_page_verdict(const uint8_t page[static HF_POSTGRES_PAGE_BYTES], uint32_t block,
                                              uint64_t start_lsn, bool checksums);

uint64_t hf_postgres_page_lsn(const uint8_t page[static HF_POSTGRES_PAGE_BYTES]);

/*
 * The form for the workers: `data` holds whole pages of the file from page `first_page` on; only a file's
 * last call may end inside a page.  Files other than relations are passed over.  Such a tail cannot be
 * checked; it is pending, since a file may be cut at the size it had when the server looked.
 */
void hf_postgres_check_pages(struct hf_page_faults *faults, const struct hf_backup_file *file, uint64_t first_page,
                             const uint8_t *data, size_t length);

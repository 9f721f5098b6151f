/*
 * table_keys.h - keys of MariaDB's encrypted tables, as the plugin file_key_management keeps them, and what they open
 *
 * The file is text, a key a line; '#' begins a comment:
 *
 *     <id>;<32, 48 or 64 hex digits>        id from 1 to 4294967295, of AES with 128, 192 or 256 bits
 *
 * or that text sealed with a password: "Salted__", 8 bytes of salt, AES-256-CBC with PKCS#7 padding; key (32 bytes) and
 * vector (16) are SHA-1's digests of (the digest before, the password, the salt), one after the other.
 *
 * Whether keys are the right ones cannot be told by a checksum: that of full_crc32 is over the sealed page.  So the
 * root page of a table's first index (page 3) is opened here.  An encrypted tablespace says in its first page, behind
 * its list of extents:
 *
 *     0  6  73 0e 0c 52 45 74      6 u8 scheme: 1 encrypted, 0 not   7 u8 16   8 16 the tablespace's vector
 *    24 u32 least key version     28 u32 key id                     32 u8 1: encrypted by name, 2: never
 *
 * (big endian).  The key of a tablespace is its vector, enciphered by AES-ECB with the key of that id.  A page is
 * sealed with AES-CBC (whole blocks; what is left over is not looked at here) or AES-CTR, under the vector u32
 * tablespace, u32 page, u64 LSN (little endian), from byte 26 to 4 before its end (full_crc32) or from 38 to 8 before
 * its end (to its end for ROW_FORMAT=COMPRESSED).  An opened root page names its tablespace at 74 and at 84, in the
 * places of its two segments: 64 bits that a wrong key does not give.
 *
 * Source: the layouts were read off tablespaces that MariaDB 10.11 wrote with known keys; the file's form is in
 * MariaDB's documentation of the plugin.
 */
#pragma once
#include "base/id.h"
#include "base/secret.h"
#include "server/source/mariadb/innodb.h"

#define HF_TABLE_KEYS_MOST      1024
#define HF_TABLE_KEYS_FILE_MOST (256 * HF_KIB)
#define HF_TABLE_KEYS_PLUGIN    "file_key_management"

struct hf_table_keys;

/*
 * Both files are secrets (hf_secret_read_file); password_file may be NULL.  The content of the first may be either
 * form.
 * Errors: those of reading; USAGE names the file and the line that is no key, says that a password is needed, or that
 * it does not open the file.  Owner of *ret: the caller.
 */
HF_MUST_CHECK bool hf_table_keys_read(const char *file, const char *password_file, struct hf_table_keys **ret,
                                      struct hf_error *err);
void hf_table_keys_freep(struct hf_table_keys **keys);

/* The text, opened: for a server's plugin.  Borrowed. */
const char *hf_table_keys_text(const struct hf_table_keys *keys);

/* How a tablespace is encrypted. */
struct hf_table_crypt {
    uint32_t key_id;
    uint8_t vector[16];
};
/* False: it is not.  `page` is its first one, whole. */
bool hf_table_crypt_read(const uint8_t *page, uint32_t page_bytes, struct hf_table_crypt *ret);

enum hf_table_key_verdict {
    HF_TABLE_KEY_OPENS,
    HF_TABLE_KEY_WRONG,
    HF_TABLE_KEY_MISSING,  // there is none of that id
    HF_TABLE_KEY_UNJUDGED, // that page is not encrypted, or packed before it was, or no root page
};
/* Page 3 of the tablespace, whole; `counter`: the plugin's algorithm is aes_ctr, else aes_cbc. */
enum hf_table_key_verdict hf_table_keys_try(const struct hf_table_keys *keys, const struct hf_innodb_space *space,
                                            const struct hf_table_crypt *crypt, bool counter, const uint8_t *page);

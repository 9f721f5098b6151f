/*
 * inventory.h - every name a backup has brought, and whether the manifest agrees
 *
 * The server's manifest comes last, the sink's digests later still.  So the inventory holds, for each
 * file, its size, and when the manifest passes by, the CRC-32C it promises.  The comparison is made at the
 * end, in both directions.  About 50 bytes and the name for each file.
 */
#pragma once
#include "server/source/source.h"

#define HF_INVENTORY_NAMES_MOST (8 * 1000 * 1000)
#define HF_INVENTORY_TEXT_MOST  (512 * HF_MIB) // of all names together

struct hf_inventory;

HF_MUST_CHECK bool hf_inventory_new(struct hf_inventory **ret, struct hf_error *err);
void hf_inventory_freep(struct hf_inventory **inventory);

/*
 * Notes a name.  Its folder must have come before; the data directory itself has.
 * Errors: CORRUPT when the name came before or its folder did not; NO_SPACE over the limits above.
 */
HF_MUST_CHECK bool hf_inventory_add_folder(struct hf_inventory *inventory, const char *path, struct hf_error *err);
/* A tablespace's folder: it comes before pg_tblspc itself. */
HF_MUST_CHECK bool hf_inventory_add_tablespace(struct hf_inventory *inventory, const char *path, struct hf_error *err);
HF_MUST_CHECK bool hf_inventory_add_file(struct hf_inventory *inventory, const char *path, struct hf_error *err);

/* The file added last has arrived whole. */
void hf_inventory_finish_file(struct hf_inventory *inventory, uint64_t size);

/* The same for one that is stored as something else: its own checksum is compared, and the sink is not asked for it. */
void hf_inventory_finish_changed_file(struct hf_inventory *inventory, uint64_t size, uint32_t crc32c);

/* The manifest names this file.  CORRUPT when it did not arrive, has another size, or was named before. */
HF_MUST_CHECK bool hf_inventory_promise(struct hf_inventory *inventory, const char *path, uint64_t size,
                                        uint32_t crc32c, struct hf_error *err);

/* After the sink's flush: CORRUPT names the first file that was not promised, or came out different. */
HF_MUST_CHECK bool hf_inventory_compare(const struct hf_inventory *inventory, const struct hf_backup_sink *sink,
                                        struct hf_error *err);

uint64_t hf_inventory_files(const struct hf_inventory *inventory);

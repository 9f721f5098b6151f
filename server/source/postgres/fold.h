/*
 * fold.h - an incremental base backup (PostgreSQL 17 and later) turned into a whole one on its way in
 *
 *     our copy of the earlier backup's manifest --UPLOAD_MANIFEST--> server
 *     server --INCREMENTAL.<name>--> listed blocks are written, the others taken from the earlier backup by reference
 *     backup_label loses its lines INCREMENTAL FROM ..., with which no server starts
 *     the server's manifest is kept as it is (HF_FOLD_SERVER_MANIFEST: the next upload); backup_manifest is written
 *     anew, with the names, sizes and checksums of the whole files, so that whoever checks the restored folder finds
 *     what is said there
 *
 * The sink must have file_keep.
 */
#pragma once
#include "server/source/postgres/connection.h"
#include "server/source/postgres/incremental.h"

#define HF_FOLD_SERVER_MANIFEST "holdfast_config/server_manifest"

/* "base/5/INCREMENTAL.1259" becomes "base/5/1259", in place; false: it is none. */
bool hf_fold_plain_path(char *path);

/* Gives the server the manifest to compare with.  Errors: what the server says. */
HF_MUST_CHECK bool hf_fold_upload(PGconn *conn, const struct hf_postgres_patience *patience, const void *manifest,
                                  size_t length, struct hf_error *err);

/* One file of changed blocks on its way in. */
struct hf_fold;
/*
 * `file`: the whole file, as far as it is known (its size is not); borrowed until hf_fold_freep().  sent_bytes: of the
 * file that comes.
 */
HF_MUST_CHECK bool hf_fold_new(const struct hf_backup_sink *sink, const struct hf_backup_file *file,
                               uint32_t segment_blocks, uint64_t sent_bytes, struct hf_fold **ret,
                               struct hf_error *err);
void hf_fold_freep(struct hf_fold **fold); // drops the file in the sink, if it did not end
/* Errors: CORRUPT, and those of the sink. */
HF_MUST_CHECK bool hf_fold_feed(struct hf_fold *fold, const void *data, size_t length, struct hf_error *err);
/* All bytes came: the rest is taken from the earlier backup, the file ends.  *ret_crc32c: of what came. */
HF_MUST_CHECK bool hf_fold_end(struct hf_fold *fold, uint32_t *ret_crc32c, struct hf_error *err);

/* The blocks that came, once it has ended: number i of them, counted from the start of this file. */
uint32_t hf_fold_block_count(const struct hf_fold *fold);
uint32_t hf_fold_block(const struct hf_fold *fold, uint32_t i);

/* The label without its lines of an incremental backup.  CORRUPT when it has none. */
HF_MUST_CHECK bool hf_fold_label(const char *text, struct hf_buf *out, struct hf_error *err);

/*
 * Writes backup_manifest into the sink, from the server's and the digests of what was stored.  After the sink's flush.
 */
HF_MUST_CHECK bool hf_fold_put_manifest(const struct hf_backup_sink *sink, const void *server_manifest, size_t length,
                                        struct hf_error *err);

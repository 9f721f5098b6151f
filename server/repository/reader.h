/*
 * reader.h - reading one backup: its files, and where their pages lie
 *
 * Everything read is authenticated.  An error names the object that is missing or damaged, and the
 * file it was needed for.
 */
#pragma once
#include "server/repository/pack.h"
#include "server/repository/page_tag.h"
#include "server/repository/manifest.h"
#include "server/repository/repository.h"

struct hf_backup;

/* NOT_FOUND: no counting backup has this id. */
HF_MUST_CHECK bool hf_backup_open(struct hf_vault *vault, const struct hf_id *backup, struct hf_backup **ret,
                                  struct hf_error *err);
void hf_backup_freep(struct hf_backup **backup);
const struct hf_manifest_root *hf_backup_root(const struct hf_backup *backup);
struct hf_pack_reader *hf_backup_packs(struct hf_backup *backup);
const struct hf_vault_keys *hf_backup_keys(const struct hf_backup *backup);

/*
 * Visits every file in the order of folders and names.  The leaves come from hf_backup_leaf().  The
 * path is "folder/name".
 */
typedef bool hf_backup_file_visitor(void *context, const char *path, const struct hf_manifest_file *file,
                                    struct hf_error *err);
HF_MUST_CHECK bool hf_backup_files(struct hf_backup *backup, struct hf_slab_worker *worker,
                                   hf_backup_file_visitor *visit, void *context, struct hf_error *err);
/*
 * The same for a backup of which something is lost: a page of the manifest that does not read is told, with the number
 * of files it lists, and the walk goes on.  `why` is borrowed for the call.
 */
typedef bool hf_backup_lost_visitor(void *context, const char *folder, uint32_t files, const struct hf_error *why,
                                    struct hf_error *err);
HF_MUST_CHECK bool hf_backup_files_left(struct hf_backup *backup, struct hf_slab_worker *worker,
                                        hf_backup_file_visitor *visit, hf_backup_lost_visitor *lost, void *context,
                                        struct hf_error *err);
HF_MUST_CHECK bool hf_backup_find(struct hf_backup *backup, struct hf_slab_worker *worker, const char *path,
                                  hf_backup_file_visitor *visit, void *context, struct hf_error *err); // NOT_FOUND
/* Decodes one leaf of a file into `leaf` (initialised by the caller). */
HF_MUST_CHECK bool hf_backup_leaf(struct hf_backup *backup, struct hf_slab_worker *worker,
                                  const struct hf_object_ref *ref, struct hf_leaf *leaf, struct hf_error *err);

/* Reads a whole small file (configuration, labels) into the buffer, digest checked. */
HF_MUST_CHECK bool hf_backup_read_file(struct hf_backup *backup, struct hf_slab_worker *worker, const char *path,
                                       struct hf_buf *content, struct hf_error *err);

/*
 * The digest of a file from its pages, as they are read in order: tag each page, add it, end.
 */
struct hf_file_digest;
HF_MUST_CHECK bool hf_file_digest_new(const struct hf_vault_keys *keys, struct hf_file_digest **ret,
                                      struct hf_error *err);
void hf_file_digest_add(struct hf_file_digest *digest, const uint8_t tag[static HF_TAG_BYTES]);
void hf_file_digest_add_many(struct hf_file_digest *digest, const uint8_t *tags, size_t pages);
void hf_file_digest_end(struct hf_file_digest *digest, uint64_t size, uint8_t ret[static HF_FILE_DIGEST_BYTES]);
void hf_file_digest_freep(struct hf_file_digest **digest);

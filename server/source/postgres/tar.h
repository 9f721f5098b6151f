/*
 * tar.h - one tar of a base backup, taken apart into files for the sink
 *
 * libarchive reads the format; what may come in is decided here.  PostgreSQL sends plain ustar: folders
 * and regular files, nothing else.  So everything else is refused by name: links of both kinds, devices,
 * other dialects of tar (so sparse files too), names that are not plain (path.h), names that came before, files
 * whose folder did not, and the names that are ours (pg_wal/..., backup_manifest, holdfast_config).
 */
#pragma once
#include "server/source/postgres/fold_vm.h"
#include "server/source/postgres/inventory.h"

/* Small files that are also kept, to be read here. */
#define HF_TAR_LABEL_MOST (64 * HF_KIB)

struct hf_tar_kept {
    struct hf_buf backup_label;
    struct hf_buf control; // global/pg_control
};

void hf_tar_kept_init(struct hf_tar_kept *kept);
void hf_tar_kept_done(struct hf_tar_kept *kept);

struct hf_tar {
    const char *prefix; // "" for the data directory, "pg_tblspc/16400" for a tablespace
    const struct hf_backup_sink *sink;
    struct hf_inventory *inventory;
    struct hf_tar_kept *kept;
    uint32_t segment_blocks; // of a relation segment
    bool checksums;          // relations carry page checksums
    struct hf_fold_vm *vm; // files of changed blocks come too, and a label of an incremental backup (fold.h); NULL: no
};

/*
 * Gives the next bytes, borrowed until the call after; *ret_length 0 is the end.  An error here comes back
 * from hf_tar_receive as it is.
 */
typedef bool hf_tar_next_function(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err);

/*
 * Reads to the end of the bytes, also behind the tar's own end.  Errors: CORRUPT, those of `next`, those of the sink.
 */
HF_MUST_CHECK bool hf_tar_receive(const struct hf_tar *tar, hf_tar_next_function *next, void *context,
                                  struct hf_error *err);

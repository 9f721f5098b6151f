/*
 * log_place.h - the folder in which a server in recovery wants a file of the log
 *
 * Who puts files there may be root, and the folder is somebody else's: what is put there belongs to the folder's owner,
 * and it is he who must have asked, or root.  A file appears under its name at once and whole.
 */
#pragma once
#include <sys/types.h>
#include "server/source/postgres/archive_file.h"

/* Beside the wanted file: segments fetched in advance. */
#define HF_LOG_PREFETCH ".holdfast-prefetch"

struct hf_log_place {
    int folder;
    uid_t uid;
    gid_t gid;
    dev_t device;
    ino_t inode;
};
#define HF_LOG_PLACE_NONE ((struct hf_log_place){.folder = -1})

/*
 * The folder of the file that is to be put at the absolute path; *ret_name is its name, inside of path.  asker: the
 * user's
 * id.  Errors: USAGE; DENIED when the folder is not his.
 */
HF_MUST_CHECK bool hf_log_place_open(const char *path, int64_t asker, struct hf_log_place *ret, const char **ret_name,
                                     struct hf_error *err);
/* The folder HF_LOG_PREFETCH in it, made when it is not there.  DENIED when it belongs to somebody else. */
HF_MUST_CHECK bool hf_log_place_beside(const struct hf_log_place *place, struct hf_log_place *ret,
                                       struct hf_error *err);
void hf_log_place_done(struct hf_log_place *place);

struct hf_log_put {
    bool whole_only; // a segment in which the archive ends is not put there
    bool durable;    // on the disk when we return
};
/* Errors and *ret are those of hf_archive_file_write(); nothing is left behind by a failure. */
HF_MUST_CHECK bool hf_log_place_put(const struct hf_log_place *place, struct hf_archive *archive,
                                    const struct hf_archive_file *file, uint32_t segment_bytes, const char *name,
                                    const struct hf_log_put *how, enum hf_archive_answer *ret, struct hf_error *err);

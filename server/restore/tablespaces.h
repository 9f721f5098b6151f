/*
 * tablespaces.h - tablespaces that are restored elsewhere than inside the copy
 *
 * Unless somebody says otherwise a tablespace becomes a folder of the copy (restore.h).  Who names a folder for it, by
 * the location that it has at the source, gets what PostgreSQL itself would have: pg_tblspc/<oid> is a link to that
 * folder, which was missing or empty.  The names come from a person, never from the backup.
 */
#pragma once
#include "server/repository/manifest.h"

#define HF_TABLESPACE_MOVES_MOST 1000

struct hf_tablespace_move {
    const char *from; // the location at the source
    const char *to;   // an absolute path outside of the target
};

/*
 * Before anything is touched.  USAGE: the backup has no tablespace there (its locations are named), a folder is named twice,
 * lies in the target, or is not absolute; CONFLICT: it is not empty.
 */
HF_MUST_CHECK bool hf_tablespaces_check(const struct hf_manifest_root *root, const char *target,
                                        const struct hf_tablespace_move *moves, size_t count, struct hf_error *err);
/* Where the tablespace of this path ("pg_tblspc/16400") goes; NULL: it stays in the copy. */
const struct hf_tablespace_move *hf_tablespaces_find(const struct hf_manifest_root *root, const char *path,
                                                     const struct hf_tablespace_move *moves, size_t count);
/*
 * Makes the folder, durably and of the owner (uid and gid, or -1), and the link to it; the folder pg_tblspc must be there.
 */
HF_MUST_CHECK bool hf_tablespaces_link(int target, const char *path, const struct hf_tablespace_move *move, uid_t uid,
                                       gid_t gid, struct hf_error *err);

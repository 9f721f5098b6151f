/*
 * corrections.h - what a backup tool took back of files it had sent already
 *
 * When tables are renamed, dropped or altered while a backup runs, mariadb-backup says at the end of its stream which
 * of its files have another name, are gone, or are sent anew.  What has been stored stays as it came; the changes lie
 * beside it, in HF_CORRECTIONS_PATH, in the order in which they came:
 *
 *     {"version": 1, "changes": [{"do": "rename", "path": "clinic/a.MAD", "to": "clinic/b.MAD"},
 *                                {"do": "remove", "path": "clinic/c.frm"},
 *                                {"do": "replace", "path": "clinic/d.frm", "by": "holdfast_config/replaced/000001"}]}
 *
 * "replace" puts the stored file `by` in the place of `path`, which may be there or not.  They must be made in a
 * restored folder before it is prepared; a backup without the file needs none.
 */
#pragma once
#include "base/json.h"

#define HF_CORRECTIONS_PATH      "holdfast_config/corrections.json"
#define HF_CORRECTIONS_MOST      100000
#define HF_CORRECTIONS_FILE_MOST (32 * HF_MIB)

struct hf_corrections {
    json_t *changes; // a list
    unsigned replaced;
};

HF_MUST_CHECK bool hf_corrections_init(struct hf_corrections *corrections, struct hf_error *err);
void hf_corrections_done(struct hf_corrections *corrections);

HF_MUST_CHECK bool hf_corrections_rename(struct hf_corrections *corrections, const char *path, const char *to,
                                         struct hf_error *err);
HF_MUST_CHECK bool hf_corrections_remove(struct hf_corrections *corrections, const char *path, struct hf_error *err);
/* *by is the name under which the new file is to be stored. */
#define HF_CORRECTIONS_BY_BYTES 48
HF_MUST_CHECK bool hf_corrections_replace(struct hf_corrections *corrections, const char *path,
                                          char by[static HF_CORRECTIONS_BY_BYTES], struct hf_error *err);
size_t hf_corrections_count(const struct hf_corrections *corrections);
HF_MUST_CHECK bool hf_corrections_format(const struct hf_corrections *corrections, struct hf_buf *ret,
                                         struct hf_error *err);

/*
 * Makes them in a restored folder, which is the hostile backup's: every path is checked again, and no link is followed
 * out of it.  Nothing to do is fine.  CORRUPT: the file cannot be read, or a change cannot be made.
 */
HF_MUST_CHECK bool hf_corrections_apply(const char *folder, struct hf_error *err);

/*
 * Files whose names end so and that lie in the folder as they came, under a name that they were given afterwards: an
 * object with a member for each ("clinic/b.MAD").  mariadb-backup copies a table of Aria while it is written to and
 * relies on Aria's log for the rest; that names tables as they were called, so the log is not applied to one that the
 * tool renamed, and rows that stood in the log alone are lost without a word.
 * Owner of *ret: the caller.  CORRUPT: the file cannot be read.
 */
HF_MUST_CHECK bool hf_corrections_renamed(const char *folder, const char *ending, json_t **ret, struct hf_error *err);

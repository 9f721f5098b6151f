/*
 * tree.h - walks over a folder whose contents strangers may have made, or may be changing
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

#define HF_TREE_MOST_DEPTH 32 // folders below folders; PostgreSQL and MariaDB need five

/*
 * Adds up the blocks of everything below a folder, following no link and entering no other file system.
 * Files that come and go meanwhile are no error.  Errors: NOT_FOUND, DENIED; NO_SPACE when it is too deep, or holds a
 * folder that we may not look into: what is hidden may be any amount.
 */
HF_MUST_CHECK bool hf_tree_measure(const char *path, uint64_t *ret_bytes, struct hf_error *err);

/*
 * Passes the folder and everything below it that belongs to `from` on to another owner, and nothing that belongs to
 * anybody else, whoever changes the tree meanwhile.  `folder` may be opened with O_PATH.  A tree that is thrown away
 * afterwards may be of any depth: what lies too deep comes up to its top ("lifted-0"); else that is NO_SPACE.
 */
HF_MUST_CHECK bool hf_tree_pass(int folder, uid_t from, uid_t uid, gid_t gid, bool is_thrown_away,
                                struct hf_error *err);

/*
 * Gives a folder and everything below it to another owner, links themselves and not what they point at.
 * Errors: as above; some may have changed hands then.
 */
HF_MUST_CHECK bool hf_tree_give(const char *path, uid_t uid, gid_t gid, struct hf_error *err);

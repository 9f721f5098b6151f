/*
 * local_tree.h - the folders of a local repository (private to backend_local.c and its helpers)
 *
 * Every path is resolved beneath the root's descriptor, through no symbolic link and onto no other file
 * system.  A disk that is unmounted from inside the repository is thus an error on the day it is mounted,
 * and never an empty folder that someone fills; one that is unmounted from the root itself leaves a folder
 * without superblock, which superblock.h refuses.
 *
 * Names become durable by syncing the folder they stand in.  The tree remembers which folders got new
 * names through it, and syncs each with, the first time, the folders above: any of them may be new, made
 * by us or by another process that has not synced it yet.
 *
 * All functions may be called by any thread.
 */
#pragma once
#include <pthread.h>
#include <sys/stat.h>
#include "base/file.h"
#include "server/storage/backend_internal.h"

#define HF_LOCKS_FOLDER "locks"
#define HF_PATH_BYTES   (HF_OBJECT_NAME_BYTES + sizeof HF_LOCKS_FOLDER) // of any path we use beneath the root

struct hf_tree_folder;

struct hf_tree {
    int root;
    char *place;                    // as the caller named it; owned
    pthread_mutex_t syncing;        // held while folders are synced: no sync returns while another still works for it
    pthread_mutex_t lock;           // guards what follows, for moments only; taken inside `syncing`
    struct hf_tree_folder *folders; // grows only: numbers stay good
    size_t folder_count, folder_capacity;
    bool lost; // a sync failed: what was named before may be gone after a power cut, for good.  Guarded by `syncing`
};

/* Errors: NOT_FOUND, DENIED, USAGE for what is no folder.  Half-built is fine for done. */
HF_MUST_CHECK bool hf_tree_open(struct hf_tree *tree, const char *place, struct hf_error *err);
void hf_tree_done(struct hf_tree *tree);

/* openat2() beneath the root ("" is the root itself); -1 and errno. */
int hf_tree_at(const struct hf_tree *tree, const char *path, int flags);
/* Says what that errno means, for this path; returns false. */
bool hf_tree_fail(const struct hf_tree *tree, const char *path, struct hf_error *err);

/* `make` makes what is missing of it, mode 0700; durable with the first sync that concerns it. */
HF_MUST_CHECK bool hf_tree_open_folder(const struct hf_tree *tree, const char *path, bool make, int *ret_fd,
                                       struct hf_error *err);
/* For reading.  CORRUPT when it is not a regular file. */
HF_MUST_CHECK bool hf_tree_open_file(const struct hf_tree *tree, const char *path, int *ret_fd, struct stat *ret_status,
                                     struct hf_error *err);
/* The folder that `path` lies in, made when missing, and its number for the calls below. */
HF_MUST_CHECK bool hf_tree_open_target(struct hf_tree *tree, const char *path, size_t *ret_folder, int *ret_fd,
                                       struct hf_error *err);

/* A name was put into the folder.  Call it afterwards: a sync clears the mark before it syncs. */
void hf_tree_mark(struct hf_tree *tree, size_t folder);
/* Syncs all marked folders.  Once a sync has failed, this fails for good: what was lost is not known. */
HF_MUST_CHECK bool hf_tree_sync_marked(struct hf_tree *tree, struct hf_error *err);
/* Syncs this one, marked or not. */
HF_MUST_CHECK bool hf_tree_sync_folder(struct hf_tree *tree, size_t folder, struct hf_error *err);

/* Returns the last part; the rest, "" for none, goes into `folder`. */
const char *hf_tree_split(const char *path, char folder[static HF_PATH_BYTES]);

/*
 * The names in an open folder that objects can have, sorted as the full names of objects sort; folders end
 * with a "/".  Links, devices, foreign names ("lost+found") and what the storage keeps for itself are left
 * out.  `path` is the folder's, "" or ending with a "/".  Free with hf_strv_freep.
 */
HF_MUST_CHECK bool hf_tree_names(int fd, const char *path, char ***ret, struct hf_error *err);
/* hf_backend_list() of backend.h */
HF_MUST_CHECK bool hf_tree_list(const struct hf_tree *tree, const char *prefix, hf_object_visitor *visit, void *context,
                                struct hf_error *err);

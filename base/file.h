/*
 * file.h - files that are on the disk when we say so
 *
 * A file becomes visible whole or not at all: temporary name, write, fsync, rename, fsync of the
 * folder, all inside hf_file_publish().  Reading has a limit.  Symbolic links, FIFOs and devices are
 * never followed or opened where a regular file is meant.
 */
#pragma once
#include <sys/stat.h>
#include <sys/types.h>
#include "base/buf.h"

/* What _cleanup_() calls for descriptors; -1 is empty. */
void hf_closep(int *fd);
#define HF_TAKE_FD(fd)                                                                                                 \
    __extension__({                                                                                                    \
        int hf_taken_fd_ = (fd);                                                                                       \
        (fd) = -1;                                                                                                     \
        hf_taken_fd_;                                                                                                  \
    })

/* Whole transfers: EINTR and short counts are dealt with.  `name` goes into the message. */
HF_MUST_CHECK bool hf_write_all(int fd, const void *data, size_t length, const char *name, struct hf_error *err);
HF_MUST_CHECK bool hf_pwrite_all(int fd, const void *data, size_t length, uint64_t offset, const char *name,
                                 struct hf_error *err);
/* Exactly `length` bytes; fewer is CORRUPT: `"name" ends at byte N, M were expected`. */
HF_MUST_CHECK bool hf_pread_all(int fd, void *data, size_t length, uint64_t offset, const char *name,
                                struct hf_error *err);

/* Opens a regular file for reading; links, FIFOs, devices and folders are USAGE.  ret_status may be NULL. */
HF_MUST_CHECK bool hf_file_open(const char *path, int *ret_fd, struct stat *ret_status, struct hf_error *err);

/* Adds a regular file's bytes to the buffer.  Errors: NOT_FOUND, DENIED, NO_SPACE when over the buffer's limit. */
HF_MUST_CHECK bool hf_file_read(const char *path, struct hf_buf *buf, struct hf_error *err);

#define HF_UNFINISHED_PREFIX ".hf-unfinished-"

enum hf_publish_how {
    HF_PUBLISH_REPLACE,   // an older file of that name gives way
    HF_PUBLISH_EXCLUSIVE, // CONFLICT when the name exists; of two that try, exactly one wins
};

/*
 * On failure nothing of that name has changed and no temporary file is left.  Only a crash in the middle leaves one:
 * it lies beside the file and its name starts with HF_UNFINISHED_PREFIX, so that whoever owns the folder can clear it.
 */
HF_MUST_CHECK bool hf_file_publish(const char *path, const void *data, size_t length, mode_t mode,
                                   enum hf_publish_how how, struct hf_error *err);

/* Makes a folder and its missing parents, all durable on return; an existing one is fine. */
HF_MUST_CHECK bool hf_dir_make(const char *path, mode_t mode, struct hf_error *err);
HF_MUST_CHECK bool hf_dir_sync(const char *path, struct hf_error *err);
HF_MUST_CHECK bool hf_dir_is_empty(const char *path, bool *ret_empty, struct hf_error *err);
/*
 * Names in a folder, sorted by bytes, without . and ..; the array ends with NULL; free with hf_strv_freep.
 * NO_SPACE when there are more than `most`.
 */
HF_MUST_CHECK bool hf_dir_list(const char *path, size_t most, char ***ret_names, size_t *ret_count,
                               struct hf_error *err);
/*
 * Removes a folder and all below it, following no link and crossing no mount; a missing one is fine.
 * Needs three descriptors at any depth: a folder found inside is first moved up to the top.  What is ours is removed
 * even where somebody took its rights away.
 */
HF_MUST_CHECK bool hf_dir_remove_tree(const char *path, struct hf_error *err);
/* Free bytes a non-root user may still write on the file system that holds path. */
HF_MUST_CHECK bool hf_disk_free(const char *path, uint64_t *ret_bytes, struct hf_error *err);

void hf_strv_freep(char ***names);

/* "a/b" in fresh memory, for the caller to free; NULL when out of memory. */
char *hf_path_join(const char *folder, const char *name);

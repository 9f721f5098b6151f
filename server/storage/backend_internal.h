/*
 * backend_internal.h - what a kind of storage gives to backend.c: one table of functions
 *
 * backend.c is all that the rest of the server sees.  It checks names and keeps failed uploads shut;
 * a kind (backend_local.c, backend_sftp.c) meets only good names and uploads that may go on.  A new kind is a new
 * table, and no `if` elsewhere.  What each function promises stands in backend.h.
 */
#pragma once
#include "server/storage/backend.h"

#define HF_OBJECT_NAME_BYTES 256 // with the NUL

struct hf_backend_kind {
    void (*close)(struct hf_backend *backend); // frees it
    enum hf_durability (*durability)(const struct hf_backend *backend);
    bool (*probe)(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err);
    bool (*upload_begin)(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                         struct hf_error *err);
    bool (*upload_append)(struct hf_upload *upload, const void *data, size_t length, struct hf_error *err);
    void (*upload_push)(struct hf_upload *upload);
    bool (*upload_finish)(struct hf_upload *upload, struct hf_error *err); // frees it in any case
    void (*upload_abort)(struct hf_upload *upload);                        // frees it
    bool (*barrier)(struct hf_backend *backend, struct hf_error *err);
    bool (*put_exclusive)(struct hf_backend *backend, const char *name, const void *data, size_t length,
                          struct hf_error *err);
    bool (*replace)(struct hf_backend *backend, const char *name, const void *data, size_t length,
                    struct hf_error *err);
    bool (*get)(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err);
    bool (*get_range)(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                      struct hf_error *err);
    bool (*stat)(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                 struct hf_error *err);
    bool (*list)(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context,
                 struct hf_error *err);
    bool (*remove)(struct hf_backend *backend, const char *name, struct hf_error *err);
    bool (*destroy)(struct hf_backend *backend, const char *name, struct hf_error *err);
    bool (*retain_until)(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err);
    bool (*retained_until)(struct hf_backend *backend, const char *name, int64_t *ret_until, struct hf_error *err);
    bool (*sweep)(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err);
    bool (*free_space)(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err);
};

/* The first member of every kind's own struct. */
struct hf_backend {
    const struct hf_backend_kind *kind;
    char *place; // owned by the kind
};

struct hf_upload {
    struct hf_backend *backend; // borrowed: outlives its uploads
    char name[HF_OBJECT_NAME_BYTES];
    bool failed; // a write failed: backend.c lets it only be aborted from now on
};

/* One part of a name between slashes: [a-z0-9.-], not empty, no dot in front. */
bool hf_object_part_valid(const char *part, size_t length);
/* "staging" anywhere in front of the last part, and all below "locks": the storage keeps its own things there. */
bool hf_object_name_reserved(const char *name);

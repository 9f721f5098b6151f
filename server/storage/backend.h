/*
 * backend.h - where objects lie: one small interface, so that a local disk and a server far away look alike
 *
 * A place is an absolute path, or ssh://[user@]host[:port]/absolute/path (backend_sftp.h).
 *
 * Objects have relative names (format.h), are written once and then read, listed or deleted.  An
 * object becomes visible whole, at finish(); put_exclusive() lets exactly one of two writers create a
 * name.  A name is made of [a-z0-9./-], has no part that is empty or begins with a dot, and at most 255
 * bytes; a part "staging" before the last and all below "locks/" and "journal/" belong to the storage itself.  The
 * interface refuses others before any backend sees them.
 *
 * Durability is in two steps, so that many packs cost one folder sync: finish() makes the object's
 * bytes durable under its name's future place; barrier() makes every name finished so far durable.
 * put_exclusive() and delete() are durable when they return.
 *
 * After a failed write or sync an upload can only be aborted: its bytes are never written again under
 * the same name (a page cache that dropped dirty pages reports success the second time).  After a failed
 * barrier every later one of that handle fails as well.  When put_exclusive() fails with anything but
 * CONFLICT, the object may exist nevertheless: read before trying again.
 *
 * A backend may be used by many threads, an upload by one at a time.
 */
#pragma once
#include "base/buf.h"
#include "base/id.h"

struct hf_backend;
struct hf_upload; // an object being written

enum hf_immutability {
    HF_IMMUTABLE_NONE,
    HF_IMMUTABLE_ADVISORY, // we refuse to delete; whoever owns the disk can
    HF_IMMUTABLE_ENFORCED, // the storage refuses
};

/* What a backend was seen to be able to do, functionally, by probe(). */
struct hf_backend_report {
    bool exclusive_create; // of eight that raced for one name, one won
    bool durable_sync;     // sync calls exist and succeed (that the disk obeys cannot be seen from here)
    enum hf_immutability locks;
    char description[128]; // "local disk, ext4"
};

/* What it means that an object is durable. */
enum hf_durability {
    HF_DURABLE_CONTENTS, // bytes were synced; names are kept as well as that file system keeps them by itself
    HF_DURABLE_SYNCED,   // bytes and names were synced
};
const char *hf_durability_name(enum hf_durability durability); // "contents", "synced"

struct hf_object_info {
    char name[256];
    uint64_t size;
    int64_t modified_at;
};

typedef bool hf_object_visitor(void *context, const struct hf_object_info *object, struct hf_error *err);

/* By the form of the place.  Errors: USAGE for a place of neither form, and those of its kind. */
HF_MUST_CHECK bool hf_backend_open(const char *place, struct hf_backend **ret, struct hf_error *err);
/* The same, making the folder first when it is missing. */
HF_MUST_CHECK bool hf_backend_make(const char *place, struct hf_backend **ret, struct hf_error *err);
/* Whether the place is a folder of this host. */
bool hf_place_is_local(const char *place);

/* Local disk.  `path` is the repository's folder and must exist.  Errors: NOT_FOUND, DENIED. */
HF_MUST_CHECK bool hf_backend_open_local(const char *path, struct hf_backend **ret, struct hf_error *err);
void hf_backend_freep(struct hf_backend **backend);

/* What to print for people: the folder or address. */
const char *hf_backend_place(const struct hf_backend *backend);

enum hf_durability hf_backend_durability(const struct hf_backend *backend);
HF_MUST_CHECK bool hf_backend_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err);

/* `expected` bytes are reserved ahead when not 0: NO_SPACE then comes before the first byte. */
HF_MUST_CHECK bool hf_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected,
                                   struct hf_upload **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_upload_append(struct hf_upload *upload, const void *data, size_t length, struct hf_error *err);
/*
 * Starts writing out what was appended, and waits for what the push before began: little is left for the sync at the
 * end, and the page cache keeps little of it.  What fails here is told by finish.
 */
void hf_upload_push(struct hf_upload *upload);
/* Frees the upload in any case.  CONFLICT when the name exists. */
HF_MUST_CHECK bool hf_upload_finish(struct hf_upload **upload, struct hf_error *err);
void hf_upload_abortp(struct hf_upload **upload); // what _cleanup_() calls: nothing of it is left

HF_MUST_CHECK bool hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);

/* CONFLICT when the name exists, and then nothing has changed. */
HF_MUST_CHECK bool hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data,
                                            size_t length, struct hf_error *err);
/* The same, but an older object of that name gives way: readers find the old one whole, or the new one. */
HF_MUST_CHECK bool hf_backend_replace(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                      struct hf_error *err);
/* The whole object, added to the buffer; NOT_FOUND names it; NO_SPACE past the buffer's limit. */
HF_MUST_CHECK bool hf_backend_get(struct hf_backend *backend, const char *name, struct hf_buf *buf,
                                  struct hf_error *err);
/* Exactly `length` bytes from `offset`; CORRUPT when the object ends before. */
HF_MUST_CHECK bool hf_backend_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data,
                                        size_t length, struct hf_error *err);
/* *ret_found false when there is no such object: that is an answer. */
HF_MUST_CHECK bool hf_backend_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                                   struct hf_error *err);
/*
 * Objects whose name begins with `prefix` ("keys/", "keys/root-", or empty for all), sorted by name.  Left out:
 * staging, locks, links and devices, and what no object can be called ("lost+found").
 */
HF_MUST_CHECK bool hf_backend_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit,
                                   void *context, struct hf_error *err);
/* A missing object is fine.  DENIED while it is locked. */
HF_MUST_CHECK bool hf_backend_delete(struct hf_backend *backend, const char *name, struct hf_error *err);
/*
 * The same for keys: the bytes are first overwritten where they lie, as far as the storage lets us; a file system that
 * copies on write, a snapshot or a worn disk cell may hold them still.
 */
HF_MUST_CHECK bool hf_backend_destroy(struct hf_backend *backend, const char *name, struct hf_error *err);
/* Forbids deletion until then; only ever extends.  Advisory on local disk. */
HF_MUST_CHECK bool hf_backend_retain_until(struct hf_backend *backend, const char *name, int64_t until,
                                           struct hf_error *err);
#define HF_RETAINED_NEVER INT64_MIN
#define HF_RETAINED_LONG  INT64_MAX // there is a lock, and the storage does not say until when
/* HF_RETAINED_NEVER without a lock.  CORRUPT: there is one that does not read. */
HF_MUST_CHECK bool hf_backend_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until,
                                             struct hf_error *err);
/* Removes uploads that no living process of this host is writing.  Counts what it removed. */
HF_MUST_CHECK bool hf_backend_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes,
                                    struct hf_error *err);
/* Bytes that can still be stored; UINT64_MAX when the storage does not say. */
HF_MUST_CHECK bool hf_backend_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err);

#include "server/care/copy_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"

#define SLOT_CRC_AT (HF_SLOT_BYTES - 4) // keys.h

static bool read_source(struct copy *copy, const struct copy_wanted *wanted, struct hf_upload *upload,
                        enum copy_outcome *ret, char why[static HF_ERROR_MESSAGE_BYTES], struct hf_error *err);
static void keep_to_rate(struct copy *copy, size_t length);
static bool read_back(struct copy *copy, const struct copy_wanted *wanted, struct hf_error *err);
static bool compare_small(struct copy *copy, const char *name, enum copy_small_kind kind, const struct hf_buf *here,
                          const struct hf_buf *there, struct hf_error *err);
static bool put_small(struct copy *copy, const char *name, const struct hf_buf *bytes, bool over, struct hf_error *err);
static int by_name(const void *a, const void *b);
static bool keep_object(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool is_of_the_object(const struct hf_error *err);

bool
copy_transfer(struct copy *copy, const struct copy_wanted *wanted, bool over, enum copy_outcome *ret,
              char why[static HF_ERROR_MESSAGE_BYTES], struct hf_error *err)
{
    _cleanup_(hf_upload_abortp) struct hf_upload *upload = NULL;
    if (!hf_upload_begin(copy->to, wanted->name, wanted->size, &upload, err) ||
        !read_source(copy, wanted, upload, ret, why, err))
        return false;
    if (*ret != COPY_WRITTEN)
        return true;
    if ((over && !hf_backend_delete(copy->to, wanted->name, err)) || !hf_upload_finish(&upload, err))
        return false;
    copy->unsynced = true;
    if (copy->options->read_back && !read_back(copy, wanted, err))
        return false;
    copy->report->objects++;
    copy->report->bytes += wanted->size;
    return true;
}

bool
copy_is_same(struct copy *copy, struct hf_backend *at, const struct copy_wanted *wanted, bool *ret_same,
             struct hf_error *err)
{
    uint8_t digest[HF_SHA256_BYTES];
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    if (!hf_sha256_new(&running, err))
        return false;
    for (uint64_t offset = 0; offset < wanted->size;) {
        const uint64_t left = wanted->size - offset;
        const size_t length = left < COPY_PIECE_BYTES ? (size_t)left : COPY_PIECE_BYTES;
        struct hf_error problem;
        if (!copy_go_on(copy, err))
            return false;
        if (!hf_backend_get_range(at, wanted->name, offset, copy->piece, length, &problem)) {
            *ret_same = false;
            if (is_of_the_object(&problem))
                return true;
            *err = problem;
            return false;
        }
        hf_sha256_add(running, copy->piece, length);
        offset += length;
    }
    hf_sha256_end(running, digest);
    *ret_same = memcmp(digest, wanted->sha256, sizeof digest) == 0;
    return true;
}

bool
copy_read_small(struct hf_backend *at, const char *name, struct hf_buf *bytes, bool *ret_found, struct hf_error *err)
{
    struct hf_error problem;
    hf_buf_clear(bytes);
    *ret_found = hf_backend_get(at, name, bytes, &problem);
    if (*ret_found || problem.kind == HF_ERR_NOT_FOUND)
        return true;
    *err = problem;
    return false;
}

bool
copy_small(struct copy *copy, const char *name, enum copy_small_kind kind, const struct copy_object *there,
           struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf here = HF_BUF_INIT(COPY_SMALL_MOST), other = HF_BUF_INIT(COPY_SMALL_MOST);
    bool found;
    if (!copy_go_on(copy, err) || !copy_read_small(copy->from, name, &here, &found, err))
        return false;
    if (!found)
        return true; // it went meanwhile
    if (there != NULL && there->size == here.length && !copy_is_due(copy, name))
        return true;
    if (there != NULL && !copy_read_small(copy->to, name, &other, &found, err))
        return false;
    if (there == NULL || !found) {
        if (kind == COPY_PROVES_ITSELF && !copy_small_sound(copy, name, &here)) {
            copy_tell(copy, HF_COPY_SOURCE_DAMAGED, name, "is damaged in the original, and was left out");
            return true;
        }
        return put_small(copy, name, &here, false, err);
    }
    return (here.length == other.length && memcmp(here.data, other.data, here.length) == 0) ||
           compare_small(copy, name, kind, &here, &other, err);
}

bool
copy_small_sound(const struct copy *copy, const char *name, const struct hf_buf *bytes)
{
    if (strcmp(name, HF_SUPERBLOCK_NAME) == 0)
        return hf_superblock_sound(bytes->data, bytes->length, &copy->repository);
    return bytes->length == HF_SLOT_BYTES &&
           hf_get_u32(bytes->data + SLOT_CRC_AT) == hf_crc32c(0, bytes->data, SLOT_CRC_AT);
}

bool
copy_list(struct hf_backend *backend, const char *prefix, struct copy_listing *ret, struct hf_error *err)
{
    *ret = (struct copy_listing){0};
    if (!hf_backend_list(backend, prefix, keep_object, ret, err)) {
        copy_listing_done(ret);
        return false;
    }
    return true;
}

const struct copy_object *
copy_find(const struct copy_listing *listing, const char *name)
{
    const struct copy_object key = {.name = (char *)(uintptr_t)name};
    return listing->count == 0 ? NULL
                               : bsearch(&key, listing->objects, listing->count, sizeof *listing->objects, by_name);
}

void
copy_listing_done(struct copy_listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->objects[i].name);
    free(listing->objects);
    *listing = (struct copy_listing){0};
}

/*
 * From the source into the upload; what is wrong with the source is an outcome, what is wrong with the target an error.
 */
static bool
read_source(struct copy *copy, const struct copy_wanted *wanted, struct hf_upload *upload, enum copy_outcome *ret,
            char why[static HF_ERROR_MESSAGE_BYTES], struct hf_error *err)
{
    uint8_t digest[HF_SHA256_BYTES];
    uint64_t size;
    bool found;
    struct hf_error problem;
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    if (!hf_sha256_new(&running, err))
        return false;
    if (!hf_backend_stat(copy->from, wanted->name, &found, &size, &problem)) {
        if (!is_of_the_object(&problem)) {
            *err = problem;
            return false;
        }
        *ret = COPY_SOURCE_DAMAGED;
        snprintf(why, HF_ERROR_MESSAGE_BYTES, "%s", problem.message);
        return true;
    }
    *ret = found ? COPY_SOURCE_DAMAGED : COPY_SOURCE_MISSING;
    if (!found || size != wanted->size) {
        snprintf(why, HF_ERROR_MESSAGE_BYTES,
                 found ? "has %" PRIu64 " bytes in the original, and the log says %" PRIu64
                       : "is missing in the original",
                 size, wanted->size);
        return true;
    }
    for (uint64_t offset = 0; offset < wanted->size;) {
        const uint64_t left = wanted->size - offset;
        const size_t length = left < COPY_PIECE_BYTES ? (size_t)left : COPY_PIECE_BYTES;
        if (!copy_go_on(copy, err))
            return false;
        if (!hf_backend_get_range(copy->from, wanted->name, offset, copy->piece, length, &problem)) {
            *ret = problem.kind == HF_ERR_NOT_FOUND ? COPY_SOURCE_MISSING : COPY_SOURCE_DAMAGED;
            snprintf(why, HF_ERROR_MESSAGE_BYTES, "%s", problem.message);
            if (is_of_the_object(&problem))
                return true;
            *err = problem;
            return false;
        }
        hf_sha256_add(running, copy->piece, length);
        if (!hf_upload_append(upload, copy->piece, length, err))
            return false;
        hf_upload_push(upload);
        keep_to_rate(copy, length);
        offset += length;
        if (copy->options->done != NULL)
            atomic_fetch_add(copy->options->done, length);
    }
    hf_sha256_end(running, digest);
    if (memcmp(digest, wanted->sha256, sizeof digest) == 0)
        *ret = COPY_WRITTEN;
    else
        snprintf(why, HF_ERROR_MESSAGE_BYTES, "has another hash in the original than the log says");
    return true;
}

static void
keep_to_rate(struct copy *copy, size_t length)
{
    const uint64_t rate = copy->options->bytes_per_second;
    copy->throttled += length;
    if (rate == 0)
        return;
    const uint64_t due_ms = (uint64_t)((double)copy->throttled * 1000 / (double)rate);
    for (;;) {
        const uint64_t passed_ms = (hf_monotonic_ns() - copy->started_ns) / 1000000;
        struct hf_error ignored;
        if (passed_ms >= due_ms || !copy_go_on(copy, &ignored))
            return;
        const uint64_t wait_ms = due_ms - passed_ms < 200 ? due_ms - passed_ms : 200;
        nanosleep(&(struct timespec){.tv_nsec = (long)wait_ms * 1000000}, NULL);
    }
}

static bool
read_back(struct copy *copy, const struct copy_wanted *wanted, struct hf_error *err)
{
    bool same;
    if (!copy_is_same(copy, copy->to, wanted, &same, err))
        return false;
    if (same)
        return true;
    struct hf_error ignored;
    (void)!hf_backend_delete(copy->to, wanted->name, &ignored);
    hf_fail(err, HF_ERR_CORRUPT, "\"%s\" reads otherwise in \"%s\" than it was written", wanted->name,
            hf_backend_place(copy->to));
    return hf_fail_hint(err, "The disk, the memory or the network there alters bytes: do not trust that place.");
}

static bool
compare_small(struct copy *copy, const char *name, enum copy_small_kind kind, const struct hf_buf *here,
              const struct hf_buf *there, struct hf_error *err)
{
    switch (kind) {
    case COPY_GROWS:
        if (there->length < here->length && memcmp(here->data, there->data, there->length) == 0)
            return put_small(copy, name, here, true, err);
        break;
    case COPY_PROVES_ITSELF:
        if (!copy_small_sound(copy, name, here)) {
            copy_tell(copy, HF_COPY_SOURCE_DAMAGED, name, "is damaged in the original; the copy's was left as it is");
            return true;
        }
        if (!copy_small_sound(copy, name, there)) {
            if (!put_small(copy, name, here, true, err))
                return false;
            copy_tell(copy, HF_COPY_REPAIRED, name, "was damaged in the copy, and was replaced");
            return true;
        }
        break;
    case COPY_FIXED:
        break;
    }
    copy_tell(copy, HF_COPY_DIFFERS, name, "differs in original and copy, and was left as it is in both");
    return true;
}

static bool
put_small(struct copy *copy, const char *name, const struct hf_buf *bytes, bool over, struct hf_error *err)
{
    if (over ? !hf_backend_replace(copy->to, name, bytes->data, bytes->length, err)
             : !hf_backend_put_exclusive(copy->to, name, bytes->data, bytes->length, err))
        return false;
    keep_to_rate(copy, bytes->length);
    copy->report->objects++;
    copy->report->bytes += bytes->length;
    return true;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const struct copy_object *)a)->name, ((const struct copy_object *)b)->name);
}

static bool
keep_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct copy_listing *listing = context;
    if (listing->count == listing->room) {
        const size_t room = listing->room == 0 ? 256 : 2 * listing->room;
        struct copy_object *grown = reallocarray(listing->objects, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of objects");
        listing->objects = grown;
        listing->room = room;
    }
    char *name = strdup(object->name);
    if (name == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of objects");
    listing->objects[listing->count++] = (struct copy_object){name, object->size};
    return true;
}

/* And not of the whole storage, the connection or ourselves: the others can be read nevertheless. */
static bool
is_of_the_object(const struct hf_error *err)
{
    return err->kind == HF_ERR_CORRUPT || err->kind == HF_ERR_NOT_FOUND || err->kind == HF_ERR_DENIED ||
           (err->kind == HF_ERR_UNAVAILABLE && err->system != 0);
}

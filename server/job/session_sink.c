#include "server/job/session_sink.h"

#include <pthread.h>
#include <string.h>

/* A file's description as the workers need it: kept until the session has ended. */
struct described {
    struct described *next;
    struct hf_backup_file file; // path in own memory
    struct hf_session_file *session_file;
};

struct hf_session_sink {
    const struct hf_source_engine *engine; // borrowed from the caller
    struct hf_page_faults *faults;         // borrowed from the caller
    struct hf_session *session;            // borrowed from the caller
    struct hf_backup_sink sink;
    pthread_mutex_t lock;
    struct described *all;
};

static void check_pages(void *context, void *file_context, uint64_t first_page, const uint8_t *pages, size_t length);
static bool take_folder(void *context, const char *path, mode_t mode, struct hf_error *err);
static bool take_link(void *context, const char *path, uint32_t oid, const char *location, struct hf_error *err);
static bool file_begin(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err);
static bool file_write(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err);
static bool file_end(void *context, void *handle, struct hf_error *err);
static void file_drop(void *context, void *handle);
static bool file_keep(void *context, void *handle, uint64_t pages, struct hf_error *err);
static uint64_t parent_pages(void *context, void *handle);
static bool flush(void *context, struct hf_error *err);
static bool digest_of(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err);
static struct described *describe(struct hf_session_sink *sink, const struct hf_backup_file *file);
static enum hf_file_kind kind_of(enum hf_backup_file_kind kind);
static uint8_t log2_of(uint32_t bytes);

bool
hf_session_sink_new(const struct hf_source_engine *engine, struct hf_page_faults *faults, struct hf_session_sink **ret,
                    struct hf_error *err)
{
    struct hf_session_sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup");
    sink->engine = engine;
    sink->faults = faults;
    pthread_mutex_init(&sink->lock, NULL);
    *ret = sink;
    return true;
}

void
hf_session_sink_freep(struct hf_session_sink **sink)
{
    if (*sink == NULL)
        return;
    for (struct described *file = (*sink)->all, *next; file != NULL; file = next) {
        next = file->next;
        free((void *)(uintptr_t)file->file.path);
        free(file);
    }
    pthread_mutex_destroy(&(*sink)->lock);
    free(*sink);
    *sink = NULL;
}

void
hf_session_sink_options(struct hf_session_sink *sink, struct hf_session_options *options)
{
    options->page_check = check_pages;
    options->page_check_context = sink;
}

const struct hf_backup_sink *
hf_session_sink_of(struct hf_session_sink *sink, struct hf_session *session)
{
    sink->session = session;
    sink->sink = (struct hf_backup_sink){.context = sink,
                                         .directory = take_folder,
                                         .link = take_link,
                                         .file_begin = file_begin,
                                         .file_write = file_write,
                                         .file_end = file_end,
                                         .file_drop = file_drop,
                                         .file_keep = file_keep,
                                         .parent_pages = parent_pages,
                                         .flush = flush,
                                         .digest_of = digest_of};
    return &sink->sink;
}

static void
check_pages(void *context, void *file_context, uint64_t first_page, const uint8_t *pages, size_t length)
{
    const struct hf_session_sink *sink = context;
    const struct described *file = file_context;
    sink->engine->check_pages(sink->faults, &file->file, first_page, pages, length);
}

static bool
take_folder(void *context, const char *path, mode_t mode, struct hf_error *err)
{
    const struct hf_session_sink *sink = context;
    return hf_session_folder(sink->session, path, mode, err);
}

static bool
take_link(void *context, const char *path, uint32_t oid, const char *location, struct hf_error *err)
{
    const struct hf_session_sink *sink = context;
    (void)oid; // it is the path's last part
    return hf_session_link(sink->session, path, location, err);
}

static bool
file_begin(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err)
{
    struct hf_session_sink *sink = context;
    struct described *described = describe(sink, file);
    if (described == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for file \"%s\"", file->path);
    const struct hf_session_file_info info = {.path = file->path,
                                              .kind = kind_of(file->kind),
                                              .page_log2 = log2_of(file->page_bytes),
                                              .mode = file->mode & 07777,
                                              .modified_at = file->modified_at,
                                              .check_context =
                                                  file->kind == HF_BACKUP_FILE_RELATION ? described : NULL};
    if (!hf_session_file_begin(sink->session, &info, &described->session_file, err))
        return false;
    *ret_handle = described;
    return true;
}

static bool
file_write(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err)
{
    (void)context;
    const struct described *file = handle;
    return hf_session_file_write(file->session_file, data, length, err);
}

static bool
file_end(void *context, void *handle, struct hf_error *err)
{
    (void)context;
    struct described *file = handle;
    return hf_session_file_end(&file->session_file, err);
}

/* The session is going to be aborted: that ends the file too. */
static void
file_drop(void *context, void *handle)
{
    (void)context;
    (void)handle;
}

static bool
file_keep(void *context, void *handle, uint64_t pages, struct hf_error *err)
{
    (void)context;
    const struct described *file = handle;
    return hf_session_file_keep(file->session_file, pages, err);
}

static uint64_t
parent_pages(void *context, void *handle)
{
    (void)context;
    const struct described *file = handle;
    return hf_session_file_parent_pages(file->session_file);
}

static bool
flush(void *context, struct hf_error *err)
{
    const struct hf_session_sink *sink = context;
    return hf_session_flush(sink->session, err);
}

static bool
digest_of(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err)
{
    const struct hf_session_sink *sink = context;
    struct hf_session_file_result result;
    if (!hf_session_file_find(sink->session, path, &result, err))
        return false;
    *ret = (struct hf_backup_digest){.size = result.size, .crc32c = result.crc32c};
    return true;
}

static struct described *
describe(struct hf_session_sink *sink, const struct hf_backup_file *file)
{
    struct described *described = calloc(1, sizeof *described);
    char *path = strdup(file->path);
    if (described == NULL || path == NULL) {
        free(described);
        free(path);
        return NULL;
    }
    described->file = *file;
    described->file.path = path;
    pthread_mutex_lock(&sink->lock);
    described->next = sink->all;
    sink->all = described;
    pthread_mutex_unlock(&sink->lock);
    return described;
}

static enum hf_file_kind
kind_of(enum hf_backup_file_kind kind)
{
    switch (kind) {
    case HF_BACKUP_FILE_RELATION:
        return HF_FILE_RELATION;
    case HF_BACKUP_FILE_WAL:
        return HF_FILE_WAL;
    case HF_BACKUP_FILE_CAPTURED:
        return HF_FILE_CAPTURED;
    case HF_BACKUP_FILE_OTHER:
        break;
    }
    return HF_FILE_OTHER;
}

static uint8_t
log2_of(uint32_t bytes)
{
    return (uint8_t)__builtin_ctz(bytes);
}

#include "tests/source/folder_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "server/source/postgres/page_check.h"
#include "tests/source/keep.h"

#define MAGIC 0x73756e6b

/* A file being written. */
struct sinking {
    uint32_t magic;
    int fd;
    struct hf_backup_file file;
    char path[HF_BACKUP_PATH_BYTES];
    pthread_t thread; // that began it
    struct hf_backup_digest digest;
    uint8_t page[HF_POSTGRES_PAGE_BYTES]; // the part of a page that has come
    size_t page_length;
    uint64_t pages;
};

static bool take_directory(void *context, const char *path, mode_t mode, struct hf_error *err);
static bool take_link(void *context, const char *path, uint32_t oid, const char *location, struct hf_error *err);
static bool begin_file(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err);
static bool write_file(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err);
static bool end_file(void *context, void *handle, struct hf_error *err);
static void drop_file(void *context, void *handle);
static bool flush(void *context, struct hf_error *err);
static bool digest_of(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err);
static void check_pages(struct hf_test_folder_sink *sink, struct sinking *file, const uint8_t *data, size_t length);
static void full_path(const struct hf_test_folder_sink *sink, const char *path, char *full, size_t size);
static struct sinking *sinking_of(void *handle);
static void close_file(struct hf_test_folder_sink *sink, struct sinking *file);

struct hf_test_folder_sink *
hf_test_folder_sink_new(void)
{
    static const char *all; // one folder for all sinks of the program
    if (all == NULL) {
        all = hf_test_folder();
        chmod(all, 0755); // the server's account goes through it
    }
    struct hf_test_folder_sink *sink = hf_test_keep(sizeof *sink);
    sink->sink = (struct hf_backup_sink){
        .context = sink,
        .directory = take_directory,
        .link = take_link,
        .file_begin = begin_file,
        .file_write = write_file,
        .file_end = end_file,
        .file_drop = drop_file,
        .flush = flush,
        .digest_of = digest_of,
    };
    pthread_mutex_init(&sink->lock, NULL);
    hf_page_faults_init(&sink->faults);
    snprintf(sink->folder, sizeof sink->folder, "%s/XXXXXX", all);
    if (mkdtemp(sink->folder) == NULL || chmod(sink->folder, 0755) != 0)
        fail_msg("no folder for the backup: %s", strerror(errno));
    strcat(sink->folder, "/backup");
    if (mkdir(sink->folder, 0700) != 0)
        fail_msg("no folder for the backup: %s", strerror(errno));
    return sink;
}

const struct hf_test_sunk *
hf_test_folder_sink_find(const struct hf_test_folder_sink *sink, const char *path)
{
    for (size_t i = 0; i < sink->ended_count; i++)
        if (strcmp(sink->ended[i].path, path) == 0)
            return &sink->ended[i];
    return NULL;
}

bool
hf_test_take_backup(const char *conninfo, uint64_t identifier, struct hf_test_folder_sink *sink,
                    struct hf_postgres_facts *ret, struct hf_error *err)
{
    char identity[HF_SOURCE_IDENTITY_BYTES];
    snprintf(identity, sizeof identity, "%" PRIu64, identifier);
    const struct hf_source_target target = {.name = "clinic",
                                            .conninfo = conninfo,
                                            .slot_tag = HF_TEST_SLOT_TAG,
                                            .identity = identifier == 0 ? NULL : identity};
    const struct hf_backup_request request = {
        .target = &target,
        .sink = &sink->sink,
        .faults = &sink->faults,
        .progress = &sink->progress,
        .label = "holdfast test",
        .fast_checkpoint = true,
        .silence_ms = 20000,
        .wal_wait_ms = 20000,
    };
    return hf_postgres_take_backup(&request, ret, err);
}

static bool
take_directory(void *context, const char *path, mode_t mode, struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    char full[1400];

    assert_false(sink->flushed);
    sink->directories++;
    full_path(sink, path, full, sizeof full);
    return hf_dir_make(full, mode, err);
}

static bool
take_link(void *context, const char *path, uint32_t oid, const char *location, struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    char full[1400], target[256];

    assert_true(location[0] == '/');
    pthread_mutex_lock(&sink->lock);
    assert_int_equal(sink->files - sink->wal_files, 0); // tablespaces come before any file of the base
    sink->links++;
    pthread_mutex_unlock(&sink->lock);
    snprintf(target, sizeof target, "%s-tablespaces/%u", sink->folder, oid);
    full_path(sink, path, full, sizeof full);
    *strrchr(full, '/') = '\0';
    if (!hf_dir_make(full, 0700, err) || !hf_dir_make(target, 0700, err))
        return false;
    full_path(sink, path, full, sizeof full);
    return symlink(target, full) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not make the link \"%s\"", path);
}

static bool
begin_file(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    char full[1400];

    struct sinking *sinking = calloc(1, sizeof *sinking);
    if (sinking == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    sinking->magic = MAGIC;
    sinking->file = *file;
    sinking->thread = pthread_self();
    snprintf(sinking->path, sizeof sinking->path, "%s", file->path);
    sinking->file.path = sinking->path;

    full_path(sink, file->path, full, sizeof full);
    char *name = strrchr(full, '/');
    *name = '\0'; // pg_wal/ may come before the folder does
    if (!hf_dir_make(full, 0700, err)) {
        free(sinking);
        return false;
    }
    *name = '/';
    sinking->fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file->mode & 0777);
    if (sinking->fd < 0) {
        free(sinking);
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", file->path);
    }

    pthread_mutex_lock(&sink->lock);
    assert_false(sink->flushed);
    sink->files++;
    sink->relations += file->kind == HF_BACKUP_FILE_RELATION;
    sink->wal_files += file->kind == HF_BACKUP_FILE_WAL;
    sink->open_now++;
    sink->most_open = sink->open_now > sink->most_open ? sink->open_now : sink->most_open;
    assert_true(sink->open_now <= 2);
    snprintf(sink->last_path, sizeof sink->last_path, "%s", file->path);
    pthread_mutex_unlock(&sink->lock);
    *ret_handle = sinking;
    return true;
}

static bool
write_file(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    struct sinking *file = sinking_of(handle);
    _cleanup_(hf_freep) uint8_t *altered = NULL;
    void (*call)(void) = NULL;

    assert_true(pthread_equal(file->thread, pthread_self()));
    if (sink->slow_us > 0)
        usleep(sink->slow_us);

    pthread_mutex_lock(&sink->lock);
    uint64_t before = sink->bytes;
    sink->bytes += length;
    if (sink->at_bytes != NULL && sink->bytes >= sink->at_bytes_count) {
        call = sink->at_bytes;
        sink->at_bytes = NULL;
    }
    pthread_mutex_unlock(&sink->lock);
    if (call != NULL)
        call();
    if (sink->cancel_after != 0 && before + length >= sink->cancel_after)
        atomic_store(&sink->progress.cancel, true);
    if (sink->fail_after != 0 && before + length > sink->fail_after)
        return hf_fail(err, HF_ERR_NO_SPACE, "the sink is full");
    if (sink->alter_at > before && sink->alter_at <= before + length) {
        altered = malloc(length);
        assert_non_null(altered);
        memcpy(altered, data, length);
        altered[sink->alter_at - before - 1] ^= 0x10;
        data = altered;
    }

    check_pages(sink, file, data, length);
    file->digest.crc32c = hf_crc32c(file->digest.crc32c, data, length);
    file->digest.size += length;
    return hf_write_all(file->fd, data, length, file->path, err);
}

static bool
end_file(void *context, void *handle, struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    struct sinking *file = sinking_of(handle);

    if (file->page_length > 0)
        hf_postgres_check_pages(&sink->faults, &file->file, file->pages, file->page, file->page_length);
    if (file->file.size != HF_BACKUP_SIZE_UNKNOWN)
        assert_int_equal(file->digest.size, file->file.size);

    pthread_mutex_lock(&sink->lock);
    struct hf_test_sunk *ended = reallocarray(sink->ended, sink->ended_count + 1, sizeof *ended);
    if (ended != NULL) {
        sink->ended = ended;
        sink->ended[sink->ended_count++] =
            (struct hf_test_sunk){.path = strdup(file->path), .digest = file->digest, .kind = file->file.kind};
    }
    pthread_mutex_unlock(&sink->lock);
    close_file(sink, file);
    return ended != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
}

static void
drop_file(void *context, void *handle)
{
    struct hf_test_folder_sink *sink = context;
    pthread_mutex_lock(&sink->lock);
    sink->dropped++;
    pthread_mutex_unlock(&sink->lock);
    close_file(sink, sinking_of(handle));
}

static bool
flush(void *context, __attribute__((unused)) struct hf_error *err)
{
    struct hf_test_folder_sink *sink = context;
    assert_int_equal(sink->open_now, 0);
    sink->flushed = true;
    return true;
}

static bool
digest_of(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err)
{
    const struct hf_test_folder_sink *sink = context;
    assert_true(sink->flushed);
    const struct hf_test_sunk *found = hf_test_folder_sink_find(sink, path);
    if (found == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "\"%s\" never ended", path);
    *ret = found->digest;
    return true;
}

static void
check_pages(struct hf_test_folder_sink *sink, struct sinking *file, const uint8_t *data, size_t length)
{
    while (length > 0) {
        size_t part = sizeof file->page - file->page_length;
        part = part < length ? part : length;
        memcpy(file->page + file->page_length, data, part);
        file->page_length += part;
        data += part;
        length -= part;
        if (file->page_length == sizeof file->page) {
            hf_postgres_check_pages(&sink->faults, &file->file, file->pages++, file->page, sizeof file->page);
            file->page_length = 0;
        }
    }
}

static void
full_path(const struct hf_test_folder_sink *sink, const char *path, char *full, size_t size)
{
    assert_true(path[0] != '/' && path[0] != '\0' && strstr(path, "..") == NULL);
    snprintf(full, size, "%s/%s", sink->folder, path);
}

static struct sinking *
sinking_of(void *handle)
{
    struct sinking *file = handle;
    assert_int_equal(file->magic, MAGIC);
    return file;
}

static void
close_file(struct hf_test_folder_sink *sink, struct sinking *file)
{
    pthread_mutex_lock(&sink->lock);
    sink->open_now--;
    pthread_mutex_unlock(&sink->lock);
    close(file->fd);
    file->magic = 0;
    free(file);
}

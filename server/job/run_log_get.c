#include "server/job/kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/source/postgres/archive_file.h"
#include "server/source/postgres/wal_format.h"

#define PREFETCH_MOST       64
#define PREFETCH_BYTES_MOST (512 * (uint64_t)HF_MIB)

/* The only source with a stream. */
struct only {
    struct hf_daemon *daemon;
    char name[HF_SOURCE_NAME_BYTES];
    size_t count;
};

/* The folder that files are put into: it belongs to who asked. */
struct place {
    int folder;
    uid_t uid;
    gid_t gid;
};

static bool find_only(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool open_place(const char *path, int64_t asker, struct place *ret, struct hf_error *err);
static void place_done(struct place *place);
static bool put_file(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
                     const struct place *place, const char *name, bool whole_only, enum hf_archive_answer *ret,
                     struct hf_error *err);
static bool prefetch(struct hf_archive *archive, struct hf_archive_file file, uint32_t segment_bytes,
                     const struct place *place, int64_t most, int64_t *ret_count, struct hf_error *err);
static bool open_prefetch(const struct place *place, struct place *ret, struct hf_error *err);

bool
hf_log_get_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {
        {"source", 's', false}, {"file", 's', true}, {"to", 's', true}, {"prefetch", 'i', false}};
    struct only only = {.daemon = daemon};
    struct hf_id vault;
    const json_t *arguments = hf_job_arguments(job);
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    snprintf(only.name, sizeof only.name, "%s", hf_job_subject(job));
    if (only.name[0] == '\0') {
        if (!hf_catalog_sources(hf_daemon_catalog(daemon), find_only, &only, err))
            return false;
        if (only.count != 1)
            return hf_fail(err, HF_ERR_USAGE, "%zu sources are streamed", only.count) ||
                   hf_fail_hint(err, "Name one with --source.");
    }
    if (!hf_catalog_source_vault(hf_daemon_catalog(daemon), only.name, &vault, err))
        return false;
    if (hf_id_is_none(&vault))
        return hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no log here yet", only.name);
    hf_job_set_vault(job, &vault);
    const int64_t ahead = json_integer_value(json_object_get(arguments, "prefetch"));
    *ret_request = json_pack("{s:O, s:O, s:I, s:I}", "file", json_object_get(arguments, "file"), "to",
                             json_object_get(arguments, "to"), "prefetch", (json_int_t)ahead, "asker",
                             (json_int_t)hf_job_asker(job));
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_log_get_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    static const char what[] = "the request";
    _cleanup_(hf_archive_freep) struct hf_archive *archive = NULL;
    _cleanup_(place_done) struct place place = {.folder = -1};
    struct hf_vault *vault;
    struct hf_archive_file file;
    enum hf_archive_answer answer;
    uint32_t segment_bytes = HF_MIB;
    const char *name, *to;
    int64_t ahead, asker, fetched = 0;
    if (!hf_json_string(request, "file", what, &name, err) || !hf_json_string(request, "to", what, &to, err) ||
        !hf_json_integer(request, "prefetch", what, 0, PREFETCH_MOST, &ahead, err) ||
        !hf_json_integer(request, "asker", what, -1, UINT32_MAX, &asker, err) ||
        !hf_archive_file_parse(name, segment_bytes, &file, err) || !open_place(to, asker, &place, err) ||
        !hf_worker_vault(worker, &vault, err) || !hf_archive_open(vault, NULL, &archive, err) ||
        (!file.history && (!hf_archive_segment_bytes(archive, &segment_bytes, err) ||
                           !hf_archive_file_parse(name, segment_bytes, &file, err))) ||
        !put_file(archive, &file, segment_bytes, &place, strrchr(to, '/') + 1, false, &answer, err))
        return hf_fail_within(err, "could not get \"%.64s\" from the archive",
                              json_string_value(json_object_get(request, "file")));
    struct hf_error why;
    if (answer == HF_ARCHIVE_WHOLE && !file.history &&
        !prefetch(archive, file, segment_bytes, &place, ahead, &fetched, &why))
        hf_worker_note(worker, HF_LOG_WARNING, "nothing is fetched in advance: %s", why.message);
    *ret_result = json_pack("{s:s, s:b, s:b, s:I}", "file", name, "found", (int)(answer != HF_ARCHIVE_BEYOND), "whole",
                            (int)(answer == HF_ARCHIVE_WHOLE), "prefetched", (json_int_t)fetched);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
find_only(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct only *only = context;
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    if (!hf_daemon_source(only->daemon, row->name, &settings, err))
        return false;
    if (settings->stream) {
        only->count++;
        snprintf(only->name, sizeof only->name, "%s", row->name);
    }
    return true;
}

/* We may be root: what we put there is for the folder's owner, and it is he who asked, or root. */
static bool
open_place(const char *path, int64_t asker, struct place *ret, struct hf_error *err)
{
    const char *slash = strrchr(path, '/');
    struct stat status;
    if (path[0] != '/' || slash[1] == '\0' || slash[1] == '.')
        return hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is no absolute path of a file", path);
    _cleanup_(hf_freep) char *folder = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%.200s\"", folder);
    if (asker != 0 && asker != (int64_t)status.st_uid)
        return hf_fail(err, HF_ERR_DENIED, "\"%.200s\" does not belong to user %lld", folder, (long long)asker);
    *ret = (struct place){HF_TAKE_FD(fd), status.st_uid, status.st_gid};
    return true;
}

static void
place_done(struct place *place)
{
    hf_closep(&place->folder);
}

/* Under a name of its own, then at once under the one that was asked for: never half of it. */
static bool
put_file(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
         const struct place *place, const char *name, bool whole_only, enum hf_archive_answer *ret,
         struct hf_error *err)
{
    char unfinished[64];
    snprintf(unfinished, sizeof unfinished, ".holdfast-%d", (int)getpid());
    (void)unlinkat(place->folder, unfinished, 0);
    _cleanup_(hf_closep) int fd =
        openat(place->folder, unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a file for \"%.64s\"", name);
    bool put = hf_archive_file_write(archive, file, segment_bytes, fd, ret, err);
    const bool wanted = put && *ret != HF_ARCHIVE_BEYOND && (!whole_only || *ret == HF_ARCHIVE_WHOLE);
    if (wanted && ((geteuid() == 0 && fchown(fd, place->uid, place->gid) != 0) || fdatasync(fd) != 0 ||
                   renameat(place->folder, unfinished, place->folder, name) != 0))
        put = hf_fail_errno(err, HF_ERR_NONE, "could not write \"%.64s\"", name);
    if (!put || !wanted)
        (void)unlinkat(place->folder, unfinished, 0);
    return put;
}

/* The segments behind this one, as far as they are whole, in a folder beside it: the next calls just take them. */
static bool
prefetch(struct hf_archive *archive, struct hf_archive_file file, uint32_t segment_bytes, const struct place *place,
         int64_t most, int64_t *ret_count, struct hf_error *err)
{
    _cleanup_(place_done) struct place beside = {.folder = -1};
    enum hf_archive_answer answer = HF_ARCHIVE_WHOLE;
    char name[HF_WAL_NAME_BYTES];
    if (most > 0 && !open_prefetch(place, &beside, err))
        return false;
    for (int64_t i = 0; i < most && (uint64_t)(i + 1) * segment_bytes <= PREFETCH_BYTES_MOST; i++) {
        file.start += segment_bytes;
        hf_wal_segment_name(file.timeline, file.start, segment_bytes, name);
        if (!put_file(archive, &file, segment_bytes, &beside, name, true, &answer, err))
            return false;
        if (answer != HF_ARCHIVE_WHOLE)
            break;
        (*ret_count)++;
    }
    return true;
}

static bool
open_prefetch(const struct place *place, struct place *ret, struct hf_error *err)
{
    if (mkdirat(place->folder, HF_LOG_GET_PREFETCH, 0700) == 0 && geteuid() == 0 &&
        fchownat(place->folder, HF_LOG_GET_PREFETCH, place->uid, place->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give away \"" HF_LOG_GET_PREFETCH "\"");
    struct stat status;
    _cleanup_(hf_closep) int fd =
        openat(place->folder, HF_LOG_GET_PREFETCH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"" HF_LOG_GET_PREFETCH "\"");
    if (status.st_uid != place->uid)
        return hf_fail(err, HF_ERR_DENIED, "\"" HF_LOG_GET_PREFETCH "\" belongs to somebody else");
    *ret = (struct place){HF_TAKE_FD(fd), place->uid, place->gid};
    return true;
}

#include "server/source/postgres/archive_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lsn.h"
#include "server/source/postgres/wal_format.h"

#define LONG_HEADER      40
#define AT_FLAGS         2
#define AT_SEGMENT_BYTES 32
#define FLAG_LONG_HEADER 2
#define HISTORY_SUFFIX   ".history"
#define TIMELINE_DIGITS  8

/* Where the bytes go. */
struct target {
    int fd;
    uint64_t start; // of the segment
};

static bool parse_hex(const char *text, size_t digits, uint64_t *ret);
static bool write_history(struct hf_archive *archive, uint32_t timeline, int fd, enum hf_archive_answer *ret,
                          struct hf_error *err);
static bool write_segment(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
                          int fd, enum hf_archive_answer *ret, struct hf_error *err);
static bool look_at_segment(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
                            struct hf_timeline_path *path, uint64_t *ret_end, enum hf_archive_answer *ret,
                            struct hf_error *err);
static bool judge_end(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t *ret_end,
                      struct hf_error *err);
static bool put(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                struct hf_error *err);
static bool keep_header(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                        struct hf_error *err);

bool
hf_archive_file_parse(const char *name, uint32_t segment_bytes, struct hf_archive_file *ret, struct hf_error *err)
{
    const size_t length = strlen(name);
    uint64_t timeline, high, low;
    if (length >= TIMELINE_DIGITS && parse_hex(name, TIMELINE_DIGITS, &timeline) && timeline > 0) {
        if (strcmp(name + TIMELINE_DIGITS, HISTORY_SUFFIX) == 0) {
            *ret = (struct hf_archive_file){.history = true, .timeline = (uint32_t)timeline};
            return true;
        }
        if (length == HF_ARCHIVE_FILE_NAME_MOST && parse_hex(name + 8, 8, &high) && parse_hex(name + 16, 8, &low) &&
            low < (UINT64_C(1) << 32) / segment_bytes) {
            *ret =
                (struct hf_archive_file){.timeline = (uint32_t)timeline, .start = (high << 32) + low * segment_bytes};
            return true;
        }
    }
    return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is neither a segment of the log nor a history file", name);
}

bool
hf_archive_segment_bytes(struct hf_archive *archive, uint32_t *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_timeline_path *path = malloc(sizeof *path);
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    _cleanup_(hf_buf_done) struct hf_buf header = HF_BUF_INIT(LONG_HEADER);
    const uint32_t newest = hf_archive_newest_timeline(archive);
    size_t count;
    uint16_t flags;
    uint32_t bytes;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    if (newest == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive holds no log: nothing was streamed");
    if (!hf_archive_path(archive, newest, path, err) || !hf_archive_windows(archive, path, &windows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (windows[i].start % HF_WAL_SEGMENT_LEAST != 0 || windows[i].end - windows[i].start < LONG_HEADER)
            continue;
        hf_buf_clear(&header);
        if (!hf_stream_read(archive, path, windows[i].start, windows[i].start + LONG_HEADER, keep_header, &header, err))
            return false;
        memcpy(&flags, header.data + AT_FLAGS, sizeof flags);
        memcpy(&bytes, header.data + AT_SEGMENT_BYTES, sizeof bytes);
        if ((flags & FLAG_LONG_HEADER) == 0 || !hf_wal_segment_bytes_valid(bytes) || windows[i].start % bytes != 0)
            continue;
        *ret = bytes;
        return true;
    }
    return hf_fail(err, HF_ERR_NOT_FOUND, "the archive holds no beginning of a log segment");
}

bool
hf_archive_file_write(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes, int fd,
                      enum hf_archive_answer *ret, struct hf_error *err)
{
    if (hf_archive_doubtful(archive))
        return hf_fail(err, HF_ERR_CORRUPT, "a journal of the archive is damaged: where its log ends is not known") ||
               hf_fail_hint(err, "\"holdfast status\" and the log of holdfastd tell more.");
    return file->history ? write_history(archive, file->timeline, fd, ret, err)
                         : write_segment(archive, file, segment_bytes, fd, ret, err);
}

bool
hf_archive_file_look(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
                     enum hf_archive_answer *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_timeline_path *path = malloc(sizeof *path);
    uint64_t end;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    if (!file->history)
        return look_at_segment(archive, file, segment_bytes, path, &end, ret, err);
    const uint32_t newest = hf_archive_newest_timeline(archive);
    *ret = file->timeline == 1 || file->timeline > newest ? HF_ARCHIVE_BEYOND : HF_ARCHIVE_WHOLE;
    return true;
}

static bool
parse_hex(const char *text, size_t digits, uint64_t *ret)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        const char *all = "0123456789ABCDEF", *digit = text[i] == '\0' ? NULL : strchr(all, text[i]);
        if (digit == NULL)
            return false;
        value = value << 4 | (uint64_t)(digit - all);
    }
    *ret = value;
    return true;
}

static bool
write_history(struct hf_archive *archive, uint32_t timeline, int fd, enum hf_archive_answer *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_TIMELINE_FILE_MOST);
    const uint32_t newest = hf_archive_newest_timeline(archive);
    *ret = timeline == 1 || timeline > newest ? HF_ARCHIVE_BEYOND : HF_ARCHIVE_WHOLE;
    if (*ret == HF_ARCHIVE_BEYOND)
        return true;
    if (!hf_archive_has_history(archive, timeline))
        return hf_fail(err, HF_ERR_CORRUPT,
                       "the archive has no history file of timeline %" PRIu32 ", and it has timeline %" PRIu32,
                       timeline, newest) ||
               hf_fail_hint(err,
                            "A server that looks for the newest timeline would stop at this one. Name the wanted one: "
                            "recovery_target_timeline = '%" PRIu32 "'.",
                            newest);
    return hf_archive_history(archive, timeline, &text, err) &&
           hf_pwrite_all(fd, text.data, text.length, 0, "the history file", err);
}

static bool
write_segment(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes, int fd,
              enum hf_archive_answer *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_timeline_path *path = malloc(sizeof *path);
    struct target target = {fd, file->start};
    uint64_t end;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    if (!look_at_segment(archive, file, segment_bytes, path, &end, ret, err))
        return false;
    if (*ret == HF_ARCHIVE_BEYOND)
        return true;
    if (ftruncate(fd, (off_t)segment_bytes) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make room for a log segment");
    return hf_stream_read(archive, path, file->start, end, put, &target, err);
}

/* *ret_end: how much of it there is. */
static bool
look_at_segment(struct hf_archive *archive, const struct hf_archive_file *file, uint32_t segment_bytes,
                struct hf_timeline_path *path, uint64_t *ret_end, enum hf_archive_answer *ret, struct hf_error *err)
{
    uint64_t end;
    *ret = HF_ARCHIVE_BEYOND;
    if (file->timeline > hf_archive_newest_timeline(archive))
        return true;
    if (!hf_archive_path(archive, file->timeline, path, err) || !judge_end(archive, path, &end, err))
        return false;
    if (end <= file->start)
        return true;
    *ret = end - file->start < segment_bytes ? HF_ARCHIVE_PART : HF_ARCHIVE_WHOLE;
    *ret_end = *ret == HF_ARCHIVE_PART ? end : file->start + segment_bytes;
    return true;
}

/* Where the archive ends on the path; 0: there is nothing of it. */
static bool
judge_end(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t *ret_end, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    if (!hf_archive_windows(archive, path, &windows, &count, err))
        return false;
    *ret_end = count == 0 ? 0 : windows[count - 1].end;
    return true;
}

static bool
put(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length, struct hf_error *err)
{
    const struct target *target = context;
    (void)timeline;
    return hf_pwrite_all(target->fd, data, length, position - target->start, "the log segment", err);
}

static bool
keep_header(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
            struct hf_error *err)
{
    (void)timeline;
    (void)position;
    return hf_buf_add(context, data, length, err);
}

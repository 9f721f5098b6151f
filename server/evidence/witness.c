#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "server/evidence/ledger_internal.h"

#define COUNTS      "%%\n" // the line that ends a checkpoint
#define VOID        "--\n" // the line that ends what was cut off
#define LINE_BYTES  3
#define READ_AT_END (2 * HF_CHECKPOINT_MOST_BYTES + HF_KIB) // always holds the newest checkpoint that counts

/* The newest checkpoint of a witness file, and how the file ends. */
struct seen {
    struct hf_buf text; // of the newest that counts; empty when the file is
    bool torn;          // something was cut off behind it
};

static void seen_done(struct seen *seen);
static bool read_end(int fd, const char *path, struct hf_buf *out, struct hf_error *err);
static bool look(struct hf_ledger *ledger, const char *path, struct seen *ret, struct hf_error *err);
static bool compare(struct hf_ledger *ledger, const char *path, const struct seen *seen, struct hf_error *err);
static bool split(const char *text, size_t length, size_t *ret_start, size_t *ret_end, size_t *ret_tail);
static bool append(const struct hf_ledger *ledger, const char *path, bool torn, struct hf_error *err);

bool
hf_ledger_witness(struct hf_ledger *ledger, const char *path, struct hf_error *err)
{
    _cleanup_(seen_done) struct seen seen = {.text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES)};
    struct hf_error why = {0};

    if (!hf_ledger_lock(ledger, LOCK_SH, err))
        return false;
    _cleanup_(hf_ledger_unlock) struct hf_ledger *locked = ledger;
    if (!hf_ledger_load(locked, err))
        return false;
    if (!look(locked, path, &seen, &why) && why.kind != HF_ERR_NOT_FOUND) {
        if (err != NULL)
            *err = why;
        return false;
    }
    if (!compare(locked, path, &seen, err))
        return false;
    if (!seen.torn && seen.text.length == ledger->checkpoint_text.length && seen.text.length > 0 &&
        memcmp(seen.text.data, ledger->checkpoint_text.data, seen.text.length) == 0)
        return true;
    return append(locked, path, seen.torn, err);
}

bool
hf_ledger_compare_witness(struct hf_ledger *ledger, const char *path, struct hf_error *err)
{
    _cleanup_(seen_done) struct seen seen = {.text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES)};

    return look(ledger, path, &seen, err) && compare(ledger, path, &seen, err);
}

bool
hf_witness_newest(const void *bytes, size_t length, const char *what, struct hf_buf *out, struct hf_error *err)
{
    size_t start, end, tail;

    if (!split(bytes, length, &start, &end, &tail))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" holds no finished checkpoint", what);
    return hf_buf_add(out, (const char *)bytes + start, end - start, err);
}

static void
seen_done(struct seen *seen)
{
    hf_buf_done(&seen->text);
}

/*
 * The newest checkpoint that counts.  A file without any is empty, or the first one was cut off; else it is no witness.
 */
static bool
look(struct hf_ledger *ledger, const char *path, struct seen *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(READ_AT_END);
    _cleanup_(hf_closep) int fd = -1;
    const size_t origin = strlen(ledger->keys[0].name);
    size_t start, end, tail;

    if (!hf_file_open(path, &fd, NULL, err) || !read_end(fd, path, &bytes, err))
        return hf_fail_within(err, "could not ask the witness of ledger \"%s\"", ledger->folder);
    const char *text = hf_buf_text(&bytes);
    if (split(text, bytes.length, &start, &end, &tail)) {
        ret->torn = tail < bytes.length;
        return hf_buf_add(&ret->text, text + start, end - start, err);
    }
    ret->torn = bytes.length > 0;
    if (bytes.length > HF_CHECKPOINT_MOST_BYTES ||
        memcmp(text, ledger->keys[0].name, bytes.length < origin ? bytes.length : origin) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "witness of ledger \"%s\": \"%s\" holds no checkpoint of it",
                       ledger->folder, path);
    return true;
}

/* The last READ_AT_END bytes, or all there are. */
static bool
read_end(int fd, const char *path, struct hf_buf *out, struct hf_error *err)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
    const uint64_t size = (uint64_t)status.st_size, length = size < READ_AT_END ? size : READ_AT_END;
    if (!hf_buf_add_zeros(out, length, err))
        return false;
    return hf_pread_all(fd, out->data, length, size - length, path, err);
}

/*
 * Where the newest checkpoint that counts starts and ends, and where what comes behind it starts.  A line "%%" or "--"
 * ends a piece; a checkpoint has neither, so looking for the lines is enough.
 */
static bool
split(const char *text, size_t length, size_t *ret_start, size_t *ret_end, size_t *ret_tail)
{
    bool found = false;
    size_t piece = 0;

    for (size_t at = 0; at + LINE_BYTES <= length;) {
        const char *line_end = memchr(text + at, '\n', length - at);
        if (line_end == NULL)
            break;
        const size_t next = (size_t)(line_end - text) + 1;
        const bool counts = next - at == LINE_BYTES && memcmp(text + at, COUNTS, LINE_BYTES) == 0;
        if (counts) {
            *ret_start = piece;
            *ret_end = at;
            *ret_tail = next;
            found = true;
        }
        if (counts || (next - at == LINE_BYTES && memcmp(text + at, VOID, LINE_BYTES) == 0))
            piece = next;
        at = next;
    }
    return found;
}

/* No proof is needed to compare: we have all the leaves the witness has seen, and can compute its root. */
static bool
compare(struct hf_ledger *ledger, const char *path, const struct seen *seen, struct hf_error *err)
{
    struct hf_checkpoint checkpoint;
    struct hf_hash root;

    if (seen->text.length == 0)
        return true;
    if (!hf_checkpoint_open(seen->text.data, seen->text.length, path, &ledger->trust, &checkpoint, NULL, err))
        return hf_fail_within(err, "witness of ledger \"%s\"", ledger->folder);
    if (checkpoint.size > ledger->tree.size) {
        hf_fail(err, HF_ERR_CORRUPT, "ledger \"%s\" has %llu entries, but its witness \"%s\" has seen %llu",
                ledger->folder, (unsigned long long)ledger->tree.size, path, (unsigned long long)checkpoint.size);
        return hf_fail_hint(err,
                            "The ledger was rolled back, or replaced by an older copy. Evidence entered since is not "
                            "in it.");
    }
    if (!hf_ledger_range_root(ledger, 0, checkpoint.size, &root, err))
        return false;
    if (!hf_hash_equal(&root, &checkpoint.root)) {
        hf_fail(err, HF_ERR_CORRUPT,
                "ledger \"%s\" of %llu entries does not begin with the %llu its witness \"%s\" has seen",
                ledger->folder, (unsigned long long)ledger->tree.size, (unsigned long long)checkpoint.size, path);
        return hf_fail_hint(err, "Its history was rewritten with the appliance's own key.");
    }
    return true;
}

/* In one write: whatever a crash leaves of it does not count. */
static bool
append(const struct hf_ledger *ledger, const char *path, bool torn, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES + HF_KIB);
    _cleanup_(hf_freep) char *folder = strdup(path);
    _cleanup_(hf_closep) int fd = -1;

    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder ? 1 : 0] = '\0';
    if ((torn && !hf_buf_add_text(&text, "\n" VOID, err)) ||
        !hf_buf_add(&text, ledger->checkpoint_text.data, ledger->checkpoint_text.length, err) ||
        !hf_buf_add_text(&text, COUNTS, err))
        return false;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the witness \"%s\"", path);
    if (!hf_write_all(fd, text.data, text.length, path, err))
        return false;
    if (fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not bring the witness \"%s\" onto the disk", path);
    return slash == NULL ? hf_dir_sync(".", err) : hf_dir_sync(folder, err);
}

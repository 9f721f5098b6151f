#include "server/job/existing_copy.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/postgres/control.h"

#define PID_FILE      "postmaster.pid"
#define PID_FILE_MOST (64 * HF_KIB)

static bool refuse_running(const char *target, struct hf_error *err);
static bool check_identity(const char *target, const char *identity, struct hf_error *err);
static bool refuse_none(const char *target, struct hf_error *err);

bool
hf_existing_copy_examine(void *context, const char *target, bool unfinished, const char *identity, struct hf_error *err)
{
    (void)context;
    return refuse_running(target, err) && (unfinished || check_identity(target, identity, err));
}

/* The first line is the server's process.  Whether that process is a server nobody can tell for sure: so it counts. */
static bool
refuse_running(const char *target, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(PID_FILE_MOST);
    _cleanup_(hf_freep) char *path = hf_path_join(target, PID_FILE);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (access(path, F_OK) != 0)
        return errno == ENOENT || errno == ENOTDIR ||
               hf_fail_errno(err, HF_ERR_NONE, "could not look for \"%s\"", path);
    if (!hf_file_read(path, &text, err))
        return false;
    const long pid = strtol(hf_buf_text(&text), NULL, 10);
    if (pid <= 0 || pid > INT32_MAX)
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" does not say which process it is of", path);
    else if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
        return true;
    else
        hf_fail(err, HF_ERR_CONFLICT, "a server runs on \"%s\": process %ld", target, pid);
    return hf_fail_hint(err, "Stop the server; if there is none, remove \"" PID_FILE "\" and restore again.");
}

static bool
check_identity(const char *target, const char *identity, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(2 * HF_POSTGRES_CONTROL_BYTES);
    _cleanup_(hf_freep) char *path = hf_path_join(target, HF_POSTGRES_CONTROL_PATH);
    struct hf_postgres_control control;
    char found[24];
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (access(path, F_OK) != 0)
        return refuse_none(target, err);
    if (!hf_file_read(path, &bytes, err) || !hf_postgres_control_parse(bytes.data, bytes.length, &control, err))
        return hf_fail_within(err, "the copy in \"%s\"", target);
    snprintf(found, sizeof found, "%" PRIu64, control.system_identifier);
    if (strcmp(found, identity) == 0)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "the copy in \"%s\" is of the system %s, the backup of %s", target, found, identity);
    return hf_fail_hint(err, "Restore into an empty folder.");
}

static bool
refuse_none(const char *target, struct hf_error *err)
{
    hf_fail(err, HF_ERR_NOT_FOUND, "there is no copy of a database in \"%s\"", target);
    return hf_fail_hint(err, "Leave out --delta, and restore into an empty folder.");
}

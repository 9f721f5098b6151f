#include "server/cli/wal_get.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/job/kinds.h"

#define PREFETCH_SEGMENTS 8
#define PATIENCE_S        60
#define AGAIN_MS          1000 // between two attempts

static bool take_prefetched(const char *file, const char *to, bool *ret_taken, struct hf_error *err);
static void forget_prefetched(int folder, const char *file);
static bool is_worth_trying(const struct hf_error *err);

bool
hf_wal_get_is_meant(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], HF_WAL_GET_WORDS) == 0)
            return true;
    return false;
}

/* A server that is away for a moment, or a daemon that is restarted, must not end a standby. */
bool
hf_cli_wal_get(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    const char *file = json_string_value(json_object_get(cli->arguments, "file"));
    const char *to = json_string_value(json_object_get(cli->arguments, "to"));
    const json_t *patience = json_object_get(cli->arguments, "patience");
    const uint64_t patience_s = patience == NULL ? PATIENCE_S : (uint64_t)json_integer_value(patience);
    const uint64_t since = hf_monotonic_ns();
    bool taken;
    (void)signal(SIGTERM, SIG_DFL);
    if (!take_prefetched(file, to, &taken, err))
        return false;
    if (taken) {
        *ret = json_pack("{s:s, s:b, s:b, s:i}", "file", file, "found", 1, "whole", 1, "prefetched", 0);
        return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
    }
    if (patience != NULL)
        json_object_del(cli->arguments, "patience");
    if (json_object_get(cli->arguments, "prefetch") == NULL &&
        !hf_json_set(cli->arguments, "prefetch", json_integer(PREFETCH_SEGMENTS), err))
        return false;
    while (!hf_cli_ask(cli, "log get", cli->arguments, ret, err)) {
        if (!is_worth_trying(err) || hf_monotonic_ns() - since >= patience_s * UINT64_C(1000000000))
            return false;
        usleep(AGAIN_MS * 1000);
    }
    if (!json_is_true(json_object_get(*ret, "found")))
        cli->exit = HF_WAL_GET_BEYOND;
    return true;
}

/* Only what lies in a folder of ours, under the very name, and is a plain file. */
static bool
take_prefetched(const char *file, const char *to, bool *ret_taken, struct hf_error *err)
{
    const char *slash = strrchr(to, '/');
    struct stat status;
    *ret_taken = false;
    if (slash == NULL || strchr(file, '/') != NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is no file of the log", file);
    _cleanup_(hf_freep) char *parent = strndup(to, (size_t)(slash - to) + 1);
    if (parent == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int near = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (near < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%.200s\"", parent);
    _cleanup_(hf_closep) int folder =
        openat(near, HF_LOG_GET_PREFETCH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0 || fstat(folder, &status) != 0 || (status.st_uid != geteuid() && geteuid() != 0))
        return true; // there is none
    if (fstatat(folder, file, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode) &&
        renameat(folder, file, near, slash + 1) == 0)
        *ret_taken = true;
    forget_prefetched(folder, file);
    return true;
}

/* What is older than this one, or of another timeline, will not be asked for again. */
static void
forget_prefetched(int folder, const char *file)
{
    const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    if (listing == NULL) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        if (entry->d_name[0] != '.' && (strncmp(entry->d_name, file, 8) != 0 || strcmp(entry->d_name, file) <= 0))
            (void)unlinkat(folder, entry->d_name, 0);
    closedir(listing);
}

static bool
is_worth_trying(const struct hf_error *err)
{
    return err->kind == HF_ERR_UNAVAILABLE || err->kind == HF_ERR_CONFLICT || err->kind == HF_ERR_NO_MEMORY;
}

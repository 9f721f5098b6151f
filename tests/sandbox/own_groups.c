#include "tests/sandbox/own_groups.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/test.h"

#define NAME_PREFIX "holdfast-test-"

static const char *const hierarchies[] = {"memory", "pids", "unified"};
static pid_t who; // has entered; children leave nothing

static bool find_group(const char *hierarchy, char *path, size_t size);
static void leave(void);
static void enter(const char *folder);
static void remove_dead(const char *folder);

void
hf_test_enter_own_groups(void)
{
    if (who != 0 || geteuid() != 0)
        return;
    who = getpid();
    for (size_t i = 0; i < HF_LENGTH(hierarchies) - 1; i++) {
        char folder[512], own[600];
        if (!find_group(hierarchies[i], folder, sizeof folder))
            continue;
        remove_dead(folder);
        snprintf(own, sizeof own, "%s/" NAME_PREFIX "%d", folder, (int)who);
        if (mkdir(own, 0755) == 0)
            enter(own);
    }
    atexit(leave);
}

bool
hf_test_find_left_group(char *path, size_t size)
{
    bool found = false;
    for (size_t i = 0; i < HF_LENGTH(hierarchies) && !found; i++) {
        char folder[512];
        if (!find_group(hierarchies[i], folder, sizeof folder))
            continue;
        char *const paths[] = {folder, NULL};
        FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        for (const FTSENT *entry; walk != NULL && !found && (entry = fts_read(walk)) != NULL;) {
            int pid;
            found = entry->fts_info == FTS_D && sscanf(entry->fts_name, "holdfast-sandbox-%d", &pid) == 1 &&
                    kill(pid, 0) != 0 && errno == ESRCH;
            if (found)
                snprintf(path, size, "%s", entry->fts_path);
        }
        if (walk != NULL)
            fts_close(walk);
    }
    return found;
}

/* The folder of the group that we are in; "unified" is that of version 2, wherever it is mounted. */
static bool
find_group(const char *hierarchy, char *path, size_t size)
{
    char line[1024], group[512] = "", root[256], point[256], type[32], options[256];
    const bool unified = strcmp(hierarchy, "unified") == 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    for (char list[256]; file != NULL && group[0] == '\0' && fgets(line, sizeof line, file) != NULL;)
        if (unified ? sscanf(line, "0::%511s", group) != 1
                    : sscanf(line, "%*d:%255[^:]:%511s", list, group) != 2 || strstr(list, hierarchy) == NULL)
            group[0] = '\0';
    if (file != NULL)
        fclose(file);

    bool found = false;
    file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && group[0] != '\0' && !found && fgets(line, sizeof line, file) != NULL) {
        const char *dash = strstr(line, " - ");
        if (dash == NULL || sscanf(line, "%*s %*s %*s %255s %255s", root, point) != 2 ||
            sscanf(dash, " - %31s %*s %255s", type, options) != 2)
            continue;
        found =
            unified ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && strstr(options, hierarchy) != NULL;
        const size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
        if (found)
            snprintf(path, size, "%s%s", point, strlen(group) < skip ? "" : group + skip);
    }
    if (file != NULL)
        fclose(file);
    const size_t length = found ? strlen(path) : 0;
    if (length > 1 && path[length - 1] == '/')
        path[length - 1] = '\0';
    return found;
}

static void
leave(void)
{
    if (getpid() != who)
        return;
    for (size_t i = 0; i < HF_LENGTH(hierarchies) - 1; i++) {
        char own[512];
        if (!find_group(hierarchies[i], own, sizeof own) || strstr(own, NAME_PREFIX) == NULL)
            continue;
        char *const name = strrchr(own, '/');
        *name = '\0';
        enter(own);
        *name = '/';
        (void)rmdir(own); // refused while a sandbox's group is in it
    }
}

static void
enter(const char *folder)
{
    char path[700], text[32];
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    const int length = snprintf(text, sizeof text, "%d", (int)getpid());
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, text, (size_t)length);
        close(fd);
    }
}

/* What tests that were killed have left. */
static void
remove_dead(const char *folder)
{
    char *const paths[] = {(char *)(uintptr_t)folder, NULL};
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (const FTSENT *entry; walk != NULL && (entry = fts_read(walk)) != NULL;) {
        int pid = 0;
        const char *name = strstr(entry->fts_path, "/" NAME_PREFIX);
        if (entry->fts_info == FTS_DP && name != NULL && sscanf(name, "/" NAME_PREFIX "%d", &pid) == 1 &&
            kill(pid, 0) != 0 && errno == ESRCH)
            (void)rmdir(entry->fts_path);
    }
    if (walk != NULL)
        fts_close(walk);
}

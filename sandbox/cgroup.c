#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define NAME_PREFIX        "holdfast-sandbox-"
#define SELF               "0"    // the thread that writes it
#define MOST_PROC_BYTES    HF_MIB // of /proc/self/mountinfo
#define REMOVE_TRIES       200    // 5 ms apart: the kernel lets go of a group a moment after its last process
#define REMOVE_INTERVAL_NS 5000000

/* Where a controller is mounted and which group of it we are in. */
struct place {
    int version;
    char folder[384];
};

static void make_part(const char *controller, const char *below, struct hf_cgroup_part *ret);
static bool find_place(const char *controller, const char *below, struct place *ret, char why[static 192]);
static bool find_own_group(const char *controller, int version, char path[static 256]);
static bool find_mount(const char *controller, int version, char root[static 256], char point[static 256]);
static bool list_has(const char *list, const char *word, const char *separators);
static bool allow_in_children(const char *controller, const struct place *place, char why[static 192]);
static void sweep(const char *folder);
static void set_limits(struct hf_cgroup *cgroup, const struct hf_launch_limits *limits);
static bool set_value(struct hf_cgroup_part *part, const char *file, uint64_t value);
static void give_up(struct hf_cgroup_part *part, const char *action);
static bool write_file(const char *folder, const char *file, const char *text);
static bool read_file(const char *path, struct hf_buf *buf);
static uint64_t read_counter(const char *folder, const char *file, const char *name);
static void remove_folder(const char *folder);

void
hf_cgroup_make(const char *below, const struct hf_launch_limits *limits, struct hf_cgroup *ret)
{
    memset(ret, 0, sizeof *ret);
    make_part("memory", below, &ret->memory);
    make_part("pids", below, &ret->processes);
    set_limits(ret, limits);
}

void
hf_cgroup_enter(struct hf_cgroup *cgroup)
{
    struct hf_cgroup_part *parts[] = {&cgroup->memory, &cgroup->processes};
    for (size_t i = 0; i < HF_LENGTH(parts); i++) {
        if (parts[i]->version != 1 || parts[i]->home[0] == '\0')
            continue;
        parts[i]->entered = write_file(parts[i]->folder, "tasks", SELF);
        if (!parts[i]->entered)
            give_up(parts[i], "could not enter its group");
    }
}

/* One that cannot be left would limit the launcher too, and could not be removed. */
void
hf_cgroup_leave(struct hf_cgroup *cgroup)
{
    struct hf_cgroup_part *parts[] = {&cgroup->memory, &cgroup->processes};
    for (size_t i = 0; i < HF_LENGTH(parts); i++) {
        if (parts[i]->entered && !write_file(parts[i]->home, "tasks", SELF))
            give_up(parts[i], "could not leave its group again");
    }
}

void
hf_cgroup_add(struct hf_cgroup *cgroup, pid_t pid)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)pid);
    struct hf_cgroup_part *parts[] = {&cgroup->memory, &cgroup->processes};
    for (size_t i = 0; i < HF_LENGTH(parts); i++) {
        if (parts[i]->version != 0 && !parts[i]->entered && !write_file(parts[i]->folder, "cgroup.procs", text))
            give_up(parts[i], "could not enter its group");
    }
}

uint64_t
hf_cgroup_oom_kills(const struct hf_cgroup *cgroup)
{
    if (cgroup->memory.version == 0)
        return 0;
    const char *file = cgroup->memory.version == 1 ? "memory.oom_control" : "memory.events";
    return read_counter(cgroup->memory.folder, file, "oom_kill");
}

uint64_t
hf_cgroup_peak_bytes(const struct hf_cgroup *cgroup)
{
    if (cgroup->memory.version == 0)
        return 0;
    const char *file = cgroup->memory.version == 1 ? "memory.max_usage_in_bytes" : "memory.peak";
    return read_counter(cgroup->memory.folder, file, NULL);
}

void
hf_cgroup_remove(struct hf_cgroup *cgroup)
{
    if (cgroup->memory.folder[0] != '\0')
        remove_folder(cgroup->memory.folder);
    if (cgroup->processes.folder[0] != '\0' && strcmp(cgroup->processes.folder, cgroup->memory.folder) != 0)
        remove_folder(cgroup->processes.folder);
    memset(cgroup, 0, sizeof *cgroup);
}

static void
make_part(const char *controller, const char *below, struct hf_cgroup_part *ret)
{
    struct place place;
    if (!find_place(controller, below, &place, ret->why))
        return;
    sweep(place.folder);
    if (place.version == 2 && !allow_in_children(controller, &place, ret->why))
        return;

    char folder[sizeof ret->folder];
    snprintf(folder, sizeof folder, "%s/" NAME_PREFIX "%d", place.folder, (int)getpid());
    if (mkdir(folder, 0755) != 0 && errno != EEXIST) { // in version 2 both controllers share one group
        snprintf(ret->why, sizeof ret->why, "could not make a control group: %s", strerror(errno));
        return;
    }
    memcpy(ret->folder, folder, sizeof folder);
    ret->version = place.version;
    struct place home;
    char ignored[sizeof ret->why];
    if (place.version == 1 && find_place(controller, "", &home, ignored) && home.version == 1)
        snprintf(ret->home, sizeof ret->home, "%s", home.folder);
}

static bool
find_place(const char *controller, const char *below, struct place *ret, char why[static 192])
{
    for (int version = 1; version <= 2; version++) {
        char own[256], root[256], point[256];
        if (!find_mount(controller, version, root, point))
            continue;
        if (below[0] == '\0' && !find_own_group(controller, version, own))
            continue;
        const char *group = below[0] == '\0' ? own : below;
        size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
        if (strncmp(group, root, skip) != 0 || strstr(group, "..") != NULL) {
            snprintf(why, 192, "our control group lies outside of what is mounted at \"%.100s\"", point);
            return false;
        }
        const char *rest = strcmp(group + skip, "/") == 0 ? "" : group + skip;
        ret->version = version;
        if ((size_t)snprintf(ret->folder, sizeof ret->folder, "%s%s", point, rest) >= sizeof ret->folder)
            continue;
        return true;
    }
    snprintf(why, 192, "the control group controller \"%s\" is not mounted", controller);
    return false;
}

/* A line of /proc/self/cgroup: "4:memory:/a/b" in version 1, "0::/a/b" in version 2. */
static bool
find_own_group(const char *controller, int version, char path[static 256])
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(64 * HF_KIB);
    if (!read_file("/proc/self/cgroup", &text))
        return false;
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        const char *id = strsep(&line, ":"), *list = strsep(&line, ":");
        if (id == NULL || list == NULL || line == NULL || strlen(line) >= 256)
            continue;
        if (version == 1 ? list_has(list, controller, ",") : strcmp(id, "0") == 0 && list[0] == '\0') {
            strcpy(path, line);
            return true;
        }
    }
    return false;
}

/* "36 35 98:0 /root /point options - type source super_options" */
static bool
find_mount(const char *controller, int version, char root[static 256], char point[static 256])
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(MOST_PROC_BYTES);
    if (!read_file("/proc/self/mountinfo", &text))
        return false;
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char type[32], options[256];
        const char *dash = strstr(line, " - ");
        if (dash == NULL || sscanf(line, "%*s %*s %*s %255s %255s", root, point) != 2 ||
            sscanf(dash, " - %31s %*s %255s", type, options) != 2)
            continue;
        if (version == 1 && strcmp(type, "cgroup") == 0 && list_has(options, controller, ","))
            return true;
        if (version == 2 && strcmp(type, "cgroup2") == 0) {
            char path[300];
            _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(4 * HF_KIB);
            snprintf(path, sizeof path, "%s/cgroup.controllers", point);
            if (read_file(path, &list) && list_has(hf_buf_text(&list), controller, " \n"))
                return true;
        }
    }
    return false;
}

static bool
list_has(const char *list, const char *word, const char *separators)
{
    while (*list != '\0') {
        size_t length = strcspn(list, separators);
        if (length == strlen(word) && strncmp(list, word, length) == 0)
            return true;
        list += length + strspn(list + length, separators);
    }
    return false;
}

/* In version 2 a group hands a controller on only while it holds no process itself, unless it is the root. */
static bool
allow_in_children(const char *controller, const struct place *place, char why[static 192])
{
    char path[448], text[32];
    _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(4 * HF_KIB);
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", place->folder);
    if (read_file(path, &list) && list_has(hf_buf_text(&list), controller, " \n"))
        return true;
    snprintf(text, sizeof text, "+%s", controller);
    if (write_file(place->folder, "cgroup.subtree_control", text))
        return true;
    snprintf(why, 192, "the group \"%.100s\" does not hand on \"%s\": %s", place->folder, controller, strerror(errno));
    return false;
}

static void
sweep(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
            continue;
        long pid = strtol(entry->d_name + strlen(NAME_PREFIX), NULL, 10);
        if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            (void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR); // refused by the kernel while anyone is inside
    }
    closedir(dir);
}

static void
set_limits(struct hf_cgroup *cgroup, const struct hf_launch_limits *limits)
{
    struct hf_cgroup_part *memory = &cgroup->memory, *processes = &cgroup->processes;
    if (memory->version == 1 && limits->memory_bytes != 0) {
        if (set_value(memory, "memory.limit_in_bytes", limits->memory_bytes)) {
            // Swap is counted only on some hosts; where it is not, at least do not reach for it.
            char text[32];
            snprintf(text, sizeof text, "%llu", (unsigned long long)limits->memory_bytes);
            (void)write_file(memory->folder, "memory.memsw.limit_in_bytes", text);
            (void)write_file(memory->folder, "memory.swappiness", "0");
        }
    } else if (memory->version == 2 && limits->memory_bytes != 0) {
        if (set_value(memory, "memory.max", limits->memory_bytes)) {
            (void)write_file(memory->folder, "memory.swap.max", "0");
            (void)write_file(memory->folder, "memory.oom.group", "1");
        }
    }
    if (processes->version != 0 && limits->processes != 0)
        (void)set_value(processes, "pids.max", limits->processes);
}

static bool
set_value(struct hf_cgroup_part *part, const char *file, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    if (write_file(part->folder, file, text))
        return true;
    give_up(part, "could not set its limit");
    return false;
}

static void
give_up(struct hf_cgroup_part *part, const char *action)
{
    snprintf(part->why, sizeof part->why, "%s: %s", action, strerror(errno));
    part->version = 0; // the folder stays known, so that it is removed
}

static bool
write_file(const char *folder, const char *file, const char *text)
{
    char path[640];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Files of /proc and of control groups say they are empty: read until the end. */
static bool
read_file(const char *path, struct hf_buf *buf)
{
    char piece[4096];
    ssize_t got;
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while ((got = read(fd, piece, sizeof piece)) > 0) {
        if (!hf_buf_add(buf, piece, (size_t)got, NULL))
            return false;
    }
    return got == 0 && buf->length > 0;
}

/* The number in a file, or behind `name` in a file of "name number" lines; 0 when there is none. */
static uint64_t
read_counter(const char *folder, const char *file, const char *name)
{
    char path[640];
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(16 * HF_KIB);
    snprintf(path, sizeof path, "%s/%s", folder, file);
    if (!read_file(path, &text))
        return 0;
    if (name == NULL)
        return strtoull(hf_buf_text(&text), NULL, 10);
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        size_t length = strlen(name);
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            return strtoull(line + length + 1, NULL, 10);
    }
    return 0;
}

static void
remove_folder(const char *folder)
{
    const struct timespec pause = {.tv_nsec = REMOVE_INTERVAL_NS};
    for (int i = 0; i < REMOVE_TRIES && rmdir(folder) != 0 && errno == EBUSY; i++)
        nanosleep(&pause, NULL);
}

#include "server/storage/local_tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEVELS_MOST         (HF_OBJECT_NAME_BYTES / 2) // folders inside each other: each takes two bytes of a name
#define FOLDER_ENTRIES_MOST ((size_t)4 << 20)          // of one folder, held in memory

/* One folder of a listing that is being walked. */
struct level {
    int fd;
    char **names;  // sorted; folders end with a "/"
    size_t next;   // in names
    size_t length; // of the path up to here, with its "/"
};

static bool name_entry(int fd, const struct dirent *entry, const char *path, char name[static HF_OBJECT_NAME_BYTES]);
static bool walk(const struct hf_tree *tree, struct level *levels, size_t *depth,
                 char path[static HF_OBJECT_NAME_BYTES], const char *start, hf_object_visitor *visit, void *context,
                 struct hf_error *err);
static bool enter_level(const struct hf_tree *tree, struct level *levels, size_t *depth, const char *path,
                        struct hf_error *err);
static void leave_level(struct level *level);
static bool visit_file(const struct level *level, const char *path, hf_object_visitor *visit, void *context,
                       struct hf_error *err);
static int compare_text(const void *a, const void *b);
static void closedirp(DIR **stream);

bool
hf_tree_names(int fd, const char *path, char ***ret, struct hf_error *err)
{
    _cleanup_(hf_closep) int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_(closedirp) DIR *stream = again < 0 ? NULL : fdopendir(again);
    if (stream == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", path);
    again = -1; // the stream owns it now

    _cleanup_(hf_strv_freep) char **names = calloc(1, sizeof *names);
    size_t count = 0, capacity = 1; // with the NULL at the end
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\"", path);
        if (entry == NULL)
            break;
        char name[HF_OBJECT_NAME_BYTES];
        if (!name_entry(fd, entry, path, name))
            continue;
        if (count == FOLDER_ENTRIES_MOST)
            return hf_fail(err, HF_ERR_NO_SPACE, "folder \"%s\" holds more than %zu names", path, FOLDER_ENTRIES_MOST);
        if (names != NULL && count + 1 == capacity) {
            char **more = reallocarray(names, capacity * 2, sizeof *names);
            if (more == NULL)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);
            names = more;
            capacity *= 2;
        }
        if (names == NULL || (names[count] = strdup(name)) == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);
        names[++count] = NULL;
    }
    if (names == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);

    qsort(names, count, sizeof *names, compare_text);
    *ret = HF_TAKE(names);
    return true;
}

bool
hf_tree_list(const struct hf_tree *tree, const char *prefix, hf_object_visitor *visit, void *context,
             struct hf_error *err)
{
    struct level levels[LEVELS_MOST];
    size_t depth = 0;
    char path[HF_OBJECT_NAME_BYTES]; // of the folder, and then of each object
    const char *slash = strrchr(prefix, '/');
    const char *start = slash == NULL ? prefix : slash + 1;
    snprintf(path, sizeof path, "%.*s", (int)(start - prefix), prefix);

    bool walked = walk(tree, levels, &depth, path, start, visit, context, err);
    while (depth > 0)
        leave_level(&levels[--depth]);
    return walked;
}

/*
 * `path` is the folder to list ("" or ending with a "/"), of which only names with this start count.  What has been
 * entered is left by the caller.
 */
static bool
walk(const struct hf_tree *tree, struct level *levels, size_t *depth, char path[static HF_OBJECT_NAME_BYTES],
     const char *start, hf_object_visitor *visit, void *context, struct hf_error *err)
{
    if (!enter_level(tree, levels, depth, path, err))
        return false;

    while (*depth > 0) {
        struct level *level = &levels[*depth - 1];
        const char *name = level->names[level->next];
        if (name == NULL) {
            leave_level(level);
            *depth -= 1;
            continue;
        }
        level->next++;
        if (*depth == 1 && strncmp(name, start, strlen(start)) != 0)
            continue;
        snprintf(path + level->length, HF_OBJECT_NAME_BYTES - level->length, "%s", name);
        bool folder = name[strlen(name) - 1] == '/';
        if (folder ? !enter_level(tree, levels, depth, path, err) : !visit_file(level, path, visit, context, err))
            return false;
    }
    return true;
}

/* A folder that is not there has nothing in it. */
static bool
enter_level(const struct hf_tree *tree, struct level *levels, size_t *depth, const char *path, struct hf_error *err)
{
    assert(*depth < LEVELS_MOST); // each level takes two bytes of a name, and names were measured
    char folder[HF_PATH_BYTES];
    hf_tree_split(path, folder);
    struct level level = {.length = strlen(path)};
    level.fd = hf_tree_at(tree, folder, O_RDONLY | O_DIRECTORY);
    if (level.fd < 0 && errno == ENOENT)
        return true;
    if (level.fd < 0)
        return hf_tree_fail(tree, folder, err);
    if (!hf_tree_names(level.fd, path, &level.names, err)) {
        leave_level(&level);
        return false;
    }
    levels[(*depth)++] = level;
    return true;
}

static void
leave_level(struct level *level)
{
    hf_strv_freep(&level->names);
    hf_closep(&level->fd);
}

/* False for what is no object: links, devices, foreign names ("lost+found"), and what the storage keeps for itself. */
static bool
name_entry(int fd, const struct dirent *entry, const char *path, char name[static HF_OBJECT_NAME_BYTES])
{
    unsigned type = entry->d_type;
    if (type == DT_UNKNOWN) {
        struct stat status;
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return false;
        type = IFTODT(status.st_mode);
    }
    if ((type != DT_DIR && type != DT_REG) || !hf_object_part_valid(entry->d_name, strlen(entry->d_name)))
        return false;

    char whole[2 * HF_OBJECT_NAME_BYTES];
    snprintf(name, HF_OBJECT_NAME_BYTES, "%s%s", entry->d_name, type == DT_DIR ? "/" : "");
    size_t length = (size_t)snprintf(whole, sizeof whole, "%s%s", path, name);
    return length < HF_OBJECT_NAME_BYTES && !hf_object_name_reserved(whole);
}

static bool
visit_file(const struct level *level, const char *path, hf_object_visitor *visit, void *context, struct hf_error *err)
{
    struct stat status;
    if (fstatat(level->fd, path + level->length, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) // deleted since its folder was read
            return true;
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
    }
    if (!S_ISREG(status.st_mode))
        return true;

    struct hf_object_info info = {
        .size = (uint64_t)status.st_size,
        .modified_at = (int64_t)status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1000000,
    };
    snprintf(info.name, sizeof info.name, "%s", path);
    return visit(context, &info, err);
}

static int
compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
closedirp(DIR **stream)
{
    if (*stream != NULL)
        closedir(*stream);
    *stream = NULL;
}

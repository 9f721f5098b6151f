#include "sandbox/build.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "sandbox/elf.h"
#include "base/file.h"

#define LIBRARY_FOLDER    "/lib" // inside: in every loader's usual path, and in LD_LIBRARY_PATH to be sure
#define MOST_SETTING_NAME 64
#define CLOSURE_CACHE     4 // programs; a verification starts two or three different ones

/* Walking a hundred libraries takes longer than making the namespaces. */
struct cached_closure {
    char *program;
    struct timespec changed; // of the program; an upgrade changes it
    ino_t inode;
    size_t module_count; // these two stand for which modules there are
    time_t module_changed;
    struct hf_elf_closure closure;
};

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cached_closure cache[CLOSURE_CACHE];
static size_t cache_next;

static bool add_entry(struct hf_sandbox_root *root, enum hf_launch_kind kind, const char *from, const char *to,
                      uint64_t bytes, struct hf_error *err);
static const struct hf_elf_closure *find_closure(const char *program, const char *const *modules,
                                                 const char *const *folders, struct hf_error *err);
static bool describe_files(const char *program, const char *const *modules, struct cached_closure *ret,
                           struct hf_error *err);
static bool add_closure(struct hf_sandbox_root *root, const char *program, const char *to,
                        const struct hf_elf_closure *closure, struct hf_error *err);
static bool add_word(char **words, size_t *count, struct hf_error *err, const char *format, va_list arguments)
    HF_PRINTF(4, 0);

bool
hf_sandbox_root_init(struct hf_sandbox_root *root, const char *settings_folder, struct hf_error *err)
{
    *root = (struct hf_sandbox_root){.settings_folder = settings_folder};
    root->entries = calloc(HF_LAUNCH_MOST_ENTRIES, sizeof *root->entries);
    if (root->entries == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the root of a sandbox");
    return true;
}

void
hf_sandbox_root_done(struct hf_sandbox_root *root)
{
    for (size_t i = 0; i < root->count; i++) {
        free(root->entries[i].from);
        free(root->entries[i].to);
    }
    free(root->entries);
    *root = (struct hf_sandbox_root){0};
}

bool
hf_sandbox_root_add(struct hf_sandbox_root *root, enum hf_launch_kind kind, const char *from, const char *to,
                    struct hf_error *err)
{
    char real[PATH_MAX];
    if (kind == HF_LAUNCH_EMPTY)
        return add_entry(root, kind, "", to, 0, err);
    if (realpath(from, real) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not bring \"%s\" into the sandbox", from);
    return add_entry(root, kind, real, to, 0, err);
}

bool
hf_sandbox_root_add_memory(struct hf_sandbox_root *root, const char *to, uint64_t bytes, struct hf_error *err)
{
    return add_entry(root, HF_LAUNCH_MEMORY, "", to, bytes, err);
}

bool
hf_sandbox_root_add_program(struct hf_sandbox_root *root, const char *program, const char *to,
                            const char *const *modules, const char *const *library_folders, struct hf_error *err)
{
    pthread_mutex_lock(&cache_lock);
    const struct hf_elf_closure *closure = find_closure(program, modules, library_folders, err);
    bool fine = closure != NULL && add_closure(root, program, to, closure, err);
    pthread_mutex_unlock(&cache_lock);
    return fine;
}

bool
hf_sandbox_root_add_setting(struct hf_sandbox_root *root, const char *name, const char *text, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(root->settings_folder, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a settings file");
    if (strchr(name, '/') != NULL || strlen(name) > MOST_SETTING_NAME)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is no name for a settings file", name);
    return hf_file_publish(path, text, strlen(text), 0644, HF_PUBLISH_EXCLUSIVE, err);
}

bool
hf_sandbox_command_init(struct hf_sandbox_command *command, const char *directory, struct hf_error *err)
{
    *command = (struct hf_sandbox_command){0};
    command->command.directory = strdup(directory);
    command->command.arguments = calloc(HF_LAUNCH_MOST_WORDS + 1, sizeof(char *));
    command->command.environment = calloc(HF_LAUNCH_MOST_WORDS + 1, sizeof(char *));
    if (command->command.directory == NULL || command->command.arguments == NULL ||
        command->command.environment == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a command");
    return true;
}

void
hf_sandbox_command_done(struct hf_sandbox_command *command)
{
    free(command->command.program);
    free(command->command.directory);
    hf_strv_freep(&command->command.arguments);
    hf_strv_freep(&command->command.environment);
    *command = (struct hf_sandbox_command){0};
}

bool
hf_sandbox_command_program(struct hf_sandbox_command *command, const char *path, struct hf_error *err)
{
    free(command->command.program);
    command->command.program = strdup(path);
    if (command->command.program == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a command");
    return true;
}

bool
hf_sandbox_command_argument(struct hf_sandbox_command *command, struct hf_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    bool fine = add_word(command->command.arguments, &command->argument_count, err, format, arguments);
    va_end(arguments);
    return fine;
}

bool
hf_sandbox_command_variable(struct hf_sandbox_command *command, struct hf_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    bool fine = add_word(command->command.environment, &command->variable_count, err, format, arguments);
    va_end(arguments);
    return fine;
}

static bool
add_entry(struct hf_sandbox_root *root, enum hf_launch_kind kind, const char *from, const char *to, uint64_t bytes,
          struct hf_error *err)
{
    for (size_t i = 0; i < root->count; i++) {
        const struct hf_launch_entry *entry = &root->entries[i];
        if (strcmp(entry->to, to) != 0)
            continue;
        if (entry->kind == kind && strcmp(entry->from, from) == 0 && entry->bytes == bytes)
            return true;
        return hf_fail(err, HF_ERR_CONFLICT, "both \"%s\" and \"%s\" should be \"%s\" in the sandbox", entry->from,
                       from, to);
    }
    if (root->count == HF_LAUNCH_MOST_ENTRIES)
        return hf_fail(err, HF_ERR_NO_SPACE, "a sandbox takes %d files and folders, more were asked for",
                       HF_LAUNCH_MOST_ENTRIES);
    if (!hf_launch_path_is_plain(to) || (from[0] != '\0' && !hf_launch_path_is_plain(from)))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" cannot be \"%s\" in a sandbox: paths are absolute and plain", from,
                       to);
    struct hf_launch_entry entry = {.kind = kind, .from = strdup(from), .to = strdup(to), .bytes = bytes};
    root->entries[root->count++] = entry;
    if (entry.from == NULL || entry.to == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the root of a sandbox");
    return true;
}

/* With the lock held.  The answer is good until the lock is given back. */
static const struct hf_elf_closure *
find_closure(const char *program, const char *const *modules, const char *const *folders, struct hf_error *err)
{
    struct cached_closure wanted = {0};
    if (!describe_files(program, modules, &wanted, err))
        return NULL;
    for (size_t i = 0; i < CLOSURE_CACHE; i++) {
        const struct cached_closure *known = &cache[i];
        if (known->program != NULL && strcmp(known->program, program) == 0 && known->inode == wanted.inode &&
            known->changed.tv_sec == wanted.changed.tv_sec && known->changed.tv_nsec == wanted.changed.tv_nsec &&
            known->module_count == wanted.module_count && known->module_changed == wanted.module_changed)
            return &known->closure;
    }
    if (!hf_elf_closure(program, modules, folders, &wanted.closure, err))
        return NULL;
    wanted.program = strdup(program);
    if (wanted.program == NULL) {
        hf_elf_closure_done(&wanted.closure);
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for libraries");
        return NULL;
    }
    struct cached_closure *slot = &cache[cache_next++ % CLOSURE_CACHE];
    free(slot->program);
    hf_elf_closure_done(&slot->closure);
    *slot = wanted;
    return &slot->closure;
}

static bool
describe_files(const char *program, const char *const *modules, struct cached_closure *ret, struct hf_error *err)
{
    struct stat info;
    if (stat(program, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", program);
    ret->changed = info.st_mtim;
    ret->inode = info.st_ino;
    for (size_t i = 0; modules != NULL && modules[i] != NULL; i++) {
        if (stat(modules[i], &info) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", modules[i]);
        ret->module_count++;
        if (info.st_mtime > ret->module_changed)
            ret->module_changed = info.st_mtime;
    }
    return true;
}

static bool
add_closure(struct hf_sandbox_root *root, const char *program, const char *to, const struct hf_elf_closure *closure,
            struct hf_error *err)
{
    char place[sizeof LIBRARY_FOLDER + 1 + HF_ELF_NAME_BYTES];
    if (!hf_sandbox_root_add(root, HF_LAUNCH_RUN, program, to, err))
        return false;
    if (closure->loader != NULL && !hf_sandbox_root_add(root, HF_LAUNCH_RUN, closure->loader, closure->loader, err))
        return false;
    for (size_t i = 0; i < closure->library_count; i++) {
        snprintf(place, sizeof place, LIBRARY_FOLDER "/%s", closure->libraries[i].name);
        if (!hf_sandbox_root_add(root, HF_LAUNCH_RUN, closure->libraries[i].path, place, err))
            return false;
    }
    return true;
}

static bool
add_word(char **words, size_t *count, struct hf_error *err, const char *format, va_list arguments)
{
    if (*count == HF_LAUNCH_MOST_WORDS)
        return hf_fail(err, HF_ERR_NO_SPACE, "a command takes %d words, more were asked for", HF_LAUNCH_MOST_WORDS);
    int length = vasprintf(&words[*count], format, arguments);
    if (length < 0) {
        words[*count] = NULL;
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a command");
    }
    ++*count;
    if (length > HF_LAUNCH_WORD_BYTES)
        return hf_fail(err, HF_ERR_NO_SPACE, "a word of a command has %d bytes, the limit is %d", length,
                       HF_LAUNCH_WORD_BYTES);
    return true;
}

#include "sandbox/launch.h"

#include <string.h>

#include "base/file.h"

static const char what[] = "sandbox spec";

static const char *const level_names[] = {"L0", "L1", "L2", "L3r", "L3"};
static const char *const kind_names[] = {"run", "read", "write", "memory", "empty"};
static const char *const without_names[] = {"user_namespace", "namespaces", "mount_calls", "landlock", "cgroup"};

static const char *const spec_members[] = {"lowest",    "host_uid",  "host_gid",    "without", "entries", "program",
                                           "directory", "arguments", "environment", "flat",    "limits",  "loopback",
                                           "inet",      "cgroup",    "watched",     "remove"};
static const char *const entry_members[] = {"kind", "from", "to", "bytes"};
static const char *const command_members[] = {"program", "directory", "arguments", "environment"};
static const char *const limit_members[] = {"memory_bytes", "processes", "open_files", "disk_bytes", "wall_ms"};

static bool parse_spec(const json_t *spec, struct hf_launch *ret, struct hf_error *err);
static bool parse_without(const json_t *spec, unsigned *ret, struct hf_error *err);
static bool parse_entries(const json_t *spec, struct hf_launch *ret, struct hf_error *err);
static bool parse_entry(const json_t *value, struct hf_launch_entry *ret, struct hf_error *err);
static bool parse_flat(const json_t *spec, struct hf_launch_command *ret, struct hf_error *err);
static bool parse_command(const json_t *object, struct hf_launch_command *ret, struct hf_error *err);
static bool parse_words(const json_t *object, const char *member, char ***ret, struct hf_error *err);
static bool parse_limits(const json_t *spec, struct hf_launch_limits *ret, struct hf_error *err);
static bool parse_count(const json_t *object, const char *member, uint64_t most, uint64_t *ret, struct hf_error *err);
static bool parse_id(const json_t *object, const char *member, uint32_t *ret, struct hf_error *err);
static bool parse_path(const json_t *object, const char *member, bool empty_is_fine, char **ret, struct hf_error *err);
static bool check_members(const json_t *object, const char *const *names, size_t count, struct hf_error *err);
static bool copy_text(const char *text, char **ret, struct hf_error *err);
static bool check_places(const struct hf_launch *launch, struct hf_error *err);
static int compare_places(const void *a, const void *b);
static json_t *write_command(const struct hf_launch_command *command);
static json_t *write_words(char **words);
static void command_done(struct hf_launch_command *command);

const char *
hf_sandbox_level_name(enum hf_sandbox_level level)
{
    return level_names[level];
}

bool
hf_sandbox_level_parse(const char *name, enum hf_sandbox_level *ret, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (enum hf_sandbox_level)i;
            return true;
        }
    }
    return hf_fail(err, HF_ERR_USAGE, "there is no sandbox level \"%s\"", name);
}

bool
hf_launch_parse(const void *text, size_t length, struct hf_launch *ret, struct hf_error *err)
{
    memset(ret, 0, sizeof *ret);
    if (length > HF_LAUNCH_MOST_BYTES)
        return hf_fail(err, HF_ERR_NO_SPACE, "%s has %zu bytes, the limit is %zu", what, length, HF_LAUNCH_MOST_BYTES);
    _cleanup_(hf_json_freep) json_t *spec = NULL;
    if (!hf_json_parse(text, length, what, &spec, err))
        return false;
    return parse_spec(spec, ret, err) && check_places(ret, err);
}

bool
hf_launch_write(const struct hf_launch *launch, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *spec = write_command(&launch->command);
    json_t *entries = json_array(), *without = json_array();
    for (size_t i = 0; i < launch->entry_count; i++) {
        const struct hf_launch_entry *entry = &launch->entries[i];
        json_array_append_new(entries, json_pack("{s:s, s:s, s:s, s:I}", "kind", kind_names[entry->kind], "from",
                                                 entry->from, "to", entry->to, "bytes", (json_int_t)entry->bytes));
    }
    for (size_t i = 0; i < HF_LENGTH(without_names); i++) {
        if ((launch->without & 1u << i) != 0)
            json_array_append_new(without, json_string(without_names[i]));
    }
    const struct hf_launch_limits *limits = &launch->limits;
    json_t *flat = launch->flat.program == NULL ? json_null() : write_command(&launch->flat);
    json_t *bounds = json_pack("{s:I, s:I, s:I, s:I, s:I}", "memory_bytes", (json_int_t)limits->memory_bytes,
                               "processes", (json_int_t)limits->processes, "open_files", (json_int_t)limits->open_files,
                               "disk_bytes", (json_int_t)limits->disk_bytes, "wall_ms", (json_int_t)limits->wall_ms);
    bool fine = hf_json_set(spec, "entries", entries, err) && hf_json_set(spec, "without", without, err);
    fine = hf_json_set(spec, "flat", flat, err) && fine;
    fine = hf_json_set(spec, "limits", bounds, err) && fine;
    return fine && hf_json_set(spec, "lowest", json_string(level_names[launch->lowest]), err) &&
           hf_json_set(spec, "host_uid", json_integer(launch->host_uid), err) &&
           hf_json_set(spec, "host_gid", json_integer(launch->host_gid), err) &&
           hf_json_set(spec, "loopback", json_boolean(launch->loopback), err) &&
           hf_json_set(spec, "inet", json_boolean(launch->inet), err) &&
           hf_json_set(spec, "cgroup", json_string(launch->cgroup), err) &&
           hf_json_set(spec, "watched", json_string(launch->watched), err) &&
           hf_json_set(spec, "remove", json_string(launch->remove), err) && hf_json_canonical(spec, out, err);
}

void
hf_launch_done(struct hf_launch *launch)
{
    for (size_t i = 0; i < launch->entry_count; i++) {
        free(launch->entries[i].from);
        free(launch->entries[i].to);
    }
    free(launch->entries);
    command_done(&launch->command);
    command_done(&launch->flat);
    free(launch->cgroup);
    free(launch->watched);
    free(launch->remove);
    memset(launch, 0, sizeof *launch);
}

bool
hf_launch_path_is_plain(const char *path)
{
    if (path[0] != '/' || strlen(path) >= HF_LAUNCH_PATH_BYTES)
        return false;
    for (const char *part = path; *part != '\0';) {
        size_t length = strcspn(part + 1, "/");
        bool dots = (length == 1 && part[1] == '.') || (length == 2 && part[1] == '.' && part[2] == '.');
        if (length == 0 || dots)
            return false;
        for (size_t i = 1; i <= length; i++) {
            if ((unsigned char)part[i] < ' ' || part[i] == 0x7f)
                return false;
        }
        part += 1 + length;
    }
    return true;
}

static bool
parse_spec(const json_t *spec, struct hf_launch *ret, struct hf_error *err)
{
    const char *lowest;
    if (!check_members(spec, spec_members, HF_LENGTH(spec_members), err) ||
        !hf_json_string(spec, "lowest", what, &lowest, err) || !hf_sandbox_level_parse(lowest, &ret->lowest, err))
        return false;
    if (ret->lowest == HF_SANDBOX_L0)
        return hf_fail(err, HF_ERR_USAGE, "level L0 is no isolation: nothing runs there");
    return parse_id(spec, "host_uid", &ret->host_uid, err) && parse_id(spec, "host_gid", &ret->host_gid, err) &&
           parse_without(spec, &ret->without, err) && parse_entries(spec, ret, err) &&
           parse_command(spec, &ret->command, err) && parse_flat(spec, &ret->flat, err) &&
           parse_limits(spec, &ret->limits, err) && hf_json_boolean(spec, "loopback", what, &ret->loopback, err) &&
           hf_json_boolean(spec, "inet", what, &ret->inet, err) &&
           parse_path(spec, "cgroup", true, &ret->cgroup, err) &&
           parse_path(spec, "watched", true, &ret->watched, err) && parse_path(spec, "remove", true, &ret->remove, err);
}

static bool
parse_without(const json_t *spec, unsigned *ret, struct hf_error *err)
{
    json_t *list, *value;
    size_t at;
    if (!hf_json_array(spec, "without", what, &list, err))
        return false;
    json_array_foreach(list, at, value)
    {
        const char *name = json_string_value(value);
        size_t i = 0;
        while (name != NULL && i < HF_LENGTH(without_names) && strcmp(name, without_names[i]) != 0)
            i++;
        if (name == NULL || i == HF_LENGTH(without_names))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: \"without\" names no layer at place %zu", what, at);
        *ret |= 1u << i;
    }
    return true;
}

static bool
parse_entries(const json_t *spec, struct hf_launch *ret, struct hf_error *err)
{
    json_t *list, *value;
    size_t at;
    if (!hf_json_array(spec, "entries", what, &list, err))
        return false;
    if (json_array_size(list) > HF_LAUNCH_MOST_ENTRIES)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has %zu entries, the limit is %d", what, json_array_size(list),
                       HF_LAUNCH_MOST_ENTRIES);
    ret->entries = calloc(json_array_size(list) + 1, sizeof *ret->entries);
    if (ret->entries == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the entries of a sandbox");
    json_array_foreach(list, at, value)
    {
        ret->entry_count = at + 1; // so that hf_launch_done() frees half of one as well
        if (!parse_entry(value, &ret->entries[at], err))
            return hf_fail_within(err, "%s: entry %zu", what, at);
    }
    return true;
}

static bool
parse_entry(const json_t *value, struct hf_launch_entry *ret, struct hf_error *err)
{
    const char *kind;
    size_t i = 0;
    if (!check_members(value, entry_members, HF_LENGTH(entry_members), err) ||
        !hf_json_string(value, "kind", what, &kind, err))
        return false;
    while (i < HF_LENGTH(kind_names) && strcmp(kind, kind_names[i]) != 0)
        i++;
    if (i == HF_LENGTH(kind_names))
        return hf_fail(err, HF_ERR_CORRUPT, "there is no kind \"%s\"", kind);
    ret->kind = (enum hf_launch_kind)i;

    bool from_nowhere = ret->kind == HF_LAUNCH_MEMORY || ret->kind == HF_LAUNCH_EMPTY;
    if (!parse_path(value, "from", from_nowhere, &ret->from, err) || !parse_path(value, "to", false, &ret->to, err) ||
        !parse_count(value, "bytes", INT64_MAX, &ret->bytes, err))
        return false;
    if (from_nowhere != (ret->from[0] == '\0'))
        return hf_fail(err, HF_ERR_CORRUPT, "kind \"%s\" cannot come from \"%s\"", kind, ret->from);
    if ((ret->kind == HF_LAUNCH_MEMORY) != (ret->bytes != 0))
        return hf_fail(err, HF_ERR_CORRUPT, "\"bytes\" is for the kind \"memory\" alone, which needs it");
    return true;
}

static bool
parse_flat(const json_t *spec, struct hf_launch_command *ret, struct hf_error *err)
{
    const json_t *flat = json_object_get(spec, "flat");
    if (json_is_null(flat))
        return true;
    return check_members(flat, command_members, HF_LENGTH(command_members), err) && parse_command(flat, ret, err);
}

static bool
parse_command(const json_t *object, struct hf_launch_command *ret, struct hf_error *err)
{
    if (!parse_path(object, "program", false, &ret->program, err) ||
        !parse_path(object, "directory", false, &ret->directory, err) ||
        !parse_words(object, "arguments", &ret->arguments, err) ||
        !parse_words(object, "environment", &ret->environment, err))
        return false;
    if (ret->arguments[0] == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: \"arguments\" is empty", what);
    return true;
}

static bool
parse_words(const json_t *object, const char *member, char ***ret, struct hf_error *err)
{
    json_t *list, *value;
    size_t at;
    if (!hf_json_array(object, member, what, &list, err))
        return false;
    if (json_array_size(list) > HF_LAUNCH_MOST_WORDS)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: \"%s\" has %zu words, the limit is %d", what, member,
                       json_array_size(list), HF_LAUNCH_MOST_WORDS);
    _cleanup_(hf_strv_freep) char **words = calloc(json_array_size(list) + 1, sizeof *words);
    if (words == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the words of a command");
    json_array_foreach(list, at, value)
    {
        if (!json_is_string(value) || json_string_length(value) > HF_LAUNCH_WORD_BYTES)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: word %zu of \"%s\" is no text of at most %d bytes", what, at,
                           member, HF_LAUNCH_WORD_BYTES);
        if (!copy_text(json_string_value(value), &words[at], err))
            return false;
    }
    *ret = HF_TAKE(words);
    return true;
}

static bool
parse_limits(const json_t *spec, struct hf_launch_limits *ret, struct hf_error *err)
{
    json_t *limits;
    if (!hf_json_object(spec, "limits", what, &limits, err) ||
        !check_members(limits, limit_members, HF_LENGTH(limit_members), err) ||
        !parse_count(limits, "memory_bytes", INT64_MAX, &ret->memory_bytes, err) ||
        !parse_count(limits, "processes", 1000000, &ret->processes, err) ||
        !parse_count(limits, "open_files", HF_LAUNCH_MOST_FILES, &ret->open_files, err) ||
        !parse_count(limits, "disk_bytes", INT64_MAX, &ret->disk_bytes, err) ||
        !parse_count(limits, "wall_ms", INT64_MAX / 1000000, &ret->wall_ms, err))
        return false;
    if (ret->open_files < 16)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: \"open_files\" is less than 16", what);
    return true;
}

static bool
parse_count(const json_t *object, const char *member, uint64_t most, uint64_t *ret, struct hf_error *err)
{
    int64_t count;
    if (!hf_json_integer(object, member, what, 0, (int64_t)most, &count, err))
        return false;
    *ret = (uint64_t)count;
    return true;
}

static bool
parse_id(const json_t *object, const char *member, uint32_t *ret, struct hf_error *err)
{
    int64_t id;
    if (!hf_json_integer(object, member, what, 0, UINT32_MAX - 1, &id, err)) // all ones means "no change" to the kernel
        return false;
    *ret = (uint32_t)id;
    return true;
}

static bool
parse_path(const json_t *object, const char *member, bool empty_is_fine, char **ret, struct hf_error *err)
{
    const char *path;
    if (!hf_json_string(object, member, what, &path, err))
        return false;
    if (!(empty_is_fine && path[0] == '\0') && !hf_launch_path_is_plain(path))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: \"%s\" is no plain absolute path", what, member);
    return copy_text(path, ret, err);
}

/* Exactly these members: a misspelt limit must not be taken for none. */
static bool
check_members(const json_t *object, const char *const *names, size_t count, struct hf_error *err)
{
    if (!json_is_object(object))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: an object was expected", what);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t i = 0;
        while (i < count && strcmp(key, names[i]) != 0)
            i++;
        if (i == count)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is unknown", what, key);
    }
    for (size_t i = 0; i < count; i++) {
        if (json_object_get(object, names[i]) == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is missing", what, names[i]);
    }
    return true;
}

static bool
copy_text(const char *text, char **ret, struct hf_error *err)
{
    *ret = strdup(text);
    if (*ret == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the spec of a sandbox");
    return true;
}

/* One place, one thing: of two entries for a path, or for a path and one below it, the later would hide the earlier. */
static bool
check_places(const struct hf_launch *launch, struct hf_error *err)
{
    _cleanup_(hf_freep) const char **places = calloc(launch->entry_count + 1, sizeof *places);
    if (places == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the entries of a sandbox");
    for (size_t i = 0; i < launch->entry_count; i++)
        places[i] = launch->entries[i].to;
    qsort(places, launch->entry_count, sizeof *places, compare_places);
    for (size_t i = 1; i < launch->entry_count; i++) {
        size_t length = strlen(places[i - 1]);
        if (strncmp(places[i - 1], places[i], length) == 0 && (places[i][length] == '\0' || places[i][length] == '/'))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: \"%s\" lies in \"%s\", which is an entry too", what, places[i],
                           places[i - 1]);
    }
    return true;
}

/* '/' before everything else, so that what lies in a folder follows it at once. */
static int
compare_places(const void *a, const void *b)
{
    const unsigned char *left = *(const unsigned char *const *)a, *right = *(const unsigned char *const *)b;
    while (*left != '\0' && *left == *right) {
        left++;
        right++;
    }
    int one = *left == '/' ? 1 : *left, other = *right == '/' ? 1 : *right;
    return one - other;
}

static json_t *
write_command(const struct hf_launch_command *command)
{
    return json_pack("{s:s, s:s, s:o, s:o}", "program", command->program, "directory", command->directory, "arguments",
                     write_words(command->arguments), "environment", write_words(command->environment));
}

static json_t *
write_words(char **words)
{
    json_t *list = json_array();
    for (size_t i = 0; words[i] != NULL; i++)
        json_array_append_new(list, json_string(words[i]));
    return list;
}

static void
command_done(struct hf_launch_command *command)
{
    free(command->program);
    free(command->directory);
    hf_strv_freep(&command->arguments);
    hf_strv_freep(&command->environment);
}

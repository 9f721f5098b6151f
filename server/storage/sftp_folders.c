#include "server/storage/sftp_folders.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One walk through the folders, without recursion: those still to be read. */
struct walk {
    struct hf_sftp_listing *listing;
    const char *prefix;
    bool staged;
    char folder[HF_OBJECT_NAME_BYTES]; // being read; "" or with a slash at its end
    size_t count, room;
    char (*waiting)[HF_OBJECT_NAME_BYTES];
};

static size_t find(const struct hf_sftp_folders *folders, const char *name, size_t length);
static bool read_folder(struct hf_sftp *client, const char *root, struct walk *walk, struct hf_error *err);
static bool take_name(void *context, const struct hf_sftp_name *name, struct hf_error *err);
static bool may_lead_to(const struct walk *walk, const char *folder);
static bool is_wanted(const struct walk *walk, const char *name);
static bool keep_waiting(struct walk *walk, const char *folder, struct hf_error *err);
static bool keep_object(struct walk *walk, const char *name, const struct hf_sftp_attributes *attributes,
                        struct hf_error *err);
static int by_name(const void *a, const void *b);

bool
hf_sftp_folders_known(const struct hf_sftp_folders *folders, const char *folder)
{
    return find(folders, folder, strlen(folder)) < folders->count;
}

bool
hf_sftp_folders_add(struct hf_sftp_folders *folders, const char *folder, struct hf_error *err)
{
    if (folders->count == folders->room) {
        const size_t room = folders->room == 0 ? 64 : 2 * folders->room;
        struct hf_sftp_folder *grown = reallocarray(folders->folders, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of folders");
        folders->folders = grown;
        folders->room = room;
    }
    struct hf_sftp_folder *added = &folders->folders[folders->count++];
    *added = (struct hf_sftp_folder){.dirty = false};
    snprintf(added->name, sizeof added->name, "%s", folder);
    return true;
}

bool
hf_sftp_folders_mark(struct hf_sftp_folders *folders, const char *name, struct hf_error *err)
{
    const char *slash = strrchr(name, '/');
    const size_t length = slash == NULL ? 0 : (size_t)(slash - name);
    size_t at = find(folders, name, length);
    if (at == folders->count) {
        char folder[HF_OBJECT_NAME_BYTES];
        snprintf(folder, sizeof folder, "%.*s", (int)length, name);
        if (!hf_sftp_folders_add(folders, folder, err))
            return false;
    }
    folders->folders[at].dirty = true;
    return true;
}

bool
hf_sftp_folders_take(struct hf_sftp_folders *folders, const char **ret)
{
    for (size_t i = 0; i < folders->count; i++) {
        if (!folders->folders[i].dirty)
            continue;
        folders->folders[i].dirty = false;
        *ret = folders->folders[i].name;
        return true;
    }
    return false;
}

void
hf_sftp_folders_done(struct hf_sftp_folders *folders)
{
    free(folders->folders);
    *folders = (struct hf_sftp_folders){0};
}

bool
hf_sftp_list(struct hf_sftp *client, const char *root, const char *prefix, bool staged, struct hf_sftp_listing *ret,
             struct hf_error *err)
{
    struct walk walk = {.listing = ret, .prefix = prefix, .staged = staged};
    const char *slash = strrchr(prefix, '/');
    char first[HF_OBJECT_NAME_BYTES];
    snprintf(first, sizeof first, "%.*s", slash == NULL ? 0 : (int)(slash - prefix + 1), prefix);
    bool ok = keep_waiting(&walk, first, err);
    while (ok && walk.count > 0) {
        memcpy(walk.folder, walk.waiting[--walk.count], sizeof walk.folder);
        ok = read_folder(client, root, &walk, err);
    }
    free(walk.waiting);
    if (ok && ret->count > 1)
        qsort(ret->objects, ret->count, sizeof *ret->objects, by_name);
    return ok;
}

void
hf_sftp_listing_done(struct hf_sftp_listing *listing)
{
    free(listing->objects);
    *listing = (struct hf_sftp_listing){0};
}

static size_t
find(const struct hf_sftp_folders *folders, const char *name, size_t length)
{
    size_t at = 0;
    while (at < folders->count &&
           (strncmp(folders->folders[at].name, name, length) != 0 || folders->folders[at].name[length] != '\0'))
        at++;
    return at;
}

static bool
read_folder(struct hf_sftp *client, const char *root, struct walk *walk, struct hf_error *err)
{
    char path[HF_SSH_PATH_BYTES + HF_OBJECT_NAME_BYTES + 2];
    struct hf_sftp_handle handle;
    enum hf_sftp_code code, closed;
    snprintf(path, sizeof path, "%s/%s", root, walk->folder);
    if (!hf_sftp_open_folder(client, path, &handle, &code, err))
        return false;
    if (code == HF_SFTP_NO_SUCH_FILE)
        return true;
    if (code != HF_SFTP_OK)
        return hf_fail(err, HF_ERR_DENIED, "could not open folder \"%s\" (SFTP code %d)", path, (int)code);
    if (!hf_sftp_read_folder(client, &handle, take_name, walk, &code, err) ||
        !hf_sftp_close(client, &handle, &closed, err))
        return false;
    return code == HF_SFTP_OK ||
           hf_fail(err, HF_ERR_UNAVAILABLE, "could not read folder \"%s\" (SFTP code %d)", path, (int)code);
}

/* What no object can be called is not ours: links, devices, "lost+found". */
static bool
take_name(void *context, const struct hf_sftp_name *found, struct hf_error *err)
{
    struct walk *walk = context;
    char name[2 * HF_OBJECT_NAME_BYTES];
    const struct hf_sftp_attributes *attributes = &found->attributes;
    if (found->length >= HF_OBJECT_NAME_BYTES || memchr(found->name, '\0', found->length) != NULL)
        return true;
    int length = snprintf(name, sizeof name, "%s%.*s", walk->folder, (int)found->length, (const char *)found->name);
    const char *part = name + strlen(walk->folder);
    if (length >= HF_OBJECT_NAME_BYTES - 1 || !hf_object_part_valid(part, found->length) || strchr(part, '/') != NULL)
        return true;
    if (!attributes->has_mode || !attributes->has_size)
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server lists \"%s\" without saying what it is", name);
    if (S_ISREG(attributes->mode))
        return !is_wanted(walk, name) || keep_object(walk, name, attributes, err);
    if (!S_ISDIR(attributes->mode))
        return true;
    strcat(name, "/");
    return !may_lead_to(walk, name) || keep_waiting(walk, name, err);
}

static bool
may_lead_to(const struct walk *walk, const char *folder)
{
    if (hf_object_name_reserved(folder) && !(walk->staged && strncmp(folder, "locks/", 6) != 0))
        return false;
    const size_t length = strlen(folder), prefix = strlen(walk->prefix);
    return strncmp(folder, walk->prefix, length < prefix ? length : prefix) == 0;
}

static bool
is_wanted(const struct walk *walk, const char *name)
{
    return hf_object_name_reserved(name) == walk->staged && strncmp(name, walk->prefix, strlen(walk->prefix)) == 0;
}

static bool
keep_waiting(struct walk *walk, const char *folder, struct hf_error *err)
{
    if (walk->count == walk->room) {
        const size_t room = walk->room == 0 ? 64 : 2 * walk->room;
        void *grown = reallocarray(walk->waiting, room, sizeof *walk->waiting);
        if (grown == NULL || room > HF_SFTP_OBJECTS_MOST) {
            if (grown != NULL)
                walk->waiting = grown;
            return hf_fail(err, HF_ERR_NO_MEMORY, "too many folders to list");
        }
        walk->waiting = grown;
        walk->room = room;
    }
    snprintf(walk->waiting[walk->count++], HF_OBJECT_NAME_BYTES, "%s", folder);
    return true;
}

static bool
keep_object(struct walk *walk, const char *name, const struct hf_sftp_attributes *attributes, struct hf_error *err)
{
    struct hf_sftp_listing *listing = walk->listing;
    if (listing->count == HF_SFTP_OBJECTS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "there are more than %u objects", HF_SFTP_OBJECTS_MOST);
    if (listing->count == listing->room) {
        const size_t room = listing->room == 0 ? 256 : 2 * listing->room;
        struct hf_object_info *grown = reallocarray(listing->objects, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of objects");
        listing->objects = grown;
        listing->room = room;
    }
    struct hf_object_info *object = &listing->objects[listing->count++];
    *object = (struct hf_object_info){
        .size = attributes->size, .modified_at = attributes->has_times ? 1000 * (int64_t)attributes->modified_at : 0};
    snprintf(object->name, sizeof object->name, "%s", name);
    return true;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const struct hf_object_info *)a)->name, ((const struct hf_object_info *)b)->name);
}

#include "server/verify/mariadb/keys.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/mariadb/table_keys.h"

#define NAMES_MOST 1000000 // in one folder
#define IDS_MOST   256
#define ROOT_PAGE  3

/* What came of the keys of one id. */
struct tried {
    uint32_t id;
    bool opens;
    char first[600]; // of the tablespaces that it did not open
};

struct trial {
    const struct hf_attempt *attempt;
    const struct hf_table_keys *keys; // NULL: none were given
    bool counter;
    uint8_t *page;     // HF_INNODB_PAGE_MOST
    char first[600];   // encrypted tablespace
    int64_t encrypted; // tablespaces
    struct tried ids[IDS_MOST];
    size_t id_count;
};

static bool walk(struct trial *trial, const char *folder, const char *database, struct hf_error *err);
static bool try_file(struct trial *trial, const char *path, const char *shown, struct hf_error *err);
static void note(struct trial *trial, uint32_t id, enum hf_table_key_verdict verdict, const char *shown);
static void settle(struct trial *trial, struct hf_attempt *attempt, const struct hf_mariadb_layout *layout);

bool
hf_mariadb_check_keys(struct hf_attempt *attempt, const struct hf_mariadb_layout *layout, struct hf_error *err)
{
    _cleanup_(hf_freep) uint8_t *page = malloc(HF_INNODB_PAGE_MOST);
    _cleanup_(hf_freep) struct trial *trial = calloc(1, sizeof *trial);
    struct hf_verify_check *check = hf_attempt_check(attempt, "table_keys");
    struct hf_error failure;
    if (page == NULL || trial == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of tables");
    trial->attempt = attempt;
    trial->keys = attempt->options->table_keys;
    trial->counter = layout->key_counter;
    trial->page = page;
    hf_check_begin(check);
    if (walk(trial, attempt->data, NULL, &failure)) {
        settle(trial, attempt, layout);
        return true;
    }
    if (hf_attempt_is_fatal(&failure)) {
        *err = failure;
        return false;
    }
    attempt->over = true;
    hf_check_cannot_tell(check, "%s", failure.message);
    return true;
}

/* Two levels: the data directory, and one folder for each database. */
static bool
walk(struct trial *trial, const char *folder, const char *database, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (!hf_dir_list(folder, NAMES_MOST, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        char shown[600];
        const size_t length = strlen(names[i]);
        _cleanup_(hf_freep) char *path = hf_path_join(folder, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (lstat(path, &info) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
        if (database == NULL && S_ISDIR(info.st_mode) && !walk(trial, path, names[i], err))
            return false;
        if (!S_ISREG(info.st_mode) || database == NULL || length <= 4 || strcmp(names[i] + length - 4, ".ibd") != 0)
            continue;
        if (!hf_attempt_goes_on(trial->attempt, err))
            return false;
        snprintf(shown, sizeof shown, "%s/%s", database, names[i]);
        if (!try_file(trial, path, shown, err))
            return false;
    }
    return true;
}

/* What is too short, or no tablespace, is for other checks to find. */
static bool
try_file(struct trial *trial, const char *path, const char *shown, struct hf_error *err)
{
    struct hf_innodb_space space;
    struct hf_table_crypt crypt;
    struct stat info;
    _cleanup_(hf_closep) int fd = -1;
    if (!hf_file_open(path, &fd, &info, err))
        return false;
    if ((uint64_t)info.st_size < HF_INNODB_HEADER_BYTES)
        return true;
    if (!hf_pread_all(fd, trial->page, HF_INNODB_HEADER_BYTES, 0, shown, err))
        return false;
    if (!hf_innodb_space_read(trial->page, HF_INNODB_HEADER_BYTES, &space) ||
        (uint64_t)info.st_size < (uint64_t)(ROOT_PAGE + 1) * space.page_bytes)
        return true;
    if (!hf_pread_all(fd, trial->page, space.page_bytes, 0, shown, err))
        return false;
    if (!hf_table_crypt_read(trial->page, space.page_bytes, &crypt))
        return true;
    if (trial->encrypted++ == 0)
        snprintf(trial->first, sizeof trial->first, "%s", shown);
    if (trial->keys == NULL)
        return true;
    if (!hf_pread_all(fd, trial->page, space.page_bytes, (uint64_t)ROOT_PAGE * space.page_bytes, shown, err))
        return false;
    note(trial, crypt.key_id, hf_table_keys_try(trial->keys, &space, &crypt, trial->counter, trial->page), shown);
    return true;
}

static void
note(struct trial *trial, uint32_t id, enum hf_table_key_verdict verdict, const char *shown)
{
    size_t at = 0;
    while (at < trial->id_count && trial->ids[at].id != id)
        at++;
    if (verdict == HF_TABLE_KEY_UNJUDGED || at == IDS_MOST)
        return;
    if (at == trial->id_count)
        trial->ids[trial->id_count++] = (struct tried){.id = id};
    struct tried *tried = &trial->ids[at];
    tried->opens = tried->opens || verdict == HF_TABLE_KEY_OPENS;
    if (verdict != HF_TABLE_KEY_OPENS && tried->first[0] == '\0')
        snprintf(tried->first, sizeof tried->first, "%s", shown);
}

static void
settle(struct trial *trial, struct hf_attempt *attempt, const struct hf_mariadb_layout *layout)
{
    struct hf_verify_check *check = hf_attempt_check(attempt, "table_keys");
    attempt->over = true;
    if (layout->key_plugin[0] != '\0' && strcmp(layout->key_plugin, HF_TABLE_KEYS_PLUGIN) != 0) {
        hf_check_cannot_tell(check,
                             "the source had the keys of its tables from the plugin \"%s\": only \"%s\" is known",
                             layout->key_plugin, HF_TABLE_KEYS_PLUGIN);
        return;
    }
    if ((layout->key_plugin[0] != '\0' || trial->encrypted > 0) && trial->keys == NULL) {
        hf_check_cannot_tell(check, "%s%.200s%s: set table_keys of the source to the file with its keys",
                             trial->encrypted > 0 ? "\"" : "the source had the plugin with keys of tables",
                             trial->first, trial->encrypted > 0 ? "\" is encrypted" : "");
        return;
    }
    for (size_t i = 0; i < trial->id_count; i++) {
        if (trial->ids[i].opens)
            continue;
        hf_check_cannot_tell(check, "the key %u in table_keys is not there or does not open \"%.200s\"",
                             trial->ids[i].id, trial->ids[i].first);
        return;
    }
    attempt->over = false;
    hf_check_pass(check, trial->encrypted);
}

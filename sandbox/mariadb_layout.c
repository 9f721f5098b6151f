#include "sandbox/engine_mariadb.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define OPTIONS        "backup-my.cnf"
#define CHECKPOINTS    "xtrabackup_checkpoints"
#define MOST_LINES     1000
#define MOST_UNDO      127
#define LEAST_LOG      HF_MIB
#define MOST_LOG       (512 * HF_GIB)
#define MOST_DATA_FILE (UINT64_C(64) << 40)

static const struct hf_mariadb_layout usual = {.page_bytes = 16384,
                                               .log_file_bytes = 96 * HF_MIB,
                                               .data_file_path = "ibdata1:12M:autoextend",
                                               .checksum_algorithm = "full_crc32"};

/* Left by a running server, a replica or a cluster node; a folder that starts anew has none of them. */
static const char *const stale[] = {"master.info",
                                    "relay-log.info",
                                    "multi-master.info",
                                    "tc.log",
                                    "ddl_recovery.log",
                                    "grastate.dat",
                                    "gvwstate.dat",
                                    "auto.cnf",
                                    "mysqld-auto.cnf",
                                    "my.cnf",
                                    "ibtmp1",
                                    "ib_buffer_pool",
                                    "aria_log.00000000",
                                    "mysql.pid",
                                    "mariadb.pid",
                                    "debian-10.11.flag",
                                    "xtrabackup_slave_info"};

static const char plugin_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

static bool take_line(struct hf_mariadb_layout *layout, const char *line, size_t number, struct hf_error *err);
static bool take_lsn(const char *text, uint64_t *ret);
static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret);
static bool is_data_file_path(const char *text);
static bool take_data_file(const char **at);
static bool take_size(const char **at);
static bool is_checksum_algorithm(const char *text);
static bool remove_whatever(const char *data, const char *name, struct hf_error *err);

bool
hf_mariadb_parse_layout(const char *text, size_t length, struct hf_mariadb_layout *ret, struct hf_error *err)
{
    struct hf_mariadb_layout layout = usual;
    char line[HF_MARIADB_PATHS_BYTES + 64];
    size_t number = 0;
    if (length > HF_MARIADB_OPTIONS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "\"" OPTIONS "\" has %zu bytes, the limit is %d", length,
                       HF_MARIADB_OPTIONS_MOST);
    for (size_t at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        const size_t bytes = end == NULL ? length - at : (size_t)(end - (text + at));
        if (++number > MOST_LINES || bytes >= sizeof line || memchr(text + at, '\0', bytes) != NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "line %zu of \"" OPTIONS "\" is not what mariadb-backup writes",
                           number);
        memcpy(line, text + at, bytes);
        line[bytes] = '\0';
        if (!take_line(&layout, line, number, err))
            return false;
        at += bytes + (end != NULL);
    }
    *ret = layout;
    return true;
}

bool
hf_mariadb_read_layout(const char *data, struct hf_mariadb_layout *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MARIADB_OPTIONS_MOST);
    _cleanup_(hf_freep) char *path = hf_path_join(data, OPTIONS);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_read(path, &text, err)) {
        if (err->kind == HF_ERR_NOT_FOUND || err->kind == HF_ERR_USAGE || err->kind == HF_ERR_NO_SPACE)
            return hf_fail(err, HF_ERR_CORRUPT, "the backup has no \"" OPTIONS "\" that could be read");
        return false;
    }
    return hf_mariadb_parse_layout(hf_buf_text(&text), text.length, ret, err);
}

bool
hf_mariadb_make_ready(const char *data, const struct hf_mariadb_layout *layout, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_KIB);
    _cleanup_(hf_freep) char *path = hf_path_join(data, OPTIONS);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    for (size_t i = 0; i < HF_LENGTH(stale); i++) {
        if (!remove_whatever(data, stale[i], err))
            return false;
    }
    return remove_whatever(data, OPTIONS, err) &&
           hf_buf_printf(&text, err,
                         "# Written by Holdfast: the layout of the backup's InnoDB, and nothing else of its options.\n"
                         "[mysqld]\n"
                         "innodb_checksum_algorithm=%s\n"
                         "innodb_data_file_path=%s\n"
                         "innodb_log_file_size=%llu\n"
                         "innodb_page_size=%u\n"
                         "innodb_undo_directory=./\n"
                         "innodb_undo_tablespaces=%u\n",
                         layout->checksum_algorithm, layout->data_file_path, (unsigned long long)layout->log_file_bytes,
                         layout->page_bytes, layout->undo_tablespaces) &&
           // Which plugin, the tool reads here alone; what the plugin is told, from its own option file.
           (strcmp(layout->key_plugin, "file_key_management") != 0 ||
            hf_buf_add_text(&text, "plugin_load=file_key_management=file_key_management.so\n", err)) &&
           hf_file_publish(path, hf_buf_text(&text), text.length, 0600, HF_PUBLISH_EXCLUSIVE, err);
}

bool
hf_mariadb_read_last_lsn(const char *data, uint64_t *ret, struct hf_error *err)
{
    static const char word[] = "last_lsn = ";
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MARIADB_OPTIONS_MOST);
    _cleanup_(hf_freep) char *path = hf_path_join(data, CHECKPOINTS);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_read(path, &text, err)) {
        if (err->kind == HF_ERR_NOT_FOUND || err->kind == HF_ERR_USAGE || err->kind == HF_ERR_NO_SPACE)
            return hf_fail(err, HF_ERR_CORRUPT, "the backup has no \"" CHECKPOINTS "\" that could be read");
        return false;
    }
    const char *found = strstr(hf_buf_text(&text), word);
    return (found != NULL && take_lsn(found + sizeof word - 1, ret)) ||
           hf_fail(err, HF_ERR_CORRUPT, "\"" CHECKPOINTS "\" does not say where the redo log ends");
}

bool
hf_mariadb_prepare_reached(const char *log, uint64_t *ret)
{
    static const char word[] = "End of log at LSN=";
    const char *found = strstr(log, word);
    return found != NULL && take_lsn(found + sizeof word - 1, ret);
}

static bool
take_line(struct hf_mariadb_layout *layout, const char *line, size_t number, struct hf_error *err)
{
    uint64_t value = 0;
    bool fine = true;
    const char *equals = strchr(line, '=');
    if (equals == NULL || line[0] == '#')
        return true;
    const char *text = equals + 1;
    const size_t length = (size_t)(equals - line);
    if (length == 16 && memcmp(line, "innodb_page_size", 16) == 0) {
        fine = parse_number(text, 4096, 65536, &value) && (value & (value - 1)) == 0;
        layout->page_bytes = (uint32_t)value;
    } else if (length == 20 && memcmp(line, "innodb_log_file_size", 20) == 0) {
        fine = parse_number(text, LEAST_LOG, MOST_LOG, &layout->log_file_bytes);
    } else if (length == 23 && memcmp(line, "innodb_undo_tablespaces", 23) == 0) {
        fine = parse_number(text, 0, MOST_UNDO, &value);
        layout->undo_tablespaces = (uint32_t)value;
    } else if (length == 21 && memcmp(line, "innodb_data_file_path", 21) == 0) {
        fine = strlen(text) < sizeof layout->data_file_path && is_data_file_path(text);
        if (fine)
            snprintf(layout->data_file_path, sizeof layout->data_file_path, "%s", text);
    } else if (length == 25 && memcmp(line, "innodb_checksum_algorithm", 25) == 0) {
        fine = is_checksum_algorithm(text);
        if (fine)
            snprintf(layout->checksum_algorithm, sizeof layout->checksum_algorithm, "%s", text);
    } else if (length == 11 && memcmp(line, "plugin_load", 11) == 0) {
        const size_t name = strspn(text, plugin_letters);
        const bool plain = name > 0 && name < sizeof layout->key_plugin && text[name] == '=';
        snprintf(layout->key_plugin, sizeof layout->key_plugin, "%.*s", plain ? (int)name : 7,
                 plain ? text : "another");
    } else if (length == 40 && memcmp(line, "file_key_management_encryption_algorithm", 40) == 0) {
        layout->key_counter = strcmp(text, "aes_ctr") == 0;
        fine = layout->key_counter || strcmp(text, "aes_cbc") == 0;
    }
    return fine || hf_fail(err, HF_ERR_CORRUPT, "line %zu of \"" OPTIONS "\" has a value that \"%.*s\" cannot have",
                           number, (int)length, line);
}

static bool
take_lsn(const char *text, uint64_t *ret)
{
    char digits[24];
    const size_t count = strspn(text, "0123456789");
    snprintf(digits, sizeof digits, "%.*s", (int)(count < sizeof digits ? count : 0), text);
    return parse_number(digits, 1, UINT64_C(1) << 62, ret);
}

static bool
parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 19; digits++)
        value = value * 10 + (uint64_t)(text[digits] - '0');
    if (digits == 0 || text[digits] != '\0' || value < least || value > most)
        return false;
    *ret = value;
    return true;
}

static bool
is_data_file_path(const char *text)
{
    const char *at = text;
    while (take_data_file(&at)) {
        if (*at == '\0')
            return true;
        if (*at++ != ';')
            return false;
    }
    return false;
}

/* "ibdata1:12M:autoextend:max:2G"; "newraw" and "raw" behind a size name a device and are refused. */
static bool
take_data_file(const char **at)
{
    static const char more[] = ":autoextend", most[] = ":max:";
    const size_t length = strspn(*at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    if (length == 0 || (*at)[0] == '.' || (*at)[0] == '-' || (*at)[length] != ':')
        return false;
    *at += length + 1;
    if (!take_size(at))
        return false;
    if (strncmp(*at, more, sizeof more - 1) != 0)
        return true;
    *at += sizeof more - 1;
    if (strncmp(*at, most, sizeof most - 1) != 0)
        return true;
    *at += sizeof most - 1;
    return take_size(at);
}

static bool
take_size(const char **at)
{
    const size_t digits = strspn(*at, "0123456789");
    uint64_t value = 0;
    if (digits == 0 || digits > 15)
        return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint64_t)((*at)[i] - '0');
    *at += digits;
    const char unit = **at;
    if (unit == 'K' || unit == 'M' || unit == 'G') {
        const uint64_t bytes = unit == 'K' ? HF_KIB : unit == 'M' ? HF_MIB : HF_GIB;
        if (value > MOST_DATA_FILE / bytes)
            return false;
        ++*at;
    }
    return value > 0;
}

static bool
is_checksum_algorithm(const char *text)
{
    static const char *const names[] = {"crc32", "full_crc32", "innodb", "none"};
    static const char strict[] = "strict_";
    if (strncmp(text, strict, sizeof strict - 1) == 0)
        text += sizeof strict - 1;
    for (size_t i = 0; i < HF_LENGTH(names); i++)
        if (strcmp(text, names[i]) == 0)
            return true;
    return false;
}

/* A file, a link, a folder: the copy decides what bears that name. */
static bool
remove_whatever(const char *data, const char *name, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(data, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (unlink(path) == 0 || errno == ENOENT)
        return true;
    return hf_dir_remove_tree(path, err);
}

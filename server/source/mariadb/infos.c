#include "server/source/mariadb/infos.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"info", "checkpoints", "binlog_info"};
static const char *const shown[] = {"xtrabackup_info", "xtrabackup_checkpoints", "xtrabackup_binlog_info"};

/* One line "key = value". */
struct pair {
    char key[64], value[1024];
};

static bool next_pair(const char **at, const char *end, struct pair *ret);
static bool read_info(struct hf_infos *infos, const struct pair *pair, struct hf_error *err);
static bool read_checkpoint(struct hf_infos *infos, const struct pair *pair, struct hf_error *err);
static bool read_binlog(struct hf_infos *infos, const char *text, size_t length, struct hf_error *err);
static bool take_text(char *ret, size_t size, const struct pair *pair, enum hf_info which, struct hf_error *err);
static bool take_number(uint64_t *ret, const char *text, const char *what, enum hf_info which, struct hf_error *err);
static bool must_be(const struct pair *pair, const char *value, enum hf_info which, struct hf_error *err);
static bool is_plain(const char *text, size_t length);

enum hf_info
hf_info_of(const char *path)
{
    static const char *const prefixes[] = {"xtrabackup_", "mariadb_backup_"};
    for (size_t i = 0; i < HF_LENGTH(prefixes); i++) {
        const size_t length = strlen(prefixes[i]);
        for (size_t which = 0; strncmp(path, prefixes[i], length) == 0 && which < HF_LENGTH(names); which++)
            if (strcmp(path + length, names[which]) == 0)
                return (enum hf_info)which;
    }
    return HF_INFO_NONE;
}

const char *
hf_info_name(enum hf_info info)
{
    return info < HF_INFO_NONE ? shown[info] : "?";
}

void
hf_infos_init(struct hf_infos *infos)
{
    *infos = (struct hf_infos){.gtid = HF_BUF_INIT(HF_INFOS_GTID_MOST)};
}

void
hf_infos_done(struct hf_infos *infos)
{
    hf_buf_done(&infos->gtid);
}

bool
hf_infos_read(struct hf_infos *infos, enum hf_info which, const char *text, size_t length, struct hf_error *err)
{
    struct pair pair;
    if (length > HF_INFOS_FILE_MOST || memchr(text, '\0', length) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is no text of at most %zu bytes", hf_info_name(which),
                       HF_INFOS_FILE_MOST);
    if (which == HF_INFO_BINLOG)
        return read_binlog(infos, text, length, err);
    for (const char *at = text; at < text + length;) {
        if (!next_pair(&at, text + length, &pair))
            continue;
        if (!(which == HF_INFO_INFO ? read_info(infos, &pair, err) : read_checkpoint(infos, &pair, err)))
            return false;
    }
    if (which == HF_INFO_INFO && (infos->server_version[0] == '\0' || infos->tool_version[0] == '\0'))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" does not say which server and which tool made it",
                       hf_info_name(which));
    if (which == HF_INFO_CHECKPOINTS && (infos->last_lsn == 0 || infos->last_lsn < infos->from_lsn))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" does not say up to where the redo log goes", hf_info_name(which));
    return true;
}

/* False for a line that is no pair, or a longer one than any that counts. */
static bool
next_pair(const char **at, const char *end, struct pair *ret)
{
    const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));
    *at = stop == NULL ? end : stop + 1;
    if (stop == NULL)
        stop = end;
    const char *equals = memchr(line, '=', (size_t)(stop - line));
    if (equals == NULL)
        return false;
    const char *key_end = equals, *value = equals + 1;
    while (key_end > line && key_end[-1] == ' ')
        key_end--;
    while (value < stop && *value == ' ')
        value++;
    if ((size_t)(key_end - line) >= sizeof ret->key || (size_t)(stop - value) >= sizeof ret->value)
        return false;
    snprintf(ret->key, sizeof ret->key, "%.*s", (int)(key_end - line), line);
    snprintf(ret->value, sizeof ret->value, "%.*s", (int)(stop - value), value);
    return true;
}

static bool
read_info(struct hf_infos *infos, const struct pair *pair, struct hf_error *err)
{
    if (strcmp(pair->key, "server_version") == 0)
        return take_text(infos->server_version, sizeof infos->server_version, pair, HF_INFO_INFO, err);
    if (strcmp(pair->key, "tool_version") == 0)
        return take_text(infos->tool_version, sizeof infos->tool_version, pair, HF_INFO_INFO, err);
    if (strcmp(pair->key, "incremental") == 0 || strcmp(pair->key, "partial") == 0 ||
        strcmp(pair->key, "compressed") == 0)
        return must_be(pair, "N", HF_INFO_INFO, err);
    return true;
}

static bool
read_checkpoint(struct hf_infos *infos, const struct pair *pair, struct hf_error *err)
{
    if (strcmp(pair->key, "backup_type") == 0)
        return must_be(pair, "full-backuped", HF_INFO_CHECKPOINTS, err);
    if (strcmp(pair->key, "from_lsn") == 0 && strcmp(pair->value, "0") != 0)
        return must_be(pair, "0", HF_INFO_CHECKPOINTS, err);
    if (strcmp(pair->key, "to_lsn") == 0)
        return take_number(&infos->from_lsn, pair->value, pair->key, HF_INFO_CHECKPOINTS, err);
    if (strcmp(pair->key, "last_lsn") == 0)
        return take_number(&infos->last_lsn, pair->value, pair->key, HF_INFO_CHECKPOINTS, err);
    return true;
}

static bool
read_binlog(struct hf_infos *infos, const char *text, size_t length, struct hf_error *err)
{
    char number[32];
    const char *end = text + length;
    while (end > text && (end[-1] == '\n' || end[-1] == ' '))
        end--;
    const char *first = memchr(text, '\t', (size_t)(end - text));
    const char *second = first == NULL ? NULL : memchr(first + 1, '\t', (size_t)(end - first - 1));
    const char *number_end = second == NULL ? end : second;
    if (first == NULL || first == text || (size_t)(first - text) >= sizeof infos->binlog_file ||
        (size_t)(number_end - first - 1) >= sizeof number || !is_plain(text, (size_t)(first - text)))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is no file and position", hf_info_name(HF_INFO_BINLOG));
    snprintf(number, sizeof number, "%.*s", (int)(number_end - first - 1), first + 1);
    if (!take_number(&infos->binlog_position, number, "position", HF_INFO_BINLOG, err))
        return false;
    snprintf(infos->binlog_file, sizeof infos->binlog_file, "%.*s", (int)(first - text), text);
    hf_buf_clear(&infos->gtid);
    for (const char *at = second == NULL ? end : second + 1; at < end; at++) {
        if (*at == '\n' || *at == ' ' || *at == '\r')
            continue;
        if (!is_plain(at, 1))
            return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" has GTIDs that are none", hf_info_name(HF_INFO_BINLOG));
        if (!hf_buf_add(&infos->gtid, at, 1, err))
            return hf_fail_within(err, "\"%s\"", hf_info_name(HF_INFO_BINLOG));
    }
    return true;
}

static bool
take_text(char *ret, size_t size, const struct pair *pair, enum hf_info which, struct hf_error *err)
{
    if (strlen(pair->value) >= size || !is_plain(pair->value, strlen(pair->value)))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": \"%s\" is no text of at most %zu plain letters",
                       hf_info_name(which), pair->key, size - 1);
    memcpy(ret, pair->value, strlen(pair->value) + 1);
    return true;
}

static bool
take_number(uint64_t *ret, const char *text, const char *what, enum hf_info which, struct hf_error *err)
{
    uint64_t value = 0;
    bool good = *text != '\0';
    for (const char *at = text; good && *at != '\0'; at++)
        good = *at >= '0' && *at <= '9' && !__builtin_mul_overflow(value, UINT64_C(10), &value) &&
               !__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value) && value <= INT64_MAX;
    if (!good)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": \"%s\" is no number", hf_info_name(which), what);
    *ret = value;
    return true;
}

static bool
must_be(const struct pair *pair, const char *value, enum hf_info which, struct hf_error *err)
{
    return strcmp(pair->value, value) == 0 ||
           hf_fail(err, HF_ERR_CORRUPT, "\"%s\": \"%s\" is not \"%s\": that is no whole backup", hf_info_name(which),
                   pair->key, value);
}

/* Printable ASCII without what quotes or separates. */
static bool
is_plain(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] <= 0x20 || text[i] >= 0x7F || text[i] == '"' || text[i] == '\\' || text[i] == '\'')
            return false;
    return true;
}

#include "server/source/postgres/label.h"

#include <stdio.h>
#include <string.h>

#include "server/source/postgres/connection.h"
#include "server/source/postgres/wal_format.h"

static bool find_line(const char *text, const char *name, char *value, size_t size, struct hf_error *err);
static bool has_line(const char *text, const char *name);
static bool read_lsn(const char *text, const char *name, uint64_t *ret, struct hf_error *err);

bool
hf_postgres_label_parse(const char *text, struct hf_postgres_label *ret, struct hf_error *err)
{
    struct hf_postgres_label label;
    char value[128];
    uint64_t timeline;

    if (has_line(text, "INCREMENTAL FROM LSN"))
        return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" is of an incremental backup, a whole one was asked for");
    if (!read_lsn(text, "START WAL LOCATION", &label.start_lsn, err) ||
        !read_lsn(text, "CHECKPOINT LOCATION", &label.checkpoint_lsn, err) ||
        !find_line(text, "BACKUP METHOD", value, sizeof value, err))
        return false;
    if (strcmp(value, "streamed") != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" says the backup method is \"%s\"", value);

    if (!find_line(text, "BACKUP FROM", value, sizeof value, err))
        return false;
    label.from_standby = strcmp(value, "standby") == 0;
    if (!label.from_standby && strcmp(value, "primary") != 0 && strcmp(value, "master") != 0) // 13 says master
        return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" says the backup is from \"%s\"", value);

    if (!find_line(text, "START TIMELINE", value, sizeof value, err))
        return false;
    if (!hf_postgres_parse_number(value, UINT32_MAX, &timeline) || timeline == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" says the timeline is \"%s\"", value);
    label.timeline = (uint32_t)timeline;
    *ret = label;
    return true;
}

static bool
find_line(const char *text, const char *name, char *value, size_t size, struct hf_error *err)
{
    size_t name_length = strlen(name);

    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (length > name_length + 2 && strncmp(line, name, name_length) == 0 &&
            strncmp(line + name_length, ": ", 2) == 0) {
            snprintf(value, size, "%.*s", (int)(length - name_length - 2), line + name_length + 2);
            return true;
        }
        line += length;
        line += *line == '\n';
    }
    return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" has no line \"%s\"", name);
}

static bool
has_line(const char *text, const char *name)
{
    char value[128];
    return find_line(text, name, value, sizeof value, NULL);
}

/* "0/2000028", and what stands behind a space does not matter. */
static bool
read_lsn(const char *text, const char *name, uint64_t *ret, struct hf_error *err)
{
    char value[128];
    if (!find_line(text, name, value, sizeof value, err))
        return false;
    value[strcspn(value, " ")] = '\0';
    return hf_lsn_parse(value, ret, err) || hf_fail_within(err, "\"backup_label\", \"%s\"", name);
}

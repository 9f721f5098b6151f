#include "server/source/postgres/path.h"

#include <ctype.h>
#include <string.h>

static bool check_parts(const char *path, struct hf_error *err);
static bool take_number(const char **at, uint32_t most, uint32_t *ret);
static bool take_text(const char **at, const char *text);
static bool take_folder(const char **at);

bool
hf_postgres_path_clean(const char *prefix, const char *name, char path[static HF_BACKUP_PATH_BYTES],
                       struct hf_error *err)
{
    const char *from = name;
    take_text(&from, "./");
    size_t length = strlen(from);
    while (length > 0 && from[length - 1] == '/')
        length--;
    if (length == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent a file with the empty name \"%.32s\"", name);

    char whole[HF_BACKUP_PATH_BYTES];
    int written = snprintf(whole, sizeof whole, "%s%s%.*s", prefix, prefix[0] == '\0' ? "" : "/",
                           (int)(length < sizeof whole ? length : sizeof whole), from);
    if (written < 0 || (size_t)written >= sizeof whole)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent a name longer than %d bytes: \"%.64s...\"",
                       HF_BACKUP_PATH_BYTES - 1, name);
    if (!check_parts(whole, err))
        return false;

    memcpy(path, whole, (size_t)written + 1);
    return true;
}

bool
hf_postgres_path_is_relation(const char *path, uint32_t segment_blocks, uint32_t *ret_segment)
{
    const char *at = path;
    uint32_t number, segment = 0;

    if (!take_folder(&at) || !take_number(&at, UINT32_MAX, &number))
        return false;
    if (!take_text(&at, "_fsm") && !take_text(&at, "_vm"))
        take_text(&at, "_init");
    if (take_text(&at, ".") && (!take_number(&at, UINT32_MAX, &segment) || segment == 0))
        return false;
    if (*at != '\0' || (uint64_t)segment * segment_blocks > UINT32_MAX)
        return false;

    *ret_segment = segment;
    return true;
}

void
hf_postgres_path_of_tablespace(uint32_t oid, char path[static HF_POSTGRES_TABLESPACE_PATH_BYTES])
{
    snprintf(path, HF_POSTGRES_TABLESPACE_PATH_BYTES, "pg_tblspc/%u", oid);
}

static bool
check_parts(const char *path, struct hf_error *err)
{
    size_t depth = 0;

    for (const char *part = path;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && memcmp(part, "..", 2) == 0))
            return hf_fail(err, HF_ERR_CORRUPT, "the server sent the name \"%s\", which leads out of its folder", path);
        if (length > HF_POSTGRES_NAME_BYTES || ++depth > HF_POSTGRES_PATH_DEPTH)
            return hf_fail(err, HF_ERR_CORRUPT, "the server sent a name too long or too deep: \"%.128s\"", path);
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f || part[i] == '\\')
                return hf_fail(err, HF_ERR_CORRUPT,
                               "the server sent the name \"%s\", which holds a control byte or a "
                               "backslash",
                               path) ||
                       hf_fail_hint(err, "Rename or remove that file: it is none of PostgreSQL's own.");
        if (part[length] == '\0')
            return true;
        part += length + 1;
    }
}

/* The folders relations live in. */
static bool
take_folder(const char **at)
{
    uint32_t oid;

    if (take_text(at, "global/"))
        return true;
    if (take_text(at, "base/"))
        return take_number(at, UINT32_MAX, &oid) && take_text(at, "/");
    if (!take_text(at, "pg_tblspc/") || !take_number(at, UINT32_MAX, &oid) || !take_text(at, "/PG_"))
        return false;
    *at += strcspn(*at, "/");
    return take_text(at, "/") && take_number(at, UINT32_MAX, &oid) && take_text(at, "/");
}

/* Decimal, without sign, space or leading zero. */
static bool
take_number(const char **at, uint32_t most, uint32_t *ret)
{
    uint64_t value = 0;
    const char *digit = *at;

    if (!isdigit((unsigned char)*digit) || (digit[0] == '0' && isdigit((unsigned char)digit[1])))
        return false;
    for (; isdigit((unsigned char)*digit); digit++) {
        value = value * 10 + (uint64_t)(*digit - '0');
        if (value > most)
            return false;
    }
    *at = digit;
    *ret = (uint32_t)value;
    return true;
}

static bool
take_text(const char **at, const char *text)
{
    size_t length = strlen(text);
    if (strncmp(*at, text, length) != 0)
        return false;
    *at += length;
    return true;
}

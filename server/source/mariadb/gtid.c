#include "server/source/mariadb/gtid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEQUENCE_MOST INT64_MAX // of MySQL; MariaDB's reach further

static bool parse_domain_gtid(const char **at, const char *end, struct hf_gtid *ret);
static bool parse_uuid(const char **at, const char *end, uint8_t uuid[static 16]);
static bool parse_number(const char **at, const char *end, uint64_t most, uint64_t *ret);
static bool parse_intervals(const char **at, const char *end, const uint8_t uuid[static 16], struct hf_gtid_set *set,
                            bool *ret_read, struct hf_error *err);
static void skip_space(const char **at, const char *end);
static bool put_mysql(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err);
static bool add_interval(struct hf_gtid_set *set, const struct hf_gtid_part *part, struct hf_error *err);
static bool set_domain(struct hf_gtid_set *set, const struct hf_gtid *gtid, struct hf_error *err);
static bool insert(struct hf_gtid_set *set, size_t at, const struct hf_gtid_part *part, struct hf_error *err);
static void remove_at(struct hf_gtid_set *set, size_t at);
static size_t find_domain(const struct hf_gtid_set *set, uint32_t domain);
static size_t find_interval(const struct hf_gtid_set *set, const uint8_t uuid[static 16], uint64_t sequence);
static const char *put_uuid(const uint8_t uuid[static 16], char text[static 37]);

void
hf_gtid_set_done(struct hf_gtid_set *set)
{
    free(set->parts);
    *set = (struct hf_gtid_set){0};
}

bool
hf_gtid_set_copy(const struct hf_gtid_set *from, struct hf_gtid_set *ret, struct hf_error *err)
{
    struct hf_gtid_set made = {.flavor = from->flavor};
    if (from->count > 0) {
        made.parts = reallocarray(NULL, from->count, sizeof *made.parts);
        if (made.parts == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a set of GTIDs");
        memcpy(made.parts, from->parts, from->count * sizeof *made.parts);
        made.count = from->count;
        // insert() doubles at powers of two: the copy is exactly as long as its source
        size_t room = 1;
        while (room < made.count)
            room *= 2;
        struct hf_gtid_part *grown = reallocarray(made.parts, room, sizeof *grown);
        if (grown == NULL) {
            free(made.parts);
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a set of GTIDs");
        }
        made.parts = grown;
    }
    *ret = made;
    return true;
}

bool
hf_gtid_parse(enum hf_gtid_flavor flavor, const char *text, struct hf_gtid *ret, struct hf_error *err)
{
    const char *at = text, *end = text + strlen(text);
    struct hf_gtid gtid = {.flavor = flavor};
    bool ok;
    if (flavor == HF_GTID_MARIADB)
        ok = parse_domain_gtid(&at, end, &gtid);
    else {
        ok = parse_uuid(&at, end, gtid.uuid) && at < end && *at++ == ':' &&
             parse_number(&at, end, SEQUENCE_MOST, &gtid.sequence) && gtid.sequence > 0;
    }
    if (!ok || at != end)
        return hf_fail(err, HF_ERR_USAGE, "\"%.80s\" is no GTID of %s", text,
                       flavor == HF_GTID_MARIADB ? "MariaDB" : "MySQL") ||
               hf_fail_hint(err, flavor == HF_GTID_MARIADB ? "It is written domain-server-sequence: 0-1-100."
                                                           : "It is written uuid:number.");
    *ret = gtid;
    return true;
}

const char *
hf_gtid_format(const struct hf_gtid *gtid, char text[static HF_GTID_TEXT_BYTES])
{
    char uuid[37];
    if (gtid->flavor == HF_GTID_MARIADB)
        snprintf(text, HF_GTID_TEXT_BYTES, "%u-%u-%" PRIu64, gtid->domain, gtid->server_id, gtid->sequence);
    else
        snprintf(text, HF_GTID_TEXT_BYTES, "%s:%" PRIu64, put_uuid(gtid->uuid, uuid), gtid->sequence);
    return text;
}

bool
hf_gtid_set_parse(enum hf_gtid_flavor flavor, const char *text, size_t length, struct hf_gtid_set *ret,
                  struct hf_error *err)
{
    _cleanup_(hf_gtid_set_done) struct hf_gtid_set set = {.flavor = flavor};
    const char *at = text, *const end = text + length;
    if (length > HF_GTID_TEXT_MOST)
        return hf_fail(err, HF_ERR_USAGE, "a set of GTIDs cannot have more than %zu bytes", HF_GTID_TEXT_MOST);
    skip_space(&at, end);
    for (bool more = at < end; more;) {
        const char *part = at;
        bool read = false;
        if (flavor == HF_GTID_MARIADB) {
            struct hf_gtid gtid;
            read = parse_domain_gtid(&at, end, &gtid) && hf_gtid_set_domain(&set, gtid.domain) == NULL;
            if (read && !hf_gtid_set_add(&set, &gtid, err))
                return false;
        } else {
            uint8_t uuid[16];
            read = parse_uuid(&at, end, uuid);
            if (read && !parse_intervals(&at, end, uuid, &set, &read, err))
                return false;
        }
        skip_space(&at, end);
        more = at < end && *at == ',';
        if (!read || (at < end && !more))
            return hf_fail(err, HF_ERR_USAGE, "\"%.*s\" cannot be read as GTIDs of %s",
                           (int)(end - part < 80 ? end - part : 80), part,
                           flavor == HF_GTID_MARIADB ? "MariaDB" : "MySQL");
        if (more) {
            at++;
            skip_space(&at, end);
            if (at == end && flavor == HF_GTID_MYSQL) // MySQL writes no comma behind the last one, but reads it
                more = false;
        }
    }
    *ret = set;
    set = (struct hf_gtid_set){0};
    return true;
}

bool
hf_gtid_set_format(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err)
{
    char text[HF_GTID_TEXT_BYTES];
    if (set->flavor == HF_GTID_MYSQL)
        return put_mysql(set, out, err);
    for (size_t i = 0; i < set->count; i++)
        if ((i > 0 && !hf_buf_add_text(out, ",", err)) ||
            !hf_buf_add_text(out, hf_gtid_format(&set->parts[i].last, text), err))
            return false;
    return true;
}

bool
hf_gtid_set_decode(const uint8_t *data, size_t length, struct hf_gtid_set *ret, struct hf_error *err)
{
    _cleanup_(hf_gtid_set_done) struct hf_gtid_set set = {.flavor = HF_GTID_MYSQL};
    struct hf_reader reader = HF_READER(data, length);
    const uint64_t uuids = hf_reader_u64(&reader);
    if (hf_reader_ok(&reader) && uuids >> 56 == 1)
        return hf_fail(err, HF_ERR_CORRUPT, "a set of tagged GTIDs, which we cannot read");
    for (uint64_t i = 0; i < uuids && hf_reader_ok(&reader); i++) {
        const uint8_t *uuid = hf_reader_bytes(&reader, 16);
        const uint64_t intervals = hf_reader_u64(&reader);
        for (uint64_t j = 0; j < intervals && hf_reader_ok(&reader); j++) {
            struct hf_gtid_part part = {.last.flavor = HF_GTID_MYSQL, .first = hf_reader_u64(&reader)};
            const uint64_t behind = hf_reader_u64(&reader);
            if (!hf_reader_ok(&reader))
                break;
            if (part.first == 0 || behind <= part.first || behind > SEQUENCE_MOST)
                return hf_fail(err, HF_ERR_CORRUPT, "a set of GTIDs has an interval [%" PRIu64 ", %" PRIu64 ")",
                               part.first, behind);
            part.last.sequence = behind - 1;
            memcpy(part.last.uuid, uuid, 16);
            if (!add_interval(&set, &part, err))
                return false;
        }
    }
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "a set of GTIDs has not the length it says");
    *ret = set;
    set = (struct hf_gtid_set){0};
    return true;
}

bool
hf_gtid_set_encode(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err)
{
    uint64_t uuids = 0;
    for (size_t i = 0; i < set->count; i++)
        uuids += i == 0 || memcmp(set->parts[i].last.uuid, set->parts[i - 1].last.uuid, 16) != 0;
    if (!hf_buf_put_u64(out, uuids, err))
        return false;
    for (size_t i = 0, next; i < set->count; i = next) {
        for (next = i + 1; next < set->count && memcmp(set->parts[next].last.uuid, set->parts[i].last.uuid, 16) == 0;)
            next++;
        if (!hf_buf_add(out, set->parts[i].last.uuid, 16, err) || !hf_buf_put_u64(out, next - i, err))
            return false;
        for (size_t j = i; j < next; j++)
            if (!hf_buf_put_u64(out, set->parts[j].first, err) ||
                !hf_buf_put_u64(out, set->parts[j].last.sequence + 1, err))
                return false;
    }
    return true;
}

bool
hf_gtid_set_add(struct hf_gtid_set *set, const struct hf_gtid *gtid, struct hf_error *err)
{
    if (set->count == 0)
        set->flavor = gtid->flavor;
    if (set->flavor != gtid->flavor)
        return hf_fail(err, HF_ERR_CONFLICT, "GTIDs of MariaDB and of MySQL cannot be in one set");
    const struct hf_gtid_part part = {*gtid, gtid->sequence};
    return gtid->flavor == HF_GTID_MARIADB ? set_domain(set, gtid, err) : add_interval(set, &part, err);
}

bool
hf_gtid_set_union(struct hf_gtid_set *set, const struct hf_gtid_set *more, struct hf_error *err)
{
    for (size_t i = 0; i < more->count; i++) {
        const struct hf_gtid_part *part = &more->parts[i];
        if (set->count == 0)
            set->flavor = more->flavor;
        if (set->flavor != more->flavor)
            return hf_fail(err, HF_ERR_CONFLICT, "GTIDs of MariaDB and of MySQL cannot be in one set");
        if (set->flavor == HF_GTID_MYSQL
                ? !add_interval(set, part, err)
                : !hf_gtid_set_contains(set, &part->last) && !set_domain(set, &part->last, err))
            return false;
    }
    return true;
}

bool
hf_gtid_set_contains(const struct hf_gtid_set *set, const struct hf_gtid *gtid)
{
    if (set->count == 0 || set->flavor != gtid->flavor)
        return false;
    if (set->flavor == HF_GTID_MARIADB) {
        const struct hf_gtid *last = hf_gtid_set_domain(set, gtid->domain);
        return last != NULL && gtid->sequence <= last->sequence;
    }
    const size_t at = find_interval(set, gtid->uuid, gtid->sequence);
    return at < set->count && memcmp(set->parts[at].last.uuid, gtid->uuid, 16) == 0 &&
           set->parts[at].first <= gtid->sequence;
}

bool
hf_gtid_set_contains_all(const struct hf_gtid_set *set, const struct hf_gtid_set *part)
{
    for (size_t i = 0; i < part->count; i++) {
        const struct hf_gtid_part *one = &part->parts[i];
        if (!hf_gtid_set_contains(set, &one->last))
            return false;
        if (part->flavor == HF_GTID_MARIADB)
            continue;
        const size_t at = find_interval(set, one->last.uuid, one->last.sequence);
        if (set->parts[at].first > one->first)
            return false;
    }
    return true;
}

bool
hf_gtid_set_equal(const struct hf_gtid_set *a, const struct hf_gtid_set *b)
{
    if (a->count != b->count || (a->count > 0 && a->flavor != b->flavor))
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct hf_gtid *left = &a->parts[i].last, *right = &b->parts[i].last;
        const bool same = left->sequence == right->sequence &&
                          (a->flavor == HF_GTID_MARIADB
                               ? left->domain == right->domain && left->server_id == right->server_id
                               : memcmp(left->uuid, right->uuid, 16) == 0 && a->parts[i].first == b->parts[i].first);
        if (!same)
            return false;
    }
    return true;
}

const struct hf_gtid *
hf_gtid_set_domain(const struct hf_gtid_set *set, uint32_t domain)
{
    const size_t at = find_domain(set, domain);
    return at < set->count && set->parts[at].last.domain == domain ? &set->parts[at].last : NULL;
}

static bool
parse_domain_gtid(const char **at, const char *end, struct hf_gtid *ret)
{
    uint64_t domain, server_id, sequence;
    if (!parse_number(at, end, UINT32_MAX, &domain) || *at == end || *(*at)++ != '-' ||
        !parse_number(at, end, UINT32_MAX, &server_id) || *at == end || *(*at)++ != '-' ||
        !parse_number(at, end, UINT64_MAX, &sequence))
        return false;
    *ret = (struct hf_gtid){
        .flavor = HF_GTID_MARIADB, .domain = (uint32_t)domain, .server_id = (uint32_t)server_id, .sequence = sequence};
    return true;
}

/* With its hyphens at their places; either case. */
static bool
parse_uuid(const char **at, const char *end, uint8_t uuid[static 16])
{
    if (end - *at < 36)
        return false;
    for (size_t i = 0, digit = 0; i < 36; i++) {
        const char c = (*at)[i];
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (c != '-')
                return false;
            continue;
        }
        const int value = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (value < 0)
            return false;
        uuid[digit / 2] = (uint8_t)(digit % 2 == 0 ? value << 4 : uuid[digit / 2] | value);
        digit++;
    }
    *at += 36;
    return true;
}

static bool
parse_number(const char **at, const char *end, uint64_t most, uint64_t *ret)
{
    const char *from = *at;
    uint64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        const uint64_t digit = (uint64_t)(**at - '0');
        if (value > (most - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret = value;
    return *at > from;
}

/* ":1-5:7" behind a uuid; at least one.  An interval whose end lies before its start says nothing, as MySQL has it. */
static bool
parse_intervals(const char **at, const char *end, const uint8_t uuid[static 16], struct hf_gtid_set *set,
                bool *ret_read, struct hf_error *err)
{
    size_t count = 0;
    for (skip_space(at, end); *at < end && **at == ':'; count++) {
        struct hf_gtid_part part = {.last.flavor = HF_GTID_MYSQL};
        ++*at;
        skip_space(at, end);
        *ret_read = parse_number(at, end, SEQUENCE_MOST - 1, &part.first) && part.first > 0;
        part.last.sequence = part.first;
        if (*ret_read && *at < end && **at == '-') {
            ++*at;
            *ret_read = parse_number(at, end, SEQUENCE_MOST - 1, &part.last.sequence);
        }
        if (!*ret_read)
            return true;
        memcpy(part.last.uuid, uuid, 16);
        if (part.first <= part.last.sequence && !add_interval(set, &part, err))
            return false;
        skip_space(at, end);
    }
    *ret_read = count > 0;
    return true;
}

static void
skip_space(const char **at, const char *end)
{
    while (*at < end && (**at == ' ' || **at == '\n' || **at == '\r' || **at == '\t'))
        ++*at;
}

static bool
put_mysql(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err)
{
    char uuid[37];
    for (size_t i = 0; i < set->count; i++) {
        const struct hf_gtid_part *part = &set->parts[i];
        if ((i == 0 || memcmp(part->last.uuid, set->parts[i - 1].last.uuid, 16) != 0) &&
            ((i > 0 && !hf_buf_add_text(out, ",", err)) || !hf_buf_add_text(out, put_uuid(part->last.uuid, uuid), err)))
            return false;
        if (!hf_buf_printf(out, err, ":%" PRIu64, part->first) ||
            (part->first < part->last.sequence && !hf_buf_printf(out, err, "-%" PRIu64, part->last.sequence)))
            return false;
    }
    return true;
}

/* Melts together with every interval that it meets or touches. */
static bool
add_interval(struct hf_gtid_set *set, const struct hf_gtid_part *part, struct hf_error *err)
{
    struct hf_gtid_part whole = *part;
    size_t at = find_interval(set, whole.last.uuid, whole.first - 1);
    while (at < set->count && memcmp(set->parts[at].last.uuid, whole.last.uuid, 16) == 0 &&
           set->parts[at].first <= whole.last.sequence + 1) {
        if (set->parts[at].first < whole.first)
            whole.first = set->parts[at].first;
        if (set->parts[at].last.sequence > whole.last.sequence)
            whole.last.sequence = set->parts[at].last.sequence;
        remove_at(set, at);
    }
    return insert(set, at, &whole, err);
}

static bool
set_domain(struct hf_gtid_set *set, const struct hf_gtid *gtid, struct hf_error *err)
{
    const struct hf_gtid_part part = {*gtid, gtid->sequence};
    const size_t at = find_domain(set, gtid->domain);
    if (at == set->count || set->parts[at].last.domain != gtid->domain)
        return insert(set, at, &part, err);
    set->parts[at] = part;
    return true;
}

/* Room doubles at powers of two. */
static bool
insert(struct hf_gtid_set *set, size_t at, const struct hf_gtid_part *part, struct hf_error *err)
{
    const size_t count = set->count;
    if (count >= HF_GTID_PARTS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a set of GTIDs cannot have more than %d parts", HF_GTID_PARTS_MOST);
    if ((count & (count - 1)) == 0) {
        struct hf_gtid_part *grown = reallocarray(set->parts, count > 0 ? 2 * count : 1, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a set of GTIDs");
        set->parts = grown;
    }
    memmove(&set->parts[at + 1], &set->parts[at], (count - at) * sizeof *set->parts);
    set->parts[at] = *part;
    set->count++;
    return true;
}

/* The memory stays as it is until the count grows past it again, which insert() learns from the count alone. */
static void
remove_at(struct hf_gtid_set *set, size_t at)
{
    memmove(&set->parts[at], &set->parts[at + 1], (set->count - at - 1) * sizeof *set->parts);
    set->count--;
}

/* The first one at or behind the domain. */
static size_t
find_domain(const struct hf_gtid_set *set, uint32_t domain)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (set->parts[middle].last.domain < domain)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first one of this uuid that does not end before the sequence, or where it would be. */
static size_t
find_interval(const struct hf_gtid_set *set, const uint8_t uuid[static 16], uint64_t sequence)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct hf_gtid *last = &set->parts[middle].last;
        const int order = memcmp(last->uuid, uuid, 16);
        if (order < 0 || (order == 0 && last->sequence < sequence))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const char *
put_uuid(const uint8_t uuid[static 16], char text[static 37])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[uuid[i] >> 4];
        *at++ = digits[uuid[i] & 15];
    }
    *at = 0;
    return text;
}

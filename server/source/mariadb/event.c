#include "server/source/mariadb/event.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define CRC_BYTES        4
#define FORMAT_LEAST     57 // bytes of its body before the lengths of fixed parts
#define ROTATE_FIXED     8
#define QUERY_FIXED      13
#define MARIADB_GTID     13 // bytes of its body that are read
#define MYSQL_GTID       25
#define MYSQL_GTID_TIMES 49 // with a time of commit
#define STANDALONE       1  // of a MariaDB GTID's flags
#define WORD_MOST        16

static bool has_checksum(const struct hf_binlog_format *format);
static uint32_t crc_of(const uint8_t *data, size_t length, bool clear_in_use);
static bool take_mariadb_gtid(struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place,
                              struct hf_error *err);
static bool take_mysql_gtid(struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place,
                            struct hf_error *err);
static bool take_group_event(struct hf_binlog_walk *walk, uint64_t place, struct hf_binlog_step *step,
                             struct hf_error *err);
static bool take_query(struct hf_binlog_walk *walk, uint64_t place, struct hf_binlog_step *step, struct hf_error *err);
static bool query_word(const struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place,
                       char word[static WORD_MOST], struct hf_error *err);
static void end_group(struct hf_binlog_walk *walk, struct hf_binlog_step *step);
static bool rows_or_part(uint8_t type);

size_t
hf_binlog_event_length(const uint8_t header[static HF_BINLOG_HEADER])
{
    const uint32_t length = hf_get_u32(header + 9);
    return length < HF_BINLOG_HEADER || length > HF_BINLOG_EVENT_MOST ? 0 : length;
}

bool
hf_binlog_event_read(const struct hf_binlog_format *format, const uint8_t *data, size_t length, uint64_t place,
                     struct hf_binlog_event *ret, struct hf_error *err)
{
    if (length < HF_BINLOG_HEADER)
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " is cut off", place);
    if (hf_binlog_event_length(data) != length)
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " says that it has %u bytes and has %zu", place,
                       hf_get_u32(data + 9), length);
    struct hf_binlog_event event = {.time = hf_get_u32(data),
                                    .type = data[4],
                                    .server_id = hf_get_u32(data + 5),
                                    .length = (uint32_t)length,
                                    .next = hf_get_u32(data + 13),
                                    .flags = hf_get_u16(data + 17),
                                    .body = data + HF_BINLOG_HEADER,
                                    .body_length = length - HF_BINLOG_HEADER};
    if (event.type == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " has no type", place);
    if (format->checksums && event.type != HF_BINLOG_FORMAT) {
        if (event.body_length < CRC_BYTES)
            return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " has no room for its checksum", place);
        event.body_length -= CRC_BYTES;
        if (hf_get_u32(event.body + event.body_length) != crc_of(data, length - CRC_BYTES, false))
            return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " (type %u, %zu bytes) fails its checksum",
                           place, event.type, length);
    }
    *ret = event;
    return true;
}

bool
hf_binlog_format_read(const struct hf_binlog_event *event, uint64_t place, struct hf_binlog_format *ret,
                      struct hf_error *err)
{
    struct hf_binlog_format format = {.known = true};
    struct hf_reader reader = HF_READER(event->body, event->body_length);
    const uint8_t *whole = event->body - HF_BINLOG_HEADER;
    const uint16_t version = hf_reader_u16(&reader);
    const uint8_t *server = hf_reader_bytes(&reader, HF_BINLOG_VERSION_TEXT - 1);
    format.created = hf_reader_u32(&reader);
    const uint8_t header = hf_reader_u8(&reader);
    if (!hf_reader_ok(&reader) || event->length > HF_BINLOG_FORMAT_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " has %u bytes", place, event->length);
    if (version != 4 || header != HF_BINLOG_HEADER)
        return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " is of version %u", place, version);
    memcpy(format.server, server, HF_BINLOG_VERSION_TEXT - 1);
    for (const char *c = format.server; *c != 0; c++)
        if (!isprint((unsigned char)*c))
            return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " names no server version", place);
    format.mariadb = strstr(format.server, "MariaDB") != NULL;

    size_t fixed = event->body_length - FORMAT_LEAST;
    if (has_checksum(&format)) {
        if (fixed < CRC_BYTES + 1)
            return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " has no room for its checksum",
                           place);
        fixed -= CRC_BYTES + 1;
        const uint8_t algorithm = event->body[FORMAT_LEAST + fixed];
        if (hf_get_u32(event->body + event->body_length - CRC_BYTES) !=
            crc_of(whole, event->length - CRC_BYTES, (event->flags & HF_BINLOG_IN_USE) != 0))
            return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " fails its checksum", place);
        if (algorithm > 1)
            return hf_fail(err, HF_ERR_CORRUPT, "the format description at %" PRIu64 " has checksum algorithm %u",
                           place, algorithm);
        format.checksums = algorithm == 1;
    }
    for (size_t i = 0; i < fixed && i + 1 < sizeof format.fixed; i++)
        format.fixed[i + 1] = event->body[FORMAT_LEAST + i];
    *ret = format;
    return true;
}

bool
hf_binlog_rotate_read(const struct hf_binlog_event *event, uint64_t place, uint64_t *ret_position,
                      char name[static HF_BINLOG_NAME_BYTES], struct hf_error *err)
{
    const size_t length = event->body_length < ROTATE_FIXED ? 0 : event->body_length - ROTATE_FIXED;
    if (length == 0 || length >= HF_BINLOG_NAME_BYTES || memchr(event->body + ROTATE_FIXED, 0, length) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " names no next file", place);
    *ret_position = hf_get_u64(event->body);
    memcpy(name, event->body + ROTATE_FIXED, length);
    name[length] = 0;
    return true;
}

bool
hf_binlog_before_read(const struct hf_binlog_event *event, uint64_t place, struct hf_gtid_set *ret,
                      struct hf_error *err)
{
    if (event->type == HF_BINLOG_MYSQL_PREVIOUS)
        return hf_gtid_set_decode(event->body, event->body_length, ret, err) ||
               hf_fail_within(err, "the event at %" PRIu64, place);
    _cleanup_(hf_gtid_set_done) struct hf_gtid_set set = {.flavor = HF_GTID_MARIADB};
    struct hf_reader reader = HF_READER(event->body, event->body_length);
    const uint32_t count = hf_reader_u32(&reader) & 0x0fffffff;
    for (uint32_t i = 0; i < count && hf_reader_ok(&reader); i++) {
        struct hf_gtid gtid = {.flavor = HF_GTID_MARIADB, .domain = hf_reader_u32(&reader)};
        gtid.server_id = hf_reader_u32(&reader);
        gtid.sequence = hf_reader_u64(&reader);
        // A domain has one row for each server that wrote in it; the last row is its newest.
        if (hf_reader_ok(&reader) && !hf_gtid_set_add(&set, &gtid, err))
            return hf_fail_within(err, "the event at %" PRIu64, place);
    }
    if (!hf_reader_ok(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the list of GTIDs at %" PRIu64 " is cut off", place);
    *ret = set;
    set = (struct hf_gtid_set){0};
    return true;
}

void
hf_binlog_event_seal(uint8_t *data, size_t length)
{
    hf_put_u32(data + length - CRC_BYTES,
               crc_of(data, length - CRC_BYTES,
                      data[4] == HF_BINLOG_FORMAT && (hf_get_u16(data + 17) & HF_BINLOG_IN_USE) != 0));
}

void
hf_binlog_walk_begin(struct hf_binlog_walk *walk, bool checksums)
{
    *walk = (struct hf_binlog_walk){.format = {.checksums = checksums}};
}

bool
hf_binlog_walk_event(struct hf_binlog_walk *walk, const uint8_t *data, size_t length, uint64_t place,
                     struct hf_binlog_step *ret, struct hf_error *err)
{
    struct hf_binlog_step step = {0};
    if (!hf_binlog_event_read(&walk->format, data, length, place, &step.event, err))
        return false;
    const struct hf_binlog_event *event = &step.event;
    const bool artificial = (event->flags & HF_BINLOG_ARTIFICIAL) != 0;
    bool ok = true;
    if (!walk->format.known && event->type != HF_BINLOG_FORMAT && event->type != HF_BINLOG_ROTATE &&
        event->type != HF_BINLOG_START_V3)
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " (type %u) comes before a format description",
                       place, event->type);
    switch (event->type) {
    case HF_BINLOG_START_V3:
        return hf_fail(err, HF_ERR_CORRUPT, "the binary log at %" PRIu64 " is of a server before MySQL 5.0", place);
    case HF_BINLOG_FORMAT: // a server that crashed inside a transaction begins a new file
        walk->state = HF_BINLOG_OUTSIDE;
        ok = hf_binlog_format_read(event, place, &walk->format, err);
        break;
    case HF_BINLOG_ROTATE:
    case HF_BINLOG_STOP:
    case HF_BINLOG_INCIDENT:
    case HF_BINLOG_HEARTBEAT:
    case HF_BINLOG_HEARTBEAT_V2:
    case HF_BINLOG_MYSQL_PREVIOUS:
    case HF_BINLOG_CHECKPOINT:
    case HF_BINLOG_GTID_LIST:
    case HF_BINLOG_ENCRYPTION:
        break;
    case HF_BINLOG_GTID:
        ok = take_mariadb_gtid(walk, event, place, err);
        step.group = step.begins = true;
        break;
    case HF_BINLOG_MYSQL_GTID:
    case HF_BINLOG_MYSQL_ANONYMOUS:
        ok = take_mysql_gtid(walk, event, place, err);
        step.group = step.begins = true;
        break;
    case HF_BINLOG_MYSQL_TAGGED:
        return hf_fail(err, HF_ERR_CORRUPT, "the event at %" PRIu64 " has a tagged GTID, which we cannot read", place);
    default:
        ok = artificial || take_group_event(walk, place, &step, err);
    }
    if (ok)
        *ret = step;
    return ok;
}

/* By the version of the server, which is how servers tell it too. */
static bool
has_checksum(const struct hf_binlog_format *format)
{
    unsigned major = 0, minor = 0, patch = 0;
    if (sscanf(format->server, "%3u.%3u.%3u", &major, &minor, &patch) < 2)
        return false;
    const unsigned version = major * 1000000 + minor * 1000 + patch;
    return version >= (format->mariadb ? 5003000U : 5006001U);
}

static uint32_t
crc_of(const uint8_t *data, size_t length, bool clear_in_use)
{
    uint8_t header[HF_BINLOG_HEADER];
    if (!clear_in_use || length < sizeof header)
        return (uint32_t)crc32_z(0, data, length);
    memcpy(header, data, sizeof header);
    header[17] &= (uint8_t)~HF_BINLOG_IN_USE;
    return (uint32_t)crc32_z(crc32_z(0, header, sizeof header), data + sizeof header, length - sizeof header);
}

static bool
take_mariadb_gtid(struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place,
                  struct hf_error *err)
{
    if (event->body_length < MARIADB_GTID)
        return hf_fail(err, HF_ERR_CORRUPT, "the GTID at %" PRIu64 " is cut off", place);
    walk->gtid = (struct hf_gtid){.flavor = HF_GTID_MARIADB,
                                  .sequence = hf_get_u64(event->body),
                                  .domain = hf_get_u32(event->body + 8),
                                  .server_id = event->server_id};
    walk->has_gtid = true;
    walk->gtid_ms = 0;
    walk->standalone = (event->body[12] & STANDALONE) != 0;
    walk->state = walk->standalone ? HF_BINLOG_BEGUN : HF_BINLOG_INSIDE;
    return true;
}

static bool
take_mysql_gtid(struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place, struct hf_error *err)
{
    if (event->body_length < MYSQL_GTID)
        return hf_fail(err, HF_ERR_CORRUPT, "the GTID at %" PRIu64 " is cut off", place);
    walk->gtid = (struct hf_gtid){.flavor = HF_GTID_MYSQL, .sequence = hf_get_u64(event->body + 17)};
    memcpy(walk->gtid.uuid, event->body + 1, sizeof walk->gtid.uuid);
    walk->has_gtid = event->type == HF_BINLOG_MYSQL_GTID;
    if (walk->has_gtid && (walk->gtid.sequence == 0 || walk->gtid.sequence >= INT64_MAX))
        return hf_fail(err, HF_ERR_CORRUPT, "the GTID at %" PRIu64 " has number %" PRIu64, place, walk->gtid.sequence);
    walk->gtid_ms = 0;
    if (event->body_length >= MYSQL_GTID_TIMES && event->body[25] == 2) {
        uint64_t microseconds = 0;
        memcpy(&microseconds, event->body + 42, 7);
        walk->gtid_ms = (int64_t)((le64toh(microseconds) & ~(UINT64_C(1) << 55)) / 1000);
    }
    walk->standalone = false;
    walk->state = HF_BINLOG_BEGUN;
    return true;
}

static bool
take_group_event(struct hf_binlog_walk *walk, uint64_t place, struct hf_binlog_step *step, struct hf_error *err)
{
    const uint8_t type = step->event.type;
    step->group = true;
    step->begins = walk->state == HF_BINLOG_OUTSIDE;
    if (step->begins) { // a log without GTIDs
        walk->state = HF_BINLOG_BEGUN;
        walk->has_gtid = walk->standalone = false;
        walk->gtid_ms = 0;
    }
    if (type == HF_BINLOG_QUERY)
        return take_query(walk, place, step, err);
    const bool ends = type == HF_BINLOG_XID || type == HF_BINLOG_XA_PREPARE || type == HF_BINLOG_MYSQL_PAYLOAD ||
                      (walk->state == HF_BINLOG_BEGUN && !rows_or_part(type));
    if (ends)
        end_group(walk, step);
    return true;
}

/* BEGIN opens, COMMIT and ROLLBACK close; any other statement stands alone, unless something is open. */
static bool
take_query(struct hf_binlog_walk *walk, uint64_t place, struct hf_binlog_step *step, struct hf_error *err)
{
    char word[WORD_MOST];
    if (!query_word(walk, &step->event, place, word, err))
        return false;
    if (walk->standalone) {
        end_group(walk, step);
    } else if (strcmp(word, "BEGIN") == 0 || strcmp(word, "XA START") == 0) {
        walk->state = HF_BINLOG_INSIDE;
    } else if (strcmp(word, "COMMIT") == 0 || strcmp(word, "ROLLBACK") == 0) {
        end_group(walk, step);
    } else if (walk->state == HF_BINLOG_BEGUN) {
        end_group(walk, step);
    } else {
        walk->with_statements = walk->with_statements || strncmp(word, "SAVEPOINT", 9) != 0;
    }
    return true;
}

/* BEGIN, COMMIT, ROLLBACK when that is the whole statement; "XA START" and "SAVEPOINT" when it begins so; else "". */
static bool
query_word(const struct hf_binlog_walk *walk, const struct hf_binlog_event *event, uint64_t place,
           char word[static WORD_MOST], struct hf_error *err)
{
    static const char *const whole[] = {"BEGIN", "COMMIT", "ROLLBACK"};
    static const char *const first[] = {"XA START", "SAVEPOINT"};
    const size_t fixed = walk->format.fixed[HF_BINLOG_QUERY] != 0 ? walk->format.fixed[HF_BINLOG_QUERY] : QUERY_FIXED;
    struct hf_reader reader = HF_READER(event->body, event->body_length);
    const uint8_t *head = hf_reader_bytes(&reader, fixed);
    const size_t schema = head == NULL || fixed < 11 ? 0 : head[8];
    const size_t variables = head == NULL || fixed < QUERY_FIXED ? 0 : hf_get_u16(head + 11);
    (void)hf_reader_bytes(&reader, variables);
    (void)hf_reader_bytes(&reader, schema + 1);
    if (!hf_reader_ok(&reader) || fixed < 11)
        return hf_fail(err, HF_ERR_CORRUPT, "the statement at %" PRIu64 " is cut off", place);
    const char *text = (const char *)reader.data + reader.position;
    const size_t length = reader.length - reader.position;
    word[0] = 0;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (length == strlen(whole[i]) && strncasecmp(text, whole[i], length) == 0)
            snprintf(word, WORD_MOST, "%s", whole[i]);
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        if (length >= strlen(first[i]) && strncasecmp(text, first[i], strlen(first[i])) == 0)
            snprintf(word, WORD_MOST, "%s", first[i]);
    return true;
}

static void
end_group(struct hf_binlog_walk *walk, struct hf_binlog_step *step)
{
    step->ends = true;
    step->commit_ms = walk->gtid_ms != 0 ? walk->gtid_ms : (int64_t)step->event.time * 1000;
    walk->state = HF_BINLOG_OUTSIDE;
}

/* What never is a transaction's last event: rows, their tables, values and files that a statement needs. */
static bool
rows_or_part(uint8_t type)
{
    switch (type) {
    case HF_BINLOG_INTVAR:
    case HF_BINLOG_RAND:
    case HF_BINLOG_USER_VAR:
    case HF_BINLOG_BEGIN_LOAD:
    case 9:  // APPEND_BLOCK
    case 11: // DELETE_FILE
    case HF_BINLOG_TABLE_MAP:
    case HF_BINLOG_ROWS_QUERY:
    case HF_BINLOG_ANNOTATE:
    case 28: // IGNORABLE
    case 36: // TRANSACTION_CONTEXT
    case 39: // PARTIAL_UPDATE_ROWS
        return true;
    default:
        return (type >= HF_BINLOG_ROWS_FIRST && type <= 25) || (type >= 30 && type <= 32) ||
               (type > HF_BINLOG_QUERY_COMPRESSED && type <= HF_BINLOG_ROWS_COMPRESSED_LAST);
    }
}

#include "server/source/postgres/wal_format.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "server/source/postgres/wal_prepared.h"

#define SHORT_HEADER 24
#define LONG_HEADER  40
#define ALIGNMENT    8

#define PAGE_CONTINUES UINT16_C(0x0001)
#define PAGE_LONG      UINT16_C(0x0002)
#define PAGE_ABANDONED UINT16_C(0x0008)
#define PAGE_FLAGS_ALL UINT16_C(0x000f)

#define MANAGER_LOG         0 // resource managers we look into
#define MANAGER_TRANSACTION 1
#define LOG_SWITCH          0x40
#define LOG_RESTORE_POINT   0x70
#define TRANSACTION_MASK    0x70
#define COMMIT              0x00
#define ABORT               0x20
#define COMMIT_PREPARED     0x30
#define ABORT_PREPARED      0x40
#define INFO_MANAGER_BITS   0xf0

#define BODY_KEPT            96 // of a record's body: enough for the time of a commit, the name of a restore point
#define BODY_DATA_SHORT      255
#define BODY_DATA_LONG       254
#define BODY_ORIGIN          253
#define BODY_TOP_TRANSACTION 252

#define POSTGRES_EPOCH_MS INT64_C(946684800000)        // 2000-01-01 in ms since 1970
#define TIME_MOST_US      INT64_C(4000000000000000000) // no server's clock shows more than this before or after 2000

/* What the next bytes are. */
enum expecting {
    OLD_RECORD,    // the rest of a record that began before the walk
    RECORD_HEADER, // 24 bytes, perhaps split by a page header
    RECORD_BODY,
    PADDING,       // up to the next multiple of 8
    EMPTY_SEGMENT, // after a switch: nothing until the segment ends
    NOTHING,       // after a length of 0: zeros only
};

struct hf_wal_walk {
    struct hf_wal_origin origin;
    uint16_t magic;
    struct hf_wal_seen seen;
    enum expecting expecting; // behind the page header, while one is being read
    bool started;             // the first page's header was read
    bool chained;             // seen.last_record is known, so the next record must point to it
    bool failed;

    bool in_page_header;
    uint8_t page_header[LONG_HEADER]; // as far as it has come
    size_t page_header_length;

    uint64_t record;                      // position of the record being read
    uint8_t header[HF_WAL_RECORD_HEADER]; // its header, as far as it has come
    size_t header_length;
    uint32_t left; // bytes of its body, or of an old record, still to come
    uint32_t crc;  // of its body
    uint8_t body[BODY_KEPT];
    size_t body_length;
    struct hf_wal_prepared prepared; // of a record that ends a prepared transaction
    bool ends_prepared;              // this one does

    struct hf_wal_target target;
};

/* What is left of the bytes of one call. */
struct piece {
    const uint8_t *data;
    size_t length;
};

static bool page_begins(const struct hf_wal_walk *walk);
static bool step(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err);
static size_t take(struct hf_wal_walk *walk, struct piece *piece, size_t most, const uint8_t **ret_data);
static bool take_page_header(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err);
static bool check_page_header(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err);
static bool check_long_header(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err);
static bool join_page(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err);
static uint32_t bytes_open(const struct hf_wal_walk *walk);
static bool take_record_header(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err);
static bool check_record_header(struct hf_wal_walk *walk, struct hf_error *err);
static bool take_body(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err);
static bool finish_record(struct hf_wal_walk *walk, struct hf_error *err);
static void look_for_target(struct hf_wal_walk *walk, uint8_t manager, uint8_t info);
static bool stops_at_transaction(const struct hf_wal_walk *walk, uint8_t info, bool *ret_behind);
static bool stops_at_point(const struct hf_wal_walk *walk);
static void note_transaction(struct hf_wal_walk *walk, uint8_t info);
static struct hf_reader main_data(const struct hf_wal_walk *walk);
static bool find_time(const struct hf_wal_walk *walk, int64_t *ret_us);
static bool take_nothing(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err);
static bool refuse(struct hf_wal_walk *walk, uint64_t at, struct hf_error *err, const char *format, ...)
    HF_PRINTF(4, 5);

bool
hf_wal_segment_bytes_valid(uint64_t bytes)
{
    return bytes >= HF_WAL_SEGMENT_LEAST && bytes <= HF_WAL_SEGMENT_MOST && (bytes & (bytes - 1)) == 0;
}

const char *
hf_wal_segment_name(uint32_t timeline, uint64_t lsn, uint32_t segment_bytes, char text[static HF_WAL_NAME_BYTES])
{
    uint64_t number = lsn / segment_bytes, in_high_part = (UINT64_C(1) << 32) / segment_bytes;

    snprintf(text, HF_WAL_NAME_BYTES, "%08X%08X%08X", timeline, (unsigned)(number / in_high_part),
             (unsigned)(number % in_high_part));
    return text;
}

uint16_t
hf_wal_page_magic(uint32_t major_version)
{
    static const uint16_t magics[] = {
        [13] = 0xd106, [14] = 0xd10d, [15] = 0xd110, [16] = 0xd113, [17] = 0xd116, [18] = 0xd118};
    return major_version < HF_LENGTH(magics) ? magics[major_version] : 0;
}

bool
hf_wal_walk_new(const struct hf_wal_origin *origin, uint64_t start, struct hf_wal_walk **ret, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES];

    if (hf_wal_page_magic(origin->major_version) == 0)
        return hf_fail(err, HF_ERR_USAGE, "the log of PostgreSQL %u is not known here", origin->major_version);
    if (!hf_wal_segment_bytes_valid(origin->segment_bytes))
        return hf_fail(err, HF_ERR_USAGE, "log segments cannot have %u bytes", origin->segment_bytes);
    if (start % HF_WAL_PAGE_BYTES != 0)
        return hf_fail(err, HF_ERR_USAGE, "%s is not the start of a log page", hf_lsn_format(start, text));

    struct hf_wal_walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading the log");

    walk->origin = *origin;
    walk->magic = hf_wal_page_magic(origin->major_version);
    walk->seen.position = start;
    walk->expecting = OLD_RECORD;
    *ret = walk;
    return true;
}

void
hf_wal_walk_freep(struct hf_wal_walk **walk)
{
    free(*walk);
    *walk = NULL;
}

bool
hf_wal_walk_feed(struct hf_wal_walk *walk, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct piece piece = {data, length};

    if (walk->failed)
        return hf_fail(err, HF_ERR_CORRUPT, "the log was found damaged before");

    while (piece.length > 0) {
        if (page_begins(walk))
            walk->in_page_header = true;
        if (walk->in_page_header ? !take_page_header(walk, &piece, err) : !step(walk, &piece, err))
            return false;
    }
    return true;
}

struct hf_wal_seen
hf_wal_walk_seen(const struct hf_wal_walk *walk)
{
    return walk->seen;
}

void
hf_wal_walk_forget_commits(struct hf_wal_walk *walk)
{
    walk->seen.commits = 0;
    walk->seen.first_commit_at = walk->seen.last_commit_at = 0;
}

void
hf_wal_walk_look_for(struct hf_wal_walk *walk, const struct hf_wal_target *target)
{
    walk->target = *target;
}

static bool
page_begins(const struct hf_wal_walk *walk)
{
    if (walk->in_page_header || walk->seen.position % HF_WAL_PAGE_BYTES != 0)
        return false;
    // What follows a switch or the end of the log has no page headers; a new segment has again.
    if (walk->expecting == EMPTY_SEGMENT)
        return walk->seen.position % walk->origin.segment_bytes == 0;
    return walk->expecting != NOTHING;
}

/* One bit of what lies between page headers. */
static bool
step(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err)
{
    const uint8_t *data;

    switch (walk->expecting) {
    case OLD_RECORD:
        walk->left -= (uint32_t)take(walk, piece, walk->left, &data);
        if (walk->left == 0)
            walk->expecting = PADDING;
        return true;
    case RECORD_HEADER:
        return take_record_header(walk, piece, err);
    case RECORD_BODY:
        return take_body(walk, piece, err);
    case PADDING:
        take(walk, piece, (ALIGNMENT - walk->seen.position % ALIGNMENT) % ALIGNMENT, &data);
        if (walk->seen.position % ALIGNMENT == 0)
            walk->expecting = RECORD_HEADER;
        return true;
    case EMPTY_SEGMENT:
        take(walk, piece, HF_WAL_PAGE_BYTES, &data);
        return true;
    case NOTHING:
        return take_nothing(walk, piece, err);
    }
    return refuse(walk, walk->seen.position, err, "the walk lost its way");
}

/* Moves on by at most `most` bytes, never over the end of a page. */
static size_t
take(struct hf_wal_walk *walk, struct piece *piece, size_t most, const uint8_t **ret_data)
{
    size_t taken = HF_WAL_PAGE_BYTES - walk->seen.position % HF_WAL_PAGE_BYTES;
    taken = most < taken ? most : taken;
    taken = piece->length < taken ? piece->length : taken;

    *ret_data = piece->data;
    piece->data += taken;
    piece->length -= taken;
    walk->seen.position += taken;
    return taken;
}

static bool
take_page_header(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err)
{
    uint64_t page = walk->seen.position - walk->page_header_length;
    bool is_long = page % walk->origin.segment_bytes == 0;
    size_t whole = is_long ? LONG_HEADER : SHORT_HEADER;
    const uint8_t *data;

    size_t taken = take(walk, piece, whole - walk->page_header_length, &data);
    memcpy(walk->page_header + walk->page_header_length, data, taken);
    walk->page_header_length += taken;
    if (walk->page_header_length < whole)
        return true;

    walk->page_header_length = 0;
    walk->in_page_header = false;
    return check_page_header(walk, page, err) && (!is_long || check_long_header(walk, page, err)) &&
           join_page(walk, page, err);
}

static bool
check_page_header(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err)
{
    const uint8_t *header = walk->page_header;
    uint16_t magic = hf_get_u16(header), flags = hf_get_u16(header + 2);
    uint32_t timeline = hf_get_u32(header + 4);
    char text[HF_LSN_TEXT_BYTES];

    if (magic != walk->magic)
        return refuse(walk, page, err, "its page has the magic %04x instead of %04x", magic, walk->magic);
    if ((flags & ~PAGE_FLAGS_ALL) != 0 || ((flags & PAGE_LONG) != 0) != (page % walk->origin.segment_bytes == 0))
        return refuse(walk, page, err, "its page has the flags %04x", flags);
    if (hf_get_u64(header + 8) != page)
        return refuse(walk, page, err, "its page says it is at %s", hf_lsn_format(hf_get_u64(header + 8), text));
    if (timeline == 0 || timeline > walk->origin.timeline || timeline < walk->seen.page_timeline)
        return refuse(walk, page, err, "its page is of timeline %u, not within %u to %u", timeline,
                      walk->seen.page_timeline, walk->origin.timeline);
    walk->seen.page_timeline = timeline;
    return true;
}

static bool
check_long_header(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err)
{
    const uint8_t *header = walk->page_header;

    if (hf_get_u64(header + 24) != walk->origin.system_identifier)
        return refuse(walk, page, err, "it belongs to the system %" PRIu64 " and not to %" PRIu64,
                      hf_get_u64(header + 24), walk->origin.system_identifier);
    if (hf_get_u32(header + 32) != walk->origin.segment_bytes || hf_get_u32(header + 36) != HF_WAL_PAGE_BYTES)
        return refuse(walk, page, err, "its segments have %u bytes and its pages %u", hf_get_u32(header + 32),
                      hf_get_u32(header + 36));
    return true;
}

/* Does the page go on with what the page before left open? */
static bool
join_page(struct hf_wal_walk *walk, uint64_t page, struct hf_error *err)
{
    uint16_t flags = hf_get_u16(walk->page_header + 2);
    uint32_t rest = hf_get_u32(walk->page_header + 16), open = bytes_open(walk);

    if (((flags & PAGE_CONTINUES) != 0) != (rest > 0) || rest > HF_WAL_RECORD_MOST)
        return refuse(walk, page, err, "its page goes on with %u bytes of a record", rest);
    if (walk->expecting == EMPTY_SEGMENT)
        walk->expecting = RECORD_HEADER;

    if (!walk->started) {
        walk->started = true;
        walk->left = rest;
        walk->expecting = rest > 0 ? OLD_RECORD : RECORD_HEADER;
        return true;
    }
    if (open > 0 && rest == 0 && (flags & PAGE_ABANDONED) != 0) {
        walk->seen.abandoned++;
        walk->header_length = 0;
        walk->left = 0;
        walk->expecting = RECORD_HEADER;
        return true;
    }
    if (rest != open)
        return refuse(walk, page, err, "its page goes on with %u bytes of a record instead of %u", rest, open);
    return true;
}

/* Bytes of the current record that have not come yet. */
static uint32_t
bytes_open(const struct hf_wal_walk *walk)
{
    // A record's length is never split from its start: records begin at multiples of 8, as pages end.
    if (walk->expecting == RECORD_HEADER && walk->header_length > 0)
        return hf_get_u32(walk->header) - (uint32_t)walk->header_length;
    return walk->expecting == RECORD_BODY || walk->expecting == OLD_RECORD ? walk->left : 0;
}

static bool
take_record_header(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err)
{
    const uint8_t *data;

    if (walk->header_length == 0)
        walk->record = walk->seen.position;
    // The length first and alone: what it says decides whether more of a header may be expected.
    size_t whole = walk->header_length < sizeof(uint32_t) ? sizeof(uint32_t) : HF_WAL_RECORD_HEADER;
    size_t taken = take(walk, piece, whole - walk->header_length, &data);
    memcpy(walk->header + walk->header_length, data, taken);
    walk->header_length += taken;
    if (walk->header_length < whole)
        return true;

    uint32_t length = hf_get_u32(walk->header);
    if (length == 0) {
        walk->header_length = 0;
        walk->expecting = NOTHING;
        return true;
    }
    if (length < HF_WAL_RECORD_HEADER || length > HF_WAL_RECORD_MOST)
        return refuse(walk, walk->record, err, "a record has %u bytes", length);
    if (whole < HF_WAL_RECORD_HEADER)
        return true;

    if (!check_record_header(walk, err))
        return false;
    walk->left = length - HF_WAL_RECORD_HEADER;
    walk->crc = 0;
    walk->body_length = 0;
    const uint8_t info = walk->header[16] & TRANSACTION_MASK;
    walk->ends_prepared =
        walk->header[17] == MANAGER_TRANSACTION && (info == COMMIT_PREPARED || info == ABORT_PREPARED);
    if (walk->ends_prepared)
        hf_wal_prepared_begin(&walk->prepared, walk->origin.major_version, walk->header[16]);
    walk->expecting = RECORD_BODY;
    return walk->left > 0 || finish_record(walk, err);
}

static bool
check_record_header(struct hf_wal_walk *walk, struct hf_error *err)
{
    uint64_t before = hf_get_u64(walk->header + 8);
    char text[HF_LSN_TEXT_BYTES], known[HF_LSN_TEXT_BYTES];

    if (walk->chained && before != walk->seen.last_record)
        return refuse(walk, walk->record, err, "a record says the one before is at %s, which is at %s",
                      hf_lsn_format(before, text), hf_lsn_format(walk->seen.last_record, known));
    if (before >= walk->record)
        return refuse(walk, walk->record, err, "a record says the one before is at %s", hf_lsn_format(before, text));
    return true;
}

static bool
take_body(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err)
{
    const uint8_t *data;
    size_t taken = take(walk, piece, walk->left, &data);

    size_t kept = sizeof walk->body - walk->body_length;
    kept = taken < kept ? taken : kept;
    memcpy(walk->body + walk->body_length, data, kept);
    walk->body_length += kept;
    if (walk->ends_prepared)
        hf_wal_prepared_feed(&walk->prepared, data, taken);
    walk->crc = hf_crc32c(walk->crc, data, taken);
    walk->left -= (uint32_t)taken;
    return walk->left > 0 || finish_record(walk, err);
}

static bool
finish_record(struct hf_wal_walk *walk, struct hf_error *err)
{
    if (hf_crc32c(walk->crc, walk->header, 20) != hf_get_u32(walk->header + 20))
        return refuse(walk, walk->record, err, "a record fails its checksum");

    uint8_t info = walk->header[16] & INFO_MANAGER_BITS, manager = walk->header[17];
    if (walk->seen.records++ == 0)
        walk->seen.first_record = walk->record;
    walk->seen.last_record = walk->record;
    walk->chained = true;
    walk->header_length = 0;
    walk->expecting = PADDING;
    walk->seen.end = (walk->seen.position + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    if (walk->seen.stop == 0)
        look_for_target(walk, manager, info);
    if (manager == MANAGER_LOG && info == LOG_SWITCH) {
        uint32_t segment_bytes = walk->origin.segment_bytes;
        walk->expecting = EMPTY_SEGMENT;
        walk->seen.end = (walk->seen.end + segment_bytes - 1) / segment_bytes * segment_bytes;
    }
    return true;
}

/* A commit at which recovery stops beforehand is none of those it brings. */
static void
look_for_target(struct hf_wal_walk *walk, uint8_t manager, uint8_t info)
{
    bool stops = false, behind = true;
    if (walk->target.kind == HF_WAL_TO_POSITION) {
        stops = walk->record >= walk->target.position;
        behind = false;
    } else if (manager == MANAGER_TRANSACTION) {
        stops = stops_at_transaction(walk, info & TRANSACTION_MASK, &behind);
    } else if (manager == MANAGER_LOG && info == LOG_RESTORE_POINT) {
        stops = stops_at_point(walk);
    }
    if (manager == MANAGER_TRANSACTION && (!stops || behind))
        note_transaction(walk, info & TRANSACTION_MASK);
    if (stops) {
        walk->seen.stop = walk->record;
        walk->seen.stop_end = walk->seen.end;
    }
}

static bool
stops_at_transaction(const struct hf_wal_walk *walk, uint8_t info, bool *ret_behind)
{
    int64_t at_us;
    const uint32_t transaction = walk->ends_prepared ? walk->prepared.transaction : hf_get_u32(walk->header + 4);
    if (info != COMMIT && info != ABORT && !walk->ends_prepared)
        return false;
    *ret_behind = walk->target.kind == HF_WAL_TO_TRANSACTION;
    if (walk->target.kind == HF_WAL_TO_TRANSACTION || walk->target.kind == HF_WAL_BEFORE_TRANSACTION)
        return transaction == walk->target.transaction;
    return walk->target.kind == HF_WAL_TO_TIME && find_time(walk, &at_us) && at_us > walk->target.time * 1000;
}

static bool
stops_at_point(const struct hf_wal_walk *walk)
{
    char name[HF_WAL_POINT_BYTES];
    struct hf_reader reader = main_data(walk);
    hf_reader_u64(&reader); // its time
    const uint8_t *bytes = hf_reader_bytes(&reader, sizeof name);
    if (walk->target.kind != HF_WAL_TO_RESTORE_POINT || !hf_reader_ok(&reader))
        return false;
    memcpy(name, bytes, sizeof name);
    name[sizeof name - 1] = '\0';
    return strcmp(name, walk->target.point) == 0;
}

static void
note_transaction(struct hf_wal_walk *walk, uint8_t info)
{
    int64_t at_us;

    if (info == ABORT || info == ABORT_PREPARED)
        walk->seen.aborts++;
    if (info != COMMIT && info != COMMIT_PREPARED)
        return;
    walk->seen.commits++;
    if (!find_time(walk, &at_us))
        return;
    const int64_t at = at_us / 1000;
    if (walk->seen.first_commit_at == 0 || at < walk->seen.first_commit_at)
        walk->seen.first_commit_at = at;
    if (walk->seen.last_commit_at == 0 || at > walk->seen.last_commit_at)
        walk->seen.last_commit_at = at;
}

/* Failed for a record with block references: neither transactions nor restore points have any. */
static struct hf_reader
main_data(const struct hf_wal_walk *walk)
{
    struct hf_reader reader = HF_READER(walk->body, walk->body_length);

    for (;;) {
        uint8_t kind = hf_reader_u8(&reader);
        if (kind == BODY_ORIGIN)
            hf_reader_u16(&reader);
        else if (kind == BODY_TOP_TRANSACTION)
            hf_reader_u32(&reader);
        else if (kind == BODY_DATA_SHORT)
            hf_reader_u8(&reader);
        else if (kind == BODY_DATA_LONG)
            hf_reader_u32(&reader);
        else
            hf_reader_bytes(&reader, BODY_KEPT + 1); // more than there is
        if (kind == BODY_DATA_SHORT || kind == BODY_DATA_LONG || !hf_reader_ok(&reader))
            return reader;
    }
}

static bool
find_time(const struct hf_wal_walk *walk, int64_t *ret_us)
{
    struct hf_reader reader = main_data(walk);
    const int64_t microseconds = (int64_t)hf_reader_u64(&reader);
    if (!hf_reader_ok(&reader) || microseconds > TIME_MOST_US || microseconds < -TIME_MOST_US)
        return false;
    *ret_us = POSTGRES_EPOCH_MS * 1000 + microseconds;
    return true;
}

static bool
take_nothing(struct hf_wal_walk *walk, struct piece *piece, struct hf_error *err)
{
    const uint8_t *data;
    size_t taken = take(walk, piece, HF_WAL_PAGE_BYTES, &data);

    for (size_t i = 0; i < taken; i++)
        if (data[i] != 0)
            return refuse(walk, walk->seen.position - taken + i, err, "there are bytes behind its end");
    return true;
}

static bool
refuse(struct hf_wal_walk *walk, uint64_t at, struct hf_error *err, const char *format, ...)
{
    char why[160], text[HF_LSN_TEXT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    walk->failed = true;
    return hf_fail(err, HF_ERR_CORRUPT, "the log is damaged at %s: %s", hf_lsn_format(at, text), why);
}

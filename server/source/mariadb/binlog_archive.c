#include "server/source/mariadb/binlog_archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/lsn.h"

struct scan {
    struct hf_binlog_place *place;
    struct hf_binlog_walk walk;
    hf_binlog_visitor *visit;
    void *context;
    struct hf_buf event; // bytes of the event that is being put together
    uint64_t at;         // position of its first byte
    bool stopped;
};

static bool keep_bytes(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                       struct hf_error *err);
static bool take_bytes(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                       struct hf_error *err);
static bool take_event(struct scan *scan, struct hf_error *err);
static bool visit_nothing(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);

void
hf_binlog_place_done(struct hf_binlog_place *place)
{
    hf_gtid_set_done(&place->gtids);
}

bool
hf_binlog_place_copy(const struct hf_binlog_place *from, struct hf_binlog_place *ret, struct hf_error *err)
{
    struct hf_binlog_place copy = *from;
    if (!hf_gtid_set_copy(&from->gtids, &copy.gtids, err))
        return false;
    hf_binlog_place_done(ret);
    *ret = copy;
    return true;
}

bool
hf_binlog_place_format(const struct hf_binlog_place *place, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf gtids = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    char format[HF_LSN_TEXT_BYTES];
    if (!hf_gtid_set_format(&place->gtids, &gtids, err))
        return false;
    _cleanup_(hf_json_freep) json_t *object = json_pack(
        "{s:s, s:s, s:o, s:s, s:I, s:I}", "flavor", place->flavor == HF_GTID_MYSQL ? "mysql" : "mariadb", "gtids",
        hf_buf_text(&gtids), "format",
        place->format == HF_BINLOG_NO_FORMAT ? json_null() : json_string(hf_lsn_format(place->format, format)), "file",
        place->file, "file_position", (json_int_t)place->file_position, "server_id", (json_int_t)place->server_id);
    return object == NULL ? hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a place in the binary log")
                          : hf_json_canonical(object, out, err);
}

bool
hf_binlog_place_parse(uint64_t position, const char *text, struct hf_binlog_place *ret, struct hf_error *err)
{
    static const char what[] = "a mark of the binary log";
    struct hf_binlog_place place = {.position = position, .format = HF_BINLOG_NO_FORMAT};
    _cleanup_(hf_json_freep) json_t *object = NULL;
    const char *flavor, *gtids, *file;
    int64_t file_position, server_id;
    if (!hf_json_parse(text, strlen(text), what, &object, err) ||
        !hf_json_string(object, "flavor", what, &flavor, err) || !hf_json_string(object, "gtids", what, &gtids, err) ||
        !hf_json_string(object, "file", what, &file, err) ||
        !hf_json_integer(object, "file_position", what, 0, INT64_MAX, &file_position, err) ||
        !hf_json_integer(object, "server_id", what, 0, UINT32_MAX, &server_id, err))
        return false;
    const json_t *format = json_object_get(object, "format");
    place.flavor = strcmp(flavor, "mysql") == 0 ? HF_GTID_MYSQL : HF_GTID_MARIADB;
    if (strlen(file) >= sizeof place.file ||
        (json_is_string(format) && !hf_lsn_parse(json_string_value(format), &place.format, NULL)))
        return hf_fail(err, HF_ERR_CORRUPT, "%s cannot be read", what);
    snprintf(place.file, sizeof place.file, "%s", file);
    place.file_position = (uint64_t)file_position;
    place.server_id = (uint32_t)server_id;
    if (!hf_gtid_set_parse(place.flavor, gtids, strlen(gtids), &place.gtids, err))
        return false;
    hf_binlog_place_done(ret);
    *ret = place;
    return true;
}

bool
hf_binlog_place_follow(struct hf_binlog_place *place, const struct hf_binlog_walk *walk,
                       const struct hf_binlog_step *step, uint64_t end, struct hf_error *err)
{
    const struct hf_binlog_event *event = &step->event;
    if (event->type == HF_BINLOG_FORMAT) {
        place->format = end - event->length;
        place->server_id = event->server_id;
    }
    if (event->type == HF_BINLOG_ROTATE) {
        if (!hf_binlog_rotate_read(event, end - event->length, &place->file_position, place->file, err))
            return false;
    } else if (event->next != 0) { // 32 bits of it are told: the rest is counted
        uint64_t next = (place->file_position & ~(uint64_t)UINT32_MAX) | event->next;
        if (next < place->file_position)
            next += UINT64_C(1) << 32;
        place->file_position = next;
    }
    if (walk->state != HF_BINLOG_OUTSIDE)
        return true;
    place->position = end;
    if (!step->ends || !walk->has_gtid)
        return true;
    place->flavor = walk->gtid.flavor;
    return hf_gtid_set_add(&place->gtids, &walk->gtid, err);
}

bool
hf_binlog_scan(struct hf_archive *archive, const struct hf_timeline_path *path, struct hf_binlog_place *from,
               uint64_t to, hf_binlog_visitor *visit, void *context, struct hf_error *err)
{
    struct scan scan = {.place = from,
                        .visit = visit,
                        .context = context,
                        .event = HF_BUF_INIT(HF_BINLOG_EVENT_MOST),
                        .at = from->position};
    _cleanup_(hf_buf_done) struct hf_buf format = HF_BUF_INIT(HF_BINLOG_FORMAT_MOST);
    struct hf_binlog_step step;
    uint64_t at;
    hf_binlog_walk_begin(&scan.walk, false);
    bool ok = from->format == HF_BINLOG_NO_FORMAT ||
              (hf_binlog_format_at(archive, path, from, &format, &at, err) &&
               hf_binlog_walk_event(&scan.walk, format.data, format.length, at, &step, err));
    if (ok && from->position < to) {
        struct hf_error why = {0};
        ok = hf_stream_read(archive, path, from->position, to, take_bytes, &scan, &why) || scan.stopped;
        if (ok && !scan.stopped && scan.event.length > 0)
            ok = hf_fail(&why, HF_ERR_CORRUPT, "the archived binary log ends inside an event at %" PRIu64, scan.at);
        if (!ok && err != NULL)
            *err = why;
    }
    hf_buf_done(&scan.event);
    return ok;
}

bool
hf_binlog_format_at(struct hf_archive *archive, const struct hf_timeline_path *path,
                    const struct hf_binlog_place *place, struct hf_buf *out, uint64_t *ret_at, struct hf_error *err)
{
    const uint64_t at = place->format == HF_BINLOG_NO_FORMAT ? place->position : place->format;
    if (!hf_stream_read(archive, path, at, at + HF_BINLOG_HEADER, keep_bytes, out, err))
        return false;
    const size_t length = hf_binlog_event_length(out->data);
    if (length > HF_BINLOG_FORMAT_MOST || length <= HF_BINLOG_HEADER || out->data[4] != HF_BINLOG_FORMAT)
        return hf_fail(err, HF_ERR_CORRUPT, "the archive has no format description at %" PRIu64, at);
    *ret_at = at;
    return hf_stream_read(archive, path, at + HF_BINLOG_HEADER, at + length, keep_bytes, out, err);
}

bool
hf_binlog_find_end(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t whole, bool *ret_found,
                   struct hf_binlog_place *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    uint64_t position;
    if (!hf_archive_mark(archive, path, whole, ret_found, &position, &text, err))
        return false;
    if (!*ret_found)
        return true;
    if (!hf_binlog_place_parse(position, hf_buf_text(&text), &place, err) ||
        !hf_binlog_scan(archive, path, &place, whole, visit_nothing, NULL, err))
        return hf_fail_within(err, "could not find the end of the archived binary log");
    hf_binlog_place_done(ret);
    *ret = place;
    place = (struct hf_binlog_place){0};
    return true;
}

static bool
keep_bytes(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
           struct hf_error *err)
{
    (void)timeline, (void)position;
    return hf_buf_add(context, data, length, err);
}

static bool
take_bytes(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
           struct hf_error *err)
{
    struct scan *scan = context;
    (void)timeline, (void)position;
    while (length > 0) {
        size_t wanted = HF_BINLOG_HEADER;
        if (scan->event.length >= HF_BINLOG_HEADER) {
            wanted = hf_binlog_event_length(scan->event.data);
            if (wanted == 0)
                return hf_fail(err, HF_ERR_CORRUPT, "the archived event at %" PRIu64 " has no length", scan->at);
        }
        const size_t part = wanted - scan->event.length < length ? wanted - scan->event.length : length;
        if (!hf_buf_add(&scan->event, data, part, err))
            return false;
        data += part;
        length -= part;
        if (scan->event.length >= HF_BINLOG_HEADER && scan->event.length == hf_binlog_event_length(scan->event.data) &&
            !take_event(scan, err))
            return false;
    }
    return true;
}

static bool
take_event(struct scan *scan, struct hf_error *err)
{
    struct hf_binlog_step step;
    bool go_on = true;
    if (!hf_binlog_walk_event(&scan->walk, scan->event.data, scan->event.length, scan->at, &step, err))
        return hf_fail_within(err, "the archived binary log");
    const struct hf_binlog_record record = {.position = scan->at,
                                            .data = scan->event.data,
                                            .length = scan->event.length,
                                            .step = &step,
                                            .walk = &scan->walk,
                                            .before = scan->place};
    if (!scan->visit(scan->context, &record, &go_on, err))
        return false;
    if (!go_on) {
        scan->stopped = true;
        return hf_fail(err, HF_ERR_CANCELLED, "the reader of the binary log has seen enough");
    }
    scan->at += scan->event.length;
    if (!hf_binlog_place_follow(scan->place, &scan->walk, &step, scan->at, err))
        return false;
    hf_buf_clear(&scan->event);
    return true;
}

static bool
visit_nothing(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    (void)context, (void)record, (void)ret_go_on, (void)err;
    return true;
}

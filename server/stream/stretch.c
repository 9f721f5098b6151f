#include "server/stream/stretch.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "base/lsn.h"

#define INDEX_MOST  (8 * HF_MIB)
#define PIECES_MOST (HF_STRETCH_MOST / HF_STRETCH_SLAB_BYTES + 2)

enum piece_kind { PIECE_LOG = 1, PIECE_HISTORY = 2, PIECE_INDEX = 3 };

struct hf_stretch_writer {
    struct hf_stretch_options options;
    struct hf_pack_cipher *cipher;
    struct hf_pack_writer *pack;
    struct hf_stretch stretch;
    bool has_log; // the stretch's range is that of log bytes, and not only where a timeline begins
    uint32_t slab_count;
    struct hf_buf piece; // log bytes of the slab that is being filled, behind the prefix
    uint64_t piece_at;
    struct hf_buf sealed;
    json_t *logs, *histories; // of the index
};

static bool add_history(struct hf_stretch_writer *writer, const struct hf_frame *frame, const uint8_t *data,
                        size_t length, struct hf_error *err);
static bool add_mark(struct hf_stretch_writer *writer, uint64_t position, const uint8_t *data, size_t length,
                     struct hf_error *err);
static bool add_log(struct hf_stretch_writer *writer, const uint8_t *data, size_t length, struct hf_error *err);
static bool end_piece(struct hf_stretch_writer *writer, struct hf_error *err);
static bool put_prefix(struct hf_buf *buf, enum piece_kind kind, uint64_t number, struct hf_error *err);
static bool seal(struct hf_stretch_writer *writer, const struct hf_buf *plain, struct hf_error *err);
static bool put_index(struct hf_stretch_writer *writer, struct hf_error *err);
static bool append_row(json_t *array, json_t *row, struct hf_error *err);
static bool read_index(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack,
                       json_t **ret, struct hf_error *err);
static bool read_piece(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack,
                       int64_t slab, enum piece_kind kind, uint64_t number, struct hf_buf *plain, struct hf_error *err);

bool
hf_stretch_writer_new(const struct hf_stretch_options *options, struct hf_stretch_writer **ret, struct hf_error *err)
{
    _cleanup_(hf_stretch_writer_abortp) struct hf_stretch_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch");
    const struct hf_vault_keys *keys = hf_vault_keys(options->vault);
    const struct hf_pack_identity identity = {.kind = HF_PACK_STREAM,
                                              .suite = hf_suite_best(),
                                              .repository = keys->repository,
                                              .vault = keys->vault,
                                              .pack = options->pack,
                                              .session = options->session,
                                              .key_epoch = keys->epochs[keys->epoch_count - 1].epoch,
                                              .writer_epoch = options->epoch,
                                              .created_at = hf_time_now_ms()};
    writer->options = *options;
    writer->piece = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    writer->sealed = HF_BUF_INIT(4 * HF_SLAB_RAW_MOST);
    writer->logs = json_array();
    writer->histories = json_array();
    memcpy(writer->stretch.previous, options->previous, HF_SHA256_BYTES);
    if (writer->logs == NULL || writer->histories == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch");
    if (!hf_pack_cipher_new(&identity, keys, &writer->cipher, err) ||
        !hf_pack_writer_new(hf_vault_backend(options->vault), writer->cipher, &writer->pack, err))
        return false;
    *ret = HF_TAKE(writer);
    return true;
}

bool
hf_stretch_writer_takes(const struct hf_stretch_writer *writer, const struct hf_frame *frame, size_t length)
{
    const struct hf_stretch *stretch = &writer->stretch;
    if (frame->kind == HF_FRAME_HISTORY)
        return stretch->history_count < HF_LENGTH(stretch->histories);
    if (frame->kind == HF_FRAME_MARK)
        return true;
    return !writer->has_log || (frame->timeline == stretch->timeline && frame->position == stretch->end &&
                                stretch->end - stretch->start + length <= HF_STRETCH_MOST);
}

bool
hf_stretch_writer_add(struct hf_stretch_writer *writer, const struct hf_frame *frame, const uint8_t *data,
                      size_t length, struct hf_error *err)
{
    struct hf_stretch *stretch = &writer->stretch;
    if (frame->kind == HF_FRAME_HISTORY)
        return add_history(writer, frame, data, length, err);
    if (frame->kind == HF_FRAME_MARK)
        return add_mark(writer, frame->position, data, length, err);

    if (!writer->has_log) {
        stretch->timeline = frame->timeline;
        stretch->start = stretch->end = frame->position;
        stretch->whole = frame->whole; // before its start, when it begins inside a record
        writer->has_log = true;
    }
    stretch->whole = frame->whole > stretch->whole ? frame->whole : stretch->whole;
    stretch->commits += frame->commits;
    if (frame->first_time != 0 && (stretch->first_time == 0 || frame->first_time < stretch->first_time))
        stretch->first_time = frame->first_time;
    if (frame->last_time != 0 && (stretch->last_time == 0 || frame->last_time > stretch->last_time))
        stretch->last_time = frame->last_time;
    return add_log(writer, data, length, err);
}

bool
hf_stretch_writer_finish(struct hf_stretch_writer **writer, struct hf_stretch *ret, struct hf_error *err)
{
    _cleanup_(hf_stretch_writer_abortp) struct hf_stretch_writer *taken = HF_TAKE(*writer);
    struct hf_stretch *stretch = &taken->stretch;
    if (!end_piece(taken, err) || !put_index(taken, err) ||
        !hf_pack_writer_finish(&taken->pack, taken->options.worker, &stretch->stored_bytes, stretch->sha256, err))
        return false;
    *ret = *stretch;
    stretch->mark_count = 0;
    memset(stretch->marks, 0, sizeof stretch->marks);
    return true;
}

void
hf_stretch_done(struct hf_stretch *stretch)
{
    for (size_t i = 0; i < HF_LENGTH(stretch->marks); i++)
        free(stretch->marks[i].text);
    stretch->mark_count = 0;
    memset(stretch->marks, 0, sizeof stretch->marks);
}

void
hf_stretch_writer_abortp(struct hf_stretch_writer **writer)
{
    struct hf_stretch_writer *gone = *writer;
    if (gone == NULL)
        return;
    hf_pack_writer_abortp(&gone->pack);
    hf_pack_cipher_freep(&gone->cipher);
    hf_buf_done(&gone->piece);
    hf_buf_done(&gone->sealed);
    json_decref(gone->logs);
    json_decref(gone->histories);
    hf_stretch_done(&gone->stretch);
    free(gone);
    *writer = NULL;
}

bool
hf_stretch_describe_marks(const struct hf_stretch *stretch, json_t *object)
{
    char position[HF_LSN_TEXT_BYTES];
    json_t *rows = stretch->mark_count == 0 ? NULL : json_array();
    for (size_t i = 0; i < stretch->mark_count && rows != NULL; i++)
        if (json_array_append_new(rows, json_pack("[s, s]", hf_lsn_format(stretch->marks[i].position, position),
                                                  stretch->marks[i].text)) != 0) {
            json_decref(rows);
            rows = NULL;
        }
    return stretch->mark_count == 0 || json_object_set_new(object, "marks", rows) == 0;
}

bool
hf_stretch_read(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack, uint64_t from,
                uint64_t to, hf_log_bytes_visitor *visit, void *context, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *index = NULL;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    char name[HF_ID_TEXT_BYTES];
    int64_t timeline;
    json_t *logs;
    hf_id_format(pack, name);
    if (!read_index(packs, worker, pack, &index, err) ||
        !hf_json_integer(index, "timeline", "a stretch's index", 1, UINT32_MAX, &timeline, err) ||
        !hf_json_array(index, "logs", "a stretch's index", &logs, err))
        return false;
    for (size_t i = 0; i < json_array_size(logs) && from < to; i++) {
        const json_t *row = json_array_get(logs, i);
        const json_t *slab = json_array_get(row, 0), *length = json_array_get(row, 2);
        const char *text = json_string_value(json_array_get(row, 1));
        uint64_t at;
        if (!json_is_integer(slab) || !json_is_integer(length) || json_integer_value(length) < 0 || text == NULL ||
            !hf_lsn_parse(text, &at, NULL))
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\": the index has a row that is not [slab, position, length]",
                           name);
        const uint64_t end = at + (uint64_t)json_integer_value(length);
        if (end <= from)
            continue;
        if (at > from)
            break;
        if (!read_piece(packs, worker, pack, json_integer_value(slab), PIECE_LOG, at, &plain, err))
            return false;
        if (plain.length - HF_STRETCH_PREFIX != end - at)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\": a slab has not the length that the index says", name);
        const uint64_t until = to < end ? to : end;
        if (!visit(context, (uint32_t)timeline, from, plain.data + HF_STRETCH_PREFIX + (from - at),
                   (size_t)(until - from), err))
            return false;
        from = until;
    }
    char missing[HF_LSN_TEXT_BYTES];
    return from >= to || hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" does not hold the log at %s, as the vault log says",
                                 name, hf_lsn_format(from, missing));
}

bool
hf_stretch_history(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack,
                   uint32_t timeline, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *index = NULL;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    char name[HF_ID_TEXT_BYTES];
    json_t *rows;
    if (!read_index(packs, worker, pack, &index, err) ||
        !hf_json_array(index, "histories", "a stretch's index", &rows, err))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_integer_value(json_array_get(row, 1)) == timeline)
            return read_piece(packs, worker, pack, json_integer_value(json_array_get(row, 0)), PIECE_HISTORY, timeline,
                              &plain, err) &&
                   hf_buf_add(out, plain.data + HF_STRETCH_PREFIX, plain.length - HF_STRETCH_PREFIX, err);
    }
    return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" does not hold the history of timeline %u, as the vault log says",
                   hf_id_format(pack, name), timeline);
}

static bool
add_history(struct hf_stretch_writer *writer, const struct hf_frame *frame, const uint8_t *data, size_t length,
            struct hf_error *err)
{
    struct hf_stretch *stretch = &writer->stretch;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    for (size_t i = 0; i < stretch->history_count; i++)
        if (stretch->histories[i] == frame->timeline)
            return true;
    if (!writer->has_log) {
        stretch->timeline = frame->timeline;
        stretch->start = stretch->end = stretch->whole = frame->position;
    }
    stretch->histories[stretch->history_count++] = frame->timeline;
    return append_row(writer->histories,
                      json_pack("[I, I]", (json_int_t)writer->slab_count, (json_int_t)frame->timeline), err) &&
           put_prefix(&plain, PIECE_HISTORY, frame->timeline, err) && hf_buf_add(&plain, data, length, err) &&
           seal(writer, &plain, err);
}

static bool
add_log(struct hf_stretch_writer *writer, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct hf_stretch *stretch = &writer->stretch;
    while (length > 0) {
        const uint64_t room = HF_STRETCH_SLAB_BYTES - stretch->end % HF_STRETCH_SLAB_BYTES;
        const size_t part = length < room ? length : (size_t)room;
        if (writer->piece.length == 0) {
            writer->piece_at = stretch->end;
            if (!put_prefix(&writer->piece, PIECE_LOG, stretch->end, err))
                return false;
        }
        if (!hf_buf_add(&writer->piece, data, part, err))
            return false;
        stretch->end += part;
        data += part;
        length -= part;
        if (part == room && !end_piece(writer, err))
            return false;
    }
    return true;
}

static bool
end_piece(struct hf_stretch_writer *writer, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES];
    if (writer->piece.length == 0)
        return true;
    if (!append_row(writer->logs,
                    json_pack("[I, s, I]", (json_int_t)writer->slab_count, hf_lsn_format(writer->piece_at, text),
                              (json_int_t)(writer->piece.length - HF_STRETCH_PREFIX)),
                    err) ||
        !seal(writer, &writer->piece, err))
        return false;
    hf_buf_clear(&writer->piece);
    return true;
}

static bool
put_prefix(struct hf_buf *buf, enum piece_kind kind, uint64_t number, struct hf_error *err)
{
    return hf_buf_put_u8(buf, (uint8_t)kind, err) && hf_buf_add_zeros(buf, 7, err) && hf_buf_put_u64(buf, number, err);
}

static bool
seal(struct hf_stretch_writer *writer, const struct hf_buf *plain, struct hf_error *err)
{
    struct hf_slab_info info = {.number = writer->slab_count, .kind = HF_SLAB_STREAM, .items = 1};
    if (!hf_slab_seal(writer->options.worker, writer->cipher, &info, plain->data, plain->length, &writer->sealed,
                      err) ||
        !hf_slab_prove(writer->options.worker, writer->cipher, &info, writer->sealed.data, writer->sealed.length,
                       plain->data, plain->length, err))
        return false;
    writer->slab_count++;
    return hf_pack_writer_slab(writer->pack, &info, writer->sealed.data, writer->sealed.length, NULL, 0, NULL, err);
}

static bool
add_mark(struct hf_stretch_writer *writer, uint64_t position, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct hf_stretch *stretch = &writer->stretch;
    // The first one is replaced as long as none but it lies at the start: it is to be the last one before the log.
    const size_t at = stretch->mark_count == 0 || !writer->has_log ? 0 : 1;
    char *text = strndup((const char *)data, length);
    if (text == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch");
    free(stretch->marks[at].text);
    stretch->marks[at] = (struct hf_vault_mark){position, text};
    stretch->mark_count = at + 1;
    return true;
}

static bool
put_index(struct hf_stretch_writer *writer, struct hf_error *err)
{
    const struct hf_stretch *stretch = &writer->stretch;
    char start[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES], whole[HF_LSN_TEXT_BYTES];
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    _cleanup_(hf_json_freep) json_t *index = json_pack(
        "{s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:O, s:O}", "timeline", (json_int_t)stretch->timeline, "start",
        hf_lsn_format(stretch->start, start), "end", hf_lsn_format(stretch->end, end), "whole",
        hf_lsn_format(stretch->whole, whole), "first_time", (json_int_t)stretch->first_time, "last_time",
        (json_int_t)stretch->last_time, "commits", (json_int_t)stretch->commits, "previous",
        hf_json_hex(stretch->previous, HF_SHA256_BYTES), "logs", writer->logs, "histories", writer->histories);
    if (index == NULL || !hf_stretch_describe_marks(stretch, index))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch's index");
    return put_prefix(&plain, PIECE_INDEX, 0, err) && hf_json_canonical(index, &plain, err) &&
           seal(writer, &plain, err);
}

/* Takes the row. */
static bool
append_row(json_t *array, json_t *row, struct hf_error *err)
{
    return json_array_append_new(array, row) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch's index");
}

static bool
read_index(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack, json_t **ret,
           struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_slab_info *slabs = NULL;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_SLAB_RAW_MOST);
    char name[HF_ID_TEXT_BYTES];
    size_t count;
    if (!hf_pack_reader_slabs(packs, pack, &slabs, &count, err))
        return false;
    if (count == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" has no index", hf_id_format(pack, name));
    return read_piece(packs, worker, pack, (int64_t)count - 1, PIECE_INDEX, 0, &plain, err) &&
           (hf_json_parse(plain.data + HF_STRETCH_PREFIX, plain.length - HF_STRETCH_PREFIX, "a stretch's index", ret,
                          err) ||
            hf_fail_within(err, "pack \"%s\"", hf_id_format(pack, name)));
}

static bool
read_piece(struct hf_pack_reader *packs, struct hf_slab_worker *worker, const struct hf_id *pack, int64_t slab,
           enum piece_kind kind, uint64_t number, struct hf_buf *plain, struct hf_error *err)
{
    struct hf_slab_info info;
    char name[HF_ID_TEXT_BYTES];
    if (slab < 0 || slab >= HF_PACK_SLABS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" cannot have a slab %lld", hf_id_format(pack, name),
                       (long long)slab);
    if (!hf_pack_reader_slab(packs, worker, pack, (uint32_t)slab, &info, plain, err))
        return false;
    return (info.kind == HF_SLAB_STREAM && plain->length >= HF_STRETCH_PREFIX && plain->data[0] == kind &&
            hf_get_u64(plain->data + 8) == number) ||
           hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %lld: it does not hold what the index says",
                   hf_id_format(pack, name), (long long)slab);
}

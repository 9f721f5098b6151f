#include "server/source/mariadb/mbstream.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/buf.h"

#define MAGIC        "XBSTCK01"
#define MAGIC_BYTES  8
#define FIXED_BYTES  14 // before the path
#define HEAD_MOST    (FIXED_BYTES + HF_MBSTREAM_PATH_MOST + 4 + HF_MBSTREAM_PATH_MOST)
#define PAYLOAD_HEAD 20 // length, offset, checksum
#define SPARSE_HEAD  24 // and the number of pairs before them
#define PAIR_BYTES   8
#define OURS         "holdfast_config"
#define SLOTS_LEAST  1024

enum { FLAG_IGNORABLE = 1, FLAG_ANEW = 2 };

/* What the next bytes are. */
enum step { STEP_FIXED, STEP_PATH, STEP_TAIL, STEP_NEW_PATH, STEP_PAIRS, STEP_PAYLOAD };

enum state { NAME_OPEN, NAME_ENDED, NAME_REMOVED };

/* A name that the stream has used.  A removed or renamed one may come again. */
struct name {
    char *path;
    enum state state;
    void *file;      // of the events, while it is open
    uint64_t offset; // bytes of it that have come
    bool owed;       // what did not come was renamed to it: it has to come itself
};

struct hf_mbstream {
    const struct hf_mbstream_events *events; // borrowed from the caller
    bool sparse;
    bool failed;
    struct hf_error failure; // the first one: it sticks

    uint64_t position;       // in the stream, of the next byte
    uint64_t chunk_position; // of the chunk's first byte
    enum step step;
    uint8_t head[HEAD_MOST];
    size_t head_length, head_wanted;
    uint8_t flags, type;
    char path[HF_MBSTREAM_PATH_MOST + 1];
    struct name *name; // of the chunk

    uint64_t left;               // payload that is still to come
    uint32_t checksum, promised; // of the payload so far, and what it must be
    struct hf_buf pairs;         // of a sparse chunk
    size_t pair;                 // the one being filled
    uint64_t pair_left;

    struct name *names;
    size_t name_count, name_capacity;
    uint32_t *slots; // index + 1 into names; 0 is free
    size_t slot_count;
    uint8_t key[crypto_shorthash_KEYBYTES]; // a server cannot choose names that collide
    size_t open;
    uint64_t files;
};

static bool go_on(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err);
static bool gather(struct hf_mbstream *stream, const uint8_t **data, size_t *length);
static void want(struct hf_mbstream *stream, enum step step, size_t more);
static bool begin_chunk(struct hf_mbstream *stream, struct hf_error *err);
static bool take_path(struct hf_mbstream *stream, struct hf_error *err);
static bool take_tail(struct hf_mbstream *stream, struct hf_error *err);
static bool take_new_path(struct hf_mbstream *stream, struct hf_error *err);
static bool check_size(struct hf_mbstream *stream, uint64_t more, struct hf_error *err);
static bool begin_payload(struct hf_mbstream *stream, const uint8_t *head, struct hf_error *err);
static bool take_pairs(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err);
static bool begin_pair(struct hf_mbstream *stream, struct hf_error *err);
static bool take_payload(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err);
static bool end_payload(struct hf_mbstream *stream, struct hf_error *err);
static bool open_file(struct hf_mbstream *stream, struct hf_error *err);
static bool end_file(struct hf_mbstream *stream, struct hf_error *err);
static bool rename_file(struct hf_mbstream *stream, const char *to, struct hf_error *err);
static bool remove_file(struct hf_mbstream *stream, struct hf_error *err);
static struct name *find(const struct hf_mbstream *stream, const char *path);
static bool add(struct hf_mbstream *stream, const char *path, struct name **ret, struct hf_error *err);
static bool grow(struct hf_mbstream *stream);
static size_t slot_of(const struct hf_mbstream *stream, const char *path);
static bool refuse(struct hf_mbstream *stream, struct hf_error *err, const char *format, ...) HF_PRINTF(3, 4);

bool
hf_mbstream_new(const struct hf_mbstream_events *events, bool sparse, struct hf_mbstream **ret, struct hf_error *err)
{
    _cleanup_(hf_mbstream_freep) struct hf_mbstream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream of files");
    stream->events = events;
    stream->sparse = sparse;
    stream->pairs = HF_BUF_INIT(HF_MBSTREAM_PAIRS_MOST * PAIR_BYTES);
    stream->slot_count = SLOTS_LEAST;
    stream->slots = calloc(stream->slot_count, sizeof *stream->slots);
    if (stream->slots == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream of files");
    crypto_shorthash_keygen(stream->key);
    want(stream, STEP_FIXED, FIXED_BYTES);
    *ret = HF_TAKE(stream);
    return true;
}

void
hf_mbstream_freep(struct hf_mbstream **stream)
{
    if (*stream == NULL)
        return;
    for (size_t i = 0; i < (*stream)->name_count; i++)
        free((*stream)->names[i].path);
    free((*stream)->names);
    free((*stream)->slots);
    hf_buf_done(&(*stream)->pairs);
    free(*stream);
    *stream = NULL;
}

bool
hf_mbstream_feed(struct hf_mbstream *stream, const uint8_t *data, size_t length, struct hf_error *err)
{
    if (stream->failed) {
        *err = stream->failure;
        return false;
    }
    while (length > 0) {
        if (!go_on(stream, &data, &length, err)) {
            stream->failed = true;
            stream->failure = *err;
            return false;
        }
    }
    return true;
}

bool
hf_mbstream_end(struct hf_mbstream *stream, struct hf_error *err)
{
    if (stream->failed) {
        *err = stream->failure;
        return false;
    }
    if (stream->step != STEP_FIXED || stream->head_length > 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the stream of files ends within a chunk, at byte %" PRIu64,
                       stream->position);
    for (size_t i = 0; stream->open > 0 && i < stream->name_count; i++)
        if (stream->names[i].state == NAME_OPEN)
            return hf_fail(err, HF_ERR_CORRUPT, "the stream of files ends within file \"%s\"", stream->names[i].path);
    for (size_t i = 0; i < stream->name_count; i++) {
        if (!stream->names[i].owed)
            continue;
        hf_fail(err, HF_ERR_UNAVAILABLE,
                "file \"%s\" is not in the backup: its table was renamed before the backup tool had copied it",
                stream->names[i].path);
        return hf_fail_hint(err, "Take the backup again, and rename no tables meanwhile.");
    }
    return true;
}

uint64_t
hf_mbstream_files(const struct hf_mbstream *stream)
{
    return stream->files;
}

bool
hf_mbstream_has(const struct hf_mbstream *stream, const char *path)
{
    const struct name *name = find(stream, path);
    return name != NULL && name->state == NAME_ENDED;
}

bool
hf_mbstream_clean(const char *name, size_t length, char path[static HF_MBSTREAM_PATH_MOST + 1], struct hf_error *err)
{
    char shown[128];
    const size_t show = length < sizeof shown ? length : sizeof shown - 1;
    for (size_t i = 0; i < show; i++)
        shown[i] = (uint8_t)name[i] < 0x20 || (uint8_t)name[i] >= 0x7F ? '?' : name[i];
    shown[show] = '\0';

    const char *at = name, *end = name + length;
    while (end - at >= 2 && at[0] == '.' && at[1] == '/')
        at += 2;
    bool good = at < end && (size_t)(end - at) <= HF_MBSTREAM_PATH_MOST && end[-1] != '/';
    size_t parts = 0, written = 0;
    while (good && at < end) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const size_t part = (size_t)((slash == NULL ? end : slash) - at);
        good = part > 0 && ++parts <= HF_MBSTREAM_DEPTH_MOST && !(part == 1 && at[0] == '.') &&
               !(part == 2 && at[0] == '.' && at[1] == '.');
        for (size_t i = 0; good && i < part; i++)
            good = (uint8_t)at[i] >= 0x20 && (uint8_t)at[i] != 0x7F && at[i] != '\\';
        if (!good)
            break;
        if (written > 0)
            path[written++] = '/';
        memcpy(path + written, at, part);
        written += part;
        at += part + (slash == NULL ? 0 : 1);
    }
    if (good) {
        path[written] = '\0';
        good = strcmp(path, OURS) != 0 && strncmp(path, OURS "/", strlen(OURS "/")) != 0;
    }
    return good || hf_fail(err, HF_ERR_CORRUPT, "the name \"%s\" cannot be taken as a path", shown);
}

static bool
go_on(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err)
{
    if (stream->step == STEP_PAIRS)
        return take_pairs(stream, data, length, err);
    if (stream->step == STEP_PAYLOAD)
        return take_payload(stream, data, length, err);
    if (!gather(stream, data, length))
        return true;
    switch (stream->step) {
    case STEP_FIXED:
        return begin_chunk(stream, err);
    case STEP_PATH:
        return take_path(stream, err);
    case STEP_TAIL:
        return take_tail(stream, err);
    case STEP_NEW_PATH:
        return take_new_path(stream, err);
    case STEP_PAIRS:
    case STEP_PAYLOAD:
        break;
    }
    return refuse(stream, err, "it cannot be read");
}

/* True once all of the head that is wanted now is there. */
static bool
gather(struct hf_mbstream *stream, const uint8_t **data, size_t *length)
{
    const size_t missing = stream->head_wanted - stream->head_length;
    const size_t taken = *length < missing ? *length : missing;
    memcpy(stream->head + stream->head_length, *data, taken);
    stream->head_length += taken;
    stream->position += taken;
    *data += taken;
    *length -= taken;
    return stream->head_length == stream->head_wanted;
}

/* A step's bytes are gathered from the front of the head; it is empty again when they were taken. */
static void
want(struct hf_mbstream *stream, enum step step, size_t more)
{
    stream->step = step;
    stream->head_length = 0;
    stream->head_wanted = more;
}

static bool
begin_chunk(struct hf_mbstream *stream, struct hf_error *err)
{
    stream->chunk_position = stream->position - FIXED_BYTES;
    if (memcmp(stream->head, MAGIC, MAGIC_BYTES) != 0)
        return refuse(stream, err, "a chunk does not begin with \"" MAGIC "\"");
    stream->flags = stream->head[8];
    stream->type = stream->head[9];
    const uint32_t length = hf_get_u32(stream->head + 10);
    if ((stream->flags & ~(FLAG_IGNORABLE | FLAG_ANEW)) != 0)
        return refuse(stream, err, "a chunk has the unknown flags 0x%02x", stream->flags);
    if (stream->type == 0 || strchr("PERDS", stream->type) == NULL)
        return refuse(stream, err, "a chunk has the unknown type 0x%02x", stream->type);
    if (length == 0 || length > HF_MBSTREAM_PATH_MOST)
        return refuse(stream, err, "a path has %u bytes, more than %d or none", length, HF_MBSTREAM_PATH_MOST);
    want(stream, STEP_PATH, length);
    return true;
}

static bool
take_path(struct hf_mbstream *stream, struct hf_error *err)
{
    if (!hf_mbstream_clean((const char *)stream->head, stream->head_length, stream->path, err))
        return hf_fail_within(err, "the stream of files, at byte %" PRIu64, stream->chunk_position);
    switch (stream->type) {
    case 'E':
        return open_file(stream, err) && end_file(stream, err);
    case 'D':
        return remove_file(stream, err);
    case 'R':
        want(stream, STEP_TAIL, 4);
        return true;
    case 'P':
        want(stream, STEP_TAIL, PAYLOAD_HEAD);
        break;
    default:
        want(stream, STEP_TAIL, stream->sparse ? SPARSE_HEAD : 8);
        break;
    }
    return open_file(stream, err);
}

static bool
take_tail(struct hf_mbstream *stream, struct hf_error *err)
{
    const uint8_t *head = stream->head;
    if (stream->type == 'R') {
        const uint32_t length = hf_get_u32(head);
        if (length == 0 || length > HF_MBSTREAM_PATH_MOST)
            return refuse(stream, err, "a path has %u bytes, more than %d or none", length, HF_MBSTREAM_PATH_MOST);
        want(stream, STEP_NEW_PATH, length);
        return true;
    }
    if (stream->type == 'P')
        return begin_payload(stream, head, err);
    if (!stream->sparse) {
        if (hf_get_u64(head) != stream->name->offset)
            return refuse(stream, err, "file \"%s\" goes on at byte %" PRIu64 ", it has %" PRIu64, stream->path,
                          hf_get_u64(head), stream->name->offset);
        want(stream, STEP_FIXED, FIXED_BYTES);
        return true;
    }
    const uint32_t pairs = hf_get_u32(head);
    if (pairs == 0 || pairs > HF_MBSTREAM_PAIRS_MOST)
        return refuse(stream, err, "a chunk of file \"%s\" has %u holes, more than %d or none", stream->path, pairs,
                      HF_MBSTREAM_PAIRS_MOST);
    hf_buf_clear(&stream->pairs);
    if (!begin_payload(stream, head + 4, err))
        return false;
    stream->step = STEP_PAIRS;
    stream->pair_left = (uint64_t)pairs * PAIR_BYTES; // bytes of the map that are to come
    return true;
}

static bool
take_new_path(struct hf_mbstream *stream, struct hf_error *err)
{
    char to[HF_MBSTREAM_PATH_MOST + 1];
    if (!hf_mbstream_clean((const char *)stream->head, stream->head_length, to, err))
        return hf_fail_within(err, "the stream of files, at byte %" PRIu64, stream->chunk_position);
    return rename_file(stream, to, err);
}

static bool
check_size(struct hf_mbstream *stream, uint64_t more, struct hf_error *err)
{
    return stream->name->offset + more <= HF_MBSTREAM_FILE_MOST ||
           refuse(stream, err, "file \"%s\" has more than %" PRIu64 " bytes", stream->path, HF_MBSTREAM_FILE_MOST);
}

/* `head` is length, offset, checksum. */
static bool
begin_payload(struct hf_mbstream *stream, const uint8_t *head, struct hf_error *err)
{
    stream->left = hf_get_u64(head);
    if (stream->left > HF_MBSTREAM_CHUNK_MOST)
        return refuse(stream, err, "a chunk of file \"%s\" has %" PRIu64 " bytes, more than %zu", stream->path,
                      stream->left, HF_MBSTREAM_CHUNK_MOST);
    if (!check_size(stream, stream->left, err))
        return false;
    if (hf_get_u64(head + 8) != stream->name->offset)
        return refuse(stream, err, "a chunk of file \"%s\" begins at byte %" PRIu64 ", it has %" PRIu64, stream->path,
                      hf_get_u64(head + 8), stream->name->offset);
    stream->promised = hf_get_u32(head + 16);
    stream->checksum = 0;
    stream->pair_left = stream->left;
    stream->step = STEP_PAYLOAD;
    return stream->left > 0 || stream->type != 'P' || end_payload(stream, err);
}

/* The map first, whole: it is part of what the checksum covers. */
static bool
take_pairs(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err)
{
    const size_t taken = *length < stream->pair_left ? *length : (size_t)stream->pair_left;
    if (!hf_buf_add(&stream->pairs, *data, taken, err))
        return false;
    stream->position += taken;
    stream->pair_left -= taken;
    *data += taken;
    *length -= taken;
    if (stream->pair_left > 0)
        return true;

    uint64_t bytes = 0;
    for (size_t at = 0; at < stream->pairs.length; at += PAIR_BYTES)
        bytes += hf_get_u32(stream->pairs.data + at + 4);
    if (bytes != stream->left)
        return refuse(stream, err, "a chunk of file \"%s\" has %" PRIu64 " bytes, its map says %" PRIu64, stream->path,
                      stream->left, bytes);
    stream->checksum = (uint32_t)crc32_z(0, stream->pairs.data, stream->pairs.length);
    stream->pair = 0;
    stream->step = STEP_PAYLOAD;
    return begin_pair(stream, err);
}

/* Leaves holes until bytes are wanted again, or the chunk is at its end. */
static bool
begin_pair(struct hf_mbstream *stream, struct hf_error *err)
{
    for (stream->pair_left = 0; stream->pair_left == 0 && stream->pair < stream->pairs.length;
         stream->pair += PAIR_BYTES) {
        const uint32_t hole = hf_get_u32(stream->pairs.data + stream->pair);
        if (!check_size(stream, hole, err))
            return false;
        if (hole > 0 && !stream->events->hole(stream->events->context, stream->name->file, hole, err))
            return false;
        stream->name->offset += hole;
        stream->pair_left = hf_get_u32(stream->pairs.data + stream->pair + 4);
    }
    return stream->left > 0 || end_payload(stream, err);
}

static bool
take_payload(struct hf_mbstream *stream, const uint8_t **data, size_t *length, struct hf_error *err)
{
    const size_t taken = *length < stream->pair_left ? *length : (size_t)stream->pair_left;
    struct name *name = stream->name;
    stream->checksum = (uint32_t)crc32_z(stream->checksum, *data, taken);
    if (!stream->events->data(stream->events->context, name->file, *data, taken, err))
        return false;
    stream->position += taken;
    name->offset += taken;
    stream->left -= taken;
    stream->pair_left -= taken;
    *data += taken;
    *length -= taken;
    if (stream->left == 0 && stream->type == 'P')
        return end_payload(stream, err);
    return stream->pair_left > 0 || begin_pair(stream, err);
}

static bool
end_payload(struct hf_mbstream *stream, struct hf_error *err)
{
    if (stream->checksum != stream->promised)
        return refuse(stream, err, "a chunk of file \"%s\" has the checksum %08x, it was %08x when it was sent",
                      stream->path, stream->checksum, stream->promised);
    want(stream, STEP_FIXED, FIXED_BYTES);
    return true;
}

/* The chunk's file, which is begun when it is not open. */
static bool
open_file(struct hf_mbstream *stream, struct hf_error *err)
{
    stream->name = find(stream, stream->path);
    if (stream->name != NULL && stream->name->state == NAME_OPEN)
        return true;
    const bool again = stream->name != NULL, takes_place = again && stream->name->state == NAME_ENDED;
    if (takes_place && (stream->flags & FLAG_ANEW) == 0)
        return refuse(stream, err, "file \"%s\" comes a second time", stream->path);
    if (stream->open == HF_MBSTREAM_OPEN_MOST)
        return refuse(stream, err, "more than %d files are open at a time", HF_MBSTREAM_OPEN_MOST);
    if (stream->name == NULL && !add(stream, stream->path, &stream->name, err))
        return false;
    void *file;
    if (!stream->events->begin(stream->events->context, stream->path, again, &file, err))
        return false;
    stream->files -= takes_place ? 1 : 0;
    stream->open++;
    *stream->name = (struct name){.path = stream->name->path, .state = NAME_OPEN, .file = file};
    return true;
}

static bool
end_file(struct hf_mbstream *stream, struct hf_error *err)
{
    if (!stream->events->end(stream->events->context, stream->name->file, err))
        return false;
    stream->name->state = NAME_ENDED;
    stream->name->file = NULL;
    stream->open--;
    stream->files++;
    want(stream, STEP_FIXED, FIXED_BYTES);
    return true;
}

static bool
rename_file(struct hf_mbstream *stream, const char *to, struct hf_error *err)
{
    struct name *from = find(stream, stream->path), *target = find(stream, to);
    if (from != NULL && from->state == NAME_OPEN)
        return refuse(stream, err, "file \"%s\" is renamed before it has ended", stream->path);
    if (from == NULL || from->state != NAME_ENDED) {
        if (target == NULL && !add(stream, to, &target, err))
            return false;
        if ((from = find(stream, stream->path)) != NULL)
            from->owed = false;
        target->owed = target->state == NAME_REMOVED;
        want(stream, STEP_FIXED, FIXED_BYTES);
        return true;
    }
    if (target != NULL && target->state != NAME_REMOVED)
        return refuse(stream, err, "file \"%s\" is renamed to \"%s\", which is there already", stream->path, to);
    if (target == NULL && !add(stream, to, &target, err))
        return false;
    from = find(stream, stream->path); // the list may have moved
    if (!stream->events->renamed(stream->events->context, stream->path, to, err))
        return false;
    from->state = NAME_REMOVED;
    target->state = NAME_ENDED;
    target->owed = false;
    want(stream, STEP_FIXED, FIXED_BYTES);
    return true;
}

static bool
remove_file(struct hf_mbstream *stream, struct hf_error *err)
{
    struct name *name = find(stream, stream->path);
    if (name != NULL && name->state == NAME_OPEN)
        return refuse(stream, err, "file \"%s\" is removed before it has ended", stream->path);
    if (name == NULL || name->state != NAME_ENDED) {
        if (name != NULL)
            name->owed = false;
        want(stream, STEP_FIXED, FIXED_BYTES);
        return true;
    }
    if (!stream->events->removed(stream->events->context, stream->path, err))
        return false;
    name->state = NAME_REMOVED;
    stream->files--;
    want(stream, STEP_FIXED, FIXED_BYTES);
    return true;
}

static struct name *
find(const struct hf_mbstream *stream, const char *path)
{
    for (size_t at = slot_of(stream, path); stream->slots[at] != 0; at = (at + 1) & (stream->slot_count - 1)) {
        struct name *name = &stream->names[stream->slots[at] - 1];
        if (strcmp(name->path, path) == 0)
            return name;
    }
    return NULL;
}

/* A name that was not there, as one that is removed. */
static bool
add(struct hf_mbstream *stream, const char *path, struct name **ret, struct hf_error *err)
{
    if (stream->name_count == HF_MBSTREAM_FILES_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the stream has more than %d files", HF_MBSTREAM_FILES_MOST);
    char *copy = grow(stream) ? strdup(path) : NULL;
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the name \"%s\"", path);
    stream->names[stream->name_count++] = (struct name){.path = copy, .state = NAME_REMOVED};
    size_t at = slot_of(stream, path);
    while (stream->slots[at] != 0)
        at = (at + 1) & (stream->slot_count - 1);
    stream->slots[at] = (uint32_t)stream->name_count;
    *ret = &stream->names[stream->name_count - 1];
    return true;
}

/* Room for one more name, and slots at most half full. */
static bool
grow(struct hf_mbstream *stream)
{
    if (stream->name_count == stream->name_capacity) {
        const size_t capacity = stream->name_capacity == 0 ? SLOTS_LEAST / 2 : 2 * stream->name_capacity;
        struct name *names = reallocarray(stream->names, capacity, sizeof *names);
        if (names == NULL)
            return false;
        stream->names = names;
        stream->name_capacity = capacity;
    }
    if (2 * (stream->name_count + 1) <= stream->slot_count)
        return true;
    uint32_t *slots = calloc(2 * stream->slot_count, sizeof *slots);
    if (slots == NULL)
        return false;
    free(stream->slots);
    stream->slots = slots;
    stream->slot_count *= 2;
    for (size_t i = 0; i < stream->name_count; i++) {
        size_t at = slot_of(stream, stream->names[i].path);
        while (stream->slots[at] != 0)
            at = (at + 1) & (stream->slot_count - 1);
        stream->slots[at] = (uint32_t)i + 1;
    }
    return true;
}

static size_t
slot_of(const struct hf_mbstream *stream, const char *path)
{
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)path, strlen(path), stream->key);
    return hash & (stream->slot_count - 1);
}

static bool
refuse(struct hf_mbstream *stream, struct hf_error *err, const char *format, ...)
{
    char text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return hf_fail(err, HF_ERR_CORRUPT, "the stream of files cannot be trusted at byte %" PRIu64 ": %.380s",
                   stream->chunk_position, text);
}

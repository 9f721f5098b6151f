#include "server/repository/pack.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "server/repository/container.h"
#include "server/repository/pack_internal.h"

/* Slab tables kept in memory: about 60 KiB each for a full pack. */
#define PACKS_KEPT 128

/* One pack that was read before.  Users hold a reference; the list holds one. */
struct known_pack {
    struct hf_id id, object; // the latter: where it lies
    unsigned references;     // under the reader's lock
    uint64_t used_at;        // the reader's counter, for the oldest to go
    struct hf_pack_cipher *cipher;
    size_t slab_count;
    struct hf_slab_info *slabs;
};

struct hf_pack_reader {
    struct hf_backend *backend;       // borrowed from the caller
    const struct hf_vault_keys *keys; // borrowed from the caller
    _Atomic unsigned suites;          // of the packs that were opened, a bit each
    hf_pack_moves_reader *read_moves; // NULL: no pack is ever moved
    void *context;                    // borrowed from the caller
    pthread_mutex_t lock;
    size_t move_count;          // under the lock, as is the rest
    struct hf_pack_move *moves; // sorted by pack
    uint64_t counter;
    size_t known_count;
    struct known_pack *known[PACKS_KEPT];
};

/* Where the parts of one pack lie in its object. */
struct place {
    struct hf_id object;
    uint64_t header_offset, directory_offset, directory_length;
    uint32_t slab_count;
    struct hf_container *container; // NULL: the object is the pack
};

static bool acquire(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                    struct known_pack **ret, struct hf_error *err);
static struct known_pack *find_known(struct hf_pack_reader *reader, const struct hf_id *pack);
static void remember(struct hf_pack_reader *reader, struct known_pack *fresh);
static void release(struct hf_pack_reader *reader, struct known_pack **known);
static void unreference(struct known_pack *known);
static void forget(struct hf_pack_reader *reader, struct known_pack *gone);
static bool load(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                 struct hf_id *ret_object, struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret,
                 struct hf_error *err);
static bool load_parts(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                       const struct place *place, struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret,
                       struct hf_error *err);
static bool find_place(struct hf_pack_reader *reader, const struct hf_id *pack, struct place *ret,
                       struct hf_error *err);
static bool place_in(struct hf_pack_reader *reader, const struct hf_id *pack, struct place *ret, struct hf_error *err);
static struct hf_id object_of(struct hf_pack_reader *reader, const struct hf_id *pack);
static bool ask_again(struct hf_pack_reader *reader, struct hf_error *err);
static bool move_slabs(const struct place *place, const struct hf_id *pack, struct hf_pack_directory *directory,
                       struct hf_error *err);
static bool fetch_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, struct known_pack *known,
                       uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err);
static bool read_trailer(struct hf_pack_reader *reader, const char *name, const char *pack_text, struct place *ret,
                         struct hf_error *err);

bool
hf_pack_reader_new(struct hf_backend *backend, const struct hf_vault_keys *keys, struct hf_pack_move *known,
                   size_t known_count, hf_pack_moves_reader *moves, void *context, struct hf_pack_reader **ret,
                   struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_pack_move *taken = known;
    struct hf_pack_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack reader");
    reader->backend = backend;
    reader->keys = keys;
    reader->read_moves = moves;
    reader->context = context;
    reader->moves = HF_TAKE(taken);
    reader->move_count = known_count;
    pthread_mutex_init(&reader->lock, NULL);
    *ret = reader;
    return true;
}

void
hf_pack_reader_freep(struct hf_pack_reader **reader)
{
    if (*reader == NULL)
        return;
    for (size_t i = 0; i < (*reader)->known_count; i++)
        unreference((*reader)->known[i]);
    pthread_mutex_destroy(&(*reader)->lock);
    free((*reader)->moves);
    free(*reader);
    *reader = NULL;
}

bool
hf_pack_reader_slabs(struct hf_pack_reader *reader, const struct hf_id *pack, struct hf_slab_info **ret_slabs,
                     size_t *ret_count, struct hf_error *err)
{
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    struct known_pack *known;
    if (!hf_slab_worker_new(1, &worker, err) || !acquire(reader, worker, pack, &known, err))
        return false;
    struct hf_slab_info *copy = malloc((known->slab_count + 1) * sizeof *copy);
    if (copy != NULL && known->slab_count > 0)
        memcpy(copy, known->slabs, known->slab_count * sizeof *copy);
    const size_t count = known->slab_count;
    release(reader, &known);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slab table");
    *ret_slabs = copy;
    *ret_count = count;
    return true;
}

bool
hf_pack_reader_directory(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                         struct hf_pack_directory **ret, struct hf_error *err)
{
    struct hf_id object;
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    return load(reader, worker, pack, &object, &cipher, ret, err);
}

bool
hf_pack_reader_header(struct hf_pack_reader *reader, const struct hf_id *pack, uint8_t header[static HF_PACK_HEADER],
                      struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    struct place place;
    if (!find_place(reader, pack, &place, err))
        return false;
    hf_container_freep(&place.container);
    hf_pack_name(&reader->keys->vault, &place.object, name);
    return hf_backend_get_range(reader->backend, name, place.header_offset, header, HF_PACK_HEADER, err);
}

bool
hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                    uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err)
{
    struct known_pack *known;
    struct hf_error why = {0};
    if (!acquire(reader, worker, pack, &known, err))
        return false;
    bool ok = fetch_slab(reader, worker, known, number, ret_info, plain, &why);
    if (!ok && why.kind == HF_ERR_NOT_FOUND) { // moved since we looked, or lost: load() will tell
        forget(reader, known);
        release(reader, &known);
        if (!acquire(reader, worker, pack, &known, err))
            return false;
        ok = fetch_slab(reader, worker, known, number, ret_info, plain, &why);
    }
    release(reader, &known);
    if (!ok && err != NULL)
        *err = why;
    return ok;
}

static bool
fetch_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, struct known_pack *known, uint32_t number,
           struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err)
{
    char pack_text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    hf_id_format(&known->id, pack_text);
    hf_pack_name(&reader->keys->vault, &known->object, name);
    if (number >= known->slab_count)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" has %zu slabs, slab %u was asked for", pack_text,
                       known->slab_count, number);
    const struct hf_slab_info *slab = &known->slabs[number];
    if (slab->offset == HF_SLAB_LEFT_BEHIND)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u was left behind when the pack was moved", pack_text,
                       number);

    const size_t stored_length = HF_SLAB_HEADER + (size_t)slab->sealed_length + HF_AEAD_TAG_BYTES;
    struct hf_buf *stored = hf_slab_worker_input(worker);
    struct hf_slab_info info = {0};
    if (!hf_buf_reserve(stored, stored_length, err) ||
        !hf_backend_get_range(reader->backend, name, slab->offset, stored->data, stored_length, err) ||
        !hf_slab_open(worker, known->cipher, number, stored->data, stored_length, &info, plain, err))
        return false;
    if (info.kind != slab->kind || info.items != slab->items || info.plain_length != slab->plain_length)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u is not what the pack's directory says", pack_text,
                       number);
    if (ret_info != NULL) {
        *ret_info = info;
        ret_info->offset = slab->offset;
    }
    return true;
}

unsigned
hf_pack_reader_suites(struct hf_pack_reader *reader)
{
    return atomic_load(&reader->suites);
}

static bool
acquire(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack, struct known_pack **ret,
        struct hf_error *err)
{
    pthread_mutex_lock(&reader->lock);
    struct known_pack *known = find_known(reader, pack);
    pthread_mutex_unlock(&reader->lock);
    if (known != NULL) {
        *ret = known;
        return true;
    }

    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = NULL;
    struct hf_id object;
    if (!load(reader, worker, pack, &object, &cipher, &directory, err))
        return false;
    known = calloc(1, sizeof *known);
    if (known == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slab table");
    *known = (struct known_pack){.id = *pack,
                                 .object = object,
                                 .references = 2,
                                 .cipher = HF_TAKE(cipher),
                                 .slab_count = directory->slab_count,
                                 .slabs = HF_TAKE(directory->slabs)};

    pthread_mutex_lock(&reader->lock);
    remember(reader, known);
    pthread_mutex_unlock(&reader->lock);
    *ret = known;
    return true;
}

/* Two threads may load one pack at the same time: both copies serve, the older goes first. */
static struct known_pack *
find_known(struct hf_pack_reader *reader, const struct hf_id *pack)
{
    for (size_t i = 0; i < reader->known_count; i++)
        if (hf_id_equal(&reader->known[i]->id, pack)) {
            reader->known[i]->references++;
            reader->known[i]->used_at = ++reader->counter;
            return reader->known[i];
        }
    return NULL;
}

static void
remember(struct hf_pack_reader *reader, struct known_pack *fresh)
{
    fresh->used_at = ++reader->counter;
    if (reader->known_count < PACKS_KEPT) {
        reader->known[reader->known_count++] = fresh;
        return;
    }
    size_t oldest = 0;
    for (size_t i = 1; i < reader->known_count; i++)
        if (reader->known[i]->used_at < reader->known[oldest]->used_at)
            oldest = i;
    unreference(reader->known[oldest]);
    reader->known[oldest] = fresh;
}

static void
release(struct hf_pack_reader *reader, struct known_pack **known)
{
    pthread_mutex_lock(&reader->lock);
    unreference(*known);
    pthread_mutex_unlock(&reader->lock);
    *known = NULL;
}

static void
unreference(struct known_pack *known)
{
    if (--known->references > 0)
        return;
    hf_pack_cipher_freep(&known->cipher);
    free(known->slabs);
    free(known);
}

/* The list gives up its reference; others may still use it. */
static void
forget(struct hf_pack_reader *reader, struct known_pack *gone)
{
    pthread_mutex_lock(&reader->lock);
    for (size_t i = 0; i < reader->known_count; i++) {
        if (reader->known[i] != gone)
            continue;
        reader->known[i] = reader->known[--reader->known_count];
        unreference(gone);
        break;
    }
    pthread_mutex_unlock(&reader->lock);
}

static bool
load(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack, struct hf_id *ret_object,
     struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret, struct hf_error *err)
{
    struct place place;
    struct hf_error why = {0};
    for (int tries = 0; tries < 2; tries++) {
        if (!find_place(reader, pack, &place, err))
            return false;
        const bool ok = load_parts(reader, worker, pack, &place, ret_cipher, ret, &why);
        hf_container_freep(&place.container);
        if (ok) {
            *ret_object = place.object;
            return true;
        }
        if (why.kind != HF_ERR_NOT_FOUND) // it was there a moment ago
            break;
    }
    if (err != NULL)
        *err = why;
    return false;
}

static bool
load_parts(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
           const struct place *place, struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret,
           struct hf_error *err)
{
    char pack_text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    hf_id_format(pack, pack_text);
    hf_pack_name(&reader->keys->vault, &place->object, name);

    uint8_t header[HF_PACK_HEADER];
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    if (!hf_backend_get_range(reader->backend, name, place->header_offset, header, sizeof header, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);
    if (!hf_pack_cipher_from_header(header, reader->keys, pack, &cipher, err))
        return false;
    atomic_fetch_or(&reader->suites, 1u << hf_pack_cipher_identity(cipher)->suite);

    struct hf_buf *stored = hf_slab_worker_input(worker);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_DIRECTORY_MOST + HF_KIB);
    if (!hf_buf_reserve(stored, place->directory_length, err) ||
        !hf_backend_get_range(reader->backend, name, place->directory_offset, stored->data, place->directory_length,
                              err) ||
        !hf_slab_open(worker, cipher, HF_SLAB_DIRECTORY_NO, stored->data, place->directory_length, NULL, &plain, err))
        return hf_fail_within(err, "the directory of pack \"%s\"", pack_text);

    _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = NULL;
    if (!hf_pack_directory_decode(plain.data, plain.length, pack_text, &directory, err))
        return false;
    if (directory->slab_count != place->slab_count)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\": trailer and directory count different slabs", pack_text);
    if (place->container != NULL && !move_slabs(place, pack, directory, err))
        return false;
    *ret_cipher = HF_TAKE(cipher);
    *ret = HF_TAKE(directory);
    return true;
}

/* Where it lies as far as we know, and when it is not there, where the log says now. */
static bool
find_place(struct hf_pack_reader *reader, const struct hf_id *pack, struct place *ret, struct hf_error *err)
{
    struct hf_error why = {0};
    char text[HF_ID_TEXT_BYTES];
    bool found = place_in(reader, pack, ret, &why);
    if (!found && why.kind == HF_ERR_NOT_FOUND && reader->read_moves != NULL) {
        if (!ask_again(reader, err))
            return false;
        found = place_in(reader, pack, ret, &why);
    }
    if (!found && why.kind == HF_ERR_NOT_FOUND)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is missing", hf_id_format(pack, text));
    if (!found && err != NULL)
        *err = why;
    return found;
}

/* NOT_FOUND: the object where it should lie is not there. */
static bool
place_in(struct hf_pack_reader *reader, const struct hf_id *pack, struct place *ret, struct hf_error *err)
{
    char pack_text[HF_ID_TEXT_BYTES], object_text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    *ret = (struct place){.object = object_of(reader, pack)};
    hf_id_format(pack, pack_text);
    hf_pack_name(&reader->keys->vault, &ret->object, name);
    if (hf_id_equal(&ret->object, pack))
        return read_trailer(reader, name, pack_text, ret, err);

    if (!hf_container_read(reader->backend, &reader->keys->repository, &reader->keys->vault, &ret->object,
                           &ret->container, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);
    const struct hf_container_member *member = hf_container_find(ret->container, pack);
    if (member == NULL) {
        hf_container_freep(&ret->container);
        return hf_fail(err, HF_ERR_CORRUPT, "container \"%s\" does not hold pack \"%s\"",
                       hf_id_format(&ret->object, object_text), pack_text);
    }
    ret->header_offset = member->header_offset;
    ret->directory_offset = member->directory_offset;
    ret->directory_length = member->directory_length;
    ret->slab_count = member->slab_count;
    return true;
}

static struct hf_id
object_of(struct hf_pack_reader *reader, const struct hf_id *pack)
{
    pthread_mutex_lock(&reader->lock);
    const struct hf_pack_move *move = reader->move_count == 0 ? NULL
                                                              : bsearch(pack, reader->moves, reader->move_count,
                                                                        sizeof *reader->moves, hf_id_compare);
    const struct hf_id object = move != NULL ? move->object : *pack;
    pthread_mutex_unlock(&reader->lock);
    return object;
}

static bool
ask_again(struct hf_pack_reader *reader, struct hf_error *err)
{
    size_t count;
    struct hf_pack_move *moves;
    if (!reader->read_moves(reader->context, &moves, &count, err))
        return false;
    pthread_mutex_lock(&reader->lock);
    free(reader->moves);
    reader->moves = moves;
    reader->move_count = count;
    pthread_mutex_unlock(&reader->lock);
    return true;
}

/* The directory says where the slabs were; the container's index says where they are. */
static bool
move_slabs(const struct place *place, const struct hf_id *pack, struct hf_pack_directory *directory,
           struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_container_member *member = hf_container_find(place->container, pack);
    for (uint32_t i = 0; i < directory->slab_count; i++) {
        const struct hf_container_slab *slab = hf_container_slab(member, i);
        if (slab != NULL &&
            slab->length != HF_SLAB_HEADER + (uint64_t)directory->slabs[i].sealed_length + HF_AEAD_TAG_BYTES)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: container and directory differ",
                           hf_id_format(pack, text), i);
        directory->slabs[i].offset = slab != NULL ? slab->offset : HF_SLAB_LEFT_BEHIND;
    }
    return true;
}

static bool
read_trailer(struct hf_pack_reader *reader, const char *name, const char *pack_text, struct place *ret,
             struct hf_error *err)
{
    bool found;
    uint64_t size;
    uint8_t bytes[HF_PACK_TRAILER];
    if (!hf_backend_stat(reader->backend, name, &found, &size, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);
    if (!found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "pack \"%s\" is missing", pack_text);
    if (size < HF_PACK_HEADER + HF_PACK_TRAILER || size > HF_PACK_MOST + HF_DIRECTORY_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is truncated: it has %llu bytes", pack_text,
                       (unsigned long long)size);
    if (!hf_backend_get_range(reader->backend, name, size - HF_PACK_TRAILER, bytes, sizeof bytes, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);

    ret->directory_offset = hf_get_u64(bytes + 8);
    ret->directory_length = hf_get_u64(bytes + 16);
    ret->slab_count = hf_get_u32(bytes + 40);
    if (memcmp(bytes, "HFPEND01", 8) != 0 || hf_get_u32(bytes + 60) != hf_crc32c(0, bytes, 60) ||
        ret->directory_length < HF_SLAB_HEADER + HF_AEAD_TAG_BYTES || ret->directory_length > HF_DIRECTORY_MOST ||
        ret->directory_offset < HF_PACK_HEADER || ret->directory_offset > size - HF_PACK_TRAILER ||
        ret->directory_length > size - HF_PACK_TRAILER - ret->directory_offset)
        return hf_fail(err, HF_ERR_CORRUPT, "the end of pack \"%s\" is damaged or cut off", pack_text);
    return true;
}

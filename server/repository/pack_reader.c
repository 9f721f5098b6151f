#include "server/repository/pack.h"

#include <pthread.h>
#include <string.h>

#include "server/repository/pack_internal.h"

/* Slab tables kept in memory: about 60 KiB each for a full pack. */
#define PACKS_KEPT 128

/* One pack that was read before.  Users hold a reference; the list holds one. */
struct known_pack {
    struct hf_id id;
    unsigned references; // under the reader's lock
    uint64_t used_at;    // the reader's counter, for the oldest to go
    struct hf_pack_cipher *cipher;
    size_t slab_count;
    struct hf_slab_info *slabs;
};

struct hf_pack_reader {
    struct hf_backend *backend;       // borrowed from the caller
    const struct hf_vault_keys *keys; // borrowed from the caller
    pthread_mutex_t lock;
    uint64_t counter;
    size_t known_count;
    struct known_pack *known[PACKS_KEPT];
};

struct trailer {
    uint64_t directory_offset, directory_length;
    uint32_t slab_count;
};

static bool acquire(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                    struct known_pack **ret, struct hf_error *err);
static struct known_pack *find_known(struct hf_pack_reader *reader, const struct hf_id *pack);
static void remember(struct hf_pack_reader *reader, struct known_pack *fresh);
static void release(struct hf_pack_reader *reader, struct known_pack **known);
static void unreference(struct known_pack *known);
static bool load(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                 struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret, struct hf_error *err);
static bool read_trailer(struct hf_pack_reader *reader, const char *name, const char *pack_text, struct trailer *ret,
                         struct hf_error *err);

bool
hf_pack_reader_new(struct hf_backend *backend, const struct hf_vault_keys *keys, struct hf_pack_reader **ret,
                   struct hf_error *err)
{
    struct hf_pack_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack reader");
    reader->backend = backend;
    reader->keys = keys;
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
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    return load(reader, worker, pack, &cipher, ret, err);
}

bool
hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                    uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err)
{
    char pack_text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    hf_id_format(pack, pack_text);
    hf_pack_name(&reader->keys->vault, pack, name);

    struct known_pack *known;
    if (!acquire(reader, worker, pack, &known, err))
        return false;
    if (number >= known->slab_count) {
        hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" has %zu slabs, slab %u was asked for", pack_text, known->slab_count,
                number);
        release(reader, &known);
        return false;
    }

    const struct hf_slab_info *slab = &known->slabs[number];
    const size_t stored_length = HF_SLAB_HEADER + (size_t)slab->sealed_length + HF_AEAD_TAG_BYTES;
    struct hf_buf *stored = hf_slab_worker_input(worker);
    struct hf_slab_info info = {0};
    bool ok = hf_buf_reserve(stored, stored_length, err) &&
              hf_backend_get_range(reader->backend, name, slab->offset, stored->data, stored_length, err) &&
              hf_slab_open(worker, known->cipher, number, stored->data, stored_length, &info, plain, err);
    if (ok && (info.kind != slab->kind || info.items != slab->items || info.plain_length != slab->plain_length))
        ok = hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u is not what the pack's directory says", pack_text,
                     number);
    if (ok && ret_info != NULL) {
        *ret_info = info;
        ret_info->offset = slab->offset;
    }
    release(reader, &known);
    return ok;
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
    if (!load(reader, worker, pack, &cipher, &directory, err))
        return false;
    known = calloc(1, sizeof *known);
    if (known == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slab table");
    *known = (struct known_pack){.id = *pack,
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

static bool
load(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
     struct hf_pack_cipher **ret_cipher, struct hf_pack_directory **ret, struct hf_error *err)
{
    char pack_text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    hf_id_format(pack, pack_text);
    hf_pack_name(&reader->keys->vault, pack, name);

    uint8_t header[HF_PACK_HEADER];
    struct trailer trailer;
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    if (!read_trailer(reader, name, pack_text, &trailer, err))
        return false;
    if (!hf_backend_get_range(reader->backend, name, 0, header, sizeof header, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);
    if (!hf_pack_cipher_from_header(header, reader->keys, pack, &cipher, err))
        return false;

    struct hf_buf *stored = hf_slab_worker_input(worker);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_DIRECTORY_MOST + HF_KIB);
    if (!hf_buf_reserve(stored, trailer.directory_length, err) ||
        !hf_backend_get_range(reader->backend, name, trailer.directory_offset, stored->data, trailer.directory_length,
                              err) ||
        !hf_slab_open(worker, cipher, HF_SLAB_DIRECTORY_NO, stored->data, trailer.directory_length, NULL, &plain, err))
        return hf_fail_within(err, "the directory of pack \"%s\"", pack_text);

    _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = NULL;
    if (!hf_pack_directory_decode(plain.data, plain.length, pack_text, &directory, err))
        return false;
    if (directory->slab_count != trailer.slab_count)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\": trailer and directory count different slabs", pack_text);
    *ret_cipher = HF_TAKE(cipher);
    *ret = HF_TAKE(directory);
    return true;
}

static bool
read_trailer(struct hf_pack_reader *reader, const char *name, const char *pack_text, struct trailer *ret,
             struct hf_error *err)
{
    bool found;
    uint64_t size;
    uint8_t bytes[HF_PACK_TRAILER];
    if (!hf_backend_stat(reader->backend, name, &found, &size, err))
        return hf_fail_within(err, "pack \"%s\"", pack_text);
    if (!found)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is missing", pack_text);
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

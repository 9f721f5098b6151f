#include "server/repository/object_reader.h"

#include <pthread.h>

#define SLABS_KEPT   4
#define OBJECTS_MOST (1u << 16)

struct kept_slab {
    struct hf_id pack;
    uint32_t number;
    uint64_t used_at; // 0: empty
    struct hf_buf plain;
    struct hf_object *objects; // point into plain
    size_t count;
};

struct hf_object_reader {
    struct hf_pack_reader *packs; // borrowed from the caller
    pthread_mutex_t lock;         // held while a slab is fetched too: two threads seldom want different ones
    uint64_t counter;
    struct kept_slab kept[SLABS_KEPT];
};

static bool find_slab(struct hf_object_reader *reader, struct hf_slab_worker *worker, const struct hf_object_ref *ref,
                      struct kept_slab **ret, struct hf_error *err);

bool
hf_object_reader_new(struct hf_pack_reader *packs, struct hf_object_reader **ret, struct hf_error *err)
{
    struct hf_object_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading maps");
    reader->packs = packs;
    pthread_mutex_init(&reader->lock, NULL);
    for (size_t i = 0; i < SLABS_KEPT; i++)
        reader->kept[i].plain = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST + HF_KIB);
    *ret = reader;
    return true;
}

void
hf_object_reader_freep(struct hf_object_reader **reader)
{
    if (*reader == NULL)
        return;
    for (size_t i = 0; i < SLABS_KEPT; i++) {
        hf_buf_done(&(*reader)->kept[i].plain);
        free((*reader)->kept[i].objects);
    }
    pthread_mutex_destroy(&(*reader)->lock);
    free(*reader);
    *reader = NULL;
}

bool
hf_object_read(struct hf_object_reader *reader, struct hf_slab_worker *worker, const struct hf_object_ref *ref,
               enum hf_object_kind kind, struct hf_buf *out, struct hf_error *err)
{
    char pack[HF_ID_TEXT_BYTES];
    struct kept_slab *slab;
    hf_buf_clear(out);

    pthread_mutex_lock(&reader->lock);
    bool ok = find_slab(reader, worker, ref, &slab, err);
    if (ok && (ref->index >= slab->count || slab->objects[ref->index].kind != kind))
        ok = hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: object %u is not the one the map refers to",
                     hf_id_format(&ref->pack, pack), ref->slab, ref->index);
    if (ok)
        ok = hf_buf_add(out, slab->objects[ref->index].bytes, slab->objects[ref->index].length, err);
    pthread_mutex_unlock(&reader->lock);
    return ok;
}

static bool
find_slab(struct hf_object_reader *reader, struct hf_slab_worker *worker, const struct hf_object_ref *ref,
          struct kept_slab **ret, struct hf_error *err)
{
    struct kept_slab *oldest = &reader->kept[0];
    for (size_t i = 0; i < SLABS_KEPT; i++) {
        struct kept_slab *slab = &reader->kept[i];
        if (slab->used_at != 0 && slab->number == ref->slab && hf_id_equal(&slab->pack, &ref->pack)) {
            slab->used_at = ++reader->counter;
            *ret = slab;
            return true;
        }
        if (slab->used_at < oldest->used_at)
            oldest = slab;
    }

    struct hf_slab_info info;
    oldest->used_at = 0;
    free(oldest->objects);
    oldest->objects = NULL;
    if (!hf_pack_reader_slab(reader->packs, worker, &ref->pack, ref->slab, &info, &oldest->plain, err))
        return false;
    char pack[HF_ID_TEXT_BYTES];
    if (info.kind != HF_SLAB_OBJECTS)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u holds no map objects", hf_id_format(&ref->pack, pack),
                       ref->slab);
    if (!hf_objects_split(oldest->plain.data, oldest->plain.length, OBJECTS_MOST, &oldest->objects, &oldest->count,
                          err))
        return hf_fail_within(err, "pack \"%s\", slab %u", hf_id_format(&ref->pack, pack), ref->slab);
    oldest->pack = ref->pack;
    oldest->number = ref->slab;
    oldest->used_at = ++reader->counter;
    *ret = oldest;
    return true;
}

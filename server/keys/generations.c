#include "server/keys/generations.h"

#include <stdio.h>
#include <string.h>

/* What a walk over the objects of a prefix is looking for, and the best so far. */
struct search {
    const char *prefix;
    uint64_t below;
    uint32_t newest, oldest; // 0: none
};

static bool look(struct hf_backend *backend, struct search *search, struct hf_error *err);
static bool note(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool remove_one(struct hf_backend *backend, const char *prefix, uint32_t generation, struct hf_error *err);

const char *
hf_generation_name(const char *prefix, uint32_t generation, char name[static HF_GENERATION_NAME_BYTES])
{
    snprintf(name, HF_GENERATION_NAME_BYTES, "%s%08x", prefix, generation);
    return name;
}

bool
hf_generation_newest(struct hf_backend *backend, const char *prefix, uint64_t below, uint32_t *ret_generation,
                     struct hf_error *err)
{
    struct search search = {.prefix = prefix, .below = below};
    if (!look(backend, &search, err))
        return false;
    *ret_generation = search.newest;
    return true;
}

bool
hf_generation_oldest(struct hf_backend *backend, const char *prefix, uint32_t *ret_generation, struct hf_error *err)
{
    struct search search = {.prefix = prefix, .below = UINT64_MAX};
    if (!look(backend, &search, err))
        return false;
    *ret_generation = search.oldest;
    return true;
}

bool
hf_generation_remove_below(struct hf_backend *backend, const char *prefix, uint32_t below, struct hf_error *err)
{
    uint32_t oldest;
    for (;;) {
        if (!hf_generation_oldest(backend, prefix, &oldest, err))
            return false;
        if (oldest == 0 || oldest >= below)
            return true;
        if (!remove_one(backend, prefix, oldest, err))
            return false;
    }
}

bool
hf_generation_remove_above(struct hf_backend *backend, const char *prefix, uint32_t above, struct hf_error *err)
{
    uint32_t newest;
    for (;;) {
        if (!hf_generation_newest(backend, prefix, UINT64_MAX, &newest, err))
            return false;
        if (newest <= above)
            return true;
        if (!remove_one(backend, prefix, newest, err))
            return false;
    }
}

static bool
look(struct hf_backend *backend, struct search *search, struct hf_error *err)
{
    return hf_backend_list(backend, search->prefix, note, search, err) ||
           hf_fail_within(err, "could not look for \"%s*\"", search->prefix);
}

static bool
note(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct search *search = context;
    const char *digits = object->name + strlen(search->prefix);
    uint8_t bytes[4];
    if (!hf_hex_parse(digits, bytes, sizeof bytes, NULL))
        return true; // some other name
    uint32_t generation = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    if (generation < search->below && generation > search->newest)
        search->newest = generation;
    if (generation > 0 && (search->oldest == 0 || generation < search->oldest))
        search->oldest = generation;
    return true;
}

static bool
remove_one(struct hf_backend *backend, const char *prefix, uint32_t generation, struct hf_error *err)
{
    char name[HF_GENERATION_NAME_BYTES];
    return hf_backend_delete(backend, hf_generation_name(prefix, generation, name), err);
}

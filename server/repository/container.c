#include "server/repository/container.h"

#include <stdio.h>
#include <string.h>

#define MAGIC         "HFCONT01"
#define TRAILER_MAGIC "HFCEND01"
#define VERSION       1
#define TRAILER       64
#define MEMBER_FIXED  48 // bytes of a member's row before its slabs
#define SLAB_ROW      16
#define PUSH_EVERY    (8 * HF_MIB)

static bool read_ends(struct hf_backend *backend, const char *name, const char *what, const struct hf_id *ids[3],
                      uint64_t *ret_offset, uint64_t *ret_length, struct hf_id *ret_session, uint32_t *ret_members,
                      struct hf_error *err);
static bool read_member(struct hf_reader *reader, uint64_t end, struct hf_container *container);
static bool lies_within(uint64_t offset, uint64_t length, uint64_t least, uint64_t end);

void
hf_container_freep(struct hf_container **container)
{
    if (*container == NULL)
        return;
    free((*container)->members);
    free((*container)->live);
    free(*container);
    *container = NULL;
}

bool
hf_container_read(struct hf_backend *backend, const struct hf_id *repository, const struct hf_id *vault,
                  const struct hf_id *object, struct hf_container **ret, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES], what[64];
    uint64_t offset, length;
    uint32_t members;
    struct hf_id session;
    const struct hf_id *ids[3] = {repository, vault, object};
    hf_pack_name(vault, object, name);
    snprintf(what, sizeof what, "container \"%s\"", hf_id_format(object, text));
    if (!read_ends(backend, name, what, ids, &offset, &length, &session, &members, err))
        return false;

    _cleanup_(hf_container_freep) struct hf_container *container = NULL;
    _cleanup_(hf_buf_done) struct hf_buf index = HF_BUF_INIT(HF_CONTAINER_INDEX_MOST + 1);
    if (!hf_buf_reserve(&index, length, err) || !hf_backend_get_range(backend, name, offset, index.data, length, err) ||
        !hf_container_index_decode(index.data, length, offset, what, &container, err))
        return false;
    if (container->member_count != members)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: trailer and index count different packs", what);
    container->object = *object;
    container->session = session;
    *ret = HF_TAKE(container);
    return true;
}

const struct hf_container_member *
hf_container_find(const struct hf_container *container, const struct hf_id *pack)
{
    return bsearch(pack, container->members, container->member_count, sizeof *container->members, hf_id_compare);
}

static int
by_number(const void *a, const void *b)
{
    const struct hf_container_slab *left = a, *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

const struct hf_container_slab *
hf_container_slab(const struct hf_container_member *member, uint32_t number)
{
    const struct hf_container_slab wanted = {.number = number};
    return member->live_count == 0 ? NULL
                                   : bsearch(&wanted, member->live, member->live_count, sizeof wanted, by_number);
}

bool
hf_container_index_decode(const uint8_t *bytes, size_t length, uint64_t end, const char *what,
                          struct hf_container **ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(bytes, length);
    const uint32_t count = hf_reader_u32(&reader);
    if (length < 8 || hf_get_u32(bytes + length - 4) != hf_crc32c(0, bytes, length - 4) || count == 0 ||
        count > length / MEMBER_FIXED)
        return hf_fail(err, HF_ERR_CORRUPT, "the index of %s is damaged", what);

    _cleanup_(hf_container_freep) struct hf_container *container = calloc(1, sizeof *container);
    if (container == NULL || (container->members = calloc(count, sizeof *container->members)) == NULL ||
        (container->live = calloc(length / SLAB_ROW + 1, sizeof *container->live)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the index of %s", what);
    for (uint32_t i = 0; i < count; i++)
        if (!read_member(&reader, end, container))
            return hf_fail(err, HF_ERR_CORRUPT, "the index of %s says what cannot be", what);
    (void)hf_reader_u32(&reader); // the CRC
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the index of %s says what cannot be", what);
    *ret = HF_TAKE(container);
    return true;
}

bool
hf_container_index_encode(const struct hf_container *container, struct hf_buf *out, struct hf_error *err)
{
    const size_t start = out->length;
    if (!hf_buf_put_u32(out, (uint32_t)container->member_count, err))
        return false;
    for (size_t i = 0; i < container->member_count; i++) {
        const struct hf_container_member *member = &container->members[i];
        if (!hf_buf_add(out, member->pack.bytes, HF_ID_BYTES, err) ||
            !hf_buf_put_u64(out, member->header_offset, err) || !hf_buf_put_u64(out, member->directory_offset, err) ||
            !hf_buf_put_u64(out, member->directory_length, err) || !hf_buf_put_u32(out, member->slab_count, err) ||
            !hf_buf_put_u32(out, (uint32_t)member->live_count, err))
            return false;
        for (size_t slab = 0; slab < member->live_count; slab++)
            if (!hf_buf_put_u32(out, member->live[slab].number, err) ||
                !hf_buf_put_u64(out, member->live[slab].offset, err) ||
                !hf_buf_put_u32(out, member->live[slab].length, err))
                return false;
    }
    return hf_buf_put_u32(out, hf_crc32c(0, out->data + start, out->length - start), err);
}

/* ids: repository, vault, object. */
static bool
read_ends(struct hf_backend *backend, const char *name, const char *what, const struct hf_id *ids[3],
          uint64_t *ret_offset, uint64_t *ret_length, struct hf_id *ret_session, uint32_t *ret_members,
          struct hf_error *err)
{
    static const uint8_t zeros[160];
    bool found;
    uint64_t size;
    uint8_t header[HF_PACK_HEADER], trailer[TRAILER];
    if (!hf_backend_stat(backend, name, &found, &size, err))
        return hf_fail_within(err, "%s", what);
    if (!found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "%s is missing", what);
    if (size < HF_PACK_HEADER + TRAILER + 8)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is truncated: it has %llu bytes", what, (unsigned long long)size);
    if (!hf_backend_get_range(backend, name, 0, header, sizeof header, err) ||
        !hf_backend_get_range(backend, name, size - TRAILER, trailer, sizeof trailer, err))
        return hf_fail_within(err, "%s", what);
    if (memcmp(header, MAGIC, 8) != 0 || hf_get_u16(header + 8) != VERSION || memcmp(header + 10, zeros, 6) != 0 ||
        memcmp(header + 96, zeros, 156) != 0 || hf_get_u32(header + 252) != hf_crc32c(0, header, 252))
        return hf_fail(err, HF_ERR_CORRUPT, "the header of %s is damaged", what);
    for (size_t i = 0; i < 3; i++)
        if (memcmp(header + 16 + i * HF_ID_BYTES, ids[i]->bytes, HF_ID_BYTES) != 0)
            return hf_fail(err, HF_ERR_CORRUPT, "%s is another object under its name", what);

    *ret_offset = hf_get_u64(trailer + 8);
    *ret_length = hf_get_u64(trailer + 16);
    *ret_members = hf_get_u32(trailer + 24);
    memcpy(ret_session->bytes, header + 64, HF_ID_BYTES);
    if (memcmp(trailer, TRAILER_MAGIC, 8) != 0 || memcmp(trailer + 28, zeros, 32) != 0 ||
        hf_get_u32(trailer + 60) != hf_crc32c(0, trailer, 60) || *ret_length > HF_CONTAINER_INDEX_MOST ||
        *ret_offset < HF_PACK_HEADER || *ret_offset % 8 != 0 || *ret_offset > size - TRAILER ||
        *ret_length != size - TRAILER - *ret_offset)
        return hf_fail(err, HF_ERR_CORRUPT, "the end of %s is damaged or cut off", what);
    return true;
}

static bool
read_member(struct hf_reader *reader, uint64_t end, struct hf_container *container)
{
    struct hf_container_member *member = &container->members[container->member_count];
    const uint8_t *id = hf_reader_bytes(reader, HF_ID_BYTES);
    member->header_offset = hf_reader_u64(reader);
    member->directory_offset = hf_reader_u64(reader);
    member->directory_length = hf_reader_u64(reader);
    member->slab_count = hf_reader_u32(reader);
    const uint32_t live = hf_reader_u32(reader);
    if (!hf_reader_ok(reader) || live > member->slab_count || member->slab_count > HF_PACK_SLABS_MOST ||
        live > (reader->length - reader->position) / SLAB_ROW || member->directory_length > HF_DIRECTORY_MOST ||
        member->directory_length < HF_SLAB_HEADER + HF_AEAD_TAG_BYTES ||
        !lies_within(member->header_offset, HF_PACK_HEADER, HF_PACK_HEADER, end))
        return false;
    memcpy(member->pack.bytes, id, HF_ID_BYTES);
    if (container->member_count > 0 && hf_id_compare(&member[-1].pack, &member->pack) >= 0)
        return false;

    uint64_t least = member->header_offset + HF_PACK_HEADER;
    member->live = container->live + container->live_count;
    for (uint32_t i = 0; i < live; i++) {
        struct hf_container_slab *slab = &member->live[i];
        slab->number = hf_reader_u32(reader);
        slab->offset = hf_reader_u64(reader);
        slab->length = hf_reader_u32(reader);
        if (slab->number >= member->slab_count || (i > 0 && slab->number <= slab[-1].number) ||
            slab->length < HF_SLAB_HEADER + HF_AEAD_TAG_BYTES || !lies_within(slab->offset, slab->length, least, end))
            return false;
        least = slab->offset + slab->length;
    }
    if (!lies_within(member->directory_offset, member->directory_length, least, end))
        return false;
    member->live_count = live;
    container->live_count += live;
    container->member_count++;
    return true;
}

static bool
lies_within(uint64_t offset, uint64_t length, uint64_t least, uint64_t end)
{
    return offset % 8 == 0 && offset >= least && offset <= end && length <= end - offset;
}

#include <string.h>

#include "server/repository/container.h"

#define MAGIC         "HFCONT01"
#define TRAILER_MAGIC "HFCEND01"
#define VERSION       1
#define TRAILER       64
#define PUSH_EVERY    (8 * HF_MIB)

struct hf_container_writer {
    struct hf_upload *upload;
    struct hf_sha256 *sha256; // of everything appended
    uint64_t offset;          // bytes appended
    struct hf_container index;
    size_t member_room, live_room;
    size_t *live_start; // member i's slabs begin at index.live[live_start[i]]
};

static bool append(struct hf_container_writer *writer, const void *data, size_t length, struct hf_error *err);
static bool align(struct hf_container_writer *writer, struct hf_error *err);
static void finish_index(struct hf_container_writer *writer);
static int by_pack(const void *a, const void *b);

bool
hf_container_writer_new(struct hf_backend *backend, const struct hf_container_identity *identity,
                        struct hf_container_writer **ret, struct hf_error *err)
{
    uint8_t header[HF_PACK_HEADER] = {0};
    char name[HF_PACK_NAME_BYTES];
    _cleanup_(hf_container_writer_abortp) struct hf_container_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a container");
    memcpy(header, MAGIC, 8);
    hf_put_u16(header + 8, VERSION);
    memcpy(header + 16, identity->repository.bytes, HF_ID_BYTES);
    memcpy(header + 32, identity->vault.bytes, HF_ID_BYTES);
    memcpy(header + 48, identity->object.bytes, HF_ID_BYTES);
    memcpy(header + 64, identity->session.bytes, HF_ID_BYTES);
    hf_put_u64(header + 80, (uint64_t)identity->created_at);
    hf_put_u64(header + 88, identity->writer_epoch);
    hf_put_u32(header + 252, hf_crc32c(0, header, 252));
    if (!hf_sha256_new(&writer->sha256, err) ||
        !hf_upload_begin(backend, hf_pack_name(&identity->vault, &identity->object, name), 0, &writer->upload, err) ||
        !append(writer, header, sizeof header, err))
        return false;
    *ret = HF_TAKE(writer);
    return true;
}

bool
hf_container_writer_pack(struct hf_container_writer *writer, const struct hf_id *pack,
                         const uint8_t header[static HF_PACK_HEADER], struct hf_error *err)
{
    struct hf_container *index = &writer->index;
    if (index->member_count == writer->member_room) {
        const size_t room = writer->member_room > 0 ? 2 * writer->member_room : 16;
        struct hf_container_member *members = reallocarray(index->members, room, sizeof *members);
        if (members != NULL)
            index->members = members;
        size_t *starts = reallocarray(writer->live_start, room, sizeof *starts);
        if (starts != NULL)
            writer->live_start = starts;
        if (members == NULL || starts == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a container");
        writer->member_room = room;
    }
    if (!align(writer, err))
        return false;
    writer->live_start[index->member_count] = index->live_count;
    index->members[index->member_count++] =
        (struct hf_container_member){.pack = *pack, .header_offset = writer->offset};
    return append(writer, header, HF_PACK_HEADER, err);
}

bool
hf_container_writer_slab(struct hf_container_writer *writer, uint32_t number, const uint8_t *stored, size_t length,
                         struct hf_error *err)
{
    struct hf_container *index = &writer->index;
    if (index->live_count == writer->live_room) {
        const size_t room = writer->live_room > 0 ? 2 * writer->live_room : 256;
        struct hf_container_slab *grown = reallocarray(index->live, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a container");
        index->live = grown;
        writer->live_room = room;
    }
    if (!align(writer, err))
        return false;
    index->live[index->live_count++] =
        (struct hf_container_slab){.number = number, .length = (uint32_t)length, .offset = writer->offset};
    index->members[index->member_count - 1].live_count++;
    return append(writer, stored, length, err);
}

bool
hf_container_writer_directory(struct hf_container_writer *writer, uint32_t slab_count, const uint8_t *stored,
                              size_t length, struct hf_error *err)
{
    struct hf_container_member *member = &writer->index.members[writer->index.member_count - 1];
    if (!align(writer, err))
        return false;
    member->slab_count = slab_count;
    member->directory_offset = writer->offset;
    member->directory_length = length;
    return append(writer, stored, length, err);
}

uint64_t
hf_container_writer_bytes(const struct hf_container_writer *writer)
{
    return writer->offset;
}

bool
hf_container_writer_finish(struct hf_container_writer **writer, uint64_t *ret_bytes,
                           uint8_t ret_sha256[static HF_SHA256_BYTES], struct hf_error *err)
{
    _cleanup_(hf_container_writer_abortp) struct hf_container_writer *taken = HF_TAKE(*writer);
    _cleanup_(hf_buf_done) struct hf_buf index = HF_BUF_INIT(HF_CONTAINER_INDEX_MOST);
    uint8_t trailer[TRAILER] = {0};
    finish_index(taken);
    if (!align(taken, err) || !hf_container_index_encode(&taken->index, &index, err))
        return false;
    memcpy(trailer, TRAILER_MAGIC, 8);
    hf_put_u64(trailer + 8, taken->offset);
    hf_put_u64(trailer + 16, index.length);
    hf_put_u32(trailer + 24, (uint32_t)taken->index.member_count);
    hf_put_u32(trailer + 60, hf_crc32c(0, trailer, 60));
    if (!append(taken, index.data, index.length, err) || !append(taken, trailer, sizeof trailer, err))
        return false;
    *ret_bytes = taken->offset;
    hf_sha256_end(taken->sha256, ret_sha256);
    return hf_upload_finish(&taken->upload, err);
}

void
hf_container_writer_abortp(struct hf_container_writer **writer)
{
    if (*writer == NULL)
        return;
    hf_upload_abortp(&(*writer)->upload);
    hf_sha256_freep(&(*writer)->sha256);
    free((*writer)->index.members);
    free((*writer)->index.live);
    free((*writer)->live_start);
    free(*writer);
    *writer = NULL;
}

static bool
append(struct hf_container_writer *writer, const void *data, size_t length, struct hf_error *err)
{
    hf_sha256_add(writer->sha256, data, length);
    if (!hf_upload_append(writer->upload, data, length, err))
        return false;
    if ((writer->offset + length) / PUSH_EVERY > writer->offset / PUSH_EVERY)
        hf_upload_push(writer->upload);
    writer->offset += length;
    return true;
}

static bool
align(struct hf_container_writer *writer, struct hf_error *err)
{
    static const uint8_t zeros[8];
    const size_t gap = (size_t)(-writer->offset & 7);
    return gap == 0 || append(writer, zeros, gap, err);
}

/* Only now the slabs' rows stay where they are. */
static void
finish_index(struct hf_container_writer *writer)
{
    for (size_t i = 0; i < writer->index.member_count; i++)
        writer->index.members[i].live = writer->index.live + writer->live_start[i];
    qsort(writer->index.members, writer->index.member_count, sizeof *writer->index.members, by_pack);
}

static int
by_pack(const void *a, const void *b)
{
    return hf_id_compare(a, b);
}

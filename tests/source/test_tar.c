/* Tars of a base backup beyond what a small cluster has. */
#include "server/source/postgres/tar.h"
#include "tests/source/tar_builder.h"
#include "tests/support/test.h"

#define NINE_GIB (9 * (uint64_t)HF_GIB)

/* A sink that only counts, and a stream made on the fly: a header, then zeros. */
struct run {
    struct hf_buf header;
    uint64_t at, length; // of the whole stream
    uint64_t fail_at;    // the stream breaks there; 0: never
    struct hf_backup_file file;
    char path[HF_BACKUP_PATH_BYTES];
    uint64_t bytes;
    size_t begun, ended, dropped;
};

static bool receive(struct run *run, const char *prefix, struct hf_error *err);
static void begin_large(struct run *run, const char *name, uint64_t size);
static bool next(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err);
static bool take_directory(void *context, const char *path, mode_t mode, struct hf_error *err);
static bool begin_file(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err);
static bool write_file(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err);
static bool end_file(void *context, void *handle, struct hf_error *err);
static void drop_file(void *context, void *handle);

HF_TEST(a_file_of_nine_gibibytes_keeps_its_size)
{
    struct run run;
    struct hf_error err;

    begin_large(&run, "large", NINE_GIB); // beyond the octal digits of ustar: the size is in base 256
    hf_assert_ok(receive(&run, "", &err), &err);
    assert_int_equal(run.ended, 1);
    assert_true(run.bytes == NINE_GIB && run.file.size == NINE_GIB);
    hf_buf_done(&run.header);
}

HF_TEST(a_relations_segment_tells_its_first_block)
{
    struct run run;
    struct hf_error err;

    begin_large(&run, "16384.5", 3 * 8192);
    hf_assert_ok(receive(&run, "base/5", &err), &err);
    assert_int_equal(run.file.kind, HF_BACKUP_FILE_RELATION);
    assert_int_equal(run.file.first_block, 5 * 131072);
    assert_int_equal(run.file.page_bytes, 8192);
    assert_true(run.file.checksums);
    assert_int_equal(run.file.mode, 0600);
    assert_int_equal(run.file.modified_at, INT64_C(1700000000000));
    assert_string_equal(run.path, "base/5/16384.5");
    hf_buf_done(&run.header);
}

HF_TEST(a_stream_that_breaks_gives_its_own_error_and_drops_the_file)
{
    struct run run;
    struct hf_error err;

    begin_large(&run, "large", HF_MIB);
    run.fail_at = 300000;
    assert_false(receive(&run, "", &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_string_equal(err.message, "the line is dead");
    assert_int_equal(run.begun, 1);
    assert_int_equal(run.dropped, 1);
    assert_int_equal(run.ended, 0);
    hf_buf_done(&run.header);
}

HF_TEST(a_stream_without_a_byte_is_an_empty_tablespace)
{
    struct run run = {.header = HF_BUF_INIT(1)};
    struct hf_error err;

    hf_assert_ok(receive(&run, "", &err), &err);
    assert_int_equal(run.begun, 0);
}

HF_TEST(bytes_that_are_no_tar_are_refused)
{
    struct run run = {.header = HF_BUF_INIT(4096), .length = 4096};
    struct hf_error err;

    for (size_t i = 0; i < 4096; i++)
        hf_assert_ok(hf_buf_put_u8(&run.header, (uint8_t)(i * 7 + 1), &err), &err);
    assert_false(receive(&run, "", &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the tar of \"base\" cannot be read"));
    hf_buf_done(&run.header);
}

static bool
receive(struct run *run, const char *prefix, struct hf_error *err)
{
    _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = NULL;
    _cleanup_(hf_tar_kept_done) struct hf_tar_kept kept;
    const struct hf_backup_sink sink = {.context = run,
                                        .directory = take_directory,
                                        .file_begin = begin_file,
                                        .file_write = write_file,
                                        .file_end = end_file,
                                        .file_drop = drop_file};

    hf_tar_kept_init(&kept);
    hf_assert_ok(hf_inventory_new(&inventory, err), err);
    if (prefix[0] != '\0')
        hf_assert_ok(hf_inventory_add_tablespace(inventory, prefix, err), err);
    const struct hf_tar tar = {.prefix = prefix,
                               .sink = &sink,
                               .inventory = inventory,
                               .kept = &kept,
                               .segment_blocks = 131072,
                               .checksums = true};
    return hf_tar_receive(&tar, next, run, err);
}

static void
begin_large(struct run *run, const char *name, uint64_t size)
{
    *run = (struct run){.header = HF_BUF_INIT(4096)};
    hf_test_tar_add(&run->header, &(struct hf_test_tar_member){.name = name, .type = '0', .claimed = 1});
    char *header = (char *)run->header.data;
    memset(header + 124, 0, 12);
    header[124] = (char)0x80;
    for (size_t i = 0; i < 8; i++)
        header[135 - i] = (char)(size >> 8 * i);
    memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < 512; i++)
        sum += (uint8_t)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    header[155] = ' ';
    run->length = 512 + (size + 511) / 512 * 512 + 1024;
}

static bool
next(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err)
{
    static const uint8_t zeros[1024 * 1024];
    struct run *run = context;

    if (run->fail_at != 0 && run->at >= run->fail_at)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the line is dead");
    uint64_t left = run->length - run->at;
    if (run->at < run->header.length) {
        *ret_data = run->header.data;
        *ret_length = run->header.length;
    } else {
        *ret_data = zeros;
        *ret_length = left < sizeof zeros ? (size_t)left : sizeof zeros;
        if (run->fail_at != 0 && *ret_length > 100000)
            *ret_length = 100000;
    }
    run->at += *ret_length;
    return true;
}

static bool
take_directory(__attribute__((unused)) void *context, __attribute__((unused)) const char *path,
               __attribute__((unused)) mode_t mode, __attribute__((unused)) struct hf_error *err)
{
    return true;
}

static bool
begin_file(void *context, const struct hf_backup_file *file, void **ret_handle,
           __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    run->begun++;
    run->file = *file;
    snprintf(run->path, sizeof run->path, "%s", file->path);
    *ret_handle = run;
    return true;
}

static bool
write_file(void *context, __attribute__((unused)) void *handle, __attribute__((unused)) const uint8_t *data,
           size_t length, __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    run->bytes += length;
    return true;
}

static bool
end_file(void *context, __attribute__((unused)) void *handle, __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    run->ended++;
    return true;
}

static void
drop_file(void *context, __attribute__((unused)) void *handle)
{
    struct run *run = context;
    run->dropped++;
}

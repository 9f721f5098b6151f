#include "tests/support/test.h"

#include "base/digest.h"
#include "server/source/mariadb/innodb.h"

#define PAGE 16384

static uint8_t page[HF_INNODB_PAGE_MOST];

static void fill(uint32_t number, uint32_t space);
static void put_u32(size_t at, uint32_t value);
static void seal_full(size_t bytes);
static void seal_crc32(size_t bytes);
static struct hf_innodb_space space_of(uint32_t flags);

HF_TEST(the_first_page_says_how_large_pages_are)
{
    static const struct {
        uint32_t flags, bytes;
        bool full, compressed;
    } forms[] = {
        {0x15, 16384, true, false},  {0x13, 4096, true, false}, {0x17, 65536, true, false}, {0x35, 16384, true, false},
        {0x21, 16384, false, false}, {0x27, 4096, false, true}, {0x23, 1024, false, true},  {0xe1, 4096, false, false},
    };
    struct hf_innodb_space space;
    for (size_t i = 0; i < HF_LENGTH(forms); i++) {
        fill(0, 7);
        page[24] = 0;
        page[25] = 8;
        put_u32(38, 7);
        put_u32(54, forms[i].flags);
        assert_true(hf_innodb_space_read(page, HF_INNODB_HEADER_BYTES, &space));
        assert_int_equal(space.page_bytes, forms[i].bytes);
        assert_int_equal(space.full_crc32, forms[i].full);
        assert_int_equal(space.compressed, forms[i].compressed);
        assert_int_equal(space.id, 7);
    }
    assert_false(hf_innodb_space_read(page, HF_INNODB_HEADER_BYTES - 1, &space));
    put_u32(38, 8);
    assert_false(hf_innodb_space_read(page, PAGE, &space)); // two ids
    put_u32(38, 7);
    put_u32(54, 0x1f);
    assert_false(hf_innodb_space_read(page, PAGE, &space)); // pages of 16 MiB
}

HF_TEST(full_crc32_holds_for_whole_and_for_compressed_pages)
{
    const struct hf_innodb_space space = space_of(0x15);
    fill(3, 7);
    put_u32(0, 0);
    seal_full(PAGE);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    assert_int_equal(hf_innodb_page_verdict(&space, 4, page), HF_PAGE_BAD); // at another's place
    page[9000] ^= 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    page[9000] ^= 1;
    put_u32(34, 8);
    put_u32(0, 0);
    seal_full(PAGE);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD); // of another table

    put_u32(0, 1); // encrypted: the place of the tablespace's id holds sealed bytes
    seal_full(PAGE);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    page[9000] ^= 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);

    fill(3, 99);
    page[24] = 0x80;
    page[25] = 4; // 1024 bytes count
    seal_full(1024);
    memset(page + 1024, 0, PAGE - 1024);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    page[500] ^= 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    page[25] = 0;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
}

HF_TEST(the_old_form_knows_two_sums_and_pages_without_any)
{
    const struct hf_innodb_space space = space_of(0x21);
    fill(3, 7);
    seal_crc32(PAGE);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    page[PAGE - 1] ^= 1; // the LSN at the end
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    page[PAGE - 1] ^= 1;
    page[PAGE - 8] ^= 1; // one of the sums
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    put_u32(0, 0xdeadbeef);
    put_u32(PAGE - 8, 0xdeadbeef);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_UNJUDGED);
    fill(3, 7);
    put_u32(26, 1); // encrypted: the sum of what lies here stands apart
    put_u32(30, hf_crc32c(0, page + 4, 22) ^ hf_crc32c(0, page + 38, PAGE - 46));
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    page[9000] ^= 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    page[24] = 34354 >> 8;
    page[25] = 34354 & 255;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_UNJUDGED);
}

HF_TEST(pages_of_compressed_rows_have_one_sum)
{
    const struct hf_innodb_space space = space_of(0x27);
    fill(3, 7);
    put_u32(0, hf_crc32c(0, page + 4, 12) ^ hf_crc32c(0, page + 24, 2) ^ hf_crc32c(0, page + 34, 4096 - 34));
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_OK);
    page[4095] ^= 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
}

HF_TEST(pages_never_written_are_new_and_the_doublewrite_buffer_is_not_judged)
{
    struct hf_innodb_space space = space_of(0x15);
    memset(page, 0, PAGE);
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_NEW);
    page[PAGE - 1] = 1;
    assert_int_equal(hf_innodb_page_verdict(&space, 3, page), HF_PAGE_BAD);
    space.id = 0;
    assert_int_equal(hf_innodb_page_verdict(&space, 64, page), HF_PAGE_UNJUDGED);
    assert_int_equal(hf_innodb_page_verdict(&space, 191, page), HF_PAGE_UNJUDGED);
    assert_int_equal(hf_innodb_page_verdict(&space, 192, page), HF_PAGE_BAD);
    assert_int_equal(hf_innodb_page_verdict(&space, 63, page), HF_PAGE_BAD);
}

HF_TEST(bad_pages_are_named_and_what_cannot_be_judged_is_counted)
{
    const struct hf_innodb_space space = space_of(0x23); // 1 KiB, kept in pages of 4 KiB
    struct hf_backup_file file = {.path = "clinic/small.ibd",
                                  .kind = HF_BACKUP_FILE_RELATION,
                                  .page_bytes = 4096,
                                  .checksums = true,
                                  .check_word = hf_innodb_check_word(&space)};
    struct hf_page_faults faults;
    hf_page_faults_init(&faults);
    memset(page, 0, 8192);
    page[1024 * 5 + 100] = 1;
    hf_innodb_check_pages(&faults, &file, 2, page, 8192);
    assert_int_equal(faults.bad, 1);
    assert_int_equal(faults.items[0].block, 2 * 4 + 5);
    assert_string_equal(faults.items[0].path, "clinic/small.ibd");
    assert_int_equal(faults.pages, 8);

    file.checksums = false; // its first page could not be read
    hf_innodb_check_pages(&faults, &file, 0, page, 8192);
    assert_int_equal(faults.bad, 1); // of zeros: not written yet
    assert_int_equal(faults.unjudged, 1);
    page[0] = 1;
    hf_innodb_check_pages(&faults, &file, 0, page, 8192);
    assert_int_equal(faults.bad, 2);
    hf_innodb_check_pages(&faults, &file, 1, page, 100); // half a page
    assert_int_equal(faults.bad, 3);
    hf_page_faults_done(&faults);
}

/* Any bytes, with the header of page `number`. */
static void
fill(uint32_t number, uint32_t space)
{
    for (size_t i = 0; i < sizeof page; i++)
        page[i] = (uint8_t)(i * 31 + i / 256);
    put_u32(4, number);
    put_u32(34, space);
    put_u32(24, 0x45bf0000); // an index page; no key version below it
    put_u32(26, 0);
    put_u32(30, 0);
}

static void
put_u32(size_t at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        page[at + (size_t)i] = (uint8_t)(value >> (24 - 8 * i));
}

static void
seal_full(size_t bytes)
{
    put_u32(bytes - 4, hf_crc32c(0, page, bytes - 4));
}

static void
seal_crc32(size_t bytes)
{
    const uint32_t sum = hf_crc32c(0, page + 4, 22) ^ hf_crc32c(0, page + 38, bytes - 46);
    put_u32(0, sum);
    put_u32(bytes - 8, sum);
    memcpy(page + bytes - 4, page + 20, 4);
}

static struct hf_innodb_space
space_of(uint32_t flags)
{
    struct hf_innodb_space space;
    assert_true(hf_innodb_space_of(7, flags, &space));
    return space;
}

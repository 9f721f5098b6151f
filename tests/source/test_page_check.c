/* Page verdicts: known answers from a real cluster, then each rule by itself. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/postgres/page_check.h"
#include "tests/support/cluster.h"

static const struct hf_backup_file relation = {.path = "base/5/16384",
                                               .kind = HF_BACKUP_FILE_RELATION,
                                               .page_bytes = HF_POSTGRES_PAGE_BYTES,
                                               .first_block = 131072,
                                               .checksums = true};

static void make_page(uint8_t *page, uint32_t block, uint64_t lsn);
static void read_page(int fd, uint32_t block, uint8_t *page);

HF_TEST(verdicts_agree_with_pg_checksums)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB), errors = HF_BUF_INIT(HF_MIB);
    uint8_t page[HF_POSTGRES_PAGE_BYTES];
    char path[160], expected[200];

    hf_test_sql(conn, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n");
    snprintf(path, sizeof path, "%s/%s", cluster->data, hf_test_sql_text(conn, "SELECT pg_relation_filepath('t')"));
    PQfinish(conn);
    hf_test_cluster_stop(cluster, SIGINT);

    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    uint32_t pages = (uint32_t)(status.st_size / HF_POSTGRES_PAGE_BYTES);
    assert_true(pages > 300);
    for (uint32_t block = 0; block < pages; block++) {
        read_page(fd, block, page);
        assert_int_equal(hf_postgres_page_verdict(page, block, UINT64_MAX, true), HF_PAGE_OK);
        assert_int_equal(hf_postgres_page_verdict(page, block + 1, UINT64_MAX, true), HF_PAGE_BAD);
    }

    // One bit in each of three pages: what we compute is what pg_checksums says it computed.
    static const struct {
        uint32_t block, byte;
    } flips[] = {{0, 8191}, {17, 24}, {299, 4000}};
    for (size_t i = 0; i < HF_LENGTH(flips); i++) {
        read_page(fd, flips[i].block, page);
        page[flips[i].byte] ^= 0x04;
        assert_int_equal(pwrite(fd, page, sizeof page, (off_t)flips[i].block * HF_POSTGRES_PAGE_BYTES), sizeof page);
    }
    const char *const argv[] = {"pg_checksums", "--check", "-D", cluster->data, NULL};
    assert_int_not_equal(hf_test_cluster_run(cluster, argv, &output, &errors), 0);
    for (size_t i = 0; i < HF_LENGTH(flips); i++) {
        read_page(fd, flips[i].block, page);
        assert_int_equal(hf_postgres_page_verdict(page, flips[i].block, UINT64_MAX, true), HF_PAGE_BAD);
        snprintf(expected, sizeof expected, "block %u: calculated checksum %X but block contains %X", flips[i].block,
                 hf_postgres_page_checksum(page, flips[i].block), hf_get_u16(page + 8));
        if (strstr(hf_buf_text(&errors), expected) == NULL)
            fail_msg("\"%s\" does not stand in: %s", expected, hf_buf_text(&errors));
    }
    assert_non_null(strstr(hf_buf_text(&output), "Bad checksums:  3\n"));
}

HF_TEST(a_failing_page_is_bad_when_older_than_the_backup_and_pending_otherwise)
{
    uint8_t page[HF_POSTGRES_PAGE_BYTES];

    make_page(page, 7, 0x1600000028);
    assert_int_equal(hf_postgres_page_lsn(page), 0x1600000028);
    assert_int_equal(hf_postgres_page_verdict(page, 7, 0x1600000029, true), HF_PAGE_OK);
    page[3000] ^= 1;
    assert_int_equal(hf_postgres_page_verdict(page, 7, 0x1600000029, true), HF_PAGE_BAD);
    assert_int_equal(hf_postgres_page_verdict(page, 7, 0x1600000028, true), HF_PAGE_PENDING);
    assert_int_equal(hf_postgres_page_verdict(page, 7, 0, true), HF_PAGE_PENDING);
}

HF_TEST(a_new_page_is_all_zeros_or_bad)
{
    uint8_t page[HF_POSTGRES_PAGE_BYTES] = {0};

    assert_int_equal(hf_postgres_page_verdict(page, 0, 1, true), HF_PAGE_NEW);
    assert_int_equal(hf_postgres_page_verdict(page, 0, 1, false), HF_PAGE_NEW);
    for (size_t at = 0; at < sizeof page; at += 511) {
        page[at] = 1;
        bool in_upper = at == 14 || at == 15;
        assert_int_equal(hf_postgres_page_verdict(page, 0, UINT64_MAX, true), HF_PAGE_BAD);
        assert_false(in_upper);
        page[at] = 0;
    }
}

HF_TEST(without_checksums_the_header_is_still_judged)
{
    static const struct {
        size_t at;
        uint16_t value;
    } wrong[] = {
        {10, 0x0008},   // an unknown flag
        {12, 23},       // lower inside the header
        {12, 8001},     // lower above upper
        {14, 8190},     // upper above special
        {16, 8200},     // special beyond the page
        {16, 8185},     // special not aligned
        {18, 4096 | 4}, // another page size
        {18, 8192 | 3}, // another layout
    };
    uint8_t page[HF_POSTGRES_PAGE_BYTES];

    make_page(page, 0, 1);
    page[4000] ^= 1; // nobody can tell
    assert_int_equal(hf_postgres_page_verdict(page, 0, 2, false), HF_PAGE_OK);
    assert_int_equal(hf_postgres_page_verdict(page, 0, 2, true), HF_PAGE_BAD);
    for (size_t i = 0; i < HF_LENGTH(wrong); i++) {
        make_page(page, 0, 1);
        hf_put_u16(page + wrong[i].at, wrong[i].value);
        assert_int_equal(hf_postgres_page_verdict(page, 0, 2, false), HF_PAGE_BAD);
        hf_put_u16(page + 8, hf_postgres_page_checksum(page, 0)); // a right checksum does not excuse it
        assert_int_equal(hf_postgres_page_verdict(page, 0, 2, true), HF_PAGE_BAD);
    }
}

HF_TEST(every_flipped_bit_of_a_page_is_noticed)
{
    uint8_t page[HF_POSTGRES_PAGE_BYTES];

    make_page(page, 3, 0x100);
    for (size_t bit = 0; bit < 8 * sizeof page; bit++) {
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(hf_postgres_page_verdict(page, 3, UINT64_MAX, true), HF_PAGE_OK);
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(hf_postgres_page_verdict(page, 3, UINT64_MAX, true), HF_PAGE_OK);
}

HF_TEST(faults_are_listed_up_to_the_cap_and_counted_beyond)
{
    struct hf_page_faults faults;
    uint8_t *pages = calloc(HF_PAGE_FAULTS_MOST + 5, HF_POSTGRES_PAGE_BYTES);
    assert_non_null(pages);

    hf_page_faults_init(&faults);
    atomic_store(&faults.start_lsn, 0x1000);
    for (size_t i = 0; i < HF_PAGE_FAULTS_MOST + 5; i++)
        pages[i * HF_POSTGRES_PAGE_BYTES + 100] = 1;
    hf_postgres_check_pages(&faults, &relation, 0, pages, (HF_PAGE_FAULTS_MOST + 5) * (size_t)HF_POSTGRES_PAGE_BYTES);
    assert_int_equal(faults.bad, HF_PAGE_FAULTS_MOST + 5);
    assert_int_equal(faults.count, HF_PAGE_FAULTS_MOST);
    assert_true(faults.unlisted);
    assert_int_equal(faults.items[9].block, 131072 + 9);
    assert_string_equal(faults.items[9].path, "base/5/16384");
    hf_page_faults_done(&faults);
    free(pages);
}

HF_TEST(blocks_are_counted_from_the_segments_first)
{
    struct hf_page_faults faults;
    uint8_t pages[3][HF_POSTGRES_PAGE_BYTES];

    hf_page_faults_init(&faults);
    for (uint32_t i = 0; i < 3; i++)
        make_page(pages[i], 131072 + 40 + i, 0);
    atomic_store(&faults.start_lsn, 1);
    hf_postgres_check_pages(&faults, &relation, 40, pages[0], sizeof pages);
    assert_int_equal(faults.bad + faults.pending, 0);
    hf_postgres_check_pages(&faults, &relation, 41, pages[0], sizeof pages);
    assert_int_equal(faults.bad, 3);
    assert_int_equal(atomic_load(&faults.pages), 6);

    struct hf_backup_file other = relation;
    other.kind = HF_BACKUP_FILE_OTHER;
    hf_postgres_check_pages(&faults, &other, 41, pages[0], sizeof pages);
    assert_int_equal(faults.bad, 3);
    hf_page_faults_done(&faults);
}

HF_TEST(a_tail_that_is_no_page_is_pending)
{
    struct hf_page_faults faults;
    uint8_t pages[HF_POSTGRES_PAGE_BYTES + 100];

    hf_page_faults_init(&faults);
    memset(pages, 0, sizeof pages);
    hf_postgres_check_pages(&faults, &relation, 2, pages, sizeof pages);
    assert_int_equal(faults.pending, 1);
    assert_int_equal(faults.items[0].block, 131072 + 3);
    hf_page_faults_done(&faults);
}

HF_TEST(a_pending_page_from_after_the_end_is_bad)
{
    struct hf_page_faults faults;

    hf_page_faults_init(&faults);
    hf_page_faults_add(&faults, "base/5/1", 1, 0x2000, HF_PAGE_PENDING);
    hf_page_faults_add(&faults, "base/5/2", 2, 0x2001, HF_PAGE_PENDING);
    hf_page_faults_add(&faults, "base/5/3", 3, 0, HF_PAGE_BAD);
    hf_page_faults_settle(&faults, 0x2000);
    assert_int_equal(faults.pending, 1);
    assert_int_equal(faults.bad, 2);
    assert_int_equal(faults.items[0].verdict, HF_PAGE_PENDING);
    assert_int_equal(faults.items[1].verdict, HF_PAGE_BAD);
    hf_page_faults_done(&faults);
}

static void
make_page(uint8_t *page, uint32_t block, uint64_t lsn)
{
    for (size_t i = 0; i < HF_POSTGRES_PAGE_BYTES; i++)
        page[i] = (uint8_t)(i * 31 + i / 256 + block);
    hf_put_u32(page, (uint32_t)(lsn >> 32));
    hf_put_u32(page + 4, (uint32_t)lsn);
    hf_put_u16(page + 10, 0);
    hf_put_u16(page + 12, 400);
    hf_put_u16(page + 14, 8000);
    hf_put_u16(page + 16, 8176);
    hf_put_u16(page + 18, 8192 | 4);
    hf_put_u16(page + 8, hf_postgres_page_checksum(page, block));
}

static void
read_page(int fd, uint32_t block, uint8_t *page)
{
    assert_int_equal(pread(fd, page, HF_POSTGRES_PAGE_BYTES, (off_t)block * HF_POSTGRES_PAGE_BYTES),
                     HF_POSTGRES_PAGE_BYTES);
}

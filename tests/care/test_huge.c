/*
 * What plans, counts and keeps books, over a lineage without data: a small one in every test run, 10 TB and a million
 * files under tests/campaign.  Each stage runs in a process of its own, whose peak (VmHWM) is measured.
 */
#include "tests/support/test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/catalog.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "server/care/lost.h"
#include "server/restore/restore.h"
#include "tests/support/lineage.h"

#define MOST_KIB (512 * 1024L)

struct huge {
    const char *folder;
    struct test_vault vault;
    struct lineage_size size;
    struct lineage_made made;
};

typedef void stage(struct huge *huge);

#define SLABS      32 // of a data pack, as lineage.c makes them
#define SLAB_PAGES 512
static const struct hf_vault_state *books; // while packs are only imagined
static const struct hf_page_run invented_run = {.page_log2 = 13, .count = SLAB_PAGES};

static long
peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1)
            break;
    (void)fclose(file);
    return kib;
}

/* In a child: its peak comes back, and an assert that fails there fails here. */
static long
run(struct huge *huge, const char *name, stage *act)
{
    int ends[2], status;
    long kib = -1;
    const uint64_t began = hf_monotonic_ns();
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        act(huge);
        kib = peak_kib();
        _exit(write(ends[1], &kib, sizeof kib) == sizeof kib &&
                      write(ends[1], &huge->made, sizeof huge->made) == sizeof huge->made
                  ? 0
                  : 1);
    }
    close(ends[1]);
    const bool heard = read(ends[0], &kib, sizeof kib) == sizeof kib &&
                       read(ends[0], &huge->made, sizeof huge->made) == sizeof huge->made;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(heard && status == 0);
    print_message("# %-22s %8.1f MiB at most, %7.1f s\n", name, (double)kib / 1024,
                  (double)(hf_monotonic_ns() - began) / 1e9);
    return kib;
}

static void
generate(struct huge *huge)
{
    test_vault_reopen(&huge->vault);
    lineage_make(&huge->vault, &huge->size, &huge->made);
}

static void
nothing(struct huge *huge)
{
    test_vault_reopen(&huge->vault);
}

static void
plan_restore(struct huge *huge)
{
    struct hf_error err;
    struct hf_restore_plan *plan;
    struct hf_restore_size size;
    const struct hf_restore_options options = {.workers = 2};
    test_vault_reopen(&huge->vault);
    hf_assert_ok(hf_restore_plan(huge->vault.vault, &huge->made.newest, &options, &plan, &size, &err), &err);
    assert_int_equal(size.files, huge->made.files);
    assert_int_equal(size.stored_pages, huge->made.pages);
    assert_int_equal(size.bytes, huge->made.bytes);
}

static void
check_names(struct huge *huge)
{
    struct hf_error err;
    struct hf_check_report report;
    test_vault_reopen(&huge->vault);
    hf_assert_ok(hf_vault_check(huge->vault.vault, &(struct hf_check_options){.level = 0}, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.backups, huge->size.backups);
    assert_true(report.packs > huge->made.data_packs);
}

/* Level 2: the packs are empty and taken for what they should be, and every file is walked. */
static void
check_books(struct huge *huge)
{
    struct hf_error err;
    struct hf_check_report report;
    test_vault_reopen(&huge->vault);
    hf_assert_ok(hf_vault_read(huge->vault.vault, NULL, NULL, &books, &err), &err);
    for (size_t i = 0; i < books->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES], path[800];
        snprintf(path, sizeof path, "%s/%s", huge->vault.place,
                 hf_pack_name(&huge->vault.id, &books->packs[i].pack, name));
        if (books->packs[i].kind == HF_PACK_DATA)
            assert_int_equal(truncate(path, 0), 0); // of the wrong size: nobody hashes it
    }
    const struct hf_check_options options = {.level = 2, .backup = &huge->made.newest, .workers = 2};
    hf_assert_ok(hf_vault_check(huge->vault.vault, &options, &report, &err), &err);
    assert_int_equal(report.files, huge->made.files);
    assert_true(report.pages >= huge->made.pages);
    books = NULL;
}

static bool
count_lost(void *context, const struct hf_lost *lost, struct hf_error *err)
{
    (void)err;
    *(uint64_t *)context += lost->pages;
    return true;
}

static void
follow_a_lost_pack(struct huge *huge)
{
    struct hf_error err;
    const struct hf_vault_state *log;
    uint64_t pages = 0;
    struct hf_lost_slab lost = {.slab = HF_LOST_WHOLE_PACK};
    test_vault_reopen(&huge->vault);
    hf_assert_ok(hf_vault_read(huge->vault.vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++)
        if (log->packs[i].kind == HF_PACK_DATA)
            lost.pack = log->packs[i].pack;
    hf_assert_ok(hf_lost_pages(huge->vault.vault, &huge->made.newest, &lost, 1, NULL, count_lost, &pages, &err), &err);
    assert_true(pages > 0 && pages <= 16384);
}

static void
collect(struct huge *huge)
{
    struct hf_error err;
    struct hf_collect_report report = {0};
    test_vault_reopen(&huge->vault);
    const struct hf_collect_options options = {
        .signing = &huge->vault.signing, .cache_folder = huge->vault.cache, .now = hf_time_now_ms()};
    hf_assert_ok(hf_vault_collect(huge->vault.vault, &options, &report, &err), &err);
    assert_string_equal(report.unreadable, "");
    assert_int_equal(report.packs, 0);
}

static bool
apply(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct huge *huge = ((void **)context)[0];
    struct hf_catalog *catalog = ((void **)context)[1];
    struct hf_catalog_entry row = {.vault = huge->vault.id,
                                   .sequence = entry->sequence,
                                   .kind = hf_log_kind_name(entry->kind),
                                   .time = entry->time,
                                   .appliance = entry->appliance,
                                   .epoch = entry->epoch,
                                   .public_part = entry->public_part,
                                   .sealed_part = entry->sealed_part};
    memcpy(row.hash, entry->hash, sizeof row.hash);
    return hf_catalog_apply(catalog, &row, err);
}

/* Twice, and compared: as the rebuild does it. */
static void
rebuild(struct huge *huge)
{
    struct hf_error err;
    const struct hf_vault_state *log;
    struct hf_catalog *catalogs[2];
    struct hf_catalog_difference difference;
    for (size_t i = 0; i < 2; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/catalog-%zu.db", huge->folder, i);
        test_vault_reopen(&huge->vault);
        hf_assert_ok(hf_catalog_open(path, HF_CATALOG_SCRATCH, &catalogs[i], &err), &err);
        void *context[] = {huge, catalogs[i]};
        hf_assert_ok(hf_vault_read(huge->vault.vault, apply, context, &log, &err), &err);
    }
    hf_assert_ok(hf_catalog_compare(catalogs[0], catalogs[1], &difference, &err), &err);
    assert_int_equal(difference.rows, 0);
    hf_catalog_freep(&catalogs[0]);
    hf_catalog_freep(&catalogs[1]);
}

/*
 * What stands for the data packs' bytes while only the books are looked at: directories as large as such directories
 * are, and slabs whose pages are empty.  Map packs are read as ever.
 */
static bool
is_invented(const struct hf_id *pack)
{
    const struct hf_vault_pack *found = books != NULL ? hf_vault_state_pack(books, pack) : NULL;
    return found != NULL && found->kind == HF_PACK_DATA;
}

bool __real_hf_pack_reader_directory(struct hf_pack_reader *reader, struct hf_slab_worker *worker,
                                     const struct hf_id *pack, struct hf_pack_directory **ret, struct hf_error *err);
bool __wrap_hf_pack_reader_directory(struct hf_pack_reader *reader, struct hf_slab_worker *worker,
                                     const struct hf_id *pack, struct hf_pack_directory **ret, struct hf_error *err);
bool
__wrap_hf_pack_reader_directory(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                                struct hf_pack_directory **ret, struct hf_error *err)
{
    if (!is_invented(pack))
        return __real_hf_pack_reader_directory(reader, worker, pack, ret, err);
    struct hf_pack_directory *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->slab_count = made->run_count = SLABS;
    made->page_count = (size_t)SLABS * SLAB_PAGES;
    made->slabs = calloc(SLABS, sizeof *made->slabs);
    made->run_start = calloc(SLABS + 1, sizeof *made->run_start);
    made->page_start = calloc(SLABS + 1, sizeof *made->page_start);
    made->runs = calloc(SLABS, sizeof *made->runs);
    made->checks = calloc(made->page_count, sizeof *made->checks);
    for (uint32_t i = 0; i <= SLABS; i++) {
        made->run_start[i] = i;
        made->page_start[i] = (size_t)i * SLAB_PAGES;
        if (i == SLABS)
            break;
        made->slabs[i] = (struct hf_slab_info){.number = i, .kind = HF_SLAB_PAGES, .items = SLAB_PAGES};
        made->runs[i] = invented_run;
    }
    *ret = made;
    return true;
}

bool __real_hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                                uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain,
                                struct hf_error *err);
bool __wrap_hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                                uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain,
                                struct hf_error *err);
bool
__wrap_hf_pack_reader_slab(struct hf_pack_reader *reader, struct hf_slab_worker *worker, const struct hf_id *pack,
                           uint32_t number, struct hf_slab_info *ret_info, struct hf_buf *plain, struct hf_error *err)
{
    if (!is_invented(pack))
        return __real_hf_pack_reader_slab(reader, worker, pack, number, ret_info, plain, err);
    *ret_info = (struct hf_slab_info){.number = number, .kind = HF_SLAB_PAGES, .items = SLAB_PAGES};
    return true;
}

bool __real_hf_slab_pages_read(const uint8_t *plain, size_t length, struct hf_slab_pages **pages, struct hf_error *err);
bool __wrap_hf_slab_pages_read(const uint8_t *plain, size_t length, struct hf_slab_pages **pages, struct hf_error *err);
bool
__wrap_hf_slab_pages_read(const uint8_t *plain, size_t length, struct hf_slab_pages **pages, struct hf_error *err)
{
    if (books == NULL)
        return __real_hf_slab_pages_read(plain, length, pages, err);
    if (*pages != NULL)
        return true; // that of the slab before is as good
    *pages = calloc(1, sizeof **pages);
    assert_non_null(*pages);
    (*pages)->runs[0] = invented_run;
    (*pages)->run_count = 1;
    (*pages)->count = SLAB_PAGES;
    return true;
}

void __real_hf_page_tags(const struct hf_vault_keys *keys, const uint8_t *data, size_t length, unsigned page_log2,
                         uint8_t *tags);
void __wrap_hf_page_tags(const struct hf_vault_keys *keys, const uint8_t *data, size_t length, unsigned page_log2,
                         uint8_t *tags);
void
__wrap_hf_page_tags(const struct hf_vault_keys *keys, const uint8_t *data, size_t length, unsigned page_log2,
                    uint8_t *tags)
{
    if (books == NULL)
        __real_hf_page_tags(keys, data, length, page_log2, tags);
    else
        memset(tags, 0, (size_t)SLAB_PAGES * HF_TAG_BYTES);
}

/* What is made of a billion tags takes minutes and no memory. */
void __real_hf_file_digest_add(struct hf_file_digest *digest, const uint8_t tag[static HF_TAG_BYTES]);
void __wrap_hf_file_digest_add(struct hf_file_digest *digest, const uint8_t tag[static HF_TAG_BYTES]);
void
__wrap_hf_file_digest_add(struct hf_file_digest *digest, const uint8_t tag[static HF_TAG_BYTES])
{
    if (books == NULL)
        __real_hf_file_digest_add(digest, tag);
}

uint32_t __real_hf_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);
uint32_t __wrap_hf_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);
uint32_t
__wrap_hf_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b)
{
    return books == NULL ? __real_hf_crc32c_combine(crc_a, crc_b, length_b) : crc_a;
}

HF_TEST(memory_stays_within_its_bounds_however_large_the_lineage_is)
{
    const bool campaign = getenv("CAMPAIGN_SECONDS") != NULL;
    struct huge huge = {.folder = hf_test_folder(),
                        .size =
                            campaign ? (struct lineage_size){10000, 990000, 30} : (struct lineage_size){20, 20000, 3}};
    static const struct {
        const char *name;
        stage *act;
    } stages[] = {{"opening", nothing},          {"restore plan", plan_restore},
                  {"check, names", check_names}, {"lost pack", follow_a_lost_pack},
                  {"collection", collect},       {"catalog rebuild", rebuild},
                  {"check, books", check_books}}; // the last: it empties the packs
    test_vault_make(&huge.vault, huge.folder);
    test_vault_close(&huge.vault);
    (void)run(&huge, "making it", generate);
    print_message("# %.2f TB in %llu files, %llu pages, %llu leaves, %llu data packs, %zu backups\n",
                  (double)huge.made.bytes / 1e12, (unsigned long long)huge.made.files,
                  (unsigned long long)huge.made.pages, (unsigned long long)huge.made.leaves,
                  (unsigned long long)huge.made.data_packs, huge.size.backups);
    long worst = 0;
    for (size_t i = 0; i < HF_LENGTH(stages); i++) {
        const long kib = run(&huge, stages[i].name, stages[i].act);
        worst = kib > worst ? kib : worst;
    }
    assert_true(worst <= (campaign ? MOST_KIB : MOST_KIB / 4));
    test_vault_done(&huge.vault);
}

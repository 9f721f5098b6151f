/* Memory runs out at every point in turn: the error says so, nothing leaks, and enough of it works again. */
#include <stdlib.h>

#include "base/digest.h"
#include "base/id.h"
#include "server/source/postgres/facts.h"
#include "server/source/postgres/inventory.h"
#include "server/source/postgres/manifest.h"
#include "server/source/postgres/wal_format.h"
#include "server/source/source.h"
#include "tests/support/test.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);

static long allowed = -1; // allocations until the one that fails; -1: all succeed

static bool fails(void);
static bool fill_inventory(struct hf_error *err);
static bool read_manifest(struct hf_error *err);
static bool make_facts(struct hf_error *err);
static bool ignore_file(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err);
static void walk_through(bool (*act)(struct hf_error *err), long least);

HF_TEST(an_inventory_survives_the_end_of_memory)
{
    walk_through(fill_inventory, 5);
}

HF_TEST(a_manifest_survives_the_end_of_memory)
{
    walk_through(read_manifest, 2);
}

HF_TEST(facts_survive_the_end_of_memory)
{
    walk_through(make_facts, 2);
}

HF_TEST(page_faults_go_on_counting_without_memory)
{
    struct hf_page_faults faults;

    hf_page_faults_init(&faults);
    allowed = 0;
    hf_page_faults_add(&faults, "base/5/1", 1, 0, HF_PAGE_BAD);
    allowed = -1;
    assert_int_equal(faults.bad, 1);
    assert_int_equal(faults.count, 0);
    assert_true(faults.unlisted);
    hf_page_faults_done(&faults);
}

static bool
fill_inventory(struct hf_error *err)
{
    _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = NULL;
    char path[32];

    if (!hf_inventory_new(&inventory, err))
        return false;
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(path, sizeof path, "%u", i);
        if (!hf_inventory_add_file(inventory, path, err))
            return false;
        hf_inventory_finish_file(inventory, 1);
    }
    return true;
}

static bool
read_manifest(struct hf_error *err)
{
    static const char first[] = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n";
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;

    return hf_backup_manifest_new(ignore_file, NULL, &manifest, err) &&
           hf_backup_manifest_feed(manifest, first, strlen(first), err);
}

static bool
make_facts(struct hf_error *err)
{
    struct hf_postgres_tablespace tablespace = {16400, (char[]){"/srv"}};
    const struct hf_postgres_facts facts = {.tablespaces = &tablespace, .tablespace_count = 1};
    struct hf_page_fault fault = {(char[]){"base/5/1"}, 1, 2, HF_PAGE_BAD};
    struct hf_page_faults faults;
    _cleanup_(hf_json_freep) json_t *object = NULL;

    hf_page_faults_init(&faults);
    faults.items = &fault;
    faults.count = 1;
    _cleanup_(hf_backup_facts_done) struct hf_backup_facts shared = {0};
    return hf_postgres_facts_share(&facts, &shared, err) &&
           hf_facts_to_json(&shared, &faults, &(struct hf_facts_extra){.engine = "postgresql"}, &object, err);
}

static bool
ignore_file(__attribute__((unused)) void *context, __attribute__((unused)) const struct hf_backup_manifest_file *file,
            __attribute__((unused)) struct hf_error *err)
{
    return true;
}

static void
walk_through(bool (*act)(struct hf_error *err), long least)
{
    struct hf_error err;

    for (long n = 0;; n++) {
        allowed = n;
        bool ok = act(&err);
        allowed = -1;
        if (ok) {
            assert_true(n >= least);
            return;
        }
        assert_int_equal(err.kind, HF_ERR_NO_MEMORY);
        assert_true(n < 10000);
    }
}

static bool
fails(void)
{
    if (allowed < 0)
        return false;
    return allowed == 0 || allowed-- == 0;
}

void *
__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *
__wrap_reallocarray(void *old, size_t count, size_t size)
{
    return fails() ? NULL : __real_reallocarray(old, count, size);
}

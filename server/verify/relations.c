#include "server/verify/relations.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_SECONDS   30
#define JOBS_MOST         32
#define RELATIONS_MOST    (4u << 20)
#define FINDINGS_OF_TABLE 8

/* SQLSTATEs that tell of the host and not of the data. */
#define STATE_UNDEFINED_FILE "58P01" // a library of an extension is not on this host

struct relation {
    uint32_t oid;
    char kind;  // pg_class.relkind
    bool btree; // an index we can check
    bool index_valid;
    bool has_btree; // a table that can be counted through a whole btree
    uint64_t bytes;
    char name[200];   // schema.name, for people
    char quoted[300]; // for SQL
};

struct database {
    char name[64];
    uint32_t oid;
    bool collation_differs;
    char collation_why[256];
};

struct look {
    const struct hf_relations_options *options;
    struct hf_verify_check *environment, *tables, *heap, *indexes, *reverse, *zeros;
    pthread_mutex_t lock; // guards the checks and what follows
    const struct database *database;
    char amcheck[80]; // schema of amcheck, quoted, with the dot; "" when there is none
    char amcheck_why[300];
    size_t relation_count, relation_room, next;
    struct relation *relations;
    uint64_t rows;
    bool out_of_memory;
    int64_t tables_read, heaps, btrees, counted, other_indexes;
};

static bool list_databases(struct look *look, struct database **ret, size_t *ret_count, struct hf_error *err);
static bool check_database(struct look *look, const struct database *database, struct hf_database_facts *ret,
                           struct hf_error *err);
static void find_amcheck(struct look *look, PGconn *conn);
static bool list_relations(struct look *look, PGconn *conn, struct hf_error *err);
static bool take_relation(void *context, char *const *values, int count);
static void *check_work(void *context);
static void check_relation(struct look *look, PGconn *conn, const struct relation *relation);
static bool count_table(struct look *look, PGconn *conn, const struct relation *relation, bool through_index,
                        int64_t *ret);
static void check_heap(struct look *look, PGconn *conn, const struct relation *relation);
static bool take_heap_fault(void *context, char *const *values, int count);
static void check_btree(struct look *look, PGconn *conn, const struct relation *relation);
static void check_zero_blocks(struct look *look, PGconn *conn);
static bool belongs_here(const struct look *look, const struct hf_zero_block *zero);
static void check_zero_block(struct look *look, PGconn *conn, const struct hf_zero_block *zero);
static void refused(struct look *look, struct hf_verify_check *check, const char *what, const struct relation *relation,
                    const struct hf_query_refusal *refusal);
static int64_t block_in(const char *message);

bool
hf_relations_check(const struct hf_relations_options *options, struct hf_verify_report *report,
                   struct hf_relations_outcome *ret, struct hf_error *err)
{
    struct look look = {.options = options,
                        .environment = hf_report_find(report, "environment"),
                        .tables = hf_report_find(report, "tables_read"),
                        .heap = hf_report_find(report, "heap"),
                        .indexes = hf_report_find(report, "indexes"),
                        .reverse = hf_report_find(report, "index_to_table"),
                        .zeros = hf_report_find(report, "zero_blocks")};
    struct hf_verify_check *const all[] = {look.environment, look.tables,  look.heap,
                                           look.indexes,     look.reverse, look.zeros};
    struct database *databases;
    size_t count;
    pthread_mutex_init(&look.lock, NULL);
    for (size_t i = 0; i < HF_LENGTH(all); i++)
        hf_check_begin(all[i]);
    if (!list_databases(&look, &databases, &count, err)) {
        if (err->kind == HF_ERR_NO_MEMORY)
            return false;
        hf_check_fail(look.tables, "%s", err->message);
        return true;
    }

    ret->databases = calloc(count + 1, sizeof *ret->databases);
    bool ok = ret->databases != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the databases");
    for (size_t i = 0; ok && i < count; i++) {
        ok = check_database(&look, &databases[i], &ret->databases[i], err);
        ret->database_count = i + 1;
        ret->rows += ret->databases[i].rows;
    }
    free(databases);
    free(look.relations);
    pthread_mutex_destroy(&look.lock);
    if (!ok)
        return false;

    const int64_t examined[] = {(int64_t)count, look.tables_read, look.heaps,
                                look.btrees,    look.counted,     (int64_t)options->zero_block_count};
    for (size_t i = 0; i < HF_LENGTH(all); i++)
        if (all[i]->verdict == HF_VERDICT_NOT_RUN)
            hf_check_pass(all[i], examined[i]);
    return true;
}

struct database_list {
    struct database *items;
    size_t count;
};

static bool
take_database(void *context, char *const *values, int count)
{
    struct database_list *list = context;
    if (count < 5 || values[0] == NULL || values[1] == NULL || list->count == HF_DATABASES_MOST)
        return false;
    struct database *database = &list->items[list->count++];
    *database = (struct database){0};
    snprintf(database->name, sizeof database->name, "%s", values[0]);
    database->oid = (uint32_t)strtoul(values[1], NULL, 10);
    if (values[2] != NULL && values[3] != NULL && strcmp(values[2], values[3]) != 0) {
        database->collation_differs = true;
        snprintf(database->collation_why, sizeof database->collation_why,
                 "database \"%s\" was sorted by collation version %.40s, this host has %.40s", database->name,
                 values[2], values[3]);
    }
    return true;
}

static bool
list_databases(struct look *look, struct database **ret, size_t *ret_count, struct hf_error *err)
{
    /* Since 15 a database knows the version of its collation. */
    static const char with_version[] =
        "SELECT d.datname, d.oid, d.datcollversion, pg_database_collation_actual_version(d.oid), d.datallowconn "
        "FROM pg_database d ORDER BY d.oid";
    static const char without[] =
        "SELECT d.datname, d.oid, NULL, NULL, d.datallowconn FROM pg_database d ORDER BY d.oid";
    _cleanup_(hf_query_closep) PGconn *conn = NULL;
    struct hf_query_refusal refusal;
    if (!hf_query_connect(&look->options->target, "template1", CONNECT_SECONDS, &conn, err))
        return false;
    struct database_list list = {.items = calloc(HF_DATABASES_MOST, sizeof(struct database))};
    if (list.items == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of databases");
    if (!hf_query_run(conn, "UPDATE pg_database SET datallowconn = true WHERE NOT datallowconn", NULL, 0, NULL, NULL,
                      &refusal) ||
        !hf_query_run(conn, PQserverVersion(conn) >= 150000 ? with_version : without, NULL, 0, take_database, &list,
                      &refusal)) {
        free(list.items);
        return hf_fail(err, HF_ERR_CORRUPT, "the list of databases cannot be read: %s", refusal.message);
    }
    *ret = list.items;
    *ret_count = list.count;
    return true;
}

static bool
check_database(struct look *look, const struct database *database, struct hf_database_facts *ret, struct hf_error *err)
{
    _cleanup_(hf_query_closep) PGconn *conn = NULL;
    pthread_t threads[JOBS_MOST];
    snprintf(ret->name, sizeof ret->name, "%s", database->name);
    look->database = database;
    look->relation_count = look->next = 0;
    look->rows = 0;
    if (database->collation_differs)
        hf_check_cannot_tell(look->environment, "%s", database->collation_why);
    if (!hf_query_connect(&look->options->target, database->name, CONNECT_SECONDS, &conn, err)) {
        if (err->kind == HF_ERR_NO_MEMORY)
            return false;
        hf_check_found(look->tables, "unreachable_database", -1, "%s", database->name);
        hf_check_fail(look->tables, "%s", err->message);
        return true;
    }
    find_amcheck(look, conn);
    if (!list_relations(look, conn, err)) {
        if (err->kind == HF_ERR_NO_MEMORY)
            return false;
        hf_check_found(look->tables, "unreadable_catalog", -1, "%s", database->name);
        hf_check_fail(look->tables, "%s", err->message);
        return true;
    }
    for (size_t i = 0; i < look->relation_count; i++) {
        ret->bytes += look->relations[i].bytes;
        ret->tables += look->relations[i].kind == 'r' || look->relations[i].kind == 'm';
    }

    unsigned started = 0;
    const unsigned jobs = look->options->jobs < JOBS_MOST ? look->options->jobs : JOBS_MOST;
    while (started + 1 < jobs && pthread_create(&threads[started], NULL, check_work, look) == 0)
        started++;
    check_work(look);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (look->options->cancel != NULL && atomic_load(look->options->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the verification was cancelled");
    if (look->out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a check");
    check_zero_blocks(look, conn);
    ret->rows = look->rows;
    return true;
}

/* Where amcheck is, or put it there: the copy is ours to change. */
static void
find_amcheck(struct look *look, PGconn *conn)
{
    static const char where[] =
        "SELECT quote_ident(n.nspname) || '.' FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'amcheck'";
    struct hf_query_refusal refusal;
    look->amcheck_why[0] = 0;
    if (hf_query_text(conn, where, NULL, 0, look->amcheck, sizeof look->amcheck, &refusal))
        return;
    if (hf_query_run(conn, "CREATE EXTENSION amcheck SCHEMA pg_catalog", NULL, 0, NULL, NULL, &refusal)) {
        snprintf(look->amcheck, sizeof look->amcheck, "pg_catalog.");
        return;
    }
    look->amcheck[0] = 0;
    snprintf(look->amcheck_why, sizeof look->amcheck_why, "amcheck cannot be had in database \"%s\": %.180s",
             look->database->name, refusal.message);
}

static bool
list_relations(struct look *look, PGconn *conn, struct hf_error *err)
{
    /* Temporary tables of dead sessions are nobody's.  Shared relations are looked at once, in template1's turn. */
    static const char sql[] =
        "SELECT c.oid, c.relkind, coalesce(am.amname = 'btree' AND c.relkind = 'i', false), "
        "       coalesce(i.indisvalid AND i.indisready AND i.indislive, true), "
        "       EXISTS (SELECT FROM pg_index x JOIN pg_class xc ON xc.oid = x.indexrelid JOIN pg_am xa ON xa.oid = "
        "xc.relam "
        "               WHERE x.indrelid = c.oid AND xa.amname = 'btree' AND x.indpred IS NULL AND x.indisvalid "
        "                 AND x.indisready), "
        "       pg_relation_size(c.oid), n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || "
        "quote_ident(c.relname) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam "
        "LEFT JOIN pg_index i ON i.indexrelid = c.oid "
        "WHERE c.relkind IN ('r', 'm', 't', 'i') AND c.relpersistence <> 't' "
        "  AND (NOT c.relisshared OR current_database() = 'template1') "
        "ORDER BY 6 DESC";
    struct hf_query_refusal refusal;
    if (!hf_query_run(conn, sql, NULL, 0, take_relation, look, &refusal))
        return hf_fail(err, HF_ERR_CORRUPT, "the catalog of database \"%s\" cannot be read: %s", look->database->name,
                       refusal.message);
    if (look->out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of relations");
    return true;
}

static bool
take_relation(void *context, char *const *values, int count)
{
    struct look *look = context;
    if (count < 8 || values[0] == NULL || values[1] == NULL || values[6] == NULL || values[7] == NULL)
        return true;
    if (look->relation_count == look->relation_room) {
        const size_t room = look->relation_room > 0 ? 2 * look->relation_room : 1024;
        struct relation *grown = room <= RELATIONS_MOST ? realloc(look->relations, room * sizeof *grown) : NULL;
        if (grown == NULL) {
            look->out_of_memory = true;
            return false;
        }
        look->relations = grown;
        look->relation_room = room;
    }
    struct relation *relation = &look->relations[look->relation_count++];
    *relation = (struct relation){.oid = (uint32_t)strtoul(values[0], NULL, 10),
                                  .kind = values[1][0],
                                  .btree = values[2] != NULL && values[2][0] == 't',
                                  .index_valid = values[3] != NULL && values[3][0] == 't',
                                  .has_btree = values[4] != NULL && values[4][0] == 't',
                                  .bytes = values[5] != NULL ? strtoull(values[5], NULL, 10) : 0};
    snprintf(relation->name, sizeof relation->name, "%s", values[6]);
    snprintf(relation->quoted, sizeof relation->quoted, "%s", values[7]);
    if (look->options->total != NULL)
        atomic_fetch_add(look->options->total, relation->bytes);
    return true;
}

static void *
check_work(void *context)
{
    struct look *look = context;
    struct hf_error err;
    _cleanup_(hf_query_closep) PGconn *conn = NULL;
    for (;;) {
        pthread_mutex_lock(&look->lock);
        const struct relation *relation = look->next < look->relation_count ? &look->relations[look->next++] : NULL;
        pthread_mutex_unlock(&look->lock);
        if (relation == NULL || (look->options->cancel != NULL && atomic_load(look->options->cancel)))
            return NULL;
        if ((conn == NULL || PQstatus(conn) != CONNECTION_OK)) {
            hf_query_closep(&conn);
            if (!hf_query_connect(&look->options->target, look->database->name, CONNECT_SECONDS, &conn, &err)) {
                pthread_mutex_lock(&look->lock);
                hf_check_fail(look->tables, "%s", err.message);
                pthread_mutex_unlock(&look->lock);
                return NULL;
            }
        }
        check_relation(look, conn, relation);
        if (look->options->done != NULL)
            atomic_fetch_add(look->options->done, relation->bytes);
    }
}

static void
check_relation(struct look *look, PGconn *conn, const struct relation *relation)
{
    if (relation->kind == 'i') {
        check_btree(look, conn, relation);
        return;
    }
    int64_t rows, through_index;
    const bool counted = count_table(look, conn, relation, false, &rows);
    pthread_mutex_lock(&look->lock);
    look->tables_read++;
    if (counted && relation->kind != 't')
        look->rows += (uint64_t)rows;
    pthread_mutex_unlock(&look->lock);
    check_heap(look, conn, relation);
    if (!counted || !relation->has_btree || !count_table(look, conn, relation, true, &through_index))
        return;
    pthread_mutex_lock(&look->lock);
    look->counted++;
    if (rows != through_index)
        hf_check_found(look->reverse, "rows_missing_in_table", -1,
                       "%s.%s: %" PRId64 " rows in the table, %" PRId64 " through its index", look->database->name,
                       relation->name, rows, through_index);
    pthread_mutex_unlock(&look->lock);
}

/* The planner is told which way; a plan of the other kind would only cost time, and then both counts agree. */
static bool
count_table(struct look *look, PGconn *conn, const struct relation *relation, bool through_index, int64_t *ret)
{
    char sql[400];
    struct hf_query_refusal refusal;
    const char *const settings[2][4] = {
        {"SET enable_seqscan = on", "SET enable_indexonlyscan = off", "SET enable_indexscan = off", NULL},
        {"SET enable_seqscan = off", "SET enable_indexonlyscan = on", "SET enable_bitmapscan = off", NULL}};
    bool ok = true;
    for (size_t i = 0; ok && settings[through_index][i] != NULL; i++)
        ok = hf_query_run(conn, settings[through_index][i], NULL, 0, NULL, NULL, &refusal);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM ONLY %s", relation->quoted);
    if (ok && hf_query_number(conn, sql, NULL, 0, ret, &refusal))
        return true;
    refused(look, through_index ? look->reverse : look->tables,
            through_index ? "unreadable_through_index" : "unreadable_table", relation, &refusal);
    return false;
}

struct heap_faults {
    struct look *look;
    const struct relation *relation;
    int count;
};

static void
check_heap(struct look *look, PGconn *conn, const struct relation *relation)
{
    char sql[300], oid[16];
    struct hf_query_refusal refusal;
    const char *const parameters[] = {oid};
    snprintf(oid, sizeof oid, "%u", relation->oid);
    if (look->amcheck[0] == 0) {
        pthread_mutex_lock(&look->lock);
        hf_check_cannot_tell(look->heap, "%s", look->amcheck_why);
        pthread_mutex_unlock(&look->lock);
        return;
    }
    if (PQserverVersion(conn) < 140000) {
        pthread_mutex_lock(&look->lock);
        hf_check_cannot_tell(look->heap, "PostgreSQL %d has no verify_heapam", PQserverVersion(conn) / 10000);
        pthread_mutex_unlock(&look->lock);
        return;
    }
    struct heap_faults faults = {look, relation, 0};
    snprintf(sql, sizeof sql,
             "SELECT blkno, offnum, msg FROM %sverify_heapam(relation => $1::oid::regclass, check_toast => true)",
             look->amcheck);
    const bool ok = hf_query_run(conn, sql, parameters, 1, take_heap_fault, &faults, &refusal);
    pthread_mutex_lock(&look->lock);
    look->heaps++;
    pthread_mutex_unlock(&look->lock);
    if (!ok)
        refused(look, look->heap, "unreadable_table", relation, &refusal);
}

static bool
take_heap_fault(void *context, char *const *values, int count)
{
    struct heap_faults *faults = context;
    if (count < 3)
        return false;
    pthread_mutex_lock(&faults->look->lock);
    hf_check_found(faults->look->heap, "damaged_row", values[0] != NULL ? strtoll(values[0], NULL, 10) : -1,
                   "%s.%s: %.120s", faults->look->database->name, faults->relation->name,
                   values[2] != NULL ? values[2] : "");
    pthread_mutex_unlock(&faults->look->lock);
    return ++faults->count < FINDINGS_OF_TABLE;
}

static void
check_btree(struct look *look, PGconn *conn, const struct relation *relation)
{
    char sql[200], oid[16], ignored[8];
    struct hf_query_refusal refusal;
    const char *const parameters[] = {oid};
    snprintf(oid, sizeof oid, "%u", relation->oid);
    if (!relation->btree ||
        !relation->index_valid) { // other kinds have no check in amcheck; an invalid one is not used
        pthread_mutex_lock(&look->lock);
        look->other_indexes++;
        pthread_mutex_unlock(&look->lock);
        return;
    }
    pthread_mutex_lock(&look->lock);
    if (look->amcheck[0] == 0)
        hf_check_cannot_tell(look->indexes, "%s", look->amcheck_why);
    if (look->database->collation_differs)
        hf_check_cannot_tell(look->indexes, "%s", look->database->collation_why);
    pthread_mutex_unlock(&look->lock);
    if (look->amcheck[0] == 0)
        return;

    snprintf(sql, sizeof sql, "SELECT %sbt_index_check(index => $1::oid::regclass, heapallindexed => true)::text",
             look->amcheck);
    const bool ok = hf_query_text(conn, sql, parameters, 1, ignored, sizeof ignored, &refusal);
    pthread_mutex_lock(&look->lock);
    look->btrees++;
    pthread_mutex_unlock(&look->lock);
    if (ok || look->database->collation_differs)
        return; // in another order everything looks wrong: said above, by name
    refused(look, look->indexes, "damaged_index", relation, &refusal);
}

static void
check_zero_blocks(struct look *look, PGconn *conn)
{
    const struct hf_relations_options *options = look->options;
    bool any = false;
    for (size_t i = 0; i < options->zero_block_count; i++)
        any = any || belongs_here(look, &options->zero_blocks[i]);
    if (!any)
        return;
    struct hf_query_refusal refusal;
    if (!hf_query_run(conn, "CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA pg_catalog", NULL, 0, NULL, NULL,
                      &refusal)) {
        hf_check_cannot_tell(look->zeros, "pageinspect cannot be had: %.200s", refusal.message);
        return;
    }
    for (size_t i = 0; i < options->zero_block_count; i++)
        if (belongs_here(look, &options->zero_blocks[i]))
            check_zero_block(look, conn, &options->zero_blocks[i]);
}

/* Shared relations are looked at in template1's turn. */
static bool
belongs_here(const struct look *look, const struct hf_zero_block *zero)
{
    return zero->database == look->database->oid ||
           (zero->database == 0 && strcmp(look->database->name, "template1") == 0);
}

/*
 * Replay may have filled it since; an empty page that was never used is fine too.  But a block that an
 * index of the table points into was used, and its rows are gone.
 */
static void
check_zero_block(struct look *look, PGconn *conn, const struct hf_zero_block *zero)
{
    static const char find[] = "SELECT c.oid::text FROM pg_class c WHERE c.relkind IN ('r', 'm', 't') AND "
                               "pg_relation_filenode(c.oid) = $1::oid";
    static const char still[] =
        "SELECT count(*) FROM (SELECT get_raw_page($1::oid::regclass::text, 'main', $2::int8::int4) AS page) p "
        "WHERE p.page = decode(repeat('00', length(p.page)), 'hex')";
    static const char used[] =
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam, "
        "generate_series(1, pg_relation_size(i.indexrelid) / current_setting('block_size')::int8 - 1) AS leaf, "
        "LATERAL (SELECT type FROM bt_page_stats(i.indexrelid::regclass::text, leaf::int4)) s, "
        "LATERAL (SELECT ctid, htid, tids FROM bt_page_items(i.indexrelid::regclass::text, leaf::int4)) t "
        "WHERE i.indrelid = $1::oid AND a.amname = 'btree' AND i.indisvalid AND s.type = 'l' "
        "AND (split_part(trim('()' from t.htid::text), ',', 1) = $2 "
        "     OR EXISTS (SELECT FROM unnest(t.tids) x WHERE split_part(trim('()' from x::text), ',', 1) = $2))";
    char file_node[16], block[16], relation[16], name[200];
    struct hf_query_refusal refusal;
    int64_t count;
    snprintf(file_node, sizeof file_node, "%u", zero->file_node);
    snprintf(block, sizeof block, "%u", zero->block);
    const char *const by_node[] = {file_node}, *const by_block[] = {relation, block};
    if (!hf_query_text(conn, find, by_node, 1, relation, sizeof relation, &refusal))
        return; // an index, a map, or a table that replay has dropped or rewritten
    if (!hf_query_number(conn, still, by_block, 2, &count, &refusal) || count == 0)
        return; // filled since, or cut off: other checks see what is wrong with the rest
    if (!hf_query_number(conn, used, by_block, 2, &count, &refusal)) {
        hf_check_cannot_tell(look->zeros, "the indexes cannot be looked into: %.200s", refusal.message);
        return;
    }
    const char *const of_relation[] = {relation};
    if (count > 0 && hf_query_text(conn, "SELECT $1::oid::regclass::text", of_relation, 1, name, sizeof name, &refusal))
        hf_check_found(look->zeros, "zeroed_block", zero->block, "%s.%s", look->database->name, name);
}

/* A refusal is a finding, unless it tells of this host. */
static void
refused(struct look *look, struct hf_verify_check *check, const char *what, const struct relation *relation,
        const struct hf_query_refusal *refusal)
{
    pthread_mutex_lock(&look->lock);
    if (strcmp(refusal->state, STATE_UNDEFINED_FILE) == 0 && strstr(refusal->message, "pg_xact") == NULL &&
        strstr(refusal->message, "base/") == NULL)
        hf_check_cannot_tell(check, "%s.%s: %.300s", look->database->name, relation->name, refusal->message);
    else if (strncmp(refusal->state, "53", 2) == 0 || strcmp(refusal->state, "57014") == 0)
        hf_check_cannot_tell(check, "%s.%s: the copy ran out of room or time: %.200s", look->database->name,
                             relation->name, refusal->message);
    else
        hf_check_found(check, what, block_in(refusal->message), "%s.%s: %.140s", look->database->name, relation->name,
                       refusal->message);
    pthread_mutex_unlock(&look->lock);
}

/* "heap tuple (12,3) from ..." and "could not read block 12 in file ...": the block; else -1. */
static int64_t
block_in(const char *message)
{
    const char *at = strstr(message, "block ");
    if (at != NULL && at[6] >= '0' && at[6] <= '9')
        return strtoll(at + 6, NULL, 10);
    at = strstr(message, "tuple (");
    if (at != NULL && at[7] >= '0' && at[7] <= '9')
        return strtoll(at + 7, NULL, 10);
    return -1;
}

#include "server/verify/postgres/relations_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_SECONDS      30
#define JOBS_MOST            32
#define RELATIONS_MOST       (4u << 20)
#define INDEX_FUNCTIONS_MOST 64

/* Classes of SQLSTATE. */
#define CLASS_NO_RESOURCES "53"
#define CLASS_INTERVENTION "57" // cancelled, or the server went down
#define CLASS_SYNTAX       "42" // names that are not found
#define CLASS_CORRUPT      "XX" // also what the server never expected
#define CLASS_SYSTEM       "58" // files that do not open or read

/* Rows of a table, and keys that more than one of them has. */
struct counts {
    int64_t rows, twice;
};

static bool list_databases(struct look *look, struct database **ret, size_t *ret_count, struct hf_error *err);
static bool check_database(struct look *look, const struct database *database, struct hf_database_facts *ret,
                           struct hf_error *err);
static void count_relation(struct look *look, const struct relation *relation, struct hf_database_facts *ret);
static void judge_unreachable(struct look *look, const char *message);
static void leave_unexamined(struct look *look, const char *why);
static void find_amcheck(struct look *look, struct hf_asker_conn *conn);
static bool list_relations(struct look *look, struct hf_asker_conn *conn, struct hf_error *err);
static bool take_relation(void *context, char *const *values, int count);
static void *check_work(void *context);
static void check_relation(struct look *look, struct hf_asker_conn *conn, const struct relation *relation);
static void check_sequence(struct look *look, struct hf_asker_conn *conn, const struct relation *relation);
static bool count_table(struct look *look, struct hf_asker_conn *conn, const struct relation *relation,
                        bool through_index, int64_t *ret, int64_t *ret_twice);
static bool take_counts(void *context, char *const *values, int count);
static void check_heap(struct look *look, struct hf_asker_conn *conn, const struct relation *relation);
static bool take_heap_fault(void *context, char *const *values, int count);
static void check_btree(struct look *look, struct hf_asker_conn *conn, const struct relation *relation);
static bool lend_search_path(struct hf_asker_conn *conn, const struct relation *relation);
static bool ask_amcheck(const struct look *look, struct hf_asker_conn *conn, const struct relation *relation,
                        struct hf_query_refusal *refusal);
static int64_t block_in(const char *message);

bool
hf_relations_check(const struct hf_relations_options *options, struct hf_verify_report *report,
                   struct hf_relations_outcome *ret, struct hf_error *err)
{
    struct look look = {.options = options,
                        .environment = hf_report_find(report, "environment"),
                        .catalog = hf_report_find(report, "catalog"),
                        .tables = hf_report_find(report, "tables_read"),
                        .heap = hf_report_find(report, "heap"),
                        .indexes = hf_report_find(report, "indexes"),
                        .reverse = hf_report_find(report, "index_to_table"),
                        .other_indexes = hf_report_find(report, "other_indexes"),
                        .keys = hf_report_find(report, "unique_keys"),
                        .references = hf_report_find(report, "references"),
                        .sequences = hf_report_find(report, "sequences"),
                        .zeros = hf_report_find(report, "zero_blocks")};
    const struct {
        struct hf_verify_check *check;
        const int64_t *seen, *of;
    } all[] = {{look.environment, &look.seen.catalogs, &look.of.catalogs},
               {look.catalog, &look.seen.catalogs, &look.of.catalogs},
               {look.tables, &look.seen.tables, &look.of.tables},
               {look.heap, &look.seen.heaps, &look.of.heaps},
               {look.indexes, &look.seen.btrees, &look.of.btrees},
               {look.reverse, &look.seen.counted, &look.of.counted},
               {look.keys, &look.seen.keys, &look.of.keys},
               {look.references, &look.seen.references, &look.of.references},
               {look.sequences, &look.seen.sequences, &look.of.sequences},
               {look.zeros, &look.seen.zeros, &look.of.zeros}};
    struct database *databases;
    size_t count;
    pthread_mutex_init(&look.lock, NULL);
    for (size_t i = 0; i < HF_LENGTH(all); i++)
        hf_check_begin(all[i].check);
    hf_check_begin(look.other_indexes);
    if (!list_databases(&look, &databases, &count, err)) {
        if (err->kind == HF_ERR_NO_MEMORY)
            return false;
        if (err->kind == HF_ERR_NONE || (err->kind == HF_ERR_UNAVAILABLE &&
                                         (hf_query_is_of_host(err->message) || !hf_query_was_answered(err->message))))
            hf_check_cannot_tell(look.tables, "%s", err->message);
        else
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
    hf_references_done(&look.foreign_keys);
    free(look.relations);
    pthread_mutex_destroy(&look.lock);
    if (!ok)
        return false;

    look.of.catalogs = (int64_t)count;
    look.of.zeros = options->zero_blocks_cut ? -1 : (int64_t)options->zero_block_count;
    for (size_t i = 0; i < HF_LENGTH(all); i++) {
        hf_check_covers(all[i].check, *all[i].of);
        hf_check_pass(all[i].check, *all[i].seen);
    }
    hf_check_covers(look.other_indexes, look.other_kinds);
    if (look.other_kinds > 0)
        hf_check_cannot_tell(look.other_indexes,
                             "no check looks into %" PRId64 " indexes of other kinds, the first: %s", look.other_kinds,
                             look.other_kind);
    hf_check_pass(look.other_indexes, 0);
    return true;
}

struct database_list {
    struct database *items;
    size_t count;
    bool cut;
};

static bool
take_database(void *context, char *const *values, int count)
{
    struct database_list *list = context;
    list->cut = list->cut || count < 5 || values[0] == NULL || values[1] == NULL || list->count == HF_DATABASES_MOST;
    if (list->cut)
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
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    struct hf_query_refusal refusal;
    if (!hf_query_connect(&look->options->target, "template1", CONNECT_SECONDS, &conn, err))
        return false;
    struct database_list list = {.items = calloc(HF_DATABASES_MOST, sizeof(struct database))};
    if (list.items == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of databases");
    if (!hf_query_run(conn, "UPDATE pg_database SET datallowconn = true WHERE NOT datallowconn", NULL, 0, NULL, NULL,
                      &refusal) ||
        !hf_query_run(conn, hf_asker_conn_version(conn) >= 150000 ? with_version : without, NULL, 0, take_database,
                      &list, &refusal)) {
        free(list.items);
        return hf_fail(err, hf_query_is_no_verdict(&refusal) ? HF_ERR_NONE : HF_ERR_CORRUPT,
                       "the list of databases cannot be read: %s", refusal.message);
    }
    if (list.cut) {
        hf_check_cannot_tell(look->environment, "not all databases were looked into: there are more than %d",
                             HF_DATABASES_MOST);
        hf_check_cannot_tell(look->tables, "not all databases were looked into: there are more than %d",
                             HF_DATABASES_MOST);
    }
    *ret = list.items;
    *ret_count = list.count;
    return true;
}

static bool
check_database(struct look *look, const struct database *database, struct hf_database_facts *ret, struct hf_error *err)
{
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
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
        judge_unreachable(look, err->message);
        return true;
    }
    find_amcheck(look, conn);
    hf_look_at_catalog(look, conn);
    if (!list_relations(look, conn, err) || !hf_references_list(look, conn, &look->foreign_keys, err)) {
        if (err->kind == HF_ERR_NO_MEMORY)
            return false;
        if (err->kind == HF_ERR_NONE) {
            hf_check_cannot_tell(look->tables, "%s", err->message);
        } else {
            hf_check_found(look->tables, "unreadable_catalog", -1, "%s", database->name);
            hf_check_fail(look->tables, "%s", err->message);
        }
        leave_unexamined(look, err->message);
        return true;
    }
    look->seen.catalogs++;
    look->of.references += (int64_t)look->foreign_keys.count;
    for (size_t i = 0; i < look->relation_count; i++)
        count_relation(look, &look->relations[i], ret);

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
    hf_look_at_zero_blocks(look, conn);
    hf_look_at_sequences(look, conn);
    hf_references_done(&look->foreign_keys);
    ret->rows = look->rows;
    return true;
}

/* What there is to look at, counted apart from the looking. */
static void
count_relation(struct look *look, const struct relation *relation, struct hf_database_facts *ret)
{
    const bool is_table = relation->kind == 'r' || relation->kind == 'm' || relation->kind == 't';
    ret->bytes += relation->bytes;
    ret->tables += relation->kind == 'r' || relation->kind == 'm';
    look->of.tables += is_table || relation->kind == 'S';
    look->of.heaps += is_table;
    look->of.counted += is_table && relation->has_btree;
    look->of.keys += relation->key[0] != 0;
    look->of.btrees += relation->btree && relation->index_valid;
    if (relation->is_unlogged_bare)
        hf_check_found(look->catalog, "init_fork_missing", -1, "%s.%s", look->database->name, relation->name);
    if (relation->kind != 'i' || relation->btree)
        return;
    if (look->other_kinds++ == 0)
        snprintf(look->other_kind, sizeof look->other_kind, "%.50s.%.190s", look->database->name, relation->name);
}

static void
judge_unreachable(struct look *look, const char *message)
{
    leave_unexamined(look, message);
    if (hf_query_is_of_host(message) || !hf_query_was_answered(message)) {
        hf_check_cannot_tell(look->tables, "%s", message);
        if (hf_query_was_answered(message))
            hf_check_cannot_tell(look->environment, "%s", message);
        return;
    }
    hf_check_found(look->tables, "unreachable_database", -1, "%s", look->database->name);
    hf_check_fail(look->tables, "%s", message);
}

/* What was not looked at has not passed. */
static void
leave_unexamined(struct look *look, const char *why)
{
    struct hf_verify_check *const rest[] = {look->catalog, look->heap,  look->indexes,    look->reverse,
                                            look->keys,    look->zeros, look->references, look->sequences};
    for (size_t i = 0; i < HF_LENGTH(rest); i++)
        hf_check_cannot_tell(rest[i], "not all of database \"%s\" could be looked into: %.300s", look->database->name,
                             why);
}

/* Where amcheck is, or put it there: the copy is ours to change. */
static void
find_amcheck(struct look *look, struct hf_asker_conn *conn)
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
list_relations(struct look *look, struct hf_asker_conn *conn, struct hf_error *err)
{
    /*
     * Temporary tables of dead sessions are nobody's; a materialized view that was never filled cannot be read.
     * Shared relations are looked at once, in template1's turn.  Collation 100 is the database's own.
     */
    static const char sql[] =
        "SELECT c.oid, c.relkind, coalesce(am.amname = 'btree' AND c.relkind = 'i', false), "
        "       coalesce(i.indisvalid AND i.indisready AND i.indislive, true), "
        "       EXISTS (SELECT FROM pg_index x JOIN pg_class xc ON xc.oid = x.indexrelid JOIN pg_am xa ON xa.oid = "
        "xc.relam "
        "               WHERE x.indrelid = c.oid AND xa.amname = 'btree' AND x.indpred IS NULL AND x.indisvalid "
        "                 AND x.indisready), "
        "       pg_relation_size(c.oid), coalesce(n.nspname, '?') || '.' || c.relname, "
        "       coalesce(quote_ident(n.nspname), '?') || '.' || quote_ident(c.relname), "
        "       coalesce(am.amname = 'heap', false), coalesce(100 = ANY (i.indcollation::oid[]), false), "
        "       coalesce(quote_ident(n.nspname), '?'), "
        "       (SELECT format('collation \"%s\" has version %s, this host has %s', o.collname, o.collversion, "
        "                      pg_collation_actual_version(o.oid)) "
        "        FROM pg_collation o WHERE o.oid = ANY (i.indcollation::oid[]) "
        "          AND o.collversion <> pg_collation_actual_version(o.oid) LIMIT 1), "
        "       (SELECT (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place) "
        "                FROM unnest(u.indkey::int2[]) WITH ORDINALITY k(attnum, place) "
        "                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum "
        "                WHERE k.place <= u.indnkeyatts) "
        "        FROM pg_index u JOIN pg_class uc ON uc.oid = u.indexrelid JOIN pg_am ua ON ua.oid = uc.relam "
        "        WHERE u.indrelid = c.oid AND c.relkind IN ('r', 'm') AND u.indisprimary AND u.indisvalid "
        "          AND u.indisready AND ua.amname = 'btree' AND u.indpred IS NULL AND u.indexprs IS NULL "
        "          AND NOT EXISTS (SELECT FROM pg_opclass p WHERE p.oid = ANY (u.indclass::oid[]) AND NOT "
        "p.opcdefault) "
        "          AND NOT EXISTS (SELECT FROM unnest(u.indkey::int2[], u.indcollation::oid[]) k(attnum, coll) "
        "                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum "
        "                          WHERE a.attcollation <> k.coll) LIMIT 1), "
        "       c.relpersistence = 'u' AND c.relkind IN ('r', 't', 'i', 'S') "
        "         AND pg_stat_file(pg_relation_filepath(c.oid) || '_init', true) IS NULL "
        "FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am am ON am.oid = c.relam "
        "LEFT JOIN pg_index i ON i.indexrelid = c.oid "
        "WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence <> 't' AND c.relispopulated "
        "  AND (NOT c.relisshared OR current_database() = 'template1') "
        "ORDER BY 6 DESC";
    struct hf_query_refusal refusal;
    if (!hf_query_run(conn, sql, NULL, 0, take_relation, look, &refusal))
        return hf_fail(err, hf_query_is_no_verdict(&refusal) ? HF_ERR_NONE : HF_ERR_CORRUPT,
                       "the catalog of database \"%s\" cannot be read: %s", look->database->name, refusal.message);
    if (look->out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of relations");
    return true;
}

static bool
take_relation(void *context, char *const *values, int count)
{
    struct look *look = context;
    if (count < 14 || values[0] == NULL || values[1] == NULL || values[6] == NULL || values[7] == NULL ||
        values[10] == NULL) { // no column of these can be NULL in a sound catalog
        hf_check_found(look->catalog, "nameless_relation", -1, "%s: oid %.20s", look->database->name,
                       count > 0 && values[0] != NULL ? values[0] : "?");
        return true;
    }
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
                                  .heap = values[8] != NULL && values[8][0] == 't',
                                  .sorts_text = values[9] != NULL && values[9][0] == 't',
                                  .bytes = values[5] != NULL ? strtoull(values[5], NULL, 10) : 0};
    snprintf(relation->name, sizeof relation->name, "%s", values[6]);
    snprintf(relation->quoted, sizeof relation->quoted, "%s", values[7]);
    snprintf(relation->schema, sizeof relation->schema, "%s", values[10]);
    snprintf(relation->collation, sizeof relation->collation, "%s", values[11] != NULL ? values[11] : "");
    if (values[12] != NULL && strlen(values[12]) < sizeof relation->key)
        snprintf(relation->key, sizeof relation->key, "%s", values[12]);
    relation->is_unlogged_bare = values[13] != NULL && values[13][0] == 't';
    if (look->options->total != NULL)
        atomic_fetch_add(look->options->total, relation->bytes);
    return true;
}

static void *
check_work(void *context)
{
    struct look *look = context;
    struct hf_error err;
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    for (;;) {
        pthread_mutex_lock(&look->lock);
        struct hf_references *references = &look->foreign_keys;
        const struct relation *relation = look->next < look->relation_count ? &look->relations[look->next++] : NULL;
        const struct hf_reference *reference =
            relation == NULL && references->next < references->count ? &references->items[references->next++] : NULL;
        pthread_mutex_unlock(&look->lock);
        if ((relation == NULL && reference == NULL) ||
            (look->options->cancel != NULL && atomic_load(look->options->cancel)))
            return NULL;
        if ((conn == NULL || !hf_asker_conn_is_open(conn))) {
            hf_asker_conn_freep(&conn);
            if (!hf_query_connect(&look->options->target, look->database->name, CONNECT_SECONDS, &conn, &err)) {
                pthread_mutex_lock(&look->lock);
                judge_unreachable(look, err.message);
                pthread_mutex_unlock(&look->lock);
                return NULL;
            }
        }
        if (reference != NULL) {
            hf_reference_check(look, conn, reference);
            continue;
        }
        check_relation(look, conn, relation);
        if (look->options->done != NULL)
            atomic_fetch_add(look->options->done, relation->bytes);
    }
}

static void
check_relation(struct look *look, struct hf_asker_conn *conn, const struct relation *relation)
{
    if (relation->kind == 'i') {
        check_btree(look, conn, relation);
        return;
    }
    if (relation->kind == 'S') {
        check_sequence(look, conn, relation);
        return;
    }
    int64_t rows, through_index, twice;
    const bool counted = count_table(look, conn, relation, false, &rows, &twice);
    pthread_mutex_lock(&look->lock);
    look->seen.tables++;
    if (counted && relation->kind != 't')
        look->rows += (uint64_t)rows;
    pthread_mutex_unlock(&look->lock);
    if (relation->heap)
        check_heap(look, conn, relation);
    if (!counted || !relation->has_btree || !count_table(look, conn, relation, true, &through_index, &twice))
        return;
    pthread_mutex_lock(&look->lock);
    look->seen.keys += relation->key[0] != 0;
    if (twice > 0)
        hf_check_found(look->keys, "duplicate_key", -1, "%s.%s (%s): %" PRId64 " keys stand there more than once",
                       look->database->name, relation->name, relation->key, twice);
    look->seen.counted++;
    if (rows != through_index)
        hf_check_found(look->reverse, "rows_missing_in_table", -1,
                       "%s.%s: %" PRId64 " rows in the table, %" PRId64 " through its index", look->database->name,
                       relation->name, rows, through_index);
    pthread_mutex_unlock(&look->lock);
}

/* One row, on a page that says it is a sequence's: the server checks that when it is asked for the last value. */
static void
check_sequence(struct look *look, struct hf_asker_conn *conn, const struct relation *relation)
{
    char oid[16];
    const char *const parameters[] = {oid};
    struct hf_query_refusal refusal;
    snprintf(oid, sizeof oid, "%u", relation->oid);
    const bool ok = hf_query_run(conn, "SELECT pg_sequence_last_value($1::oid)", parameters, 1, NULL, NULL, &refusal);
    pthread_mutex_lock(&look->lock);
    look->seen.tables++;
    pthread_mutex_unlock(&look->lock);
    if (!ok)
        hf_look_refused(look, look->tables, "unreadable_sequence", relation, &refusal);
}

/*
 * The planner is told which way; a table that is empty or has no index that fits it reads the same way twice.  Through
 * a primary key's index equal keys stand side by side, so that those that are there twice are seen on the way.
 */
static bool
count_table(struct look *look, struct hf_asker_conn *conn, const struct relation *relation, bool through_index,
            int64_t *ret, int64_t *ret_twice)
{
    char sql[1400];
    struct hf_query_refusal refusal;
    struct counts counts = {.rows = -1};
    /* All of them each time: what the count before has set stays. */
    static const char *const settings[] = {
        "SELECT set_config('enable_seqscan', 'on', false), set_config('enable_indexscan', 'off', false), "
        "set_config('enable_indexonlyscan', 'off', false), set_config('enable_bitmapscan', 'off', false), "
        "set_config('enable_hashagg', 'on', false)",
        "SELECT set_config('enable_seqscan', 'off', false), set_config('enable_indexscan', 'on', false), "
        "set_config('enable_indexonlyscan', 'on', false), set_config('enable_bitmapscan', 'off', false), "
        "set_config('enable_hashagg', 'off', false)"};
    const bool ok = hf_query_run(conn, settings[through_index], NULL, 0, NULL, NULL, &refusal);
    if (through_index && relation->key[0] != 0)
        snprintf(sql, sizeof sql,
                 "SELECT coalesce(sum(n), 0)::int8, count(*) FILTER (WHERE n > 1) "
                 "FROM (SELECT count(*) AS n FROM ONLY %s GROUP BY %s) k",
                 relation->quoted, relation->key);
    else
        snprintf(sql, sizeof sql, "SELECT count(*), 0 FROM ONLY %s", relation->quoted);
    if (ok && hf_query_run(conn, sql, NULL, 0, take_counts, &counts, &refusal) && counts.rows >= 0) {
        *ret = counts.rows;
        *ret_twice = counts.twice;
        return true;
    }
    hf_look_refused(look, through_index ? look->reverse : look->tables,
                    through_index ? "unreadable_through_index" : "unreadable_table", relation, &refusal);
    return false;
}

static bool
take_counts(void *context, char *const *values, int count)
{
    struct counts *counts = context;
    if (count == 2 && values[0] != NULL && values[1] != NULL)
        *counts = (struct counts){strtoll(values[0], NULL, 10), strtoll(values[1], NULL, 10)};
    return false;
}

struct heap_faults {
    struct look *look;
    const struct relation *relation;
    int count;
};

static void
check_heap(struct look *look, struct hf_asker_conn *conn, const struct relation *relation)
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
    if (hf_asker_conn_version(conn) < 140000) {
        pthread_mutex_lock(&look->lock);
        look->heap->required = false; // no release of it can: said by name, and the other checks decide
        hf_check_cannot_tell(look->heap, "PostgreSQL %d has no verify_heapam", hf_asker_conn_version(conn) / 10000);
        pthread_mutex_unlock(&look->lock);
        return;
    }
    struct heap_faults faults = {look, relation, 0};
    snprintf(sql, sizeof sql,
             "SELECT blkno, offnum, msg FROM %sverify_heapam(relation => $1::oid::regclass, check_toast => true)",
             look->amcheck);
    const bool ok = hf_query_run(conn, sql, parameters, 1, take_heap_fault, &faults, &refusal);
    pthread_mutex_lock(&look->lock);
    look->seen.heaps++;
    pthread_mutex_unlock(&look->lock);
    if (!ok)
        hf_look_refused(look, look->heap, "unreadable_table", relation, &refusal);
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
    return ++faults->count < HF_FINDINGS_OF_TABLE;
}

static void
check_btree(struct look *look, struct hf_asker_conn *conn, const struct relation *relation)
{
    const char *differs = relation->collation[0] != 0                                 ? relation->collation
                          : relation->sorts_text && look->database->collation_differs ? look->database->collation_why
                                                                                      : NULL;
    const bool can = relation->btree && relation->index_valid; // other kinds have no check, an invalid one is not used
    pthread_mutex_lock(&look->lock);
    if (can && look->amcheck[0] == 0)
        hf_check_cannot_tell(look->indexes, "%s", look->amcheck_why);
    if (can && differs != NULL)
        hf_check_cannot_tell(look->indexes, "%s.%s: %s", look->database->name, relation->name, differs);
    if (can && relation->collation[0] != 0)
        hf_check_cannot_tell(look->environment, "%s", relation->collation);
    pthread_mutex_unlock(&look->lock);
    if (!can || look->amcheck[0] == 0)
        return;

    struct hf_query_refusal refusal;
    bool ok = ask_amcheck(look, conn, relation, &refusal);
    if (!ok && strncmp(refusal.state, CLASS_SYNTAX, 2) == 0 && lend_search_path(conn, relation))
        ok = ask_amcheck(look, conn, relation, &refusal);
    pthread_mutex_lock(&look->lock);
    look->seen.btrees++;
    pthread_mutex_unlock(&look->lock);
    if (ok || differs != NULL)
        return; // in another order everything looks wrong: said above, by name
    hf_look_refused(look, look->indexes, "damaged_index", relation, &refusal);
}

/*
 * Functions in the index that name things without their schema worked where they were made, but amcheck allows
 * pg_catalog only.  In the copy they may have a path of their own.
 */
static bool
lend_search_path(struct hf_asker_conn *conn, const struct relation *relation)
{
    static const char find[] =
        "SELECT format('ALTER FUNCTION %s SET search_path = pg_catalog, %s, public', refobjid::regprocedure, $2::text) "
        "FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = $1::oid AND refclassid = 'pg_proc'::regclass "
        "ORDER BY refobjid LIMIT 1 OFFSET $3::int8";
    char oid[16], offset[16], sql[1000];
    const char *const parameters[] = {oid, relation->schema, offset};
    struct hf_query_refusal refusal;
    bool any = false;
    snprintf(oid, sizeof oid, "%u", relation->oid);
    for (unsigned i = 0; i < INDEX_FUNCTIONS_MOST; i++) {
        snprintf(offset, sizeof offset, "%u", i);
        if (!hf_query_text(conn, find, parameters, 3, sql, sizeof sql, &refusal) ||
            !hf_query_run(conn, sql, NULL, 0, NULL, NULL, &refusal))
            break;
        any = true;
    }
    return any;
}

static bool
ask_amcheck(const struct look *look, struct hf_asker_conn *conn, const struct relation *relation,
            struct hf_query_refusal *refusal)
{
    char sql[200], oid[16], ignored[8];
    const char *const parameters[] = {oid};
    snprintf(oid, sizeof oid, "%u", relation->oid);
    snprintf(sql, sizeof sql, "SELECT %sbt_index_check(index => $1::oid::regclass, heapallindexed => true)::text",
             look->amcheck);
    return hf_query_text(conn, sql, parameters, 1, ignored, sizeof ignored, refusal);
}

bool
hf_query_is_no_verdict(const struct hf_query_refusal *refusal)
{
    return refusal->state[0] == 0 || strncmp(refusal->state, CLASS_INTERVENTION, 2) == 0 ||
           strncmp(refusal->state, CLASS_NO_RESOURCES, 2) == 0;
}

void
hf_look_refused(struct look *look, struct hf_verify_check *check, const char *what, const struct relation *relation,
                const struct hf_query_refusal *refusal)
{
    const bool gone = refusal->state[0] == 0 || strncmp(refusal->state, CLASS_INTERVENTION, 2) == 0;
    /* No function of a user runs while a table is counted; an index may hold any. */
    const bool by_function = relation->kind == 'i' && strncmp(refusal->state, CLASS_CORRUPT, 2) != 0 &&
                             strncmp(refusal->state, CLASS_SYSTEM, 2) != 0;
    pthread_mutex_lock(&look->lock);
    if (gone)
        hf_check_cannot_tell(check, "%s.%s: the copy went away while it was read: %.200s", look->database->name,
                             relation->name, refusal->message);
    else if (strncmp(refusal->state, CLASS_NO_RESOURCES, 2) == 0)
        hf_check_cannot_tell(check, "%s.%s: the copy ran out of room: %.200s", look->database->name, relation->name,
                             refusal->message);
    else if (by_function || hf_query_is_of_host(refusal->message))
        hf_check_cannot_tell(check, "%s.%s: %.300s", look->database->name, relation->name, refusal->message);
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

#include "server/verify/mariadb/tables.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MOST      16
#define DATABASES_MOST 10000
#define INDEXES_MOST   65   // InnoDB takes 64 besides the primary key
#define NO_ENGINE      1286 // ER_UNKNOWN_STORAGE_ENGINE: its plugin was left out, or is not installed here

enum kind { KIND_TABLE, KIND_SEQUENCE };

struct table {
    char *database, *name;
    enum kind kind;
    bool innodb;
    uint64_t bytes;
    uint64_t rows;
};

struct tables {
    const struct hf_mariadb_look *look;
    struct table *items;
    size_t count, room;
    struct hf_error failure; // of collecting

    pthread_mutex_t lock; // of all below, and of the checks while threads run
    size_t next;
    struct hf_verify_check *read, *indexes;
    int64_t read_count, checked_count;
    bool read_open, indexes_open; // something could not be determined; the check says what
    bool lost;                    // the server went away
    bool cancelled;
};

/* The indexes of one table that can be counted. */
struct indexes {
    char names[INDEXES_MOST][HF_MARIADB_NAME_BYTES];
    size_t count;
};

/* What CHECK TABLE said of one table, put together from its rows. */
struct opinion {
    bool fine, missing, no_engine, upgrade, entries;
    char index[HF_MARIADB_NAME_BYTES];
};

static bool list_tables(struct tables *tables, struct hf_error *err);
static bool take_table(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static void tables_done(struct tables *tables);
static void check_dictionary(const struct tables *tables);
static bool take_undefined(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static bool look_at_all(struct tables *tables, struct hf_error *err);
static void *work(void *context);
static bool take_next(struct tables *tables, size_t *ret);
static bool look_at(struct tables *tables, struct hf_asker_conn *conn, struct table *table);
static bool read_table(struct tables *tables, struct hf_asker_conn *conn, struct table *table);
static bool count_indexes(struct tables *tables, struct hf_asker_conn *conn, const struct table *table);
static bool take_index(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static bool check_table(struct tables *tables, struct hf_asker_conn *conn, const struct table *table);
static bool take_opinion(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static void note_index(struct opinion *opinion, const char *message);
static bool statement(struct hf_buf *sql, const char *before, const struct table *table, const char *behind);
static void not_read(struct tables *tables, const struct table *table, const struct hf_mariadb_refusal *refusal);
static bool connection_lost(struct tables *tables, struct hf_verify_check *check, bool *open, const struct table *table,
                            const struct hf_mariadb_refusal *refusal);
static void settle(struct tables *tables);
static void count_objects(const struct tables *tables);
static bool fill_databases(const struct tables *tables, struct hf_error *err);

bool
hf_mariadb_check_tables(const struct hf_mariadb_look *look, struct hf_error *err)
{
    struct tables tables = {.look = look,
                            .lock = PTHREAD_MUTEX_INITIALIZER,
                            .read = hf_attempt_check(look->attempt, "tables_read"),
                            .indexes = hf_attempt_check(look->attempt, "indexes")};
    const bool ok = list_tables(&tables, err);
    bool going_on = ok && tables.count > 0;
    if (going_on) {
        check_dictionary(&tables);
        going_on = look_at_all(&tables, err);
        if (going_on)
            settle(&tables);
        if (going_on && !tables.lost) {
            going_on = hf_mariadb_check_references(look, err);
            if (going_on)
                count_objects(&tables);
        }
        going_on = going_on && fill_databases(&tables, err);
    }
    const bool fine = ok && (tables.count == 0 || going_on);
    tables_done(&tables);
    return fine;
}

/* Views have no rows of their own; what the server makes up itself was not restored. */
static bool
list_tables(struct tables *tables, struct hf_error *err)
{
    static const char sql[] =
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0), ENGINE "
        "FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') "
        "AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')";
    struct hf_mariadb_refusal refusal;
    hf_check_begin(tables->read);
    if (!hf_mariadb_run(tables->look->conn, sql, take_table, tables, &refusal)) {
        if (refusal.broken)
            hf_attempt_judge_end(tables->look->attempt, tables->read);
        else
            hf_check_fail(tables->read, "the tables could not be listed: error %u", refusal.code);
        return true;
    }
    if (tables->failure.kind != HF_ERR_NONE) {
        if (hf_attempt_is_fatal(&tables->failure)) {
            *err = tables->failure;
            return false;
        }
        hf_check_cannot_tell(tables->read, "%s", tables->failure.message);
        tables_done(tables);
        return true;
    }
    if (tables->count == 0)
        hf_check_fail(tables->read, "the copy has no table at all, not even those that describe it");
    return true;
}

static bool
take_table(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct tables *tables = context;
    if (count != 5 || values[0] == NULL || values[1] == NULL || values[2] == NULL ||
        lengths[0] >= HF_MARIADB_NAME_BYTES || lengths[1] >= HF_MARIADB_NAME_BYTES)
        return hf_fail(&tables->failure, HF_ERR_CORRUPT, "the list of tables is none");
    if (tables->count == HF_MARIADB_TABLES_MOST)
        return hf_fail(&tables->failure, HF_ERR_NO_SPACE, "the copy has more than %d tables", HF_MARIADB_TABLES_MOST);
    if (tables->count == tables->room) {
        const size_t room = tables->room == 0 ? 256 : 2 * tables->room;
        struct table *items = reallocarray(tables->items, room, sizeof *items);
        if (items == NULL)
            return hf_fail(&tables->failure, HF_ERR_NO_MEMORY, "out of memory for the list of tables");
        tables->items = items;
        tables->room = room;
    }
    struct table *table = &tables->items[tables->count];
    *table = (struct table){.database = strdup(values[0]),
                            .name = strdup(values[1]),
                            .kind = strcmp(values[2], "SEQUENCE") == 0 ? KIND_SEQUENCE : KIND_TABLE,
                            .innodb = values[4] != NULL && strcmp(values[4], "InnoDB") == 0,
                            .bytes = values[3] == NULL ? 0 : strtoull(values[3], NULL, 10)};
    tables->count++;
    if (table->database == NULL || table->name == NULL)
        return hf_fail(&tables->failure, HF_ERR_NO_MEMORY, "out of memory for the list of tables");
    return true;
}

static void
tables_done(struct tables *tables)
{
    for (size_t i = 0; i < tables->count; i++) {
        free(tables->items[i].database);
        free(tables->items[i].name);
    }
    free(tables->items);
    tables->items = NULL;
    tables->count = tables->room = 0;
}

/*
 * InnoDB's own dictionary against the definitions.  Names there are as in files ("clinic/a@0020b"): those with an '@'
 * are left to CHECK TABLE, which finds what a definition lacks; parts of tables and hidden tables have '#' or FTS_.
 */
static void
check_dictionary(const struct tables *tables)
{
    static const char sql[] =
        "SELECT s.NAME FROM information_schema.INNODB_SYS_TABLES s LEFT JOIN information_schema.TABLES t "
        "ON t.TABLE_SCHEMA = SUBSTRING_INDEX(s.NAME, '/', 1) AND t.TABLE_NAME = SUBSTRING_INDEX(s.NAME, '/', -1) "
        "WHERE s.NAME LIKE '%/%' AND s.NAME NOT LIKE '%@%' AND s.NAME NOT LIKE '%#%' AND s.NAME NOT LIKE '%/FTS\\_%' "
        "AND t.TABLE_NAME IS NULL";
    struct hf_verify_check *check = hf_attempt_check(tables->look->attempt, "dictionary");
    struct hf_mariadb_refusal refusal;
    int64_t known = 0;
    hf_check_begin(check);
    if (!hf_mariadb_number(tables->look->conn, "SELECT COUNT(*) FROM information_schema.INNODB_SYS_TABLES", &known,
                           &refusal) ||
        !hf_mariadb_run(tables->look->conn, sql, take_undefined, check, &refusal)) {
        if (refusal.broken)
            hf_attempt_judge_end(tables->look->attempt, check);
        else
            hf_check_cannot_tell(check, "the dictionary of InnoDB could not be asked: error %u", refusal.code);
        return;
    }
    hf_check_pass(check, known);
}

static bool
take_undefined(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    (void)lengths;
    if (count == 1 && values[0] != NULL)
        hf_check_found(context, "definition_missing", -1, "%s", values[0]);
    return true;
}

static bool
look_at_all(struct tables *tables, struct hf_error *err)
{
    pthread_t threads[JOBS_MOST];
    unsigned jobs = hf_attempt_jobs(tables->look->attempt), running = 0;
    jobs = jobs > JOBS_MOST ? JOBS_MOST : jobs;
    hf_check_begin(tables->indexes);
    if (tables->look->attempt->options->total != NULL) {
        uint64_t total = 0;
        for (size_t i = 0; i < tables->count; i++)
            total += tables->items[i].bytes;
        atomic_store(tables->look->attempt->options->done, 0);
        atomic_store(tables->look->attempt->options->total, total);
    }
    while (running < jobs && pthread_create(&threads[running], NULL, work, tables) == 0)
        running++;
    for (unsigned i = 0; i < running; i++)
        pthread_join(threads[i], NULL);
    if (running == 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "could not start a thread that looks at tables");
    return !tables->cancelled || hf_attempt_goes_on(tables->look->attempt, err);
}

static void *
work(void *context)
{
    struct tables *tables = context;
    const struct hf_attempt *attempt = tables->look->attempt;
    struct hf_mariadb_refusal refusal;
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    size_t at;
    if (!hf_mariadb_connect(attempt->asker, attempt->phase_ms, &conn, &refusal)) {
        pthread_mutex_lock(&tables->lock);
        tables->lost = true;
        pthread_mutex_unlock(&tables->lock);
    }
    while (conn != NULL && take_next(tables, &at)) {
        if (!look_at(tables, conn, &tables->items[at]))
            break;
        if (attempt->options->done != NULL)
            atomic_fetch_add(attempt->options->done, tables->items[at].bytes);
    }
    hf_asker_conn_freep(&conn);
    return NULL;
}

static bool
take_next(struct tables *tables, size_t *ret)
{
    struct hf_error ignored;
    pthread_mutex_lock(&tables->lock);
    tables->cancelled = tables->cancelled || !hf_attempt_goes_on(tables->look->attempt, &ignored);
    const bool more = tables->next < tables->count && !tables->lost && !tables->cancelled;
    *ret = more ? tables->next++ : 0;
    pthread_mutex_unlock(&tables->lock);
    return more;
}

static bool
look_at(struct tables *tables, struct hf_asker_conn *conn, struct table *table)
{
    return read_table(tables, conn, table) && check_table(tables, conn, table);
}

/* A sequence is one row that says where it stands; CHECKSUM TABLE does not take it. */
static bool
read_table(struct tables *tables, struct hf_asker_conn *conn, struct table *table)
{
    struct hf_mariadb_refusal refusal;
    int64_t rows = 0;
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(4 * HF_KIB);
    char checksum[64] = "";
    bool fine = statement(&sql, "SELECT COUNT(*) FROM ", table, table->kind == KIND_TABLE ? " USE INDEX ()" : "") &&
                hf_mariadb_number(conn, hf_buf_text(&sql), &rows, &refusal);
    if (fine && table->kind == KIND_TABLE) {
        // The answer is "name, checksum": a NULL one means that the table could not be read.
        hf_buf_clear(&sql);
        fine = statement(&sql, "CHECKSUM TABLE ", table, " EXTENDED") &&
               hf_mariadb_run(conn, hf_buf_text(&sql), NULL, NULL, &refusal) &&
               hf_mariadb_text(conn, "SELECT @@warning_count", checksum, sizeof checksum, &refusal);
        if (fine && strcmp(checksum, "0") != 0) {
            fine = false;
            refusal = (struct hf_mariadb_refusal){0};
        }
    }
    if (!fine && refusal.broken)
        return connection_lost(tables, tables->read, &tables->read_open, table, &refusal);
    pthread_mutex_lock(&tables->lock);
    if (fine) {
        table->rows = rows < 0 ? 0 : (uint64_t)rows;
        tables->read_count++;
    } else {
        not_read(tables, table, &refusal);
    }
    pthread_mutex_unlock(&tables->lock);
    return true;
}

/*
 * An entry that is marked as deleted while its row is not passes CHECK TABLE: so each index is counted, against the
 * rows of the table itself.
 */
static bool
count_indexes(struct tables *tables, struct hf_asker_conn *conn, const struct table *table)
{
    struct hf_mariadb_refusal refusal;
    struct hf_error ignored;
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(4 * HF_KIB);
    _cleanup_(hf_freep) struct indexes *indexes = calloc(1, sizeof *indexes);
    bool fine = indexes != NULL && statement(&sql, "SHOW INDEX FROM ", table, "") &&
                hf_mariadb_run(conn, hf_buf_text(&sql), take_index, indexes, &refusal);
    for (size_t i = 0; fine && i < indexes->count; i++) {
        int64_t entries = 0;
        hf_buf_clear(&sql);
        fine = statement(&sql, "SELECT COUNT(*) FROM ", table, " FORCE INDEX (") &&
               hf_mariadb_add_name(&sql, indexes->names[i], &ignored) && hf_buf_add_text(&sql, ")", &ignored) &&
               hf_mariadb_number(conn, hf_buf_text(&sql), &entries, &refusal);
        if (fine && (uint64_t)entries == table->rows)
            continue;
        if (!fine && refusal.broken)
            break;
        pthread_mutex_lock(&tables->lock);
        hf_check_found(tables->indexes, fine ? "index_entries_differ" : "index_damaged", -1, "%s.%s.%s",
                       table->database, table->name, indexes->names[i]);
        pthread_mutex_unlock(&tables->lock);
        fine = true;
    }
    if (!fine && indexes != NULL && refusal.broken)
        return connection_lost(tables, tables->indexes, &tables->indexes_open, table, &refusal);
    if (!fine) {
        pthread_mutex_lock(&tables->lock);
        tables->indexes_open = true;
        hf_check_cannot_tell(tables->indexes, "the indexes of \"%.64s.%.64s\" could not be listed", table->database,
                             table->name);
        pthread_mutex_unlock(&tables->lock);
    }
    return true;
}

/* Table, Non_unique, Key_name, Seq_in_index, ..., Index_type: not those for texts and places. */
static bool
take_index(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct indexes *indexes = context;
    if (count < 11 || values[2] == NULL || values[3] == NULL || values[10] == NULL)
        return false;
    if (strcmp(values[3], "1") != 0 || strcmp(values[2], "PRIMARY") == 0 || strcmp(values[10], "BTREE") != 0 ||
        lengths[2] >= HF_MARIADB_NAME_BYTES || indexes->count == INDEXES_MOST)
        return true;
    snprintf(indexes->names[indexes->count++], HF_MARIADB_NAME_BYTES, "%s", values[2]);
    return true;
}

static bool
check_table(struct tables *tables, struct hf_asker_conn *conn, const struct table *table)
{
    struct hf_mariadb_refusal refusal;
    struct opinion opinion = {0};
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(4 * HF_KIB);
    const bool asked = statement(&sql, "CHECK TABLE ", table, " EXTENDED") &&
                       hf_mariadb_run(conn, hf_buf_text(&sql), take_opinion, &opinion, &refusal);
    if (!asked && refusal.broken)
        return connection_lost(tables, tables->indexes, &tables->indexes_open, table, &refusal);
    if (opinion.fine && table->innodb && table->kind == KIND_TABLE && !count_indexes(tables, conn, table))
        return false;
    pthread_mutex_lock(&tables->lock);
    tables->checked_count++;
    if (opinion.no_engine || opinion.upgrade) {
        tables->indexes_open = true;
        hf_check_cannot_tell(tables->indexes, "\"%.64s.%.64s\" %s", table->database, table->name,
                             opinion.no_engine ? "is of a storage engine that this server lacks"
                                               : "has to be rebuilt for this version before it can be checked");
    } else if (!asked || !opinion.fine) {
        hf_check_found(tables->indexes,
                       opinion.missing   ? "table_missing"
                       : opinion.entries ? "index_entries_differ"
                                         : "table_damaged",
                       -1, opinion.index[0] != '\0' ? "%s.%s.%s" : "%s.%s%s", table->database, table->name,
                       opinion.index);
    }
    pthread_mutex_unlock(&tables->lock);
    return true;
}

/* Rows are Table, Op, Msg_type, Msg_text; the last one is "status" "OK" when all is well. */
static bool
take_opinion(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct opinion *opinion = context;
    (void)lengths;
    if (count != 4 || values[2] == NULL || values[3] == NULL)
        return false;
    const char *kind = values[2], *message = values[3];
    if (strcmp(kind, "status") == 0) {
        opinion->fine = strcmp(message, "OK") == 0 && !opinion->entries;
        return true;
    }
    if (strstr(message, "doesn't support check") != NULL)
        opinion->fine = true; // nothing to hold against each other: a sequence, a table in memory
    opinion->no_engine = opinion->no_engine || strstr(message, "Unknown storage engine") != NULL;
    opinion->upgrade = opinion->upgrade || strstr(message, "ALTER TABLE ... FORCE") != NULL ||
                       strstr(message, "upgrade required") != NULL || strstr(message, "rebuild required") != NULL;
    opinion->missing = opinion->missing || strstr(message, "doesn't exist") != NULL;
    if (strstr(message, " entries, should be ") != NULL)
        opinion->entries = true;
    if (strcasecmp(kind, "note") != 0)
        note_index(opinion, message);
    return true;
}

/* "InnoDB: Index 'by_name' contains 99 entries, should be 100." or "InnoDB: Index by_name is marked as corrupted" */
static void
note_index(struct opinion *opinion, const char *message)
{
    static const char before[] = "InnoDB: Index ";
    if (strncmp(message, before, sizeof before - 1) != 0 || opinion->index[0] != '\0')
        return;
    const char *name = message + sizeof before - 1;
    const bool quoted = *name == '\'';
    name += quoted;
    const size_t length = strcspn(name, quoted ? "'" : " ");
    if (length < sizeof opinion->index)
        snprintf(opinion->index, sizeof opinion->index, "%.*s", (int)length, name);
}

static bool
statement(struct hf_buf *sql, const char *before, const struct table *table, const char *behind)
{
    struct hf_error ignored;
    return hf_buf_add_text(sql, before, &ignored) && hf_mariadb_add_name(sql, table->database, &ignored) &&
           hf_buf_add_text(sql, ".", &ignored) && hf_mariadb_add_name(sql, table->name, &ignored) &&
           hf_buf_add_text(sql, behind, &ignored);
}

/* With the lock held. */
static void
not_read(struct tables *tables, const struct table *table, const struct hf_mariadb_refusal *refusal)
{
    if (refusal->code == NO_ENGINE) {
        tables->read_open = true;
        hf_check_cannot_tell(tables->read, "\"%.64s.%.64s\" is of a storage engine that this server lacks",
                             table->database, table->name);
        return;
    }
    hf_check_found(tables->read, "table_not_readable", -1, "%s.%s", table->database, table->name);
}

/* A server that a table kills says so by its end, which is a finding on that table; time that ran out is none. */
static bool
connection_lost(struct tables *tables, struct hf_verify_check *check, bool *open, const struct table *table,
                const struct hf_mariadb_refusal *refusal)
{
    pthread_mutex_lock(&tables->lock);
    if (!tables->lost) {
        *open = true;
        if (refusal->over_time) {
            hf_check_cannot_tell(check, "\"%.64s.%.64s\" was not done when the time was up", table->database,
                                 table->name);
        } else {
            hf_attempt_judge_end(tables->look->attempt, check);
            if (check->verdict == HF_VERDICT_FAILED)
                hf_check_found(check, "server_ended", -1, "%s.%s", table->database, table->name);
        }
    }
    tables->lost = true;
    pthread_mutex_unlock(&tables->lock);
    return false;
}

static void
settle(struct tables *tables)
{
    if (tables->lost && !tables->read_open && !tables->indexes_open) {
        tables->read_open = true;
        hf_attempt_judge_end(tables->look->attempt, tables->read);
    }
    if (!tables->read_open || tables->read->bad > 0)
        hf_check_pass(tables->read, tables->read_count);
    if (tables->lost && !tables->indexes_open && tables->indexes->bad == 0)
        return; // it was not reached for every table
    if (!tables->indexes_open || tables->indexes->bad > 0)
        hf_check_pass(tables->indexes, tables->checked_count);
}

/* Counted, so that a copy without them shows: who may log in, what runs by itself, what is called by name. */
static void
count_objects(const struct tables *tables)
{
    static const struct {
        const char *what, *sql;
    } kinds[] = {
        {"users", "SELECT COUNT(*) FROM mysql.global_priv"},
        {"routines", "SELECT COUNT(*) FROM mysql.proc"},
        {"events", "SELECT COUNT(*) FROM mysql.event"},
        {"triggers", "SELECT COUNT(*) FROM information_schema.TRIGGERS"},
        {"views", "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE = 'VIEW'"},
        {"sequences", "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE = 'SEQUENCE'"},
    };
    const struct hf_mariadb_look *look = tables->look;
    struct hf_verify_check *check = hf_attempt_check(look->attempt, "objects");
    struct hf_mariadb_refusal refusal;
    int64_t all = 0;
    hf_check_begin(check);
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        int64_t count = 0;
        if (hf_mariadb_number(look->conn, kinds[i].sql, &count, &refusal)) {
            all += count;
            continue;
        }
        if (refusal.broken) {
            hf_attempt_judge_end(look->attempt, check);
            return;
        }
        hf_check_found(check, "not_readable", -1, "%s", kinds[i].what);
    }
    if (all == 0 && check->bad == 0)
        hf_check_fail(check, "the copy has no account at all");
    else
        hf_check_pass(check, all);
}

static bool
fill_databases(const struct tables *tables, struct hf_error *err)
{
    struct hf_relations_outcome *outcome = &tables->look->attempt->outcome->relations;
    struct hf_database_facts *databases = NULL;
    size_t count = 0;
    for (size_t i = 0; i < tables->count; i++) {
        const struct table *table = &tables->items[i];
        size_t at = 0;
        while (at < count && strcmp(databases[at].name, table->database) != 0)
            at++;
        if (at == count) {
            if (count == DATABASES_MOST)
                break;
            struct hf_database_facts *more = reallocarray(databases, count + 1, sizeof *more);
            if (more == NULL) {
                free(databases);
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of databases");
            }
            databases = more;
            databases[count] = (struct hf_database_facts){0};
            snprintf(databases[count++].name, sizeof databases[0].name, "%s", table->database);
        }
        databases[at].bytes += table->bytes;
        databases[at].tables++;
        databases[at].rows += table->rows;
        outcome->rows += table->rows;
    }
    outcome->databases = databases;
    outcome->database_count = count;
    return true;
}

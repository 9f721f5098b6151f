#include <stdio.h>

#include "server/verify/postgres/relations_internal.h"

/*
 * What rows of the catalog say of one another.  Indexes and pages of the catalog are looked at like any others; a page
 * that was swapped for an older one is sound in itself, and shows only here.
 */
static const struct {
    const char *what; // a word
    bool is_damage;   // else PostgreSQL itself has been known to leave it behind
    const char *sql;  // an object's name a row
} questions[] = {
    {"columns_missing", true,
     "SELECT c.relname FROM pg_class c LEFT JOIN (SELECT attrelid, count(*) AS n FROM pg_attribute WHERE attnum > 0 "
     "GROUP BY attrelid) a ON a.attrelid = c.oid WHERE c.relnatts <> coalesce(a.n, 0)"},
    {"columns_of_nothing", true,
     "SELECT 'oid ' || attrelid || ' (' || min(attname) || ')' FROM pg_attribute a "
     "WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = a.attrelid) GROUP BY attrelid"},
    {"index_without_table", true,
     "SELECT coalesce((SELECT relname FROM pg_class WHERE oid = i.indexrelid), 'oid ' || i.indexrelid) FROM pg_index i "
     "WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = i.indrelid) "
     "OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = i.indexrelid)"},
    {"index_not_listed", true,
     "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('i', 'I') "
     "AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid)"},
    {"toast_table_missing", true,
     "SELECT c.relname FROM pg_class c WHERE c.reltoastrelid <> 0 "
     "AND NOT EXISTS (SELECT FROM pg_class t WHERE t.oid = c.reltoastrelid AND t.relkind = 't')"},
    {"constraint_of_nothing", true,
     "SELECT conname FROM pg_constraint k WHERE conrelid <> 0 "
     "AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = k.conrelid)"},
    {"default_of_nothing", true,
     "SELECT 'oid ' || adrelid FROM pg_attrdef d "
     "WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.adrelid AND a.attnum = d.adnum)"},
    {"column_of_no_type", true,
     "SELECT DISTINCT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attnum > 0 "
     "AND NOT a.attisdropped AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = a.atttypid)"},
    /* Whoever makes a table while its schema is dropped can leave it in none: a dump fails, the rows are there. */
    {"object_in_no_schema", false,
     "SELECT relname FROM pg_class c WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.relnamespace) "
     "UNION ALL SELECT proname FROM pg_proc p WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = "
     "p.pronamespace) "
     "UNION ALL SELECT typname FROM pg_type t WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = "
     "t.typnamespace)"},
};

struct listing {
    struct look *look;
    size_t question;
    int count;
};

static bool
take_object(void *context, char *const *values, int count)
{
    struct listing *listing = context;
    struct look *look = listing->look;
    const char *object = count > 0 && values[0] != NULL ? values[0] : "?";
    if (questions[listing->question].is_damage)
        hf_check_found(look->catalog, questions[listing->question].what, -1, "%s.%s", look->database->name, object);
    else
        hf_check_cannot_tell(look->catalog, "%s of database \"%s\" lies in a schema that there is not", object,
                             look->database->name);
    return ++listing->count < HF_FINDINGS_OF_TABLE;
}

/* By reading the catalog's tables: what is asked must not depend on the indexes that may be wrong. */
void
hf_look_at_catalog(struct look *look, struct hf_asker_conn *conn)
{
    static const char *const before[] = {"SET enable_indexscan = off", "SET enable_indexonlyscan = off",
                                         "SET enable_bitmapscan = off"};
    static const char *const after[] = {"RESET enable_indexscan", "RESET enable_indexonlyscan",
                                        "RESET enable_bitmapscan"};
    struct hf_query_refusal refusal = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < HF_LENGTH(before); i++)
        ok = hf_query_run(conn, before[i], NULL, 0, NULL, NULL, &refusal);
    for (size_t i = 0; ok && i < HF_LENGTH(questions); i++) {
        struct listing listing = {look, i, 0};
        ok = hf_query_run(conn, questions[i].sql, NULL, 0, take_object, &listing, &refusal);
    }
    if (!ok && (hf_query_is_no_verdict(&refusal) || hf_query_is_of_host(refusal.message)))
        hf_check_cannot_tell(look->catalog, "the catalog of database \"%s\" could not be asked: %.200s",
                             look->database->name, refusal.message);
    else if (!ok)
        hf_check_found(look->catalog, "unreadable_catalog", -1, "%s: %.140s", look->database->name, refusal.message);
    for (size_t i = 0; ok && i < HF_LENGTH(after); i++)
        ok = hf_query_run(conn, after[i], NULL, 0, NULL, NULL, &refusal);
}

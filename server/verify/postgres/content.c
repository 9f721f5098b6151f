#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/verify/postgres/relations_internal.h"

#define REFERENCES_MOST 100000

static bool take_reference(void *context, char *const *values, int count);

/* Taken while the list is read. */
struct listing {
    struct look *look;
    struct hf_references *references;
    bool cut;
};

/*
 * Each key that the database says was checked.  The question is put together by the copy from its own catalog, with the
 * operators that the key itself compares by.  A partitioned table is asked as a whole; its parts' keys follow from its
 * own.
 */
bool
hf_references_list(struct look *look, struct hf_asker_conn *conn, struct hf_references *ret, struct hf_error *err)
{
    static const char until_17[] = "true", since_18[] = "k.conenforced AND NOT k.conperiod";
    char sql[2600];
    struct hf_query_refusal refusal;
    struct listing listing = {.look = look, .references = ret};
    hf_references_done(ret);
    snprintf(
        sql, sizeof sql,
        "SELECT n.nspname || '.' || c.relname || '.' || k.conname, "
        "  format('SELECT count(*) FROM %%s %%I.%%I c WHERE %%s AND NOT EXISTS (SELECT FROM %%s %%I.%%I p WHERE %%s)', "
        "    CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY' END, n.nspname, c.relname, "
        "    string_agg(format('c.%%I IS NOT NULL', a.attname), ' AND ' ORDER BY u.place), "
        "    CASE f.relkind WHEN 'p' THEN '' ELSE 'ONLY' END, fn.nspname, f.relname, "
        "    string_agg(format('p.%%I OPERATOR(%%I.%%s) c.%%I', fa.attname, o_n.nspname, o.oprname, a.attname), ' AND "
        "' "
        "               ORDER BY u.place)) "
        "FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace, "
        "LATERAL unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY u(own, other, op, place) "
        "JOIN pg_attribute a ON a.attnum = u.own JOIN pg_attribute fa ON fa.attnum = u.other "
        "JOIN pg_operator o ON o.oid = u.op JOIN pg_namespace o_n ON o_n.oid = o.oprnamespace "
        "WHERE k.contype = 'f' AND k.convalidated AND k.conparentid = 0 AND a.attrelid = c.oid AND fa.attrelid = f.oid "
        "  AND c.relkind IN ('r', 'p') AND f.relkind IN ('r', 'p') AND c.relpersistence <> 'u' AND %s "
        "GROUP BY k.oid, c.relkind, n.nspname, c.relname, f.relkind, fn.nspname, f.relname, k.conname",
        hf_asker_conn_version(conn) >= 180000 ? since_18 : until_17);
    if (!hf_query_run(conn, sql, NULL, 0, take_reference, &listing, &refusal))
        return hf_fail(err, hf_query_is_no_verdict(&refusal) ? HF_ERR_NONE : HF_ERR_CORRUPT,
                       "the foreign keys of database \"%s\" cannot be listed: %s", look->database->name,
                       refusal.message);
    if (look->out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for foreign keys");
    if (listing.cut)
        hf_check_cannot_tell(look->references, "database \"%s\" has more than %d foreign keys", look->database->name,
                             REFERENCES_MOST);
    return true;
}

static bool
take_reference(void *context, char *const *values, int count)
{
    struct listing *listing = context;
    struct hf_references *list = listing->references;
    listing->cut = list->count == REFERENCES_MOST;
    if (listing->cut)
        return false;
    if (count < 2 || values[0] == NULL || values[1] == NULL)
        return true;
    if (list->count == list->room) {
        const size_t room = list->room > 0 ? 2 * list->room : 64;
        struct hf_reference *items = reallocarray(list->items, room, sizeof *items);
        listing->look->out_of_memory = items == NULL;
        if (items == NULL)
            return false;
        list->items = items;
        list->room = room;
    }
    struct hf_reference *reference = &list->items[list->count];
    snprintf(reference->name, sizeof reference->name, "%s", values[0]);
    reference->question = strdup(values[1]);
    listing->look->out_of_memory = reference->question == NULL;
    list->count += reference->question != NULL;
    return reference->question != NULL;
}

void
hf_references_done(struct hf_references *references)
{
    for (size_t i = 0; i < references->count; i++)
        free(references->items[i].question);
    free(references->items);
    *references = (struct hf_references){0};
}

/*
 * Rows that lead nowhere are no proof of damage: a source that applies another's changes, or was filled with triggers
 * off, holds them so.  But nobody can tell those from a table in an older copy, whose own indexes agree with it.
 */
void
hf_reference_check(struct look *look, struct hf_asker_conn *conn, const struct hf_reference *reference)
{
    /* What a count before has set stays; here the planner is free. */
    static const char settings[] =
        "SELECT set_config('enable_seqscan', 'on', false), set_config('enable_indexscan', 'on', false), "
        "set_config('enable_indexonlyscan', 'on', false), set_config('enable_hashagg', 'on', false)";
    int64_t orphans = 0;
    struct hf_query_refusal refusal = {0};
    const bool ok = hf_query_run(conn, settings, NULL, 0, NULL, NULL, &refusal) &&
                    hf_query_number(conn, reference->question, NULL, 0, &orphans, &refusal);
    pthread_mutex_lock(&look->lock);
    look->seen.references++;
    if (!ok)
        hf_check_cannot_tell(look->references, "%s.%s could not be followed: %.200s", look->database->name,
                             reference->name, refusal.message); // a table that does not read is another check's finding
    else if (orphans > 0)
        hf_check_cannot_tell(look->references,
                             "rows that lead nowhere by %s.%s: %" PRId64 "; the source holds them so although the key "
                             "counts as checked, or one of its two tables is older than the other",
                             look->database->name, reference->name, orphans);
    pthread_mutex_unlock(&look->lock);
}

/*
 * Of sequences that belong to a column, where an index finds the column's largest value.  One that stands behind it
 * gives numbers that are taken.  It may stand so at the source: no row is wrong, and the attempt can pass.
 */
void
hf_look_at_sequences(struct look *look, struct hf_asker_conn *conn)
{
    static const char list[] =
        "SELECT sn.nspname || '.' || s.relname, "
        "  format('SELECT coalesce((SELECT max(%1$I) FROM %2$I.%3$I) > (SELECT last_value - (NOT is_called)::int FROM "
        "%4$I.%5$I), false)::text', a.attname, n.nspname, c.relname, sn.nspname, s.relname) "
        "FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = "
        "s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_class c ON c.oid = d.refobjid JOIN "
        "pg_namespace n "
        "ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid "
        "WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') "
        "  AND q.seqincrement > 0 AND NOT q.seqcycle AND c.relkind = 'r' AND a.atttypid IN (20, 21, 23) "
        "  AND EXISTS (SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = "
        "ic.relam "
        "              WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL "
        "                AND m.amname = 'btree')";
    struct hf_query_refusal refusal;
    struct hf_references questions = {0};
    struct listing listing = {.look = look, .references = &questions};
    if (!hf_query_run(conn, list, NULL, 0, take_reference, &listing, &refusal))
        hf_check_cannot_tell(look->sequences, "the sequences of database \"%s\" cannot be listed: %.200s",
                             look->database->name, refusal.message);
    look->of.sequences += (int64_t)questions.count;
    for (size_t i = 0; i < questions.count; i++) {
        char behind[8];
        const struct hf_reference *sequence = &questions.items[i];
        if (!hf_query_text(conn, sequence->question, NULL, 0, behind, sizeof behind, &refusal)) {
            hf_check_cannot_tell(look->sequences, "%s.%s could not be asked: %.200s", look->database->name,
                                 sequence->name, refusal.message);
            continue;
        }
        look->seen.sequences++;
        if (strcmp(behind, "true") == 0)
            hf_check_cannot_tell(look->sequences,
                                 "sequence %s.%s stands behind its column: it gives numbers that are taken already",
                                 look->database->name, sequence->name);
    }
    hf_references_done(&questions);
}

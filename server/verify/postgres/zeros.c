#include <stdio.h>
#include <string.h>

#include "server/verify/postgres/relations_internal.h"

static bool belongs_here(const struct look *look, const struct hf_zero_block *zero);
static void check_zeros_of_file(struct look *look, struct hf_asker_conn *conn, const struct hf_zero_block *zeros,
                                size_t count);

void
hf_look_at_zero_blocks(struct look *look, struct hf_asker_conn *conn)
{
    const struct hf_relations_options *options = look->options;
    bool prepared = false;
    for (size_t i = 0, count; i < options->zero_block_count; i += count) {
        const struct hf_zero_block *first = &options->zero_blocks[i];
        for (count = 1; i + count < options->zero_block_count && first[count].database == first->database &&
                        first[count].file_node == first->file_node;
             count++)
            ;
        if (!belongs_here(look, first))
            continue;
        struct hf_query_refusal refusal;
        if (!prepared && !hf_query_run(conn, "CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA pg_catalog", NULL, 0,
                                       NULL, NULL, &refusal)) {
            hf_check_cannot_tell(look->zeros, "pageinspect cannot be had in database \"%s\": %.200s",
                                 look->database->name, refusal.message);
            return;
        }
        prepared = true;
        look->seen.zeros += (int64_t)count;
        check_zeros_of_file(look, conn, first, count);
        if (look->options->cancel != NULL && atomic_load(look->options->cancel))
            return;
    }
    if (options->zero_blocks_cut)
        hf_check_cannot_tell(look->zeros, "more than %d blocks are empty", HF_ZERO_BLOCKS_MOST);
}

/* Shared relations are looked at in template1's turn. */
static bool
belongs_here(const struct look *look, const struct hf_zero_block *zero)
{
    return zero->database == look->database->oid ||
           (zero->database == 0 && strcmp(look->database->name, "template1") == 0);
}

struct zero_finding {
    struct look *look;
    char name[200];
};

static bool
take_used_block(void *context, char *const *values, int count)
{
    struct zero_finding *finding = context;
    if (count > 0 && values[0] != NULL)
        hf_check_found(finding->look->zeros, "zeroed_block", strtoll(values[0], NULL, 10), "%s.%s",
                       finding->look->database->name, finding->name);
    return true;
}

/*
 * Replay may have filled them since; an empty page that was never used is fine too.  But a block that an index of
 * the table points into was used, and its rows are gone.  The indexes are read once for all blocks of the table.
 */
static void
check_zeros_of_file(struct look *look, struct hf_asker_conn *conn, const struct hf_zero_block *zeros, size_t count)
{
    static const char find[] = "SELECT c.oid::text FROM pg_class c WHERE c.relkind IN ('r', 'm', 't') AND "
                               "pg_relation_filenode(c.oid) = $1::oid";
    static const char used[] =
        "WITH zero AS MATERIALIZED (SELECT b FROM unnest($2::int8[]) b WHERE b < pg_relation_size($1::oid) / "
        "    current_setting('block_size')::int8 "
        "    AND get_raw_page($1::oid::regclass::text, 'main', b::int4) = "
        "        decode(repeat('00', current_setting('block_size')::int4), 'hex')), "
        "entry AS (SELECT t.htid, t.tids FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a "
        "    ON a.oid = c.relam, "
        "    generate_series(1, pg_relation_size(i.indexrelid) / current_setting('block_size')::int8 - 1) AS leaf, "
        "    LATERAL (SELECT type FROM bt_page_stats(i.indexrelid::regclass::text, leaf::int4)) s, "
        "    LATERAL (SELECT htid, tids FROM bt_page_items(i.indexrelid::regclass::text, leaf::int4)) t "
        "    WHERE i.indrelid = $1::oid AND a.amname = 'btree' AND i.indisvalid AND s.type = 'l' "
        "    AND EXISTS (SELECT FROM zero)) "
        "SELECT DISTINCT b FROM (SELECT (htid::text::point)[0]::int8 AS b FROM entry WHERE htid IS NOT NULL "
        "    UNION ALL SELECT (x::text::point)[0]::int8 FROM entry, unnest(tids) x) e JOIN zero USING (b) ORDER BY b";
    char file_node[16], relation[16];
    struct zero_finding finding = {.look = look};
    struct hf_query_refusal refusal;
    _cleanup_(hf_buf_done) struct hf_buf blocks = HF_BUF_INIT(HF_ZERO_BLOCKS_MOST * 12 + 16);
    snprintf(file_node, sizeof file_node, "%u", zeros->file_node);
    const char *const by_node[] = {file_node};
    if (!hf_query_text(conn, find, by_node, 1, relation, sizeof relation, &refusal))
        return; // an index, a map, or a table that replay has dropped or rewritten
    const char *const of_relation[] = {relation};
    if (!hf_query_text(conn, "SELECT $1::oid::regclass::text", of_relation, 1, finding.name, sizeof finding.name,
                       &refusal))
        return; // dropped since
    bool ok = hf_buf_add_text(&blocks, "{", NULL);
    for (size_t i = 0; ok && i < count; i++)
        ok = hf_buf_printf(&blocks, NULL, "%s%u", i > 0 ? "," : "", zeros[i].block);
    if (!ok || !hf_buf_add_text(&blocks, "}", NULL)) {
        look->out_of_memory = true;
        return;
    }
    const char *const parameters[] = {relation, hf_buf_text(&blocks)};
    if (!hf_query_run(conn, used, parameters, 2, take_used_block, &finding, &refusal))
        hf_check_cannot_tell(look->zeros, "the indexes of %s.%s cannot be looked into: %.200s", look->database->name,
                             finding.name, refusal.message);
}

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/verify/mariadb/live.h"
#include "server/verify/mariadb/tables.h"

#define WORDS        7
#define COLUMNS_MOST 500000
#define ASKED_MOST   16 // foreign keys that the source is asked about

/* One column of one foreign key: where it is, its name, the table, and what it refers to. */
struct column {
    char *words[WORDS];
};
enum word { OF_DATABASE, OF_NAME, OF_TABLE, TO_DATABASE, TO_TABLE, OF_COLUMN, TO_COLUMN };

struct columns {
    struct column *items;
    size_t count, room;
    struct hf_error failure;
};

static bool take_column(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static size_t key_end(const struct columns *columns, size_t from);
static bool source_has_them(const struct hf_mariadb_look *look, const struct column *key, size_t length,
                            int64_t orphans, bool *ret, struct hf_error *err);
static bool write_question(const char *what, const struct column *key, size_t length, struct hf_buf *sql,
                           struct hf_error *err);
static bool add_qualified(struct hf_buf *sql, const char *before, const char *name, struct hf_error *err);
static void columns_done(struct columns *columns);

bool
hf_mariadb_check_references(const struct hf_mariadb_look *look, struct hf_error *err)
{
    static const char list[] =
        "SELECT CONSTRAINT_SCHEMA, CONSTRAINT_NAME, TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, "
        "COLUMN_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE "
        "WHERE REFERENCED_TABLE_NAME IS NOT NULL "
        "ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION";
    struct hf_verify_check *check = hf_attempt_check(look->attempt, "references");
    _cleanup_(columns_done) struct columns columns = {0};
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(256 * HF_KIB);
    struct hf_mariadb_refusal refusal;
    int64_t keys = 0, dangling = 0, of_source = 0;
    char first[HF_MARIADB_NAME_BYTES * 2] = "", first_of_source[HF_MARIADB_NAME_BYTES * 2] = "";
    hf_check_begin(check);
    if (!hf_mariadb_run(look->conn, list, take_column, &columns, &refusal)) {
        hf_check_cannot_tell(check, "the foreign keys could not be listed: error %u", refusal.code);
        return true;
    }
    if (columns.failure.kind == HF_ERR_NO_MEMORY) {
        *err = columns.failure;
        return false;
    }
    if (columns.failure.kind != HF_ERR_NONE) {
        hf_check_cannot_tell(check, "%s", columns.failure.message);
        return true;
    }
    for (size_t at = 0, end; at < columns.count; at = end, keys++) {
        const struct column *key = &columns.items[at];
        int64_t orphans = 0;
        end = key_end(&columns, at);
        hf_buf_clear(&sql);
        if (!hf_attempt_goes_on(look->attempt, err) || !write_question("COUNT(*)", key, end - at, &sql, err))
            return false;
        if (!hf_mariadb_number(look->conn, hf_buf_text(&sql), &orphans, &refusal)) {
            hf_check_cannot_tell(check, "\"%.64s.%.64s\" could not be followed: error %u", key->words[OF_DATABASE],
                                 key->words[OF_NAME], refusal.code);
            return true; // a table that does not read is a finding of another check
        }
        if (orphans == 0)
            continue;
        bool same = false;
        if (dangling + of_source < ASKED_MOST && !source_has_them(look, key, end - at, orphans, &same, err))
            return false;
        if (same ? of_source++ == 0 : dangling++ == 0)
            snprintf(same ? first_of_source : first, sizeof first, "%s.%s", key->words[OF_DATABASE],
                     key->words[OF_NAME]);
    }
    if (dangling > 0)
        hf_check_cannot_tell(
            check,
            "rows lead nowhere by %lld foreign keys, the first is \"%.130s\": the source holds them so, "
            "or one of the two tables is older than the other; the source can be asked where our account may SELECT",
            (long long)dangling, first);
    else
        hf_check_pass(check, keys);
    if (of_source > 0)
        hf_check_note(check, "rows lead nowhere by %lld foreign keys on the source itself, the first is \"%.130s\"",
                      (long long)of_source, first_of_source);
    return true;
}

static bool
take_column(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct columns *columns = context;
    bool fine = count == WORDS;
    for (size_t i = 0; fine && i < WORDS; i++)
        fine = values[i] != NULL && lengths[i] < HF_MARIADB_NAME_BYTES;
    if (!fine)
        return hf_fail(&columns->failure, HF_ERR_CORRUPT, "the list of foreign keys is none");
    if (columns->count == COLUMNS_MOST)
        return hf_fail(&columns->failure, HF_ERR_NO_SPACE, "the copy has more than %d columns in foreign keys",
                       COLUMNS_MOST);
    if (columns->count == columns->room) {
        const size_t room = columns->room == 0 ? 64 : 2 * columns->room;
        struct column *items = reallocarray(columns->items, room, sizeof *items);
        if (items == NULL)
            return hf_fail(&columns->failure, HF_ERR_NO_MEMORY, "out of memory for foreign keys");
        columns->items = items;
        columns->room = room;
    }
    struct column *column = &columns->items[columns->count++];
    *column = (struct column){0};
    for (size_t i = 0; i < WORDS; i++) {
        column->words[i] = strdup(values[i]);
        if (column->words[i] == NULL)
            return hf_fail(&columns->failure, HF_ERR_NO_MEMORY, "out of memory for foreign keys");
    }
    return true;
}

/* Columns of one key stand together. */
static size_t
key_end(const struct columns *columns, size_t from)
{
    size_t at = from + 1;
    while (at < columns->count &&
           strcmp(columns->items[at].words[OF_DATABASE], columns->items[from].words[OF_DATABASE]) == 0 &&
           strcmp(columns->items[at].words[OF_TABLE], columns->items[from].words[OF_TABLE]) == 0 &&
           strcmp(columns->items[at].words[OF_NAME], columns->items[from].words[OF_NAME]) == 0)
        at++;
    return at;
}

/*
 * Whether as many such rows are on the source itself, now: of two tables of which one is too old the copy has more of
 * them.  What cannot be asked is not there.
 */
static bool
source_has_them(const struct hf_mariadb_look *look, const struct column *key, size_t length, int64_t orphans, bool *ret,
                struct hf_error *err)
{
    const struct hf_source_target *live = look->attempt->options->live;
    _cleanup_(hf_freep) struct hf_assertion *question = calloc(1, sizeof *question);
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(256 * HF_KIB);
    struct hf_answer answer = {.kind = HF_ANSWER_NOTHING};
    if (question == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a question");
    if (!hf_buf_printf(&sql, err, "SELECT COUNT(*) >= %" PRId64 " FROM (", orphans) ||
        !write_question("1", key, length, &sql, err) || !hf_buf_printf(&sql, err, " LIMIT %" PRId64 ") t", orphans))
        return false;
    *ret = false;
    if (live == NULL || sql.length >= sizeof question->sql)
        return true;
    memcpy(question->sql, sql.data, sql.length);
    if (!hf_mariadb_ask_live(live, question, &answer, err))
        return false;
    *ret = answer.kind == HF_ANSWER_VALUE && strcmp(answer.text, "1") == 0;
    return true;
}

/* `what` of the rows that have every column of the key, and no row to go with them. */
static bool
write_question(const char *what, const struct column *key, size_t length, struct hf_buf *sql, struct hf_error *err)
{
    if (!hf_buf_add_text(sql, "SELECT ", err) || !hf_buf_add_text(sql, what, err) ||
        !add_qualified(sql, " FROM ", key->words[OF_DATABASE], err) ||
        !add_qualified(sql, ".", key->words[OF_TABLE], err) ||
        !add_qualified(sql, " c LEFT JOIN ", key->words[TO_DATABASE], err) ||
        !add_qualified(sql, ".", key->words[TO_TABLE], err) || !hf_buf_add_text(sql, " p ON ", err))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!add_qualified(sql, i == 0 ? "p." : " AND p.", key[i].words[TO_COLUMN], err) ||
            !add_qualified(sql, " = c.", key[i].words[OF_COLUMN], err))
            return false;
    }
    if (!add_qualified(sql, " WHERE p.", key[0].words[TO_COLUMN], err) || !hf_buf_add_text(sql, " IS NULL", err))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!add_qualified(sql, " AND c.", key[i].words[OF_COLUMN], err) || !hf_buf_add_text(sql, " IS NOT NULL", err))
            return false;
    }
    return true;
}

static bool
add_qualified(struct hf_buf *sql, const char *before, const char *name, struct hf_error *err)
{
    return hf_buf_add_text(sql, before, err) && hf_mariadb_add_name(sql, name, err);
}

static void
columns_done(struct columns *columns)
{
    for (size_t i = 0; i < columns->count; i++)
        for (size_t w = 0; w < WORDS; w++)
            free(columns->items[i].words[w]);
    free(columns->items);
}

#include "server/verify/mariadb/ask.h"

#include <stdio.h>
#include <string.h>

#include "server/verify/mariadb/query.h"

#define ANSWER_MS 70000

/* Takes one row of one column. */
struct only_value {
    struct hf_answer *answer;
    size_t rows;
};

static bool use(struct hf_asker_conn *conn, const char *database);
static bool take_value(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static bool is_damage(unsigned code);

bool
hf_mariadb_ask_copy(struct hf_asker *asker, const struct hf_assertion *assertion, struct hf_answer *ret)
{
    static const char limits[] =
        "SET SESSION max_statement_time=60, SESSION time_zone='+00:00', SESSION tx_read_only=1";
    struct hf_mariadb_refusal refusal = {0};
    struct only_value only = {ret, 0};
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    if (!hf_mariadb_connect(asker, ANSWER_MS, &conn, &refusal) || !use(conn, assertion->database)) {
        *ret = (struct hf_answer){.kind = HF_ANSWER_REFUSED, .state = "no connection to its database"};
        return true;
    }
    if (!hf_mariadb_run(conn, limits, NULL, NULL, &refusal) ||
        !hf_mariadb_run(conn, assertion->sql, take_value, &only, &refusal)) {
        ret->kind = is_damage(refusal.code) ? HF_ANSWER_DAMAGE : HF_ANSWER_REFUSED;
        snprintf(ret->state, sizeof ret->state, "error %u", refusal.code);
        return true;
    }
    if (only.rows == 0)
        ret->kind = HF_ANSWER_NOTHING;
    return true;
}

static bool
use(struct hf_asker_conn *conn, const char *database)
{
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(HF_KIB);
    struct hf_mariadb_refusal refusal;
    return database[0] == '\0' || (hf_buf_add_text(&sql, "USE ", NULL) && hf_mariadb_add_name(&sql, database, NULL) &&
                                   hf_mariadb_run(conn, hf_buf_text(&sql), NULL, NULL, &refusal));
}

static bool
take_value(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct only_value *only = context;
    if (only->rows++ > 0 || count != 1) {
        only->answer->kind = HF_ANSWER_OTHER;
        return false;
    }
    if (values[0] == NULL) {
        only->answer->kind = HF_ANSWER_NOTHING;
    } else if (lengths[0] >= sizeof only->answer->text || strlen(values[0]) != lengths[0]) {
        only->answer->kind = HF_ANSWER_OTHER;
    } else {
        only->answer->kind = HF_ANSWER_VALUE;
        snprintf(only->answer->text, sizeof only->answer->text, "%s", values[0]);
    }
    return true;
}

/* What a server says of files that are not what they should be. */
static bool
is_damage(unsigned code)
{
    static const unsigned codes[] = {126, 127, 144, 145, 1030, 1033, 1034, 1035, 1194, 1195, 1712, 1815, 1877, 1932};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] == code)
            return true;
    return false;
}

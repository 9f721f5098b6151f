#include "server/verify/postgres/ask.h"

#include <stdio.h>
#include <string.h>

#include "server/source/postgres/connection.h"
#include "server/verify/postgres/query.h"

#define SILENCE_MS 70000
#define LIMITS                                                                                                         \
    " -c default_transaction_read_only=on -c statement_timeout=60000 -c search_path=public -c temp_file_limit=1GB"

/* Takes one row of one column. */
struct only_value {
    struct hf_answer *answer;
    size_t rows;
};

static const char *database_of(const struct hf_assertion *assertion);
static bool take_value(void *context, char *const *values, int count);
static void keep(struct hf_answer *answer, const char *value);

bool
hf_postgres_ask_copy(const struct hf_query_target *target, const struct hf_assertion *assertion, struct hf_answer *ret)
{
    char options[2048];
    struct hf_query_target limited = *target;
    struct hf_query_refusal refusal;
    struct hf_error failure;
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    snprintf(options, sizeof options, "%s" LIMITS, target->options);
    limited.options = options;
    struct only_value only = {ret, 0};
    if (!hf_query_connect(&limited, database_of(assertion), 30, &conn, &failure)) {
        *ret = (struct hf_answer){.kind = HF_ANSWER_REFUSED, .state = "no connection to its database"};
        return true;
    }
    if (!hf_query_run(conn, assertion->sql, NULL, 0, take_value, &only, &refusal)) {
        const bool damage = strncmp(refusal.state, "XX", 2) == 0 || strncmp(refusal.state, "58", 2) == 0;
        ret->kind = damage ? HF_ANSWER_DAMAGE : HF_ANSWER_REFUSED;
        snprintf(ret->state, sizeof ret->state, "SQLSTATE %s", refusal.state[0] != 0 ? refusal.state : "unknown");
        return true;
    }
    if (only.rows == 0)
        ret->kind = HF_ANSWER_NOTHING;
    return true;
}

bool
hf_postgres_ask_source(const struct hf_source_target *live, const atomic_bool *cancel,
                       const struct hf_assertion *assertion, struct hf_answer *ret, struct hf_error *err)
{
    static const char limits[] = "SELECT set_config('default_transaction_read_only', 'on', false), "
                                 "set_config('statement_timeout', '60000', false), "
                                 "set_config('search_path', 'public', false), set_config('datestyle', 'ISO', false), "
                                 "set_config('timezone', 'UTC', false)";
    const struct hf_postgres_patience patience = {.cancel = cancel, .silence_ms = SILENCE_MS};
    struct hf_error failure;
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *set = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    if (!hf_postgres_connect_database(live, database_of(assertion), &patience, &conn, &failure) ||
        !hf_postgres_query(conn, &patience, "set limits", limits, NULL, 0, &set, &failure) ||
        !hf_postgres_query(conn, &patience, "ask what the owner asks", assertion->sql, NULL, 0, &rows, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        *ret = (struct hf_answer){.kind = HF_ANSWER_REFUSED};
        snprintf(ret->state, sizeof ret->state, "%s",
                 failure.kind == HF_ERR_DENIED        ? "our role may not read it"
                 : failure.kind == HF_ERR_UNAVAILABLE ? "it is not there"
                                                      : "it was refused");
        return true;
    }
    if (PQntuples(rows) == 0)
        ret->kind = HF_ANSWER_NOTHING;
    else if (PQntuples(rows) > 1 || PQnfields(rows) != 1)
        ret->kind = HF_ANSWER_OTHER;
    else
        keep(ret, PQgetisnull(rows, 0, 0) ? NULL : PQgetvalue(rows, 0, 0));
    return true;
}

static const char *
database_of(const struct hf_assertion *assertion)
{
    return assertion->database[0] != 0 ? assertion->database : "postgres";
}

static bool
take_value(void *context, char *const *values, int count)
{
    struct only_value *only = context;
    if (only->rows++ > 0 || count != 1) {
        only->answer->kind = HF_ANSWER_OTHER;
        return false;
    }
    keep(only->answer, values[0]);
    return true;
}

static void
keep(struct hf_answer *answer, const char *value)
{
    if (value == NULL) {
        answer->kind = HF_ANSWER_NOTHING;
    } else if (strlen(value) >= sizeof answer->text) {
        answer->kind = HF_ANSWER_OTHER;
    } else {
        answer->kind = HF_ANSWER_VALUE;
        snprintf(answer->text, sizeof answer->text, "%s", value);
    }
}

#include "catalog/local.h"

#include <string.h>

#include "catalog/statements.h"

static bool visit_job(struct hf_statement *get, hf_job_row_visitor *visit, void *context, struct hf_error *err);

bool
hf_catalog_job_add(struct hf_catalog *catalog, const struct hf_job_new *job, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(catalog, HF_SQL_JOB_ADD);
    hf_bind_id(&add, ":job_id", &job->job);
    hf_bind_text(&add, ":kind", job->kind);
    hf_bind_text(&add, ":subject", job->subject);
    hf_bind_text(&add, ":arguments", job->arguments);
    hf_bind_text(&add, ":requested_by", job->requested_by);
    hf_bind_int(&add, ":queued_at", job->queued_at);
    return hf_statement_run(&add, err);
}

bool
hf_catalog_job_start(struct hf_catalog *catalog, const struct hf_id *job, int64_t now, bool *ret_changed,
                     struct hf_error *err)
{
    int changed;
    _cleanup_(hf_statement_done) struct hf_statement start = hf_statement(catalog, HF_SQL_JOB_START);
    hf_bind_id(&start, ":job_id", job);
    hf_bind_int(&start, ":started_at", now);
    if (!hf_statement_change(&start, &changed, err))
        return false;
    *ret_changed = changed == 1;
    return true;
}

bool
hf_catalog_job_arguments(struct hf_catalog *catalog, const struct hf_id *job, const char *arguments,
                         struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(catalog, HF_SQL_JOB_ARGUMENTS);
    hf_bind_id(&put, ":job_id", job);
    hf_bind_text(&put, ":arguments", arguments);
    return hf_statement_run(&put, err);
}

bool
hf_catalog_job_end(struct hf_catalog *catalog, const struct hf_id *job, const char *state, int exit_code,
                   const struct hf_error *why, int64_t now, bool *ret_changed, struct hf_error *err)
{
    int changed;
    _cleanup_(hf_statement_done) struct hf_statement end = hf_statement(catalog, HF_SQL_JOB_END);
    hf_bind_id(&end, ":job_id", job);
    hf_bind_text(&end, ":state", state);
    hf_bind_int(&end, ":ended_at", now);
    hf_bind_int(&end, ":exit_code", exit_code);
    hf_bind_text(&end, ":error_kind", why == NULL ? NULL : hf_error_kind_name(why->kind));
    hf_bind_text(&end, ":message", why == NULL ? NULL : why->message);
    hf_bind_text(&end, ":hint", why == NULL || why->hint[0] == '\0' ? NULL : why->hint);
    if (!hf_statement_change(&end, &changed, err))
        return false;
    *ret_changed = changed == 1;

    _cleanup_(hf_statement_done) struct hf_statement forget = hf_statement(catalog, HF_SQL_PROGRESS_REMOVE);
    hf_bind_id(&forget, ":job_id", job);
    return hf_statement_run(&forget, err);
}

bool
hf_catalog_jobs_lost(struct hf_catalog *catalog, int64_t now, int *ret_count, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement lose = hf_statement(catalog, HF_SQL_JOBS_LOST);
    hf_bind_int(&lose, ":ended_at", now);
    return hf_statement_change(&lose, ret_count, err);
}

bool
hf_catalog_jobs_trim(struct hf_catalog *catalog, int64_t before, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement trim = hf_statement(catalog, HF_SQL_JOBS_TRIM);
    hf_bind_int(&trim, ":before", before);
    return hf_statement_run(&trim, err);
}

bool
hf_catalog_progress_put(struct hf_catalog *catalog, const struct hf_id *job, const char *phase, uint64_t done,
                        uint64_t total, int64_t now, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(catalog, HF_SQL_PROGRESS_PUT);
    hf_bind_id(&put, ":job_id", job);
    hf_bind_text(&put, ":phase", phase);
    hf_bind_int(&put, ":done", (int64_t)done);
    hf_bind_int(&put, ":total", (int64_t)total);
    hf_bind_int(&put, ":at", now);
    return hf_statement_run(&put, err);
}

bool
hf_catalog_jobs(struct hf_catalog *catalog, const struct hf_id *job, int64_t most, hf_job_row_visitor *visit,
                void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_JOBS);
    if (job != NULL)
        hf_bind_id(&get, ":job_id", job);
    hf_bind_int(&get, ":most", most);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        if (!visit_job(&get, visit, context, err))
            return false;
    }
    return false;
}

bool
hf_catalog_jobs_running(struct hf_catalog *catalog, hf_job_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_JOBS_RUNNING);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        if (!visit_job(&get, visit, context, err))
            return false;
    }
    return false;
}

bool
hf_catalog_job_last(struct hf_catalog *catalog, const char *kind, const char *subject, bool *ret_found,
                    hf_job_row_visitor *visit, void *context, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_JOB_LAST);
    hf_bind_text(&get, ":kind", kind);
    hf_bind_text(&get, ":subject", subject);
    return hf_statement_step(&get, ret_found, err) && (!*ret_found || visit_job(&get, visit, context, err));
}

bool
hf_catalog_schedule_get(struct hf_catalog *catalog, const char *source, const char *kind, bool *ret_found,
                        int64_t *ret_every_ms, int64_t *ret_next_at, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_SCHEDULE_GET);
    hf_bind_text(&get, ":source", source);
    hf_bind_text(&get, ":kind", kind);
    if (!hf_statement_step(&get, ret_found, err))
        return false;
    if (*ret_found) {
        *ret_every_ms = hf_column_int(&get, 0, 0);
        *ret_next_at = hf_column_int(&get, 1, 0);
    }
    return true;
}

bool
hf_catalog_schedule_put(struct hf_catalog *catalog, const char *source, const char *kind, int64_t every_ms,
                        int64_t next_at, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(catalog, HF_SQL_SCHEDULE_PUT);
    hf_bind_text(&put, ":source", source);
    hf_bind_text(&put, ":kind", kind);
    hf_bind_int(&put, ":every_ms", every_ms);
    hf_bind_int(&put, ":next_at", next_at);
    return hf_statement_run(&put, err);
}

bool
hf_catalog_schedule_remove(struct hf_catalog *catalog, const char *source, const char *kind, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement remove = hf_statement(catalog, HF_SQL_SCHEDULE_REMOVE);
    hf_bind_text(&remove, ":source", source);
    hf_bind_text(&remove, ":kind", kind);
    return hf_statement_run(&remove, err);
}

bool
hf_catalog_fact_get(struct hf_catalog *catalog, const char *name, char **ret, struct hf_error *err)
{
    bool found;
    char *value = NULL;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_FACT_GET);
    hf_bind_text(&get, ":name", name);
    if (!hf_statement_step(&get, &found, err))
        return false;
    if (found && (value = strdup(hf_column_text(&get, 0))) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    *ret = value;
    return true;
}

bool
hf_catalog_fact_put(struct hf_catalog *catalog, const char *name, const char *value, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(catalog, HF_SQL_FACT_PUT);
    hf_bind_text(&put, ":name", name);
    hf_bind_text(&put, ":value", value);
    return hf_statement_run(&put, err);
}

bool
hf_catalog_pack_check_put(struct hf_catalog *catalog, const struct hf_id *vault, const struct hf_id *pack,
                          int64_t checked_at, bool sound, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(catalog, HF_SQL_PACK_CHECK_PUT);
    hf_bind_id(&put, ":pack_id", pack);
    hf_bind_id(&put, ":vault_id", vault);
    hf_bind_int(&put, ":checked_at", checked_at);
    hf_bind_int(&put, ":sound", sound ? 1 : 0);
    return hf_statement_run(&put, err);
}

bool
hf_catalog_pack_checks(struct hf_catalog *catalog, hf_pack_check_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_PACK_CHECKS);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_pack_check_row row = {.bytes = hf_column_int(&get, 2, 0),
                                        .checked_at = hf_column_int(&get, 3, -1),
                                        .sound = hf_column_int(&get, 4, 1) != 0};
        if (!hf_column_id(&get, 0, &row.pack, err) || !hf_column_id(&get, 1, &row.vault, err) ||
            !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_pack_check_sums(struct hf_catalog *catalog, int64_t since, struct hf_pack_check_sums *ret,
                           struct hf_error *err)
{
    bool found;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_PACK_CHECK_SUMS);
    hf_bind_int(&get, ":since", since);
    if (!hf_statement_step(&get, &found, err))
        return false;
    *ret = (struct hf_pack_check_sums){.packs = hf_column_int(&get, 0, 0),
                                       .bytes = hf_column_int(&get, 1, 0),
                                       .never = hf_column_int(&get, 2, 0),
                                       .oldest_at = hf_column_int(&get, 3, -1),
                                       .bytes_since = hf_column_int(&get, 4, 0),
                                       .unsound = hf_column_int(&get, 5, 0)};
    return true;
}

bool
hf_catalog_pack_check_trim(struct hf_catalog *catalog, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement trim = hf_statement(catalog, HF_SQL_PACK_CHECK_TRIM);
    return hf_statement_run(&trim, err);
}

bool
hf_catalog_fact_remove(struct hf_catalog *catalog, const char *name, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement remove = hf_statement(catalog, HF_SQL_FACT_REMOVE);
    hf_bind_text(&remove, ":name", name);
    return hf_statement_run(&remove, err);
}

static bool
visit_job(struct hf_statement *get, hf_job_row_visitor *visit, void *context, struct hf_error *err)
{
    struct hf_job_row row = {
        .kind = hf_column_text(get, 1),
        .subject = hf_column_text(get, 2),
        .requested_by = hf_column_text(get, 3),
        .state = hf_column_text(get, 4),
        .queued_at = hf_column_int(get, 5, -1),
        .started_at = hf_column_int(get, 6, -1),
        .ended_at = hf_column_int(get, 7, -1),
        .exit_code = hf_column_int(get, 8, -1),
        .error_kind = hf_column_text(get, 9),
        .message = hf_column_text(get, 10),
        .hint = hf_column_text(get, 11),
        .phase = hf_column_text(get, 12),
        .done = hf_column_int(get, 13, 0),
        .total = hf_column_int(get, 14, 0),
        .arguments = hf_column_text(get, 15),
    };
    return hf_column_id(get, 0, &row.job, err) && visit(context, &row, err);
}

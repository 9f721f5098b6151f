#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/local.h"
#include "server/job/daemon_internal.h"
#include "server/job/open_repository.h"

#define FACT_MOST (4 * HF_KIB)

static bool compare(struct hf_worker *worker, struct hf_catalog *live, const char *path, struct hf_rebuild_report *ret,
                    struct hf_error *err);
static bool answer(const struct hf_rebuild_report *report, const char *damage, json_t **ret, struct hf_error *err);

/*
 * The catalog in use is read as it stands at one moment; beside it a second one is made from the logs, as far as the
 * first had read them.  Both must be equal.  That the one in use is damaged is an answer too.
 */
bool
hf_catalog_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(hf_worker_settings(worker)->state, HF_STATE_CATALOG);
    _cleanup_(hf_catalog_freep) struct hf_catalog *live = NULL;
    struct hf_rebuild_report report = {0};
    struct hf_error damage;
    (void)request;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    hf_worker_progress(worker, "check", 0, 0);
    if (!hf_catalog_open(path, HF_CATALOG_READ, &live, &damage)) {
        if (damage.kind == HF_ERR_CORRUPT)
            return answer(&report, damage.message, ret_result, err);
        *err = damage;
        return false;
    }
    return compare(worker, live, path, &report, err) && answer(&report, NULL, ret_result, err);
}

bool
hf_catalog_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                          struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    int64_t differences;
    if (why != NULL)
        return true;
    const char *damage = json_string_value(json_object_get(*result, "damaged"));
    if (damage != NULL) {
        struct hf_error found;
        hf_fail(&found, HF_ERR_CORRUPT, "%s", damage);
        hf_job_bad_news(job);
        return hf_records_remake_catalog(daemon->records, &found, hf_daemon_now(daemon), err);
    }
    if (!hf_json_integer(*result, "differences", "the result", 0, INT64_MAX, &differences, err))
        return false;
    if (differences == 0)
        return hf_catalog_fact_remove(catalog, HF_FACT_CATALOG_DIFFERENCES, err);

    char when[HF_TIME_TEXT_BYTES];
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FACT_MOST);
    _cleanup_(hf_json_freep) json_t *fact =
        json_pack("{s:s, s:I, s:O}", "at", hf_time_format(hf_daemon_now(daemon), when), "differences",
                  (json_int_t)differences, "first", json_object_get(*result, "first"));
    if (fact == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    hf_job_bad_news(job);
    hf_log_warning(NULL, "the catalog differs from the repository in %lld rows", (long long)differences);
    return hf_json_canonical(fact, &text, err) &&
           hf_catalog_fact_put(catalog, HF_FACT_CATALOG_DIFFERENCES, hf_buf_text(&text), err);
}

static bool
compare(struct hf_worker *worker, struct hf_catalog *live, const char *path, struct hf_rebuild_report *ret,
        struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_catalog_freep) struct hf_catalog *scratch = NULL;
    _cleanup_(hf_freep) char *scratch_path = NULL;
    struct hf_catalog_difference difference;
    if (asprintf(&scratch_path, "%s.check", path) < 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    if (!hf_catalog_snapshot(live, err) || !hf_open_repository(worker, NULL, &opened, err) ||
        !hf_catalog_remove(scratch_path, err) || !hf_catalog_open(scratch_path, HF_CATALOG_SCRATCH, &scratch, err) ||
        !hf_records_fill_catalog(opened.repository, live, scratch, ret, err) ||
        !hf_catalog_compare(live, scratch, &difference, err))
        return false;
    ret->differences = difference.rows;
    snprintf(ret->first, sizeof ret->first, "%s", difference.first);
    hf_catalog_freep(&scratch);
    return hf_catalog_remove(scratch_path, err);
}

static bool
answer(const struct hf_rebuild_report *report, const char *damage, json_t **ret, struct hf_error *err)
{
    *ret =
        json_pack("{s:s?, s:I, s:I, s:I, s:s}", "damaged", damage, "vaults", (json_int_t)report->vaults, "entries",
                  (json_int_t)report->entries, "differences", (json_int_t)report->differences, "first", report->first);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

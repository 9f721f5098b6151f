#include "catalog/view.h"

#include "catalog/statements.h"

static bool add_totals(struct hf_catalog *catalog, struct hf_vault_row *row, struct hf_error *err);
static void grow_window(struct hf_window_row *window, const struct hf_window_row *row);
static bool visit_source(struct hf_statement *get, hf_source_row_visitor *visit, void *context, struct hf_error *err);
static bool visit_backup(struct hf_statement *get, hf_backup_row_visitor *visit, void *context, struct hf_error *err);

bool
hf_catalog_vaults(struct hf_catalog *catalog, hf_vault_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_VAULTS);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_vault_row row = {
            .engine = hf_column_text(&get, 1),
            .identity = hf_column_text(&get, 2),
            .name = hf_column_text(&get, 3),
            .created_at = hf_column_int(&get, 4, -1),
            .epoch = hf_column_int(&get, 5, 0),
            .shredded_at = hf_column_int(&get, 6, -1),
            .head = (uint64_t)hf_column_int(&get, 7, 0),
            .head_hash = hf_column_text(&get, 8),
            .head_time = hf_column_int(&get, 9, -1),
        };
        if (!hf_column_id(&get, 0, &row.vault, err) || !add_totals(catalog, &row, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_policies(struct hf_catalog *catalog, const struct hf_id *vault, const char *subject,
                    hf_policy_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_POLICIES);
    hf_bind_id(&get, ":vault_id", vault);
    hf_bind_text(&get, ":subject", subject);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_policy_row row = {.record = hf_column_text(&get, 1),
                                    .sequence = (uint64_t)hf_column_int(&get, 2, 0),
                                    .changed_at = hf_column_int(&get, 3, -1)};
        if (!hf_column_id(&get, 0, &row.policy, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_sources(struct hf_catalog *catalog, hf_source_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_SOURCES);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        if (!visit_source(&get, visit, context, err))
            return false;
    }
    return false;
}

bool
hf_catalog_source(struct hf_catalog *catalog, const char *name, bool *ret_found, hf_source_row_visitor *visit,
                  void *context, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_SOURCE_GET);
    hf_bind_text(&get, ":name", name);
    return hf_statement_step(&get, ret_found, err) && (!*ret_found || visit_source(&get, visit, context, err));
}

bool
hf_catalog_source_vault(struct hf_catalog *catalog, const char *name, struct hf_id *ret, struct hf_error *err)
{
    bool found;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_SOURCE_VAULT);
    hf_bind_text(&get, ":source", name);
    if (!hf_statement_step(&get, &found, err))
        return false;
    *ret = HF_ID_NONE;
    return !found || hf_column_id(&get, 0, ret, err);
}

bool
hf_catalog_source_counts(struct hf_catalog *catalog, const char *name, struct hf_source_counts *ret,
                         struct hf_error *err)
{
    bool row; // always one: it counts
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_SOURCE_COUNTS);
    hf_bind_text(&get, ":source", name);
    if (!hf_statement_step(&get, &row, err))
        return false;
    *ret = (struct hf_source_counts){
        .backups = hf_column_int(&get, 0, 0),
        .by_state =
            {
                [HF_BACKUP_UNPROVEN] = hf_column_int(&get, 1, 0),
                [HF_BACKUP_PROVEN] = hf_column_int(&get, 2, 0),
                [HF_BACKUP_FAILED] = hf_column_int(&get, 3, 0),
                [HF_BACKUP_DAMAGED] = hf_column_int(&get, 4, 0),
            },
        .stored_bytes = hf_column_int(&get, 5, 0),
    };
    return true;
}

bool
hf_catalog_backups(struct hf_catalog *catalog, const char *source, bool with_pruned, hf_backup_row_visitor *visit,
                   void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_BACKUPS);
    hf_bind_text(&get, ":source", source);
    hf_bind_int(&get, ":with_pruned", with_pruned);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        if (!visit_backup(&get, visit, context, err))
            return false;
    }
    return false;
}

bool
hf_catalog_backup(struct hf_catalog *catalog, const struct hf_id *backup, bool *ret_found, hf_backup_row_visitor *visit,
                  void *context, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_BACKUP_GET);
    hf_bind_id(&get, ":backup_id", backup);
    return hf_statement_step(&get, ret_found, err) && (!*ret_found || visit_backup(&get, visit, context, err));
}

bool
hf_catalog_newest_backup(struct hf_catalog *catalog, const char *source, const enum hf_backup_state *state,
                         bool *ret_found, hf_backup_row_visitor *visit, void *context, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_BACKUP_NEWEST);
    hf_bind_text(&get, ":source", source);
    hf_bind_text(&get, ":state", state == NULL ? NULL : hf_backup_state_name(*state));
    return hf_statement_step(&get, ret_found, err) && (!*ret_found || visit_backup(&get, visit, context, err));
}

bool
hf_catalog_attempts(struct hf_catalog *catalog, const struct hf_id *backup, const char *source, int64_t most,
                    hf_attempt_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_ATTEMPTS);
    if (backup != NULL)
        hf_bind_id(&get, ":backup_id", backup);
    hf_bind_text(&get, ":source", source);
    hf_bind_int(&get, ":most", most);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_attempt_row row = {
            .result = hf_column_text(&get, 2),
            .state = hf_column_text(&get, 3),
            .recorded_at = hf_column_int(&get, 4, -1),
            .started_at = hf_column_int(&get, 5, -1),
            .finished_at = hf_column_int(&get, 6, -1),
            .level = hf_column_text(&get, 7),
            .scratch = hf_column_text(&get, 8),
            .slot = hf_column_text(&get, 9),
            .reason = hf_column_text(&get, 10),
            .recovery_ms = hf_column_int(&get, 11, -1),
            .validation_ms = hf_column_int(&get, 12, -1),
            .data_loss_ms = hf_column_int(&get, 13, -1),
            .source = hf_column_text(&get, 15),
        };
        if (!hf_column_id(&get, 0, &row.attempt, err) || !hf_column_id(&get, 1, &row.backup, err) ||
            !hf_column_id(&get, 14, &row.evidence, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_damages(struct hf_catalog *catalog, hf_damage_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_DAMAGES);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_damage_row row = {
            .source = hf_column_text(&get, 2),
            .found_at = hf_column_int(&get, 3, -1),
            .packs = hf_column_text(&get, 4),
            .reason = hf_column_text(&get, 5),
            .lost = hf_column_text(&get, 7),
        };
        if (!hf_column_id(&get, 0, &row.damage, err) || !hf_column_id(&get, 1, &row.backup, err) ||
            !hf_column_id(&get, 6, &row.vault, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_gaps(struct hf_catalog *catalog, const struct hf_id *vault, hf_gap_row_visitor *visit, void *context,
                struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_GAPS);
    if (vault != NULL)
        hf_bind_id(&get, ":vault_id", vault);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_gap_row row = {
            .from = hf_column_text(&get, 1),
            .to = hf_column_text(&get, 2),
            .cause = hf_column_text(&get, 3),
            .noticed_at = hf_column_int(&get, 4, -1),
            .timeline = hf_column_int(&get, 5, -1),
            .anchored = hf_column_int(&get, 6, 0) != 0,
        };
        if (!hf_column_id(&get, 0, &row.vault, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

bool
hf_catalog_windows(struct hf_catalog *catalog, const struct hf_id *vault, hf_window_row_visitor *visit, void *context,
                   struct hf_error *err)
{
    bool more;
    struct hf_window_row window = {0};
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_STRETCHES);
    hf_bind_id(&get, ":vault_id", vault);
    for (bool open = false; hf_statement_step(&get, &more, err); open = true) {
        if (!more)
            return !open || visit(context, &window, err);
        const struct hf_window_row row = {
            .timeline = hf_column_int(&get, 0, 0),
            .start = (uint64_t)hf_column_int(&get, 1, 0),
            .end = (uint64_t)hf_column_int(&get, 2, 0),
            .first_time = hf_column_int(&get, 3, 0),
            .last_time = hf_column_int(&get, 4, 0),
            .commits = hf_column_int(&get, 5, 0),
            .stored_bytes = hf_column_int(&get, 6, 0),
        };
        if (!open || row.start > window.end) {
            if (open && !visit(context, &window, err))
                return false;
            window = row;
        } else {
            grow_window(&window, &row);
        }
    }
    return false;
}

bool
hf_catalog_holds(struct hf_catalog *catalog, hf_hold_row_visitor *visit, void *context, struct hf_error *err)
{
    bool more;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_HOLDS);
    while (hf_statement_step(&get, &more, err)) {
        if (!more)
            return true;
        struct hf_hold_row row = {
            .kind = hf_column_text(&get, 1),
            .since = hf_column_int(&get, 2, -1),
            .until = hf_column_int(&get, 3, -1),
            .person = hf_column_text(&get, 4),
            .reason = hf_column_text(&get, 5),
            .sequence = (uint64_t)hf_column_int(&get, 6, 0),
        };
        if (!hf_column_id(&get, 0, &row.backup, err) || !visit(context, &row, err))
            return false;
    }
    return false;
}

static bool
add_totals(struct hf_catalog *catalog, struct hf_vault_row *row, struct hf_error *err)
{
    bool found; // always: it counts
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_PACK_TOTALS);
    hf_bind_id(&get, ":vault_id", &row->vault);
    if (!hf_statement_step(&get, &found, err))
        return false;
    row->packs = hf_column_int(&get, 0, 0);
    row->bytes = hf_column_int(&get, 1, 0);
    return true;
}

static bool
visit_source(struct hf_statement *get, hf_source_row_visitor *visit, void *context, struct hf_error *err)
{
    struct hf_source_row row = {
        .name = hf_column_text(get, 1),
        .engine = hf_column_text(get, 2),
        .settings = hf_column_text(get, 3),
        .origin = hf_column_text(get, 4),
        .added_at = hf_column_int(get, 5, -1),
        .changed_at = hf_column_int(get, 6, -1),
    };
    return hf_column_id(get, 0, &row.source, err) && visit(context, &row, err);
}

static bool
visit_backup(struct hf_statement *get, hf_backup_row_visitor *visit, void *context, struct hf_error *err)
{
    struct hf_backup_row row = {
        .source = hf_column_text(get, 2),
        .sequence = (uint64_t)hf_column_int(get, 4, 0),
        .started_at = hf_column_int(get, 5, -1),
        .finished_at = hf_column_int(get, 6, -1),
        .committed_at = hf_column_int(get, 7, -1),
        .start_lsn = hf_column_text(get, 8),
        .stop_lsn = hf_column_text(get, 9),
        .timeline = hf_column_int(get, 10, -1),
        .server_version = hf_column_text(get, 11),
        .logical_bytes = hf_column_int(get, 12, -1),
        .stored_bytes = hf_column_int(get, 13, -1),
        .files = hf_column_int(get, 14, -1),
        .bad_pages = hf_column_int(get, 15, -1),
        .state_since = hf_column_int(get, 17, -1),
        .pruned_at = hf_column_int(get, 18, -1),
        .prune_reason = hf_column_text(get, 19),
        .shredded_at = hf_column_int(get, 20, -1),
    };
    return hf_column_id(get, 0, &row.backup, err) && hf_column_id(get, 1, &row.vault, err) &&
           hf_column_id(get, 3, &row.parent, err) && hf_backup_state_parse(hf_column_text(get, 16), &row.state, err) &&
           visit(context, &row, err);
}

/* The row begins inside the window, or right behind it. */
static void
grow_window(struct hf_window_row *window, const struct hf_window_row *row)
{
    window->end = row->end > window->end ? row->end : window->end;
    window->timeline = row->timeline > window->timeline ? row->timeline : window->timeline;
    if (row->first_time != 0 && (window->first_time == 0 || row->first_time < window->first_time))
        window->first_time = row->first_time;
    if (row->last_time > window->last_time)
        window->last_time = row->last_time;
    window->commits += row->commits;
    window->stored_bytes += row->stored_bytes;
}

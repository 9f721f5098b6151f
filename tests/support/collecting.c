#include "tests/support/collecting.h"

#include "server/care/check.h"
#include "tests/support/test.h"

static bool append(struct test_vault *vault, enum hf_log_kind kind, json_t *part, struct hf_error *err);
static void print_damage(void *context, const struct hf_damage *damage);

struct hf_collect_options
collecting_options(struct test_vault *vault)
{
    return (struct hf_collect_options){
        .signing = &vault->signing, .cache_folder = vault->cache, .now = COLLECTING_NOW, .container_bytes = HF_MIB};
}

bool
collecting_prune(struct test_vault *vault, const struct hf_id *backup, struct hf_error *err)
{
    return append(vault, HF_LOG_PRUNE,
                  json_pack("{s:[o], s:s}", "backups", hf_json_id_text(backup), "reason", "expired"), err);
}

bool
collecting_pin(struct test_vault *vault, enum hf_log_kind kind, const struct hf_id *reader, const struct hf_id *backup,
               struct hf_error *err)
{
    return append(vault, kind,
                  json_pack("{s:o, s:o}", "reader", hf_json_id_text(reader), "backup", hf_json_id_text(backup)), err);
}

bool
collecting_run(struct test_vault *vault, const struct hf_collect_options *options, struct hf_collect_report *ret,
               struct hf_error *err)
{
    *ret = (struct hf_collect_report){0};
    return hf_backend_sweep(hf_vault_backend(vault->vault), &ret->uploads, &ret->upload_bytes, err) &&
           hf_vault_collect(vault->vault, options, ret, err);
}

void
collecting_assert_whole(struct test_vault *vault, uint64_t orphans)
{
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_check_options options = {.level = 2, .workers = 2, .damage = print_damage};
    hf_assert_ok(hf_vault_check(vault->vault, &options, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    if (orphans != UINT64_MAX)
        assert_int_equal(report.orphans, orphans);
}

static bool
append(struct test_vault *vault, enum hf_log_kind kind, json_t *part, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *owned = part;
    assert_non_null(part);
    const struct hf_log_append entry = {kind, COLLECTING_NOW, HF_LOG_EPOCH_NOW, owned, NULL};
    return hf_vault_append(vault->vault, &entry, &vault->signing, NULL, NULL, err);
}

static void
print_damage(void *context, const struct hf_damage *damage)
{
    (void)context;
    print_message("# damage %s: %s%s%s\n", hf_damage_kind_name(damage->kind), damage->file != NULL ? damage->file : "",
                  damage->file != NULL ? ": " : "", damage->message);
}

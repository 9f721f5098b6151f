#include "server/job/records.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/local.h"
#include "server/care/copy.h"
#include "server/care/rotation.h"
#include "server/job/sealed_signer.h"
#include "server/job/unlock.h"

#define APPEND_TRIES 100 // other writers that were faster, one after the other

/* A vault whose log we follow. */
struct followed {
    struct hf_id id;
    struct hf_vault *vault;             // NULL: to be opened and read from its first entry
    const struct hf_vault_state *state; // borrowed from the vault
    bool shredded;                      // there are no keys: the vault is opened shut
};

struct hf_records {
    const struct hf_settings *settings; // borrowed
    char *catalog_path, *set_aside;
    struct hf_catalog *catalog;
    struct hf_credential credential;
    struct hf_repository *repository;
    bool read_only; // it is a copy
    struct hf_slot_info slot;
    struct hf_signer *signer;
    struct hf_signing signing;
    size_t count;
    struct followed *vaults;
};

/* Entries on their way from one vault's log into a catalog. */
struct reading {
    struct hf_catalog *catalog; // borrowed
    struct hf_id vault;
    uint64_t most;    // last entry to be taken
    uint64_t entries; // taken
};

static bool open_catalog(struct hf_records *records, int64_t now, struct hf_error *err);
static bool replace_damaged(struct hf_records *records, const struct hf_error *damage, int64_t now,
                            struct hf_error *err);
static bool check_catalog_repository(struct hf_records *records, struct hf_error *err);
static bool open_repository(struct hf_records *records, struct hf_error *err);
static bool open_copy(struct hf_records *records, const struct hf_error *why, struct hf_error *err);
static bool open_signer(struct hf_records *records, struct hf_error *err);
static bool refuse_to_sign(void *context, const void *bytes, size_t length,
                           uint8_t signature[static HF_SIGNATURE_BYTES], struct hf_error *err);
static bool take_signer(struct hf_records *records, const char *kit, struct hf_error *err);
static bool fail_no_signer(struct hf_error *err);
static bool find_vaults(struct hf_records *records, struct hf_error *err);
static struct followed *find(struct hf_records *records, const struct hf_id *id);
static bool follow(struct hf_records *records, const struct hf_id *id, struct hf_error *err);
static bool read_followed(struct hf_records *records, struct followed *followed, struct hf_error *err);
static bool finish_shredding(struct hf_records *records, struct followed *followed, struct hf_error *err);
static bool check_rollback(struct hf_records *records, struct hf_vault *vault, uint64_t head,
                           const uint8_t hash[static HF_SHA256_BYTES], struct hf_error *err);
static bool take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err);
static bool append_once(struct hf_records *records, const struct hf_record *record, bool *ret_refused,
                        struct hf_error *err);
static bool take_place(struct hf_records *records, struct hf_catalog **scratch, const char *scratch_path,
                       struct hf_error *err);

bool
hf_records_open(const struct hf_settings *settings, int64_t now, struct hf_records **ret, struct hf_error *err)
{
    _cleanup_(hf_records_freep) struct hf_records *records = calloc(1, sizeof *records);
    if (records == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the records");
    records->settings = settings;

    if (!open_repository(records, err) || !open_signer(records, err) || !open_catalog(records, now, err) ||
        !check_catalog_repository(records, err) || !hf_records_read(records, err))
        return false;
    *ret = HF_TAKE(records);
    return true;
}

void
hf_records_freep(struct hf_records **records)
{
    struct hf_records *it = *records;
    if (it == NULL)
        return;
    for (size_t i = 0; i < it->count; i++)
        hf_vault_freep(&it->vaults[i].vault);
    free(it->vaults);
    hf_catalog_freep(&it->catalog);
    hf_repository_freep(&it->repository);
    hf_credential_done(&it->credential);
    hf_signer_closep(&it->signer);
    free(it->catalog_path);
    free(it->set_aside);
    free(it);
    *records = NULL;
}

struct hf_catalog *
hf_records_catalog(struct hf_records *records)
{
    return records->catalog;
}

struct hf_repository *
hf_records_repository(struct hf_records *records)
{
    return records->repository;
}

const struct hf_signing *
hf_records_signing(const struct hf_records *records)
{
    return &records->signing;
}

struct hf_signer *
hf_records_signer(struct hf_records *records)
{
    return records->signer;
}

const struct hf_slot_info *
hf_records_slot(const struct hf_records *records)
{
    return &records->slot;
}

const struct hf_credential *
hf_records_credential(const struct hf_records *records)
{
    return &records->credential;
}

bool
hf_records_read_only(const struct hf_records *records)
{
    return records->read_only;
}

bool
hf_records_may_write(const struct hf_records *records, struct hf_error *err)
{
    if (!records->read_only)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a copy of a repository: it can only be read",
            records->settings->repository);
    return hf_fail_hint(err, "If the original is lost, \"holdfast repo promote\" makes a repository of the copy.");
}

bool
hf_records_promote(struct hf_records *records, const char *kit, int64_t now, struct hf_error *err)
{
    if (records->signer == NULL && kit == NULL) {
        hf_fail(err, HF_ERR_DENIED, "the signing key is missing: nothing could be written that a reader would believe");
        return hf_fail_hint(err,
                            "Give the recovery kit with --kit FILE, or put \"%s\" of the old appliance's state folder "
                            "into \"%s\".",
                            HF_STATE_SIGNING_KEY, records->settings->state);
    }
    if (records->signer == NULL && !take_signer(records, kit, err))
        return false;
    if (!hf_copy_promote(records->repository, &records->signing, now, err))
        return false;
    records->read_only = false;
    return hf_records_read(records, err);
}

const char *
hf_records_set_aside(const struct hf_records *records)
{
    return records->set_aside;
}

bool
hf_records_remake_catalog(struct hf_records *records, const struct hf_error *damage, int64_t now, struct hf_error *err)
{
    hf_catalog_freep(&records->catalog);
    for (size_t i = 0; i < records->count; i++)
        hf_vault_freep(&records->vaults[i].vault); // each log is read from its first entry again
    if (!replace_damaged(records, damage, now, err))
        return false;
    return hf_records_read(records, err);
}

bool
hf_records_vault(struct hf_records *records, const struct hf_id *id, struct hf_vault **ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct followed *followed = find(records, id);
    if (followed == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no vault \"%s\"", hf_id_format(id, text));
    if (followed->vault == NULL && !read_followed(records, followed, err))
        return false;
    if (followed->shredded)
        return hf_fail(err, HF_ERR_DENIED, "vault \"%s\" was shredded: its keys are destroyed", hf_id_format(id, text));
    *ret = followed->vault;
    return true;
}

bool
hf_records_state(struct hf_records *records, const struct hf_id *id, const struct hf_vault_state **ret,
                 struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct followed *followed = find(records, id);
    if (followed == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no vault \"%s\"", hf_id_format(id, text));
    if (followed->vault == NULL && !read_followed(records, followed, err))
        return false;
    *ret = followed->state;
    return true;
}

bool
hf_records_can_sign(const struct hf_records *records)
{
    return records->signer != NULL && !records->read_only;
}

bool
hf_records_reopen(struct hf_records *records, struct hf_error *err)
{
    struct hf_secret root_key = {0};
    const struct hf_id id = hf_repository_id(records->repository);
    for (size_t i = 0; i < records->count; i++)
        hf_vault_freep(&records->vaults[i].vault);
    // Which slot it is now; the repository took over the key behind it at the turn.
    if (!hf_slot_open(hf_repository_backend(records->repository), &id, &records->credential, &root_key, &records->slot,
                      err))
        return false;
    hf_secret_done(&root_key);
    return hf_records_read(records, err);
}

bool
hf_records_vault_of(struct hf_records *records, const char *engine, const char *identity, const char *name, int64_t now,
                    bool *ret_made, struct hf_vault **ret, struct hf_error *err)
{
    struct hf_id id;
    bool found;
    if (!hf_vault_find(records->repository, engine, identity, &found, &id, err))
        return false;
    if (!found && !hf_records_may_write(records, err))
        return false;
    if (!found) {
        const struct hf_vault_new how = {
            .engine = engine, .identity = identity, .name = name, .signer = &records->signing, .now = now};
        _cleanup_(hf_vault_freep) struct hf_vault *made = NULL;
        if (!hf_vault_create(records->repository, &how, &made, err))
            return false;
        id = hf_vault_id(made);
    }
    // Opened anew in either case, so that its log is read from the first entry on.
    if (find(records, &id) == NULL && !follow(records, &id, err))
        return false;
    *ret_made = !found;
    return hf_records_read_vault(records, &id, err) && hf_records_vault(records, &id, ret, err);
}

bool
hf_records_read(struct hf_records *records, struct hf_error *err)
{
    if (!find_vaults(records, err))
        return false;
    for (size_t i = 0; i < records->count; i++)
        if (!read_followed(records, &records->vaults[i], err))
            return false;
    return true;
}

bool
hf_records_read_vault(struct hf_records *records, const struct hf_id *id, struct hf_error *err)
{
    if (find(records, id) == NULL && !find_vaults(records, err))
        return false;
    char text[HF_ID_TEXT_BYTES];
    struct followed *followed = find(records, id);
    if (followed == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no vault \"%s\"", hf_id_format(id, text));
    return read_followed(records, followed, err);
}

bool
hf_records_append(struct hf_records *records, const struct hf_record *record, struct hf_error *err)
{
    if (!hf_records_may_write(records, err))
        return false;
    if (!hf_records_can_sign(records))
        return fail_no_signer(err);
    for (int tries = 0; tries < APPEND_TRIES; tries++) {
        bool refused;
        struct hf_error why = {0};
        if (!hf_records_read_vault(records, &record->vault, err))
            return false;
        if (append_once(records, record, &refused, &why))
            return hf_records_read_vault(records, &record->vault, err);
        if (refused || why.kind != HF_ERR_CONFLICT) {
            *err = why;
            return false;
        }
    }
    return hf_fail(err, HF_ERR_CONFLICT, "could not write %s into the log: others were faster %d times",
                   hf_log_kind_name(record->kind), APPEND_TRIES);
}

bool
hf_records_rebuild(struct hf_records *records, struct hf_rebuild_report *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *scratch_path = NULL;
    _cleanup_(hf_catalog_freep) struct hf_catalog *scratch = NULL;
    struct hf_rebuild_report report = {0};
    struct hf_catalog_difference difference;

    if (asprintf(&scratch_path, "%s.rebuild", records->catalog_path) < 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the rebuild");
    if (!hf_records_read(records, err) || !hf_catalog_remove(scratch_path, err) ||
        !hf_catalog_open(scratch_path, HF_CATALOG_SCRATCH, &scratch, err) ||
        !hf_records_fill_catalog(records->repository, NULL, scratch, &report, err) ||
        !hf_catalog_compare(records->catalog, scratch, &difference, err))
        return hf_fail_within(err, "could not rebuild the catalog");

    report.differences = difference.rows;
    snprintf(report.first, sizeof report.first, "%s", difference.first);
    if (difference.rows > 0 && !take_place(records, &scratch, scratch_path, err))
        return false;
    hf_catalog_freep(&scratch);
    if (!hf_catalog_remove(scratch_path, err))
        return false;
    *ret = report;
    return true;
}

bool
hf_records_fill_catalog(struct hf_repository *repository, struct hf_catalog *upto, struct hf_catalog *catalog,
                        struct hf_rebuild_report *report, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    if (!hf_repository_vaults(repository, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        struct reading reading = {.catalog = catalog, .vault = ids[i], .most = UINT64_MAX};
        const struct hf_vault_state *state;
        uint8_t hash[HF_SHA256_BYTES];
        if ((upto != NULL && !hf_catalog_head(upto, &ids[i], &reading.most, hash, err)) ||
            !hf_vault_open_any(repository, &ids[i], &vault, err) ||
            !hf_vault_read(vault, take_entry, &reading, &state, err))
            return false;
        report->vaults += reading.entries > 0 ? 1 : 0;
        report->entries += reading.entries;
    }
    return true;
}

static bool
open_catalog(struct hf_records *records, int64_t now, struct hf_error *err)
{
    records->catalog_path = hf_path_join(records->settings->state, HF_STATE_CATALOG);
    if (records->catalog_path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    if (hf_catalog_open(records->catalog_path, HF_CATALOG_WRITE, &records->catalog, err))
        return true;
    if (err->kind != HF_ERR_CORRUPT)
        return false;

    const struct hf_error damage = *err;
    return replace_damaged(records, &damage, now, err);
}

static bool
replace_damaged(struct hf_records *records, const struct hf_error *damage, int64_t now, struct hf_error *err)
{
    char when[HF_TIME_TEXT_BYTES];
    char *aside;
    if (!hf_catalog_set_aside(records->catalog_path, now, &aside, err))
        return false;
    free(records->set_aside);
    records->set_aside = aside;
    hf_log_warning(damage, "the catalog is made again from the repository; the damaged one is \"%s\"", aside);

    _cleanup_(hf_buf_done) struct hf_buf fact = HF_BUF_INIT(HF_MIB);
    _cleanup_(hf_json_freep) json_t *said = json_pack("{s:s, s:s}", "at", hf_time_format(now, when), "name", aside);
    if (said == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    return hf_catalog_open(records->catalog_path, HF_CATALOG_WRITE, &records->catalog, err) &&
           hf_json_canonical(said, &fact, err) &&
           hf_catalog_fact_put(records->catalog, HF_FACT_CATALOG_DAMAGED, hf_buf_text(&fact), err);
}

/* Two repositories in one catalog would be one list of backups, half of which are not where they should be. */
static bool
check_catalog_repository(struct hf_records *records, struct hf_error *err)
{
    const struct hf_id id = hf_repository_id(records->repository);
    _cleanup_(hf_freep) char *known = NULL;
    char text[HF_ID_TEXT_BYTES];
    hf_id_format(&id, text);
    if (!hf_catalog_fact_get(records->catalog, HF_FACT_REPOSITORY, &known, err))
        return false;
    if (known == NULL)
        return hf_catalog_fact_put(records->catalog, HF_FACT_REPOSITORY, text, err);
    if (strcmp(known, text) == 0)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "the state folder \"%s\" is in use for another repository than \"%s\"",
            records->settings->state, records->settings->repository);
    return hf_fail_hint(
        err,
        "Name a folder of its own with \"state:\" in the settings.  If that other repository is no more, "
        "move \"%s\" away: it is made again.",
        HF_STATE_CATALOG);
}

static bool
open_repository(struct hf_records *records, struct hf_error *err)
{
    const struct hf_settings *settings = records->settings;
    if (!hf_unlock_read(settings, &records->credential, err))
        return hf_fail_within(err, "could not open the repository \"%s\"", settings->repository);
    struct hf_error why;
    if (!hf_repository_open(settings->repository, HF_ACCESS_WRITE, &records->repository, &why) &&
        !open_copy(records, &why, err))
        return false;
    return hf_repository_unlock(records->repository, &records->credential, &records->slot, err);
}

/* What cannot be written to may be a copy, and that can be read. */
static bool
open_copy(struct hf_records *records, const struct hf_error *why, struct hf_error *err)
{
    struct hf_copy_mark mark;
    if (why->kind == HF_ERR_CONFLICT) {
        if (!hf_repository_open(records->settings->repository, HF_ACCESS_READ, &records->repository, err) ||
            !hf_copy_mark_read(hf_repository_backend(records->repository), &records->read_only, &mark, err))
            return false;
        if (records->read_only)
            return true;
    }
    *err = *why;
    return false;
}

/* Which appliance we are stands beside our public key in the repository's list of signers. */
static bool
open_signer(struct hf_records *records, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(records->settings->state, HF_STATE_SIGNING_KEY);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the signing key");
    struct hf_error missing;
    if (!hf_signer_open(path, &records->signer, &missing)) {
        if (missing.kind != HF_ERR_NOT_FOUND) {
            *err = missing;
            return false;
        }
        // An empty machine with a key: it lists, checks and restores.  What would become a record it refuses.
        if (!records->read_only)
            hf_log_warning(NULL, "there is no signing key \"%s\": this machine can restore, and record nothing", path);
        records->signing = (struct hf_signing){.sign = refuse_to_sign};
        return true;
    }

    const struct hf_public_key *key = hf_signer_public_key(records->signer);
    const struct hf_root_bundle *known = hf_repository_signers(records->repository);
    for (size_t i = 0; i < known->signer_count; i++) {
        if (memcmp(known->signers[i].public_key, key->bytes, sizeof key->bytes) != 0)
            continue;
        records->signing = (struct hf_signing){
            .context = records->signer, .appliance = known->signers[i].appliance, .sign = hf_signer_sign};
        memcpy(records->signing.public_key, key->bytes, sizeof key->bytes);
        return true;
    }
    hf_fail(err, HF_ERR_DENIED, "the signing key \"%s\" is not one of the repository's signers", path);
    return hf_fail_hint(err, "Is \"repository\" or \"state\" in \"%s\" that of another appliance?",
                        records->settings->file);
}

static bool
take_signer(struct hf_records *records, const char *kit, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(records->settings->state, HF_STATE_SIGNING_KEY);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the signing key");
    return hf_sealed_signer_restore(records->repository, kit, path, err) && open_signer(records, err);
}

static bool
refuse_to_sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
               struct hf_error *err)
{
    (void)context;
    (void)bytes;
    (void)length;
    (void)signature;
    return fail_no_signer(err);
}

static bool
fail_no_signer(struct hf_error *err)
{
    hf_fail(err, HF_ERR_DENIED, "this machine has no signing key of the repository, and can record nothing");
    return hf_fail_hint(err, "It can list and restore.  To go on with it, bring \"%s\" from the old state folder.",
                        HF_STATE_SIGNING_KEY);
}

static bool
find_vaults(struct hf_records *records, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    if (!hf_repository_vaults(records->repository, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (find(records, &ids[i]) == NULL && !follow(records, &ids[i], err))
            return false;
    return true;
}

static struct followed *
find(struct hf_records *records, const struct hf_id *id)
{
    for (size_t i = 0; i < records->count; i++)
        if (hf_id_equal(&records->vaults[i].id, id))
            return &records->vaults[i];
    return NULL;
}

static bool
follow(struct hf_records *records, const struct hf_id *id, struct hf_error *err)
{
    struct followed *longer = reallocarray(records->vaults, records->count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
    records->vaults = longer;
    longer[records->count++] = (struct followed){.id = *id};
    return true;
}

/* After a failure the log is read again from its first entry: what the catalog has it takes as no news. */
static bool
read_followed(struct hf_records *records, struct followed *followed, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct reading reading = {.catalog = records->catalog, .vault = followed->id, .most = UINT64_MAX};
    uint64_t head;
    uint8_t hash[HF_SHA256_BYTES];
    if (!hf_catalog_head(records->catalog, &followed->id, &head, hash, err))
        return false;
    if ((followed->vault != NULL || hf_vault_open_any(records->repository, &followed->id, &followed->vault, err)) &&
        hf_vault_read(followed->vault, take_entry, &reading, &followed->state, err) &&
        check_rollback(records, followed->vault, head, hash, err) &&
        (!followed->state->shredded || finish_shredding(records, followed, err)))
        return true;
    hf_vault_freep(&followed->vault);
    return hf_fail_within(err, "could not read the log of vault \"%s\"", hf_id_format(&followed->id, text));
}

/* Also what somebody who was killed in the middle of it left.  From then on the vault is read shut. */
static bool
finish_shredding(struct hf_records *records, struct followed *followed, struct hf_error *err)
{
    struct hf_shred_report report;
    char text[HF_ID_TEXT_BYTES];
    followed->shredded = true;
    if (hf_vault_keys(followed->vault) == NULL)
        return true;

    _cleanup_(hf_freep) char *cache = hf_path_join(records->settings->state, HF_STATE_CACHE);
    if (cache == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_shred_keys(hf_repository_backend(records->repository), &followed->id, cache, &report, err))
        return false;
    hf_log_info("the keys of vault \"%s\" are destroyed: %u bundles, %u cached files, %u journals",
                hf_id_format(&followed->id, text), report.bundles, report.cache_files, report.journals);
    hf_vault_freep(&followed->vault);
    return hf_vault_open_any(records->repository, &followed->id, &followed->vault, err) &&
           hf_vault_read(followed->vault, NULL, NULL, &followed->state, err);
}

static bool
check_rollback(struct hf_records *records, struct hf_vault *vault, uint64_t head,
               const uint8_t hash[static HF_SHA256_BYTES], struct hf_error *err)
{
    if (hf_vault_log_check_head(hf_vault_get_log(vault), head, hash, err))
        return true;
    return hf_fail_hint(err,
                        "This appliance has seen a newer log.  If an older copy of the repository was put back on "
                        "purpose, move \"%s\" away: the catalog is then made again from what is there.",
                        records->catalog_path);
}

static bool
take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct reading *reading = context;
    if (entry->sequence > reading->most)
        return true;
    struct hf_catalog_entry view = {
        .vault = reading->vault,
        .sequence = entry->sequence,
        .kind = hf_log_kind_name(entry->kind),
        .time = entry->time,
        .appliance = entry->appliance,
        .epoch = entry->epoch,
        .counts = entry->counts,
        .public_part = entry->public_part,
        .sealed_part = entry->sealed_part,
    };
    memcpy(view.hash, entry->hash, sizeof view.hash);
    reading->entries++;
    return hf_catalog_apply(reading->catalog, &view, err);
}

static bool
append_once(struct hf_records *records, const struct hf_record *record, bool *ret_refused, struct hf_error *err)
{
    const struct followed *followed = find(records, &record->vault);
    const struct hf_log_append append = {
        .kind = record->kind,
        .time = record->time,
        .epoch = record->kind == HF_LOG_EPOCH // it is written in its own
                     ? (uint64_t)json_integer_value(json_object_get(record->public_part, "epoch"))
                     : followed->state->epoch,
        .public_part = record->public_part,
        .sealed_part = record->sealed_part,
    };
    if (record->after != 0 && followed->state->head != record->after) {
        *ret_refused = true;
        return hf_fail(err, HF_ERR_CONFLICT, "the log has gone on from entry %" PRIu64 " to %" PRIu64, record->after,
                       followed->state->head);
    }
    *ret_refused = !hf_vault_may_append(followed->state, &append, &records->signing.appliance, err);
    return !*ret_refused && hf_vault_log_append(hf_vault_get_log(followed->vault), &append, &records->signing, err);
}

static bool
take_place(struct hf_records *records, struct hf_catalog **scratch, const char *scratch_path, struct hf_error *err)
{
    if (!hf_catalog_copy_local(*scratch, records->catalog_path, err))
        return hf_fail_within(err, "could not keep jobs and schedules");
    hf_catalog_freep(scratch);
    hf_catalog_freep(&records->catalog);
    bool replaced = hf_catalog_replace(records->catalog_path, scratch_path, err);
    // Whichever of the two lies there now: the daemon cannot go on without one.
    return hf_catalog_open(records->catalog_path, HF_CATALOG_WRITE, &records->catalog, replaced ? err : NULL) &&
           replaced;
}

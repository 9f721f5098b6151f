#include "server/job/damage.h"

#include <string.h>

#include "catalog/view.h"

/* What one backup loses, as it is told. */
struct hf_loss {
    json_t *ranges;
    size_t most; // of them
    uint64_t files, pages, bytes, more;
    bool any;
    char last_file[HF_PATH_MOST + 1]; // whose pages were told last: it counts once
};

/* The slabs of one vault. */
struct vault_slabs {
    size_t count, room;
    struct hf_lost_slab *slabs;
    const atomic_bool *cancel;
};

#define LISTED_TOGETHER 16384 // pairs, and ranges, over all backups of a vault: a result has to fit into an event
#define LISTED_LEAST    4
#define PAIRS_MOST      8192

/* A backup of a vault, and how many pairs of its row may be listed. */
struct user {
    const struct hf_id *vault;
    const struct hf_vault_backup *backup;
    const struct hf_manifest_root *root; // NULL: it does not read
    size_t most;
};

/* The known damage that a new one is compared with. */
struct known {
    const struct hf_id *backup;
    const char *packs, *lost;
    bool same;
};

struct recovery {
    const json_t *sound, *affected;
    json_t *healed; // [[vault, backup], ...]
    json_t *not_yet;
};

static json_t *damage_row(const struct hf_damage *damage);
static bool keep_slab(struct hf_damages *damages, const struct hf_damage *damage);
static bool affected_in_vault(struct hf_damages *damages, struct hf_repository *repository, const struct hf_id *id,
                              const atomic_bool *cancel, json_t *list, struct hf_error *err);
static bool narrow(struct hf_damages *damages, struct hf_vault *vault, struct vault_slabs *lost,
                   struct vault_slabs *altered, struct hf_error *err);
static void sort_slabs(struct vault_slabs *slabs);
static bool add_slab(void *context, const struct hf_lost_slab *lost, const char *why, struct hf_error *err);
static void vault_slabs_done(struct vault_slabs *slabs);
static bool is_named(const struct hf_damages *damages, const struct hf_vault_backup *backup);
static bool uses_any(const struct user *user, const struct vault_slabs *slabs);
static bool uses(const struct user *user, const struct hf_id *pack);
static bool trace(struct hf_vault *vault, const struct hf_id *backup, const struct vault_slabs *slabs, size_t most,
                  struct hf_loss **ret, struct hf_error *err);
static bool make_row(const struct user *user, const struct vault_slabs *lost, const struct vault_slabs *altered,
                     struct hf_loss *loss, json_t **ret, struct hf_error *err);
static bool add_pairs(const struct user *user, const struct vault_slabs *slabs, json_t *packs, uint64_t *more,
                      struct hf_error *err);
static bool compare_known(void *context, const struct hf_damage_row *row, struct hf_error *err);
static bool record(struct hf_daemon *daemon, const struct hf_id *vault, const struct hf_id *backup, const char *result,
                   const char *state, const json_t *sealed_part, struct hf_error *err);
static bool weigh_recovery(void *context, const struct hf_damage_row *row, struct hf_error *err);
static bool lists_all(const char *lost);
static bool all_sound(const json_t *packs, const json_t *sound);
static bool has_pair(const json_t *list, const char *backup);
static bool add_known_packs(void *context, const struct hf_damage_row *row, struct hf_error *err);

bool
hf_damages_init(struct hf_damages *damages, struct hf_error *err)
{
    *damages = (struct hf_damages){.rows = json_array()};
    return damages->rows != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
}

void
hf_damages_done(struct hf_damages *damages)
{
    hf_json_freep(&damages->rows);
    free(damages->found);
    damages->found = NULL;
}

void
hf_damages_take(void *context, const struct hf_damage *damage)
{
    struct hf_damages *damages = context;
    if (json_array_size(damages->rows) < HF_DAMAGES_SHOWN_MOST &&
        json_array_append_new(damages->rows, damage_row(damage)) != 0)
        damages->out_of_memory = true;
    if (!hf_id_is_none(&damage->pack) && !keep_slab(damages, damage))
        damages->out_of_memory = true;
}

bool
hf_damages_affected(struct hf_damages *damages, struct hf_repository *repository, const atomic_bool *cancel,
                    json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (damages->out_of_memory || list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    if (json_array_size(damages->rows) > 0 || damages->found_count > 0) {
        if (!hf_repository_vaults(repository, &vaults, &count, err))
            return false;
        for (size_t i = 0; i < count; i++)
            if (!affected_in_vault(damages, repository, &vaults[i], cancel, list, err))
                return false;
    }
    *ret = HF_TAKE(list);
    return true;
}

bool
hf_damages_of_backup(struct hf_vault *vault, const struct hf_id *backup, const struct hf_lost_slab *slabs, size_t count,
                     const atomic_bool *cancel, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_loss_freep) struct hf_loss *loss = NULL;
    _cleanup_(vault_slabs_done) struct vault_slabs lost = {.cancel = cancel}, altered = {.cancel = cancel};
    const struct hf_id id = hf_vault_id(vault);
    const struct hf_vault_state *state;
    for (size_t i = 0; i < count; i++)
        if (!add_slab(&lost, &slabs[i], NULL, err))
            return false;
    sort_slabs(&lost);
    if (!hf_vault_read(vault, NULL, NULL, &state, err) || !trace(vault, backup, &lost, PAIRS_MOST, &loss, err))
        return false;
    const struct user user = {&id, hf_vault_state_backup(state, backup), NULL, PAIRS_MOST};
    return make_row(&user, &lost, &altered, loss, ret, err);
}

bool
hf_loss_new(struct hf_loss **ret, struct hf_error *err)
{
    _cleanup_(hf_loss_freep) struct hf_loss *loss = calloc(1, sizeof *loss);
    if (loss == NULL || (loss->ranges = json_array()) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    loss->most = HF_LOST_RANGES_MOST;
    *ret = HF_TAKE(loss);
    return true;
}

void
hf_loss_freep(struct hf_loss **loss)
{
    if (*loss == NULL)
        return;
    hf_json_freep(&(*loss)->ranges);
    free(*loss);
    *loss = NULL;
}

bool
hf_loss_take(void *context, const struct hf_lost *lost, struct hf_error *err)
{
    struct hf_loss *loss = context;
    loss->any = true;
    if (lost->kind == HF_LOST_PAGES) {
        loss->pages += lost->pages;
        loss->bytes += lost->bytes;
        loss->files += strcmp(loss->last_file, lost->path) != 0;
        strncpy(loss->last_file, lost->path, sizeof loss->last_file - 1);
    } else {
        loss->files += lost->files;
    }
    if (json_array_size(loss->ranges) == loss->most) {
        loss->more++;
        return true;
    }
    json_t *path = hf_json_foreign_text(lost->path, strlen(lost->path), 1024);
    json_t *row = lost->kind == HF_LOST_PAGES
                      ? json_pack("{s:o, s:I, s:I, s:I}", "file", path, "first_page", (json_int_t)lost->first_page,
                                  "pages", (json_int_t)lost->pages, "bytes", (json_int_t)lost->bytes)
                  : lost->kind == HF_LOST_FILES
                      ? json_pack("{s:o, s:I}", "folder", path, "files", (json_int_t)lost->files)
                      : json_pack("{s:b}", "everything", 1);
    if (lost->kind == HF_LOST_BACKUP)
        json_decref(path);
    return json_array_append_new(loss->ranges, row) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
}

bool
hf_loss_is_any(const struct hf_loss *loss)
{
    return loss != NULL && loss->any;
}

bool
hf_loss_json(const struct hf_loss *loss, uint64_t more_packs, json_t **ret, struct hf_error *err)
{
    *ret = json_pack("{s:I, s:I, s:I, s:O, s:I, s:I}", "files", (json_int_t)loss->files, "pages",
                     (json_int_t)loss->pages, "bytes", (json_int_t)loss->bytes, "ranges", loss->ranges, "more",
                     (json_int_t)loss->more, "more_packs", (json_int_t)more_packs);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
}

bool
hf_damage_record(struct hf_daemon *daemon, const json_t *affected, const char *reason, struct hf_error *err)
{
    static const char what[] = "a damaged backup";
    _cleanup_(hf_json_freep) json_t *sealed_part = json_object();
    _cleanup_(hf_buf_done) struct hf_buf packs = HF_BUF_INIT(HF_WIRE_EVENT_MOST);
    _cleanup_(hf_buf_done) struct hf_buf lost = HF_BUF_INIT(HF_WIRE_EVENT_MOST);
    struct hf_id vault, backup;
    json_t *pack_rows, *lost_part;
    if (sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a damage");
    if (!hf_json_id(affected, "vault", what, &vault, err) || !hf_json_id(affected, "backup", what, &backup, err) ||
        !hf_json_array(affected, "packs", what, &pack_rows, err) ||
        !hf_json_object(affected, "lost", what, &lost_part, err) || !hf_json_canonical(pack_rows, &packs, err) ||
        !hf_json_canonical(lost_part, &lost, err))
        return false;
    struct known known = {.backup = &backup, .packs = hf_buf_text(&packs), .lost = hf_buf_text(&lost)};
    if (!hf_catalog_damages(hf_daemon_catalog(daemon), compare_known, &known, err))
        return false;
    return known.same || (hf_json_set(sealed_part, "packs", json_incref(pack_rows), err) &&
                          hf_json_set(sealed_part, "lost", json_incref(lost_part), err) &&
                          hf_json_set(sealed_part, "reason", json_string(reason), err) &&
                          record(daemon, &vault, &backup, "damaged", "damaged", sealed_part, err));
}

bool
hf_damage_record_healed(struct hf_daemon *daemon, const json_t *sound, const json_t *affected, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *healed = json_array();
    _cleanup_(hf_json_freep) json_t *not_yet = json_array();
    struct recovery recovery = {sound, affected, healed, not_yet};
    if (healed == NULL || not_yet == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the healed backups");
    if (!hf_catalog_damages(hf_daemon_catalog(daemon), weigh_recovery, &recovery, err))
        return false;
    for (size_t i = 0; i < json_array_size(healed); i++) {
        const json_t *pair = json_array_get(healed, i);
        const char *text = json_string_value(json_array_get(pair, 1));
        _cleanup_(hf_json_freep) json_t *sealed_part =
            json_pack("{s:s}", "reason", "every stored object is whole again");
        struct hf_id vault, backup;
        if (has_pair(not_yet, text))
            continue;
        if (sealed_part == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a healed backup");
        if (!hf_id_parse(json_string_value(json_array_get(pair, 0)), &vault, err) || !hf_id_parse(text, &backup, err) ||
            !record(daemon, &vault, &backup, "healed", "unproven", sealed_part, err))
            return false;
    }
    return true;
}

bool
hf_damage_known_packs(struct hf_daemon *daemon, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    if (list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the known damages");
    if (!hf_catalog_damages(hf_daemon_catalog(daemon), add_known_packs, list, err))
        return false;
    *ret = HF_TAKE(list);
    return true;
}

static json_t *
damage_row(const struct hf_damage *damage)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "kind", hf_damage_kind_name(damage->kind), "vault",
                     hf_json_id_text(&damage->vault), "pack",
                     hf_id_is_none(&damage->pack) ? json_null() : hf_json_id_text(&damage->pack), "slab",
                     damage->slab != HF_DAMAGE_NO_SLAB ? json_integer(damage->slab) : json_null(), "backup",
                     hf_id_is_none(&damage->backup) ? json_null() : hf_json_id_text(&damage->backup), "file",
                     damage->file != NULL ? hf_json_foreign_text(damage->file, strlen(damage->file), 1024)
                                          : json_null(),
                     "message", hf_json_foreign_text(damage->message, strlen(damage->message), 512));
}

/* Past the limit the pack counts as a whole: never too little is said to be lost. */
static bool
keep_slab(struct hf_damages *damages, const struct hf_damage *damage)
{
    const bool many = damages->found_count >= HF_LOST_SLABS_MOST;
    struct hf_found_slab fresh = {.vault = damage->vault,
                                  .lost = {damage->pack, many ? HF_LOST_WHOLE_PACK : damage->slab},
                                  .narrow = damage->slab == HF_DAMAGE_NO_SLAB && damage->kind != HF_DAMAGE_MISSING};
    if (damages->found_count > 0) {
        const struct hf_found_slab *last = &damages->found[damages->found_count - 1];
        if (hf_lost_slab_compare(&last->lost, &fresh.lost) == 0 && last->narrow == fresh.narrow)
            return true;
    }
    if (damages->found_count == damages->found_room) {
        const size_t room = damages->found_room > 0 ? 2 * damages->found_room : 64;
        struct hf_found_slab *grown = reallocarray(damages->found, room, sizeof *grown);
        if (grown == NULL)
            return false;
        damages->found = grown;
        damages->found_room = room;
    }
    damages->found[damages->found_count++] = fresh;
    return true;
}

static bool
affected_in_vault(struct hf_damages *damages, struct hf_repository *repository, const struct hf_id *id,
                  const atomic_bool *cancel, json_t *list, struct hf_error *err)
{
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    _cleanup_(vault_slabs_done) struct vault_slabs lost = {.cancel = cancel}, altered = {.cancel = cancel};
    const struct hf_vault_state *state;
    struct hf_error ignored;
    if (!hf_vault_open(repository, id, &vault, &ignored) || !hf_vault_read(vault, NULL, NULL, &state, &ignored))
        return true; // its log is among the damages
    if (!narrow(damages, vault, &lost, &altered, err))
        return false;
    for (size_t i = 0; i < state->backup_count; i++) {
        const struct hf_vault_backup *backup = &state->backups[i];
        _cleanup_(hf_loss_freep) struct hf_loss *loss = NULL;
        if (backup->pruned)
            continue;
        /* The newest is what the next backup is compared with: all that is to be healed stands there. */
        const size_t share = LISTED_TOGETHER / state->backup_count;
        const size_t most = i + 1 == state->backup_count ? PAIRS_MOST : share > LISTED_LEAST ? share : LISTED_LEAST;
        if (!trace(vault, &backup->backup, &lost, most, &loss, err))
            return false;
        _cleanup_(hf_backup_freep) struct hf_backup *opened = NULL;
        const struct hf_manifest_root *root =
            hf_backup_open(vault, &backup->backup, &opened, &ignored) ? hf_backup_root(opened) : NULL;
        const struct user user = {id, backup, root, most};
        json_t *row;
        if (!loss->any && !is_named(damages, backup) && !uses_any(&user, &altered))
            continue;
        if (!make_row(&user, &lost, &altered, loss, &row, err))
            return false;
        if (json_array_append_new(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    }
    return true;
}

/*
 * This vault's slabs, sorted; a pack that is only known not to be what it was is opened slab by slab.  It is `altered`
 * when all of them open: then nothing of it is lost, and nobody should rely on it.
 */
static bool
narrow(struct hf_damages *damages, struct hf_vault *vault, struct vault_slabs *lost, struct vault_slabs *altered,
       struct hf_error *err)
{
    const struct hf_id id = hf_vault_id(vault);
    for (size_t i = 0; i < damages->found_count; i++) {
        const struct hf_found_slab *found = &damages->found[i];
        const size_t before = lost->count;
        if (!hf_id_equal(&found->vault, &id))
            continue;
        if (found->narrow ? !hf_lost_slabs(vault, &found->lost.pack, lost->cancel, add_slab, lost, err)
                          : !add_slab(lost, &found->lost, NULL, err))
            return false;
        if (lost->count == before && !add_slab(altered, &found->lost, NULL, err))
            return false;
    }
    sort_slabs(lost);
    sort_slabs(altered);
    return true;
}

/* In order, each once. */
static void
sort_slabs(struct vault_slabs *slabs)
{
    size_t kept = 0;
    if (slabs->count > 0)
        qsort(slabs->slabs, slabs->count, sizeof *slabs->slabs, hf_lost_slab_compare);
    for (size_t i = 0; i < slabs->count; i++)
        if (kept == 0 || hf_lost_slab_compare(&slabs->slabs[kept - 1], &slabs->slabs[i]) != 0)
            slabs->slabs[kept++] = slabs->slabs[i];
    slabs->count = kept;
}

static bool
add_slab(void *context, const struct hf_lost_slab *lost, const char *why, struct hf_error *err)
{
    struct vault_slabs *slabs = context;
    (void)why;
    if (slabs->count == slabs->room) {
        const size_t room = slabs->room > 0 ? 2 * slabs->room : 64;
        struct hf_lost_slab *grown = reallocarray(slabs->slabs, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of lost slabs");
        slabs->slabs = grown;
        slabs->room = room;
    }
    slabs->slabs[slabs->count++] = *lost;
    return true;
}

static void
vault_slabs_done(struct vault_slabs *slabs)
{
    free(slabs->slabs);
}

static bool
is_named(const struct hf_damages *damages, const struct hf_vault_backup *backup)
{
    char text[HF_ID_TEXT_BYTES];
    size_t index;
    const json_t *row;
    hf_id_format(&backup->backup, text);
    json_array_foreach(damages->rows, index, row)
    {
        const char *named = json_string_value(json_object_get(row, "backup"));
        if (named != NULL && strcmp(named, text) == 0)
            return true;
    }
    return false;
}

static bool
uses_any(const struct user *user, const struct vault_slabs *slabs)
{
    for (size_t i = 0; i < slabs->count; i++)
        if (uses(user, &slabs->slabs[i].pack))
            return true;
    return false;
}

/* Of a backup whose manifest does not read nobody knows what it uses: anything. */
static bool
uses(const struct user *user, const struct hf_id *pack)
{
    if (user->root == NULL || hf_id_equal(pack, &user->backup->root_pack))
        return true;
    size_t low = 0, high = user->root->summary_count; // sorted by pack
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = hf_id_compare(&user->root->summary[middle].pack, pack);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool
trace(struct hf_vault *vault, const struct hf_id *backup, const struct vault_slabs *slabs, size_t most,
      struct hf_loss **ret, struct hf_error *err)
{
    _cleanup_(hf_loss_freep) struct hf_loss *loss = NULL;
    if (!hf_loss_new(&loss, err))
        return false;
    loss->most = most < HF_LOST_RANGES_MOST ? most : HF_LOST_RANGES_MOST;
    if (!hf_lost_pages(vault, backup, slabs->slabs, slabs->count, slabs->cancel, hf_loss_take, loss, err))
        return false;
    *ret = HF_TAKE(loss);
    return true;
}

static bool
make_row(const struct user *user, const struct vault_slabs *lost, const struct vault_slabs *altered,
         struct hf_loss *loss, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *packs = json_array();
    uint64_t more = 0;
    json_t *lost_part;
    if (!add_pairs(user, lost, packs, &more, err) || !add_pairs(user, altered, packs, &more, err))
        return false;
    if (!hf_loss_json(loss, more, &lost_part, err))
        return false;
    *ret = json_pack("{s:o, s:o, s:O, s:o}", "vault", hf_json_id_text(user->vault), "backup",
                     hf_json_id_text(&user->backup->backup), "packs", packs, "lost", lost_part);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
}

/* Those that the backup uses. */
static bool
add_pairs(const struct user *user, const struct vault_slabs *slabs, json_t *packs, uint64_t *more, struct hf_error *err)
{
    for (size_t i = 0; i < slabs->count; i++) {
        const struct hf_lost_slab *slab = &slabs->slabs[i];
        if (!uses(user, &slab->pack))
            continue;
        if (json_array_size(packs) == user->most) {
            (*more)++;
            continue;
        }
        json_t *pair = json_pack("[o, o]", hf_json_id_text(&slab->pack),
                                 slab->slab != HF_LOST_WHOLE_PACK ? json_integer(slab->slab) : json_null());
        if (json_array_append_new(packs, pair) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    }
    return true;
}

static bool
compare_known(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    struct known *known = context;
    (void)err;
    if (hf_id_equal(&row->backup, known->backup) && row->packs != NULL && row->lost != NULL &&
        strcmp(row->packs, known->packs) == 0 && strcmp(row->lost, known->lost) == 0)
        known->same = true;
    return true;
}

static bool
record(struct hf_daemon *daemon, const struct hf_id *vault, const struct hf_id *backup, const char *result,
       const char *state, const json_t *sealed_part, struct hf_error *err)
{
    if (hf_records_read_only(hf_daemon_records(daemon)))
        return true; // a copy keeps no records: it was told
    const struct hf_id found = hf_id_new();
    _cleanup_(hf_json_freep) json_t *open_part =
        json_pack("{s:o, s:o, s:s, s:s}", "backup", hf_json_id_text(backup), "attempt", hf_json_id_text(&found),
                  "result", result, "state", state);
    if (open_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a damage");
    const struct hf_record entry = {.vault = *vault,
                                    .kind = HF_LOG_VERDICT,
                                    .time = hf_daemon_now(daemon),
                                    .public_part = open_part,
                                    .sealed_part = sealed_part};
    return hf_records_append(hf_daemon_records(daemon), &entry, err);
}

/* A backup is healed when none of its damages speaks against it. */
static bool
weigh_recovery(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    struct recovery *recovery = context;
    char text[HF_ID_TEXT_BYTES];
    size_t index;
    const json_t *affected;
    _cleanup_(hf_json_freep) json_t *packs = NULL;
    hf_id_format(&row->backup, text);
    bool healed = row->packs != NULL;
    if (healed && !hf_json_parse(row->packs, strlen(row->packs), "a damage's packs", &packs, err))
        return false;
    healed = healed && json_array_size(packs) > 0 && all_sound(packs, recovery->sound) && lists_all(row->lost);
    json_array_foreach(recovery->affected, index, affected)
    {
        const char *backup = json_string_value(json_object_get(affected, "backup"));
        healed = healed && (backup == NULL || strcmp(backup, text) != 0);
    }
    json_t *list = healed ? recovery->healed : recovery->not_yet;
    if (has_pair(list, text))
        return true;
    return json_array_append_new(list, json_pack("[o, s]", hf_json_id_text(&row->vault), text)) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the healed backups");
}

/* False when it names fewer packs than there are. */
static bool
lists_all(const char *lost)
{
    _cleanup_(hf_json_freep) json_t *parsed = NULL;
    return lost == NULL || (hf_json_parse(lost, strlen(lost), "a damage", &parsed, NULL) &&
                            json_integer_value(json_object_get(parsed, "more_packs")) == 0);
}

static bool
all_sound(const json_t *packs, const json_t *sound)
{
    size_t index, at;
    const json_t *row, *id;
    json_array_foreach(packs, index, row)
    {
        const char *pack = json_string_value(json_array_get(row, 0));
        bool found = false;
        json_array_foreach(sound, at, id) found =
            found || (pack != NULL && json_is_string(id) && strcmp(pack, json_string_value(id)) == 0);
        if (!found)
            return false;
    }
    return true;
}

static bool
has_pair(const json_t *list, const char *backup)
{
    size_t index;
    const json_t *pair;
    json_array_foreach(list, index,
                       pair) if (strcmp(json_string_value(json_array_get(pair, 1)), backup) == 0) return true;
    return false;
}

static bool
add_known_packs(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    json_t *list = context;
    _cleanup_(hf_json_freep) json_t *packs = NULL;
    size_t index;
    const json_t *pair;
    if (row->packs == NULL)
        return true;
    if (!hf_json_parse(row->packs, strlen(row->packs), "a damage's packs", &packs, err))
        return false;
    json_array_foreach(packs, index, pair)
    {
        json_t *id = json_array_get(pair, 0);
        if (json_is_string(id) && json_array_size(list) < HF_DAMAGES_SHOWN_MOST && json_array_append(list, id) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the known damages");
    }
    return true;
}

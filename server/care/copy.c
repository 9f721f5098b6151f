#include "server/care/copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/care/copy_internal.h"
#include "server/keys/in_force.h"

#define TRIES_MOST 3 // against a collection at the same time

static bool run_copy(struct copy *copy, struct hf_error *err);
static bool know_place(struct copy *copy, struct hf_copy_mark *mark, struct hf_error *err);
static bool begin_place(struct copy *copy, struct hf_copy_mark *mark, struct hf_error *err);
static bool compare_vaults(struct copy *copy, struct copy_vault **ret, size_t *ret_count, struct hf_error *err);
static bool find_strangers(struct copy *copy, const struct hf_id *ids, size_t count, struct hf_error *err);
static bool copy_evidence(struct copy *copy, struct hf_error *err);
static bool copy_vaults(struct copy *copy, struct copy_vault *vaults, size_t count, struct hf_error *err);
static void note_head(struct copy *copy, const struct copy_vault *vault);
static bool write_epoch(struct hf_repository *repository, const struct hf_id *id, const struct hf_signing *signing,
                        int64_t now, struct hf_error *err);

const char *
hf_copy_problem_name(enum hf_copy_problem_kind kind)
{
    static const char *const names[] = {
        [HF_COPY_SOURCE_DAMAGED] = "source_damaged", [HF_COPY_REPAIRED] = "repaired", [HF_COPY_DIFFERS] = "differs"};
    return names[kind];
}

void
hf_copy_report_done(struct hf_copy_report *report)
{
    free(report->heads);
    *report = (struct hf_copy_report){0};
}

bool
hf_repository_copy(struct hf_repository *from, const char *to, const struct hf_copy_options *options,
                   struct hf_copy_report *ret, struct hf_error *err)
{
    _cleanup_(hf_backend_freep) struct hf_backend *target = NULL;
    _cleanup_(hf_freep) uint8_t *piece = malloc(COPY_PIECE_BYTES);
    *ret = (struct hf_copy_report){0};
    if (piece == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a copy");
    if (!(options->make ? hf_backend_make(to, &target, err) : hf_backend_open(to, &target, err)))
        return hf_fail_within(err, "copy \"%s\"", to);
    struct copy copy = {.options = options,
                        .source = from,
                        .from = hf_repository_backend(from),
                        .to = target,
                        .repository = hf_repository_id(from),
                        .report = ret,
                        .started_ns = hf_monotonic_ns(),
                        .piece = piece};
    ret->durability = hf_backend_durability(target);
    for (int tries = 1;; tries++) {
        const bool done = run_copy(&copy, err);
        ret->elapsed_ms = (hf_monotonic_ns() - copy.started_ns) / 1000000;
        if (done)
            return true;
        if (!copy.collected || tries == TRIES_MOST)
            return hf_fail_within(err, "copy \"%s\"", to);
        // By the log as it is now there is less to do.
        copy.collected = false;
        hf_freep(&ret->heads);
        ret->head_count = 0;
    }
}

bool
hf_copy_promote(struct hf_repository *copy, const struct hf_signing *signing, int64_t now, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(copy);
    struct hf_copy_mark mark;
    bool found;
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    if (hf_repository_root_key(copy) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    if (!hf_copy_mark_read(backend, &found, &mark, err))
        return false;
    if (!found)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a repository already", hf_backend_place(backend));
    if (!hf_repository_vaults(copy, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!write_epoch(copy, &ids[i], signing, now, err))
            return false;
    return hf_backend_delete(backend, HF_COPY_MARK_NAME, err);
}

bool
copy_go_on(const struct copy *copy, struct hf_error *err)
{
    if (copy->options->cancel != NULL && atomic_load(copy->options->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the copy was cancelled");
    return true;
}

bool
copy_is_due(const struct copy *copy, const char *name)
{
    const struct hf_copy_options *options = copy->options;
    const int64_t window = options->reread_window_ms, since = options->reread_since;
    if (!options->fast)
        return true;
    if (window <= 0)
        return false;
    if (since < 0 || options->now < since || options->now - since >= window)
        return true;
    const uint32_t share = hf_crc32c(0, name, strlen(name));
    const int64_t moment = (int64_t)(((unsigned __int128)share * (uint64_t)window) >> 32);
    const int64_t from = since % window, to = options->now % window;
    return from <= to ? from <= moment && moment < to : from <= moment || moment < to;
}

void
copy_tell(struct copy *copy, enum hf_copy_problem_kind kind, const char *object, const char *message)
{
    const struct hf_copy_problem problem = {kind, object, message};
    copy->report->damaged += kind == HF_COPY_SOURCE_DAMAGED ? 1 : 0;
    copy->report->repaired += kind == HF_COPY_REPAIRED ? 1 : 0;
    copy->report->differ += kind == HF_COPY_DIFFERS ? 1 : 0;
    if (copy->options->problem != NULL)
        copy->options->problem(copy->options->context, &problem);
}

static bool
run_copy(struct copy *copy, struct hf_error *err)
{
    struct hf_copy_mark mark;
    struct copy_vault *vaults = NULL;
    size_t count = 0;
    uint64_t swept, swept_bytes;
    // All that can be refused is, before anything is written.
    bool ok = know_place(copy, &mark, err) && compare_vaults(copy, &vaults, &count, err) &&
              begin_place(copy, &mark, err) && hf_backend_sweep(copy->to, &swept, &swept_bytes, err) &&
              copy_keys(copy, vaults, count, err) && copy_evidence(copy, err) &&
              copy_vaults(copy, vaults, count, err) && copy_keys_remove(copy, vaults, count, err);
    for (size_t i = 0; i < count; i++)
        copy_vault_done(&vaults[i]);
    free(vaults);
    if (!ok)
        return false;
    if (copy->report->damaged > 0 || copy->report->differ > 0)
        return true;
    mark.synced_at = copy->options->now;
    return hf_copy_mark_write(copy->to, &mark, err);
}

/* What lies there: a copy of ours, or, where one may be made, nothing. */
static bool
know_place(struct copy *copy, struct hf_copy_mark *mark, struct hf_error *err)
{
    const char *place = hf_backend_place(copy->to);
    bool marked, has_superblock;
    uint64_t size;
    if (!hf_copy_mark_read(copy->to, &marked, mark, err) ||
        !hf_backend_stat(copy->to, HF_SUPERBLOCK_NAME, &has_superblock, &size, err))
        return false;
    if (marked && !hf_id_equal(&mark->repository, &copy->repository)) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a copy of another repository", place);
        return hf_fail_hint(err, "Every repository needs a place of its own.");
    }
    if (marked)
        return true;
    if (has_superblock) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is a repository of its own, and no copy", place);
        return hf_fail_hint(err, "Choose an empty folder. If a copy was promoted there, this one is its past.");
    }
    _cleanup_(copy_listing_done) struct copy_listing there = {0};
    if (!copy_list(copy->to, "", &there, err))
        return false;
    if (there.count > 0) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is neither empty nor a copy: there is \"%s\"", place,
                there.objects[0].name);
        return hf_fail_hint(err, "Choose an empty folder.");
    }
    if (!copy->options->make) {
        // Often the disk is not there and this is the folder it is mounted on.
        hf_fail(err, HF_ERR_NOT_FOUND, "\"%s\" is no copy", place);
        return hf_fail_hint(err,
                            "If a disk is mounted there, mount it. To make a copy: holdfast repo copy --to PLACE.");
    }
    copy->report->made = true;
    *mark = (struct hf_copy_mark){.repository = copy->repository, .made_at = copy->options->now, .synced_at = -1};
    return true;
}

/* The mark first: there is no moment at which the place could be taken for a repository of its own. */
static bool
begin_place(struct copy *copy, struct hf_copy_mark *mark, struct hf_error *err)
{
    bool found;
    uint64_t size;
    if (copy->report->made && !hf_copy_mark_write(copy->to, mark, err))
        return false;
    if (!hf_backend_stat(copy->to, HF_SUPERBLOCK_NAME, &found, &size, err))
        return false;
    const struct copy_object there = {.name = (char *)(uintptr_t)HF_SUPERBLOCK_NAME, .size = size};
    return copy_small(copy, HF_SUPERBLOCK_NAME, COPY_PROVES_ITSELF, found ? &there : NULL, err);
}

static bool
compare_vaults(struct copy *copy, struct copy_vault **ret, size_t *ret_count, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    if (!hf_repository_vaults(copy->source, &ids, &count, err) || !find_strangers(copy, ids, count, err))
        return false;
    struct copy_vault *vaults = calloc(count + 1, sizeof *vaults);
    if (vaults == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of vaults");
    *ret = vaults;
    for (; *ret_count < count; (*ret_count)++) {
        struct copy_vault *vault = &vaults[*ret_count];
        if (!copy_vault_compare(copy, &ids[*ret_count], vault, err)) {
            copy_vault_done(vault);
            return false;
        }
        for (size_t i = 0; copy->options->total != NULL && i < vault->stored_count; i++)
            atomic_fetch_add(copy->options->total, vault->stored[i].bytes);
    }
    return true;
}

/* A vault that only the copy has: the original was put back to a time before it was made. */
static bool
find_strangers(struct copy *copy, const struct hf_id *ids, size_t count, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing there = {0};
    if (!copy_list(copy->to, "vaults/", &there, err))
        return false;
    for (size_t i = 0; i < there.count; i++) {
        char text[HF_ID_TEXT_BYTES] = {0};
        struct hf_id id;
        const char *name = there.objects[i].name + strlen("vaults/");
        bool known = false;
        if (strlen(name) < 2 * HF_ID_BYTES + 5 || strncmp(name + 2 * HF_ID_BYTES, "/log/", 5) != 0)
            continue;
        memcpy(text, name, 2 * HF_ID_BYTES);
        if (!hf_id_parse(text, &id, NULL))
            continue;
        for (size_t at = 0; at < count && !known; at++)
            known = hf_id_equal(&ids[at], &id);
        if (known)
            continue;
        hf_fail(err, HF_ERR_CONFLICT, "vault \"%s\" is in \"%s\" and not in the original: the copy is ahead of it",
                text, hf_backend_place(copy->to));
        return hf_fail_hint(err, "The original was put back to an older state. Work on with the copy (holdfast repo "
                                 "promote there), or, if the older state is meant, copy to another place.");
    }
    return true;
}

/*
 * The checkpoint says how many leaves count, and each leaf has its document: so it is read first and written last.
 * What stands in "pending" is no evidence yet.
 */
static bool
copy_evidence(struct copy *copy, struct hf_error *err)
{
    static const char checkpoint[] = "evidence/checkpoint", leaves[] = "evidence/leaves";
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    _cleanup_(hf_buf_done) struct hf_buf newest = HF_BUF_INIT(COPY_SMALL_MOST), before = HF_BUF_INIT(COPY_SMALL_MOST);
    bool found, had;
    if (!copy_read_small(copy->from, checkpoint, &newest, &found, err) ||
        !copy_list(copy->from, "evidence/", &here, err) || !copy_list(copy->to, "evidence/", &there, err))
        return false;
    for (size_t i = 0; i < here.count; i++) {
        const char *name = here.objects[i].name;
        if (strcmp(name, checkpoint) == 0 || strcmp(name, leaves) == 0 || strcmp(name, "evidence/pending") == 0)
            continue;
        if (!copy_small(copy, name, COPY_FIXED, copy_find(&there, name), err))
            return false;
    }
    if (copy_find(&here, leaves) != NULL && !copy_small(copy, leaves, COPY_GROWS, copy_find(&there, leaves), err))
        return false;
    if (!found || copy->report->differ > 0) // a checkpoint over other leaves would say that these are forged
        return true;
    if (!copy_read_small(copy->to, checkpoint, &before, &had, err))
        return false;
    if (had && before.length == newest.length && memcmp(before.data, newest.data, newest.length) == 0)
        return true;
    copy->report->objects++;
    copy->report->bytes += newest.length;
    return hf_backend_replace(copy->to, checkpoint, newest.data, newest.length, err);
}

static bool
copy_vaults(struct copy *copy, struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    copy->report->heads = calloc(count + 1, sizeof *copy->report->heads);
    if (copy->report->heads == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the heads of vaults");
    for (size_t i = 0; i < count; i++) {
        if (!copy_vault_packs_and_log(copy, &vaults[i], err))
            return false;
        note_head(copy, &vaults[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (!copy_vault_remove(copy, &vaults[i], err))
            return false;
    return true;
}

static void
note_head(struct copy *copy, const struct copy_vault *vault)
{
    struct hf_copy_head *head = &copy->report->heads[copy->report->head_count++];
    head->vault = vault->id;
    head->sequence = vault->head;
    memcpy(head->hash, vault->positions[vault->head].hash, sizeof head->hash);
}

static bool
write_epoch(struct hf_repository *repository, const struct hf_id *id, const struct hf_signing *signing, int64_t now,
            struct hf_error *err)
{
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    const struct hf_vault_state *state;
    if (!hf_vault_open_any(repository, id, &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    if (state->shredded)
        return true; // nothing is written there any more
    _cleanup_(hf_json_freep) json_t *open_part = json_pack("{s:I}", "epoch", (json_int_t)state->epoch + 1);
    _cleanup_(hf_json_freep) json_t *sealed_part = json_pack("{s:s, s:n}", "reason", "promoted", "person");
    if (open_part == NULL || sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_log_append entry = {HF_LOG_EPOCH, now, state->epoch + 1, open_part, sealed_part};
    return hf_vault_append(vault, &entry, signing, NULL, NULL, err);
}

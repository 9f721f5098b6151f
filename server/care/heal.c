#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/care/copy_internal.h"
#include "server/repository/pack.h"

/* One run: a copy in the other direction, which writes only what is damaged. */
struct heal {
    struct copy copy; // from the second place to here
    struct hf_repository *here;
    const struct hf_heal_options *options;
    struct hf_heal_report *report;
};

static bool heal_slots(struct heal *heal, struct hf_error *err);
static bool heal_slot(struct heal *heal, const char *name, struct hf_error *err);
static bool heal_vault(struct heal *heal, const struct hf_id *id, struct hf_error *err);
static bool heal_log(struct heal *heal, const struct hf_id *id, struct hf_error *err);
static bool heal_entry(struct heal *heal, const struct hf_vault_log_options *options,
                       const struct hf_log_position *before, bool *ret_more, uint8_t hash[static HF_SHA256_BYTES],
                       struct hf_error *err);
static bool read_entry(const struct hf_vault_log_options *options, struct hf_backend *at,
                       const struct hf_log_position *before, struct hf_buf *bytes, bool *ret_there, bool *ret_good,
                       struct hf_error *err);
static bool heal_keys(struct heal *heal, const struct hf_id *id, const struct hf_vault_state *state,
                      struct hf_error *err);
static bool heal_pack(struct heal *heal, const struct hf_id *vault, const struct copy_stored *pack,
                      struct hf_error *err);
static bool fetch_pack(struct heal *heal, const struct copy_wanted *wanted, bool over, struct hf_error *err);
static bool put(struct heal *heal, const char *name, const struct hf_buf *bytes, bool over, struct hf_error *err);
static void tell(struct heal *heal, bool healed, const char *object, const char *message, uint64_t bytes);

bool
hf_repository_heal(struct hf_repository *to, struct hf_repository *from, const struct hf_heal_options *options,
                   struct hf_heal_report *ret, struct hf_error *err)
{
    const struct hf_copy_options how = {.read_back = true, .cancel = options->cancel};
    struct hf_copy_report report = {0};
    const struct hf_id id = hf_repository_id(to), other = hf_repository_id(from);
    _cleanup_(hf_freep) uint8_t *piece = malloc(COPY_PIECE_BYTES);
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    *ret = (struct hf_heal_report){0};
    if (piece == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for healing");
    if (!hf_id_equal(&id, &other))
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" holds another repository than \"%s\"",
                       hf_backend_place(hf_repository_backend(from)), hf_backend_place(hf_repository_backend(to)));
    struct heal heal = {.copy = {.options = &how,
                                 .source = from,
                                 .from = hf_repository_backend(from),
                                 .to = hf_repository_backend(to),
                                 .repository = id,
                                 .report = &report,
                                 .started_ns = hf_monotonic_ns(),
                                 .piece = piece},
                        .here = to,
                        .options = options,
                        .report = ret};
    // The second place's vaults: of one whose log is lost here as a whole nothing else would tell.
    if (!heal_slots(&heal, err) || !hf_repository_vaults(from, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!heal_vault(&heal, &vaults[i], err))
            return false;
    return !heal.copy.unsynced || hf_backend_barrier(heal.copy.to, err);
}

/* Only those that are there and damaged: one that is missing may have been taken away on purpose. */
static bool
heal_slots(struct heal *heal, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0};
    if (!copy_list(heal->copy.to, "keys/slot-", &here, err))
        return false;
    for (size_t i = 0; i < here.count; i++)
        if (!heal_slot(heal, here.objects[i].name, err))
            return false;
    return true;
}

static bool
heal_slot(struct heal *heal, const char *name, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf mine = HF_BUF_INIT(COPY_SMALL_MOST), theirs = HF_BUF_INIT(COPY_SMALL_MOST);
    bool found, has;
    if (!copy_read_small(heal->copy.to, name, &mine, &found, err))
        return false;
    if (found && copy_small_sound(&heal->copy, name, &mine))
        return true;
    if (!copy_read_small(heal->copy.from, name, &theirs, &has, err))
        return false;
    if (!has || !copy_small_sound(&heal->copy, name, &theirs)) {
        tell(heal, false, name, "is damaged, and the second place does not have it whole", 0);
        return true;
    }
    tell(heal, true, name, "was damaged", theirs.length);
    return heal->options->dry_run || put(heal, name, &theirs, true, err);
}

static bool
heal_vault(struct heal *heal, const struct hf_id *id, struct hf_error *err)
{
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    char text[HF_ID_TEXT_BYTES];
    hf_id_format(id, text);
    if (!heal_log(heal, id, err))
        return hf_fail_within(err, "vault \"%s\"", text);
    // In a dry run the log here may still be damaged: the other one says what packs there are.
    if (!hf_vault_read_shut(heal->options->dry_run ? heal->copy.source : heal->here, id, &state, err) ||
        !heal_keys(heal, id, state, err))
        return false;
    struct copy_stored *stored;
    size_t count;
    if (!copy_stored_objects(state, &stored, &count, err))
        return false;
    for (size_t i = 0; heal->options->total != NULL && i < count; i++)
        atomic_fetch_add(heal->options->total, stored[i].bytes);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        ok = copy_go_on(&heal->copy, err) && heal_pack(heal, id, &stored[i], err);
    free(stored);
    return ok || hf_fail_within(err, "vault \"%s\"", text);
}

/* Entry by entry, from the first on, at both places: each must follow the one before it. */
static bool
heal_log(struct heal *heal, const struct hf_id *id, struct hf_error *err)
{
    const struct hf_vault_log_options options = {.repository = heal->copy.repository, .vault = *id};
    struct hf_log_position at = {0};
    for (bool more = true; more;) {
        uint8_t hash[HF_SHA256_BYTES] = {0};
        if (!copy_go_on(&heal->copy, err) || !heal_entry(heal, &options, &at, &more, hash, err))
            return false;
        at.sequence++;
        memcpy(at.hash, hash, sizeof at.hash);
    }
    return true;
}

static bool
heal_entry(struct heal *heal, const struct hf_vault_log_options *options, const struct hf_log_position *before,
           bool *ret_more, uint8_t hash[static HF_SHA256_BYTES], struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf mine = HF_BUF_INIT(HF_LOG_ENTRY_MOST), theirs = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    char name[128];
    bool here, good, there, good_there;
    copy_entry_name(&options->vault, before->sequence + 1, name);
    if (!read_entry(options, heal->copy.to, before, &mine, &here, &good, err) ||
        !read_entry(options, heal->copy.from, before, &theirs, &there, &good_there, err))
        return false;
    *ret_more = good || good_there;
    if (good && good_there && (mine.length != theirs.length || memcmp(mine.data, theirs.data, mine.length) != 0))
        return hf_fail(err, HF_ERR_CONFLICT, "entry %" PRIu64 " is another one in \"%s\": both were written to",
                       before->sequence + 1, hf_backend_place(heal->copy.from));
    if (*ret_more)
        hf_sha256(good ? mine.data : theirs.data, good ? mine.length : theirs.length, hash);
    if (good || (!here && !there))
        return true;
    if (!good_there) {
        tell(heal, false, name, "is damaged, and the second place does not have it whole", 0);
        return true;
    }
    tell(heal, true, name, here ? "was altered" : "was missing", theirs.length);
    return heal->options->dry_run || put(heal, name, &theirs, here, err);
}

static bool
read_entry(const struct hf_vault_log_options *options, struct hf_backend *at, const struct hf_log_position *before,
           struct hf_buf *bytes, bool *ret_there, bool *ret_good, struct hf_error *err)
{
    char name[128];
    struct hf_log_entry entry = {0};
    struct hf_error problem;
    copy_entry_name(&options->vault, before->sequence + 1, name);
    *ret_good = false;
    if (!copy_read_small(at, name, bytes, ret_there, &problem)) {
        *ret_there = true; // and does not read
        if (problem.kind != HF_ERR_UNAVAILABLE || problem.system != 0)
            return true;
        *err = problem;
        return false;
    }
    *ret_good = *ret_there && hf_log_entry_open(options, before, bytes->data, bytes->length, &entry, &problem);
    hf_log_entry_done(&entry);
    return true;
}

/* A vault that has no bundle at all is lost with all that it holds; one that was shredded is meant to be. */
static bool
heal_keys(struct heal *heal, const struct hf_id *id, const struct hf_vault_state *state, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(COPY_SMALL_MOST);
    char prefix[128], text[HF_ID_TEXT_BYTES];
    bool found;
    if (state->shredded)
        return true;
    snprintf(prefix, sizeof prefix, "vaults/%s/keys-", hf_id_format(id, text));
    if (!copy_list(heal->copy.to, prefix, &here, err) || !copy_list(heal->copy.from, prefix, &there, err))
        return false;
    if (here.count > 0 || there.count == 0)
        return true;
    const char *newest = there.objects[there.count - 1].name;
    if (!copy_read_small(heal->copy.from, newest, &bytes, &found, err))
        return false;
    tell(heal, found, newest, "was missing", bytes.length);
    return !found || heal->options->dry_run || put(heal, newest, &bytes, false, err);
}

static bool
heal_pack(struct heal *heal, const struct hf_id *vault, const struct copy_stored *pack, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    bool found, same;
    uint64_t size;
    struct hf_error problem;
    const struct copy_wanted wanted = {hf_pack_name(vault, &pack->object, name), pack->bytes, pack->sha256};
    if (!hf_backend_stat(heal->copy.to, name, &found, &size, &problem)) {
        found = true; // something is there, and does not read
        size = UINT64_MAX;
    }
    same = found && size == pack->bytes;
    if (same && !copy_is_same(&heal->copy, heal->copy.to, &wanted, &same, err))
        return false;
    if (heal->options->done != NULL)
        atomic_fetch_add(heal->options->done, pack->bytes);
    return same || fetch_pack(heal, &wanted, found, err);
}

static bool
fetch_pack(struct heal *heal, const struct copy_wanted *wanted, bool over, struct hf_error *err)
{
    const char *was = over ? "was altered" : "was missing";
    bool found, whole = false;
    uint64_t size;
    if (heal->options->dry_run) {
        if (!hf_backend_stat(heal->copy.from, wanted->name, &found, &size, err) ||
            (found && size == wanted->size && !copy_is_same(&heal->copy, heal->copy.from, wanted, &whole, err)))
            return false;
    } else {
        enum copy_outcome outcome;
        char why[HF_ERROR_MESSAGE_BYTES];
        if (!copy_transfer(&heal->copy, wanted, over, &outcome, why, err))
            return false;
        whole = outcome == COPY_WRITTEN;
    }
    tell(heal, whole, wanted->name, whole ? was : "is damaged, and the second place does not have it whole",
         wanted->size);
    return true;
}

static bool
put(struct heal *heal, const char *name, const struct hf_buf *bytes, bool over, struct hf_error *err)
{
    return over ? hf_backend_replace(heal->copy.to, name, bytes->data, bytes->length, err)
                : hf_backend_put_exclusive(heal->copy.to, name, bytes->data, bytes->length, err);
}

static void
tell(struct heal *heal, bool healed, const char *object, const char *message, uint64_t bytes)
{
    const struct hf_copy_problem problem = {healed ? HF_COPY_REPAIRED : HF_COPY_SOURCE_DAMAGED, object, message};
    heal->report->damaged++;
    heal->report->healed += healed ? 1 : 0;
    heal->report->healed_bytes += healed ? bytes : 0;
    if (heal->options->problem != NULL)
        heal->options->problem(heal->options->context, &problem);
}

#include "server/care/copy_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/repository/pack.h"

/* One vault on its way. */
struct vault_run {
    struct copy *copy;
    const struct copy_vault *vault;
    struct copy_listing there; // the target's packs and containers
    size_t next;               // of vault->stored
};

static bool bring_packs(struct vault_run *run, uint64_t up_to, struct hf_error *err);
static bool bring_pack(struct vault_run *run, const struct copy_stored *pack, struct hf_error *err);
static bool replace_or_add(struct vault_run *run, const struct copy_stored *pack, const struct copy_wanted *wanted,
                           const char *was, struct hf_error *err);
static bool went_meanwhile(struct vault_run *run, const struct copy_stored *pack, bool *ret, struct hf_error *err);
static bool write_entries(struct vault_run *run, uint64_t from, uint64_t to, struct hf_error *err);
static bool write_entry(struct vault_run *run, uint64_t sequence, struct hf_error *err);
static uint64_t end_of_batch(const struct copy_vault *vault, uint64_t from);

bool
copy_vault_packs_and_log(struct copy *copy, const struct copy_vault *vault, struct hf_error *err)
{
    struct vault_run run = {.copy = copy, .vault = vault};
    char prefix[128], text[HF_ID_TEXT_BYTES];
    snprintf(prefix, sizeof prefix, "vaults/%s/packs/", hf_id_format(&vault->id, text));
    bool ok = copy_list(copy->to, prefix, &run.there, err);
    for (uint64_t from = 1; ok && from <= vault->head;) {
        const uint64_t to = end_of_batch(vault, from);
        ok = bring_packs(&run, to, err) && write_entries(&run, from, to, err);
        from = to + 1;
    }
    copy_listing_done(&run.there);
    return ok || hf_fail_within(err, "vault \"%s\"", text);
}

bool
copy_vault_remove(struct copy *copy, const struct copy_vault *vault, struct hf_error *err)
{
    char prefix[128], name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES];
    _cleanup_(copy_listing_done) struct copy_listing there = {0};
    if (vault->past_count == 0)
        return true;
    snprintf(prefix, sizeof prefix, "vaults/%s/packs/", hf_id_format(&vault->id, text));
    if (!copy_list(copy->to, prefix, &there, err))
        return false;
    for (size_t i = 0; i < vault->past_count; i++) {
        const struct copy_object *found = copy_find(&there, hf_pack_name(&vault->id, &vault->past[i], name));
        if (found == NULL || (i > 0 && hf_id_equal(&vault->past[i - 1], &vault->past[i])))
            continue;
        if (!copy_go_on(copy, err) || !hf_backend_delete(copy->to, name, err))
            return false;
        copy->report->removed++;
        copy->report->removed_bytes += found->size;
    }
    return true;
}

static bool
bring_packs(struct vault_run *run, uint64_t up_to, struct hf_error *err)
{
    const struct copy_vault *vault = run->vault;
    for (; run->next < vault->stored_count && vault->stored[run->next].sequence <= up_to; run->next++)
        if (!copy_go_on(run->copy, err) || !bring_pack(run, &vault->stored[run->next], err))
            return false;
    return true;
}

static bool
bring_pack(struct vault_run *run, const struct copy_stored *pack, struct hf_error *err)
{
    struct copy *copy = run->copy;
    char name[HF_PACK_NAME_BYTES];
    hf_pack_name(&run->vault->id, &pack->object, name);
    const struct copy_wanted wanted = {name, pack->bytes, pack->sha256};
    const struct copy_object *found = copy_find(&run->there, name);
    bool same = found != NULL && found->size == pack->bytes;
    const bool due = same && copy_is_due(copy, name);
    if (due && !copy_is_same(copy, copy->to, &wanted, &same, err))
        return false;
    if (!same) {
        const char *was = found == NULL                ? NULL
                          : found->size != pack->bytes ? "had another size in the copy"
                                                       : "was altered in the copy";
        return replace_or_add(run, pack, &wanted, was, err);
    }
    copy->report->kept++;
    copy->report->kept_bytes += pack->bytes;
    copy->report->compared += due ? 1 : 0;
    copy->report->compared_bytes += due ? pack->bytes : 0;
    if (copy->options->done != NULL)
        atomic_fetch_add(copy->options->done, pack->bytes);
    return true;
}

/* `was`: what is wrong with the one that is there; NULL: there is none. */
static bool
replace_or_add(struct vault_run *run, const struct copy_stored *pack, const struct copy_wanted *wanted, const char *was,
               struct hf_error *err)
{
    struct copy *copy = run->copy;
    enum copy_outcome outcome;
    char why[HF_ERROR_MESSAGE_BYTES], message[HF_ERROR_MESSAGE_BYTES + 64];
    bool gone = false;
    if (!copy_transfer(copy, wanted, was != NULL, &outcome, why, err))
        return false;
    if (outcome == COPY_WRITTEN) {
        // An entry that is there already, and its pack not: that was damage, too.
        if (was == NULL && run->vault->present[pack->sequence])
            was = "was missing in the copy";
        snprintf(message, sizeof message, "%s, and was replaced", was == NULL ? "" : was);
        if (was != NULL)
            copy_tell(copy, HF_COPY_REPAIRED, wanted->name, message);
        return true;
    }
    if (outcome == COPY_SOURCE_MISSING && !went_meanwhile(run, pack, &gone, err))
        return false;
    if (gone) {
        copy->collected = true;
        hf_fail(err, HF_ERR_UNAVAILABLE, "packs were collected from the original while it was copied");
        return hf_fail_hint(err, "Run it again: it goes on from here.");
    }
    snprintf(message, sizeof message, "%s, and was left out", why);
    copy_tell(copy, HF_COPY_SOURCE_DAMAGED, wanted->name, message);
    return true;
}

/* Whether the log has taken all packs out of it since we read it. */
static bool
went_meanwhile(struct vault_run *run, const struct copy_stored *pack, bool *ret, struct hf_error *err)
{
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *now = NULL;
    if (!hf_vault_read_shut(run->copy->source, &run->vault->id, &now, err))
        return false;
    *ret = true;
    for (size_t i = 0; i < now->pack_count && *ret; i++)
        *ret = !hf_id_equal(&now->packs[i].object, &pack->object);
    return true;
}

static bool
write_entries(struct vault_run *run, uint64_t from, uint64_t to, struct hf_error *err)
{
    for (uint64_t sequence = from; sequence <= to; sequence++) {
        if (run->vault->present[sequence])
            continue;
        if (run->copy->unsynced && !hf_backend_barrier(run->copy->to, err))
            return false;
        run->copy->unsynced = false;
        if (!write_entry(run, sequence, err))
            return false;
    }
    return true;
}

static bool
write_entry(struct vault_run *run, uint64_t sequence, struct hf_error *err)
{
    struct copy *copy = run->copy;
    const struct copy_vault *vault = run->vault;
    char name[128];
    uint8_t hash[HF_SHA256_BYTES];
    bool found;
    struct hf_error problem;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    copy_entry_name(&vault->id, sequence, name);
    if (!copy_go_on(copy, err) || !copy_read_small(copy->from, name, &bytes, &found, err))
        return false;
    hf_sha256(bytes.data, bytes.length, hash);
    // It was checked when its log was read; what is written now must be that very entry.
    if (!found || memcmp(hash, vault->positions[sequence].hash, sizeof hash) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "log entry %" PRIu64 " of the original changed while it was copied",
                       sequence);
    bool put = vault->damaged[sequence] ? hf_backend_replace(copy->to, name, bytes.data, bytes.length, &problem)
                                        : hf_backend_put_exclusive(copy->to, name, bytes.data, bytes.length, &problem);
    if (!put && problem.kind != HF_ERR_CONFLICT) { // another run was here: it writes the same
        *err = problem;
        return false;
    }
    copy->report->entries++;
    copy->report->bytes += bytes.length;
    if (vault->damaged[sequence])
        copy_tell(copy, HF_COPY_REPAIRED, name, "was damaged in the copy, and was replaced");
    else if (sequence <= vault->there)
        copy_tell(copy, HF_COPY_REPAIRED, name, "was missing in the copy, and was written again");
    return true;
}

/* All that has to come together with entry `from`. */
static uint64_t
end_of_batch(const struct copy_vault *vault, uint64_t from)
{
    uint64_t end = from;
    for (uint64_t at = from; at <= end; at++)
        if (!vault->present[at] && vault->until[at] > end)
            end = vault->until[at];
    return end;
}

#include "server/repository/copy_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/repository/vault_state.h"

/* A pack that an entry brought or took away. */
struct mention {
    struct hf_id pack;
    uint64_t sequence;
};
struct mentions {
    size_t count, room;
    struct mention *list;
};

/* The second reading of the source's log, once it is known what it adds up to. */
struct reading {
    struct copy_vault *vault;
    struct mentions brought, deleted; // packs that are not needed any more
};

static bool read_source_log(struct copy *copy, struct copy_vault *vault, struct hf_error *err);
static bool take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err);
static bool mention(const struct copy_vault *vault, const json_t *row, uint64_t sequence, struct mentions *mentions,
                    struct hf_error *err);
static int by_pack(const void *a, const void *b);
static bool join(struct copy_vault *vault, struct reading *reading, struct hf_error *err);
static bool is_live(const struct hf_vault_state *state, uint64_t sequence);
static bool compare_logs(struct copy *copy, struct copy_vault *vault, struct hf_error *err);
static bool compare_entry(struct copy *copy, struct copy_vault *vault, uint64_t sequence, struct hf_error *err);
static bool parse_sequence(const char *name, uint64_t *ret);

bool
copy_vault_compare(struct copy *copy, const struct hf_id *id, struct copy_vault *ret, struct hf_error *err)
{
    *ret = (struct copy_vault){.id = *id,
                               .options = {.backend = copy->from, .repository = copy->repository, .vault = *id}};
    char text[HF_ID_TEXT_BYTES];
    return (hf_vault_read_shut(copy->source, id, &ret->state, err) && read_source_log(copy, ret, err) &&
            compare_logs(copy, ret, err)) ||
           hf_fail_within(err, "vault \"%s\"", hf_id_format(id, text));
}

void
copy_vault_done(struct copy_vault *vault)
{
    hf_vault_state_freep(&vault->state);
    free(vault->positions);
    free(vault->present);
    free(vault->damaged);
    free(vault->until);
    free(vault->deleted);
    *vault = (struct copy_vault){0};
}

const char *
copy_entry_name(const struct hf_id *vault, uint64_t sequence, char name[static 128])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, 128, "vaults/%s/log/%016" PRIx64, hf_id_format(vault, text), sequence);
    return name;
}

static bool
read_source_log(struct copy *copy, struct copy_vault *vault, struct hf_error *err)
{
    struct reading reading = {.vault = vault};
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = NULL;
    (void)copy;
    vault->head = vault->state->head;
    vault->positions = calloc(vault->head + 1, sizeof *vault->positions);
    vault->present = calloc(vault->head + 1, sizeof *vault->present);
    vault->damaged = calloc(vault->head + 1, sizeof *vault->damaged);
    vault->until = calloc(vault->head + 1, sizeof *vault->until);
    if (vault->positions == NULL || vault->present == NULL || vault->damaged == NULL || vault->until == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log of %" PRIu64 " entries", vault->head);
    // What was written since the first reading is for the next run: take_entry() stops there.
    struct hf_error stop = {0};
    bool ok = hf_vault_log_open(&vault->options, &log, err);
    if (ok && !hf_vault_log_read(log, take_entry, &reading, &stop) && stop.kind != HF_ERR_CANCELLED) {
        *err = stop;
        ok = false;
    }
    ok = ok && join(vault, &reading, err);
    free(reading.brought.list);
    free(reading.deleted.list);
    return ok;
}

static bool
take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct reading *reading = context;
    struct copy_vault *vault = reading->vault;
    json_t *rows = json_object_get(entry->public_part, "packs"), *row;
    size_t index;
    if (entry->sequence > vault->head)
        return hf_fail(err, HF_ERR_CANCELLED, "this is for the next run");
    vault->positions[entry->sequence].sequence = entry->sequence;
    memcpy(vault->positions[entry->sequence].hash, entry->hash, HF_SHA256_BYTES);
    vault->until[entry->sequence] = entry->sequence;
    json_array_foreach(rows, index, row)
    {
        if (entry->kind == HF_LOG_COMMIT &&
            !mention(vault, json_array_get(row, 0), entry->sequence, &reading->brought, err))
            return false;
        if (entry->kind == HF_LOG_DELETE && !mention(vault, row, entry->sequence, &reading->deleted, err))
            return false;
    }
    return true;
}

static bool
mention(const struct copy_vault *vault, const json_t *row, uint64_t sequence, struct mentions *mentions,
        struct hf_error *err)
{
    struct mention one = {.sequence = sequence};
    const char *text = json_string_value(row);
    if (text == NULL || !hf_id_parse(text, &one.pack, NULL) || hf_vault_state_pack(vault->state, &one.pack) != NULL)
        return true;
    if (mentions->count == mentions->room) {
        const size_t room = mentions->room == 0 ? 256 : 2 * mentions->room;
        struct mention *grown = reallocarray(mentions->list, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the packs of a log");
        mentions->list = grown;
        mentions->room = room;
    }
    mentions->list[mentions->count++] = one;
    return true;
}

static int
by_pack(const void *a, const void *b)
{
    return hf_id_compare(&((const struct mention *)a)->pack, &((const struct mention *)b)->pack);
}

/* Which entries wait for the one that deleted their packs, and what may be removed. */
static bool
join(struct copy_vault *vault, struct reading *reading, struct hf_error *err)
{
    struct mentions *brought = &reading->brought, *deleted = &reading->deleted;
    vault->deleted = calloc(deleted->count + 1, sizeof *vault->deleted);
    if (vault->deleted == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the packs of a log");
    if (brought->count > 0)
        qsort(brought->list, brought->count, sizeof *brought->list, by_pack);
    if (deleted->count > 0)
        qsort(deleted->list, deleted->count, sizeof *deleted->list, by_pack);
    for (size_t d = 0, b = 0; d < deleted->count; d++) {
        bool live = false;
        while (b < brought->count && hf_id_compare(&brought->list[b].pack, &deleted->list[d].pack) < 0)
            b++;
        for (size_t same = b; same < brought->count && hf_id_equal(&brought->list[same].pack, &deleted->list[d].pack);
             same++) {
            uint64_t *until = &vault->until[brought->list[same].sequence];
            if (deleted->list[d].sequence > *until)
                *until = deleted->list[d].sequence;
            live = live || is_live(vault->state, brought->list[same].sequence);
        }
        vault->deleted[vault->deleted_count++] = (struct copy_deleted){deleted->list[d].pack, live};
    }
    return true;
}

/* Whether the COMMIT of that sequence brought a backup that is kept. */
static bool
is_live(const struct hf_vault_state *state, uint64_t sequence)
{
    for (size_t i = 0; i < state->backup_count; i++)
        if (state->backups[i].sequence == sequence)
            return !state->backups[i].pruned;
    return false;
}

static bool
compare_logs(struct copy *copy, struct copy_vault *vault, struct hf_error *err)
{
    char prefix[128], text[HF_ID_TEXT_BYTES];
    _cleanup_(copy_listing_done) struct copy_listing there = {0};
    snprintf(prefix, sizeof prefix, "vaults/%s/log/", hf_id_format(&vault->id, text));
    if (!copy_list(copy->to, prefix, &there, err))
        return false;
    uint64_t sequence;
    for (size_t i = 0; i < there.count; i++)
        if (parse_sequence(there.objects[i].name + strlen(prefix), &sequence) && sequence > vault->there)
            vault->there = sequence;
    if (vault->there > vault->head) {
        hf_fail(err, HF_ERR_CONFLICT,
                "the log in \"%s\" has %" PRIu64 " entries, and the original's has %" PRIu64
                ": the copy is ahead of its original",
                hf_backend_place(copy->to), vault->there, vault->head);
        return hf_fail_hint(err, "The original was put back to an older state. Work on with the copy (holdfast repo "
                                 "promote there), or, if the older state is meant, copy to another place.");
    }
    for (size_t i = 0; i < there.count; i++) {
        if (!parse_sequence(there.objects[i].name + strlen(prefix), &sequence) || sequence == 0)
            continue;
        if (copy->options->fast && sequence < vault->there)
            vault->present[sequence] = true;
        else if (!compare_entry(copy, vault, sequence, err))
            return false;
    }
    return true;
}

/* The same bytes; or damaged ones, which no log would take; or else another history. */
static bool
compare_entry(struct copy *copy, struct copy_vault *vault, uint64_t sequence, struct hf_error *err)
{
    char name[128];
    uint8_t hash[HF_SHA256_BYTES];
    bool found;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    struct hf_error problem;
    if (!copy_go_on(copy, err))
        return false;
    if (!copy_read_small(copy->to, copy_entry_name(&vault->id, sequence, name), &bytes, &found, &problem)) {
        if (problem.kind == HF_ERR_UNAVAILABLE && problem.system == 0) {
            *err = problem;
            return false;
        }
        vault->damaged[sequence] = true;
        return true;
    }
    if (!found)
        return true;
    hf_sha256(bytes.data, bytes.length, hash);
    if (memcmp(hash, vault->positions[sequence].hash, sizeof hash) == 0) {
        vault->present[sequence] = true;
        return true;
    }
    struct hf_log_entry entry;
    if (!hf_log_entry_open(&vault->options, &vault->positions[sequence - 1], bytes.data, bytes.length, &entry,
                           &problem)) {
        vault->damaged[sequence] = true;
        return true;
    }
    hf_log_entry_done(&entry);
    hf_fail(err, HF_ERR_CONFLICT,
            "entry %" PRIu64 " in \"%s\" is another one than in the original: both were written to", sequence,
            hf_backend_place(copy->to));
    return hf_fail_hint(err, "Find out which of the two is right, and copy it to a place of its own.");
}

static bool
parse_sequence(const char *name, uint64_t *ret)
{
    uint8_t bytes[8];
    if (!hf_hex_parse(name, bytes, sizeof bytes, NULL))
        return false;
    *ret = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *ret = *ret << 8 | bytes[i];
    return true;
}

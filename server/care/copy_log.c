#include "server/care/copy_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/repository/vault_state.h"

/* An entry that counts says where a pack lies from there on; object none: nowhere. */
struct mention {
    struct hf_id pack, object;
    uint64_t sequence;
};

/* The source's log while it is read. */
struct reading {
    struct copy_vault *vault;
    size_t count, room;
    struct mention *mentions;
};

static bool read_source_log(struct copy_vault *vault, struct hf_error *err);
static bool take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err);
static bool make_room(struct copy_vault *vault, uint64_t sequence, struct hf_error *err);
static bool take_packs(struct reading *reading, const struct hf_log_entry *entry, struct hf_error *err);
static bool list_past(struct copy_vault *vault, struct reading *reading, struct hf_error *err);
static uint64_t settled_at(const struct copy_vault *vault, const struct reading *reading,
                           const struct mention *mention);
static bool list_holders(const struct hf_vault_state *state, struct hf_id **ret, struct hf_error *err);
static bool holds_packs(const struct hf_id *holders, size_t count, const struct hf_id *object);
static int by_pack(const void *a, const void *b);
static int by_sequence(const void *a, const void *b);
static bool compare_logs(struct copy *copy, struct copy_vault *vault, struct hf_error *err);
static bool compare_entry(struct copy *copy, struct copy_vault *vault, uint64_t sequence, struct hf_error *err);
static bool parse_sequence(const char *name, uint64_t *ret);

bool
copy_vault_compare(struct copy *copy, const struct hf_id *id, struct copy_vault *ret, struct hf_error *err)
{
    *ret = (struct copy_vault){.id = *id,
                               .options = {.backend = copy->from, .repository = copy->repository, .vault = *id}};
    char text[HF_ID_TEXT_BYTES];
    return (read_source_log(ret, err) && compare_logs(copy, ret, err)) ||
           hf_fail_within(err, "vault \"%s\"", hf_id_format(id, text));
}

bool
copy_stored_objects(const struct hf_vault_state *state, struct copy_stored **ret, size_t *ret_count,
                    struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *holders = NULL;
    if (!list_holders(state, &holders, err))
        return false;
    struct copy_stored *stored = calloc(state->pack_count + state->object_count + 1, sizeof *stored);
    size_t count = 0;
    if (stored == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < state->pack_count; i++) {
        const struct hf_vault_pack *pack = &state->packs[i];
        if (hf_id_equal(&pack->object, &pack->pack))
            stored[count++] = (struct copy_stored){pack->pack, pack->bytes, pack->sha256, pack->sequence};
    }
    for (size_t i = 0; i < state->object_count; i++) {
        const struct hf_vault_object *object = &state->objects[i];
        if (holds_packs(holders, state->pack_count, &object->object))
            stored[count++] = (struct copy_stored){object->object, object->bytes, object->sha256, object->sequence};
    }
    if (count > 0)
        qsort(stored, count, sizeof *stored, by_sequence);
    *ret = stored;
    *ret_count = count;
    return true;
}

void
copy_vault_done(struct copy_vault *vault)
{
    hf_vault_state_freep(&vault->state);
    free(vault->positions);
    free(vault->present);
    free(vault->damaged);
    free(vault->until);
    free(vault->stored);
    free(vault->past);
    hf_json_freep(&vault->slots_in_force);
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
read_source_log(struct copy_vault *vault, struct hf_error *err)
{
    struct reading reading = {.vault = vault};
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = NULL;
    bool ok = vault_state_new(&vault->state, err) && make_room(vault, 0, err) &&
              hf_vault_log_open(&vault->options, &log, err) && hf_vault_log_read(log, take_entry, &reading, err);
    vault->head = vault->state == NULL ? 0 : vault->state->head;
    ok = ok && copy_stored_objects(vault->state, &vault->stored, &vault->stored_count, err) &&
         list_past(vault, &reading, err);
    free(reading.mentions);
    return ok;
}

static bool
take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct reading *reading = context;
    struct copy_vault *vault = reading->vault;
    bool counts;
    if (!make_room(vault, entry->sequence, err) || !vault_state_apply(vault->state, entry, &counts, err))
        return false;
    vault->state->head = entry->sequence;
    vault->positions[entry->sequence].sequence = entry->sequence;
    memcpy(vault->positions[entry->sequence].hash, entry->hash, HF_SHA256_BYTES);
    vault->until[entry->sequence] = entry->sequence;
    const json_t *slots = json_object_get(entry->public_part, "slots");
    if (counts && entry->kind == HF_LOG_KEY && json_array_size(slots) > 0) {
        hf_json_freep(&vault->slots_in_force);
        vault->slots_in_force = json_incref((json_t *)(uintptr_t)slots);
    }
    return !counts || take_packs(reading, entry, err);
}

static bool
make_room(struct copy_vault *vault, uint64_t sequence, struct hf_error *err)
{
    if (sequence < vault->room)
        return true;
    const size_t room = vault->room == 0 ? 1024 : 2 * vault->room;
    struct hf_log_position *positions = reallocarray(vault->positions, room, sizeof *positions);
    vault->positions = positions != NULL ? positions : vault->positions;
    bool *present = reallocarray(vault->present, room, sizeof *present);
    vault->present = present != NULL ? present : vault->present;
    bool *damaged = reallocarray(vault->damaged, room, sizeof *damaged);
    vault->damaged = damaged != NULL ? damaged : vault->damaged;
    uint64_t *until = reallocarray(vault->until, room, sizeof *until);
    vault->until = until != NULL ? until : vault->until;
    if (positions == NULL || present == NULL || damaged == NULL || until == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log of %zu entries", room);
    memset(positions + vault->room, 0, (room - vault->room) * sizeof *positions);
    memset(present + vault->room, 0, (room - vault->room) * sizeof *present);
    memset(damaged + vault->room, 0, (room - vault->room) * sizeof *damaged);
    vault->room = room;
    return true;
}

/* COMMIT: [[id, ...]]; RELOCATE: [[id, object]]; DELETE: [id].  The state has taken the entry: it is well formed. */
static bool
take_packs(struct reading *reading, const struct hf_log_entry *entry, struct hf_error *err)
{
    if (entry->kind != HF_LOG_COMMIT && entry->kind != HF_LOG_RELOCATE && entry->kind != HF_LOG_DELETE)
        return true;
    const json_t *rows = json_object_get(entry->public_part, "packs"), *row;
    size_t index;
    json_array_foreach(rows, index, row)
    {
        struct mention mention = {.sequence = entry->sequence};
        const char *pack = json_string_value(entry->kind == HF_LOG_DELETE ? row : json_array_get(row, 0));
        const char *object = entry->kind == HF_LOG_RELOCATE ? json_string_value(json_array_get(row, 1)) : pack;
        if (pack == NULL || object == NULL || !hf_id_parse(pack, &mention.pack, err) ||
            (entry->kind != HF_LOG_DELETE && !hf_id_parse(object, &mention.object, err)))
            return hf_fail(err, HF_ERR_CORRUPT, "log entry %" PRIu64 " does not name its packs", entry->sequence);
        if (reading->count == reading->room) {
            const size_t room = reading->room == 0 ? 256 : 2 * reading->room;
            struct mention *grown = reallocarray(reading->mentions, room, sizeof *grown);
            if (grown == NULL)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the packs of a log");
            reading->mentions = grown;
            reading->room = room;
        }
        reading->mentions[reading->count++] = mention;
    }
    return true;
}

/*
 * What no pack lies in any more, and which entries have to come together: one that puts a pack somewhere else than
 * where it lies in the end comes with the one that settles it.
 */
static bool
list_past(struct copy_vault *vault, struct reading *reading, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *holders = NULL;
    if (!list_holders(vault->state, &holders, err))
        return false;
    vault->past = calloc(reading->count + 1, sizeof *vault->past);
    if (vault->past == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the packs of a log");
    if (reading->count > 0)
        qsort(reading->mentions, reading->count, sizeof *reading->mentions, by_pack);
    for (size_t i = 0; i < reading->count; i++) {
        const struct mention *mention = &reading->mentions[i];
        const uint64_t settled = settled_at(vault, reading, mention);
        if (settled > vault->until[mention->sequence])
            vault->until[mention->sequence] = settled;
        if (!hf_id_is_none(&mention->object) && !holds_packs(holders, vault->state->pack_count, &mention->object))
            vault->past[vault->past_count++] = mention->object;
    }
    if (vault->past_count > 0)
        qsort(vault->past, vault->past_count, sizeof *vault->past, hf_id_compare);
    return true;
}

/* The last entry that says something of the mention's pack, unless that lies there to the end. */
static uint64_t
settled_at(const struct copy_vault *vault, const struct reading *reading, const struct mention *mention)
{
    const struct hf_vault_pack *pack = hf_vault_state_pack(vault->state, &mention->pack);
    if (pack != NULL && hf_id_equal(&pack->object, &mention->object))
        return mention->sequence;
    const struct mention *last = mention;
    while (last + 1 < reading->mentions + reading->count && hf_id_equal(&last[1].pack, &mention->pack))
        last++;
    return last->sequence;
}

/* Where each pack lies, sorted. */
static bool
list_holders(const struct hf_vault_state *state, struct hf_id **ret, struct hf_error *err)
{
    struct hf_id *holders = calloc(state->pack_count + 1, sizeof *holders);
    if (holders == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < state->pack_count; i++)
        holders[i] = state->packs[i].object;
    if (state->pack_count > 0)
        qsort(holders, state->pack_count, sizeof *holders, hf_id_compare);
    *ret = holders;
    return true;
}

static bool
holds_packs(const struct hf_id *holders, size_t count, const struct hf_id *object)
{
    return count > 0 && bsearch(object, holders, count, sizeof *holders, hf_id_compare) != NULL;
}

/* Of one pack in the order of the log. */
static int
by_pack(const void *a, const void *b)
{
    const struct mention *one = a, *other = b;
    const int order = hf_id_compare(&one->pack, &other->pack);
    if (order != 0)
        return order;
    return one->sequence < other->sequence ? -1 : one->sequence > other->sequence;
}

static int
by_sequence(const void *a, const void *b)
{
    const struct copy_stored *one = a, *other = b;
    if (one->sequence != other->sequence)
        return one->sequence < other->sequence ? -1 : 1;
    return hf_id_compare(&one->object, &other->object);
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
        if (sequence < vault->there && !copy_is_due(copy, there.objects[i].name))
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

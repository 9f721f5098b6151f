#include <string.h>

#include "server/care/collect_internal.h"
#include "server/repository/reader.h"

#define INDEX_MOST (1u << 20) // of the leaves that are remembered as seen; as many as a pack has slabs

_Static_assert(HF_PACK_SLABS_MOST <= 1u << 20, "a slab's number has 20 bits of a key");

/* References to map objects that were followed already: open addressing, 0 is empty. */
struct seen {
    size_t count, room; // room is a power of two
    uint64_t *keys;
};

/* The maps of one backup on their way into the mark. */
struct walk {
    struct mark *mark;
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    const atomic_bool *cancel;
    struct seen *seen;
    struct hf_leaf leaf;
};

static bool mark_root(const struct hf_vault_backup *committed, const struct hf_manifest_root *root, struct mark *mark,
                      struct hf_error *err);
static bool mark_backup(struct walk *walk, const struct hf_vault_backup *committed, struct hf_error *err);
static bool mark_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool mark_leaf(struct walk *walk, const struct hf_object_ref *ref, uint8_t page_log2, struct hf_error *err);
static bool mark_slab(struct mark *mark, const struct hf_id *pack, uint32_t slab, struct hf_error *err);
static bool judge_failure(struct hf_vault *vault, const struct hf_id *id, const struct hf_error *why, struct mark *mark,
                          struct hf_error *err);
static bool seen_before(struct seen *seen, uint64_t key, bool *ret_before, struct hf_error *err);
static bool seen_grow(struct seen *seen, struct hf_error *err);

bool
mark_packs(struct hf_vault *vault, const struct hf_vault_state *state, struct mark *ret, struct hf_error *err)
{
    ret->packs = calloc(state->pack_count + 1, sizeof *ret->packs);
    if (ret->packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    ret->count = state->pack_count;
    ret->whole = true;
    ret->backup_count = state->backup_count;
    for (size_t i = 0; i < state->pack_count; i++) {
        ret->packs[i].pack = state->packs[i].pack;
        const struct hf_vault_stretch *stretch = hf_vault_state_stretch(state, state->packs[i].sequence);
        ret->packs[i].needed = state->packs[i].kind == HF_PACK_STREAM && (stretch == NULL || !stretch->pruned);
    }

    for (size_t i = 0; i < ret->backup_count; i++) {
        struct hf_error why = {0};
        const struct hf_vault_backup committed = state->backups[i]; // opening reads the log on
        _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
        if (committed.pruned)
            continue;
        if (hf_backup_open(vault, &committed.backup, &backup, &why) &&
            mark_root(&committed, hf_backup_root(backup), ret, &why))
            continue;
        if (!judge_failure(vault, &committed.backup, &why, ret, err))
            return false;
    }
    return true;
}

bool
mark_slabs(struct hf_vault *vault, const struct hf_vault_state *state, const atomic_bool *cancel, struct mark *mark,
           struct hf_error *err)
{
    struct seen seen = {0};
    struct walk walk = {.mark = mark, .cancel = cancel, .seen = &seen};
    hf_leaf_init(&walk.leaf, HF_PAGE_LOG2_LEAST);
    bool ok = hf_slab_worker_new(1, &walk.worker, err);
    for (size_t i = 0; ok && mark->whole && i < mark->backup_count; i++) {
        struct hf_error why = {0};
        const struct hf_vault_backup committed = state->backups[i];
        if (committed.pruned)
            continue;
        ok = hf_backup_open(vault, &committed.backup, &walk.backup, &why) && mark_backup(&walk, &committed, &why);
        hf_backup_freep(&walk.backup);
        ok = ok || judge_failure(vault, &committed.backup, &why, mark, err);
    }
    free(seen.keys);
    hf_leaf_done(&walk.leaf);
    hf_slab_worker_freep(&walk.worker);
    return ok;
}

struct marked_pack *
mark_find(const struct mark *mark, const struct hf_id *pack)
{
    return mark->count == 0 ? NULL : bsearch(pack, mark->packs, mark->count, sizeof *mark->packs, hf_id_compare);
}

bool
mark_is_live(const struct marked_pack *pack, uint32_t slab)
{
    return slab < pack->slab_room && (pack->live[slab / 8] >> slab % 8 & 1) != 0;
}

void
mark_done(struct mark *mark)
{
    for (size_t i = 0; i < mark->count; i++)
        free(mark->packs[i].live);
    free(mark->packs);
    *mark = (struct mark){0};
}

/* The root stands in no summary, and may be all that its pack holds. */
static bool
mark_root(const struct hf_vault_backup *committed, const struct hf_manifest_root *root, struct mark *mark,
          struct hf_error *err)
{
    for (size_t i = 0; i <= root->summary_count; i++) {
        char text[HF_ID_TEXT_BYTES];
        const struct hf_id *pack = i < root->summary_count ? &root->summary[i].pack : &committed->root_pack;
        struct marked_pack *marked = mark_find(mark, pack);
        if (marked == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "a backup needs pack \"%s\", which the log does not know",
                           hf_id_format(pack, text));
        marked->needed = true;
    }
    return true;
}

static bool
mark_backup(struct walk *walk, const struct hf_vault_backup *committed, struct hf_error *err)
{
    const struct hf_manifest_root *root = hf_backup_root(walk->backup);
    if (!mark_slab(walk->mark, &committed->root_pack, committed->root_slab, err))
        return false;
    for (size_t i = 0; i < root->folder_count; i++)
        for (size_t page = 0; page < root->folders[i].page_count; page++)
            if (!mark_slab(walk->mark, &root->folders[i].pages[page].ref.pack, root->folders[i].pages[page].ref.slab,
                           err))
                return false;
    return hf_backup_files(walk->backup, walk->worker, mark_file, walk, err);
}

static bool
mark_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct walk *walk = context;
    if (walk->cancel != NULL && atomic_load(walk->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the collection was cancelled");
    for (size_t i = 0; i < file->leaf_count; i++)
        if (!mark_leaf(walk, &file->leaves[i], file->page_log2, err))
            return hf_fail_within(err, "file \"%s\"", path);
    return true;
}

static bool
mark_leaf(struct walk *walk, const struct hf_object_ref *ref, uint8_t page_log2, struct hf_error *err)
{
    bool before;
    const struct marked_pack *marked = mark_find(walk->mark, &ref->pack);
    if (!mark_slab(walk->mark, &ref->pack, ref->slab, err))
        return false;
    /* An index that does not fit would be taken for another leaf's, and what that leaf needs be lost. */
    const uint64_t key = ((uint64_t)(marked - walk->mark->packs) << 40 ^ (uint64_t)ref->slab << 20 ^ ref->index) + 1;
    before = false;
    if (ref->index < INDEX_MOST && !seen_before(walk->seen, key, &before, err))
        return false;
    if (before)
        return true;
    hf_leaf_done(&walk->leaf);
    hf_leaf_init(&walk->leaf, page_log2);
    if (!hf_backup_leaf(walk->backup, walk->worker, ref, &walk->leaf, err))
        return false;
    for (size_t i = 0; i < walk->leaf.extent_count; i++) {
        const struct hf_extent *extent = &walk->leaf.extents[i];
        if (extent->type == HF_EXTENT_STORED &&
            !mark_slab(walk->mark, &walk->leaf.packs[extent->pack], extent->slab, err))
            return false;
    }
    return true;
}

static bool
mark_slab(struct mark *mark, const struct hf_id *pack, uint32_t slab, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct marked_pack *marked = mark_find(mark, pack);
    if (marked == NULL || slab >= HF_PACK_SLABS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "a map leads to pack \"%s\", slab %u, which cannot be",
                       hf_id_format(pack, text), slab);
    if (slab >= marked->slab_room) {
        const uint32_t room = slab < 256 ? 512 : 2 * ((slab + 8) & ~UINT32_C(7));
        uint8_t *grown = realloc(marked->live, room / 8);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of slabs");
        memset(grown + marked->slab_room / 8, 0, (room - marked->slab_room) / 8);
        marked->live = grown;
        marked->slab_room = room;
    }
    if (!mark_is_live(marked, slab))
        marked->live_count++;
    marked->live[slab / 8] |= (uint8_t)(1 << slab % 8);
    return true;
}

/*
 * A backup that was given up meanwhile needs nothing any more.  When one that counts cannot be read the vault is left
 * as it is; what has nothing to do with stored bytes ends the collection.
 */
static bool
judge_failure(struct hf_vault *vault, const struct hf_id *id, const struct hf_error *why, struct mark *mark,
              struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (why->kind != HF_ERR_CORRUPT && why->kind != HF_ERR_NOT_FOUND && why->kind != HF_ERR_UNAVAILABLE &&
        why->kind != HF_ERR_DENIED) {
        *err = *why;
        return false;
    }
    if (!hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    const struct hf_vault_backup *backup = hf_vault_state_backup(state, id);
    if (backup == NULL || backup->pruned)
        return true;
    mark->whole = false;
    memcpy(mark->why, why->message, sizeof mark->why);
    return true;
}

static size_t
seen_slot(const struct seen *seen, uint64_t key)
{
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (seen->room - 1);
    while (seen->keys[at] != 0 && seen->keys[at] != key)
        at = (at + 1) & (seen->room - 1);
    return at;
}

static bool
seen_before(struct seen *seen, uint64_t key, bool *ret_before, struct hf_error *err)
{
    if (2 * (seen->count + 1) > seen->room && !seen_grow(seen, err))
        return false;
    const size_t at = seen_slot(seen, key);
    *ret_before = seen->keys[at] == key;
    if (!*ret_before) {
        seen->keys[at] = key;
        seen->count++;
    }
    return true;
}

static bool
seen_grow(struct seen *seen, struct hf_error *err)
{
    struct seen larger = {.room = seen->room > 0 ? 2 * seen->room : 1024};
    larger.keys = calloc(larger.room, sizeof *larger.keys);
    if (larger.keys == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of map leaves");
    for (size_t i = 0; i < seen->room; i++)
        if (seen->keys[i] != 0) {
            larger.keys[seen_slot(&larger, seen->keys[i])] = seen->keys[i];
            larger.count++;
        }
    free(seen->keys);
    *seen = larger;
    return true;
}

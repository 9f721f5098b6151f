#include "server/repository/session_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

static bool open_parent(struct hf_session *session, const struct hf_vault_backup *backup, struct hf_error *err);
static bool find_lost_packs(struct hf_session *session, struct hf_error *err);
static bool add_heal(struct hf_session *session, const struct hf_id *pack, uint32_t slab, struct hf_error *err);
static int by_place(const void *a, const void *b);
static const struct hf_cached_leaf *cached_leaf(const struct hf_cached_file *file, uint64_t number);
static struct parent_leaf *read_leaf(const struct hf_session_file *file, const struct parent *parent,
                                     const struct hf_cached_leaf *cached, uint64_t number,
                                     struct hf_slab_worker *worker);
static const struct hf_cached_file *find_file(const struct parent *parent, const struct hf_session_file *file);

bool
session_open_parents(struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    for (size_t i = 0; i < session->options.heal_count; i++)
        if (!add_heal(session, &session->options.heal[i].pack, session->options.heal[i].slab, err))
            return false;

    const struct hf_vault_backup *newest = NULL;
    for (size_t i = 0; i < state->backup_count; i++)
        if (!state->backups[i].pruned)
            newest = &state->backups[i];
    if (newest == NULL) {
        snprintf(session->why, sizeof session->why, "first backup");
        return true;
    }
    if (session->options.cache_folder == NULL) {
        snprintf(session->why, sizeof session->why, "no folder for tags of earlier backups");
        return true;
    }

    /* A parent that cannot be read costs space and time, never the backup. */
    struct hf_error reason = {0};
    const struct hf_vault_backup parent = *newest; // the state may move when the log is read again
    if (open_parent(session, &parent, &reason))
        return find_lost_packs(session, err) &&
               hf_page_checks_new(session->packs, hf_vault_keys(session->vault), &session->page_checks, err);
    if (reason.kind == HF_ERR_NO_MEMORY || reason.kind == HF_ERR_CANCELLED) {
        *err = reason;
        return false;
    }
    snprintf(session->why, sizeof session->why, "the backup before cannot be compared with: %.90s", reason.message);
    return true;
}

void
session_find_parent_file(struct hf_session *session, struct hf_session_file *file)
{
    file->parent = find_file(&session->parent, file);
    file->partial = find_file(&session->partial, file);
}

/*
 * What a cut-off session stored is newer than the parent.  But it ended somewhere: the stretch in which it did is
 * compared with whichever knows more of it.
 */
struct parent_leaf *
session_parent_leaf(struct hf_session_file *file, uint64_t page, struct hf_slab_worker *worker)
{
    const uint64_t number = page / HF_LEAF_PAGES;
    const struct hf_cached_leaf *old = cached_leaf(file->parent, number), *left = cached_leaf(file->partial, number);
    if (old == NULL && left == NULL)
        return NULL;
    const bool is_left = left != NULL && (old == NULL || left->pages >= old->pages);

    pthread_mutex_lock(&file->leaf_lock);
    if (file->current == NULL || file->current->number != number) {
        session_release_leaf(&file->current);
        file->current = read_leaf(file, is_left ? &file->session->partial : &file->session->parent,
                                  is_left ? left : old, number, worker);
    }
    struct parent_leaf *leaf = file->current;
    if (leaf != NULL)
        atomic_fetch_add(&leaf->references, 1);
    pthread_mutex_unlock(&file->leaf_lock);
    return leaf;
}

void
session_release_leaf(struct parent_leaf **leaf)
{
    struct parent_leaf *gone = HF_TAKE(*leaf);
    if (gone == NULL || atomic_fetch_sub(&gone->references, 1) > 1)
        return;
    hf_leaf_done(&gone->map);
    free(gone->tags);
    free(gone);
}

void
session_parent_done(struct parent *parent)
{
    hf_tag_cache_freep(&parent->cache);
    hf_census_freep(&parent->census);
}

bool
session_is_condemned(const struct hf_session *session, const struct hf_id *pack, uint32_t slab)
{
    if (session->heal_count == 0)
        return false;
    const struct hf_heal one = {*pack, slab}, whole = {*pack, HF_HEAL_WHOLE_PACK};
    return bsearch(&one, session->heal, session->heal_count, sizeof one, by_place) != NULL ||
           bsearch(&whole, session->heal, session->heal_count, sizeof whole, by_place) != NULL;
}

static bool
open_parent(struct hf_session *session, const struct hf_vault_backup *backup, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    if (!session_cache_path(session, ".tags", &path, err))
        return false;

    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    const struct hf_object_ref ref = {backup->root_pack, backup->root_slab, backup->root_index};
    if (!hf_object_read(session->objects, session->caller_worker, &ref, HF_OBJECT_MANIFEST_ROOT, &bytes, err) ||
        !hf_manifest_root_decode(bytes.data, bytes.length, &session->parent_root, err))
        return false;

    struct parent *parent = &session->parent;
    const struct hf_vault_keys *keys = hf_vault_keys(session->vault);
    struct hf_error reason;
    if (!hf_tag_cache_open(path, keys, &backup->backup, &parent->cache, &reason)) {
        if (!hf_tag_cache_rebuild(session->vault, &backup->backup, path, err) ||
            !hf_tag_cache_open(path, keys, &backup->backup, &parent->cache, err))
            return false;
    }
    parent->backup = backup->backup;
    parent->census = hf_tag_cache_take_census(parent->cache);
    return true;
}

/*
 * What is not there, cannot be looked at, or has another size than the log says cannot be built on: cheap, so it is
 * looked at each time.
 */
static bool
find_lost_packs(struct hf_session *session, struct hf_error *err)
{
    const struct hf_vault_state *state;
    const struct hf_id vault = hf_vault_id(session->vault);
    if (!hf_vault_read(session->vault, NULL, NULL, &state, err))
        return false;
    for (size_t i = 0; i < session->parent_root->summary_count; i++) {
        const struct hf_id *pack = &session->parent_root->summary[i].pack;
        const struct hf_vault_pack *known = hf_vault_state_pack(state, pack);
        char name[HF_PACK_NAME_BYTES];
        bool found = false;
        uint64_t size = 0, expected = 0;
        struct hf_error reason = {0};
        if (known != NULL &&
            !hf_backend_stat(hf_vault_backend(session->vault),
                             hf_vault_state_place(state, &vault, known, name, &expected, NULL), &found, &size,
                             &reason) &&
            reason.kind == HF_ERR_NO_MEMORY) {
            *err = reason;
            return false;
        }
        if ((!found || expected != size) && !add_heal(session, pack, HF_HEAL_WHOLE_PACK, err))
            return false;
    }
    return true;
}

static bool
add_heal(struct hf_session *session, const struct hf_id *pack, uint32_t slab, struct hf_error *err)
{
    struct hf_heal *grown = realloc(session->heal, (session->heal_count + 1) * sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of damaged packs");
    session->heal = grown;
    session->heal[session->heal_count++] = (struct hf_heal){*pack, slab};
    qsort(session->heal, session->heal_count, sizeof *session->heal, by_place);
    return true;
}

static int
by_place(const void *a, const void *b)
{
    const struct hf_heal *left = a, *right = b;
    const int packs = hf_id_compare(&left->pack, &right->pack);
    return packs != 0 ? packs : (left->slab > right->slab) - (left->slab < right->slab);
}

static const struct hf_cached_file *
find_file(const struct parent *parent, const struct hf_session_file *file)
{
    const struct hf_cached_file *found = parent->cache != NULL ? hf_tag_cache_find(parent->cache, file->path) : NULL;
    return found != NULL && found->page_log2 == file->page_log2 ? found : NULL;
}

static const struct hf_cached_leaf *
cached_leaf(const struct hf_cached_file *file, uint64_t number)
{
    return file != NULL && number < file->leaf_count ? &file->leaves[number] : NULL;
}

/* Never fails: a stretch that cannot be read is not usable, and its pages are stored anew. */
static struct parent_leaf *
read_leaf(const struct hf_session_file *file, const struct parent *parent, const struct hf_cached_leaf *cached,
          uint64_t number, struct hf_slab_worker *worker)
{
    struct parent_leaf *leaf = calloc(1, sizeof *leaf);
    if (leaf == NULL)
        return NULL;
    leaf->references = 1;
    leaf->number = number;
    leaf->ref = cached->ref;
    leaf->pages = cached->pages;
    hf_leaf_init(&leaf->map, file->page_log2);
    leaf->tags = malloc((size_t)cached->pages * HF_TAG_BYTES + 1);

    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error reason;
    leaf->usable = leaf->tags != NULL && !session_is_condemned(file->session, &cached->ref.pack, cached->ref.slab) &&
                   hf_tag_cache_tags(parent->cache, cached, leaf->tags, &reason) &&
                   hf_object_read(file->session->objects, worker, &cached->ref, HF_OBJECT_LEAF, &bytes, &reason) &&
                   hf_leaf_decode(bytes.data, bytes.length, file->path, &leaf->map, &reason) &&
                   leaf->map.pages == cached->pages && leaf->map.page_log2 == file->page_log2;
    return leaf;
}

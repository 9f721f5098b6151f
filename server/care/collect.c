#include "server/care/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/collect_internal.h"
#include "server/repository/vault_state.h"

#define LIST_MOST         100000                             // packs in one entry
#define NOTE_MOST         HF_LOG_ENTRY_MOST                  // of a suspended session
#define SUSPENDED_MOST_MS (INT64_C(7) * 24 * 60 * 60 * 1000) // then it is in everybody's way for nothing

/* Objects of one vault, as they are listed, against a state that was read before the listing. */
struct removal {
    struct hf_backend *backend;
    struct hf_id vault;
    const struct hf_vault_state *state;
    uint64_t oldest_open; // sequence of the oldest open INTENT or PIN
    size_t used_count;
    struct hf_id *used; // objects in which a pack lies, sorted
    struct hf_collect_report *report;
};

static bool end_sessions(struct collection *collection, const struct hf_vault_state *state, struct hf_error *err);
static bool take_lock(const struct collection *collection, const char *suffix, int *ret_fd, bool *ret_taken,
                      struct hf_error *err);
static struct hf_id noted_session(const struct collection *collection);
static char *cache_path(const struct collection *collection, const char *suffix);
static bool condemn(struct collection *collection, struct hf_error *err);
static bool delete_condemned(struct collection *collection, struct hf_error *err);
static bool append_packs(struct collection *collection, enum hf_log_kind kind, const struct hf_id *packs, size_t count,
                         struct hf_error *err);
static bool remove_objects(struct hf_backend *backend, const struct hf_id *vault, const struct hf_vault_state *state,
                           struct hf_collect_report *pass, struct hf_error *err);
static void add_pass(struct hf_collect_report *report, const struct hf_collect_report *pass);
static bool judge_object(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool judge_orphan(struct removal *removal, const struct hf_object_info *object, struct hf_error *err);
static bool remove_object(struct removal *removal, const struct hf_object_info *object, struct hf_error *err);
static void set_phase(const struct collection *collection, const char *phase);

bool
hf_vault_collect(struct hf_vault *vault, const struct hf_collect_options *options, struct hf_collect_report *report,
                 struct hf_error *err)
{
    struct collection collection = {.vault = vault, .options = options, .report = report};
    struct hf_collect_report pass = {0};
    const struct hf_vault_state *state;
    const struct hf_id id = hf_vault_id(vault);
    _cleanup_(hf_closep) int lock = -1;
    bool taken = true;
    if (options->cache_folder != NULL && !take_lock(&collection, ".collect", &lock, &taken, err))
        return false;
    if (!taken)
        return hf_fail(err, HF_ERR_CONFLICT, "another process is collecting in this vault");

    set_phase(&collection, "mark");
    if (!hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    if (!hf_id_is_none(&state->holder) && !hf_id_equal(&state->holder, &options->signing->appliance)) {
        snprintf(report->unreadable, sizeof report->unreadable, "another appliance writes to the vault");
        return true;
    }
    bool ok = end_sessions(&collection, state, err) && hf_vault_read(vault, NULL, NULL, &state, err) &&
              mark_packs(vault, state, &collection.mark, err);
    if (ok && collection.mark.whole)
        ok = condemn(&collection, err) && delete_condemned(&collection, err);
    else if (ok)
        memcpy(report->unreadable, collection.mark.why, sizeof report->unreadable);

    /* Room first: moving wants some. */
    set_phase(&collection, "remove");
    ok = ok && hf_vault_read(vault, NULL, NULL, &state, err) &&
         remove_objects(hf_vault_backend(vault), &id, state, &pass, err);
    const uint64_t containers = report->containers;
    ok = ok && (!collection.mark.whole || collect_move(&collection, err));
    if (ok && !collection.mark.whole)
        memcpy(report->unreadable, collection.mark.why, sizeof report->unreadable);
    if (ok && report->containers > containers) {
        set_phase(&collection, "remove");
        ok = hf_vault_read(vault, NULL, NULL, &state, err) &&
             remove_objects(hf_vault_backend(vault), &id, state, &pass, err);
    }
    add_pass(report, &pass);
    mark_done(&collection.mark);
    if (!ok && err != NULL && err->kind == HF_ERR_NO_SPACE)
        hf_fail_hint(err,
                     "A collection needs some room itself: for log entries, and for packs that it moves.  Free some "
                     "MiB on that disk and run it again; what it has freed stays free.");
    return ok;
}

bool
hf_vault_collect_shredded(struct hf_repository *repository, const struct hf_id *vault, struct hf_collect_report *report,
                          struct hf_error *err)
{
    struct hf_collect_report pass = {0};
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    if (!hf_vault_read_shut(repository, vault, &state, err))
        return false;
    const bool ok = remove_objects(hf_repository_backend(repository), vault, state, &pass, err);
    add_pass(report, &pass);
    return ok;
}

bool
hf_repository_collect(struct hf_repository *repository, struct hf_collect_report *ret, struct hf_error *err)
{
    *ret = (struct hf_collect_report){0};
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    struct hf_backend *backend = hf_repository_backend(repository);
    if (!hf_backend_sweep(backend, &ret->uploads, &ret->upload_bytes, err) ||
        !hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct hf_collect_report pass = {0};
        _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
        const bool ok = hf_vault_read_shut(repository, &vaults[i], &state, err) &&
                        remove_objects(backend, &vaults[i], state, &pass, err);
        add_pass(ret, &pass);
        if (!ok)
            return false;
    }
    return true;
}

/* Takes over the part. */
bool
collect_append(struct collection *collection, enum hf_log_kind kind, json_t *public_part, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *part = public_part;
    if (part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_log_append entry = {kind, collection->options->now, HF_LOG_EPOCH_NOW, part, NULL};
    return hf_vault_append(collection->vault, &entry, collection->options->signing, NULL, NULL, err);
}

bool
collect_go_on(const struct collection *collection, struct hf_error *err)
{
    return collection->options->cancel == NULL || !atomic_load(collection->options->cancel) ||
           hf_fail(err, HF_ERR_CANCELLED, "the collection was cancelled");
}

/*
 * What this appliance left open and nobody writes any more.  We hold the lock under which packs are moved; who holds
 * the one of backups has a living session, and then all of those stay.  A suspended one stays for the next backup.
 */
static bool
end_sessions(struct collection *collection, const struct hf_vault_state *state, struct hf_error *err)
{
    _cleanup_(hf_closep) int lock = -1;
    bool writers_are_dead;
    if (collection->options->cache_folder == NULL)
        return true;
    if (!take_lock(collection, ".lock", &lock, &writers_are_dead, err))
        return false;
    const struct hf_id noted = noted_session(collection);
    for (size_t i = state->session_count; i-- > 0;) { // the newest first: none is closed while one builds on it
        const struct hf_vault_session left = state->sessions[i];
        if (left.state != HF_SESSION_OPEN || !hf_id_equal(&left.appliance, &collection->options->signing->appliance))
            continue;
        if (left.is_stream) // its receiver may be at work right now, and ends those before it
            continue;
        const bool fresh = collection->options->now - left.started_at < SUSPENDED_MOST_MS;
        if (!left.collects && (!writers_are_dead || (fresh && !hf_id_is_none(&noted) &&
                                                     vault_state_session_brought(state, &noted, &left.session))))
            continue;
        if (!collect_append(collection, HF_LOG_ABORT,
                            json_pack("{s:o, s:s}", "session", hf_json_id_text(&left.session), "reason", "left_open"),
                            err))
            return false;
        collection->report->sessions_aborted++;
    }
    return true;
}

static bool
take_lock(const struct collection *collection, const char *suffix, int *ret_fd, bool *ret_taken, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = cache_path(collection, suffix);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open lock \"%s\"", path);
    *ret_taken = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!*ret_taken && errno != EWOULDBLOCK)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take lock \"%s\"", path);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

/* Its seal does not matter: what it names is only left alone. */
static struct hf_id
noted_session(const struct collection *collection)
{
    struct hf_id session = HF_ID_NONE;
    struct hf_error ignored;
    _cleanup_(hf_freep) char *path = cache_path(collection, ".partial.json");
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(NOTE_MOST);
    _cleanup_(hf_json_freep) json_t *note = NULL;
    if (path == NULL || !hf_file_read(path, &text, &ignored) ||
        !hf_json_parse(text.data, text.length, "the note of a suspended session", &note, &ignored) ||
        !hf_json_id(note, "session", "the note of a suspended session", &session, &ignored))
        return HF_ID_NONE;
    return session;
}

static char *
cache_path(const struct collection *collection, const char *suffix)
{
    char text[HF_ID_TEXT_BYTES], name[HF_ID_TEXT_BYTES + 16];
    const struct hf_id vault = hf_vault_id(collection->vault);
    snprintf(name, sizeof name, "%s%s", hf_id_format(&vault, text), suffix);
    return hf_path_join(collection->options->cache_folder, name);
}

/* What no backup needs, and whose own backup is given up. */
static bool
condemn(struct collection *collection, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(collection->vault, NULL, NULL, &state, err))
        return false;
    size_t count = 0;
    _cleanup_(hf_freep) struct hf_id *packs = calloc(state->pack_count + 1, sizeof *packs);
    if (packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < state->pack_count; i++) {
        const struct hf_vault_pack *pack = &state->packs[i];
        const struct marked_pack *marked = mark_find(&collection->mark, &pack->pack);
        bool brought_by_kept = false;
        for (size_t backup = 0; backup < state->backup_count; backup++)
            if (state->backups[backup].sequence == pack->sequence)
                brought_by_kept = !state->backups[backup].pruned;
        if (marked != NULL && !marked->needed && pack->condemned == 0 && !brought_by_kept)
            packs[count++] = pack->pack;
    }
    collection->report->condemned += count;
    return append_packs(collection, HF_LOG_CONDEMN, packs, count, err);
}

static bool
delete_condemned(struct collection *collection, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(collection->vault, NULL, NULL, &state, err))
        return false;
    size_t count = 0;
    const uint64_t oldest = vault_state_oldest_open(state);
    _cleanup_(hf_freep) struct hf_id *packs = calloc(state->pack_count + 1, sizeof *packs);
    if (packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < state->pack_count; i++) {
        const struct hf_vault_pack *pack = &state->packs[i];
        const struct marked_pack *marked = mark_find(&collection->mark, &pack->pack);
        if (pack->condemned != 0 && pack->condemned < oldest && marked != NULL && !marked->needed)
            packs[count++] = pack->pack;
    }
    collection->report->deleted += count;
    return append_packs(collection, HF_LOG_DELETE, packs, count, err);
}

static bool
append_packs(struct collection *collection, enum hf_log_kind kind, const struct hf_id *packs, size_t count,
             struct hf_error *err)
{
    for (size_t at = 0; at < count; at += LIST_MOST) {
        json_t *list = json_array();
        json_t *part = json_pack("{s:o, s:s}", "packs", list, "reason", "unused");
        const size_t end = count - at < LIST_MOST ? count : at + LIST_MOST;
        for (size_t i = at; part != NULL && i < end; i++)
            if (json_array_append_new(list, hf_json_id_text(&packs[i])) != 0)
                hf_json_freep(&part);
        if (!collect_go_on(collection, err)) {
            hf_json_freep(&part);
            return false;
        }
        if (!collect_append(collection, kind, part, err))
            return false;
    }
    return true;
}

/*
 * The state was read before the listing begins: a COMMIT that comes later belongs to a session that is still open in
 * it, and its packs stay; a RELOCATE that comes later likewise, and its container stays.
 */
static bool
remove_objects(struct hf_backend *backend, const struct hf_id *vault, const struct hf_vault_state *state,
               struct hf_collect_report *pass, struct hf_error *err)
{
    char prefix[64], text[HF_ID_TEXT_BYTES];
    struct removal removal = {.backend = backend,
                              .vault = *vault,
                              .state = state,
                              .oldest_open = vault_state_oldest_open(state),
                              .report = pass,
                              .used = calloc(state->pack_count + 1, sizeof *removal.used)};
    if (removal.used == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of objects");
    for (size_t i = 0; i < state->pack_count; i++)
        removal.used[removal.used_count++] = state->packs[i].object;
    qsort(removal.used, removal.used_count, sizeof *removal.used, hf_id_compare);
    pass->kept_open = pass->waiting = pass->waiting_bytes = pass->locked = pass->locked_bytes = 0; // as of now
    snprintf(prefix, sizeof prefix, "vaults/%s/packs/", hf_id_format(vault, text));
    const bool ok = hf_backend_list(backend, prefix, judge_object, &removal, err);
    free(removal.used);
    return ok;
}

static void
add_pass(struct hf_collect_report *report, const struct hf_collect_report *pass)
{
    report->packs += pass->packs;
    report->pack_bytes += pass->pack_bytes;
    report->kept_open += pass->kept_open;
    report->waiting += pass->waiting;
    report->waiting_bytes += pass->waiting_bytes;
    report->locked += pass->locked;
    report->locked_bytes += pass->locked_bytes;
}

static bool
judge_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct removal *removal = context;
    struct hf_id id;
    uint64_t left = 0; // sequence of the entry after which nobody new comes here
    const char *slash = strrchr(object->name, '/');
    if (slash == NULL || !hf_id_parse(slash + 1, &id, NULL) ||
        (removal->used_count > 0 &&
         bsearch(&id, removal->used, removal->used_count, sizeof *removal->used, hf_id_compare) != NULL))
        return true;
    const struct hf_vault_pack *pack = hf_vault_state_pack(removal->state, &id);
    const struct hf_vault_object *container = hf_vault_state_object(removal->state, &id);
    if (pack == NULL && container == NULL)
        return judge_orphan(removal, object, err);
    left = pack != NULL ? pack->moved : container->left;
    if (left > removal->oldest_open) {
        removal->report->waiting++;
        removal->report->waiting_bytes += object->size;
        return true;
    }
    return remove_object(removal, object, err);
}

/* Whose it is says its header.  An object whose session the log does not know stays: better garbage than loss. */
static bool
judge_orphan(struct removal *removal, const struct hf_object_info *object, struct hf_error *err)
{
    uint8_t header[HF_PACK_HEADER];
    struct hf_id session;
    if (object->size < HF_PACK_HEADER)
        return true;
    struct hf_error why = {0};
    if (!hf_backend_get_range(removal->backend, object->name, 0, header, sizeof header, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND) // another appliance collects here too
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    memcpy(session.bytes, header + 64, HF_ID_BYTES); // there in packs and containers
    const struct hf_vault_session *known = hf_vault_state_session(removal->state, &session);
    if (known == NULL)
        return true;
    if (known->state != HF_SESSION_OPEN)
        return remove_object(removal, object, err);
    removal->report->kept_open++;
    return true;
}

static bool
remove_object(struct removal *removal, const struct hf_object_info *object, struct hf_error *err)
{
    struct hf_error why = {0};
    if (hf_backend_delete(removal->backend, object->name, &why)) {
        removal->report->packs++;
        removal->report->pack_bytes += object->size;
        return true;
    }
    if (why.kind == HF_ERR_DENIED) { // a lock of the storage: it stays until that is over
        removal->report->locked++;
        removal->report->locked_bytes += object->size;
        return true;
    }
    if (err != NULL)
        *err = why;
    return false;
}

static void
set_phase(const struct collection *collection, const char *phase)
{
    if (collection->options->phase != NULL)
        atomic_store(collection->options->phase, phase);
}

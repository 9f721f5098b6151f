#include "server/repository/session_partial.h"

#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "server/repository/vault_state.h"

#define VERSION    1
#define FILE_MOST  HF_LOG_ENTRY_MOST // it lists what COMMIT lists
#define SEAL_LABEL "holdfast partial"
#define NOTE_BYTES (256 * (uint64_t)HF_MIB)
#define NOTE_SHARE 8 // a note copies all tags so far: together not more than a few times all of them

static bool read_partial(struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err);
static bool parse_partial(struct hf_session *session, const struct hf_buf *text, struct hf_error *err);
static bool take_packs(struct hf_session *session, const json_t *rows, struct hf_error *err);
static bool check_session(const struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err);
static bool check_packs(const struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err);
static void forget_partial(struct hf_session *session);
static void remove_files(const struct hf_session *session);
static bool was_built_on(const struct hf_vault_state *state, const struct hf_id *session);
static bool close_session(struct hf_session *session, const struct hf_id *left, enum hf_log_kind kind, uint64_t epoch,
                          struct hf_error *err);
static bool note_partial(struct hf_session *session, struct hf_error *err);
static bool gather_open_files(struct hf_session *session, struct hf_cached_file **ret, size_t *ret_count,
                              uint64_t *ret_bytes, struct hf_error *err);
static bool keep_open_files(struct hf_session *session, struct hf_error *err);
static uint64_t bytes_so_far(const struct hf_session *session);
static bool write_partial(struct hf_session *session, uint64_t bytes, struct hf_error *err);
static bool add_packs(json_t *rows, const struct session_pack *packs, size_t count, struct hf_error *err);
static bool seal_of(const struct hf_session *session, const json_t *object, uint8_t seal[static HF_FILE_DIGEST_BYTES],
                    struct hf_error *err);

bool
session_open_partial(struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    struct hf_error reason = {0};
    if (session->vault_lock < 0 || read_partial(session, state, &reason))
        return true;
    forget_partial(session);
    if (reason.kind == HF_ERR_NO_MEMORY) {
        *err = reason;
        return false;
    }
    remove_files(session);
    return true;
}

bool
session_end_leftovers(struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    if (session->vault_lock < 0)
        return true;
    for (size_t i = state->session_count; i-- > 0;) { // the newest first: none is closed while one builds on it
        const struct hf_vault_session left = state->sessions[i];
        if (left.state != HF_SESSION_OPEN || left.collects ||
            !hf_id_equal(&left.appliance, &session->options.signing->appliance))
            continue;
        if (left.is_stream) // its receiver may be at work right now, and ends those before it
            continue;
        if (session->partial.cache != NULL && vault_state_session_brought(state, &session->builds_on, &left.session))
            continue;
        if (!close_session(session, &left.session, was_built_on(state, &left.session) ? HF_LOG_END : HF_LOG_ABORT,
                           state->epoch, err))
            return false;
    }
    return true;
}

bool
session_leave_partial(struct hf_session *session, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    const uint64_t bytes = bytes_so_far(session);
    if (session->cache == NULL || session->vault_lock < 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "there is no place to note what was stored");
    if (bytes <= session->builds_on_bytes)
        return hf_fail(err, HF_ERR_CONFLICT, "a session that was cut off before got as far");
    if (!keep_open_files(session, err) || !session_close_packs(session, err) ||
        !hf_backend_barrier(hf_vault_backend(session->vault), err) ||
        !session_cache_path(session, ".partial", &path, err))
        return false;
    if (session->cache == NULL) // given up on the way
        return hf_fail(err, HF_ERR_UNAVAILABLE, "%s", session->no_tags);
    return hf_tag_cache_writer_aim(session->cache, path, err) &&
           hf_tag_cache_writer_finish(&session->cache, session->census, err) && write_partial(session, bytes, err);
}

void
session_note_partial(struct hf_session *session)
{
    const uint64_t stored = atomic_load(&session->counts.stored_bytes), since = stored - session->looked_bytes;
    const uint64_t each = session->options.note_bytes > 0 ? session->options.note_bytes : NOTE_BYTES;
    if (since < each || since < stored / NOTE_SHARE || session->notes_failed || session->cache == NULL ||
        session->vault_lock < 0)
        return;
    struct hf_error why;
    if (!note_partial(session, &why) && why.kind != HF_ERR_CONFLICT) {
        session->notes_failed = true;
        hf_log_warning(&why, "what is stored of this backup is not noted: if it is killed, it is stored again");
    }
    session->looked_bytes = atomic_load(&session->counts.stored_bytes); // closing the packs stored some
}

void
session_forget_note(struct hf_session *session)
{
    if (session->noted)
        remove_files(session);
}

void
session_keep_used_packs(struct hf_session *session)
{
    size_t kept = 0;
    for (size_t i = 0; i < session->adopted_count; i++)
        if (session_is_live(session, &session->adopted[i].pack))
            session->adopted[kept++] = session->adopted[i];
    session->adopted_count = kept;
}

void
session_end_partial(struct hf_session *session)
{
    struct hf_error ignored;
    const struct hf_vault_state *state;
    session_forget_note(session);
    if (session->partial.cache == NULL || !hf_vault_read(session->vault, NULL, NULL, &state, &ignored))
        return;
    for (size_t i = state->session_count; i-- > 0;) {
        const struct hf_vault_session left = state->sessions[i];
        if (left.state == HF_SESSION_OPEN && vault_state_session_brought(state, &session->builds_on, &left.session) &&
            !close_session(session, &left.session, HF_LOG_END, session->epoch, &ignored))
            return;
    }
    remove_files(session);
}

/* First the packs, then the tags of what is in them, then the note that says so. */
static bool
note_partial(struct hf_session *session, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_cached_file *open = NULL;
    _cleanup_(hf_freep) char *path = NULL;
    size_t count;
    uint64_t bytes;
    if (!gather_open_files(session, &open, &count, &bytes, err))
        return false;
    if (bytes <= session->builds_on_bytes)
        return hf_fail(err, HF_ERR_CONFLICT, "a session that was cut off before got as far");
    if (!session_close_packs(session, err) || !hf_backend_barrier(hf_vault_backend(session->vault), err) ||
        !session_cache_path(session, ".partial", &path, err))
        return false;
    session->noted = true; // also when it comes to half of it: the two files are then of no use to anybody
    return hf_tag_cache_writer_copy(session->cache, path, open, count, session->census, err) &&
           write_partial(session, bytes, err);
}

/* Also how far the session got.  The caller may add files meanwhile; those have no leaf yet. */
static bool
gather_open_files(struct hf_session *session, struct hf_cached_file **ret, size_t *ret_count, uint64_t *ret_bytes,
                  struct hf_error *err)
{
    size_t count = 0;
    uint64_t bytes = 0;
    pthread_mutex_lock(&session->lock);
    struct hf_cached_file *open = calloc(session->open_files + session->spans_in_flight + 1, sizeof *open);
    const size_t room = session->open_files + session->spans_in_flight;
    for (size_t i = 0; open != NULL && i < session->file_count; i++) {
        const struct hf_session_file *file = session->files[i];
        bytes += file->size;
        if (!file->done && count < room && session_finished_leaves(file, &open[count]))
            count++;
    }
    pthread_mutex_unlock(&session->lock);
    if (open == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a note");
    *ret = open;
    *ret_count = count;
    *ret_bytes = bytes;
    return true;
}

static bool
read_partial(struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL, *cache_path = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FILE_MOST);
    if (!session_cache_path(session, ".partial.json", &path, err) ||
        !session_cache_path(session, ".partial", &cache_path, err) || !hf_file_read(path, &text, err) ||
        !parse_partial(session, &text, err) || !check_session(session, state, err) ||
        !check_packs(session, state, err) ||
        !hf_tag_cache_open(cache_path, hf_vault_keys(session->vault), &session->partial.backup, &session->partial.cache,
                           err))
        return false;
    session->partial.census = hf_tag_cache_take_census(session->partial.cache);
    return true;
}

static bool
parse_partial(struct hf_session *session, const struct hf_buf *text, struct hf_error *err)
{
    static const char what[] = "the note of a suspended session";
    _cleanup_(hf_json_freep) json_t *object = NULL;
    json_t *packs;
    int64_t version, bytes;
    struct hf_id parent = HF_ID_NONE;
    const struct hf_id ours = session->parent.cache != NULL ? session->parent.backup : HF_ID_NONE;
    uint8_t told[HF_FILE_DIGEST_BYTES], seal[HF_FILE_DIGEST_BYTES];
    if (!hf_json_parse(text->data, text->length, what, &object, err) ||
        !hf_json_bytes(object, "seal", what, told, sizeof told, err) || json_object_del(object, "seal") != 0 ||
        !seal_of(session, object, seal, err))
        return false;
    if (sodium_memcmp(told, seal, sizeof seal) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s was altered", what);
    if (!hf_json_integer(object, "version", what, VERSION, VERSION, &version, err) ||
        !hf_json_id(object, "session", what, &session->builds_on, err) ||
        !hf_json_id(object, "backup", what, &session->partial.backup, err) ||
        (!json_is_null(json_object_get(object, "parent")) && !hf_json_id(object, "parent", what, &parent, err)) ||
        !hf_json_integer(object, "bytes", what, 0, HF_JSON_INTEGER_MOST, &bytes, err) ||
        !hf_json_array(object, "packs", what, &packs, err))
        return false;
    if (!hf_id_equal(&parent, &ours))
        return hf_fail(err, HF_ERR_CONFLICT, "the suspended session was compared with another backup");
    session->builds_on_bytes = (uint64_t)bytes;
    return take_packs(session, packs, err);
}

static bool
take_packs(struct hf_session *session, const json_t *rows, struct hf_error *err)
{
    const size_t count = json_array_size(rows);
    session->adopted = calloc(count + 1, sizeof *session->adopted);
    if (session->adopted == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < count; i++) {
        struct session_pack *pack = &session->adopted[i];
        const json_t *row = json_array_get(rows, i);
        const char *id = json_string_value(json_array_get(row, 0)), *hash = json_string_value(json_array_get(row, 3));
        if (id == NULL || hash == NULL || !hf_id_parse(id, &pack->pack, err) ||
            !hf_hex_parse(hash, pack->sha256, sizeof pack->sha256, err))
            return hf_fail(err, HF_ERR_CORRUPT, "a pack that a suspended session noted is none");
        pack->kind = (enum hf_pack_kind)json_integer_value(json_array_get(row, 1));
        pack->bytes = (uint64_t)json_integer_value(json_array_get(row, 2));
    }
    session->adopted_count = count;
    return true;
}

static bool
check_session(const struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    bool open = false;
    for (size_t i = 0; i < state->session_count; i++)
        open = open || (hf_id_equal(&state->sessions[i].session, &session->builds_on) &&
                        state->sessions[i].state == HF_SESSION_OPEN &&
                        hf_id_equal(&state->sessions[i].appliance, &session->options.signing->appliance));
    return (open && !was_built_on(state, &session->builds_on)) ||
           hf_fail(err, HF_ERR_CONFLICT, "the suspended session is closed, or was built on before");
}

static bool
check_packs(const struct hf_session *session, const struct hf_vault_state *state, struct hf_error *err)
{
    const struct hf_id vault = hf_vault_id(session->vault);
    for (size_t i = 0; i < session->adopted_count; i++) {
        const struct session_pack *pack = &session->adopted[i];
        char name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES];
        bool found;
        uint64_t size;
        if (!hf_backend_stat(hf_vault_backend(session->vault), hf_pack_name(&vault, &pack->pack, name), &found, &size,
                             err))
            return false;
        if (!found || size != pack->bytes || hf_vault_state_pack(state, &pack->pack) != NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" of the suspended session is not as it was left",
                           hf_id_format(&pack->pack, text));
    }
    return true;
}

static void
forget_partial(struct hf_session *session)
{
    session_parent_done(&session->partial);
    free(session->adopted);
    session->adopted = NULL;
    session->adopted_count = 0;
    session->builds_on = HF_ID_NONE;
    session->builds_on_bytes = 0;
}

static void
remove_files(const struct hf_session *session)
{
    static const char *const suffixes[] = {".partial.json", ".partial"};
    for (size_t i = 0; i < HF_LENGTH(suffixes); i++) {
        _cleanup_(hf_freep) char *path = NULL;
        if (session_cache_path(session, suffixes[i], &path, NULL))
            (void)!unlink(path); // what stays is found to be of no use again
    }
}

static bool
was_built_on(const struct hf_vault_state *state, const struct hf_id *session)
{
    for (size_t i = 0; i < state->session_count; i++)
        if (state->sessions[i].state == HF_SESSION_COMMITTED &&
            vault_state_session_brought(state, &state->sessions[i].session, session))
            return true;
    return false;
}

static bool
close_session(struct hf_session *session, const struct hf_id *left, enum hf_log_kind kind, uint64_t epoch,
              struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *entry = json_object();
    if (entry == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return hf_json_set(entry, "session", hf_json_id_text(left), err) &&
           (kind != HF_LOG_ABORT || hf_json_set(entry, "reason", json_string("left_open"), err)) &&
           session_append(session, &(struct hf_log_append){kind, hf_time_now_ms(), epoch, entry, NULL}, err);
}

/* Whole pages of the files that were being written: what the caller's spans still hold has not been stored. */
static bool
keep_open_files(struct hf_session *session, struct hf_error *err)
{
    for (size_t i = 0; i < session->file_count; i++) {
        struct hf_session_file *file = session->files[i];
        if (!file->done && file->work != NULL && !session_keep_unfinished(session, file, err))
            return false;
    }
    return true;
}

static uint64_t
bytes_so_far(const struct hf_session *session)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < session->file_count; i++)
        bytes += session->files[i]->size;
    return bytes;
}

static bool
write_partial(struct hf_session *session, uint64_t bytes, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *object = json_object();
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FILE_MOST);
    _cleanup_(hf_freep) char *path = NULL;
    uint8_t seal[HF_FILE_DIGEST_BYTES];
    json_t *packs = json_array();
    if (object == NULL || !hf_json_set(object, "packs", packs, err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a note");
    return add_packs(packs, session->finished, session->pack_count, err) &&
           add_packs(packs, session->adopted, session->adopted_count, err) &&
           hf_json_set(object, "version", json_integer(VERSION), err) &&
           hf_json_set(object, "session", hf_json_id_text(&session->id), err) &&
           hf_json_set(object, "backup", hf_json_id_text(&session->backup), err) &&
           hf_json_set(object, "parent",
                       session->parent.cache != NULL ? hf_json_id_text(&session->parent.backup) : json_null(), err) &&
           hf_json_set(object, "bytes", json_integer((json_int_t)bytes), err) && seal_of(session, object, seal, err) &&
           hf_json_set(object, "seal", hf_json_hex(seal, sizeof seal), err) && hf_json_canonical(object, &text, err) &&
           session_cache_path(session, ".partial.json", &path, err) &&
           hf_file_publish(path, text.data, text.length, 0600, HF_PUBLISH_REPLACE, err);
}

static bool
add_packs(json_t *rows, const struct session_pack *packs, size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(rows, session_pack_row(&packs[i])) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    return true;
}

static bool
seal_of(const struct hf_session *session, const json_t *object, uint8_t seal[static HF_FILE_DIGEST_BYTES],
        struct hf_error *err)
{
    const struct hf_secret *key = &hf_vault_keys(session->vault)->digest_key;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FILE_MOST);
    return hf_buf_add_text(&text, SEAL_LABEL, err) && hf_json_canonical(object, &text, err) &&
           crypto_generichash(seal, HF_FILE_DIGEST_BYTES, text.data, text.length, key->bytes, key->length) == 0;
}

#include "server/repository/session_internal.h"

#include <string.h>

#include "base/time.h"
#include "server/repository/session_partial.h"

static void add_to_outcome(struct hf_session_outcome *outcome, const struct session_pack *packs, size_t count);
static json_t *commit_public(const struct hf_session *session, const struct hf_object_ref *root);
static bool append_commit(struct hf_session *session, const struct hf_log_append *entry, struct hf_error *err);
static hf_vault_append_check note_attempt;

/* Packs first, then their names, then the entry that makes them count (promise 2). */
bool
session_publish(struct hf_session *session, const char *facts_text, const json_t *facts, struct hf_session_outcome *ret,
                struct hf_error *err)
{
    struct hf_object_ref root;
    uint64_t logical_bytes;
    for (size_t i = 0; i < session->file_count; i++)
        if (!session->files[i]->done)
            return hf_fail(err, HF_ERR_USAGE, "file \"%s\" was begun and never ended", session->files[i]->path);
    if (!session_write_manifest(session, facts_text, &root, &logical_bytes, err) ||
        !session_close_packs(session, err) || !hf_backend_barrier(hf_vault_backend(session->vault), err) ||
        !session_check(session, err))
        return false;
    session_keep_used_packs(session);

    _cleanup_(hf_json_freep) json_t *open_part = commit_public(session, &root);
    _cleanup_(hf_json_freep) json_t *sealed_part = json_object();
    if (open_part == NULL || sealed_part == NULL ||
        !hf_json_set(sealed_part, "source", json_string(session->source), err) ||
        !hf_json_set(sealed_part, "facts", json_deep_copy(facts), err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    if (!append_commit(session,
                       &(struct hf_log_append){HF_LOG_COMMIT, hf_time_now_ms(), session->epoch, open_part, sealed_part},
                       err))
        return false;

    uint8_t hash[HF_SHA256_BYTES];
    *ret = (struct hf_session_outcome){.backup = session->backup,
                                       .sequence = hf_vault_log_head(hf_vault_get_log(session->vault), hash),
                                       .files = session->file_count,
                                       .logical_bytes = logical_bytes};
    add_to_outcome(ret, session->finished, session->pack_count);
    add_to_outcome(ret, session->adopted, session->adopted_count);
    return true;
}

static void
add_to_outcome(struct hf_session_outcome *outcome, const struct session_pack *packs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        outcome->stored_bytes += packs[i].bytes;
        outcome->data_packs += packs[i].kind == HF_PACK_DATA;
        outcome->map_packs += packs[i].kind == HF_PACK_MAP;
    }
}

json_t *
session_pack_row(const struct session_pack *pack)
{
    _cleanup_(hf_json_freep) json_t *row = json_array();
    const bool ok = row != NULL && json_array_append_new(row, hf_json_id_text(&pack->pack)) == 0 &&
                    json_array_append_new(row, json_integer(pack->kind)) == 0 &&
                    json_array_append_new(row, json_integer((json_int_t)pack->bytes)) == 0 &&
                    json_array_append_new(row, hf_json_hex(pack->sha256, sizeof pack->sha256)) == 0;
    return ok ? HF_TAKE(row) : NULL;
}

static json_t *
commit_public(const struct hf_session *session, const struct hf_object_ref *root)
{
    struct hf_error ignored;
    _cleanup_(hf_json_freep) json_t *entry = json_object();
    json_t *packs = json_array(), *place = json_object();
    bool ok =
        entry != NULL && hf_json_set(entry, "packs", packs, &ignored) && hf_json_set(entry, "root", place, &ignored) &&
        hf_json_set(place, "pack", hf_json_id_text(&root->pack), &ignored) &&
        hf_json_set(place, "slab", json_integer(root->slab), &ignored) &&
        hf_json_set(place, "index", json_integer(root->index), &ignored) &&
        hf_json_set(entry, "session", hf_json_id_text(&session->id), &ignored) &&
        hf_json_set(entry, "backup", hf_json_id_text(&session->backup), &ignored) &&
        hf_json_set(entry, "parent",
                    session->parent.cache != NULL ? hf_json_id_text(&session->parent.backup) : json_null(), &ignored) &&
        hf_json_set(entry, "dropped", json_array(), &ignored);
    for (size_t i = 0; ok && i < session->pack_count; i++)
        ok = json_array_append_new(packs, session_pack_row(&session->finished[i])) == 0;
    for (size_t i = 0; ok && i < session->adopted_count; i++)
        ok = json_array_append_new(packs, session_pack_row(&session->adopted[i])) == 0;
    return ok ? HF_TAKE(entry) : NULL;
}

/* Onto a log in which it will count, and then it counts: no step after it can fail. */
static bool
append_commit(struct hf_session *session, const struct hf_log_append *entry, struct hf_error *err)
{
    const struct hf_vault_state *state;
    struct hf_error failure = {0};
    hf_upload_abortp(&session->log_room);
    if (hf_vault_append(session->vault, entry, session->options.signing, note_attempt, session, &failure)) {
        session->intent_written = false; // it is closed
        return true;
    }

    *err = failure;
    if (!session->commit_tried)
        return false;
    if (!hf_vault_read(session->vault, NULL, NULL, &state, &failure))
        return hf_fail_hint(err, "The backup may stand in the log nevertheless: look at the list of backups.");
    if (hf_vault_state_backup(state, &session->backup) == NULL)
        return false;
    session->intent_written = false;
    return hf_fail_hint(err, "The backup stands in the log and can be restored, but the disk did not confirm that it "
                             "will last: take another one.");
}

static bool
note_attempt(void *context, const struct hf_vault_state *state, struct hf_error *err)
{
    (void)state;
    (void)err;
    ((struct hf_session *)context)->commit_tried = true;
    return true;
}

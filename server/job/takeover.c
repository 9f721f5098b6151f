#include <string.h>

#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"

#define REASON_MOST 500 // bytes

static bool write_epoch(struct hf_daemon *daemon, const struct hf_id *vault, const char *reason, const char *person,
                        int64_t *ret_epoch, struct hf_error *err);
static bool end_sessions(struct hf_daemon *daemon, const struct hf_id *vault, int64_t *ret_ended, struct hf_error *err);
static bool end_pins(struct hf_daemon *daemon, const struct hf_id *vault, int64_t *ret_ended, struct hf_error *err);
static bool append(struct hf_daemon *daemon, const struct hf_id *vault, enum hf_log_kind kind, json_t *public_part,
                   json_t *sealed_part, struct hf_error *err);

/*
 * Whoever wrote before finds its entries void from the EPOCH on, wherever it is; what it left open is ended at once,
 * so that nothing waits for it.
 */
bool
hf_takeover_answer(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                   struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', true}, {"reason", 's', true}, {"confirm", 's', false}};
    char person[HF_PERSON_BYTES];
    struct hf_id vault;
    int64_t epoch, sessions = 0, pins = 0;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    const char *source = json_string_value(json_object_get(arguments, "source"));
    const char *reason = json_string_value(json_object_get(arguments, "reason"));
    const char *confirm = json_string_value(json_object_get(arguments, "confirm"));
    if (reason[0] == '\0' || strlen(reason) > REASON_MOST)
        return hf_fail(err, HF_ERR_USAGE, "a reason has 1 to %d bytes", REASON_MOST);
    if (!hf_catalog_source_vault(hf_daemon_catalog(daemon), source, &vault, err))
        return false;
    if (hf_id_is_none(&vault))
        return hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no backups here", source);
    if (confirm == NULL || strcmp(confirm, source) != 0) {
        hf_fail(err, HF_ERR_USAGE, "taking over the vault of source \"%s\" wants a confirmation", source);
        return hf_fail_hint(err,
                            "Make sure that no other appliance backs it up any more, then repeat the command with "
                            "--confirm %s.",
                            source);
    }
    hf_person_name(daemon->asker, person);
    if (!hf_records_read_vault(daemon->records, &vault, err) ||
        !write_epoch(daemon, &vault, reason, person, &epoch, err) || !end_sessions(daemon, &vault, &sessions, err) ||
        !end_pins(daemon, &vault, &pins, err))
        return false;
    hf_log_info("the vault of source \"%s\" was taken over by %s: epoch %lld", source, person, (long long)epoch);
    *ret_result = json_pack("{s:s, s:o, s:I, s:I, s:I, s:s}", "source", source, "vault", hf_json_id_text(&vault),
                            "epoch", (json_int_t)epoch, "sessions_ended", (json_int_t)sessions, "pins_ended",
                            (json_int_t)pins, "person", person);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static bool
write_epoch(struct hf_daemon *daemon, const struct hf_id *vault, const char *reason, const char *person,
            int64_t *ret_epoch, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_records_state(daemon->records, vault, &state, err))
        return false;
    *ret_epoch = (int64_t)state->epoch + 1;
    return append(daemon, vault, HF_LOG_EPOCH, json_pack("{s:I}", "epoch", (json_int_t)*ret_epoch),
                  json_pack("{s:s, s:s}", "reason", reason, "person", person), err);
}

/* The newest first: none is closed while another builds on it.  Writing moves the list. */
static bool
end_sessions(struct hf_daemon *daemon, const struct hf_id *vault, int64_t *ret_ended, struct hf_error *err)
{
    for (;; (*ret_ended)++) {
        const struct hf_vault_state *state;
        const struct hf_vault_session *open = NULL;
        if (!hf_records_state(daemon->records, vault, &state, err))
            return false;
        for (size_t i = state->session_count; i-- > 0 && open == NULL;)
            if (state->sessions[i].state == HF_SESSION_OPEN)
                open = &state->sessions[i];
        if (open == NULL)
            return true;
        if (!append(daemon, vault, HF_LOG_ABORT,
                    json_pack("{s:o, s:s}", "session", hf_json_id_text(&open->session), "reason", "taken_over"), NULL,
                    err))
            return false;
    }
}

/* Our own readers go on: their pins are this daemon's to take back. */
static bool
end_pins(struct hf_daemon *daemon, const struct hf_id *vault, int64_t *ret_ended, struct hf_error *err)
{
    const struct hf_id *ours = &hf_records_signing(daemon->records)->appliance;
    for (;; (*ret_ended)++) {
        const struct hf_vault_state *state;
        const struct hf_vault_pin *open = NULL;
        if (!hf_records_state(daemon->records, vault, &state, err))
            return false;
        for (size_t i = 0; i < state->pin_count && open == NULL; i++)
            if (!hf_id_equal(&state->pins[i].appliance, ours))
                open = &state->pins[i];
        if (open == NULL)
            return true;
        if (!append(daemon, vault, HF_LOG_UNPIN,
                    json_pack("{s:o, s:o}", "reader", hf_json_id_text(&open->reader), "backup",
                              hf_json_id_text(&open->backup)),
                    NULL, err))
            return false;
    }
}

/* Takes over the parts. */
static bool
append(struct hf_daemon *daemon, const struct hf_id *vault, enum hf_log_kind kind, json_t *public_part,
       json_t *sealed_part, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *said = public_part;
    _cleanup_(hf_json_freep) json_t *sealed = sealed_part;
    if (said == NULL || (sealed == NULL && kind == HF_LOG_EPOCH))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_record record = {
        .vault = *vault, .kind = kind, .time = hf_daemon_now(daemon), .public_part = said, .sealed_part = sealed};
    return hf_records_append(daemon->records, &record, err);
}

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"

#define PIECE_BYTES (64 * HF_KIB)

static void answer_question(struct hf_daemon *daemon, struct hf_job *job);
static bool sign_entry(struct hf_daemon *daemon, struct hf_job *job, const uint8_t *payload, size_t length,
                       struct hf_buf *answer, struct hf_error *err);
static bool give_vault(struct hf_daemon *daemon, struct hf_job *job, const uint8_t *payload, size_t length,
                       struct hf_buf *answer, struct hf_error *err);
static bool check_first_contact(struct hf_daemon *daemon, const struct hf_job *job, const char *engine,
                                const struct hf_id *vault, struct hf_error *err);

void
hf_job_hear_question(struct hf_daemon *daemon, struct hf_job *job)
{
    uint8_t piece[PIECE_BYTES];
    struct hf_error err;
    ssize_t got = recv(job->oracle_fd, piece, sizeof piece, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || job->answer.length > 0) { // gone, or a second question before the answer to the first
        hf_closep(&job->oracle_fd);
        return;
    }
    if (!hf_buf_add(&job->question, piece, (size_t)got, &err)) {
        hf_job_break(job, &err);
        return;
    }
    if (job->question.length < HF_ORACLE_HEADER)
        return;
    size_t length = hf_get_u32(job->question.data);
    if (length > HF_LOG_ENTRY_MOST || job->question.length > HF_ORACLE_HEADER + length) {
        hf_fail(&err, HF_ERR_DENIED, "the worker asked for more than one thing at a time");
        hf_job_break(job, &err);
    } else if (job->question.length == HF_ORACLE_HEADER + length) {
        answer_question(daemon, job);
    }
}

void
hf_job_send_answer(struct hf_job *job)
{
    while (job->answered < job->answer.length) {
        ssize_t put = send(job->oracle_fd, job->answer.data + job->answered, job->answer.length - job->answered,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return;
        if (put < 0)
            break; // its end is heard from its pidfd
        job->answered += (size_t)put;
    }
    hf_buf_done(&job->answer);
    job->answered = 0;
}

static void
answer_question(struct hf_daemon *daemon, struct hf_job *job)
{
    _cleanup_(hf_buf_done) struct hf_buf payload = HF_BUF_INIT_SECRET(HF_JOB_ANSWER_MOST - HF_ORACLE_HEADER);
    const uint8_t *asked = job->question.data + HF_ORACLE_HEADER;
    size_t length = job->question.length - HF_ORACLE_HEADER;
    uint8_t what = job->question.data[4];
    struct hf_error err, ignored;

    bool yes = what == HF_ORACLE_SIGN    ? sign_entry(daemon, job, asked, length, &payload, &err)
               : what == HF_ORACLE_VAULT ? give_vault(daemon, job, asked, length, &payload, &err)
                                         : hf_fail(&err, HF_ERR_DENIED, "nothing like that can be asked for");
    if (!yes) {
        hf_log_warning(&err, "job %s \"%s\" was refused what it asked for", job->kind->name, job->subject);
        _cleanup_(hf_json_freep) json_t *event = hf_event_error(&err);
        hf_buf_clear(&payload);
        if (event == NULL || !hf_json_canonical(event, &payload, &err)) {
            hf_job_break(job, &err);
            return;
        }
    }
    job->answered = 0;
    hf_buf_done(&job->question);
    hf_buf_done(&job->answer);
    if (!hf_buf_put_u32(&job->answer, (uint32_t)payload.length, &ignored) ||
        !hf_buf_put_u8(&job->answer, yes ? 1 : 0, &ignored) ||
        !hf_buf_add(&job->answer, payload.data, payload.length, &ignored)) {
        hf_job_break(job, &ignored);
        return;
    }
    hf_job_send_answer(job);
}

static bool
sign_entry(struct hf_daemon *daemon, struct hf_job *job, const uint8_t *payload, size_t length, struct hf_buf *answer,
           struct hf_error *err)
{
    const struct hf_signing *signing = hf_records_signing(daemon->records);
    uint8_t signature[HF_SIGNATURE_BYTES];
    return hf_oracle_check_entry(&job->rights, payload, length, err) &&
           signing->sign(signing->context, payload, length, signature, err) &&
           hf_buf_add(answer, signature, sizeof signature, err);
}

static bool
give_vault(struct hf_daemon *daemon, struct hf_job *job, const uint8_t *payload, size_t length, struct hf_buf *answer,
           struct hf_error *err)
{
    static const char what[] = "the worker's question";
    _cleanup_(hf_json_freep) json_t *asked = NULL;
    const char *engine, *identity;
    struct hf_vault *vault;
    bool made, known;
    struct hf_id id = HF_ID_NONE;
    if ((job->kind->needs & HF_JOB_NEEDS_LINEAGE) == 0 || job->vault_given)
        return hf_fail(err, HF_ERR_DENIED, "this job may not ask for a vault");
    if (length > HF_WIRE_REQUEST_MOST)
        return hf_fail(err, HF_ERR_DENIED, "%s is longer than %zu bytes", what, HF_WIRE_REQUEST_MOST);
    if (!hf_json_parse(payload, length, what, &asked, err) || !hf_json_string(asked, "engine", what, &engine, err) ||
        !hf_json_string(asked, "identity", what, &identity, err))
        return false;
    if (identity[0] == '\0' || strlen(identity) > HF_ORACLE_IDENTITY_MOST)
        return hf_fail(err, HF_ERR_DENIED, "the database's identity is no text of 1 to %d bytes",
                       HF_ORACLE_IDENTITY_MOST);

    // Before a vault is made for it: is this the database that the source was before?
    if (!hf_vault_find(hf_records_repository(daemon->records), engine, identity, &known, &id, err) ||
        !check_first_contact(daemon, job, engine, known ? &id : NULL, err) ||
        !hf_records_vault_of(daemon->records, engine, identity, job->subject, hf_daemon_now(daemon), &made, &vault,
                             err) ||
        !hf_vault_keys_export(hf_vault_keys(vault), answer, err))
        return false;
    if (made)
        hf_log_info("source \"%s\" is new: a vault was made for it", job->subject);
    job->rights.vault = hf_vault_id(vault);
    job->vault_given = true;
    return hf_job_set_rights(daemon, job, err);
}

/* A source whose backups lie in a vault stays with it: another database under the same name is not its next state. */
static bool
check_first_contact(struct hf_daemon *daemon, const struct hf_job *job, const char *engine, const struct hf_id *vault,
                    struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
    struct hf_id before;
    if (!hf_daemon_source(daemon, job->subject, &source, err) ||
        !hf_catalog_source_vault(hf_daemon_catalog(daemon), job->subject, &before, err))
        return false;
    if (strcmp(engine, source->engine) != 0)
        return hf_fail(err, HF_ERR_DENIED, "source \"%s\" is not of engine \"%.32s\"", job->subject, engine);
    if (hf_id_is_none(&before) || (vault != NULL && hf_id_equal(&before, vault)))
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "source \"%s\" is another database than the one its backups are of", job->subject);
    return hf_fail_hint(err, "If the server was replaced or upgraded, add it as a new source under another name.");
}

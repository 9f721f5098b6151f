#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/daemon_internal.h"

#define REQUEST_MOST    (4 * HF_MIB) // of a worker: the settings' text and what prepare() gathered
#define SECRETS_MOST    (512 * HF_KIB)
#define PIPE_BYTES_BORN (64 * HF_KIB) // Linux's pipes hold that much unless they are asked to hold more

/* Our ends and the worker's of everything between us; -1 when closed. */
struct channels {
    int request;                          // a memory file, for the worker
    int events[2], secrets[2], oracle[2]; // ours, the worker's
};

static bool write_request(struct hf_daemon *daemon, const struct hf_job *job, json_t *request, int *ret_fd,
                          struct hf_error *err);
static bool gather_secrets(struct hf_daemon *daemon, const struct hf_job *job, struct hf_buf *secrets,
                           struct hf_error *err);
static bool add_secret(struct hf_buf *secrets, enum hf_worker_secret what, const void *bytes, size_t length,
                       struct hf_error *err);
static bool add_credential(struct hf_buf *secrets, const struct hf_credential *credential, struct hf_error *err);
static bool open_channels(struct channels *channels, const struct hf_buf *secrets, struct hf_error *err);
static void close_channels(struct channels *channels);
static bool execute(struct hf_job *job, const struct channels *channels, struct hf_error *err);

bool
hf_job_launch(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err)
{
    _cleanup_(close_channels) struct channels channels = {-1, {-1, -1}, {-1, -1}, {-1, -1}};
    _cleanup_(hf_json_freep) json_t *request = NULL;
    _cleanup_(hf_buf_done) struct hf_buf secrets = HF_BUF_INIT_SECRET(SECRETS_MOST);

    if (job->kind->prepare == NULL)
        request = json_incref(job->arguments);
    else if (!job->kind->prepare(daemon, job, &request, err))
        return false;
    if (!hf_job_set_rights(daemon, job, err) || !write_request(daemon, job, request, &channels.request, err) ||
        !gather_secrets(daemon, job, &secrets, err) || !open_channels(&channels, &secrets, err) ||
        !execute(job, &channels, err))
        return hf_fail_within(err, "could not start the job");

    hf_wire_init(&job->events, HF_TAKE_FD(channels.events[0]), HF_WIRE_EVENT_MOST, 0);
    job->oracle_fd = HF_TAKE_FD(channels.oracle[0]);
    return true;
}

bool
hf_job_set_rights(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err)
{
    const struct hf_signing *signing = hf_records_signing(daemon->records);
    uint8_t hash[HF_SHA256_BYTES];
    uint64_t head = 0;
    if (!hf_id_is_none(&job->rights.vault) &&
        !hf_catalog_head(hf_daemon_catalog(daemon), &job->rights.vault, &head, hash, err))
        return false;
    job->rights.repository = hf_repository_id(hf_records_repository(daemon->records));
    job->rights.appliance = signing->appliance;
    memcpy(job->rights.public_key, signing->public_key, sizeof job->rights.public_key);
    job->rights.kinds = job->kind->signs;
    job->rights.kind_count = 0;
    while (job->rights.kind_count < HF_JOB_SIGNS_MOST && job->kind->signs[job->rights.kind_count] != 0)
        job->rights.kind_count++;
    job->rights.every_vault = (job->kind->needs & HF_JOB_NEEDS_EVERY_LOG) != 0;
    job->rights.least_sequence = head + 1;
    return true;
}

/* In a memory file: a pipe would hold only a part of it, and we would wait for the worker to read. */

static bool
write_request(struct hf_daemon *daemon, const struct hf_job *job, json_t *request, int *ret_fd, struct hf_error *err)
{
    const struct hf_signing *signing = hf_records_signing(daemon->records);
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(REQUEST_MOST);
    _cleanup_(hf_json_freep) json_t *document = json_pack(
        "{s:s, s:s, s:s, s:O, s:o, s:o}", "kind", job->kind->name, "settings_file", daemon->settings->file,
        "settings_text", daemon->settings->text, "request", request, "appliance", hf_json_id_text(&signing->appliance),
        "public_key", hf_json_hex(signing->public_key, sizeof signing->public_key));
    if (document == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the request");
    if (!hf_json_canonical(document, &text, err))
        return false;

    _cleanup_(hf_closep) int fd = memfd_create("holdfast-request", MFD_CLOEXEC);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make room for the request");
    if (!hf_write_all(fd, text.data, text.length, "the request", err))
        return false;
    if (lseek(fd, 0, SEEK_SET) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not rewind the request");
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

static bool
gather_secrets(struct hf_daemon *daemon, const struct hf_job *job, struct hf_buf *secrets, struct hf_error *err)
{
    unsigned needs = job->kind->needs;
    const struct hf_root_bundle *signers = hf_repository_signers(hf_records_repository(daemon->records));
    if ((needs & (HF_JOB_NEEDS_VAULT | HF_JOB_NEEDS_LINEAGE)) != 0 &&
        !add_secret(secrets, HF_WORKER_SIGNERS, signers, sizeof *signers, err))
        return false;
    if ((needs & HF_JOB_NEEDS_VAULT) != 0 && !hf_id_is_none(&job->rights.vault)) {
        _cleanup_(hf_buf_done) struct hf_buf keys = HF_BUF_INIT_SECRET(SECRETS_MOST);
        struct hf_vault *vault;
        if (!hf_records_vault(daemon->records, &job->rights.vault, &vault, err) ||
            !hf_vault_keys_export(hf_vault_keys(vault), &keys, err) ||
            !add_secret(secrets, HF_WORKER_VAULT_KEYS, keys.data, keys.length, err))
            return false;
    }
    return (needs & HF_JOB_NEEDS_CREDENTIAL) == 0 ||
           add_credential(secrets, hf_records_credential(daemon->records), err);
}

static bool
add_secret(struct hf_buf *secrets, enum hf_worker_secret what, const void *bytes, size_t length, struct hf_error *err)
{
    return hf_buf_put_u8(secrets, (uint8_t)what, err) && hf_buf_put_u32(secrets, (uint32_t)length, err) &&
           hf_buf_add(secrets, bytes, length, err);
}

static bool
add_credential(struct hf_buf *secrets, const struct hf_credential *credential, struct hf_error *err)
{
    const struct hf_secret *secret =
        credential->kind == HF_SLOT_PASSPHRASE ? &credential->passphrase : &credential->key;
    return hf_buf_put_u8(secrets, HF_WORKER_CREDENTIAL, err) &&
           hf_buf_put_u32(secrets, (uint32_t)secret->length + 1, err) &&
           hf_buf_put_u8(secrets, (uint8_t)credential->kind, err) &&
           hf_buf_add(secrets, secret->bytes, secret->length, err);
}

/* The pipe of the secrets is made large enough to take all of them before anybody reads. */

static bool
open_channels(struct channels *channels, const struct hf_buf *secrets, struct hf_error *err)
{
    int events[2], keys[2];
    if (pipe2(events, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");
    channels->events[0] = events[0];
    channels->events[1] = events[1];
    if (fcntl(events[0], F_SETFL, O_NONBLOCK) != 0 || pipe2(keys, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");
    channels->secrets[0] = keys[1];
    channels->secrets[1] = keys[0];
    if (secrets->length > PIPE_BYTES_BORN && fcntl(keys[1], F_SETPIPE_SZ, SECRETS_MOST) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe large enough for the keys");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channels->oracle) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a socket pair");
    if (!hf_write_all(keys[1], secrets->data, secrets->length, "the keys", err))
        return false;
    hf_closep(&channels->secrets[0]); // the worker reads until the end
    return true;
}

static void
close_channels(struct channels *channels)
{
    hf_closep(&channels->request);
    for (size_t i = 0; i < 2; i++) {
        hf_closep(&channels->events[i]);
        hf_closep(&channels->secrets[i]);
        hf_closep(&channels->oracle[i]);
    }
}

static bool
execute(struct hf_job *job, const struct channels *channels, struct hf_error *err)
{
    const int passed[][2] = {
        {channels->request, HF_WORKER_REQUEST_FD},
        {channels->events[1], HF_WORKER_EVENTS_FD},
        {channels->secrets[1], HF_WORKER_SECRETS_FD},
        {channels->oracle[1], HF_WORKER_ORACLE_FD},
    };
    const char *const argv[] = {"/proc/self/exe", "--worker", NULL};
    const struct hf_process_options options = {
        .argv = argv,
        .environment = (const char *const *)environ, // libpq's variables and HOME are the owner's to set
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = STDERR_FILENO,
        .pass_fds = passed,
        .pass_fd_count = HF_LENGTH(passed),
    };
    return hf_process_start(&options, &job->process, err);
}

/* Nothing below what is in the log already can be signed again. */

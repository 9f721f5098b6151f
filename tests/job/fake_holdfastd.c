/*
 * fake_holdfastd.c - holdfastd with jobs that do what tests of the daemon need
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/job/kinds.h"
#include "server/job/oracle.h"

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "" : text;
}

/* Says that it began, and waits for the file "release" in its folder. */
static bool
run_nap(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    char path[512], release[512];
    const char *folder = text_of(request, "folder");
    snprintf(path, sizeof path, "%s/began-%s-%d", folder, text_of(request, "source"), (int)getpid());
    snprintf(release, sizeof release, "%s/release", folder);
    hf_worker_progress(worker, "nap", 1, 10);
    hf_worker_note(worker, HF_LOG_WARNING, "napping");
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", path);
    close(fd);
    while (access(release, F_OK) != 0) {
        if (!hf_worker_go_on(worker, err))
            return false;
        usleep(2000);
    }
    *ret_result = json_pack("{s:i}", "pid", (int)getpid());
    return true;
}

static bool
run_crash(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    (void)worker;
    (void)request;
    (void)ret_result;
    (void)err;
    kill(getpid(), SIGKILL);
    return false;
}

/* Leaves a process behind that nobody waits for, and dies. */
static bool
run_orphan(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    char path[512];
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    snprintf(path, sizeof path, "%s/orphan-%d", text_of(request, "folder"), (int)child);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", path);
    return run_crash(worker, request, ret_result, err);
}

/* Takes being asked to stop for a lost connection. */
static bool
run_grumpy(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    if (run_nap(worker, request, ret_result, err))
        return true;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "the connection was lost");
}

static bool
run_silent(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    (void)worker;
    (void)request;
    (void)ret_result;
    (void)err;
    _exit(7);
}

/* Speaks out of turn. */
static bool
run_liar(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    const char *text = text_of(request, "text");
    (void)worker;
    (void)ret_result;
    (void)err;
    (void)!write(HF_WORKER_EVENTS_FD, text, strlen(text));
    sleep(30);
    return false;
}

static bool
run_fail(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    (void)worker;
    (void)request;
    (void)ret_result;
    hf_fail(err, HF_ERR_NO_SPACE, "the disk is full");
    return hf_fail_hint(err, "Make room.");
}

static bool
run_news(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    (void)request;
    (void)ret_result;
    (void)err;
    hf_worker_bad_news(worker);
    return true;
}

/* Writes an entry of a kind into the vault of the database "identity", as a backup would. */
static bool
run_write(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct hf_vault *vault;
    const struct hf_vault_state *state;
    const struct hf_id session = hf_id_new();
    _cleanup_(hf_json_freep) json_t *part = json_pack("{s:o, s:s, s:[], s:n}", "session", hf_json_id_text(&session),
                                                      "operation", "test", "parents", "builds_on");
    if (!hf_worker_vault_of(worker, "postgresql", text_of(request, "identity"), &vault, err) ||
        !hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    const struct hf_log_append append = {
        .kind = (enum hf_log_kind)json_integer_value(json_object_get(request, "kind")), .time = 1, .public_part = part};
    if (!hf_vault_log_append(hf_vault_get_log(vault), &append, hf_worker_signing(worker), err))
        return false;
    const struct hf_id id = hf_vault_id(vault);
    *ret_result = json_pack("{s:o, s:o}", "vault", hf_json_id_text(&id), "session", hf_json_id_text(&session));
    return true;
}

/* A backup of nothing: INTENT and COMMIT in the vault of the database "identity". */
static bool
run_commit(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct hf_vault *vault;
    const struct hf_vault_state *state;
    const struct hf_id session = hf_id_new(), backup = hf_id_new(), pack = hf_id_new();
    _cleanup_(hf_json_freep) json_t *intent = json_pack("{s:o, s:s, s:[], s:n}", "session", hf_json_id_text(&session),
                                                        "operation", "backup", "parents", "builds_on");
    _cleanup_(hf_json_freep) json_t *commit =
        json_pack("{s:o, s:o, s:n, s:{s:o, s:i, s:i}, s:[], s:[]}", "session", hf_json_id_text(&session), "backup",
                  hf_json_id_text(&backup), "parent", "root", "pack", hf_json_id_text(&pack), "slab", 0, "index", 0,
                  "packs", "dropped");
    _cleanup_(hf_json_freep) json_t *sealed = json_pack("{s:s, s:{}}", "source", text_of(request, "source"), "facts");
    const struct hf_log_append first = {.kind = HF_LOG_INTENT, .time = 1, .public_part = intent};
    const struct hf_log_append second = {
        .kind = HF_LOG_COMMIT, .time = 2, .public_part = commit, .sealed_part = sealed};
    if (!hf_worker_vault_of(worker, "postgresql", text_of(request, "identity"), &vault, err) ||
        !hf_vault_read(vault, NULL, NULL, &state, err) ||
        !hf_vault_log_append(hf_vault_get_log(vault), &first, hf_worker_signing(worker), err) ||
        !hf_vault_log_append(hf_vault_get_log(vault), &second, hf_worker_signing(worker), err))
        return false;
    *ret_result = json_pack("{s:o}", "backup", hf_json_id_text(&backup));
    return true;
}

/* Asks for vaults past its worker's own interface: "first", then "second". */
static bool
run_greedy(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    static const char *const members[] = {"first", "second"};
    (void)worker;
    (void)ret_result;
    for (size_t i = 0; i < HF_LENGTH(members); i++) {
        _cleanup_(hf_buf_done) struct hf_buf keys = HF_BUF_INIT_SECRET(HF_MIB);
        const char *text = text_of(request, members[i]);
        if (!hf_oracle_ask(HF_WORKER_ORACLE_FD, HF_ORACLE_VAULT, text, strlen(text), &keys, err))
            return hf_fail_within(err, "%s", members[i]);
    }
    return true;
}

/* Wants an entry signed in the place of the newest one. */
static bool
sign_one_before(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
                struct hf_error *err)
{
    const struct hf_signing *real = context;
    uint8_t copy[4096];
    if (length > sizeof copy)
        return hf_fail(err, HF_ERR_NO_SPACE, "the entry is too long for this test");
    memcpy(copy, bytes, length);
    hf_put_u64(copy + 16, hf_get_u64(copy + 16) - 1);
    return real->sign(real->context, copy, length, signature, err);
}

static bool
run_rewrite(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct hf_vault *vault;
    const struct hf_vault_state *state;
    const struct hf_signing *real = hf_worker_signing(worker);
    struct hf_signing signing = *real;
    _cleanup_(hf_json_freep) json_t *part = json_pack("{s:s}", "operation", "test");
    const struct hf_log_append append = {.kind = HF_LOG_INTENT, .time = 1, .public_part = part};
    (void)ret_result;
    signing.context = (void *)(uintptr_t)real;
    signing.sign = sign_one_before;
    return hf_worker_vault_of(worker, "postgresql", text_of(request, "identity"), &vault, err) &&
           hf_vault_read(vault, NULL, NULL, &state, err) &&
           hf_vault_log_append(hf_vault_get_log(vault), &append, &signing, err);
}

/* Has any bytes signed. */
static bool
run_sign(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    const struct hf_signing *signing = hf_worker_signing(worker);
    const char *text = text_of(request, "text");
    uint8_t signature[HF_SIGNATURE_BYTES];
    (void)ret_result;
    return signing->sign(signing->context, text, strlen(text), signature, err);
}

/* Says what it was handed. */
static bool
run_show(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct hf_vault *vault;
    (void)request;
    (void)err;
    *ret_result =
        json_pack("{s:b, s:b, s:s}", "credential", hf_worker_credential(worker) != NULL, "vault",
                  hf_worker_vault(worker, &vault, NULL), "repository", hf_worker_settings(worker)->repository);
    return true;
}

static bool
refuse_to_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    (void)daemon;
    (void)job;
    (void)ret_request;
    return hf_fail(err, HF_ERR_USAGE, "this is not how it is asked for");
}

static bool
conclude_show(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
              struct hf_error *err)
{
    (void)daemon;
    return why != NULL || hf_json_set(*result, "concluded_for", json_string(hf_job_requested_by(job)), err);
}

static bool
fail_to_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                 struct hf_error *err)
{
    (void)daemon;
    (void)job;
    (void)result;
    (void)why;
    return hf_fail(err, HF_ERR_NO_SPACE, "the record could not be written");
}

/* Without a worker: gives the arguments back, or refuses. */
static bool
prepare_quick(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    (void)daemon;
    if (json_object_get(hf_job_arguments(job), "refuse") != NULL)
        return hf_fail(err, HF_ERR_CONFLICT, "not while it is raining");
    *ret_request = json_deep_copy(hf_job_arguments(job));
    return true;
}

/* As a schedule would: a copy that naps, for the source and in the folder that are named. */
static bool
conclude_schedule(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                  struct hf_error *err)
{
    (void)result;
    return why != NULL ||
           hf_daemon_add_job(daemon, "copy", json_object_get(hf_job_arguments(job), "of"), "schedule", NULL, err);
}

int
main(int argc, char **argv)
{
    static const struct hf_job_kind kinds[] = {
        {.name = "nap", .of_source = true, .run = run_nap},
        {.name = "nap2", .of_source = true, .run = run_nap},
        {.name = "copy", .of_source = true, .sandboxed = true, .run = run_nap},
        {.name = "scheduled", .prepare = prepare_quick, .conclude = conclude_schedule},
        {.name = "crash", .run = run_crash},
        {.name = "orphan", .run = run_orphan},
        {.name = "grumpy", .of_source = true, .run = run_grumpy},
        {.name = "silent", .run = run_silent},
        {.name = "liar", .run = run_liar},
        {.name = "fail", .run = run_fail},
        {.name = "news", .run = run_news},
        {.name = "write", .of_source = true, .needs = HF_JOB_NEEDS_LINEAGE, .signs = {HF_LOG_INTENT}, .run = run_write},
        {.name = "commit",
         .of_source = true,
         .needs = HF_JOB_NEEDS_LINEAGE,
         .signs = {HF_LOG_INTENT, HF_LOG_COMMIT},
         .run = run_commit},
        {.name = "greedy", .of_source = true, .needs = HF_JOB_NEEDS_LINEAGE, .run = run_greedy},
        {.name = "unentitled", .of_source = true, .run = run_greedy},
        {.name = "rewrite",
         .of_source = true,
         .needs = HF_JOB_NEEDS_LINEAGE,
         .signs = {HF_LOG_INTENT},
         .run = run_rewrite},
        {.name = "sign", .run = run_sign},
        {.name = "show", .needs = HF_JOB_NEEDS_CREDENTIAL, .run = run_show, .conclude = conclude_show},
        {.name = "quick", .prepare = prepare_quick, .conclude = conclude_show},
        {.name = "unprepared", .prepare = refuse_to_prepare, .run = run_show},
        {.name = "unconcluded", .run = run_show, .conclude = fail_to_conclude},
    };
    const struct hf_daemon_program program = {.kinds = kinds, .kind_count = HF_LENGTH(kinds)};
    return hf_daemon_main(argc, argv, &program);
}

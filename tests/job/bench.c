#include "tests/job/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/job/records.h"
#include "tests/support/test.h"

#define PATIENCE_MS 10000

static const char settings_form[] = "repository: %s\n"
                                    "state: %s\n"
                                    "socket: %s\n"
                                    "unlock:\n"
                                    "  key_file: %s/server.key\n"
                                    "%s"
                                    "sources:\n"
                                    "  clinic:\n"
                                    "    engine: postgresql\n"
                                    "    connection: host=/nowhere\n"
                                    "  lab:\n"
                                    "    engine: postgresql\n"
                                    "    connection: host=/nowhere\n";

static void find_program(char program[static PATH_MAX]);
static void start(struct job_bench *bench, int ready_fd, int errors_fd);

void
job_bench_make(struct job_bench *bench, const char *more)
{
    struct hf_error err;
    char text[2048], path[256];
    *bench = (struct job_bench){.daemon = HF_PROCESS_NONE};
    snprintf(bench->folder, sizeof bench->folder, "%s", hf_test_folder());
    snprintf(bench->settings_path, sizeof bench->settings_path, "%s/holdfast.yaml", bench->folder);
    snprintf(bench->state, sizeof bench->state, "%s/state", bench->folder);
    snprintf(bench->repository, sizeof bench->repository, "%s/repository", bench->folder);
    snprintf(bench->socket, sizeof bench->socket, "%s/socket", bench->folder);
    snprintf(text, sizeof text, settings_form, bench->repository, bench->state, bench->socket, bench->folder,
             more == NULL ? "" : more);
    hf_assert_ok(hf_file_publish(bench->settings_path, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
    hf_assert_ok(hf_dir_make(bench->state, 0700, &err), &err);

    struct hf_credential credential = {0};
    _cleanup_(hf_signer_closep) struct hf_signer *signer = NULL;
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *house = NULL;
    snprintf(path, sizeof path, "%s/server.key", bench->folder);
    hf_assert_ok(hf_key_file_create(path, &credential, &err), &err);
    snprintf(path, sizeof path, "%s/%s", bench->state, HF_STATE_SIGNING_KEY);
    hf_assert_ok(hf_signer_create(path, "test", &err), &err);
    hf_assert_ok(hf_signer_open(path, &signer, &err), &err);
    struct hf_signing signing = {.context = signer, .appliance = hf_id_new(), .sign = hf_signer_sign};
    memcpy(signing.public_key, hf_signer_public_key(signer)->bytes, sizeof signing.public_key);
    const struct hf_repository_new how = {.credential = &credential,
                                          .slot = {.name = "server"},
                                          .signer = &signing,
                                          .signer_name = "test",
                                          .now = hf_time_now_ms()};
    hf_assert_ok(hf_repository_create(bench->repository, &how, &repository, &err), &err);
    const struct hf_id id = hf_repository_id(repository);
    char identity[HF_ID_TEXT_BYTES];
    const struct hf_vault_new new_house = {.engine = "house",
                                           .identity = hf_id_format(&id, identity),
                                           .name = "test",
                                           .signer = &signing,
                                           .now = hf_time_now_ms()};
    hf_assert_ok(hf_vault_create(repository, &new_house, &house, &err), &err);
    hf_credential_done(&credential);
}

void
job_bench_start(struct job_bench *bench)
{
    int ends[2];
    struct hf_error err;
    struct hf_wire wire;
    json_t *event = NULL;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    start(bench, ends[1], STDERR_FILENO);
    close(ends[1]);
    hf_wire_init(&wire, ends[0], HF_WIRE_REQUEST_MOST, 0);
    hf_assert_ok(hf_wire_wait(&wire, &event, &err), &err);
    if (event == NULL || strcmp(json_string_value(json_object_get(event, "event")), "ready") != 0)
        fail_msg("the daemon did not start: %s",
                 event == NULL ? "it ended" : json_string_value(json_object_get(event, "message")));
    json_decref(event);
    hf_wire_done(&wire);
}

int
job_bench_stop(struct job_bench *bench, int signal)
{
    bool ended;
    int status = -1;
    struct hf_error err;
    hf_process_signal(&bench->daemon, signal);
    hf_assert_ok(hf_process_wait(&bench->daemon, PATIENCE_MS, &ended, &status, &err), &err);
    if (!ended)
        fail_msg("the daemon did not end");
    bench->daemon = HF_PROCESS_NONE;
    return status;
}

int
job_bench_try(struct job_bench *bench, struct hf_buf *errors)
{
    int ends[2], status;
    bool ended;
    struct hf_error err;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    start(bench, -1, ends[1]);
    close(ends[1]);
    char piece[4096];
    for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0;)
        hf_assert_ok(hf_buf_add(errors, piece, (size_t)got, &err), &err);
    close(ends[0]);
    hf_assert_ok(hf_process_wait(&bench->daemon, PATIENCE_MS, &ended, &status, &err), &err);
    assert_true(ended);
    bench->daemon = HF_PROCESS_NONE;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void
job_bench_done(struct job_bench *bench)
{
    hf_process_kill(&bench->daemon);
}

struct hf_settings *
job_bench_settings(const struct job_bench *bench)
{
    struct hf_settings *settings = NULL;
    struct hf_error err;
    hf_assert_ok(hf_settings_load(bench->settings_path, &settings, &err), &err);
    return settings;
}

void
job_client_connect(struct job_client *client, const struct job_bench *bench)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(bench->socket) < sizeof address.sun_path);
    strcpy(address.sun_path, bench->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail_msg("could not connect to %s: %s", bench->socket, strerror(errno));
    hf_wire_init(&client->wire, fd, HF_WIRE_EVENT_MOST, HF_WIRE_EVENT_MOST);
}

void
job_client_close(struct job_client *client)
{
    hf_wire_done(&client->wire);
}

void
job_client_send(struct job_client *client, const char *command, json_t *arguments, bool detach)
{
    struct hf_error err;
    json_t *request = json_pack("{s:s, s:o, s:b}", "command", command, "arguments",
                                arguments == NULL ? json_object() : arguments, "detach", (int)detach);
    hf_assert_ok(hf_wire_put(&client->wire, request, &err), &err);
    hf_assert_ok(hf_wire_flush(&client->wire, &err), &err);
    json_decref(request);
}

void
job_client_send_text(struct job_client *client, const char *text)
{
    struct hf_error err;
    hf_assert_ok(hf_write_all(client->wire.fd, text, strlen(text), "the socket", &err), &err);
}

json_t *
job_client_next(struct job_client *client)
{
    struct hf_error err;
    json_t *event = NULL;
    hf_assert_ok(hf_wire_wait(&client->wire, &event, &err), &err);
    return event;
}

json_t *
job_client_until(struct job_client *client, const char *name)
{
    while (true) {
        json_t *event = job_client_next(client);
        if (event == NULL)
            fail_msg("the connection ended before \"%s\"", name);
        const char *own = json_string_value(json_object_get(event, "event"));
        if (strcmp(own, name) == 0)
            return event;
        if (strcmp(own, "error") == 0 || strcmp(own, "result") == 0)
            fail_msg("\"%s\" came before \"%s\": %s", own, name, json_string_value(json_object_get(event, "message")));
        json_decref(event);
    }
}

json_t *
job_bench_ask(const struct job_bench *bench, const char *command, json_t *arguments)
{
    struct job_client client;
    job_client_connect(&client, bench);
    job_client_send(&client, command, arguments, false);
    while (true) {
        json_t *event = job_client_next(&client);
        if (event == NULL)
            fail_msg("the connection ended before the answer to \"%s\"", command);
        const char *own = json_string_value(json_object_get(event, "event"));
        if (strcmp(own, "error") == 0 || strcmp(own, "result") == 0) {
            job_client_close(&client);
            return event;
        }
        json_decref(event);
    }
}

json_t *
job_bench_row(const struct job_bench *bench, const char *job)
{
    _cleanup_(hf_json_freep) json_t *answer = job_bench_ask(bench, "job list", NULL);
    json_t *row;
    size_t index;
    json_array_foreach(json_object_get(json_object_get(answer, "result"), "jobs"), index, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "job")), job) == 0)
            return json_incref(row);
    }
    fail_msg("job %s is not listed", job);
    return NULL;
}

void
job_bench_await_file(const char *path)
{
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms += 5) {
        if (access(path, F_OK) == 0)
            return;
        usleep(5000);
    }
    fail_msg("%s did not come", path);
}

/* Beside the test itself. */
static void
find_program(char program[static PATH_MAX])
{
    char own[PATH_MAX - 32];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    assert_true(length > 0);
    own[length] = '\0';
    snprintf(program, PATH_MAX, "%s/fake_holdfastd", dirname(own));
}

static void
start(struct job_bench *bench, int ready_fd, int errors_fd)
{
    struct hf_error err;
    char program[PATH_MAX];
    find_program(program);
    const int passed[][2] = {{ready_fd, 3}};
    const char *const argv[] = {program, "--settings", bench->settings_path, ready_fd < 0 ? NULL : "--ready-fd",
                                "3",     NULL};
    const struct hf_process_options options = {
        .argv = argv,
        .environment = (const char *const *)environ,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = errors_fd,
        .pass_fds = passed,
        .pass_fd_count = ready_fd < 0 ? 0 : 1,
    };
    hf_assert_ok(hf_process_start(&options, &bench->daemon, &err), &err);
}

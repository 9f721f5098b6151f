#include "server/verify/asker/asker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/uids.h"

#define SERVER          "/run/server" // inside: the folder with the copy's socket
#define SOCKET          "ask"         // in its own folder
#define PROGRAM         "holdfast-ask"
#define READY_MS        60000
#define MEMORY_BYTES    (512 * HF_MIB)
#define PROCESSES       96 // one a connection
#define OPEN_FILES      64
#define LOG_BYTES       (64 * HF_KIB)
#define TEMPORARY_BYTES (1 * HF_MIB)
#define WALL_DEFAULT_MS (UINT64_C(24) * 3600 * 1000)
#define GONE            "the process that asks the copy is gone"

struct hf_asker {
    struct hf_runner *runner; // of its own: one connection of a runner is one uid
    int uid_lock;             // let go after its processes are gone
    struct hf_sandbox *sandbox;
    char socket[PATH_MAX]; // where it listens
};

struct hf_asker_conn {
    int fd;
    uint32_t version;
    bool broken;
    struct hf_buf frame; // the last one that came
};

/* What the engine below is told. */
struct settings {
    const char *program; // on the host
    const char *server;  // the folder of the copy's socket, on the host
};

static bool list(const void *engine_settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool command(const void *engine_settings, const struct hf_sandbox_places *places,
                    struct hf_sandbox_command *command, struct hf_error *err);
static enum hf_sandbox_news judge(const char *line);
static bool find_program(char path[static PATH_MAX], struct hf_error *err);
static bool take_uid(struct hf_asker *asker, const struct hf_sandbox_spec *like, struct hf_sandbox_spec *spec,
                     struct hf_error *err);
static bool connect_to(struct hf_asker *asker, enum hf_ask_kind kind, const struct hf_buf *body,
                       struct hf_asker_conn **ret, struct hf_ask_refusal *refusal);
static bool give_up(struct hf_asker_conn *conn, const char *why, struct hf_ask_refusal *refusal);
static bool take_refusal(struct hf_asker_conn *conn, struct hf_ask_refusal *refusal);

static const struct hf_sandbox_engine engine_ask = {
    .name = "ask", .list = list, .command = command, .judge = judge, .socket_name = "/" SOCKET};

bool
hf_asker_start(const struct hf_sandbox_spec *like, const char *socket, struct hf_asker **ret, struct hf_error *err)
{
    _cleanup_(hf_asker_freep) struct hf_asker *asker = calloc(1, sizeof *asker);
    char program[PATH_MAX];
    if (asker == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a process that asks the copy");
    asker->uid_lock = -1;
    if (!find_program(program, err))
        return false;
    const struct settings settings = {.program = program, .server = socket};
    struct hf_sandbox_spec spec = {
        .engine = &engine_ask,
        .settings = &settings,
        .folder = like->folder,
        .launcher = like->launcher,
        .limits = {.memory_bytes = MEMORY_BYTES,
                   .processes = PROCESSES,
                   .open_files = OPEN_FILES,
                   .log_bytes = LOG_BYTES,
                   .wall_ms = like->limits.wall_ms != 0 ? like->limits.wall_ms : WALL_DEFAULT_MS,
                   .temporary_bytes = TEMPORARY_BYTES},
        .lowest = like->lowest,
        .host_gid = like->host_gid, // whom the folder of the copy's socket lets in
        .cgroup = like->cgroup,
        .without = like->without,
    };
    if (!take_uid(asker, like, &spec, err) || !hf_sandbox_start(&spec, &asker->sandbox, err))
        return false;
    if (!hf_sandbox_wait_ready(asker->sandbox, READY_MS))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the process that asks the copy did not start");
    snprintf(asker->socket, sizeof asker->socket, "%.4000s/" SOCKET, hf_sandbox_socket_path(asker->sandbox));
    *ret = HF_TAKE(asker);
    return true;
}

void
hf_asker_freep(struct hf_asker **asker)
{
    struct hf_asker *gone = *asker;
    if (gone == NULL)
        return;
    hf_sandbox_freep(&gone->sandbox);
    hf_runner_freep(&gone->runner);
    hf_closep(&gone->uid_lock);
    free(gone);
    *asker = NULL;
}

void
hf_asker_kill(struct hf_asker *asker)
{
    (void)!hf_sandbox_signal(asker->sandbox, SIGKILL, NULL); // its init ends with it, and all connections
}

enum hf_sandbox_end
hf_asker_end(struct hf_asker *asker)
{
    struct hf_sandbox_exit end;
    return hf_sandbox_wait_exit(asker->sandbox, 0, &end, NULL) ? end.end : HF_SANDBOX_BROKEN;
}

bool
hf_asker_report(struct hf_asker *asker, json_t **ret, struct hf_error *err)
{
    return hf_sandbox_report(asker->sandbox, ret, err);
}

bool
hf_asker_connect_postgres(struct hf_asker *asker, const struct hf_ask_postgres *target, struct hf_asker_conn **ret,
                          struct hf_ask_refusal *refusal)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_error err;
    if (!hf_ask_write_postgres(target, &body, &err))
        return give_up(NULL, err.message, refusal);
    return connect_to(asker, HF_ASK_POSTGRES, &body, ret, refusal);
}

bool
hf_asker_connect_mariadb(struct hf_asker *asker, uint64_t timeout_ms, struct hf_asker_conn **ret,
                         struct hf_ask_refusal *refusal)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_error err;
    if (!hf_ask_write_mariadb(timeout_ms, &body, &err))
        return give_up(NULL, err.message, refusal);
    return connect_to(asker, HF_ASK_MARIADB, &body, ret, refusal);
}

void
hf_asker_conn_freep(struct hf_asker_conn **conn)
{
    if (*conn == NULL)
        return;
    hf_closep(&(*conn)->fd);
    hf_buf_done(&(*conn)->frame);
    free(*conn);
    *conn = NULL;
}

uint32_t
hf_asker_conn_version(const struct hf_asker_conn *conn)
{
    return conn->version;
}

bool
hf_asker_conn_is_open(const struct hf_asker_conn *conn)
{
    return !conn->broken;
}

bool
hf_asker_ask(struct hf_asker_conn *conn, const struct hf_ask_query *query, hf_asker_row *row, void *context,
             struct hf_ask_refusal *refusal)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_ask_cells cells;
    struct hf_error err;
    uint64_t rows = 0, bytes = 0;
    bool wanted = row != NULL;
    uint8_t kind;
    *refusal = (struct hf_ask_refusal){0};
    if (conn->broken)
        return give_up(conn, GONE, refusal);
    if (!hf_ask_write_query(query, &body, &err)) {
        snprintf(refusal->message, sizeof refusal->message, "%.*s", HF_ASK_MESSAGE_MOST, err.message);
        return false;
    }
    if (!hf_ask_send(conn->fd, HF_ASK_QUERY, &body, &err))
        return give_up(conn, GONE, refusal);
    for (;;) {
        if (!hf_ask_receive(conn->fd, &conn->frame, &kind, &err))
            return give_up(conn, err.kind == HF_ERR_UNAVAILABLE ? GONE : err.message, refusal);
        if (kind == HF_ASK_DONE && conn->frame.length == 0)
            return true;
        if (kind == HF_ASK_REFUSED)
            return take_refusal(conn, refusal);
        if (kind != HF_ASK_ROW || !hf_ask_read_row(&conn->frame, &cells, &err))
            return give_up(conn, "the process that asks the copy does not keep to its format", refusal);
        for (size_t i = 0; i < cells.count; i++)
            bytes += cells.lengths[i];
        if (++rows > HF_ASK_ROWS_MOST || bytes > HF_ASK_BYTES_MOST)
            return give_up(conn, "the answer is longer than any answer to this question", refusal);
        wanted = wanted && row(context, &cells);
    }
}

static bool
list(const void *engine_settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    const struct settings *settings = engine_settings;
    static const char *const no_modules[] = {NULL};
    return hf_sandbox_root_add_program(root, settings->program, "/" PROGRAM, no_modules, NULL, err) &&
           hf_sandbox_root_add(root, HF_LAUNCH_READ, settings->server, SERVER, err);
}

static bool
command(const void *engine_settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
        struct hf_error *err)
{
    const struct settings *settings = engine_settings;
    return hf_sandbox_command_program(command, places->flat ? settings->program : "/" PROGRAM, err) &&
           hf_sandbox_command_argument(command, err, PROGRAM) &&
           hf_sandbox_command_argument(command, err, "%s/" SOCKET, places->socket) &&
           hf_sandbox_command_argument(command, err, "%s", places->flat ? settings->server : SERVER) &&
           hf_sandbox_command_variable(command, err, "LC_ALL=C");
}

static enum hf_sandbox_news
judge(const char *line)
{
    return strcmp(line, "ready") == 0 ? HF_SANDBOX_READY : HF_SANDBOX_NO_NEWS;
}

/* Beside our own program; in its room of a build folder, seen from the top or from another room; where it is installed. */
static bool
find_program(char path[static PATH_MAX], struct hf_error *err)
{
    static const char *const places[] = {PROGRAM, "server/verify/" PROGRAM, "../server/verify/" PROGRAM};
    char own[PATH_MAX - 64];
    const ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    own[length < 0 ? 0 : length] = '\0';
    const char *name = strrchr(own, '/');
    for (size_t i = 0; name != NULL && i < HF_LENGTH(places); i++) {
        char candidate[PATH_MAX];
        snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(name - own), own, places[i]);
        if (realpath(candidate, path) != NULL && access(path, X_OK) == 0)
            return true;
    }
    if (realpath(HF_ASK_INSTALLED, path) != NULL)
        return true;
    return hf_fail(err, HF_ERR_NOT_FOUND, "the program " PROGRAM " is neither beside \"%s\" nor at \"%s\"", own,
                   HF_ASK_INSTALLED);
}

/* Another than the copy's, so that neither can touch the other even where a wall fails. */
static bool
take_uid(struct hf_asker *asker, const struct hf_sandbox_spec *like, struct hf_sandbox_spec *spec, struct hf_error *err)
{
    if (like->runner != NULL && !hf_runner_open(hf_runner_socket(like->runner), &asker->runner, err))
        return false;
    spec->runner = asker->runner;
    return hf_uid_claim(&spec->host_uid, &asker->uid_lock, err);
}

static bool
connect_to(struct hf_asker *asker, enum hf_ask_kind kind, const struct hf_buf *body, struct hf_asker_conn **ret,
           struct hf_ask_refusal *refusal)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = calloc(1, sizeof *conn);
    struct hf_error err;
    uint8_t answer;
    *refusal = (struct hf_ask_refusal){0};
    if (conn == NULL)
        return give_up(NULL, "out of memory for a connection", refusal);
    conn->frame = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    conn->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(asker->socket) >= sizeof address.sun_path)
        return give_up(NULL, "the path of a socket is too long", refusal);
    memcpy(address.sun_path, asker->socket, strlen(asker->socket));
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        !hf_ask_send(conn->fd, kind, body, &err) || !hf_ask_receive(conn->fd, &conn->frame, &answer, &err))
        return give_up(NULL, GONE, refusal);
    if (answer == HF_ASK_REFUSED)
        return take_refusal(conn, refusal);
    if (answer != HF_ASK_CONNECTED || !hf_ask_read_connected(&conn->frame, &conn->version, &err))
        return give_up(NULL, "the process that asks the copy does not keep to its format", refusal);
    *ret = HF_TAKE(conn);
    return true;
}

/* After this nothing that comes from there is an answer any more. */
static bool
give_up(struct hf_asker_conn *conn, const char *why, struct hf_ask_refusal *refusal)
{
    *refusal = (struct hf_ask_refusal){.code = HF_ASK_CODE_LOST, .broken = true};
    snprintf(refusal->message, sizeof refusal->message, "%.*s", HF_ASK_MESSAGE_MOST, why);
    if (conn != NULL)
        conn->broken = true;
    return false;
}

static bool
take_refusal(struct hf_asker_conn *conn, struct hf_ask_refusal *refusal)
{
    struct hf_error err;
    if (!hf_ask_read_refusal(&conn->frame, refusal, &err))
        return give_up(conn, "the process that asks the copy does not keep to its format", refusal);
    conn->broken = refusal->broken;
    return false;
}

/*
 * holdfast-ask - asks the server of a restored copy (asker.h says why it is a process of its own)
 *
 * `holdfast-ask SOCKET FOLDER` listens at SOCKET; each connection (wire.h) has a process of its own, which connects to
 * the server in FOLDER, asks what it is told to ask and hands on what is answered.  It is started in a sandbox, which
 * has neither /proc nor any file that a library might look for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/engine_mariadb.h"
#include "server/verify/asker/mariadb.h"
#include "server/verify/asker/postgres.h"

#define MEMORY_MOST (384 * HF_MIB) // of one connection: libpq keeps a message several times
#define BACKLOG     64

/* One connection; one of the two is there. */
struct session {
    int fd;
    const char *folder; // of the copy's socket
    struct hf_buf in, out;
    PGconn *postgres;
    MYSQL *mariadb;
};

static int listen_at(const char *path);
static void serve(struct session *session);
static bool begin(struct session *session);
static bool connect_to_mariadb(struct session *session, uint64_t timeout_ms, struct hf_ask_refusal *refusal);
static bool answer(struct session *session, const struct hf_ask_query *query);
static bool hand_on(void *context, const struct hf_ask_cells *cells);
static bool say(struct session *session, enum hf_ask_kind kind);
static bool refuse(struct session *session, const struct hf_ask_refusal *refusal);

int
main(int argc, char **argv)
{
    const struct rlimit memory = {.rlim_cur = MEMORY_MOST, .rlim_max = MEMORY_MOST};
    if (argc != 3) {
        fprintf(stderr, "holdfast-ask is started by Holdfast, in a sandbox beside the copy that it asks.\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); // nobody waits for those that serve
    const int listener = listen_at(argv[1]);
    if (listener < 0 || setrlimit(RLIMIT_DATA, &memory) != 0) {
        fprintf(stderr, "holdfast-ask: cannot listen: %s\n", strerror(errno));
        return 1;
    }
    fprintf(stderr, "ready\n");
    for (;;) {
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            struct session session = {.fd = fd,
                                      .folder = argv[2],
                                      .in = HF_BUF_INIT(HF_ASK_FRAME_MOST),
                                      .out = HF_BUF_INIT(HF_ASK_FRAME_MOST)};
            close(listener);
            serve(&session);
            _exit(0);
        }
        close(fd); // where there was no process for it, the other side hears that it is gone
    }
}

/* Who may find it is settled by the folder. */
static int
listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0666) != 0 ||
        listen(fd, BACKLOG) != 0)
        return -1;
    return fd;
}

/* Whatever it is that makes no sense ends the connection. */
static void
serve(struct session *session)
{
    uint8_t kind;
    struct hf_ask_query query;
    if (!begin(session))
        return;
    while (hf_ask_receive(session->fd, &session->in, &kind, NULL) && kind == HF_ASK_QUERY &&
           hf_ask_read_query(&session->in, &query, NULL) && answer(session, &query))
        ;
}

static bool
begin(struct session *session)
{
    struct hf_ask_postgres target;
    struct hf_ask_refusal refusal;
    uint64_t timeout_ms;
    uint8_t kind;
    uint32_t version = 0;
    bool connected = false;
    if (!hf_ask_receive(session->fd, &session->in, &kind, NULL))
        return false;
    if (kind == HF_ASK_POSTGRES && hf_ask_read_postgres(&session->in, &target, NULL))
        connected = hf_libpq_connect(&target, session->folder, &session->postgres, &refusal);
    else if (kind == HF_ASK_MARIADB && hf_ask_read_mariadb(&session->in, &timeout_ms, NULL))
        connected = connect_to_mariadb(session, timeout_ms, &refusal);
    else
        return false;
    if (!connected) {
        (void)!refuse(session, &refusal);
        return false;
    }
    if (session->postgres != NULL)
        version = (uint32_t)PQserverVersion(session->postgres);
    hf_buf_clear(&session->out);
    return hf_ask_write_connected(version, &session->out, NULL) && say(session, HF_ASK_CONNECTED);
}

static bool
connect_to_mariadb(struct session *session, uint64_t timeout_ms, struct hf_ask_refusal *refusal)
{
    char socket[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    if ((size_t)snprintf(socket, sizeof socket, "%s/" HF_MARIADB_SOCKET, session->folder) < sizeof socket)
        return hf_connector_connect(socket, timeout_ms, &session->mariadb, refusal);
    *refusal = (struct hf_ask_refusal){.broken = true, .message = "the path of the copy's socket is too long"};
    return false;
}

/* False when nobody listens any more. */
static bool
answer(struct session *session, const struct hf_ask_query *query)
{
    struct hf_ask_refusal refusal;
    const bool fine = session->postgres != NULL
                          ? hf_libpq_run(session->postgres, query, hand_on, session, &refusal)
                          : hf_connector_run(session->mariadb, query->statement, hand_on, session, &refusal);
    hf_buf_clear(&session->out);
    return fine ? say(session, HF_ASK_DONE) : refuse(session, &refusal);
}

static bool
hand_on(void *context, const struct hf_ask_cells *cells)
{
    struct session *session = context;
    hf_buf_clear(&session->out);
    return hf_ask_write_row(cells, &session->out, NULL) && say(session, HF_ASK_ROW);
}

static bool
say(struct session *session, enum hf_ask_kind kind)
{
    return hf_ask_send(session->fd, kind, &session->out, NULL);
}

static bool
refuse(struct session *session, const struct hf_ask_refusal *refusal)
{
    hf_buf_clear(&session->out);
    return hf_ask_write_refusal(refusal, &session->out, NULL) && say(session, HF_ASK_REFUSED);
}

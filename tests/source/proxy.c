#include "tests/source/proxy.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/source/keep.h"

#define MOST_LINKS 16

struct proxy {
    struct hf_test_proxy_options options;
    char server[108];
    int listener;
};

/* One connection: its thread owns it. */
struct link {
    struct proxy *proxy;
    int client, server;
    unsigned number;
};

static void *accept_links(void *argument);
static void *hand_on(void *argument);
static bool hand_on_once(struct link *link, int from, int to, uint64_t *count);
static int connect_server(const struct proxy *proxy);

const char *
hf_test_proxy_start(const struct hf_test_cluster *cluster, const struct hf_test_proxy_options *options)
{
    static char conninfo[4][256];
    static unsigned next;
    const char *folder = hf_test_folder();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t thread;

    struct proxy *proxy = hf_test_keep(sizeof *proxy);
    proxy->options = *options;
    snprintf(proxy->server, sizeof proxy->server, "%s/.s.PGSQL.%u", cluster->socket, cluster->port);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%u", folder, cluster->port);
    proxy->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(proxy->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(proxy->listener, 16) != 0)
        fail_msg("no proxy: %s", strerror(errno));
    if (pthread_create(&thread, NULL, accept_links, proxy) != 0)
        fail_msg("no thread for the proxy");
    pthread_detach(thread);

    char *text = conninfo[next++ % HF_LENGTH(conninfo)];
    snprintf(text, sizeof conninfo[0], "host=%s port=%u user=postgres dbname=postgres", folder, cluster->port);
    return text;
}

static void *
accept_links(void *argument)
{
    struct proxy *proxy = argument;
    for (unsigned number = 0;; number++) {
        struct link *link = calloc(1, sizeof *link);
        pthread_t thread;
        if (link == NULL)
            return NULL;
        *link = (struct link){.proxy = proxy, .client = accept(proxy->listener, NULL, NULL), .number = number};
        link->server = connect_server(proxy);
        if (link->client < 0 || link->server < 0 || pthread_create(&thread, NULL, hand_on, link) != 0) {
            close(link->client);
            free(link);
            continue;
        }
        pthread_detach(thread);
    }
}

static void *
hand_on(void *argument)
{
    struct link *link = argument;
    const struct hf_test_proxy_options *options = &link->proxy->options;
    uint64_t from_server = 0, from_client = 0;
    bool bad = false;

    for (;;) {
        struct pollfd ends[2] = {{link->client, POLLIN, 0}, {link->server, POLLIN, 0}};
        bool struck = link->number == options->connection && from_server >= options->after_bytes;
        if (struck && options->mishap == HF_TEST_MISHAP_CUT)
            break;
        if (struck && options->mishap == HF_TEST_MISHAP_SILENT)
            bad = true;
        if (bad) {
            ends[1].fd = -1; // the server's bytes stay where they are
            ends[0].events = 0;
        }
        if (poll(ends, 2, -1) < 0 && errno != EINTR)
            break;
        if (bad && (ends[0].revents & (POLLHUP | POLLERR)) != 0)
            break;
        if (!bad && (ends[0].revents != 0) && !hand_on_once(link, link->client, link->server, &from_client))
            break;
        if (!bad && (ends[1].revents != 0) && !hand_on_once(link, link->server, link->client, &from_server))
            break;
    }
    close(link->client);
    close(link->server);
    free(link);
    return NULL;
}

static bool
hand_on_once(struct link *link, int from, int to, uint64_t *count)
{
    uint8_t bytes[4096];
    size_t most = sizeof bytes;
    const struct hf_test_proxy_options *options = &link->proxy->options;

    // To the byte, so that a cut can fall anywhere in a message.
    if (from == link->server && link->number == options->connection && options->mishap != HF_TEST_MISHAP_NONE &&
        options->after_bytes - *count < most)
        most = (size_t)(options->after_bytes - *count);
    ssize_t length = read(from, bytes, most);
    if (length <= 0)
        return false;
    *count += (uint64_t)length;
    for (ssize_t sent = 0; sent < length;) {
        ssize_t part = send(to, bytes + sent, (size_t)(length - sent), MSG_NOSIGNAL);
        if (part <= 0)
            return false;
        sent += part;
    }
    return true;
}

static int
connect_server(const struct proxy *proxy)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", proxy->server);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

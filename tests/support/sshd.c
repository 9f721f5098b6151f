#include "tests/support/sshd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/support/test.h"

static void run(const char *const *argv);
static unsigned free_port(void);
static bool answers(unsigned port);
static void kill_below(pid_t pid);

void
hf_test_sshd_start(struct hf_test_sshd *sshd, const char *folder, const char *more)
{
    struct hf_error err;
    char host_key[192], text[2048], public_key[256], authorized[192];
    *sshd = (struct hf_test_sshd){.server = HF_PROCESS_NONE, .port = free_port()};
    snprintf(sshd->folder, sizeof sshd->folder, "%s/sshd", folder);
    snprintf(sshd->identity, sizeof sshd->identity, "%s/client", sshd->folder);
    snprintf(sshd->known_hosts, sizeof sshd->known_hosts, "%s/known_hosts", sshd->folder);
    snprintf(sshd->config, sizeof sshd->config, "%s/config", sshd->folder);
    snprintf(host_key, sizeof host_key, "%s/host", sshd->folder);
    snprintf(authorized, sizeof authorized, "%s/authorized", sshd->folder);
    hf_assert_ok(hf_dir_make(sshd->folder, 0700, &err), &err);
    if (geteuid() == 0)
        mkdir("/run/sshd", 0755); // where Debian's sshd empties itself; made at boot, which a container lacks
    run((const char *const[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key, NULL});
    run((const char *const[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshd->identity, NULL});

    snprintf(public_key, sizeof public_key, "%s.pub", host_key);
    _cleanup_(hf_buf_done) struct hf_buf key = HF_BUF_INIT(HF_KIB), client = HF_BUF_INIT(HF_KIB);
    hf_assert_ok(hf_file_read(public_key, &key, &err), &err);
    snprintf(text, sizeof text, "[127.0.0.1]:%u %s", sshd->port, hf_buf_text(&key));
    hf_assert_ok(hf_file_publish(sshd->known_hosts, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
    snprintf(public_key, sizeof public_key, "%s.pub", sshd->identity);
    hf_assert_ok(hf_file_read(public_key, &client, &err), &err);
    hf_assert_ok(hf_file_publish(authorized, client.data, client.length, 0600, HF_PUBLISH_REPLACE, &err), &err);

    int length = snprintf(text, sizeof text,
                          "%sPort %u\nListenAddress 127.0.0.1\nHostKey %s\nPidFile none\nAuthorizedKeysFile %s\n"
                          "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
                          "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nForceCommand internal-sftp\n"
                          "MaxStartups 100\n",
                          more == NULL ? "" : more, sshd->port, host_key, authorized);
    hf_assert_ok(hf_file_publish(sshd->config, text, (size_t)length, 0600, HF_PUBLISH_REPLACE, &err), &err);
    hf_test_sshd_resume(sshd);
    hf_test_sshd_use(sshd);
}

void
hf_test_sshd_use(const struct hf_test_sshd *sshd)
{
    struct hf_error err;
    const struct hf_ssh_options options = {.identity_file = sshd->identity, .known_hosts = sshd->known_hosts};
    hf_assert_ok(hf_ssh_use(&options, &err), &err);
}

const char *
hf_test_sshd_place(const struct hf_test_sshd *sshd, const char *path)
{
    static char place[512];
    snprintf(place, sizeof place, "ssh://127.0.0.1:%u%s", sshd->port, path);
    return place;
}

void
hf_test_sshd_stop(struct hf_test_sshd *sshd)
{
    if (sshd->server.pid <= 0)
        return;
    kill_below(sshd->server.pid);
    hf_process_kill(&sshd->server);
}

void
hf_test_sshd_resume(struct hf_test_sshd *sshd)
{
    struct hf_error err;
    const char *const argv[] = {"/usr/sbin/sshd", "-D", "-e", "-f", sshd->config, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_start(&options, &sshd->server, &err), &err);
    for (int tries = 0; !answers(sshd->port); tries++) {
        if (tries == 200)
            fail_msg("sshd does not answer on port %u", sshd->port);
        usleep(25000);
    }
}

static void
run(const char *const *argv)
{
    struct hf_error err;
    int status;
    _cleanup_(hf_buf_done) struct hf_buf said = HF_BUF_INIT(16 * HF_KIB);
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, &said, &status, &err), &err);
    if (status != 0)
        fail_msg("%s: %s", argv[0], hf_buf_text(&said));
}

static unsigned
free_port(void)
{
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(probe, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(probe, (struct sockaddr *)&address, &length), 0);
    close(probe);
    return ntohs(address.sin_port);
}

static bool
answers(unsigned port)
{
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool found = connect(probe, (struct sockaddr *)&address, sizeof address) == 0;
    close(probe);
    return found;
}

/* The processes of connections, which sshd leaves behind when it is killed. */
static void
kill_below(pid_t pid)
{
    char path[64], line[512];
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all != NULL && (entry = readdir(all)) != NULL;) {
        const pid_t below = (pid_t)atoi(entry->d_name);
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)below);
        FILE *file = below > 0 ? fopen(path, "re") : NULL;
        if (file == NULL)
            continue;
        const char *behind = fgets(line, sizeof line, file) == NULL ? NULL : strrchr(line, ')');
        fclose(file);
        if (behind == NULL || sscanf(behind + 1, " %*c %d", &parent) != 1 || parent != (int)pid)
            continue;
        kill_below(below); // two levels: the monitor and its unprivileged half
        kill(below, SIGKILL);
    }
    if (all != NULL)
        closedir(all);
}

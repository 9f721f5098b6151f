#include "tests/sandbox/restored.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sandbox/own_groups.h"
#include "sandbox/tree.h"
#include "base/file.h"

#define SANDBOX_UID_BASE 300000 // and our pid, so that tests beside us have other uids
#define GONE_WITHIN_MS   20000  // what a killed launcher of a test beside us left is swept by the next sandbox

static bool find_process(char *name, size_t size);
static bool find_folder(char *name, size_t size);
static bool find_mount(char *name, size_t size);

uid_t
hf_test_sandbox_uid(void)
{
    return geteuid() == 0 ? SANDBOX_UID_BASE + (uid_t)getpid() : geteuid();
}

gid_t
hf_test_sandbox_gid(void)
{
    return geteuid() == 0 ? SANDBOX_UID_BASE + (gid_t)getpid() : getegid();
}

const char *
hf_test_restore(const struct hf_test_cluster *cluster, bool standby)
{
    static char paths[64][96];
    static size_t count;
    struct hf_error err;
    int status;
    if (count == HF_LENGTH(paths))
        fail_msg("more than %zu restored copies in one test program", HF_LENGTH(paths));
    char *path = paths[count++];
    const char *folder = hf_test_folder();
    if (chmod(folder, 0711) != 0) // at level L1 the sandbox's uid walks there
        fail_msg("no folder for a copy: %s", strerror(errno));
    snprintf(path, sizeof paths[0], "%s/data", folder);
    const char *const argv[] = {"/bin/cp", "-a", cluster->data, path, NULL};
    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(64 * HF_KIB);
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, &errors, &status, &err), &err);
    if (status != 0)
        fail_msg("cp: %s", hf_buf_text(&errors));
    hf_assert_ok(hf_postgres_prepare(path, standby, &err), &err);
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(path, hf_test_sandbox_uid(), hf_test_sandbox_gid(), &err), &err);
    return path;
}

struct hf_sandbox_spec
hf_test_postgres_spec(const char *data, const struct hf_postgres_settings *settings)
{
    return (struct hf_sandbox_spec){
        .engine = &hf_engine_postgres,
        .settings = settings,
        .data = data,
        .folder = hf_test_run_folder(),
        .host_uid = hf_test_sandbox_uid(),
        .host_gid = hf_test_sandbox_gid(),
    };
}

struct hf_sandbox *
hf_test_sandbox_start(const struct hf_sandbox_spec *spec)
{
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_start(spec, &sandbox, &err), &err);
    if (!hf_sandbox_wait_ready(sandbox, 60000)) {
        _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(64 * HF_MIB);
        (void)!hf_sandbox_log_copy(sandbox, &log, NULL);
        print_message("# %s\n", hf_buf_text(&log));
        hf_sandbox_freep(&sandbox);
        fail_msg("the server in the sandbox takes no connections");
    }
    return sandbox;
}

PGconn *
hf_test_sandbox_connect(const struct hf_sandbox *sandbox, const char *database)
{
    const char *const names[] = {"host", "port", "user", "dbname", "options", NULL};
    const char *const values[] = {
        hf_sandbox_socket_path(sandbox),    "5432", "postgres", database == NULL ? "postgres" : database,
        hf_postgres_connection_options(15), NULL};
    PGconn *conn = PQconnectdbParams(names, values, 0);
    if (PQstatus(conn) != CONNECTION_OK) {
        print_message("# %s\n", PQerrorMessage(conn));
        PQfinish(conn);
        fail_msg("could not connect to the server in the sandbox");
    }
    return conn;
}

unsigned
hf_test_processes_of(uid_t uid)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc");
    for (const struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[300], state = 'Z';
        struct stat info;
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || fstatat(dirfd(dir), entry->d_name, &info, 0) != 0)
            continue;
        snprintf(path, sizeof path, "/proc/%s/status", entry->d_name);
        FILE *file = fopen(path, "re"); // the folder of a process that is not dumpable belongs to root: read its uid
        unsigned real = 0;
        char line[256];
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            (void)sscanf(line, "State: %c", &state);
            (void)sscanf(line, "Uid: %u", &real);
        }
        if (file != NULL)
            fclose(file);
        count += real == uid && state != 'Z';
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

const char *
hf_test_run_folder(void)
{
    static const char *folder;
    if (folder == NULL) {
        hf_test_enter_own_groups();
        folder = hf_test_folder();
        if (chmod(folder, 0711) != 0)
            fail_msg("no folder for sockets: %s", strerror(errno));
    }
    return folder;
}

void
hf_test_nothing_is_left(void)
{
    char name[512] = "";
    for (int waited_ms = 0; waited_ms < GONE_WITHIN_MS; waited_ms += 10) {
        if (!find_process(name, sizeof name) && !find_folder(name, sizeof name) && !find_mount(name, sizeof name) &&
            !hf_test_find_left_group(name, sizeof name))
            return;
        poll(NULL, 0, 10);
    }
    fail_msg("left behind: %s", name);
}

static bool
find_process(char *name, size_t size)
{
    unsigned count = geteuid() == 0 ? hf_test_processes_of(hf_test_sandbox_uid()) : 0;
    snprintf(name, size, "%u processes", count);
    return count > 0;
}

static bool
find_folder(char *name, size_t size)
{
    struct hf_error err;
    bool empty;
    hf_assert_ok(hf_dir_is_empty(hf_test_run_folder(), &empty, &err), &err);
    snprintf(name, size, "something in %s", hf_test_run_folder());
    return !empty;
}

static bool
find_mount(char *name, size_t size)
{
    char line[4096];
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strstr(line, "tmpfs sandbox ") != NULL || strstr(line, hf_test_run_folder()) != NULL;
    if (file != NULL)
        fclose(file);
    if (found)
        snprintf(name, size, "the mount %.400s", line);
    return found;
}

#include "tests/support/cluster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define MOST_CLUSTERS    32
#define START_TIMEOUT_MS 60000
#define STOP_TIMEOUT_MS  60000
#define TOOL_TIMEOUT_MS  300000

static const char default_hba[] = "local all all trust\n"
                                  "local replication all trust\n"
                                  "host all all 127.0.0.1/32 trust\n"
                                  "host replication all 127.0.0.1/32 trust\n";

static const char default_settings[] =
    "listen_addresses = ''\n"
    "wal_level = replica\n"
    "max_wal_senders = 10\n"
    "max_replication_slots = 10\n"
    "max_connections = 40\n"
    "shared_buffers = 32MB\n"
    "dynamic_shared_memory_type = mmap\n" // in its folder: nothing is left in /dev/shm
    "fsync = off\n"
    "logging_collector = off\n"
    "log_destination = stderr\n"
    "timezone = 'UTC'\n";

static struct hf_test_cluster *clusters[MOST_CLUSTERS];
static size_t cluster_count;
static pid_t owner;

static void stop_all(void);
static void compile_locale(struct hf_test_cluster *cluster, const char *locale);
static void run_initdb(struct hf_test_cluster *cluster, const struct hf_test_cluster_options *options);
static void write_settings(struct hf_test_cluster *cluster, const struct hf_test_cluster_options *options);
static unsigned free_port(void);
static void start_server(struct hf_test_cluster *cluster);
static void wait_until_ready(struct hf_test_cluster *cluster);
static void append(const char *path, const char *text);
static int run(const struct hf_test_cluster *cluster, const char *const *argv, struct hf_buf *output,
               struct hf_buf *errors);
static void give_to_server(const char *path, mode_t mode);
static void fill_environment(const struct hf_test_cluster *cluster, char text[8][160], const char *environment[9]);

struct hf_test_cluster *
hf_test_cluster_start(const struct hf_test_cluster_options *options)
{
    if (owner == 0) {
        owner = getpid();
        atexit(stop_all);
    }
    if (cluster_count == MOST_CLUSTERS)
        fail_msg("more than %d clusters in one test program", MOST_CLUSTERS);
    struct hf_test_cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL)
        fail_msg("out of memory for a cluster");
    clusters[cluster_count++] = cluster;

    const char *locale = options->locale == NULL ? "C.UTF-8" : options->locale;
    cluster->server = HF_PROCESS_NONE;
    cluster->version = options->version == 0 ? 15 : options->version;
    cluster->port = free_port();
    snprintf(cluster->password, sizeof cluster->password, "%s", options->password == NULL ? "" : options->password);
    snprintf(cluster->folder, sizeof cluster->folder, "%s", hf_test_folder());
    snprintf(cluster->data, sizeof cluster->data, "%s/data", cluster->folder);
    snprintf(cluster->socket, sizeof cluster->socket, "%.50s/socket", cluster->folder);
    snprintf(cluster->log, sizeof cluster->log, "%s/server.log", cluster->folder);
    snprintf(cluster->bin, sizeof cluster->bin, "/usr/lib/postgresql/%u/bin", cluster->version);
    give_to_server(cluster->folder, 0755);
    if (mkdir(cluster->socket, 0755) != 0)
        fail_msg("no folder for the socket: %s", strerror(errno));
    give_to_server(cluster->socket, 0755);

    compile_locale(cluster, locale);
    run_initdb(cluster, options);
    write_settings(cluster, options);
    hf_test_cluster_resume(cluster);
    return cluster;
}

void
hf_test_cluster_stop(struct hf_test_cluster *cluster, int signal)
{
    if (cluster->server.pid == -1)
        return;
    bool ended = false;
    int status;
    struct hf_error err;
    hf_process_signal(&cluster->server, signal);
    hf_assert_ok(hf_process_wait(&cluster->server, STOP_TIMEOUT_MS, &ended, &status, &err), &err);
    if (!ended)
        hf_process_kill(&cluster->server);
    cluster->server = HF_PROCESS_NONE;
    if (!ended)
        fail_msg("the server in %s did not stop", cluster->folder);
}

void
hf_test_cluster_resume(struct hf_test_cluster *cluster)
{
    start_server(cluster);
    wait_until_ready(cluster);
}

void
hf_test_cluster_set(struct hf_test_cluster *cluster, const char *line)
{
    char path[128];
    snprintf(path, sizeof path, "%s/postgresql.conf", cluster->data);
    append(path, line);
    append(path, "\n");
}

void
hf_test_cluster_reload(struct hf_test_cluster *cluster)
{
    assert_true(hf_process_signal(&cluster->server, SIGHUP));
}

PGconn *
hf_test_cluster_connect(const struct hf_test_cluster *cluster, const char *database)
{
    char port[16];
    snprintf(port, sizeof port, "%u", cluster->port);
    const char *const names[] = {"host", "port", "user", "dbname", "password", NULL};
    const char *const values[] = {cluster->socket,
                                  port,
                                  "postgres",
                                  database == NULL ? "postgres" : database,
                                  cluster->password[0] == '\0' ? NULL : cluster->password,
                                  NULL};
    PGconn *conn = PQconnectdbParams(names, values, 0);
    if (PQstatus(conn) != CONNECTION_OK) {
        print_message("# %s\n", PQerrorMessage(conn));
        PQfinish(conn);
        fail_msg("could not connect to the cluster in %s", cluster->folder);
    }
    return conn;
}

const char *
hf_test_cluster_conninfo(const struct hf_test_cluster *cluster, const char *more)
{
    static char text[4][512]; // a test seldom holds more than two at once
    static unsigned next;
    char *at = text[next++ % HF_LENGTH(text)];
    snprintf(at, sizeof text[0], "host=%s port=%u user=postgres dbname=postgres%s%s %s", cluster->socket, cluster->port,
             cluster->password[0] == '\0' ? "" : " password=", cluster->password, more == NULL ? "" : more);
    return at;
}

void
hf_test_sql(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
}

const char *
hf_test_sql_text(PGconn *conn, const char *sql)
{
    static char cell[4096];
    PGresult *result = PQexec(conn, sql);
    bool fine = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0;
    snprintf(cell, sizeof cell, "%s", fine ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    if (!fine)
        fail_msg("%s: no row came back: %s", sql, PQerrorMessage(conn));
    return cell;
}

int
hf_test_cluster_run(const struct hf_test_cluster *cluster, const char *const *argv, struct hf_buf *output,
                    struct hf_buf *errors)
{
    return run(cluster, argv, output, errors);
}

uid_t
hf_test_server_uid(void)
{
    if (geteuid() != 0)
        return geteuid();
    const struct passwd *account = getpwnam("postgres");
    if (account == NULL)
        fail_msg("this host has no user postgres");
    return account->pw_uid;
}

gid_t
hf_test_server_gid(void)
{
    if (geteuid() != 0)
        return getegid();
    const struct passwd *account = getpwnam("postgres");
    if (account == NULL)
        fail_msg("this host has no user postgres");
    return account->pw_gid;
}

/* Before the test's folders go (atexit runs backwards); a child of the test that exits leaves the servers alone. */
static void
stop_all(void)
{
    if (getpid() != owner)
        return;
    for (size_t i = 0; i < cluster_count; i++) {
        if (clusters[i]->server.pid != -1) {
            bool ended;
            int status;
            // SIGQUIT lets the postmaster take its children and its shared memory along, which SIGKILL does not.
            hf_process_signal(&clusters[i]->server, SIGQUIT);
            if (!hf_process_wait(&clusters[i]->server, 10000, &ended, &status, NULL) || !ended)
                hf_process_kill(&clusters[i]->server);
        }
        free(clusters[i]);
    }
    cluster_count = 0;
}

/* Debian's small systems have C.UTF-8 only; glibc finds others through LOCPATH. */
static void
compile_locale(struct hf_test_cluster *cluster, const char *locale)
{
    const char *dot = strchr(locale, '.');
    if (strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0 || strncmp(locale, "C.", 2) == 0)
        return;
    char target[160], language[32];
    snprintf(cluster->locales, sizeof cluster->locales, "%s/locales", cluster->folder);
    if (mkdir(cluster->locales, 0755) != 0)
        fail_msg("no folder for locales: %s", strerror(errno));
    give_to_server(cluster->locales, 0755);
    snprintf(target, sizeof target, "%s/%s", cluster->locales, locale);
    snprintf(language, sizeof language, "%.*s", dot == NULL ? 31 : (int)(dot - locale), locale);

    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(64 * HF_KIB);
    const char *const argv[] = {"/usr/bin/localedef", "-i", language, "-f", "UTF-8", target, NULL};
    if (run(cluster, argv, NULL, &errors) != 0)
        fail_msg("could not compile locale %s: %s", locale, hf_buf_text(&errors));
}

static void
run_initdb(struct hf_test_cluster *cluster, const struct hf_test_cluster_options *options)
{
    char locale[64], pwfile[128];
    const char *argv[32];
    size_t n = 0;

    snprintf(locale, sizeof locale, "--locale=%s", options->locale == NULL ? "C.UTF-8" : options->locale);
    argv[n++] = "initdb";
    argv[n++] = "-D";
    argv[n++] = cluster->data;
    argv[n++] = "-U";
    argv[n++] = "postgres";
    argv[n++] = "--no-sync";
    argv[n++] = "--auth=trust";
    argv[n++] = "--encoding=UTF8";
    argv[n++] = locale;
    if (options->checksums)
        argv[n++] = "--data-checksums";
    if (options->password != NULL) {
        char path[112];
        snprintf(path, sizeof path, "%s/password", cluster->folder);
        append(path, options->password);
        give_to_server(path, 0600);
        snprintf(pwfile, sizeof pwfile, "--pwfile=%s", path);
        argv[n++] = pwfile;
    }
    for (size_t i = 0; options->initdb != NULL && options->initdb[i] != NULL; i++) {
        assert_true(n + 1 < HF_LENGTH(argv));
        argv[n++] = options->initdb[i];
    }
    argv[n] = NULL;

    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(64 * HF_KIB);
    if (run(cluster, argv, NULL, &errors) != 0)
        fail_msg("initdb: %s", hf_buf_text(&errors));
}

static void
write_settings(struct hf_test_cluster *cluster, const struct hf_test_cluster_options *options)
{
    char line[256], hba[128];
    hf_test_cluster_set(cluster, default_settings);
    snprintf(line, sizeof line, "port = %u\nunix_socket_directories = '%s'\n%s", cluster->port, cluster->socket,
             options->tcp ? "listen_addresses = '127.0.0.1'" : "");
    hf_test_cluster_set(cluster, line);
    for (size_t i = 0; options->settings != NULL && options->settings[i] != NULL; i++)
        hf_test_cluster_set(cluster, options->settings[i]);

    snprintf(hba, sizeof hba, "%s/pg_hba.conf", cluster->data);
    if (truncate(hba, 0) != 0)
        fail_msg("could not empty %s: %s", hba, strerror(errno));
    append(hba, options->hba == NULL ? default_hba : options->hba);
}

/* Another process could take it before the server does; the kernel hands them out in turn, so that is rare. */
static unsigned
free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    _cleanup_(hf_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail_msg("no free port: %s", strerror(errno));
    return ntohs(address.sin_port);
}

static void
start_server(struct hf_test_cluster *cluster)
{
    char server[96], text[8][160];
    const char *environment[9];
    struct hf_error err;
    _cleanup_(hf_closep) int log = open(cluster->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        fail_msg("no log file for the server: %s", strerror(errno));

    snprintf(server, sizeof server, "%s/postgres", cluster->bin);
    fill_environment(cluster, text, environment);
    const struct hf_process_options options = {
        .argv = (const char *const[]){server, "-D", cluster->data, NULL},
        .environment = environment,
        .directory = cluster->folder,
        .stdin_fd = -1,
        .stdout_fd = log,
        .stderr_fd = log,
        .uid = hf_test_server_uid(),
        .gid = hf_test_server_gid(),
        .become = geteuid() == 0,
    };
    hf_assert_ok(hf_process_start(&options, &cluster->server, &err), &err);
}

/* A killed server's children hold its shared memory for a moment: until they are gone, it is started again. */
static void
wait_until_ready(struct hf_test_cluster *cluster)
{
    char port[16];
    snprintf(port, sizeof port, "%u", cluster->port);
    const char *const names[] = {"host", "port", "user", "dbname", NULL};
    const char *const values[] = {cluster->socket, port, "postgres", "postgres", NULL};

    for (int waited_ms = 0; waited_ms < START_TIMEOUT_MS; waited_ms += 20) {
        bool ended = false;
        int status;
        struct hf_error err;
        if (PQpingParams(names, values, 0) == PQPING_OK)
            return;
        hf_assert_ok(hf_process_wait(&cluster->server, 20, &ended, &status, &err), &err);
        if (ended) {
            _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
            cluster->server = HF_PROCESS_NONE;
            (void)!hf_file_read(cluster->log, &log, NULL);
            if (strstr(hf_buf_text(&log), "pre-existing shared memory block") != NULL) {
                start_server(cluster);
                continue;
            }
            fail_msg("the server ended at its start: %s", hf_buf_text(&log));
        }
    }
    fail_msg("the server in %s took no connection within %d ms", cluster->folder, START_TIMEOUT_MS);
}

static void
append(const char *path, const char *text)
{
    struct hf_error err;
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        fail_msg("could not open %s: %s", path, strerror(errno));
    hf_assert_ok(hf_write_all(fd, text, strlen(text), path, &err), &err);
}

static int
run(const struct hf_test_cluster *cluster, const char *const *argv, struct hf_buf *output, struct hf_buf *errors)
{
    char program[160], text[8][160];
    const char *environment[9], *arguments[64];
    size_t n = 0;
    for (; argv[n] != NULL; n++) {
        assert_true(n + 1 < HF_LENGTH(arguments));
        arguments[n] = argv[n];
    }
    arguments[n] = NULL;
    if (argv[0][0] != '/') {
        snprintf(program, sizeof program, "%s/%s", cluster->bin, argv[0]);
        arguments[0] = program;
    }
    fill_environment(cluster, text, environment);

    const struct hf_process_options options = {
        .argv = arguments,
        .environment = environment,
        .directory = cluster->folder,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .uid = hf_test_server_uid(),
        .gid = hf_test_server_gid(),
        .become = geteuid() == 0,
    };
    int status = -1;
    struct hf_error err;
    hf_assert_ok(hf_process_run(&options, NULL, 0, TOOL_TIMEOUT_MS, output, errors, &status, &err), &err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void
give_to_server(const char *path, mode_t mode)
{
    if (chmod(path, mode) != 0 || (geteuid() == 0 && chown(path, hf_test_server_uid(), hf_test_server_gid()) != 0))
        fail_msg("could not give %s to the server: %s", path, strerror(errno));
}

static void
fill_environment(const struct hf_test_cluster *cluster, char text[8][160], const char *environment[9])
{
    size_t n = 0;
    snprintf(text[n++], sizeof text[0], "PATH=%s:/usr/bin:/bin", cluster->bin);
    snprintf(text[n++], sizeof text[0], "LANG=C.UTF-8");
    snprintf(text[n++], sizeof text[0], "PGHOST=%s", cluster->socket);
    snprintf(text[n++], sizeof text[0], "PGPORT=%u", cluster->port);
    snprintf(text[n++], sizeof text[0], "PGUSER=postgres");
    snprintf(text[n++], sizeof text[0], "PGDATABASE=postgres");
    if (cluster->password[0] != '\0')
        snprintf(text[n++], sizeof text[0], "PGPASSWORD=%s", cluster->password);
    if (cluster->locales[0] != '\0')
        snprintf(text[n++], sizeof text[0], "LOCPATH=%s", cluster->locales);
    for (size_t i = 0; i < n; i++)
        environment[i] = text[i];
    environment[n] = NULL;
}

void
hf_test_cluster_encrypt(struct hf_test_cluster *cluster, char *certificate, size_t size)
{
    char key[160];
    struct hf_error err;
    int status;

    snprintf(certificate, size, "%s/server.crt", cluster->folder);
    snprintf(key, sizeof key, "%s/server.key", cluster->folder);
    const char *const argv[] = {"openssl",
                                "req",
                                "-x509",
                                "-newkey",
                                "ec",
                                "-pkeyopt",
                                "ec_paramgen_curve:P-256",
                                "-nodes",
                                "-subj",
                                "/CN=localhost",
                                "-days",
                                "2",
                                "-keyout",
                                key,
                                "-out",
                                certificate,
                                NULL};
    const struct hf_process_options options = {.argv = argv,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .become = geteuid() == 0,
                                               .uid = hf_test_server_uid(),
                                               .gid = hf_test_server_gid()};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 30000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    char line[400];
    snprintf(line, sizeof line, "ssl = on\nssl_cert_file = '%s'\nssl_key_file = '%s'", certificate, key);
    hf_test_cluster_set(cluster, line);
    hf_test_cluster_stop(cluster, SIGINT);
    hf_test_cluster_resume(cluster);
}

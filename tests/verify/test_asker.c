/*
 * The process that asks a copy holds no key of the worker that told it to ask, and cannot reach the repository; and what
 * the two say to each other is what wire.h says, whoever of them has been taken over.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "tests/support/test.h"
#include "tests/support/vault.h"
#include "base/file.h"
#include "server/keys/keys.h"
#include "server/verify/asker/asker.h"

#define PORT       5432
#define ASKED_MOST 64
#define PIECE      (1 * HF_MIB)

/* A server that greets, and then waits until the test has looked. */
struct server {
    char folder[128];
    int listener, connection;
    pthread_t thread;
};

static struct test_vault vault;
static bool vault_made;
static struct server server;
static struct hf_asker *asker;
static struct hf_asker_conn *conn;
static pid_t asking[ASKED_MOST]; // the processes of holdfast-ask below us
static size_t asking_count;

static void set_up(void);
static void start_server(void);
static void *greet(void *context);
static size_t find_processes(pid_t *ret);
static bool is_below_us(pid_t pid);
static bool holds(pid_t pid, const uint8_t *key, size_t length);
static uid_t uid_of(pid_t pid);

HF_TEST(the_process_that_asks_holds_no_key_of_the_vault_and_the_worker_does)
{
    set_up();
    const struct hf_vault_keys *keys = hf_vault_keys(vault.vault);
    const struct hf_secret *root = hf_repository_root_key(vault.repository);
    const struct {
        const uint8_t *bytes;
        size_t length;
    } secrets[] = {{keys->epochs[0].data_secret.bytes, keys->epochs[0].data_secret.length},
                   {keys->tag_key.bytes, keys->tag_key.length},
                   {keys->map_key.bytes, keys->map_key.length},
                   {keys->record_key.bytes, keys->record_key.length},
                   {root->bytes, root->length},
                   {vault.signing_secret, 32}};
    assert_true(asking_count >= 2); // the one that listens, and the one of our connection
    for (size_t i = 0; i < HF_LENGTH(secrets); i++) {
        assert_true(holds(getpid(), secrets[i].bytes, secrets[i].length)); // so that the search finds what there is
        for (size_t at = 0; at < asking_count; at++)
            assert_false(holds(asking[at], secrets[i].bytes, secrets[i].length));
    }
    static const uint8_t asked[] = "asked_of_the_copy"; // it does read the memory of those
    bool found = false;
    for (size_t at = 0; at < asking_count; at++)
        found = found || holds(asking[at], asked, sizeof asked - 1);
    assert_true(found);
}

HF_TEST(it_cannot_open_the_repository_nor_see_it)
{
    set_up();
    for (size_t at = 0; at < asking_count; at++) {
        char path[1024], target[1024];
        struct stat info;
        snprintf(path, sizeof path, "/proc/%d/root%s", asking[at], vault.place);
        assert_int_equal(lstat(path, &info), -1);
        snprintf(path, sizeof path, "/proc/%d/root/run/server", asking[at]);
        assert_int_equal(lstat(path, &info), 0); // the folder of the copy's socket
        snprintf(path, sizeof path, "/proc/%d/fd", asking[at]);
        DIR *descriptors = opendir(path);
        assert_non_null(descriptors);
        for (const struct dirent *entry; (entry = readdir(descriptors)) != NULL;) {
            const ssize_t length = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target - 1);
            if (length < 0)
                continue;
            target[length] = '\0';
            if (strncmp(target, "socket:", 7) != 0 && strncmp(target, "pipe:", 5) != 0)
                fail_msg("it holds %s", target);
        }
        closedir(descriptors);
    }
}

HF_TEST(with_root_it_has_a_uid_that_is_neither_roots_nor_the_copys)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can give it another uid");
    set_up();
    for (size_t at = 0; at < asking_count; at++) {
        assert_int_not_equal(uid_of(asking[at]), 0);
        assert_int_not_equal(uid_of(asking[at]), hf_test_sandbox_uid());
    }
}

HF_TEST(its_report_names_the_walls)
{
    set_up();
    _cleanup_(hf_json_freep) json_t *report = NULL;
    struct hf_error err;
    hf_assert_ok(hf_asker_report(asker, &report, &err), &err);
    const char *level = json_string_value(json_object_get(report, "level"));
    assert_true(strcmp(level, geteuid() == 0 ? "L3" : "L2") == 0 || strcmp(level, "L3r") == 0);
    assert_string_equal(json_string_value(json_object_get(report, "engine")), "ask");
}

/* The last one that needs it. */
HF_TEST(when_it_is_killed_those_who_wait_hear_that_it_is_gone)
{
    set_up();
    const struct hf_ask_query query = {.statement = "SELECT 1"};
    struct hf_ask_refusal refusal;
    hf_asker_kill(asker);
    assert_false(hf_asker_ask(conn, &query, NULL, NULL, &refusal));
    assert_true(refusal.broken);
    assert_false(hf_asker_conn_is_open(conn));
    assert_string_equal(refusal.message, "the process that asks the copy is gone");
    assert_false(hf_asker_ask(conn, &query, NULL, NULL, &refusal));
    hf_asker_conn_freep(&conn);
    hf_asker_freep(&asker);
    shutdown(server.connection, SHUT_RDWR);
    close(server.connection);
    close(server.listener);
    test_vault_done(&vault);
}

/* ------------------------------------------------------------------------- what crosses between the two */

HF_TEST(every_body_reads_back_as_it_was_written)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_error err;
    const struct hf_ask_query asked = {.statement = "SELECT $1, $2", .parameters = {"a", NULL}, .parameter_count = 2};
    struct hf_ask_query query;
    hf_assert_ok(hf_ask_write_query(&asked, &body, &err), &err);
    hf_assert_ok(hf_ask_read_query(&body, &query, &err), &err);
    assert_string_equal(query.statement, asked.statement);
    assert_int_equal(query.parameter_count, 2);
    assert_string_equal(query.parameters[0], "a");
    assert_null(query.parameters[1]);

    hf_buf_clear(&body);
    const struct hf_ask_cells row = {.count = 3, .values = {"x\0y", NULL, ""}, .lengths = {3, 0, 0}};
    struct hf_ask_cells cells;
    hf_assert_ok(hf_ask_write_row(&row, &body, &err), &err);
    hf_assert_ok(hf_ask_read_row(&body, &cells, &err), &err);
    assert_int_equal(cells.count, 3);
    assert_int_equal(cells.lengths[0], 3);
    assert_memory_equal(cells.values[0], "x\0y", 4);
    assert_null(cells.values[1]);
    assert_string_equal(cells.values[2], "");

    hf_buf_clear(&body);
    const struct hf_ask_refusal said = {.code = 7, .over_time = true, .state = "XX001", .message = "why"};
    struct hf_ask_refusal heard;
    hf_assert_ok(hf_ask_write_refusal(&said, &body, &err), &err);
    hf_assert_ok(hf_ask_read_refusal(&body, &heard, &err), &err);
    assert_int_equal(heard.code, 7);
    assert_true(heard.over_time && !heard.broken);
    assert_string_equal(heard.state, "XX001");
    assert_string_equal(heard.message, "why");
}

HF_TEST(a_body_that_is_cut_or_longer_than_it_says_is_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_KIB);
    struct hf_error err;
    struct hf_ask_cells cells;
    const struct hf_ask_cells row = {.count = 2, .values = {"abc", "de"}, .lengths = {3, 2}};
    hf_assert_ok(hf_ask_write_row(&row, &body, &err), &err);
    for (size_t length = 0; length < body.length; length++) {
        struct hf_buf cut = body;
        cut.length = length;
        assert_false(hf_ask_read_row(&cut, &cells, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
    hf_assert_ok(hf_buf_put_u8(&body, 0, &err), &err);
    assert_false(hf_ask_read_row(&body, &cells, &err));
}

HF_TEST(more_cells_than_a_row_may_have_and_texts_without_their_end_are_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_KIB);
    struct hf_error err;
    struct hf_ask_cells cells;
    struct hf_ask_refusal refusal;
    hf_assert_ok(hf_buf_put_u16(&body, HF_ASK_CELLS_MOST + 1, &err), &err);
    for (int i = 0; i <= HF_ASK_CELLS_MOST; i++)
        hf_assert_ok(hf_buf_put_u32(&body, UINT32_MAX, &err), &err);
    assert_false(hf_ask_read_row(&body, &cells, &err));

    hf_buf_clear(&body);
    hf_assert_ok(hf_buf_add(&body, "\1\0\1\0\0\0ab", 8, &err), &err); // "a", and no zero behind it
    assert_false(hf_ask_read_row(&body, &cells, &err));

    hf_buf_clear(&body);
    hf_assert_ok(hf_buf_add(&body, "\0\0\0\0\0\6\0\0\0SQLSTA\0\0\0\0\0\0", 21, &err), &err); // too long a state
    assert_false(hf_ask_read_refusal(&body, &refusal, &err));
    hf_buf_clear(&body);
    hf_assert_ok(hf_buf_add(&body, "\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0", 15, &err), &err); // a flag nobody knows
    assert_false(hf_ask_read_refusal(&body, &refusal, &err));
}

HF_TEST(a_frame_over_its_limit_is_refused_before_it_is_read)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_error err;
    uint8_t kind;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(write(ends[0], "R\xff\xff\xff\xff", 5), 5);
    assert_false(hf_ask_receive(ends[1], &body, &kind, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    close(ends[0]);
    assert_false(hf_ask_receive(ends[1], &body, &kind, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    close(ends[1]);
}

/* Once, for all tests that look at it. */
static void
set_up(void)
{
    if (vault_made)
        return;
    struct hf_ask_refusal refusal;
    struct hf_error err;
    test_vault_make(&vault, hf_test_folder());
    start_server();
    const struct hf_sandbox_spec copy = {.folder = hf_test_run_folder(),
                                         .host_uid = hf_test_sandbox_uid(),
                                         .host_gid = hf_test_sandbox_gid(),
                                         .limits = {.wall_ms = 120000}};
    hf_assert_ok(hf_asker_start(&copy, server.folder, &asker, &err), &err);
    const struct hf_ask_postgres target = {
        .port = PORT, .timeout_s = 30, .user = "postgres", .database = "asked_of_the_copy", .options = ""};
    if (!hf_asker_connect_postgres(asker, &target, &conn, &refusal))
        fail_msg("it did not connect: %s", refusal.message);
    assert_int_equal(hf_asker_conn_version(conn), 150000);
    pthread_join(server.thread, NULL);
    asking_count = find_processes(asking);
    vault_made = true;
}

static void
start_server(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(server.folder, sizeof server.folder, "%s", hf_test_folder());
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/.s.PGSQL.%d", server.folder, PORT);
    server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(chmod(server.folder, 0711), 0);
    assert_int_equal(chmod(address.sun_path, 0777), 0);
    assert_int_equal(listen(server.listener, 1), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, greet, NULL), 0);
}

static void *
greet(void *context)
{
    static const char greeting[] = "R\0\0\0\10\0\0\0\0S\0\0\0\30server_version\00015.0\0Z\0\0\0\5I";
    char packet[1024];
    (void)context;
    server.connection = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
    (void)!read(server.connection, packet, sizeof packet);
    (void)!write(server.connection, greeting, sizeof greeting - 1);
    return NULL;
}

static size_t
find_processes(pid_t *ret)
{
    size_t count = 0;
    DIR *all = opendir("/proc");
    for (const struct dirent *entry; (entry = readdir(all)) != NULL && count < ASKED_MOST;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/%.200s/comm", entry->d_name);
        const int fd = isdigit((unsigned char)entry->d_name[0]) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0)
            continue;
        const pid_t pid = (pid_t)atoi(entry->d_name);
        if (read(fd, name, sizeof name - 1) > 0 && strcmp(name, "holdfast-ask\n") == 0 && is_below_us(pid))
            ret[count++] = pid;
        close(fd);
    }
    closedir(all);
    return count;
}

/* Those of tests beside us are not. */
static bool
is_below_us(pid_t pid)
{
    while (pid > 1 && pid != getpid()) {
        char path[64], line[256];
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        FILE *status = fopen(path, "re");
        while (status != NULL && fgets(line, sizeof line, status) != NULL && sscanf(line, "PPid: %d", &parent) != 1)
            ;
        if (status != NULL)
            fclose(status);
        pid = parent;
    }
    return pid == getpid();
}

/* Looks through all of a process' memory that can be read. */
static bool
holds(pid_t pid, const uint8_t *key, size_t length)
{
    char path[64], line[512];
    bool found = false, read_any = false;
    _cleanup_(hf_freep) uint8_t *piece = malloc(PIECE + 64);
    uint8_t *wanted = malloc(length);
    for (size_t i = 0; i < length; i++)
        wanted[i] = (uint8_t)~key[i]; // so that what we look for is not one more copy of it
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    const int memory = open(path, O_RDONLY | O_CLOEXEC);
    if (maps == NULL || memory < 0)
        fail_msg("the memory of process %d cannot be read", pid);
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx", &begin, &end) != 2)
            continue;
        for (unsigned long at = begin; at < end && !found; at += PIECE) {
            const size_t here = end - at < PIECE + 64 ? end - at : PIECE + 64;
            const unsigned long own = (unsigned long)(uintptr_t)piece;
            if (pid == getpid() && at < own + PIECE + 64 && own < at + here)
                continue; // what we read into
            const ssize_t got = pread(memory, piece, here, (off_t)at);
            read_any = read_any || got > 0;
            for (ssize_t i = 0; i + (ssize_t)length <= got && !found; i++) {
                size_t same = 0;
                while (same < length && (piece[i + (ssize_t)same] ^ wanted[same]) == 0xff)
                    same++;
                found = same == length;
            }
        }
    }
    fclose(maps);
    close(memory);
    free(wanted);
    assert_true(read_any);
    return found;
}

static uid_t
uid_of(pid_t pid)
{
    char path[64], line[256];
    unsigned uid = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "re");
    assert_non_null(status);
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "Uid: %u", &uid) != 1)
        ;
    fclose(status);
    return uid;
}

/*
 * A ledger of commits that a semi-synchronous source (AFTER_SYNC) told its clients are safe, while server, receiver and
 * both are killed at random: each of them must be in what the archive alone gives back.  CYCLES and SEED may be set.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/stream/binlog_receiving.h"
#include "tests/support/test.h"

#define OPTIONS                                                                                                        \
    "--rpl-semi-sync-master-enabled=ON --rpl-semi-sync-master-wait-point=AFTER_SYNC "                                  \
    "--rpl-semi-sync-master-timeout=600000 --rpl-semi-sync-master-wait-no-slave=ON --sync-binlog=1 "                   \
    "--max-binlog-size=65536"
#define CYCLES_USUAL  20
#define CLIENTS       2
#define COMMITS_LEAST 6 // of a cycle, before something is killed
#define COMMITS_MOST  200000
#define WAIT_MS       60000

struct client {
    pthread_t thread;
    unsigned number;
    uint32_t next; // ids are number + CLIENTS * n
};

static struct mariadb_server source, copy;
static struct test_vault vault;
static struct binlog_receiving receiving;
static pid_t keeper; // of the receiver
static int keeper_orders;
static atomic_bool stop, away; // away: the server is being killed and started
static uint32_t acknowledged[COMMITS_MOST];
static _Atomic uint32_t count;
static _Atomic uint64_t newest; // sequence of the newest GTID that was acknowledged

static void *
commit(void *context)
{
    struct client *client = context;
    char sql[128];
    MYSQL *conn = NULL;
    while (!atomic_load(&stop)) {
        if (conn == NULL && (atomic_load(&away) || (conn = mariadb_try_open(&source)) == NULL)) {
            usleep(5000);
            continue;
        }
        const uint32_t id = client->next;
        client->next += CLIENTS;
        snprintf(sql, sizeof sql, "INSERT INTO clinic.ledger VALUES (%u, REPEAT('l', 100))", id);
        struct hf_gtid gtid;
        if (mariadb_try_sql(conn, sql)) {
            // Told: from here on it must not be lost.  Its GTID is asked for only for the look in between.
            const uint32_t at = atomic_fetch_add(&count, 1);
            if (at < COMMITS_MOST)
                acknowledged[at] = id;
            MYSQL_RES *result = mysql_query(conn, "SELECT @@last_gtid") == 0 ? mysql_store_result(conn) : NULL;
            MYSQL_ROW row = result == NULL ? NULL : mysql_fetch_row(result);
            if (row != NULL && hf_gtid_parse(HF_GTID_MARIADB, row[0], &gtid, NULL)) {
                uint64_t known = atomic_load(&newest);
                while (known < gtid.sequence && !atomic_compare_exchange_weak(&newest, &known, gtid.sequence))
                    ;
            }
            if (result != NULL)
                mysql_free_result(result);
        } else {
            mysql_close(conn);
            conn = NULL;
        }
    }
    if (conn != NULL)
        mysql_close(conn);
    return NULL;
}

/*
 * Starts ('s') and kills ('k') the receiver, one letter and its answer at a time. It was forked before this program had
 * threads: a child of a process with threads may find a lock taken whose owner it does not have.
 */
static void
keep_receiver(int orders)
{
    pid_t receiver = -1;
    char order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(orders, &order, 1) == 1) {
        if (order == 'k') {
            kill(receiver, SIGKILL);
            waitpid(receiver, NULL, 0);
        } else if ((receiver = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            binlog_receiving_run(&receiving);
            dprintf(2, "# the receiver ended: %s\n", receiving.why.message);
            _exit(1);
        }
        if (receiver < 0 || write(orders, &order, 1) != 1)
            _exit(1);
    }
    _exit(0);
}

static void
make_keeper(void)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fflush(NULL);
    keeper = fork();
    assert_true(keeper >= 0);
    if (keeper == 0) {
        close(ends[1]);
        keep_receiver(ends[0]);
    }
    close(ends[0]);
    keeper_orders = ends[1];
}

static void
tell_keeper(char order)
{
    char answer;
    assert_int_equal(write(keeper_orders, &order, 1), 1);
    assert_int_equal(read(keeper_orders, &answer, 1), 1);
}

static void
start_receiver(void)
{
    tell_keeper('s');
}

static void
kill_receiver(void)
{
    tell_keeper('k');
}

/* What the archive alone has, with server and receiver dead. */
static void
look_into_archive(unsigned cycle)
{
    static struct hf_timeline_path path;
    const struct hf_binlog_target target = {.stop = HF_BINLOG_TO_END};
    const struct hf_gtid_set nothing = {0};
    struct hf_binlog_plan plan;
    struct hf_error err;
    struct hf_archive *archive = binlog_archive(&receiving, &path);
    const uint64_t wanted = atomic_load(&newest);
    hf_assert_ok(hf_binlog_plan_make(archive, &path, &nothing, &target, &plan, &err), &err);
    const struct hf_gtid *last = hf_gtid_set_domain(&plan.gtids, 0);
    if (last == NULL || last->sequence < wanted)
        fail_msg("cycle %u: transaction %llu was acknowledged, the archive ends with %llu", cycle,
                 (unsigned long long)wanted, last == NULL ? 0ULL : (unsigned long long)last->sequence);
    hf_binlog_plan_done(&plan);
    hf_archive_freep(&archive);
}

static int
by_number(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Every acknowledged row is in the copy; it may have more: what was logged, and the client never heard of. */
static void
compare_copy(uint32_t told)
{
    struct hf_binlog_plan plan;
    uint32_t found = 0;
    mariadb_make(&copy, 92, "--skip-log-bin --sync-binlog=0 --innodb-flush-log-at-trx-commit=0");
    binlog_replay(&receiving, &copy, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    hf_binlog_plan_done(&plan);
    MYSQL *conn = mariadb_open(&copy);
    assert_int_equal(mysql_query(conn, "SELECT id FROM clinic.ledger ORDER BY id"), 0);
    MYSQL_RES *rows = mysql_store_result(conn);
    qsort(acknowledged, told, sizeof acknowledged[0], by_number);
    for (MYSQL_ROW row; found < told && (row = mysql_fetch_row(rows)) != NULL;) {
        const uint32_t id = (uint32_t)strtoul(row[0], NULL, 10);
        if (id > acknowledged[found])
            fail_msg("row %u was acknowledged and is lost", acknowledged[found]);
        found += id == acknowledged[found];
    }
    assert_int_equal(found, told);
    print_message("# %u commits acknowledged, %llu rows in the copy\n", told, (unsigned long long)mysql_num_rows(rows));
    mysql_free_result(rows);
    mysql_close(conn);
    mariadb_kill(&copy);
}

HF_TEST(no_commit_that_was_acknowledged_is_lost_whoever_is_killed)
{
    struct client clients[CLIENTS];
    const char *asked = getenv("CYCLES"), *seeded = getenv("SEED");
    const unsigned cycles = asked != NULL ? (unsigned)atoi(asked) : CYCLES_USUAL;
    unsigned seed = seeded != NULL ? (unsigned)atoi(seeded) : (unsigned)hf_time_now_ms();
    unsigned kills[3] = {0};
    if (!mariadb_here())
        HF_TEST_SKIP("this host has no MariaDB server");
    print_message("# seed %u, %u cycles\n", seed, cycles);
    mariadb_make(&source, 91, OPTIONS);
    test_vault_make(&vault, hf_test_folder());
    binlog_receiving_init(&receiving, &vault, &source);
    make_keeper();
    start_receiver(); // before the first commit: it would wait
    MYSQL *conn = mariadb_open(&source);
    mariadb_sql(conn, "CREATE DATABASE clinic");
    mariadb_sql(conn, "CREATE TABLE clinic.ledger (id INT PRIMARY KEY, line VARCHAR(200)) ENGINE=InnoDB");
    mysql_close(conn);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.number = i, .next = i + 1};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, commit, &clients[i]), 0);
    }

    for (unsigned cycle = 0; cycle < cycles; cycle++) {
        const uint32_t before = atomic_load(&count);
        const int64_t since = hf_time_now_ms();
        while (atomic_load(&count) < before + COMMITS_LEAST) {
            if (hf_time_now_ms() - since > WAIT_MS)
                fail_msg("cycle %u: %u commits in %d s", cycle, atomic_load(&count) - before, WAIT_MS / 1000);
            usleep(1000);
        }
        usleep((useconds_t)(rand_r(&seed) % 60000));
        const unsigned who =
            (unsigned)rand_r(&seed) % 3; // the server, the receiver, or both: then only the archive is left
        kills[who]++;
        if (who != 0)
            kill_receiver();
        if (who != 1) {
            atomic_store(&away, true);
            mariadb_kill(&source);
        }
        if (who == 2)
            look_into_archive(cycle);
        if (who != 1) {
            mariadb_start(&source);
            atomic_store(&away, false);
        }
        if (who != 0)
            start_receiver();
    }
    // The end: both die, and what was told until then is what counts.
    kill_receiver();
    mariadb_kill(&source);
    atomic_store(&away, true);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    assert_true(atomic_load(&count) < COMMITS_MOST);
    print_message("# killed: server %u, receiver %u, both %u times\n", kills[0], kills[1], kills[2]);
    look_into_archive(cycles);
    compare_copy(atomic_load(&count));
    close(keeper_orders);
    waitpid(keeper, NULL, 0);
    test_vault_done(&vault);
}

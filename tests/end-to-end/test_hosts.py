#!/usr/bin/python3
"""test_hosts.py - a source that is a cluster: any node serves, one that was left behind is passed over, and after three
failovers every moment of all of it can be restored, exact to the commit.

RESTORES and SEED make it longer, and repeatable: tests/campaigns/moments.
"""
import os
import random
import signal
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Cluster, folder, free_port, wait_for  # noqa: E402
from moments import Daemon, Ledgered, utc  # noqa: E402
from tap import run, test  # noqa: E402

RESTORES = int(os.environ.get("RESTORES", "6"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1 << 31)
CHANCE = random.Random(SEED)
STREAMED = "max_slot_wal_keep_size = 1GB\nwal_keep_size = 0\nwal_log_hints = on\n"

print(f"# seed {SEED}, {RESTORES} restores")


def standby_of(primary, port, socket=None):
    """A new node of the cluster, following that primary; in the place of an old one perhaps."""
    place = folder("node")
    primary._own(place)
    data = os.path.join(place, "data")
    primary.run("pg_basebackup", "-D", data, "-R", "-X", "stream", "-h", primary.socket, "-p", str(primary.port), "-U", "postgres")
    node = Cluster.__new__(Cluster)
    node.binaries, node.folder, node.data = primary.binaries, place, data
    node.socket, node.port, node.process = socket or place, port, None
    node.configure(f"port = {port}\nunix_socket_directories = '{node.socket}'\n")
    node.start()
    return node


def follows(node, primary):
    wanted = int(primary.sql("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"))
    wait_for("the standby", lambda: node.sql(f"SELECT pg_last_wal_replay_lsn() >= '0/0'::pg_lsn + {wanted}") == "t", 60)


first = Cluster(STREAMED)
foreign = Cluster(STREAMED)
second = standby_of(first, port=free_port())
nodes = [first, second]
hosts = ",".join(node.socket for node in (foreign, first, second))
ports = ",".join(str(node.port) for node in (foreign, first, second))
clinic = Ledgered(first)
backups = []
daemon = None
spans = []  # per timeline: the rows that it alone has


def streaming_from(timeline):
    def check():
        now = (clinic.stream() or {}).get("now") or {}
        return now.get("connected") and now.get("timeline") == timeline
    wait_for(f"the stream on timeline {timeline}", check, 90)


@test
def a_foreign_node_is_passed_over_and_the_primary_is_taken():
    global daemon
    text = f"host={hosts} port={ports} user=postgres dbname=postgres"
    clinic.add(connection=first.connection())  # the database is known by this
    clinic.appliance.good("backup", "clinic")
    clinic.add("--replace", connection=text)
    daemon = Daemon(clinic.appliance)
    streaming_from(1)
    assert foreign.no_slots() and second.no_slots() and not first.no_slots()
    clinic.commit(20)
    backups.append(clinic.prove())
    clinic.commit(15)
    clinic.catch_up()


@test
def three_failovers_are_followed_in_the_middle_of_a_segment():
    primary, standby = first, second
    for timeline in (2, 3, 4):
        follows(standby, primary)
        at_switch = len(clinic.rows)
        primary.stop(signal.SIGINT)
        standby.sql("SELECT pg_promote()")
        clinic.server = standby
        clinic.commit(12)
        streaming_from(timeline)
        clinic.point(f"on timeline {timeline}")
        clinic.catch_up()
        spans.append((timeline, at_switch))
        backups.append(clinic.prove())
        clinic.commit(12)
        clinic.catch_up()
        # The old primary comes back as a standby of the new one, made anew in its place.
        old = primary
        primary = standby
        standby = standby_of(primary, old.port, old.socket)
        wait_for("only one slot", lambda: standby.no_slots() and not primary.no_slots(), 60)
    nodes[:] = [primary, standby]
    assert len(clinic.stream()["windows"]) == 1 and not clinic.status()["gaps"], clinic.stream()


@test
def a_node_that_was_left_behind_serves_neither_stream_nor_backup():
    """The newest primary goes, and one that never heard of its timeline is there alone."""
    primary, standby = nodes
    follows(standby, primary)
    standby.stop()
    primary.stop()
    standby.configure("primary_conninfo = ''\n")
    standby.start()
    standby.sql("SELECT pg_promote()")
    clinic.server = standby
    clinic.commit(10)
    streaming_from(5)
    clinic.catch_up()
    standby.stop()
    primary.start()  # back on timeline 4, as if nothing had happened
    wait_for("the refusal", lambda: "timeline" in str((clinic.stream()["now"] or {}).get("problem")), 90)
    assert primary.no_slots() or primary.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
    clinic.appliance.bad(1, "backup", "clinic", says="its log is known up to timeline 5")
    primary.stop()
    standby.start()
    streaming_from(5)
    clinic.commit(5)
    clinic.catch_up()
    nodes[:] = [standby]


@test
def a_backup_of_a_standby_is_proven_and_restored():
    primary = nodes[0]
    standby = standby_of(primary, free_port())
    nodes.append(standby)
    daemon.stop()
    clinic.add("--replace", connection=f"host={standby.socket},{primary.socket} port={standby.port},{primary.port} user=postgres "
                                       "dbname=postgres")
    process = clinic.appliance.start("backup", "clinic")
    while process.poll() is None:
        clinic.commit(1)
        primary.sql("SELECT pg_switch_wal()")
    answer = clinic.appliance.finish(process)
    assert answer.code == 0, answer
    backup = answer.json["backup"]
    last = len(clinic.rows)
    clinic.start_receiving()
    assert standby.no_slots(), "the primary is taken where there is one"
    clinic.catch_up()
    verdict = clinic.appliance.good("verify", "clinic", "--backup", backup)
    assert verdict["state"] == "proven", verdict
    numbers, _ = clinic.restore("--backup", backup)
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) <= last, numbers[-3:]
    clinic.commit(10)
    clinic.stop_receiving()
    clinic.must_hold(len(clinic.rows), "--latest", "--backup", backup)
    row = clinic.rows[-4]
    clinic.must_hold(row.number, "--at", utc(row.moment))


@test
def moments_by_chance_over_all_of_it_are_exact():
    for _ in range(RESTORES):
        words, last = clinic.random_target(CHANCE, clinic.rows[22:-1])
        clinic.must_hold(last, *words)
    clinic.appliance.end_daemon()
    for node in (*nodes, foreign):
        if node.process.poll() is None:
            node.stop()


run()

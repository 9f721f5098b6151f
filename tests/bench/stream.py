#!/usr/bin/python3
"""stream.py - measures the log stream: commits that wait for it, log at full speed, and a recovery that lives on it.

    HOLDFAST_BUILD=build HOLDFAST_SOURCE=. tests/bench/stream.py [SECONDS [ROUNDS]]

commit_latency_ratio   mean latency of one client's commits through our receiver / through pg_receivewal --synchronous   aim 1.1
archive_rate_ratio     log that was durable here when pgbench ended / log that pgbench wrote at full speed                aim 1.0
replay_feed_ratio      speed of a recovery fed by wal-get / by cp from a local folder                                     aim 0.9

The server runs with fsync on, on the same disk as everything else.  Rounds are interleaved; told are medians, and the
lowest and highest.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, os.path.join(here, "../end-to-end"))
from appliance import HOLDFAST, POSTGRES, ROOT, Cluster, folder, wait_for  # noqa: E402
from moments import Daemon, Ledgered, number_of  # noqa: E402

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
SEGMENT = 16 << 20

server = Cluster("fsync = on\nmax_slot_wal_keep_size = 8GB\nwal_keep_size = 0\nmax_wal_size = 4GB\ncheckpoint_timeout = 30min\n")
clinic = Ledgered(server, f"socket: {ROOT}/holdfastd.sock\nlog_readers: postgres\n")
os.chmod(clinic.appliance.settings, 0o644)


def pgbench(clients, *options):
    """Mean latency in ms."""
    done = subprocess.run([os.path.join(POSTGRES, "pgbench"), "-n", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(SECONDS),
                           "-h", server.socket, "-p", str(server.port), "-U", "postgres", *options, "postgres"],
                          capture_output=True, text=True, check=True)
    return float(re.search(r"latency average = ([0-9.]+) ms", done.stdout).group(1))


def one_commit_each():
    path = os.path.join(ROOT, "commit.sql")
    with open(path, "w", encoding="utf-8") as file:
        file.write("INSERT INTO small VALUES (1);\n")
    return pgbench(1, "-f", path)


def wait_for_pairing(name):
    server.configure(f"synchronous_standby_names = '{name}'")
    server.reload()
    wait_for("the pairing", lambda: server.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' "
                                               f"AND application_name = '{name}'") == "1", 60)


def through_receivewal():
    place = folder("received")
    server._own(place)
    receiver = subprocess.Popen([os.path.join(POSTGRES, "pg_receivewal"), "-D", place, "--synchronous", "--no-loop", "-d",
                                 f"host={server.socket} port={server.port} user=postgres application_name=receivewal"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **Cluster._become())
    try:
        wait_for_pairing("receivewal")
        return one_commit_each()
    finally:
        nobody()
        receiver.terminate()
        receiver.wait()


def through_us():
    try:
        wait_for_pairing("holdfast_stream")
        return one_commit_each()
    finally:
        nobody()


def nobody():
    server.configure("synchronous_standby_names = ''")
    server.reload()


def at_full_speed():
    """Share of the log that was durable here at the end, and the rate at which it was written, in MB/s."""
    clinic.catch_up()
    before, began = clinic.position(), time.monotonic()
    pgbench(4)
    durable = number_of(clinic.stream()["now"]["durable"])  # told once a second: what has come since is not counted
    written = clinic.position() - before
    return (durable - before) / written, written / (time.monotonic() - began) / 1e6


def copy_of_backup(command):
    target = os.path.join(folder("copies"), "data")
    clinic.appliance.good("restore", "clinic", "--to", target, "--owner", "postgres")
    os.chmod(target, 0o700)
    with open(os.path.join(target, "postgresql.auto.conf"), "a", encoding="utf-8") as file:
        file.write(f"restore_command = '{command}'\narchive_mode = off\n")
    open(os.path.join(target, "recovery.signal"), "w", encoding="utf-8").close()
    server._own(os.path.join(target, "recovery.signal"))
    return target


def recovery_seconds(command):
    target = copy_of_backup(command)
    subprocess.run(["sync"], check=True)
    began = time.monotonic()
    copy = Cluster.of_copy(target)
    wait_for("the promotion", lambda: copy.sql("SELECT pg_is_in_recovery()") == "f", 600)
    seconds = time.monotonic() - began
    copy.stop()
    return seconds


def told(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main():
    server.sql("CREATE TABLE small (i int)")
    subprocess.run([os.path.join(POSTGRES, "pgbench"), "-i", "-q", "-s", "10", "-h", server.socket, "-p", str(server.port), "-U", "postgres",
                    "postgres"], capture_output=True, check=True)
    clinic.add()
    daemon = Daemon(clinic.appliance)
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.prove()

    latencies, rates = {"ours": [], "pg_receivewal": []}, []
    for round_number in range(ROUNDS):
        for name, measure in [("ours", through_us), ("pg_receivewal", through_receivewal)][::-1 if round_number % 2 else 1]:
            latencies[name].append(measure())
        rates.append(at_full_speed())
    clinic.catch_up()
    ratios = [ours / theirs for ours, theirs in zip(latencies["ours"], latencies["pg_receivewal"])]
    print(f"commit latency: {told(latencies['ours'])} ms, pg_receivewal {told(latencies['pg_receivewal'])} ms, ratio {told(ratios)}")
    print(f"archive rate: {told([share for share, _ in rates])} of {told([rate for _, rate in rates])} MB/s")

    # All whole segments as files: what cp takes them from.
    local = folder("local")
    server._own(local)
    windows = clinic.stream()["windows"]
    for number in range(number_of(windows[0]["start"]) // SEGMENT, clinic.position() // SEGMENT + 1):
        name = f"00000001{number >> 8:08X}{number & 0xff:08X}"
        subprocess.run([HOLDFAST, "--settings", clinic.appliance.settings, "wal-get", name, os.path.join(local, name), "--prefetch", "0"],
                       check=True)
    feeds = []
    for round_number in range(ROUNDS):
        commands = [f"{HOLDFAST} --settings {clinic.appliance.settings} wal-get %f %p", f"cp {local}/%f %p"]
        seconds = [recovery_seconds(command) for command in (commands[::-1] if round_number % 2 else commands)]
        ours, theirs = seconds[::-1] if round_number % 2 else seconds
        feeds.append(theirs / ours)
    print(f"replay feed: {told(feeds)} of cp")
    daemon.stop()
    server.stop()
    print(json.dumps({"commit_latency_ratio": round(statistics.median(ratios), 3),
                      "archive_rate_ratio": round(statistics.median(share for share, _ in rates), 3),
                      "replay_feed_ratio": round(statistics.median(feeds), 3)}))


main()

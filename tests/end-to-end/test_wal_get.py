#!/usr/bin/python3
"""test_wal_get.py - restore_command = 'holdfast wal-get %f %p': standbys live on the archive, and no failure promotes one."""
import os
import pwd
import signal
import socket
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import HOLDFAST, ROOT, Cluster, children, folder, wait_for  # noqa: E402
from moments import Daemon, Ledgered, number_of  # noqa: E402
from tap import run, skip, test  # noqa: E402

BEYOND, FAILED = 1, 126
SEGMENT = 16 << 20

server = Cluster("max_slot_wal_keep_size = 1GB\nwal_keep_size = 0\n")
clinic = Ledgered(server, f"socket: {ROOT}/holdfastd.sock\nlog_readers: postgres,nobody\n")
os.chmod(clinic.appliance.settings, 0o644)
clinic.add()
daemon = Daemon(clinic.appliance)
place = folder("place", 0o700)
server._own(place)


def get(name, *options, to=None, user="postgres"):
    """The exit status of such a call, made by the user who runs the server."""
    become = {}
    if os.geteuid() == 0:
        who = pwd.getpwnam(user)
        become = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    done = subprocess.run([HOLDFAST, "--settings", clinic.appliance.settings, "wal-get", name, to or os.path.join(place, "got"),
                           "--patience", "0", *options], capture_output=True, text=True, cwd=ROOT, timeout=120, **become)
    get.said = done.stderr
    return done.returncode


def segment_name(position, timeline=1):
    number = position // SEGMENT
    return f"{timeline:08X}{number >> 8:08X}{number & 0xff:08X}"


def copy_with(*settings, how):
    """A restored backup that recovers with log from wal-get alone."""
    target = os.path.join(folder("copies"), "data")
    clinic.appliance.good("restore", "clinic", "--to", target, *(["--owner", "postgres"] if os.geteuid() == 0 else []))
    os.chmod(target, 0o700)
    with open(os.path.join(target, "postgresql.auto.conf"), "a", encoding="utf-8") as file:
        file.write(f"restore_command = '{HOLDFAST} --settings {clinic.appliance.settings} wal-get %f %p --patience 2'\n"
                   "recovery_target_timeline = 'latest'\narchive_mode = off\nhot_standby = on\nwal_retrieve_retry_interval = 200ms\n"
                   + "\n".join(settings) + "\n")
    with open(os.path.join(target, how), "w", encoding="utf-8"):
        pass
    server._own(os.path.join(target, how))
    return Cluster.of_copy(target)


def count_in(copy):
    return int(copy.sql("SELECT count(*) FROM ledger"))


@test
def a_workload_is_streamed_and_a_backup_proven():
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.commit(10)
    clinic.prove()
    clinic.commit(10)
    for _ in range(4):
        clinic.server.sql("SELECT pg_switch_wal()")
        clinic.commit(5)
    clinic.catch_up()


@test
def the_exit_status_says_only_of_the_end_that_it_is_the_end():
    windows = clinic.stream()["windows"]
    start, end = number_of(windows[0]["start"]), clinic.position()
    assert get(segment_name(start)) == 0, get.said
    assert os.path.getsize(os.path.join(place, "got")) == SEGMENT
    if os.geteuid() == 0:
        assert os.stat(os.path.join(place, "got")).st_uid == pwd.getpwnam("postgres").pw_uid
    assert get(segment_name(end)) == 0, get.said  # in which the archive ends
    assert get(segment_name(end + 2 * SEGMENT)) == BEYOND
    assert get(segment_name(end, timeline=2)) == BEYOND
    assert get("00000001.history") == BEYOND
    assert get("00000002.history") == BEYOND
    if start >= SEGMENT:
        assert get(segment_name(start - SEGMENT)) == FAILED and "begins at" in get.said, get.said
    for wrong in ("", "x", "0000000100000000000000", "00000001000000000000000G", "../00000001.history", "00000000.history"):
        assert get(wrong) == FAILED, (wrong, get.said)
    assert get(segment_name(start), "--source", "nobody") == FAILED
    assert get(segment_name(start), "--prefetch", "-1") == FAILED
    assert get(segment_name(start), to="/nowhere/at/all") == FAILED
    assert subprocess.run([HOLDFAST, "wal-get"], capture_output=True).returncode == FAILED
    assert subprocess.run([HOLDFAST, "wal-get", "--wrong"], capture_output=True).returncode == FAILED


@test
def only_who_may_gets_log_and_only_into_his_own_folder():
    if os.geteuid() != 0:
        skip("only root can act for others")
    start = number_of(clinic.stream()["windows"][0]["start"])
    own = folder("nobodys", 0o777)
    os.chown(own, pwd.getpwnam("nobody").pw_uid, -1)
    assert get(segment_name(start), to=os.path.join(own, "got"), user="nobody") == 0, get.said
    os.chmod(place, 0o777)
    assert get(segment_name(start), user="nobody") == FAILED and "does not belong" in get.said, get.said
    os.chmod(place, 0o700)
    assert get(segment_name(start), to=os.path.join(own, "got"), user="daemon") == FAILED and "serves user" in get.said, get.said
    done = subprocess.run([HOLDFAST, "--settings", clinic.appliance.settings, "status"], capture_output=True, text=True,
                          user="postgres", cwd=ROOT)
    assert done.returncode == 1 and "nothing else" in done.stderr, done


def worker():
    """The process that serves log, or None: it is the one that listens beside the daemon's socket."""
    for pid in children(daemon.process.pid):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        with open("/proc/net/unix", encoding="ascii") as file:
            own = [line.split() for line in file if ".sock-log" in line]
        if any(f"socket:[{row[6]}]" in links for row in own if len(row) > 7):
            return pid
    return None


def begin_serving():
    start = number_of(clinic.stream()["windows"][0]["start"])
    assert get(segment_name(start), "--prefetch", "1") == 0, get.said
    wait_for("who serves log", worker, 60)
    return start


beside = os.path.join(place, ".holdfast-prefetch")


def lie_beside():
    return sorted(name for name in os.listdir(beside) if not name.startswith(".")) if os.path.isdir(beside) else []


@test
def segments_are_fetched_in_advance_by_a_worker_that_stays():
    start = begin_serving()
    first = worker()
    assert get(segment_name(start), "--prefetch", "3") == 0, get.said
    wanted = [segment_name(start + SEGMENT * i) for i in (1, 2, 3)]
    wait_for("what comes next", lambda: lie_beside() == wanted, 60)
    with open(os.path.join(beside, wanted[1]), "rb") as file:
        ahead = file.read()
    number = os.stat(os.path.join(beside, wanted[0])).st_ino
    assert get(segment_name(start + SEGMENT), "--prefetch", "3") == 0, get.said
    assert os.stat(os.path.join(place, "got")).st_ino == number, "it was not taken from beside"
    assert get(segment_name(start + 2 * SEGMENT), "--prefetch", "3") == 0, get.said
    with open(os.path.join(place, "got"), "rb") as file:
        assert file.read() == ahead
    # One that was left out is removed, one that was asked for again is there again.
    assert get(segment_name(start), "--prefetch", "2") == 0, get.said
    wait_for("what comes next", lambda: lie_beside() == wanted[:2], 60)
    assert worker() == first


@test
def the_worker_says_of_the_end_what_the_daemon_says():
    start = begin_serving()
    end = clinic.position()
    assert get(segment_name(end)) == 0, get.said
    assert get(segment_name(end + 2 * SEGMENT)) == BEYOND
    assert get("00000002.history") == BEYOND
    clinic.server.sql("SELECT pg_switch_wal()")
    clinic.commit(2)
    clinic.catch_up()
    assert get(segment_name(end + SEGMENT)) == 0, get.said  # it came since
    if start >= SEGMENT:
        assert get(segment_name(start - SEGMENT)) == FAILED and "begins at" in get.said, get.said
    for wrong in ("x", "../00000001.history", "00000000.history"):
        assert get(wrong) == FAILED, (wrong, get.said)
    assert get(segment_name(start), "--prefetch", "65") == FAILED
    assert get(segment_name(start), "--source", "clinic") == 0, get.said
    assert get(segment_name(start), "--source", "nobody") == FAILED
    assert get(segment_name(start), to="/nowhere/at/all") == FAILED
    assert worker() is not None


@test
def what_somebody_else_left_beside_is_never_handed_out():
    start = begin_serving()
    os.kill(worker(), signal.SIGKILL)
    wait_for("its end", lambda: worker() is None, 60)
    os.makedirs(beside, exist_ok=True)
    server._own(beside)
    planted = os.path.join(beside, segment_name(start + SEGMENT))
    with open(planted, "wb") as file:
        file.write(bytes(SEGMENT))
    server._own(planted)
    assert get(segment_name(start + SEGMENT)) == 0, get.said
    with open(os.path.join(place, "got"), "rb") as file:
        assert any(file.read(40)), "zeros were handed out"
    wait_for("who serves log", worker, 60)
    with open(planted, "wb") as file:
        file.write(bytes(SEGMENT))
    server._own(planted)
    assert get(segment_name(start + SEGMENT)) == 0, get.said
    with open(os.path.join(place, "got"), "rb") as file:
        assert any(file.read(40)), "zeros were handed out by the worker"


@test
def a_killed_worker_costs_a_moment_and_no_answer():
    start = begin_serving()
    for _ in range(3):
        wait_for("who serves log", worker, 60)
        os.kill(worker(), signal.SIGKILL)
        assert get(segment_name(start), "--patience", "20") == 0, get.said


@test
def who_talks_nonsense_is_told_and_others_are_served():
    start = begin_serving()
    path = f"{ROOT}/holdfastd.sock-log"
    for nonsense in (b"x\n", b"{}\n", b'{"command": "status", "arguments": {}}\n', b'{"command": "log get", "arguments": {"file": 1}}\n',
                     b"[" * 70000 + b"\n", b"\0" * 100 + b"\n"):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(path)
            try:
                line.sendall(nonsense)
                said = line.recv(65536)
            except ConnectionError:
                said = b""
        assert b'"event":"error"' in said or said == b"", (nonsense[:40], said)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for line in silent:
        line.connect(path)
    assert get(segment_name(start), "--patience", "30") == 0, get.said  # the silent are left after a while
    for line in silent:
        line.close()


@test
def without_a_daemon_nothing_is_handed_out():
    start = begin_serving()
    daemon.stop()
    assert not os.path.exists(f"{ROOT}/holdfastd.sock-log") and lie_beside() == []
    assert get(segment_name(start)) == FAILED  # nobody is there, and what it could start may not open the keys
    restart()


def restart():
    global daemon
    daemon = Daemon(clinic.appliance)
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)


@test
def a_standby_lives_on_it_and_does_not_promote_when_the_appliance_dies():
    standby = copy_with(how="standby.signal")
    wait_for("the standby", lambda: count_in(standby) == len(clinic.rows), 60)
    clinic.commit(15)
    clinic.catch_up()
    wait_for("the standby again", lambda: count_in(standby) == len(clinic.rows), 60)
    before = len(clinic.rows)
    daemon.kill()
    clinic.commit(15)
    wait_for("its end, or its patience", lambda: standby.process.poll() is not None, 60)
    with open(os.path.join(standby.folder, "server.log"), encoding="utf-8") as file:
        log = file.read()
    assert "promot" not in log and "selected new timeline" not in log, log[-2000:]
    assert "could not restore file" in log, log[-2000:]
    restart()
    clinic.catch_up()
    standby.start()
    assert standby.sql("SELECT pg_is_in_recovery()") == "t"
    wait_for("the standby once more", lambda: count_in(standby) == len(clinic.rows), 60)
    assert len(clinic.rows) == before + 15
    standby.stop()


@test
def a_server_in_recovery_ends_where_the_archive_does_and_not_before():
    copy = copy_with(how="recovery.signal")
    wait_for("the promotion", lambda: copy.sql("SELECT pg_is_in_recovery()") == "f", 60)
    assert count_in(copy) == len(clinic.rows)
    copy.stop()


@test
def damaged_log_stops_a_recovery_and_does_not_end_it():
    middle = segment_name(number_of(clinic.stream()["windows"][0]["start"]) + 3 * SEGMENT)
    flipped = None
    for path in clinic.appliance.packs():
        flip(path)
        status = get(middle, "--prefetch", "0")
        assert status != BEYOND, path
        if status == FAILED:
            flipped = path
            break
        flip(path)
    assert flipped, "no pack holds that segment"
    try:
        copy = copy_with(how="recovery.signal")
        copy.stop()
        raise ArithmeticError("the server came up on half of the log")
    except AssertionError as ended:
        assert "could not restore file" in str(ended), ended
    finally:
        flip(flipped)


def flip(path):
    """One bit in every kilobyte: what a segment of zeros leaves of itself in a pack is short."""
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        for at in range(0, len(data), 1024):
            data[at] ^= 0x10
        file.seek(0)
        file.write(data)


@test
def over_a_promotion_the_standby_follows_and_a_missing_history_file_is_told():
    global server
    data = os.path.join(server.folder, "heir")
    server.run("pg_basebackup", "-D", data, "-R", "-X", "stream", "-h", server.socket, "-p", str(server.port), "-U", "postgres")
    heir = Cluster.of_copy(data)
    standby = copy_with(how="standby.signal")
    clinic.commit(3)
    clinic.catch_up()
    wanted = clinic.position()
    wait_for("the heir", lambda: heir.sql(f"SELECT pg_last_wal_replay_lsn() >= '0/0'::pg_lsn + {wanted}") == "t")
    server.stop()
    heir.sql("SELECT pg_promote()")
    clinic.server = server = heir
    clinic.add("--replace")
    clinic.commit(10)
    wait_for("the new timeline", lambda: ((clinic.stream() or {}).get("now") or {}).get("timeline") == 2, 60)
    clinic.catch_up()
    wait_for("the standby", lambda: count_in(standby) == len(clinic.rows), 60)
    assert standby.sql("SELECT pg_is_in_recovery()") == "t"
    assert get("00000002.history") == 0, get.said
    assert get("00000003.history") == BEYOND
    position = clinic.position()
    assert get(segment_name(position, timeline=2)) == 0, get.said
    standby.stop()
    daemon.stop()
    heir.stop()


run()

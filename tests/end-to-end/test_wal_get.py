#!/usr/bin/python3
"""test_wal_get.py - restore_command = 'holdfast wal-get %f %p': standbys live on the archive, and no failure promotes one."""
import os
import pwd
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import HOLDFAST, ROOT, Cluster, folder, wait_for  # noqa: E402
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


def copy_with(*settings, signal):
    """A restored backup that recovers with log from wal-get alone."""
    target = os.path.join(folder("copies"), "data")
    clinic.appliance.good("restore", "clinic", "--to", target, *(["--owner", "postgres"] if os.geteuid() == 0 else []))
    os.chmod(target, 0o700)
    with open(os.path.join(target, "postgresql.auto.conf"), "a", encoding="utf-8") as file:
        file.write(f"restore_command = '{HOLDFAST} --settings {clinic.appliance.settings} wal-get %f %p --patience 2'\n"
                   "recovery_target_timeline = 'latest'\narchive_mode = off\nhot_standby = on\nwal_retrieve_retry_interval = 200ms\n"
                   + "\n".join(settings) + "\n")
    with open(os.path.join(target, signal), "w", encoding="utf-8"):
        pass
    server._own(os.path.join(target, signal))
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


@test
def segments_are_fetched_in_advance_and_taken_without_the_daemon():
    start = number_of(clinic.stream()["windows"][0]["start"])
    beside = os.path.join(place, ".holdfast-prefetch")
    assert get(segment_name(start), "--prefetch", "3") == 0, get.said
    assert sorted(os.listdir(beside)) == [segment_name(start + SEGMENT * i) for i in (1, 2, 3)], os.listdir(beside)
    daemon.stop()
    assert get(segment_name(start + SEGMENT)) == 0, get.said
    assert sorted(os.listdir(beside)) == [segment_name(start + SEGMENT * i) for i in (2, 3)]
    assert get(segment_name(start + 5 * SEGMENT)) == FAILED  # nobody is there, and what it could start may not open the keys
    restart()


def restart():
    global daemon
    daemon = Daemon(clinic.appliance)
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)


@test
def a_standby_lives_on_it_and_does_not_promote_when_the_appliance_dies():
    standby = copy_with(signal="standby.signal")
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
    copy = copy_with(signal="recovery.signal")
    wait_for("the promotion", lambda: copy.sql("SELECT pg_is_in_recovery()") == "f", 60)
    assert count_in(copy) == len(clinic.rows)
    copy.stop()


@test
def damaged_log_stops_a_recovery_and_does_not_end_it():
    middle = segment_name(number_of(clinic.stream()["windows"][0]["start"]) + 3 * SEGMENT)
    flipped = None
    for path, part in ((path, part) for path in clinic.appliance.packs() for part in range(1, 32)):
        flip(path, part)
        status = get(middle, "--prefetch", "0")
        assert status != BEYOND, path
        if status == FAILED:
            flipped = path, part
            break
        flip(path, part)
    assert flipped, "no pack holds that segment"
    try:
        copy = copy_with(signal="recovery.signal")
        copy.stop()
        raise ArithmeticError("the server came up on half of the log")
    except AssertionError as ended:
        assert "could not restore file" in str(ended), ended
    finally:
        flip(*flipped)


def flip(path, part):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) * part // 32)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


@test
def over_a_promotion_the_standby_follows_and_a_missing_history_file_is_told():
    global server
    data = os.path.join(server.folder, "heir")
    server.run("pg_basebackup", "-D", data, "-R", "-X", "stream", "-h", server.socket, "-p", str(server.port), "-U", "postgres")
    heir = Cluster.of_copy(data)
    standby = copy_with(signal="standby.signal")
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

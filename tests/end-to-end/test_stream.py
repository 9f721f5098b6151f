#!/usr/bin/python3
"""test_stream.py - a source's log received as it is written, by commands, under a daemon, against a real server."""
import json
import os
import signal
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Appliance, Cluster, kill, wait_for  # noqa: E402
from moments import Daemon  # noqa: E402
from tap import run, test  # noqa: E402

source = Cluster("max_slot_wal_keep_size = 1GB\nwal_keep_size = 0\n")
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
main = Appliance()


def stream():
    return main.holdfast("status").json["sources"][0]["stream"]


def position():
    return int(source.sql("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"))


def number(lsn):
    high, low = (lsn or "0/0").split("/")
    return int(high, 16) << 32 | int(low, 16)


def caught_up(wanted):
    now = stream()["now"]
    return now is not None and number(now["durable"]) >= wanted


def words_of(check_id):
    report = main.holdfast("doctor", "clinic").json
    checks = next(row["checks"] for row in report["sources"] if row["name"] == "clinic")
    return next((check["verdict"], check["detail"]) for check in checks if check["id"] == check_id)


@test
def a_stream_that_was_not_asked_for_is_refused_and_leaves_no_slot():
    main.add_source(source, "--verify-after-backup", "no")
    main.bad(2, "stream", "clinic", says=["has no stream", "stream: yes"])
    assert source.no_slots()


@test
def in_the_foreground_it_receives_until_it_is_interrupted_and_leaves_everything_in_packs():
    main.add_source(source, "--verify-after-backup", "no", "--stream", "yes", "--replace")
    process = main.start("stream", "clinic")
    source.sql("CREATE TABLE notes AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i")
    wanted = position()
    wait_for("the log", lambda: caught_up(wanted))
    now = stream()
    assert now["state"] == "receiving" and now["lag_ms"] < 60000, now
    process.send_signal(signal.SIGINT)
    answer = main.finish(process)
    assert answer.code != 0, answer
    windows = stream()["windows"]
    assert len(windows) == 1 and number(windows[0]["end"]) >= wanted and windows[0]["commits"] > 0, windows
    main.end_daemon()


daemon = None


@test
def the_daemon_receives_by_itself_and_again_after_its_worker_was_killed():
    global daemon
    daemon = Daemon(main)
    source.sql("CREATE TABLE more AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i")
    wanted = position()
    wait_for("the log", lambda: caught_up(wanted))
    job = next(row for row in main.good("job", "list")["jobs"] if row["kind"] == "stream" and row["state"] == "running")
    assert job["subject"] == "clinic"
    main.bad(1, "stream", "clinic", says="being received already")
    worker = [pid for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == daemon.process.pid]
    assert worker, "the worker was not found"
    for pid in worker:
        kill(int(pid))
    source.sql("CREATE TABLE after_the_kill AS SELECT i FROM generate_series(1, 1000) i")
    wanted = position()
    wait_for("the log after the kill", lambda: caught_up(wanted), 40)
    assert len(stream()["windows"]) == 1


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@test
def the_doctor_proves_that_a_commit_waits_for_us():
    assert words_of("stream_slot")[0] == "ok"
    assert words_of("synchronous")[1].startswith("no: commits wait for nobody")
    source.configure("synchronous_standby_names = 'holdfast_stream'")
    source.reload()
    wait_for("the pairing", lambda: words_of("synchronous") == ("ok", "yes: we are sync as holdfast_stream"))
    source.sql("INSERT INTO more VALUES (1, 'synchronous')")


@test
def a_server_that_shuts_down_does_not_wait_for_us():
    before = time.monotonic()
    source.restart()
    assert time.monotonic() - before < 10
    source.sql("INSERT INTO more VALUES (2, 'after the restart')")
    wanted = position()
    wait_for("the log after the restart", lambda: caught_up(wanted), 40)
    source.configure("synchronous_standby_names = ''")
    source.reload()


@test
def a_slot_that_was_dropped_is_a_gap_with_its_bounds_and_a_new_backup_is_taken_by_itself():
    old = main.good("backup", "clinic")["backup"]
    source.sql("CREATE TABLE behind_the_old_backup AS SELECT i FROM generate_series(1, 1000) i")
    wanted = position()
    wait_for("the log", lambda: caught_up(wanted))
    daemon.stop()
    main.end_daemon()
    end = number(stream()["windows"][-1]["end"])
    main.end_daemon()
    name = source.sql("SELECT slot_name FROM pg_replication_slots")
    source.sql(f"SELECT pg_drop_replication_slot('{name}')")
    source.sql("CREATE TABLE lost (i int)")
    wait_for("the server to recycle its log", lambda: recycled(end), 60)
    backups = len(main.backups())
    restarted = Daemon(main)
    wait_for("the gap", lambda: main.holdfast("status").json["gaps"], 40)
    gap = main.bad(3, "status").json["gaps"][0]
    assert number(gap["from"]) == end and number(gap["to"]) > end and not gap["anchored"], (gap, end)
    assert "slot" in gap["cause"], gap
    wait_for("the anchor backup", lambda: len(main.backups()) == backups + 1, 60)
    wanted = position()
    wait_for("the log behind the gap", lambda: caught_up(wanted))
    main.good("verify", "clinic")
    assert main.holdfast("status").json["gaps"][0]["anchored"]
    the_old_backup_is_proven_up_to_the_gap(old, gap)
    restarted.stop()
    windows = stream()["windows"]
    assert len(windows) == 2 and number(windows[0]["end"]) == end, windows
    assert windows[1]["start"] == gap["to"], (windows, gap)
    main.end_daemon()


def the_old_backup_is_proven_up_to_the_gap(old, gap):
    """Its window ends there: moments before it are restored, moments in it and behind it are refused with the nearest ones."""
    verdict = main.good("verify", "clinic", "--backup", old)
    assert verdict["state"] == "proven", verdict
    name = main.good("evidence", "list", "clinic")["attempts"][0]["evidence"]
    with open(os.path.join(main.repository, "evidence", name + ".json"), encoding="utf-8") as file:
        stream_part = json.load(file)["stream"]
    assert number(stream_part["to_position"]) <= number(gap["from"]), (stream_part, gap)
    assert [(row["from_position"], row["to_position"]) for row in stream_part["gaps"]] == [(gap["from"], gap["to"])]
    folder = os.path.join(main.folder, "up-to-the-gap")
    for words in (["--latest"], ["--lsn", gap["to"]]):
        answer = main.bad(1, "restore", "clinic", "--to", folder, "--backup", old, *words, says=["gap from " + gap["from"]])
        assert "Nearest" in answer.errors, answer
    main.good("restore", "clinic", "--to", folder, "--backup", old, "--lsn", stream_part["to_position"])


def recycled(lsn):
    """Writes more, and says whether the segment that the archive needs next is gone."""
    for _ in range(4):
        source.sql("INSERT INTO lost SELECT i FROM generate_series(1, 1000) i")
        source.sql("SELECT pg_switch_wal()")
    source.sql("CHECKPOINT")
    name = source.sql(f"SELECT pg_walfile_name(('0/0'::pg_lsn + {lsn} + 1)::pg_lsn)")
    return source.sql(f"SELECT count(*) FROM pg_ls_waldir() WHERE name = '{name}'") == "0"


@test
def check_and_rebuild_know_what_a_stream_has_written():
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0
    assert main.good("catalog", "rebuild")["differences"] == 0
    before = len(main.packs())
    main.good("repo", "gc")
    assert len(main.packs()) == before


@test
def log_that_no_backup_leads_to_any_more_goes_by_the_rules_and_is_no_gap():
    main.add_source(source, "--verify-after-backup", "no", "--stream", "yes", "--retention-last", "1",
                    "--retention-unproven-grace", "1m", "--replace")
    running = Daemon(main)
    main.good("verify", "clinic", "--backup", main.good("backup", "clinic")["backup"])
    source.sql("CREATE TABLE behind_the_last_backup AS SELECT i FROM generate_series(1, 1000) i")
    wanted = position()
    wait_for("the log", lambda: caught_up(wanted), 60)
    running.stop()
    plan = main.good("retention", "plan", "clinic")["plans"][0]
    assert plan["stream"]["go"] > 0 and plan["stream"]["stay"] > 0 and plan["go"] > 0, plan
    runs = plan["stream"]["runs"]
    assert runs[0]["keep"] and runs[0]["reason"] == "follows" and runs[-1]["reason"] == "before_backups", runs
    words = main.holdfast("retention", "plan", "clinic", json_wanted=False)
    assert "any moment since backup" in words.out and "the oldest that stays" in words.out, words
    before, gaps = len(main.packs()), len(main.holdfast("status").json["gaps"])
    applied = main.good("retention", "apply", "clinic", "--plan", plan["plan"], "--removing", str(plan["go"]))["applied"]
    assert applied[0]["stretches_removed"] == plan["stream"]["go"], applied
    assert main.good("retention", "plan", "clinic")["plans"][0]["stream"]["go"] == 0
    main.good("repo", "gc")
    assert len(main.packs()) <= before - plan["stream"]["go"], (before, len(main.packs()), plan["stream"])
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0
    assert main.good("catalog", "rebuild")["differences"] == 0
    # The receiver goes on where it was: what had its time is nothing that is missing.
    main.end_daemon()
    running = Daemon(main)
    source.sql("CREATE TABLE after_the_removal AS SELECT i FROM generate_series(1, 1000) i")
    wanted = position()
    wait_for("the log after the removal", lambda: caught_up(wanted), 60)
    running.stop()
    assert len(main.holdfast("status").json["gaps"]) == gaps
    target = os.path.join(main.folder, "after")
    main.good("restore", "clinic", "--to", target, "--latest")
    main.end_daemon()


@test
def a_source_that_is_removed_leaves_no_slot():
    assert not source.no_slots()
    main.good("source", "remove", "clinic")
    wait_for("the slot to go", source.no_slots)


run()

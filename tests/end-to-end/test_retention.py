#!/usr/bin/python3
"""test_retention.py - what stays and what goes, as a person decides it: by settings, plans, holds and locks, against a
real server; and a catalog that is damaged or differs."""
import glob
import os
import pty
import pwd
import signal
import sqlite3
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import (BUILD, HOLDFAST, SOURCE, Appliance, Cluster, alive, kill, wait_for)  # noqa: E402
from tap import run, skip, test  # noqa: E402

READER = os.path.join(SOURCE, "tests/reader/holdfast_reader.py")
UNKNOWN = "0123456789abcdef0123456789abcdef"
ME = pwd.getpwuid(os.geteuid()).pw_name

server = Cluster()
server.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")

ward = Appliance()
taken = []  # ids, oldest first


def set_policy(appliance, policy, more=""):
    """Puts the source with that policy into the settings; a daemon that runs goes, and the next one reads them."""
    appliance.end_daemon()
    with open(appliance.settings, encoding="utf-8") as file:
        kept = file.read().split("\n# of the test\n")[0]
    with open(appliance.settings, "w", encoding="utf-8") as file:
        file.write(kept + "\n# of the test\n" + more + "sources:\n  clinic:\n    engine: postgresql\n"
                   f"    connection: \"{server.connection()}\"\n    verify_after_backup: no\n" + policy)


def retention(**rules):
    return "    retention:\n" + "".join(f"      {name}: {value}\n" for name, value in rules.items())


def take(proven=True):
    server.sql("UPDATE people SET name = md5(random()::text) WHERE id % 50 = 0")
    taken.append(ward.good("backup", "clinic")["backup"])
    if proven:
        assert ward.good("verify", "clinic", "--backup", taken[-1])["result"] == "passed"
    return taken[-1]


def plan(*options):
    return ward.good("retention", "plan", "clinic", *options)["plans"][0]


def decisions(*options):
    """One letter a backup, oldest first: k stays, - goes."""
    return "".join("k" if row["keep"] else "-" for row in reversed(plan(*options)["backups"]))


def reasons(backup):
    return next(row["reasons"] for row in plan()["backups"] if row["backup"] == backup)


def kept():
    return [row["backup"] for row in reversed(ward.backups())]


@test
def nothing_goes_while_nothing_is_proven():
    set_policy(ward, retention(last=2, failed_grace="off", unproven_grace="off"))
    for _ in range(3):
        take(proven=False)
    assert decisions() == "kkk"
    assert reasons(taken[0]) == ["nothing_proven"]
    assert ward.good("retention", "apply", "clinic", "--yes")["applied"][0]["removed"] == []
    assert kept() == taken


@test
def unproven_backups_do_not_count_and_proven_ones_go_by_the_rule():
    ward.good("verify", "clinic", "--backup", taken[0])
    assert decisions() == "kkk"  # the newest proven one, and what is newer
    ward.good("verify", "clinic", "--backup", taken[2])
    assert decisions() == "k-k"  # without a grace; the unproven one does not make up the two
    ward.good("verify", "clinic", "--backup", taken[1])
    assert decisions() == "-kk"
    shown = ward.holdfast("retention", "plan", json_wanted=False)
    assert shown.code == 0 and "clinic: 2 stay, 1 go" in shown.out, shown
    assert "Goes: it is proven, and no rule keeps it." in shown.out
    assert f"holdfast retention apply clinic --plan {plan()['plan']}" in shown.out, shown


@test
def a_hold_keeps_a_backup_until_it_is_released():
    held = ward.good("hold", "add", taken[0], "--reason", "asked for by the court")
    assert held["person"] == ME and held["until"] is None, held
    assert decisions() == "kkk" and reasons(taken[0]) == ["held"]
    assert ward.good("retention", "apply", "--yes")["applied"][0]["removed"] == []
    rows = ward.good("hold", "list")["holds"]
    assert [(row["backup"], row["kind"], row["reason"], row["person"]) for row in rows] == \
        [(taken[0], "hold", "asked for by the court", ME)], rows
    ward.good("hold", "release", taken[0], "--reason", "the case is closed")
    assert ward.good("hold", "list")["holds"] == []
    assert decisions() == "-kk"
    ward.bad(1, "hold", "release", taken[0], "--reason", "again", says="no hold")


@test
def one_persons_hold_outlives_the_end_of_anothers():
    for reason in "the court", "the insurance":
        ward.good("hold", "add", taken[0], "--reason", reason)
    ward.bad(1, "hold", "release", taken[0], "--reason", "which?", says=["has 2 holds", "--hold NUMBER"])
    numbers = {row["reason"]: row["number"] for row in ward.good("hold", "list")["holds"]}
    ward.bad(1, "hold", "release", taken[0], "--hold", "1", "--reason", "x", says="has no hold 1")
    released = ward.good("hold", "release", taken[0], "--hold", str(numbers["the court"]), "--reason", "closed")
    assert (released["released"], released["left"]) == (1, 1), released
    assert [row["reason"] for row in ward.good("hold", "list")["holds"]] == ["the insurance"]
    assert decisions() == "kkk" and reasons(taken[0]) == ["held"]
    assert ward.good("hold", "release", taken[0], "--reason", "paid")["left"] == 0
    assert decisions() == "-kk"


@test
def holds_are_asked_for_exactly():
    ward.bad(2, "hold", "add", taken[0], says="\"reason\" is missing")
    ward.bad(2, "hold", "add", taken[0], "--reason", " ", says="the reason is empty")
    ward.bad(2, "hold", "add", taken[0], "--reason", "x", "--until", "2031-01-31", says="is not of the form")
    ward.bad(2, "hold", "add", taken[0], "--reason", "x", "--until", "2031-01-31T10:00:00", says="is not of the form")
    ward.bad(2, "hold", "add", taken[0], "--reason", "x", "--until", "2021-01-31T10:00:00Z", says="is past")
    ward.bad(1, "hold", "add", UNKNOWN, "--reason", "x", says="there is no backup")
    ward.bad(2, "hold", "add", "today", "--reason", "x", says="is not the id of a backup")
    until = ward.good("hold", "add", taken[0], "--reason", "x", "--until", "2031-01-31T10:00:00+02:00")["until"]
    assert until == "2031-01-31T08:00:00.000Z", until
    ward.good("hold", "release", taken[0], "--reason", "y")


@test
def a_plan_that_is_not_the_one_looked_at_is_refused():
    looked_at = plan()["plan"]
    ward.good("hold", "add", taken[0], "--reason", "wait")
    ward.bad(1, "retention", "apply", "clinic", "--plan", looked_at, says=["is not", looked_at, "Look again"])
    ward.good("hold", "release", taken[0], "--reason", "go on")
    assert kept() == taken
    assert plan()["plan"] == looked_at


@test
def without_a_terminal_somebody_must_have_said_yes():
    ward.bad(2, "retention", "apply", "clinic", says=["nobody is there to be asked", "--plan", "--yes"])
    ward.bad(2, "retention", "apply", "--plan", plan()["plan"], says="name it")
    assert kept() == taken


def at_a_terminal(answer, *words):
    """The exit of the command, and what the person saw who typed that answer when asked."""
    near, far = pty.openpty()
    command = subprocess.Popen([HOLDFAST, "--settings", ward.settings, *words], stdin=far, stdout=far, stderr=far,
                               cwd=ward.folder, env=dict(os.environ, TERM="dumb"))
    os.close(far)
    seen = b""
    while True:
        try:
            piece = os.read(near, 4096)
        except OSError:  # the other end is closed
            break
        if b"Type \"yes\"" in piece:
            os.write(near, answer.encode() + b"\n")
        seen += piece
    os.close(near)
    return command.wait(60), seen.decode(errors="replace")


@test
def a_person_at_a_terminal_sees_the_plan_and_is_asked():
    for answer in ("no", "y", ""):
        code, seen = at_a_terminal(answer, "retention", "apply", "clinic")
        assert code != 0 and "Remove 1 backups of source \"clinic\"?" in seen, seen
        assert "Goes: it is proven, and no rule keeps it." in seen and taken[0] in seen, seen
        assert kept() == taken, answer


@test
def a_clock_that_disagrees_with_the_log_removes_nothing():
    for shift, says in (("-2h", "the newest entry of the log is of"), ("+1y", "the clock was set forward"),
                        ("+1y", "the log has been silent since")):
        ward.end_daemon()
        if "silent" in says:  # as if the host had been started with that clock
            forget_clock()
        answer = ward.finish(with_clock(shift, "retention", "apply", "clinic", "--yes"))
        ward.end_daemon()
        assert answer.code == 1 and says in answer.errors and "--clock-is-right" in answer.errors, (shift, str(answer))
        shown = ward.finish(with_clock(shift, "retention", "plan", "clinic"))
        ward.end_daemon()
        assert shown.json["plans"][0]["refused"], (shift, str(shown))
        assert [row["keep"] for row in shown.json["plans"][0]["backups"]] == [True, True, False], str(shown)
    forget_clock()
    assert kept() == taken


def with_clock(shift, *words):
    """The command, and the daemon that it starts, with another clock of the wall; the others go on as they are."""
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not library:
        skip("there is no faketime on this host")
    return subprocess.Popen([HOLDFAST, "--json", "--settings", ward.settings, *words], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ward.folder,
                            env=dict(os.environ, LD_PRELOAD=library[0], FAKETIME=shift, DONT_FAKE_MONOTONIC="1",
                                     FAKETIME_DONT_FAKE_MONOTONIC="1"))


def forget_clock():
    ward.end_daemon()
    change_catalog(ward, "DELETE FROM fact WHERE name = 'clock'")


def change_catalog(appliance, statement):
    with sqlite3.connect(os.path.join(appliance.state, "catalog.db")) as catalog:
        catalog.execute(statement)
    catalog.close()


@test
def what_the_plan_said_is_done_and_nothing_more():
    ward.bad(1, "retention", "apply", "clinic", "--plan", "0" * 32, says="is not")
    answer = ward.good("retention", "apply", "clinic", "--plan", plan()["plan"])["applied"][0]
    assert answer["removed"] == [{"backup": taken[0], "reason": "beyond_rules"}] and answer["stay"] == 2, answer
    assert kept() == taken[1:]
    rows = ward.good("backups", "clinic", "--all")["backups"]
    assert [(row["backup"], row["prune_reason"]) for row in reversed(rows)] == \
        [(taken[0], "beyond_rules"), (taken[1], None), (taken[2], None)], rows
    assert ward.good("retention", "apply", "--yes")["applied"][0]["removed"] == []
    ward.bad(1, "hold", "add", taken[0], "--reason", "too late", says="was removed at")
    ward.bad(1, "restore", "clinic", "--backup", taken[0], "--to", ward.folder + "/gone")


@test
def after_collection_what_stays_is_whole():
    ward.good("repo", "gc")
    assert ward.good("repo", "check", "--level", "2")["damage_count"] == 0
    for backup in taken[1:]:
        target = os.path.join(ward.folder, "copy-" + backup)
        assert ward.good("restore", "clinic", "--backup", backup, "--to", target)["backup"] == backup
    assert ward.good("verify", "clinic", "--backup", taken[2])["result"] == "passed"
    assert ward.good("catalog", "rebuild")["differences"] == 0
    read_by_another()


def read_by_another():
    done = subprocess.run([sys.executable, "-B", READER, "--key-file", ward.key, ward.repository, "check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def in_days(days):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * 86400))


@test
def a_lock_keeps_a_backup_and_its_packs_and_only_grows():
    locked = ward.good("lock", taken[1], "--until", in_days(30))
    assert locked["change"] == "new" and locked["packs"] > 0 and locked["storage"] == "advisory", locked
    names = [name for _, _, files in os.walk(os.path.join(ward.repository, "locks")) for name in files]
    assert len(names) == locked["packs"], (names, locked)
    take()
    assert decisions() == "kkk" and reasons(taken[1]) == ["locked"]
    ward.bad(1, "lock", taken[1], "--until", in_days(20), says="only ever extended")
    ward.bad(2, "lock", taken[1], "--until", in_days(-1), says="is past")
    ward.bad(2, "lock", taken[1], says="missing")
    assert ward.good("lock", taken[1], "--until", in_days(30.5))["change"] == "too_little"
    assert ward.good("lock", taken[1], "--until", in_days(60), "--reason", "audit")["change"] == "extended"
    rows = ward.good("hold", "list", "clinic")["holds"]
    assert [(row["kind"], row["reason"], row["person"]) for row in rows] == [("lock", "audit", ME)], rows
    ward.bad(1, "hold", "release", taken[1], "--reason", "a lock is no hold", says="no hold")
    assert ward.good("retention", "apply", "--yes")["applied"][0]["removed"] == []


@test
def more_than_is_usual_goes_only_when_somebody_says_the_number():
    take()
    set_policy(ward, retention(last=1, failed_grace="off"))
    code, seen = at_a_terminal("yes", "retention", "apply", "clinic")
    assert code == 1 and "more than is usual" in seen, seen
    assert decisions() == "k--k"  # locked, gone, gone, newest
    assert plan()["unusual"]
    ward.bad(1, "retention", "apply", "clinic", "--yes", says=["more than is usual", "--removing 2"])
    ward.bad(1, "retention", "apply", "clinic", "--yes", "--removing", "3", says="removes 2 backups and not 3")
    assert len(ward.good("retention", "apply", "clinic", "--yes", "--removing", "2")["applied"][0]["removed"]) == 2
    assert kept() == [taken[1], taken[4]]


@test
def a_damaged_backup_that_was_replaced_goes_and_the_status_is_good_again():
    read_by_another()
    before = ward.packs()
    damaged = take()
    largest = next(path for path in ward.packs() if path not in before)
    with open(largest, "r+b") as file:
        file.seek(os.path.getsize(largest) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x40]))
    ward.bad(3, "repo", "check", "--level", "2")
    assert [row["backup"] for row in ward.backups() if row["state"] == "damaged"] == [damaged], ward.backups()
    status = ward.bad(3, "status").json
    assert status["sources"][0]["remedy"] == "holdfast backup clinic", status
    take()
    status = ward.bad(3, "status").json
    assert status["sources"][0]["health"] == "proven" and status["sources"][0]["remedy"] is None, status
    assert status["damages"][0]["remedy"] == "holdfast retention apply clinic --replaced", status
    shown = ward.holdfast("status", json_wanted=False)
    assert "holdfast retention apply clinic --replaced" in shown.out, shown
    set_policy(ward, "")  # not even a rule is needed
    assert decisions().count("-") == 0
    gone = ward.good("retention", "apply", "clinic", "--replaced", "--yes")["applied"][0]["removed"]
    assert gone == [{"backup": damaged, "reason": "damaged"}], gone
    assert ward.good("status")["damages"] == []


class Service:
    """holdfastd as it runs for months: with schedules."""

    def __init__(self, appliance):
        appliance.end_daemon()
        self.process = subprocess.Popen([os.path.join(BUILD, "holdfastd"), "--settings", appliance.settings],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the service", lambda: os.path.exists(os.path.join(appliance.state, "holdfastd.sock")))

    def end(self):
        kill(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


def due_now(kind, source="clinic", every=60000):
    """Puts the next time of that job into the past, as if the daemon had been away."""
    change_catalog(ward, "INSERT OR REPLACE INTO schedule (source, kind, every_ms, next_at) "
                         f"VALUES ('{source}', '{kind}', {every}, 1000)")


def job(kind):
    """The last one that ended, of those that nobody asked for."""
    return next((row for row in ward.good("job", "list")["jobs"]
                 if row["kind"] == kind and row["ended_at"] and "uid" not in row["requested_by"]), None)


@test
def a_schedule_removes_what_goes_and_frees_its_space():
    rules = retention(last=1, most_percent=100, failed_grace="off")
    set_policy(ward, rules)  # no schedule yet: it would not wait for us
    take()
    assert "-" in decisions() and not plan()["unusual"], plan()
    code, seen = at_a_terminal("yes", "retention", "apply", "clinic")
    assert code == 0 and "removed, 2 stay" in seen, seen
    take()
    assert decisions() == "k-k", plan()
    set_policy(ward, "    retention_every: 1m\n" + rules)
    due_now("retention apply")
    service = Service(ward)
    try:
        collected = wait_for("the collection", lambda: job("repo gc"))
        assert collected["requested_by"] == "after retention" and collected["state"] == "finished", collected
        applied = job("retention apply")
        assert applied["requested_by"] == "schedule" and applied["state"] == "finished", applied
        assert "-" not in decisions()
        assert ward.holdfast("status").json["sources"][0]["next_retention_at"]
    finally:
        service.end()


@test
def what_the_schedule_may_not_do_is_an_alarm_until_a_person_has_decided():
    set_policy(ward, retention(last=9))
    take()
    take()
    set_policy(ward, retention(last=1))
    going = plan()["go"]
    assert going >= 2, plan()
    set_policy(ward, "    retention_every: 1m\n" + retention(last=1))
    due_now("retention apply")
    service = Service(ward)
    try:
        wait_for("the refusal", lambda: (job("retention apply") or {}).get("state") == "failed")
        status = ward.bad(3, "status").json
        assert status["alarms"][0]["what"] == "retention apply" and status["alarms"][0]["source"] == "clinic", status
        assert "more than is usual" in status["alarms"][0]["message"], status
        assert "--removing" in status["alarms"][0]["remedy"], status
        ward.good("retention", "apply", "clinic", "--yes", "--removing", str(going))
        assert ward.holdfast("status").json["alarms"] == []
    finally:
        service.end()


# The catalog


@test
def a_catalog_that_differs_is_told_until_it_is_made_again():
    set_policy(ward, retention(last=2))
    assert ward.good("catalog", "check")["differences"] == 0
    ward.end_daemon()
    change_catalog(ward, f"UPDATE backup SET files = files + 1 WHERE backup_id = '{kept()[-1]}'")
    ward.end_daemon()
    found = ward.bad(3, "catalog", "check").json
    assert found["differences"] > 0 and "\"files\"" in found["first"], found
    alarm = ward.bad(3, "status").json["alarms"][0]
    assert alarm["what"] == "catalog differs" and "catalog rebuild" in alarm["remedy"], alarm
    ward.bad(3, "catalog", "rebuild")
    assert ward.holdfast("status").json["alarms"] == []
    assert ward.good("catalog", "check")["differences"] == 0
    assert not glob.glob(ward.state + "/catalog.db.*")


@test
def a_damaged_catalog_is_made_again_and_told_until_it_is_acknowledged():
    before = ward.backups()
    ward.end_daemon()
    for ending in ("-wal", "-shm"):
        if os.path.exists(os.path.join(ward.state, "catalog.db" + ending)):
            os.unlink(os.path.join(ward.state, "catalog.db" + ending))
    with open(os.path.join(ward.state, "catalog.db"), "r+b") as file:
        file.seek(8192)
        file.write(os.urandom(16384))
    assert ward.backups() == before
    ward.end_daemon()  # the next daemon knows of it too
    alarm = ward.bad(3, "status").json["alarms"][0]
    assert alarm["what"] == "catalog damaged" and "catalog acknowledge" in alarm["remedy"], alarm
    aside = ward.good("catalog", "acknowledge")["name"]
    assert os.path.exists(aside)
    assert ward.holdfast("status").json["alarms"] == []
    ward.bad(1, "catalog", "acknowledge", says="no damaged catalog")
    os.unlink(aside)


@test
def a_catalog_that_is_damaged_while_the_service_runs_is_found_by_its_check_and_made_again():
    set_policy(ward, retention(last=2), more="catalog_check_every: 1m\n")
    before = ward.backups()
    ward.end_daemon()
    due_now("catalog check", source="")
    with open(os.path.join(ward.state, "catalog.db"), "r+b") as file:
        size = os.path.getsize(file.name)
        kept_bytes = file.read()
    service = Service(ward)
    try:
        checked = wait_for("the first check", lambda: job("catalog check"))
        assert checked["state"] == "finished" and checked["exit"] == 0, checked
        ward.good("job", "list")
        # Somebody writes an older piece over it; every page that the daemon has not in memory is from another time.
        with open(os.path.join(ward.state, "catalog.db"), "r+b") as file:
            for at in range(4096, size, 8192):
                file.seek(at)
                file.write(bytes(len(kept_bytes[at:at + 4096])))
        answer = ward.bad(3, "catalog", "check").json
        assert answer["damaged"], answer
        after = ward.backups()
        assert after == before, [pair for pair in zip(before, after) if pair[0] != pair[1]] or (before, after)
        assert ward.bad(3, "status").json["alarms"][0]["what"] == "catalog damaged"
        assert ward.good("catalog", "check")["differences"] == 0
    finally:
        service.end()
    assert not alive(service.process.pid)


@test
def after_all_of_it_collection_leaves_a_repository_that_another_reader_accepts():
    ward.good("repo", "gc")
    read_by_another()
    assert ward.good("repo", "check", "--level", "2")["damage_count"] == 0


run()

#!/usr/bin/python3
"""test_damage.py - stored bytes go bad: they are found by the scrub, told page by page, lived with, and healed."""
import filecmp
import os
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import BUILD, Appliance, Cluster, alive, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

MARK = b"lost: this page could not be read from the repository\n"

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
source.sql("CREATE TABLE images AS SELECT i, (SELECT string_agg(md5(random()::text || i || j), '')"
           " FROM generate_series(1, 60) j) AS content FROM generate_series(1, 4000) i")

main = Appliance(more_settings="jobs_at_once: 1\nscrub:\n  every: 1m\n  window: 1m\n  rate: 2MiB\n")
main.add_source(source, "--verify-after-backup", "no")


def flip(pack, at):
    os.chmod(pack, 0o600)
    with open(pack, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


def scrub_state():
    return main.holdfast("status").json["scrub"]


def files_of(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield os.path.relpath(path, folder), path


class Service:
    """holdfastd as a service: with schedules."""

    def __init__(self):
        main.end_daemon()
        self.process = subprocess.Popen([os.path.join(BUILD, "holdfastd"), "--settings", main.settings], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the service", lambda: os.path.exists(os.path.join(main.state, "holdfastd.sock")))

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)


@test
def a_scrub_of_everything_reads_every_pack_and_completes_a_pass():
    main.good("backup", "clinic")
    source.sql("UPDATE people SET name = 'changed' WHERE id % 50 = 0")
    main.good("backup", "clinic")
    state = scrub_state()
    assert state["completed_at"] is None and state["never_checked"] == state["packs"] == len(main.packs()), state
    answer = main.good("repo", "scrub", "--all", "--rate", "0")
    assert answer["packs"] == len(main.packs()) and answer["pass_complete"] and answer["orphans"] == 0, answer
    assert answer["pack_bytes"] == sum(os.path.getsize(pack) for pack in main.packs()), answer
    state = scrub_state()
    assert state["completed_at"] is not None and state["never_checked"] == 0 and not state["late"], state
    shown = main.holdfast("status", json_wanted=False).out
    assert "scrub       last complete 2" in shown and "oldest look 2" in shown, shown


@test
def what_nobody_refers_to_is_told_and_left_alone():
    stray = os.path.join(os.path.dirname(os.path.dirname(main.packs()[0])), "00", "0" * 32)
    os.makedirs(os.path.dirname(stray), exist_ok=True)
    with open(stray, "wb") as file:
        file.write(b"x" * 100)
    answer = main.good("repo", "scrub", "--all", "--rate", "0")
    assert answer["orphans"] == 1 and answer["orphan_bytes"] == 100, answer
    assert os.path.exists(stray)
    os.unlink(stray)


@test
def a_scrub_without_anything_due_reads_new_packs_only():
    answer = main.good("repo", "scrub", "--rate", "0")
    before = answer["packs"]
    main.good("backup", "clinic")
    answer = main.good("repo", "scrub", "--rate", "0")
    assert answer["packs"] > 0 and before >= 0, answer
    assert scrub_state()["never_checked"] == 0


damaged = {}


@test
def a_flipped_byte_is_found_by_the_scrub_and_told_page_by_page():
    damaged["pack"] = main.packs()[0]
    damaged["at"] = os.path.getsize(damaged["pack"]) // 3
    whole = os.path.join(main.folder, "whole")
    main.good("restore", "clinic", "--to", whole)
    damaged["whole"] = whole
    flip(damaged["pack"], damaged["at"])
    answer = main.bad(3, "repo", "scrub", "--all", "--rate", "0").json
    assert [row["pack"] for row in answer["damages"]] == [os.path.basename(damaged["pack"])], answer
    assert len(answer["affected"]) >= 1, answer
    for row in answer["affected"]:
        lost = row["lost"]
        assert lost["pages"] > 0 and lost["more"] == 0 and len(row["packs"]) == 1, row
        assert row["packs"][0][1] is not None, "the slab is named"
        assert lost["pages"] == sum(entry["pages"] for entry in lost["ranges"]), lost
        assert lost["bytes"] == sum(entry["bytes"] for entry in lost["ranges"]), lost
    damaged["affected"] = {row["backup"]: row["lost"] for row in answer["affected"]}
    states = {row["backup"]: row["state"] for row in main.backups()}
    assert all((states[backup] == "damaged") == (backup in damaged["affected"]) for backup in states), states
    status = main.bad(3, "status").json
    assert {row["backup"]: row["lost"] for row in status["damages"]} == damaged["affected"], status
    assert status["scrub"]["unsound"] == 1
    shown = main.holdfast("status", json_wanted=False).out
    first = next(iter(damaged["affected"].values()))["ranges"][0]
    assert f"    {first['file']}: page" in shown, shown


@test
def a_check_that_finds_the_same_again_records_nothing_new():
    before = main.bad(3, "status").json["damages"]
    answer = main.bad(3, "repo", "check", "--level", "2").json
    assert {row["backup"]: row["lost"] for row in answer["affected"]} == damaged["affected"], answer
    assert main.bad(3, "status").json["damages"] == before


@test
def a_damaged_backup_is_refused_unless_its_loss_is_accepted_and_then_every_page_is_listed():
    backup, lost = next(reversed(damaged["affected"].items()))
    target = os.path.join(main.folder, "left")
    refused = main.bad(1, "restore", "clinic", "--backup", backup, "--to", target,
                       says=(os.path.basename(damaged["pack"]), "--allow-damage"))
    assert not os.path.exists(os.path.join(target, "global/pg_control")), refused
    subprocess.run(["rm", "-rf", target], check=True)
    answer = main.bad(3, "restore", "clinic", "--backup", backup, "--to", target, "--allow-damage").json
    assert answer["lost"]["pages"] == lost["pages"] and answer["lost"]["bytes"] == lost["bytes"], answer
    listed = []
    with open(target + ".lost-pages", encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                name, first, count, size = line.rstrip("\n").split("\t")
                listed += [(name, int(first) + n, int(size)) for n in range(int(count))]
    assert len(listed) == lost["pages"], (len(listed), lost)
    for name, page, size in listed:
        with open(os.path.join(target, name), "rb") as file:
            file.seek(page * size)
            assert file.read(size).startswith(MARK), (name, page)
    # What is not listed is as it was, where the newest backup has the same file unchanged.
    lossy = {name for name, _, _ in listed}
    assert os.path.exists(os.path.join(target, "global/pg_control")) or "global/pg_control" in lossy


@test
def a_restore_that_may_lose_pages_and_loses_none_leaves_no_list():
    sound = [row["backup"] for row in main.backups() if row["backup"] not in damaged["affected"]]
    if sound:
        target = os.path.join(main.folder, "lossless")
        main.good("restore", "clinic", "--backup", sound[0], "--to", target, "--allow-damage")
        assert not os.path.exists(target + ".lost-pages")


@test
def bytes_that_are_back_heal_every_backup_that_lacked_them():
    flip(damaged["pack"], damaged["at"])
    answer = main.good("repo", "scrub", "--rate", "0")
    assert os.path.basename(damaged["pack"]) in answer["sound"], answer
    assert all(row["state"] == "unproven" for row in main.backups()), main.backups()
    status = main.bad(3, "status").json  # unproven, and no damage
    assert status["damages"] == [] and status["scrub"]["unsound"] == 0, status
    again = os.path.join(main.folder, "again")
    main.good("restore", "clinic", "--to", again)
    names = sorted(name for name, _ in files_of(damaged["whole"]))
    assert names == sorted(name for name, _ in files_of(again))
    assert all(filecmp.cmp(path, os.path.join(again, name), shallow=False) for name, path in files_of(damaged["whole"]))


@test
def a_check_records_what_is_whole_again_as_a_scrub_does():
    flip(damaged["pack"], damaged["at"])
    main.bad(3, "repo", "check")
    assert {row["state"] for row in main.backups() if row["backup"] in damaged["affected"]} == {"damaged"}
    flip(damaged["pack"], damaged["at"])
    assert main.good("repo", "check", "--level", "0")["sound"] == []  # reads no pack, and says nothing of it
    assert "damaged" in {row["state"] for row in main.backups()}
    answer = main.good("repo", "check")
    assert os.path.basename(damaged["pack"]) in answer["sound"], answer
    assert "damaged" not in {row["state"] for row in main.backups()}
    assert main.bad(3, "status").json["damages"] == []


@test
def the_next_backup_heals_itself_and_the_older_ones_still_say_what_they_lack():
    flip(damaged["pack"], damaged["at"])
    main.bad(3, "repo", "scrub", "--all", "--rate", "0")
    healed = main.good("backup", "clinic")
    assert healed["pages_healed"] > 0, healed
    states = {row["backup"]: row["state"] for row in main.backups()}
    assert states[healed["backup"]] == "unproven", states
    answer = main.bad(3, "repo", "scrub", "--all", "--rate", "0").json
    assert healed["backup"] not in [row["backup"] for row in answer["affected"]], answer
    assert {row["backup"]: row["lost"] for row in answer["affected"]} == damaged["affected"], answer
    assert main.good("verify", "clinic", "--backup", healed["backup"])["state"] == "proven"
    status = main.bad(3, "status").json
    assert {row["backup"] for row in status["damages"]} == set(damaged["affected"]), status
    flip(damaged["pack"], damaged["at"])


@test
def a_slow_scrub_holds_nobody_up_ends_at_once_and_goes_on_where_it_was_after_a_kill():
    main.good("repo", "scrub", "--all", "--rate", "0")
    for _ in range(2):
        source.sql("UPDATE images SET content = reverse(content)")
        main.good("backup", "clinic")
    packs = len(main.packs())
    never = scrub_state()["never_checked"]
    assert never >= 4
    service = Service()
    try:
        # Due at once, one job at a time, 2 MiB a second: it runs for a while.
        wait_for("the scrub", lambda: any(row["kind"] == "repo scrub" and row["state"] == "running"
                                          for row in main.good("job", "list")["jobs"]))
        began = time.monotonic()
        main.good("backup", "clinic")
        assert time.monotonic() - began < 10
        running = [row for row in main.good("job", "list")["jobs"] if row["kind"] == "repo scrub"][0]
        assert running["state"] == "running" and running["requested_by"] == "schedule", running
        wait_for("a first pack", lambda: scrub_state()["never_checked"] < never, 60)
        service.end(signal.SIGKILL)
        wait_for("the service's end", lambda: not alive(service.process.pid))
        os.unlink(os.path.join(main.state, "holdfastd.sock"))
        left = scrub_state()["never_checked"]
        main.end_daemon()
        assert left > 0, left
        service = Service()
        job = main.good("repo", "scrub", "--rate", "1", "--detach")["job"]
        began = time.monotonic()
        main.good("job", "cancel", job)
        wait_for("its end", lambda: [row["state"] for row in main.good("job", "list")["jobs"] if row["job"] == job]
                 == ["cancelled"])
        assert time.monotonic() - began < 3
        answer = main.good("repo", "scrub", "--rate", "0")
        assert answer["packs"] <= packs + 4, answer
        assert scrub_state()["never_checked"] == 0
    finally:
        if alive(service.process.pid):
            service.end()


run()

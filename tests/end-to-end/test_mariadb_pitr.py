#!/usr/bin/python3
"""test_mariadb_pitr.py - a MariaDB restored to moments of all kinds: replayed by its own applier, exact to the transaction.

RESTORES, SEED: how many restores by chance (a campaign's); else a few.
"""
import os
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from mariadb_moments import Clinic, new_folder, utc  # noqa: E402
from tap import run, test  # noqa: E402

RESTORES = int(os.environ.get("RESTORES", "4"))
COMMITS = 24 if RESTORES < 20 else 80

clinic = Clinic(seed=int(os.environ.get("SEED", "20261124")))
backups = []  # each with the number of moments that there were


def must_refuse(*words, says, code=1):
    target = new_folder()
    answer = clinic.appliance.bad(code, "restore", "clinic", "--to", target, *words, says=says)
    assert not os.path.exists(target), f"{words} touched the folder"
    return answer


def behind(number=0):
    """What can be reached from that backup."""
    return clinic.moments[backups[number][1]:]


@test
def a_workload_is_streamed_with_two_proven_backups_in_it():
    clinic.start_receiving()
    clinic.commit(3)
    for share in (1, 2):
        clinic.catch_up()
        backups.append((clinic.prove(), len(clinic.moments)))
        clinic.new_second()
        clinic.commit(COMMITS * share // 4)
        clinic.new_second()
        clinic.commit(COMMITS * share // 4)
    clinic.stop_receiving()


@test
def a_copy_holds_all_up_to_the_named_transaction_and_none_behind_it():
    moments = behind(1)
    answer = clinic.must_be(moments[4], "--gtid", moments[4].gtid)
    assert answer["backup"] == backups[1][0], "the newest proven backup before the moment"
    assert answer["recovery"]["transactions"] == 5 and answer["product"] == "MariaDB", answer
    clinic.must_be(moments[4], "--before-gtid", moments[5].gtid)
    clinic.must_be(moments[2], "--binlog-position", f"{moments[2].file}:{moments[2].position}")


@test
def a_moment_between_two_backups_is_reached_from_the_older_one():
    moment = clinic.moments[backups[1][1] - 2]
    answer = clinic.must_be(moment, "--gtid", moment.gtid)
    assert answer["backup"] == backups[0][0], answer
    answer = clinic.must_be(moment, "--binlog-position", f"{moment.file}:{moment.position}")
    assert answer["backup"] == backups[0][0], answer


@test
def all_that_was_committed_up_to_a_second_is_there():
    moments = behind(1)
    last = next(at for at in range(len(moments) - 1) if moments[at].second and moments[at + 1].second and
                moments[at].second < moments[at + 1].second)
    clinic.must_be(moments[last], "--at", utc(moments[last].second * 1000 + 999))


@test
def the_latest_is_the_end_of_the_stream():
    clinic.must_be(clinic.moments[-1], "--latest")


@test
def restores_by_chance_are_exact():
    began = time.monotonic()
    for _ in range(RESTORES):
        words, moment = clinic.random_target(behind())
        clinic.must_be(moment, *words)
    print(f"# {RESTORES} restores in {time.monotonic() - began:.0f} s")


@test
def a_moment_outside_of_the_window_is_refused_with_the_nearest():
    must_refuse("--at", "2099-01-01T00:00:00Z", says="or all there is with --latest")
    must_refuse("--at", "2020-01-01T00:00:00Z", says="when the earliest proven backup ended")
    must_refuse("--gtid", "0-1-999999", says="the archive ends at")
    must_refuse("--gtid", clinic.moments[0].gtid, says="is in the backup already", code=2)
    must_refuse("--binlog-position", f"{clinic.moments[0].file}:{clinic.moments[0].position}",
                says="Name an earlier backup", code=2)
    must_refuse("--binlog-position", "bin.000099:4", says="nothing behind position 4")


@test
def words_that_mean_nothing_here_are_refused():
    must_refuse("--lsn", "0/2000028", says="--gtid, --before-gtid, --binlog-position or --latest", code=2)
    must_refuse("--at", "2026-11-24 10:00", says="is not of the form", code=2)
    must_refuse("--gtid", "0-1", says="0-1-4711", code=2)
    must_refuse("--binlog-position", "bin.000001", says="bin.000007:12765", code=2)
    must_refuse("--latest", "--action", "pause", says="--action", code=2)
    must_refuse("--gtid", "0-1-5", "--latest", says="name two moments", code=2)


@test
def log_from_before_the_oldest_backup_goes_and_every_moment_behind_it_stays():
    own = Clinic(seed=7)
    for _ in range(4):
        own.start_receiving()
        own.commit(6)
        own.stop_receiving()
        own.prove()
    own.appliance.good("source", "remove", "clinic")
    own.add("off", "--retention-last", "2", "--retention-unproven-grace", "1m")
    plan = own.appliance.good("retention", "plan", "clinic")["plans"][0]
    assert plan["go"] == 2 and plan["stream"]["go"] >= 1, plan
    assert plan["stream"]["runs"][-1]["reason"] in ("before_backups", "follows"), plan["stream"]
    gaps = len(own.appliance.holdfast("status").json["gaps"])
    applied = own.appliance.good("retention", "apply", "clinic", "--plan", plan["plan"], "--removing", "2")["applied"]
    assert applied[0]["stretches_removed"] == plan["stream"]["go"], applied
    own.appliance.good("repo", "gc")
    assert own.appliance.good("repo", "check", "--level", "2")["damage_count"] == 0
    own.start_receiving()
    own.commit(6)
    own.stop_receiving()
    assert len(own.appliance.holdfast("status").json["gaps"]) == gaps
    kept = own.moments[18:]  # behind the third backup, the older one of those that stay
    own.must_be(kept[0], "--gtid", kept[0].gtid)
    own.must_be(kept[3], "--gtid", kept[3].gtid)
    own.must_be(kept[-1], "--latest")
    assert own.prove()
    print("#", plan["stream"]["go"], "stretches of", plan["stream"]["go"] + plan["stream"]["stay"], "went")


run()

#!/usr/bin/python3
"""test_clock.py - a server whose clock is an hour off: what is wrong with it is told, and --at counts by its clock."""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import BUILD, Cluster, wait_for  # noqa: E402
from moments import Ledgered, utc  # noqa: E402
from tap import run, test  # noqa: E402

HOUR_S = 3600


class Elsewhen(Cluster):
    """A server that lives `shift` seconds later than we do."""

    def __init__(self, shift):
        self.environment = {"LD_PRELOAD": os.path.join(BUILD, "tests/libshifted_clock.so"), "CLOCK_SHIFT_S": str(shift)}
        super().__init__("max_slot_wal_keep_size = 1GB\n")


def wrong_by(shift):
    """Moments between two proven backups must not start from the second one."""
    clinic = Ledgered(Elsewhen(shift))
    clinic.add()
    clinic.start_receiving()
    clinic.commit(5)
    first = clinic.prove()
    clinic.commit(10)
    second = clinic.prove()
    clinic.commit(10)
    clinic.catch_up()
    told_by_doctor(clinic, shift)
    told_by_status(clinic, shift)
    clinic.stop_receiving()
    between, behind = clinic.rows[10], clinic.rows[20]
    assert clinic.must_hold(between.number, "--at", utc(between.moment))["backup"] == first
    assert clinic.must_hold(behind.number, "--at", utc(behind.moment))["backup"] == second
    clinic.appliance.bad(2, "restore", "clinic", "--to", "/nowhere/at/all", "--at", utc(between.moment), "--backup", second,
                         says="the backup ended at")
    clinic.appliance.end_daemon()
    clinic.server.stop()


def told_by_doctor(clinic, shift):
    report = clinic.appliance.holdfast("doctor", "clinic").json
    check = next(check for row in report["sources"] if row["name"] == "clinic" for check in row["checks"] if check["id"] == "clock")
    assert check["verdict"] == "warning" and ("ahead of" if shift > 0 else "behind") in check["detail"], check


def told_by_status(clinic, shift):
    wait_for("the measure", lambda: clinic.stream()["now"]["server_clock_ahead_ms"] is not None)
    ahead = clinic.stream()["now"]["server_clock_ahead_ms"]
    assert abs(ahead - shift * 1000) < 2000, ahead
    words = clinic.appliance.holdfast("status", json_wanted=False).out
    assert f"clock is {3600 if abs(ahead) >= 3600000 else 3599} s {'ahead of' if shift > 0 else 'behind'} this host's" in words, words


@test
def a_server_that_is_an_hour_ahead():
    wrong_by(HOUR_S)


@test
def a_server_that_is_an_hour_behind():
    wrong_by(-HOUR_S)


run()

#!/usr/bin/python3
"""test_leftovers.py - verification after verification, some of them broken off: nothing of them is left.

HOLDFAST_VERIFICATIONS=200 makes a campaign of it; without that it is a few.
"""
import ctypes
import glob
import os
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, os.path.join(here, "../end-to-end"))
sys.path.insert(0, here)
from host import leftovers  # noqa: E402
from appliance import BUILD, Appliance, Cluster, alive, children, kill, name_of, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

VERIFICATIONS = int(os.environ.get("HOLDFAST_VERIFICATIONS", "6"))
PR_SET_CHILD_SUBREAPER = 36

# Whatever loses its parent becomes our child, so that nothing can be overlooked.
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

cluster = Cluster()
cluster.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")
cluster.sql("ALTER TABLE people ADD PRIMARY KEY (id)")
main = Appliance()
main.add_source(cluster, "--verify-after-backup", "no", "--backup-every", "off", "--verify-every", "off")
main.good("backup", "clinic")
cluster.stop()
scratch = os.path.join(main.state, "scratch")
main.end_daemon()
# As the service: it stays between commands, so that what it gathers would show.
service = subprocess.Popen([os.path.join(BUILD, "holdfastd"), "--settings", main.settings], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wait_for("the daemon", lambda: os.path.exists(os.path.join(main.state, "holdfastd.sock")))


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    except ChildProcessError:
        pass


def descriptors():
    return len(os.listdir(f"/proc/{service.pid}/fd"))


def places():
    """Names that sandboxes and scratch take outside of our own folders."""
    return set(glob.glob("/dev/shm/holdfast-*") + glob.glob("/run/holdfast-sandbox-*") + glob.glob("/tmp/holdfast-sandbox-*"))


class State:
    """What there is before and after."""

    def __init__(self):
        self.processes = {pid for pid in children(os.getpid()) if alive(pid)}
        self.descriptors = descriptors()
        with open("/proc/self/mounts", encoding="utf-8") as file:
            self.mounts = sum(1 for line in file if "holdfast" in line or "sandbox" in line)

    def assert_same(self, places_before):
        reap()
        wait_for("the end of all processes", lambda: reap() or {pid for pid in children(os.getpid()) if alive(pid)}
                 <= self.processes)
        assert leftovers(scratch) == [], leftovers(scratch)
        now = State()
        assert now.mounts == self.mounts, (self.mounts, now.mounts)
        wait_for("the daemon's descriptors", lambda: descriptors() <= self.descriptors)
        mine = [path for path in places() - places_before if os.stat(path).st_uid == os.geteuid()]
        # Tests beside us have theirs too; those go.  What stays is ours.
        wait_for(f"the end of {mine}", lambda: not any(os.path.exists(path) for path in mine), 60)


@test
def verifications_in_a_row_leave_no_process_mount_group_folder_or_descriptor():
    main.good("verify", "clinic")
    before, places_before = State(), places()
    for number in range(VERIFICATIONS):
        answer = main.good("verify", "clinic")
        assert answer["result"] == "passed", (number, answer)
        assert leftovers(scratch) == [], (number, leftovers(scratch))
    before.assert_same(places_before)


@test
def verifications_that_are_broken_off_at_any_moment_leave_nothing_either():
    places_before = places()
    for number in range(max(3, VERIFICATIONS // 10)):
        process = main.start("verify", "clinic")
        time.sleep(0.15 + 0.13 * (number % 8))
        how = (signal.SIGINT, signal.SIGKILL)[number % 2]
        process.send_signal(how)
        main.finish(process)
        wait_for("the end of the job", lambda: not [row for row in main.good("job", "list")["jobs"]
                                                    if row["state"] in ("queued", "running")])
    wait_for("what is left", lambda: leftovers(scratch) == [])
    answer = main.good("verify", "clinic")
    assert answer["result"] == "passed", answer
    mine = [path for path in places() - places_before]
    wait_for(f"the end of {mine}", lambda: not any(os.path.exists(path) for path in mine), 60)


@test
def workers_that_are_killed_leave_what_the_next_verification_sweeps():
    process = main.start("verify", "clinic")
    wait_for("the copy", lambda: any("postgres" in name_of(pid) for pid in children(service.pid)))
    for pid in children(service.pid):
        kill(pid)
    main.finish(process)
    answer = main.good("verify", "clinic")
    assert answer["result"] == "passed", answer
    wait_for("the sweep", lambda: leftovers(scratch) == [])


run()

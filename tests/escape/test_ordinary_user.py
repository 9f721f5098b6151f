#!/usr/bin/python3
"""test_ordinary_user.py - an appliance of an ordinary user, with root's runner beside it and without."""
import os
import shutil
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, os.path.join(here, "../end-to-end"))
sys.path.insert(0, here)
from host import leftovers  # noqa: E402
from appliance import BUILD, Appliance, Cluster, folder, kill, wait_for  # noqa: E402
from tap import run, skip, test  # noqa: E402

ORDINARY = 12347  # a uid that nobody has
FIRST, COUNT = 1879100000, 4096  # sandbox/uids.h

cluster = Cluster()
cluster.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
cluster.sql("ALTER TABLE people ADD PRIMARY KEY (id)")
state = {}


def start_runner():
    place = folder("runner")
    for name in ("holdfast-runner", "holdfast-sandbox"):
        shutil.copy(os.path.join(BUILD, "sandbox", name), place)
    socket = os.path.join(place, "socket")
    process = subprocess.Popen([os.path.join(place, "holdfast-runner"), socket, str(ORDINARY),
                                os.path.join(place, "holdfast-sandbox")], stdin=subprocess.DEVNULL)
    wait_for("the runner", lambda: os.path.exists(socket))
    return process, socket


def uids_in_range():
    """Uids of sandboxes that have processes now."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                uid = os.stat(f"/proc/{name}").st_uid
                with open(f"/proc/{name}/status", encoding="utf-8") as file:
                    uid = next(int(line.split()[1]) for line in file if line.startswith("Uid:"))
            except (OSError, StopIteration):
                continue
            if FIRST <= uid < FIRST + COUNT:
                found.add(uid)
    return found


@test
def with_a_runner_the_copy_has_a_uid_of_its_own_and_the_level_is_L3():
    if os.geteuid() != 0:
        skip("only root can be a runner")
    state["runner"], socket = start_runner()
    user = state["user"] = Appliance(more_settings=f"sandbox:\n  runner: {socket}\n", uid=ORDINARY)
    user.add_source(cluster, "--verify-after-backup", "no")
    user.good("backup", "clinic")
    before = uids_in_range()
    process = user.start("verify", "clinic")
    seen = wait_for("the copy", lambda: uids_in_range() - before)
    answer = user.finish(process)
    assert answer.code == 0 and answer.json["level"] == "L3", answer
    layers = answer.json["sandbox"]["layers"]
    assert "own_uid" in layers and "user_namespace" in layers, layers
    assert len(seen) >= 1, seen
    assert leftovers(os.path.join(user.state, "scratch")) == []


@test
def without_its_runner_it_goes_on_at_L2_and_says_what_is_missing():
    if "user" not in state:
        skip("only root can be a runner")
    kill(state["runner"].pid)
    state["runner"].wait()
    answer = state["user"].good("verify", "clinic")
    assert answer["result"] == "passed" and answer["level"] == "L2", answer
    missing = {row["layer"]: row["why"] for row in answer["sandbox"]["missing"]}
    assert "own_uid" in missing, missing


@test
def a_policy_that_asks_for_L3_leaves_the_attempt_inconclusive_then():
    if "user" not in state:
        skip("only root can be a runner")
    user = state["user"]
    user.end_daemon()
    with open(user.settings, encoding="utf-8") as file:
        text = file.read()
    with open(user.settings, "w", encoding="utf-8") as file:
        file.write(text.replace("sandbox:\n", "sandbox:\n  lowest_level: L3\n"))
    answer = user.holdfast("verify", "clinic")
    assert answer.code == 3 and answer.json["result"] == "inconclusive", answer
    assert "no sandbox of level L3" in answer.json["reason"], answer


run()

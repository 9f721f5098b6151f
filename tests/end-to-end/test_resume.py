#!/usr/bin/python3
"""test_resume.py - a base backup that is cut off at nine tenths is cheap to repeat: what was stored is recognised."""
import os
import signal
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Appliance, Cluster, Proxy, children, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) || md5((i + 1)::text) AS name FROM generate_series(1, 300000) i")
source.sql("CHECKPOINT")


def held(appliance):
    return sum(os.path.getsize(path) for path in appliance.packs())


@test
def after_a_cut_at_nine_tenths_little_is_stored_twice():
    whole = Appliance()
    whole.add_source(source, "--verify-after-backup", "no")
    full = whole.good("backup", "clinic")
    proxy = Proxy(source.port, int((full["logical_bytes"] - (16 << 20)) * 0.9))  # the log's one segment is mostly never sent
    cut = Appliance()
    cut.add_source(source, "--verify-after-backup", "no", host="127.0.0.1", port=proxy.port)
    answer = cut.holdfast("backup", "clinic")
    assert answer.code == 1, answer
    before = held(cut)
    assert before > 0.5 * full["stored_bytes"], (before, full["stored_bytes"])
    proxy.left = 1 << 40
    again = cut.good("backup", "clinic")
    twice = held(cut) - held(whole)
    print(f"# {held(whole)} bytes held in one piece; {before} when it was cut, {held(cut)} at the end: {twice} twice")
    assert again["pages_stored"] < 0.5 * full["pages_stored"], (again, full)
    assert twice < 0.05 * held(whole), (before, again, full)
    assert cut.good("verify", "clinic")["result"] == "passed"
    proxy.close()


@test
def after_a_worker_was_killed_the_next_backup_is_whole():
    appliance = Appliance()
    appliance.add_source(source, "--verify-after-backup", "no")
    process = appliance.start("backup", "clinic")
    wait_for("a pack", lambda: held(appliance) > 0 or process.poll() is not None, 60)
    for pid in children(appliance.daemon() or 0):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    appliance.finish(process)
    appliance.good("backup", "clinic")
    assert appliance.good("verify", "clinic")["result"] == "passed"
    wait_for("the slot to go", source.no_slots)


run()

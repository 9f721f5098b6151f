#!/usr/bin/python3
"""test_elsewhere.py - a restore to another host over ssh, on which nothing of ours is installed."""
import filecmp
import os
import shutil
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import ROOT, Appliance, Cluster, folder, wait_for  # noqa: E402
from sshd import Sshd  # noqa: E402
from tap import run, test  # noqa: E402

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 50000) i")
other = Sshd()
main = Appliance(more_settings=other.settings())
main.add_source(source, "--verify-after-backup", "no")
told = source.fingerprint()
main.good("backup", "clinic")
there = os.path.join(ROOT, "there")


def entries(top):
    found = []
    for place, folders, names in os.walk(top):
        found += [os.path.relpath(os.path.join(place, name), top) for name in folders + names]
    return sorted(found)


@test
def the_copy_there_is_the_copy_here_and_starts():
    answer = main.good("restore", "clinic", "--to", other.place(there))
    assert answer["synced"] is True and answer["to"] == other.place(there), answer
    fresh = os.path.join(ROOT, "fresh")
    main.good("restore", "clinic", "--to", fresh)
    assert entries(there) == entries(fresh), set(entries(there)) ^ set(entries(fresh))
    for name in entries(fresh):
        path = os.path.join(there, name)
        assert os.stat(path).st_mode & 0o077 == 0, name
        assert os.path.isdir(path) or filecmp.cmp(path, os.path.join(fresh, name), shallow=False), name
    if os.geteuid() == 0:
        for name in ["."] + entries(there):
            shutil.chown(os.path.join(there, name), "postgres", "postgres")
    copy = Cluster.of_copy(there)
    assert copy.fingerprint() == told
    copy.stop()
    scratch = os.path.join(main.state, "scratch")
    assert not os.path.isdir(scratch) or not [name for name in os.listdir(scratch) if os.path.isdir(os.path.join(scratch, name))]


@test
def a_folder_that_holds_anything_and_a_missing_parent_are_refused():
    taken = folder("taken")
    with open(os.path.join(taken, "thesis"), "w") as file:
        file.write("years of work")
    main.bad(1, "restore", "clinic", "--to", other.place(taken), says=["is not empty"])
    assert os.listdir(taken) == ["thesis"]
    main.bad(1, "restore", "clinic", "--to", other.place(os.path.join(ROOT, "no/such/parent")), says=["its parent is missing"])
    main.bad(2, "restore", "clinic", "--to", other.place(there), "--owner", "postgres", says=["--owner"])
    main.bad(2, "restore", "clinic", "--to", "ssh://nowhere", says=["ssh://"])


@test
def a_connection_that_breaks_leaves_nothing_that_starts():
    broken = os.path.join(ROOT, "broken")
    process = main.start("restore", "clinic", "--to", other.place(broken))
    wait_for("the first files", lambda: os.path.isdir(os.path.join(broken, "base")) or process.poll() is not None, 60)
    other.stop()
    answer = main.finish(process)
    assert answer.code == 1 and not os.path.exists(os.path.join(broken, "global/pg_control")), answer
    other.start()
    main.bad(1, "restore", "clinic", "--to", other.place(broken), says=["is not empty"])


run()

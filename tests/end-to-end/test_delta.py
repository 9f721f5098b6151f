#!/usr/bin/python3
"""test_delta.py - a restore onto a copy that is there: only what differs is written, and it never looks whole too early."""
import filecmp
import os
import random
import shutil
import signal
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import ROOT, Appliance, Cluster, alive, children, folder, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

CHANCE = random.Random(4)
MARK = "holdfast_restore_unfinished"
OWNER = ["--owner", "postgres"] if os.geteuid() == 0 else []

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 100000) i")
source.sql("CREATE TABLE letters AS SELECT i, repeat(md5(i::text), 40) AS body FROM generate_series(1, 20000) i")
main = Appliance()
main.add_source(source, "--verify-after-backup", "no")
told = source.fingerprint()
backup = main.good("backup", "clinic")["backup"]
fresh = os.path.join(ROOT, "fresh")
main.good("restore", "clinic", "--to", fresh, *OWNER)
copy = os.path.join(ROOT, "copy")


def delta(*words):
    return main.good("restore", "clinic", "--to", copy, "--delta", *OWNER, *words)["delta"]


def entries(top):
    found = []
    for place, folders, names in os.walk(top):
        found += [os.path.relpath(os.path.join(place, name), top) for name in folders + names]
    return sorted(found)


def must_be_as_fresh():
    assert entries(copy) == entries(fresh), set(entries(copy)) ^ set(entries(fresh))
    for name in entries(fresh):
        one, other = os.path.join(fresh, name), os.path.join(copy, name)
        assert os.lstat(one).st_mode == os.lstat(other).st_mode and os.lstat(one).st_uid == os.lstat(other).st_uid, name
        if os.path.isfile(one):
            assert filecmp.cmp(one, other, shallow=False), name


def live_with(statements):
    os.chmod(copy, 0o700)
    server = Cluster.of_copy(copy)
    for text in statements:
        server.sql(text)
    server.stop()


@test
def a_copy_that_lived_on_becomes_the_backup_again_and_few_pages_are_written():
    main.good("restore", "clinic", "--to", copy, *OWNER)
    live_with(["UPDATE people SET name = 'changed' WHERE id % 1000 = 3", "DROP TABLE letters", "CREATE TABLE more (i int)"])
    answer = delta()
    must_be_as_fresh()
    total = answer["pages_kept"] + answer["pages_written"]
    assert answer["removed"] > 0 and answer["pages_kept"] > 1000 and answer["pages_written"] < total, answer
    server = Cluster.of_copy(copy)
    assert server.fingerprint() == told
    server.stop()


@test
def onto_an_equal_copy_only_pg_control_is_written():
    delta()
    assert delta()["pages_written"] == 1
    must_be_as_fresh()


@test
def a_page_that_was_changed_behind_its_checksum_is_seen():
    name = next(name for name in entries(copy) if os.path.basename(name).isdigit()
                and os.path.isfile(os.path.join(copy, name)) and os.path.getsize(os.path.join(copy, name)) > 4000000)
    with open(os.path.join(copy, name), "r+b") as file:
        file.seek(8192 * 100 + 5000)
        byte = file.read(1)
        file.seek(8192 * 100 + 5000)
        file.write(bytes([byte[0] ^ 1]))
    assert delta()["pages_written"] == 2
    with open(os.path.join(copy, name), "ab") as file:
        file.write(b"x" * 100000)
    with open(os.path.join(copy, "global/1262"), "r+b") as file:
        file.truncate(0)
    delta()
    must_be_as_fresh()


@test
def what_the_copy_puts_in_the_way_is_replaced_and_nothing_outside_is_touched():
    outside = folder("outside")
    precious = os.path.join(outside, "precious")
    with open(precious, "w") as file:
        file.write("precious" * 2000)
    os.unlink(os.path.join(copy, "global/1262"))
    os.symlink(precious, os.path.join(copy, "global/1262"))
    os.unlink(os.path.join(copy, "global/1260"))
    os.link(precious, os.path.join(copy, "global/1260"))
    shutil.rmtree(os.path.join(copy, "pg_xact"))
    os.symlink(outside, os.path.join(copy, "pg_xact"))
    os.unlink(os.path.join(copy, "PG_VERSION"))
    os.makedirs(os.path.join(copy, "PG_VERSION/deep/deeper"))
    os.mkfifo(os.path.join(copy, "postgresql.fifo"))
    os.symlink(outside, os.path.join(copy, "pg_tblspc/16999"))
    delta()
    must_be_as_fresh()
    assert open(precious).read() == "precious" * 2000 and os.listdir(outside) == ["precious"]


@test
def a_running_server_another_database_and_no_database_are_refused():
    os.chmod(copy, 0o700)
    server = Cluster.of_copy(copy)
    main.bad(1, "restore", "clinic", "--to", copy, "--delta", says=["a server runs on", "Stop the server"])
    assert server.sql("SELECT 1") == "1" and not os.path.exists(os.path.join(copy, MARK))
    server.stop()
    delta()
    other = Cluster()
    other.stop()
    before = entries(other.data)
    main.bad(1, "restore", "clinic", "--to", other.data, "--delta", says=["is of the system", "empty folder"])
    assert entries(other.data) == before
    nothing = folder("nothing")
    with open(os.path.join(nothing, "thesis"), "w") as file:
        file.write("years of work")
    main.bad(1, "restore", "clinic", "--to", nothing, "--delta", says=["no copy of a database"])
    main.bad(1, "restore", "clinic", "--to", os.path.join(ROOT, "missing"), "--delta", says=["missing"])
    assert os.listdir(nothing) == ["thesis"]
    main.bad(2, "restore", "clinic", "--to", copy, "--delta", "--allow-damage", says=["--delta"])


@test
def killed_in_the_middle_it_does_not_start_and_can_be_repeated():
    cut = 0
    for _ in range(8):
        for name in entries(copy):
            path = os.path.join(copy, name)
            if os.path.isfile(path) and os.path.getsize(path) > 100000:
                with open(path, "r+b") as file:
                    file.write(CHANCE.randbytes(50000))
        process = main.start("restore", "clinic", "--to", copy, "--delta", *OWNER)
        wait_for("the mark", lambda: os.path.exists(os.path.join(copy, MARK)) or process.poll() is not None, 60)
        time.sleep(CHANCE.random() * 0.15)
        for pid in [pid for pid in children(main.daemon() or 0) if alive(pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        answer = main.finish(process)
        if answer.code != 0:
            assert os.path.exists(os.path.join(copy, MARK)), answer
            # Whole is only what has pg_control, and what has it is whole.
            if os.path.exists(os.path.join(copy, "global/pg_control")):
                continue
            cut += 1
            main.bad(1, "restore", "clinic", "--to", copy, says=["is not empty"])
    assert cut >= 3, cut
    delta()
    must_be_as_fresh()
    server = Cluster.of_copy(copy)
    assert server.fingerprint() == told
    server.stop()


@test
def the_mark_of_another_database_is_not_believed():
    delta()
    with open(os.path.join(copy, MARK), "w") as file:
        file.write("A restore onto this folder by Holdfast was not finished: no server starts on it.  Run the restore again.\n"
                   "identity 1\n")
    os.rename(os.path.join(copy, "global/pg_control"), os.path.join(copy, "global/hidden"))
    main.bad(1, "restore", "clinic", "--to", copy, "--delta", says=["no copy of a database"])
    assert os.path.exists(os.path.join(copy, "global/hidden"))


run()

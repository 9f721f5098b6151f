#!/usr/bin/python3
"""test_collection.py - pins of readers, collection and the takeover of a vault, as commands, against a real server."""
import os
import re
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import SOURCE, Appliance, Cluster  # noqa: E402
from tap import run, test  # noqa: E402

READER = os.path.join(SOURCE, "tests/reader/holdfast_reader.py")

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
main = Appliance()


def entries():
    """(kind, whether it counts) of every log entry, as the second reader sees them."""
    listed = subprocess.run([READER, main.repository, "--key-file", main.key, "list"], capture_output=True, text=True)
    assert listed.returncode == 0, listed
    return [(found[1], "void" not in found[2]) for found in re.finditer(r"entry \d+ ([A-Z]+)(.*)", listed.stdout)]


def kinds(*wanted):
    return [kind for kind, counts in entries() if kind in wanted and counts]


@test
def a_restore_and_a_verification_pin_what_they_read_and_let_it_go():
    main.add_source(source, "--verify-after-backup", "no")
    main.good("backup", "clinic")
    main.good("restore", "clinic", "--to", os.path.join(main.folder, "copy"))
    assert kinds("PIN", "UNPIN") == ["PIN", "UNPIN"]
    assert main.holdfast("restore", "clinic", "--to", os.path.join(main.folder, "copy")).code != 0  # it is not empty
    assert kinds("PIN", "UNPIN") == ["PIN", "UNPIN"] * 2
    assert main.good("verify", "clinic")["result"] == "passed"
    assert kinds("PIN", "UNPIN") == ["PIN", "UNPIN"] * 3


@test
def a_collection_removes_nothing_that_counts():
    main.good("backup", "clinic")
    answer = main.good("repo", "gc")
    assert answer["packs_removed"] == answer["packs_condemned"] == answer["packs_moved"] == 0, answer
    assert answer["left_alone"] == [], answer
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0


@test
def a_takeover_wants_its_confirmation_and_then_only_the_new_epoch_counts():
    refused = main.holdfast("vault", "takeover", "clinic", "--reason", "the old host burnt down")
    assert refused.code == 2 and "--confirm clinic" in refused.errors, refused
    assert kinds("EPOCH") == []
    answer = main.good("vault", "takeover", "clinic", "--reason", "the old host burnt down", "--confirm", "clinic")
    assert answer["epoch"] == 1 and answer["sessions_ended"] == 0, answer
    assert kinds("EPOCH") == ["EPOCH"]
    main.good("backup", "clinic")
    assert main.good("repo", "gc")["packs_removed"] == 0
    assert main.good("catalog", "rebuild")["differences"] == 0
    assert main.good("verify", "clinic")["result"] == "passed"


run()

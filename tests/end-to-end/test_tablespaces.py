#!/usr/bin/python3
"""test_tablespaces.py - tablespaces are restored into the folders that somebody names, and a server uses them there."""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Appliance, Cluster, folder  # noqa: E402
from tap import run, test  # noqa: E402

OWNER = ["--owner", "postgres"] if os.geteuid() == 0 else []
source = Cluster()
wards, beds = folder("wards"), folder("beds")
for name, place in (("wards", wards), ("beds", beds)):
    source._own(place)
    source.sql(f"CREATE TABLESPACE {name} LOCATION '{place}'")
    source.sql(f"CREATE TABLE {name} TABLESPACE {name} AS SELECT i, md5(i::text) AS t FROM generate_series(1, 20000) i")
WANTED = [source.sql(f"SELECT count(*), sum(hashtext(t)) FROM {name}") for name in ("wards", "beds")]
appliance = Appliance()
appliance.add_source(source, "--verify-after-backup", "no", "--catch-up", "off")
backup = appliance.good("backup", "clinic")["backup"]
assert appliance.good("verify", "clinic")["state"] == "proven"


def fresh(name):
    return os.path.join(folder(name, 0o755), "place")


def refused(*words, to=None):
    to = to or fresh("target")
    answer = appliance.holdfast("restore", "clinic", "--to", to, *OWNER, *words)
    assert answer.code in (1, 2), answer
    assert not os.path.exists(os.path.join(to, "global")), "the target was touched"
    return answer.errors


def rows(copy):
    return [copy.sql(f"SELECT count(*), sum(hashtext(t)) FROM {name}") for name in ("wards", "beds")]


@test
def one_is_moved_and_the_other_is_a_folder_of_the_copy():
    target, elsewhere = fresh("target"), fresh("elsewhere")
    appliance.good("restore", "clinic", "--to", target, *OWNER, "--tablespace", f"{wards}={elsewhere}")
    links = {name: os.path.join(target, "pg_tblspc", name) for name in os.listdir(os.path.join(target, "pg_tblspc"))}
    moved = [path for path in links.values() if os.path.islink(path)]
    assert len(links) == 2 and len(moved) == 1 and os.readlink(moved[0]) == elsewhere, links
    assert os.stat(elsewhere).st_uid == os.stat(os.path.join(target, "PG_VERSION")).st_uid
    assert os.stat(elsewhere).st_mode & 0o777 == 0o700
    assert any(name.startswith("PG_") for name in os.listdir(elsewhere))
    os.chmod(target, 0o700)
    copy = Cluster.of_copy(target)
    assert rows(copy) == WANTED
    assert copy.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'wards'") == elsewhere
    copy.sql("INSERT INTO wards VALUES (0, 'new')")
    copy.sql("VACUUM FULL wards")
    copy.stop()
    source.sql("SELECT 1")  # nobody touched the source's own
    assert [source.sql(f"SELECT count(*), sum(hashtext(t)) FROM {name}") for name in ("wards", "beds")] == WANTED


@test
def both_are_moved_and_the_copy_needs_no_folders_in_place():
    target, first, second = fresh("target"), fresh("first"), fresh("second")
    appliance.good("restore", "clinic", "--to", target, *OWNER, "--tablespace", f"{wards}={first}/", "--tablespace", f"{beds}/={second}")
    auto = os.path.join(target, "postgresql.auto.conf")
    with open(auto, encoding="utf-8") as file:
        assert "allow_in_place_tablespaces" not in file.read()
    os.chmod(target, 0o700)
    copy = Cluster.of_copy(target)
    assert rows(copy) == WANTED
    copy.stop()


@test
def what_cannot_be_is_refused_before_anything_is_written():
    full = folder("full", 0o755)
    with open(os.path.join(full, "precious"), "w", encoding="utf-8") as file:
        file.write("mine")
    target = fresh("target")
    assert "not empty" in refused("--tablespace", f"{wards}={full}")
    said = refused("--tablespace", f"/no/such/place={fresh('x')}")
    assert "no tablespace at" in said and wards in said, said
    assert "lies in the restored copy" in refused("--tablespace", f"{wards}={target}/inside", to=target)
    shared = fresh("shared")
    assert "cannot share" in refused("--tablespace", f"{wards}={shared}", "--tablespace", f"{beds}={shared}")
    for wrong in ("nothing", f"{wards}=", "=/x", f"{wards}=relative", "a=b=c"):
        assert "OLD=NEW" in refused("--tablespace", wrong), wrong
    assert "--delta" in refused("--tablespace", f"{wards}={fresh('y')}", "--delta")
    assert os.listdir(full) == ["precious"] and not os.path.exists(shared)


run()

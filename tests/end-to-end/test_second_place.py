#!/usr/bin/python3
"""test_second_place.py - copies of the repository by commands: made, kept up to date, lived from alone, and promoted."""
import glob
import os
import re
import shutil
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import BUILD, SOURCE, Appliance, Cluster, folder, wait_for, write  # noqa: E402
from sshd import Sshd  # noqa: E402
from tap import run, test  # noqa: E402

HOLDFASTD = os.path.join(BUILD, "holdfastd")
READER = os.path.join(SOURCE, "tests/reader/holdfast_reader.py")

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")
sshd = Sshd()
main = Appliance(more_settings=sshd.settings())
near = os.path.join(main.folder, "near")
far = os.path.join(main.folder, "far")
ssh_place = sshd.place(far)


def survivor(place):
    """An appliance on an empty machine: the place, a key, and nothing else."""
    left = Appliance.__new__(Appliance)
    left.program, left.become = main.program, main.become
    left.folder = folder("survivor")
    left.repository, left.state, left.key = place, os.path.join(left.folder, "state"), main.key
    left.settings = write(os.path.join(left.folder, "holdfast.yaml"),
                          f"repository: {place}\nstate: {left.state}\nunlock:\n  key_file: {main.key}\n"
                          + sshd.settings())
    return left


def copied_rows(target):
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres:", target], check=True)
    copy = Cluster.of_copy(target)
    try:
        return copy.fingerprint()
    finally:
        copy.stop()


@test
def a_copy_is_made_in_a_folder_and_over_ssh_and_says_how_durable_it_is():
    main.add_source(source, "--verify-after-backup", "no")
    main.good("backup", "clinic")
    source.sql("UPDATE people SET name = 'changed' WHERE id % 100 = 0")
    main.good("backup", "clinic")
    main.good("verify", "clinic")
    for place in (near, ssh_place):
        first = main.good("repo", "copy", "--to", place)["places"][0]
        assert first["made"] and first["complete"] and first["durability"] == "synced", first
        again = main.good("repo", "copy", "--to", place)["places"][0]
        assert not again["made"] and again["objects"] == again["entries"] == 0 and again["kept"] > 0, again
    for place in (near, far):
        same = subprocess.run(["diff", "-rN", "-x", "staging", "-x", "holdfast-copy", main.repository, place],
                              capture_output=True, text=True)
        assert same.returncode == 0, same.stdout
    read = subprocess.run([sys.executable, "-B", READER, "--key-file", main.key, near, "check"], capture_output=True,
                          text=True)
    assert read.returncode == 0, read.stdout[-2000:] + read.stderr[-2000:]
    shown = main.holdfast("repo", "copy", "--to", near, json_wanted=False)
    assert "complete: 0 log entries" in shown.out and "durability synced" in shown.out, shown
    assert re.search(r"took [0-9.]+ s, [0-9.]+ MB/s written; [1-9][0-9]* packs were read there again", shown.out), shown


@test
def what_cannot_be_a_copy_is_refused_with_a_way_on():
    main.bad(1, "repo", "copy", "--to", main.repository, says="a repository of its own")
    main.bad(1, "repo", "copy", "--to", main.folder, says=["neither empty nor a copy", "empty folder"])
    main.bad(1, "repo", "sync", "--to", os.path.join(main.folder, "nowhere"), says="nowhere")
    main.bad(2, "repo", "sync", says=["no second place is set", "repo copy --to"])
    main.bad(1, "repo", "copy", "--to", "ssh://127.0.0.1:1/x", says=["refuses the connection", "sshd"])
    main.bad(2, "repo", "copy", "--to", "ssh://host", says="is not a place")


@test
def the_status_tells_of_each_copy_how_far_behind_it_is():
    main.end_daemon()
    main.add_settings(f"second_place:\n  at:\n    - {near}\n    - {ssh_place}\n  oldest: 1h\n")
    before = main.good("status")["second_places"]
    assert [row["state"] for row in before] == ["current", "current"] and before[0]["behind"] == 0, before
    newest = main.good("backup", "clinic")
    behind = main.holdfast("status").json["second_places"]
    assert all(row["behind"] >= 2 and row["newest_backup"] != newest["backup"] for row in behind), behind
    sshd.stop()
    failed = main.bad(3, "repo", "sync").json["places"]
    assert failed[0]["complete"] and "refuses the connection" in failed[1]["error"], failed
    status = main.holdfast("status").json["second_places"]
    assert status[0]["behind"] == 0 and status[0]["newest_backup"] == newest["backup"], status
    assert status[1]["state"] == "failed" and status[1]["behind"] >= 2 and status[1]["error"], status
    assert "behind by 0 log entries" in main.holdfast("status", json_wanted=False).out
    sshd.start()
    main.good("repo", "sync")
    assert [row["state"] for row in main.holdfast("status").json["second_places"]] == ["current", "current"]


@test
def a_sync_finds_and_renews_what_was_altered_there_without_changing_its_size():
    packs = [path for path in glob.glob(os.path.join(near, "vaults", "*", "packs", "*", "*")) if os.path.isfile(path)]
    victim = max(packs, key=os.path.getsize)
    before = open(victim, "rb").read()
    os.chmod(victim, 0o600)
    with open(victim, "r+b") as file:
        file.seek(len(before) // 2)
        file.write(bytes([before[len(before) // 2] ^ 1]))
    assert main.good("repo", "sync", "--to", near, "--fast")["places"][0]["repaired"] == 0  # its turn is later
    synced = main.bad(3, "repo", "sync", "--to", near).json["places"][0]
    assert synced["repaired"] == 1 and synced["problems"][0]["object"] in victim, synced
    assert "was altered in the copy" in synced["problems"][0]["message"], synced
    assert open(victim, "rb").read() == before
    assert synced["compared"] > 0 and synced["elapsed_ms"] > 0 and synced["bytes_per_second"] > 0, synced
    assert main.good("repo", "sync", "--to", near)["places"][0]["repaired"] == 0


@test
def an_empty_machine_lists_checks_restores_verifies_and_rebuilds_from_the_far_copy_alone():
    hidden = main.repository + ".hidden"
    main.end_daemon()
    os.rename(main.repository, hidden)
    try:
        left = survivor(ssh_place)
        assert len(left.backups()) == 3
        status = left.holdfast("status")
        assert status.json["repository"]["copy"] and status.json["repository"]["place"] == ssh_place, status
        assert left.good("repo", "check", "--level", "2")["damage_count"] == 0
        target = os.path.join(left.folder, "restored")
        left.good("restore", "clinic", "--to", target, "--backup", left.backups()[0]["backup"])
        assert copied_rows(target) == source.fingerprint()
        answer = left.good("verify", "clinic")
        assert answer["result"] == "passed" and answer["recorded"] is False, answer
        left.end_daemon()
        os.remove(os.path.join(left.state, "catalog.db"))
        assert left.good("catalog", "rebuild")["differences"] == 0
        assert len(left.backups()) == 3
        left.bad(1, "backup", "clinic", says=["is a copy of a repository", "holdfast repo promote"])
        left.bad(1, "source", "remove", "clinic", says="is a copy of a repository")
        left.bad(1, "repo", "gc", says="is a copy of a repository")
        left.bad(1, "repo", "promote", says=["signing key is missing", "signing.key"])
        left.end_daemon()
    finally:
        os.rename(hidden, main.repository)


@test
def a_damaged_pack_is_found_healed_from_the_copy_and_the_backup_is_whole_again():
    pack = main.packs()[0]
    with open(pack, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    assert main.bad(3, "repo", "check").json["damage_count"] == 1
    assert main.holdfast("status").json["damages"]
    dry = main.bad(3, "repo", "heal", "--from", ssh_place, "--dry-run").json
    assert dry["damaged"] == dry["healed"] == 1, dry
    healed = main.good("repo", "heal", "--from", ssh_place)
    assert healed["healed"] == 1 and healed["objects"][0]["object"] in pack, healed
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0
    assert not main.holdfast("status").json["damages"]
    assert main.good("repo", "heal", "--from", near)["damaged"] == 0
    assert all(row["state"] != "damaged" for row in main.backups())


@test
def a_daemon_syncs_by_itself_what_it_does_not_know_to_be_in_time():
    main.end_daemon()
    os.remove(os.path.join(main.state, "catalog.db"))  # with it goes what it remembers of the copies
    daemon = subprocess.Popen([HOLDFASTD, "--settings", main.settings], stderr=subprocess.DEVNULL)
    try:
        # Before it listens a command would start a daemon of its own, which keeps this one out.
        wait_for("the daemon", lambda: os.path.exists(os.path.join(main.state, "holdfastd.sock")), 60)
        wait_for("a sync", lambda: any(job["kind"] == "repo sync" and job["requested_by"] == "schedule" and
                                       job["state"] == "finished" for job in main.good("job", "list")["jobs"]), 150)
        assert [row["state"] for row in main.holdfast("status").json["second_places"]] == ["current", "current"]
    finally:
        daemon.terminate()
        daemon.wait(30)


@test
def a_promoted_copy_takes_backups_and_is_no_place_for_the_old_one_any_more():
    kit, old_kit = os.path.join(main.folder, "kit.txt"), os.path.join(main.folder, "old-kit.txt")
    main.good("key", "recovery-kit", "--output", old_kit)
    main.good("key", "rotate", "--root", "--passphrase-file", main.passphrase)
    main.good("key", "recovery-kit", "--output", kit)
    with open(os.path.join(main.state, "signing.key"), encoding="ascii") as file:
        signing_key = file.read()
    seed = signing_key.split("seed ")[1].strip()
    assert seed not in open(kit, encoding="utf-8").read()
    main.good("repo", "sync")
    main.end_daemon()

    left = survivor(near)  # an empty machine: nothing of the lost one but its copy, a key and the kit
    assert not os.path.exists(left.state)
    left.bad(1, "repo", "promote", says=["signing key is missing", "--kit"])
    left.bad(2, "repo", "promote", "--kit", main.key, says="the kit has no signing key")
    left.bad(1, "repo", "promote", "--kit", old_kit, says=["of root key 1", "is 2 now", "newest kit"])
    with open(kit, encoding="utf-8") as file:
        text = file.read()
    line = text.split("BEGIN HOLDFAST SIGNING KEY-----\n")[1].split("\n")[4]
    altered = write(os.path.join(main.folder, "altered.txt"), text.replace(line, line[::-1]))
    left.bad(1, "repo", "promote", "--kit", altered, says="signing key of the kit")
    assert not os.path.exists(os.path.join(left.state, "signing.key"))
    indented = write(os.path.join(main.folder, "typed.txt"), text.replace("\n", "  \r\n   "))
    left.good("repo", "promote", "--kit", indented)
    with open(os.path.join(left.state, "signing.key"), encoding="ascii") as file:
        assert file.read() == signing_key
    left.bad(1, "repo", "promote", says="is a repository already")
    assert not left.holdfast("status").json["repository"]["copy"]
    left.good("backup", "clinic")
    assert left.good("verify", "clinic")["result"] == "passed"
    assert left.good("repo", "check", "--level", "2")["damage_count"] == 0
    left.end_daemon()
    answer = main.bad(3, "repo", "sync").json["places"]
    assert "a repository of its own" in answer[0]["error"] and answer[1]["complete"], answer


run()

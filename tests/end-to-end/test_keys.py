#!/usr/bin/python3
"""test_keys.py - keys as a person handles them: slots of every kind, drills, rotation, kits, and the end of a vault."""
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import BUILD, HOLDFAST, SOURCE, Appliance, Cluster, folder, processes, wait_for, write  # noqa: E402
from tap import run, test  # noqa: E402

READER = os.path.join(SOURCE, "tests/reader/holdfast_reader.py")
HOLDFASTD = os.path.join(BUILD, "holdfastd")
ME = pwd.getpwuid(os.geteuid()).pw_name

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")

main = Appliance()
fetched = write(os.path.join(main.folder, "hsm.hex"), "6b" * 32 + "\n")
main.add_settings(f"key_commands:\n  hsm:\n    run: [/bin/cat, {fetched}]\n    timeout: 2s\n")
secret = os.path.join(main.folder, "escrow.secret")
spare = os.path.join(main.folder, "spare.key")


def slots(appliance=None):
    return {slot["name"]: slot for slot in (appliance or main).good("key", "list")["slots"]}


def copied_rows(target):
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres:", target], check=True)
    copy = Cluster.of_copy(target)
    try:
        return copy.fingerprint()
    finally:
        copy.stop()


def restore(backup, appliance=None):
    """A backup restored into a new folder; what it holds."""
    target = os.path.join(folder("restored"), "copy")
    (appliance or main).good("restore", "clinic", "--backup", backup, "--to", target)
    return copied_rows(target)


@test
def slots_of_all_four_kinds_are_made_and_listed():
    main.add_source(source, "--verify-after-backup", "no")
    main.good("backup", "clinic")
    assert set(slots()) == {"server", "safe"}
    main.good("key", "add", "--kind", "key_file", "--name", "spare", "--file", spare)
    made = main.good("key", "add", "--kind", "recipient", "--name", "escrow", "--file", secret)
    assert re.fullmatch("holdfast-recipient-1 [0-9a-f]{64}", made["recipient"]), made
    main.good("key", "add", "--kind", "command", "--name", "hsm")
    words = write(os.path.join(main.folder, "words"), "another good passphrase\n")
    main.good("key", "add", "--kind", "passphrase", "--name", "board", "--passphrase-file", words)
    found = slots()
    assert {name: slot["kind"] for name, slot in found.items()} == {
        "server": "key_file", "safe": "passphrase", "spare": "key_file", "escrow": "recipient", "hsm": "command",
        "board": "passphrase"}, found
    assert [name for name in sorted(found) if found[name]["unattended"]] == ["hsm", "server"], found
    assert found["server"]["own"] and not found["hsm"]["own"]
    main.bad(1, "key", "add", "--kind", "key_file", "--name", "spare", "--file", spare + "2", says="already")
    main.bad(1, "key", "add", "--kind", "command", "--name", "nowhere", says="there is no key command \"nowhere\"")
    main.bad(2, "key", "add", "--kind", "retina", "--name", "eye", says="no kind of key slot")
    assert len(slots()) == 6


@test
def a_drill_opens_vaults_and_a_slab_through_each_slot_and_is_on_record():
    drills = main.good("key", "drill")["drills"]
    assert sorted(drill["name"] for drill in drills) == ["hsm", "server"], drills
    assert all(drill["result"] == "passed" and drill["vaults"] == 2 and drill["backups"] == 1 for drill in drills), drills
    main.good("key", "drill", "escrow", "--key-file", secret)
    main.good("key", "drill", "spare", "--key-file", spare)
    main.good("key", "drill", "safe", "--passphrase-file", main.passphrase)
    assert all(slot["drilled_at"] for name, slot in slots().items() if name != "board"), slots()
    assert slots()["board"]["drilled_at"] is None
    answer = main.bad(3, "key", "drill", "board", "--passphrase-file", main.passphrase)
    assert answer.json["drills"][0]["result"] == "failed", answer
    assert "wrong passphrase" in answer.json["drills"][0]["reason"], answer
    assert slots()["board"]["drill"]["result"] == "failed" and slots()["board"]["drilled_at"] is None
    main.bad(2, "key", "drill", "escrow", says="not at hand")


@test
def a_key_command_that_fails_hangs_or_prints_no_key_is_named():
    cases = (("/bin/false", "ended with status 1"), ("/bin/sleep, \"60\"", "did not end within 2000 ms"),
             ("/bin/echo, nothing", "printed neither 32 bytes nor 64 hex digits"),
             ("/usr/bin/yes", "yes"), ("/nonexistent/program", "/nonexistent/program"))
    settings = open(main.settings, encoding="utf-8").read()
    try:
        for command, says in cases:
            write(main.settings, re.sub(r"run: \[.*\]", f"run: [{command}]", settings))
            answer = main.bad(3, "key", "drill", "hsm")
            reason = answer.json["drills"][0]["reason"]
            assert 'key command "hsm"' in reason and says in reason, answer
    finally:
        write(main.settings, settings)
    main.good("key", "drill", "hsm")


@test
def an_appliance_opens_its_repository_with_a_key_command_alone():
    settings = open(main.settings, encoding="utf-8").read()
    main.end_daemon()
    try:
        write(main.settings, re.sub(r"unlock:\n *key_file:.*\n", "unlock:\n  command: hsm\n", settings))
        assert slots()["hsm"]["own"] and not slots()["server"]["own"]
        assert main.good("backup", "clinic")["backup"]
        main.end_daemon()
        write(fetched, "6c" * 32 + "\n")
        main.bad(1, "status", says="wrong key command")
    finally:
        write(fetched, "6b" * 32 + "\n")
        main.end_daemon()
        write(main.settings, settings)
    assert slots()["server"]["own"]


@test
def slots_are_removed_but_never_the_one_in_use():
    main.bad(1, "key", "remove", "server", says="this appliance opens the repository with")
    main.bad(1, "key", "remove", "nobody", says="there is no key slot \"nobody\"")
    gone = main.good("key", "remove", "board")
    assert gone["kits"] == [], gone
    assert "board" not in slots()
    removed = main.good("key", "list")["removed"]
    assert [slot["name"] for slot in removed] == ["board"] and removed[0]["removed_at"], removed


@test
def a_recovery_kit_names_slots_and_log_heads_and_is_on_record():
    path = os.path.join(main.folder, "kit.txt")
    kit = main.good("key", "recovery-kit", "--output", path)
    text = open(path, encoding="utf-8").read()
    assert os.stat(path).st_mode & 0o777 == 0o600
    for head in kit["heads"]:
        assert head["vault"] in text and head["hash"] in text and f"entry {head['sequence']}" in text, text
    for name in slots():
        assert f'slot "{name}"' in text, text
    assert kit["repository"] in text and kit["public_key"] in text
    assert "73656372" not in text and open(secret).read().split()[1] not in text
    main.bad(1, "key", "recovery-kit", "--output", path, says="exists already")
    gone = main.good("key", "remove", "spare")["kits"]
    assert len(gone) == 1 and gone[0]["kit"] == kit["kit"] and not gone[0]["useless"], gone


@test
def what_was_backed_up_before_and_after_a_rotation_is_restored():
    rows = {}
    for step in ("before", "data key", "root key"):
        source.sql(f"UPDATE people SET name = '{step}' WHERE id % 7 = 0")
        if step == "data key":
            assert [vault["epoch"] for vault in main.good("key", "rotate")["vaults"]] == [2, 2]
        if step == "root key":
            main.bad(2, "key", "rotate", "--root", says='not at hand: "safe"')
            turned = main.good("key", "rotate", "--root", "--passphrase-file", main.passphrase)
            assert turned["root_generation"] == 2 and sorted(turned["slots"]) == ["escrow", "hsm", "safe", "server"], turned
        rows[main.good("backup", "clinic")["backup"]] = source.fingerprint()
    for backup, expected in rows.items():
        assert restore(backup) == expected
    listed = main.good("key", "list")
    assert listed["root_generation"] == 2 and not listed["unfinished"], listed
    assert sorted(os.listdir(os.path.join(main.repository, "keys"))) == sorted(
        [f"slot-{slot['slot']}" for slot in listed["slots"]] + ["in-force-00000002", "root-00000002"])
    for name, how in (("safe", ("--passphrase-file", main.passphrase)), ("escrow", ("--key-file", secret)), ("hsm", ())):
        assert main.good("key", "drill", name, *how)["drills"][0]["result"] == "passed"
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0
    assert main.good("catalog", "rebuild")["differences"] == 0
    read_by_another()


def read_by_another():
    done = subprocess.run([sys.executable, "-B", READER, "--key-file", main.key, main.repository, "check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@test
def an_older_bundle_put_back_is_named():
    vault = next(row["vault"] for row in main.good("vault", "list")["vaults"] if row["engine"] != "house")
    place = os.path.join(main.repository, "vaults", vault)
    before = [name for name in os.listdir(place) if name.startswith("keys-")]
    kept = shutil.copy(os.path.join(place, before[0]), os.path.join(main.folder, before[0]))
    main.good("key", "rotate")
    after = [name for name in os.listdir(place) if name.startswith("keys-")]
    assert len(before) == len(after) == 1 and before != after, (before, after)
    main.end_daemon()
    os.rename(os.path.join(place, after[0]), os.path.join(main.folder, after[0]))
    shutil.copy(kept, os.path.join(place, before[0]))
    main.bad(1, "status", says=[before[0], "an older copy was put back"])
    os.remove(os.path.join(place, before[0]))
    os.rename(os.path.join(main.folder, after[0]), os.path.join(place, after[0]))
    main.holdfast("status")


@test
def an_empty_machine_restores_with_the_secret_of_a_recipient_alone():
    elsewhere = folder("elsewhere")
    shutil.copytree(main.repository, os.path.join(elsewhere, "repository"))
    shutil.copy(secret, os.path.join(elsewhere, "secret"))
    machine = Appliance.__new__(Appliance)
    machine.program, machine.become, machine.folder = main.program, main.become, elsewhere
    machine.repository = os.path.join(elsewhere, "repository")
    machine.settings = write(os.path.join(elsewhere, "holdfast.yaml"),
                             f"repository: {machine.repository}\nstate: {elsewhere}/state\n"
                             f"unlock:\n  key_file: {elsewhere}/secret\n")
    newest = main.backups()[0]["backup"]
    assert slots(machine)["escrow"]["own"]
    assert machine.good("backups", "clinic")["backups"][0]["backup"] == newest
    assert restore(newest, machine) == source.fingerprint()
    machine.bad(1, "backup", "clinic", says="no signing key")
    machine.bad(1, "key", "recovery-kit", says="no signing key")


@test
def a_verification_with_a_key_that_opens_nothing_is_an_attempt_without_result():
    wrong = os.path.join(main.folder, "wrong.key")
    write(wrong, "holdfast-key-1 " + "5" * 64 + "\n")
    before = main.backups()[0]["state"]
    answer = main.bad(3, "verify", "clinic", "--key-file", wrong)
    assert answer.json["result"] == "inconclusive" and "wrong key file" in answer.json["reason"], answer
    assert main.backups()[0]["state"] == before
    attempts = main.good("evidence", "list", "clinic")["attempts"]
    assert attempts[0]["result"] == "inconclusive", attempts
    passed = main.good("verify", "clinic", "--key-file", secret)
    assert passed["result"] == "passed" and passed["slot"] == "escrow", passed


def of_process(pid, part):
    """Empty once it has ended."""
    try:
        with open(f"/proc/{pid}/{part}", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@test
def no_secret_is_in_a_command_line_an_environment_or_a_log():
    keys = [open(path, encoding="utf-8").read().split()[1] for path in (main.key, secret)] + ["6b" * 32]
    words = [key.encode() for key in keys] + [bytes.fromhex(key) for key in keys] + [b"correct horse battery"]
    found = []
    for top in (main.state, main.repository):
        for place, _, names in os.walk(top):
            for path in (os.path.join(place, name) for name in names):
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        text = file.read()
                    found += [path for word in words if word in text]
    assert not found, found
    settings = open(main.settings, encoding="utf-8").read()
    try:  # a key command that takes its time shows every process that is at work meanwhile
        write(main.settings, re.sub(r"run: \[.*\]", "run: [/bin/sleep, \"2\"]", settings))
        waiting = main.start("key", "drill", "hsm")
        seen = 0
        while waiting.poll() is None:
            for pid in processes(main.folder):
                for part in ("cmdline", "environ"):
                    text = of_process(pid, part)
                    assert not any(word in text for word in words), (pid, part)
                    seen += len(text) > 0
            time.sleep(0.05)
        main.finish(waiting)
        assert seen > 0
    finally:
        write(main.settings, settings)


def by_nobody(settings, *words):
    return subprocess.run([HOLDFAST, "--json", "--settings", settings, *words], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=120, user=pwd.getpwnam("nobody").pw_uid, group=65534,
                          extra_groups=[], cwd="/")


@test
def a_shredded_vault_opens_no_more_and_leaves_a_certificate():
    other = Cluster()
    other.sql("CREATE TABLE people AS SELECT 1 AS id")
    main.add_source(other, "--verify-after-backup", "no", name="lab")
    main.good("backup", "lab")
    clinic = main.good("evidence", "list", "clinic")["attempts"][0]["evidence"]
    vault = main.backups("clinic")[0]["vault"]
    main.bad(2, "vault", "shred", "clinic", says=[vault, "must be confirmed"])
    main.bad(2, "vault", "shred", "clinic", "--confirm", vault[::-1], says="must be confirmed")
    kept = os.listdir(os.path.join(main.repository, "vaults", vault))
    assert any(name.startswith("keys-") for name in kept)
    journals = os.path.join(main.repository, "journal", vault)
    os.makedirs(journals, exist_ok=True)
    write(os.path.join(journals, "0000000000000001-" + 32 * "a"), "what was received and lies in no pack yet")
    write(os.path.join(main.repository, "journal", "of-another"), "stays")

    # Two persons: the one who asks, and another of those whom the settings name.
    main.end_daemon()
    settings = open(main.settings, encoding="utf-8").read()
    place = folder("open", 0o755)
    write(main.settings, f"socket: {place}/holdfastd.sock\nshred_confirmers: nobody\n" + settings)
    daemon = subprocess.Popen([HOLDFASTD, "--settings", main.settings], stderr=subprocess.DEVNULL)
    try:
        wait_for("the daemon", lambda: os.path.exists(os.path.join(place, "holdfastd.sock")), 60)
        # What a daemon does by itself when it begins, such as a scrub, keeps a shredding away.
        wait_for("no job", lambda: all(job["state"] not in ("queued", "running")
                                       for job in main.good("job", "list")["jobs"]), 60)
        for _ in range(2):  # one person's word is one person's word, however often
            asked = main.bad(3, "vault", "shred", "clinic", "--confirm", vault, "--reason", "the contract ended").json
            assert asked["waits"] and asked["confirmers"] == "nobody", asked
        assert kept == os.listdir(os.path.join(main.repository, "vaults", vault))
        readable = write(os.path.join(place, "holdfast.yaml"), open(main.settings, encoding="utf-8").read(), 0o644)
        assert "nothing else" in by_nobody(readable, "backups").stderr
        assert by_nobody(readable, "vault", "shred", "clinic", "--confirm", vault[::-1]).returncode == 2
        done = by_nobody(readable, "vault", "shred", vault, "--confirm", vault)
        assert done.returncode == 0, done
        shredded = json.loads(done.stdout)
    finally:
        daemon.terminate()
        daemon.wait(60)
        write(main.settings, settings)
    assert not os.path.exists(journals) and os.listdir(os.path.join(main.repository, "journal")) == ["of-another"]
    people = json.load(open(shredded["evidence_path"], encoding="utf-8"))["people"]
    assert people["approved_by"] == "nobody" and people["requested_by"] == ME, people
    assert people["reason"] == "the contract ended", people
    assert not any(name.startswith("keys-") for name in os.listdir(os.path.join(main.repository, "vaults", vault)))
    assert not any(name.startswith(vault) for name in os.listdir(os.path.join(main.state, "cache")))

    certificate = json.load(open(shredded["evidence_path"], encoding="utf-8"))["shred"]
    assert certificate["vault_id"] == vault and certificate["backups"] == shredded["backups"] > 0
    names = {(wrap["name"], wrap["root_generation"]) for wrap in certificate["wraps"]}
    assert {("server", 1), ("server", 2), ("board", 1), ("spare", 1), ("escrow", 2)} <= names, names
    assert len(certificate["kits"]) == 2, certificate["kits"]
    assert {"repository_copies", "kit", "storage", "root_key"} <= {row["what"] for row in certificate["beyond_reach"]}
    for evidence, kind in ((shredded["evidence"], "shred"), (clinic, "verify")):
        document = os.path.join(main.repository, "evidence", evidence + ".json")
        checked = subprocess.run([HOLDFAST, "--json", "evidence", "verify", document, "--public-key", main.public_key],
                                 capture_output=True, text=True)
        assert checked.returncode == 0 and json.loads(checked.stdout)["kind"] == kind, checked

    assert {row["state"] for row in main.good("backups")["backups"] if row["vault"] == vault} == {"shredded"}
    assert [row["vault"] for row in main.holdfast("status").json["shredded"]] == [vault]
    row = next(row for row in main.good("vault", "list")["vaults"] if row["vault"] == vault)
    assert row["name"] == "clinic" and row["evidence"] == shredded["evidence"], row
    main.bad(1, "vault", "shred", vault, "--confirm", vault, says="shredded already")
    main.end_daemon()
    assert main.good("catalog", "rebuild")["differences"] == 0
    packs = [path for path in main.packs() if vault in path]
    swept = main.good("repo", "gc")
    assert packs and swept["packs_removed"] >= len(packs), (swept, packs)
    assert not [path for path in main.packs() if vault in path]
    assert main.good("catalog", "rebuild")["differences"] == 0
    assert main.good("verify", "lab")["result"] == "passed"
    assert main.good("repo", "check", "--level", "2")["damage_count"] == 0
    main.good("key", "rotate")
    again = main.good("backup", "clinic")
    assert again["parent"] is None and main.backups("clinic")[0]["vault"] != vault, again
    read_by_another()


run()

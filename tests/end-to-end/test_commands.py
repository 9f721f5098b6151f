#!/usr/bin/python3
"""test_commands.py - the whole road as a person walks it: by commands, against a real server, with things going wrong."""
import os
import shutil
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import (HOLDFAST, SOURCE, Appliance, Cluster, Proxy, alive, children, folder, kill, mount_small, name_of,  # noqa: E402
                       wait_for, write)
from tap import run, skip, test  # noqa: E402

READER = os.path.join(SOURCE, "tests/reader/holdfast_reader.py")
UNKNOWN = "0123456789abcdef0123456789abcdef"
ORDINARY = 12345 # a uid that nobody has

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
source.sql("ALTER TABLE people ADD PRIMARY KEY (id)")
# Hardly compressible, so that a backup can be made to last and a small disk to overflow.
source.sql("CREATE TABLE images AS SELECT i, (SELECT string_agg(md5(random()::text || i || j), '')"
           " FROM generate_series(1, 60) j) AS content FROM generate_series(1, 4000) i")


# The main job

main = Appliance()


@test
def a_source_is_added_backed_up_changed_and_backed_up_again():
    main.add_source(source, "--verify-after-backup", "no")
    report = main.holdfast("doctor", "clinic")
    assert report.code == 0, report
    first = main.good("backup", "clinic")
    source.sql("UPDATE people SET name = 'changed' WHERE id % 100 = 0")
    second = main.good("backup", "clinic")
    assert second["parent"] == first["backup"], second
    assert second["stored_bytes"] < first["stored_bytes"], (first, second)
    assert source.no_slots()


@test
def a_verification_proves_both_backups_and_the_status_is_good():
    assert main.bad(3, "status").json["sources"][0]["health"] == "unproven"
    for backup in main.backups():
        assert backup["state"] == "unproven"
        answer = main.good("verify", "clinic", "--backup", backup["backup"])
        assert answer["result"] == "passed", answer
    assert [row["state"] for row in main.backups()] == ["proven", "proven"]
    assert main.good("status")["sources"][0]["health"] == "proven"


@test
def a_restored_copy_starts_and_holds_the_same_rows():
    target = os.path.join(main.folder, "copy")
    answer = main.good("restore", "clinic", "--to", target)
    assert answer["state"] == "proven" and answer["to"] == target
    assert copied_rows(target) == source.fingerprint()


def copied_rows(target):
    """What a copy holds, seen by starting it."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "postgres:", target], check=True)
    copy = Cluster.of_copy(target)
    try:
        return copy.fingerprint()
    finally:
        copy.stop()


@test
def evidence_is_checked_elsewhere_with_the_file_its_proof_and_the_public_key_alone():
    attempts = main.good("evidence", "list")["attempts"]
    assert len(attempts) == 2
    elsewhere = folder("auditor")
    key = shutil.copy(main.public_key, elsewhere)
    for attempt in attempts:
        for ending in (".json", ".proof"):
            shutil.copy(os.path.join(main.repository, "evidence", attempt["evidence"] + ending), elsewhere)
        document = os.path.join(elsewhere, attempt["evidence"] + ".json")
        assert check_document(document, key).returncode == 0, check_document(document, key)
        with open(document, "r+b") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace(b'"passed"', b'"qassed"', 1))
        altered = check_document(document, key)
        assert altered.returncode not in (0, 2), altered


def check_document(document, key):
    return subprocess.run([HOLDFAST, "evidence", "verify", document, "--public-key", key], capture_output=True, text=True,
                          cwd=os.path.dirname(document), env={"HOLDFAST_SETTINGS": "/nonexistent", "PATH": "/usr/bin:/bin"})


@test
def the_repository_passes_every_level_of_check_and_a_rebuilt_catalog_is_equal():
    for level in ("0", "1", "2"):
        assert main.good("repo", "check", "--level", level)["damage_count"] == 0
    assert main.good("catalog", "rebuild")["differences"] == 0
    assert main.good("repo", "gc")["packs_removed"] == 0


@test
def a_second_reader_accepts_the_repository():
    read_by_another(main)


def read_by_another(appliance):
    done = subprocess.run([sys.executable, "-B", READER, "--key-file", appliance.key, appliance.repository, "check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


# What is asked for wrongly, or cannot be had

wrong = Appliance()


@test
def a_wrong_password_is_named_and_nothing_is_left():
    source.sql("CREATE ROLE keeper LOGIN REPLICATION PASSWORD 'right'")
    source.set_hba("local all postgres trust\nlocal replication postgres trust\nlocal all all scram-sha-256\n"
                   "local replication all scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
                   "host replication all 127.0.0.1/32 trust\n")
    source.reload()
    password = write(os.path.join(wrong.folder, "password"), "wrong\n")
    wrong.add_source(source, "--password-file", password, "--verify-after-backup", "no", user="keeper")
    wrong.bad(1, "backup", "clinic", says=["clinic", "password authentication failed"])
    assert wrong.holdfast("doctor", "clinic").code == 3
    assert source.no_slots()
    write(password, "right\n")
    wrong.good("backup", "clinic")
    os.chmod(password, 0o644)
    wrong.bad(1, "backup", "clinic", says=[password, "chmod 600"])
    os.chmod(password, 0o600)


@test
def a_role_without_replication_is_told_the_command_that_gives_it():
    source.sql("ALTER ROLE keeper NOREPLICATION")
    wrong.bad(1, "backup", "clinic", says="ALTER ROLE keeper REPLICATION")
    assert "ALTER ROLE keeper REPLICATION" in wrong.bad(3, "doctor", "clinic").out
    assert len(wrong.backups()) == 1
    source.sql("ALTER ROLE keeper REPLICATION")


@test
def a_server_that_allows_no_replication_is_told_the_line_of_pg_hba():
    source.set_hba("local all all trust\n")
    source.reload()
    wrong.bad(1, "backup", "clinic", says=["pg_hba.conf", "local replication keeper"])
    source.set_hba(Cluster.HBA)
    source.reload()


@test
def a_server_without_wal_senders_or_with_all_of_them_taken_is_told_what_to_set():
    source.configure("max_wal_senders = 0\nwal_level = minimal")
    source.restart()
    wrong.bad(1, "backup", "clinic", says=["max_wal_senders", "wal_level = replica"])
    source.configure("max_wal_senders = 2\nwal_level = replica")
    source.restart()
    taken = [source.take_walsender() for _ in range(2)]
    wrong.bad(1, "backup", "clinic", says=["max_wal_senders", "pg_stat_replication"])
    for client in taken:
        client.stdin.close()
        client.wait()
    source.configure("max_wal_senders = 5")
    source.restart()
    assert len(wrong.backups()) == 1


@test
def a_server_that_is_not_running_is_told_and_the_backups_stay():
    source.stop()
    try:
        wrong.bad(1, "backup", "clinic", says=["could not connect to \"clinic\""])
        assert wrong.holdfast("doctor", "clinic").code == 3
    finally:
        source.start()
    assert len(wrong.backups()) == 1


@test
def unknown_names_options_and_ids_are_refused_with_a_way_on():
    wrong.bad(1, "backup", "nobody", says=['there is no source "nobody"', "holdfast source list"])
    wrong.bad(1, "verify", "nobody", says="nobody")
    wrong.bad(1, "doctor", "nobody", says="nobody")
    wrong.bad(1, "source", "remove", "nobody", says="nobody")
    wrong.bad(1, "backups", "nobody", says="nobody")
    wrong.bad(2, "frobnicate", says='there is no command "frobnicate"')
    wrong.bad(2, "backup", "clinic", "--frobnicate", says='has no option "--frobnicate"')
    wrong.bad(2, "backup", says="SOURCE")
    wrong.bad(2, "repo", "check", "--level", "7", says="level")
    wrong.bad(1, "job", "cancel", UNKNOWN, says="has ended or was never there")
    wrong.bad(1, "restore", "clinic", "--backup", UNKNOWN, "--to", os.path.join(wrong.folder, "none"),
              says=["no such backup", "holdfast backups clinic"])
    wrong.bad(1, "verify", "clinic", "--backup", UNKNOWN, says=[UNKNOWN, "holdfast backups clinic"])
    assert not os.path.exists(os.path.join(wrong.folder, "none"))


@test
def a_folder_that_holds_something_is_not_restored_into():
    target = folder("full")
    write(os.path.join(target, "precious"), "mine")
    wrong.bad(1, "restore", "clinic", "--to", target, says="is not empty")
    assert os.listdir(target) == ["precious"]


@test
def a_restored_folder_is_given_to_nobody_who_is_not_there():
    target = os.path.join(wrong.folder, "for-nobody")
    wrong.bad(2, "restore", "clinic", "--to", target, "--owner", "dr-no", says='there is no user "dr-no"')
    assert not os.path.exists(target)


@test
def a_key_that_others_may_read_is_refused_and_so_is_a_wrong_or_missing_one():
    wrong.end_daemon()
    os.chmod(wrong.key, 0o644)
    wrong.bad(1, "status", says=[wrong.key, "chmod 600"])
    os.chmod(wrong.key, 0o600)
    right = wrong.key + ".right"
    os.rename(wrong.key, right)
    wrong.bad(1, "status", says=wrong.key)
    shutil.copy(main.key, wrong.key)
    wrong.bad(1, "backup", "clinic", says="wrong key file")
    os.rename(right, wrong.key)
    signing = os.path.join(wrong.state, "signing.key")
    os.rename(signing, signing + ".away")
    wrong.end_daemon()
    wrong.bad(1, "backup", "clinic", says=["no signing key", "signing.key"])
    assert wrong.bad(3, "status").json["alarms"][0]["what"] == "signing_key"
    wrong.end_daemon()
    os.rename(signing + ".away", signing)
    assert len(wrong.backups()) == 1


@test
def settings_with_an_unknown_key_are_refused_with_file_and_line():
    with open(wrong.settings, encoding="utf-8") as file:
        text = file.read()
    wrong.add_settings("frobnicate: yes\n")
    line = text.count("\n") + 2
    wrong.bad(2, "status", says=[f"{wrong.settings}:{line}", "frobnicate"])
    write(wrong.settings, text)
    assert len(wrong.backups()) == 1


@test
def another_server_at_the_same_address_is_not_taken_for_the_old_one():
    source.stop()
    other = Cluster(address=source)
    try:
        other.sql("CREATE ROLE keeper LOGIN REPLICATION PASSWORD 'right'")
        identifier = other.sql("SELECT system_identifier FROM pg_control_system()")
        wrong.bad(1, "backup", "clinic", says=["clinic", identifier])
        assert len(wrong.backups()) == 1
        assert other.no_slots()
    finally:
        other.stop()
        source.start()
    wrong.good("backup", "clinic")
    assert len(wrong.backups()) == 2



# What breaks while it runs

broken = Appliance()
SLOW = ("--max-rate", "2MiB", "--verify-after-backup", "no", "--replace")
FAST = ("--max-rate", "off", "--verify-after-backup", "no", "--replace")


def slow_backup(appliance=broken):
    """A backup that is busy copying, and would be for a long time."""
    appliance.add_source(source, *SLOW)
    process = appliance.start("backup", "clinic")
    wait_for("the copy", lambda: source.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'") == "1")
    time.sleep(0.5)
    return process


def the_next_backup_works(appliance=broken, server=source):
    """And nothing half-made is among the backups, and the repository is whole."""
    appliance.add_source(server, *FAST)
    before = len(appliance.backups())
    appliance.good("backup", "clinic")
    assert len(appliance.backups()) == before + 1
    assert server.no_slots()
    assert appliance.good("repo", "check", "--level", "1")["damage_count"] == 0


@test
def a_server_killed_in_the_middle_fails_the_backup_and_keeps_no_slot():
    the_next_backup_works()
    process = slow_backup()
    source.stop(signal.SIGKILL)
    answer = broken.finish(process)
    source.start()
    assert answer.code == 1 and "the connection was lost" in answer.errors, answer
    assert len(broken.backups()) == 1
    assert source.no_slots()
    the_next_backup_works()


@test
def a_cut_connection_fails_the_backup_and_the_next_one_works():
    proxy = Proxy(source.port, 3 << 20)
    broken.add_source(source, *FAST, host="127.0.0.1", port=proxy.port)
    before = len(broken.backups())
    broken.bad(1, "backup", "clinic", says="the connection was lost")
    proxy.close()
    assert len(broken.backups()) == before
    wait_for("the server to drop the slot", source.no_slots)
    the_next_backup_works()


@test
def control_c_ends_a_backup_and_leaves_nothing():
    before = len(broken.backups())
    process = slow_backup()
    process.send_signal(signal.SIGINT)
    answer = broken.finish(process, 30)
    assert answer.code == 1 and "cancelled" in answer.errors, answer
    assert len(broken.backups()) == before
    wait_for("the server to drop the slot", source.no_slots)
    assert newest_job(broken)["state"] == "cancelled"
    the_next_backup_works()


@test
def a_client_that_is_killed_takes_its_backup_along():
    before = len(broken.backups())
    process = slow_backup()
    process.kill()
    process.communicate()
    wait_for("the job to be cancelled", lambda: newest_job(broken)["state"] == "cancelled")
    assert len(broken.backups()) == before
    wait_for("the server to drop the slot", source.no_slots)
    the_next_backup_works()


def newest_job(appliance):
    return appliance.good("job", "list")["jobs"][0]


@test
def a_detached_backup_goes_on_alone_until_it_is_cancelled():
    broken.add_source(source, *SLOW)
    before = len(broken.backups())
    job = broken.good("backup", "clinic", "--detach")["job"]
    watcher = broken.start("job", "watch", job)
    wait_for("the copy", lambda: source.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'") == "1")
    time.sleep(2.5)  # longer than a daemon without work stays
    assert newest_job(broken)["job"] == job and newest_job(broken)["state"] == "running"
    broken.good("job", "cancel", job)
    answer = broken.finish(watcher, 30)
    assert answer.code == 1 and "cancelled" in answer.errors, answer
    assert len(broken.backups()) == before
    wait_for("the server to drop the slot", source.no_slots)
    the_next_backup_works()


@test
def two_backups_at_once_come_one_after_the_other():
    before = len(broken.backups())
    processes_at_once = [broken.start("backup", "clinic") for _ in range(2)]
    for process in processes_at_once:
        answer = broken.finish(process)
        assert answer.code == 0, answer
    assert len(broken.backups()) == before + 2
    assert source.no_slots()


@test
def a_killed_worker_fails_its_backup_and_the_next_one_works():
    before = len(broken.backups())
    process = slow_backup()
    kill(worker_of(broken))
    answer = broken.finish(process)
    assert answer.code == 1 and "killed by signal 9" in answer.errors, answer
    assert len(broken.backups()) == before
    wait_for("the server to drop the slot", source.no_slots)
    the_next_backup_works()


def worker_of(appliance):
    return wait_for("a worker", lambda: next((pid for pid in children(appliance.daemon()) if "--worker" in name_of(pid)),
                                             None))


@test
def a_daemon_killed_during_a_backup_loses_the_job_and_nothing_else():
    before = len(broken.backups())
    process = slow_backup()
    worker = worker_of(broken)
    kill(broken.daemon())
    answer = broken.finish(process)
    assert answer.code == 1 and "holdfastd" in answer.errors, answer
    wait_for("the worker to go with its daemon", lambda: not alive(worker))
    wait_for("the server to drop the slot", source.no_slots)
    assert len(broken.backups()) == before
    assert newest_job(broken)["state"] == "lost"
    the_next_backup_works()


@test
def a_daemon_killed_during_a_verification_leaves_no_sandbox_behind():
    process, below = verification_that_stands_still()
    kill(broken.daemon())
    answer = broken.finish(process)
    assert answer.code == 1, answer
    wait_for("the sandbox to go with its daemon", lambda: not any(alive(pid) for pid in below))
    assert broken.holdfast("status").code == 3
    assert any(job["kind"] == "verify" and job["state"] == "lost" for job in broken.good("job", "list")["jobs"])
    newest = broken.good("evidence", "list")["attempts"][0]
    assert newest["result"] == "inconclusive" and "holdfastd was killed" in newest["reason"], newest
    broken.good("evidence", "verify", os.path.join(broken.repository, "evidence", newest["evidence"] + ".json"),
                "--public-key", broken.public_key)
    assert nothing_left(broken)
    assert broken.good("verify", "clinic")["result"] == "passed"
    wait_for("the scratch to go", lambda: nothing_left(broken))


@test
def a_verification_that_is_cancelled_or_whose_worker_is_killed_is_inconclusive_and_leaves_no_sandbox():
    before = broken.backups()
    for end in (lambda process: process.send_signal(signal.SIGINT), lambda process: kill(worker_of(broken))):
        process, below = verification_that_stands_still()
        end(process)
        answer = broken.finish(process, 30)
        assert answer.code in (1, 3), answer
        wait_for("the sandbox to go", lambda: not any(alive(pid) for pid in below if pid != broken.daemon()))
        assert broken.backups() == before
        assert nothing_left(broken)
    newest = broken.good("evidence", "list")["attempts"][:2]
    assert [attempt["result"] for attempt in newest] == ["inconclusive"] * 2, newest
    assert all(attempt["reason"] and attempt["evidence"] for attempt in newest), newest


def verification_that_stands_still():
    """A verification whose database was stopped while it ran, so that it cannot be over before we end it; all ids."""
    for _ in range(20):
        process = broken.start("verify", "clinic")
        while process.poll() is None:
            below = sandbox_below(broken.daemon())
            stopped = [pid for pid in below or [] if stop(pid)]
            if stopped and process.poll() is None:
                time.sleep(0.1)  # its answer may be on its way
                if process.poll() is None:
                    return process, below
            time.sleep(0.01)
        broken.finish(process)
    raise AssertionError("each verification was over before it could be stopped")


def stop(pid):
    """True when it was a database's process, and stands still now."""
    try:
        if "postgres" in name_of(pid).split(" ")[0]:
            os.kill(pid, signal.SIGSTOP)
            return True
    except ProcessLookupError:
        pass
    return False


def sandbox_below(daemon):
    """Ids of everything below the daemon, once a database runs in a sandbox there."""
    below = children(daemon) if daemon else []
    return below if any("postgres" in name_of(pid).split(" ")[0] for pid in below) else None


def nothing_left(appliance):
    with open("/proc/mounts", encoding="utf-8") as file:
        mounted = appliance.state in file.read()
    scratch = os.path.join(appliance.state, "scratch")
    return not mounted and not (os.path.isdir(scratch) and os.listdir(scratch))


@test
def a_full_repository_keeps_the_earlier_backup_and_goes_on_when_there_is_room():
    place = folder("small")
    if not mount_small(place, 48 << 20):
        skip("needs the right to mount")
    full = Appliance(repository=os.path.join(place, "repository"))
    full.add_source(source, "--verify-after-backup", "no")
    full.good("backup", "clinic")
    ballast = os.path.join(place, "ballast")
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_bsize
    with open(ballast, "wb") as file:
        file.write(bytes(max(0, free - (1 << 20))))
    source.sql("CREATE TABLE growth AS SELECT md5(random()::text) AS noise FROM generate_series(1, 120000)")
    full.bad(1, "backup", "clinic", says=["is full", "earlier backups are untouched"])
    assert len(full.backups()) == 1
    os.unlink(ballast)
    assert full.good("repo", "check", "--level", "2")["damage_count"] == 0
    full.good("backup", "clinic")
    assert len(full.backups()) == 2
    assert full.good("verify", "clinic")["result"] == "passed"
    source.sql("DROP TABLE growth")


@test
def a_restore_to_a_disk_that_is_too_small_says_so_and_works_elsewhere():
    place = folder("disk")
    if not mount_small(place, 8 << 20):
        skip("needs the right to mount")
    broken.bad(1, "restore", "clinic", "--to", os.path.join(place, "copy"), says=["No space left", "restore to another disk"])
    target = os.path.join(broken.folder, "elsewhere")
    broken.good("restore", "clinic", "--to", target)
    assert copied_rows(target) == source.fingerprint()


@test
def a_scratch_that_is_too_small_makes_the_verification_inconclusive_and_the_status_red():
    place = folder("scratch")
    if not mount_small(place, 8 << 20):
        skip("needs the right to mount")
    tight = Appliance(more_settings=f"scratch:\n  folder: {place}\n  memory: off\n")
    tight.add_source(source, "--verify-after-backup", "no")
    tight.good("backup", "clinic")
    answer = tight.bad(3, "verify", "clinic")
    assert answer.json["result"] == "inconclusive", answer
    assert tight.bad(3, "status").json["sources"][0]["health"] == "inconclusive"
    assert [row["state"] for row in tight.backups()] == ["unproven"]


# What happens to the stored bytes

def proven_backup():
    appliance = Appliance()
    appliance.add_source(source, "--verify-after-backup", "no")
    appliance.good("backup", "clinic")
    assert appliance.good("verify", "clinic")["result"] == "passed"
    return appliance


def damage_is_found_and_healed(appliance, pack, finders):
    """Each finder by itself would do: the state is looked at after the first."""
    name = os.path.basename(pack)
    target = os.path.join(appliance.folder, "healed")
    appliance.bad(1, "restore", "clinic", "--to", target, says=name)
    for find in finders:
        find(appliance, name)
        assert appliance.backups()[0]["state"] == "damaged"
        assert appliance.bad(3, "status").json["sources"][0]["health"] == "damaged"

    healed = appliance.good("backup", "clinic")
    answer = appliance.good("verify", "clinic", "--backup", healed["backup"])
    assert answer["result"] == "passed" and answer["state"] == "proven", answer
    assert [row["state"] for row in appliance.backups()] == ["proven", "damaged"]
    shutil.rmtree(target, ignore_errors=True)
    appliance.good("restore", "clinic", "--to", target)
    assert copied_rows(target) == source.fingerprint()


def verification_finds(appliance, pack):
    answer = appliance.bad(3, "verify", "clinic")
    assert answer.json["result"] == "failed" and answer.json["state"] == "damaged", answer
    assert pack in answer.json["reason"], answer


def check_finds(appliance, pack):
    answer = appliance.bad(3, "repo", "check", "--level", "1")
    assert [row["pack"] for row in answer.json["damages"]] == [pack], answer


@test
def a_flipped_byte_is_found_named_and_healed_by_the_next_backup():
    appliance = proven_backup()
    pack = appliance.packs()[0]
    with open(pack, "r+b") as file:
        file.seek(os.path.getsize(pack) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))
    damage_is_found_and_healed(appliance, pack, (check_finds, verification_finds))


@test
def a_lost_pack_is_found_named_and_healed_by_the_next_backup():
    appliance = proven_backup()
    pack = appliance.packs()[0]
    os.unlink(pack)
    damage_is_found_and_healed(appliance, pack, (verification_finds, check_finds))


@test
def a_lost_pack_of_maps_is_found_named_and_healed_by_the_next_backup():
    appliance = proven_backup()
    pack = appliance.packs()[-1]
    os.unlink(pack)
    damage_is_found_and_healed(appliance, pack, (verification_finds, check_finds))


stored = Appliance()


def log_of(appliance):
    """The folder of the source's log, and its entries in order."""
    logs = []
    vaults = os.path.join(appliance.repository, "vaults")
    for vault in os.listdir(vaults):
        place = os.path.join(vaults, vault, "log")
        logs.append((len(os.listdir(place)), place))
    place = max(logs)[1]
    return place, sorted(os.listdir(place))


@test
def entries_are_in_the_log_in_their_order():
    stored.add_source(source, "--verify-after-backup", "no")
    for _ in range(2):
        stored.good("backup", "clinic")
    entries = log_of(stored)[1]
    assert [int(name, 16) for name in entries] == list(range(1, len(entries) + 1)), entries
    assert len(entries) >= 4, entries


@test
def a_missing_log_entry_is_told_and_restores_nothing_wrong():
    place, entries = log_of(stored)
    for at in (2, len(entries) - 1):
        stored.end_daemon()
        entry = os.path.join(place, entries[at])
        os.rename(entry, stored.folder + "/entry")
        answer = stored.holdfast("backups", "clinic")
        os.rename(stored.folder + "/entry", entry)
        assert answer.code == 1 and "log" in answer.errors, (at, str(answer))
    assert len(stored.backups()) == 2


@test
def a_log_entry_replaced_by_an_older_one_is_told():
    place, entries = log_of(stored)
    stored.end_daemon()
    newest = os.path.join(place, entries[-1])
    os.rename(newest, stored.folder + "/entry")
    shutil.copy(os.path.join(place, entries[-2]), newest)
    answer = stored.holdfast("backups", "clinic")
    os.rename(stored.folder + "/entry", newest)
    assert answer.code == 1 and "log" in answer.errors, answer
    assert len(stored.backups()) == 2


@test
def a_deleted_catalog_is_made_again_by_the_next_command():
    before = stored.backups()
    stored.end_daemon()
    for ending in ("", "-wal", "-shm"):
        if os.path.exists(os.path.join(stored.state, "catalog.db" + ending)):
            os.unlink(os.path.join(stored.state, "catalog.db" + ending))
    assert stored.backups() == before
    assert stored.good("catalog", "rebuild")["differences"] == 0


@test
def a_catalog_of_garbage_is_set_aside_and_made_again_and_the_status_says_so():
    before = stored.backups()
    stored.end_daemon()
    for ending in ("-wal", "-shm"):
        if os.path.exists(os.path.join(stored.state, "catalog.db" + ending)):
            os.unlink(os.path.join(stored.state, "catalog.db" + ending))
    with open(os.path.join(stored.state, "catalog.db"), "wb") as file:
        file.write(os.urandom(65536))
    status = stored.holdfast("status").json
    assert status["catalog_set_aside"] and os.path.exists(status["catalog_set_aside"]), status
    assert stored.backups() == before


@test
def a_repository_that_is_away_is_named_and_comes_back_as_it_was():
    stored.end_daemon()
    os.rename(stored.repository, stored.folder + "/away")
    stored.bad(1, "backup", "clinic", says=["could not open repository folder", stored.repository])
    assert not os.path.exists(stored.repository)
    os.rename(stored.folder + "/away", stored.repository)
    assert len(stored.backups()) == 2


@test
def a_repository_put_back_to_an_older_copy_is_refused():
    stored.end_daemon()
    older = stored.folder + "/older"
    shutil.copytree(stored.repository, older)
    stored.good("backup", "clinic")
    stored.end_daemon()
    os.rename(stored.repository, stored.folder + "/newer")
    os.rename(older, stored.repository)
    stored.bad(1, "backups", "clinic", says=["older copy", "newer log"])
    stored.bad(1, "backup", "clinic", says="older copy")
    os.rename(stored.repository, older)
    os.rename(stored.folder + "/newer", stored.repository)
    assert len(stored.backups()) == 3


@test
def after_all_of_it_the_second_reader_still_accepts_the_repositories():
    for appliance in (broken, stored):
        read_by_another(appliance)


# Without root


@test
def an_ordinary_user_backs_up_proves_at_a_level_that_is_named_and_restores():
    if os.geteuid() != 0:
        skip("whoever runs this is one already: every other test has shown it")
    user = Appliance(uid=ORDINARY)
    user.add_source(source, "--verify-after-backup", "no")
    user.good("backup", "clinic")
    verdict = user.good("verify", "clinic")
    assert verdict["result"] == "passed" and verdict["level"] == "L2" and verdict["state"] == "proven", verdict
    target = os.path.join(user.folder, "copy")
    user.good("restore", "clinic", "--to", target)
    assert os.stat(os.path.join(target, "PG_VERSION")).st_uid == ORDINARY
    user.bad(1, "restore", "clinic", "--to", target + "2", "--owner", "postgres", says="only root can give")
    assert user.good("repo", "check", "--level", "2")["damages"] == []
    user.good("repo", "gc")
    user.good("doctor", "clinic")
    user.end_daemon()


run()

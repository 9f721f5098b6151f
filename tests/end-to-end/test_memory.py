#!/usr/bin/python3
"""test_memory.py - what a core dump of our processes would hold: no key of the repository, and none that signs.

A dump holds the mappings that are not marked as left out of it (smaps: "dd").  They are read from the living process, of the
daemon and of the workers while they back up and verify; a real dump by gcore, where it is installed, is searched too.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, os.path.join(here, "../reader"))
sys.path.insert(0, here)
from appliance import BUILD, Appliance, Cluster, folder, wait_for  # noqa: E402
from holdfast_reader import parse_arguments  # noqa: E402
from objects import Credential  # noqa: E402
from repository import Repository  # noqa: E402
from tap import run, skip, test  # noqa: E402

HOLDFASTD = os.path.join(BUILD, "holdfastd")

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 200000) i")
main = Appliance(folder("dumped"))
main.add_source(source, "--verify-after-backup", "no")
main.good("backup", "clinic")
main.end_daemon()
daemon = subprocess.Popen([HOLDFASTD, "--settings", main.settings], stderr=subprocess.DEVNULL)
wait_for("the daemon", lambda: os.path.exists(os.path.join(main.state, "holdfastd.sock")), 60)


def secrets():
    """Name -> bytes: raw, and as the text in the files."""
    with open(main.key, encoding="ascii") as file:
        key = file.read().split()[1]
    with open(os.path.join(main.state, "signing.key"), encoding="ascii") as file:
        seed = file.read().split("seed ")[1].strip()
    opened = Repository(main.repository, Credential.from_arguments(
        parse_arguments([main.repository, "--key-file", main.key, "list"])))
    found = {"key file": key, "key file, raw": bytes.fromhex(key), "signing seed": seed,
             "signing seed, raw": bytes.fromhex(seed), "root key": opened.root_key}
    for vault in opened.vaults:
        keys = vault.keys
        found |= {"map key": keys.map_key, "record key": keys.record_key, "digest key": keys.digest_key}
        found |= {f"data secret {number}": secret for number, secret in keys.data_secrets.items()}
    return {name: one.encode() if isinstance(one, str) else bytes(one) for name, one in found.items()}


def mappings(pid):
    """(start, end, would be dumped) of what can be read."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        text = file.read()
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        start, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", block).groups()
        flags = re.search(r"VmFlags:(.*)", block).group(1).split()
        if rights.startswith("r") and "io" not in flags:
            yield int(start, 16), int(end, 16), "dd" not in flags


def search(pid, wanted):
    """Names found in what would be dumped, and names found anywhere."""
    dumped, anywhere = set(), set()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, goes in mappings(pid):
            memory.seek(start)
            try:
                content = memory.read(end - start)
            except OSError:
                continue  # a page that nobody ever touched behind a guard
            names = {name for name, secret in wanted.items() if secret in content}
            anywhere |= names
            dumped |= names if goes else set()
    return dumped, anywhere


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def watch(job, wanted):
    """Searches the daemon and its workers again and again while a job runs; each worker stands still meanwhile."""
    seen, dumped, held = 0, {}, set()
    while job.poll() is None:
        for pid in [daemon.pid, *children(daemon.pid)]:
            try:
                os.kill(pid, signal.SIGSTOP)
                try:
                    found, anywhere = search(pid, wanted)
                finally:
                    os.kill(pid, signal.SIGCONT)
            except (OSError, FileNotFoundError):
                continue  # it ended meanwhile
            seen += pid != daemon.pid
            held |= anywhere
            if found:
                dumped.setdefault("daemon" if pid == daemon.pid else "worker", set()).update(found)
        time.sleep(0.02)
    return seen, dumped, held


@test
def no_dump_of_the_daemon_or_a_worker_that_backs_up_holds_a_key():
    if os.geteuid() != 0:
        skip("only root reads the memory of others")
    wanted = secrets()
    source.sql("UPDATE people SET name = name || 'x'")
    seen, dumped, held = watch(main.start("backup", "clinic"), wanted)
    assert seen > 0 and "root key" in held, (seen, held)  # else the search looks in the wrong place
    assert not dumped, dumped


@test
def no_dump_of_a_worker_that_verifies_or_restores_holds_a_key():
    if os.geteuid() != 0:
        skip("only root reads the memory of others")
    wanted = secrets()
    for command in (["verify", "clinic"], ["restore", "clinic", "--to", os.path.join(main.folder, "restored")]):
        seen, dumped, held = watch(main.start(*command), wanted)
        assert seen > 0 and held, (command, seen, held)
        assert not dumped, (command, dumped)


@test
def a_dump_by_the_debugger_holds_no_key_and_a_crash_leaves_no_dump():
    pid, wanted = daemon.pid, secrets()
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        assert re.search(r"Max core file size +0 +0 ", file.read())
    if shutil.which("gcore") is None or os.geteuid() != 0:
        skip("gcore is not installed, or we are not root")
    prefix = os.path.join(main.folder, "core")
    made = subprocess.run(["gcore", "-o", prefix, str(pid)], capture_output=True, text=True, timeout=120)
    dumps = glob.glob(prefix + ".*")
    assert dumps, made.stdout + made.stderr
    with open(dumps[0], "rb") as file:
        content = file.read()
    os.remove(dumps[0])
    assert len(content) > 100000
    found = [name for name, secret in wanted.items() if secret in content]
    assert not found, found
    os.kill(pid, signal.SIGSEGV)
    daemon.wait(60)
    assert not glob.glob(os.path.join(main.state, "core*")) and not glob.glob("/core*")


run()

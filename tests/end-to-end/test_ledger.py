#!/usr/bin/python3
"""test_ledger.py - commits that waited for us are there after everything has died: the ledger of their clients says so.

Clients commit numbers with synchronous_standby_names naming our receiver, and keep what was acknowledged.  Server, receiver,
appliance and the power of the repository's file system go at random.  Then the newest moment is restored, the server is
started on it, and every acknowledged number must be there; nothing that nobody wrote may be.

CYCLES and SEED make it longer, and repeatable: tests/campaigns/ledger.
"""
import ctypes
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import ROOT, Cluster, children, folder, kill, name_of, wait_for  # noqa: E402
from moments import Daemon, Ledgered  # noqa: E402
from pq import Connection, Lost  # noqa: E402
from tap import run, test  # noqa: E402

CYCLES = int(os.environ.get("CYCLES", "24"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1 << 31)
CHANCE = random.Random(SEED)
PROVEN_EVERY = 40  # cycles: a restore in between
WRITERS = 3
DISK_BYTES = 768 << 20
CLONE_NEWNS = 0x00020000
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
PROGRESS = 3  # commits that must come through before the next blow

print(f"# seed {SEED}, {CYCLES} cycles")


class Disk:
    """An ext4 over a loop device, in a mount namespace of this program alone."""

    def __init__(self):
        self.image, self.place = os.path.join(ROOT, "image"), folder("disk")
        self.usable = os.geteuid() == 0 and self._make()

    def _make(self):
        with open(self.image, "wb") as file:
            file.truncate(DISK_BYTES)
        libc = ctypes.CDLL(None, use_errno=True)
        return (subprocess.run(["mkfs.ext4", "-q", "-F", self.image], capture_output=True).returncode == 0
                and libc.unshare(CLONE_NEWNS) == 0
                and subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode == 0
                and self.mount())

    def mount(self):
        return subprocess.run(["mount", "-o", "loop", self.image, self.place], capture_output=True).returncode == 0

    def unmount(self):
        wait_for("the disk to be free", lambda: subprocess.run(["umount", self.place], capture_output=True).returncode == 0, 30)

    def cut_power(self):
        """What is not on the device by now never will be."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            return True
        except OSError:
            return False
        finally:
            os.close(fd)


class Writer(threading.Thread):
    """Commits number after number until it is told to stop; tries again with a new number when the server is away."""

    lock = threading.Lock()
    attempted, acknowledged = set(), set()
    doubtful = set()  # acknowledged in the moment of a power cut, see cut()
    newest = 0

    def __init__(self):
        super().__init__(daemon=True)
        self.over = False
        self.start()

    def run(self):
        connection = None
        while not self.over:
            try:
                if connection is None:
                    connection = Connection(clinic.server.connection() + " application_name=writer")
                with Writer.lock:
                    Writer.newest += 1
                    number = Writer.newest
                    Writer.attempted.add(number)
                connection.run(f"INSERT INTO ledger VALUES ({number}, repeat('x', {CHANCE.randrange(20, 2000)}))")
                with Writer.lock:
                    Writer.acknowledged.add(number)
            except (Lost, AssertionError):  # it may be starting, or stopping
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)
        if connection is not None:
            connection.close()


def cut():
    """
    Cuts the power.  A sync that is under way in this very moment can return 0 although its bytes are gone: Linux tells a file
    system that was shut down nothing of extents it could not convert (seen with 6.18, by a plain loop of pwrite and fdatasync
    on a preallocated file: the last success up to 0.2 ms behind the ioctl).  A real power cut runs no programs afterwards.
    So what is acknowledged while the ioctl runs proves nothing; what is acknowledged later would be our fault.
    """
    with Writer.lock:
        before = set(Writer.acknowledged)
    if not disk.cut_power():
        return False
    time.sleep(0.1)
    with Writer.lock:
        Writer.doubtful |= Writer.acknowledged - before
    return True


disk = Disk()
server = Cluster("max_slot_wal_keep_size = 4GB\nwal_keep_size = 0\ncheckpoint_timeout = 30s\n")
clinic = Ledgered(server, repository=os.path.join(disk.place, "repository") if disk.usable else None)
daemon = None
writers = []
cuts = {}


def acknowledged():
    with Writer.lock:
        return len(Writer.acknowledged)


def progress():
    wanted = acknowledged() + PROGRESS
    wait_for("commits to come through", lambda: acknowledged() >= wanted, 90)


@test
def commits_wait_for_the_receiver():
    global daemon
    clinic.add()
    daemon = Daemon(clinic.appliance)
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.prove()
    server.configure("synchronous_standby_names = 'holdfast_stream'")
    server.reload()
    wait_for("the pairing", lambda: server.sql("SELECT sync_state FROM pg_stat_replication "
                                               "WHERE application_name = 'holdfast_stream'") == "sync", 60)
    writers.extend(Writer() for _ in range(WRITERS))
    progress()


def kill_server():
    server.stop(signal.SIGKILL)
    server.start()


def stop_server_at_once():
    server.stop(signal.SIGQUIT)
    server.start()


def kill_receiver():
    for pid in children(daemon.process.pid):
        if "--worker" in name_of(pid):
            kill(pid)


def kill_appliance():
    global daemon
    daemon.kill()
    daemon = Daemon(clinic.appliance)


def cut_power():
    global daemon
    if not disk.usable or not cut():
        return kill_appliance()
    time.sleep(CHANCE.random() * 0.2)
    daemon.kill()
    disk.unmount()
    assert disk.mount(), "the disk cannot be mounted after the power cut"
    daemon = Daemon(clinic.appliance)


def everything_at_once():
    global daemon
    server.stop(signal.SIGKILL)
    daemon.kill()
    daemon = Daemon(clinic.appliance)
    server.start()


def power_and_server_together():
    """The one case in which nobody can send again what was acknowledged too early: so it is looked for before he can."""
    global daemon
    if not disk.usable or not cut():
        return everything_at_once()
    time.sleep(CHANCE.random() * 0.3)
    server.stop(signal.SIGKILL)
    daemon.kill()
    disk.unmount()
    assert disk.mount(), "the disk cannot be mounted after the power cut"
    daemon = Daemon(clinic.appliance)
    compare()
    server.start()


BLOWS = [power_and_server_together, kill_server, stop_server_at_once, kill_receiver, kill_receiver, kill_appliance, cut_power, cut_power, everything_at_once]


@test
def server_receiver_appliance_and_power_go_at_random():
    for cycle in range(CYCLES):
        time.sleep(CHANCE.random() * 0.3)
        blow = BLOWS[cycle] if cycle < len(BLOWS) else CHANCE.choice(BLOWS)
        cuts[blow.__name__] = cuts.get(blow.__name__, 0) + 1
        blow()
        try:
            progress()
        except AssertionError as stuck:
            raise AssertionError(f"cycle {cycle}, {blow.__name__}: {stuck}; {clinic.stream()}") from None
        if cycle % PROVEN_EVERY == PROVEN_EVERY - 1:
            compare()
    print(f"# {acknowledged()} acknowledged commits, {len(Writer.doubtful)} of them in the moment of a power cut, {cuts}")


def compare():
    """Whatever goes on meanwhile: what was acknowledged before must be in a copy that is made now."""
    with Writer.lock:
        before = set(Writer.acknowledged)
    numbers, _ = clinic.restore("--latest")
    with Writer.lock:
        attempted = set(Writer.attempted)
        doubtful = set(Writer.doubtful)
    missing, foreign = before - set(numbers) - doubtful, set(numbers) - attempted
    assert not missing and not foreign, (SEED, sorted(missing)[:10], sorted(foreign)[:10], len(before), len(numbers))


@test
def the_server_is_lost_for_good_under_load_and_no_acknowledged_commit_is_missing():
    progress()
    server.stop(signal.SIGKILL)
    for writer in writers:
        writer.over = True
    for writer in writers:
        writer.join(30)
    compare()


@test
def no_gap_was_found_and_everything_stored_is_sound():
    status = clinic.status()
    assert not status["gaps"], status["gaps"]
    assert len(clinic.stream()["windows"]) == 1, clinic.stream()
    daemon.stop()
    assert clinic.appliance.good("repo", "check", "--level", "2")["damage_count"] == 0
    clinic.appliance.end_daemon()
    if disk.usable:
        disk.unmount()


run()

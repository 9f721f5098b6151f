"""host.py - what a hostile copy must not reach: files of the host, its network, and time without end.

Import it before anything that starts processes: as root, this process and all it starts then live in a network of
their own, in which nobody else speaks, so that one packet is one too many, and in control groups of their own, in which
what is left is ours and of no test beside us.
"""
import atexit
import ctypes
import fcntl
import glob
import os
import socket
import struct
import threading
import time

FOLDERS = ("/etc", "/usr/local", "/usr/lib/postgresql", "/usr/share/postgresql", "/usr/bin", "/usr/sbin", "/boot", "/opt",
           "/srv", "/var/spool", "/var/lib/postgresql")
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
NEVER_SETTLES = 20
GROUP = "holdfast-test-"


def _own_network():
    """True in a network of our own, whose one interface is `lo`."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))
    return True


def _groups():
    """Folders of the control groups that we are in, of each hierarchy that limits memory or processes, or of the one."""
    found = {}
    with open("/proc/self/cgroup", encoding="ascii") as file:
        ours = [line.rstrip("\n").split(":", 2)[1:] for line in file]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            (_, _, _, root, point, *_), (kind, _, options) = (half.split() for half in line.split(" - "))
            for controllers, group in ours:
                limits = {"memory", "pids"} & set(controllers.split(",")) & set(options.split(","))
                if kind == "cgroup" and limits or kind == "cgroup2" and controllers == "":
                    found[os.path.normpath(point + "/" + os.path.relpath(group, root))] = kind
    return found


def _enter_own_groups():
    """Of version 1 only: in version 2 no group that hands controllers on may have processes."""
    if os.geteuid() != 0:
        return
    for folder in [folder for folder, kind in _groups().items() if kind == "cgroup"]:
        for old in glob.glob(f"{folder}/{GROUP}*"):
            if not os.path.exists("/proc/" + old.rpartition("-")[2]):
                _remove_group(old)
        own = f"{folder}/{GROUP}{os.getpid()}"
        os.makedirs(own, exist_ok=True)
        _write(f"{own}/cgroup.procs", str(os.getpid()))
        atexit.register(_leave_group, folder, own, os.getpid())


def _leave_group(folder, own, who):
    if os.getpid() == who:
        _write(f"{folder}/cgroup.procs", str(who))
        _remove_group(own)


def _remove_group(folder):
    """As far as nobody is in it."""
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(path)
        except OSError:
            pass


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


OWN_NETWORK = _own_network()
_enter_own_groups()


def packets():
    """How many packets were sent in our network so far; always 0 where it is not ours alone."""
    if not OWN_NETWORK:
        return 0
    with open("/proc/self/net/dev", encoding="ascii") as file:
        return sum(int(line.split(":", 1)[1].split()[9]) for line in file if ":" in line)


class Decoy:
    """A port on this host that hostile things dial; it counts them and answers nothing."""

    def __init__(self):
        self.calls = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            caller, _ = self.listener.accept()
            self.calls += 1
            caller.close()


def _inodes(folder):
    """Of everything below a folder: what would change if somebody wrote, replaced, linked or gave it away."""
    found, left = {}, [folder]
    while left:
        try:
            entries = list(os.scandir(left.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            found[entry.path] = (info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_size,
                                 info.st_mtime_ns, info.st_ctime_ns)
            if entry.is_dir(follow_symlinks=False):
                left.append(entry.path)
    return found


class Host:
    """The host as it is now, and what is different later."""

    def __init__(self, *more_folders, decoy=None):
        self.folders = [folder for folder in (*FOLDERS, *more_folders) if os.path.isdir(folder)]
        self.decoy = decoy
        self.files = self._look()
        self.packets = packets()
        self.calls = decoy.calls if decoy else 0
        self.began = time.monotonic()

    def _look(self):
        found = {}
        for folder in self.folders:
            found.update(_inodes(folder))
        return found

    def assert_unchanged(self, within_seconds):
        took = time.monotonic() - self.began
        assert took < within_seconds, f"it took {took:.0f} s, more than {within_seconds} s"
        now = self._look()
        changed = sorted(path for path in {**self.files, **now} if self.files.get(path) != now.get(path))
        assert not changed, f"changed on the host: {changed[:10]}"
        assert packets() == self.packets, f"{packets() - self.packets} packets were sent"
        if self.decoy:
            assert self.decoy.calls == self.calls, f"somebody called {self.decoy.calls - self.calls} times"


def leftovers(scratch):
    """What verifications that are over have left behind: folders, mounts, control groups; an empty list is right."""
    found = [os.path.join(scratch, name) for name in (os.listdir(scratch) if os.path.isdir(scratch) else [])]
    with open("/proc/self/mounts", encoding="utf-8") as file:
        found += [line.split()[1] for line in file if scratch in line]
    for folder in _groups():
        for group in glob.glob(f"{folder}/**/holdfast-sandbox-*", recursive=True):
            if not os.path.exists("/proc/" + group.rpartition("-")[2]):
                found.append(group)
    return found

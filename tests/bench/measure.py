"""measure.py - one measured operation: how long until its result is on the disk, and how much memory it took

    with Window(environment) as window:
        window.run(["restic", "backup", "."], cwd=data)
        window.sync(repository)
    window.seconds, window.memory.peak_kib

Everything started through a window runs in a cgroup of its own.  Its peak counts all that the kernel charges to the
group: memory of the processes, and the page cache of the files that they were the first to touch.  The second figure,
sampled every 20 ms, is without page cache, which the kernel takes back when somebody needs memory.
"""
import contextlib
import os
import pwd
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

SAMPLE_S = 0.02
PATIENCE_S = 60
OUTPUT_KEPT = 4000  # bytes of a failed command's output


class Failure(Exception):
    """Something that the benchmark needs did not work; the text is for a person."""


@dataclass
class Memory:
    peak_kib: int  # as the kernel counts, page cache included
    process_kib: int  # of that, not page cache
    how: str  # "cgroup v1", "cgroup v2" or "sum of VmHWM"


def own_user():
    return pwd.getpwuid(os.geteuid()).pw_name


def other_user():
    """Who runs the database server and all tools that are not Holdfast: PostgreSQL refuses root."""
    return "postgres" if os.geteuid() == 0 else own_user()


class Window:
    count = 0

    def __init__(self, environment):
        self.environment = environment
        self.group = make_group()
        self.children = []

    def __enter__(self):
        subprocess.run(["sync"], check=True)  # what others wrote before is not our time
        self.sampler = Sampler(self.group)
        self.began = time.monotonic()
        return self

    def __exit__(self, kind, problem, trace):
        self.seconds = time.monotonic() - self.began
        for child in self.children:
            kill(child)
        self.memory = self.sampler.stop()
        empty(self.group, by_force=kind is not None)
        self.group.remove()

    def start(self, command, user=None, **options):
        """A process in this window's cgroup and in a session of its own."""
        account = pwd.getpwnam(user or other_user())

        def prepare():  # after fork: nothing that could wait for a lock
            self.group.enter()
            if os.geteuid() != account.pw_uid:
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)

        child = subprocess.Popen(command, env=self.environment, start_new_session=True, preexec_fn=prepare,
                                 **{"stdin": subprocess.DEVNULL, **options})
        self.children.append(child)
        self.group.pids.add(child.pid)
        return child

    def run(self, command, output=True, **options):
        """Runs a command to its end and returns what it said; without output that goes to /dev/null."""
        child = self.start(command, stdout=subprocess.PIPE if output else subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
        said, errors = child.communicate()
        said = (said or b"").decode(errors="replace")
        if child.returncode != 0:
            raise Failure(f"{' '.join(command)}: exit status {child.returncode}\n"
                          + (said + errors.decode(errors="replace"))[-OUTPUT_KEPT:])
        return said

    def run_pipe(self, first, second, path, **options):
        """first | second > path"""
        with open(path, "wb") as target:
            left = self.start(first, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options)
            right = self.start(second, stdin=left.stdout, stdout=target, **options)
            left.stdout.close()
            if left.wait() != 0 or right.wait() != 0:
                raise Failure(f"{' '.join(first)} | {' '.join(second)}: exit status {left.returncode}, {right.returncode}")

    def sync(self, folder):
        """Until the file system of the folder has everything on the disk (syncfs)."""
        self.run(["sync", "-f", folder], user=own_user())


def empty(group, by_force):
    """Waits for the last process: the private daemon that `holdfast` starts leaves two seconds after its last client."""
    deadline = time.monotonic() + PATIENCE_S
    while members := group.members():
        if time.monotonic() > deadline:
            raise Failure(f"processes of a measured command are still there after {PATIENCE_S} s")
        for pid in members if by_force else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def kill(child):
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


# ---------------------------------------------------------------------------------------------------- memory

def make_group():
    Window.count += 1
    name = f"holdfast-bench-{os.getpid()}-{Window.count}"
    for kind in (GroupOfVersion2, GroupOfVersion1):
        group = kind.make(name)
        if group:
            return group
    return NoGroup()


class Group:
    """A memory cgroup: a folder that processes are written into."""
    def __init__(self, path):
        self.pids = set()  # that we started; the kernel knows their children
        self.path = path
        os.mkdir(path)
        self.door = os.open(f"{path}/cgroup.procs", os.O_WRONLY)

    def enter(self):
        os.write(self.door, b"0")

    def read(self, name):
        with open(f"{self.path}/{name}") as file:
            return file.read()

    def process_kib(self):
        """Memory that is not page cache, now."""
        for line in self.read("memory.stat").splitlines():
            name, value = line.split()
            if name == self.statistic:
                return int(value) // 1024
        raise Failure(f"{self.path}/memory.stat has no line {self.statistic}")

    def members(self):
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def remove(self):
        os.close(self.door)
        for _ in range(500):
            try:
                os.rmdir(self.path)
                return
            except OSError:  # the kernel is still taking the last process apart
                time.sleep(0.01)
        raise Failure(f"{self.path} cannot be removed")


class GroupOfVersion2(Group):
    how = "cgroup v2"
    statistic = "anon"

    @classmethod
    def make(cls, name):
        root = "/sys/fs/cgroup"
        try:
            with open(f"{root}/cgroup.subtree_control") as file:
                if "memory" not in file.read().split():
                    return None
            group = cls(f"{root}/{name}")
        except OSError:
            return None
        if not os.path.exists(f"{group.path}/memory.peak"):  # older than Linux 5.19
            group.remove()
            return None
        return group

    def peak_kib(self):
        return int(self.read("memory.peak")) // 1024


class GroupOfVersion1(Group):
    how = "cgroup v1"
    statistic = "total_rss"

    @classmethod
    def make(cls, name):
        try:
            with open("/proc/self/cgroup") as file:
                ours = [line.strip().split(":", 2)[2] for line in file if "memory" in line.split(":")[1].split(",")]
            return cls(f"/sys/fs/cgroup/memory{ours[0]}/{name}") if ours else None
        except OSError:
            return None

    def peak_kib(self):
        return int(self.read("memory.max_usage_in_bytes")) // 1024


class NoGroup:
    """Where no cgroup can be made: the highest resident size of each process, added up.  More than was ever in use
    at once, less than all when a process lives shorter than a sample."""
    how = "sum of VmHWM"

    def __init__(self):
        self.pids = set()  # that we started
        self.ours = set()  # (pid, when it started): those and their descendants
        self.highest = {}  # of ours, in KiB

    def enter(self):
        pass

    def members(self):
        _, starts = self.look()
        return [pid for pid, start in self.ours if starts.get(pid) == start]

    def process_kib(self):
        parents, starts = self.look()
        for pid in sorted(parents, key=lambda pid: (starts[pid], pid)):  # a parent started before its child
            if pid in self.pids or (parents[pid], starts.get(parents[pid])) in self.ours:
                self.ours.add((pid, starts[pid]))
        for pid, start in self.ours:
            try:
                with open(f"/proc/{pid}/status") as file:
                    for line in file:
                        if line.startswith("VmHWM:") and starts.get(pid) == start:
                            self.highest[pid, start] = int(line.split()[1])
            except OSError:
                continue
        return self.peak_kib()

    @staticmethod
    def look():
        """Every process's parent and start."""
        parents, starts = {}, {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                parents[int(pid)], starts[int(pid)] = int(fields[1]), int(fields[19])
            except OSError:
                continue
        return parents, starts

    def peak_kib(self):
        return sum(self.highest.values())

    def remove(self):
        pass


class Sampler:
    def __init__(self, group):
        self.group = group
        self.highest = 0
        self.problem = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        try:
            while not self.ended.wait(SAMPLE_S):
                self.highest = max(self.highest, self.group.process_kib())
        except Exception as problem:  # told by stop(), in the thread that can act on it
            self.problem = problem

    def stop(self):
        self.ended.set()
        self.thread.join()
        if self.problem:
            raise Failure(f"memory could not be measured: {self.problem}")
        return Memory(self.group.peak_kib(), self.highest, self.group.how)


# ---------------------------------------------------------------------------------------------------- files

def files_below(folder):
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path) and os.path.isfile(path):
                yield path


def bytes_below(folder):
    """What the files hold, not what the file system rounds it up to."""
    return sum(os.path.getsize(path) for path in files_below(folder))


def warm(folder):
    """Reads every file, so that whoever comes next finds it in the page cache."""
    for path in files_below(folder):
        try:
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
        except FileNotFoundError:  # a file of a running server
            pass

"""appliance.py - what the tests of whole commands stand on: a real server, a real appliance, a link that can be cut.

Everything lies below one new folder, ROOT.  Whatever was started from there is found by that name and ended at exit,
so nothing of a test outlives it, whichever way it ends.
"""
import atexit
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

BUILD = os.environ["HOLDFAST_BUILD"]
SOURCE = os.environ["HOLDFAST_SOURCE"]
HOLDFAST = os.path.join(BUILD, "holdfast")
POSTGRES = "/usr/lib/postgresql/15/bin"
ROOT = tempfile.mkdtemp(prefix="hf-commands-")
COMMAND_SECONDS = 120

_mounts = []
_made = 0


def folder(name, mode=0o755):
    """A new empty folder of that name below ROOT."""
    global _made
    _made += 1
    path = os.path.join(ROOT, f"{name}-{_made}")
    os.mkdir(path)
    os.chmod(path, mode)
    return path


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def mount_small(path, size):
    """A file system of `size` bytes at an existing folder; False where we may not mount."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        return False
    _mounts.append(path)
    return True


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def processes(word):
    """Ids of processes that have `word` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if word.encode() in file.read():
                    found.append(int(name))
        except OSError:
            pass
    return found


def children(pid):
    """Ids of all processes below `pid`."""
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parents.setdefault(int(file.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
        except OSError:
            pass
    found, left = [], [pid]
    while left:
        below = parents.get(left.pop(), [])
        found += below
        left += below
    return found


def name_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid, how=signal.SIGKILL):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass


def _clean():
    for pid in processes(ROOT):
        for below in children(pid):
            kill(below)
        kill(pid)
    for path in reversed(_mounts):
        subprocess.run(["umount", "-l", path], capture_output=True)
    shutil.rmtree(ROOT, ignore_errors=True)


atexit.register(_clean)
signal.signal(signal.SIGTERM, lambda *_: exit(1))
os.chmod(ROOT, 0o755)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A PostgreSQL server of our own, run as the user postgres."""

    HBA = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\n" \
          "host replication all 127.0.0.1/32 trust\n"

    binaries = POSTGRES
    environment = {}  # of the server, besides its locale

    def __init__(self, settings="", hba=HBA, address=None, binaries=POSTGRES, init=("--data-checksums",)):
        self.binaries = binaries
        self.folder = folder("cluster")
        self.data = os.path.join(self.folder, "data")
        self.socket = self.folder if address is None else address.socket
        self.port = free_port() if address is None else address.port
        self.process = None
        self._own(self.folder)
        self.run("initdb", "-D", self.data, "-U", "postgres", "--no-sync", "--auth=trust", "--encoding=UTF8",
                 "--locale=C.UTF-8", *init)
        self.set_hba(hba)
        self.configure(f"port = {self.port}\nunix_socket_directories = '{self.socket}'\n"
                       "listen_addresses = '127.0.0.1'\nshared_buffers = 16MB\nfsync = off\nmax_wal_senders = 5\n"
                       "max_connections = 30\ndynamic_shared_memory_type = mmap\nlogging_collector = off\n"
                       "wal_sender_timeout = 20s\nmax_wal_size = 128MB\n" + settings)
        self.start()

    @classmethod
    def of_copy(cls, data, binaries=POSTGRES):
        """A server on a restored folder, with the settings that lie in it."""
        copy = cls.__new__(cls)
        copy.binaries = binaries
        copy.folder = copy.socket = folder("copy")
        copy.data, copy.port, copy.process = data, free_port(), None
        copy._own(copy.folder)
        copy.configure(f"port = {copy.port}\nunix_socket_directories = '{copy.socket}'\nlisten_addresses = ''\n"
                       "shared_buffers = 16MB\nfsync = off\n")
        copy.start()
        return copy

    def _own(self, path):
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")

    @staticmethod
    def _become():
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        return {}

    def run(self, tool, *arguments):
        done = subprocess.run([os.path.join(self.binaries, tool), *arguments], capture_output=True, text=True,
                              cwd=self.folder, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **self._become())
        assert done.returncode == 0, f"{tool}: {done.stderr}"
        return done.stdout

    def configure(self, text):
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def set_hba(self, text):
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        with open(os.path.join(self.folder, "server.log"), "ab") as log:
            self.process = subprocess.Popen([os.path.join(self.binaries, "postgres"), "-D", self.data], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                                            env={"LC_ALL": "C.UTF-8", **self.environment}, start_new_session=True, **self._become())
        wait_for("the server", self._answers)

    def _answers(self):
        assert self.process.poll() is None, "the server ended:\n" + open(self.folder + "/server.log").read()[-2000:]
        return subprocess.run([os.path.join(POSTGRES, "pg_isready"), "-q", "-h", self.socket, "-p", str(self.port)],
                              capture_output=True).returncode == 0

    def stop(self, how=signal.SIGINT):
        # The postmaster first: it would only start others in the place of those it loses.
        below = children(self.process.pid) if how == signal.SIGKILL else []
        self.process.send_signal(how)
        self.process.wait(60)
        for pid in below:
            kill(pid)
        wait_for("the server's processes to go", lambda: not any(alive(pid) for pid in below))

    def restart(self):
        self.stop()
        self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)

    def sql(self, text, database="postgres"):
        done = subprocess.run([os.path.join(POSTGRES, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-p",
                               str(self.port), "-U", "postgres", "-d", database, "-c", text],
                              capture_output=True, text=True)
        assert done.returncode == 0, f"{text}: {done.stderr}"
        return done.stdout.strip()

    def take_walsender(self):
        """A client that holds a place of a standby until its input is closed."""
        client = subprocess.Popen([os.path.join(POSTGRES, "psql"), "-XqAt", self.connection() + " replication=true"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdin.write("IDENTIFY_SYSTEM;\n")
        client.stdin.flush()
        assert client.stdout.readline()
        return client

    def connection(self, user="postgres", host=None, port=None):
        return f"host={host or self.socket} port={port or self.port} user={user} dbname=postgres"

    def fingerprint(self):
        """One text that changes with any row."""
        return self.sql("SELECT count(*), sum(hashtext(t::text)::bigint) FROM people t")

    def no_slots(self):
        return self.sql("SELECT count(*) FROM pg_replication_slots") == "0"


class Answer:
    """How a command ended."""

    def __init__(self, code, out, errors):
        self.code, self.out, self.errors = code, out, errors

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit {self.code}\nstdout: {self.out[-3000:]}\nstderr: {self.errors[-3000:]}"


class Appliance:
    """A repository with its state, keys and settings, and the program that drives them."""

    def __init__(self, repository=None, more_settings="", uid=None):
        """With `uid`, everything of it is that user's, the programs too: where they were built may be closed to him."""
        self.folder = folder("appliance")
        self.program, self.become = HOLDFAST, {}
        if uid is not None:
            programs = folder("programs")
            for name in ("holdfast", "holdfastd", "holdfast-sandbox", "holdfast-ask"):
                shutil.copy(os.path.join(BUILD, name), programs)
            self.program = os.path.join(programs, "holdfast")
            self.become = {"user": uid, "group": uid, "extra_groups": []}
            os.chown(self.folder, uid, uid)
        self.settings = os.path.join(self.folder, "holdfast.yaml")
        self.repository = repository or os.path.join(self.folder, "repository")
        self.state = os.path.join(self.folder, "state")
        self.key = os.path.join(self.folder, "server.key")
        self.passphrase = write(os.path.join(self.folder, "passphrase"), "correct horse battery\n")
        if uid is not None:
            os.chown(self.passphrase, uid, uid)
        self.public_key = os.path.join(self.state, "signing.pub")
        self.made = self.holdfast("init", "--repository", self.repository, "--state", self.state, "--key-file", self.key,
                                  "--passphrase-file", self.passphrase, "--name", "ward")
        assert self.made.code == 0, self.made
        if more_settings:
            self.add_settings(more_settings)

    def add_settings(self, text):
        with open(self.settings, "a", encoding="utf-8") as file:
            file.write("\n" + text)

    def start(self, *words, json_wanted=True):
        """The command as a process; what it prints is collected by finish()."""
        argv = [self.program, *(["--json"] if json_wanted else []), "--settings", self.settings, *words]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                cwd=self.folder, **self.become)

    @staticmethod
    def finish(process, seconds=COMMAND_SECONDS):
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            raise AssertionError(f"{process.args} did not end within {seconds} s: {out} {errors}") from None
        return Answer(process.returncode, out, errors)

    def holdfast(self, *words, json_wanted=True):
        return self.finish(self.start(*words, json_wanted=json_wanted))

    def good(self, *words):
        answer = self.holdfast(*words)
        assert answer.code == 0, f"holdfast {' '.join(words)}: {answer}"
        return answer.json

    def bad(self, code, *words, says=()):
        """The command ends with that code and says those words on stderr; gives the answer."""
        answer = self.holdfast(*words)
        assert answer.code == code, f"holdfast {' '.join(words)} should have ended with {code}: {answer}"
        for text in [says] if isinstance(says, str) else says:
            assert text in answer.errors, f"holdfast {' '.join(words)} does not say '{text}': {answer}"
        return answer

    def add_source(self, cluster, *options, name="clinic", **how):
        return self.good("source", "add", name, "--engine", "postgresql", "--connection", cluster.connection(**how),
                         *options)

    def backups(self, name="clinic"):
        return self.good("backups", name)["backups"]

    def health(self, name="clinic"):
        status = self.holdfast("status").json
        return next(source["health"] for source in status["sources"] if source["name"] == name)

    def daemon(self):
        """The id of the daemon at work for us; None when there is none."""
        for pid in processes(self.settings):
            if "holdfastd" in name_of(pid).split(" ")[0]:
                return pid
        return None

    def end_daemon(self):
        """An embedded daemon that has nothing to do any more is told to leave."""
        pid = self.daemon()
        if pid is not None:
            kill(pid, signal.SIGTERM)
            wait_for("the daemon's end", lambda: not alive(pid))

    def packs(self):
        """Every pack with its size, largest first."""
        found = []
        for place, _, names in os.walk(self.repository):
            found += [os.path.join(place, name) for name in names if "/packs" in place]
        return sorted(found, key=lambda path: -os.path.getsize(path))


class Proxy:
    """A link to a server on this host that carries so many bytes from it and is then cut; then it carries no more."""

    def __init__(self, port, most_bytes):
        self.target, self.left = port, most_bytes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, origin, target, counted):
        try:
            while data := origin.recv(65536):
                if counted:
                    self.left -= len(data)
                    if self.left < 0:
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (origin, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()

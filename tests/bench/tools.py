"""tools.py - what is compared: how each tool takes a backup and brings it back, the way its users do

A tool is prepared once a round (a fresh, empty repository; not measured), takes three backups, and restores the newest.
What it does inside a Window is measured.  All tools but Holdfast run as the database's user.
"""
import json
import os
import shutil
import subprocess

from cluster import BIN, give
from measure import Failure, Window, other_user, own_user

PASSWORD = "a password of the benchmark"

# PostgreSQL 15 documentation, 26.3.4: what a copy of the data directory need not hold, and must not.
LEFT_OUT = ["pg_wal/*", "pg_replslot/*", "pg_dynshmem/*", "pg_notify/*", "pg_serial/*", "pg_snapshots/*", "pg_stat_tmp/*",
            "pg_subtrans/*", "postmaster.pid", "postmaster.opts"]


class Tool:
    """What all have; `settings` is a line for the reader."""
    def __init__(self, folder, cluster):
        self.folder = f"{folder}/{self.name}"
        self.repository = f"{self.folder}/repository"
        self.cluster = cluster
        self.environment = {**cluster.environment, "HOME": self.folder}
        self.user = other_user()

    def prepare(self):
        os.mkdir(self.folder)
        os.mkdir(self.repository)
        give(self.folder)
        give(self.repository)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, command):
        """Not measured; in a window all the same, which knows users and cleans up."""
        with Window(self.environment) as window:
            return window.run(command, user=self.user)


class Holdfast(Tool):
    name = "holdfast"
    settings = ("over PostgreSQL's replication protocol; sealed, zstd level 1; no daemon runs before, so each command starts "
                "one within its time; verify_after_backup=no, checkpoint=fast, the rest as it comes")

    def __init__(self, folder, cluster):
        super().__init__(folder, cluster)
        self.command = f"{os.environ.get('HOLDFAST_BUILD', '')}/holdfast"
        self.environment |= {"HOLDFAST_SETTINGS": f"{self.folder}/holdfast.yaml"}
        self.user = own_user()

    @staticmethod
    def version():
        return first_line([f"{os.environ.get('HOLDFAST_BUILD', '')}/holdfast", "version"])

    def prepare(self):
        os.mkdir(self.folder, 0o700)
        with open(f"{self.folder}/passphrase", "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(PASSWORD)
        self.call([self.command, "init", "--repository", self.repository, "--state", f"{self.folder}/state",
                   "--key-file", f"{self.folder}/server.key", "--passphrase-file", f"{self.folder}/passphrase"])
        self.call([self.command, "source", "add", "clinic", "--engine", "postgresql", "--connection",
                   f"host={self.cluster.sockets} user={other_user()} dbname=clinic",
                   "--checkpoint", "fast", "--verify-after-backup", "no"])

    def backup(self, window, first):
        said = window.run([self.command, "backup", "clinic", "--json"], user=self.user)
        told = json.loads(said)
        self.newest, self.aged = told["backup"], told["pages_aged"]

    def restore(self, window, target):
        window.run([self.command, "restore", "clinic", "--backup", self.newest, "--to", target], user=self.user)

    def verify(self):
        """Proves the newest backup; milliseconds that making and removing the sandbox took, the database not counted."""
        told = json.loads(self.call([self.command, "verify", "clinic", "--backup", self.newest, "--json"]))
        if told["result"] != "passed":
            raise Failure(f"Holdfast's verification ended {told['result']}: {told['reason']}")
        return (told["sandbox"]["create_us"] + told["sandbox"]["teardown_us"]) / 1000


class BaseBackup(Tool):
    name = "pg_basebackup"
    settings = "pg_basebackup -Ft -Xfetch -cfast -D - | zstd -1 -T2, to a file; whole each time, not encrypted"

    @staticmethod
    def version():
        return f"{first_line([f'{BIN}/pg_basebackup', '--version'])}; {first_line(['zstd', '--version'])}"

    def backup(self, window, first):
        for old in os.listdir(self.repository):
            os.unlink(f"{self.repository}/{old}")
        window.run_pipe(stream_command(), ["zstd", "-q", "-1", "-T2"], f"{self.repository}/base.tar.zst")

    def restore(self, window, target):
        window.run(["bash", "-c", f"set -o pipefail; zstd -q -d -c {self.repository}/base.tar.zst | tar -x -C {target}"])


class PgBackRest(Tool):
    name = "pgbackrest"

    def __init__(self, folder, cluster):
        super().__init__(folder, cluster)
        self.environment = {**self.environment, "PGHOST": cluster.sockets}
        self.command = ["pgbackrest", f"--config={cluster.folder}/pgbackrest.conf", "--stanza=clinic"]

    @staticmethod
    def version():
        return first_line(["pgbackrest", "version"])

    @classmethod
    def extras(cls):
        """Options that not every release has; block incremental was behind `beta` in 2.45."""
        known = subprocess.run(["pgbackrest", "help", "backup"], capture_output=True, text=True).stdout
        extras = {}
        if "--repo-bundle " in known:
            extras["repo1-bundle"] = "y"
        if "--repo-block " in known:
            extras["repo1-block"] = "y"
            if tuple(int(part) for part in cls.version().split()[1].split(".")[:2]) < (2, 46):
                extras["beta"] = "y"
        return extras

    @property
    def settings(self):
        return ("reads local files, process-max=2, zst level 1, AES-256-CBC, "
                + " ".join(f"{name}={value}" for name, value in self.extras().items())
                + "; incremental after the first; archives the WAL of the backup itself, not that of the updates")

    def prepare(self):
        super().prepare()
        for name in ("lock", "spool"):
            os.mkdir(f"{self.folder}/{name}")
            give(f"{self.folder}/{name}")
        settings = {
            "repo1-path": self.repository, "repo1-cipher-type": "aes-256-cbc", "repo1-cipher-pass": PASSWORD,
            "repo1-retention-full": "9", "compress-type": "zst", "compress-level": "1", "process-max": "2",
            "start-fast": "y", "log-level-console": "warn", "log-level-file": "off", "lock-path": f"{self.folder}/lock",
            "spool-path": f"{self.folder}/spool", **self.extras()}
        with open(f"{self.cluster.folder}/pgbackrest.conf", "w") as file:
            file.write("[global]\n" + "".join(f"{name}={value}\n" for name, value in settings.items()))
            file.write(f"[clinic]\npg1-path={self.cluster.data}\npg1-socket-path={self.cluster.sockets}\n"
                       f"pg1-user={other_user()}\n")
        self.call([*self.command, "stanza-create"])

    def backup(self, window, first):
        archiving = f"{self.cluster.folder}/archiving"
        with open(archiving, "w"):
            pass
        try:
            window.run([*self.command, f"--type={'full' if first else 'incr'}", "backup"])
        finally:
            os.unlink(archiving)

    def restore(self, window, target):
        window.run([*self.command, f"--pg1-path={target}", "--archive-mode=off", "restore"])


class FileCopy(Tool):
    """restic and borg know files: they copy the data directory between pg_backup_start and pg_backup_stop, and then
    backup_label and the WAL of the copy as a second, small backup.  Unchanged files they may skip."""

    def backup(self, window, first):
        session = window.start([f"{BIN}/psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begins = ask(session, "SELECT pg_walfile_name(pg_backup_start('bench', fast => true));")
        self.store(window, "data", self.cluster.data, LEFT_OUT)
        ends, label = ask(session, "SELECT pg_walfile_name(lsn), encode(convert_to(labelfile, 'UTF8'), 'hex') "
                                   "FROM pg_backup_stop(wait_for_archive => false);").split("|")
        session.stdin.close()
        session.wait()

        extra = f"{self.folder}/extra"
        shutil.rmtree(extra, ignore_errors=True)
        os.makedirs(f"{extra}/pg_wal")
        with open(f"{extra}/backup_label", "wb") as file:
            file.write(bytes.fromhex(label))
        for name in sorted(os.listdir(f"{self.cluster.data}/pg_wal")):
            if len(name) == len(begins) and begins <= name <= ends:
                shutil.copy(f"{self.cluster.data}/pg_wal/{name}", f"{extra}/pg_wal/{name}")
        subprocess.run(["chmod", "-R", "a+rX", extra], check=True)
        self.store(window, "extra", extra, [])


class Restic(FileCopy):
    name = "restic"
    settings = "repository format 2, compression auto, encrypted (it always is), data directory between pg_backup_start and _stop"

    def __init__(self, folder, cluster):
        super().__init__(folder, cluster)
        self.environment |= {"RESTIC_REPOSITORY": self.repository, "RESTIC_CACHE_DIR": f"{self.folder}/cache",
                             "RESTIC_PASSWORD": PASSWORD}

    @staticmethod
    def version():
        return first_line(["restic", "version"])

    def prepare(self):
        super().prepare()
        self.call(["restic", "-q", "init", "--repository-version", "2"])

    def store(self, window, tag, folder, left_out):
        excludes = [f"--exclude={pattern}" for pattern in left_out]
        window.run(["restic", "-q", "backup", "--compression=auto", f"--tag={tag}", *excludes, "."], cwd=folder)

    def restore(self, window, target):
        for tag in ("data", "extra"):
            window.run(["restic", "-q", "restore", "latest", f"--tag={tag}", f"--target={target}"])


class Borg(FileCopy):
    name = "borg"
    settings = "repokey-blake2, compression zstd,1, data directory between pg_backup_start and _stop"

    def __init__(self, folder, cluster):
        super().__init__(folder, cluster)
        self.environment |= {"BORG_REPO": self.repository, "BORG_BASE_DIR": f"{self.folder}/home",
                             "BORG_PASSPHRASE": PASSWORD}
        self.backups = 0

    @staticmethod
    def version():
        return first_line(["borg", "--version"])

    def prepare(self):
        super().prepare()
        self.backups = 0
        self.call(["borg", "init", "--encryption=repokey-blake2"])

    def store(self, window, tag, folder, left_out):
        self.backups += tag == "data"
        excludes = [f"--exclude=sh:{pattern}" for pattern in left_out]
        window.run(["borg", "create", "--compression=zstd,1", *excludes, f"::{tag}-{self.backups}", "."], cwd=folder)

    def restore(self, window, target):
        for tag in ("data", "extra"):
            window.run(["borg", "extract", f"::{tag}-{self.backups}"], cwd=target)


def stream_command():
    """PostgreSQL's own base backup as one stream, with the WAL it needs, no copy in between."""
    return [f"{BIN}/pg_basebackup", "-Ft", "-Xfetch", "-cfast", "-D", "-"]


def ask(session, statement):
    session.stdin.write(statement + "\n")
    session.stdin.flush()
    answer = session.stdout.readline().strip()
    if not answer:
        raise Failure(f"no answer to {statement}")
    return answer


def first_line(command):
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode != 0:
        raise Failure(f"{command[0]}: {said.stderr.strip()}")
    return said.stdout.strip().splitlines()[0].strip("* ")

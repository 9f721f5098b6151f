"""cluster.py - the PostgreSQL 15 that is backed up, and the look into a restored copy of it

The server runs as the user `postgres` when we are root, since PostgreSQL refuses that, else as ourselves.  It listens
on a socket below the benchmark's folder only.  Data and updates are those of packaging/clinic: the same for one seed.
"""
import os
import pwd
import shutil
import signal
import subprocess
import time

from measure import Failure, other_user

BIN = "/usr/lib/postgresql/15/bin"
CLINIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/clinic")
BYTES_OF_ENCOUNTER = 505  # of data directory, with its share of patients, observations, scans and indexes
BYTES_AT_LEAST = 46 << 20  # of a cluster with no encounter in it
PORT = 5432  # in the socket's name only
PATIENCE_S = 600

# The same for every tool.  Nothing but the updates changes pages, so that all tools meet one state.
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "wal_level": "replica",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "1h",
    "full_page_writes": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_compression": "off",
    "wal_log_hints": "off",
    "max_slot_wal_keep_size": "4GB",
    "autovacuum": "off",
    "archive_mode": "on",
    "timezone": "UTC",
}


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.data = f"{folder}/data"
        self.sockets = f"{folder}/socket"
        self.environment = {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": folder,
                            "PGHOST": self.sockets, "PGPORT": str(PORT), "PGUSER": other_user(), "PGDATABASE": "clinic"}
        self.server = None

    def make(self, megabytes, seed):
        """A fresh cluster with about that many bytes in its data directory."""
        os.mkdir(self.folder)
        os.mkdir(self.sockets)
        give(self.folder)
        give(self.sockets)
        self.call(["initdb", "--pgdata", self.data, "--data-checksums", "--locale=en_US.UTF-8", "--encoding=UTF8",
                   "--auth=trust", "--username", other_user()])
        with open(f"{self.data}/postgresql.conf", "a") as file:
            for name, value in SETTINGS.items():
                file.write(f"{name} = '{value}'\n")
            file.write(f"unix_socket_directories = '{self.sockets}'\n")
            # On the way of pgBackRest while it is measured, else nowhere: tools.py makes and removes the file.
            file.write(f"archive_command = 'test ! -e {self.folder}/archiving || "
                       f"pgbackrest --config={self.folder}/pgbackrest.conf --stanza=clinic archive-push %p'\n")
        self.start()
        self.call(["createdb", "clinic"])
        encounters = max(20000, ((megabytes << 20) - BYTES_AT_LEAST) // BYTES_OF_ENCOUNTER)
        self.call(["psql", "-X", "-q", "-v", f"seed={seed}", "-v", f"encounters={encounters}", "-f", f"{CLINIC}/make.sql"])
        self.rest()

    def update(self, seed):
        self.call(["psql", "-X", "-q", "-v", f"seed={seed}", "-f", f"{CLINIC}/update.sql"])
        self.rest()

    def rest(self):
        """Everything written, log finished and off to nowhere: the state that all tools back up."""
        self.sql("CHECKPOINT")
        self.sql("SELECT pg_switch_wal()")
        deadline = time.monotonic() + PATIENCE_S
        while any(name.endswith(".ready") for name in os.listdir(f"{self.data}/pg_wal/archive_status")):
            if time.monotonic() > deadline:
                raise Failure("the server does not get rid of its log")
            time.sleep(0.02)
        self.sql("CHECKPOINT")

    def start(self, data=None, options=()):
        # A session of its own: Ctrl-C shall reach us, who stop it, and not the server.
        with open(f"{self.folder}/server.log", "a") as log:
            self.server = subprocess.Popen([f"{BIN}/postgres", "-D", data or self.data, *options], cwd=self.folder,
                                           env=self.environment, start_new_session=True, stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log, **as_other_user())
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_ready():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"the server on {data or self.data} does not start:\n{self.last_words()}")
            time.sleep(0.05)

    def is_ready(self):
        said = subprocess.run([f"{BIN}/psql", "-XAtc", "SELECT pg_is_in_recovery()", "-d", "postgres"], capture_output=True,
                              env=self.environment, **as_other_user())
        return said.stdout == b"f\n"

    def last_words(self):
        with open(f"{self.folder}/server.log", errors="replace") as log:
            return "".join(log.readlines()[-20:])

    def stop(self, how=signal.SIGINT):
        if self.server is None:
            return
        self.server.send_signal(how)
        try:
            self.server.wait(PATIENCE_S)
        finally:
            self.server = None

    def sql(self, statement):
        return self.call(["psql", "-XAtc", statement]).strip()

    def call(self, command):
        """One of PostgreSQL's programs, not measured."""
        said = subprocess.run(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, **as_other_user())
        if said.returncode != 0:
            raise Failure(f"{command[0]}: {said.stderr.strip()}")
        return said.stdout

    def digest(self):
        """Rows and a sum over all that stands in them: two clusters with the same digest hold the same rows."""
        sums = [f"SELECT '{table}', count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} AS t"
                for table in ("departments", "practitioners", "patients", "phrases", "encounters", "observations", "scans")]
        return self.sql(" UNION ALL ".join(sums) + " ORDER BY 1")  # a parallel plan appends in any order

    def digest_of_copy(self, folder):
        """Starts a restored data directory, lets it recover, and takes its digest."""
        copy = Cluster(self.folder)
        copy.sockets = f"{folder}.socket"
        copy.environment = {**self.environment, "PGHOST": copy.sockets}
        os.mkdir(copy.sockets)
        give(copy.sockets)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{other_user()}:", folder], check=True)
        os.chmod(folder, 0o700)
        try:
            copy.start(folder, ["-c", f"unix_socket_directories={copy.sockets}", "-c", "listen_addresses=",
                                "-c", f"port={PORT}", "-c", "archive_mode=off", "-c", "fsync=off"])
            return copy.digest()
        finally:
            copy.stop(signal.SIGQUIT)
            shutil.rmtree(copy.sockets)


def as_other_user():
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(other_user())
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def give(path, mode=0o755):
    """To the user of the server."""
    os.chmod(path, mode)
    if os.geteuid() == 0:
        account = pwd.getpwnam(other_user())
        os.chown(path, account.pw_uid, account.pw_gid)

"""moments.py - a ledger of numbered commits on a streamed source, and copies that must hold it up to an exact moment."""
import datetime
import json
import os
import random
import signal
import subprocess

from appliance import BUILD, ROOT, Appliance, Cluster, alive, children, kill, wait_for
from pq import Connection

RESTORE_SECONDS = 60
_restored = 0


def utc(ms):
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def number_of(lsn):
    high, low = (lsn or "0/0").split("/")
    return int(high, 16) << 32 | int(low, 16)


def text_of(position):
    return f"{position >> 32:X}/{position & 0xffffffff:X}"


def new_folder():
    """The name of a folder that is not there yet."""
    global _restored
    _restored += 1
    return os.path.join(ROOT, f"moment-{_restored}")


class Daemon:
    """holdfastd in the foreground, as a service would run it: it streams by itself."""

    def __init__(self, appliance):
        self.appliance = appliance
        wait_for("the daemon", self._starts, 60)

    def _starts(self):
        self.appliance.end_daemon()  # one that a command left behind keeps the place
        self.process = subprocess.Popen([os.path.join(BUILD, "holdfastd"), "--settings", self.appliance.settings],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(os.path.join(self.appliance.folder, "daemon.log"), "ab"))
        wait_for("it to begin", lambda: self.process.poll() is not None or self._reigns(), 60)
        return self.process.poll() is None and self.appliance.holdfast("version").code == 0

    def _reigns(self):
        """A command that asks too early would start another one in its place."""
        try:
            with open(os.path.join(self.appliance.state, "holdfastd.lock"), encoding="utf-8") as file:
                return json.load(file)["pid"] == self.process.pid
        except (OSError, ValueError):  # not yet, or being written
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def kill(self):
        """With all its workers, as when the host goes down."""
        below = children(self.process.pid)
        self.process.kill()
        self.process.wait(60)
        for pid in below:
            kill(pid)
        wait_for("the workers to go", lambda: not any(alive(pid) for pid in below))


class Commit:
    """One row of the ledger: its number and transaction, the positions and moments (ms since 1970) before and behind it."""

    def __init__(self, number, xid, before, behind, moment):
        self.number, self.xid, self.before, self.behind, self.moment = number, xid, before, behind, moment


class Ledgered:
    """A source whose table `ledger` is written by us alone, with an appliance that streams it."""

    def __init__(self, server, more_settings="", connection=None, name="clinic", repository=None):
        self.server, self.name = server, name
        self.connection_text = connection
        self.rows = []
        self.points = {}  # restore point: number of the newest commit before it
        self.receiver = None
        self.appliance = Appliance(repository=repository, more_settings=more_settings)
        server.sql("CREATE TABLE ledger (number int PRIMARY KEY, padding text)")

    def add(self, *options, connection=None, catch_up="off"):
        self.appliance.good("source", "add", self.name, "--engine", "postgresql", "--connection",
                            connection or self.connection_text or self.server.connection(), "--stream", "yes",
                            "--verify-after-backup", "no", "--catch-up", catch_up, *options)

    def commit(self, count=1, pause_ms=3):
        connection = Connection(self.server.connection())
        behind = "SELECT pg_current_wal_insert_lsn(), (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        for _ in range(count):
            number = len(self.rows) + 1
            before = connection.run("SELECT pg_current_wal_insert_lsn()")[0][0]
            connection.run("BEGIN")
            xid = connection.run(f"INSERT INTO ledger VALUES ({number}, repeat('x', 300)) RETURNING pg_current_xact_id()")[0][0]
            connection.run("COMMIT")
            if pause_ms:
                connection.run(f"SELECT pg_sleep({pause_ms / 1000})")
            lsn, moment = connection.run(behind)[0]
            self.rows.append(Commit(number, int(xid), before, lsn, int(moment)))
            if pause_ms:
                connection.run(f"SELECT pg_sleep({pause_ms / 1000})")
        connection.close()

    def commit_prepared(self, subtransactions=40):
        """In two phases: the record that ends it has lists of subtransactions, dropped files and invalidations before its number."""
        connection = Connection(self.server.connection())
        number = len(self.rows) + 1
        connection.run(f"CREATE TABLE dropped_{number} (i int)")
        connection.run("BEGIN")
        xid = connection.run(f"INSERT INTO ledger VALUES ({number}, 'prepared') RETURNING pg_current_xact_id()")[0][0]
        for at in range(subtransactions):
            connection.run(f"SAVEPOINT s{at}")
            connection.run(f"INSERT INTO dropped_{number} VALUES ({at})")
            connection.run(f"RELEASE s{at}")
        connection.run(f"DROP TABLE dropped_{number}")
        connection.run(f"PREPARE TRANSACTION 'number {number}'")
        connection.run("SELECT pg_sleep(0.003)")
        before = connection.run("SELECT pg_current_wal_insert_lsn()")[0][0]
        connection.run(f"COMMIT PREPARED 'number {number}'")
        connection.run("SELECT pg_sleep(0.003)")
        lsn, moment = connection.run("SELECT pg_current_wal_insert_lsn(), (extract(epoch FROM clock_timestamp()) * 1000)::bigint")[0]
        connection.run("SELECT pg_sleep(0.003)")
        connection.close()
        self.rows.append(Commit(number, int(xid), before, lsn, int(moment)))

    def point(self, name):
        self.server.sql(f"SELECT pg_create_restore_point('{name}')")
        self.points[name] = len(self.rows)

    def status(self):
        return self.appliance.holdfast("status").json

    def stream(self):
        return next(row for row in self.status()["sources"] if row["name"] == self.name)["stream"]

    def position(self):
        return int(self.server.sql("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"))

    def start_receiving(self):
        self.receiver = self.appliance.start("stream", self.name)
        wait_for("the stream", lambda: (self.stream()["now"] or {}).get("connected"), 60)

    def catch_up(self):
        wanted = self.position()
        wait_for("the log", lambda: number_of((self.stream()["now"] or {}).get("durable")) >= wanted, 60)

    def stop_receiving(self):
        self.catch_up()
        self.interrupt()

    def interrupt(self):
        self.receiver.send_signal(signal.SIGINT)
        self.appliance.finish(self.receiver)
        self.receiver = None

    def prove(self):
        """A backup, and its proof."""
        backup = self.appliance.good("backup", self.name)["backup"]
        verdict = self.appliance.good("verify", self.name, "--backup", backup)
        assert verdict["state"] == "proven", verdict
        return backup

    def restore(self, *words):
        """Numbers in the copy that was restored with those words and started, and what the restore said."""
        place = new_folder()
        answer = self.appliance.good("restore", self.name, "--to", place,
                                     *(["--owner", "postgres"] if os.geteuid() == 0 else []), *words)
        os.chmod(place, 0o700)
        copy = Cluster.of_copy(place, binaries=self.server.binaries)
        try:
            wait_for("the promotion", lambda: copy.sql("SELECT pg_is_in_recovery()") == "f", RESTORE_SECONDS)
            return [int(word) for word in copy.sql("SELECT number FROM ledger ORDER BY number").split()], answer
        finally:
            copy.stop()

    def must_hold(self, last, *words):
        numbers, answer = self.restore(*words)
        wanted = list(range(1, last + 1)) if isinstance(last, int) else last
        assert numbers == wanted, (words, wanted[-3:], numbers[-3:], len(numbers), answer)
        return answer

    def random_target(self, chance: random.Random, rows, kinds=("at", "lsn", "xid", "before-xid", "point", "latest")):
        """Words for a restore, and the number of the last commit that it must hold."""
        kind = chance.choice(kinds)
        if kind == "point" and self.points:
            name = chance.choice(sorted(self.points))
            return ("--restore-point", name), self.points[name]
        row = chance.choice(rows)
        if kind == "at":
            return ("--at", utc(row.moment)), row.number
        if kind == "xid":
            return ("--xid", str(row.xid)), row.number
        if kind == "before-xid":
            return ("--before-xid", str(row.xid)), row.number - 1
        if kind == "latest":
            return ("--latest",), len(self.rows)
        return ("--lsn", row.behind), row.number

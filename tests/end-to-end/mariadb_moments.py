"""mariadb_moments.py - a MariaDB whose every transaction is dumped, and copies that must be one of these dumps exactly."""
import datetime
import hashlib
import os
import random
import signal
import subprocess

from appliance import ROOT, Appliance, wait_for
from mariadb import Mariadb

TABLES = """
CREATE DATABASE clinic; USE clinic;
CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(100), note TEXT, KEY by_name (name));
INSERT INTO patient SELECT seq, CONCAT('name ', seq), REPEAT(CHAR(97 + MOD(seq, 26)), 300) FROM seq_1_to_500;
CREATE TABLE visit (id INT PRIMARY KEY AUTO_INCREMENT, patient INT, at TIMESTAMP(6) DEFAULT NOW(6),
                    FOREIGN KEY (patient) REFERENCES patient (id));
CREATE TABLE scan (id INT PRIMARY KEY, image LONGBLOB) ROW_FORMAT=COMPRESSED;
CREATE TABLE diary (id INT PRIMARY KEY, line TEXT) ENGINE=Aria;
CREATE TABLE old (id INT PRIMARY KEY, line TEXT) ENGINE=MyISAM;
CREATE SEQUENCE counter;
CREATE TRIGGER counted AFTER INSERT ON visit FOR EACH ROW UPDATE patient SET note = CONCAT('seen ', NEW.id) WHERE id = NEW.patient;
"""
DUMP = ["/usr/bin/mariadb-dump", "--no-defaults", "--user=root", "--skip-comments", "--order-by-primary", "--hex-blob",
        "--routines", "--triggers", "--databases", "clinic"]
_restored = 0


def new_folder():
    """The name of a folder that is not there yet, where mysql gets to."""
    global _restored
    _restored += 1
    parent = os.path.join(ROOT, f"moment-{_restored}")
    os.mkdir(parent, 0o755)
    return os.path.join(parent, "data")


def utc(ms):
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def dump(server):
    """All rows of all tables, as statements, and who may log in."""
    done = subprocess.run([DUMP[0], *DUMP[1:2], f"--socket={server.socket}", *DUMP[2:]], capture_output=True, check=True)
    return hashlib.sha256(done.stdout + server.sql("SELECT User, Host FROM mysql.global_priv ORDER BY 1, 2").encode()
                          ).hexdigest()


class Moment:
    """The source after one of its transactions: `second` is the commit's as the log has it, None when it could be two."""

    def __init__(self, gtid, second, file, position, content):
        self.gtid, self.second, self.file, self.position, self.content = gtid, second, file, position, content


class Clinic:
    """A streamed source that is written by us alone."""

    def __init__(self, *options, seed=1, catch_up="off"):
        self.chance = random.Random(seed)
        self.server = Mariadb("--max-binlog-size=65536", *options)
        self.server.sql(TABLES)
        self.moments = []
        self.number = 0
        self.receiver = None
        self.appliance = Appliance()
        self.add(catch_up)

    def add(self, catch_up, *options):
        self.appliance.good("source", "add", "clinic", "--engine", "mariadb", "--verify-after-backup", "no",
                            "--connection", self.server.connection(), "--stream", "yes", "--catch-up", catch_up,
                            *options)

    def statement(self):
        self.number += 1
        number, pick = self.number, self.chance.randrange(10)
        if pick < 4:
            return f"INSERT INTO visit (patient) VALUES ({1 + number % 500}), ({1 + number * 7 % 500})"
        if pick == 4:
            return f"BEGIN; UPDATE patient SET name = 'changed {number}' WHERE id % 50 = {number % 50}; " \
                   f"INSERT INTO visit (patient) VALUES (1); COMMIT"
        if pick == 5:
            return f"INSERT INTO scan VALUES ({number}, REPEAT(MD5({number}), {self.chance.randrange(1, 3000)}))"
        if pick == 6:
            return f"INSERT INTO diary VALUES ({number}, 'line {number}')"
        if pick == 7:
            return f"INSERT INTO old VALUES ({number}, 'line {number}')"
        if pick == 8:
            return f"ALTER TABLE patient ADD COLUMN c{number} INT DEFAULT {number}"
        return f"CREATE USER u{number}@localhost IDENTIFIED BY 'secret'"

    def commit(self, count=1):
        for _ in range(count):
            before = self.server.sql("SELECT UNIX_TIMESTAMP()")
            answer = self.server.sql(f"{self.statement()}; SELECT UNIX_TIMESTAMP(), @@last_gtid", "clinic").split()
            file, position = self.server.sql("SHOW MASTER STATUS").split()[:2]
            self.moments.append(Moment(answer[1], int(before) if before == answer[0] else None, file, int(position),
                                       dump(self.server)))

    def new_second(self):
        now = self.server.sql("SELECT UNIX_TIMESTAMP()")
        wait_for("the next second", lambda: self.server.sql("SELECT UNIX_TIMESTAMP()") != now)

    def stream(self):
        return self.appliance.holdfast("status").json["sources"][0]["stream"]

    def start_receiving(self):
        self.receiver = self.appliance.start("stream", "clinic")
        wait_for("the stream", lambda: (self.stream()["now"] or {}).get("connected"), 60)

    def catch_up(self):
        wanted = self.server.sql("SELECT @@gtid_binlog_pos")
        wait_for("the log", lambda: (self.stream()["now"] or {}).get("durable") == wanted, 60)

    def stop_receiving(self):
        self.catch_up()
        self.receiver.send_signal(signal.SIGINT)
        self.appliance.finish(self.receiver)
        self.receiver = None

    def journals(self, gone=False):
        """Files of the log that is not in packs yet."""
        found = []
        for place, _, names in os.walk(self.appliance.repository):
            found += [os.path.join(place, name) for name in names
                      if "/journal/" in place and name.endswith(".gone") == gone]
        return sorted(found)

    def prove(self):
        backup = self.appliance.good("backup", "clinic")["backup"]
        verdict = self.appliance.good("verify", "clinic", "--backup", backup)
        assert verdict["state"] == "proven", verdict
        return backup

    def restore(self, *words):
        """What is in the copy that was restored with those words and started with a plain server, and the answer."""
        target = new_folder()
        answer = self.appliance.good("restore", "clinic", "--to", target, *words)
        assert not os.path.exists(os.path.join(target, "xtrabackup_binlog_info")), "it tells another place"
        copy = Mariadb.of_copy(target)
        try:
            assert copy.sql("SELECT @@gtid_slave_pos") == answer["recovery"]["to"], answer
            return dump(copy), answer
        finally:
            copy.stop()

    def must_be(self, moment, *words):
        content, answer = self.restore(*words)
        assert content == moment.content, (words, moment.gtid, answer)
        assert answer["recovery"]["to"] == moment.gtid, (words, moment.gtid, answer)
        return answer

    def random_target(self, moments):
        """Words for a restore, and the moment that it must be."""
        kind = self.chance.choice(("at", "gtid", "before-gtid", "binlog-position"))
        index = self.chance.randrange(len(moments))
        moment = moments[index]
        if kind == "before-gtid" and index > 0:
            return ("--before-gtid", moment.gtid), moments[index - 1]
        if kind == "binlog-position":
            return ("--binlog-position", f"{moment.file}:{moment.position}"), moment
        # The last one of a second, when the next one is certain to be of a later one.
        ends = [at for at in range(len(moments) - 1) if moments[at].second is not None and
                moments[at + 1].second is not None and moments[at].second < moments[at + 1].second]
        if kind == "at" and ends:
            last = self.chance.choice(ends)
            at = self.chance.randrange(moments[last].second * 1000, moments[last + 1].second * 1000)
            return ("--at", utc(at)), moments[last]
        return ("--gtid", moment.gtid), moment

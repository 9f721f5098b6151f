#!/usr/bin/python3
"""test_mariadb.py - backups of a real MariaDB through the whole program: here and over ssh, whole and with every fault."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.environ["HOLDFAST_SOURCE"], "tests/support"))
from appliance import Appliance, children, folder, kill, name_of, processes, wait_for, write  # noqa: E402
from mariadb import Mariadb  # noqa: E402
from sshd import Sshd  # noqa: E402
from tap import run, skip, test  # noqa: E402

RIGHTS = "RELOAD, PROCESS, BINLOG MONITOR"
OF_STREAMS = ("archive", "caught_up")  # checks of a source whose log is received; these sources' is not
TABLES = """
CREATE DATABASE clinic; USE clinic;
CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(100), note TEXT);
INSERT INTO patient SELECT seq, CONCAT('name ', seq), REPEAT(CHAR(97 + MOD(seq, 26)), 300) FROM seq_1_to_20000;
CREATE TABLE packed (id INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
INSERT INTO packed SELECT id, note FROM patient WHERE id <= 2000;
CREATE TABLE small (id INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1;
INSERT INTO small SELECT id, LEFT(note, 100) FROM patient WHERE id <= 500;
CREATE TABLE pressed (id INT PRIMARY KEY, b TEXT) PAGE_COMPRESSED=1;
INSERT INTO pressed SELECT id, note FROM patient WHERE id <= 2000;
CREATE TABLE aria (id INT, b TEXT) ENGINE=Aria; INSERT INTO aria SELECT id, note FROM patient WHERE id <= 100;
CREATE TABLE myisam (id INT) ENGINE=MyISAM; INSERT INTO myisam SELECT id FROM patient WHERE id <= 100;
CREATE VIEW names AS SELECT name FROM patient; CREATE SEQUENCE counter; SELECT NEXTVAL(counter);
CREATE USER holdfast@localhost IDENTIFIED BY 'gehe im$"x'; GRANT %s ON *.* TO holdfast@localhost;
""" % RIGHTS


class Stand:
    """One server and one appliance for the tests that leave both as they were."""
    server = appliance = None


def server():
    if Stand.server is None:
        Stand.server = Mariadb()
        Stand.server.sql(TABLES)
    return Stand.server


def appliance(more=""):
    if Stand.appliance is None:
        Stand.appliance = Appliance(more_settings=more)
    return Stand.appliance


def add(there, name, connection, *options):
    return there.good("source", "add", name, "--engine", "mariadb", "--connection", connection,
                      "--verify-after-backup", "no", *options)


def checks_of(there, name):
    answer = there.holdfast("doctor", name)
    return {check["id"]: check for check in answer.json["sources"][0]["checks"]}


@test
def a_backup_is_taken_and_the_next_one_adds_only_what_changed():
    s, a = server(), appliance()
    password = s.password_file('gehe im$"x')
    add(a, "clinic", s.connection("holdfast"), "--password-file", password)
    first = a.good("backup", "clinic")
    assert first["bad_pages"] == 0 and first["state"] == "unproven", first
    assert first["files"] > 100 and first["logical_bytes"] > 20_000_000, first
    s.sql("UPDATE patient SET name = 'changed' WHERE id % 4000 = 7", "clinic")
    second = a.good("backup", "clinic")
    assert second["parent"] == first["backup"], second
    assert second["pages_stored"] < first["pages_stored"] / 5, (first, second)
    listed = a.backups()
    assert all(backup["start_lsn"].isdigit() for backup in listed), listed


@test
def the_doctor_finds_all_in_order_and_names_what_could_be_better():
    checks = checks_of(appliance(), "clinic")
    for ident in ("connection", "transport", "rights", "binary_log", "binlog_format", "identity", "engines",
                  "encryption", "backup_tool", "tool_series"):
        assert checks[ident]["verdict"] == "ok", checks[ident]
    assert checks["server_id"]["verdict"] == "warning", checks["server_id"]
    assert checks["gtid_strict"]["remedy"].startswith("SET GLOBAL gtid_strict_mode = ON;"), checks["gtid_strict"]


@test
def the_doctor_gives_the_statement_that_adds_a_missing_right_and_the_backup_says_which():
    s, a = server(), appliance()
    s.sql("CREATE USER poor@localhost IDENTIFIED BY 'x'; GRANT RELOAD ON *.* TO poor@localhost")
    add(a, "poor", s.connection("poor"), "--password-file", s.password_file("x"))
    check = checks_of(a, "poor")["rights"]
    assert check["verdict"] == "failed" and check["detail"] == "missing: PROCESS, BINLOG MONITOR", check
    a.bad(1, "backup", "poor", says="PROCESS")
    s.sql(check["remedy"])
    assert checks_of(a, "poor")["rights"]["verdict"] == "ok"
    a.good("backup", "poor")


@test
def a_log_that_is_not_kept_long_enough_or_holds_statements_is_a_warning():
    s, a = server(), appliance()
    s.sql("SET GLOBAL binlog_expire_logs_seconds = 3600; SET GLOBAL binlog_format = 'STATEMENT'")
    checks = checks_of(a, "clinic")
    assert checks["binlog_kept"]["verdict"] == "warning", checks["binlog_kept"]
    assert checks["binlog_format"]["verdict"] == "warning", checks["binlog_format"]
    for ident in ("binlog_kept", "binlog_format"):
        s.sql(checks[ident]["remedy"].split(";")[0])
    checks = checks_of(a, "clinic")
    assert checks["binlog_kept"]["verdict"] == checks["binlog_format"]["verdict"] == "ok", checks
    s.sql("SET GLOBAL binlog_format = 'ROW'")


@test
def a_wrong_password_and_a_server_that_is_away_are_told_apart():
    s, a = server(), appliance()
    add(a, "wrong", s.connection("holdfast"), "--password-file", s.password_file("wrong"))
    a.bad(1, "backup", "wrong", says=["Access denied", "password_file"])
    add(a, "away", "socket=/nowhere.sock user=holdfast")
    a.bad(1, "backup", "away", says="path of the socket")
    a.bad(2, "source", "add", "odd", "--engine", "mariadb", "--connection", "host=a password=b", says="password")


@test
def a_tool_that_is_missing_or_of_another_series_is_named_with_its_package():
    s, a = server(), appliance()
    password = s.password_file('gehe im$"x')
    add(a, "toolless", s.connection("holdfast"), "--password-file", password, "--backup-tool", "/nowhere/mariadb-backup")
    a.bad(1, "backup", "toolless", says=["/nowhere/mariadb-backup", "package mariadb-backup"])
    assert checks_of(a, "toolless")["backup_tool"]["verdict"] == "failed"
    old = write(os.path.join(folder("old"), "tool"), "#!/bin/sh\necho 'tool based on MariaDB server 10.6.18-MariaDB'\n",
                0o755)
    add(a, "oldtool", s.connection("holdfast"), "--password-file", password, "--backup-tool", old)
    a.bad(2, "backup", "oldtool", says=["10.6.18", "package mariadb-backup"])
    assert checks_of(a, "oldtool")["tool_series"]["verdict"] == "failed"


@test
def a_stream_that_ends_early_is_no_backup_whatever_the_tool_says():
    s, a = server(), appliance()
    password = s.password_file('gehe im$"x')
    before = len(a.backups("clinic"))
    real = "/usr/bin/mariadb-backup"
    cases = {"cut": "head -c 3000000; echo 'completed OK!' >&2",
             "silent": "cat",
             "flipped": "python3 -c \"import sys; d=bytearray(sys.stdin.buffer.read()); d[2000000]^=1; "
                        "sys.stdout.buffer.write(d)\"; echo 'completed OK!' >&2"}
    says = {"cut": "ends within", "silent": "did not say that it completed", "flipped": "cannot be trusted"}
    for case, filtered in cases.items():
        fake = write(os.path.join(folder("fake"), "tool"),
                     f"#!/bin/sh\n[ \"$1\" = --version ] && exec {real} --version\n"
                     f"{real} \"$@\" 2>/dev/null | ({filtered})\n", 0o755)
        add(a, "clinic", s.connection("holdfast"), "--password-file", password, "--backup-tool", fake, "--replace")
        a.bad(1, "backup", "clinic", says=says[case])
    add(a, "clinic", s.connection("holdfast"), "--password-file", password, "--replace")
    assert len(a.backups("clinic")) == before
    a.good("backup", "clinic")


@test
def a_damaged_page_is_named_and_the_backup_kept():
    s, a = server(), appliance()
    s.sql("FLUSH TABLES patient FOR EXPORT; UNLOCK TABLES", "clinic")
    wait_for("the pages to be written", lambda: s.sql("SHOW STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").split()[1] == "0"
             or s.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0; SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0") is None, 60)
    path = os.path.join(s.data, "clinic/patient.ibd")
    with open(path, "r+b") as file:
        file.seek(16384 * 20 + 5000)
        kept = file.read(8)
        file.seek(16384 * 20 + 5000)
        file.write(b"DAMAGED!")
    answer = a.holdfast("backup", "clinic")
    with open(path, "r+b") as file:
        file.seek(16384 * 20 + 5000)
        file.write(kept)
    assert answer.code == 3 and answer.json["bad_pages"] == 1, answer
    assert a.good("backup", "clinic")["bad_pages"] == 0


@test
def a_backup_over_ssh_is_the_same_and_a_changed_key_ends_it():
    if os.geteuid() != 0:
        skip("the tool must read the server's files")
    s, daemon = server(), Sshd(programs=True)
    a = Appliance(more_settings=daemon.settings())
    add(a, "clinic", s.connection("holdfast"), "--password-file", s.password_file('gehe im$"x'), "--ssh",
        f"127.0.0.1:{daemon.port}")
    assert checks_of(a, "clinic")["backup_tool"]["verdict"] == "ok"
    done = a.good("backup", "clinic")
    assert done["files"] > 100 and done["bad_pages"] == 0, done
    for pid in processes("mariadb-backup"):
        assert "gehe" not in name_of(pid)
    daemon.change_host_key()
    a.bad(1, "backup", "clinic", says=["the key of the host is not the one that is known"])
    daemon.stop()
    a.bad(1, "backup", "clinic", says=["refuses the connection"])
    assert len(a.backups()) == 1


@test
def a_backup_that_is_killed_half_way_leaves_nothing_and_the_next_one_is_whole():
    s, a = server(), appliance()
    before = len(a.backups())
    add(a, "slow", s.connection("holdfast"), "--password-file", s.password_file('gehe im$"x'), "--max-rate", "1MiB")
    running = a.start("backup", "slow")
    tool = wait_for("the tool", lambda: [pid for pid in processes("--stream=mbstream") if "throttle" in name_of(pid)], 60)
    kill(tool[0])
    answer = a.finish(running)
    assert answer.code == 1 and "was killed by signal 9" in answer.errors, answer
    assert a.backups("slow") == [] and len(a.backups()) == before
    running = a.start("backup", "slow")
    wait_for("the tool", lambda: [pid for pid in processes("--stream=mbstream") if "throttle" in name_of(pid)], 60)
    for pid in [pid for pid in children(a.daemon()) if "--worker" in name_of(pid)]:
        kill(pid, signal.SIGKILL)
    assert a.finish(running).code == 1
    wait_for("the tool's end", lambda: not [pid for pid in processes("--stream=mbstream") if "throttle" in name_of(pid)], 60)
    assert a.good("backup", "clinic")["bad_pages"] == 0


def back_up_while(name, there, s, statements, until):
    """A backup whose stream is held, once all those names have come by in it, until the statements were run."""
    gate = folder("gate")
    write(os.path.join(gate, "hold.py"), "import os, sys, time\nnames, seen, held = [n.encode() for n in sys.argv[2:]], "
          "b'', False\nwhile piece := os.read(0, 65536):\n    os.write(1, piece)\n    seen = seen[-100:] + piece\n"
          "    names = [n for n in names if n not in seen]\n    if not names and not held:\n        held = True\n"
          "        open(sys.argv[1] + '/held', 'w').close()\n"
          "        while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.05)\n")
    tool = write(os.path.join(gate, "tool"),
                 "#!/bin/sh\n[ \"$1\" = --version ] && exec /usr/bin/mariadb-backup --version\n"
                 f"{{ /usr/bin/mariadb-backup \"$@\"; echo $? >{gate}/status; }} | python3 {gate}/hold.py {gate} "
                 f"{' '.join(until)}\nexit $(cat {gate}/status)\n", 0o755)
    add(there, name, s.connection("holdfast"), "--password-file", s.password_file('gehe im$"x'), "--backup-tool", tool)
    running = there.start("backup", name)
    wait_for("the stream to be held", lambda: os.path.exists(gate + "/held"), 60)
    s.sql(statements, "clinic")
    write(gate + "/go", "")
    return there.finish(running)


@test
def a_table_that_is_renamed_before_the_tool_has_copied_it_ends_the_backup_by_name():
    s, a = server(), appliance()
    s.sql("CREATE TABLE a1 (id INT) ENGINE=Aria", "clinic")
    answer = back_up_while("early", a, s, "RENAME TABLE a1 TO a1r", ["aria_log_control"])
    s.sql("DROP TABLE a1r", "clinic")
    assert answer.code == 1 and "clinic/a1r.MA" in answer.errors and "was renamed before" in answer.errors, answer
    assert a.backups("early") == []


@test
def tables_that_are_changed_while_the_backup_runs_are_in_it_as_they_are_at_its_end():
    s, a = server(), appliance()
    s.sql("CREATE TABLE a2 (id INT) ENGINE=Aria; CREATE TABLE a3 (id INT) ENGINE=Aria; CREATE TABLE t2 (id INT); "
          "INSERT INTO a2 VALUES (1)", "clinic")
    answer = back_up_while("ddl", a, s, "INSERT INTO a2 VALUES (2); ALTER TABLE a2 ADD b INT; INSERT INTO a2 VALUES (3, 3); "
                           "DROP TABLE a3; CREATE TABLE a4 (id INT) ENGINE=Aria; INSERT INTO a4 VALUES (4); "
                           "RENAME TABLE t2 TO t2r; CREATE TABLE t3 (id INT PRIMARY KEY)",
                           [f"clinic/{table}.{part}" for table in ("a2", "a3") for part in ("MAI", "MAD")])
    assert answer.code == 0, answer
    proof = a.holdfast("verify", "ddl")
    assert proof.code == 0 and proof.json["result"] == "passed", proof.out[-2000:]
    target = os.path.join(folder("restored"), "data")
    a.good("restore", "ddl", "--to", target)
    copy = Mariadb.of_copy(target)
    assert copy.sql("SELECT id FROM a2 UNION ALL SELECT id FROM a4", "clinic").split() == ["1", "2", "3", "4"]
    tables = copy.sql("SHOW TABLES", "clinic").split()
    assert {"a2", "a4", "t2r", "t3"} <= set(tables) and not {"a3", "t2"} & set(tables), tables
    assert copy.sql("SELECT COUNT(*), SUM(LENGTH(note)) FROM patient", "clinic") == \
        s.sql("SELECT COUNT(*), SUM(LENGTH(note)) FROM patient", "clinic")
    copy.stop()
    s.sql("DROP TABLE a2, a4, t2r, t3", "clinic")


@test
def a_table_of_Aria_that_is_renamed_after_it_was_copied_is_named_and_never_proven():
    s, a = server(), appliance()
    s.sql("CREATE TABLE a5 (id INT) ENGINE=Aria; INSERT INTO a5 VALUES (1); FLUSH TABLES a5", "clinic")
    answer = back_up_while("renamed", a, s, "INSERT INTO a5 VALUES (2); RENAME TABLE a5 TO a5r",
                           ["clinic/a5.MAI", "clinic/a5.MAD"])
    assert answer.code == 0, answer
    proof = a.holdfast("verify", "renamed")
    checks = {check["id"]: check for check in proof.json["checks"]}
    assert proof.code == 3 and proof.json["result"] == "inconclusive", proof.out[-2000:]
    assert checks["renamed_tables"]["verdict"] == "not_determinable", checks["renamed_tables"]
    assert "clinic/a5r.MAD" in checks["renamed_tables"]["reason"], checks["renamed_tables"]
    other = {ident: check["verdict"] for ident, check in checks.items() if ident not in ("renamed_tables", *OF_STREAMS)}
    assert set(other.values()) == {"passed"}, checks
    s.sql("DROP TABLE a5r", "clinic")
    a.good("backup", "clinic")


@test
def pages_of_every_form_and_size_are_judged():
    for options in (["--innodb-page-size=4k", "--innodb-checksum-algorithm=crc32"],
                    ["--innodb-page-size=64k"], ["--innodb-page-size=8k"]):
        s, a = Mariadb(init=options), appliance()
        name = f"size-{s.port}"
        s.sql("CREATE DATABASE clinic; CREATE TABLE clinic.t (id INT PRIMARY KEY, b TEXT); "
              "INSERT INTO clinic.t SELECT seq, REPEAT('x', 200) FROM mysql.seq_1_to_3000")
        add(a, name, s.connection("root"))
        done = a.good("backup", name)
        assert done["bad_pages"] == 0, (options, done)
        s.stop()


run()

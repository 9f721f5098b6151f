#!/usr/bin/python3
"""test_mariadb_proof.py - a MariaDB's backup through the whole program: proven, restored, and refused when it is damaged."""
import glob
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.environ["HOLDFAST_SOURCE"], "tests/support"))
from appliance import Appliance, folder  # noqa: E402
from mariadb import Mariadb  # noqa: E402
from tap import run, test  # noqa: E402

TABLES = """
CREATE DATABASE clinic; USE clinic;
CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(100), note TEXT, KEY by_name (name), FULLTEXT (note));
INSERT INTO patient SELECT seq, CONCAT('name ', seq), REPEAT(CHAR(97 + MOD(seq, 26)), 300) FROM seq_1_to_3000;
CREATE TABLE visit (id INT PRIMARY KEY, patient INT, FOREIGN KEY (patient) REFERENCES patient (id));
INSERT INTO visit SELECT seq, seq FROM seq_1_to_2000;
CREATE TABLE packed (id INT PRIMARY KEY, b TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
INSERT INTO packed SELECT id, note FROM patient WHERE id <= 1000;
CREATE TABLE pressed (id INT PRIMARY KEY, b TEXT) PAGE_COMPRESSED=1;
INSERT INTO pressed SELECT id, note FROM patient WHERE id <= 1000;
CREATE TABLE parted (id INT PRIMARY KEY, b TEXT) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO parted SELECT id, note FROM patient WHERE id <= 1000;
CREATE TABLE `odd ``name/é` (id INT PRIMARY KEY); INSERT INTO `odd ``name/é` VALUES (1), (2);
CREATE TABLE aria (id INT, b TEXT, KEY (id)) ENGINE=Aria; INSERT INTO aria SELECT id, note FROM patient WHERE id <= 100;
CREATE TABLE myisam (id INT, KEY (id)) ENGINE=MyISAM; INSERT INTO myisam SELECT id FROM patient WHERE id <= 100;
CREATE VIEW names AS SELECT name FROM patient; CREATE SEQUENCE counter; SELECT NEXTVAL(counter);
CREATE PROCEDURE nothing() SELECT 1;
CREATE EVENT forget ON SCHEDULE EVERY 1 SECOND DO DELETE FROM clinic.patient;
CREATE USER holdfast@localhost IDENTIFIED BY 'open'; GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO holdfast@localhost;
"""
LIST = """SELECT CONCAT('`', TABLE_SCHEMA, '`.`', REPLACE(TABLE_NAME, '`', '``'), '`') FROM information_schema.TABLES
          WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ('clinic', 'mysql') AND TABLE_NAME NOT LIKE 'innodb%'
          AND TABLE_NAME NOT LIKE '%log' AND TABLE_NAME NOT LIKE 'gtid%' AND TABLE_NAME NOT LIKE '%stats' ORDER BY 1"""


class Stand:
    server = appliance = None


def stand():
    if Stand.server is None:
        Stand.server = Mariadb()
        Stand.server.sql(TABLES)
        Stand.appliance = Appliance()
        secret = Stand.server.password_file("open")
        Stand.appliance.good("source", "add", "clinic", "--engine", "mariadb", "--verify-after-backup", "no",
                             "--connection", Stand.server.connection("holdfast"), "--password-file", secret)
        Stand.appliance.good("backup", "clinic")
    return Stand.server, Stand.appliance


def contents(server):
    return [server.sql(f"CHECKSUM TABLE {table} EXTENDED") for table in server.sql(LIST).split("\n")]


@test
def a_backup_of_mariadb_is_proven_with_signed_evidence():
    _, appliance = stand()
    answer = appliance.good("verify", "clinic")
    assert answer["state"] == "proven", answer
    checks = {check["id"]: check for check in answer.get("checks", [])}
    assert all(check["verdict"] == "passed" for check in checks.values() if check["required"]), checks
    assert not checks["archive"]["required"] and "ever received" in checks["archive"]["reason"], checks["archive"]


@test
def every_table_of_a_restored_folder_is_what_the_source_has():
    server, appliance = stand()
    target = os.path.join(folder("restored"), "data")
    answer = appliance.good("restore", "clinic", "--to", target)
    assert answer["server_version"].startswith("10.11"), answer
    assert os.path.exists(target + ".configuration/my.cnf")
    os.chmod(os.path.dirname(target), 0o755)
    copy = Mariadb.of_copy(target, "--event-scheduler=OFF")
    try:
        assert contents(copy) == contents(server)
        assert copy.sql("SELECT COUNT(*) FROM clinic.names") == "3000"
        assert copy.sql("SELECT NEXTVAL(clinic.counter) > 1") == "1"
        assert copy.sql("SELECT COUNT(*) FROM mysql.user WHERE User = 'holdfast'") == "1"
    finally:
        copy.stop()


@test
def rows_that_lead_nowhere_on_the_source_itself_are_a_note_once_it_may_be_asked():
    server, appliance = stand()
    server.sql("SET foreign_key_checks = 0; INSERT INTO clinic.visit VALUES (900001, 900001), (900002, 900002)")
    appliance.good("backup", "clinic")
    proof = appliance.holdfast("verify", "clinic")
    check = {check["id"]: check for check in proof.json["checks"]}["references"]
    assert proof.code == 3 and check["verdict"] == "not_determinable" and "may SELECT" in check["reason"], check
    server.sql("GRANT SELECT ON clinic.* TO holdfast@localhost")
    proof = appliance.holdfast("verify", "clinic")
    check = {check["id"]: check for check in proof.json["checks"]}["references"]
    assert proof.code == 0 and check["verdict"] == "passed", check
    assert "on the source itself, the first is \"clinic.visit_ibfk_1\"" in check["reason"], check
    server.sql("DELETE FROM clinic.visit WHERE id = 900001")  # then the copy has more of them: not the source's own
    proof = appliance.holdfast("verify", "clinic")
    check = {check["id"]: check for check in proof.json["checks"]}["references"]
    assert proof.code == 3 and check["verdict"] == "not_determinable", check
    server.sql("DELETE FROM clinic.visit WHERE id = 900002")


@test
def a_moment_of_a_source_without_a_stream_is_refused_in_so_many_words():
    _, appliance = stand()
    target = os.path.join(folder("restored"), "data")
    appliance.bad(1, "restore", "clinic", "--to", target, "--latest", says="nothing was streamed")
    assert not os.path.exists(target)


run()

#!/usr/bin/python3
"""test_mariadb_encrypted.py - encrypted tables: what a backup of them needs, and what no key and a wrong key mean."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.environ["HOLDFAST_SOURCE"], "tests/support"))
from appliance import Appliance, folder, wait_for, write  # noqa: E402
from mariadb import Mariadb  # noqa: E402
from tap import run, test  # noqa: E402

KEYS = "# of the clinic\n1;" + "ab" * 16 + "\n2;" + "CD" * 32 + "\n"
WRONG = KEYS.replace("ab", "ef").replace("CD", "0d")
TABLES = """
CREATE DATABASE clinic; USE clinic;
CREATE TABLE sealed (id INT PRIMARY KEY, b TEXT, KEY (b(10))) ENCRYPTED=YES;
INSERT INTO sealed SELECT seq, REPEAT(CHAR(97 + seq % 26), 300) FROM mysql.seq_1_to_2000;
CREATE TABLE other_key (id INT PRIMARY KEY, b TEXT) ENCRYPTED=YES ENCRYPTION_KEY_ID=2; INSERT INTO other_key SELECT * FROM sealed;
CREATE TABLE packed (id INT PRIMARY KEY, b TEXT) ENCRYPTED=YES ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
INSERT INTO packed SELECT * FROM sealed;
CREATE TABLE pressed (id INT PRIMARY KEY, b TEXT) ENCRYPTED=YES PAGE_COMPRESSED=1; INSERT INTO pressed SELECT * FROM sealed;
CREATE TABLE open (id INT PRIMARY KEY, b TEXT) ENCRYPTED=NO; INSERT INTO open SELECT * FROM sealed;
CREATE TABLE aria (id INT, b TEXT) ENGINE=Aria ROW_FORMAT=PAGE; INSERT INTO aria SELECT * FROM sealed WHERE id < 100;
SET GLOBAL innodb_max_dirty_pages_pct = 0; SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0
"""
NAMES = ["sealed", "other_key", "packed", "pressed", "open", "aria"]
OPTIONS = ["--plugin-load-add=file_key_management.so", "--innodb-encrypt-log=ON", "--aria-encrypt-tables=ON",
           "--encrypt-binlog=ON"]


class Stand:
    """One appliance; the sources are servers of both forms of pages and both of the plugin's ciphers."""
    appliance = None
    servers = {}


def key_file(text, owner=None, name="keys"):
    path = write(os.path.join(folder("keys", 0o755), name), text, 0o600)
    if owner is not None and os.geteuid() == 0:
        shutil.chown(path, owner, owner)
    return path


def source(name, *options):
    if Stand.appliance is None:
        Stand.appliance = Appliance()
    if name not in Stand.servers:
        server = Mariadb(*OPTIONS, "--file-key-management-filename=" + key_file(KEYS, "mysql"), *options)
        server.sql(TABLES)
        wait_for("the pages to be written",
                 lambda: server.sql("SHOW STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").split()[1] == "0", 60)
        Stand.servers[name] = server
        configure(name)
    return Stand.servers[name], Stand.appliance


def configure(name, *options):
    Stand.appliance.good("source", "add", name, "--engine", "mariadb", "--verify-after-backup", "no", "--replace",
                         "--connection", Stand.servers[name].connection("root"), *options)


def checks_of(answer):
    return {check["id"]: check for check in answer.json["checks"]}


def bad(answer):
    """What did not pass, for messages."""
    return {ident: (check["verdict"], check["reason"], check["findings"]) for ident, check in checks_of(answer).items()
            if check["verdict"] != "passed"}


def prove_and_restore(name, *server_options):
    server, appliance = source(name)
    proof = appliance.holdfast("verify", name)
    checks = checks_of(proof)
    assert proof.code == 0 and checks["table_keys"]["examined"] == 4, bad(proof)
    target = os.path.join(folder("restored"), "data")
    appliance.good("restore", name, "--to", target)
    with open(target + ".configuration/my.cnf", encoding="utf-8") as file:
        assert "plugin_load_add=file_key_management\n" in file.read()
    os.chmod(os.path.dirname(target), 0o755)
    copy = Mariadb.of_copy(target, OPTIONS[0], "--file-key-management-filename=" + key_file(KEYS, "mysql"), *server_options)
    try:
        for table in NAMES:
            question = f"CHECKSUM TABLE clinic.{table} EXTENDED"
            assert copy.sql(question) == server.sql(question), table
    finally:
        copy.stop()


@test
def without_keys_a_backup_is_whole_its_proof_inconclusive_and_its_restore_refused():
    _, appliance = source("clinic")
    doctor = {check["id"]: check for check in appliance.holdfast("doctor", "clinic").json["sources"][0]["checks"]}
    assert doctor["encryption"]["verdict"] == "failed" and "table_keys" in doctor["encryption"]["remedy"], doctor
    done = appliance.good("backup", "clinic")
    assert done["bad_pages"] == 0, done
    proof = appliance.holdfast("verify", "clinic")
    check = checks_of(proof)["table_keys"]
    assert proof.code == 3 and proof.json["result"] == "inconclusive", proof
    assert check["verdict"] == "not_determinable" and "is encrypted: set table_keys" in check["reason"], check
    assert checks_of(proof)["page_checksums"]["verdict"] == "passed", proof.out
    target = os.path.join(folder("restored"), "data")
    appliance.bad(2, "restore", "clinic", "--to", target, says="Set table_keys of the source")
    assert not os.path.exists(os.path.join(target, "ib_logfile0"))


@test
def a_wrong_key_is_inconclusive_and_says_which_table_it_does_not_open():
    _, appliance = source("clinic")
    for text, says in ((WRONG, " in table_keys is not there or does not open \"clinic/"), (KEYS.split("2;")[0], "the key 2 in table_keys")):
        configure("clinic", "--table-keys", key_file(text))
        proof = appliance.holdfast("verify", "clinic")
        check = checks_of(proof)["table_keys"]
        assert proof.code == 3 and proof.json["result"] == "inconclusive" and says in check["reason"], bad(proof)
        assert all(check["verdict"] != "failed" for check in checks_of(proof).values()), bad(proof)
    configure("clinic", "--table-keys", key_file("1;abc\n"))
    answer = appliance.holdfast("verify", "clinic")
    assert answer.code != 0 and "line 1 of" in answer.errors + answer.out, answer


@test
def with_its_keys_a_backup_is_proven_and_restored():
    _, appliance = source("clinic")
    configure("clinic", "--table-keys", key_file(KEYS))
    doctor = {check["id"]: check for check in appliance.holdfast("doctor", "clinic").json["sources"][0]["checks"]}
    assert doctor["encryption"]["verdict"] == "ok", doctor["encryption"]
    prove_and_restore("clinic")


@test
def keys_that_are_sealed_with_a_password_are_opened_and_the_old_form_of_pages_is_known():
    _, appliance = source("older", "--innodb-checksum-algorithm=crc32", "--file-key-management-encryption-algorithm=aes_ctr")
    sealed = key_file("", name="keys.enc")
    done = subprocess.run(["/usr/bin/openssl", "enc", "-aes-256-cbc", "-md", "sha1", "-pass", "pass:open", "-out", sealed],
                          input=KEYS.encode(), capture_output=True)
    assert done.returncode == 0, done
    configure("older", "--table-keys", sealed)
    assert appliance.good("backup", "older")["bad_pages"] == 0
    answer = appliance.holdfast("verify", "older")
    assert answer.code != 0 and "sealed with a password" in answer.errors + answer.out, answer
    password = write(os.path.join(folder("secret", 0o700), "password"), "open\n", 0o600)
    configure("older", "--table-keys", sealed, "--table-keys-password", password)
    prove_and_restore("older", "--file-key-management-encryption-algorithm=aes_ctr")


run()

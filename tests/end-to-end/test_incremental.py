#!/usr/bin/python3
"""test_incremental.py - PostgreSQL 17 and 18 send only what changed, and what is stored is a whole backup all the same."""
import filecmp
import hashlib
import json
import os
import re
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import POSTGRES, ROOT, Appliance, Cluster  # noqa: E402
from tap import run, skip, test  # noqa: E402

SERVERS = os.environ.get("HOLDFAST_SERVERS", "")
places = 0


def binaries_of(major):
    if major == 15:
        return POSTGRES
    place = os.path.join(SERVERS, str(major), "bin")
    if not os.path.exists(os.path.join(place, "postgres")):
        skip(f"there is no PostgreSQL {major} here")
    return place


def make(major, *options, settings="summarize_wal = on\n", init=("--data-checksums",)):
    server = Cluster(binaries=binaries_of(major), settings=settings, init=init)
    server.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 60000) i")
    server.sql("CREATE INDEX people_id ON people (id)")
    server.sql("CREATE TABLE letters AS SELECT i, repeat(md5(i::text), 30) AS body FROM generate_series(1, 20000) i")
    server.sql("CREATE TABLE shrinks AS SELECT i, repeat('x', 500) AS body FROM generate_series(1, 5000) i")
    server.sql("VACUUM")
    appliance = Appliance(more_settings=f"sandbox:\n  postgres_prefixes: [{SERVERS}]\n")
    appliance.add_source(server, "--verify-after-backup", "no", *options)
    return server, appliance


def change(server, number):
    """Something of each kind: rows here and there, a table cut off and one that grows, one that goes and one that comes."""
    server.sql(f"UPDATE people SET name = name || '{number}' WHERE id % 2000 = {number}")
    server.sql(f"DELETE FROM shrinks WHERE i > {3000 - 500 * number}")
    server.sql("VACUUM shrinks")
    server.sql(f"INSERT INTO letters SELECT i, repeat('new', 100) FROM generate_series(1, {2000 + number}) i")
    server.sql(f"DROP TABLE IF EXISTS t{number - 1}; CREATE TABLE t{number} AS SELECT i FROM generate_series(1, 1000) i")


def summarise(server, how):
    server.sql(f"ALTER SYSTEM SET summarize_wal = {how}")
    server.reload()


def contents(server):
    return [server.fingerprint(), server.sql("SELECT count(*), sum(hashtext(t::text)::bigint) FROM letters t"),
            server.sql("SELECT count(*), sum(i) FROM shrinks")]


def restore(appliance, backup):
    global places
    places += 1
    place = os.path.join(ROOT, f"restored-{places}")
    appliance.good("restore", "clinic", "--to", place, "--backup", backup,
                   *(["--owner", "postgres"] if os.geteuid() == 0 else []))
    os.chmod(place, 0o700)
    return place


def must_serve(appliance, server, backup, told):
    place = restore(appliance, backup)
    check_manifest(place)
    copy = Cluster.of_copy(place, binaries=server.binaries)
    try:
        assert contents(copy) == told, (contents(copy), told)
    finally:
        copy.stop()


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xff]
    return value ^ 0xffffffff


def check_manifest(place):
    """The manifest that we wrote, as any reader of JSON would: names, sizes, its own digest, and checksums of some files."""
    with open(os.path.join(place, "backup_manifest"), "rb") as file:
        text = file.read()
    manifest = json.loads(text)
    last = text.rindex(b'"Manifest-Checksum"')
    assert hashlib.sha256(text[:last]).hexdigest() == manifest["Manifest-Checksum"]
    assert manifest["PostgreSQL-Backup-Manifest-Version"] == 2
    for number, row in enumerate(manifest["Files"]):
        path = os.path.join(place, row["Path"])
        assert "INCREMENTAL" not in row["Path"]
        if row["Path"] in ("tablespace_map", "postgresql.auto.conf"):
            continue
        assert os.path.getsize(path) == row["Size"], row
        if number % 40 == 0 and row["Size"] < 200000:
            with open(path, "rb") as file:
                assert crc32c(file.read()).to_bytes(4, "little").hex() == row["Checksum"], row


def whole_road(major, init):
    server, appliance = make(major, init=init)
    try:
        first = appliance.good("backup", "clinic")
        assert first["scan"]["kind"] == "full" and first["scan"]["reason"] == "first backup", first
        for number in (1, 2, 3):
            change(server, number)
            told = contents(server)
            backup = appliance.good("backup", "clinic")
            assert backup["scan"] == {"kind": "incremental", "reason": None, "since_full": number,
                                      "pages_kept": backup["pages_kept"]}, backup
            assert backup["pages_kept"] > backup["pages"] / 3 and backup["bad_pages"] == 0, backup
        must_serve(appliance, server, backup["backup"], told)
        verdict = appliance.good("verify", "clinic", "--backup", backup["backup"])
        assert verdict["result"] == "passed" and verdict["state"] == "proven", verdict
        assert server.no_slots()
        appliance.good("repo", "check", "--level", "2")
        appliance.end_daemon()
    finally:
        server.stop()


@test
def version_17_with_checksums():
    whole_road(17, ("--data-checksums",))


@test
def version_18_without_checksums():
    whole_road(18, ("--no-data-checksums",))


@test
def on_a_quiet_server_the_copy_is_that_of_a_full_backup_byte_for_byte():
    server, appliance = make(17, "--full-scan-every", "2")
    try:
        appliance.good("backup", "clinic")
        change(server, 1)
        server.sql("VACUUM")
        server.sql("VACUUM")
        server.sql("CHECKPOINT")
        incremental = appliance.good("backup", "clinic")
        full = appliance.good("backup", "clinic")
        assert incremental["scan"]["kind"] == "incremental" and full["scan"]["kind"] == "full", (incremental, full)
        one, other = restore(appliance, incremental["backup"]), restore(appliance, full["backup"])
        differ = []
        for place, _, names in os.walk(other):
            for name in names:
                path = os.path.relpath(os.path.join(place, name), other)
                if not re.match(r"base/|global/[0-9]|pg_xact|pg_multixact|pg_tblspc", path):
                    continue
                if not filecmp.cmp(os.path.join(one, path), os.path.join(other, path), shallow=False):
                    differ.append(path)
        assert not differ, differ
        # The maps too: what the full backup stored anew is none of a relation.
        assert full["pages_stored"] < 100, full
    finally:
        server.stop()


@test
def every_nth_backup_sees_every_page():
    server, appliance = make(17, "--full-scan-every", "3")
    try:
        kinds = []
        for number in range(1, 8):
            server.sql(f"UPDATE people SET name = 'n{number}' WHERE id = {number}")
            answer = appliance.good("backup", "clinic")
            kinds.append(answer["scan"]["kind"][0])
        assert "".join(kinds) == "fiifiif", kinds
        assert answer["scan"]["reason"] == "one backup of 3 sees every page", answer
    finally:
        server.stop()


@test
def where_it_is_not_possible_everything_is_sent_and_the_reason_is_kept():
    server, appliance = make(17, settings="summarize_wal = off\n")
    try:
        appliance.good("backup", "clinic")
        answer = appliance.good("backup", "clinic")
        assert "summarize_wal is off" in answer["scan"]["reason"], answer
        # Switched on now: what was written before was never summarised, and the server says so.
        server.sql("INSERT INTO people SELECT i, 'x' FROM generate_series(1, 1000) i; SELECT pg_switch_wal()")
        summarise(server, "on")
        server.sql("CHECKPOINT")
        answer = appliance.good("backup", "clinic")
        assert answer["scan"]["kind"] == "incremental" or "summar" in answer["scan"]["reason"], answer
        told = contents(server)
        answer = appliance.good("backup", "clinic")
        assert answer["scan"]["kind"] == "incremental", answer
        must_serve(appliance, server, answer["backup"], told)
    finally:
        server.stop()


@test
def a_server_that_forgot_its_summaries_is_asked_for_everything():
    server, appliance = make(17)
    try:
        appliance.good("backup", "clinic")
        change(server, 1)
        server.sql("CHECKPOINT; SELECT pg_switch_wal()")
        summarise(server, "off")
        folder = os.path.join(server.data, "pg_wal/summaries")
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        summarise(server, "on")
        server.sql("CREATE TABLE more AS SELECT 1")
        told = contents(server)
        answer = appliance.good("backup", "clinic")
        if answer["scan"]["kind"] == "full":
            assert answer["scan"]["reason"], answer
        must_serve(appliance, server, answer["backup"], told)
    finally:
        server.stop()


@test
def version_15_always_sends_everything():
    server, appliance = make(15, settings="")
    try:
        appliance.good("backup", "clinic")
        answer = appliance.good("backup", "clinic")
        assert answer["scan"]["kind"] == "full" and "before 17" in answer["scan"]["reason"], answer
    finally:
        server.stop()


run()

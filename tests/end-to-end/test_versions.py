#!/usr/bin/python3
"""test_versions.py - the main job against every PostgreSQL that is backed up: 13 to 18, each with a peculiarity of its own.

15 is Debian's; the others lie below HOLDFAST_SERVERS, see tests/support/fetch-servers.  Where one is missing its test is
skipped, by name.
"""
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import POSTGRES, Appliance, Cluster, folder  # noqa: E402
from tap import run, skip, test  # noqa: E402

SERVERS = os.environ.get("HOLDFAST_SERVERS", "")
VERIFYBACKUP_MOST = 15  # Debian's pg_verifybackup reads the manifests up to its own version


def binaries_of(major):
    if major == 15:
        return POSTGRES
    place = os.path.join(SERVERS, str(major), "bin")
    if not os.path.exists(os.path.join(place, "postgres")):
        skip(f"there is no PostgreSQL {major} here")
    return place


def fill(server, tablespace):
    """Something of each kind that a data directory can hold."""
    server.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 20000) i")
    server.sql("ALTER TABLE people ADD PRIMARY KEY (id)")
    server.sql("CREATE INDEX people_name ON people USING hash (name)")
    server.sql("CREATE UNLOGGED TABLE scratch AS SELECT * FROM people")
    server.sql("CREATE TABLE letters AS SELECT i, repeat(md5(i::text), 400) AS body FROM generate_series(1, 50) i")
    server.sql("CREATE SEQUENCE numbers; SELECT setval('numbers', 4711)")
    server.sql("CREATE DATABASE second")
    server.sql("CREATE TABLE apart AS SELECT i FROM generate_series(1, 1000) i", database="second")
    if tablespace:
        place = folder("tablespace")
        server._own(place)
        server.sql(f"CREATE TABLESPACE ward LOCATION '{place}'")
        server.sql("CREATE TABLE beds TABLESPACE ward AS SELECT i FROM generate_series(1, 5000) i")


def contents(server, tablespace):
    told = [server.fingerprint(), server.sql("SELECT sum(length(body)) FROM letters"),
            server.sql("SELECT last_value FROM numbers"), server.sql("SELECT count(*) FROM apart", database="second"),
            server.sql("SET enable_seqscan = off; SELECT count(*) FROM people WHERE name = md5('77')")]
    return told + ([server.sql("SELECT sum(i) FROM beds")] if tablespace else [])


def main_job(major, init=("--data-checksums",), settings="", tablespace=False, password=False):
    binaries = binaries_of(major)
    server = Cluster(binaries=binaries, init=init, settings=settings)
    try:
        fill(server, tablespace)
        appliance = Appliance(more_settings=f"sandbox:\n  postgres_prefixes: [{SERVERS}]\n" if major != 15 else "")
        if password:
            server.sql("CREATE ROLE holdfast LOGIN REPLICATION PASSWORD 'a long one'; GRANT pg_read_all_settings TO holdfast")
            server.set_hba("local all all trust\nlocal replication postgres trust\n"
                           "host all holdfast 127.0.0.1/32 scram-sha-256\nhost replication holdfast 127.0.0.1/32 scram-sha-256\n")
            server.reload()
            secret = os.path.join(appliance.folder, "pgpass")
            with open(secret, "w", encoding="utf-8") as file:
                file.write(f"127.0.0.1:{server.port}:*:holdfast:a long one\n")
            os.chmod(secret, 0o600)
            appliance.good("source", "add", "clinic", "--engine", "postgresql", "--connection",
                           f"host=127.0.0.1 port={server.port} user=holdfast dbname=postgres passfile={secret}",
                           "--verify-after-backup", "no")
        else:
            appliance.add_source(server, "--verify-after-backup", "no")

        first = appliance.good("backup", "clinic")
        assert first["bad_pages"] == 0, first
        server.sql("UPDATE people SET name = name || 'x' WHERE id % 1000 = 7")
        second = appliance.good("backup", "clinic")
        assert second["parent"] == first["backup"] and second["pages_stored"] < first["pages_stored"] / 2, second
        told = contents(server, tablespace)

        for backup in (first, second):
            verdict = appliance.good("verify", "clinic", "--backup", backup["backup"])
            assert verdict["result"] == "passed" and verdict["state"] == "proven", verdict
        server.sql("UPDATE people SET name = 'later'")
        prove_restore(appliance, binaries, major, told, tablespace)
        assert server.no_slots()
        appliance.end_daemon()
    finally:
        server.stop()


def prove_restore(appliance, binaries, major, told, tablespace):
    place = folder("restored", 0o700)
    appliance.good("restore", "clinic", "--to", place, *(["--owner", "postgres"] if os.geteuid() == 0 else []))
    if major <= VERIFYBACKUP_MOST:
        checked = subprocess.run([os.path.join(POSTGRES, "pg_verifybackup"), "-n", "-i", "holdfast_config", "-i",
                                  "postgresql.conf", "-i", "postgresql.auto.conf", "-i", "tablespace_map", place], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    copy = Cluster.of_copy(place, binaries=binaries)
    try:
        assert contents(copy, tablespace) == told, (contents(copy, tablespace), told)
    finally:
        copy.stop()


@test
def version_13_whose_backup_comes_as_one_stream_a_tablespace():
    main_job(13, tablespace=True)


@test
def version_14_without_page_checksums():
    main_job(14, init=())


@test
def version_15_with_large_log_segments_and_a_role_of_its_own_with_a_password():
    main_job(15, init=("--data-checksums", "--wal-segsize=64"), settings="max_wal_size = 512MB\nmin_wal_size = 128MB\n",
             tablespace=True, password=True)


@test
def version_16_with_a_tablespace():
    main_job(16, tablespace=True)


@test
def version_17_that_summarises_its_log():
    main_job(17, settings="summarize_wal = on\n")


@test
def version_18_with_the_checksums_it_has_by_itself():
    main_job(18, init=(), tablespace=True)


run()

#!/usr/bin/python3
"""test_stream_versions.py - every PostgreSQL that is backed up, streamed and restored to moments, exact to the commit.

15 is Debian's; the others lie below HOLDFAST_SERVERS, see tests/support/fetch-servers.  Where one is missing its test is
skipped, by name.
"""
import os
import random
import subprocess
import sys
import threading

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import POSTGRES, ROOT, Cluster, folder  # noqa: E402
from moments import Ledgered  # noqa: E402
from tap import run, skip, test  # noqa: E402

SERVERS = os.environ.get("HOLDFAST_SERVERS", "")
STREAMED = "max_slot_wal_keep_size = 2GB\nwal_keep_size = 0\nmax_prepared_transactions = 4\n"
CHANCE = random.Random(20261123)


def binaries_of(major):
    if major == 15:
        return POSTGRES
    place = os.path.join(SERVERS, str(major), "bin")
    if not os.path.exists(os.path.join(place, "postgres")):
        skip(f"there is no PostgreSQL {major} here")
    return place


def every_moment(server, major, connection=None, targets=2):
    """A ledger over a backup and two log segments, proven while the source goes on; then the end of it, and some moments."""
    try:
        clinic = Ledgered(server, f"sandbox:\n  postgres_prefixes: [{SERVERS}]\n" if major != 15 else "", connection)
        clinic.add(catch_up="60s")
        clinic.start_receiving()
        clinic.commit(10)
        clinic.prove()
        clinic.commit(24)
        clinic.commit_prepared()
        server.sql("SELECT pg_switch_wal()")
        clinic.point("half way")
        clinic.commit(25)
        must_catch_up(clinic)
        clinic.stop_receiving()
        server.stop()  # a copy needs nothing of it

        clinic.must_hold(60, "--latest")
        hands_out_a_table(clinic, major)
        prepared = clinic.rows[34]
        clinic.must_hold(35, "--xid", str(prepared.xid))
        clinic.must_hold(34, "--before-xid", str(prepared.xid))
        kinds = ["at", "lsn", "xid", "before-xid", "point"]
        for kind in CHANCE.sample(kinds, targets):
            words, last = clinic.random_target(CHANCE, clinic.rows[12:55], [kind])
            clinic.must_hold(last, *words)
        clinic.appliance.end_daemon()
    finally:
        if server.process.poll() is None:
            server.stop()


def hands_out_a_table(clinic, major):
    """By pg_dump, which dumps servers of its own release and older ones: Debian has that of 15."""
    dump = os.path.join(clinic.appliance.folder, "ledger.dump")
    words = ["restore", clinic.name, "--database", "postgres", "--table", "public.ledger", "--to", dump, "--latest"]
    if major > 15:
        clinic.appliance.bad(1, *words, says=[f"there is no pg_dump of PostgreSQL {major} or newer on this host",
                                              f"postgresql-client-{major}"])
        assert not os.path.exists(dump)
        return
    answer = clinic.appliance.good(*words)
    assert answer["pg_dump_version"] == 15, answer
    text = subprocess.run([os.path.join(POSTGRES, "pg_restore"), "--data-only", "--file", "-", dump], capture_output=True,
                          text=True, check=True).stdout
    rows = [line for line in text.splitlines() if "\t" in line]
    assert sorted(int(row.split("\t")[0]) for row in rows) == list(range(1, 61)), rows


def must_catch_up(clinic):
    """The copy has replayed the archive and come where the source stands, which goes on meanwhile."""
    over = threading.Event()
    writer = threading.Thread(target=write_until, args=(clinic.server, over))
    writer.start()
    try:
        verdict = clinic.appliance.good("verify", clinic.name)
    finally:
        over.set()
        writer.join()
    assert verdict["state"] == "proven", verdict
    checks = {check["id"]: check for check in verdict["checks"]}
    for name in ("archive", "caught_up"):
        assert checks[name]["verdict"] == "passed" and checks[name]["required"], checks[name]


def write_until(server, over):
    server.sql("CREATE TABLE meanwhile (i int)")
    while not over.is_set():
        server.sql("INSERT INTO meanwhile SELECT generate_series(1, 100)")
        over.wait(0.05)


@test
def version_13_whose_log_is_received_and_replayed():
    every_moment(Cluster(STREAMED, binaries=binaries_of(13)), 13)


@test
def version_14_without_page_checksums():
    every_moment(Cluster(STREAMED, binaries=binaries_of(14), init=()), 14)


@test
def version_15_with_large_segments_over_tls_with_a_password():
    server = Cluster(STREAMED + "max_wal_size = 512MB\nmin_wal_size = 128MB\n", init=("--data-checksums", "--wal-segsize=64"))
    certificate, key = make_certificate(server)
    server.configure(f"ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\nssl_min_protocol_version = 'TLSv1.3'\n")
    server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE holdfast LOGIN REPLICATION PASSWORD 'a long one'; "
               "GRANT pg_read_all_settings, pg_monitor TO holdfast")
    server.set_hba("local all postgres trust\nlocal replication postgres trust\n"
                   "hostssl all holdfast 127.0.0.1/32 scram-sha-256\nhostssl replication holdfast 127.0.0.1/32 scram-sha-256\n")
    server.restart()
    secret = os.path.join(ROOT, "pgpass")
    with open(secret, "w", encoding="utf-8") as file:
        file.write(f"127.0.0.1:{server.port}:*:holdfast:a long one\n")
    os.chmod(secret, 0o600)
    every_moment(server, 15, f"host=127.0.0.1 port={server.port} user=holdfast dbname=postgres passfile={secret} "
                             f"sslmode=verify-full sslrootcert={certificate} channel_binding=require", targets=1)


def make_certificate(server):
    place = folder("certificate")
    certificate, key = os.path.join(place, "server.crt"), os.path.join(place, "server.key")
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                           "-days", "2", "-subj", "/CN=clinic", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                           "-out", certificate], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    os.chmod(key, 0o600)
    server._own(key)
    return certificate, key


@test
def version_16_with_small_segments():
    every_moment(Cluster(STREAMED, binaries=binaries_of(16), init=("--data-checksums", "--wal-segsize=1")), 16)


@test
def version_17_that_summarises_its_log():
    every_moment(Cluster(STREAMED + "summarize_wal = on\n", binaries=binaries_of(17)), 17)


@test
def version_18_with_large_segments():
    every_moment(Cluster(STREAMED + "max_wal_size = 512MB\n", binaries=binaries_of(18), init=("--wal-segsize=64",)), 18)


run()

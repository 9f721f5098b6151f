#!/usr/bin/python3
"""test_looking.py - a backup, or a moment, that is looked into in a sandbox; and one database or table of it as a dump."""
import os
import re
import signal
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import POSTGRES, ROOT, Appliance, Cluster, alive, children, processes, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

ODD = 'the "odd" = one'  # of a database: would be a connection string to pg_dump, and needs quotes everywhere

source = Cluster("max_slot_wal_keep_size = 1GB\n")
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")
source.sql("CREATE TABLE ledger (number int PRIMARY KEY)")
source.sql('CREATE DATABASE "the ""odd"" = one"')
source.sql('CREATE SCHEMA "Ward.1"; CREATE TABLE "Ward.1"."Bed * list" AS SELECT i FROM generate_series(1, 77) i;'
           "CREATE TABLE patients AS SELECT i FROM generate_series(1, 10) i; CREATE TABLE visits (i int)", database=f"dbname='{ODD}'")
source.sql(f"ALTER DATABASE \"the \"\"odd\"\" = one\" SET search_path = 'nowhere'")
main = Appliance()
moments = {}


def receive():
    process = main.start("stream", "clinic")
    wait_for("the stream", lambda: (main.holdfast("status").json["sources"][0]["stream"]["now"] or {}).get("connected"), 60)
    return process


def commit(number):
    return source.sql(f"INSERT INTO ledger VALUES ({number}); SELECT pg_current_wal_insert_lsn()")


def position(text):
    high, low = (text or "0/0").split("/")
    return int(high, 16) << 32 | int(low, 16)


def inspect(*words):
    """A copy that is looked into: the process, and what runs a statement in it."""
    process = main.start("restore", "clinic", "--inspect", *words, json_wanted=False)
    os.set_blocking(process.stderr.fileno(), False)
    said = []

    def heard():
        try:
            said.append(os.read(process.stderr.fileno(), 65536).decode())
        except BlockingIOError:
            pass
        assert process.poll() is None, "".join(said)
        return re.search(r"PGSERVICEFILE=(\S+) psql service=copy", "".join(said))
    service = wait_for("the copy", heard, 60).group(1)

    def ask(sql, expected=0, user=None):
        become = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        done = subprocess.run([os.path.join(POSTGRES, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "service=copy", "-c", sql],
                              capture_output=True, text=True, env={"PGSERVICEFILE": service}, cwd="/", **become)
        assert (done.returncode == 0) == (expected == 0), (sql, done.stdout, done.stderr)
        return done.stdout.strip() if expected == 0 else done.stderr
    return process, ask, service


def sandboxes():
    return [name for name in os.listdir("/run") if name.startswith("holdfast")] if os.geteuid() == 0 else []


def end(process):
    process.send_signal(signal.SIGINT)
    os.set_blocking(process.stderr.fileno(), True)
    answer = main.finish(process)
    assert answer.code == 0, answer
    return answer


@test
def a_stream_with_a_proven_backup_and_commits_behind_it():
    main.add_source(source, "--verify-after-backup", "no", "--stream", "yes")
    receiver = receive()
    commit(1)
    main.good("backup", "clinic")
    main.good("verify", "clinic")
    moments["two"] = commit(2)
    commit(3)
    moments["three"] = source.sql("SELECT pg_current_wal_insert_lsn()")
    commit(4)
    wanted = position(source.sql("SELECT pg_current_wal_flush_lsn()"))
    wait_for("the log", lambda: position((main.holdfast("status").json["sources"][0]["stream"]["now"] or {}).get("durable"))
             >= wanted, 60)
    receiver.send_signal(signal.SIGINT)
    main.finish(receiver)


@test
def a_backup_is_looked_into_and_nothing_of_it_stays():
    before, scratch = sandboxes(), os.path.join(main.state, "scratch")
    process, ask, service = inspect()
    assert ask("SELECT count(*) FROM public.ledger") == "1"
    assert ask("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')") == "t|on"
    assert "read-only" in ask("INSERT INTO public.ledger VALUES (9)", expected=1)
    assert "during recovery" in ask("SET default_transaction_read_only = off; BEGIN READ WRITE", expected=1)
    assert len(open(service).read().splitlines()[-1]) < 1000, "libpq 13 reads lines up to 1023 bytes"
    end(process)
    assert not os.path.exists(service) and sandboxes() == before
    assert not os.path.isdir(scratch) or not [name for name in os.listdir(scratch) if os.path.isdir(os.path.join(scratch, name))]


@test
def only_who_asked_for_it_can_connect():
    if os.geteuid() != 0:
        return
    process, ask, service = inspect()
    assert os.stat(service).st_mode & 0o077 == 0
    folder = os.path.join(os.path.dirname(service), "socket")
    info = os.stat(folder)
    assert info.st_mode & 0o067 == 0 and info.st_gid == info.st_uid > 60000, info  # its group is the sandbox's alone
    done = subprocess.run([os.path.join(POSTGRES, "psql"), "-XqAt", "-h", folder, "-U", "postgres", "-c", "SELECT 1"],
                          capture_output=True, text=True, user=65534, group=65534, extra_groups=[], cwd="/")
    assert done.returncode != 0 and "Permission denied" in done.stderr, done.stderr
    end(process)


@test
def a_moment_is_looked_into_paused_exactly_there():
    process, ask, _ = inspect("--lsn", moments["three"])
    assert ask("SELECT array_agg(number ORDER BY number) FROM public.ledger") == "{1,2,3}"
    assert ask("SELECT pg_get_wal_replay_pause_state()") == "paused"
    assert "moment" not in end(process).errors
    process, ask, _ = inspect("--latest")
    assert ask("SELECT max(number) FROM public.ledger") == "4"
    end(process)


@test
def killing_the_worker_takes_the_copy_along():
    before = sandboxes()
    process, ask, service = inspect()
    worker = next(pid for pid in children(main.daemon()) if "--worker" in open(f"/proc/{pid}/cmdline").read())
    below = children(worker)
    os.kill(worker, signal.SIGKILL)
    answer = main.finish(process)
    assert answer.code == 1, answer
    wait_for("the copy's end", lambda: not any(alive(pid) for pid in below), 60)
    wait_for("the folder to go", lambda: sandboxes() == before, 60)


@test
def one_database_is_handed_out_as_a_dump_that_restores_to_the_same():
    dump = os.path.join(ROOT, "odd.dump")
    answer = main.good("restore", "clinic", "--database", ODD, "--to", dump)
    assert answer["database"] == ODD and answer["bytes"] == os.path.getsize(dump), answer
    assert os.stat(dump).st_mode & 0o777 == 0o600
    os.chmod(dump, 0o644)
    source.sql("CREATE DATABASE again")
    source.run("pg_restore", "-h", source.socket, "-p", str(source.port), "-U", "postgres", "-d", "again", dump)
    assert source.sql('SELECT count(*), sum(i) FROM "Ward.1"."Bed * list"', database="again") == "77|3003"
    assert source.sql("SELECT count(*) FROM public.patients", database="again") == "10"
    main.bad(1, "restore", "clinic", "--database", ODD, "--to", dump, says=["exists already"])


@test
def one_table_as_it_was_at_a_moment():
    dump = os.path.join(ROOT, "ledger.dump")
    answer = main.good("restore", "clinic", "--database", "postgres", "--table", "public.ledger", "--to", dump, "--lsn",
                       moments["three"])
    assert answer["recovery"]["kind"] == "lsn", answer
    os.chmod(dump, 0o644)
    source.sql("CREATE DATABASE ledgers")
    source.run("pg_restore", "-h", source.socket, "-p", str(source.port), "-U", "postgres", "-d", "ledgers", dump)
    assert source.sql("SELECT array_agg(number ORDER BY number) FROM ledger", database="ledgers") == "{1,2,3}"
    assert source.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database="ledgers") == "1"


@test
def a_table_whose_name_is_a_pattern_comes_alone():
    dump = os.path.join(ROOT, "bed.dump")
    main.good("restore", "clinic", "--database", ODD, "--table", "Ward.1.Bed * list", "--to", dump)
    listed = source.run("pg_restore", "-l", dump) if os.chmod(dump, 0o644) is None else ""
    assert "Bed * list" in listed and "patients" not in listed, listed


@test
def names_that_are_not_there_are_refused_with_those_that_are_near():
    dump = os.path.join(ROOT, "none.dump")
    main.bad(1, "restore", "clinic", "--database", "postgrs", "--to", dump, says=['no database "postgrs"', '"postgres"'])
    said = main.bad(1, "restore", "clinic", "--database", ODD, "--table", "public.patient", "--to", dump,
                    says=['no table "public.patient"', '"public.patients"'])
    assert "visits" not in said.errors, said
    assert not os.path.exists(dump)


@test
def words_that_do_not_go_together_are_refused():
    main.bad(2, "restore", "clinic", says=["--to", "--inspect"])
    main.bad(2, "restore", "clinic", "--inspect", "--to", "/nowhere", says=["--inspect"])
    main.bad(2, "restore", "clinic", "--to", "/nowhere", "--table", "public.people", says=["--table"])
    main.bad(2, "restore", "clinic", "--to", "/nowhere", "--database", "postgres", "--table", "people", says=["schema.table"])
    main.bad(2, "restore", "clinic", "--inspect", "--minutes", "0", says=["--minutes"])


run()

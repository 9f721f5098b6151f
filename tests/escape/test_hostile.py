#!/usr/bin/python3
"""test_hostile.py - hostile databases on the whole road: backed up from a live server and verified by the program.

Each situation is made on a real server, where the same attack must succeed: what does not happen during a verification
was kept from happening.  After each verification the host's files are what they were, nothing was sent, and there is a
verdict within a bounded time.
"""
import os
import shutil
import socket
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, os.path.join(here, "../end-to-end"))
sys.path.insert(0, here)
from host import OWN_NETWORK, Decoy, Host, leftovers, packets  # noqa: E402
from appliance import BUILD, Appliance, Cluster, folder, wait_for  # noqa: E402
from tap import run, skip, test  # noqa: E402

SERVERS = os.environ.get("HOLDFAST_SERVERS", "")
EVIL = os.path.join(BUILD, "tests/libescape-evil.so")
VERDICT_SECONDS = 60
PHASE_SECONDS = 5

# Each of them swallows its own refusal; on a host without walls all of them succeed.  `aim` is open to everybody.
ATTACK = r"""
CREATE FUNCTION public.attack(who text) RETURNS text LANGUAGE plpgsql VOLATILE AS $attack$
DECLARE failures text := ''; detail text; big oid;
BEGIN
  IF current_setting('attack.' || who, true) = 'done' THEN RETURN ''; END IF;
  PERFORM set_config('attack.' || who, 'done', false);
  BEGIN
    PERFORM public.dblink_connect('host=127.0.0.1 port={port} user=x connect_timeout=2');
  EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    IF detail NOT LIKE '%closed the connection%' THEN failures := failures || 'dial: ' || left(detail, 60) || '; '; END IF;
  END;
  BEGIN
    EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'cat > {aim}/program-' || who);
  EXCEPTION WHEN OTHERS THEN failures := failures || 'program: ' || replace(SQLERRM, '{aim}', '') || '; '; END;
  BEGIN
    EXECUTE format('COPY (SELECT 1) TO %L', '{aim}/file-' || who);
  EXCEPTION WHEN OTHERS THEN failures := failures || 'file: ' || replace(SQLERRM, '{aim}', '') || '; '; END;
  BEGIN
    big := lo_from_bytea(0, 'x');
    PERFORM lo_export(big, '{aim}/object-' || who);
  EXCEPTION WHEN OTHERS THEN failures := failures || 'object: ' || replace(SQLERRM, '{aim}', '') || '; '; END;
  RETURN failures;
END $attack$;
CREATE FUNCTION public.sly(number int, who text) RETURNS int LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS
  $$BEGIN PERFORM public.attack(who); RETURN number; END$$;
CREATE FUNCTION public.loud(number int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$DECLARE failures text := public.attack('loud');
    BEGIN IF failures <> '' THEN RAISE EXCEPTION '%', failures; END IF; RETURN number; END$$;
"""

decoy = Decoy()
aim = folder("aim", 0o777)
os.chmod(aim, 0o777)
main = Appliance(more_settings=f"sandbox:\n  memory: 512MiB\n  phase: {PHASE_SECONDS}s\n")
scratch = os.path.join(main.state, "scratch")


def attack_in(cluster, database="postgres"):
    cluster.sql("CREATE EXTENSION IF NOT EXISTS dblink SCHEMA public", database)
    cluster.sql(ATTACK.replace("{aim}", aim).replace("{port}", str(decoy.port)), database)


def aimed(who):
    """What of an attack arrived at the host."""
    return sorted(name for name in os.listdir(aim) if name.endswith("-" + who))


def clear_aim():
    for entry in os.scandir(aim):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def proof_of(cluster, name, change=None):
    """Backs a hostile server up and verifies the backup behind walls; gives the verification's answer and result."""
    if name not in known:
        main.add_source(cluster, "--verify-after-backup", "no", name=name)
        known.add(name)
    backup = main.good("backup", name)["backup"]
    if change is not None:
        change()
    clear_aim()
    return verify(name, backup)


def verify(name, backup):
    host = Host(aim, decoy=decoy)
    answer = main.holdfast("verify", name, "--backup", backup)
    host.assert_unchanged(VERDICT_SECONDS)
    assert leftovers(scratch) == [], leftovers(scratch)
    assert answer.code in (0, 3), answer
    assert "\x1b" not in answer.out and "\x1b" not in answer.errors, answer
    return answer


def check(answer, name):
    return next(row for row in answer.json["checks"] if row["id"] == name)


def owned(path):
    if os.geteuid() == 0:
        shutil.chown(path, "postgres", "postgres")
    return path


known = set()


@test
def the_network_is_our_own_and_its_packets_are_counted():
    if not OWN_NETWORK:
        skip("only root has a network of its own")
    before, calls = packets(), decoy.calls
    socket.create_connection(("127.0.0.1", decoy.port)).close()
    wait_for("the call", lambda: decoy.calls == calls + 1)
    assert packets() > before


# One database full of code that the verification's own statements would run, if it ran them anywhere else.

def code_everywhere():
    """A server whose every corner holds code; the source itself shows that each of them fires."""
    cluster = Cluster("wal_level = logical\n")
    attack_in(cluster)
    for statements in CODE.values():
        for statement in statements:
            cluster.sql(statement)
    return cluster


CODE = {
    "event": ["CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS"
              " $$BEGIN PERFORM public.attack('event'); END$$",
              "CREATE EVENT TRIGGER a ON ddl_command_start EXECUTE FUNCTION on_event()",
              "CREATE EVENT TRIGGER b ON ddl_command_end EXECUTE FUNCTION on_event()",
              "ALTER EVENT TRIGGER a ENABLE ALWAYS", "ALTER EVENT TRIGGER b ENABLE ALWAYS",
              "CREATE TABLE fires_it ()"],
    "index": ["CREATE TABLE by_index AS SELECT 1 AS i", "CREATE INDEX ON by_index (public.sly(i, 'index'))"],
    "predicate": ["CREATE TABLE by_predicate AS SELECT 1 AS i",
                  "CREATE INDEX ON by_predicate (i) WHERE public.sly(i, 'predicate') = 1"],
    "operator": ["CREATE FUNCTION compare(a int, b int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
                 " $$BEGIN PERFORM public.attack('operator'); RETURN btint4cmp(a, b); END$$",
                 "CREATE OPERATOR CLASS hostile FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,"
                 " OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int)",
                 "CREATE TABLE by_operator AS SELECT i FROM generate_series(1, 3) i",
                 "CREATE INDEX ON by_operator (i hostile)"],
    "check": ["CREATE TABLE by_check (i int CHECK (public.sly(i, 'check') > 0))", "INSERT INTO by_check VALUES (1)"],
    "generated": ["CREATE TABLE by_generated (i int, j int GENERATED ALWAYS AS (public.sly(i, 'generated')) STORED)",
                  "INSERT INTO by_generated VALUES (1)"],
    "domain": ["CREATE DOMAIN by_domain AS int CHECK (public.sly(VALUE, 'domain') > 0)",
               "CREATE TABLE domains (i by_domain PRIMARY KEY)", "INSERT INTO domains VALUES (1)"],
    "policy": ["CREATE TABLE by_policy AS SELECT 1 AS i", "ALTER TABLE by_policy ENABLE ROW LEVEL SECURITY",
               "ALTER TABLE by_policy FORCE ROW LEVEL SECURITY",
               "CREATE POLICY p ON by_policy USING (public.sly(i, 'policy') = 1)",
               "CREATE ROLE reader", "GRANT SELECT ON by_policy TO reader", "ALTER ROLE reader SUPERUSER",
               "CREATE ROLE plain", "GRANT SELECT ON by_policy TO plain"],
    "select_rule": ["CREATE TABLE by_rule AS SELECT 1 AS i", "CREATE VIEW by_view AS SELECT public.sly(i, 'select_rule')"
                    " FROM by_rule", "SELECT * FROM by_view"],
    "trigger": ["CREATE TABLE by_trigger (i int)", "CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN PERFORM public.attack('trigger'); RETURN NEW; END$$",
                "CREATE TRIGGER t BEFORE INSERT ON by_trigger FOR EACH ROW EXECUTE FUNCTION on_row()",
                "ALTER TABLE by_trigger ENABLE ALWAYS TRIGGER t", "INSERT INTO by_trigger VALUES (1)"],
    "statistics": ["CREATE TABLE by_statistics AS SELECT 1 AS i",
                   "CREATE STATISTICS s ON (public.sly(i, 'statistics')) FROM by_statistics", "ANALYZE by_statistics"],
    # What the verification calls in pg_catalog, with arguments that fit better than those of the real one.
    "catalog_function": ["CREATE FUNCTION pg_catalog.quote_ident(name) RETURNS text LANGUAGE plpgsql VOLATILE AS"
                         " $$BEGIN PERFORM public.attack('catalog_function');"
                         " RETURN pg_catalog.quote_ident($1::text); END$$", "SELECT quote_ident('a'::name)"],
    "catalog_size": ["CREATE FUNCTION pg_catalog.pg_relation_size(oid) RETURNS bigint LANGUAGE plpgsql VOLATILE AS"
                     " $$BEGIN PERFORM public.attack('catalog_size');"
                     " RETURN pg_catalog.pg_relation_size($1::regclass); END$$", "SELECT pg_relation_size(1259::oid)"],
}
quiet = {}


@test
def case_61_code_in_every_corner_fires_on_the_source():
    quiet["cluster"] = code_everywhere()
    quiet["cluster"].sql("SET ROLE plain; SELECT * FROM by_policy")
    for who in CODE:
        assert aimed(who) == [f"{kind}-{who}" for kind in ("file", "object", "program")], f"{who}: {os.listdir(aim)}"
    assert decoy.calls > len(CODE)


@test
def case_61_none_of_it_leaves_the_sandbox_and_the_data_is_proven():
    answer = proof_of(quiet["cluster"], "corners")
    assert answer.json["result"] == "passed", answer
    quiet["cluster"].stop()


@test
def case_61_in_the_sandbox_it_runs_and_is_refused_everything():
    cluster = Cluster()
    attack_in(cluster)
    cluster.sql("CREATE TABLE told AS SELECT 1 AS i")
    cluster.sql("CREATE INDEX told_index ON told (public.loud(i))")  # where an attack fails it would not be there
    assert aimed("loud") == ["file-loud", "object-loud", "program-loud"]
    answer = proof_of(cluster, "loud")
    cluster.stop()
    assert answer.json["result"] == "inconclusive" and check(answer, "indexes")["verdict"] == "not_determinable", answer
    reason = check(answer, "indexes")["reason"]
    for word in ("told_index", "program: could not execute command", "file: could not open file", "No such file",
                 "object: could not", "dial: "):
        assert word in reason, reason


@test
def case_61_a_trigger_that_fires_at_each_login_does_not_fire_at_ours():
    binaries = os.path.join(SERVERS, "17", "bin")
    if not os.path.exists(os.path.join(binaries, "postgres")):
        skip("login triggers came with PostgreSQL 17, which is not here")
    appliance = Appliance(more_settings=f"sandbox:\n  postgres_prefixes: [{SERVERS}]\n  phase: {PHASE_SECONDS}s\n")
    cluster = Cluster(binaries=binaries)
    attack_in(cluster)
    cluster.sql("CREATE FUNCTION on_login() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS"
                " $$BEGIN PERFORM public.attack('login'); IF current_setting('application_name') = 'holdfast_verify'"
                " THEN RAISE EXCEPTION 'it fired'; END IF; END$$")
    cluster.sql("CREATE EVENT TRIGGER l ON login EXECUTE FUNCTION on_login(); ALTER EVENT TRIGGER l ENABLE ALWAYS")
    cluster.sql("SELECT 1")
    assert aimed("login") == ["file-login", "object-login", "program-login"], os.listdir(aim)
    appliance.add_source(cluster, "--verify-after-backup", "no")
    appliance.good("backup", "clinic")
    cluster.stop()
    clear_aim()
    host = Host(aim, decoy=decoy)
    answer = appliance.good("verify", "clinic")
    host.assert_unchanged(VERDICT_SECONDS)
    assert answer["result"] == "passed", answer


# What is loaded, run or dialled because a setting says so.

@test
def cases_62_and_63_libraries_in_the_data_directory_and_languages_without_limits_are_not_loaded():
    cluster = Cluster()
    hide_library(cluster)
    cluster.sql("CREATE TABLE data AS SELECT generate_series(1, 3) AS i")
    cluster.sql("CREATE FUNCTION evil(int) RETURNS int IMMUTABLE LANGUAGE c AS 'hidden/evil.so', 'evil'")
    cluster.sql("CREATE INDEX evil_index ON data (evil(i))")
    assert was_loaded(cluster), "the source did not load it"
    answer = proof_of(cluster, "library")
    reason = check(answer, "indexes")["reason"]
    assert answer.json["result"] == "inconclusive" and "evil_index" in reason, answer
    assert "could not load library" in reason and "failed to map segment" in reason, reason

    # A function of a language whose handler may do anything: its library is left outside.
    cluster.sql("UPDATE pg_proc SET probin = '$libdir/plperl', prosrc = 'plperl_call_handler' WHERE proname = 'evil'")
    answer = proof_of(cluster, "library")
    cluster.stop()
    reason = check(answer, "indexes")["reason"]
    assert answer.json["result"] == "inconclusive" and "plperl" in reason and "could not access file" in reason, answer


def hide_library(cluster):
    hidden = os.path.join(cluster.data, "hidden")
    os.mkdir(hidden, 0o700)
    owned(hidden)
    os.chmod(owned(shutil.copy(EVIL, os.path.join(hidden, "evil.so"))), 0o755)


def was_loaded(cluster):
    try:
        os.unlink(os.path.join(cluster.data, "evil-was-here"))
        return True
    except FileNotFoundError:
        return False


@test
def cases_58_59_60_and_64_settings_that_name_commands_libraries_peers_and_themselves_have_no_effect():
    cluster = Cluster("wal_level = logical\n")
    hide_library(cluster)
    cluster.sql("CREATE TABLE data AS SELECT generate_series(1, 100) AS i; CREATE INDEX ON data (i)")
    cluster.sql("CREATE DATABASE ward")
    for statement in ("ALTER ROLE postgres SET session_preload_libraries = 'hidden/evil.so'",
                      "ALTER DATABASE ward SET session_preload_libraries = 'hidden/evil.so'",
                      "ALTER ROLE postgres IN DATABASE template1 SET session_preload_libraries = 'hidden/evil.so'",
                      "ALTER DATABASE template1 SET zero_damaged_pages = on",
                      "ALTER DATABASE ward SET search_path = pg_temp, public",
                      "ALTER SYSTEM SET shared_preload_libraries = 'hidden/evil.so'",
                      "ALTER SYSTEM SET archive_mode = on",
                      f"ALTER SYSTEM SET archive_command = 'touch {aim}/archive-command'",
                      f"ALTER SYSTEM SET restore_command = 'touch {aim}/restore-command'",
                      f"ALTER SYSTEM SET archive_cleanup_command = 'touch {aim}/cleanup-command'",
                      f"ALTER SYSTEM SET recovery_end_command = 'touch {aim}/end-command'",
                      f"ALTER SYSTEM SET ssl_passphrase_command = 'touch {aim}/passphrase-command'",
                      f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={decoy.port} user=x'",
                      "ALTER SYSTEM SET recovery_target_xid = '3'",
                      f"ALTER SYSTEM SET dynamic_library_path = '{cluster.data}/hidden:$libdir'"):
        cluster.sql(statement)
    cluster.restart()
    cluster.sql("SELECT pg_switch_wal()")
    assert was_loaded(cluster), "the source did not load it"
    wait_for("the archive command", lambda: aimed("command") == ["archive-command"])

    # 64: it dials as soon as it is enabled, and again and again.
    calls = decoy.calls
    cluster.sql(f"CREATE SUBSCRIPTION away CONNECTION 'host=127.0.0.1 port={decoy.port} dbname=x user=x'"
                " PUBLICATION p WITH (connect = false, slot_name = 'x')")
    cluster.sql("ALTER SUBSCRIPTION away ENABLE")
    wait_for("the subscription's call", lambda: decoy.calls > calls)

    # 59: files that include themselves and their folder; the server that runs does not look again.
    cluster.configure("include 'postgresql.conf'\ninclude_dir '.'\ninclude_if_exists 'pg_hba.conf'\n")
    answer = proof_of(cluster, "settings", change=cluster.stop)
    assert answer.json["result"] == "passed", answer



# Links and names.

@test
def cases_56_and_57_links_of_tablespaces_and_of_the_log_are_not_followed():
    log, place = owned(folder("log")), owned(folder("place"))
    cluster = Cluster(init=("--data-checksums", f"--waldir={log}"))
    cluster.sql(f"CREATE TABLESPACE away LOCATION '{place}'")
    cluster.sql("CREATE TABLE data TABLESPACE away AS SELECT generate_series(1, 1000) AS i")
    # Links that no statement made: to the host itself, and to files where a tablespace would have its own.
    bait = os.path.join(aim, "PG_15_202209061")
    os.makedirs(os.path.join(bait, "5"))
    for path in (bait, os.path.join(bait, "5")):
        os.chmod(path, 0o777)
    with open(os.path.join(bait, "5", "99999"), "wb") as file:
        file.write(bytes(8192))
    os.symlink("/", os.path.join(cluster.data, "pg_tblspc", "77777"))
    os.symlink(aim, os.path.join(cluster.data, "pg_tblspc", "88888"))
    os.symlink("/etc/passwd", os.path.join(cluster.data, "base", "5", "99998"))
    main.add_source(cluster, "--verify-after-backup", "no", name="links")
    backup = main.good("backup", "links")["backup"]
    cluster.stop()
    host = Host(log, place, aim)
    answer = verify("links", backup)
    target = os.path.join(folder("restored"), "copy")
    main.good("restore", "links", "--to", target)
    host.assert_unchanged(VERDICT_SECONDS)
    assert answer.json["result"] == "passed", answer
    for parent, folders, files in os.walk(target):
        for name in folders + files:
            path = os.path.join(parent, name)
            assert not os.path.islink(path) or os.path.realpath(path).startswith(target), f"{path} leads out"
    shutil.rmtree(bait)


NAMES = ["\x1b]0;owned\x07\x1b[2J", "<script>alert(1)</script>", "a\nb\r\tc", "%s%n%d", "'; DROP TABLE x; --", "\\", '"', "$(id)",
         "`id`", "\u202egpj.exe", "../../../etc/passwd", "x" * 63]


@test
def cases_66_67_and_75_names_and_errors_that_attack_whoever_reads_them():
    cluster = Cluster()
    database = "ward \x1b[31m\n<b>"
    cluster.sql('CREATE DATABASE "' + database + '"')
    cluster.sql("CREATE FUNCTION same(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'", database)
    for name in NAMES:
        quoted = name.replace('"', '""')
        cluster.sql(f'CREATE TABLE "{quoted}" AS SELECT 1 AS i', database)
        cluster.sql(f'CREATE INDEX ON "{quoted}" (same(i))', database)
        cluster.sql(f'CREATE ROLE "{quoted}"')
    cluster.sql("DO $$BEGIN FOR i IN 1..500 LOOP EXECUTE format('CREATE TABLE flood_%s (a int, b int PRIMARY KEY)', i);"
                " END LOOP; END$$", database)
    answer = proof_of(cluster, "names")
    assert answer.json["result"] == "passed", answer
    error = "\x1b[2J\x1b]0;owned\x07<img src=x onerror=alert(1)>\r\nFATAL: %n%s"
    cluster.sql("CREATE OR REPLACE FUNCTION same(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION"
                " USING message = '" + error + "' || repeat('x', 50000000), errcode = 'XX001'; END$$", database)
    answer = proof_of(cluster, "names")
    assert answer.json["result"] in ("failed", "inconclusive"), answer
    assert all(len(row["reason"] or "") <= 512 for row in answer.json["checks"])
    for words in (("backups", "names"), ("status",), ("evidence", "list"), ("verify", "names")):
        told = main.holdfast(*words, json_wanted=False)
        for text in (told.out, told.errors):
            assert not [c for c in text if ord(c) < 0x20 and c not in "\n\t"] and "\x7f" not in text, (words, text)

    # Bytes that are no text in any encoding, in a database that does not care.
    cluster.sql("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    cluster.sql("SET client_encoding = SQL_ASCII; DO $$BEGIN EXECUTE format('CREATE TABLE %I AS SELECT 1 AS i',"
                " convert_from('\\xff9bfe80c0af'::bytea, 'SQL_ASCII')); END$$", "bytes")
    answer = proof_of(cluster, "names")
    assert answer.json["result"] in ("failed", "inconclusive"), answer
    cluster.stop()


@test
def case_67_files_whose_names_hold_control_bytes_are_refused_and_odd_bytes_are_kept():
    cluster = Cluster()
    main.add_source(cluster, "--verify-after-backup", "no", name="files")
    known.add("files")
    for name in (b"16999\x1b[2J", b"17000\n.1", b"..\\17001"):
        path = stray_file(cluster, name)
        host = Host(aim)
        answer = main.bad(1, "backup", "files", says="which holds a control byte or a backslash")
        host.assert_unchanged(VERDICT_SECONDS)
        assert "\x1b" not in answer.out + answer.errors, answer
        os.unlink(path)
    stray_file(cluster, b"\xff\xfe.\xc0\xaf")  # no text in any encoding, but a name like any other to a file system
    answer = proof_of(cluster, "files", change=cluster.stop)
    assert answer.json["result"] == "passed", answer


def stray_file(cluster, name):
    path = os.path.join(cluster.data.encode(), b"base/5", name)
    with open(path, "wb") as file:
        file.write(bytes(8192))
    return owned(path)


# Bombs: an index whose function was harmless when the index was made.

BOMBS = {  # what the function does, and a word of the reason
    "memory": ("PERFORM array_agg(repeat('x', 1000000) || n) FROM generate_series(1, 100000) n", "over_memory"),
    "disk": ("EXECUTE format('COPY (SELECT repeat(''x'', 1000000) FROM generate_series(1, 100000)) TO %L',"
             " current_setting('data_directory') || '/filled')", "copy"),
    "files": ("FOR n IN 1..100000000 LOOP EXECUTE format('COPY (SELECT 1) TO %L', current_setting('data_directory') ||"
              " '/filled-' || n); END LOOP", "data_bomb_idx"),
    "log": ("LOOP RAISE WARNING '%', repeat('x', 10000); END LOOP", "over_log"),
    "processes": ("FOR n IN 1..100000 LOOP PERFORM public.dblink_connect('c' || n, format('host=%s user=postgres"
                  " dbname=postgres', current_setting('unix_socket_directories'))); END LOOP",
                  "could not establish connection"),
    "time": ("LOOP PERFORM pg_sleep(1); END LOOP", f"took longer than the {PHASE_SECONDS} s"),
    "stack": ("PERFORM public.bomb(i)", "stack depth limit exceeded"),
    "kill": ("PERFORM pg_terminate_backend(pid) FROM pg_stat_activity", "the copy went away"),
}


@test
def cases_31_to_39_bombs_in_an_index_end_with_a_verdict_that_is_no_pass():
    cluster = Cluster()
    cluster.sql("CREATE EXTENSION dblink SCHEMA public")
    cluster.sql("CREATE FUNCTION work(i int) RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN END'")
    cluster.sql("CREATE FUNCTION bomb(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM public.work(i); RETURN i; END'")
    cluster.sql("CREATE TABLE data AS SELECT 1 AS i; CREATE INDEX ON data (bomb(i))")
    for name, (body, word) in BOMBS.items():
        cluster.sql(f"CREATE OR REPLACE FUNCTION work(i int) RETURNS void LANGUAGE plpgsql VOLATILE AS $$BEGIN {body}; END$$")
        began = time.monotonic()
        answer = proof_of(cluster, "bombs")
        assert time.monotonic() - began < 4 * PHASE_SECONDS, name
        assert answer.json["result"] == "inconclusive", f"{name}: {answer}"
        assert word in answer.json["reason"], f"{name}: {answer.json['reason']}"
    cluster.stop()


run()

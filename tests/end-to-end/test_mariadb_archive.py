#!/usr/bin/python3
"""test_mariadb_archive.py - a MariaDB's proof replays the archived binary log, follows the source, and asks what its owner says."""
import json
import os
import sys
import threading

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from mariadb_moments import Clinic  # noqa: E402
from tap import run, test  # noqa: E402

STATEMENTS = """visits in clinic at least 1: SELECT COUNT(*) FROM visit
everybody in clinic is 500: SELECT COUNT(*) FROM patient
same_visits in clinic as live within 100%: SELECT COUNT(*) FROM visit
fresh newer than 1d: SELECT CONCAT(MAX(at), 'Z') FROM clinic.visit
too_many in clinic at most 3: SELECT COUNT(*) FROM patient
secret in clinic is 1: SELECT name FROM patient LIMIT 1
writes in clinic is 1: INSERT INTO patient VALUES (9999, '', '')
"""
clinic = Clinic(catch_up="10s")
backups = []


def verify(*words, code=None):
    answer = clinic.appliance.holdfast("verify", "clinic", *words)
    checks = {check["id"]: check for check in answer.json["checks"]}
    assert code is None or answer.code == code, answer
    with open(answer.json["evidence_path"], encoding="utf-8") as file:
        document = json.load(file)
    return answer.json, checks, document.get("content", document)


@test
def the_archived_log_is_replayed_and_the_copy_stands_where_the_source_stood():
    clinic.start_receiving()
    clinic.commit(5)
    clinic.catch_up()
    backups.append(clinic.appliance.good("backup", "clinic")["backup"])
    clinic.commit(20)
    clinic.catch_up()
    answer, checks, evidence = verify(code=0)
    assert answer["state"] == "proven", answer
    assert checks["archive"]["verdict"] == "passed" and checks["archive"]["examined"] == 20, checks["archive"]
    assert checks["archive"]["required"] and checks["caught_up"]["required"]
    assert checks["caught_up"]["verdict"] == "passed", checks["caught_up"]
    assert evidence["stream"]["to_position"] == clinic.moments[-1].gtid, evidence["stream"]
    assert evidence["rto_rpo"]["caught_up"]["source_position"] == clinic.moments[-1].gtid, evidence["rto_rpo"]
    assert evidence["rto_rpo"]["caught_up"]["reached"] is True


@test
def what_is_committed_while_it_runs_is_followed():
    ended = threading.Event()
    committed = []

    def write():
        while not ended.is_set():
            clinic.server.sql("INSERT INTO visit (patient) VALUES (2)", "clinic")
            committed.append(clinic.server.sql("SELECT @@gtid_binlog_pos"))
            ended.wait(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        answer, checks, evidence = verify(code=0)
    finally:
        ended.set()
        writer.join()
    assert answer["state"] == "proven" and checks["caught_up"]["verdict"] == "passed", checks["caught_up"]
    reached = evidence["rto_rpo"]["caught_up"]["source_position"]
    assert reached in committed and evidence["stream"]["to_position"] in committed, (reached, evidence["stream"])
    assert committed.index(evidence["stream"]["to_position"]) >= committed.index(reached)
    phases = [phase["phase"] for phase in answer["phases"]]
    assert phases.count("replay_log") == 2, phases


@test
def a_source_that_went_on_without_us_is_an_open_question_and_no_pass():
    clinic.stop_receiving()
    clinic.commit(1)
    answer, checks, _ = verify(code=3)
    assert checks["archive"]["verdict"] == "passed", checks["archive"]
    assert checks["caught_up"]["verdict"] == "not_determinable", checks["caught_up"]
    assert clinic.moments[-1].gtid in checks["caught_up"]["reason"], checks["caught_up"]
    assert answer["result"] == "inconclusive" and answer["state"] == "proven", answer


@test
def a_piece_of_the_archive_that_is_gone_turns_the_verdict_and_is_named():
    before = set(clinic.appliance.packs())
    clinic.start_receiving()
    clinic.commit(30)
    clinic.stop_receiving()
    assert verify(code=0)[0]["state"] == "proven"
    for journal in clinic.journals():
        os.rename(journal, journal + ".gone")
    sealed = sorted(set(clinic.appliance.packs()) - before)
    for pack in sealed:
        os.rename(pack, pack + ".gone")
    assert sealed or clinic.journals(gone=True), "nothing was received"
    answer, checks, _ = verify(code=3)
    assert checks["archive"]["verdict"] == "failed", checks["archive"]
    assert answer["store_damaged"], answer
    finding = checks["archive"]["findings"][0]
    assert finding["what"] in ("archived_log_missing", "archived_log_damaged"), finding
    print("#", checks["archive"]["reason"])
    for path in sealed + clinic.journals(gone=True):
        path = path.removesuffix(".gone")
        os.rename(path + ".gone", path)


@test
def what_the_owner_says_is_asked_of_the_copy_and_of_the_source():
    clinic.appliance.good("source", "remove", "clinic")
    clinic.add("off", "--assertions", STATEMENTS)
    clinic.appliance.good("backup", "clinic")
    answer, checks, _ = verify(code=3)
    verdicts = {name[len("assert_"):]: check for name, check in checks.items() if name.startswith("assert_")}
    for name in ("visits", "everybody", "same_visits", "fresh"):
        assert verdicts[name]["verdict"] == "passed", verdicts[name]
    assert verdicts["too_many"]["verdict"] == "failed" and "500" in verdicts["too_many"]["reason"], verdicts["too_many"]
    assert verdicts["secret"]["verdict"] == "not_determinable", verdicts["secret"]
    assert verdicts["writes"]["verdict"] == "not_determinable" and "error 1792" in verdicts["writes"]["reason"], \
        verdicts["writes"]
    assert "name 1" not in json.dumps(answer), "a row left the sandbox"
    assert answer["result"] == "failed", answer


run()

#!/usr/bin/python3
"""test_report.py - evidence as an auditor meets it: reports, the witness, figures, changes and drills, with a real server."""
import json
import os
import pwd
import random
import shutil
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Appliance, Cluster, folder, write  # noqa: E402
from tap import run, test  # noqa: E402

source = Cluster()
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 2000) i")

witness_folder = folder("witness")
witness = os.path.join(witness_folder, "witness")
main = Appliance(more_settings=f"evidence:\n  witness: {witness}\n  site: <b>Ward & Co</b>\n")
out = folder("reports")


def report(name, *words, code=None):
    path = os.path.join(out, name)
    answer = main.holdfast("report", *words, "--output", path)
    assert answer.code in ((0, 3) if code is None else (code,)), answer
    with open(path, "rb") as file:
        return file.read()


def status():
    return main.holdfast("status").json


def alarms(what):
    return [alarm for alarm in status()["alarms"] if alarm["what"] == what]


def newest_evidence():
    return main.good("evidence", "list", "clinic")["attempts"][0]


def document():
    with open(os.path.join(main.repository, "evidence", newest_evidence()["evidence"] + ".json"), encoding="utf-8") as file:
        return json.load(file)


@test
def a_proven_backup_has_a_report_in_all_three_forms():
    main.add_source(source, "--objective-recovery-time", "1h", "--objective-data-loss", "1d", "--tier", "1",
                    "--verify-after-backup", "no")
    main.good("backup", "clinic")
    assert main.health() == "unproven"
    main.good("verify", "clinic")
    pdf = report("backup.pdf", "clinic", code=0)
    assert pdf.startswith(b"%PDF-1.5") and b"/MarkInfo" in pdf
    page = report("backup.html", "clinic", "--format", "html").decode()
    assert "RECOVERABLE" in page and "<script" not in page
    assert "&lt;b&gt;Ward &amp; Co&lt;/b&gt;" in page and "<b>Ward" not in page
    model = json.loads(report("backup.json", "clinic", "--format", "json"))
    assert model["verdict"] == "recoverable" and model["ledger"]["state"] == "whole", model
    assert model["attempt"]["evidence"] == newest_evidence()["evidence"]
    assert model["attempt"]["recover_ms"] > 0


@test
def the_same_facts_give_the_same_bytes():
    for words in (["clinic", "--format", "html"], ["clinic"], ["clinic", "--paper", "letter"],
                  ["clinic", "--format", "json"]):
        assert report("once", *words) == report("again", *words), words
    month = document()["head"]["created_at"][:7]
    words = ["--month", month, "--as-of", document()["head"]["created_at"]]
    assert report("once", *words) == report("again", *words)


@test
def a_month_tells_of_every_source():
    month = document()["head"]["created_at"][:7]
    model = json.loads(report("month.json", "--month", month, "--format", "json"))
    assert [row["name"] for row in model["sources"]] == ["clinic"]
    assert model["sources"][0]["proven"] == 1 and model["sources"][0]["recover"]["over"] == 0
    assert "Key drills" in report("month.html", "clinic", "--month", month, "--format", "html").decode()
    pages = subprocess.run(["pdfinfo", os.path.join(out, "month.pdf")] if report("month.pdf", "--month", month) else [],
                           capture_output=True, text=True).stdout
    assert "Pages:           2" in pages and "Tagged:          yes" in pages, pages
    main.bad(2, "report", "--month", "2026-13", "--output", os.path.join(out, "x"), says="not a month")
    main.bad(2, "report", "clinic", "--format", "doc", "--output", os.path.join(out, "x"), says="pdf, html or json")


@test
def every_checkpoint_reaches_the_witness_and_a_document_is_checked_against_it():
    with open(witness, encoding="utf-8") as file:
        assert file.read().endswith("%%\n")
    name = newest_evidence()["evidence"]
    evidence = os.path.join(main.repository, "evidence", name + ".json")
    key = os.path.join(out, "key")
    write(key, open(main.public_key, encoding="utf-8").read())
    answer = main.good("evidence", "verify", evidence, "--public-key", key, "--checkpoint", witness)
    assert answer["held_checkpoint"] == answer["checkpoint_size"], answer
    assert not alarms("evidence")


@test
def a_witness_that_disagrees_is_an_alarm_and_is_not_overwritten():
    with open(witness, encoding="utf-8") as file:
        kept = file.read()
    write(witness, "somebody else\n")
    assert "holds no checkpoint of it" in alarms("evidence")[0]["message"]
    with open(witness, encoding="utf-8") as file:
        assert file.read() == "somebody else\n"
    write(witness, kept)
    assert not alarms("evidence")


@test
def a_broken_ledger_is_said_first_and_what_it_held_is_not_counted():
    name = newest_evidence()["evidence"]
    path = os.path.join(main.repository, "evidence", name + ".json")
    with open(path, "r+b") as file:
        bytes_before = file.read()
        file.seek(0)
        file.write(bytes_before.replace(b'"passed"', b'"Passed"', 1))
    page = report("broken.html", "clinic", "--format", "html", code=3).decode()
    assert page.index("LEDGER BROKEN") < page.index("NOT TESTED")
    assert "RECOVERABLE" not in page
    with open(path, "r+b") as file:
        file.write(bytes_before)
    assert "RECOVERABLE" in report("mended.html", "clinic", "--format", "html", code=0).decode()


@test
def evidence_says_how_the_copy_was_unwrapped_on_which_host_and_against_which_objectives():
    main.good("backup", "clinic")
    main.good("verify", "clinic")
    found = document()
    assert found["policy"]["rto_target_s"] == 3600 and found["policy"]["tier"] == "1", found["policy"]
    assert found["rto_rpo"]["rto_target_met"] is True and found["rto_rpo"]["rpo_target_met"] is True, found["rto_rpo"]
    assert found["rto_rpo"]["data_loss_window_ms"] >= 0
    assert found["people"]["requested_by"] == pwd.getpwuid(os.getuid()).pw_name, found["people"]
    assert len(found["restore"]["engine_sha256"]) == 64 and found["backup"]["cipher"] in (
        "AES-256-GCM", "XChaCha20-Poly1305"), found["restore"]
    shares = {check["id"]: check["coverage_ppm"] for check in found["checks"]}
    assert shares["tables_read"] == shares["manifest"] == 1000000 and shares["start"] is None, shares
    assert found["head"]["site"] == "<b>Ward & Co</b>" and len(found["head"]["software"]["build"]) == 64, found["head"]
    assert found["key"] == {"chosen": "settings", "reachable": 1, "slot_id": found["key"]["slot_id"],
                            "slot_kind": "key_file", "slot_name": "server"}, found["key"]
    assert found["host"]["system"].startswith("Linux ") and found["host"]["processors"] > 0, found["host"]
    assert found["storage"]["parent_id"] and found["storage"]["files"] > 100, found["storage"]
    assert found["process"]["unproven_since"] is None and found["process"]["software"], found["process"]
    assert found["forecast"]["attempts"] == 1 and found["forecast"]["recovery_ms"] > 0, found["forecast"]


@test
def a_change_of_settings_makes_the_source_unproven_until_two_backups_made_after_it_are_proven():
    assert not alarms("unproven since")
    main.add_source(source, "--replace", "--objective-recovery-time", "1h", "--objective-data-loss", "1d", "--tier", "1",
                    "--verify-after-backup", "no", "--checkpoint", "spread")
    assert "unproven since the change of" in alarms("unproven since")[0]["message"]
    assert "(settings): 0 of 2" in alarms("unproven since")[0]["message"], alarms("unproven since")
    since = status()["sources"][0]["process"]["unproven_since"]
    main.good("backup", "clinic")
    main.good("verify", "clinic")
    assert "1 of 2" in alarms("unproven since")[0]["message"]
    assert document()["process"]["unproven_since"] == since and document()["process"]["changed"] == ["settings"]
    main.good("catalog", "rebuild")  # it follows from the records
    assert status()["sources"][0]["process"]["unproven_since"] == since
    assert "unproven since the change of" in report("now.html", "clinic", "--month", since[:7], "--format", "html").decode()
    main.good("backup", "clinic")
    main.good("verify", "clinic")
    assert not alarms("unproven since")


@test
def what_only_says_what_is_wanted_is_no_change_of_the_process():
    main.add_source(source, "--replace", "--objective-recovery-time", "2h", "--objective-data-loss", "1d", "--tier", "2",
                    "--verify-after-backup", "no", "--checkpoint", "spread", "--retention-daily", "7")
    assert not alarms("unproven since")


@test
def a_forecast_beyond_the_objective_is_an_alarm():
    main.add_source(source, "--replace", "--objective-recovery-time", "1s", "--verify-after-backup", "no", "--checkpoint",
                    "spread")
    source_status = status()["sources"][0]
    assert source_status["forecast"]["attempts"] >= 3, source_status["forecast"]
    assert source_status["forecast"]["error_ppm"] is not None
    late = source_status["forecast"]["recovery_ms"] > 1000
    assert bool(alarms("recovery forecast")) == late, source_status


@test
def slots_that_open_unattended_are_gone_through_by_turns():
    fetched = write(os.path.join(main.folder, "hsm.hex"), "6b" * 32 + "\n")
    main.end_daemon()
    main.add_settings(f"key_commands:\n  hsm:\n    run: [/bin/cat, {fetched}]\n    timeout: 5s\n")
    main.good("key", "add", "--kind", "command", "--name", "hsm")
    assert "(key_slots)" in alarms("unproven since")[0]["message"], alarms("unproven since")
    used = []
    for _ in range(3):
        main.good("verify", "clinic")
        used.append((document()["key"]["slot_name"], document()["key"]["chosen"], document()["key"]["reachable"]))
    assert sorted(used[:2]) == [("hsm", "round_robin", 2), ("server", "round_robin", 2)], used
    assert used[2] == used[0], used

    write(fetched, "6c" * 32 + "\n")  # another key: that slot opens no more, and no proof is lost
    for _ in range(2):
        assert main.good("verify", "clinic")["result"] == "passed"
        assert document()["key"]["slot_name"] == "server"
    assert '"hsm" did not open' in alarms("key slot")[0]["message"], alarms("key slot")
    write(fetched, "6b" * 32 + "\n")
    main.good("key", "drill", "hsm")
    assert not alarms("key slot")


@test
def a_slot_that_nobody_opened_for_long_is_overdue():
    assert not alarms("key drill")
    main.end_daemon()
    main.add_settings("key_drill_every: 1m\n")
    before = {alarm["message"].split('"')[1] for alarm in alarms("key drill")}
    assert before <= {"safe", "server"}, before  # made with the appliance; a minute may have gone by
    rows = json.loads(report("keys.json", "--format", "json"))["keys"]
    assert {row["name"]: row["unattended"] for row in rows} == {"server": True, "safe": False, "hsm": True}, rows
    assert all(row["due_at"] for row in rows)


def check_bundle(bundle, verifier, key=None):
    return subprocess.run([sys.executable, verifier, *(["--key", key] if key else []), bundle], capture_output=True,
                          text=True)


@test
def a_bundle_is_checked_without_us_and_no_changed_byte_of_it_passes():
    bundle = os.path.join(out, "bundle")
    day = document()["head"]["created_at"][:10]
    made = main.good("evidence", "export", "--from", day, "--to", day, "--output", bundle)
    assert made["documents"] == made["entries"] and made["documents"] > 5, made
    main.bad(1, "evidence", "export", "--from", day, "--to", day, "--output", bundle, says="is not empty")
    main.bad(1, "evidence", "export", "--from", "2001-01-01", "--to", "2001-01-02", "--output", bundle + "2",
             says="no evidence was made")
    key = write(os.path.join(out, "key"), open(main.public_key, encoding="utf-8").read())
    verifier = os.path.join(out, "verify.py")
    shutil.copy(os.path.join(bundle, "verify.py"), verifier)
    good = check_bundle(bundle, verifier, key)
    assert good.returncode == 0 and f"All {made['documents']} documents hold" in good.stdout, good
    assert check_bundle(bundle, os.path.join(bundle, "verify.py")).returncode == 0

    chance = random.Random(7)
    for place, _, names in sorted(os.walk(bundle)):
        for name in sorted(names)[:6]:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                whole = file.read()
            for _ in range(2):
                at = chance.randrange(len(whole))
                with open(path, "wb") as file:
                    file.write(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1:])
                changed = check_bundle(bundle, verifier, key)
                if name == "public-key":  # it counts for nothing when a key was given, but is listed
                    assert changed.returncode == 1, (name, at)
                assert changed.returncode == 1 and "DOES NOT HOLD" in changed.stderr, (name, at, changed)
            with open(path, "wb") as file:
                file.write(whole)
    write(os.path.join(bundle, "documents", "more.json"), "{}")
    assert "does not belong" in check_bundle(bundle, verifier, key).stderr
    os.unlink(os.path.join(bundle, "documents", "more.json"))
    os.rename(os.path.join(bundle, "proofs"), os.path.join(bundle, "gone"))
    assert check_bundle(bundle, verifier, key).returncode == 1
    os.rename(os.path.join(bundle, "gone"), os.path.join(bundle, "proofs"))
    assert check_bundle(bundle, verifier, key).returncode == 0


@test
def the_bundles_documents_verify_with_our_own_command_against_its_checkpoint():
    bundle = os.path.join(out, "bundle")
    name = newest_evidence()["evidence"]
    main.good("evidence", "verify", os.path.join(bundle, "documents", name + ".json"), "--public-key",
              os.path.join(out, "key"), "--proof", os.path.join(bundle, "proofs", name + ".proof"), "--checkpoint",
              os.path.join(bundle, "checkpoint"))


@test
def what_a_person_accepts_is_signed_and_shown_and_ends_and_never_makes_a_backup_proven():
    source.sql("CREATE TABLE wards (id int PRIMARY KEY); CREATE TABLE beds (ward int REFERENCES wards)")
    source.sql("SET session_replication_role = replica; INSERT INTO beds VALUES (7)")
    backup = main.good("backup", "clinic")["backup"]
    main.bad(2, "exception", "accept", backup, "--reason", "x", "--until", "2099-01-01", says="366 days")
    main.bad(1, "exception", "accept", backup, "--reason", "x", "--until", "2026-12-31", says="no attempt on backup")
    main.holdfast("verify", "clinic")
    assert main.health() == "inconclusive" and main.holdfast("status").code == 3
    attempt = newest_evidence()["evidence"]
    main.bad(2, "exception", "accept", backup, "--reason", "x", "--until", "2020-01-01", says="is past")
    main.bad(1, "exception", "accept", backup, "--reason", "x", "--until", "2026-12-31", "--check", "slabs",
             says="these did: references")
    until = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    accepted = main.good("exception", "accept", backup, "--reason", "beds come first by <design>", "--until", until)
    assert accepted["checks"] == ["references"] and accepted["person"] == pwd.getpwuid(os.getuid()).pw_name, accepted

    row = status()["sources"][0]
    assert row["health"] == "inconclusive" and row["accepted"]["reason"] == "beds come first by <design>", row
    assert "clinic is not proven; " in main.holdfast("status", json_wanted=False).out
    states = [kept["state"] for kept in main.good("backups", "clinic")["backups"] if kept["backup"] == backup]
    assert states == ["unproven"], states
    path = os.path.join(main.repository, "evidence", accepted["exception"] + ".json")
    with open(path, encoding="utf-8") as file:
        act = json.load(file)
    assert act["act"]["act"] == "accept_exception" and act["act"]["refers_to"] == attempt, act
    assert act["acceptance"]["checks"] == ["references"] and act["people"]["reason"] == "beds come first by <design>", act
    page = report("accepted.html", "clinic", "--format", "html", code=3).decode()
    assert "NOT DETERMINED" in page and "beds come first by &lt;design&gt;" in page and "EXPIRED" not in page
    main.good("catalog", "rebuild")
    assert status()["sources"][0]["accepted"] is not None

    main.good("exception", "withdraw", accepted["exception"], "--reason", "it was mended")
    assert status()["sources"][0]["accepted"] is None and main.holdfast("status").code == 3
    main.bad(1, "exception", "withdraw", accepted["exception"], "--reason", "again", says="was withdrawn already")
    page = report("withdrawn.html", "clinic", "--format", "html", code=3).decode()
    assert "Withdrawn, was accepted by" in page and "it was mended" in page


@test
def an_exception_that_has_ended_is_red_again():
    backup = newest_evidence()["backup"]
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    main.good("exception", "accept", backup, "--reason", "only for a moment", "--until", until)
    deadline = time.time() + 60
    while status()["sources"][0]["accepted"] is not None:
        assert time.time() < deadline
        time.sleep(0.3)
    assert main.holdfast("status").code == 3
    assert "EXPIRED, was accepted by" in report("expired.html", "clinic", "--format", "html", code=3).decode()
    assert sorted(kept["state"] for kept in main.good("exception", "list")["exceptions"]) == ["expired", "withdrawn"]



run()

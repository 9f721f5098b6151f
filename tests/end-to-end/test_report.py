#!/usr/bin/python3
"""test_report.py - evidence as an auditor meets it: reports, the witness, figures, changes and drills, with a real server."""
import json
import os
import subprocess
import sys

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


run()

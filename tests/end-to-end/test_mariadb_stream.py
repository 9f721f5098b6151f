#!/usr/bin/python3
"""test_mariadb_stream.py - the binary log of a real MariaDB received by the whole program, and what status says of it."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.environ["HOLDFAST_SOURCE"], "tests/support"))
from appliance import Appliance, wait_for  # noqa: E402
from mariadb import Mariadb  # noqa: E402
from tap import run, test  # noqa: E402

server = Mariadb("--rpl-semi-sync-master-enabled=ON", "--rpl-semi-sync-master-timeout=500")
server.sql("CREATE DATABASE clinic; CREATE TABLE clinic.visit (id INT PRIMARY KEY AUTO_INCREMENT, note TEXT)")
main = Appliance()


def write(count):
    for number in range(count):
        server.sql(f"INSERT INTO clinic.visit (note) VALUES ('visit {number}')")


def stream():
    return main.holdfast("status").json["sources"][0]["stream"]


def now():
    return stream()["now"] or {}


@test
def the_binary_log_is_received_in_the_foreground_and_status_speaks_of_gtids():
    main.good("source", "add", "clinic", "--engine", "mariadb", "--connection", server.connection(),
              "--verify-after-backup", "no", "--stream", "yes")
    write(10)
    process = main.start("stream", "clinic")
    write(10)
    wanted = server.sql("SELECT @@global.gtid_binlog_pos").strip()
    wait_for("the log", lambda: now().get("durable") == wanted, 60)
    assert stream()["state"] == "receiving", stream()
    assert now()["received"] == wanted and now()["server_end"] == wanted, now()
    assert now()["semi_sync"] == "on", now()
    process.send_signal(signal.SIGINT)
    main.finish(process)
    windows = stream()["windows"]
    assert len(windows) == 1 and windows[0]["commits"] >= 20, windows


@test
def a_source_that_has_stopped_waiting_turns_the_state_yellow_with_the_time():
    process = main.start("stream", "clinic")
    write(2)
    wait_for("acknowledgements", lambda: now().get("semi_sync") == "on", 60)
    server.sql("SET GLOBAL rpl_semi_sync_master_enabled=OFF")
    wait_for("the loss", lambda: now().get("semi_sync") == "lost", 60)
    assert stream()["state"] == "asynchronous" and now()["semi_sync_lost_at"] > 0, stream()
    answer = main.holdfast("status", json_wanted=False)
    assert answer.code == 3 and "have not waited for this archive since" in answer.out, answer
    server.sql("SET GLOBAL rpl_semi_sync_master_enabled=ON")
    process.send_signal(signal.SIGINT)
    main.finish(process)


run()

#!/usr/bin/python3
"""test_slot.py - what the stream's slot keeps on the server is told, and let go before it fills the disk: with a gap, and an anchor."""
import os
import socket
import sys
import threading

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import Cluster, children, kill, name_of, wait_for  # noqa: E402
from moments import Daemon, Ledgered, number_of, text_of  # noqa: E402
from tap import run, test  # noqa: E402

MIB = 1 << 20


class StallingProxy:
    """A link on which replication can be made to stand still, while statements go through."""

    def __init__(self, port):
        self.target, self.stalled, self.streams = port, threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            link = {"stalled": False}
            threading.Thread(target=self._carry, args=(near, far, link, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, link, False), daemon=True).start()

    def _carry(self, origin, target, link, from_client):
        first = True
        try:
            while data := origin.recv(65536):
                if from_client and first and b"replication" in data:
                    self.streams.append(link)
                first = False
                while link["stalled"] and not from_client:
                    self.stalled.wait(0.05)
                target.sendall(data)
        except OSError:
            pass
        for end in (origin, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stall(self):
        """What streams now stands still for ever; what connects later does not."""
        for link in self.streams:
            link["stalled"] = True

    def let_go(self):
        for link in self.streams:
            link["stalled"] = False
        self.streams.clear()


server = Cluster("max_slot_wal_keep_size = 1GB\nwal_keep_size = 0\nwal_sender_timeout = 0\n")
proxy = StallingProxy(server.port)
clinic = Ledgered(server, connection=server.connection(host="127.0.0.1", port=proxy.port) + " sslmode=disable gssencmode=disable")
daemon = None


def slot():
    return ((clinic.stream() or {}).get("now") or {}).get("slot") or {}


def write_log(mib):
    for _ in range(mib):
        server.sql("INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, 1000) i")


@test
def what_the_slot_keeps_is_measured_and_above_the_alarm_status_is_bad_news():
    global daemon
    server.sql("CREATE TABLE filler (t text)")
    clinic.add("--slot-alarm", "8MiB", "--slot-most", "48MiB")
    daemon = Daemon(clinic.appliance)
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.commit(5)
    clinic.prove()
    wait_for("the measure", lambda: slot().get("kept_bytes") is not None and not slot()["alarm"], 60)
    proxy.stall()
    write_log(16)
    wait_for("the alarm", lambda: slot().get("alarm"), 60)
    assert slot()["kept_bytes"] > 8 * MIB, slot()
    answer = clinic.appliance.holdfast("status", json_wanted=False)
    assert answer.code == 3 and "Slot: it keeps" in answer.out, answer


@test
def beyond_the_limit_it_is_let_go_with_a_gap_of_exact_bounds_and_an_anchor_backup():
    backups = len(clinic.appliance.backups())
    before = number_of(clinic.stream()["now"]["durable"])
    server.sql("CHECKPOINT")
    write_log(40)
    server.sql("CHECKPOINT")
    wait_for("the gap", lambda: clinic.status()["gaps"], 90)
    gap = clinic.status()["gaps"][0]
    assert number_of(gap["from"]) == before and number_of(gap["to"]) > before, (gap, text_of(before))
    assert "released by us" in gap["cause"] and "slot_most" in gap["cause"], gap
    proxy.let_go()
    wait_for("the anchor backup", lambda: len(clinic.appliance.backups()) == backups + 1, 90)
    clinic.commit(5)
    clinic.catch_up()
    wait_for("a quiet slot", lambda: slot().get("kept_bytes", 1 << 40) < 48 * MIB and not slot()["alarm"], 60)
    clinic.appliance.good("verify", "clinic")
    assert clinic.status()["gaps"][0]["anchored"]
    clinic.must_hold(10, "--latest")


@test
def a_server_that_lets_nobody_replicate_is_guarded_as_well():
    backups = len(clinic.appliance.backups())
    server.set_hba("local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 reject\n")
    server.reload()
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    write_log(56)
    wait_for("the slot to go", server.no_slots, 120)
    for _ in range(6):
        server.sql("SELECT pg_switch_wal()")
        write_log(1)
        server.sql("CHECKPOINT")
    server.set_hba(Cluster.HBA)
    server.reload()
    wait_for("the second gap", lambda: len(clinic.status()["gaps"]) == 2, 120)
    wait_for("the anchor backup", lambda: len(clinic.appliance.backups()) == backups + 1, 90)


@test
def below_the_owners_floor_the_slot_is_let_go_with_a_gap_and_an_anchor_backup():
    """Of what the server itself would keep (max_slot_wal_keep_size) so much must be left, or we go before it does."""
    backups, gaps = len(clinic.appliance.backups()), len(clinic.status()["gaps"])
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.add("--slot-alarm", "off", "--slot-most", "off", "--slot-floor", "1000MiB", "--replace")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    wait_for("the stream", lambda: (clinic.stream()["now"] or {}).get("connected"), 60)
    clinic.commit(2)
    clinic.catch_up()
    assert len(clinic.status()["gaps"]) == gaps and slot()["left_bytes"] > 1000 * MIB, slot()
    before = number_of(clinic.stream()["now"]["durable"])
    proxy.stall()
    write_log(24)
    server.sql("CHECKPOINT")  # what is left is 1 GiB and the unfinished segment, less what it keeps
    write_log(16)
    server.sql("CHECKPOINT")
    wait_for("the gap", lambda: len(clinic.status()["gaps"]) == gaps + 1, 120)
    gap = clinic.status()["gaps"][0]
    assert number_of(gap["from"]) >= before and number_of(gap["to"]) > number_of(gap["from"]), (gap, text_of(before))
    assert "released by us" in gap["cause"] and "slot_floor" in gap["cause"], gap
    proxy.let_go()
    wait_for("the anchor backup", lambda: len(clinic.appliance.backups()) > backups, 90)


@test
def a_killed_backup_leaves_no_slot_of_its_own():
    clinic.appliance.good("backup", "clinic")
    write_log(60)
    process = clinic.appliance.start("backup", "clinic")
    wait_for("its slot", lambda: server.sql("SELECT count(*) FROM pg_replication_slots WHERE temporary") == "1", 60)
    killed = [pid for pid in children(daemon.process.pid) if "--worker" in name_of(pid)]
    for pid in killed:
        kill(pid)
    assert killed and clinic.appliance.finish(process).code == 1
    wait_for("the slot to go", lambda: server.sql("SELECT count(*) FROM pg_replication_slots WHERE temporary") == "0", 60)


@test
def a_source_that_is_removed_takes_its_slot_along():
    wait_for("the slot", lambda: not server.no_slots(), 60)
    clinic.appliance.good("source", "remove", "clinic")
    wait_for("the slot to go", server.no_slots, 60)
    daemon.stop()


run()

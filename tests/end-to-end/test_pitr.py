#!/usr/bin/python3
"""test_pitr.py - any moment that the stream covers: restored, started with the real server, exact to the transaction."""
import datetime
import os
import random
import re
import signal
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
sys.path.insert(0, here)
from appliance import ROOT, Appliance, Cluster, wait_for  # noqa: E402
from tap import run, test  # noqa: E402

COMMITS = 240
CHANCE = random.Random(20261122)

source = Cluster("max_slot_wal_keep_size = 1GB\nwal_keep_size = 0\n")
source.sql("CREATE TABLE people AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, 5000) i")
source.sql("CREATE TABLE ledger (number int PRIMARY KEY, padding text)")
main = Appliance()
ledger = []  # of each commit, in order: number, xid, the position behind it, the moment behind it (ms since 1970)
backups = []
points = {}  # name: the number of the newest commit
restored = 0


def commit(count=1):
    """Numbered commits, each with what the server says of it; between two there are some milliseconds."""
    for _ in range(count):
        number = len(ledger) + 1
        words = source.sql(
            f"BEGIN; INSERT INTO ledger VALUES ({number}, repeat('x', 500)) RETURNING pg_current_xact_id(); COMMIT;"
            "SELECT pg_sleep(0.003);"
            "SELECT pg_current_wal_insert_lsn() || ' ' || (extract(epoch FROM clock_timestamp()) * 1000)::bigint").split()
        ledger.append((number, int(words[0]), words[1], int(words[2])))


def utc(ms, zone=0):
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone(datetime.timedelta(hours=zone)))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}" + (f"+{zone:02d}:00" if zone else "Z")


def stream():
    return main.holdfast("status").json["sources"][0]["stream"]


def number(lsn):
    high, low = (lsn or "0/0").split("/")
    return int(high, 16) << 32 | int(low, 16)


def position():
    return int(source.sql("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"))


def start_receiving():
    process = main.start("stream", "clinic")
    wait_for("the stream", lambda: (stream()["now"] or {}).get("connected"), 40)
    return process


def stop_receiving(process):
    wanted = position()
    wait_for("the log", lambda: number((stream()["now"] or {}).get("durable")) >= wanted)
    process.send_signal(signal.SIGINT)
    main.finish(process)


def new_folder():
    global restored
    restored += 1
    return os.path.join(ROOT, f"restored-{restored}")


def restore(*words):
    """Restores to a moment and gives the numbers of the commits in it, and what the restore said."""
    folder = new_folder()
    answer = main.good("restore", "clinic", "--to", folder, "--owner", "postgres", *words)
    os.chmod(folder, 0o700)
    copy = Cluster.of_copy(folder)
    wait_for("the promotion", lambda: copy.sql("SELECT pg_is_in_recovery()") == "f")
    assert copy.sql("SHOW archive_mode") == "off"
    numbers = [int(word) for word in copy.sql("SELECT number FROM ledger ORDER BY number").split()]
    copy.stop()
    return numbers, answer


def must_hold(last, *words):
    numbers, answer = restore(*words)
    assert numbers == list(range(1, last + 1)), (words, last, numbers[-1:], answer)
    return answer


def must_refuse(*words, says, code=1):
    folder = new_folder()
    answer = main.bad(code, "restore", "clinic", "--to", folder, *words, says=says)
    assert not os.path.exists(folder), f"{words} touched the folder"
    return answer


@test
def a_workload_is_streamed_with_two_backups_in_it():
    main.add_source(source, "--verify-after-backup", "yes", "--stream", "yes")
    receiver = start_receiving()
    commit(30)
    backups.append(main.good("backup", "clinic")["backup"])
    main.good("verify", "clinic")
    commit(70)
    source.sql("SELECT pg_switch_wal()")
    commit(20)
    source.sql("SELECT pg_create_restore_point('before it''s \\ changed')")
    points["before it's \\ changed"] = len(ledger)
    commit(30)
    backups.append(main.good("backup", "clinic")["backup"])
    main.good("verify", "clinic")
    commit(40)
    source.sql("SELECT pg_switch_wal()")
    commit(COMMITS - len(ledger))
    stop_receiving(receiver)
    assert len(ledger) == COMMITS


@test
def to_a_time_it_holds_exactly_the_commits_up_to_it():
    row = CHANCE.choice(ledger[170:230])
    answer = must_hold(row[0], "--at", utc(row[3], 3))
    assert answer["recovery"]["value"] == utc(row[3]) and answer["backup"] == backups[1], answer
    assert answer["recovery"]["newest_commit_at"] <= utc(row[3]), answer


@test
def a_time_between_two_backups_starts_from_the_first():
    row = CHANCE.choice(ledger[40:95])
    assert must_hold(row[0], "--at", utc(row[3]))["backup"] == backups[0]


@test
def to_a_position_it_holds_what_was_written_before_it():
    row = CHANCE.choice(ledger[60:140])
    assert must_hold(row[0], "--lsn", row[2])["backup"] == backups[0]
    row = CHANCE.choice(ledger[170:230])
    assert must_hold(row[0], "--lsn", row[2])["backup"] == backups[1]


@test
def to_a_transaction_it_holds_that_one_and_none_behind():
    row = CHANCE.choice(ledger[160:230])
    must_hold(row[0], "--xid", str(row[1]))
    row = CHANCE.choice(ledger[40:140])
    assert must_hold(row[0], "--xid", str(row[1]))["backup"] == backups[0]
    must_refuse("--xid", str(row[1]), "--backup", backups[1], says=["no end of transaction"])
    must_refuse("--xid", "4000000000", says=["no end of transaction 4000000000"])


@test
def before_a_transaction_it_holds_none_of_it():
    row = CHANCE.choice(ledger[160:230])
    answer = must_hold(row[0] - 1, "--before-xid", str(row[1]))
    assert answer["backup"] == backups[1] and answer["recovery"]["kind"] == "before xid", answer
    row = CHANCE.choice(ledger[40:140])
    assert must_hold(row[0] - 1, "--before-xid", str(row[1]))["backup"] == backups[0]


@test
def to_a_restore_point_it_holds_what_was_there_when_it_was_named():
    name, last = next(iter(points.items()))
    assert must_hold(last, "--restore-point", name)["backup"] == backups[0]
    must_refuse("--restore-point", "never named", says=['no restore point "never named"', "Nearest"])


@test
def to_the_latest_it_holds_all_also_from_the_older_backup():
    must_hold(COMMITS, "--latest")
    must_hold(COMMITS, "--latest", "--backup", backups[0], "--timeline", "1")
    must_hold(COMMITS, "--lsn", ledger[-1][2])


@test
def a_copy_can_wait_at_the_moment_instead():
    row = ledger[200]
    folder = new_folder()
    main.good("restore", "clinic", "--to", folder, "--owner", "postgres", "--at", utc(row[3]), "--action", "pause")
    os.chmod(folder, 0o700)
    copy = Cluster.of_copy(folder)
    wait_for("the pause", lambda: copy.sql("SELECT pg_get_wal_replay_pause_state()") == "paused")
    assert copy.sql("SELECT max(number) FROM ledger") == str(row[0])
    copy.stop()


@test
def moments_out_of_reach_are_refused_with_the_nearest_and_touch_nothing():
    said = must_refuse("--at", utc(ledger[-1][3] + 3600000), says=["no commit later than", "Nearest: before 20"]).errors
    nearest = re.search(r"Nearest: before (\S+),", said).group(1)
    assert ledger[-2][3] <= milliseconds(nearest) <= ledger[-1][3], (nearest, ledger[-1])
    said = must_refuse("--at", utc(ledger[0][3]), says=["no proven backup that ended before"]).errors
    earliest = milliseconds(re.search(r"The nearest moment: (\S+),", said).group(1))
    assert ledger[29][3] <= earliest, (earliest, ledger[29])
    must_refuse("--lsn", "7F/0", says=["nothing of 7F/0", "the archive ends at"])
    must_refuse("--lsn", ledger[60][2], "--backup", backups[1], code=2, says=["before the end of the backup at"])
    must_refuse("--at", utc(ledger[60][3]), "--backup", backups[1], code=2, says=["the backup ended at"])
    must_refuse("--latest", "--timeline", "9", says=["no history file of timeline 9"])


def milliseconds(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


@test
def what_is_no_moment_is_a_wrong_request():
    folder = new_folder()
    for words, says in ((["--at", "2026-11-22 14:03:07"], "zone"), (["--lsn", "x"], "not a position"),
                        (["--xid", "0"], "not the number of a transaction"),
                        (["--latest", "--xid", "900"], "two moments"), (["--timeline", "1"], "needs a moment"),
                        (["--latest", "--action", "dance"], "none of promote"),
                        (["--latest", "--allow-damage"], "lost pages")):
        main.bad(2, "restore", "clinic", "--to", folder, *words, says=says)
    assert not os.path.exists(folder)


@test
def a_flipped_byte_in_the_stream_is_found_before_the_folder_is_touched():
    flipped = None
    for path in main.packs():
        if flip(path) and (answer := main.holdfast("restore", "clinic", "--to", new_folder(), "--latest", "--backup",
                                                   backups[0])).code == 1:
            if "the log behind the backup is not whole" in answer.errors:
                flipped = path
                assert not os.path.exists(os.path.join(ROOT, f"restored-{restored}"))
        flip(path)
        if flipped:
            break
    assert flipped, "no pack holds log"
    must_hold(COMMITS, "--latest")


def flip(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))
    return True


@test
def a_moment_inside_a_gap_is_refused_with_its_bounds():
    main.end_daemon()
    end = number(stream()["windows"][-1]["end"])
    name = source.sql("SELECT slot_name FROM pg_replication_slots")
    source.sql(f"SELECT pg_drop_replication_slot('{name}')")
    commit(3)
    lost = ledger[-2]
    wait_for("the server to recycle its log", lambda: recycled(end), 60)
    receiver = start_receiving()
    wait_for("the gap", lambda: main.holdfast("status").json["gaps"], 40)
    wait_for("the anchor backup", lambda: main.holdfast("status").json["gaps"][0]["anchored"], 60)
    commit(5)
    stop_receiving(receiver)
    said = must_refuse("--at", utc(lost[3]), says=["there is a gap from", "Nearest: before"]).errors
    assert f"{end >> 32:X}/{end & 0xffffffff:X}" in said, (end, said)
    must_refuse("--latest", "--backup", backups[1], says=["has a gap from"])
    must_hold(len(ledger), "--latest")
    row = ledger[COMMITS - 20]
    must_hold(row[0], "--at", utc(row[3]))


@test
def over_a_promotion_both_branches_can_be_reached():
    global source
    old = source
    data = os.path.join(old.folder, "standby")
    old.run("pg_basebackup", "-D", data, "-R", "-X", "stream", "-h", old.socket, "-p", str(old.port), "-U", "postgres")
    standby = Cluster.of_copy(data)
    receiver = start_receiving()
    commit(5)
    stop_receiving(receiver)
    wanted = position()
    wait_for("the standby", lambda: standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '0/0'::pg_lsn + {wanted}") == "t")
    before, at = len(ledger), ledger[-2]
    old.stop()
    standby.sql("SELECT pg_promote()")
    source = standby
    main.add_source(source, "--verify-after-backup", "no", "--stream", "yes", "--replace")
    receiver = start_receiving()
    commit(10)
    stop_receiving(receiver)
    assert must_hold(len(ledger), "--latest")["recovery"]["timeline"] == 2
    must_hold(ledger[-5][0], "--at", utc(ledger[-5][3]))
    must_hold(at[0], "--at", utc(at[3]))
    assert must_hold(before, "--latest", "--timeline", "1")["recovery"]["timeline"] == 1
    behind = main.good("backup", "clinic")["backup"]
    must_refuse("--latest", "--timeline", "1", "--backup", behind, says=["not on the way to timeline 1"])


def recycled(lsn):
    """Writes more, and says whether the segment that the archive needs next is gone."""
    for _ in range(4):
        source.sql("INSERT INTO people SELECT i, 'x' FROM generate_series(1, 1000) i")
        source.sql("SELECT pg_switch_wal()")
    source.sql("CHECKPOINT")
    name = source.sql(f"SELECT pg_walfile_name(('0/0'::pg_lsn + {lsn} + 1)::pg_lsn)")
    return source.sql(f"SELECT count(*) FROM pg_ls_waldir() WHERE name = '{name}'") == "0"


run()

"""verify.py - what a proof costs beside what it cannot do without: the restore, and one reading of everything

    HOLDFAST_BUILD=build tests/bench/verify [--scale MB] [--rounds N] [--folder F]

A round measures, of one backup of one state: `holdfast restore`; reading every table once, with the cluster's own
server (the copy's sizes of memory); `pg_amcheck --heapallindexed -j2`; `holdfast verify`.  The aim is

    verify <= restore + 1.3 x (read all tables + pg_amcheck --heapallindexed -j2)

The scale that is meant is 2700 MB on a machine that does nothing else.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from cluster import Cluster
from measure import Window
from tools import Holdfast

FACTOR = 1.3


def read_all(cluster):
    """Seconds for every table of the database, one after the other, as two connections would need half of them."""
    tables = cluster.sql("SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c"
                         " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 't')"
                         " AND c.relpersistence = 'p'").split("\n")
    began = time.monotonic()
    cluster.call(["psql", "-X", "-q", *(word for table in tables for word in ("-c", f"SELECT count(*) FROM {table}"))])
    return time.monotonic() - began


def amcheck(cluster):
    began = time.monotonic()
    cluster.call(["pg_amcheck", "--all", "--heapallindexed", "-j2", "--install-missing"])
    return time.monotonic() - began


def measure(options, folder):
    cluster = Cluster(f"{folder}/cluster")
    tool = Holdfast(folder, cluster)
    os.chmod(folder, 0o755)
    print(f"making the cluster, about {options.scale} MB", flush=True)
    cluster.make(options.scale, options.seed)
    ratios = []
    try:
        tool.prepare()
        with Window(tool.environment) as window:
            tool.backup(window, True)
        for number in range(options.rounds):
            target = f"{folder}/copy-{number}"
            began = time.monotonic()
            tool.call([tool.command, "restore", "clinic", "--backup", tool.newest, "--to", target])
            restore = time.monotonic() - began
            shutil.rmtree(target)
            reading, checking = read_all(cluster), amcheck(cluster)
            began = time.monotonic()
            told = json.loads(tool.call([tool.command, "verify", "clinic", "--backup", tool.newest, "--json"]))
            verify = time.monotonic() - began
            allowed = restore + FACTOR * (reading + checking)
            ratios.append(verify / allowed)
            print(f"round {number + 1}: verify {verify:.2f} s ({told['result']}); restore {restore:.2f} s, read all"
                  f" {reading:.2f} s, pg_amcheck {checking:.2f} s: allowed {allowed:.2f} s, ratio {ratios[-1]:.2f}",
                  flush=True)
            for phase in told["phases"]:
                print("    " + json.dumps(phase))
    finally:
        cluster.stop()
    print(json.dumps({"verify_ratio": round(statistics.median(ratios), 3), "aim": 1.0, "scale_mb": options.scale,
                      "rounds": options.rounds}))


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/verify")
    parser.add_argument("--scale", type=int, default=2700)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="hf-bench-verify-", dir=options.folder)
    try:
        measure(options, folder)
    finally:
        subprocess.run(["rm", "-rf", folder], check=False)


if __name__ == "__main__":
    sys.exit(main())

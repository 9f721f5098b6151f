"""bench.py - the benchmark's story: make a cluster, run the rounds, tell the figures.  Started by tests/bench/run."""
import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from cluster import SETTINGS, Cluster, give
from measure import Failure, Window, bytes_below, other_user, warm
from pages import State
from tools import BaseBackup, Borg, Holdfast, PgBackRest, Restic, stream_command

TOOLS = [Holdfast, BaseBackup, PgBackRest, Restic, Borg]
STREAM = "stream"  # pg_basebackup > /dev/null, which next backups are compared with
SCALE_LEAST = 60  # MB: with fewer rows there are no 10000 to update at random
SCALE_MEANT = 2000  # MB
FOLDERS_PER_SCALE = 6  # disk needed, in sizes of the cluster: itself, a restored copy, and what five tools keep

# What Holdfast is held to: key in the JSON line, aim, unit, sentence.
AIMS = [
    ("first_backup_ratio", 1.0, "x", "first backup / pg_basebackup -Ft | zstd -1 -T2"),
    ("next_backup_ratio", 1.15, "x", "next backup / pg_basebackup -Ft > /dev/null"),
    ("next_backup_added_ratio", 1.15, "x", "bytes the next backup adds / changed pages gathered and compressed"),
    ("restore_ratio", 0.8, "x", "restore of the newest of three / pgBackRest's"),
    ("backup_peak_kib", 262144, "KiB", "highest memory peak of a backup, daemon, worker and page cache together"),
    ("sandbox_overhead_ms", 50, "ms", "sandbox create and tear down, of a verification"),
]


@dataclass
class Sample:
    """One measured operation.  `state` tells which samples met the same cluster: (round, 0 to 2)."""
    state: tuple
    operation: str  # "first", "next", "restore"
    tool: str
    seconds: float
    added_bytes: int
    peak_kib: int
    process_kib: int
    memory_how: str


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.cluster = Cluster(f"{folder}/cluster")
        self.tools = [kind(folder, self.cluster) for kind in TOOLS if kind.name in options.only]
        self.samples = []
        self.references = []  # of every next backup: (state, pages.State without its digests)
        self.sandbox_ms = []
        self.updates = 0

    # ------------------------------------------------------------------------------------------ the rounds

    def run(self):
        self.tell_conditions()
        print(f"\nmaking the cluster, about {self.options.scale} MB", flush=True)
        self.cluster.make(self.options.scale, self.options.seed)
        print(f"{megabytes(bytes_below(f'{self.cluster.data}/base'))} of relations, "
              f"{self.cluster.sql('SELECT count(*) FROM encounters')} encounters", flush=True)
        for number in range(self.options.rounds):
            self.run_round(number)

    def run_round(self, number):
        print(f"\nround {number + 1} of {self.options.rounds}", flush=True)
        # Who comes first changes from round to round, so that no tool always follows the same one.
        turn = number % len(self.tools)
        tools = self.tools[turn:] + self.tools[:turn]
        for tool in tools:
            tool.prepare()

        pages = self.read_state(None)
        for tool in tools:
            self.measure_backup(tool, "first", (number, 0))
        for _ in range(self.options.earlier):
            self.update()
            for tool in tools:
                with Window(tool.environment) as window:
                    tool.backup(window, False)
        if self.options.earlier > 0:
            print(f"  {self.options.earlier} backups of 10000 updated rows each were taken by every tool", flush=True)
            pages = self.read_state(pages)
        for step in (1, 2):
            self.update()
            pages = self.read_state(pages)
            self.references.append(((number, step), pages))
            print(f"  10000 rows updated: {pages.changed} of {pages.pages} pages changed ({pages.changed_wal} of them WAL), "
                  f"{megabytes(pages.gathered_bytes)} when gathered and compressed", flush=True)
            self.measure_stream((number, step))
            for tool in tools:
                self.measure_backup(tool, "next", (number, step))
        wanted = self.cluster.digest()
        self.cluster.rest()  # reading everything has written hint bits
        for tool in tools:
            self.measure_restore(tool, (number, 2), wanted)
        for tool in tools:
            if isinstance(tool, Holdfast):
                self.sandbox_ms.append(tool.verify())
                print(f"  {'verify':8} {tool.name:14} sandbox created and torn down in {self.sandbox_ms[-1]:.1f} ms", flush=True)
            tool.remove()

    def update(self):
        self.updates += 1
        self.cluster.update(f"{self.options.seed}.{self.updates}")

    def read_state(self, before):
        stream = subprocess.Popen(stream_command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=self.cluster.environment, start_new_session=True)
        state = State(stream.stdout, before)
        while stream.stdout.read(1 << 20):
            pass
        if stream.wait() != 0:
            raise Failure("pg_basebackup failed while pages were compared")
        return state

    def measure_backup(self, tool, operation, state):
        warm(self.cluster.data)
        warm(tool.repository)
        before = bytes_below(tool.repository)
        with Window(tool.environment) as window:
            tool.backup(window, operation == "first")
            window.sync(tool.repository)
        # pg_basebackup keeps nothing from before: what it adds is the whole file.
        added = bytes_below(tool.repository) - (0 if tool.name == BaseBackup.name else before)
        self.note(tool.name, operation, state, window, added)
        if isinstance(tool, Holdfast) and operation == "next":
            print(f"           of these {tool.aged} pages, {megabytes(tool.aged * 8192)} before compression, were stored again "
                  "since their slabs were thin: the ageing budget", flush=True)

    def measure_stream(self, state):
        warm(self.cluster.data)
        with Window(self.cluster.environment) as window:
            window.run(stream_command(), output=False)
        self.note(STREAM, "next", state, window, 0)

    def measure_restore(self, tool, state, wanted):
        target = f"{self.folder}/restored"
        warm(tool.repository)
        os.mkdir(target)
        give(target, 0o700)
        with Window(tool.environment) as window:
            tool.restore(window, target)
            window.sync(target)
        self.note(tool.name, "restore", state, window, 0)
        found = self.cluster.digest_of_copy(target)
        if found != wanted:
            raise Failure(f"what {tool.name} restored does not hold the rows that were backed up:\n{found}\n"
                          f"and these were:\n{wanted}")
        shutil.rmtree(target)

    def note(self, tool, operation, state, window, added):
        sample = Sample(state, operation, tool, window.seconds, added, window.memory.peak_kib, window.memory.process_kib,
                        window.memory.how)
        self.samples.append(sample)
        print(f"  {operation:8} {tool:14} {window.seconds:8.2f} s" + (f"  added {megabytes(added):>10}" if added else " " * 18)
              + f"  peak {sample.peak_kib // 1024:5} MiB, {sample.process_kib // 1024:5} without page cache", flush=True)

    # ------------------------------------------------------------------------------------------ the figures

    def seconds(self, tool, operation):
        """By state, so that only what met the same cluster is compared."""
        return {sample.state: sample.seconds for sample in self.samples
                if sample.tool == tool and sample.operation == operation}

    def added(self, tool, operation):
        return {sample.state: sample.added_bytes for sample in self.samples
                if sample.tool == tool and sample.operation == operation}

    def gathered(self):
        return {state: pages.gathered_bytes for state, pages in self.references}

    def table(self):
        """Rows of (what, unit, {tool: values by state}, (name of the reference, its values by state))."""
        def of_all(values, operation):
            return {tool.name: values(tool.name, operation) for tool in self.tools}

        return [
            ("first backup", "s", of_all(self.seconds, "first"), (BaseBackup.name, self.seconds(BaseBackup.name, "first"))),
            ("bytes added by the first backup", "MB", of_all(self.added, "first"),
             (BaseBackup.name, self.added(BaseBackup.name, "first"))),
            ("next backup", "s", of_all(self.seconds, "next"), (STREAM, self.seconds(STREAM, "next"))),
            ("bytes added by the next backup", "MB", of_all(self.added, "next"),
             ("changed pages gathered", self.gathered())),
            ("restore of the newest of three", "s", of_all(self.seconds, "restore"),
             (PgBackRest.name, self.seconds(PgBackRest.name, "restore"))),
        ]

    def tell_table(self):
        print(f"\nMedians of {self.options.rounds} round{'s' * (self.options.rounds != 1)}, each with (lowest to highest); "
              "ratios are taken within one state of one round.")
        for what, unit, by_tool, (reference_name, reference) in self.table():
            scale = 1e6 if unit == "MB" else 1
            base = f", {reference_name} {spread([value / scale for value in reference.values()], unit)}" if reference else ""
            print(f"\n{what}{base}")
            for name, values in by_tool.items():
                quotients = ratios(values, reference)
                print(f"  {name:14} {spread([value / scale for value in values.values()], unit):36}"
                      + (f" {spread(quotients, 'x')} {reference_name}" if quotients else ""))
        print("\nhighest memory peak of a backup, MiB: all that the cgroup was charged, and without page cache")
        for tool in self.tools:
            backups = [sample for sample in self.samples if sample.tool == tool.name and sample.operation != "restore"]
            print(f"  {tool.name:14} {max(sample.peak_kib for sample in backups) / 1024:8.0f} "
                  f"{max(sample.process_kib for sample in backups) / 1024:8.0f}   ({backups[0].memory_how})")

    def figures(self):
        """The figures of AIMS; None for what was not measured."""
        ours = Holdfast.name
        backups = [sample for sample in self.samples if sample.tool == ours and sample.operation != "restore"]
        found = {
            "first_backup_ratio": ratios(self.seconds(ours, "first"), self.seconds(BaseBackup.name, "first")),
            "next_backup_ratio": ratios(self.seconds(ours, "next"), self.seconds(STREAM, "next")),
            "next_backup_added_ratio": ratios(self.added(ours, "next"), self.gathered()),
            "restore_ratio": ratios(self.seconds(ours, "restore"), self.seconds(PgBackRest.name, "restore")),
            "backup_peak_kib": [max(sample.peak_kib for sample in backups)] if backups else [],
            "sandbox_overhead_ms": self.sandbox_ms,
        }
        return {key: statistics.median(values) if values else None for key, values in found.items()}

    def tell_aims(self):
        figures = self.figures()
        print("\nHoldfast against its aims")
        for key, aim, unit, sentence in AIMS:
            value = figures[key]
            verdict = "not measured" if value is None else "met" if value <= aim else "missed"
            print(f"  {key:24} {number(value, unit):>12}   aim {number(aim, unit):>12}   {verdict:12} {sentence}")
        if self.options.scale < SCALE_MEANT:
            print(f"  (the aims are meant for {SCALE_MEANT} MB and more; at {self.options.scale} MB fixed costs decide)")

    def line(self):
        backups = [sample for sample in self.samples if sample.tool == Holdfast.name and sample.operation != "restore"]
        figures = {key: round(value, 4) if isinstance(value, float) else value for key, value in self.figures().items()}
        return json.dumps({
            **figures,
            "backup_process_kib": max((sample.process_kib for sample in backups), default=None),
            "memory_measured_by": self.samples[0].memory_how,
            "scale_mb": self.options.scale, "rounds": self.options.rounds, "seed": self.options.seed,
            "samples": [{"round": sample.state[0] + 1, "state": sample.state[1], "operation": sample.operation,
                         "tool": sample.tool, "seconds": round(sample.seconds, 4), "added_bytes": sample.added_bytes,
                         "peak_kib": sample.peak_kib, "process_kib": sample.process_kib} for sample in self.samples],
            "gathered_bytes": [pages.gathered_bytes for _, pages in self.references],
        })

    def tell_conditions(self):
        with open("/proc/cpuinfo") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        system = subprocess.run(["stat", "-f", "-c", "%T", self.folder], capture_output=True, text=True).stdout.strip()
        print(f"machine: {len(models)} x {models[0] if models else platform.machine()}, {memory >> 20} MiB memory, "
              f"Linux {platform.release()}, {self.folder} on {system}, load {os.getloadavg()[0]:.2f}")
        print("page cache: warm for all: before each operation the data directory or the repository is read whole")
        print("durable: each time ends after `sync -f` of what was written; a `sync` of everything comes before it starts")
        print(f"users: PostgreSQL and all tools but Holdfast as {other_user()}, Holdfast as whoever runs this")
        print("server: " + ", ".join(f"{name}={value}" for name, value in SETTINGS.items()))
        for tool in self.tools:
            print(f"{tool.name}: {tool.version()}\n    {tool.settings}")


def ratios(values, reference):
    return [values[state] / reference[state] for state in values if reference.get(state)]


def spread(values, unit):
    if not values:
        return "not measured"
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def number(value, unit):
    return "-" if value is None else f"{value:.0f} {unit}" if unit == "KiB" else f"{value:.2f} {unit}"


def megabytes(count):
    return f"{count / 1e6:.1f} MB"


def parse_options():
    names = [kind.name for kind in TOOLS]
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Measures Holdfast beside other tools.",
                                     epilog=f"Tools: {', '.join(names)}.")
    parser.add_argument("--scale", type=int, default=2700, metavar="MB", help="size of the data, WAL not counted (default: 2700)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (default: 3)")
    parser.add_argument("--earlier", type=int, default=0, metavar="N",
                        help="backups after the first one that are taken and not measured (default: 0)")
    parser.add_argument("--only", default=",".join(names), metavar="TOOL,...", help="measure only these")
    parser.add_argument("--seed", type=int, default=1, help="of data and updates (default: 1)")
    parser.add_argument("--folder", help="put everything below this new folder (default: a fresh one below /var/tmp)")
    parser.add_argument("--keep", action="store_true", help="leave the folder and what is in it, with servers stopped")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - set(names)
    if unknown:
        parser.error(f"there is no tool \"{unknown.pop()}\"; there are: {', '.join(names)}")
    if options.scale < SCALE_LEAST or options.rounds < 1:
        parser.error(f"the scale is at least {SCALE_LEAST} MB, and there is at least one round")
    return options


def make_folder(wanted):
    if wanted:
        os.mkdir(wanted)
        folder = os.path.abspath(wanted)
    else:
        folder = tempfile.mkdtemp(prefix="holdfast-bench-", dir="/var/tmp")
    os.chmod(folder, 0o755)  # the server's user passes through
    return folder


def check_space(folder, scale):
    free = shutil.disk_usage(folder).free
    if free < FOLDERS_PER_SCALE * (scale << 20):
        raise Failure(f"{folder} has {megabytes(free)} free, {FOLDERS_PER_SCALE} times the scale is needed")


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = make_folder(options.folder)
    bench = Bench(options, folder)
    try:
        check_space(folder, options.scale)
        bench.run()
        bench.tell_table()
        bench.tell_aims()
        if options.json:
            print(bench.line())
    except (Failure, OSError, subprocess.SubprocessError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the way out is not interrupted
        bench.cluster.stop(signal.SIGQUIT)
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


sys.exit(main())

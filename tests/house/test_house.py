#!/usr/bin/python3
"""test_house.py - what holds for the tree as a whole: who may use whom, and what never stands in a file.

The rows are DESIGN 2.  A room may include itself and the rows above it in the table, nothing beside it or below.
"""
import os
import re
import subprocess
import sys

source = os.environ.get("HOLDFAST_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(source, "tests/support"))
from tap import run, test  # noqa: E402

ROWS = [
    ["base"],
    ["server/settings", "server/storage"],
    ["catalog", "sandbox", "server/keys"],
    ["server/repository"],
    ["server/stream", "server/care"],
    ["server/source", "server/restore", "server/evidence", "server/retention"],
    ["server/verify"],
    ["server/audit", "server/seed", "server/stage", "server/report"],
    ["server/job"],
    ["server/http", "server/cli"],
]
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}

# Settings are handed down as plain values: the rooms below verification do not know where those came from.
SETTINGS = "server/settings"
FIRST_ROW_WITH_SETTINGS = ROW_OF["server/verify"]


def project_files():
    """All files of the project, also new ones: not what a build or an editor left."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source, capture_output=True, check=True).stdout.decode()
    return sorted(path for path in listed.split("\0") if path and os.path.lexists(os.path.join(source, path)))


def read(path):
    full = os.path.join(source, path)
    if os.path.islink(full):
        return os.readlink(full)
    with open(full, encoding="utf-8", errors="replace") as file:
        return file.read()


def room_of(path):
    parts = path.split("/")
    if parts[0] == "server" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def includes_of(path):
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', read(path), re.MULTILINE)


def broken_arrow(path, included):
    """Why this include may not be, or None."""
    here, there = room_of(path), room_of(included)
    if there not in ROW_OF:
        return f'{path} includes "{included}", which names no room of the house'
    if here == there:
        return None
    if here not in ROW_OF:
        return None if path.startswith("tests/") else f"{path} stands in no room of the house"
    if ROW_OF[there] >= ROW_OF[here]:
        return f'{path} includes "{included}": {here} may not use {there}'
    if there == SETTINGS and ROW_OF[here] < FIRST_ROW_WITH_SETTINGS:
        return f'{path} includes "{included}": {here} gets plain values, not settings'
    return None


files = project_files()
c_files = [path for path in files if path.endswith((".c", ".h")) and not path.startswith(("tests/", "web/"))]


def tell(problems):
    assert not problems, "\n".join(problems)


@test
def the_rule_about_arrows_knows_a_wrong_one():
    assert broken_arrow("base/buf.c", "base/error.h") is None
    assert broken_arrow("server/job/job.c", "catalog/catalog.h") is None
    assert broken_arrow("server/source/postgres/backup.c", "server/source/source.h") is None
    assert broken_arrow("server/verify/verify.c", "server/settings/settings.h") is None
    assert broken_arrow("base/buf.c", "catalog/catalog.h")
    assert broken_arrow("catalog/catalog.c", "server/repository/store.h")
    assert broken_arrow("server/restore/plan.c", "server/source/source.h")
    assert broken_arrow("server/repository/store.c", "server/settings/settings.h")
    assert broken_arrow("server/care/check.c", "server/repository/reader.h") is None
    assert broken_arrow("server/repository/vault.c", "server/keys/keys.h") is None
    assert broken_arrow("server/keys/keys.c", "server/repository/vault_log.h")
    assert broken_arrow("server/repository/session.c", "server/care/collect.h")
    assert broken_arrow("server/care/copy.c", "server/stream/journal.h")
    assert broken_arrow("base/buf.c", "buf.h")
    assert broken_arrow("elsewhere/x.c", "base/buf.h")


@test
def arrows_between_rooms_point_down_only():
    assert len(c_files) > 20, "the sources were not found"
    problems = [broken_arrow(path, included) for path in c_files for included in includes_of(path)]
    tell([problem for problem in problems if problem])


@test
def the_sandbox_and_the_catalog_know_only_the_base():
    tell([f'{path} includes "{included}"' for path in c_files for included in includes_of(path)
          if room_of(path) in ("sandbox", "catalog") and room_of(included) not in ("base", room_of(path))])


@test
def only_the_catalog_speaks_to_sqlite():
    allowed = ("catalog/", "tests/catalog/")
    tell([path for path in files if path.endswith((".c", ".h")) and not path.startswith(allowed)
          and re.search(r"#[ \t]*include[ \t]*[<\"]sqlite3", read(path))])


@test
def every_folder_with_sources_has_a_readme():
    folders = {os.path.dirname(path) for path in files
               if path.endswith((".c", ".h")) and not path.startswith(("tests/", "web/"))}
    tell([f"{folder}/README.md is missing" for folder in sorted(folders | {"tests"})
          if folder + "/README.md" not in files])


@test
def every_test_file_is_listed():
    table = read("tests/meson.build")
    tell([f"{path} is not in tests/meson.build" for path in files
          if re.fullmatch(r"tests/.*/test_[^/]*\.(c|py)", path) and f"'{path[len('tests/'):]}'" not in table])


@test
def every_source_file_is_built():
    def listed(path):
        folder, name = os.path.split(path)
        while True:
            build = os.path.join(folder, "meson.build")
            if build in files and re.search(r"['/]" + re.escape(name) + "'", read(build)):
                return True
            if not folder:
                return False
            folder = os.path.dirname(folder)
    tell([f"{path} is in no meson.build" for path in c_files if path.endswith(".c") and not listed(path)])


@test
def headers_are_included_once():
    tell([f"{path} lacks #pragma once" for path in c_files if path.endswith(".h") and "#pragma once" not in read(path)])


@test
def no_file_names_the_machine_it_was_written_on():
    # Spelt so that this file does not name them either.
    words = [r"(?<![\w.~-])/wo" r"rk/", r"(?<![\w.~-])/ro" r"ot/", r"\bfa" r"rm\b"]
    tell([f"{path}: {match.group(0)}" for path in files
          for match in [re.search("|".join(words), path + "\n" + read(path), re.IGNORECASE)] if match])


@test
def nothing_is_left_for_later():
    words = r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b"
    tell([f"{path}: {match.group(0)}" for path in files
          for match in [re.search(words, read(path))] if match])


@test
def layout_is_as_clang_format_has_it():
    sources = [path for path in files if path.endswith((".c", ".h")) and not path.startswith("web/")]
    checked = subprocess.run(["clang-format", "--dry-run", "--Werror", *sources], cwd=source, capture_output=True)
    tell(sorted({line.split(":")[0] for line in checked.stderr.decode().splitlines() if "clang-format" in line}))


run()

#!/usr/bin/python3
"""The second reader against what the texts promise: TAP on stdout, exit 1 when a test failed.

Always: the reader against the reference repository, and against repositories that are damaged or odd.
With HOLDFAST_READER_REPOSITORY also against a real repository; README.md lists the variables.
"""
import contextlib
import functools
import io
import itertools
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))

import holdfast_reader
import holdfast_writer
import log_rules
import manifests
import primitives
from holdfast_writer import File, PackWriter, RepositoryWriter, Session, VaultWriter
from primitives import Fault
from tap import run, skip
from tap import test as tap_test

REFERENCE = os.path.join(HERE, "reference")
KEY_FILE = os.path.join(REFERENCE, "key-file")

scratch = None  # a fresh folder for each test


def test(function):

    @functools.wraps(function)
    def in_scratch():
        global scratch
        with tempfile.TemporaryDirectory(prefix="hf-reader-") as scratch:
            function()

    return tap_test(in_scratch)


# -------------------------------------------------------------------------------------------------------------- support


def read(repository, *arguments, opener=("--key-file", KEY_FILE)):
    """Runs the reader in this process: (exit status, all that it printed)."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = holdfast_reader.main([repository, *opener, *arguments])
    return status, out.getvalue()


def read_ok(*arguments, **options):
    status, text = read(*arguments, **options)
    assert status == 0, text
    return text


def refused(*arguments, naming):
    status, text = read(*arguments)
    assert status == 1 and naming in text, f"{naming!r} is not in: {text}"


def copy_of_reference():
    target = os.path.join(scratch, "repository")
    shutil.copytree(os.path.join(REFERENCE, "repository"), target)
    return target


def all_files(folder):
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)


def contents(folder):
    found = {}
    for path in all_files(folder):
        with open(path, "rb") as file:
            found[os.path.relpath(path, folder)] = file.read()
    return found


def describe_tree(folder):
    """The lines that expected-<backup id>.txt has."""
    lines = []
    for place, folders, names in os.walk(os.fsencode(folder)):
        for path in [os.path.join(place, name)
                     for name in folders + names] + ([place] if place == os.fsencode(folder) else []):
            name = os.path.relpath(path, os.fsencode(folder)).decode().removeprefix(".")
            facts = os.lstat(path)
            mode = f"{stat.S_IMODE(facts.st_mode):o}"
            if stat.S_ISLNK(facts.st_mode):
                lines.append(f"link\t{name}\t{os.readlink(path).decode()}")
            elif stat.S_ISDIR(facts.st_mode):
                lines.append(f"folder\t{name}\t{mode}")
            else:
                with open(path, "rb") as file:
                    digest = primitives.sha256(file.read()).hex()
                lines.append(f"file\t{name}\t{mode}\t{facts.st_mtime_ns // 1_000_000}\t{facts.st_size}\t{digest}")
    return "".join(line + "\n" for line in sorted(lines))


def expected_backups():
    for name in sorted(os.listdir(REFERENCE)):
        if name.startswith("expected-"):
            with open(os.path.join(REFERENCE, name), encoding="utf-8") as file:
                yield name.removeprefix("expected-").removesuffix(".txt"), file.read()


def small_repository():
    """A repository with one vault and nothing in it: (its writer, vault, signer)."""
    repository = RepositoryWriter(os.path.join(scratch, "small"), "a small repository")
    repository.add_key_file_slot("server", holdfast_writer.KEY_FILE_SECRET)
    signer = repository.add_signer("appliance")
    vault = VaultWriter(repository)
    vault.append_lineage(signer, "postgres", "1", "small")
    return repository, vault, signer


SMALL_TREE = {b"a": File(b"content of a"), b"b": File(bytes(range(256)) * 512, page_log2=13)}


def commit_small(vault, signer, tree=SMALL_TREE, **options):
    session = Session(vault, **options)
    session.intend(signer)
    session.write(signer, tree, {b"": 0o700}, {}, {})
    return session


# ------------------------------------------------------------------------------------------------------- the primitives


@test
def the_page_tag_is_siphash_2_4_128_as_published():
    key = bytes(range(16))
    assert primitives.page_tag(key, b"").hex() == "a3817f04ba25a8e66df67214c7550293"
    assert primitives.page_tag(key, b"\0").hex() == "da87c1d86b99af44347659119b22fc45"


@test
def both_ways_to_make_a_crc32c_agree_with_the_published_value():
    data = random.Random(1).randbytes(1000)
    assert primitives.crc32c_by_table(b"123456789") == 0xE3069283
    assert primitives.crc32c(b"123456789") == 0xE3069283
    assert primitives.crc32c(data[500:], primitives.crc32c(data[:500])) == primitives.crc32c_by_table(data)


@test
def checksums_of_two_parts_combine_to_that_of_the_whole():
    data = random.Random(2).randbytes(20000)
    for cut in (0, 1, 7, 8192, 11808, 19999, 20000):
        first, second = primitives.crc32c(data[:cut]), primitives.crc32c(data[cut:])
        assert primitives.crc32c_combine(first, second, len(data) - cut) == primitives.crc32c(data), cut


@test
def a_varint_has_one_spelling():
    for value in (0, 1, 127, 128, 300, 1 << 32, (1 << 64) - 1):
        cursor = primitives.Cursor(primitives.put_varint(value), "numbers")
        assert cursor.varint() == value
        cursor.finish()
    for bad in (b"\x80\x00", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\x80"):
        try:
            primitives.Cursor(bad, "numbers").varint()
        except Fault:
            continue
        raise AssertionError(f"{bad.hex()} was taken")


@test
def zigzag_goes_there_and_back():
    for value in (0, -1, 1, -2, 2, -(1 << 63), (1 << 63) - 1):
        assert primitives.Cursor(primitives.put_zigzag(value), "numbers").zigzag() == value


@test
def json_that_is_not_canonical_is_refused():
    good = '{"a":[1,-2,true,null,"é\\n\\u0001"],"b":{}}'.encode()
    assert primitives.canonical_json(primitives.parse_canonical_json(good, "text")) == good
    for bad in (b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1.0}', b'{"a":1,"a":1}', b"[]", b'{"a":NaN}', b'{"a":1}\n',
                b'{"a":"\\u00e9"}'):
        try:
            primitives.parse_canonical_json(bad, "text")
        except Fault:
            continue
        raise AssertionError(f"{bad} was taken")


# -------------------------------------------------------------------------------------------------------- the reference


@test
def the_reference_comes_out_the_same_each_time():
    made = os.path.join(scratch, "made")
    os.makedirs(made)
    holdfast_writer.write_reference(made)
    assert contents(made) == contents(REFERENCE)


@test
def the_reference_has_no_fault():
    text = read_ok(os.path.join(REFERENCE, "repository"), "check", "--full")
    assert "no faults" in text and "2 backups" in text, text


@test
def without_a_fast_crc32c_the_check_says_what_it_left_out():
    library = primitives._crc32c_library
    primitives._crc32c_library, holdfast_reader.have_fast_crc32c = None, False
    try:
        text = read_ok(os.path.join(REFERENCE, "repository"), "check")
    finally:
        primitives._crc32c_library, holdfast_reader.have_fast_crc32c = library, library is not None
    assert "no faults" in text and "CRC-32C of pages: one of 64" in text, text


@test
def every_backup_of_the_reference_is_extracted_as_it_was():
    found = 0
    for backup, expected in expected_backups():
        target = os.path.join(scratch, backup)
        read_ok(os.path.join(REFERENCE, "repository"), "extract", backup, target)
        assert describe_tree(target) == expected, backup
        found += 1
    assert found == 2


@test
def every_kind_of_slot_opens_the_same_repository():
    command_output = os.path.join(scratch, "printed")
    with open(command_output, "wb") as file:
        file.write(holdfast_writer.COMMAND_OUTPUT)
    for option, path in (("--key-file", KEY_FILE), ("--passphrase-file", os.path.join(REFERENCE, "passphrase")),
                         ("--recipient-secret", os.path.join(REFERENCE, "recipient-secret")), ("--command-output",
                                                                                               command_output)):
        text = read_ok(os.path.join(REFERENCE, "repository"), "list", opener=(option, path))
        assert text.count("(opened)") == 1 and text.count("COMMIT") == 4, text


@test
def a_wrong_key_is_called_wrong_and_not_damaged():
    for option, text in (("--key-file", "holdfast-key-1 " + "00" * 32), ("--passphrase-file", "guess"),
                         ("--recipient-secret", "holdfast-secret-1 " + "11" * 32)):
        path = os.path.join(scratch, "wrong")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        status, said = read(os.path.join(REFERENCE, "repository"), "list", opener=(option, path))
        assert status == 1 and "no slot opens with this" in said, said


@test
def the_log_says_which_commits_count():
    text = read_ok(os.path.join(REFERENCE, "repository"), "list")
    assert text.count(" COMMIT ") == 4
    assert "entry 6 COMMIT" in text and "void: its session was aborted before" in text
    assert "entry 12 COMMIT" in text and "void: epoch 0 is not 1" in text
    assert text.count("  backup ") == 2


# --------------------------------------------------------------------------------------------------------------- damage


def flipped_bits(repository, count):
    """Flips bits, one at a time, at both ends of every object and at `count` places between; yields where."""
    chance = random.Random(3)
    superseded = [
        path for path in all_files(repository)
        if path.endswith("-00000001") and os.path.exists(path.removesuffix("1") + "2")
    ]
    for path in all_files(repository):
        if path in superseded:
            continue  # an older generation is not read
        with open(path, "rb") as file:
            raw = file.read()
        ends = list(range(8)) + list(range(len(raw) - 4, len(raw)))
        for at in ends + [chance.randrange(len(raw)) for _ in range(count)]:
            with open(path, "wb") as file:
                file.write(raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1:])
            yield f"{path} byte {at}"
        with open(path, "wb") as file:
            file.write(raw)


@test
def every_flipped_bit_is_noticed():
    repository = copy_of_reference()
    for what in flipped_bits(repository, 6):
        status, text = read(repository, "check")
        assert status == 1, f"{what}: {text}"
    assert read(repository, "check")[0] == 0


@test
def every_missing_object_is_named():
    repository = copy_of_reference()
    last_entries = tuple(
        max(all_files(os.path.join(place, "log")))
        for place in (os.path.join(repository, "vaults", name)
                      for name in os.listdir(os.path.join(repository, "vaults"))))
    for path in all_files(repository):
        name = os.path.relpath(path, repository)
        if "slot-" in name or "-00000001" in name or "-00000002" in name or path in last_entries:
            continue  # another slot, an older generation or the log's end: only the newest known head would tell
        away = os.path.join(scratch, "away")
        os.rename(path, away)
        status, text = read(repository, "check")
        os.rename(away, path)
        wanted = f"log entry {int(os.path.basename(name), 16)} " if "/log/" in name else os.path.basename(name)
        assert status == 1 and wanted in text, f"{name}: {text}"


@test
def a_bundle_older_than_the_log_knows_is_noticed():
    repository = copy_of_reference()
    newest = [path for path in all_files(repository) if path.endswith("/keys-00000002")]
    os.unlink(newest[0])
    refused(repository, "check", naming="its newest bundle is generation 1, its log knows 2")


@test
def a_pack_under_the_name_of_another_is_refused():
    repository = copy_of_reference()
    packs = [path for path in all_files(repository) if "/packs/" in path]
    shutil.copy(packs[0], packs[1])
    refused(repository, "check", naming=f'pack "{os.path.basename(packs[1])}"')


@test
def a_log_entry_put_in_the_place_of_another_is_refused():
    repository = copy_of_reference()
    entries = [path for path in all_files(repository) if "/log/" in path]
    shutil.copy(entries[1], entries[2])
    refused(repository, "check", naming="its sequence")


@test
def an_entry_by_somebody_who_is_no_signer_is_refused():
    repository, vault, _ = small_repository()
    stranger = holdfast_writer.Signer(holdfast_writer.Draws("a stranger"), "stranger", 0)
    vault.append("END", stranger, {"session": bytes(16).hex()})
    refused(repository.root, "check", naming="who is no signer here")


# -------------------------------------------------------------------------------------------------- which commits count


def commit_without_intent(repository, vault, signer, session):
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


def commit_after_end(repository, vault, signer, session):
    session.intend(signer)
    vault.append("END", signer, {"session": session.id.hex()})
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


def commit_twice(repository, vault, signer, session):
    session.intend(signer)
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})
    session.backup, session.places = vault.draws.id(), {}
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


def abort_after_commit(repository, vault, signer, session):
    session.intend(signer)
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})
    vault.append("ABORT", signer, {"session": session.id.hex(), "reason": "late"})


def abort_before_intent(repository, vault, signer, session):
    vault.append("ABORT", signer, {"session": session.id.hex(), "reason": "early"})
    session.intend(signer)
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


def commit_from_epoch(mine, highest):

    def write(repository, vault, signer, session):
        session.intend(signer)
        vault.append("EPOCH", signer, {"epoch": highest}, epoch=highest)
        session.epoch = mine
        session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})

    return write


def lower_epoch_after_higher(repository, vault, signer, session):
    vault.append("EPOCH", signer, {"epoch": 2}, epoch=2)
    vault.append("EPOCH", signer, {"epoch": 1}, epoch=2)
    session.epoch = 2
    session.intend(signer)
    session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


# What is written to a log, how many backups then count, and why the others are void.
LOGS = [(commit_without_intent, 0, "void: its session has no INTENT"),
        (commit_after_end, 0, "void: its session was ended before"),
        (commit_twice, 1, "void: its session was committed before"), (abort_after_commit, 1, ""),
        (abort_before_intent, 1, ""), (commit_from_epoch(2, 3), 0, "void: epoch 2 is not 3"),
        (commit_from_epoch(4, 3), 0, "void: epoch 4 is not 3"), (commit_from_epoch(3, 3), 1, ""),
        (lower_epoch_after_higher, 1, "")]


def write_log(write):
    shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
    repository, vault, signer = small_repository()
    write(repository, vault, signer, Session(vault))
    return repository.root


@test
def a_commit_counts_or_is_void_as_the_text_says():
    for write, count, why in LOGS:
        text = read_ok(write_log(write), "list")
        assert text.count("  backup ") == count and why in text, f"{write.__name__}: {text}"


@test
def a_pruned_backup_may_lose_its_packs():
    repository, vault, signer = small_repository()
    session = commit_small(vault, signer)
    packs = [path for path in all_files(repository.root) if "/packs/" in path]
    vault.append("PRUNE", signer, {"backups": [session.backup.hex()], "reason": "expired"})
    for kind in ("CONDEMN", "DELETE"):
        vault.append(kind, signer, {"packs": [os.path.basename(path) for path in packs], "reason": "unused"})
    for path in packs:
        os.unlink(path)
    assert "0 packs" in read_ok(repository.root, "list")
    read_ok(repository.root, "check")


# -------------------------------------------------------------------------------------------------------------- content


@test
def a_file_with_lost_pages_is_not_extracted_and_says_which():
    repository, vault, signer = small_repository()
    session = commit_small(vault, signer, {b"b": File(SMALL_TREE[b"b"].content, page_log2=13, lost={2, 3})})
    assert 'file "b": pages 2 to 3 are lost' in read_ok(repository.root, "check")
    refused(repository.root, "extract", session.backup.hex(), os.path.join(scratch, "out"),
            naming="pages 2 to 3 are lost")


@test
def a_tablespace_with_content_becomes_a_folder():
    tree = {b"pg_tblspc/1/PG_15/a": File(b"behind the link")}
    links = {b"pg_tblspc/1": b"/srv/fast", b"pg_tblspc/2": b"/srv/slow"}
    for folders in (b"", b"pg_tblspc", b"pg_tblspc/1/PG_15"), (b"", b"pg_tblspc", b"pg_tblspc/1", b"pg_tblspc/1/PG_15"):
        shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
        shutil.rmtree(os.path.join(scratch, "out"), ignore_errors=True)
        repository, vault, signer = small_repository()
        session = Session(vault)
        session.intend(signer)
        session.write(signer, tree, {folder: 0o700 for folder in folders}, links, {})
        read_ok(repository.root, "check")
        said = read_ok(repository.root, "extract", session.backup.hex(), os.path.join(scratch, "out"))
        assert 'link "pg_tblspc/1" -> "/srv/fast": a folder' in said, said
        assert contents(os.path.join(scratch, "out/pg_tblspc/1")) == {"PG_15/a": b"behind the link"}
        assert os.readlink(os.path.join(scratch, "out/pg_tblspc/2")) == "/srv/slow"


@test
def a_backup_is_never_extracted_into_a_folder_that_holds_something():
    repository, vault, signer = small_repository()
    session = commit_small(vault, signer)
    refused(repository.root, "extract", session.backup.hex(), scratch, naming="is not empty")


@test
def a_path_that_leads_out_of_the_target_is_refused():
    for name in (b"..", b".", b"a/b", b"", b"a\nb", b"x" * 256):
        shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
        repository, vault, signer = small_repository()
        session = Session(vault)
        session.intend(signer)
        encode = session._encode_manifest_page
        session._encode_manifest_page = lambda files, leaves, name=name, encode=encode: encode(files, leaves).replace(
            primitives.put_string(b"NAME"), primitives.put_string(name))
        session.write(signer, {b"NAME": File(b"x")}, {b"": 0o700}, {}, {})
        status, text = read(repository.root, "extract", session.backup.hex(), os.path.join(scratch, "out"))
        assert status == 1 and ("is no path of a backup" in text or 'holds a "/"' in text
                                or "at most 255" in text), text


# Ways to write what is sealed, signed and named as it should be, and yet is not true.


@contextlib.contextmanager
def swapped(place, name, make):
    """Replaces an attribute by make(the old one) for a while."""
    old = getattr(place, name)
    setattr(place, name, make(old))
    try:
        yield
    finally:
        setattr(place, name, old)


def lie_in_commit_row(column, value):

    def lie(repository, vault, signer):

        def make(finish):
            return lambda pack: [value if at == column else item for at, item in enumerate(finish(pack))]

        with swapped(PackWriter, "finish", make):
            commit_small(vault, signer)

    return lie


def lie_in_directory(change):

    def lie(repository, vault, signer):
        with swapped(PackWriter, "directory", lambda old: lambda pack: change(old(pack))
                     if pack.kind == 1 else old(pack)):
            commit_small(vault, signer)

    return lie


def lie_in_page_list(repository, vault, signer):

    def make(add_pages):

        def add(pack, runs, compress=True):
            before = len(pack.page_rows)
            number = add_pages(pack, runs, compress)
            rows = bytearray(pack.page_rows)
            rows[before + 4] ^= 1  # behind length, count, ordinal and page size: the first page
            pack.page_rows = bytes(rows)
            return number

        return add

    with swapped(PackWriter, "add_pages", make):
        commit_small(vault, signer)


def lie_in_gap(repository, vault, signer):

    def add_gap(pack, count):
        pack.raw += b"\1" * count

    with swapped(PackWriter, "add_gap", lambda old: add_gap):
        session = Session(vault)
        session.intend(signer)
        session.write(signer, SMALL_TREE, {b"": 0o700}, {}, {}, gap_before=1)


def lie_in_slab_offsets(repository, vault, signer):

    def make(seal):
        offsets = []

        def wrapper(pack, key, number, *rest):
            offset, length = seal(pack, key, number, *rest)
            offsets.append(offset)
            return (offsets[0] if number == 1 and pack.kind == 1 else offset), length

        return wrapper

    with swapped(PackWriter, "_seal", make):
        commit_small(vault, signer)


def lie_in_slab_kind(repository, vault, signer):

    def make(add_pages):

        def add(pack, runs, compress=True):
            if pack.slab_count == 0:
                pack.add_objects([(1, b"")])
            return add_pages(pack, runs, compress)

        return add

    with swapped(PackWriter, "add_pages", make):
        commit_small(vault, signer)


def lie_in_pack_session(repository, vault, signer):
    with swapped(Session, "_new_pack", lambda old: lambda session, kind: PackWriter(vault, kind, 1, bytes(16), 1)):
        commit_small(vault, signer)


def lie_in_root(change):

    def lie(repository, vault, signer):
        with swapped(Session, "_encode_root", lambda old: lambda session, *rest: old(session, *change(*rest))):
            commit_small(vault, signer)

    return lie


def lie_in_manifest_page(name, value):
    """Some function that the writer calls there gives something else."""

    def lie(repository, vault, signer):

        def make(encode):

            def wrapper(session, files, leaves):
                with swapped(holdfast_writer, name, lambda old: value):
                    return encode(session, files, leaves)

            return wrapper

        with swapped(Session, "_encode_manifest_page", make):
            commit_small(vault, signer)

    return lie


def lie_in_page_order(repository, vault, signer):
    with swapped(Session, "_encode_manifest_page",
                 lambda old: lambda session, files, leaves: old(session, files[::-1], leaves)):
        commit_small(vault, signer)


def lie_in_pages(change):

    def lie(repository, vault, signer):
        with swapped(File, "pages", lambda old: lambda file: change(old(file))):
            commit_small(vault, signer)

    return lie


def lie_in_summary_order(repository, vault, signer):

    def make(encode):

        def wrapper(session, *rest):
            with swapped(holdfast_writer.collections, "Counter", lambda old: Counted):
                return encode(session, *rest)

        return wrapper

    class Counted(dict):
        """Sorts backwards: its ids stand in the summary from the last to the first."""

        def __missing__(self, key):
            return 0

        def update(self, refs):
            for ref in refs:
                self[ref] += 1

        def __iter__(self):
            return iter([Backward(key) for key in self.keys()])

    class Backward(bytes):

        def __lt__(self, other):
            return bytes(self) > bytes(other)

    with swapped(Session, "_encode_root", make):
        commit_small(vault, signer)


def lie_in_checkpoint(repository, vault, signer):
    vault.append("CHECKPOINT", signer, {"sequence": 1, "head": bytes(32).hex()})


def lie_in_members(repository, vault, signer):
    vault.append("END", signer, {"session": bytes(16).hex(), "mood": "good"})


def lie_in_lineage(repository, vault, signer):
    other = VaultWriter(repository)
    other.append("LINEAGE", signer, {"engine": "postgres", "lineage": bytes(32).hex()}, {"identity": "2", "name": "x"})


def lie_in_intents(repository, vault, signer):
    session = Session(vault)
    session.intend(signer)
    session.intend(signer)


def lie_in_backup_id(repository, vault, signer):
    first, second = commit_small(vault, signer), Session(vault)
    second.intend(signer)
    second.backup = first.backup
    second.write(signer, SMALL_TREE, {b"": 0o700}, {}, {})


def lie_in_facts(repository, vault, signer):
    lie_in_root(lambda tree, folders, links, facts, *rest: (tree, folders, links, {"other": 1}, *rest))(repository,
                                                                                                        vault, signer)


def lie_in_signers(repository, vault, signer):
    stranger = holdfast_writer.Signer(repository.draws, "stranger", 0)
    repository.signers[-1] = (stranger, repository.signers[-1][1])
    repository.add_signer("brought in by a stranger")


def lie_in_key_epoch(repository, vault, signer):
    with swapped(holdfast_writer, "x25519_public", lambda old: lambda secret: bytes(32)):
        vault.add_key_epoch()


def lie_in_signature(repository, vault, signer):
    with swapped(signer, "secret", lambda old: holdfast_writer.ed25519_keys(bytes(32))[1]):
        vault.append("END", signer, {"session": bytes(16).hex()})


def lie_in_manifest_page_digest(repository, vault, signer):

    def make(encode):

        def wrapper(session, *rest):
            with swapped(holdfast_writer, "keyed_hash", lambda old: lambda *parts: bytes(32)):
                return encode(session, *rest)

        return wrapper

    with swapped(Session, "_encode_root", make):
        commit_small(vault, signer)


def lie_in_packs(repository, vault, signer):
    with swapped(
            Session, "commit",
            lambda old: lambda session, signer, root, rows, facts: old(session, signer, root, rows + rows[:1], facts)):
        commit_small(vault, signer)


def lie_in_root_ref(repository, vault, signer):
    with swapped(Session, "commit",
                 lambda old: lambda session, signer, root, *rest: old(session, signer, (root[0], 9, 0), *rest)):
        commit_small(vault, signer)


def lie_in_superblock(repository, vault, signer):
    os.unlink(os.path.join(repository.root, "holdfast-repository"))
    with swapped(repository, "root_key", lambda old: bytes(32)):
        repository._put_superblock()


GHOST = {b"ghost": File(b"")}

LIES = [(lie_in_commit_row(3,
                           bytes(32).hex()), "its SHA-256 is not that of log entry"),
        (lie_in_commit_row(2, 1000), "says 1000"), (lie_in_commit_row(1, 3), "says 3"),
        (lie_in_directory(lambda plain: plain[:-20] + bytes(16) + plain[-4:]),
         "the tag of page 3 is not that of the directory"),
        (lie_in_directory(lambda plain: plain[:-4] + bytes(4)), "the CRC-32C of page 3 is not that of the directory"),
        (lie_in_directory(lambda plain: plain + b"\0"), "are left over at the end"),
        (lie_in_page_list, "its page list is not that of the directory"),
        (lie_in_gap, "the gap before it is not zeros"), (lie_in_slab_offsets, "lies over what stands before it"),
        (lie_in_slab_kind, "is of kind 2 in a data pack"), (lie_in_pack_session, "which did not commit it"),
        (lie_in_root(lambda *rest: (*rest[:-1], {})), "its summary is"),
        (lie_in_root(lambda tree, *rest: ({**tree, **GHOST}, *rest)), "lists 2 files, its root says 3"),
        (lie_in_root(lambda tree, *rest: ({**tree, b"a": File(b"longer")}, *rest)), "its root says"),
        (lie_in_summary_order, "is not in the order of ids"), (lie_in_facts, "its facts are not those of its COMMIT"),
        (lie_in_manifest_page("crc32c", lambda data: 0), 'file "a": its CRC-32C does not match'),
        (lie_in_manifest_page("keyed_hash", lambda *parts: bytes(32)), 'file "a": its digest does not match'),
        (lie_in_page_order, "is not in the order of names"),
        (lie_in_pages(lambda pages: pages[:-1] + [pages[-1][:-1]]), "bytes are stored"),
        (lie_in_pages(lambda pages: pages[:-1] or pages), "covers 15 pages, 16 were expected"),
        (lie_in_manifest_page_digest, 'folder "", manifest page'), (lie_in_signature, "its signature is wrong"),
        (lie_in_packs, 'pack "0899f4ef82e8e31d6ea9fe6ae5d51dde" was committed before'),
        (lie_in_root_ref, "slab 9: the pack has 2 slabs"),
        (lie_in_checkpoint, "is not a checkpoint of this log at entry 1"),
        (lie_in_members, "['mood'] of its public part"),
        (lie_in_lineage, "its lineage is not the hash of engine and identity"), (lie_in_intents, "has begun before"),
        (lie_in_backup_id, "was committed before"),
        (lie_in_signers, 'the signature that brought in signer "brought in by a stranger" is wrong'),
        (lie_in_key_epoch, "the public key of epoch 2 is not that of its secret"),
        (lie_in_superblock, "was not made by the owner of the root key")]


@test
def what_is_well_sealed_but_untrue_is_named():
    for lie, naming in LIES:
        shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
        repository, vault, signer = small_repository()
        lie(repository, vault, signer)
        refused(repository.root, "check", naming=naming)


@test
def a_leaf_has_one_spelling():
    pack, other = bytes(15) + b"\1", bytes(15) + b"\2"
    places = [(pack, 7, 3), (pack, 7, 4), None, None, (pack, 7, 5), (other, 2, 0), "lost", (other, 2, 1)]
    leaf = manifests.Leaf(holdfast_writer.encode_leaf(13, places), "leaf")
    found = []
    for extent in leaf.extents:
        found += [{0: None, 3: "lost"}.get(extent.type, (extent.pack, extent.slab, extent.first + index))
                  for index in range(extent.count)]
    assert found == places
    zeros = bytes([1, 13, 0, 1, 1 << 2 | 0])
    assert manifests.Leaf(zeros, "leaf").pages == 1
    table = bytes([1, 13, 1]) + pack
    for bad, naming in ((bytes([1, 13, 0, 2, 4, 4]), "could be one"), (table + bytes([1, 4]), "does not use"),
                        (table + bytes([2, 6, 0, 0, 0, 5]),
                         "could be one"), (table + bytes([3, 6, 0, 0, 0, 4, 6, 0, 0, 1]), "goes on"),
                        (bytes([1, 13, 2]) + pack + pack + bytes([2, 6, 0, 0, 0, 6, 1, 0, 5]),
                         "twice"), (bytes([1, 13, 2]) + pack + other + bytes([2, 6, 1, 0, 0, 6, 0, 0, 5]),
                                    "order of first use"), (bytes([1, 13, 0, 1, 5]), "goes on from none"),
                        (bytes([1, 13, 0, 1, 0]), "too short"), (bytes([1, 17, 0, 0]), "page size")):
        try:
            manifests.Leaf(bad, "leaf")
        except Fault as fault:
            assert naming in str(fault), fault
            continue
        raise AssertionError(f"{bad.hex()} was taken")


# --------------------------------------------------------------------------------------------------------------- nonces


@test
def a_pack_left_in_staging_shows_its_nonces_once():
    repository, vault, signer = small_repository()
    commit_small(vault, signer, slab_bytes=1 << 20)
    before = sorted(read_ok(repository.root, "nonces").splitlines())
    assert len(before) == len(set(before)) == 5  # one slab of pages, two of objects, two directories
    pack = next(path for path in all_files(repository.root) if "/packs/" in path)
    staging = os.path.join(repository.root, "vaults", vault.id.hex(), "staging")
    os.makedirs(staging)
    with open(pack, "rb") as file, open(os.path.join(staging, os.path.basename(pack)), "wb") as torn:
        torn.write(file.read(256 + 32 + 40))
    assert sorted(read_ok(repository.root, "nonces").splitlines()) == before
    torn = PackWriter(vault, 1, 1, bytes(16), 1, folder="staging")
    torn.add_pages([(0, 13, 0, [b"never finished"])])
    repository.put(torn.name(), bytes(torn.raw))
    repository.put(os.path.join(os.path.dirname(torn.name()), bytes(16).hex()), b"")
    assert len(read_ok(repository.root, "nonces").splitlines()) == len(before) + 1


@test
def a_key_and_nonce_that_sealed_two_slabs_are_found():
    repository, vault, signer = small_repository()
    pack = PackWriter(vault, 1, 1, bytes(16), 1)
    pack.add_pages([(0, 13, 0, [b"one"])])
    pack.slab_count = 0
    pack.add_pages([(0, 13, 0, [b"two"])])
    repository.put(pack.name(), bytes(pack.raw))
    status, text = read(repository.root, "nonces")
    lines = [line for line in text.splitlines() if not line.startswith("slab ")]
    assert status == 1 and len(lines) == 2 and len(set(lines)) == 1 and "has key and nonce of another" in text, text


# ------------------------------------------------------------------------------------------------------------- our code


def our_program():
    build = os.environ.get("HOLDFAST_BUILD")
    if not build:
        skip("HOLDFAST_BUILD is not set")
    return os.path.join(build, "tests", "reader-our_code")


def our_code(*arguments):
    """Runs tests/reader/our_code.c: (exit status, what it printed)."""
    ran = subprocess.run([our_program(), *arguments], capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


def private_key_file():
    """A copy of the reference's, which nobody else may read."""
    path = os.path.join(scratch, "key-file")
    shutil.copy(KEY_FILE, path)
    os.chmod(path, 0o600)
    return path


def backups_in(text):
    return [line.split()[1] for line in text.splitlines() if line.strip().startswith("backup ")]


@test
def our_code_agrees_which_commits_count():
    for write, count, _ in LOGS:
        root = write_log(write)
        status, text = our_code("check", root, private_key_file())
        assert status == 0 and len(backups_in(text)) == count, f"{write.__name__}: {text}"
        assert backups_in(text) == backups_in(read_ok(root, "list")), write.__name__


def random_log(vault, signers, chance, count):
    """Entries of every kind about few backups, sessions and packs, so that many are allowed and many are not."""
    ids = {
        name: [bytes([number]) * 15 + bytes([at]) for at in range(1, many + 1)]
        for number, (name, many) in enumerate({"session": 0, "backup": 0, "pack": 0, "reader": 3}.items(), 1)
    }
    epoch = 0
    collections, condemned, held, given_up, brought = [], [], [], [], {}  # what was tried: many of the next steps follow up on it

    def draw(name, most=1):
        return [one.hex() for one in chance.choices(ids[name], k=chance.randint(1, most))]

    def new(name):
        ids[name].append(bytes([len(name)]) * 14 + len(ids[name]).to_bytes(2, "big"))
        return ids[name][-1].hex()

    for _ in range(count):
        kinds = ["INTENT", "COMMIT", "END", "ABORT", "PIN", "UNPIN", "PRUNE", "CONDEMN", "DELETE", "RELOCATE", "HOLD",
                 "RELEASE", "LOCK", "KEY", "EPOCH", "SHRED", "VERDICT"]
        kind = chance.choices(kinds, [20, 30, 3, 3, 6, 6, 12, 12, 12, 8, 3, 4, 5, 1, 1, 0.1, 1])[0]
        public, sealed, at = {}, None, epoch if chance.random() < 0.95 else chance.randrange(epoch + 2)
        if not ids["pack"] or not ids["backup"] or not ids["session"]:
            kind = "INTENT" if not ids["session"] else "COMMIT"
        if kind == "INTENT":
            public = {
                "session": new("session"), "operation": chance.choice(["backup", "backup", "collect"]),
                "parents": draw("backup", 2) if ids["backup"] and chance.random() < 0.5 else [],
                "builds_on": draw("session")[0] if chance.random() < 0.15 else None
            }
            if public["operation"] == "collect":
                collections.append(public["session"])
        elif kind == "COMMIT":
            rows = [[new("pack"), chance.choice([1, 2]), 100, "00" * 32] for _ in range(chance.randint(1, 3))]
            parent = draw("backup")[0] if ids["backup"] and chance.random() < 0.2 else None
            public = {
                "session": chance.choice(ids["session"][-4:]).hex(), "backup": new("backup"), "parent": parent,
                "root": {"pack": rows[0][0], "slab": 0, "index": 0}, "packs": rows, "dropped": []
            }
            sealed = {"source": "clinic", "facts": {}}
            brought[public["backup"]] = [row[0] for row in rows]
        elif kind in ("END", "ABORT"):
            public = {"session": draw("session")[0], **({"reason": "late"} if kind == "ABORT" else {})}
        elif kind in ("PIN", "UNPIN"):
            public = {"reader": draw("reader")[0], "backup": draw("backup")[0]}
        elif kind == "PRUNE":
            public = {"backups": draw("backup", 2), "reason": "expired"}
            given_up += public["backups"]
        elif kind in ("CONDEMN", "DELETE"):
            packs = draw("pack", 2)
            if kind == "CONDEMN":
                packs = brought[chance.choice(given_up)] if given_up and chance.random() < 0.7 else packs
                condemned += packs
            elif condemned:
                packs = [chance.choice(condemned)]
            public = {"packs": packs, "reason": "unused"}
        elif kind == "RELOCATE":
            target = chance.choice([chance.randbytes(16).hex(), draw("pack")[0]])
            public = {
                "session": chance.choice(collections[-2:] or draw("session")),
                "packs": [[pack, target] for pack in draw("pack", 2)],
                "objects": [[target, 10, "00" * 32]][:chance.choice([0, 1, 1, 1])]
            }
        elif kind in ("HOLD", "LOCK"):
            until = chance.choice([0, 10**14, holdfast_writer.START + chance.randrange(10**6)])
            public = {"backup": chance.choice(ids["backup"][-3:]).hex(), "until": None if kind == "HOLD" and chance.random() < 0.5 else until}
            sealed = {"reason": "r", "person": "p"}
            held.append((public["backup"], vault.sequence + 1))
        elif kind == "RELEASE":
            backup, number = chance.choice(held or [(draw("backup")[0], 1)])
            public, sealed = {"backup": backup}, {"reason": "r", "person": "p"}
            if chance.random() < 0.7:
                public["hold"] = chance.choice([None, number, number, number + 1])
        elif kind == "KEY":
            public = {"generation": 1, "slots": []}  # that of the one bundle there is: our code misses a newer one
        elif kind == "EPOCH":
            at = epoch = max(1, epoch + chance.randrange(2))
            public = {"epoch": at if chance.random() < 0.8 else at + 1}
        elif kind == "SHRED":
            public, sealed = {"generation": 1}, {"reason": "r", "person": "p"}
        else:
            public = {"backup": draw("backup")[0], "attempt": chance.randbytes(16).hex(), "result": "passed", "state": "proven"}
            sealed = {}
        vault.append(kind, chance.choices(signers, [4, 1])[0], public, sealed, epoch=at)
    for signer in signers:  # and everything is closed, so that the vault may be shredded
        for session in reversed(ids["session"]):
            vault.append("ABORT", signer, {"session": session.hex(), "reason": "late"}, epoch=epoch)
        for reader in ids["reader"]:
            for backup in ids["backup"]:
                vault.append("UNPIN", signer, {"reader": reader.hex(), "backup": backup.hex()}, epoch=epoch)
    for pack in condemned:
        vault.append("DELETE", signers[0], {"packs": [pack], "reason": "unused"}, epoch=epoch)
    for signer in signers:
        vault.append("SHRED", signer, {"generation": 1}, {"reason": "r", "person": "p"}, epoch=epoch)
        vault.append("INTENT", signer, {"session": new("session"), "operation": "backup", "parents": [], "builds_on": None},
                     epoch=epoch)


@test
def our_code_judges_every_entry_of_random_logs_alike():
    seen = set()
    least, missing = int(os.environ.get("HOLDFAST_READER_LOGS", "10")), True
    for seed in itertools.count():
        if seed >= 5 * least or (seed >= least and not missing): # ids are drawn, so no two runs are alike
            break
        shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
        repository, vault, signer = small_repository()
        random_log(vault, [signer, repository.add_signer("another")], random.Random(seed), 120)
        status, text = our_code("log", repository.root, private_key_file())
        opened = holdfast_reader.Repository(repository.root, holdfast_reader.Credential.from_arguments(
            holdfast_reader.parse_arguments([repository.root, "--key-file", KEY_FILE, "list"])))
        entries = opened.vaults[0].log.entries
        ours = "".join(f"{one.sequence} {one.kind} {'void' if one.void else 'counts'}\n" for one in entries)
        assert status == 0 and text == ours, f"seed {seed}: {text}\n{ours}"
        seen |= {(one.kind, one.void is None) for one in entries}
        missing = [(kind, counts) for kind in log_rules.RULES for counts in (True, False) if (kind, counts) not in seen]
    assert not missing, f"the histories were too tame: {missing}"


# What the writer of a repository can say falsely and our check does not compare (the second reader's does).
NOT_COMPARED = ("is not a checkpoint of this log at entry 1", "['mood'] of its public part")


@test
def our_code_notices_untruths_too():
    for lie, naming in LIES:
        if naming in NOT_COMPARED:
            continue
        shutil.rmtree(os.path.join(scratch, "small"), ignore_errors=True)
        repository, vault, signer = small_repository()
        lie(repository, vault, signer)
        status, text = our_code("check", repository.root, private_key_file())
        assert status in (1, 3), f"{naming}: {text}"


@test
def our_code_notices_every_flipped_bit_too():
    root, key_file = copy_of_reference(), private_key_file()
    status, text = our_code("check", root, key_file)
    assert status == 0, text
    for what in flipped_bits(root, 6):
        status, text = our_code("check", root, key_file)
        assert status in (1, 3), f"{what}: {text}"


class Trees:
    """A folder of files that changes from backup to backup as a database does."""

    def __init__(self, seed):
        self.chance, self.count = random.Random(seed), 0
        self.place = os.path.join(scratch, "tree")
        for folder in ("", "base", "base/5", "clinic", "empty", "log", "pg_tblspc"):
            os.makedirs(os.path.join(self.place, folder), exist_ok=True)
        os.symlink("/srv/fast", os.path.join(self.place, "pg_tblspc/16400"))
        for name in ("base/5/1", "base/5/2", "base/5/3", "clinic/t.ibd", "clinic/u.ibz", "log/a", "log/b", "Größe"):
            self.grow(name)
        with open(os.path.join(self.place, "base/5/sparse"), "wb") as file:
            file.truncate(40_000_000)
            file.seek(33_554_000)
            file.write(self.chance.randbytes(5000))
        for number in range(600):
            self.write(f"log/{number:04d}", 0, b"x" * (number % 3))
        os.chmod(os.path.join(self.place, "empty"), 0o711)
        os.chmod(os.path.join(self.place, "log/a"), 0o444)

    def write(self, name, at, data):
        path = os.path.join(self.place, name)
        with open(path, "r+b" if os.path.exists(path) else "xb") as file:
            file.seek(at)
            file.write(data)

    def grow(self, name):
        """Half of what is written compresses, some of it is zeros, and the end is at no page's border."""
        path = os.path.join(self.place, name)
        size = os.path.getsize(path) if os.path.exists(path) else 0
        for _ in range(self.chance.randrange(20, 60)):
            piece = self.chance.choice((self.chance.randbytes(8192), bytes(8192), self.chance.randbytes(64) * 128))
            self.write(name, size, piece)
            size += len(piece)
        self.write(name, size, self.chance.randbytes(self.chance.randrange(1, 4000)))

    def change(self):
        files = [path for path in all_files(self.place) if not os.path.islink(path)]
        names = [os.path.relpath(path, self.place) for path in files if os.path.getsize(path) > 100_000]
        for name in self.chance.sample(names, 4):
            for _ in range(10):
                size = os.path.getsize(os.path.join(self.place, name))
                self.write(name, self.chance.randrange(size), self.chance.randbytes(100))
        self.grow(self.chance.choice(names))
        os.truncate(os.path.join(self.place, self.chance.choice(names)), self.chance.randrange(100_000))
        self.count += 1
        self.grow(f"base/5/new-{self.count}")
        os.unlink(os.path.join(self.place, f"log/{self.count:04d}"))


@test
def what_our_code_writes_is_read_as_it_was():
    trees, expected = Trees(7), {}
    repository, key_file, cache = (os.path.join(scratch, name) for name in ("repository", "key-file", "cache"))
    os.makedirs(cache)
    for round_number in range(6):
        if round_number == 3:
            assert our_code("write", repository, key_file, cache, trees.place + "+abort")[0] == 0
        if round_number == 4:
            shutil.rmtree(cache)  # the tags then come from the packs
            os.makedirs(cache)
        status, text = our_code("write", repository, key_file, cache, trees.place)
        assert status == 0, text
        expected[text.split()[0]] = describe_tree(trees.place)
        trees.change()

    opener = ("--key-file", key_file)
    text = read_ok(repository, "check", "--full", opener=opener)
    assert "6 backups" in text and "no faults" in text, text
    for backup, tree in expected.items():
        target = os.path.join(scratch, backup)
        read_ok(repository, "extract", backup, target, opener=opener)
        assert describe_tree(target) == tree, backup
        shutil.rmtree(target)
    lines = read_ok(repository, "nonces", opener=opener).splitlines()
    assert len(lines) == len(set(lines)) >= 6 * 5
    status, text = our_code("check", repository, key_file)
    assert status == 0 and backups_in(text) == list(expected), text


@test
def what_our_code_moves_into_containers_is_read_as_it_was():
    trees, expected = Trees(11), {}
    repository, key_file, cache = (os.path.join(scratch, name) for name in ("repository", "key-file", "cache"))
    opener = ("--key-file", key_file)
    os.makedirs(cache)
    for round_number in range(5):
        status, text = our_code("write", repository, key_file, cache, trees.place)
        assert status == 0, text
        expected[text.split()[0]] = describe_tree(trees.place)
        trees.change()
        if round_number == 2:
            gone = list(expected)[:2]
            status, text = our_code("collect", repository, key_file, cache, *gone)
            assert status == 0 and text != "moved 0\n", text
            for backup in gone:
                del expected[backup]
    status, text = our_code("collect", repository, key_file, cache, *list(expected)[:2])  # out of the containers again
    assert status == 0 and text != "moved 0\n", text
    expected = dict(list(expected.items())[2:])

    text = read_ok(repository, "check", "--full", opener=opener)
    assert "1 backups" in text and " containers" in text and "no faults" in text and "note:" not in text, text
    for backup, tree in expected.items():
        target = os.path.join(scratch, backup)
        read_ok(repository, "extract", backup, target, opener=opener)
        assert describe_tree(target) == tree, backup
    lines = read_ok(repository, "nonces", opener=opener).splitlines()
    assert len(lines) == len(set(lines))
    status, text = our_code("check", repository, key_file)
    assert status == 0 and "damages 0" in text, text


@test
def writers_that_are_killed_never_seal_twice_with_one_key_and_nonce():
    trees, chance = Trees(8), random.Random(9)
    repository, key_file, cache = (os.path.join(scratch, name) for name in ("repository", "key-file", "cache"))
    os.makedirs(cache)
    status, text = our_code("write", repository, key_file, cache, trees.place)
    assert status == 0, text
    command = [our_program(), "write", repository, key_file, cache, trees.place]
    opener, ever, before, killed = ("--key-file", key_file), set(), set(), 0
    for _ in range(15):
        trees.change()
        writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            writer.wait(chance.uniform(0.005, 0.06))
        except subprocess.TimeoutExpired:
            writer.kill()
            killed += writer.wait() != 0
        lines = read_ok(repository, "nonces", opener=opener).splitlines()
        now = set(lines)
        assert len(lines) == len(now)
        assert not (now - before) & ever, "a pair came back that was gone: something new was sealed with it"
        ever, before = ever | now, now
    assert killed > 0
    status, text = our_code("write", repository, key_file, cache, trees.place)
    assert status == 0, text
    assert "no faults" in read_ok(repository, "check", opener=opener)


# ---------------------------------------------------------------------------------------------------- a real repository


def real_repository():
    repository = os.environ.get("HOLDFAST_READER_REPOSITORY")
    if not repository:
        skip("HOLDFAST_READER_REPOSITORY is not set")
    for variable, option in (("KEY_FILE", "--key-file"), ("PASSPHRASE_FILE", "--passphrase-file"),
                             ("RECIPIENT_SECRET", "--recipient-secret")):
        path = os.environ.get(f"HOLDFAST_READER_{variable}")
        if path:
            return repository, (option, path)
    raise AssertionError(
        "HOLDFAST_READER_REPOSITORY needs HOLDFAST_READER_KEY_FILE, _PASSPHRASE_FILE or _RECIPIENT_SECRET")


def newest_backup(repository, opener):
    lines = read_ok(repository, "list", opener=opener).splitlines()
    backups = [line.split()[1] for line in lines if line.startswith("  backup ") and "pruned" not in line]
    assert backups, "the repository has no backup that counts"
    return backups[-1]


@test
def a_real_repository_has_no_fault():
    repository, opener = real_repository()
    print("# " + read_ok(repository, "check", opener=opener).replace("\n", "\n# "))


@test
def a_real_backup_is_extracted_as_its_source_is():
    repository, opener = real_repository()
    backup = os.environ.get("HOLDFAST_READER_BACKUP") or newest_backup(repository, opener)
    target = os.path.join(scratch, "out")
    read_ok(repository, "extract", backup, target, opener=opener)
    source = os.environ.get("HOLDFAST_READER_EXPECTED")
    if not source:
        skip(f"backup {backup} was extracted, but HOLDFAST_READER_EXPECTED is not set")
    difference = subprocess.run(["diff", "--recursive", "--no-dereference", "--brief", source, target],
                                capture_output=True, text=True)
    assert difference.returncode == 0, difference.stdout + difference.stderr


@test
def a_real_repository_never_sealed_twice_with_one_key_and_nonce():
    repository, opener = real_repository()
    lines = read_ok(repository, "nonces", opener=opener).splitlines()
    assert lines and len(lines) == len(set(lines))


run()

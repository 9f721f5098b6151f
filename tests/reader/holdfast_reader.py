#!/usr/bin/python3
"""The second reader: lists, checks and extracts a repository from the texts of its formats alone.

Written from the comments at the top of format.h, envelope.h, superblock.h, keys.h, vault_log.h,
pack.h, map.h and manifest.h in server/repository, and from nothing else.  Where this program and the
C code disagree, the text decides which of them is wrong.  README.md says how to use it.
"""
import argparse
import collections
import datetime
import hashlib
import mmap
import os
import struct
import sys

from primitives import Fault, crc32c, crc32c_combine, fail_unless, have_fast_crc32c, keyed_hash, page_tag
from objects import Credential, ID_TEXT, MIB, SLOT_KINDS
from packs import (PACK_HEADER, PACK_KINDS, PACK_TRAILER, PackHeader, SLAB_HEADER, SLAB_KIND_OF_PACK, SLAB_OBJECTS,
                   SLAB_PAGES, SlabHeader, page_length, round_up, split_pages_slab)
from containers import Container
from manifests import EXTENT_LOST, EXTENT_ZEROS, show
from repository import Backup, Repository


def time_text(milliseconds):
    try:
        moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


# ----------------------------------------------------------------------------------------------------------------- list


def list_everything(repository):
    print(f"repository {repository.id.hex()}, made {time_text(repository.superblock.created_at)}")
    for slot in repository.slots:
        opened = " (opened)" if slot is repository.slot else ""
        print(f'slot {slot.id.hex()} {SLOT_KINDS[slot.kind]} "{slot.label}"{opened}')
    for signer in repository.signers.signers:
        print(f'signer {signer.public.hex()} "{signer.name}", appliance {signer.appliance.hex()}')
    for vault in repository.vaults:
        log = vault.log
        house = " (house)" if vault.is_house else ""
        shut = "" if vault.keys else ", keys shredded"
        print(f'vault {vault.id.hex()}{house} {log.engine} "{log.name}" identity {log.identity}, '
              f"epoch {log.epoch}, {len(log.packs)} packs{shut}")
        for entry in log.entries:
            state = f"void: {entry.void}" if entry.void else "counts"
            print(f"  entry {entry.sequence} {entry.kind} {time_text(entry.time)} epoch {entry.epoch} "
                  f'signer "{entry.signer.name}" {state}')
        for commit in log.commits:
            parent = commit.parent.hex() if commit.parent else "none"
            source = f' source "{commit.entry.sealed["source"]}"' if commit.entry.sealed else ""
            pruned = f" pruned by entry {commit.pruned.sequence}" if commit.pruned else ""
            print(f"  backup {commit.backup.hex()} entry {commit.entry.sequence} parent {parent}{source}{pruned}")


# -------------------------------------------------------------------------------------------------------------- extract


def extract(backup, target):
    """Writes the whole backup; every file is compared with its digest and CRC-32C before the next."""
    target = os.fsencode(target)
    os.makedirs(target, exist_ok=True)
    fail_unless(not os.listdir(target), f'target "{os.fsdecode(target)}" is not empty')
    check_places(backup)
    folders, links = split_links(backup.root)
    for path in sorted(folders):
        if path:
            os.mkdir(os.path.join(target, path), 0o700)
    count = total = 0
    for file in backup.files():
        extract_file(backup, file, os.path.join(target, file.path))
        count, total = count + 1, total + file.size
    for link in links:
        os.symlink(link.target, os.path.join(target, link.path))
    for path in sorted(folders, reverse=True):
        os.chmod(os.path.join(target, path), folders[path])
    print(f"extracted {count} files, {total} bytes, {len(folders)} folders, {len(links)} links")


def check_places(backup):
    """What a folder or a link lies in must be a folder of the backup, or a link whose content the backup has."""
    root = backup.root
    known = {folder.path for folder in root.folders} | {link.path for link in root.links}
    for path in known - {b""}:
        fail_unless(
            os.path.dirname(path) in known, f'{backup.what}: "{show(path)}" lies in a folder that is not listed')


def split_links(root):
    """(path -> mode of all folders, the links): a link with something below it is a folder that lay elsewhere."""
    folders, links = {folder.path: folder.mode for folder in root.folders}, []
    for link in root.links:
        if link.path in folders or any(path.startswith(link.path + b"/") for path in folders):
            folders.setdefault(link.path, 0o700)
            print(f'link "{show(link.path)}" -> "{show(link.target)}": a folder with its content stands there')
        else:
            links.append(link)
    return folders, links


def extract_file(backup, file, path):
    tag_key = backup.vault.keys.tag_key
    tags, crc, written = bytearray(), 0, 0
    with open(path, "xb") as out:
        for data, length in backup.chunks(file):
            if data is None:
                out.seek(length, os.SEEK_CUR)
                data = bytes(length)
            else:
                out.write(data)
            tags += page_tag(tag_key, data)
            if have_fast_crc32c or file.size <= 1 * MIB:
                crc = crc32c(data, crc)
            written += length
        out.truncate(written)
    what = backup.file_what(file)
    fail_unless(written == file.size, f"{what}: {written} bytes were found, {file.size} were expected")
    fail_unless(file_digest(backup.vault, file.size, tags) == file.digest, f"{what}: its digest does not match")
    fail_unless(crc == file.crc32c or not (have_fast_crc32c or file.size <= 1 * MIB),
                f"{what}: its CRC-32C does not match")
    os.chmod(path, file.mode)
    os.utime(path, ns=(file.modified_at * 1_000_000, ) * 2)


def file_digest(vault, size, tags):
    return keyed_hash(vault.keys.digest_key, b"holdfast file", tags, struct.pack("<Q", size))


# ---------------------------------------------------------------------------------------------------------------- check


class Check:
    """Walks from the log to the store and back.  Goes on after a fault, so that all are named."""

    CRC_SAMPLE = 64  # without a fast CRC-32C: one page of so many, unless --full

    def __init__(self, repository, full):
        self.repository = repository
        self.crc_step = 1 if full or have_fast_crc32c else self.CRC_SAMPLE
        self.faults = 0
        self.counts = collections.Counter()
        self.zero_tags, self.zero_crcs = {}, {}

    def attempt(self, step, *arguments):
        try:
            return step(*arguments)
        except Fault as fault:
            self.faults += 1
            print(f"FAULT {fault}")
            return None

    def run(self):
        for vault in self.repository.vaults:
            self.attempt(vault.check_key_generation)
            for entry in vault.log.entries:
                self.counts["log entries"] += 1
                self.attempt(entry.check_members)
            if vault.keys is None:
                continue
            for committed in vault.log.packs.values():
                self.attempt(self.check_pack, vault, committed)
            for used in set(vault.log.relocated.values()):
                self.attempt(self.check_container, vault, vault.log.objects[used])
            for commit in vault.log.commits:
                if commit.pruned is None:
                    self.attempt(self.check_backup, vault, commit)
            self.note_strangers(vault)
        print("checked " + ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())))
        if self.crc_step > 1:
            print(f"CRC-32C of pages: one of {self.crc_step} (no fast CRC-32C here; --full checks all)")
        print("no faults" if self.faults == 0 else f"{self.faults} faults")
        return self.faults == 0

    # from the log to the store: packs

    def check_pack(self, vault, committed):
        pack, told = vault.pack(committed.id), committed.commit.entry.what
        self.counts["packs"] += 1
        if pack.container is None:
            fail_unless(pack.size == committed.bytes,
                        f"{pack.what}: has {pack.size} bytes, {told} says {committed.bytes}")
            running = hashlib.sha256()
            for offset in range(0, pack.size, MIB):
                running.update(pack.read(offset, min(MIB, pack.size - offset)))
            fail_unless(running.digest() == committed.sha256, f"{pack.what}: its SHA-256 is not that of {told}")
        fail_unless(pack.header.kind == committed.kind,
                    f"{pack.what}: is of kind {pack.header.kind}, {told} says {committed.kind}")
        sessions = vault.log.sessions_behind(committed.commit.session)
        fail_unless(pack.header.session in sessions,
                    f'{pack.what}: is of session "{pack.header.session.hex()}", which did not commit it')
        if pack.container is None:
            self.check_gaps(pack)
        for number, row in enumerate(pack.slabs):
            if row.offset is not None:
                self.attempt(self.check_slab, vault, pack, number)

    def check_container(self, vault, told):
        """As a whole, against the RELOCATE; its packs are checked each by itself."""
        container = vault.containers.get(told.id, lambda: Container(vault, told.id, vault.object_name(told.id)))
        self.counts["containers"] += 1
        fail_unless(container.size == told.bytes, f"{container.what}: has {container.size} bytes, not {told.bytes}")
        fail_unless(container.sha256() == told.sha256, f"{container.what}: its SHA-256 is not that of its RELOCATE")
        session = vault.log.sessions.get(container.session)
        fail_unless(session is not None and session.collects, f"{container.what}: is of a session that does not collect")

    @staticmethod
    def check_gaps(pack):
        """Slabs follow each other, and only zeros lie between them."""
        places = [(row.offset, SLAB_HEADER + row.sealed_length + 16, pack.slab_what(number))
                  for number, row in enumerate(pack.slabs)]
        places.append((pack.directory_offset, pack.directory_length, f"{pack.what}, directory"))
        places.append((pack.size - PACK_TRAILER, PACK_TRAILER, f"{pack.what}, trailer"))
        end = PACK_HEADER
        for offset, length, what in places:
            fail_unless(offset >= end, f"{what}: lies over what stands before it")
            fail_unless(not any(pack.read(end, offset - end)), f"{what}: the gap before it is not zeros")
            end = offset + length

    def check_slab(self, vault, pack, number):
        what = pack.slab_what(number)
        row = pack.slabs[number]
        wanted = SLAB_KIND_OF_PACK.get(pack.header.kind)
        fail_unless(wanted is None or row.kind == wanted,
                    f"{what}: is of kind {row.kind} in a {PACK_KINDS[pack.header.kind]} pack")
        self.counts["slabs"] += 1
        if row.kind == SLAB_OBJECTS:
            self.counts["map objects"] += len(pack.objects(number))
            return
        plain = pack.slab(number)
        if row.kind != SLAB_PAGES:
            return
        raw_list, runs, at = split_pages_slab(plain, what)
        fail_unless(raw_list == pack.page_lists[number], f"{what}: its page list is not that of the directory")
        checks, index = pack.checks[number], 0
        for run in runs:
            for page in range(run.first, run.first + run.count):
                length = page_length(run, page)
                data = plain[at:at + length]
                fail_unless(
                    page_tag(vault.keys.tag_key, data) == checks.tags[16 * index:16 * index + 16],
                    f"{what}: the tag of page {index} is not that of the directory")
                if index % self.crc_step == 0:
                    fail_unless(
                        crc32c(data) == checks.crcs[index],
                        f"{what}: the CRC-32C of page {index} is not that of the directory")
                at, index = at + length, index + 1
        self.counts["stored pages"] += index

    # from the log to the store: backups

    def check_backup(self, vault, commit):
        backup = Backup(vault, commit)
        self.counts["backups"] += 1
        live = collections.Counter()  # pack -> how often its pages or objects are pointed to
        count = total = 0
        for file in backup.files():
            self.attempt(self.check_file, backup, file, live)
            live.update(ref.pack for ref in file.leaves)
            count, total = count + 1, total + file.size
        self.counts["files"] += count
        root = backup.root
        fail_unless(count == root.file_count, f"{backup.what}: lists {count} files, its root says {root.file_count}")
        fail_unless(total == root.logical_bytes,
                    f"{backup.what}: its files have {total} bytes, its root says {root.logical_bytes}")
        check_places(backup)
        live.update(page.ref.pack for folder in root.folders for page in folder.pages)
        fail_unless(
            live == root.summary, f"{backup.what}: its summary is {self.summary_text(root.summary)}, "
            f"its maps use {self.summary_text(live)}")

    @staticmethod
    def summary_text(summary):
        return "{" + ", ".join(f"{pack.hex()}: {pages}" for pack, pages in sorted(summary.items())) + "}"

    def check_file(self, backup, file, live):
        """Digest and CRC-32C of the file from the tags and sums of its pages, which check_slab() has proven."""
        vault, what = backup.vault, backup.file_what(file)
        tags, crc, left, lost = [], 0, file.size, False
        for first, leaf in backup.leaves(file):
            page = first
            for extent in leaf.extents:
                length = min(left, extent.count << file.page_log2)
                if extent.type == EXTENT_LOST:
                    lost = True
                    print(f"note: {what}: pages {page} to {page + extent.count - 1} are lost")
                elif extent.type == EXTENT_ZEROS:
                    crc = self.add_zeros(vault, tags, crc, length, 1 << file.page_log2)
                else:
                    crc = self.add_stored(vault, file, extent, page, length, tags, crc, f"{what}, page {page}")
                    live[extent.pack] += extent.count
                page, left = page + extent.count, left - length
        fail_unless(left == 0, f"{what}: {left} bytes have no pages")
        if lost:
            self.counts["files with lost pages"] += 1
            return
        fail_unless(file_digest(vault, file.size, b"".join(tags)) == file.digest, f"{what}: its digest does not match")
        fail_unless(crc == file.crc32c, f"{what}: its CRC-32C does not match")

    def add_zeros(self, vault, tags, crc, length, page_size):
        while length > 0:
            taken = min(length, page_size)
            key = vault.id, taken
            if key not in self.zero_tags:
                self.zero_tags[key] = page_tag(vault.keys.tag_key, bytes(taken))
                self.zero_crcs[taken] = crc32c(bytes(taken))
            tags.append(self.zero_tags[key])
            crc = crc32c_combine(crc, self.zero_crcs[taken], taken)
            length -= taken
        return crc

    def add_stored(self, vault, file, extent, page, length, tags, crc, what):
        """Pages from `page` on, `length` bytes, as the directory of their pack tells of them."""
        pack = vault.pack(extent.pack)
        where = f'{what} (pack "{extent.pack.hex()}", slab {extent.slab}, index {extent.first})'
        checks = pack.checks.get(extent.slab)
        fail_unless(checks is not None, f"{where}: the slab holds no pages")
        end = extent.first + extent.count
        fail_unless(end <= checks.count, f"{where}: {extent.count} pages from there are past the slab's {checks.count}")
        index, stored = extent.first, 0
        for run, first, count in checks.pieces(extent.first, extent.count):
            fail_unless(run.page_log2 == file.page_log2, f"{where}: index {index} is not a page of this file's size")
            if (pack.files[run.file][1], first) != (file.path, page):
                self.counts["pages stored for another place"] += count
            for number in range(first, first + count):
                size = page_length(run, number)
                crc = crc32c_combine(crc, checks.crcs[index], size)
                index, stored = index + 1, stored + size
            page += count
        fail_unless(stored == length, f"{where}: {stored} bytes are stored, {length} were expected")
        tags.append(checks.tags[16 * extent.first:16 * end])
        return crc

    # from the store to the log

    def note_strangers(self, vault):
        """Objects that no entry names are garbage for collection, not a fault."""
        known = {vault.pack_name(pack) for pack in vault.log.packs}
        for folder in vault.store.names(f"{vault.folder}/packs"):
            for name in vault.store.names(f"{vault.folder}/packs/{folder}"):
                if f"{vault.folder}/packs/{folder}/{name}" not in known:
                    print(f'note: pack "{name}" is not named by a COMMIT that counts')
        for name in vault.store.names(f"{vault.folder}/staging"):
            print(f'note: "{name}" was left in staging')


# --------------------------------------------------------------------------------------------------------------- nonces

SealedSlab = collections.namedtuple("SealedSlab", "key_id nonce number name offset length")


def print_nonces(repository):
    """
    Every (key id, nonce) that sealed a slab, key id being BLAKE2b-256 of the pack or directory key.
    A sealed slab that lies at two places (a link, a copy) is one use.  A pair that sealed two
    different slabs comes twice, and is a fault.
    """
    seen, good = {}, True
    for vault in repository.vaults:
        if vault.keys is None:
            continue
        for pack_id, name in all_packs(vault):
            for slab in sealed_slabs(vault, pack_id, name):
                others = seen.setdefault((slab.key_id, slab.nonce), [])
                if any(is_copy(repository.store, slab, other) for other in others):
                    continue
                print(slab.key_id, slab.nonce)
                if others:
                    good = False
                    print(f'slab {slab.number} of "{name}" has key and nonce of another in "{others[0].name}"',
                          file=sys.stderr)
                others.append(slab)
    return good


def all_packs(vault):
    """(pack id, object name) of all that lie in staging and in packs, named by the log or not."""
    found = []
    folders = [f"{vault.folder}/packs/{name}" for name in vault.store.names(f"{vault.folder}/packs")]
    for folder in folders + [f"{vault.folder}/staging"]:
        for name in vault.store.names(folder):
            match = ID_TEXT.match(name)
            fail_unless(match is not None, f'object "{folder}/{name}" is no pack')
            found.append((bytes.fromhex(match[0]), f"{folder}/{name}"))
    return found


def sealed_slabs(vault, pack_id, name):
    """
    Looks for slab headers at every 8-byte boundary, since a pack left in staging has no directory and
    may have holes.
    """
    with vault.store.open(name) as file:
        size = os.fstat(file.fileno()).st_size
        if size < PACK_HEADER:
            return
        header, at, is_container = None, PACK_HEADER, file.read(8) == b"HFCONT01"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            while (at := raw.find(b"HFSL", at)) >= 0:
                slab = slab_header_at(raw, at)
                if slab is not None and is_container:
                    start = raw.rfind(b"HFPACK01", 0, at)
                    pack_id = raw[start + 48:start + 64]
                    header = PackHeader(raw[start:start + PACK_HEADER], vault, pack_id, f'pack in "{name}"')
                if slab is None:
                    at += 1
                    continue
                if header is None:
                    header = PackHeader(raw[:PACK_HEADER], vault, pack_id, f'pack "{name}"')
                key_id = hashlib.blake2b(header.slab_key(slab.number), digest_size=32).hexdigest()
                length = SLAB_HEADER + slab.sealed_length + 16
                yield SealedSlab(key_id, header.nonce(slab.number).hex(), slab.number, name, at, min(length, size - at))
                at = round_up(at + length)


def slab_header_at(raw, at):
    try:
        return SlabHeader(raw[at:at + SLAB_HEADER], "slab") if at % 8 == 0 else None
    except Fault:
        return None


def is_copy(store, a, b):
    """Whether one may be a copy of the other, of which a crash may have kept only the front."""
    length = min(a.length, b.length)
    pieces = []
    for slab in (a, b):
        with store.open(slab.name) as file:
            pieces.append(os.pread(file.fileno(), length, slab.offset))
    return pieces[0] == pieces[1]


# ----------------------------------------------------------------------------------------------------------------- main


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description="Reads a Holdfast repository without Holdfast.")
    parser.add_argument("repository")
    opener = parser.add_mutually_exclusive_group(required=True)
    opener.add_argument("--key-file", help="one line: holdfast-key-1 <64 hex digits>")
    opener.add_argument("--passphrase-file", help="the passphrase; one line end is dropped")
    opener.add_argument("--recipient-secret", help="one line: holdfast-secret-1 <64 hex digits>")
    opener.add_argument("--command-output", help="the 32 bytes that a slot's command printed")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="vaults, log entries and backups")
    action = actions.add_parser("extract", help="write all files of a backup")
    action.add_argument("backup")
    action.add_argument("target", help="an empty or missing folder")
    action = actions.add_parser("check", help="open and compare everything that counts")
    action.add_argument("--full", action="store_true", help="CRC-32C of every page even when that is slow")
    actions.add_parser("nonces", help="key id and nonce of every sealed slab")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        repository = Repository(arguments.repository, Credential.from_arguments(arguments))
        if arguments.action == "list":
            list_everything(repository)
        elif arguments.action == "extract":
            extract(repository.backup(arguments.backup), arguments.target)
        elif arguments.action == "check":
            return 0 if Check(repository, arguments.full).run() else 1
        else:
            return 0 if print_nonces(repository) else 1
    except (Fault, OSError) as fault:
        print(f"holdfast_reader: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

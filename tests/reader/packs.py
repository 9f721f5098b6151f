"""Packs, slabs and directories: pack.h."""
import bisect
import collections
import os
import struct

from primitives import Cursor, NONCE_BYTES, aead_open, crc32c, fail_unless, key_commitment, keyed_hash, zstd_decompress
from objects import (DIRECTORY_MOST, MANIFEST_OBJECT_MOST, MAP_SLAB_MOST, PACK_MOST, PACK_SLABS_MOST, PAGE_LOG2,
                     PATH_MOST, SLAB_PAGES_MOST, SLAB_RAW_MOST)
from manifests import check_path

PACK_DATA, PACK_MAP, PACK_STREAM, PACK_RECORDS = 1, 2, 3, 4
PACK_KINDS = {PACK_DATA: "data", PACK_MAP: "map", PACK_STREAM: "stream", PACK_RECORDS: "records"}
SLAB_PAGES, SLAB_OBJECTS, SLAB_DIRECTORY, SLAB_STREAM = 1, 2, 3, 4
SLAB_KIND_OF_PACK = {PACK_DATA: SLAB_PAGES, PACK_MAP: SLAB_OBJECTS, PACK_STREAM: SLAB_STREAM}
SLAB_MOST = {SLAB_OBJECTS: MAP_SLAB_MOST, SLAB_DIRECTORY: DIRECTORY_MOST}
PACK_HEADER, PACK_TRAILER, SLAB_HEADER = 256, 64, 32
DIRECTORY_NUMBER = 0xFFFFFFFF

SlabRow = collections.namedtuple("SlabRow", "offset plain_length sealed_length kind items")
Run = collections.namedtuple("Run", "file page_log2 first count short_by")


def round_up(offset):
    return (offset + 7) & ~7


class PackHeader:

    def __init__(self, raw, vault, pack_id, what):
        fail_unless(len(raw) == PACK_HEADER, f"{what}: has no whole header")
        fail_unless(
            struct.unpack_from("<I", raw, 252)[0] == crc32c(raw[:252]),
            f"{what}: the CRC-32C of its header does not match")
        cursor = Cursor(raw, f"{what}, header")
        cursor.expect(b"HFPACK01", "its magic")
        cursor.expect(struct.pack("<H", 1), "its version")
        self.kind, self.suite = cursor.u8(), cursor.u8()
        fail_unless(self.kind in PACK_KINDS, f"{what}: is of the unknown kind {self.kind}")
        fail_unless(self.suite in NONCE_BYTES, f"{what}: uses the unknown cipher suite {self.suite}")
        cursor.expect(b"\1", "its compression")
        cursor.expect(b"\1", "its hash")
        cursor.expect(bytes(2), "its flags")
        cursor.expect(vault.repository, "its repository id")
        cursor.expect(vault.id, "its vault id")
        cursor.expect(pack_id, "its pack id")
        self.session = cursor.id()
        self.key_epoch = cursor.u32()
        cursor.expect(bytes(4), "its parity")
        self.created_at = cursor.u64()
        cursor.expect(bytes(32), "the X25519 share (how it makes the key is not told in the format's text)")
        commitment = cursor.take(32)
        self.writer_epoch = cursor.u64()
        cursor.reserved(84)

        source = vault.keys.map_key
        if self.kind != PACK_MAP:
            fail_unless(self.key_epoch in vault.keys.data_secrets,
                        f"{what}: key epoch {self.key_epoch} is not in the vault bundle")
            source = vault.keys.data_secrets[self.key_epoch]
        self.key = keyed_hash(source, b"holdfast pack", raw[8:128])
        self.directory_key = keyed_hash(vault.keys.map_key, b"holdfast directory", raw[8:128])
        fail_unless(commitment == key_commitment(self.key), f"{what}: was sealed with another key than the vault's")
        self.raw = raw

    def nonce(self, number):
        return struct.pack("<I", number).ljust(NONCE_BYTES[self.suite], b"\0")

    def slab_key(self, number):
        return self.directory_key if number == DIRECTORY_NUMBER else self.key


class SlabHeader:
    """The 32 bytes in front of a slab; refuses bytes that are no slab header."""

    def __init__(self, raw, what):
        cursor = Cursor(raw, what)
        cursor.expect(b"HFSL", "the magic of its header")
        self.number, self.plain_length, self.sealed_length = cursor.u32(), cursor.u32(), cursor.u32()
        self.kind, self.compression = cursor.u8(), cursor.u8()
        cursor.expect(bytes(2), "its flags")
        self.items = cursor.u32()
        cursor.reserved(4)
        fail_unless(cursor.u32() == crc32c(raw[:28]), f"{what}: the CRC-32C of its header does not match")
        fail_unless(self.compression in (0, 1), f"{what}: uses the unknown compression {self.compression}")
        fail_unless(self.sealed_length <= self.plain_length, f"{what}: has grown by its compression")


class PageChecks:
    """What the directory keeps of the pages of one slab."""

    def __init__(self, runs, rows):
        self.runs = runs
        self.starts = []  # index in the slab of each run's first page
        count = 0
        for run in runs:
            self.starts.append(count)
            count += run.count
        self.count = count
        self.tags = b"".join(rows[at:at + 16] for at in range(0, len(rows), 20))
        self.crcs = [struct.unpack_from("<I", rows, at + 16)[0] for at in range(0, len(rows), 20)]

    def pieces(self, first, count):
        """The runs that [first, first + count) lies in, as (run, first page of the file, pages)."""
        at = bisect.bisect_right(self.starts, first) - 1
        while count > 0:
            run, inside = self.runs[at], first - self.starts[at]
            taken = min(run.count - inside, count)
            yield run, run.first + inside, taken
            first, count, at = first + taken, count - taken, at + 1


def page_length(run, page):
    last = page == run.first + run.count - 1
    return (1 << run.page_log2) - (run.short_by if last else 0)


def parse_page_list(data, what):
    cursor = Cursor(data, f"{what}, page list")
    runs, pages = [], 0
    for _ in range(cursor.varint(SLAB_PAGES_MOST, "the count of runs")):
        run = Run(cursor.varint((1 << 32) - 1, "a file's ordinal"), cursor.varint(16, "a page size"),
                  cursor.varint(name="a first page"), cursor.varint(SLAB_PAGES_MOST, "a count of pages"),
                  cursor.varint((1 << 16) - 1, "what a page is short by"))
        fail_unless(run.page_log2 in PAGE_LOG2, f"{cursor.what}: {run.page_log2} is no logarithm of a page size")
        fail_unless(run.count >= 1, f"{cursor.what}: a run has no pages")
        fail_unless(run.short_by < 1 << run.page_log2, f"{cursor.what}: a page is short by all its bytes")
        pages += run.count
        runs.append(run)
    cursor.finish()
    fail_unless(pages <= SLAB_PAGES_MOST, f"{cursor.what}: lists {pages} pages")
    return runs


def split_pages_slab(plain, what):
    """(the page list as it stands, its runs, the offset of the first page)"""
    cursor = Cursor(plain, what)
    raw_list = cursor.take(cursor.u32())
    runs = parse_page_list(raw_list, what)
    total = sum((run.count << run.page_log2) - run.short_by for run in runs)
    fail_unless(cursor.left() == total, f"{what}: its page list tells of {total} bytes, {cursor.left()} follow")
    return raw_list, runs, cursor.at


class Pack:

    def __init__(self, vault, pack_id, name, container=None):
        self.vault, self.id, self.name, self.container = vault, pack_id, name, container
        self.what = f'pack "{pack_id.hex()}"'
        self.file = vault.store.open(name)
        self.size = os.fstat(self.file.fileno()).st_size
        fail_unless(PACK_HEADER + SLAB_HEADER + 16 + PACK_TRAILER <= self.size <= PACK_MOST,
                    f"{self.what}: has {self.size} bytes")
        at = self._find_member() if container is not None else self._read_trailer()
        self.header = PackHeader(self.read(at, PACK_HEADER), vault, pack_id, self.what)
        self._read_directory()
        if container is not None:
            self._move_slabs()

    def read(self, offset, length):
        pieces = []
        while length > 0:
            piece = os.pread(self.file.fileno(), length, offset)
            fail_unless(piece != b"", f"{self.what}: ends at byte {offset}, {length} more were expected")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def _read_trailer(self):
        raw = self.read(self.size - PACK_TRAILER, PACK_TRAILER)
        cursor = Cursor(raw, f"{self.what}, trailer")
        cursor.expect(b"HFPEND01", "its magic")
        self.directory_offset, self.directory_length = cursor.u64(), cursor.u64()
        cursor.expect(bytes(16), "its parity")
        self.slab_count = cursor.u32()
        cursor.reserved(16)
        fail_unless(cursor.u32() == crc32c(raw[:60]), f"{cursor.what}: its CRC-32C does not match")
        end = self.directory_offset + self.directory_length
        fail_unless(PACK_HEADER <= self.directory_offset <= end <= self.size - PACK_TRAILER,
                    f"{cursor.what}: its directory lies outside of the pack")
        fail_unless(self.slab_count <= PACK_SLABS_MOST, f"{cursor.what}: counts {self.slab_count} slabs")
        return 0

    def _find_member(self):
        fail_unless(self.id in self.container.members, f"{self.container.what}: does not hold {self.what}")
        member = self.container.members[self.id]
        self.directory_offset, self.directory_length = member.directory_offset, member.directory_length
        self.slab_count = member.slab_count
        return member.header_offset

    def _move_slabs(self):
        """From here on a slab's offset is one in the container; None: it was left behind."""
        live = self.container.members[self.id].live
        for number, row in enumerate(self.slabs):
            offset, length = live.get(number, (None, 0))
            fail_unless(offset is None or length == SLAB_HEADER + row.sealed_length + 16,
                        f"{self.slab_what(number)}: container and directory differ")
            self.slabs[number] = row._replace(offset=offset)

    def _read_directory(self):
        what = f"{self.what}, directory"
        plain, header = self._open_slab(DIRECTORY_NUMBER, self.directory_offset,
                                        self.directory_length - SLAB_HEADER - 16, what)
        cursor = Cursor(plain, what)
        cursor.expect(struct.pack("<I", 1), "its version")
        count = cursor.varint(PACK_SLABS_MOST, "the count of slabs")
        fail_unless(count == self.slab_count == header.items,
                    f"{what}: counts {count} slabs, its header {header.items}, the trailer {self.slab_count}")
        self.slabs = [self._slab_row(cursor) for _ in range(count)]
        self.files = {}  # ordinal -> (log2 of the page size, path)
        for _ in range(cursor.varint((1 << 32) - 1, "the count of files")):
            ordinal, page_log2 = cursor.varint((1 << 32) - 1, "a file's ordinal"), cursor.u8()
            path = check_path(cursor.string(PATH_MOST, "a path"), what)
            fail_unless(ordinal not in self.files, f"{what}: lists file {ordinal} twice")
            fail_unless(page_log2 in PAGE_LOG2, f"{what}: {page_log2} is no logarithm of a page size")
            self.files[ordinal] = (page_log2, path)
        self.page_lists, self.checks = {}, {}
        for number, slab in enumerate(self.slabs):
            if slab.kind == SLAB_PAGES:
                self._read_page_checks(cursor, number, slab)
        cursor.finish()

    def _slab_row(self, cursor):
        row = SlabRow(
            cursor.varint(PACK_MOST // 8, "a slab's offset") * 8, cursor.varint(MAP_SLAB_MOST, "a slab's plaintext"),
            cursor.varint(PACK_MOST, "a slab's sealed length"), cursor.u8(),
            cursor.varint((1 << 32) - 1, "a slab's pages or objects"))
        fail_unless(
            self.container is not None or
            PACK_HEADER <= row.offset and row.offset + SLAB_HEADER + row.sealed_length + 16 <= self.directory_offset,
            f"{cursor.what}: a slab at byte {row.offset} lies outside of the pack")
        return row

    def _read_page_checks(self, cursor, number, slab):
        what = f"{cursor.what}, slab {number}"
        raw_list = cursor.string(SLAB_RAW_MOST, "a page list")
        runs = parse_page_list(raw_list, what)
        fail_unless(
            sum(run.count for run in runs) == slab.items, f"{what}: lists other pages than the {slab.items} it counts")
        for run in runs:
            fail_unless(run.file in self.files and self.files[run.file][0] == run.page_log2,
                        f"{what}: file {run.file} is not listed with pages of 2^{run.page_log2} bytes")
        self.page_lists[number] = raw_list
        self.checks[number] = PageChecks(runs, cursor.take(20 * slab.items))

    def _open_slab(self, number, offset, sealed_length, what):
        fail_unless(sealed_length >= 0, f"{what}: is too short")
        stored = self.read(offset, SLAB_HEADER + sealed_length + 16)
        header = SlabHeader(stored[:SLAB_HEADER], what)
        fail_unless(offset % 8 == 0, f"{what}: byte {offset} is not on an 8-byte boundary")
        fail_unless(header.number == number, f"{what}: its header says slab {header.number}")
        fail_unless(header.sealed_length == sealed_length,
                    f"{what}: its header says {header.sealed_length} bytes, the directory {sealed_length}")
        most = SLAB_MOST.get(header.kind, SLAB_RAW_MOST)
        fail_unless((header.kind == SLAB_DIRECTORY) == (number == DIRECTORY_NUMBER),
                    f"{what}: is a slab of kind {header.kind}")
        fail_unless(header.plain_length <= most,
                    f"{what}: has {header.plain_length} bytes of plaintext, at most {most} are allowed")
        packed = aead_open(self.header.suite, self.header.slab_key(number), self.header.nonce(number),
                           stored[SLAB_HEADER:], self.header.raw + stored[:SLAB_HEADER])
        fail_unless(packed is not None, f"{what}: its seal does not open")
        if header.compression == 1:
            packed = zstd_decompress(packed, header.plain_length, what)
        fail_unless(
            len(packed) == header.plain_length,
            f"{what}: has {len(packed)} bytes of plaintext, its header says {header.plain_length}")
        return packed, header

    def slab_what(self, number):
        return f"{self.what}, slab {number}"

    def slab(self, number):
        """Plaintext of a slab, checked against the directory's row."""
        what = self.slab_what(number)
        fail_unless(number < len(self.slabs), f"{what}: the pack has {len(self.slabs)} slabs")
        row = self.slabs[number]
        plain, header = self._open_slab(number, row.offset, row.sealed_length, what)
        fail_unless((header.plain_length, header.kind, header.items) == (row.plain_length, row.kind, row.items),
                    f"{what}: its header and the directory differ")
        return plain

    def objects(self, number):
        """The objects of a map slab, as (kind, bytes)."""
        what = self.slab_what(number)
        plain = self.slab(number)
        row = self.slabs[number]
        fail_unless(row.kind == SLAB_OBJECTS, f"{what}: is a slab of kind {row.kind}, not of map objects")
        cursor = Cursor(plain, what)
        count = cursor.varint(row.plain_length, "the count of objects")
        fail_unless(count == row.items, f"{what}: holds {count} objects, the directory says {row.items}")
        table = [(cursor.u8(), cursor.varint(MANIFEST_OBJECT_MOST, "an object's length")) for _ in range(count)]
        found = [(kind, cursor.take(length)) for kind, length in table]
        cursor.finish()
        return found

    def close(self):
        self.file.close()

"""Containers, in which moved packs lie: container.h."""
import collections
import hashlib
import os
import struct

from primitives import Cursor, crc32c, fail_unless
from objects import DIRECTORY_MOST, PACK_SLABS_MOST

PACK_HEADER, SLAB_HEADER = 256, 32

INDEX_MOST = 64 << 20
TRAILER = 64

Member = collections.namedtuple("Member", "header_offset directory_offset directory_length slab_count live")


class Container:

    def __init__(self, vault, object_id, name):
        self.what = f'container "{object_id.hex()}"'
        self.file = vault.store.open(name)
        self.size = os.fstat(self.file.fileno()).st_size
        fail_unless(self.size >= PACK_HEADER + TRAILER + 8, f"{self.what}: has {self.size} bytes")
        raw = os.pread(self.file.fileno(), PACK_HEADER, 0)
        fail_unless(struct.unpack_from("<I", raw, 252)[0] == crc32c(raw[:252]), f"{self.what}: its header's CRC-32C is wrong")
        cursor = Cursor(raw, f"{self.what}, header")
        cursor.expect(b"HFCONT01", "its magic")
        cursor.expect(struct.pack("<H", 1), "its version")
        cursor.reserved(6)
        cursor.expect(vault.repository, "its repository id")
        cursor.expect(vault.id, "its vault id")
        cursor.expect(object_id, "its object id")
        self.session, self.created_at, self.writer_epoch = cursor.id(), cursor.u64(), cursor.u64()
        cursor.reserved(156)
        self._read_index()

    def close(self):
        self.file.close()

    def sha256(self):
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").digest()

    def _read_index(self):
        raw = os.pread(self.file.fileno(), TRAILER, self.size - TRAILER)
        cursor = Cursor(raw, f"{self.what}, trailer")
        cursor.expect(b"HFCEND01", "its magic")
        offset, length, count = cursor.u64(), cursor.u64(), cursor.u32()
        cursor.reserved(32)
        fail_unless(cursor.u32() == crc32c(raw[:60]), f"{cursor.what}: its CRC-32C does not match")
        fail_unless(
            offset % 8 == 0 and PACK_HEADER <= offset and 8 <= length <= INDEX_MOST and
            offset + length == self.size - TRAILER, f"{cursor.what}: its index lies elsewhere")
        raw = os.pread(self.file.fileno(), length, offset)
        what = f"{self.what}, index"
        fail_unless(struct.unpack_from("<I", raw, length - 4)[0] == crc32c(raw[:-4]), f"{what}: its CRC-32C does not match")
        cursor = Cursor(raw[:-4], what)
        fail_unless(cursor.u32() == count >= 1, f"{what}: counts other packs than the trailer")
        self.members, before = {}, b""
        for _ in range(count):
            pack = cursor.id()
            fail_unless(pack > before, f'{what}: pack "{pack.hex()}" stands out of order')
            self.members[pack] = self._read_member(cursor, offset)
            before = pack
        cursor.finish()

    @staticmethod
    def _read_member(cursor, end):
        header, directory, length, slabs, live = (cursor.u64(), cursor.u64(), cursor.u64(), cursor.u32(), cursor.u32())
        fail_unless(live <= slabs <= PACK_SLABS_MOST and SLAB_HEADER + 16 <= length <= DIRECTORY_MOST,
                    f"{cursor.what}: counts or lengths cannot be")
        rows, places, number = {}, [(PACK_HEADER, 0), (header, PACK_HEADER)], -1
        for _ in range(live):
            after, at, bytes_there = cursor.u32(), cursor.u64(), cursor.u32()
            fail_unless(number < after < slabs, f"{cursor.what}: slab {after} stands out of order")
            number = after
            rows[number] = (at, bytes_there)
            places.append((at, bytes_there))
        places += [(directory, length), (end, 0)]
        for (left, left_length), (right, _) in zip(places, places[1:]):
            fail_unless(right % 8 == 0 and left + left_length <= right, f"{cursor.what}: parts lie over each other")
        return Member(header, directory, length, slabs, rows)

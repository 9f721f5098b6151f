"""Leaves of maps, manifest pages and roots: map.h and manifest.h."""
import collections

from primitives import Cursor, NO_ID, fail_unless, parse_canonical_json
from objects import (FACTS_MOST, FOLDERS_MOST, LEAF_MOST, LEAF_PAGES, LINKS_MOST, MANIFEST_OBJECT_MOST,
                     MANIFEST_PAGE_FILES, PACK_SLABS_MOST, PAGE_LOG2, PATH_MOST, SLAB_PAGES_MOST)

# --------------------------------------------------------------------------------------------------------- maps (map.h)

OBJECT_LEAF, OBJECT_MANIFEST_PAGE, OBJECT_MANIFEST_ROOT = 1, 2, 3
OBJECT_KINDS = {OBJECT_LEAF: "leaf", OBJECT_MANIFEST_PAGE: "manifest page", OBJECT_MANIFEST_ROOT: "manifest root"}
EXTENT_ZEROS, EXTENT_GOES_ON, EXTENT_STORED, EXTENT_LOST = 0, 1, 2, 3

ObjectRef = collections.namedtuple("ObjectRef", "pack slab index")
Extent = collections.namedtuple("Extent", "type count pack slab first")


class PackTable:
    """The packs that an object uses: each once, in the order of their first use."""

    def __init__(self, cursor):
        self.what = cursor.what
        self.ids = [cursor.id() for _ in range(cursor.varint(len(cursor.data) // 16, "the count of packs"))]
        fail_unless(len(set(self.ids)) == len(self.ids), f"{self.what}: its pack table names a pack twice")
        self.used = 0

    def read(self, cursor):
        index = cursor.varint(name="an index in the pack table")
        fail_unless(index < len(self.ids), f"{self.what}: pack {index} is not in its table of {len(self.ids)}")
        fail_unless(index <= self.used, f"{self.what}: its pack table is not in the order of first use")
        self.used = max(self.used, index + 1)
        return self.ids[index]

    def read_ref(self, cursor):
        return ObjectRef(self.read(cursor), cursor.varint(PACK_SLABS_MOST - 1, "a slab number"),
                         cursor.varint((1 << 32) - 1, "an index in a slab"))

    def finish(self):
        fail_unless(self.used == len(self.ids), f"{self.what}: its pack table names packs that it does not use")


class Leaf:

    def __init__(self, data, what):
        fail_unless(len(data) <= LEAF_MOST, f"{what}: has {len(data)} bytes")
        cursor = Cursor(data, what)
        cursor.expect(b"\1", "its version")
        self.page_log2 = cursor.u8()
        fail_unless(self.page_log2 in PAGE_LOG2, f"{what}: {self.page_log2} is no logarithm of a page size")
        self.packs = PackTable(cursor)
        self.extents, self.pages = [], 0
        stored = None  # the stored extent before
        for _ in range(cursor.varint(LEAF_PAGES, "the count of extents")):
            extent, spelled = self._read_extent(cursor, stored)
            self._check_spelling(extent, spelled, stored, what)
            stored = extent if extent.type == EXTENT_STORED else stored
            self.extents.append(extent)
            self.pages += extent.count
        cursor.finish()
        self.packs.finish()

    def _read_extent(self, cursor, stored):
        """(the extent, the type it was written with)"""
        head = cursor.varint(name="an extent")
        count, spelled = head >> 2, head & 3
        fail_unless(1 <= count <= LEAF_PAGES - self.pages,
                    f"{cursor.what}: an extent of {count} pages is too short or too long")
        if spelled == EXTENT_GOES_ON:
            fail_unless(stored is not None, f"{cursor.what}: an extent goes on from none")
            return Extent(EXTENT_STORED, count, stored.pack, stored.slab, stored.first + stored.count), spelled
        if spelled == EXTENT_STORED:
            pack = self.packs.read(cursor)
            slab = cursor.zigzag("a slab number") + (stored.slab if stored else 0)
            fail_unless(0 <= slab < PACK_SLABS_MOST, f"{cursor.what}: slab {slab} cannot be")
            return (Extent(EXTENT_STORED, count, pack, slab, cursor.varint(SLAB_PAGES_MOST,
                                                                           "an index in a slab")), spelled)
        return Extent(spelled, count, None, 0, 0), spelled

    def _check_spelling(self, extent, spelled, stored, what):
        """One map has one spelling."""
        before = self.extents[-1] if self.extents else None
        goes_on = (stored is not None and extent.type == EXTENT_STORED
                   and extent[2:] == (stored.pack, stored.slab, stored.first + stored.count))
        fail_unless(spelled != EXTENT_STORED or not goes_on, f'{what}: an extent does not say that it "goes on"')
        same = before is not None and before.type == extent.type
        fail_unless(not same or (extent.type == EXTENT_STORED and not goes_on), f"{what}: two extents could be one")


# ----------------------------------------------------------------------------------------------- manifests (manifest.h)

FILE_KINDS = {1: "relation", 2: "other", 3: "WAL", 4: "captured configuration"}

ManifestFile = collections.namedtuple("ManifestFile", "path kind page_log2 mode modified_at size crc32c digest leaves")
ManifestFolder = collections.namedtuple("ManifestFolder", "path mode pages")
ManifestPageRef = collections.namedtuple("ManifestPageRef", "ref files digest")
ManifestLink = collections.namedtuple("ManifestLink", "path target")


def show(path):
    return path.decode(errors="backslashreplace")


def check_path(path, what):
    """1 to 4,096 bytes; components of 1 to 255 bytes, none "." or ".."; no control bytes."""
    parts = path.split(b"/")
    good = (1 <= len(path) <= PATH_MOST and all(1 <= len(part) <= 255 and part not in (b".", b"..") for part in parts)
            and not any(byte < 0x20 or byte == 0x7F for byte in path))
    fail_unless(good, f'{what}: "{show(path)}" is no path of a backup')
    return path


def join(folder, name):
    return folder + b"/" + name if folder else name


def ceil_divide(a, b):
    return -(-a // b)


def parse_manifest_page(data, folder, what):
    fail_unless(len(data) <= MANIFEST_OBJECT_MOST, f"{what}: has {len(data)} bytes")
    cursor = Cursor(data, what)
    cursor.expect(b"\1", "its version")
    packs = PackTable(cursor)
    files, before = [], None
    for _ in range(cursor.varint(MANIFEST_PAGE_FILES, "the count of files")):
        name = cursor.string(255, "a file's name")
        fail_unless(b"/" not in name, f'{what}: the name "{show(name)}" holds a "/"')
        path = check_path(join(folder, name), what)
        fail_unless(before is None or before < name, f'{what}: "{show(path)}" is not in the order of names')
        before = name
        kind, page_log2 = cursor.u8(), cursor.u8()
        fail_unless(kind in FILE_KINDS, f'{what}: file "{show(path)}" is of the unknown kind {kind}')
        fail_unless(page_log2 in PAGE_LOG2, f'{what}: file "{show(path)}" has no page size')
        mode = cursor.varint(0o7777, "a file's mode")
        modified_at, size = cursor.zigzag("a file's time"), cursor.varint(name="a file's size")
        crc, digest = cursor.u32(), cursor.take(32)
        count = cursor.varint(len(data), "the count of leaves")
        wanted = ceil_divide(ceil_divide(size, 1 << page_log2), LEAF_PAGES)
        fail_unless(count == wanted, f'{what}: file "{show(path)}" has {count} leaves, {wanted} were expected')
        leaves = [packs.read_ref(cursor) for _ in range(count)]
        files.append(ManifestFile(path, kind, page_log2, mode, modified_at, size, crc, digest, leaves))
    cursor.finish()
    packs.finish()
    return files


class ManifestRoot:

    def __init__(self, data, commit, vault, what):
        fail_unless(len(data) <= MANIFEST_OBJECT_MOST, f"{what}: has {len(data)} bytes")
        cursor = Cursor(data, what)
        cursor.expect(b"\1", "its version")
        cursor.expect(commit.backup, "its backup id")
        cursor.expect(vault.id, "its vault id")
        cursor.expect(commit.session, "its session id")
        cursor.expect(commit.parent or NO_ID, "its parent backup's id")
        self.started_at, self.finished_at = cursor.varint(name="its start"), cursor.varint(name="its end")
        self.file_count, self.logical_bytes = cursor.varint(name="its files"), cursor.varint(name="its bytes")
        facts = cursor.string(FACTS_MOST, "the facts")
        fail_unless(
            parse_canonical_json(facts, f"{what}, facts") == commit.entry.sealed["facts"],
            f"{what}: its facts are not those of its COMMIT")
        packs = PackTable(cursor)
        self.folders = self._read_folders(cursor, packs)
        self.links = []
        for _ in range(cursor.varint(LINKS_MOST, "the count of links")):
            path = check_path(cursor.string(PATH_MOST, "a link's path"), what)
            fail_unless(not self.links or self.links[-1].path < path,
                        f'{what}: link "{show(path)}" is not in the order of paths')
            self.links.append(ManifestLink(path, cursor.string(PATH_MOST, "a link's target")))
        self.summary = {}  # pack id -> live
        before = b""
        for _ in range(cursor.varint(len(packs.ids), "the count of summary rows")):
            pack = packs.read(cursor)
            fail_unless(before < pack, f'{what}: its summary of pack "{pack.hex()}" is not in the order of ids')
            before = pack
            self.summary[pack] = cursor.varint(name="what is live in a pack")
            fail_unless(self.summary[pack] >= 1, f'{what}: sums up pack "{pack.hex()}", of which nothing is live')
        cursor.finish()
        packs.finish()

    @staticmethod
    def _read_folders(cursor, packs):
        folders = []
        for _ in range(cursor.varint(FOLDERS_MOST, "the count of folders")):
            path = cursor.string(PATH_MOST, "a folder's path")
            if path:
                check_path(path, cursor.what)
            fail_unless(not folders or folders[-1].path < path,
                        f'{cursor.what}: folder "{show(path)}" is not in the order of paths')
            fail_unless(folders or path == b"", f"{cursor.what}: the top folder is missing")
            mode = cursor.varint(0o7777, "a folder's mode")
            count = cursor.varint(len(cursor.data), "the count of manifest pages")
            pages = [
                ManifestPageRef(packs.read_ref(cursor), cursor.varint(MANIFEST_PAGE_FILES, "the files of a page"),
                                cursor.take(32)) for _ in range(count)
            ]
            folders.append(ManifestFolder(path, mode, pages))
        return folders

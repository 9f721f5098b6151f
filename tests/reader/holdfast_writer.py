#!/usr/bin/python3
"""Writes small repositories from the texts of the formats: the reader's counterpart, for tests.

Nothing is random: ids, keys, nonces and times are drawn from a seed, so that the reference repository
comes out the same each time.  `holdfast_writer.py FOLDER` writes what lies in reference/.
NEVER use this for data that is to stay secret.
"""
import collections
import hashlib
import os
import struct
import sys

from primitives import (NO_ID, NONCE_BYTES, SUITE_AES256_GCM, SUITE_XCHACHA20, aead_seal, argon2id13, canonical_json,
                        crc32c, ed25519_keys, ed25519_sign, key_commitment, keyed_hash, page_tag, put_string,
                        put_varint, put_zigzag, sha256, x25519, x25519_public, zstd_compress)

START = 1_700_000_000_000  # the first moment of every repository made here, in milliseconds


class Draws:
    """Bytes that look random and are always the same: one stream for each seed."""

    def __init__(self, seed):
        self.seed, self.count = seed, 0

    def bytes(self, length):
        out = b""
        while len(out) < length:
            out += hashlib.blake2b(struct.pack("<Q", self.count) + self.seed.encode()).digest()
            self.count += 1
        return out[:length]

    def id(self):
        return self.bytes(16)


def padded(text, length):
    raw = text.encode()
    assert len(raw) < length
    return raw.ljust(length, b"\0")


def seal_envelope(draws, kind, generation, repository, subject, wrapping_key, context, plain):
    bound = struct.pack("<HHI", kind, 1, generation) + repository + subject
    key = keyed_hash(wrapping_key, b"holdfast seal", bound)
    nonce = draws.bytes(24)
    header = b"HFSEAL01" + bound + key_commitment(key) + nonce + struct.pack("<Q", len(plain))
    return header + aead_seal(SUITE_XCHACHA20, key, nonce, plain, header + context)


class Signer:

    def __init__(self, draws, name, added_at):
        self.public, self.secret = ed25519_keys(draws.bytes(32))
        self.appliance, self.name, self.added_at = draws.id(), name, added_at

    def sign(self, message):
        return ed25519_sign(self.secret, message)


# ----------------------------------------------------------------------------------------------------------- repository


class RepositoryWriter:
    """A folder with a superblock, and a root key to make slots and bundles with."""

    def __init__(self, root, seed):
        self.root, self.draws = root, Draws(seed)
        self.now = START
        self.id, self.root_key = self.draws.id(), self.draws.bytes(32)
        self.signers, self.root_generation = [], 0
        self._put_superblock()

    def put(self, name, data):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)

    def tick(self):
        self.now += 1000
        return self.now

    def _put_superblock(self):
        raw = b"HFREPO01" + struct.pack("<II", 1, 0) + self.id + struct.pack("<Q4Q", self.now, 0, 0, 0, 0) + bytes(84)
        raw += struct.pack("<I", crc32c(raw))
        self.put("holdfast-repository", raw + keyed_hash(self.root_key, b"holdfast superblock", raw))

    # slots

    def _put_slot(self, kind, name, costs=(0, 0), salt=bytes(16), public=bytes(32), ephemeral=bytes(32), command=b"",
                  make_key=None):
        slot = self.draws.id()
        raw = b"HFSLOT01" + struct.pack("<HHI", 1, kind, 1) + self.id + slot + struct.pack("<Q", self.tick())
        raw += (padded(name, 64) + struct.pack("<QQ", *costs) + salt + public + ephemeral + command.ljust(64, b"\0") +
                bytes(88))
        key = make_key(slot)
        raw += key_commitment(key)
        nonce = self.draws.bytes(24)
        raw += nonce + aead_seal(SUITE_XCHACHA20, key, nonce, self.root_key, raw) + bytes(36)
        self.put(f"keys/slot-{slot.hex()}", raw + struct.pack("<I", crc32c(raw)))
        return slot

    def add_key_file_slot(self, name, secret):
        return self._put_slot(2, name, public=keyed_hash(secret, b"holdfast key file"),
                              make_key=lambda slot: keyed_hash(secret, b"holdfast slot", slot))

    def add_passphrase_slot(self, name, passphrase, operations=1, memory=8192):
        salt = self.draws.bytes(16)
        return self._put_slot(1, name, costs=(operations, memory), salt=salt,
                              make_key=lambda slot: argon2id13(passphrase, salt, operations, memory))

    def add_recipient_slot(self, name, public):
        secret = self.draws.bytes(32)
        ephemeral = x25519_public(secret)
        shared = x25519(secret, public)
        return self._put_slot(3, name, public=public, ephemeral=ephemeral,
                              make_key=lambda slot: keyed_hash(shared, b"holdfast slot", ephemeral, public, slot))

    def add_command_slot(self, name, command, printed):
        return self._put_slot(4, name, command=command.encode(),
                              make_key=lambda slot: keyed_hash(printed, b"holdfast slot", slot))

    # signers

    def add_signer(self, name):
        """Writes the next root bundle."""
        signer = Signer(self.draws, name, self.tick())
        by = self.signers[-1][0] if self.signers else signer
        record = signer.public + signer.appliance + struct.pack("<Q", signer.added_at) + padded(name, 64) + bytes(8)
        record += by.sign(b"holdfast signer" + self.id + record)
        self.signers.append((signer, record))
        self.root_generation += 1
        plain = struct.pack("<II", 1, len(self.signers)) + b"".join(record for _, record in self.signers)
        self.put(f"keys/root-{self.root_generation:08x}",
                 seal_envelope(self.draws, 1, self.root_generation, self.id, self.id, self.root_key, b"", plain))
        return signer


class VaultWriter:
    """Keys and log of one vault."""

    def __init__(self, repository, vault_id=None):
        self.repository, self.draws = repository, repository.draws
        self.id = vault_id or self.draws.id()
        self.map_key, self.record_key, self.digest_key = (self.draws.bytes(32) for _ in range(3))
        self.tag_key = self.draws.bytes(16)
        self.epochs, self.generation = [], 0
        self.sequence, self.head, self.hashes = 0, bytes(32), [bytes(32)]
        self.add_key_epoch()

    def add_key_epoch(self):
        """Writes the next vault bundle."""
        secret = self.draws.bytes(32)
        self.epochs.append(
            (secret, struct.pack("<IIQ",
                                 len(self.epochs) + 1, 0, self.repository.tick()) + secret + x25519_public(secret)))
        self.generation += 1
        plain = (struct.pack("<II", 1, len(self.epochs)) + self.map_key + self.record_key + self.digest_key +
                 self.tag_key + bytes(16) + b"".join(record for _, record in self.epochs))
        self.repository.put(
            f"vaults/{self.id.hex()}/keys-{self.generation:08x}",
            seal_envelope(self.draws, 2, self.generation, self.repository.id, self.id, self.repository.root_key, b"",
                          plain))

    KINDS = (
        "LINEAGE INTENT COMMIT END ABORT EPOCH PIN UNPIN PRUNE CONDEMN DELETE RELOCATE HOLD RELEASE LOCK KEY SHRED "
        "POLICY VERDICT GAP CHECKPOINT").split()

    def append(self, kind, signer, public, sealed=None, epoch=0):
        public_part = canonical_json(public)
        self.sequence += 1
        header = b"HFLOG001" + struct.pack("<HHIQQ", 1,
                                           self.KINDS.index(kind) + 1, 0, self.sequence, self.repository.tick())
        header += self.repository.id + self.id + signer.appliance + struct.pack("<Q", epoch) + self.head + signer.public
        sealed_part = b""
        if sealed is not None:
            sealed_part = seal_envelope(self.draws, 3, 0, self.repository.id, self.id, self.record_key, header,
                                        canonical_json(sealed))
        raw = header + struct.pack("<II", len(public_part), len(sealed_part)) + public_part + sealed_part
        raw += signer.sign(raw)
        self.repository.put(f"vaults/{self.id.hex()}/log/{self.sequence:016x}", raw)
        self.head = sha256(raw)
        self.hashes.append(self.head)
        return self.sequence

    def append_lineage(self, signer, engine, identity, name):
        lineage = sha256(engine.encode(), b"\0", identity.encode()).hex()
        return self.append("LINEAGE", signer, {"engine": engine, "lineage": lineage},
                           {"identity": identity, "name": name})


# ---------------------------------------------------------------------------------------------------------------- packs


class PackWriter:
    """Gathers slabs in memory; finish() puts the pack in its place."""

    DIRECTORY_NUMBER = 0xFFFFFFFF

    def __init__(self, vault, kind, suite, session, key_epoch, writer_epoch=0, folder="packs"):
        self.vault, self.kind, self.suite, self.folder = vault, kind, suite, folder
        self.id = vault.draws.id()
        start = b"HFPACK01" + struct.pack("<HBBBBH", 1, kind, suite, 1, 1, 0)
        start += vault.repository.id + vault.id + self.id + session
        start += struct.pack("<IHHQ", key_epoch, 0, 0, vault.repository.tick()) + bytes(32)
        source = vault.map_key if kind == 2 else vault.epochs[key_epoch - 1][0]
        self.key = keyed_hash(source, b"holdfast pack", start[8:128])
        self.directory_key = keyed_hash(vault.map_key, b"holdfast directory", start[8:128])
        header = start + key_commitment(self.key) + struct.pack("<Q", writer_epoch) + bytes(84)
        self.header = header + struct.pack("<I", crc32c(header))
        self.raw = bytearray(self.header)
        self.rows, self.files, self.page_rows = b"", [], b""
        self.slab_count = 0

    def add_file(self, ordinal, page_log2, path):
        if (ordinal, page_log2, path) not in self.files:
            self.files.append((ordinal, page_log2, path))

    def add_gap(self, count):
        """Zeros between slabs, which the format allows."""
        self.raw += bytes(count)

    def add_pages(self, runs, compress=True):
        """runs: (file ordinal, log2 of the page size, first page, [pages' bytes]); returns the slab's number."""
        table, pages = put_varint(len(runs)), []
        for ordinal, log2, first, contents in runs:
            short_by = (1 << log2) - len(contents[-1])
            assert all(len(page) == 1 << log2 for page in contents[:-1]) and short_by >= 0
            table += b"".join(map(put_varint, (ordinal, log2, first, len(contents), short_by)))
            pages += contents
        self.page_rows += put_string(table)
        for page in pages:
            self.page_rows += page_tag(self.vault.tag_key, page) + struct.pack("<I", crc32c(page))
        return self._add_slab(1, struct.pack("<I", len(table)) + table + b"".join(pages), len(pages), compress)

    def add_objects(self, objects, compress=True):
        """objects: (kind, bytes); returns the slab's number."""
        plain = put_varint(len(objects))
        plain += b"".join(bytes([kind]) + put_varint(len(data)) for kind, data in objects)
        return self._add_slab(2, plain + b"".join(data for _, data in objects), len(objects), compress)

    def _add_slab(self, kind, plain, items, compress):
        number = self.slab_count
        offset, sealed_length = self._seal(self.key, number, kind, plain, items, compress)
        self.rows += (put_varint(offset // 8) + put_varint(len(plain)) + put_varint(sealed_length) + bytes([kind]) +
                      put_varint(items))
        self.slab_count += 1
        return number

    def _seal(self, key, number, kind, plain, items, compress):
        packed = zstd_compress(plain) if compress else plain
        if len(packed) > len(plain):
            packed, compress = plain, False
        head = b"HFSL" + struct.pack("<IIIBBHII", number, len(plain), len(packed), kind, int(compress), 0, items, 0)
        head += struct.pack("<I", crc32c(head))
        nonce = struct.pack("<I", number).ljust(NONCE_BYTES[self.suite], b"\0")
        offset = len(self.raw)
        self.raw += head + aead_seal(self.suite, key, nonce, packed, self.header + head)
        self.raw += bytes(-len(self.raw) % 8)
        return offset, len(packed)

    def directory(self):
        plain = struct.pack("<I", 1) + put_varint(self.slab_count) + self.rows + put_varint(len(self.files))
        for ordinal, page_log2, path in sorted(self.files):
            plain += put_varint(ordinal) + bytes([page_log2]) + put_string(path)
        return plain + self.page_rows

    def finish(self):
        """Returns the row for the COMMIT: [id, kind, bytes, sha256]."""
        offset, sealed_length = self._seal(self.directory_key, self.DIRECTORY_NUMBER, 3, self.directory(),
                                           self.slab_count, True)
        trailer = (b"HFPEND01" + struct.pack("<QQQQI", offset, 32 + sealed_length + 16, 0, 0, self.slab_count) +
                   bytes(16))
        self.raw += trailer + struct.pack("<I", crc32c(trailer))
        raw = bytes(self.raw)
        self.vault.repository.put(self.name(), raw)
        return [self.id.hex(), self.kind, len(raw), sha256(raw).hex()]

    def name(self):
        text = self.id.hex()
        place = f"packs/{text[:2]}/{text}" if self.folder == "packs" else f"{self.folder}/{text}"
        return f"vaults/{self.vault.id.hex()}/{place}"


# --------------------------------------------------------------------------------------------------- maps and manifests

ZEROS, GOES_ON, STORED, LOST = 0, 1, 2, 3


class PackTable:
    """The packs that an object names, in the order of their first use."""

    def __init__(self):
        self.ids = []

    def index(self, pack):
        if pack not in self.ids:
            self.ids.append(pack)
        return self.ids.index(pack)

    def ref(self, ref):
        return put_varint(self.index(ref[0])) + put_varint(ref[1]) + put_varint(ref[2])

    def encode(self):
        return put_varint(len(self.ids)) + b"".join(self.ids)


def encode_leaf(page_log2, places):
    """places: for each page None (zeros), "lost", or (pack, slab, index)."""
    extents = []  # [type, pages, pack, slab, first]
    for place in places:
        last = extents[-1] if extents else None
        if place is None or place == "lost":
            kind = ZEROS if place is None else LOST
            if last and last[0] == kind:
                last[1] += 1
            else:
                extents.append([kind, 1, None, 0, 0])
        elif last and last[0] == STORED and place == (last[2], last[3], last[4] + last[1]):
            last[1] += 1
        else:
            extents.append([STORED, 1, *place])
    table, body, stored = PackTable(), b"", None
    for extent in extents:
        kind, count, pack, slab, first = extent
        if kind != STORED:
            body += put_varint(count << 2 | kind)
            continue
        if stored and (pack, slab, first) == (stored[2], stored[3], stored[4] + stored[1]):
            body += put_varint(count << 2 | GOES_ON)
        else:
            body += put_varint(count << 2 | STORED) + put_varint(table.index(pack))
            body += put_zigzag(slab - (stored[3] if stored else 0)) + put_varint(first)
        stored = extent
    return bytes([1, page_log2]) + table.encode() + put_varint(len(extents)) + body


class File:
    """A file to back up.  `lost` are page numbers that the map calls lost."""

    def __init__(self, content, kind=2, page_log2=16, mode=0o600, modified_at=START, lost=()):
        self.content, self.kind, self.page_log2, self.mode = content, kind, page_log2, mode
        self.modified_at, self.lost = modified_at, frozenset(lost)

    def pages(self):
        size = 1 << self.page_log2
        return [self.content[at:at + size] for at in range(0, len(self.content), size)]


class Session:
    """Writes one backup: what the parent has is taken from there, the rest goes into new packs."""

    def __init__(self, vault, suite=SUITE_AES256_GCM, parent=None, slab_bytes=32768, epoch=0):
        self.vault, self.suite, self.parent, self.slab_bytes, self.epoch = vault, suite, parent, slab_bytes, epoch
        self.id, self.backup = vault.draws.id(), vault.draws.id()
        self.started_at = vault.repository.tick()
        self.places = {}  # path -> for each page (tag, place)
        self.leaf_refs = {}  # leaf bytes -> ref
        self.page_refs = {}  # manifest page bytes -> ref

    def intend(self, signer, builds_on=None):
        self.vault.append(
            "INTENT", signer, {
                "session": self.id.hex(), "parents": [self.parent.backup.hex()] if self.parent else [], "builds_on":
                builds_on, "operation": "backup"
            }, epoch=self.epoch)

    def write(self, signer, tree, folders, links, facts, compress_slab=lambda number: True, gap_before=None):
        """tree: path -> File; folders: path -> mode; links: path -> target.  Ends with the COMMIT."""
        rows = self._write_pages(tree, compress_slab, gap_before)
        self.map_pack = self._new_pack(2)
        leaves = self._write_leaves(tree)
        root = self._write_manifest(tree, folders, links, facts, leaves)
        rows.append(self.map_pack.finish())
        self.commit(signer, root, rows, facts)

    def commit(self, signer, root, rows, facts, epoch=None):
        self.vault.append(
            "COMMIT", signer, {
                "session": self.id.hex(), "backup": self.backup.hex(), "parent":
                self.parent.backup.hex() if self.parent else None, "root":
                {"pack": root[0].hex(), "slab": root[1], "index": root[2]}, "packs": rows, "dropped": []
            }, {"source": "clinic", "facts": facts}, epoch=self.epoch if epoch is None else epoch)

    def _new_pack(self, kind):
        return PackWriter(self.vault, kind, self.suite, self.id, len(self.vault.epochs), self.epoch)

    def _write_pages(self, tree, compress_slab, gap_before):
        pack, waiting, waiting_bytes = None, [], 0  # waiting: (ordinal, path, log2, page number, bytes)

        def flush():
            nonlocal waiting, waiting_bytes
            if not waiting:
                return
            runs = []
            for ordinal, _, log2, number, data in waiting:
                run = runs[-1] if runs else None
                if run and run[0] == ordinal and run[2] + len(run[3]) == number and len(run[3][-1]) == 1 << log2:
                    run[3].append(data)
                else:
                    runs.append((ordinal, log2, number, [data]))
            if gap_before == pack.slab_count:
                pack.add_gap(24)
            slab = pack.add_pages(runs, compress_slab(pack.slab_count))
            for index, (_, path, _, number, data) in enumerate(waiting):
                self.places[path][number] = (page_tag(self.vault.tag_key, data), (pack.id, slab, index))
            waiting, waiting_bytes = [], 0

        for ordinal, (path, file) in enumerate(tree.items()):
            before = self.parent.places.get(path, []) if self.parent else []
            self.places[path] = [None] * len(file.pages())
            for number, data in enumerate(file.pages()):
                tag = page_tag(self.vault.tag_key, data)
                if number in file.lost:
                    self.places[path][number] = (tag, "lost")
                elif not any(data):
                    self.places[path][number] = (tag, None)
                elif number < len(before) and before[number][0] == tag:
                    self.places[path][number] = before[number]
                else:
                    pack = pack or self._new_pack(1)
                    pack.add_file(ordinal, file.page_log2, path)
                    waiting.append((ordinal, path, file.page_log2, number, data))
                    waiting_bytes += len(data)
                    if waiting_bytes >= self.slab_bytes:
                        flush()
        flush()
        return [pack.finish()] if pack else []

    def _write_leaves(self, tree):
        """Every leaf that the parent does not have goes into one slab; returns path -> refs."""
        wanted, new = {}, []
        for path, file in tree.items():
            places = [place for _, place in self.places[path]]
            wanted[path] = [encode_leaf(file.page_log2, places[at:at + 4096]) for at in range(0, len(places), 4096)]
        known = dict(self.parent.leaf_refs) if self.parent else {}
        for leaf in (leaf for leaves in wanted.values() for leaf in leaves):
            if leaf not in known:
                known[leaf] = (self.map_pack.id, self.map_pack.slab_count, len(new))
                new.append((1, leaf))
        if new:
            self.map_pack.add_objects(new)
        self.leaf_refs = known
        return {path: [known[leaf] for leaf in leaves] for path, leaves in wanted.items()}

    def _encode_manifest_page(self, files, leaves):
        table, body = PackTable(), put_varint(len(files))
        for path, file in files:
            tags = b"".join(tag for tag, _ in self.places[path])
            digest = keyed_hash(self.vault.digest_key, b"holdfast file", tags, struct.pack("<Q", len(file.content)))
            body += put_string(path.rsplit(b"/", 1)[-1]) + bytes([file.kind, file.page_log2]) + put_varint(file.mode)
            body += (put_zigzag(file.modified_at) + put_varint(len(file.content)) +
                     struct.pack("<I", crc32c(file.content)) + digest)
            body += put_varint(len(leaves[path])) + b"".join(map(table.ref, leaves[path]))
        return b"\1" + table.encode() + body

    def _write_manifest(self, tree, folders, links, facts, leaves):
        known = dict(self.parent.page_refs) if self.parent else {}
        new, folder_pages = [], {}
        for folder in sorted(folders):
            files = sorted((path, file) for path, file in tree.items() if path.rpartition(b"/")[0] == folder)
            folder_pages[folder] = []
            for at in range(0, len(files), 512):
                page = self._encode_manifest_page(files[at:at + 512], leaves)
                if page not in known:
                    known[page] = (self.map_pack.id, self.map_pack.slab_count, len(new))
                    new.append((2, page))
                folder_pages[folder].append((known[page], len(files[at:at + 512]), page))
        self.page_refs = known
        new.append((3, self._encode_root(tree, folders, links, facts, folder_pages, leaves)))
        slab = self.map_pack.add_objects(new, compress=self.parent is None)
        return self.map_pack.id, slab, len(new) - 1

    def _encode_root(self, tree, folders, links, facts, folder_pages, leaves):
        table, live = PackTable(), collections.Counter()
        for places in self.places.values():
            for _, place in places:
                if place not in (None, "lost"):
                    live[place[0]] += 1
        live.update(ref[0] for refs in leaves.values() for ref in refs)
        live.update(ref[0] for pages in folder_pages.values() for ref, _, _ in pages)
        body = put_varint(len(folders))
        for folder in sorted(folders):
            body += put_string(folder) + put_varint(folders[folder]) + put_varint(len(folder_pages[folder]))
            for ref, count, page in folder_pages[folder]:
                body += (table.ref(ref) + put_varint(count) +
                         keyed_hash(self.vault.digest_key, b"holdfast manifest page", page))
        body += put_varint(len(links)) + b"".join(put_string(path) + put_string(links[path]) for path in sorted(links))
        body += put_varint(len(live)) + b"".join(
            put_varint(table.index(pack)) + put_varint(live[pack]) for pack in sorted(live))
        head = b"\1" + self.backup + self.vault.id + self.id + (self.parent.backup if self.parent else NO_ID)
        head += put_varint(self.started_at) + put_varint(self.vault.repository.tick())
        head += put_varint(len(tree)) + put_varint(sum(len(file.content) for file in tree.values()))
        return head + put_string(canonical_json(facts)) + table.encode() + body


# -------------------------------------------------------------------------------------------------------- the reference


def expected_lines(tree, folders, links):
    """What the extraction must give, one object a line, tabs between: kind, path, and what belongs to it."""
    lines = [f"folder\t{path.decode()}\t{mode:o}" for path, mode in folders.items()]
    lines += [
        f"file\t{path.decode()}\t{file.mode:o}\t{file.modified_at}\t{len(file.content)}\t{sha256(file.content).hex()}"
        for path, file in tree.items()
    ]
    lines += [f"link\t{path.decode()}\t{target.decode()}" for path, target in links.items()]
    return "".join(line + "\n" for line in sorted(lines))


def rows(draws, count, page_size):
    """Pages that compress like a table: a few random bytes and much repetition."""
    return b"".join(
        (draws.bytes(24) + b"patient \x01\x02\x03 record ").ljust(page_size, b"abcd"[number % 4:number % 4 + 1])
        for number in range(count))


def sparse(draws, pages, page_size, stored, tail):
    content = bytearray(pages * page_size)
    for page in stored:
        content[page * page_size:(page + 1) * page_size] = rows(draws, 1, page_size)
    return bytes(content[:len(content) - page_size + tail])


def first_tree():
    draws = Draws("the files of the first backup")
    tree = {
        b"PG_VERSION": File(b"15\n", modified_at=START - 5), b"backup_label":
        File(b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n", mode=0o640), b"global/pg_control":
        File(rows(draws, 1, 8192), page_log2=16), b"base/5/1259": File(rows(draws, 10, 8192), kind=1, page_log2=13),
        b"base/5/16384": File(sparse(draws, 5000, 8192, (0, 1, 3, 4, 4095, 4096, 4999), 100), kind=1,
                              page_log2=13), b"base/5/16385": File(b"", kind=1, page_log2=13), b"base/5/16386":
        File(bytes(20000), kind=1,
             page_log2=13), "base/5/Größe (alt)".encode(): File(draws.bytes(5000), mode=0o400, modified_at=-1000),
        b"clinic/visits.ibd": File(rows(draws, 4, 16384), kind=1,
                                   page_log2=14), b"clinic/notes.ibd": File(rows(draws, 6, 4096), kind=1, page_log2=12),
        b"pg_wal/000000010000000000000002": File(rows(draws, 1, 65536) + bytes(65536) + draws.bytes(700),
                                                 kind=3), b"conf/pg_hba.conf": File(b"local all all peer\n", kind=4,
                                                                                    mode=0o644)
    }
    for number in range(515):
        tree[b"many/%03d" % number] = File(b"", mode=0o600)
    folders = {
        b"": 0o700, b"base": 0o700, b"base/5": 0o750, b"clinic": 0o700, b"conf": 0o755, b"empty": 0o711, b"global":
        0o700, b"many": 0o700, b"pg_tblspc": 0o700, b"pg_wal": 0o700
    }
    return tree, folders, {b"pg_tblspc/16400": b"/srv/fast/pg"}


def second_tree():
    """The first one, some time later: pages changed, a file grew, one went, one came."""
    tree, folders, links = first_tree()
    draws = Draws("the files of the second backup")

    def change(path, page, data):
        old = tree[path]
        size = 1 << old.page_log2
        content = old.content[:page * size].ljust(page * size, b"\0") + data + old.content[page * size + len(data):]
        tree[path] = File(content, old.kind, old.page_log2, old.mode, START + 86_400_000)

    change(b"base/5/1259", 3, rows(draws, 2, 8192))
    change(b"base/5/1259", 10, rows(draws, 1, 8192)[:4100])
    change(b"base/5/16384", 4990, rows(draws, 1, 8192))
    change(b"clinic/visits.ibd", 1, rows(draws, 1, 16384))
    change(b"PG_VERSION", 0, b"15.5\n")
    change(b"many/514", 0, b"x")
    del tree[b"clinic/notes.ibd"]
    tree[b"clinic/doctors.ibd"] = File(rows(draws, 3, 4096), kind=1, page_log2=12)
    folders[b"log"] = 0o700
    links[b"pg_tblspc/16401"] = b"/srv/slow/pg"
    return tree, folders, links


KEY_FILE_SECRET = sha256(b"the key file of the reference")
RECIPIENT_SECRET = sha256(b"the recipient of the reference")
COMMAND_OUTPUT = sha256(b"what the command of the reference prints")
PASSPHRASE = b"a passphrase that everybody knows"


def write_reference(folder):
    """repository/, the secrets that open it, and expected-<backup id>.txt for each backup that counts."""
    repository = RepositoryWriter(os.path.join(folder, "repository"), "the reference repository")
    repository.add_key_file_slot("server", KEY_FILE_SECRET)
    repository.add_passphrase_slot("safe", PASSPHRASE)
    repository.add_recipient_slot("escrow", x25519_public(RECIPIENT_SECRET))
    repository.add_command_slot("hsm", "hsm", COMMAND_OUTPUT)
    first_signer = repository.add_signer("first appliance")
    second_signer = repository.add_signer("second appliance")

    house = VaultWriter(repository, repository.id)
    house.append_lineage(first_signer, "house", repository.id.hex(), "house")
    house.append("POLICY", first_signer, {"subject": "source", "id": repository.draws.id().hex()}, {"name": "clinic"})

    vault = VaultWriter(repository)
    vault.append_lineage(first_signer, "postgres", "7301234567890123456", "clinic")

    facts = {"engine": "postgres", "version": 150005, "name": 'Größe \u20ac "\\\n'}
    first = Session(vault)
    first.intend(first_signer)
    tree, folders, links = first_tree()
    first.write(first_signer, tree, folders, links, facts, compress_slab=lambda number: number != 1, gap_before=2)
    put_text(folder, f"expected-{first.backup.hex()}.txt", expected_lines(tree, folders, links))

    aborted = Session(vault, parent=first)
    aborted.intend(first_signer)
    vault.append("ABORT", first_signer, {"session": aborted.id.hex(), "reason": "cancelled"})
    aborted.commit(first_signer, (vault.draws.id(), 0, 0), [], facts)

    vault.add_key_epoch()
    vault.append("KEY", first_signer, {"generation": vault.generation, "slots": []})
    second = Session(vault, suite=SUITE_XCHACHA20, parent=first)
    second.intend(second_signer)
    tree, folders, links = second_tree()
    second.write(second_signer, tree, folders, links, facts)
    put_text(folder, f"expected-{second.backup.hex()}.txt", expected_lines(tree, folders, links))

    late = Session(vault, parent=second)
    late.intend(first_signer)
    vault.append("EPOCH", second_signer, {"epoch": 1}, epoch=1)
    late.commit(first_signer, (vault.draws.id(), 0, 0), [], facts)
    vault.append(
        "VERDICT", second_signer,
        {"backup": second.backup.hex(), "attempt": vault.draws.id().hex(), "result": "passed", "state": "proven"},
        {"note": "none"}, epoch=1)
    vault.append("CHECKPOINT", second_signer, {"sequence": vault.sequence, "head": vault.head.hex()}, epoch=1)

    put_text(folder, "key-file", f"holdfast-key-1 {KEY_FILE_SECRET.hex()}\n")
    put_text(folder, "passphrase", PASSPHRASE.decode() + "\n")
    put_text(folder, "recipient-secret", f"holdfast-secret-1 {RECIPIENT_SECRET.hex()}\n")
    return first, second


def put_text(folder, name, text):
    with open(os.path.join(folder, name), "x", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    if len(sys.argv) != 2 or os.path.exists(sys.argv[1]):
        sys.exit("usage: holdfast_writer.py FOLDER (which must not exist)")
    os.makedirs(sys.argv[1])
    write_reference(sys.argv[1])

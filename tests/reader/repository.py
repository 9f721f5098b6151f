"""A repository with its vaults and backups, put together from the formats."""
import collections

from primitives import Fault, fail_unless, keyed_hash
from objects import (InForce, LEAF_PAGES, RootBundle, SLOT_KINDS, Slot, Store, Superblock, VaultKeys, highest_generation,
                     id_from_text)
from vault_log import VaultLog
from containers import Container
from packs import Pack, SLAB_PAGES, split_pages_slab
from manifests import (EXTENT_LOST, EXTENT_ZEROS, Leaf, ManifestRoot, OBJECT_KINDS, OBJECT_LEAF, OBJECT_MANIFEST_PAGE,
                       OBJECT_MANIFEST_ROOT, ceil_divide, parse_manifest_page, show)


class Cache:
    """The newest few of something that is costly to make."""

    def __init__(self, most, forget=None):
        self.most, self.forget, self.items = most, forget, collections.OrderedDict()

    def get(self, key, make):
        if key in self.items:
            self.items.move_to_end(key)
            return self.items[key]
        value = self.items[key] = make()
        if len(self.items) > self.most:
            _, oldest = self.items.popitem(last=False)
            if self.forget is not None:
                self.forget(oldest)
        return value


class Vault:

    def __init__(self, repository, vault_id):
        self.store, self.repository, self.id = repository.store, repository.id, vault_id
        self.folder = f"vaults/{vault_id.hex()}"
        self.is_house = vault_id == repository.id
        self.keys = None
        if highest_generation(self.store, self.folder, "keys"):
            self.keys = VaultKeys(self.store, self.repository, vault_id, repository.root_key, repository.pending)
        self.log = VaultLog(self.store, self.repository, vault_id, repository.signers,
                            self.keys.record_key if self.keys else None)
        fail_unless(
            self.keys is not None or self.log.shredded or not self.log.entries,
            f'vault "{vault_id.hex()}": its keys are missing and no entry of its log says that they were shredded')
        self.packs = Cache(256, Pack.close)
        self.containers = Cache(64, Container.close)
        self.slabs = Cache(64)
        self.object_slabs = Cache(64)

    def check_key_generation(self):
        if self.keys is not None:
            fail_unless(
                self.keys.generation >= self.log.key_generation,
                f'vault "{self.id.hex()}": its newest bundle is generation {self.keys.generation}, '
                f"its log knows {self.log.key_generation}")

    def pack_name(self, pack_id):
        return self.object_name(self.log.relocated.get(pack_id, pack_id))

    def object_name(self, object_id):
        text = object_id.hex()
        return f"{self.folder}/packs/{text[:2]}/{text}"

    def pack(self, pack_id):
        fail_unless(self.keys is not None, f'vault "{self.id.hex()}": its keys were shredded')
        fail_unless(pack_id in self.log.packs, f'pack "{pack_id.hex()}": is not named by a COMMIT that counts')
        return self.packs.get(pack_id, lambda: Pack(self, pack_id, self.pack_name(pack_id), self.container_of(pack_id)))

    def container_of(self, pack_id):
        """None: the pack lies under its own name."""
        where = self.log.relocated.get(pack_id)
        if where is None:
            return None
        return self.containers.get(where, lambda: Container(self, where, self.object_name(where)))

    def object(self, ref, kind):
        """The bytes of a map object, which must be of this kind."""
        pack = self.pack(ref.pack)
        objects = self.object_slabs.get((ref.pack, ref.slab), lambda: pack.objects(ref.slab))
        what = f"{pack.slab_what(ref.slab)}, object {ref.index}"
        fail_unless(ref.index < len(objects), f"{what}: the slab has {len(objects)}")
        found, data = objects[ref.index]
        fail_unless(found == kind, f"{what}: is of kind {found}, a {OBJECT_KINDS[kind]} was expected")
        return data, what

    def pages_slab(self, pack_id, number):
        """(plaintext, offset in it of every page and of the end)"""

        def make():
            pack = self.pack(pack_id)
            what = pack.slab_what(number)
            plain = pack.slab(number)
            fail_unless(pack.slabs[number].kind == SLAB_PAGES, f"{what}: holds no pages")
            _, runs, at = split_pages_slab(plain, what)
            offsets = []
            for run in runs:
                for _ in range(run.count):
                    offsets.append(at)
                    at += 1 << run.page_log2
                at -= run.short_by
            return plain, offsets + [at]

        return self.slabs.get((pack_id, number), make)


class Backup:

    def __init__(self, vault, commit):
        self.vault, self.commit = vault, commit
        self.what = f'backup "{commit.backup.hex()}"'
        data, what = vault.object(commit.root, OBJECT_MANIFEST_ROOT)
        self.root = ManifestRoot(data, commit, vault, f"{self.what}, manifest root ({what})")

    def folder_files(self, folder):
        before = None
        for page in folder.pages:
            data, where = self.vault.object(page.ref, OBJECT_MANIFEST_PAGE)
            what = f'{self.what}, folder "{show(folder.path)}", manifest page ({where})'
            fail_unless(
                keyed_hash(self.vault.keys.digest_key, b"holdfast manifest page", data) == page.digest,
                f"{what}: its digest does not match")
            files = parse_manifest_page(data, folder.path, what)
            fail_unless(len(files) == page.files, f"{what}: lists {len(files)} files, the root says {page.files}")
            for file in files:
                fail_unless(before is None or before < file.path,
                            f'{what}: "{show(file.path)}" is not in the order of names')
                before = file.path
                yield file

    def files(self):
        for folder in self.root.folders:
            yield from self.folder_files(folder)

    def leaves(self, file):
        """(number of the first page, leaf) in order; together they cover the file."""
        pages = ceil_divide(file.size, 1 << file.page_log2)
        first = 0
        for ref in file.leaves:
            data, where = self.vault.object(ref, OBJECT_LEAF)
            what = f'{self.what}, file "{show(file.path)}", leaf ({where})'
            leaf = Leaf(data, what)
            fail_unless(leaf.page_log2 == file.page_log2, f"{what}: has other pages than the file")
            wanted = min(LEAF_PAGES, pages - first)
            fail_unless(leaf.pages == wanted, f"{what}: covers {leaf.pages} pages, {wanted} were expected")
            yield first, leaf
            first += leaf.pages

    def file_what(self, file):
        return f'{self.what}, file "{show(file.path)}"'

    def chunks(self, file):
        """The bytes of a file in order, one page each; None for a page of zeros; with its length."""
        left = file.size
        for first, leaf in self.leaves(file):
            page = first
            for extent in leaf.extents:
                fail_unless(extent.type != EXTENT_LOST,
                            f"{self.file_what(file)}: pages {page} to {page + extent.count - 1} are lost")
                for index in range(extent.first, extent.first + extent.count):
                    length = min(left, 1 << file.page_log2)
                    if extent.type == EXTENT_ZEROS:
                        yield None, length
                    else:
                        plain, offsets = self.vault.pages_slab(extent.pack, extent.slab)
                        what = f'{self.file_what(file)}, page {page} (pack "{extent.pack.hex()}", slab {extent.slab})'
                        fail_unless(index + 1 < len(offsets),
                                    f"{what}: the slab has {len(offsets) - 1} pages, not {index + 1}")
                        data = plain[offsets[index]:offsets[index + 1]]
                        fail_unless(len(data) == length, f"{what}: has {len(data)} bytes, {length} were expected")
                        yield data, length
                    left -= length
                    page += 1


class Repository:

    def __init__(self, root, credential):
        self.store = Store(root)
        self.superblock = Superblock(self.store)
        self.id = self.superblock.repository
        self.slots = [
            Slot(self.store, f"keys/{name}", self.id) for name in self.store.names("keys") if name.startswith("slot-")
        ]
        self.in_force = InForce(self.store, self.superblock)
        self.pending = any(slot.generation > self.in_force.generation for slot in self.slots)
        self.root_key, self.slot = self._unlock(credential)
        self.in_force.check(self.root_key)
        self.signers = RootBundle(self.store, self.id, self.root_key, self.pending)
        self.vaults = [
            Vault(self, id_from_text(name, f'object "vaults/{name}"')) for name in self.store.names("vaults")
        ]

    def _unlock(self, credential):
        kind = SLOT_KINDS[credential.kind]
        fail_unless(any(slot.kind == credential.kind for slot in self.slots),
                    f'repository "{self.id.hex()}": has no slot for a {kind}')
        for slot in self.slots:
            if slot.generation != self.in_force.generation:
                continue
            root_key = slot.open(credential)
            if root_key is not None:
                return root_key, slot
        raise Fault(f'repository "{self.id.hex()}": no slot opens with this {kind}')

    def backup(self, text):
        wanted = id_from_text(text, "backup")
        for vault in self.vaults:
            for commit in vault.log.commits:
                if commit.backup == wanted:
                    return Backup(vault, commit)
        raise Fault(f'backup "{text}": no COMMIT that counts has made it')

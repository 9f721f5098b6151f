"""Objects in a folder, and what opens them: format.h, envelope.h, superblock.h and keys.h."""
import collections
import os
import re
import struct

from primitives import (Cursor, Fault, SUITE_XCHACHA20, aead_open, argon2id13, crc32c, ed25519_valid, fail_unless,
                        key_commitment, keyed_hash, x25519, x25519_public)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# The limits of format.h, keys.h and manifest.h.
SLAB_RAW_MOST = 1 * MIB
MAP_SLAB_MOST = 64 * MIB
SLAB_PAGES_MOST = 4096
PACK_MOST = 1 * GIB
PACK_SLABS_MOST = 1 << 20
DIRECTORY_MOST = 256 * MIB
LEAF_PAGES = 4096
LEAF_MOST = 256 * KIB
MANIFEST_PAGE_FILES = 512
MANIFEST_OBJECT_MOST = 64 * MIB
PATH_MOST = 4096
FACTS_MOST = 16 * MIB
LOG_ENTRY_MOST = 64 * MIB
PAGE_LOG2 = range(12, 17)
SIGNERS_MOST = 64
EPOCHS_MOST = 1024
FOLDERS_MOST = 1 << 20
LINKS_MOST = 1 << 16

# Ours: a slot is not to make us compute for hours.
ARGON2_MEMORY_MOST = 4 * GIB
ARGON2_OPERATIONS_MOST = 1 << 10

ID_TEXT = re.compile(r"[0-9a-f]{32}")


def id_from_text(text, what):
    fail_unless(isinstance(text, str) and ID_TEXT.fullmatch(text) is not None, f"{what}: {text!r} is not an id")
    return bytes.fromhex(text)


class Store:
    """The tree of objects in a folder."""

    def __init__(self, root):
        self.root = root
        fail_unless(os.path.isdir(root), f'"{root}" is not a folder')

    def path(self, name):
        return os.path.join(self.root, name)

    def names(self, folder):
        try:
            return sorted(os.listdir(self.path(folder)))
        except FileNotFoundError:
            return []

    def open(self, name):
        try:
            return open(self.path(name), "rb", buffering=0)
        except FileNotFoundError:
            raise Fault(f'object "{name}" is missing') from None

    def get(self, name, most):
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            fail_unless(size <= most, f'object "{name}" has {size} bytes, at most {most} are allowed')
            data = file.read(size)
        fail_unless(len(data) == size, f'object "{name}" ended while it was read')
        return data


def highest_generation(store, folder, prefix, below=1 << 32):
    """The number behind the last of "<prefix>-<8 hex digits>", or 0."""
    pattern = re.compile(re.escape(prefix) + r"-([0-9a-f]{8})")
    found = [int(match[1], 16) for match in map(pattern.fullmatch, store.names(folder)) if match]
    return max((number for number in found if number < below), default=0)


# ----------------------------------------------------------------------------------------------- envelopes (envelope.h)

ENVELOPE_ROOT_BUNDLE, ENVELOPE_VAULT_BUNDLE, ENVELOPE_LOG_RECORD = 1, 2, 3
ENVELOPE_HEADER = 112


def open_envelope(sealed, kind, generation, repository, subject, wrapping_key, context, what):
    cursor = Cursor(sealed, what)
    cursor.expect(b"HFSEAL01", "the magic of the envelope")
    cursor.expect(struct.pack("<H", kind), "its kind")
    cursor.expect(struct.pack("<H", 1), "its version")
    cursor.expect(struct.pack("<I", generation), "its generation")
    cursor.expect(repository, "its repository id")
    cursor.expect(subject, "its object id")
    seal_key = keyed_hash(wrapping_key, b"holdfast seal", sealed[8:48])
    fail_unless(cursor.take(32) == key_commitment(seal_key), f"{what}: was sealed with another key")
    nonce = cursor.take(24)
    length = cursor.u64()
    fail_unless(cursor.left() == length + 16, f"{what}: says {length} bytes of plaintext, {cursor.left()} follow")
    plain = aead_open(SUITE_XCHACHA20, seal_key, nonce, cursor.take(length + 16), sealed[:ENVELOPE_HEADER] + context)
    fail_unless(plain is not None, f"{what}: is damaged: its seal does not open")
    return plain


# -------------------------------------------------------------------------------------------- superblock (superblock.h)


class Superblock:
    NAME = "holdfast-repository"

    def __init__(self, store):
        raw = store.get(self.NAME, 192)
        cursor = Cursor(raw, f'superblock "{self.NAME}"')
        cursor.expect(b"HFREPO01", "its magic")
        cursor.expect(struct.pack("<I", 1), "its version")
        cursor.reserved(4)
        self.repository = cursor.id()
        self.created_at = cursor.u64()
        readers, _writers, _collectors, _repairers = (cursor.u64() for _ in range(4))
        cursor.reserved(84)
        fail_unless(cursor.u32() == crc32c(raw[:156]), f"{cursor.what}: its CRC-32C does not match")
        self.mac = cursor.take(32)
        cursor.finish()
        fail_unless(readers == 0, f"{cursor.what}: needs reader features {readers:#x} that are not known here")
        self.raw = raw

    def check(self, root_key):
        wanted = keyed_hash(root_key, b"holdfast superblock", self.raw[:160])
        fail_unless(self.mac == wanted, f'superblock "{self.NAME}": was not made by the owner of the root key')


# --------------------------------------------------------------------------------------- the root key in force (in_force.h)


class InForce:
    """Which generation of the root key opens the repository."""

    def __init__(self, store, superblock):
        self.superblock = superblock
        self.generation = highest_generation(store, "keys", "in-force") or 1
        if self.generation == 1:
            return
        name = f"keys/in-force-{self.generation:08x}"
        self.raw = store.get(name, 128)
        cursor = Cursor(self.raw, f'object "{name}"')
        self.what = cursor.what
        cursor.expect(b"HFROOT01", "its magic")
        cursor.expect(struct.pack("<I", 1), "its version")
        cursor.expect(struct.pack("<I", self.generation), "its generation")
        cursor.expect(superblock.repository, "its repository id")
        cursor.u64()
        cursor.reserved(24)
        self.mac = cursor.take(32)
        cursor.reserved(28)
        fail_unless(cursor.u32() == crc32c(self.raw[:124]), f"{cursor.what}: its CRC-32C does not match")
        cursor.finish()

    def check(self, root_key):
        if self.generation == 1:
            self.superblock.check(root_key)
            return
        wanted = keyed_hash(root_key, b"holdfast in force", self.raw[:64], self.superblock.raw[:160])
        fail_unless(self.mac == wanted, f"{self.what}: was not made by the owner of the root key")


# ------------------------------------------------------------------------------------------------------- slots (keys.h)

SLOT_PASSPHRASE, SLOT_KEY_FILE, SLOT_RECIPIENT, SLOT_COMMAND = 1, 2, 3, 4
SLOT_KINDS = {
    SLOT_PASSPHRASE: "passphrase", SLOT_KEY_FILE: "key file", SLOT_RECIPIENT: "recipient", SLOT_COMMAND: "command"
}


def read_hex_line(path, label):
    """One line "<label> <64 hex digits>"."""
    with open(path, encoding="ascii", errors="replace") as file:
        text = file.read(1000)
    match = re.fullmatch(re.escape(label) + r" ([0-9a-fA-F]{64})\n?", text)
    fail_unless(match is not None, f'"{path}" is not one line "{label} <64 hex digits>"')
    return bytes.fromhex(match[1])


class Credential:
    """What opens a slot: its kind, and the passphrase or the 32 bytes."""

    def __init__(self, kind, secret):
        self.kind, self.secret = kind, secret

    @classmethod
    def from_arguments(cls, arguments):
        if arguments.key_file:
            return cls(SLOT_KEY_FILE, read_hex_line(arguments.key_file, "holdfast-key-1"))
        if arguments.recipient_secret:
            return cls(SLOT_RECIPIENT, read_hex_line(arguments.recipient_secret, "holdfast-secret-1"))
        path = arguments.passphrase_file or arguments.command_output
        with open(path, "rb") as file:
            secret = file.read(64 * KIB)
        if arguments.command_output:
            fail_unless(len(secret) == 32, f'"{path}" has {len(secret)} bytes, a command prints 32')
            return cls(SLOT_COMMAND, secret)
        if secret.endswith(b"\n"):
            secret = secret[:-2] if secret.endswith(b"\r\n") else secret[:-1]
        return cls(SLOT_PASSPHRASE, secret)


class Slot:

    def __init__(self, store, name, repository):
        raw = store.get(name, 512)
        self.name = name
        cursor = Cursor(raw, f'key slot "{name}"')
        self.what = cursor.what
        fail_unless(len(raw) == 512, f"{self.what}: has {len(raw)} bytes, 512 were expected")
        fail_unless(
            struct.unpack_from("<I", raw, 508)[0] == crc32c(raw[:508]), f"{self.what}: its CRC-32C does not match")
        cursor.expect(b"HFSLOT01", "its magic")
        cursor.expect(struct.pack("<H", 1), "its version")
        self.kind = cursor.u16()
        fail_unless(self.kind in SLOT_KINDS, f"{self.what}: is of the unknown kind {self.kind}")
        self.generation = cursor.u32()
        fail_unless(self.generation > 0, f"{self.what}: its root key has generation 0")
        cursor.expect(repository, "its repository id")
        self.id = cursor.id()
        fail_unless(name == f"keys/slot-{self.id.hex()}", f'{self.what}: is the slot "{self.id.hex()}"')
        self.created_at = cursor.u64()
        self.label = cursor.padded_text(64, "its name")
        self.operations, self.memory = cursor.u64(), cursor.u64()
        self.salt = cursor.take(16)
        self.public, self.ephemeral = cursor.take(32), cursor.take(32)
        if self.kind == SLOT_COMMAND:
            command = cursor.padded_text(64, "its command's name")
            fail_unless(command == self.label, f'{self.what}: its command "{command}" is not its name "{self.label}"')
        else:
            cursor.reserved(64)
        cursor.reserved(88)
        self._unused_fields_are_zeros()
        self.commitment, self.nonce, self.sealed = cursor.take(32), cursor.take(24), cursor.take(48)
        cursor.reserved(36)
        self.associated = raw[:400]

    def _unused_fields_are_zeros(self):
        if self.kind != SLOT_PASSPHRASE:
            fail_unless(self.operations == 0 and self.memory == 0 and self.salt == bytes(16),
                        f"{self.what}: has Argon2id costs or salt without a passphrase")
        if self.kind not in (SLOT_RECIPIENT, SLOT_KEY_FILE):
            fail_unless(self.public == bytes(32), f"{self.what}: has a public key that its kind does not have")
        if self.kind != SLOT_RECIPIENT:
            fail_unless(self.ephemeral == bytes(32), f"{self.what}: has an ephemeral key without a recipient")

    def is_for(self, credential):
        """Whether the slot names this key; passphrases and commands are not named."""
        if self.kind != credential.kind:
            return False
        if self.kind == SLOT_KEY_FILE:
            return self.public == keyed_hash(credential.secret, b"holdfast key file")
        if self.kind == SLOT_RECIPIENT:
            return self.public == x25519_public(credential.secret)
        return True

    def wrapping_key(self, secret):
        if self.kind == SLOT_PASSPHRASE:
            fail_unless(self.memory <= ARGON2_MEMORY_MOST and self.operations <= ARGON2_OPERATIONS_MOST,
                        f"{self.what}: asks for too much: {self.operations} operations, {self.memory} bytes")
            return argon2id13(secret, self.salt, self.operations, self.memory)
        if self.kind == SLOT_RECIPIENT:
            shared = x25519(secret, self.ephemeral)
            return keyed_hash(shared, b"holdfast slot", self.ephemeral, self.public, self.id)
        return keyed_hash(secret, b"holdfast slot", self.id)

    def open(self, credential):
        """The root key, or None when this credential is not the slot's."""
        if not self.is_for(credential):
            return None
        key = self.wrapping_key(credential.secret)
        if key_commitment(key) != self.commitment:
            fail_unless(self.kind in (SLOT_PASSPHRASE, SLOT_COMMAND),
                        f"{self.what}: is damaged: its key does not fit it")
            return None
        root_key = aead_open(SUITE_XCHACHA20, key, self.nonce, self.sealed, self.associated)
        fail_unless(root_key is not None, f"{self.what}: is damaged: its seal does not open")
        return root_key


# ----------------------------------------------------------------------------------------------------- bundles (keys.h)

def open_newest(store, folder, prefix, kind, repository, subject, root_key, pending):
    """(generation, what, plaintext) of the bundle that counts: while a root key waits to come into force, bundles that
    another key sealed are passed over."""
    generation = highest_generation(store, folder, prefix)
    while True:
        name = f"{folder}/{prefix}-{max(generation, 1):08x}"
        what = f'{"root" if kind == ENVELOPE_ROOT_BUNDLE else "vault"} bundle "{name}"'
        sealed = store.get(name, 1 * MIB)
        ours = key_commitment(keyed_hash(root_key, b"holdfast seal", sealed[8:48])) == sealed[48:80]
        before = highest_generation(store, folder, prefix, generation)
        if ours or not pending or not before:
            return generation, what, open_envelope(sealed, kind, generation, repository, subject, root_key, b"", what)
        generation = before


Signer = collections.namedtuple("Signer", "public appliance added_at name")


class RootBundle:

    def __init__(self, store, repository, root_key, pending=False):
        self.generation, what, plain = open_newest(store, "keys", "root", ENVELOPE_ROOT_BUNDLE, repository, repository,
                                                   root_key, pending)
        cursor = Cursor(plain, what)
        cursor.expect(struct.pack("<I", 1), "its version")
        count = cursor.u32()
        fail_unless(1 <= count <= SIGNERS_MOST, f"{what}: has {count} signers")
        self.signers = []
        for _ in range(count):
            self._read_signer(cursor, repository)
        cursor.finish()

    def _read_signer(self, cursor, repository):
        signed = bytes(cursor.data[cursor.at:cursor.at + 128])
        signer = Signer(cursor.take(32), cursor.id(), cursor.u64(), cursor.padded_text(64, "a signer's name"))
        cursor.reserved(8)
        by = self.signers[-1].public if self.signers else signer.public
        fail_unless(ed25519_valid(by, b"holdfast signer" + repository + signed, cursor.take(64)),
                    f'{cursor.what}: the signature that brought in signer "{signer.name}" is wrong')
        self.signers.append(signer)

    def find(self, public):
        return next((signer for signer in self.signers if signer.public == public), None)


class VaultKeys:

    def __init__(self, store, repository, vault, root_key, pending=False):
        self.generation, what, plain = open_newest(store, f"vaults/{vault.hex()}", "keys", ENVELOPE_VAULT_BUNDLE,
                                                   repository, vault, root_key, pending)
        cursor = Cursor(plain, what)
        cursor.expect(struct.pack("<I", 1), "its version")
        count = cursor.u32()
        fail_unless(1 <= count <= EPOCHS_MOST, f"{what}: has {count} key epochs")
        self.map_key, self.record_key, self.digest_key = cursor.take(32), cursor.take(32), cursor.take(32)
        self.tag_key = cursor.take(16)
        cursor.reserved(16)
        self.data_secrets = {}
        for number in range(1, count + 1):
            cursor.expect(struct.pack("<I", number), "a key epoch's number")
            cursor.reserved(4)
            cursor.u64()
            self.data_secrets[number] = cursor.take(32)
            fail_unless(
                cursor.take(32) == x25519_public(self.data_secrets[number]),
                f"{what}: the public key of epoch {number} is not that of its secret")
        cursor.finish()

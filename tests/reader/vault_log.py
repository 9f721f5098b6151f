"""The vault log and which of its entries count: vault_log.h."""
import collections
import re
import struct

import log_rules
from primitives import Cursor, ed25519_valid, fail_unless, parse_canonical_json, sha256
from objects import ENVELOPE_LOG_RECORD, LOG_ENTRY_MOST, id_from_text, open_envelope
from packs import PACK_KINDS, PACK_STREAM
from manifests import ObjectRef

LOG_HEADER = 160
LOG_KINDS = {
    number + 1: name
    for number, name in enumerate(
        "LINEAGE INTENT COMMIT END ABORT EPOCH PIN UNPIN PRUNE CONDEMN DELETE RELOCATE HOLD RELEASE LOCK KEY SHRED "
        "POLICY VERDICT GAP CHECKPOINT".split())
}

# Members of the public part and of the sealed part; None: the text does not list them.
LOG_MEMBERS = {
    "LINEAGE": ("engine lineage", "identity name"),
    "INTENT": ("session parents builds_on operation", ""),
    "COMMIT": ("session backup parent root packs dropped", "source facts"),
    "END": ("session", ""),
    "ABORT": ("session reason", ""),
    "EPOCH": ("epoch", "reason person"),
    "PIN": ("reader backup", ""),
    "UNPIN": ("reader backup", ""),
    "PRUNE": ("backups reason", ""),
    "CONDEMN": ("packs reason", ""),
    "DELETE": ("packs reason", ""),
    "RELOCATE": ("session packs objects", ""),
    "HOLD": ("backup until", "reason person"),
    "RELEASE": ("backup", "reason person"),
    "LOCK": ("backup until", "reason person"),
    "KEY": ("generation slots", ""),
    "SHRED": ("generation", "person reason"),
    "POLICY": ("subject id", None),
    "VERDICT": ("backup attempt result state", None),
    "GAP": ("", "from_timeline from timeline to cause"),
    "CHECKPOINT": ("sequence head", "")
}


# A COMMIT of a stream's session.
STRETCH_MEMBERS = ("session stretch packs dropped", "source stream")


class LogEntry:

    def __init__(self, raw, name, vault_id, repository, sequence, previous_hash, signers, record_key):
        cursor = Cursor(raw, f'log entry "{name}"')
        self.what = cursor.what
        cursor.expect(b"HFLOG001", "its magic")
        cursor.expect(struct.pack("<H", 1), "its version")
        kind = cursor.u16()
        fail_unless(kind in LOG_KINDS, f"{self.what}: is of the unknown kind {kind}")
        self.kind = LOG_KINDS[kind]
        cursor.expect(bytes(4), "its flags")
        cursor.expect(struct.pack("<Q", sequence), "its sequence")
        self.sequence = sequence
        self.time = cursor.u64()
        cursor.expect(repository, "its repository id")
        cursor.expect(vault_id, "its vault id")
        self.appliance = cursor.id()
        self.epoch = cursor.u64()
        cursor.expect(previous_hash, "the hash of the entry before it")
        public_key = cursor.take(32)
        public_length, sealed_length = cursor.u32(), cursor.u32()
        public, sealed = cursor.take(public_length), cursor.take(sealed_length)
        signature = cursor.take(64)
        cursor.finish()
        fail_unless(ed25519_valid(public_key, raw[:-64], signature), f"{self.what}: its signature is wrong")
        self.hash = sha256(raw)
        self.signer = signers.find(public_key)
        fail_unless(self.signer is not None, f"{self.what}: was signed by {public_key.hex()}, who is no signer here")
        fail_unless(
            self.signer.appliance == self.appliance,
            f"{self.what}: names appliance {self.appliance.hex()}, its signer's is {self.signer.appliance.hex()}")
        self.public = parse_canonical_json(public, f"{self.what}, public part")
        self.sealed = None
        self.has_sealed = sealed_length != 0
        if self.has_sealed and record_key is not None:
            what = f"{self.what}, sealed part"
            plain = open_envelope(sealed, ENVELOPE_LOG_RECORD, 0, repository, vault_id, record_key, raw[:152], what)
            self.sealed = parse_canonical_json(plain, what)
        self.void = None  # why the entry does not count

    def member(self, name, kind):
        fail_unless(isinstance(self.public.get(name), kind),
                    f'{self.what}: member "{name}" is missing or of another type')
        return self.public[name]

    def member_id(self, name, or_null=False):
        if or_null and name in self.public and self.public[name] is None:
            return None
        return id_from_text(self.public.get(name), f'{self.what}, member "{name}"')

    def member_rows(self, name, count):
        """A list of lists; where an id stands first or, in pairs, second, it is read as one."""
        rows = []
        for row in self.member(name, list):
            fail_unless(isinstance(row, list) and len(row) == count, f'{self.what}, member "{name}": {row!r} is odd')
            ids = [id_from_text(item, f'{self.what}, member "{name}"') for item in row[:2 if count == 2 else 1]]
            rows.append((*ids, *row[len(ids):]))
        return rows

    def member_ids(self, name):
        return [id_from_text(item, f'{self.what}, member "{name}"') for item in self.member(name, list)]

    def check_members(self):
        """Every member that the text lists is there, and no other."""
        public, sealed = LOG_MEMBERS[self.kind]
        if self.kind == "COMMIT" and "stretch" in self.public:
            public, sealed = STRETCH_MEMBERS
        if self.kind == "PRUNE" and "stretches" in self.public:
            public = "stretches reason"
        if self.kind == "RELEASE" and "hold" in self.public:
            public = "backup hold"
        if self.kind in ("POLICY", "VERDICT"):
            fail_unless(self.has_sealed, f"{self.what}: has no sealed part")
        elif self.kind != "EPOCH":
            fail_unless(self.has_sealed == bool(sealed),
                        f"{self.what}: a sealed part is {'missing' if sealed else 'not foreseen'}")
        compare = [("public", self.public, public)]
        if self.sealed is not None and sealed is not None:
            compare.append(("sealed", self.sealed, sealed))
        for part, found, wanted in compare:
            odd = set(found) ^ set(wanted.split())
            fail_unless(
                not odd,
                f"{self.what}: members {sorted(odd)} of its {part} part are missing or not in the format's text")


class LogSession:
    """What an INTENT began."""

    def __init__(self, entry):
        self.state = "open"  # "committed", "ended", "aborted"
        self.sequence, self.appliance = entry.sequence, entry.appliance
        self.collects = entry.public["operation"] == "collect"
        self.streams = entry.public["operation"] == "stream"
        self.parents = entry.member_ids("parents")
        self.builds_on = entry.member_id("builds_on", or_null=True)


Pin = collections.namedtuple("Pin", "sequence appliance")
Hold = collections.namedtuple("Hold", "sequence backup until")
Container = collections.namedtuple("Container", "id bytes sha256")
CommittedPack = collections.namedtuple("CommittedPack", "id kind bytes sha256 commit")


class Commit:
    """A COMMIT entry: a backup, and the packs that it brings."""

    def __init__(self, entry):
        self.entry = entry
        self.session = entry.member_id("session")
        self.backup = entry.member_id("backup")
        self.parent = entry.member_id("parent", or_null=True)
        root = entry.member("root", dict)
        self.root = ObjectRef(id_from_text(root.get("pack"), f"{entry.what}, root"), root.get("slab"),
                              root.get("index"))
        fail_unless(
            type(self.root.slab) is int and type(self.root.index) is int,
            f"{entry.what}: its root is not an object's name")
        self.packs = [self._pack(row) for row in entry.member("packs", list)]
        self.dropped = entry.member_ids("dropped")
        self.pruned = None
        self.locked_until = float("-inf")
        if entry.sealed is not None:
            fail_unless(isinstance(entry.sealed.get("source"), str), f'{entry.what}: member "source" is missing')
            fail_unless(isinstance(entry.sealed.get("facts"), dict), f'{entry.what}: member "facts" is missing')

    def _pack(self, row):
        what = f"{self.entry.what}, packs"
        fail_unless(isinstance(row, list) and len(row) == 4, f"{what}: {row!r} is not [id, kind, bytes, sha256]")
        fail_unless(row[1] in PACK_KINDS and type(row[2]) is int, f"{what}: {row!r} is not [id, kind, bytes, sha256]")
        fail_unless(
            isinstance(row[3], str) and re.fullmatch(r"[0-9a-f]{64}", row[3]) is not None,
            f"{what}: {row[3]!r} is not a SHA-256")
        return CommittedPack(id_from_text(row[0], what), row[1], row[2], bytes.fromhex(row[3]), self)


def lsn_from_text(text, what):
    fail_unless(isinstance(text, str) and re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text) is not None,
                f"{what}: {text!r} is no position")
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class Stretch:
    """A COMMIT entry of a stream's session: a part of the stream, in one pack."""

    def __init__(self, entry):
        self.entry = entry
        self.session = entry.member_id("session")
        self.stretch = entry.member_id("stretch")
        self.packs = [Commit._pack(self, row) for row in entry.member("packs", list)]
        fail_unless(len(self.packs) == 1 and self.packs[0].kind == PACK_STREAM,
                    f"{entry.what}: a stretch is one pack of kind stream")
        fail_unless(entry.member_ids("dropped") == [], f"{entry.what}: a stretch drops no packs")
        self.pack = self.packs[0]
        self.pruned = None
        self.stream = None
        if entry.sealed is not None:
            self.stream = stream = entry.sealed.get("stream")
            odd = set(stream) - {"marks"} ^ set("timeline start end whole first_time last_time commits previous histories".split())
            fail_unless(not odd, f"{entry.what}: members {sorted(odd)} of its stream are missing or not in the text")
            self.timeline = stream["timeline"]
            self.start, self.end, self.whole = (lsn_from_text(stream[name], entry.what)
                                                for name in ("start", "end", "whole"))
            fail_unless(self.start <= self.end, f"{entry.what}: ends before it starts")
            self.marks = [(lsn_from_text(position, entry.what), text) for position, text in stream.get("marks", [])]
            fail_unless("marks" not in stream or 1 <= len(self.marks) <= 2, f"{entry.what}: {len(self.marks)} marks")
            places = [position for position, _ in self.marks]
            fail_unless(places == sorted(places) and all(place <= self.end for place in places),
                        f"{entry.what}: its marks are not in order")


class VaultLog:
    """All entries in order, and what they add up to."""

    def __init__(self, store, repository, vault, signers, record_key):
        folder = f"vaults/{vault.hex()}/log"
        self.entries = []
        self.engine = self.lineage = self.identity = self.name = None
        self.epoch = 0
        self.holder = None  # the appliance of the last EPOCH
        self.sessions = {}  # id -> LogSession
        self.commits = []  # those that count, in order
        self.stretches = []  # those that count, in order
        self.packs = {}  # id -> CommittedPack, deleted ones left out
        self.condemned = {}  # pack id -> sequence
        self.relocated = {}  # pack id -> id of its container
        self.objects = {}  # id -> Container
        self.pins = {}  # (reader, backup) -> Pin, open ones
        self.holds = []  # those that were not released
        self.key_generation = 0
        self.shredded = False

        names = store.names(folder)
        for name in names:
            fail_unless(re.fullmatch(r"[0-9a-f]{16}", name) is not None, f'object "{folder}/{name}" is no log entry')
        for sequence in range(1, len(names) + 1):
            fail_unless(
                int(names[sequence - 1], 16) == sequence, f'log entry {sequence} of vault "{vault.hex()}" is missing')
            name = f"{folder}/{sequence:016x}"
            entry = LogEntry(store.get(name, LOG_ENTRY_MOST), name, vault, repository, sequence,
                             self.entries[-1].hash if self.entries else bytes(32), signers, record_key)
            self.entries.append(entry)
            self._apply(entry)

    def _apply(self, entry):
        entry.void = log_rules.judge(self, entry)
        if entry.void is None:
            apply = getattr(self, "_apply_" + entry.kind.lower(), None)
            if apply is not None:
                apply(entry)

    def find_commit(self, backup):
        return next((commit for commit in self.commits if commit.backup == backup), None)

    def _apply_intent(self, entry):
        session = entry.member_id("session")
        fail_unless(session not in self.sessions, f'{entry.what}: session "{session.hex()}" has begun before')
        self.sessions[session] = LogSession(entry)

    def _apply_end(self, entry):
        self.sessions[entry.member_id("session")].state = "ended"

    def _apply_abort(self, entry):
        self.sessions[entry.member_id("session")].state = "aborted"

    def _apply_epoch(self, entry):
        self.epoch, self.holder = entry.epoch, entry.appliance

    def _apply_pin(self, entry):
        self.pins[entry.member_id("reader"), entry.member_id("backup")] = Pin(entry.sequence, entry.appliance)

    def _apply_unpin(self, entry):
        del self.pins[entry.member_id("reader"), entry.member_id("backup")]

    def _apply_prune(self, entry):
        if "stretches" in entry.public:
            pruned = set(entry.member_ids("stretches"))
            for stretch in self.stretches:
                stretch.pruned = entry if stretch.stretch in pruned else stretch.pruned
            return
        for backup in entry.member_ids("backups"):
            self.find_commit(backup).pruned = entry

    def _apply_condemn(self, entry):
        for pack in entry.member_ids("packs"):
            self.condemned[pack] = entry.sequence

    def _apply_delete(self, entry):
        for pack in entry.member_ids("packs"):
            del self.packs[pack], self.condemned[pack]
            self.relocated.pop(pack, None)

    def _apply_relocate(self, entry):
        for row in entry.member_rows("objects", 3):
            fail_unless(
                type(row[1]) is int and isinstance(row[2], str) and re.fullmatch(r"[0-9a-f]{64}", row[2]) is not None,
                f"{entry.what}: {row!r} is not [id, bytes, sha256]")
            self.objects[row[0]] = Container(row[0], row[1], bytes.fromhex(row[2]))
        for pack, target in entry.member_rows("packs", 2):
            self.relocated[pack] = target

    def _apply_hold(self, entry):
        until = entry.public.get("until")
        self.holds.append(Hold(entry.sequence, entry.member_id("backup"), float("inf") if until is None else until))

    def _apply_release(self, entry):
        number = entry.public.get("hold")
        self.holds = [
            hold for hold in self.holds
            if hold.backup != entry.member_id("backup") or number not in (None, hold.sequence)
        ]

    def _apply_lock(self, entry):
        commit = self.find_commit(entry.member_id("backup"))
        commit.locked_until = max(commit.locked_until, entry.member("until", int))

    def _apply_key(self, entry):
        self.key_generation = entry.member("generation", int)

    def _apply_shred(self, entry):
        self.shredded = True

    def _apply_checkpoint(self, entry):
        sequence = entry.member("sequence", int)
        fail_unless(
            1 <= sequence < entry.sequence and self.entries[sequence - 1].hash.hex() == entry.public.get("head"),
            f"{entry.what}: is not a checkpoint of this log at entry {sequence}")

    def _apply_lineage(self, entry):
        fail_unless(self.lineage is None, f"{entry.what}: the vault has a lineage already")
        self.engine, self.lineage = entry.member("engine", str), entry.member("lineage", str)
        if entry.sealed is not None:
            self.identity, self.name = entry.sealed.get("identity"), entry.sealed.get("name")
            fail_unless(
                isinstance(self.identity, str) and isinstance(self.name, str),
                f"{entry.what}: identity or name is missing in its sealed part")
            wanted = sha256(self.engine.encode(), b"\0", self.identity.encode()).hex()
            fail_unless(self.lineage == wanted, f"{entry.what}: its lineage is not the hash of engine and identity")

    def _apply_commit(self, entry):
        if "stretch" in entry.public:
            self._apply_stretch(entry)
            return
        commit = Commit(entry)
        fail_unless(
            self.find_commit(commit.backup) is None,
            f'{entry.what}: backup "{commit.backup.hex()}" was committed before')
        self.sessions[commit.session].state = "committed"
        self.commits.append(commit)
        for pack in commit.packs:
            fail_unless(pack.id not in self.packs, f'{entry.what}: pack "{pack.id.hex()}" was committed before')
            self.packs[pack.id] = pack

    def _apply_stretch(self, entry):
        """The session stays open.  Its pack's hash is what the next stretch names as the one before."""
        stretch = Stretch(entry)
        before = self.stretches[-1].pack.sha256.hex() if self.stretches else "00" * 32
        if stretch.stream is not None:
            fail_unless(stretch.stream["previous"] == before, f"{entry.what}: does not follow the stretch before it")
        fail_unless(stretch.pack.id not in self.packs,
                    f'{entry.what}: pack "{stretch.pack.id.hex()}" was committed before')
        self.stretches.append(stretch)
        self.packs[stretch.pack.id] = stretch.pack

    def sessions_behind(self, session):
        """The session and those it continues."""
        found = []
        while session is not None and session not in found:
            found.append(session)
            session = self.sessions[session].builds_on if session in self.sessions else None
        return found

"""Which entries of a vault's log count: log_rules.h."""

# Kinds that, once there was an EPOCH, only the appliance may write that wrote it.
BY_HOLDER = "INTENT COMMIT PRUNE CONDEMN DELETE RELOCATE RELEASE KEY SHRED".split()
NOT_SHREDDED = "INTENT COMMIT PIN HOLD LOCK".split()


class Void(Exception):
    """Why an entry does not count."""


def void_unless(condition, why):
    if not condition:
        raise Void(why)


def judge(log, entry):
    """None, or why the entry that comes next does not count.  A Fault when its parts have not the shape of their kind."""
    if entry.epoch < log.epoch:
        return f"epoch {entry.epoch} is not {log.epoch}"
    parts = PARTS[entry.kind](log, entry)
    try:
        if entry.kind != "EPOCH":
            void_unless(entry.epoch == log.epoch, f"epoch {entry.epoch} is not {log.epoch}")
        void_unless(entry.kind not in NOT_SHREDDED or not log.shredded, "the vault is shredded")
        void_unless(entry.kind not in BY_HOLDER or log.holder in (None, entry.appliance), "another took the vault over")
        RULES.get(entry.kind, lambda *_: None)(log, entry, parts)
    except Void as why:
        return str(why)
    return None


# --------------------------------------------------------------------------------------------- what the rules look at


def no_parts(_log, _entry):
    return None


def session_part(_log, entry):
    return entry.member_id("session")


def pin_parts(_log, entry):
    return entry.member_id("reader"), entry.member_id("backup")


def list_part(name):

    def read(_log, entry):
        ids = entry.member_ids(name)
        entry.member("reason", str)
        return ids

    return read


def prune_part(log, entry):
    """Of backups, or of a stream."""
    return list_part("stretches" if "stretches" in entry.public else "backups")(log, entry)


def intent_parts(_log, entry):
    entry.member("operation", str)
    return entry.member_id("session"), entry.member_ids("parents"), entry.member_id("builds_on", or_null=True)


def commit_parts(_log, entry):
    if "stretch" in entry.public:
        return entry.member_id("session"), True, None
    return entry.member_id("session"), False, entry.member_id("parent", or_null=True)


def relocate_parts(_log, entry):
    return (entry.member_id("session"), entry.member_rows("packs", 2), entry.member_rows("objects", 3))


def keep_parts(_log, entry):
    if entry.kind == "LOCK" or entry.public.get("until") is not None:
        entry.member("until", int)
    return entry.member_id("backup")


def release_parts(_log, entry):
    """The hold is named by its entry's number, or all of them are meant."""
    hold = entry.public.get("hold")
    return entry.member_id("backup"), None if hold is None else entry.member("hold", int)


def number_part(name):
    return lambda _log, entry: entry.member(name, int)


PARTS = {
    "LINEAGE": no_parts,
    "INTENT": intent_parts,
    "COMMIT": commit_parts,
    "END": session_part,
    "ABORT": session_part,
    "EPOCH": number_part("epoch"),
    "PIN": pin_parts,
    "UNPIN": pin_parts,
    "PRUNE": prune_part,
    "CONDEMN": list_part("packs"),
    "DELETE": list_part("packs"),
    "RELOCATE": relocate_parts,
    "HOLD": keep_parts,
    "RELEASE": release_parts,
    "LOCK": keep_parts,
    "KEY": number_part("generation"),
    "SHRED": number_part("generation"),
    "POLICY": no_parts,
    "VERDICT": no_parts,
    "GAP": no_parts,
    "CHECKPOINT": no_parts
}

# ---------------------------------------------------------------------------------------------------------- the rules


def open_sessions(log):
    return [session for session in log.sessions.values() if session.state == "open"]


def open_session(log, session_id):
    session = log.sessions.get(session_id)
    void_unless(session is not None, "its session has no INTENT")
    void_unless(session.state == "open", f"its session was {session.state} before")
    return session


def kept_backup(log, backup):
    commit = log.find_commit(backup)
    void_unless(commit is not None, f"there is no backup {backup.hex()}")
    void_unless(commit.pruned is None, f"backup {backup.hex()} is pruned")
    return commit


def held(log, commit, at):
    return commit.locked_until > at or any(hold.backup == commit.backup and hold.until > at for hold in log.holds)


def once_each(ids):
    void_unless(ids, "it names nothing")
    void_unless(len(ids) == len(set(ids)), "it names one twice")


def judge_intent(log, entry, parts):
    _, parents, builds_on = parts
    for parent in parents:
        kept_backup(log, parent)
    void_unless(len(parents) == len(set(parents)), "it names one twice")
    if builds_on is not None:
        void_unless(
            open_session(log, builds_on).appliance == entry.appliance, "it continues another appliance's session")


def judge_commit(log, entry, parts):
    session_id, is_stretch, parent = parts
    session = open_session(log, session_id)
    void_unless(not session.collects, "its session is a collection")
    void_unless(session.streams == is_stretch, "it has not what its session brings")
    void_unless(session.appliance == entry.appliance, "its session is another appliance's")
    void_unless(parent is None or parent in session.parents, "its INTENT does not name its parent")


def judge_close(log, entry, session_id):
    session = open_session(log, session_id)
    void_unless(entry.appliance in (session.appliance, log.holder), "its session is another appliance's")
    void_unless(all(other.builds_on != session_id for other in open_sessions(log)), "an open session builds on it")


def judge_epoch(log, entry, epoch):
    void_unless(log.epoch < epoch == entry.epoch, f"epoch {epoch} is not higher than {log.epoch}, or not its own")


def judge_pin(log, _entry, parts):
    reader, backup = parts
    kept_backup(log, backup)
    void_unless((reader, backup) not in log.pins, "the reader has pinned it before")


def judge_unpin(log, entry, parts):
    pin = log.pins.get(parts)
    void_unless(pin is not None, "there is no such pin")
    void_unless(entry.appliance in (pin.appliance, log.holder), "the pin is another appliance's")


def judge_prune(log, entry, ids):
    once_each(ids)
    if "stretches" in entry.public:
        known = {stretch.stretch: stretch for stretch in log.stretches}
        for stretch in ids:
            void_unless(stretch in known, f"there is no stretch {stretch.hex()}")
            void_unless(known[stretch].pruned is None, f"stretch {stretch.hex()} is pruned")
        return
    for backup in ids:
        commit = kept_backup(log, backup)
        void_unless(all(backup not in session.parents for session in open_sessions(log)), "an open session builds on it")
        void_unless(all(backup != pinned for _, pinned in log.pins), "a reader has pinned it")
        void_unless(not held(log, commit, entry.time), "a hold or a lock keeps it")


def judge_condemn(log, _entry, packs):
    once_each(packs)
    for pack in packs:
        void_unless(pack in log.packs, f"there is no pack {pack.hex()}")
        void_unless(pack not in log.condemned, f"pack {pack.hex()} is condemned already")
        void_unless(getattr(log.packs[pack].commit, "pruned", None) is not None, f"the backup that brought pack {pack.hex()} is kept")


def judge_delete(log, _entry, packs):
    once_each(packs)
    for pack in packs:
        void_unless(pack in log.packs and pack in log.condemned, f"pack {pack.hex()} is not condemned")
        void_unless(
            all(one.sequence > log.condemned[pack]
                for one in [*(one for one in open_sessions(log) if not one.streams), *log.pins.values()]),
            f"somebody from before pack {pack.hex()} was condemned is still there")


def judge_relocate(log, entry, parts):
    session_id, packs, objects = parts
    session = open_session(log, session_id)
    void_unless(session.collects, "its session is no collection")
    void_unless(session.appliance == entry.appliance, "its session is another appliance's")
    once_each([pack for pack, _ in packs])
    for pack, _ in packs:
        void_unless(pack in log.packs, f"there is no pack {pack.hex()}")
        void_unless(pack not in log.condemned, f"pack {pack.hex()} is condemned")
    once_each([row[0] for row in objects])
    for row in objects:
        void_unless(row[0] not in log.packs and row[0] not in log.objects, f"object {row[0].hex()} is not new")
    void_unless({row[0]
                 for row in objects} == {target
                                         for _, target in packs},
                "the objects it lists are not those its packs go to")


def judge_keep(log, _entry, backup):
    kept_backup(log, backup)


def judge_release(log, _entry, meant):
    backup, number = meant
    void_unless(any(hold.backup == backup and number in (None, hold.sequence) for hold in log.holds),
                "the backup has no such hold")


def judge_key(log, _entry, generation):
    void_unless(generation > log.key_generation, f"the keys have generation {log.key_generation} already")


def judge_shred(log, entry, _generation):
    void_unless(not open_sessions(log), "a session is open")
    void_unless(not log.pins, "a reader has pinned a backup")
    void_unless(
        all(commit.pruned is not None or not held(log, commit, entry.time) for commit in log.commits),
        "a hold or a lock keeps a backup")


RULES = {
    "INTENT": judge_intent,
    "COMMIT": judge_commit,
    "END": judge_close,
    "ABORT": judge_close,
    "EPOCH": judge_epoch,
    "PIN": judge_pin,
    "UNPIN": judge_unpin,
    "PRUNE": judge_prune,
    "CONDEMN": judge_condemn,
    "DELETE": judge_delete,
    "RELOCATE": judge_relocate,
    "HOLD": judge_keep,
    "LOCK": judge_keep,
    "RELEASE": judge_release,
    "KEY": judge_key,
    "SHRED": judge_shred
}

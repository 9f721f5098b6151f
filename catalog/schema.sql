-- schema.sql - what the catalog knows, and what a row means
--
-- The catalog answers quickly what the repository answers slowly.  Each table is marked, in the comment above it:
--   derived   follows from the vault logs; equal, row for row, after a rebuild
--   recorded  follows from sealed entries of the vault logs, written by people or by verdicts; equal after a rebuild
--   local     of this appliance alone: lost with the catalog, and nobody is the poorer
-- Derived and recorded tables change in one place only: apply.c, one log entry a transaction.
--
-- Ids are 32 lower-case hex digits, the same in log, evidence, catalog and API; hashes are 64.  Times are
-- milliseconds since 1970, UTC.  A column that can be NULL says when.  Free text is ours and names of objects only.
-- The database is brought to this shape by the numbered files in migrations/; a test holds that both agree.

-- derived: one vault, which is one database lineage; from its LINEAGE entry
CREATE TABLE vault (
    vault_id       TEXT PRIMARY KEY,
    engine         TEXT NOT NULL,              -- 'postgresql', 'house'
    lineage        TEXT NOT NULL,              -- hex of SHA-256 over engine and identity
    identity       TEXT,                       -- system identifier; NULL when the vault was read without its keys, or was shredded
    name           TEXT,                       -- of the source at first contact; NULL likewise
    created_at     INTEGER NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 0, -- highest EPOCH entry: older writers are void
    key_generation INTEGER,                    -- NULL until a KEY entry
    shredded_at    INTEGER                     -- NULL while its keys exist
) STRICT, WITHOUT ROWID;

-- derived: the last entry of each vault's log that was applied; changes in the same transaction as what it says
CREATE TABLE log_head (
    vault_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash     TEXT NOT NULL, -- SHA-256 of the whole entry
    time     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- derived: one attempt to write into a vault, from INTENT to COMMIT, END or ABORT
CREATE TABLE session (
    session_id  TEXT PRIMARY KEY,
    vault_id    TEXT NOT NULL REFERENCES vault,
    sequence    INTEGER NOT NULL, -- of its INTENT
    appliance   TEXT NOT NULL,
    operation   TEXT NOT NULL,    -- 'backup'
    state       TEXT NOT NULL CHECK (state IN ('open', 'committed', 'ended', 'aborted')),
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,          -- NULL while open
    reason      TEXT              -- of an ABORT, a word; else NULL
) STRICT, WITHOUT ROWID;

-- derived: one backup that counts: its COMMIT was not void
CREATE TABLE backup (
    backup_id      TEXT PRIMARY KEY,
    vault_id       TEXT NOT NULL REFERENCES vault,
    session_id     TEXT NOT NULL REFERENCES session,
    sequence       INTEGER NOT NULL, -- of its COMMIT
    parent_id      TEXT,             -- NULL: compared with none
    source         TEXT,             -- name of the source; NULL when read without keys, as are the next nine
    started_at     INTEGER,
    finished_at    INTEGER,
    start_lsn      TEXT,             -- as the engine writes it; the engine's word for a position
    stop_lsn       TEXT,
    timeline       INTEGER,
    server_version TEXT,
    logical_bytes  INTEGER,
    files          INTEGER,
    bad_pages      INTEGER,          -- damaged on the source already, by its own checksums
    stored_bytes   INTEGER NOT NULL, -- of the packs that it brought
    committed_at   INTEGER NOT NULL,
    root_pack      TEXT NOT NULL,    -- where its manifest lies
    root_slab      INTEGER NOT NULL,
    root_index     INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('unproven', 'proven', 'failed', 'damaged')), -- see backup_state.h
    state_since    INTEGER NOT NULL,
    pruned_at      INTEGER,          -- NULL while it is kept
    prune_reason   TEXT              -- NULL likewise
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_by_source ON backup (source, committed_at);
CREATE INDEX backup_by_vault ON backup (vault_id, sequence);

-- derived: one pack of a commit that counts
CREATE TABLE pack (
    pack_id      TEXT PRIMARY KEY,
    vault_id     TEXT NOT NULL REFERENCES vault,
    backup_id    TEXT NOT NULL,    -- the backup that brought it, others may need it; or the stretch
    sequence     INTEGER NOT NULL, -- of the COMMIT
    kind         INTEGER NOT NULL, -- as in the pack's header
    bytes        INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    object       TEXT,             -- where it lies, when it was moved
    condemned_at INTEGER,          -- NULL: not condemned
    deleted_at   INTEGER,          -- NULL: not deleted
    reason       TEXT              -- of condemning or deleting it
) STRICT, WITHOUT ROWID;
CREATE INDEX pack_by_vault ON pack (vault_id);

-- derived: a reader that holds a backup against collection
CREATE TABLE pin (
    vault_id  TEXT NOT NULL REFERENCES vault,
    reader    TEXT NOT NULL,
    backup_id TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (vault_id, reader, backup_id)
) STRICT, WITHOUT ROWID;

-- recorded: a database server that is backed up; from POLICY entries of the house vault with the subject "source"
CREATE TABLE source (
    source_id  TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    engine     TEXT NOT NULL,
    settings   TEXT NOT NULL,    -- canonical JSON, an object of texts: see server/settings/settings.h
    origin     TEXT NOT NULL CHECK (origin IN ('file', 'command')),
    sequence   INTEGER NOT NULL, -- of the entry that said so last
    added_at   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    removed_at INTEGER           -- NULL while it is one
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX source_name ON source (name) WHERE removed_at IS NULL;

-- recorded: whatever else POLICY entries say, as it is now; subjects are words such as "account"
CREATE TABLE policy (
    vault_id   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    policy_id  TEXT NOT NULL,
    record     TEXT,             -- canonical JSON of the sealed part; NULL when read without keys
    sequence   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (vault_id, subject, policy_id)
) STRICT, WITHOUT ROWID;

-- recorded: one attempt to prove a backup, and how it ended; from VERDICT entries
CREATE TABLE attempt (
    attempt_id    TEXT PRIMARY KEY,
    vault_id      TEXT NOT NULL REFERENCES vault,
    sequence      INTEGER NOT NULL,
    backup_id     TEXT NOT NULL,
    result        TEXT NOT NULL CHECK (result IN ('passed', 'failed', 'inconclusive')),
    state         TEXT,             -- of the backup after it; NULL when the backup does not count
    recorded_at   INTEGER NOT NULL,
    started_at    INTEGER,          -- NULL when read without keys, as are all below
    finished_at   INTEGER,
    level         TEXT,             -- isolation reached: 'L2'
    scratch       TEXT,             -- 'memory', 'encrypted', 'plain'
    slot          TEXT,             -- name of the key slot that opened
    reason        TEXT,             -- a few words of ours; NULL for passed
    recovery_ms   INTEGER,          -- from the request until the copy was open for writing
    validation_ms INTEGER,          -- until the last check ended
    data_loss_ms  INTEGER,          -- measured window of lost data
    evidence_id   TEXT              -- the signed document
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_by_backup ON attempt (backup_id, sequence);

-- recorded: stored objects of a backup found lost or altered; from VERDICT entries "damaged", ended by "healed"
CREATE TABLE damage (
    damage_id TEXT PRIMARY KEY,
    vault_id  TEXT NOT NULL REFERENCES vault,
    sequence  INTEGER NOT NULL,
    backup_id TEXT NOT NULL,
    found_at  INTEGER NOT NULL,
    packs     TEXT,    -- canonical JSON, a list of [pack id, slab or null]; NULL when read without keys
    reason    TEXT,    -- a few words of ours; NULL likewise
    healed_at INTEGER, -- NULL while it lasts
    lost      TEXT     -- canonical JSON, which pages of which files; NULL when nobody has looked, or read without keys
) STRICT, WITHOUT ROWID;
CREATE INDEX damage_by_backup ON damage (backup_id);

-- recorded: a part of a stream that was not received; from GAP entries
CREATE TABLE gap (
    vault_id      TEXT NOT NULL REFERENCES vault,
    sequence      INTEGER NOT NULL,
    from_position TEXT, -- NULL when read without keys, as are the next two
    to_position   TEXT,
    cause         TEXT,
    noticed_at    INTEGER NOT NULL,
    from_timeline INTEGER, -- NULL likewise
    timeline      INTEGER, -- NULL likewise
    PRIMARY KEY (vault_id, sequence)
) STRICT, WITHOUT ROWID;

-- derived: a part of a stream in one pack; from COMMIT entries of stream sessions
CREATE TABLE stretch (
    stretch_id     TEXT PRIMARY KEY,
    vault_id       TEXT NOT NULL REFERENCES vault,
    sequence       INTEGER NOT NULL,
    pack_id        TEXT NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    committed_at   INTEGER NOT NULL,
    source         TEXT,    -- NULL when read without keys, as are all below
    timeline       INTEGER,
    start_position INTEGER,
    end_position   INTEGER, -- the first byte that is not in it
    first_time     INTEGER, -- of a commit in it; 0: none
    last_time      INTEGER,
    commits        INTEGER,
    pruned_at      INTEGER, -- NULL while it is kept
    prune_reason   TEXT     -- NULL likewise
) STRICT, WITHOUT ROWID;
CREATE INDEX stretch_by_place ON stretch (vault_id, start_position);
CREATE INDEX stretch_by_source ON stretch (source, committed_at);

-- recorded: a person's word that a backup is kept; from HOLD, LOCK and RELEASE entries
CREATE TABLE hold (
    vault_id    TEXT NOT NULL REFERENCES vault,
    sequence    INTEGER NOT NULL,
    backup_id   TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('hold', 'lock')), -- a lock is not released
    since       INTEGER NOT NULL,
    until       INTEGER, -- NULL: without end
    person      TEXT,    -- NULL when read without keys
    reason      TEXT,    -- NULL likewise
    released_at INTEGER, -- NULL while it holds
    PRIMARY KEY (vault_id, sequence)
) STRICT, WITHOUT ROWID;

-- local: something that takes time; the states are drawn in server/job/job_state.h
CREATE TABLE job (
    job_id       TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,    -- what it is about, '' for the appliance: two of one kind and subject never run at once
    arguments    TEXT NOT NULL,    -- canonical JSON of the request
    requested_by TEXT NOT NULL,    -- 'uid 1000', 'schedule'
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'lost')),
    queued_at    INTEGER NOT NULL,
    started_at   INTEGER,          -- NULL before
    ended_at     INTEGER,          -- NULL before
    exit_code    INTEGER,          -- what the command exits with; NULL before
    error_kind   TEXT,             -- NULL unless it failed
    message      TEXT,             -- NULL likewise
    hint         TEXT              -- NULL likewise
) STRICT, WITHOUT ROWID;
CREATE INDEX job_by_time ON job (queued_at);

-- local: where a running job is; written as each phase begins
CREATE TABLE progress (
    job_id TEXT PRIMARY KEY REFERENCES job ON DELETE CASCADE,
    phase  TEXT NOT NULL,
    done   INTEGER NOT NULL, -- bytes
    total  INTEGER NOT NULL, -- 0 while unknown
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- local: when a source's job of a kind is due next
CREATE TABLE schedule (
    source   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    every_ms INTEGER NOT NULL, -- what next_at was worked out with
    next_at  INTEGER NOT NULL,
    PRIMARY KEY (source, kind)
) STRICT, WITHOUT ROWID;

-- local: when a pack's stored bytes were last read again and compared with the log
CREATE TABLE pack_check (
    pack_id    TEXT PRIMARY KEY,
    vault_id   TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    sound      INTEGER NOT NULL CHECK (sound IN (0, 1)) -- 0: it was missing or not what the log says
) STRICT, WITHOUT ROWID;
CREATE INDEX pack_check_by_time ON pack_check (checked_at);

-- local: small facts of this appliance, by name
CREATE TABLE fact (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

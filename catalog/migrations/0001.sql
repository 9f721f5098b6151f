-- 0001: the first shape.  What a row means stands in schema.sql.
CREATE TABLE vault (
    vault_id       TEXT PRIMARY KEY,
    engine         TEXT NOT NULL,
    lineage        TEXT NOT NULL,
    identity       TEXT,
    name           TEXT,
    created_at     INTEGER NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 0,
    key_generation INTEGER,
    shredded_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE log_head (
    vault_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    time     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
    session_id  TEXT PRIMARY KEY,
    vault_id    TEXT NOT NULL REFERENCES vault,
    sequence    INTEGER NOT NULL,
    appliance   TEXT NOT NULL,
    operation   TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('open', 'committed', 'ended', 'aborted')),
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    reason      TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE backup (
    backup_id      TEXT PRIMARY KEY,
    vault_id       TEXT NOT NULL REFERENCES vault,
    session_id     TEXT NOT NULL REFERENCES session,
    sequence       INTEGER NOT NULL,
    parent_id      TEXT,
    source         TEXT,
    started_at     INTEGER,
    finished_at    INTEGER,
    start_lsn      TEXT,
    stop_lsn       TEXT,
    timeline       INTEGER,
    server_version TEXT,
    logical_bytes  INTEGER,
    files          INTEGER,
    bad_pages      INTEGER,
    stored_bytes   INTEGER NOT NULL,
    committed_at   INTEGER NOT NULL,
    root_pack      TEXT NOT NULL,
    root_slab      INTEGER NOT NULL,
    root_index     INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('unproven', 'proven', 'failed', 'damaged')),
    state_since    INTEGER NOT NULL,
    pruned_at      INTEGER,
    prune_reason   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_by_source ON backup (source, committed_at);
CREATE INDEX backup_by_vault ON backup (vault_id, sequence);
CREATE TABLE pack (
    pack_id      TEXT PRIMARY KEY,
    vault_id     TEXT NOT NULL REFERENCES vault,
    backup_id    TEXT NOT NULL,
    sequence     INTEGER NOT NULL,
    kind         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    object       TEXT,
    condemned_at INTEGER,
    deleted_at   INTEGER,
    reason       TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX pack_by_vault ON pack (vault_id);
CREATE TABLE pin (
    vault_id  TEXT NOT NULL REFERENCES vault,
    reader    TEXT NOT NULL,
    backup_id TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (vault_id, reader, backup_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE source (
    source_id  TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    engine     TEXT NOT NULL,
    settings   TEXT NOT NULL,
    origin     TEXT NOT NULL CHECK (origin IN ('file', 'command')),
    sequence   INTEGER NOT NULL,
    added_at   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX source_name ON source (name) WHERE removed_at IS NULL;
CREATE TABLE policy (
    vault_id   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    policy_id  TEXT NOT NULL,
    record     TEXT,
    sequence   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (vault_id, subject, policy_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempt (
    attempt_id    TEXT PRIMARY KEY,
    vault_id      TEXT NOT NULL REFERENCES vault,
    sequence      INTEGER NOT NULL,
    backup_id     TEXT NOT NULL,
    result        TEXT NOT NULL CHECK (result IN ('passed', 'failed', 'inconclusive')),
    state         TEXT,
    recorded_at   INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    level         TEXT,
    scratch       TEXT,
    slot          TEXT,
    reason        TEXT,
    recovery_ms   INTEGER,
    validation_ms INTEGER,
    data_loss_ms  INTEGER,
    evidence_id   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_by_backup ON attempt (backup_id, sequence);
CREATE TABLE damage (
    damage_id TEXT PRIMARY KEY,
    vault_id  TEXT NOT NULL REFERENCES vault,
    sequence  INTEGER NOT NULL,
    backup_id TEXT NOT NULL,
    found_at  INTEGER NOT NULL,
    packs     TEXT,
    reason    TEXT,
    healed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX damage_by_backup ON damage (backup_id);
CREATE TABLE gap (
    vault_id      TEXT NOT NULL REFERENCES vault,
    sequence      INTEGER NOT NULL,
    from_position TEXT,
    to_position   TEXT,
    cause         TEXT,
    noticed_at    INTEGER NOT NULL,
    PRIMARY KEY (vault_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE hold (
    vault_id    TEXT NOT NULL REFERENCES vault,
    sequence    INTEGER NOT NULL,
    backup_id   TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('hold', 'lock')),
    since       INTEGER NOT NULL,
    until       INTEGER,
    person      TEXT,
    reason      TEXT,
    released_at INTEGER,
    PRIMARY KEY (vault_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE job (
    job_id       TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    arguments    TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'lost')),
    queued_at    INTEGER NOT NULL,
    started_at   INTEGER,
    ended_at     INTEGER,
    exit_code    INTEGER,
    error_kind   TEXT,
    message      TEXT,
    hint         TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX job_by_time ON job (queued_at);
CREATE TABLE progress (
    job_id TEXT PRIMARY KEY REFERENCES job ON DELETE CASCADE,
    phase  TEXT NOT NULL,
    done   INTEGER NOT NULL,
    total  INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE schedule (
    source   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    every_ms INTEGER NOT NULL,
    next_at  INTEGER NOT NULL,
    PRIMARY KEY (source, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE fact (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- 0003.sql - streams: their parts, and where gaps begin and end
ALTER TABLE gap ADD COLUMN from_timeline INTEGER;
ALTER TABLE gap ADD COLUMN timeline INTEGER;
CREATE TABLE stretch (
    stretch_id     TEXT PRIMARY KEY,
    vault_id       TEXT NOT NULL REFERENCES vault,
    sequence       INTEGER NOT NULL,
    pack_id        TEXT NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    committed_at   INTEGER NOT NULL,
    source         TEXT,
    timeline       INTEGER,
    start_position INTEGER,
    end_position   INTEGER,
    first_time     INTEGER,
    last_time      INTEGER,
    commits        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX stretch_by_place ON stretch (vault_id, start_position);
CREATE INDEX stretch_by_source ON stretch (source, committed_at);

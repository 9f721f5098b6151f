-- 0002.sql - what a damage costs page by page, and when each pack was last looked at
ALTER TABLE damage ADD COLUMN lost TEXT;

CREATE TABLE pack_check (
    pack_id    TEXT PRIMARY KEY,
    vault_id   TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    sound      INTEGER NOT NULL CHECK (sound IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX pack_check_by_time ON pack_check (checked_at);

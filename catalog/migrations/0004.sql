-- 0004.sql - parts of streams that had their time
ALTER TABLE stretch ADD COLUMN pruned_at INTEGER;
ALTER TABLE stretch ADD COLUMN prune_reason TEXT;

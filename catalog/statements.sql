-- statements.sql - every statement that the catalog runs
--
-- A statement begins with a line "-- name: what it does" and ends with ";".  The build makes an enum of the names
-- (make_statements.py); C binds by parameter name.  Transactions and pragmas stand in catalog.c.

-- head_get: the last entry of a vault that was applied, or no row
SELECT sequence, hash, time FROM log_head WHERE vault_id = :vault_id;

-- head_set: moves it
INSERT INTO log_head (vault_id, sequence, hash, time) VALUES (:vault_id, :sequence, :hash, :time)
ON CONFLICT (vault_id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash, time = excluded.time;

-- vault_add: a LINEAGE entry
INSERT INTO vault (vault_id, engine, lineage, identity, name, created_at)
VALUES (:vault_id, :engine, :lineage, :identity, :name, :created_at);

-- vault_get: one vault, or no row
SELECT vault_id, engine, identity, name, created_at, epoch, key_generation, shredded_at
  FROM vault WHERE vault_id = :vault_id;

-- vaults: all of them with their heads
SELECT v.vault_id, v.engine, v.identity, v.name, v.created_at, v.epoch, v.shredded_at, h.sequence, h.hash, h.time
  FROM vault v LEFT JOIN log_head h ON h.vault_id = v.vault_id ORDER BY v.vault_id;

-- vault_epoch: an EPOCH entry; epochs only rise
UPDATE vault SET epoch = max(epoch, :epoch) WHERE vault_id = :vault_id;

-- vault_key: a KEY entry
UPDATE vault SET key_generation = :generation WHERE vault_id = :vault_id;

-- vault_shred: a SHRED entry; this and the six below forget whatever was sealed, as a reader without keys never knew it
UPDATE vault SET shredded_at = :time, identity = NULL, name = NULL WHERE vault_id = :vault_id;

-- shred_backups: see vault_shred
UPDATE backup SET source = NULL, started_at = NULL, finished_at = NULL, start_lsn = NULL, stop_lsn = NULL,
                  timeline = NULL, server_version = NULL, logical_bytes = NULL, files = NULL, bad_pages = NULL
 WHERE vault_id = :vault_id;

-- shred_attempts: see vault_shred
UPDATE attempt SET started_at = NULL, finished_at = NULL, level = NULL, scratch = NULL, slot = NULL, reason = NULL,
                   recovery_ms = NULL, validation_ms = NULL, data_loss_ms = NULL, evidence_id = NULL
 WHERE vault_id = :vault_id;

-- shred_damages: see vault_shred
UPDATE damage SET packs = NULL, reason = NULL WHERE vault_id = :vault_id;

-- shred_gaps: see vault_shred
UPDATE gap SET from_position = NULL, to_position = NULL, cause = NULL WHERE vault_id = :vault_id;

-- shred_holds: see vault_shred
UPDATE hold SET person = NULL, reason = NULL WHERE vault_id = :vault_id;

-- shred_policies: see vault_shred
UPDATE policy SET record = NULL WHERE vault_id = :vault_id;

-- session_add: an INTENT entry
INSERT INTO session (session_id, vault_id, sequence, appliance, operation, state, started_at)
VALUES (:session_id, :vault_id, :sequence, :appliance, :operation, 'open', :started_at);

-- session_end: COMMIT, END or ABORT; changes nothing unless it is open
UPDATE session SET state = :state, finished_at = :finished_at, reason = :reason
 WHERE session_id = :session_id AND vault_id = :vault_id AND state = 'open';

-- backup_add: a COMMIT entry that counts
INSERT INTO backup (backup_id, vault_id, session_id, sequence, parent_id, source, started_at, finished_at, start_lsn,
                    stop_lsn, timeline, server_version, logical_bytes, files, bad_pages, stored_bytes, committed_at,
                    root_pack, root_slab, root_index, state, state_since)
VALUES (:backup_id, :vault_id, :session_id, :sequence, :parent_id, :source, :started_at, :finished_at, :start_lsn,
        :stop_lsn, :timeline, :server_version, :logical_bytes, :files, :bad_pages, :stored_bytes, :committed_at,
        :root_pack, :root_slab, :root_index, :state, :committed_at);

-- backup_state: of a backup of a vault, or no row
SELECT state FROM backup WHERE backup_id = :backup_id AND vault_id = :vault_id;

-- backup_set_state: after a transition
UPDATE backup SET state = :state, state_since = :since WHERE backup_id = :backup_id;

-- backup_prune: a PRUNE entry, one of its backups
UPDATE backup SET pruned_at = :pruned_at, prune_reason = :reason
 WHERE backup_id = :id AND vault_id = :vault_id AND pruned_at IS NULL;

-- backups: newest first; of one source or all, kept ones (and shredded ones) or pruned ones too
SELECT backup_id, vault_id, source, parent_id, sequence, started_at, finished_at, committed_at, start_lsn, stop_lsn,
       timeline, server_version, logical_bytes, stored_bytes, files, bad_pages, state, state_since, pruned_at,
       prune_reason, (SELECT shredded_at FROM vault v WHERE v.vault_id = backup.vault_id)
  FROM backup
 WHERE (:source IS NULL OR source = :source)
   AND (:with_pruned OR pruned_at IS NULL OR vault_id IN (SELECT vault_id FROM vault WHERE shredded_at IS NOT NULL))
 ORDER BY committed_at DESC, sequence DESC;

-- backup_get: one of them, or no row
SELECT backup_id, vault_id, source, parent_id, sequence, started_at, finished_at, committed_at, start_lsn, stop_lsn,
       timeline, server_version, logical_bytes, stored_bytes, files, bad_pages, state, state_since, pruned_at,
       prune_reason, (SELECT shredded_at FROM vault v WHERE v.vault_id = backup.vault_id)
  FROM backup WHERE backup_id = :backup_id;

-- backup_newest: of a source, kept, in a state or in any; or no row
SELECT backup_id, vault_id, source, parent_id, sequence, started_at, finished_at, committed_at, start_lsn, stop_lsn,
       timeline, server_version, logical_bytes, stored_bytes, files, bad_pages, state, state_since, pruned_at,
       prune_reason, (SELECT shredded_at FROM vault v WHERE v.vault_id = backup.vault_id)
  FROM backup
 WHERE source = :source AND pruned_at IS NULL AND (:state IS NULL OR state = :state)
 ORDER BY committed_at DESC, sequence DESC LIMIT 1;

-- source_vault: the vault of a source's newest backup or, without one, of the newest part of its stream; or no row
SELECT vault_id FROM (SELECT vault_id, committed_at, sequence, 1 AS rank FROM backup WHERE source = :source
                      UNION ALL
                      SELECT vault_id, committed_at, sequence, 2 FROM stretch WHERE source = :source)
 ORDER BY rank, committed_at DESC, sequence DESC LIMIT 1;

-- pack_add: a pack of a COMMIT that counts
INSERT INTO pack (pack_id, vault_id, backup_id, sequence, kind, bytes, sha256)
VALUES (:pack_id, :vault_id, :backup_id, :sequence, :kind, :bytes, :sha256);

-- pack_condemn: a CONDEMN entry, one of its packs
UPDATE pack SET condemned_at = :at, reason = :reason WHERE pack_id = :pack_id AND vault_id = :vault_id;

-- pack_delete: a DELETE entry, one of its packs
UPDATE pack SET deleted_at = :at, reason = :reason WHERE pack_id = :pack_id AND vault_id = :vault_id;

-- pack_relocate: a RELOCATE entry, one of its packs
UPDATE pack SET object = :object WHERE pack_id = :pack_id AND vault_id = :vault_id;

-- pack_totals: what a vault keeps
SELECT count(*), coalesce(sum(bytes), 0) FROM pack WHERE vault_id = :vault_id AND deleted_at IS NULL;

-- pin_add: a PIN entry
INSERT OR IGNORE INTO pin (vault_id, reader, backup_id, since) VALUES (:vault_id, :reader, :backup_id, :since);

-- pin_remove: an UNPIN entry
DELETE FROM pin WHERE vault_id = :vault_id AND reader = :reader AND backup_id = :backup_id;

-- source_put: a POLICY entry about a source
INSERT INTO source (source_id, name, engine, settings, origin, sequence, added_at, changed_at)
VALUES (:source_id, :name, :engine, :settings, :origin, :sequence, :time, :time)
ON CONFLICT (source_id) DO UPDATE
   SET name = excluded.name, engine = excluded.engine, settings = excluded.settings, origin = excluded.origin,
       sequence = excluded.sequence, changed_at = excluded.changed_at, removed_at = NULL;

-- source_remove: a POLICY entry that ends one
UPDATE source SET removed_at = :time, changed_at = :time, sequence = :sequence WHERE source_id = :source_id;

-- sources: those there are, by name
SELECT source_id, name, engine, settings, origin, added_at, changed_at FROM source
 WHERE removed_at IS NULL ORDER BY name;

-- source_get: one of them, or no row
SELECT source_id, name, engine, settings, origin, added_at, changed_at FROM source
 WHERE removed_at IS NULL AND name = :name;

-- policies: of one subject, in one vault
SELECT policy_id, record, sequence, changed_at FROM policy
 WHERE vault_id = :vault_id AND subject = :subject ORDER BY sequence;

-- policy_put: a POLICY entry about anything else
INSERT INTO policy (vault_id, subject, policy_id, record, sequence, changed_at)
VALUES (:vault_id, :subject, :policy_id, :record, :sequence, :changed_at)
ON CONFLICT (vault_id, subject, policy_id) DO UPDATE
   SET record = excluded.record, sequence = excluded.sequence, changed_at = excluded.changed_at;

-- attempt_add: a VERDICT entry about an attempt
INSERT INTO attempt (attempt_id, vault_id, sequence, backup_id, result, state, recorded_at, started_at, finished_at,
                     level, scratch, slot, reason, recovery_ms, validation_ms, data_loss_ms, evidence_id)
VALUES (:attempt_id, :vault_id, :sequence, :backup_id, :result, :state, :recorded_at, :started_at, :finished_at,
        :level, :scratch, :slot, :reason, :recovery_ms, :validation_ms, :data_loss_ms, :evidence_id);

-- attempts: newest first; of one backup, of one source, or all
SELECT a.attempt_id, a.backup_id, a.result, a.state, a.recorded_at, a.started_at, a.finished_at, a.level, a.scratch,
       a.slot, a.reason, a.recovery_ms, a.validation_ms, a.data_loss_ms, a.evidence_id, b.source
  FROM attempt a LEFT JOIN backup b ON b.backup_id = a.backup_id
 WHERE (:backup_id IS NULL OR a.backup_id = :backup_id) AND (:source IS NULL OR b.source = :source)
 ORDER BY a.recorded_at DESC, a.sequence DESC LIMIT :most;

-- damage_add: a VERDICT entry "damaged"
INSERT INTO damage (damage_id, vault_id, sequence, backup_id, found_at, packs, reason, lost)
VALUES (:damage_id, :vault_id, :sequence, :backup_id, :found_at, :packs, :reason, :lost);

-- damage_heal: a VERDICT entry "healed", or an attempt that passed
UPDATE damage SET healed_at = :healed_at WHERE backup_id = :backup_id AND vault_id = :vault_id AND healed_at IS NULL;

-- damages: those that last, of kept backups; newest first
SELECT d.damage_id, d.backup_id, b.source, d.found_at, d.packs, d.reason, d.vault_id, d.lost
  FROM damage d LEFT JOIN backup b ON b.backup_id = d.backup_id
 WHERE d.healed_at IS NULL AND b.pruned_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM vault v WHERE v.vault_id = d.vault_id AND v.shredded_at IS NOT NULL)
 ORDER BY d.found_at DESC, d.sequence DESC;

-- gap_add: a GAP entry
INSERT INTO gap (vault_id, sequence, from_position, to_position, cause, noticed_at, from_timeline, timeline)
VALUES (:vault_id, :sequence, :from_position, :to_position, :cause, :noticed_at, :from_timeline, :timeline);

-- gaps: of one vault or all; newest first; "anchored" once a backup that was begun behind it is proven
SELECT g.vault_id, g.from_position, g.to_position, g.cause, g.noticed_at, g.timeline,
       EXISTS (SELECT 1 FROM backup b WHERE b.vault_id = g.vault_id AND b.state = 'proven' AND b.pruned_at IS NULL
                  AND b.started_at > g.noticed_at) AS anchored
  FROM gap g WHERE :vault_id IS NULL OR g.vault_id = :vault_id ORDER BY g.noticed_at DESC, g.sequence DESC;

-- stretch_add: a COMMIT of a stream that counts
INSERT INTO stretch (stretch_id, vault_id, sequence, pack_id, stored_bytes, committed_at, source, timeline,
                     start_position, end_position, first_time, last_time, commits)
VALUES (:stretch_id, :vault_id, :sequence, :pack_id, :stored_bytes, :committed_at, :source, :timeline,
        :start_position, :end_position, :first_time, :last_time, :commits);

-- stretch_prune: a PRUNE entry, one of its stretches
UPDATE stretch SET pruned_at = :pruned_at, prune_reason = :reason
 WHERE stretch_id = :id AND vault_id = :vault_id AND pruned_at IS NULL;

-- stretches: kept ones of a vault, whose packs are there, in order of position
SELECT s.timeline, s.start_position, s.end_position, s.first_time, s.last_time, s.commits, s.stored_bytes
  FROM stretch s JOIN pack p ON p.pack_id = s.pack_id
 WHERE s.vault_id = :vault_id AND s.start_position IS NOT NULL AND p.deleted_at IS NULL AND s.pruned_at IS NULL
 ORDER BY s.start_position, s.end_position;

-- hold_add: a HOLD or LOCK entry
INSERT INTO hold (vault_id, sequence, backup_id, kind, since, until, person, reason)
VALUES (:vault_id, :sequence, :backup_id, :kind, :since, :until, :person, :reason);

-- hold_release: a RELEASE entry, of one hold or, where :hold is NULL, of all; locks stay
UPDATE hold SET released_at = :released_at
 WHERE vault_id = :vault_id AND backup_id = :backup_id AND kind = 'hold' AND released_at IS NULL
   AND (:hold IS NULL OR sequence = :hold);

-- holds: those that hold
SELECT backup_id, kind, since, until, person, reason, sequence FROM hold
 WHERE released_at IS NULL ORDER BY since, sequence;

-- source_counts: backups of a source by state, kept ones
SELECT count(*), coalesce(sum(state = 'unproven'), 0), coalesce(sum(state = 'proven'), 0),
       coalesce(sum(state = 'failed'), 0), coalesce(sum(state = 'damaged'), 0), coalesce(sum(stored_bytes), 0)
  FROM backup WHERE source = :source AND pruned_at IS NULL;

-- job_add: a job that was asked for
INSERT INTO job (job_id, kind, subject, arguments, requested_by, state, queued_at)
VALUES (:job_id, :kind, :subject, :arguments, :requested_by, 'queued', :queued_at);

-- job_start: changes one row, or none when it is not queued
UPDATE job SET state = 'running', started_at = :started_at WHERE job_id = :job_id AND state = 'queued';

-- job_arguments: what is known better once a job has begun, such as which backup "the newest" is
UPDATE job SET arguments = :arguments WHERE job_id = :job_id;

-- job_end: changes one row, or none when it has ended before
UPDATE job SET state = :state, ended_at = :ended_at, exit_code = :exit_code, error_kind = :error_kind,
               message = :message, hint = :hint
 WHERE job_id = :job_id AND state IN ('queued', 'running');

-- jobs: newest first
SELECT j.job_id, j.kind, j.subject, j.requested_by, j.state, j.queued_at, j.started_at, j.ended_at, j.exit_code,
       j.error_kind, j.message, j.hint, p.phase, p.done, p.total, j.arguments
  FROM job j LEFT JOIN progress p ON p.job_id = j.job_id
 WHERE :job_id IS NULL OR j.job_id = :job_id
 ORDER BY j.queued_at DESC, j.job_id LIMIT :most;

-- job_last: of a kind and subject the last one that finished, or that the schedule asked for and that ended; or no row
SELECT j.job_id, j.kind, j.subject, j.requested_by, j.state, j.queued_at, j.started_at, j.ended_at, j.exit_code,
       j.error_kind, j.message, j.hint, NULL, 0, 0, j.arguments
  FROM job j
 WHERE j.kind = :kind AND j.subject = :subject AND j.ended_at IS NOT NULL
   AND (j.state = 'finished' OR j.requested_by = 'schedule')
 ORDER BY j.ended_at DESC, j.queued_at DESC LIMIT 1;

-- jobs_running: what a daemon that was killed had under way, oldest first
SELECT j.job_id, j.kind, j.subject, j.requested_by, j.state, j.queued_at, j.started_at, j.ended_at, j.exit_code,
       j.error_kind, j.message, j.hint, NULL, 0, 0, j.arguments
  FROM job j
 WHERE j.state = 'running'
 ORDER BY j.started_at, j.job_id;

-- jobs_lost: what a daemon that was killed left behind
UPDATE job SET state = 'lost', ended_at = :ended_at WHERE state IN ('queued', 'running');

-- jobs_trim: forgets ended jobs older than that
DELETE FROM job WHERE ended_at < :before;

-- progress_put: a phase begins, or has come further
INSERT INTO progress (job_id, phase, done, total, at) VALUES (:job_id, :phase, :done, :total, :at)
ON CONFLICT (job_id) DO UPDATE
   SET phase = excluded.phase, done = excluded.done, total = excluded.total, at = excluded.at;

-- progress_remove: the job has ended
DELETE FROM progress WHERE job_id = :job_id;

-- schedule_get: when it is due, or no row
SELECT every_ms, next_at FROM schedule WHERE source = :source AND kind = :kind;

-- schedule_put: when it is due next
INSERT INTO schedule (source, kind, every_ms, next_at) VALUES (:source, :kind, :every_ms, :next_at)
ON CONFLICT (source, kind) DO UPDATE SET every_ms = excluded.every_ms, next_at = excluded.next_at;

-- schedule_remove: it is no longer due by itself
DELETE FROM schedule WHERE source = :source AND kind = :kind;

-- fact_get: a value, or no row
SELECT value FROM fact WHERE name = :name;

-- fact_put: sets it
INSERT INTO fact (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- pack_check_put: what was just seen of a pack
INSERT INTO pack_check (pack_id, vault_id, checked_at, sound) VALUES (:pack_id, :vault_id, :checked_at, :sound)
ON CONFLICT (pack_id) DO UPDATE SET checked_at = excluded.checked_at, sound = excluded.sound;

-- pack_checks: the packs that are kept, the one that was never or longest ago looked at first
SELECT p.pack_id, p.vault_id, p.bytes, coalesce(c.checked_at, -1), coalesce(c.sound, 1)
  FROM pack p LEFT JOIN pack_check c ON c.pack_id = p.pack_id
 WHERE p.deleted_at IS NULL ORDER BY 4, p.pack_id;

-- pack_check_sums: how much of what is kept was looked at since a moment
SELECT count(*), coalesce(sum(p.bytes), 0), coalesce(sum(c.checked_at IS NULL), 0),
       coalesce(min(coalesce(c.checked_at, -1)), -1), coalesce(sum(p.bytes) FILTER (WHERE c.checked_at >= :since), 0),
       coalesce(sum(c.sound = 0), 0)
  FROM pack p LEFT JOIN pack_check c ON c.pack_id = p.pack_id
 WHERE p.deleted_at IS NULL;

-- pack_check_trim: forgets packs that are gone
DELETE FROM pack_check WHERE pack_id NOT IN (SELECT pack_id FROM pack WHERE deleted_at IS NULL);
-- fact_remove: forgets it
DELETE FROM fact WHERE name = :name;

-- update.sql - rewrites 10000 encounters, drawn at random by the seed, in a database that make.sql made
--
--   psql -d clinic -v seed=7 -f packaging/clinic/update.sql
--
-- A new version of a row goes to another page, so each update touches the old page and a leaf of two indexes: after
-- make.sql's 2.7 GB that is about a tenth of all pages for 0.2 % of the rows, the hard case for a backup by blocks.
\set ON_ERROR_STOP on
\set QUIET on
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC';

-- From the index: a scan of the table would write hint bits into every page that an earlier update touched.
SELECT max(encounter_id) AS encounters FROM encounters \gset

UPDATE encounters
   SET ended_at = ended_at + interval '5 minutes',
       signature = sha256(convert_to(:'seed' || 'signed again' || encounter_id, 'UTF8')),
       note = first.body || '. Corrected, pulse ' || 50 + pick(encounter_id, :'seed' || 'pulse', 70) || '. ' || second.body || '.'
  FROM (SELECT 1 + pick(i, :'seed' || 'changed', :encounters) AS changed_id
          FROM generate_series(1, 20000) AS i GROUP BY changed_id ORDER BY min(i) LIMIT 10000) AS drawn,
       phrases AS first, phrases AS second
 WHERE encounter_id = changed_id
   AND first.phrase_id = pick(encounter_id, :'seed' || 'first', 65536)
   AND second.phrase_id = pick(encounter_id, :'seed' || 'second', 65536);
CHECKPOINT;

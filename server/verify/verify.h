/*
 * verify.h - one attempt to prove a backup: restored, started, caught up, checked
 *
 * The steps, in order; each is one or more checks of the report (report.h), and what is not reached stays
 * not_run:
 *
 *   key        the repository was opened through a slot, as a restore would (by the caller, who says which)
 *   store      every pack is there with its size; every slab opens; every file has its digest
 *   manifest   the server's own list agrees with what was restored
 *   pages      page checksums of every relation, as stored
 *   start      the copy starts in the sandbox and becomes consistent
 *   replay     all log that lies in the backup is replayed, to the byte; then the log that was archived behind it, to
 *              its end; then what comes in, until the copy stands where the source stood
 *   promote    it opens for writing on a timeline of its own
 *   relations  every table of every database read, every index checked
 *   after      shut down: the pages once more, as files that nobody has open
 *
 * Which checks each step makes is the engine's to say: engine.h has the table that an engine fills.
 *
 * What is wrong with the store makes the backup "damaged", what is wrong with the database makes it
 * "failed"; what cannot be judged here (no binaries, no room, other collation, level too low) leaves the
 * attempt inconclusive, with the reason (promise 1).
 */
#pragma once
#include <stdatomic.h>
#include "sandbox/scratch.h"
#include "sandbox/sandbox.h"
#include "server/restore/restore.h"
#include "server/settings/assertion.h"
#include "server/source/facts.h"
#include "server/verify/report.h"

struct hf_verify_engine; // engine.h

struct hf_verify_options {
    const char *scratch_folder;    // on disk
    uint64_t scratch_memory_bytes; // a copy up to this size may lie in memory; 0: never
    enum hf_sandbox_level lowest;
    const char *launcher;          // holdfast-sandbox; NULL: found
    const char *const *packages;   // more folders with server binaries, ends with NULL; NULL: the host's only
    uint64_t sandbox_memory_bytes; // 0: the sandbox's default
    uint64_t phase_ms;             // longest time of one phase; 0: 1 h
    uid_t host_uid;                // of the copy when we are root
    gid_t host_gid;
    struct hf_runner *runner;               // when we are not: who gives the copy a uid of its own; or NULL
    unsigned jobs;                          // connections at once; 0: one for each processor
    bool streamed;                          // the source's log is received as it is written
    const struct hf_source_target *live;    // the source itself, to ask where it stands; NULL: nobody may be asked
    uint64_t catch_up_ms;                   // how long the copy may take to get there; 0: it is not asked for
    const struct hf_table_keys *table_keys; // of encrypted tables, as their owner keeps them; or NULL
    const struct hf_assertions *assertions; // or NULL; borrowed until the outcome is done
    const atomic_bool *cancel;              // or NULL
    const char *_Atomic *phase;             // for progress; or NULL
    _Atomic uint64_t *done, *total;
};

struct hf_verify_phase {
    const char *name;
    int64_t started_at;
    uint64_t duration_ms;
};

#define HF_VERIFY_CATCH_UP     "catch_up" // the phase in which the copy follows the source
#define HF_VERIFY_WAIT         "wait_log" // in which a receiver is waited for: no restore in earnest would
#define HF_VERIFY_PHASES_MOST  16
#define HF_VERIFY_DAMAGES_MOST 64

/* What the facts of every engine's backups tell. */
struct hf_verify_facts {
    struct hf_shared_facts shared;
    uint32_t timeline;      // 0: the engine has none
    uint64_t log_bytes;     // of log that belong to the backup and are replayed with it
    int64_t last_commit_at; // the newest commit in that log; 0: none
};

struct hf_database_facts {
    char name[200];
    uint64_t bytes, tables, rows;
};

/* The log that was archived behind the backup, as far as the copy replayed it. */
struct hf_verify_stream {
    bool known;
    char from_position[HF_SOURCE_POSITION_BYTES], to_position[HF_SOURCE_POSITION_BYTES];
    uint64_t bytes, commits;
    int64_t newest_commit_at;                // 0: none
    char gap_from[HF_SOURCE_POSITION_BYTES]; // "": no gap behind it
    char gap_to[HF_SOURCE_POSITION_BYTES];
    bool gap_recorded; // the vault log says that what lies between is missing for good
};

/* Where the source stood, and when the copy did. */
struct hf_verify_caught_up {
    bool known;
    int64_t sampled_at;
    char source_position[HF_SOURCE_POSITION_BYTES];
    uint64_t bound_ms, waited_ms;
    bool reached;
    int64_t behind_ms; // until the archive had what the source had written by then; -1: it never did
};

struct hf_relations_outcome {
    size_t database_count;
    struct hf_database_facts *databases; // free()
    uint64_t rows;
};

struct hf_verify_outcome {
    enum hf_attempt_result result;
    char reason[768];   // "" when it passed
    bool store_damaged; // the failure lies in stored objects
    size_t damage_count;
    struct {
        struct hf_id pack;
        uint32_t slab;
    } damages[HF_VERIFY_DAMAGES_MOST];
    struct hf_verify_report report;
    const struct hf_verify_engine *engine; // NULL when the backup's facts could not be read
    struct hf_verify_facts facts;          // known with the engine
    int64_t requested_at, started_at, finished_at;
    uint64_t duration_ms;
    uint64_t bytes_restored;
    unsigned suites;     // hf_pack_reader_suites() of the packs it was restored from; 0: none was opened
    int64_t recovery_ms; // request until it was open for writing, less catching up with the source; -1: it never was
    size_t phase_count;
    struct hf_verify_phase phases[HF_VERIFY_PHASES_MOST];
    char scratch[16]; // protection; "" when there was none
    uint64_t scratch_bytes;
    json_t *sandbox;                        // hf_sandbox_report(); NULL when none was made
    char engine_version[64];                // of the server that ran the copy; "" when none did
    uint8_t engine_sha256[HF_SHA256_BYTES]; // of its program
    bool engine_known;
    uint8_t log_sha256[HF_SHA256_BYTES]; // of the server's log
    bool log_known;
    struct hf_verify_stream stream;
    struct hf_verify_caught_up caught_up;
    struct hf_relations_outcome relations;
};
void hf_verify_outcome_done(struct hf_verify_outcome *outcome);

/*
 * Carries the attempt through.  False only when there is no outcome at all: no memory, cancelled, or a
 * backup that is not there; everything else is in the outcome.
 */
HF_MUST_CHECK bool hf_verify_run(struct hf_vault *vault, const struct hf_id *backup,
                                 const struct hf_verify_options *options, struct hf_verify_outcome *ret,
                                 struct hf_error *err);

/*
 * The outcome of an attempt that ended without one (cancelled, killed): inconclusive, no check was reached.
 * `facts`: the backup's, from its COMMIT.
 */
HF_MUST_CHECK bool hf_verify_unfinished(const char *facts, int64_t started_at, const char *reason,
                                        struct hf_verify_outcome *ret, struct hf_error *err);

/* What the evidence says besides: who, what for, where. */
struct hf_verify_subject {
    struct hf_id attempt, appliance, source_id, vault, backup;
    const char *source_name, *identity;
    const char *engine;  // as the source is set up; stands where the backup's facts could not be read
    const char *version; // of this program
    const char *requested_by;
    const char *key_slot; // name of the slot that opened the repository
    const char *state_before, *state_after;
    uint64_t log_sequence;
    uint8_t log_head[HF_SHA256_BYTES];
    uint64_t logical_bytes, stored_bytes;
    enum hf_sandbox_level lowest;
};

/* The content of a holdfast.evidence/v1 document of kind "verify" (server/evidence/document.h). */
HF_MUST_CHECK bool hf_verify_evidence(const struct hf_verify_outcome *outcome, const struct hf_verify_subject *subject,
                                      json_t **ret, struct hf_error *err);

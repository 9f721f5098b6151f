/*
 * source.h - where backups come from, whatever the engine; and where their bytes go
 *
 * An engine (PostgreSQL, MariaDB, MySQL) is one table of functions.  It talks to the database, takes the backup
 * apart into files and hands them to a sink.  It knows no repository: the job layer connects the sink
 * to one, a test connects it to a folder.
 *
 * How a backup meets its sink:
 *
 *     link...                         every tablespace, before anything below it
 *     directory, file_begin, file_write..., file_end        in the order they arrive
 *     flush                           once, after the last file_end: waits for the workers
 *     digest_of                       for every file the engine's manifest names
 *
 * Few files are open at a time (PostgreSQL: the base backup's and its WAL's, one in each of two threads; mbstream:
 * one); each is written in order, from its first byte to its last, by one thread.  The receiving thread never waits for
 * a digest: file_end returns none, they are asked for by name after flush.  So the only thing that slows receiving
 * down is a sink whose queue is full.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "base/json.h"
#include "base/secret.h"

/* ------------------------------------------------------------------------------------------ who and where */

#define HF_SOURCE_SLOT_TAG_BYTES 33 // with its NUL

#define HF_SOURCE_IDENTITY_BYTES 72 // with its NUL

/* Everything is borrowed from the caller. */
struct hf_source_target {
    const char *name;                 // as people call it; used in messages
    const char *conninfo;             // "key=value ..." as the engine reads it (libpq's; mariadb/words.h)
    const struct hf_secret *password; // or NULL: the connection string, passfile or service has it, or none is needed
    const char *slot_tag;             // [a-z0-9_]{1,32}, ours alone: slots are named holdfast_<tag>_...
    const char *identity;             // of the database we know by this name; NULL at first contact
    const char *stream_slot;          // slot of its stream; NULL: its log is not received as it is written
    uint32_t newest_timeline;         // of its log that we have; a server on an older one was left behind; 0: not known
    /* For engines whose backups are made by a program on the database's host. */
    const char *tool;                             // its name or path there; NULL: the engine's usual one
    const char *tool_host;                        // [user@]host[:port] to reach by ssh; NULL: it runs here
    const char *tool_conninfo;                    // how the program reaches the server from there; NULL: conninfo
    const char *table_keys, *table_keys_password; // files with the keys of encrypted tables, for the doctor; or NULL
    int64_t longest_outage_ms; // the log must wait for us that long; 0: nothing is asked of the server
};

/* ------------------------------------------------------------------------------------------ the sink */

enum hf_backup_file_kind {
    HF_BACKUP_FILE_RELATION, // pages of a table or an index, or of their FSM, VM and init forks
    HF_BACKUP_FILE_OTHER,    // everything else of the data directory
    HF_BACKUP_FILE_WAL,      // pg_wal/: whole segments and timeline history files
    HF_BACKUP_FILE_CAPTURED, // not of the data directory: backup_manifest, holdfast_config/...
};

#define HF_BACKUP_PATH_BYTES   1025       // longest path, with its NUL
#define HF_BACKUP_SIZE_UNKNOWN UINT64_MAX // it streams in, and its length comes last
#define HF_BACKUP_OTHER_PAGE   65536      // page_bytes of all that is no relation

/*
 * Borrowed for the call that gets it: a sink whose workers need it longer copies it.  Paths are relative
 * and clean: '/' between parts, no empty part, no "." or "..", no control bytes; they need not be UTF-8.
 */
struct hf_backup_file {
    const char *path; // "base/5/1259", "pg_tblspc/16400/PG_15_202209061/5/1234", "pg_wal/000000010000000000000003"
    enum hf_backup_file_kind kind;
    mode_t mode;          // permission bits
    int64_t modified_at;  // ms since 1970, 0 when not known
    uint64_t size;        // bytes that will be written, or HF_BACKUP_SIZE_UNKNOWN
    uint32_t page_bytes;  // of relations the engine's own, a power of two; HF_BACKUP_OTHER_PAGE for the others
    uint32_t first_block; // absolute block number of its first page: segment number x blocks of a segment
    bool checksums;       // its pages carry checksums
    uint64_t check_word;  // what else the engine's own check_pages wants to know of it
};

struct hf_backup_digest {
    uint64_t size;   // bytes written
    uint32_t crc32c; // over all of them
};

/*
 * A function that returns false with an error stops the backup; after that only file_drop is called, for
 * the files still open.  A file whose file_end was not called is not complete, whatever was written to it.
 */
struct hf_backup_sink {
    void *context;
    bool (*directory)(void *context, const char *path, mode_t mode, struct hf_error *err);
    /* pg_tblspc/<oid> is a link to `location` (any bytes) on the source.  Comes before pg_tblspc itself. */
    bool (*link)(void *context, const char *path, uint32_t oid, const char *location, struct hf_error *err);
    bool (*file_begin)(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err);
    /* The bytes are borrowed for the call.  May wait while the workers are behind. */
    bool (*file_write)(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err);
    /* The file is complete; the handle is gone, also on failure. */
    bool (*file_end)(void *context, void *handle, struct hf_error *err);
    /* The backup failed in the middle of this file: the handle is gone. */
    void (*file_drop)(void *context, void *handle);
    /*
     * The next `pages` pages of the file are what the backup before has at the same place, which is at least
     * parent_pages long.  Both NULL where that is not known; then no engine sends less than everything.
     */
    bool (*file_keep)(void *context, void *handle, uint64_t pages, struct hf_error *err);
    uint64_t (*parent_pages)(void *context, void *handle); // 0: it has no such file
    /* Returns when every ended file's digest is known. */
    bool (*flush)(void *context, struct hf_error *err);
    /* Only after flush, and only for files that ended. */
    bool (*digest_of)(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err);
};

/* One small file in one call: begin, write, end. */
HF_MUST_CHECK bool hf_backup_sink_put(const struct hf_backup_sink *sink, const struct hf_backup_file *file,
                                      const void *data, size_t length, struct hf_error *err);

/* ------------------------------------------------------------------------------------------ bad pages */

enum hf_page_verdict {
    HF_PAGE_OK,
    HF_PAGE_NEW,      // all zeros: never initialised, which is legal
    HF_PAGE_BAD,      // damaged on the source
    HF_PAGE_UNJUDGED, // has nothing that could be checked: counted, never passed
    HF_PAGE_PENDING,  // fails, but was being written during the backup: WAL replay repairs it, the sandbox decides
};

#define HF_PAGE_FAULTS_MOST 10000 // listed by name; the totals go on counting

struct hf_page_fault {
    char *path;
    uint32_t block; // absolute
    uint64_t lsn;   // what the page says of itself
    enum hf_page_verdict verdict;
};

/*
 * What the page check finds, from any number of threads.  The caller makes it before the backup and
 * hands it both to the sink's workers (as the context of check_pages) and to the backup, which sets
 * `start_lsn` before the first file comes.
 */
struct hf_page_faults {
    pthread_mutex_t lock;
    _Atomic uint64_t start_lsn;
    _Atomic uint64_t pages;      // looked at
    _Atomic uint64_t unjudged;   // of those: nothing can be said of them (no checksum, encrypted in a way not known)
    struct hf_page_fault *items; // under the lock, as are the counts
    size_t count, capacity;
    uint64_t bad, pending; // totals, exact
    bool unlisted;         // more than HF_PAGE_FAULTS_MOST, or no memory for the name
};

void hf_page_faults_init(struct hf_page_faults *faults);
void hf_page_faults_done(struct hf_page_faults *faults);
void hf_page_faults_add(struct hf_page_faults *faults, const char *path, uint32_t block, uint64_t lsn,
                        enum hf_page_verdict verdict);
/* Pending pages that say they are from after the backup's end cannot be: they become bad. */
void hf_page_faults_settle(struct hf_page_faults *faults, uint64_t stop_lsn);

/* ------------------------------------------------------------------------------------------ a backup */

/*
 * Counts are written by the backup's threads, read by any; `cancel` is set by anyone, looked at before every message.
 */
struct hf_source_progress {
    _Atomic uint64_t done;  // bytes received
    _Atomic uint64_t total; // bytes the server expects to send; 0 while unknown
    atomic_bool cancel;
};

/*
 * The backup before, for an engine that can send what changed since; one that cannot, or whose server refuses, sends
 * everything and says why.  PostgreSQL 17 and later: manifest is the server's own, of that backup.
 */
struct hf_backup_base {
    const char *manifest; // and a NUL behind it
    size_t manifest_bytes;
    bool checksums; // its pages carried checksums
    bool used;      // set by the engine
    char why[200];  // set when it was not used
};

struct hf_backup_request {
    const struct hf_source_target *target;
    const struct hf_backup_sink *sink;
    struct hf_page_faults *faults;
    struct hf_source_progress *progress;
    struct hf_backup_base *base;        // NULL: everything is sent
    const char *label;                  // [A-Za-z0-9 ._:-]{1,100}; stands in backup_label
    bool fast_checkpoint;               // else the server spreads it over minutes, kinder to the source
    uint32_t max_rate_kib;              // per second; 0: no limit
    uint32_t silence_ms;                // give the link up when it is silent that long; 0: 5 minutes
    uint32_t wal_wait_ms;               // wait for the last WAL after the files; 0: 10 minutes
    const _Atomic uint64_t *wal_stable; // WAL below this LSN is on stable storage: reported to the server, which
                                        // may then recycle it.  NULL: it keeps all of it until the backup ends
};

#define HF_SOURCE_POSITION_BYTES 64

/* What is known of a finished backup, whatever the engine; times in ms since 1970, by our clock. */
struct hf_backup_facts {
    char identity[HF_SOURCE_IDENTITY_BYTES];
    uint32_t server_version;      // as the engine counts: 150020, 101119
    char server_version_text[64]; // "15.20", "10.11.19-MariaDB"
    char start_position[HF_SOURCE_POSITION_BYTES], stop_position[HF_SOURCE_POSITION_BYTES]; // in the engine's words
    bool from_standby;
    int64_t started_at, stopped_at;
    uint64_t files;          // all that came
    uint64_t bytes_received; // over the network or the pipe
    char *notices;           // warnings of the server, cut at 8 KiB, "" when it was silent
    json_t *own;             // what only this engine knows: an object whose members join the stored facts
};

void hf_backup_facts_done(struct hf_backup_facts *facts);

/* ------------------------------------------------------------------------------------------ the doctor */

enum hf_check_verdict { HF_CHECK_OK, HF_CHECK_WARNING, HF_CHECK_FAILED, HF_CHECK_NOT_DETERMINABLE };

const char *hf_check_verdict_name(enum hf_check_verdict verdict); // "ok", "warning", "failed", "not_determinable"

struct hf_check {
    const char *id;    // "wal_level": never changes
    const char *title; // "WAL level allows backups"
    enum hf_check_verdict verdict;
    char detail[512]; // what was found
    char remedy[512]; // exact: SQL, the line, the setting and whether it needs a restart; "" when ok
};

#define HF_CHECKS_MOST 64

struct hf_checks {
    struct hf_check items[HF_CHECKS_MOST];
    size_t count;
};

/* The worst verdict of the list: failed, then warning, then not determinable, then ok. */
enum hf_check_verdict hf_checks_worst(const struct hf_checks *checks);
const struct hf_check *hf_checks_find(const struct hf_checks *checks, const char *id); // or NULL

/* What this appliance can start; either may be NULL, then it is not asked. */
struct hf_appliance_abilities {
    void *context;
    bool (*has_extension)(void *context, uint32_t major_version, const char *extension);
    bool (*has_locale)(void *context, const char *provider, const char *locale);
};

/* ------------------------------------------------------------------------------------------ the engine */

/* Which database a source is: what a vault's lineage hangs on. */
struct hf_source_identity {
    char text[HF_SOURCE_IDENTITY_BYTES]; // PostgreSQL's system identifier, a server's unique id, or one that we made up
    uint32_t server_version;             // as the engine counts
    char superuser[64];                  // of the role or account that may do everything; "" when it could not be asked
};

struct hf_stream_receive; // stream.h

struct hf_stream_kept {
    bool exists;
    int64_t bytes; // of log that is kept for the stream alone
    int64_t left;  // that it may still grow by; -1: without limit, or not known
};

struct hf_source_engine {
    const char *name; // "postgresql", "mariadb", "mysql"

    /* Connects and asks.  Errors: as backup's, when it cannot be reached or the role may not. */
    bool (*identify)(const struct hf_source_target *target, struct hf_source_identity *ret, struct hf_error *err);

    /*
     * Looks at every precondition of a backup.  A source that cannot be reached is a failed check and no
     * error.  Errors: NO_MEMORY, USAGE for a connection string that cannot be read.
     */
    bool (*doctor)(const struct hf_source_target *target, const struct hf_appliance_abilities *abilities,
                   struct hf_checks *ret, struct hf_error *err);

    /*
     * What a restore must know and the data directory does not hold: settings, access rules, locales,
     * libraries, extensions.  What the role may not see is named under "denied" and is no error.  With a
     * sink the configuration files go to it, as holdfast_config/<name>: before backup() uses the same sink.
     * Owner of *ret: the caller.
     */
    bool (*capture_environment)(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t **ret,
                                struct hf_error *err);

    /*
     * Takes a whole backup, and returns true only if the server or its tool said it succeeded, everything that
     * was announced arrived whole and nothing else did, and the log that belongs to it reaches its end.
     * Nothing stays behind on the source, also when we are killed.  *ret is the caller's to free with
     * hf_backup_facts_done.
     * Errors: DENIED and USAGE with the line or statement that mends it; CONFLICT for a database that is not
     * the one we know; CORRUPT for what cannot be trusted; UNAVAILABLE; CANCELLED; and those of the sink.
     */
    bool (*backup)(const struct hf_backup_request *request, struct hf_backup_facts *ret, struct hf_error *err);

    /*
     * Receives the log until it fails or is cancelled; what was received by then is durable and acknowledged, or will
     * be asked for again.  Never returns true.
     * Errors: CANCELLED; UNAVAILABLE: worth trying again; CONFLICT: another system, an older state of it, a branch that
     * the archive has left; CORRUPT: the log is damaged, with its position; DENIED, USAGE; those of the writer, after
     * which it is of no use.
     */
    bool (*stream)(const struct hf_stream_receive *request, struct hf_error *err);

    /* Takes back what a stream needs on the server (promise 12), if it is there.  CONFLICT while somebody uses it. */
    bool (*stream_release)(const struct hf_source_target *target, bool *ret_dropped, struct hf_error *err);
    /* What the server keeps for the stream.  NULL: streams of this engine keep nothing there. */
    bool (*stream_kept)(const struct hf_source_target *target, struct hf_stream_kept *ret, struct hf_error *err);

    /* Judges whole pages of a file from page `first_page` on; called by any thread, in any order. */
    void (*check_pages)(struct hf_page_faults *faults, const struct hf_backup_file *file, uint64_t first_page,
                        const uint8_t *data, size_t length);
};

extern const struct hf_source_engine hf_source_postgres, hf_source_mariadb, hf_source_mysql;

/* NULL for a name nobody has. */
const struct hf_source_engine *hf_source_engine_find(const char *name);

/*
 * settings.h - what the owner of the appliance decided: one strict YAML file, holdfast.yaml
 *
 * A setting that is misspelt and silently ignored is found on the day of the restore.  So the file is
 * refused as a whole, with file and line, for anything that is not exactly a setting: an unknown or doubled
 * key, a wrong type, a value out of its range, a tab, an anchor, an alias, a tag, a second document.
 *
 *     repository: /srv/backup/holdfast
 *     unlock:
 *       key_file: /etc/holdfast/server.key
 *     sources:
 *       clinic:
 *         engine: postgresql
 *         connection: host=db.example user=holdfast
 *         password_file: /etc/holdfast/clinic.password
 *         backup_every: 6h
 *         retention_every: 1d
 *         retention:
 *           daily: 14
 *           monthly: 12
 *
 * The key of an HSM or a key service comes from a program of the owner's, run without a shell:
 *
 *     key_commands:
 *       hsm:
 *         run: [/usr/local/bin/fetch-key, --label, holdfast]
 *     unlock:
 *       command: hsm
 *
 * Every setting is one row of the table in table.h; the structs below are what the rows fill.  Sources
 * can also be recorded in the repository (`holdfast source add`); their settings then travel as a JSON object
 * of texts ("retention.daily": "14"), checked by the same rows.
 */
#pragma once
#include "base/json.h"

#define HF_SETTINGS_FILE_MOST    HF_MIB // bytes of holdfast.yaml
#define HF_SETTINGS_SOURCES_MOST 1000
#define HF_SETTINGS_LIST_MOST    64   // entries of one list
#define HF_SETTINGS_TEXT_MOST    4096 // bytes of one value
#define HF_SOURCE_NAME_BYTES     64   // 63 and the 0

/* One database server that is backed up. */
struct hf_source_settings {
    char *name;
    unsigned line;            // of the settings file; 0 when it came from elsewhere
    const char *engine;       // "postgresql", "mariadb", "mysql"
    char *connection;         // "host=... user=...", without a password
    char *password_file;      // or NULL
    int64_t max_rate;         // bytes a second; 0: no limit
    const char *checkpoint;   // "fast" or "spread"
    const char *lowest_level; // of the sandbox, for this source; NULL: that of the appliance
    int64_t full_scan_every;  // one backup of so many sees every page; 0: only those that cannot be built on another
    int64_t backup_every_ms;  // 0: only when asked
    int64_t verify_every_ms;  // 0: only when asked, and after backups
    bool verify_after_backup;
    int64_t retention_every_ms; // 0: only when asked
    /* Which backups stay: server/retention/plan.h.  0 turns a rule off. */
    struct {
        int64_t last, hourly, daily, weekly, monthly, yearly;
        int64_t within_ms;
        int64_t stream_within_ms; // server/retention/stretches.h
        int64_t minimum;
        int64_t unproven_grace_ms, failed_grace_ms;
        int64_t most_percent, most_at_once; // may go without a person saying the number
    } retention;
    /* What the owner promised: compared with what was measured. */
    struct {
        int64_t recovery_ms, data_loss_ms; // 0: none
    } objective;
    char *tier;          // how critical it is, in the owner's words; or NULL
    bool stream;         // its log is received as it is written
    char *stream_slot;   // name of the replication slot for that; NULL: of our own making
    char *assertions;    // what must be true of every copy, one a line (assertion.h); NULL: none
    int64_t catch_up_ms; // a proof waits so long for the copy to stand where the source stood; 0: it does not ask
    int64_t slot_alarm, slot_most, slot_floor; // bytes; 0: off
    /* Of engines whose backups are made by a program on the database's host. */
    char *backup_tool;         // its name or path there; NULL: the engine's usual one
    char *ssh;                 // [user@]host[:port] of that host; NULL: the program runs here
    char *tool_connection;     // how the program reaches the server from there; NULL: as "connection"
    char *table_keys;          // file with the keys of encrypted tables (mariadb/table_keys.h); or NULL
    char *table_keys_password; // file with the password of that file; NULL: it is not sealed
    int64_t longest_outage_ms; // the server's log must wait for us that long; 0: nobody looks
};

/* A program that prints the 32 bytes of a key slot: `holdfast key add --kind command --name <name>`. */
struct hf_key_command {
    char *name;    // also of its slot
    unsigned line; // of the settings file
    char **run;    // argument vector; the first is an absolute path
    int64_t timeout_ms;
};

struct hf_settings {
    char *file; // where they came from
    char *text; // exactly as read: a worker process parses the same text again
    char *repository;
    char *state;
    char *socket;
    char *log_readers;      // users besides our own who may ask for log; NULL: none
    char *shred_confirmers; // users one of whom has to confirm that a vault is shredded; NULL: one person is enough
    int64_t jobs_at_once;
    int64_t workers; // threads of one backup; 0: one for each processor
    int64_t compression_level;
    int64_t catalog_check_every_ms; // 0: only when asked
    struct {
        char *key_file, *passphrase_file, *command; // exactly one is not NULL; command: a name of key_commands
    } unlock;
    struct {
        char **at;                              // ends with NULL; NULL for none
        int64_t sync_every_ms, oldest_ms, rate; // 0: off
    } second_place;
    struct {
        char *identity_file, *known_hosts; // NULL: as ssh finds them
    } ssh;
    struct {
        char *folder;
        int64_t memory; // bytes
    } scratch;
    struct {
        int64_t every_ms;  // 0: only when asked
        int64_t window_ms; // in which everything is read once
        int64_t rate;      // bytes a second; 0: no limit
    } scrub;
    struct {
        char *witness; // file that is shown every checkpoint of the ledger; or NULL
        char *site;    // where the appliance stands; or NULL
    } evidence;
    int64_t key_drill_every_ms; // a slot that nobody opened for so long is overdue; 0: never
    struct {
        const char *lowest_level; // "L1", "L2", "L3r", "L3"
        int64_t memory;           // bytes
        int64_t phase_ms;
        int64_t budget_memory;     // bytes; 0: half of what the machine has
        int64_t budget_processors; // 0: all
        char *runner;              // socket of holdfast-runner
        char **postgres_prefixes;  // ends with NULL; NULL for none
    } sandbox;
    size_t key_command_count;
    struct hf_key_command **key_commands; // in the order of the file
    size_t source_count;
    struct hf_source_settings **sources; // likewise
};

/*
 * The file to read: `option` when not NULL, else $HOLDFAST_SETTINGS, else /etc/holdfast/holdfast.yaml; for an
 * ordinary user, when that is not there, $HOME/.config/holdfast/holdfast.yaml.  Always absolute; free() it.
 */
HF_MUST_CHECK bool hf_settings_path(const char *option, char **ret, struct hf_error *err);

/*
 * Errors: NOT_FOUND; DENIED when someone else owns the file or could change it; USAGE "file:line: ..." for
 * everything that is not a setting.
 */
HF_MUST_CHECK bool hf_settings_load(const char *path, struct hf_settings **ret, struct hf_error *err);
/* The same from text; `file` stands in messages. */
HF_MUST_CHECK bool hf_settings_parse(const char *file, const void *text, size_t length, struct hf_settings **ret,
                                     struct hf_error *err);
void hf_settings_freep(struct hf_settings **settings);

/* NULL when the file has no such source. */
const struct hf_source_settings *hf_settings_source(const struct hf_settings *settings, const char *name);

/* NULL when the file has no such command. */
const struct hf_key_command *hf_settings_key_command(const struct hf_settings *settings, const char *name);
void hf_key_command_freep(struct hf_key_command **command);

/* [a-z0-9][a-z0-9_-]{0,62}, else USAGE. */
HF_MUST_CHECK bool hf_source_name_check(const char *name, struct hf_error *err);

/*
 * A source as a JSON object of texts: {"backup_every": "6h", "engine": "postgresql", ...}.  Settings at their
 * default stand too, so that a record says how things were; what is unset is left out.  Reading takes a
 * missing member as its default and refuses (USAGE) unknown ones.
 */
HF_MUST_CHECK bool hf_source_settings_to_json(const struct hf_source_settings *source, json_t **ret,
                                              struct hf_error *err);
HF_MUST_CHECK bool hf_source_settings_from_json(const char *name, const json_t *object, struct hf_source_settings **ret,
                                                struct hf_error *err);
void hf_source_settings_freep(struct hf_source_settings **source);

/* The text behind `holdfast settings`: every row with its type, default, limits and sentence. */
HF_MUST_CHECK bool hf_settings_reference(struct hf_buf *out, struct hf_error *err);

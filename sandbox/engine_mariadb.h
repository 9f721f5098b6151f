/*
 * engine_mariadb.h - MariaDB as two engines of the sandbox: the tool that makes a backup's files consistent, the server
 *
 * A backup by mariadb-backup is not a data directory yet: its redo log has to be applied ("prepare").  Both steps run
 * over hostile files, and both obey what they find: backup-my.cnf names plugins to load, mysql.plugin and mysql.func
 * libraries, mysql.event and the replica's files start work of their own.  So: no option file but ours, of the
 * backup's own only the layout of InnoDB (checked, see below), no plugin but the one for keys that the owner asked
 * for, no grant tables (which leaves out plugin and function tables, too), no events, no replica that dials out.
 *
 *     hf_mariadb_read_layout -> hf_mariadb_make_ready -> prepare (ends by itself) -> server (until it is stopped)
 *
 * The tool must be of the server's series (10.11 for 10.11.x): redo logs differ between series.
 */
#pragma once
#include "sandbox/sandbox.h"

#define HF_MARIADB_SOCKET        "mariadb.sock" // in the folder of hf_sandbox_socket_path()
#define HF_MARIADB_VERSION_BYTES 64
#define HF_MARIADB_PATHS_BYTES   512

/*
 * How the source's InnoDB laid its files out, from the backup's backup-my.cnf.  Lines "name=value"; sections, comments
 * and names that are not here are passed over.
 *   innodb_page_size          4096, 8192, 16384, 32768 or 65536
 *   innodb_data_file_path     name:size[:autoextend[:max:size]];... with plain names: no folder, no raw device
 *   innodb_log_file_size      bytes, 1 MiB to 512 GiB
 *   innodb_undo_tablespaces   0 to 127
 *   innodb_checksum_algorithm crc32, full_crc32, innodb, none, or one of these with strict_ in front
 *   plugin_load               the part before '=' alone, which is never loaded by its name: the plugin that had the
 *                             keys
 *   file_key_management_encryption_algorithm   aes_cbc or aes_ctr
 */
struct hf_mariadb_layout {
    uint32_t page_bytes;
    uint32_t undo_tablespaces;
    uint64_t log_file_bytes;
    char data_file_path[HF_MARIADB_PATHS_BYTES];
    char checksum_algorithm[32];
    char key_plugin[64]; // of encrypted tables: [A-Za-z0-9_], "another" for what is no such name; "": none
    bool key_counter;    // it enciphers with AES-CTR, not AES-CBC
};

#define HF_MARIADB_OPTIONS_MOST (64 * 1024) // bytes of a backup-my.cnf
/* CORRUPT names the line that is not as above.  What is not there is MariaDB's default. */
HF_MUST_CHECK bool hf_mariadb_parse_layout(const char *text, size_t length, struct hf_mariadb_layout *ret,
                                           struct hf_error *err);
/* The same from <data>/backup-my.cnf; CORRUPT when there is none: the backup is not whole. */
HF_MUST_CHECK bool hf_mariadb_read_layout(const char *data, struct hf_mariadb_layout *ret, struct hf_error *err);

/* Keys of encrypted tables, as file_key_management wants them.  Borrowed texts. */
struct hf_mariadb_keys {
    const char *file;      // content of its key file
    const char *password;  // of that file, or NULL: it is not encrypted
    const char *algorithm; // "aes_cbc" or "aes_ctr"; NULL: its default
};

/* 0 and NULL mean the default that stands behind. */
struct hf_mariadb_settings {
    const char *series;              // "10.11"
    const char *packages;            // folder that holds unpacked packages; NULL: the host's /
    struct hf_mariadb_layout layout; // page_bytes 0: 16 KiB, and MariaDB's defaults
    const struct hf_mariadb_keys *keys;
    uint64_t buffer_pool_bytes; // 64 MiB
    bool durable;               // wait for the disk; off for a copy that is thrown away
    int lower_case_table_names; // 0, as on Linux usual
    bool applies_relay_log;     // the server's own applier will be started on a relay log in the data directory
    const char *const *more;    // "--name=value", after all of ours; ends with NULL; NULL: none
};

/* Their settings are a struct hf_mariadb_settings.  NOT_FOUND names the package when the series is not on this host. */
extern const struct hf_sandbox_engine hf_engine_mariadb_prepare; // ends with 0 and a last line "completed OK!"
extern const struct hf_sandbox_engine hf_engine_mariadb;

/*
 * Makes a restored folder ready for the prepare step, before it is given to the sandbox's uid: an option file of ours
 * in the place of the backup's, which the tool insists on; what a replica, a cluster or a former start left goes.
 */
HF_MUST_CHECK bool hf_mariadb_make_ready(const char *data, const struct hf_mariadb_layout *layout,
                                         struct hf_error *err);
/* Whether the log of a prepare step ends as that of one that succeeded. */
bool hf_mariadb_prepare_succeeded(const char *log);
/*
 * How far the redo log of the backup reaches, from its xtrabackup_checkpoints ("last_lsn = 152885"); and how far a
 * prepare step got, from its log ("End of log at LSN=152885").  The step calls itself completed when the log it found
 * ends early, so these two must be held against each other.  CORRUPT: the file is missing or says nothing of the kind.
 */
HF_MUST_CHECK bool hf_mariadb_read_last_lsn(const char *data, uint64_t *ret, struct hf_error *err);
bool hf_mariadb_prepare_reached(const char *log, uint64_t *ret);

/* Programs of one series on this host, and which version they are ("10.11.6"). */
struct hf_mariadb_programs {
    char server[HF_MARIADB_PATHS_BYTES], backup[HF_MARIADB_PATHS_BYTES], plugins[HF_MARIADB_PATHS_BYTES];
    char version[HF_MARIADB_VERSION_BYTES];
};
/* NOT_FOUND names what is missing, or that it is of another series.  Runs both programs with --version. */
HF_MUST_CHECK bool hf_mariadb_find(const char *series, const char *packages, struct hf_mariadb_programs *ret,
                                   struct hf_error *err);
/*
 * Where they are: on this host (*ret_packages is NULL then), else in the first of `prefixes` that has them (borrowed
 * from there; the list ends with NULL and may be NULL).  The error speaks of the host.
 */
HF_MUST_CHECK bool hf_mariadb_find_among(const char *series, const char *const *prefixes, const char **ret_packages,
                                         struct hf_error *err);
/* "10.11" of "10.11.6-MariaDB-0+deb12u1-log"; false for a text that is no version of MariaDB's. */
bool hf_mariadb_series(const char *version, char ret[static 16]);

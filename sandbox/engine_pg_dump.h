/*
 * engine_pg_dump.h - pg_dump as an engine of the sandbox
 *
 * The server that it asks is a restored copy in a sandbox of its own, and hostile: what it answers may be meant for
 * pg_dump's faults.  So pg_dump runs behind the same walls, sees nothing but that server's socket, and writes one file
 * into its data folder; whoever reads that file reads bytes of a stranger.
 */
#pragma once
#include "sandbox/sandbox.h"

#define HF_PG_DUMP_FILE        "dump" // in the data folder: pg_dump's custom format
#define HF_PG_DUMP_TABLES_MOST 256

/* All borrowed until hf_sandbox_start() returns. */
struct hf_pg_dump_settings {
    const char *program; // hf_pg_dump_find()
    const char *packages;
    unsigned major;     // of the program
    const char *socket; // host folder with the server's socket
    unsigned port;
    const char *user, *database;
    const char *options;       // of the connection
    const char *const *tables; // each as pg_dump takes it: "\"schema\".\"table\""; ends with NULL
};

extern const struct hf_sandbox_engine hf_engine_pg_dump;

/*
 * The pg_dump of this release or the nearest newer one, on the host or below one of the folders (as those of
 * engine_postgres.h; NULL: none).  NOT_FOUND names the package.  ret->program is the caller's to free.
 */
struct hf_pg_dump_found {
    char *program;
    const char *packages; // borrowed from the list; NULL: the host's own
    unsigned major;
};
HF_MUST_CHECK bool hf_pg_dump_find(unsigned major, const char *const *packages, struct hf_pg_dump_found *ret,
                                   struct hf_error *err);

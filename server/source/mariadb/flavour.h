/*
 * flavour.h - where MariaDB and MySQL differ: their tool, and some of their words
 *
 * The code beside this is one for both.  What was run: MariaDB 10.11 with mariadb-backup.  What MySQL has of its own
 * (xtrabackup, its words) is written to its documentation, and was not run: Debian has no package of either.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct hf_flavour_grant {
    const char *right;  // as GRANT takes it: "BINLOG MONITOR"
    const char *shown;  // as SHOW GRANTS has it, where it is another word; NULL: the same
    const char *why;    // for people
    bool for_stream;    // needed for the binary log, not for a backup
    uint32_t since;     // the server's version from which it is called so; 0: always
    const char *before; // what it was called until then
};

struct hf_flavour {
    const char *name;            // "mariadb": the engine's
    const char *people;          // "MariaDB"
    const char *tool;            // "mariadb-backup"
    const char *stream;          // the tool's argument
    const char *options[3];      // more of its arguments; ends with NULL
    const char *package;         // the tool's, on Debian and its like
    const char *identity;        // the variable that names a server
    bool identity_is_kept;       // with the data, not made from the machine: a server without a port has it too
    bool server_is_mariadb;      // what a connection must find
    uint32_t oldest;             // version from which it is supported
    bool pages_of_a_sparse_file; // chunks of type S are holes, not places to go to
    const struct hf_flavour_grant *grants;
    unsigned grant_count;
};

extern const struct hf_flavour hf_flavour_mariadb, hf_flavour_mysql;

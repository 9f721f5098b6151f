/*
 * tables.h - every table of a restored MariaDB read, every index checked, everything else counted
 *
 * Looks that together see what one alone does not:
 *   - each table is read whole by the server (CHECKSUM TABLE EXTENDED: every column of every row, long values too) and
 *     its rows are counted;
 *   - CHECK TABLE EXTENDED walks every index of InnoDB, Aria and MyISAM and holds its entries against the table's;
 *     what it overlooks in InnoDB (an entry marked as deleted) shows in a count through each index;
 *   - each foreign key is counted: a row that refers to none that is there tells of a table that is older than its
 *     neighbours, although each of them is sound by itself;
 *   - what InnoDB's dictionary has must have a definition, and the other way round (a lost .frm or .ibd).
 *
 * Messages of the server stay inside: they may carry values of rows.  Findings are the names of objects.
 */
#pragma once
#include "server/verify/engine.h"
#include "server/verify/mariadb/query.h"

#define HF_MARIADB_TABLES_MOST 200000
#define HF_MARIADB_NAME_BYTES  260 // 64 characters of at most 4 bytes

struct hf_mariadb_look {
    struct hf_attempt *attempt;
    struct hf_asker_conn *conn; // one that is open; each thread opens its own
};

/*
 * Settles the checks "dictionary", "tables_read", "indexes", "references" and "objects", and fills the outcome's
 * relations.  False only for what is no verdict: memory, cancelled.
 */
HF_MUST_CHECK bool hf_mariadb_check_tables(const struct hf_mariadb_look *look, struct hf_error *err);

/*
 * Settles "references": rows whose foreign key leads nowhere, by constraint.  The source may hold such rows itself
 * (foreign_key_checks=0), so they do not fail a copy.  Where the source can be asked and has as many of them, the
 * check passes with a note that names the key; else it is left undetermined, by name.
 */
HF_MUST_CHECK bool hf_mariadb_check_references(const struct hf_mariadb_look *look, struct hf_error *err);

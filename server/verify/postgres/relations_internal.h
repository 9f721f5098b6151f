/*
 * relations_internal.h - what the looks at one database's relations share
 *
 * relations.c goes through databases and relations, catalog.c asks what the catalog says of itself, content.c whether
 * rows of different tables fit together, zeros.c which empty blocks were in use.
 */
#pragma once
#include <pthread.h>
#include "server/verify/postgres/relations.h"

#define HF_FINDINGS_OF_TABLE 8

struct relation {
    uint32_t oid;
    char kind;  // pg_class.relkind
    bool heap;  // rows lie as PostgreSQL's own tables have them
    bool btree; // an index we can check
    bool index_valid;
    bool sorts_text;       // an index in the order of the database's collation
    bool has_btree;        // a table that can be counted through a whole btree
    bool is_unlogged_bare; // unlogged, and without the file that a crash would make it empty from
    uint64_t bytes;
    char name[200];      // schema.name, for people
    char quoted[300];    // for SQL
    char schema[140];    // quoted
    char key[400];       // a table: the columns of a key that must be unique, for SQL; "" when it has none
    char collation[160]; // an index: one that it sorts by and that this host has in another version; "" for none
};

/* A foreign key, and how many rows it leads nowhere. */
struct hf_reference {
    char name[200]; // schema.table.constraint
    char *question; // SQL
};
struct hf_references {
    struct hf_reference *items;
    size_t count, room, next;
};

struct database {
    char name[64];
    uint32_t oid;
    bool collation_differs;
    char collation_why[256];
};

struct look {
    const struct hf_relations_options *options;
    struct hf_verify_check *environment, *catalog, *tables, *heap, *indexes, *other_indexes, *reverse, *keys, *zeros,
        *references, *sequences;
    pthread_mutex_t lock; // guards the checks and what follows
    const struct database *database;
    char amcheck[80]; // schema of amcheck, quoted, with the dot; "" when there is none
    char amcheck_why[300];
    size_t relation_count, relation_room, next;
    struct relation *relations;
    struct hf_references foreign_keys;
    uint64_t rows;
    bool out_of_memory;
    struct { // how many were looked at, and how many there are
        int64_t tables, heaps, btrees, counted, keys, zeros, references, sequences, catalogs;
    } seen, of;
    int64_t other_kinds;
    char other_kind[256]; // the first index of a kind that nobody can check
};

/* Notes a refusal under the check: a finding, unless it tells of this host, or of a function that somebody wrote. */
void hf_look_refused(struct look *look, struct hf_verify_check *check, const char *what,
                     const struct relation *relation, const struct hf_query_refusal *refusal);
/* Whether a refusal says nothing of the data: the copy went away, it ran out of room, or this program's own limit. */
bool hf_query_is_no_verdict(const struct hf_query_refusal *refusal);

/* Of the whole database, by one connection; each settles nothing and notes what it finds. */
void hf_look_at_catalog(struct look *look, struct hf_asker_conn *conn);
void hf_look_at_zero_blocks(struct look *look, struct hf_asker_conn *conn);
/* Foreign keys are asked by several connections at once: take the next until there is none. */
HF_MUST_CHECK bool hf_references_list(struct look *look, struct hf_asker_conn *conn, struct hf_references *ret,
                                      struct hf_error *err);
void hf_reference_check(struct look *look, struct hf_asker_conn *conn, const struct hf_reference *reference);
void hf_references_done(struct hf_references *references);
void hf_look_at_sequences(struct look *look, struct hf_asker_conn *conn);

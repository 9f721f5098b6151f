/*
 * path.h - which names a server may send, and what they are
 *
 * The server is not trusted: a name from its tar or its manifest becomes a path only here.
 */
#pragma once
#include "server/source/source.h"

#define HF_POSTGRES_PATH_DEPTH 16  // parts of a path
#define HF_POSTGRES_NAME_BYTES 255 // of one part

/*
 * Makes "<prefix>/<name>" clean: one leading "./" and trailing slashes go (PostgreSQL sends both), everything
 * else that is not plain is refused: absolute names, empty, "." and ".." parts, control bytes, backslashes,
 * what is too long or too deep.  `prefix` is "" or clean itself.  A name that is nothing but "./" or "" is refused.
 * Errors: CORRUPT, with the name.
 */
HF_MUST_CHECK bool hf_postgres_path_clean(const char *prefix, const char *name, char path[static HF_BACKUP_PATH_BYTES],
                                          struct hf_error *err);

/*
 * Whether a clean path is a relation's file: base/<oid>/, global/ or pg_tblspc/<oid>/PG_<...>/<oid>/, then
 * <number>[_fsm|_vm|_init][.<segment>].  *ret_segment is written only then.  pg_control, pg_filenode.map,
 * PG_VERSION and temporary relations are none.  A segment number that could not be is none either.
 */
bool hf_postgres_path_is_relation(const char *path, uint32_t segment_blocks, uint32_t *ret_segment);

/* "pg_tblspc/16400" for a tablespace. */
#define HF_POSTGRES_TABLESPACE_PATH_BYTES 24
void hf_postgres_path_of_tablespace(uint32_t oid, char path[static HF_POSTGRES_TABLESPACE_PATH_BYTES]);

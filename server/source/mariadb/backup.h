/*
 * backup.h - one physical backup by mariadb-backup or xtrabackup, from the first byte to the proof that it is whole
 *
 *     connect, identify, ask        which server, its sizes, whether it has a binary log
 *     tool --version                of the server's series, or no backup
 *     tool --backup --stream        stdout -> mbstream.h -> the sink, file by file as they come
 *     the tool's end                exit status 0, "completed OK!" last, every file ended, and its info files say so
 *                                   too
 *
 * What is stored is what came: not prepared, its redo log beside its pages.  A file's page size is read off its first
 * page (innodb.h) before the sink hears of it, so that its pages are tagged as what they are.  Files that the tool
 * renames, removes or sends anew at the end are told in corrections.h.
 */
#pragma once
#include "server/source/mariadb/client.h"

/* Of struct hf_source_engine. */
HF_MUST_CHECK bool hf_mariadb_backup(const struct hf_flavour *flavour, const struct hf_backup_request *request,
                                     struct hf_backup_facts *ret, struct hf_error *err);

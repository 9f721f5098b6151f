#include "server/source/mariadb/flavour.h"

#include <stddef.h>

#include "base/attributes.h"

static const struct hf_flavour_grant mariadb_grants[] = {
    {.right = "RELOAD", .why = "stages of a backup, and the binary log's position"},
    {.right = "PROCESS", .why = "InnoDB's state and list of tablespaces"},
    {.right = "BINLOG MONITOR", .why = "the binary log's position", .since = 100502, .before = "REPLICATION CLIENT"},
    {.right = "REPLICATION SLAVE", .why = "to receive the binary log", .for_stream = true},
};

static const struct hf_flavour_grant mysql_grants[] = {
    {.right = "RELOAD", .why = "to flush tables and logs"},
    {.right = "PROCESS", .why = "InnoDB's state"},
    {.right = "LOCK TABLES", .why = "tables that are not transactional"},
    {.right = "BACKUP_ADMIN", .why = "LOCK INSTANCE FOR BACKUP"},
    {.right = "REPLICATION CLIENT", .why = "the binary log's position"},
    {.right = "REPLICATION SLAVE", .why = "to receive the binary log", .for_stream = true},
};

const struct hf_flavour hf_flavour_mariadb = {
    .name = "mariadb",
    .people = "MariaDB",
    .tool = "mariadb-backup",
    .stream = "--stream=mbstream",
    .options = {"--log-innodb-page-corruption"}, // a damaged page is kept and named, not the end of the backup
    .package = "mariadb-backup",
    .identity = "server_uid",
    .server_is_mariadb = true,
    .oldest = 100600,
    .grants = mariadb_grants,
    .grant_count = HF_LENGTH(mariadb_grants),
};

const struct hf_flavour hf_flavour_mysql = {
    .name = "mysql",
    .people = "MySQL",
    .tool = "xtrabackup",
    .stream = "--stream=xbstream",
    .package = "percona-xtrabackup-80",
    .identity = "server_uuid",
    .identity_is_kept = true,
    .oldest = 80000,
    .pages_of_a_sparse_file = true,
    .grants = mysql_grants,
    .grant_count = HF_LENGTH(mysql_grants),
};

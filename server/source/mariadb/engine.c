/* The engine tables of MariaDB and MySQL: the same functions, each told its flavour. */
#include "server/source/mariadb/backup.h"
#include "server/source/mariadb/binlog_receive.h"
#include "server/source/mariadb/doctor.h"
#include "server/source/mariadb/environment.h"
#include "server/source/mariadb/identify.h"
#include "server/source/mariadb/innodb.h"

static bool
mariadb_identify(const struct hf_source_target *target, struct hf_source_identity *ret, struct hf_error *err)
{
    return hf_mariadb_identify(&hf_flavour_mariadb, target, ret, err);
}

static bool
mysql_identify(const struct hf_source_target *target, struct hf_source_identity *ret, struct hf_error *err)
{
    return hf_mariadb_identify(&hf_flavour_mysql, target, ret, err);
}

static bool
mariadb_doctor(const struct hf_source_target *target, const struct hf_appliance_abilities *abilities,
               struct hf_checks *ret, struct hf_error *err)
{
    (void)abilities; // of extensions and locales, which these engines bring along
    return hf_mariadb_doctor(&hf_flavour_mariadb, target, ret, err);
}

static bool
mysql_doctor(const struct hf_source_target *target, const struct hf_appliance_abilities *abilities,
             struct hf_checks *ret, struct hf_error *err)
{
    (void)abilities;
    return hf_mariadb_doctor(&hf_flavour_mysql, target, ret, err);
}

static bool
mariadb_capture(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t **ret,
                struct hf_error *err)
{
    return hf_mariadb_capture_environment(&hf_flavour_mariadb, target, sink, ret, err);
}

static bool
mysql_capture(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t **ret,
              struct hf_error *err)
{
    return hf_mariadb_capture_environment(&hf_flavour_mysql, target, sink, ret, err);
}

static bool
mariadb_backup(const struct hf_backup_request *request, struct hf_backup_facts *ret, struct hf_error *err)
{
    return hf_mariadb_backup(&hf_flavour_mariadb, request, ret, err);
}

static bool
mysql_backup(const struct hf_backup_request *request, struct hf_backup_facts *ret, struct hf_error *err)
{
    return hf_mariadb_backup(&hf_flavour_mysql, request, ret, err);
}

static bool
connect_mariadb(const struct hf_source_target *target, MYSQL **ret, struct hf_error *err)
{
    return hf_mariadb_client_connect(&hf_flavour_mariadb, target, ret, err);
}

static bool
connect_mysql(const struct hf_source_target *target, MYSQL **ret, struct hf_error *err)
{
    return hf_mariadb_client_connect(&hf_flavour_mysql, target, ret, err);
}

static bool
mariadb_stream(const struct hf_stream_receive *request, struct hf_error *err)
{
    return hf_binlog_receive(request, HF_GTID_MARIADB, connect_mariadb, err);
}

static bool
mysql_stream(const struct hf_stream_receive *request, struct hf_error *err)
{
    return hf_binlog_receive(request, HF_GTID_MYSQL, connect_mysql, err);
}

/* A replica leaves nothing on its source. */
static bool
release_nothing(const struct hf_source_target *target, bool *ret_dropped, struct hf_error *err)
{
    (void)target;
    (void)err;
    *ret_dropped = false;
    return true;
}

const struct hf_source_engine hf_source_mariadb = {
    .name = "mariadb",
    .identify = mariadb_identify,
    .doctor = mariadb_doctor,
    .capture_environment = mariadb_capture,
    .backup = mariadb_backup,
    .stream = mariadb_stream,
    .stream_release = release_nothing,
    .check_pages = hf_innodb_check_pages,
};

const struct hf_source_engine hf_source_mysql = {
    .name = "mysql",
    .identify = mysql_identify,
    .doctor = mysql_doctor,
    .capture_environment = mysql_capture,
    .backup = mysql_backup,
    .stream = mysql_stream,
    .stream_release = release_nothing,
    .check_pages = hf_innodb_check_pages,
};

/* The engine table of PostgreSQL: what the rest of the server knows it by. */
#include "server/source/postgres/base_backup.h"
#include "server/source/postgres/doctor.h"
#include "server/source/postgres/environment.h"
#include "server/source/postgres/identify.h"
#include "server/source/postgres/page_check.h"
#include "server/source/postgres/stream_receive.h"

const struct hf_source_engine hf_source_postgres = {
    .name = "postgresql",
    .identify = hf_postgres_ask_identity,
    .doctor = hf_postgres_doctor,
    .capture_environment = hf_postgres_capture_environment,
    .backup = hf_postgres_backup,
    .stream = hf_postgres_stream,
    .stream_release = hf_postgres_stream_release,
    .stream_kept = hf_postgres_stream_kept,
    .check_pages = hf_postgres_check_pages,
};

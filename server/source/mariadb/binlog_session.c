#include "server/source/mariadb/binlog_session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"

#define ANSWER_MS     60000
#define BEAT_NS       "1000000000" // heartbeats of an idle server, in ns
#define MARK_SEMI     0xef
#define FLAG_WAITS    0x01
#define DUMP_NO_WAIT  1 // end where the log ends
#define DUMP_ANNOTATE 2 // send the statement's text with its rows
#define DUMP_BY_GTID  4 // MySQL: the set decides, file and position do not

#define COM_REGISTER 0x15
#define COM_DUMP     0x12
#define COM_DUMP_SET 0x1e

#define ER_SPECIFIC_ACCESS_DENIED 1227
#define ER_UNKNOWN_VARIABLE       1193

#define CELL_BYTES 256

static bool run(struct hf_binlog_session *session, const char *sql, bool may_be_unknown, struct hf_error *err);
static bool ask(struct hf_binlog_session *session, const char *sql, unsigned column, struct hf_buf *out,
                struct hf_error *err);
static bool ask_text(struct hf_binlog_session *session, const char *sql, unsigned column, char *ret, size_t size,
                     struct hf_error *err);
static bool ask_set(struct hf_binlog_session *session, const char *sql, struct hf_gtid_set *ret, struct hf_error *err);
static bool begin_dumping(struct hf_binlog_session *session, bool *ret_checksums, struct hf_error *err);
static bool take_head(struct hf_binlog_session *session, struct hf_binlog_walk *walk, struct hf_binlog_server *server,
                      bool *ret_enough, struct hf_error *err);
static bool ask_semi_sync(struct hf_binlog_session *session, struct hf_binlog_server *server, struct hf_error *err);
static bool fail_asking(struct hf_binlog_session *session, const char *doing, struct hf_error *err);
static bool send_command(struct hf_binlog_session *session, uint8_t command, const struct hf_buf *body,
                         struct hf_error *err);
static bool register_replica(struct hf_binlog_session *session, struct hf_error *err);
static bool say_where(struct hf_binlog_session *session, const struct hf_binlog_place *from, struct hf_error *err);
static bool ask_for_events(struct hf_binlog_session *session, const struct hf_binlog_server *server,
                           const struct hf_binlog_place *from, struct hf_error *err);
static bool judge_refusal(const uint8_t *data, size_t length, struct hf_error *err);

uint32_t
hf_binlog_replica_id(const char *slot)
{
    return 0x40000000U | (hf_crc32c(0, slot, strlen(slot)) & 0x3fffffffU);
}

bool
hf_binlog_session_open(struct hf_binlog_session *session, hf_binlog_connector *connect, struct hf_error *err)
{
    session->conn = NULL;
    session->dumping = session->semi_sync = false;
    return connect(session->target, &session->conn, err);
}

void
hf_binlog_session_close(struct hf_binlog_session *session)
{
    if (session->dumping)
        hf_packets_done(&session->packets);
    session->dumping = false;
    if (session->conn != NULL)
        mysql_close(session->conn);
    session->conn = NULL;
}

bool
hf_binlog_server_ask(struct hf_binlog_session *session, struct hf_binlog_server *ret, struct hf_error *err)
{
    _cleanup_(hf_binlog_server_done) struct hf_binlog_server server = {
        .by_gtid = true, .first_format = HF_BUF_INIT(HF_BINLOG_FORMAT_MOST)};
    char text[CELL_BYTES];
    const bool mysql = session->flavor == HF_GTID_MYSQL;
    if (!ask_text(session, "SELECT @@global.log_bin", 0, text, sizeof text, err))
        return false;
    if (strcmp(text, "1") != 0)
        return hf_fail(err, HF_ERR_USAGE, "the server writes no binary log (log_bin is off)") ||
               hf_fail_hint(err, "Set log_bin=ON and binlog_format=ROW in the server's option file and restart it.");
    if (!ask_text(session, "SELECT @@global.server_id", 0, text, sizeof text, err))
        return false;
    server.server_id = (uint32_t)strtoul(text, NULL, 10);
    if (server.server_id == session->replica_id)
        return hf_fail(err, HF_ERR_CONFLICT, "server id %u is the server's own and ours", server.server_id);
    if (mysql) {
        if (!ask_text(session, "SELECT @@global.gtid_mode", 0, text, sizeof text, err))
            return false;
        server.by_gtid = strcmp(text, "ON") == 0;
    }
    if (!hf_binlog_logged_ask(session, &server.logged, err) || !ask_semi_sync(session, &server, err))
        return false;
    *ret = server;
    server = (struct hf_binlog_server){0};
    return true;
}

bool
hf_binlog_semi_sync_status(struct hf_binlog_session *session, bool *ret_on, struct hf_error *err)
{
    char text[CELL_BYTES];
    if (!ask_text(session, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_status'", 1, text, sizeof text, err))
        return false;
    if (text[0] == 0 &&
        !ask_text(session, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'", 1, text, sizeof text, err))
        return false;
    *ret_on = strcmp(text, "ON") == 0;
    return true;
}

void
hf_binlog_server_done(struct hf_binlog_server *server)
{
    hf_gtid_set_done(&server->logged);
    hf_gtid_set_done(&server->oldest);
    hf_buf_done(&server->first_format);
}

bool
hf_binlog_logged_ask(struct hf_binlog_session *session, struct hf_gtid_set *ret, struct hf_error *err)
{
    return ask_set(
        session, session->flavor == HF_GTID_MYSQL ? "SELECT @@global.gtid_executed" : "SELECT @@global.gtid_binlog_pos",
        ret, err);
}

bool
hf_binlog_gtids_before(struct hf_binlog_session *session, const char *file, uint64_t position, struct hf_gtid_set *ret,
                       struct hf_error *err)
{
    char quoted[2 * HF_BINLOG_NAME_BYTES], sql[sizeof quoted + 64];
    mysql_real_escape_string(session->conn, quoted, file, strlen(file));
    snprintf(sql, sizeof sql, "SELECT BINLOG_GTID_POS('%s', %llu)", quoted, (unsigned long long)position);
    return ask_set(session, sql, ret, err);
}

bool
hf_binlog_server_probe(struct hf_binlog_session *session, struct hf_binlog_server *server, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(64);
    struct hf_binlog_walk walk;
    bool checksums, enough = false;
    if (session->flavor == HF_GTID_MARIADB && !run(session, "SET @mariadb_slave_capability=4", false, err))
        return false;
    if (!begin_dumping(session, &checksums, err) || !hf_buf_put_u32(&body, 4, err) ||
        !hf_buf_put_u16(&body, DUMP_NO_WAIT, err) || !hf_buf_put_u32(&body, session->replica_id, err) ||
        !send_command(session, COM_DUMP, &body, err))
        return false;
    session->packets.any_sequence = true;
    hf_binlog_walk_begin(&walk, checksums);
    while (!enough)
        if (!take_head(session, &walk, server, &enough, err))
            return hf_fail_within(err, "could not look at the server's oldest binary log");
    return true;
}

bool
hf_binlog_session_dump(struct hf_binlog_session *session, const struct hf_binlog_server *server,
                       const struct hf_binlog_place *from, bool *ret_checksums, struct hf_error *err)
{
    if (!say_where(session, from, err))
        return false;
    if (server->semi_sync && !run(session, "SET @rpl_semi_sync_slave=1, @rpl_semi_sync_replica=1", false, err))
        return false;
    session->semi_sync = server->semi_sync;
    if (!begin_dumping(session, ret_checksums, err))
        return false;
    if (!register_replica(session, err) || !ask_for_events(session, server, from, err))
        return false;
    session->packets.any_sequence = true;
    return true;
}

bool
hf_binlog_session_next(struct hf_binlog_session *session, bool *ret_got, const uint8_t **ret_data, size_t *ret_length,
                       bool *ret_wants_answer, struct hf_error *err)
{
    const uint8_t *data;
    size_t length;
    if (!hf_packets_next(&session->packets, HF_BINLOG_EVENT_MOST + 3, ret_got, &data, &length, err))
        return false;
    if (!*ret_got)
        return true;
    if (length > 0 && data[0] == 0xff)
        return judge_refusal(data, length, err);
    if (length > 0 && length < 9 && data[0] == 0xfe)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the server ended the binary log");
    const size_t head = session->semi_sync ? 3 : 1;
    if (length < head + HF_BINLOG_HEADER || data[0] != 0 || (session->semi_sync && data[1] != MARK_SEMI))
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent %zu bytes that are no event", length);
    *ret_wants_answer = session->semi_sync && (data[2] & FLAG_WAITS) != 0;
    *ret_data = data + head;
    *ret_length = length - head;
    return true;
}

bool
hf_binlog_session_acknowledge(struct hf_binlog_session *session, const char *file, uint64_t position,
                              struct hf_error *err)
{
    uint8_t head[9] = {MARK_SEMI};
    hf_put_u64(head + 1, position);
    session->packets.sequence = 0;
    return hf_packets_send(&session->packets, head, sizeof head, file, strlen(file), ANSWER_MS, session->cancel, err);
}

/* What every dump needs to be told; from here on the connection is ours. */
static bool
begin_dumping(struct hf_binlog_session *session, bool *ret_checksums, struct hf_error *err)
{
    char checksum[16];
    if (!run(session, "SET @master_heartbeat_period=" BEAT_NS ", @master_binlog_checksum=@@global.binlog_checksum",
             false, err) ||
        !ask_text(session, "SELECT @master_binlog_checksum", 0, checksum, sizeof checksum, err) ||
        (session->flavor == HF_GTID_MYSQL &&
         !run(session, "SET @source_heartbeat_period=" BEAT_NS ", @source_binlog_checksum=@@global.binlog_checksum",
              false, err)) ||
        !hf_packets_take_over(&session->packets, session->conn, "the server", err))
        return false;
    session->dumping = true;
    *ret_checksums = strcmp(checksum, "NONE") != 0;
    return true;
}

/* One event of the head of a file: name, format description, GTIDs.  A file without a list has nothing before it. */
static bool
take_head(struct hf_binlog_session *session, struct hf_binlog_walk *walk, struct hf_binlog_server *server,
          bool *ret_enough, struct hf_error *err)
{
    const uint8_t *data;
    size_t length;
    uint64_t position;
    struct hf_binlog_step step;
    if (!hf_packets_await(&session->packets, HF_BINLOG_EVENT_MOST, ANSWER_MS, session->cancel, &data, &length, err))
        return false;
    if (length > 0 && data[0] == 0xff)
        return judge_refusal(data, length, err);
    if (length > 0 && length < 9 && data[0] == 0xfe) {
        *ret_enough = true;
        return true;
    }
    if (length < 1 + HF_BINLOG_HEADER || data[0] != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent %zu bytes that are no event", length);
    if (!hf_binlog_walk_event(walk, data + 1, length - 1, 0, &step, err))
        return false;
    switch (step.event.type) {
    case HF_BINLOG_ROTATE:
        *ret_enough = server->first_format.length > 0; // the next file's
        return *ret_enough || hf_binlog_rotate_read(&step.event, 0, &position, server->first_file, err);
    case HF_BINLOG_FORMAT:
        hf_buf_clear(&server->first_format);
        return hf_buf_add(&server->first_format, data + 1, length - 1, err);
    case HF_BINLOG_GTID_LIST:
    case HF_BINLOG_MYSQL_PREVIOUS:
        *ret_enough = true;
        hf_gtid_set_done(&server->oldest);
        return hf_binlog_before_read(&step.event, 0, &server->oldest, err);
    default:
        *ret_enough = step.group;
        return true;
    }
}

/* A statement without rows. */
static bool
run(struct hf_binlog_session *session, const char *sql, bool may_be_unknown, struct hf_error *err)
{
    if (mysql_query(session->conn, sql) == 0 || (may_be_unknown && mysql_errno(session->conn) == ER_UNKNOWN_VARIABLE))
        return true;
    return fail_asking(session, "speak as a replica", err);
}

/* A column of the last row; "" for NULL or no row. */
static bool
ask(struct hf_binlog_session *session, const char *sql, unsigned column, struct hf_buf *out, struct hf_error *err)
{
    static const char doing[] = "ask the server about its binary log";
    if (mysql_query(session->conn, sql) != 0)
        return fail_asking(session, doing, err);
    MYSQL_RES *result = mysql_store_result(session->conn);
    if (result == NULL)
        return fail_asking(session, doing, err);
    bool ok = true;
    hf_buf_clear(out);
    const my_ulonglong rows = mysql_num_rows(result);
    if (rows > 0) {
        mysql_data_seek(result, rows - 1);
        MYSQL_ROW row = mysql_fetch_row(result);
        const unsigned long *lengths = mysql_fetch_lengths(result);
        if (column < mysql_num_fields(result) && row[column] != NULL)
            ok = hf_buf_add(out, row[column], lengths[column], err);
    }
    mysql_free_result(result);
    return ok;
}

static bool
ask_text(struct hf_binlog_session *session, const char *sql, unsigned column, char *ret, size_t size,
         struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(size - 1);
    if (!ask(session, sql, column, &text, err))
        return false;
    snprintf(ret, size, "%s", hf_buf_text(&text));
    return true;
}

static bool
ask_set(struct hf_binlog_session *session, const char *sql, struct hf_gtid_set *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    return ask(session, sql, 0, &text, err) &&
           hf_gtid_set_parse(session->flavor, hf_buf_text(&text), text.length, ret, err);
}

static bool
ask_semi_sync(struct hf_binlog_session *session, struct hf_binlog_server *server, struct hf_error *err)
{
    char text[CELL_BYTES];
    if (!ask_text(session, "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_master_enabled'", 1, text, sizeof text, err))
        return false;
    server->semi_sync = strcmp(text, "ON") == 0;
    if (server->semi_sync || session->flavor == HF_GTID_MARIADB)
        return true;
    if (!ask_text(session, "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_source_enabled'", 1, text, sizeof text, err))
        return false;
    server->semi_sync = strcmp(text, "ON") == 0;
    return true;
}

static bool
fail_asking(struct hf_binlog_session *session, const char *doing, struct hf_error *err)
{
    const unsigned code = mysql_errno(session->conn);
    hf_fail(err, code == ER_SPECIFIC_ACCESS_DENIED ? HF_ERR_DENIED : HF_ERR_UNAVAILABLE, "could not %s: %.300s", doing,
            mysql_error(session->conn));
    return code == ER_SPECIFIC_ACCESS_DENIED
               ? hf_fail_hint(err, session->flavor == HF_GTID_MARIADB
                                       ? "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO the account."
                                       : "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the account.")
               : false;
}

static bool
send_command(struct hf_binlog_session *session, uint8_t command, const struct hf_buf *body, struct hf_error *err)
{
    session->packets.sequence = 0;
    return hf_packets_send(&session->packets, &command, 1, body->data, body->length, ANSWER_MS, session->cancel, err);
}

static bool
register_replica(struct hf_binlog_session *session, struct hf_error *err)
{
    static const char doing[] = "register as a replica";
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(256);
    const uint8_t *data;
    size_t length;
    uint16_t code;
    if (!hf_buf_put_u32(&body, session->replica_id, err) || !hf_buf_put_u8(&body, 8, err) ||
        !hf_buf_add_text(&body, "holdfast", err) || !hf_buf_put_u8(&body, 0, err) || !hf_buf_put_u8(&body, 0, err) ||
        !hf_buf_put_u16(&body, 0, err) || !hf_buf_put_u32(&body, 0, err) || !hf_buf_put_u32(&body, 0, err) ||
        !send_command(session, COM_REGISTER, &body, err) ||
        !hf_packets_await(&session->packets, HF_MIB, ANSWER_MS, session->cancel, &data, &length, err))
        return false;
    if (length > 0 && data[0] == 0)
        return true;
    (void)hf_packets_fail(data, length, doing, &code, err);
    if (err != NULL && (code == ER_SPECIFIC_ACCESS_DENIED || code == 1045)) {
        err->kind = HF_ERR_DENIED;
        return hf_fail_hint(err, "GRANT REPLICATION SLAVE ON *.* TO the account.");
    }
    return false;
}

/* By variables of the session; what a server does not know it does not need. */
static bool
say_where(struct hf_binlog_session *session, const struct hf_binlog_place *from, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(HF_GTID_TEXT_MOST + 256);
    if (session->flavor == HF_GTID_MYSQL) {
        // Any text that no other replica has: a second one of the same name would push the first out.
        return hf_buf_printf(&sql, err, "SET @slave_uuid='686f6c64-6661-7374-0000-0000%08x', @replica_uuid=@slave_uuid",
                             session->replica_id) &&
               run(session, hf_buf_text(&sql), false, err);
    }
    return run(session, "SET @mariadb_slave_capability=4", false, err) &&
           hf_buf_add_text(&sql, "SET @slave_connect_state='", err) && hf_gtid_set_format(&from->gtids, &sql, err) &&
           hf_buf_add_text(&sql, "'", err) && run(session, hf_buf_text(&sql), false, err) &&
           run(session, "SET @slave_gtid_strict_mode=1", false, err) &&
           run(session, "SET @slave_gtid_ignore_duplicates=0", false, err);
}

static bool
ask_for_events(struct hf_binlog_session *session, const struct hf_binlog_server *server,
               const struct hf_binlog_place *from, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_GTID_TEXT_MOST + HF_BINLOG_NAME_BYTES);
    if (session->flavor == HF_GTID_MARIADB)
        return hf_buf_put_u32(&body, 4, err) && hf_buf_put_u16(&body, DUMP_ANNOTATE, err) &&
               hf_buf_put_u32(&body, session->replica_id, err) && send_command(session, COM_DUMP, &body, err);
    if (!server->by_gtid) {
        const char *file = from->file[0] != 0 ? from->file : server->first_file;
        const uint64_t position = from->file[0] != 0 ? from->file_position : 4;
        if (position > UINT32_MAX)
            return hf_fail(err, HF_ERR_USAGE, "position %" PRIu64 " of \"%s\" cannot be asked for without GTIDs",
                           position, file);
        return hf_buf_put_u32(&body, (uint32_t)position, err) && hf_buf_put_u16(&body, 0, err) &&
               hf_buf_put_u32(&body, session->replica_id, err) && hf_buf_add_text(&body, file, err) &&
               send_command(session, COM_DUMP, &body, err);
    }
    _cleanup_(hf_buf_done) struct hf_buf set = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    return hf_gtid_set_encode(&from->gtids, &set, err) && hf_buf_put_u16(&body, DUMP_BY_GTID, err) &&
           hf_buf_put_u32(&body, session->replica_id, err) && hf_buf_put_u32(&body, 0, err) &&
           hf_buf_put_u64(&body, 4, err) && hf_buf_put_u32(&body, (uint32_t)set.length, err) &&
           hf_buf_add(&body, set.data, set.length, err) && send_command(session, COM_DUMP_SET, &body, err);
}

/* Servers tell these cases apart in their words alone: the code is 1236 for all. */
static bool
judge_refusal(const uint8_t *data, size_t length, struct hf_error *err)
{
    static const struct {
        const char *words;
        enum hf_error_kind kind;
    } known[] = {{"purged", HF_ERR_NOT_FOUND},
                 {"Could not find first log file name", HF_ERR_NOT_FOUND},
                 {"not in the master's binlog", HF_ERR_CONFLICT},
                 {"has more GTIDs than", HF_ERR_CONFLICT},
                 {"same server_", HF_ERR_CONFLICT},
                 {"same server id", HF_ERR_CONFLICT}};
    struct hf_error why;
    uint16_t code;
    (void)hf_packets_fail(data, length, "receive the binary log", &code, &why);
    for (size_t i = 0; i < HF_LENGTH(known) && code == 1236; i++)
        if (strstr(why.message, known[i].words) != NULL) {
            why.kind = known[i].kind;
            break;
        }
    if (err != NULL)
        *err = why;
    return false;
}

#include "server/source/postgres/base_backup.h"

#include <inttypes.h>
#include <string.h>

#include "base/time.h"
#include "server/source/postgres/connection.h"
#include "server/source/postgres/control.h"
#include "server/source/postgres/hosts.h"
#include "server/source/postgres/exchange.h"
#include "server/source/postgres/fold.h"
#include "server/source/postgres/inventory.h"
#include "server/source/postgres/label.h"
#include "server/source/postgres/manifest.h"
#include "server/source/postgres/page_check.h"
#include "server/source/postgres/path.h"
#include "server/source/postgres/tar.h"
#include "server/source/postgres/wal_format.h"
#include "server/source/postgres/wal_receive.h"

#define TYPED_MESSAGES_SINCE 15
#define SILENCE_MS           (5 * 60 * 1000)
#define WAL_WAIT_MS          (10 * 60 * 1000)
#define CHECKPOINT_MS        (24 * 60 * 60 * 1000) // a spread checkpoint says nothing until it is done
#define LABEL_MOST           100
#define NOTICES_MOST         (8 * HF_KIB)
#define TABLESPACES_MOST     10000
#define LOCATION_MOST        4096
#define INCREMENTAL_SINCE    17
#define MANIFEST_MOST        HF_GIB

static const char doing[] = "take a base backup";

/* What the next message of a typed copy announced. */
enum section { SECTION_NONE, SECTION_TAR, SECTION_MANIFEST, SECTION_END };

struct backup {
    const struct hf_backup_request *request; // borrowed from the caller
    struct hf_postgres_facts facts;
    struct hf_postgres_hosts hosts;
    struct hf_source_target target; // the request's, with the one node that serves
    PGconn *conn;
    struct hf_wal_receiver *wal;
    struct hf_inventory *inventory;
    struct hf_tar_kept kept;
    struct hf_backup_manifest_summary manifest;
    struct hf_buf notices;

    struct hf_exchange *exchange;  // the command and its answers
    PGresult *answer;              // what followed the copy, already fetched
    bool typed;                    // messages begin with their type
    enum section section;          // typed: what was announced
    char archive[64];              // and its name: "base.tar", "16400.tar"
    size_t archives;               // tars received
    bool incremental;              // the server sends what has changed since request->base
    struct hf_fold_vm *vm;         // then
    struct hf_buf server_manifest; // kept then
};

static bool connect_base(struct backup *backup, struct hf_error *err);
static bool read_sizes(struct backup *backup, struct hf_error *err);
static bool open_wal(struct backup *backup, struct hf_error *err);
static bool start(struct backup *backup, struct hf_error *err);
static bool can_build_on(struct backup *backup, const struct hf_backup_base *base, struct hf_error *why);
static bool begin(struct backup *backup, struct hf_error *err);
static bool format_command(const struct backup *backup, struct hf_buf *command, struct hf_error *err);
static bool read_start(struct backup *backup, struct hf_error *err);
static bool start_wal(struct backup *backup, struct hf_error *err);
static bool read_tablespaces(struct backup *backup, struct hf_error *err);
static bool add_tablespace(struct backup *backup, const PGresult *rows, int row, struct hf_error *err);
static bool receive_typed(struct backup *backup, struct hf_error *err);
static bool receive_separate(struct backup *backup, struct hf_error *err);
static bool receive_announced_tar(struct backup *backup, struct hf_error *err);
static bool receive_tar(struct backup *backup, const char *prefix, struct hf_error *err);
static bool next_bytes(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err);
static bool next_piece(struct backup *backup, struct hf_exchange_piece *ret, struct hf_error *err);
static bool next_answer(struct backup *backup, const struct hf_postgres_patience *patience, ExecStatusType wanted,
                        PGresult **ret, struct hf_error *err);
static bool note_announcement(struct backup *backup, const struct hf_exchange_piece *piece, struct hf_error *err);
static bool receive_manifest(struct backup *backup, struct hf_error *err);
static bool store_manifest(struct backup *backup, void *handle, struct hf_error *err);
static bool note_promise(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err);
static bool read_stop(struct backup *backup, struct hf_error *err);
static bool finish_wal(struct backup *backup, struct hf_error *err);
static bool check_label(struct backup *backup, struct hf_error *err);
static bool check_control(struct backup *backup, struct hf_error *err);
static bool check_manifest(const struct backup *backup, struct hf_error *err);
static bool compare(struct backup *backup, struct hf_error *err);
static void keep_notice(void *context, const char *severity, const char *message);
static struct hf_postgres_patience patience_of(const struct backup *backup);
static void done(struct backup *backup);

bool
hf_postgres_backup(const struct hf_backup_request *request, struct hf_backup_facts *ret, struct hf_error *err)
{
    _cleanup_(hf_postgres_facts_done) struct hf_postgres_facts facts = {0};
    return hf_postgres_take_backup(request, &facts, err) && hf_postgres_facts_share(&facts, ret, err);
}

bool
hf_postgres_take_backup(const struct hf_backup_request *request, struct hf_postgres_facts *ret, struct hf_error *err)
{
    if (!hf_postgres_check_label(request->label, LABEL_MOST, err) ||
        !hf_postgres_check_slot_tag(request->target->slot_tag, err))
        return false;

    _cleanup_(done) struct backup backup = {.request = request,
                                            .target = *request->target,
                                            .notices = HF_BUF_INIT(NOTICES_MOST),
                                            .server_manifest = HF_BUF_INIT(MANIFEST_MOST)};
    hf_tar_kept_init(&backup.kept);
    backup.facts.started_at = hf_time_now_ms();

    bool ok = hf_inventory_new(&backup.inventory, err) && connect_base(&backup, err) && read_sizes(&backup, err) &&
              open_wal(&backup, err) && start(&backup, err) && read_tablespaces(&backup, err) &&
              (backup.typed ? receive_typed(&backup, err) : receive_separate(&backup, err)) &&
              read_stop(&backup, err) && finish_wal(&backup, err) && check_label(&backup, err) &&
              check_control(&backup, err) && check_manifest(&backup, err) && compare(&backup, err);
    if (!ok) {
        // "The other connection has ended" is not the reason, it is the consequence.
        const struct hf_error *reason = backup.wal == NULL ? NULL : hf_wal_receiver_error(backup.wal);
        if (err != NULL && err->kind == HF_ERR_CANCELLED && reason != NULL)
            *err = *reason;
        return hf_fail_within(err, "backup of \"%s\"", request->target->name);
    }

    backup.facts.stopped_at = hf_time_now_ms();
    *ret = backup.facts;
    backup.facts = (struct hf_postgres_facts){0};
    return true;
}

static bool
connect_base(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    struct hf_postgres_identity identity;

    if (!hf_postgres_hosts_of(backup->request->target, &backup->hosts, err) ||
        !hf_postgres_connect_node(&backup->hosts, &backup->target, &patience, &backup->conn, &identity, err))
        return false;
    backup->typed = hf_postgres_major(backup->conn) >= TYPED_MESSAGES_SINCE;
    backup->facts.system_identifier = identity.system_identifier;
    backup->facts.server_version = (uint32_t)PQserverVersion(backup->conn);
    const char *version = PQparameterStatus(backup->conn, "server_version");
    snprintf(backup->facts.server_version_text, sizeof backup->facts.server_version_text, "%s",
             version == NULL ? "" : version);
    return true;
}

/* The layout of files must be known before the first one comes; pg_control, which has it too, comes last. */
static bool
read_sizes(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    struct hf_postgres_facts *facts = &backup->facts;
    uint64_t block, segment, wal_segment;
    char checksums[16];

    if (!hf_postgres_show_bytes(backup->conn, &patience, "block_size", &block, err) ||
        !hf_postgres_show_bytes(backup->conn, &patience, "segment_size", &segment, err) ||
        !hf_postgres_show_bytes(backup->conn, &patience, "wal_segment_size", &wal_segment, err) ||
        !hf_postgres_show(backup->conn, &patience, "data_checksums", checksums, sizeof checksums, err))
        return false;
    if (block != HF_POSTGRES_PAGE_BYTES)
        return hf_fail(err, HF_ERR_USAGE, "the server has blocks of %" PRIu64 " bytes, only %d is supported", block,
                       HF_POSTGRES_PAGE_BYTES);
    if (segment < block || segment % block != 0 || segment / block > UINT32_MAX ||
        !hf_wal_segment_bytes_valid(wal_segment))
        return hf_fail(err, HF_ERR_CORRUPT,
                       "the server says its segments have %" PRIu64 " bytes and its log segments %" PRIu64, segment,
                       wal_segment);
    facts->block_bytes = (uint32_t)block;
    facts->segment_blocks = (uint32_t)(segment / block);
    facts->wal_segment_bytes = (uint32_t)wal_segment;
    facts->data_checksums = strcmp(checksums, "on") == 0;
    return true;
}

static bool
open_wal(struct backup *backup, struct hf_error *err)
{
    const struct hf_backup_request *request = backup->request;
    const struct hf_wal_receiver_options options = {
        .target = &backup->target,
        .sink = request->sink,
        .progress = request->progress,
        .system_identifier = backup->facts.system_identifier,
        .segment_bytes = backup->facts.wal_segment_bytes,
        .silence_ms = patience_of(backup).silence_ms,
        .stable = request->wal_stable,
    };
    return hf_wal_receiver_open(&options, &backup->wal, err);
}

/* What has changed since the backup before, where the server can tell; else everything, and why is noted. */
static bool
start(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    struct hf_backup_base *base = backup->request->base;
    struct hf_error why = {0};
    if (base != NULL && !can_build_on(backup, base, &why)) {
        snprintf(base->why, sizeof base->why, "%.190s", why.message);
    } else if (base != NULL) {
        backup->incremental = true;
        if (hf_fold_upload(backup->conn, &patience, base->manifest, base->manifest_bytes, &why) &&
            begin(backup, &why) && read_start(backup, &why)) {
            base->used = true;
            return hf_fold_vm_new(backup->request->sink, backup->facts.segment_blocks, &backup->vm, err) &&
                   start_wal(backup, err);
        }
        if (why.kind == HF_ERR_CANCELLED) {
            *err = why;
            return false;
        }
        // The server may have ended the connection with its refusal.
        backup->incremental = false;
        snprintf(base->why, sizeof base->why, "%.190s", why.message);
        hf_postgres_clearp(&backup->answer);
        backup->answer = NULL;
        hf_exchange_freep(&backup->exchange);
        hf_postgres_closep(&backup->conn);
        if (!connect_base(backup, err))
            return false;
    }
    return begin(backup, err) && read_start(backup, err) && start_wal(backup, err);
}

/* Checksums that were switched on or off in between changed pages without a word in the log. */
static bool
can_build_on(struct backup *backup, const struct hf_backup_base *base, struct hf_error *why)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    char summarised[16];
    if (hf_postgres_major(backup->conn) < INCREMENTAL_SINCE)
        return hf_fail(why, HF_ERR_USAGE, "servers before %d cannot", INCREMENTAL_SINCE);
    if (!hf_postgres_show(backup->conn, &patience, "summarize_wal", summarised, sizeof summarised, why))
        return false;
    if (strcmp(summarised, "on") != 0)
        return hf_fail(why, HF_ERR_USAGE, "summarize_wal is off on the server");
    if (base->checksums != backup->facts.data_checksums)
        return hf_fail(why, HF_ERR_USAGE, "page checksums were switched %s since", base->checksums ? "off" : "on");
    return true;
}

static bool
begin(struct backup *backup, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf command = HF_BUF_INIT(1024);
    const struct hf_postgres_patience patience = patience_of(backup);
    const struct hf_exchange_options options = {.conn = backup->conn,
                                                .socket = hf_exchange_socket(backup->conn),
                                                .doing = doing,
                                                .context = backup,
                                                .notice = keep_notice};
    return format_command(backup, &command, err) &&
           hf_exchange_begin(&options, hf_buf_text(&command), &patience, &backup->exchange, err);
}

static bool
format_command(const struct backup *backup, struct hf_buf *command, struct hf_error *err)
{
    const struct hf_backup_request *request = backup->request;
    // The label was checked: it holds no quote.
    if (backup->typed ? !hf_buf_printf(command, err,
                                       "BASE_BACKUP (LABEL '%s', CHECKPOINT '%s', PROGRESS, WAIT 0, TABLESPACE_MAP, "
                                       "VERIFY_CHECKSUMS 0, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'",
                                       request->label, request->fast_checkpoint ? "fast" : "spread")
                      : !hf_buf_printf(command, err,
                                       "BASE_BACKUP LABEL '%s'%s PROGRESS NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS "
                                       "MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'",
                                       request->label, request->fast_checkpoint ? " FAST" : ""))
        return false;
    if (request->max_rate_kib > 0 &&
        !hf_buf_printf(command, err, "%s MAX_RATE %u", backup->typed ? "," : "", request->max_rate_kib))
        return false;
    return (!backup->incremental || hf_buf_add_text(command, ", INCREMENTAL", err)) &&
           (!backup->typed || hf_buf_add_text(command, ")", err));
}

/* The checkpoint is done: where the backup starts.  From here on its log is received beside it. */
static bool
read_start(struct backup *backup, struct hf_error *err)
{
    struct hf_postgres_patience patience = patience_of(backup);
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    const char *lsn;
    uint64_t timeline;

    patience.silence_ms = CHECKPOINT_MS;
    if (!next_answer(backup, &patience, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_field(row, 0, 0, "start of the backup", &lsn, err) ||
        !hf_lsn_parse(lsn, &backup->facts.start_lsn, err) ||
        !hf_postgres_field_number(row, 0, 1, "timeline of the backup", UINT32_MAX, &timeline, err))
        return false;
    if (timeline == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server says the backup starts on timeline 0");
    backup->facts.start_timeline = (uint32_t)timeline;
    atomic_store(&backup->request->faults->start_lsn, backup->facts.start_lsn);
    return true;
}

static bool
start_wal(struct backup *backup, struct hf_error *err)
{
    return hf_wal_receiver_start(backup->wal, backup->facts.start_lsn, backup->facts.start_timeline, err);
}

static bool
read_tablespaces(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    uint64_t total_kib = 0;

    if (!next_answer(backup, &patience, PGRES_TUPLES_OK, &rows, err))
        return false;
    int count = PQntuples(rows);
    if (count < 1 || count > TABLESPACES_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "the server announced %d tablespaces", count);
    backup->facts.tablespaces = calloc((size_t)count, sizeof *backup->facts.tablespaces);
    if (backup->facts.tablespaces == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for %d tablespaces", count);

    for (int row = 0; row < count; row++) {
        uint64_t size_kib;
        // The data directory is the one without an oid, and the last to come.
        if (PQgetisnull(rows, row, 0) != (row == count - 1))
            return hf_fail(err, HF_ERR_CORRUPT, "the server did not announce its data directory last");
        if (row < count - 1 && !add_tablespace(backup, rows, row, err))
            return false;
        if (!PQgetisnull(rows, row, 2) &&
            hf_postgres_field_number(rows, row, 2, "size", UINT64_MAX / 1024 / TABLESPACES_MOST, &size_kib, NULL))
            total_kib += size_kib;
    }
    atomic_store(&backup->request->progress->total, total_kib * 1024);
    return true;
}

static bool
add_tablespace(struct backup *backup, const PGresult *rows, int row, struct hf_error *err)
{
    const struct hf_backup_sink *sink = backup->request->sink;
    char path[HF_POSTGRES_TABLESPACE_PATH_BYTES];
    const char *location;
    uint64_t oid;

    if (!hf_postgres_field_number(rows, row, 0, "tablespace", UINT32_MAX, &oid, err) ||
        !hf_postgres_field(rows, row, 1, "tablespace's location", &location, err))
        return false;
    if (strlen(location) > LOCATION_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "the location of tablespace %" PRIu64 " is longer than %d bytes", oid,
                       LOCATION_MOST);
    hf_postgres_path_of_tablespace((uint32_t)oid, path);
    if (!hf_inventory_add_tablespace(backup->inventory, path, err))
        return false;

    struct hf_postgres_tablespace *tablespace = &backup->facts.tablespaces[backup->facts.tablespace_count];
    tablespace->location = strdup(location);
    if (tablespace->location == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tablespace");
    tablespace->oid = (uint32_t)oid;
    backup->facts.tablespace_count++;

    // allow_in_place_tablespaces (a developer's setting) makes real folders, which have a relative location.
    if (location[0] != '/')
        return sink->directory(sink->context, path, 0700, err);
    return sink->link(sink->context, path, (uint32_t)oid, location, err);
}

/* PostgreSQL 15 and later. */
static bool
receive_typed(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    _cleanup_(hf_postgres_clearp) PGresult *copy = NULL;
    bool manifest = false;

    if (!next_answer(backup, &patience, PGRES_COPY_OUT, &copy, err))
        return false;
    for (;;) {
        const uint8_t *data;
        size_t length;
        if (backup->section == SECTION_NONE) {
            if (!next_bytes(backup, &data, &length, err))
                return false;
            if (length > 0)
                return hf_fail(err, HF_ERR_CORRUPT, "the server sent bytes that belong to no file");
        }

        enum section section = backup->section;
        backup->section = SECTION_NONE;
        if (section == SECTION_END)
            break;
        if (manifest)
            return hf_fail(err, HF_ERR_CORRUPT, "the server sent more behind its manifest");
        if (section == SECTION_TAR && !receive_announced_tar(backup, err))
            return false;
        if (section == SECTION_MANIFEST) {
            if (!receive_manifest(backup, err))
                return false;
            manifest = true;
        }
    }
    // That a tar is missing shows in what it should have held: the label, or files the manifest names.
    if (!manifest)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent no manifest");
    return true;
}

/* PostgreSQL 13 and 14. */
static bool
receive_separate(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    char prefix[HF_POSTGRES_TABLESPACE_PATH_BYTES];

    for (size_t i = 0; i <= backup->facts.tablespace_count; i++) {
        _cleanup_(hf_postgres_clearp) PGresult *copy = NULL;
        prefix[0] = '\0';
        if (i < backup->facts.tablespace_count)
            hf_postgres_path_of_tablespace(backup->facts.tablespaces[i].oid, prefix);
        if (!next_answer(backup, &patience, PGRES_COPY_OUT, &copy, err) || !receive_tar(backup, prefix, err))
            return false;
    }
    _cleanup_(hf_postgres_clearp) PGresult *copy = NULL;
    return next_answer(backup, &patience, PGRES_COPY_OUT, &copy, err) && receive_manifest(backup, err);
}

/* Tars come in the order the tablespaces were announced. */
static bool
receive_announced_tar(struct backup *backup, struct hf_error *err)
{
    char prefix[HF_POSTGRES_TABLESPACE_PATH_BYTES] = "", expected[32] = "base.tar";

    if (backup->archives < backup->facts.tablespace_count) {
        uint32_t oid = backup->facts.tablespaces[backup->archives].oid;
        hf_postgres_path_of_tablespace(oid, prefix);
        snprintf(expected, sizeof expected, "%u.tar", oid);
    }
    if (backup->archives > backup->facts.tablespace_count || strcmp(backup->archive, expected) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent the tar \"%s\", \"%s\" was next", backup->archive,
                       expected);
    return receive_tar(backup, prefix, err);
}

static bool
receive_tar(struct backup *backup, const char *prefix, struct hf_error *err)
{
    const struct hf_tar tar = {
        .prefix = prefix,
        .sink = backup->request->sink,
        .inventory = backup->inventory,
        .kept = &backup->kept,
        .segment_blocks = backup->facts.segment_blocks,
        .checksums = backup->facts.data_checksums,
        .vm = backup->vm,
    };
    backup->archives++;
    return hf_tar_receive(&tar, next_bytes, backup, err);
}

/* Bytes of the current tar or of the manifest; length 0 at its end. */
static bool
next_bytes(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err)
{
    struct backup *backup = context;

    for (;;) {
        struct hf_exchange_piece piece;
        if (!next_piece(backup, &piece, err))
            return false;
        const bool typed = backup->typed && piece.begins && piece.length > 0;
        if (piece.length == 0) {
            backup->section = SECTION_END;
        } else if (!typed || piece.data[0] == 'd') {
            const size_t type = typed ? 1 : 0;
            if (piece.length == type)
                continue;
            *ret_data = piece.data + type;
            *ret_length = piece.length - type;
            backup->facts.bytes_received += piece.length - type;
            atomic_fetch_add_explicit(&backup->request->progress->done, piece.length - type, memory_order_relaxed);
            return true;
        } else if (!note_announcement(backup, &piece, err)) {
            return false;
        } else if (backup->section == SECTION_NONE) {
            continue;
        }
        *ret_data = NULL;
        *ret_length = 0;
        return true;
    }
}

/* Borrowed until the next; length 0 at the copy's end. */
static bool
next_piece(struct backup *backup, struct hf_exchange_piece *ret, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);

    // A copy that an error cut off ends like any other: only what follows it tells, and it must tell before the
    // reader of the tar complains about missing bytes.
    return hf_exchange_copy(backup->exchange, &patience, ret, err) &&
           (ret->length > 0 || hf_exchange_next(backup->exchange, &patience, &backup->answer, err));
}

/* The next answer, which may have been fetched already. */
static bool
next_answer(struct backup *backup, const struct hf_postgres_patience *patience, ExecStatusType wanted, PGresult **ret,
            struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *answer = HF_TAKE(backup->answer);

    if (answer == NULL && !hf_exchange_next(backup->exchange, patience, &answer, err))
        return false;
    if (PQresultStatus(answer) != wanted)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server answered %s instead of %s", doing,
                       PQresStatus(PQresultStatus(answer)), PQresStatus(wanted));
    *ret = HF_TAKE(answer);
    return true;
}

static bool
note_announcement(struct backup *backup, const struct hf_exchange_piece *piece, struct hf_error *err)
{
    if (!piece->ends)
        return hf_fail(err, HF_ERR_CORRUPT, "the server announced something in more than %d bytes", HF_EXCHANGE_WHOLE);
    switch (piece->data[0]) {
    case 'p': // we count ourselves
        return true;
    case 'm':
        backup->section = SECTION_MANIFEST;
        return true;
    case 'n': {
        const uint8_t *name = piece->data + 1, *end = memchr(name, '\0', piece->length - 1);
        if (end == NULL || (size_t)(end - name) >= sizeof backup->archive)
            return hf_fail(err, HF_ERR_CORRUPT, "the server announced a tar without a proper name");
        memcpy(backup->archive, name, (size_t)(end - name) + 1);
        backup->section = SECTION_TAR;
        return true;
    }
    default:
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent a message of the kind %02x in its backup", piece->data[0]);
    }
}

/* Kept as it is, byte for byte, and read on its way. */
static bool
receive_manifest(struct backup *backup, struct hf_error *err)
{
    const struct hf_backup_sink *sink = backup->request->sink;
    const struct hf_backup_file file = {.path = backup->incremental ? HF_FOLD_SERVER_MANIFEST : "backup_manifest",
                                        .kind = HF_BACKUP_FILE_CAPTURED,
                                        .mode = 0600,
                                        .modified_at = hf_time_now_ms(),
                                        .size = HF_BACKUP_SIZE_UNKNOWN,
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    void *handle;

    // All tars have come.
    if (backup->vm != NULL && !hf_fold_vm_put_all(backup->vm, err))
        return false;
    if (!sink->file_begin(sink->context, &file, &handle, err))
        return false;
    if (!store_manifest(backup, handle, err)) {
        sink->file_drop(sink->context, handle);
        return false;
    }
    return sink->file_end(sink->context, handle, err);
}

static bool
store_manifest(struct backup *backup, void *handle, struct hf_error *err)
{
    const struct hf_backup_sink *sink = backup->request->sink;
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;

    if (!hf_backup_manifest_new(note_promise, backup, &manifest, err))
        return false;
    for (;;) {
        const uint8_t *data;
        size_t length;
        if (!next_bytes(backup, &data, &length, err))
            return false;
        if (length == 0)
            break;
        if (!sink->file_write(sink->context, handle, data, length, err) ||
            !hf_backup_manifest_feed(manifest, data, length, err) ||
            (backup->incremental && !hf_buf_add(&backup->server_manifest, data, length, err)))
            return false;
    }
    return hf_backup_manifest_finish(manifest, &backup->manifest, err);
}

static bool
note_promise(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err)
{
    struct backup *backup = context;
    return hf_inventory_promise(backup->inventory, file->path, file->size, file->crc32c, err);
}

/* The backup is good only if no error comes behind the stop row. */
static bool
read_stop(struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(backup);
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *command = NULL;
    const char *lsn;
    uint64_t timeline;

    if (!next_answer(backup, &patience, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_field(row, 0, 0, "end of the backup", &lsn, err) ||
        !hf_lsn_parse(lsn, &backup->facts.stop_lsn, err) ||
        !hf_postgres_field_number(row, 0, 1, "timeline of the backup", UINT32_MAX, &timeline, err) ||
        !next_answer(backup, &patience, PGRES_COMMAND_OK, &command, err) ||
        !hf_exchange_finish(backup->exchange, &patience, err))
        return false;
    backup->facts.stop_timeline = (uint32_t)timeline;
    if (backup->facts.stop_lsn < backup->facts.start_lsn)
        return hf_fail(err, HF_ERR_CORRUPT, "the server says the backup ended before it started");
    if (timeline != backup->facts.start_timeline)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the server went from timeline %u to %" PRIu64 " during the backup",
                       backup->facts.start_timeline, timeline) ||
               hf_fail_hint(err, "Take the backup again.");
    return true;
}

static bool
finish_wal(struct backup *backup, struct hf_error *err)
{
    uint32_t wait_ms = backup->request->wal_wait_ms == 0 ? WAL_WAIT_MS : backup->request->wal_wait_ms;
    struct hf_wal_received received;

    if (!hf_wal_receiver_finish(backup->wal, backup->facts.stop_lsn, wait_ms, &received, err))
        return false;
    backup->facts.wal_first_lsn = received.first_lsn;
    backup->facts.wal_end_lsn = received.end_lsn;
    backup->facts.wal_commits = received.commits;
    backup->facts.wal_last_commit_at = received.last_commit_at;
    backup->facts.clock = received.clock;
    backup->facts.bytes_received += received.bytes;
    backup->facts.files = hf_inventory_files(backup->inventory) + received.segments + received.history_file + 1;
    return true;
}

/* The label says the same as the start row: so these files are of this backup and not of another one. */
static bool
check_label(struct backup *backup, struct hf_error *err)
{
    struct hf_postgres_label label;
    const char *text = hf_buf_text(&backup->kept.backup_label);

    if (backup->kept.backup_label.length == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent no \"backup_label\"");
    if (!hf_postgres_label_parse(text, &label, err))
        return false;
    if (label.start_lsn != backup->facts.start_lsn || label.timeline != backup->facts.start_timeline)
        return hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" is of another backup");
    backup->facts.from_standby = label.from_standby;
    backup->facts.backup_label = strdup(text);
    if (backup->facts.backup_label == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the label");
    return true;
}

static bool
check_control(struct backup *backup, struct hf_error *err)
{
    struct hf_postgres_facts *facts = &backup->facts;
    struct hf_postgres_control control;

    if (backup->kept.control.length == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent no \"" HF_POSTGRES_CONTROL_PATH "\"");
    if (!hf_postgres_control_parse(backup->kept.control.data, backup->kept.control.length, &control, err))
        return false;
    if (control.system_identifier != facts->system_identifier)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "\"" HF_POSTGRES_CONTROL_PATH "\" is of the system %" PRIu64 ", the server is %" PRIu64,
                       control.system_identifier, facts->system_identifier);
    if (control.block_bytes != facts->block_bytes || control.segment_blocks != facts->segment_blocks ||
        control.wal_segment_bytes != facts->wal_segment_bytes || control.wal_block_bytes != HF_WAL_PAGE_BYTES ||
        (control.checksum_version != 0) != facts->data_checksums)
        return hf_fail(err, HF_ERR_CORRUPT, "\"" HF_POSTGRES_CONTROL_PATH "\" contradicts the server's settings");
    facts->control_version = control.version;
    facts->catalog_version = control.catalog_version;
    facts->max_connections = control.max_connections;
    facts->max_worker_processes = control.max_worker_processes;
    facts->max_wal_senders = control.max_wal_senders;
    facts->max_prepared_xacts = control.max_prepared_xacts;
    facts->max_locks_per_xact = control.max_locks_per_xact;
    return true;
}

static bool
check_manifest(const struct backup *backup, struct hf_error *err)
{
    const struct hf_postgres_facts *facts = &backup->facts;
    bool starts = false, stops = false;

    if (backup->manifest.version >= 2 && backup->manifest.system_identifier != facts->system_identifier)
        return hf_fail(err, HF_ERR_CORRUPT, "the server's manifest is of the system %" PRIu64,
                       backup->manifest.system_identifier);
    for (size_t i = 0; i < backup->manifest.range_count; i++) {
        starts = starts || backup->manifest.ranges[i].start_lsn == facts->start_lsn;
        stops = stops || backup->manifest.ranges[i].end_lsn == facts->stop_lsn;
    }
    if (!starts || !stops)
        return hf_fail(err, HF_ERR_CORRUPT, "the server's manifest is of another stretch of log than its answers");
    return true;
}

/* By now the sink's workers have caught up, or nearly. */
static bool
compare(struct backup *backup, struct hf_error *err)
{
    const struct hf_backup_sink *sink = backup->request->sink;

    if (!sink->flush(sink->context, err) || !hf_inventory_compare(backup->inventory, sink, err) ||
        (backup->incremental &&
         !hf_fold_put_manifest(sink, hf_buf_text(&backup->server_manifest), backup->server_manifest.length, err)))
        return false;
    hf_page_faults_settle(backup->request->faults, backup->facts.stop_lsn);
    backup->facts.manifest_files = backup->manifest.files;
    backup->facts.notices = strdup(hf_buf_text(&backup->notices));
    if (backup->facts.notices == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the server's notices");
    return true;
}

/* What does not fit is dropped: a server may send any number of them. */
static void
keep_notice(void *context, const char *severity, const char *message)
{
    struct backup *backup = context;
    struct hf_error unheard;

    (void)!hf_buf_printf(&backup->notices, &unheard, "%s: %s\n", severity, message);
}

static struct hf_postgres_patience
patience_of(const struct backup *backup)
{
    uint32_t silence_ms = backup->request->silence_ms == 0 ? SILENCE_MS : backup->request->silence_ms;
    return (struct hf_postgres_patience){
        .cancel = &backup->request->progress->cancel,
        .other_ended = backup->wal == NULL ? NULL : hf_wal_receiver_failed(backup->wal),
        .silence_ms = silence_ms,
    };
}

/* The log's thread first: it uses the sink and the progress of the caller. */
static void
done(struct backup *backup)
{
    hf_wal_receiver_closep(&backup->wal);
    hf_postgres_clearp(&backup->answer);
    hf_exchange_freep(&backup->exchange);
    hf_postgres_closep(&backup->conn);
    hf_postgres_hosts_done(&backup->hosts);
    hf_tar_kept_done(&backup->kept);
    hf_inventory_freep(&backup->inventory);
    hf_buf_done(&backup->notices);
    hf_buf_done(&backup->server_manifest);
    hf_fold_vm_freep(&backup->vm);
    hf_postgres_facts_done(&backup->facts);
}

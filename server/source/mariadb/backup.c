#include "server/source/mariadb/backup.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "server/source/mariadb/corrections.h"
#include "server/source/mariadb/facts.h"
#include "server/source/mariadb/identify.h"
#include "server/source/mariadb/infos.h"
#include "server/source/mariadb/innodb.h"
#include "server/source/mariadb/mbstream.h"
#include "server/source/mariadb/tool.h"

#define SILENCE_MS   (30 * 60 * 1000) // it may wait for locks that long, and says nothing then
#define POLL_MS      200
#define PIECE_BYTES  HF_MIB
#define FOLDER_MODE  0700
#define FILE_MODE    0600
#define THROTTLE_KIB 1024 // of a unit of the tool's own limit
#define ARIA_CONTROL "aria_log_control"
#define ARIA_ID_AT   4
#define DAMAGE_LIST  "innodb_corrupted_pages"
#define FILE_MAGIC   0x6d626669

/* What the server told before the tool was started. */
struct asked {
    struct hf_source_identity identity;
    char version[64];
    uint32_t page_bytes;
    uint64_t data_bytes; // of InnoDB's files; 0: not known
    bool has_binlog, is_replica;
};

struct incoming;

struct taking {
    const struct hf_flavour *flavour;        // borrowed from the caller
    const struct hf_backup_request *request; // likewise
    struct asked asked;
    struct hf_backup_tool *tool;
    struct hf_mbstream *stream;
    struct hf_corrections corrections;
    struct hf_infos infos;
    bool has_info[HF_INFO_NONE];
    struct incoming *open; // list of the files that have not ended
    json_t *folders;       // a member for each that the sink has heard of
    struct hf_innodb_space first_space;
    bool knows_first_space;
    struct hf_mariadb_facts own;
    struct hf_backup_facts facts;
    uint8_t *piece;
};

/* A file of the stream while it is open. */
struct incoming {
    uint32_t magic;
    char path[HF_MBSTREAM_PATH_MOST + 1]; // as the tool calls it
    char stored[HF_BACKUP_PATH_BYTES];    // as the sink does
    enum hf_info info;
    bool is_aria_control;
    struct hf_buf text; // of small files that are read here, too
    uint8_t head[HF_INNODB_HEADER_BYTES];
    size_t head_length;
    bool begun;
    void *handle;          // of the sink
    struct incoming *next; // in the list of those that are open
};

static bool ask(struct taking *taking, struct hf_error *err);
static bool check_tool(struct taking *taking, struct hf_error *err);
static bool receive(struct taking *taking, struct hf_error *err);
static bool receive_piece(struct taking *taking, uint64_t *silent_since_ns, bool *ret_ended, struct hf_error *err);
static bool begin_file(void *context, const char *path, bool again, void **ret_file, struct hf_error *err);
static bool take_data(void *context, void *file, const uint8_t *data, size_t length, struct hf_error *err);
static bool take_hole(void *context, void *file, uint64_t length, struct hf_error *err);
static bool end_file(void *context, void *file, struct hf_error *err);
static void forget_file(struct taking *taking, struct incoming *file);
static bool rename_file(void *context, const char *from, const char *to, struct hf_error *err);
static bool remove_file(void *context, const char *path, struct hf_error *err);
static bool make_folders(struct taking *taking, const char *path, struct hf_error *err);
static bool begin_in_sink(struct taking *taking, struct incoming *file, struct hf_error *err);
static void describe(struct taking *taking, const struct incoming *file, struct hf_backup_file *ret);
static bool may_be_tablespace(const char *path);
static bool ends_with(const char *path, const char *end);
static bool read_small_file(struct taking *taking, const struct incoming *file, struct hf_error *err);
static bool check_whole(const struct taking *taking, struct hf_error *err);
static bool store_corrections(struct taking *taking, struct hf_error *err);
static bool tell(struct taking *taking, struct hf_error *err);
static struct incoming *incoming_of(void *file);
static void done(struct taking *taking);

bool
hf_mariadb_backup(const struct hf_flavour *flavour, const struct hf_backup_request *request,
                  struct hf_backup_facts *ret, struct hf_error *err)
{
    _cleanup_(done) struct taking taking = {.flavour = flavour, .request = request};
    const struct hf_mbstream_events events = {.context = &taking,
                                              .begin = begin_file,
                                              .data = take_data,
                                              .hole = take_hole,
                                              .end = end_file,
                                              .renamed = rename_file,
                                              .removed = remove_file};
    hf_infos_init(&taking.infos);
    taking.facts.started_at = hf_time_now_ms();
    taking.folders = json_object();
    taking.piece = malloc(PIECE_BYTES);
    if (taking.folders == NULL || taking.piece == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup");
    const uint64_t throttle =
        request->max_rate_kib == 0 ? 0 : (request->max_rate_kib + THROTTLE_KIB - 1) / THROTTLE_KIB;
    if (!hf_corrections_init(&taking.corrections, err) || !ask(&taking, err) || !check_tool(&taking, err) ||
        !hf_mbstream_new(&events, flavour->pages_of_a_sparse_file, &taking.stream, err) ||
        !hf_backup_tool_start(flavour, request->target, throttle, &taking.tool, err) || !receive(&taking, err) ||
        !check_whole(&taking, err) || !store_corrections(&taking, err) ||
        !request->sink->flush(request->sink->context, err) || !tell(&taking, err))
        return hf_fail_within(err, "backup of \"%s\"", request->target->name);
    *ret = taking.facts;
    taking.facts = (struct hf_backup_facts){0};
    return true;
}

static bool
ask(struct taking *taking, struct hf_error *err)
{
    static const char sum[] = "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES";
    static const char replica[] = "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
                                  "WHERE COMMAND IN ('Slave_IO', 'Slave_SQL', 'Slave_worker')";
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = NULL;
    struct asked *asked = &taking->asked;
    struct hf_error unheard;
    char text[64];
    bool known;
    if (!hf_mariadb_client_connect(taking->flavour, taking->request->target, &conn, err) ||
        !hf_mariadb_ask_identity(conn, taking->flavour, taking->request->target, &asked->identity, err) ||
        !hf_mariadb_variable(conn, "innodb_page_size", text, sizeof text, &known, err))
        return false;
    snprintf(asked->version, sizeof asked->version, "%s", mysql_get_server_info(conn));
    const unsigned long bytes = strtoul(text, NULL, 10);
    if (bytes < 4096 || bytes > HF_INNODB_PAGE_MOST || (bytes & (bytes - 1)) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server says that its pages have \"%.20s\" bytes", text);
    asked->page_bytes = (uint32_t)bytes;
    if (!hf_mariadb_variable(conn, "log_bin", text, sizeof text, &known, err))
        return false;
    asked->has_binlog = strcmp(text, "ON") == 0;
    if (hf_mariadb_ask(conn, "ask for sizes", sum, text, sizeof text, &unheard))
        asked->data_bytes = strtoull(text, NULL, 10);
    if (hf_mariadb_ask(conn, "ask for replication", replica, text, sizeof text, &unheard))
        asked->is_replica = strcmp(text, "0") != 0;
    return true;
}

static bool
check_tool(struct taking *taking, struct hf_error *err)
{
    char version[HF_TOOL_VERSION_BYTES];
    if (!hf_backup_tool_version(taking->flavour, taking->request->target, version, err))
        return false;
    if (hf_backup_tool_fits(version, taking->asked.version))
        return true;
    hf_fail(err, HF_ERR_USAGE, "the backup tool is of version %s, the server of \"%.60s\"", version,
            taking->asked.version);
    return hf_fail_hint(err, "Install the package %s of the server's own release, or set backup_tool to its path.",
                        taking->flavour->package);
}

/* What the tool says counts more than where its stream broke off. */
static bool
receive(struct taking *taking, struct hf_error *err)
{
    bool ended = false;
    uint64_t silent_since_ns = hf_monotonic_ns();
    atomic_store(&taking->request->progress->total, taking->asked.data_bytes);
    while (!ended)
        if (!receive_piece(taking, &silent_since_ns, &ended, err))
            return false;
    return hf_backup_tool_finish(taking->tool, err) && hf_mbstream_end(taking->stream, err);
}

static bool
receive_piece(struct taking *taking, uint64_t *silent_since_ns, bool *ret_ended, struct hf_error *err)
{
    struct hf_source_progress *progress = taking->request->progress;
    const uint64_t silence_ms = taking->request->silence_ms == 0 ? SILENCE_MS : taking->request->silence_ms;
    struct pollfd wait = {.fd = hf_backup_tool_output(taking->tool), .events = POLLIN};
    if (atomic_load(&progress->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "cancelled");
    const int ready = poll(&wait, 1, POLL_MS);
    if (ready < 0 && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_NONE, "could not wait for the backup tool");
    if (ready <= 0) {
        if (hf_monotonic_ns() - *silent_since_ns < silence_ms * 1000000)
            return true;
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the backup tool has sent nothing for %" PRIu64 " s",
                       silence_ms / 1000);
    }
    const ssize_t got = read(wait.fd, taking->piece, PIECE_BYTES);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got < 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not read from the backup tool");
    *ret_ended = got == 0;
    *silent_since_ns = hf_monotonic_ns();
    const uint64_t all = atomic_fetch_add(&progress->done, (uint64_t)got) + (uint64_t)got;
    if (all > atomic_load(&progress->total) && taking->asked.data_bytes > 0)
        atomic_store(&progress->total, all);
    taking->facts.bytes_received += (uint64_t)got;
    return hf_mbstream_feed(taking->stream, taking->piece, (size_t)got, err);
}

static bool
begin_file(void *context, const char *path, bool again, void **ret_file, struct hf_error *err)
{
    struct taking *taking = context;
    _cleanup_(hf_freep) struct incoming *file = calloc(1, sizeof *file);
    char by[HF_CORRECTIONS_BY_BYTES];
    if (file == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for file \"%s\"", path);
    *file = (struct incoming){.magic = FILE_MAGIC, .info = hf_info_of(path), .text = HF_BUF_INIT(HF_INFOS_FILE_MOST)};
    snprintf(file->path, sizeof file->path, "%s", path);
    snprintf(file->stored, sizeof file->stored, "%s", path);
    file->is_aria_control = strcmp(path, ARIA_CONTROL) == 0;
    // What the sink has under that name stays.
    if (again) {
        if (!hf_corrections_replace(&taking->corrections, path, by, err))
            return false;
        snprintf(file->stored, sizeof file->stored, "%s", by);
    }
    if (ends_with(path, ".new") || ends_with(path, ".ren") || ends_with(path, ".del"))
        taking->own.ddl_files++;
    if (strcmp(path, DAMAGE_LIST) == 0)
        taking->own.tool_found_damage = true;
    file->next = taking->open;
    taking->open = file;
    *ret_file = HF_TAKE(file);
    return true;
}

static bool
take_data(void *context, void *opened, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct taking *taking = context;
    struct incoming *file = incoming_of(opened);
    const struct hf_backup_sink *sink = taking->request->sink;
    if ((file->info != HF_INFO_NONE || file->is_aria_control) && !hf_buf_add(&file->text, data, length, err))
        return hf_fail_within(err, "\"%s\"", file->path);
    if (!file->begun) {
        const size_t missing = sizeof file->head - file->head_length;
        const size_t taken = length < missing ? length : missing;
        memcpy(file->head + file->head_length, data, taken);
        file->head_length += taken;
        data += taken;
        length -= taken;
        if (file->head_length < sizeof file->head)
            return true;
        if (!begin_in_sink(taking, file, err))
            return false;
    }
    return length == 0 || sink->file_write(sink->context, file->handle, data, length, err);
}

static bool
take_hole(void *context, void *opened, uint64_t length, struct hf_error *err)
{
    static const uint8_t zeros[65536];
    while (length > 0) {
        const size_t piece = length < sizeof zeros ? (size_t)length : sizeof zeros;
        if (!take_data(context, opened, zeros, piece, err))
            return false;
        length -= piece;
    }
    return true;
}

static bool
end_file(void *context, void *opened, struct hf_error *err)
{
    struct taking *taking = context;
    struct incoming *file = incoming_of(opened);
    const struct hf_backup_sink *sink = taking->request->sink;
    if (!file->begun && !begin_in_sink(taking, file, err))
        return false;
    file->begun = false; // the handle is gone either way
    const bool ok = sink->file_end(sink->context, file->handle, err) && read_small_file(taking, file, err);
    taking->facts.files++;
    forget_file(taking, file);
    return ok;
}

static void
forget_file(struct taking *taking, struct incoming *file)
{
    struct incoming **at = &taking->open;
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    hf_buf_done(&file->text);
    free(file);
}

static bool
rename_file(void *context, const char *from, const char *to, struct hf_error *err)
{
    struct taking *taking = context;
    return hf_corrections_rename(&taking->corrections, from, to, err);
}

static bool
remove_file(void *context, const char *path, struct hf_error *err)
{
    struct taking *taking = context;
    return hf_corrections_remove(&taking->corrections, path, err);
}

/* Those on the way to a file, the first time each. */
static bool
make_folders(struct taking *taking, const char *path, struct hf_error *err)
{
    const struct hf_backup_sink *sink = taking->request->sink;
    char folder[HF_BACKUP_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (json_object_get(taking->folders, folder) == NULL) {
            if (!sink->directory(sink->context, folder, FOLDER_MODE, err))
                return false;
            if (json_object_set_new_nocheck(taking->folders, folder, json_true()) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for folder \"%s\"", folder);
        }
        *slash = '/';
    }
    return true;
}

static bool
begin_in_sink(struct taking *taking, struct incoming *file, struct hf_error *err)
{
    const struct hf_backup_sink *sink = taking->request->sink;
    struct hf_backup_file described;
    describe(taking, file, &described);
    if (!make_folders(taking, file->stored, err) || !sink->file_begin(sink->context, &described, &file->handle, err))
        return false;
    file->begun = true;
    return file->head_length == 0 || sink->file_write(sink->context, file->handle, file->head, file->head_length, err);
}

/* What its name and its first bytes say. */
static void
describe(struct taking *taking, const struct incoming *file, struct hf_backup_file *ret)
{
    struct hf_innodb_space space;
    *ret = (struct hf_backup_file){.path = file->stored,
                                   .kind = file->stored[0] != file->path[0] || strcmp(file->stored, file->path) != 0
                                               ? HF_BACKUP_FILE_CAPTURED
                                               : HF_BACKUP_FILE_OTHER,
                                   .mode = FILE_MODE,
                                   .size = HF_BACKUP_SIZE_UNKNOWN,
                                   .page_bytes = HF_BACKUP_OTHER_PAGE};
    if (ret->kind == HF_BACKUP_FILE_CAPTURED || !may_be_tablespace(file->path) || file->head_length == 0)
        return;
    bool known = hf_innodb_space_read(file->head, file->head_length, &space);
    if (known && space.id == 0) {
        taking->first_space = space;
        taking->knows_first_space = true;
    }
    const bool is_further = !known && strncmp(file->path, "ibdata", 6) == 0 && taking->knows_first_space;
    if (is_further) {
        space = taking->first_space;
        ret->first_block = (uint32_t)file->head[4] << 24 | (uint32_t)file->head[5] << 16 |
                           (uint32_t)file->head[6] << 8 | file->head[7];
        known = true;
    }
    if (!known && !ends_with(file->path, ".ibd") && !ends_with(file->path, ".new"))
        return;
    ret->kind = HF_BACKUP_FILE_RELATION;
    ret->checksums = known;
    ret->page_bytes = known ? space.page_bytes : taking->asked.page_bytes;
    if (ret->page_bytes < 4096)
        ret->page_bytes = 4096; // the store's smallest; the check goes by the flags
    ret->check_word = known ? hf_innodb_check_word(&space) : 0;
}

/* Undo logs and the first tablespace lie at the top, under names of the owner's choice. */
static bool
may_be_tablespace(const char *path)
{
    if (ends_with(path, ".ibd") || ends_with(path, ".new") || ends_with(path, ".ibu"))
        return true;
    return strchr(path, '/') == NULL && hf_info_of(path) == HF_INFO_NONE && strncmp(path, "ib_logfile", 10) != 0 &&
           strncmp(path, "aria_log", 8) != 0;
}

static bool
ends_with(const char *path, const char *end)
{
    const size_t length = strlen(path), tail = strlen(end);
    return length > tail && strcmp(path + length - tail, end) == 0;
}

static bool
read_small_file(struct taking *taking, const struct incoming *file, struct hf_error *err)
{
    if (file->is_aria_control && file->text.length >= ARIA_ID_AT + HF_ARIA_ID_BYTES) {
        memcpy(taking->own.aria_id, file->text.data + ARIA_ID_AT, HF_ARIA_ID_BYTES);
        taking->own.has_aria_id = true;
    }
    if (file->info == HF_INFO_NONE)
        return true;
    taking->has_info[file->info] = true;
    return hf_infos_read(&taking->infos, file->info, hf_buf_text(&file->text), file->text.length, err);
}

/* Beside what the tool says of itself. */
static bool
check_whole(const struct taking *taking, struct hf_error *err)
{
    static const char *const needed[] = {"backup-my.cnf"};
    static const char *const redo[] = {"ib_logfile0", "xtrabackup_logfile"};
    for (int which = 0; which < HF_INFO_NONE; which++)
        if (!taking->has_info[which] && (which != HF_INFO_BINLOG || taking->asked.has_binlog))
            return hf_fail(err, HF_ERR_CORRUPT, "the backup tool sent no \"%s\"", hf_info_name((enum hf_info)which));
    for (size_t i = 0; i < HF_LENGTH(needed); i++)
        if (!hf_mbstream_has(taking->stream, needed[i]))
            return hf_fail(err, HF_ERR_CORRUPT, "the backup tool sent no \"%s\"", needed[i]);
    if (!hf_mbstream_has(taking->stream, redo[0]) && !hf_mbstream_has(taking->stream, redo[1]))
        return hf_fail(err, HF_ERR_CORRUPT, "the backup tool sent no redo log");
    if (!taking->knows_first_space)
        return hf_fail(err, HF_ERR_CORRUPT, "the backup tool sent no first tablespace (\"ibdata1\")");
    return true;
}

static bool
store_corrections(struct taking *taking, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CORRECTIONS_FILE_MOST);
    taking->own.changed_files = hf_corrections_count(&taking->corrections);
    if (taking->own.changed_files == 0)
        return true;
    if (!hf_corrections_format(&taking->corrections, &text, err))
        return false;
    const struct hf_backup_file file = {.path = HF_CORRECTIONS_PATH,
                                        .kind = HF_BACKUP_FILE_CAPTURED,
                                        .mode = FILE_MODE,
                                        .modified_at = hf_time_now_ms(),
                                        .size = text.length,
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    return hf_backup_sink_put(taking->request->sink, &file, text.data, text.length, err);
}

static bool
tell(struct taking *taking, struct hf_error *err)
{
    struct hf_backup_facts *facts = &taking->facts;
    taking->own.infos = &taking->infos;
    taking->own.has_binlog = taking->has_info[HF_INFO_BINLOG];
    taking->own.page_bytes = taking->asked.page_bytes;
    memcpy(facts->identity, taking->asked.identity.text, sizeof facts->identity);
    facts->server_version = taking->asked.identity.server_version;
    memcpy(facts->server_version_text, taking->asked.version, sizeof facts->server_version_text);
    snprintf(facts->start_position, sizeof facts->start_position, "%" PRIu64, taking->infos.from_lsn);
    snprintf(facts->stop_position, sizeof facts->stop_position, "%" PRIu64, taking->infos.last_lsn);
    facts->from_standby = taking->asked.is_replica;
    facts->stopped_at = hf_time_now_ms();
    facts->notices = strdup(taking->own.ddl_files + taking->own.changed_files > 0
                                ? "tables were made, renamed, changed or dropped while the backup ran"
                                : "");
    if (facts->notices == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the backup's facts");
    return hf_mariadb_facts_to_json(&taking->own, &facts->own, err);
}

static struct incoming *
incoming_of(void *file)
{
    struct incoming *incoming = file;
    assert(incoming->magic == FILE_MAGIC);
    return incoming;
}

/* The tool first: it may still write. */
static void
done(struct taking *taking)
{
    hf_backup_tool_freep(&taking->tool);
    hf_mbstream_freep(&taking->stream);
    while (taking->open != NULL) {
        if (taking->open->begun)
            taking->request->sink->file_drop(taking->request->sink->context, taking->open->handle);
        forget_file(taking, taking->open);
    }
    hf_corrections_done(&taking->corrections);
    hf_infos_done(&taking->infos);
    json_decref(taking->folders);
    hf_backup_facts_done(&taking->facts);
    free(taking->piece);
}

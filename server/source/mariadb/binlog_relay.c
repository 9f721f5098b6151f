#include "server/source/mariadb/binlog_relay.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

#define WRITE_BYTES (1 * HF_MIB) // gathered before a write

struct relay {
    const struct hf_binlog_plan *plan;
    const atomic_bool *cancel;
    const char *name;
    int fd;
    struct hf_buf gathered;
    uint64_t bytes;
    uint64_t format_at;
    bool skip; // the transaction at hand was in the copy already
};

static bool create(const char *folder, const char *name, int *ret_fd, struct hf_error *err);
static bool put_format(struct relay *relay, struct hf_archive *archive, const struct hf_timeline_path *path,
                       struct hf_error *err);
static bool put_event(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);
static bool put(struct relay *relay, const uint8_t *data, size_t length, struct hf_error *err);
static bool flush(struct relay *relay, struct hf_error *err);

bool
hf_binlog_write_relay(struct hf_archive *archive, const struct hf_timeline_path *path,
                      const struct hf_binlog_plan *plan, const char *folder, const atomic_bool *cancel,
                      uint64_t *ret_bytes, struct hf_error *err)
{
    static const uint8_t magic[] = {0xfe, 'b', 'i', 'n'};
    static const char index[] = "./" HF_BINLOG_RELAY_FIRST "\n";
    struct relay relay = {.plan = plan,
                          .cancel = cancel,
                          .name = HF_BINLOG_RELAY_FIRST,
                          .fd = -1,
                          .gathered = HF_BUF_INIT(2 * WRITE_BYTES)};
    _cleanup_(hf_closep) int index_fd = -1;
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    const bool fine = create(folder, HF_BINLOG_RELAY_INDEX, &index_fd, err) &&
                      hf_write_all(index_fd, index, sizeof index - 1, HF_BINLOG_RELAY_INDEX, err) &&
                      create(folder, relay.name, &relay.fd, err) && put(&relay, magic, sizeof magic, err) &&
                      put_format(&relay, archive, path, err) && hf_binlog_place_copy(&plan->from, &place, err) &&
                      hf_binlog_scan(archive, path, &place, plan->to, put_event, &relay, err) && flush(&relay, err);
    hf_closep(&relay.fd);
    hf_buf_done(&relay.gathered);
    *ret_bytes = relay.bytes;
    return fine;
}

static bool
create(const char *folder, const char *name, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(folder, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *ret_fd >= 0 || hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", path);
}

/* As it is in force, and not as the beginning of a file: the applier is to keep its temporary tables. */
static bool
put_format(struct relay *relay, struct hf_archive *archive, const struct hf_timeline_path *path, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf format = HF_BUF_INIT(64 * HF_KIB);
    relay->format_at = relay->plan->from.format;
    if (relay->plan->from.format == HF_BINLOG_NO_FORMAT)
        return true; // the first event is one
    if (!hf_binlog_format_at(archive, path, &relay->plan->from, &format, &relay->format_at, err))
        return false;
    hf_put_u32(format.data + 13, 0);
    hf_put_u16(format.data + 17, (uint16_t)(hf_get_u16(format.data + 17) & ~HF_BINLOG_IN_USE));
    hf_put_u32(format.data + HF_BINLOG_HEADER + 2 + HF_BINLOG_VERSION_TEXT - 1, 0); // created at
    hf_binlog_event_seal(format.data, format.length);
    return put(relay, format.data, format.length, err);
}

static bool
put_event(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct relay *relay = context;
    const struct hf_binlog_step *step = record->step;
    (void)ret_go_on;
    if (relay->cancel != NULL && atomic_load(relay->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the replay of the binary log was cancelled");
    if (step->event.type == HF_BINLOG_FORMAT)
        return record->position == relay->format_at || put(relay, record->data, record->length, err);
    if (!step->group) // ROTATE, STOP, lists and checkpoints change nothing
        return true;
    if (step->begins)
        relay->skip = record->walk->has_gtid && hf_gtid_set_contains(&relay->plan->start, &record->walk->gtid);
    return relay->skip || put(relay, record->data, record->length, err);
}

static bool
put(struct relay *relay, const uint8_t *data, size_t length, struct hf_error *err)
{
    relay->bytes += length;
    if (length >= WRITE_BYTES)
        return flush(relay, err) && hf_write_all(relay->fd, data, length, relay->name, err);
    return hf_buf_add(&relay->gathered, data, length, err) &&
           (relay->gathered.length < WRITE_BYTES || flush(relay, err));
}

static bool
flush(struct relay *relay, struct hf_error *err)
{
    if (relay->gathered.length > 0 &&
        !hf_write_all(relay->fd, relay->gathered.data, relay->gathered.length, relay->name, err))
        return false;
    hf_buf_clear(&relay->gathered);
    return true;
}

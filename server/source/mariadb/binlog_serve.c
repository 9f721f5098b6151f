#include "server/source/mariadb/binlog_serve.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "server/source/mariadb/packet.h"

#define VERSION        "5.5.5-10.11.0-MariaDB-holdfast" // replicas take off the prefix, and ask for GTIDs from 10.0
#define VERSION_PREFIX 6
#define PLUGIN         "mysql_native_password"
#define SALT_BYTES     20
#define COMMAND_MOST   (2 * HF_MIB) // a replica's longest is its GTID position
#define ANSWER_MS      60000
#define STEP_MS        200
#define BEAT_MS        5000 // heartbeats, or oftener when the replica asks so
#define BEAT_LEAST     200

#define CAPABILITIES 0x0008a205U // long password, long flag, protocol 4.1, transactions, secure, plugins
#define WITH_SCHEMA  0x00000008U

enum command {
    COM_QUIT_ = 1,
    COM_INIT_DB_ = 2,
    COM_QUERY_ = 3,
    COM_PING_ = 14,
    COM_DUMP_ = 0x12,
    COM_REGISTER_ = 0x15
};

#define ER_DENIED  1045
#define ER_COMMAND 1047
#define ER_NO_VAR  1193
#define ER_BINLOG  1236

/* One replica that is connected. */
struct replica {
    struct hf_binlog_serving *serving;
    struct hf_packets packets;
    struct hf_gtid_set state; // what it says that it has
    bool has_state;
    int64_t beat_ms;
    struct hf_error broken; // what the archive failed with: that ends the server, all else only this replica

    // Of a dump:
    bool skip;      // the transaction that is being read is one it has
    bool checksums; // of the events that it is sent
    char file[HF_BINLOG_NAME_BYTES];
    uint32_t next; // position in it, as the last event told
    struct hf_buf format;
    uint64_t format_at;
};

static bool talk(struct replica *replica, struct hf_error *err);
static bool greet(struct replica *replica, struct hf_error *err);
static bool check_password(const struct replica *replica, const uint8_t *salt, const uint8_t *token, size_t length);
static bool answer_query(struct replica *replica, const char *query, struct hf_error *err);
static bool take_setting(struct replica *replica, const char *query, struct hf_error *err);
static bool send_value(struct replica *replica, const char *const *names, const char *const *values, size_t count,
                       struct hf_error *err);
static bool put_text(struct hf_buf *out, const char *text, struct hf_error *err);
static bool send_ok(struct replica *replica, struct hf_error *err);
static bool send_error(struct replica *replica, uint16_t code, const char *text, struct hf_error *err);
static bool send_message(struct replica *replica, const struct hf_buf *message, struct hf_error *err);
static bool dump(struct replica *replica, struct hf_error *err);
static bool learn_format(struct replica *replica, struct hf_error *err);
static bool serve_event(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);
static bool send_rotate(struct replica *replica, const char *file, struct hf_error *err);
static bool send_format(struct replica *replica, struct hf_error *err);
static bool send_event(struct replica *replica, const uint8_t *data, size_t length, struct hf_error *err);
static bool send_made(struct replica *replica, uint8_t type, uint32_t next, uint16_t flags, const void *body,
                      size_t length, struct hf_error *err);
static bool stay(struct replica *replica, struct hf_error *err);
static bool is_cancelled(const struct hf_binlog_serving *serving);
static void replica_done(struct replica *replica);

bool
hf_binlog_serve(struct hf_binlog_serving *serving, struct hf_error *err)
{
    while (!is_cancelled(serving)) {
        struct pollfd one = {.fd = serving->listen_fd, .events = POLLIN};
        if (poll(&one, 1, STEP_MS) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for a replica");
        if ((one.revents & POLLIN) == 0)
            continue;
        _cleanup_(hf_closep) int fd = accept4(serving->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not accept a replica");
        _cleanup_(replica_done) struct replica replica = {
            .serving = serving, .beat_ms = BEAT_MS, .format = HF_BUF_INIT(HF_BINLOG_FORMAT_MOST)};
        struct hf_error why = {0};
        const int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // of no use on other sockets
        if (!hf_packets_init(&replica.packets, fd, "the replica", &why) || !talk(&replica, &why)) {
            if (replica.broken.kind != HF_ERR_NONE) {
                *err = replica.broken;
                return false;
            }
            if (why.kind != HF_ERR_CANCELLED && why.kind != HF_ERR_NONE)
                hf_log_info("a replica left: %s", why.message);
        }
    }
    return true;
}

bool
hf_binlog_listen(int *ret_fd, uint16_t *ret_port, struct hf_error *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    _cleanup_(hf_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &length) != 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not listen for a replica");
    *ret_port = ntohs(at.sin_port);
    *ret_fd = fd;
    fd = -1;
    return true;
}

static bool
talk(struct replica *replica, struct hf_error *err)
{
    if (!greet(replica, err))
        return false;
    for (;;) {
        const uint8_t *data;
        size_t length;
        _cleanup_(hf_buf_done) struct hf_buf query = HF_BUF_INIT(COMMAND_MOST + 1);
        replica->packets.sequence = 0;
        if (!hf_packets_await(&replica->packets, COMMAND_MOST, ANSWER_MS, replica->serving->cancel, &data, &length,
                              err))
            return false;
        switch (length == 0 ? 0 : data[0]) {
        case COM_QUIT_:
            return true;
        case COM_QUERY_:
            if (!hf_buf_add(&query, data + 1, length - 1, err) || !answer_query(replica, hf_buf_text(&query), err))
                return false;
            break;
        case COM_PING_:
        case COM_INIT_DB_:
        case COM_REGISTER_:
            if (!send_ok(replica, err))
                return false;
            break;
        case COM_DUMP_:
            return dump(replica, err);
        default:
            if (!send_error(replica, ER_COMMAND, "holdfast serves a binary log and nothing else", err))
                return false;
        }
    }
}

static bool
greet(struct replica *replica, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(512);
    uint8_t salt[SALT_BYTES];
    const uint8_t *data;
    size_t length;
    for (size_t i = 0; i < sizeof salt; i++) // printable: 0 and '$' mean something to some clients
        salt[i] = (uint8_t)('A' + randombytes_uniform(26));
    if (!hf_buf_put_u8(&out, 10, err) || !hf_buf_add(&out, VERSION, sizeof VERSION, err) ||
        !hf_buf_put_u32(&out, 1, err) || !hf_buf_add(&out, salt, 8, err) || !hf_buf_put_u8(&out, 0, err) ||
        !hf_buf_put_u16(&out, CAPABILITIES & 0xffff, err) || !hf_buf_put_u8(&out, 45, err) ||
        !hf_buf_put_u16(&out, 2, err) || !hf_buf_put_u16(&out, CAPABILITIES >> 16, err) ||
        !hf_buf_put_u8(&out, SALT_BYTES + 1, err) || !hf_buf_add_zeros(&out, 10, err) ||
        !hf_buf_add(&out, salt + 8, SALT_BYTES - 8, err) || !hf_buf_put_u8(&out, 0, err) ||
        !hf_buf_add(&out, PLUGIN, sizeof PLUGIN, err) || !send_message(replica, &out, err) ||
        !hf_packets_await(&replica->packets, COMMAND_MOST, ANSWER_MS, replica->serving->cancel, &data, &length, err))
        return false;

    struct hf_reader reader = HF_READER(data, length);
    const uint32_t capabilities = hf_reader_u32(&reader);
    (void)hf_reader_bytes(&reader, 28);
    while (hf_reader_u8(&reader) != 0) // the user's name: the password is what counts
        if (!hf_reader_ok(&reader))
            break;
    size_t token_length = hf_reader_u8(&reader);
    const uint8_t *token = hf_reader_bytes(&reader, token_length);
    if ((capabilities & WITH_SCHEMA) != 0)
        while (hf_reader_u8(&reader) != 0 && hf_reader_ok(&reader))
            ;
    if (!hf_reader_ok(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the replica's greeting cannot be read");
    const size_t left = reader.length - reader.position;
    if (replica->serving->password != NULL && left >= sizeof PLUGIN - 1 &&
        memcmp(reader.data + reader.position, PLUGIN, sizeof PLUGIN - 1) != 0) {
        hf_buf_clear(&out);
        if (!hf_buf_put_u8(&out, 0xfe, err) || !hf_buf_add(&out, PLUGIN, sizeof PLUGIN, err) ||
            !hf_buf_add(&out, salt, sizeof salt, err) || !hf_buf_put_u8(&out, 0, err) ||
            !send_message(replica, &out, err) ||
            !hf_packets_await(&replica->packets, COMMAND_MOST, ANSWER_MS, replica->serving->cancel, &token,
                              &token_length, err))
            return false;
    }
    if (check_password(replica, salt, token, token_length))
        return send_ok(replica, err);
    return send_error(replica, ER_DENIED, "access denied: the password is another one", err) &&
           hf_fail(err, HF_ERR_DENIED, "a replica came with a wrong password");
}

/* The token is SHA1(password) xor SHA1(salt || SHA1(SHA1(password))). */
static bool
check_password(const struct replica *replica, const uint8_t *salt, const uint8_t *token, size_t length)
{
    const struct hf_secret *password = replica->serving->password;
    uint8_t once[SHA_DIGEST_LENGTH], twice[SALT_BYTES + SHA_DIGEST_LENGTH], mask[SHA_DIGEST_LENGTH];
    if (password == NULL)
        return true;
    if (length != SHA_DIGEST_LENGTH)
        return false;
    SHA1(password->bytes, password->length, once);
    memcpy(twice, salt, SALT_BYTES);
    SHA1(once, sizeof once, twice + SALT_BYTES);
    SHA1(twice, sizeof twice, mask);
    for (size_t i = 0; i < sizeof once; i++)
        once[i] ^= mask[i];
    return sodium_memcmp(once, token, sizeof once) == 0;
}

static bool
answer_query(struct replica *replica, const char *query, struct hf_error *err)
{
    static const char *const name_value[] = {"Variable_name", "Value"};
    char number[24];
    if (strncasecmp(query, "SET ", 4) == 0)
        return take_setting(replica, query, err);
    if (strncasecmp(query, "SELECT UNIX_TIMESTAMP()", 23) == 0) {
        snprintf(number, sizeof number, "%lld", (long long)time(NULL));
        return send_value(replica, name_value + 1, &(const char *){number}, 1, err);
    }
    if (strcasestr(query, "SHOW VARIABLES LIKE 'SERVER_ID'") != NULL) {
        snprintf(number, sizeof number, "%u", replica->serving->server_id);
        return send_value(replica, name_value, (const char *[]){"server_id", number}, 2, err);
    }
    if (strcasestr(query, "@master_binlog_checksum") != NULL) {
        if (!learn_format(replica, err))
            return false;
        return send_value(replica, name_value + 1, &(const char *){replica->checksums ? "CRC32" : "NONE"}, 1, err);
    }
    if (strcasestr(query, "gtid_domain_id") != NULL)
        return send_value(replica, name_value + 1, &(const char *){"0"}, 1, err);
    if (strcasestr(query, "rpl_semi_sync_master_enabled") != NULL)
        return send_value(replica, name_value, (const char *[]){"rpl_semi_sync_master_enabled", "OFF"}, 2, err);
    if (strncasecmp(query, "SELECT VERSION()", 16) == 0)
        return send_value(replica, name_value + 1, &(const char *){&VERSION[VERSION_PREFIX]}, 1, err);
    return send_error(replica, ER_NO_VAR, "holdfast answers a replica that asks by GTID, and nothing else", err);
}

/* The replica's GTID position and how often it wants to hear of us; other variables are no concern of ours. */
static bool
take_setting(struct replica *replica, const char *query, struct hf_error *err)
{
    static const char state_word[] = "@slave_connect_state='", beat_word[] = "@master_heartbeat_period=";
    const char *state = strcasestr(query, state_word), *beat = strcasestr(query, beat_word);
    if (state != NULL) {
        state += sizeof state_word - 1;
        const char *end = strchr(state, '\'');
        struct hf_error why;
        hf_gtid_set_done(&replica->state);
        if (end == NULL || !hf_gtid_set_parse(HF_GTID_MARIADB, state, (size_t)(end - state), &replica->state, &why))
            return send_error(replica, ER_BINLOG, "the GTID position cannot be read", err);
        replica->has_state = true;
    }
    if (beat != NULL) {
        const long long ms = strtoll(beat + sizeof beat_word - 1, NULL, 10) / 1000000; // ns
        if (ms > 0 && ms < BEAT_MS)
            replica->beat_ms = ms < BEAT_LEAST ? BEAT_LEAST : ms;
    }
    return send_ok(replica, err);
}

/* One row of texts. */
static bool
send_value(struct replica *replica, const char *const *names, const char *const *values, size_t count,
           struct hf_error *err)
{
    static const uint8_t end[] = {0xfe, 0, 0, 2, 0};
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(4096);
    if (!hf_buf_put_u8(&out, (uint8_t)count, err) || !send_message(replica, &out, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        hf_buf_clear(&out);
        if (!put_text(&out, "def", err) || !put_text(&out, "", err) || !put_text(&out, "", err) ||
            !put_text(&out, "", err) || !put_text(&out, names[i], err) || !put_text(&out, "", err) ||
            !hf_buf_put_u8(&out, 12, err) || !hf_buf_put_u16(&out, 45, err) || !hf_buf_put_u32(&out, 1024, err) ||
            !hf_buf_put_u8(&out, 253, err) || !hf_buf_add_zeros(&out, 5, err) || !send_message(replica, &out, err))
            return false;
    }
    hf_buf_clear(&out);
    if (!hf_buf_add(&out, end, sizeof end, err) || !send_message(replica, &out, err))
        return false;
    hf_buf_clear(&out);
    for (size_t i = 0; i < count; i++)
        if (!put_text(&out, values[i], err))
            return false;
    if (!send_message(replica, &out, err))
        return false;
    hf_buf_clear(&out);
    return hf_buf_add(&out, end, sizeof end, err) && send_message(replica, &out, err);
}

/* Length and bytes; all of ours are shorter than 251. */
static bool
put_text(struct hf_buf *out, const char *text, struct hf_error *err)
{
    const size_t length = strlen(text);
    assert(length < 251);
    return hf_buf_put_u8(out, (uint8_t)length, err) && hf_buf_add(out, text, length, err);
}

static bool
send_ok(struct replica *replica, struct hf_error *err)
{
    static const uint8_t ok[] = {0, 0, 0, 2, 0, 0, 0};
    return hf_packets_send(&replica->packets, ok, sizeof ok, NULL, 0, ANSWER_MS, replica->serving->cancel, err);
}

static bool
send_error(struct replica *replica, uint16_t code, const char *text, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(1024);
    return hf_buf_put_u8(&out, 0xff, err) && hf_buf_put_u16(&out, code, err) && hf_buf_add_text(&out, "#HY000", err) &&
           hf_buf_add_text(&out, text, err) && send_message(replica, &out, err);
}

static bool
send_message(struct replica *replica, const struct hf_buf *message, struct hf_error *err)
{
    return hf_packets_send(&replica->packets, message->data, message->length, NULL, 0, ANSWER_MS,
                           replica->serving->cancel, err);
}

/* Everything the replica lacks, then heartbeats: it decides itself when it has applied enough. */
static bool
dump(struct replica *replica, struct hf_error *err)
{
    struct hf_binlog_serving *serving = replica->serving;
    const struct hf_binlog_plan *plan = serving->plan;
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    atomic_store(&serving->sent, 0);
    atomic_store(&serving->all_sent, false);
    if (!replica->has_state || !hf_gtid_set_contains_all(&replica->state, &plan->from.gtids))
        return send_error(replica, ER_BINLOG,
                          replica->has_state ? "the archived binary log begins behind the replica's GTID position"
                                             : "holdfast serves by GTID: use MASTER_USE_GTID=slave_pos",
                          err) &&
               hf_fail(err, HF_ERR_NOT_FOUND, "it asked for log from before the archive's beginning");
    if (!learn_format(replica, err) || !hf_binlog_place_copy(&plan->from, &place, err))
        return false;
    snprintf(replica->file, sizeof replica->file, "%s", plan->from.file[0] != 0 ? plan->from.file : "holdfast");
    if (!send_rotate(replica, replica->file, err))
        return false;
    struct hf_error why = {0};
    if (!send_format(replica, err))
        return false;
    if (!hf_binlog_scan(serving->archive, serving->path, &place, plan->to, serve_event, replica, &why)) {
        if (why.kind == HF_ERR_CORRUPT || why.kind == HF_ERR_NOT_FOUND)
            replica->broken = why;
        *err = why;
        return false;
    }
    atomic_store(&serving->all_sent, true);
    return stay(replica, err);
}

/* The first events have checksums as the format description in force says. */
static bool
learn_format(struct replica *replica, struct hf_error *err)
{
    const struct hf_binlog_serving *serving = replica->serving;
    const struct hf_binlog_plan *plan = serving->plan;
    struct hf_binlog_walk walk;
    struct hf_binlog_step step;
    struct hf_error why = {0};
    hf_buf_clear(&replica->format);
    if (plan->to == plan->from.position && plan->from.format == HF_BINLOG_NO_FORMAT) {
        replica->checksums = false; // there is nothing to serve, not even a format
        return true;
    }
    hf_binlog_walk_begin(&walk, false);
    if (hf_binlog_format_at(serving->archive, serving->path, &plan->from, &replica->format, &replica->format_at,
                            &why) &&
        hf_binlog_walk_event(&walk, replica->format.data, replica->format.length, replica->format_at, &step, &why)) {
        replica->checksums = walk.format.checksums;
        return true;
    }
    replica->broken = why;
    *err = why;
    return false;
}

static bool
serve_event(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct replica *replica = context;
    const struct hf_binlog_step *step = record->step;
    (void)ret_go_on;
    if (is_cancelled(replica->serving))
        return hf_fail(err, HF_ERR_CANCELLED, "serving the binary log was cancelled");
    if (step->event.type == HF_BINLOG_FORMAT) {
        if (record->position == replica->format_at)
            return true;
        // A file of the server begins: the name in force is the one that its last ROTATE told.
        snprintf(replica->file, sizeof replica->file, "%s",
                 record->before->file[0] != 0 ? record->before->file : "holdfast");
        if (!send_rotate(replica, replica->file, err))
            return false;
        replica->checksums = record->walk->format.checksums;
        return send_event(replica, record->data, record->length, err);
    }
    if (!step->group) // ROTATE, STOP, lists and checkpoints tell a replica nothing that it needs
        return true;
    if (step->begins)
        replica->skip = record->walk->has_gtid && hf_gtid_set_contains(&replica->state, &record->walk->gtid);
    if (replica->skip)
        return true;
    replica->next = step->event.next;
    return send_event(replica, record->data, record->length, err);
}

static bool
send_rotate(struct replica *replica, const char *file, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(1024);
    replica->next = 4;
    return hf_buf_put_u64(&body, 4, err) && hf_buf_add_text(&body, file, err) &&
           send_made(replica, HF_BINLOG_ROTATE, 0, HF_BINLOG_ARTIFICIAL, body.data, body.length, err);
}

/* As it is in force, and not as the beginning of a file: the replica is to keep its temporary tables. */
static bool
send_format(struct replica *replica, struct hf_error *err)
{
    struct hf_buf *format = &replica->format;
    if (format->length == 0)
        return true;
    hf_put_u32(format->data + 13, 0);
    hf_put_u16(format->data + 17, (uint16_t)(hf_get_u16(format->data + 17) & ~HF_BINLOG_IN_USE));
    hf_put_u32(format->data + HF_BINLOG_HEADER + 2 + HF_BINLOG_VERSION_TEXT - 1, 0); // created at
    hf_binlog_event_seal(format->data, format->length);
    return send_event(replica, format->data, format->length, err);
}

static bool
send_event(struct replica *replica, const uint8_t *data, size_t length, struct hf_error *err)
{
    static const uint8_t fine = 0;
    if (!hf_packets_send(&replica->packets, &fine, 1, data, length, ANSWER_MS, replica->serving->cancel, err))
        return false;
    atomic_fetch_add(&replica->serving->sent, length);
    return true;
}

static bool
send_made(struct replica *replica, uint8_t type, uint32_t next, uint16_t flags, const void *body, size_t length,
          struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf event = HF_BUF_INIT(1024);
    const size_t whole = HF_BINLOG_HEADER + length + (replica->checksums ? 4 : 0);
    if (!hf_buf_put_u32(&event, 0, err) || !hf_buf_put_u8(&event, type, err) ||
        !hf_buf_put_u32(&event, replica->serving->server_id, err) || !hf_buf_put_u32(&event, (uint32_t)whole, err) ||
        !hf_buf_put_u32(&event, next, err) || !hf_buf_put_u16(&event, flags, err) ||
        !hf_buf_add(&event, body, length, err) || !hf_buf_add_zeros(&event, replica->checksums ? 4 : 0, err))
        return false;
    if (replica->checksums)
        hf_binlog_event_seal(event.data, event.length);
    return send_event(replica, event.data, event.length, err);
}

/* It leaves when it has applied enough, or is told to. */
static bool
stay(struct replica *replica, struct hf_error *err)
{
    uint64_t beat_ns = hf_monotonic_ns();
    for (;;) {
        struct pollfd one = {.fd = replica->packets.fd, .events = POLLIN};
        const uint8_t *data;
        size_t length;
        bool got;
        if (is_cancelled(replica->serving))
            return true;
        if (!hf_packets_next(&replica->packets, COMMAND_MOST, &got, &data, &length, err))
            return false;
        if (hf_monotonic_ns() - beat_ns > (uint64_t)replica->beat_ms * 1000000) {
            beat_ns = hf_monotonic_ns();
            if (!send_made(replica, HF_BINLOG_HEARTBEAT, replica->next, 0, replica->file, strlen(replica->file), err))
                return false;
        }
        if (poll(&one, 1, STEP_MS) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for the replica");
    }
}

static bool
is_cancelled(const struct hf_binlog_serving *serving)
{
    return serving->cancel != NULL && atomic_load(serving->cancel);
}

static void
replica_done(struct replica *replica)
{
    hf_packets_done(&replica->packets);
    hf_gtid_set_done(&replica->state);
    hf_buf_done(&replica->format);
}

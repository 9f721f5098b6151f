#include "tests/source/fake_server.h"

#include <endian.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/id.h"
#include "tests/source/keep.h"
#include "tests/source/tar_builder.h"

#define QUERY_MOST 1024
#define BLOCK      512
#define FIRST_PORT 5432

struct server {
    struct hf_test_fake *fake; // a copy of the test's
    int listener;
};

struct session {
    const struct hf_test_fake *fake;
    int fd;
    unsigned number; // of the connection, from 0
    bool broken;
};

static _Atomic uint64_t flushed = UINT64_MAX;

static void *accept_sessions(void *argument);
static void *serve(void *argument);
static void greet(struct session *session);
static bool read_query(struct session *session, char *type, char *query);
static void answer(struct session *session, const char *query);
static void identify(struct session *session);
static void show(struct session *session, const char *setting);
static void base_backup(struct session *session);
static void send_typed(struct session *session);
static void send_separate(struct session *session);
static void send_oddities(struct session *session);
static void send_copy(struct session *session, char type, const struct hf_buf *bytes, bool typed);
static void replicate(struct session *session);
static void send_log(struct session *session, uint64_t position, const uint8_t *data, size_t length);
static void send_row(struct session *session, size_t columns, const char *const *values);
static void send_error(struct session *session, char type, const char *state, const char *text);
static void send_message(struct session *session, char type, const void *data, size_t length);
static void send_text(struct session *session, char type, const char *text);
static void send_bytes(struct session *session, const void *data, size_t length);
static void add_members(const struct hf_buf *tar, const char *prefix, struct hf_buf *manifest, bool *first);
static void make_control(const struct hf_test_fake *fake, uint8_t *control);

void
hf_test_fake_fill(struct hf_test_fake *fake, unsigned version)
{
    static uint8_t page[8192], control[8192];
    char label[512], lsn[HF_LSN_TEXT_BYTES];
    const struct hf_wal_origin origin = {version, HF_TEST_FAKE_SYSTEM, 1024 * 1024, 1};

    // A thread of the server before may still be sending what the test now forgets.
    *(struct hf_test_fake *)hf_test_keep(sizeof *fake) = *fake;
    *fake = (struct hf_test_fake){.version = version,
                                  .manifest_system = HF_TEST_FAKE_SYSTEM,
                                  .timeline = 1,
                                  .stop_timeline = 1,
                                  .location = "/srv/space",
                                  .tar_name = "base.tar",
                                  .piece = 1000};
    fake->tablespace = HF_BUF_INIT(HF_MIB);
    fake->base = HF_BUF_INIT(16 * HF_MIB);
    fake->manifest = HF_BUF_INIT(HF_MIB);

    hf_test_wal_begin(&fake->wal, &origin, 0x500000);
    fake->start_lsn = hf_test_wal_add(&fake->wal, 0, 0x20, page, 100);
    for (size_t i = 0; i < 300; i++)
        hf_test_wal_add(&fake->wal, 10, 0, page, 4000); // past the end of the first segment
    hf_test_wal_add_commit(&fake->wal, 1795348800000);
    fake->stop_lsn = hf_test_wal_end(&fake->wal);

    snprintf(label, sizeof label,
             "START WAL LOCATION: %s (file 000000010000000000000005)\nCHECKPOINT LOCATION: 0/500060\nBACKUP METHOD: "
             "streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-22 12:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n",
             hf_lsn_format(fake->start_lsn, lsn));
    make_control(fake, control);
    hf_test_tar_add_folder(&fake->tablespace, "PG_14_202107181/");
    hf_test_tar_add_folder(&fake->tablespace, "PG_14_202107181/5/");
    hf_test_tar_add_file(&fake->tablespace, "PG_14_202107181/5/16500", page, sizeof page);
    hf_test_tar_add_file(&fake->base, "backup_label", label, strlen(label));
    hf_test_tar_add_folder(&fake->base, "./pg_wal/");
    hf_test_tar_add_folder(&fake->base, "./pg_wal/archive_status/");
    hf_test_tar_add_folder(&fake->base, "base/");
    hf_test_tar_add_folder(&fake->base, "base/5/");
    hf_test_tar_add_file(&fake->base, "base/5/1259", page, sizeof page);
    hf_test_tar_add_file(&fake->base, "PG_VERSION", "14\n", 3);
    hf_test_tar_add_folder(&fake->base, "global/");
    hf_test_tar_add_file(&fake->base, "global/pg_control", control, sizeof control);
    if (version >= 15) { // before, the empty blocks at the end are not sent
        hf_test_tar_end(&fake->tablespace);
        hf_test_tar_end(&fake->base);
    }
    hf_test_fake_remake_manifest(fake);
}

void
hf_test_fake_remake_manifest(struct hf_test_fake *fake)
{
    uint8_t digest[HF_SHA256_BYTES];
    char hex[2 * HF_SHA256_BYTES + 1], start[HF_LSN_TEXT_BYTES], stop[HF_LSN_TEXT_BYTES];
    struct hf_error err;
    bool first = true;

    hf_buf_clear(&fake->manifest);
    hf_assert_ok(hf_buf_add_text(&fake->manifest, "{ \"PostgreSQL-Backup-Manifest-Version\": ", &err), &err);
    hf_assert_ok(fake->version >= 17 ? hf_buf_printf(&fake->manifest, &err, "2,\n\"System-Identifier\": %llu,\n",
                                                     (unsigned long long)fake->manifest_system)
                                     : hf_buf_add_text(&fake->manifest, "1,\n", &err),
                 &err);
    hf_assert_ok(hf_buf_add_text(&fake->manifest, "\"Files\": [", &err), &err);
    add_members(&fake->tablespace, "pg_tblspc/16400/", &fake->manifest, &first);
    add_members(&fake->base, "", &fake->manifest, &first);
    hf_assert_ok(hf_buf_printf(&fake->manifest, &err,
                               "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" "
                               "}\n],\n",
                               hf_lsn_format(fake->start_lsn, start), hf_lsn_format(fake->stop_lsn, stop)),
                 &err);
    hf_sha256(fake->manifest.data, fake->manifest.length, digest);
    hf_hex_format(digest, sizeof digest, hex);
    hf_assert_ok(hf_buf_printf(&fake->manifest, &err, "\"Manifest-Checksum\": \"%s\"}\n", hex), &err);
}

const char *
hf_test_fake_start(const struct hf_test_fake *fake)
{
    static char conninfo[2][256];
    static unsigned next;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const char *folder; // one for all servers of the program; each has its own port
    pthread_t thread = 0;

    if (folder == NULL)
        folder = hf_test_folder();
    unsigned port = FIRST_PORT + next++;

    struct server *server = hf_test_keep(sizeof *server);
    server->fake = hf_test_keep(sizeof *fake);
    *server->fake = *fake;
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%u", folder, port);
    if (bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(server->listener, 8) != 0 ||
        pthread_create(&thread, NULL, accept_sessions, server) != 0)
        fail_msg("no fake server");
    pthread_detach(thread);
    char *text = conninfo[next % 2];
    snprintf(text, sizeof conninfo[0], "host=%s port=%u user=fake dbname=fake", folder, port);
    return text;
}

uint64_t
hf_test_fake_flushed(void)
{
    return atomic_load(&flushed);
}

static void *
accept_sessions(void *argument)
{
    const struct server *server = argument;
    for (unsigned number = 0;; number++) {
        struct session *session = calloc(1, sizeof *session);
        pthread_t thread;
        if (session == NULL)
            return NULL;
        *session = (struct session){.fake = server->fake, .fd = accept(server->listener, NULL, NULL), .number = number};
        if (session->fd >= 0 && pthread_create(&thread, NULL, serve, session) == 0)
            pthread_detach(thread);
    }
}

static void *
serve(void *argument)
{
    struct session *session = argument;
    char type, query[QUERY_MOST];

    greet(session);
    while (!session->broken && read_query(session, &type, query) && type != 'X')
        if (type == 'Q')
            answer(session, query);
    close(session->fd);
    free(session);
    return NULL;
}

static void
greet(struct session *session)
{
    uint32_t length;
    uint8_t rest[QUERY_MOST];
    char version[32];

    if (recv(session->fd, &length, 4, MSG_WAITALL) != 4 || be32toh(length) > sizeof rest ||
        recv(session->fd, rest, be32toh(length) - 4, MSG_WAITALL) < 0) {
        session->broken = true;
        return;
    }
    send_message(session, 'R', "\0\0\0\0", 4);
    size_t at = (size_t)snprintf(version, sizeof version, "server_version%c%u.3", '\0', session->fake->version);
    send_message(session, 'S', version, at + 1);
    send_message(session, 'S', "client_encoding\0UTF8", 21);
    send_message(session, 'K', "\0\0\0\x2a\0\0\0\x2b", 8);
    send_message(session, 'Z', "I", 1);
}

static bool
read_query(struct session *session, char *type, char *query)
{
    uint32_t length;
    if (recv(session->fd, type, 1, MSG_WAITALL) != 1 || recv(session->fd, &length, 4, MSG_WAITALL) != 4)
        return false;
    length = be32toh(length) - 4;
    if (length >= QUERY_MOST || (length > 0 && recv(session->fd, query, length, MSG_WAITALL) != length))
        return false;
    query[length] = '\0';
    return true;
}

static void
answer(struct session *session, const char *query)
{
    if (strcmp(query, "IDENTIFY_SYSTEM") == 0)
        identify(session);
    else if (strncmp(query, "SHOW ", 5) == 0)
        show(session, query + 5);
    else if (strncmp(query, "CREATE_REPLICATION_SLOT ", 24) == 0)
        send_row(session, 4, (const char *const[]){"slot", "0/0", NULL, NULL});
    else if (strncmp(query, "BASE_BACKUP", 11) == 0) {
        base_backup(session);
        return;
    } else if (strncmp(query, "START_REPLICATION ", 18) == 0)
        replicate(session);
    else if (strncmp(query, "DROP_REPLICATION_SLOT ", 22) == 0)
        ;
    else
        send_error(session, 'E', "42601", query);
    send_text(session, 'C', "DONE");
    send_message(session, 'Z', "I", 1);
}

static void
identify(struct session *session)
{
    char system[32];
    snprintf(system, sizeof system, "%llu", (unsigned long long)HF_TEST_FAKE_SYSTEM);
    const char *said =
        session->number > 0 && session->fake->sysid_of_second != NULL ? session->fake->sysid_of_second : system;
    send_row(session, 4, (const char *const[]){said, "1", "0/500000", NULL});
}

static void
show(struct session *session, const char *setting)
{
    const char *value = strcmp(setting, "block_size") == 0         ? "8192"
                        : strcmp(setting, "segment_size") == 0     ? "1GB"
                        : strcmp(setting, "wal_segment_size") == 0 ? "1MB"
                                                                   : "on";
    send_row(session, 1, &value);
}

static void
base_backup(struct session *session)
{
    const struct hf_test_fake *fake = session->fake;
    char start[HF_LSN_TEXT_BYTES], stop[HF_LSN_TEXT_BYTES], timeline[16], stop_timeline[16];

    snprintf(timeline, sizeof timeline, "%u", fake->timeline);
    snprintf(stop_timeline, sizeof stop_timeline, "%u", fake->stop_timeline);
    for (size_t i = 0; i < fake->notices; i++)
        send_error(session, 'N', "01000", "take notice");
    send_row(session, 2, (const char *const[]){hf_lsn_format(fake->start_lsn, start), timeline});
    send_text(session, 'C', "SELECT");
    // Two rows under one description: the tablespace, then the data directory.
    send_row(session, 3, (const char *const[]){"16400", fake->location, "9"});
    uint8_t last[2 + 4 + 4 + 4 + 2] = {0, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, '2', '0'};
    send_message(session, 'D', last, sizeof last);
    send_text(session, 'C', "SELECT");

    if (fake->version >= 15)
        send_typed(session);
    else
        send_separate(session);
    if (session->broken || fake->error_in_copy != NULL)
        return;

    send_row(session, 2, (const char *const[]){hf_lsn_format(fake->stop_lsn, stop), stop_timeline});
    send_text(session, 'C', "SELECT");
    if (fake->error_late != NULL)
        send_error(session, 'E', fake->error_late, "checksum verification failure during base backup");
    else
        send_text(session, 'C', "BASE_BACKUP");
    send_message(session, 'Z', "I", 1);
}

/* PostgreSQL 15 and later: one copy. */
static void
send_typed(struct session *session)
{
    const struct hf_test_fake *fake = session->fake;
    char name[64];

    send_message(session, 'H', "\0\0\0", 3);
    if (fake->bytes_before)
        send_message(session, 'd', "dxyz", 4);
    size_t length = (size_t)snprintf(name, sizeof name, "n16400.tar%c%s", '\0', fake->location);
    send_message(session, 'd', name, length + 1);
    send_copy(session, 'd', &fake->tablespace, true);
    length = (size_t)snprintf(name, sizeof name, "n%s%c", fake->tar_name, '\0');
    send_message(session, 'd', name, length + 1);
    send_message(session, 'd', "p\0\0\0\0\0\0\x10\0", 9);
    send_oddities(session);
    if (fake->error_in_copy != NULL)
        return;
    send_copy(session, 'd', &fake->base, true);
    if (!fake->no_manifest) {
        send_message(session, 'd', "m", 1);
        send_copy(session, 'd', &fake->manifest, true);
    }
    if (fake->second_manifest)
        send_message(session, 'd', "m", 1);
    send_message(session, 'c', "", 0);
}

/* PostgreSQL 13 and 14: a copy for each. */
static void
send_separate(struct session *session)
{
    const struct hf_test_fake *fake = session->fake;
    const struct hf_buf *copies[] = {&fake->tablespace, &fake->base, &fake->manifest};

    for (size_t i = 0; i < (fake->no_manifest ? 2 : 3); i++) {
        send_message(session, 'H', "\0\0\0", 3);
        if (i == 1) {
            send_oddities(session);
            if (fake->error_in_copy != NULL)
                return;
        }
        send_copy(session, 'd', copies[i], false);
        send_message(session, 'c', "", 0);
    }
}

static void
send_oddities(struct session *session)
{
    const struct hf_test_fake *fake = session->fake;

    if (fake->odd_message != 0)
        send_message(session, 'd', &fake->odd_message, 1);
    if (fake->absurd_length != 0) {
        uint32_t length = htobe32(fake->absurd_length);
        send_bytes(session, "d", 1);
        send_bytes(session, &length, 4);
    }
    if (fake->error_in_copy != NULL) {
        send_error(session, 'E', fake->error_in_copy, "could not read file \"base/5/1259\": Input/output error");
        send_message(session, 'Z', "I", 1);
    }
}

static void
send_copy(struct session *session, char type, const struct hf_buf *bytes, bool typed)
{
    uint8_t message[65536];
    for (size_t at = 0; at < bytes->length; at += session->fake->piece) {
        size_t part = bytes->length - at < session->fake->piece ? bytes->length - at : session->fake->piece;
        message[0] = 'd';
        memcpy(message + typed, bytes->data + at, part);
        send_message(session, type, message, part + typed);
    }
}

static void
replicate(struct session *session)
{
    const struct hf_test_fake *fake = session->fake;
    const struct hf_test_wal *wal = &fake->wal;
    uint8_t alive[18] = {'k'};
    char type, query[QUERY_MOST];
    size_t pieces = 0;

    alive[17] = 1;
    send_message(session, 'W', "\0\0\0", 3);
    send_message(session, 'd', alive, sizeof alive);
    // A server that asks for an answer waits for it.
    if (!read_query(session, &type, query) || type != 'd' || query[0] != 'r')
        return;
    uint64_t flush;
    memcpy(&flush, query + 9, sizeof flush);
    atomic_store(&flushed, be64toh(flush));
    for (size_t at = 0; at < wal->length; at += 50000, pieces++) {
        size_t part = wal->length - at < 50000 ? wal->length - at : 50000;
        send_log(session, wal->start + at + (pieces == 1 ? fake->wal_jump : 0), wal->data + at, part);
    }
    if (fake->wal_ends) {
        send_message(session, 'c', "", 0);
        while (read_query(session, &type, query) && type != 'c')
            ;
        send_row(session, 2, (const char *const[]){"2", "0/600000"});
        return;
    }
    while (read_query(session, &type, query) && type != 'c')
        if (type == 'X')
            session->broken = true;
    send_message(session, 'c', "", 0);
}

static void
send_log(struct session *session, uint64_t position, const uint8_t *data, size_t length)
{
    uint8_t *message = calloc(1, 25 + length);
    uint64_t start = htobe64(position);
    if (message == NULL)
        return;
    message[0] = 'w';
    memcpy(message + 1, &start, 8);
    memcpy(message + 25, data, length);
    send_message(session, 'd', message, 25 + length);
    free(message);
}

static void
send_row(struct session *session, size_t columns, const char *const *values)
{
    uint8_t description[256] = {0}, row[1024] = {0};
    size_t at = 2, cell = 2;

    description[1] = row[1] = (uint8_t)columns;
    for (size_t i = 0; i < columns; i++) {
        description[at] = 'c';
        description[at + 11] = 25; // text
        at += 2 + 18;
        uint32_t length = values[i] == NULL ? UINT32_MAX : htobe32((uint32_t)strlen(values[i]));
        memcpy(row + cell, &length, 4);
        cell += 4;
        if (values[i] != NULL) {
            memcpy(row + cell, values[i], strlen(values[i]));
            cell += strlen(values[i]);
        }
    }
    send_message(session, 'T', description, at);
    send_message(session, 'D', row, cell);
}

static void
send_error(struct session *session, char type, const char *state, const char *text)
{
    char fields[2 * QUERY_MOST];
    int length = snprintf(fields, sizeof fields, "S%s%cV%s%cC%s%cM%s%c", type == 'E' ? "ERROR" : "WARNING", '\0',
                          type == 'E' ? "ERROR" : "WARNING", '\0', state, '\0', text, '\0');
    send_message(session, type, fields, (size_t)length + 1);
}

static void
send_text(struct session *session, char type, const char *text)
{
    send_message(session, type, text, strlen(text) + 1);
}

static void
send_message(struct session *session, char type, const void *data, size_t length)
{
    uint32_t size = htobe32((uint32_t)length + 4);
    send_bytes(session, &type, 1);
    send_bytes(session, &size, 4);
    send_bytes(session, data, length);
}

static void
send_bytes(struct session *session, const void *data, size_t length)
{
    const uint8_t *at = data;
    while (length > 0 && !session->broken) {
        ssize_t sent = send(session->fd, at, length, MSG_NOSIGNAL);
        session->broken = sent <= 0;
        at += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
    }
}

/* The regular files of a tar, as the manifest lists them. */
static void
add_members(const struct hf_buf *tar, const char *prefix, struct hf_buf *manifest, bool *first)
{
    struct hf_error err;

    for (size_t at = 0; at + BLOCK <= tar->length && tar->data[at] != '\0';) {
        const char *header = (const char *)tar->data + at;
        size_t size = strtoul(header + 124, NULL, 8);
        if (header[156] == '0') {
            uint8_t crc[4];
            char hex[9];
            hf_put_u32(crc, hf_crc32c(0, header + BLOCK, size));
            hf_hex_format(crc, sizeof crc, hex);
            hf_assert_ok(hf_buf_printf(manifest, &err,
                                       "%s\n{ \"Path\": \"%s%.100s\", \"Size\": %zu, \"Last-Modified\": \"2026-11-22 "
                                       "12:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%s\" }",
                                       *first ? "" : ",", prefix, header, size, hex),
                         &err);
            *first = false;
        }
        at += BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
    }
}

static void
make_control(const struct hf_test_fake *fake, uint8_t *control)
{
    memset(control, 0, 8192);
    hf_put_u64(control, HF_TEST_FAKE_SYSTEM);
    hf_put_u32(control + 8, fake->version >= 18 ? 1800 : fake->version == 17 ? 1700 : 1300);
    hf_put_u32(control + 216, 8192);
    hf_put_u32(control + 220, 131072);
    hf_put_u32(control + 224, 8192);
    hf_put_u32(control + 228, 1024 * 1024);
    hf_put_u32(control + 252, 1);
    size_t crc_at = fake->version >= 18 ? 292 : 288;
    hf_put_u32(control + crc_at, hf_crc32c(0, control, crc_at));
}

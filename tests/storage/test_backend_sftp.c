#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/storage/backend_sftp.h"
#include "server/storage/sftp_client.h"
#include "tests/support/sshd.h"

#define VAULT "vaults/00112233445566778899aabbccddeeff"
#define PACK  VAULT "/packs/ab/abcdefabcdefabcdefabcdefabcdefab"

/*
 * What the server answers to a sync: the truth, or from some call on, or for what looks like the root, that it failed.
 */
static struct {
    unsigned count, refused_from;
    bool folders_refused;
} syncs;

bool __real_hf_sftp_sync(struct hf_sftp *client, const struct hf_sftp_handle *handle, enum hf_sftp_code *ret_code,
                         struct hf_error *err);
bool __wrap_hf_sftp_sync(struct hf_sftp *client, const struct hf_sftp_handle *handle, enum hf_sftp_code *ret_code,
                         struct hf_error *err);
bool
__wrap_hf_sftp_sync(struct hf_sftp *client, const struct hf_sftp_handle *handle, enum hf_sftp_code *ret_code,
                    struct hf_error *err)
{
    if (!__real_hf_sftp_sync(client, handle, ret_code, err))
        return false;
    syncs.count++;
    if (syncs.folders_refused || (syncs.refused_from > 0 && syncs.count >= syncs.refused_from))
        *ret_code = HF_SFTP_FAILURE;
    return true;
}

static struct hf_test_sshd sshd;
static char root[160]; // of the repository there

static struct hf_backend *
open_there(const char *name)
{
    struct hf_error err;
    struct hf_backend *backend;
    const char *folder = hf_test_folder();
    if (sshd.port == 0)
        hf_test_sshd_start(&sshd, hf_test_folder(), NULL);
    snprintf(root, sizeof root, "%s/%s", folder, name);
    hf_assert_ok(hf_backend_make(hf_test_sshd_place(&sshd, root), &backend, &err), &err);
    return backend;
}

static char *
below(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static uint8_t *
noise(size_t length)
{
    uint8_t *bytes = malloc(length);
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < length; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (uint8_t)state;
    }
    return bytes;
}

static void
upload(struct hf_backend *backend, const char *name, const uint8_t *bytes, size_t length)
{
    struct hf_error err;
    _cleanup_(hf_upload_abortp) struct hf_upload *begun = NULL;
    hf_assert_ok(hf_upload_begin(backend, name, length, &begun, &err), &err);
    for (size_t at = 0; at < length;) {
        const size_t piece = length - at < 3000001 ? length - at : 3000001;
        hf_assert_ok(hf_upload_append(begun, bytes + at, piece, &err), &err);
        at += piece;
    }
    hf_upload_push(begun);
    hf_assert_ok(hf_upload_finish(&begun, &err), &err);
}

static bool
count_name(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    char *names = context;
    strcat(strcat(names, object->name), " ");
    return true;
}

HF_TEST(what_was_put_there_comes_back_whole_and_in_parts_and_lies_there_as_a_file)
{
    struct hf_error err;
    const size_t length = 9 * HF_MIB + 12345;
    _cleanup_(hf_freep) uint8_t *bytes = noise(length);
    _cleanup_(hf_freep) uint8_t *part = malloc(length);
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_there("whole");
    _cleanup_(hf_buf_done) struct hf_buf got = HF_BUF_INIT(16 * HF_MIB), file = HF_BUF_INIT(16 * HF_MIB);
    bool found;
    uint64_t size;

    upload(backend, PACK, bytes, length);
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);
    hf_assert_ok(hf_backend_get(backend, PACK, &got, &err), &err);
    assert_int_equal(got.length, length);
    assert_memory_equal(got.data, bytes, length);
    hf_assert_ok(hf_file_read(below(PACK), &file, &err), &err);
    assert_memory_equal(file.data, bytes, length);

    const size_t offsets[] = {0, 1, 32767, 32768, 32769, length - 1, length};
    for (size_t i = 0; i < HF_LENGTH(offsets); i++) {
        const size_t left = length - offsets[i] < 70000 ? length - offsets[i] : 70000;
        hf_assert_ok(hf_backend_get_range(backend, PACK, offsets[i], part, left, &err), &err);
        assert_memory_equal(part, bytes + offsets[i], left);
    }
    assert_false(hf_backend_get_range(backend, PACK, length, part, 1, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    hf_assert_ok(hf_backend_stat(backend, PACK, &found, &size, &err), &err);
    assert_true(found && size == length);

    // A buffer that is too small is told, and the connection goes on.
    _cleanup_(hf_buf_done) struct hf_buf small = HF_BUF_INIT(HF_KIB);
    assert_false(hf_backend_get(backend, PACK, &small, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_false(hf_backend_get(backend, "keys/none", &small, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);
    hf_assert_ok(hf_backend_stat(backend, PACK, &found, &size, &err), &err);
    assert_false(found);
}

HF_TEST(a_name_is_given_once_and_replaced_only_when_that_is_asked_for)
{
    struct hf_error err;
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_there("once");
    _cleanup_(hf_buf_done) struct hf_buf got = HF_BUF_INIT(HF_KIB);
    struct hf_backend_report report;

    hf_assert_ok(hf_backend_put_exclusive(backend, "keys/slot-1", "one", 3, &err), &err);
    assert_false(hf_backend_put_exclusive(backend, "keys/slot-1", "two", 3, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    _cleanup_(hf_upload_abortp) struct hf_upload *begun = NULL;
    hf_assert_ok(hf_upload_begin(backend, "keys/slot-1", 0, &begun, &err), &err);
    assert_false(hf_upload_finish(&begun, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    hf_assert_ok(hf_backend_get(backend, "keys/slot-1", &got, &err), &err);
    assert_string_equal(hf_buf_text(&got), "one");

    hf_buf_clear(&got);
    hf_assert_ok(hf_backend_replace(backend, "keys/slot-1", "three", 5, &err), &err);
    hf_assert_ok(hf_backend_get(backend, "keys/slot-1", &got, &err), &err);
    assert_string_equal(hf_buf_text(&got), "three");
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
    assert_true(report.exclusive_create && report.durable_sync);
    assert_int_equal(hf_backend_durability(backend), HF_DURABLE_SYNCED);
    bool empty;
    hf_assert_ok(hf_dir_is_empty(below("staging"), &empty, &err), &err);
    assert_true(empty);
}

HF_TEST(a_list_is_sorted_and_leaves_out_links_staging_and_foreign_names)
{
    struct hf_error err;
    char names[4096] = "";
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_there("list");
    const char *const put[] = {"keys/slot-b", "keys/slot-a", VAULT "/log/1", VAULT "/log-1", "a"};
    for (size_t i = 0; i < HF_LENGTH(put); i++)
        hf_assert_ok(hf_backend_put_exclusive(backend, put[i], "x", 1, &err), &err);
    assert_int_equal(symlink("slot-a", below("keys/slot-c")), 0);
    assert_int_equal(symlink("keys", below("linked")), 0);
    assert_int_equal(mkdir(below("lost+found"), 0700), 0);
    close(open(below("staging/left"), O_CREAT | O_WRONLY, 0600));
    hf_assert_ok(hf_backend_list(backend, "", count_name, names, &err), &err);
    assert_string_equal(names, "a keys/slot-a keys/slot-b " VAULT "/log-1 " VAULT "/log/1 ");
    names[0] = '\0';
    hf_assert_ok(hf_backend_list(backend, "keys/slot-b", count_name, names, &err), &err);
    assert_string_equal(names, "keys/slot-b ");
    names[0] = '\0';
    hf_assert_ok(hf_backend_list(backend, "nothing/", count_name, names, &err), &err);
    assert_string_equal(names, "");
    assert_false(hf_backend_get(backend, "keys/slot-c", &(struct hf_buf){.limit = 10}, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is not a regular file"));
}

HF_TEST(a_lock_that_a_local_repository_left_is_obeyed_and_none_can_be_made)
{
    struct hf_error err;
    bool found;
    uint64_t size;
    _cleanup_(hf_backend_freep) struct hf_backend *first = open_there("locks"), *local = NULL, *backend = NULL;
    hf_assert_ok(hf_backend_put_exclusive(first, "keys/a", "x", 1, &err), &err);
    hf_assert_ok(hf_backend_put_exclusive(first, "keys/b", "x", 1, &err), &err);
    hf_assert_ok(hf_backend_open(root, &local, &err), &err);
    hf_assert_ok(hf_backend_retain_until(local, "keys/a", 1, &err), &err);
    hf_assert_ok(hf_backend_open(hf_test_sshd_place(&sshd, root), &backend, &err), &err);
    assert_false(hf_backend_delete(backend, "keys/a", &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    hf_assert_ok(hf_backend_delete(backend, "keys/b", &err), &err);
    hf_assert_ok(hf_backend_stat(backend, "keys/a", &found, &size, &err), &err);
    assert_true(found);
    assert_false(hf_backend_retain_until(backend, "keys/a", 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(a_connection_cut_in_the_middle_of_an_upload_leaves_nothing_named_and_the_next_call_goes_on)
{
    struct hf_error err;
    uint64_t objects, bytes;
    _cleanup_(hf_freep) uint8_t *data = noise(4 * HF_MIB);
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_there("cut");
    _cleanup_(hf_upload_abortp) struct hf_upload *begun = NULL;
    bool found;
    uint64_t size;

    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &begun, &err), &err);
    hf_assert_ok(hf_upload_append(begun, data, 4 * HF_MIB, &err), &err);
    _cleanup_(hf_upload_abortp) struct hf_upload *idle = NULL;
    hf_assert_ok(hf_upload_begin(backend, PACK "11", 0, &idle, &err), &err);
    hf_test_sshd_stop(&sshd);
    assert_false(hf_upload_append(begun, data, 4 * HF_MIB, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "lost the connection"));
    assert_false(hf_backend_stat(backend, PACK, &found, &size, &err));
    assert_non_null(strstr(err.message, "refuses the connection"));
    assert_non_null(strstr(err.hint, "sshd"));

    hf_test_sshd_resume(&sshd);
    hf_assert_ok(hf_backend_stat(backend, PACK, &found, &size, &err), &err);
    assert_false(found);
    assert_false(hf_upload_finish(&begun, &err));
    // The other one saw no failure, but belongs to that connection, too: the new one may have a file under its handle.
    _cleanup_(hf_upload_abortp) struct hf_upload *next = NULL;
    hf_assert_ok(hf_upload_begin(backend, PACK "00", 0, &next, &err), &err);
    assert_false(hf_upload_finish(&idle, &err));
    assert_non_null(strstr(err.message, "could not finish"));
    hf_assert_ok(hf_upload_append(next, data, HF_MIB, &err), &err);
    hf_assert_ok(hf_upload_finish(&next, &err), &err);
    _cleanup_(hf_backend_freep) struct hf_backend *other = NULL;
    close(open(below(VAULT "/staging/left"), O_CREAT | O_WRONLY, 0600));
    hf_assert_ok(hf_backend_open(hf_test_sshd_place(&sshd, root), &other, &err), &err);
    hf_assert_ok(hf_backend_sweep(other, &objects, &bytes, &err), &err);
    assert_true(objects >= 1);
    hf_assert_ok(hf_dir_is_empty(below(VAULT "/staging"), &found, &err), &err);
    assert_true(found);
}

HF_TEST(a_full_disk_there_is_told_as_such)
{
    struct hf_error err;
    if (geteuid() != 0)
        HF_TEST_SKIP("mounting a small disk needs root");
    _cleanup_(hf_freep) uint8_t *data = noise(8 * HF_MIB);
    struct hf_backend *backend = open_there("full");
    if (mount("tmpfs", root, "tmpfs", 0, "size=4m") != 0) {
        hf_backend_freep(&backend);
        HF_TEST_SKIP("no mounting here");
    }
    struct hf_upload *begun;
    assert_false(hf_upload_begin(backend, PACK, 8 * HF_MIB, &begun, &err)); // asked beforehand
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &begun, &err), &err);
    assert_false(hf_upload_append(begun, data, 8 * HF_MIB, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, "is full"));
    hf_upload_abortp(&begun);
    uint64_t left;
    hf_assert_ok(hf_backend_free_space(backend, &left, &err), &err);
    assert_true(left > 3 * HF_MIB);
    hf_backend_freep(&backend);
    umount2(root, MNT_DETACH);
}

HF_TEST(what_stands_between_us_and_the_host_is_named_with_its_remedy)
{
    struct hf_error err;
    struct hf_backend *backend;
    struct hf_backend *first = open_there("errors"); // makes the folder
    hf_backend_freep(&first);
    struct hf_test_sshd wrong = sshd;
    char place[256];

    // A host whose key is not known, and one whose key has changed.
    snprintf(wrong.known_hosts, sizeof wrong.known_hosts, "%s/empty", sshd.folder);
    close(open(wrong.known_hosts, O_CREAT | O_WRONLY, 0600));
    hf_test_sshd_use(&wrong);
    assert_false(hf_backend_open(hf_test_sshd_place(&sshd, root), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "the key of the host is not known"));
    assert_non_null(strstr(err.hint, "ssh.known_hosts"));
    char text[256];
    snprintf(text, sizeof text,
             "[127.0.0.1]:%u ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILLQlXWbxTj2RuGcgc3kaGSx+WDm0FmtLQyBbvp3ohQn\n",
             sshd.port);
    hf_assert_ok(hf_file_publish(wrong.known_hosts, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
    assert_false(hf_backend_open(hf_test_sshd_place(&sshd, root), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "is not the one that is known"));

    // A key that is not let in: the host's own, for instance.
    wrong = sshd;
    snprintf(wrong.identity, sizeof wrong.identity, "%s/host", sshd.folder);
    hf_test_sshd_use(&wrong);
    assert_false(hf_backend_open(hf_test_sshd_place(&sshd, root), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.hint, "authorized_keys"));
    hf_test_sshd_use(&sshd);

    snprintf(place, sizeof place, "ssh://127.0.0.1:1%s", root);
    assert_false(hf_backend_open(place, &backend, &err));
    assert_non_null(strstr(err.message, "refuses the connection"));
    assert_false(hf_backend_open("ssh://no-such-host.invalid/backups", &backend, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "name of the host is not known"));
    assert_false(hf_backend_open(hf_test_sshd_place(&sshd, "/no/such/folder"), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_false(hf_backend_make(hf_test_sshd_place(&sshd, "/no/such/folder"), &backend, &err));
    assert_non_null(strstr(err.hint, "Only the last folder"));
}

HF_TEST(a_server_that_lacks_what_durability_needs_is_refused_by_name)
{
    struct hf_error err;
    const struct {
        const char *config, *lacks;
    } lesser[] = {{"ForceCommand internal-sftp -P fsync\n", "lacks fsync@openssh.com"},
                  {"ForceCommand internal-sftp -P hardlink\n", "lacks hardlink@openssh.com"},
                  {"ForceCommand internal-sftp -P posix-rename\n", "lacks posix-rename@openssh.com"},
                  {"ForceCommand /bin/false\n", "lost the connection"},
                  {"ForceCommand echo hello there, this is a login script\n", "sent a message of"}};
    for (size_t i = 0; i < HF_LENGTH(lesser); i++) {
        struct hf_test_sshd server;
        struct hf_backend *backend;
        const char *folder = hf_test_folder();
        hf_test_sshd_start(&server, folder, lesser[i].config);
        assert_false(hf_backend_open(hf_test_sshd_place(&server, folder), &backend, &err));
        if (strstr(err.message, lesser[i].lacks) == NULL)
            fail_msg("%s: %s", lesser[i].config, err.message);
        assert_true(err.hint[0] != '\0');
        hf_test_sshd_stop(&server);
    }

    // Without the subsystem at all.
    struct hf_test_sshd server;
    struct hf_backend *backend;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_KIB);
    hf_test_sshd_start(&server, hf_test_folder(), NULL);
    hf_assert_ok(hf_file_read(server.config, &text, &err), &err);
    memcpy(strstr((char *)text.data, "Subsystem sftp "), "Subsystem none ", 15);
    memcpy(strstr((char *)text.data, "ForceCommand"), "#orceCommand", 12);
    hf_assert_ok(hf_file_publish(server.config, text.data, text.length, 0600, HF_PUBLISH_REPLACE, &err), &err);
    hf_test_sshd_stop(&server);
    hf_test_sshd_resume(&server);
    assert_false(hf_backend_open(hf_test_sshd_place(&server, "/tmp"), &backend, &err));
    assert_non_null(strstr(err.message, "the host offers no SFTP"));
    assert_non_null(strstr(err.hint, "internal-sftp"));
    hf_test_sshd_stop(&server);
    if (sshd.port != 0)
        hf_test_sshd_use(&sshd);
}

HF_TEST(without_statvfs_nothing_is_known_of_the_room_and_all_else_works)
{
    struct hf_error err;
    struct hf_test_sshd server;
    uint64_t left;
    const char *folder = hf_test_folder();
    hf_test_sshd_start(&server, folder, "ForceCommand internal-sftp -P statvfs\n");
    struct hf_backend *backend;
    hf_assert_ok(hf_backend_open(hf_test_sshd_place(&server, folder), &backend, &err), &err);
    hf_assert_ok(hf_backend_free_space(backend, &left, &err), &err);
    assert_true(left == UINT64_MAX);
    hf_assert_ok(hf_backend_put_exclusive(backend, "keys/a", "x", 1, &err), &err);
    hf_backend_freep(&backend);
    hf_test_sshd_stop(&server);
    if (sshd.port != 0)
        hf_test_sshd_use(&sshd);
}

HF_TEST(where_folders_cannot_be_synced_the_lesser_durability_is_named_and_a_file_that_cannot_is_never_named)
{
    struct hf_error err;
    bool found;
    uint64_t size;
    syncs.folders_refused = true;
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_there("lesser");
    assert_int_equal(hf_backend_durability(backend), HF_DURABLE_CONTENTS);
    assert_string_equal(hf_durability_name(hf_backend_durability(backend)), "contents");
    syncs.folders_refused = false; // it was asked once, and is not asked again
    hf_assert_ok(hf_backend_put_exclusive(backend, "keys/a", "x", 1, &err), &err);
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);
    syncs.refused_from = syncs.count + 1;
    assert_false(hf_backend_put_exclusive(backend, "keys/b", "x", 1, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.hint, "quota"));
    syncs.refused_from = 0;
    hf_assert_ok(hf_backend_stat(backend, "keys/b", &found, &size, &err), &err);
    assert_false(found);

    // A folder whose sync fails once: what was named before may be gone, and no barrier of this handle says otherwise.
    _cleanup_(hf_backend_freep) struct hf_backend *other = open_there("unsure");
    upload(other, PACK, (const uint8_t *)"x", 1);
    syncs.refused_from = syncs.count + 1;
    assert_false(hf_backend_barrier(other, &err));
    syncs.refused_from = 0;
    assert_false(hf_backend_barrier(other, &err));
    assert_non_null(strstr(err.message, "may not last"));
}

/*
 * A server that does not keep to the protocol, in one way each: greets well, and then answers with what is asked for
 * here.
 */
static const char hostile[] =
    "import struct, sys\n"
    "way = sys.argv[1]\n"
    "get = lambda n: sys.stdin.buffer.read(n)\n"
    "def put(b):\n"
    "    sys.stdout.buffer.write(struct.pack('>I', len(b)) + b)\n"
    "    sys.stdout.buffer.flush()\n"
    "text = lambda t: struct.pack('>I', len(t)) + t\n"
    "get(9)\n"
    "names = [b'fsync@openssh.com', b'hardlink@openssh.com', b'posix-rename@openssh.com']\n"
    "put(bytes([2]) + struct.pack('>I', 6 if way == 'version' else 3) + b''.join(text(n) + text(b'1') for n in "
    "names))\n"
    "attributes = lambda mode: struct.pack('>IQI', 5, 100, mode)\n"
    "while True:\n"
    "    head = get(9)\n"
    "    if len(head) < 9: break\n"
    "    length, kind, id = struct.unpack('>IBI', head)\n"
    "    rest = get(length - 5)\n"
    "    at = struct.pack('>I', id)\n"
    "    status = lambda code: put(bytes([101]) + at + struct.pack('>I', code) + text(b'') + text(b''))\n"
    "    if kind == 7: put(bytes([105]) + at + attributes(0o100644 if b'keys/' in rest else 0o40755) if not "
    "rest.endswith(b'locks') else bytes([101]) + at + struct.pack('>I', 2) + text(b'') + text(b''))\n"
    "    elif kind in (3, 11): put(bytes([102]) + at + text(b'h'))\n"
    "    elif kind in (4, 200): status(0)\n"
    "    elif kind == 5 and way == 'longer': put(bytes([103]) + at + text(b'x' * 101))\n"
    "    elif kind == 5 and way == 'empty': put(bytes([103]) + at + text(b''))\n"
    "    elif kind == 5 and way == 'end': status(1)\n"
    "    elif kind == 5 and way == 'id': put(bytes([103]) + struct.pack('>I', id + 7) + text(b'x' * 100))\n"
    "    elif kind == 5 and way == 'twice': put(bytes([103]) + at + text(b'x' * 100)); put(bytes([103]) + at + "
    "text(b'x' * 100))\n"
    "    elif kind == 5 and way == 'type': put(bytes([102]) + at + text(b'h'))\n"
    "    elif kind == 5 and way == 'huge': sys.stdout.buffer.write(b'\\xff\\xff\\xff\\xff' + b'x' * 100); "
    "sys.stdout.buffer.flush()\n"
    "    elif kind == 5 and way == 'leave': break\n"
    "    elif kind == 5: put(bytes([103]) + at + text(b'x' * min(30, struct.unpack('>I', rest[-4:])[0])))\n"
    "    elif kind == 12 and way == 'names': put(bytes([104]) + at + struct.pack('>I', 0))\n"
    "    elif kind == 12 and way == 'many': put(bytes([104]) + at + struct.pack('>I', 5) + text(b'a'))\n"
    "    elif kind == 12: status(1)\n"
    "    else: status(8)\n";

HF_TEST(a_server_that_does_not_keep_to_the_protocol_is_not_believed)
{
    struct hf_error err;
    char script[300], more[400];
    const struct {
        const char *way;
        const char *says; // of reading an object of 100 bytes; NULL: it is read
    } ways[] = {{"short", NULL},
                {"version", "speaks version 6"},
                {"longer", "does not fit the request"},
                {"empty", "does not fit the request"},
                {"end", "ended while it was read"},
                {"id", "is not under way"},
                {"twice", "is not under way"},
                {"type", "does not fit the request"},
                {"huge", "sent a message of 4294967295 bytes"},
                {"leave", "lost the connection"}};
    snprintf(script, sizeof script, "%s/hostile.py", hf_test_folder());
    hf_assert_ok(hf_file_publish(script, hostile, strlen(hostile), 0644, HF_PUBLISH_REPLACE, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(ways); i++) {
        struct hf_test_sshd server;
        struct hf_backend *backend;
        uint8_t got[100];
        snprintf(more, sizeof more, "ForceCommand /usr/bin/python3 %s %s\n", script, ways[i].way);
        hf_test_sshd_start(&server, hf_test_folder(), more);
        bool read = hf_backend_open(hf_test_sshd_place(&server, "/place"), &backend, &err);
        if (read) {
            read = hf_backend_get_range(backend, "keys/a", 0, got, sizeof got, &err);
            hf_backend_freep(&backend);
        }
        if (read != (ways[i].says == NULL) || (!read && strstr(err.message, ways[i].says) == NULL))
            fail_msg("%s: %s", ways[i].way, read ? "was read" : err.message);
        hf_test_sshd_stop(&server);
    }
    for (int many = 0; many <= 1; many++) {
        struct hf_test_sshd server;
        struct hf_backend *backend;
        char names[100] = "";
        snprintf(more, sizeof more, "ForceCommand /usr/bin/python3 %s %s\n", script, many ? "many" : "names");
        hf_test_sshd_start(&server, hf_test_folder(), more);
        hf_assert_ok(hf_backend_open(hf_test_sshd_place(&server, "/place"), &backend, &err), &err);
        assert_false(hf_backend_list(backend, "", count_name, names, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        hf_backend_freep(&backend);
        hf_test_sshd_stop(&server);
    }
    if (sshd.port != 0)
        hf_test_sshd_use(&sshd);
}

HF_TEST(places_are_read_strictly)
{
    struct hf_error err;
    struct hf_ssh_place place;
    hf_assert_ok(hf_ssh_place_parse("ssh://backup@vault.example:2222/srv/holdfast/", &place, &err), &err);
    assert_string_equal(place.user, "backup");
    assert_string_equal(place.host, "vault.example");
    assert_string_equal(place.port, "2222");
    assert_string_equal(place.path, "/srv/holdfast");
    hf_assert_ok(hf_ssh_place_parse("ssh://[fe80::1%eth0]/a b", &place, &err), &err);
    assert_string_equal(place.host, "fe80::1%eth0");
    const char *const bad[] = {
        "ssh://host",      "ssh:///path",        "ssh://-oProxyCommand=x/p", "ssh://u@/p",       "ssh://@host/p",
        "ssh://host:0/p",  "ssh://host:65536/p", "ssh://host:x/p",           "ssh://host:/p",    "ssh://h ost/p",
        "ssh://host/",     "ssh://host/../etc",  "ssh://host/a\nb",          "s3://bucket/path", "relative",
        "ssh://-u@host/p", "ssh://[::1/p",       "ssh://host/a/..",          "ssh://a@b@c/p",    ""};
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        if (hf_ssh_place_parse(bad[i], &place, &err))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_non_null(strstr(err.hint, "ssh://[user@]host[:port]/absolute/path"));
    }
}

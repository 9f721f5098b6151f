#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/storage/backend.h"

#define VAULT "vaults/00112233445566778899aabbccddeeff"
#define PACK  VAULT "/packs/ab/abcdefabcdefabcdefabcdefabcdefab"

/*
 * What the calls that touch the disk do.  Each is counted; call number `at` fails, or kills the process before it
 * happens; what was synced and moved is written down in order.
 */
static struct {
    enum { AS_EVER, FAIL, DIE } how;
    unsigned at;
    _Atomic unsigned calls;
    int system; // the errno of the failure
    bool no_noreplace, replaces, no_fallocate;
    char journal[4096];
} disk;

static bool
disk_refuses(void)
{
    unsigned call = ++disk.calls;
    if (disk.how == DIE && call == disk.at)
        kill(getpid(), SIGKILL);
    if (disk.how == FAIL && call == disk.at) {
        errno = disk.system == 0 ? EIO : disk.system;
        return true;
    }
    return false;
}

static void
note(const char *verb, int fd, const char *name)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char link[64], path[512] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = '\0';
    const char *shown = strstr(path, "/repo"); // each test's repository is called that
    pthread_mutex_lock(&lock);
    size_t used = strlen(disk.journal);
    snprintf(disk.journal + used, sizeof disk.journal - used, "%s %s%s%s\n", verb, shown == NULL ? path : shown + 5,
             name[0] == '\0' ? "" : "/", name);
    pthread_mutex_unlock(&lock);
}

static void
let_disk_be(void)
{
    memset(&disk, 0, sizeof disk);
}

#define WRAP(type, name, arguments, forwarded, noted)                                                                  \
    type __real_##name arguments;                                                                                      \
    type __wrap_##name arguments;                                                                                      \
    type __wrap_##name arguments                                                                                       \
    {                                                                                                                  \
        if (disk_refuses())                                                                                            \
            return -1;                                                                                                 \
        noted;                                                                                                         \
        return __real_##name forwarded;                                                                                \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t length), (fd, data, length), (void)0)
WRAP(int, fdatasync, (int fd), (fd), note("fdatasync", fd, ""))
WRAP(int, fsync, (int fd), (fd), note("fsync", fd, ""))
WRAP(int, linkat, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags),
     note("link", to, new))
WRAP(int, mkdirat, (int at, const char *name, mode_t mode), (at, name, mode), note("mkdir", at, name))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), (void)0)
WRAP(int, ftruncate64, (int fd, off_t length), (fd, length), (void)0)

int __real_renameat2(int from, const char *old, int to, const char *new, unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *new, unsigned flags);
int
__wrap_renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    if (disk_refuses())
        return -1;
    if (disk.no_noreplace) {
        errno = EINVAL;
        return -1;
    }
    note("rename", to, new);
    return __real_renameat2(from, old, to, new, disk.replaces ? 0 : flags);
}

int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);
int
__wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
    if (disk_refuses())
        return -1;
    if (disk.no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return __real_fallocate64(fd, mode, offset, length);
}

/* What another process does between two steps of ours: just before the next lock is taken. */
static void (*before_lock)(void);

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int
__wrap_flock(int fd, int operation)
{
    void (*interfere)(void) = before_lock;
    before_lock = NULL;
    if (interfere != NULL)
        interfere();
    return __real_flock(fd, operation);
}

static const char *
in(const char *folder, const char *name)
{
    static char paths[4][512];
    static size_t next;
    char *path = paths[next++ % HF_LENGTH(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A repository's folder of its own. */
static const char *
new_folder(void)
{
    static const char *root;
    static unsigned count;
    static char folders[256][64]; // they live as long as the test program
    if (root == NULL)
        root = hf_test_folder();
    assert_true(count < HF_LENGTH(folders));
    char *folder = folders[count++];
    snprintf(folder, sizeof folders[0], "%s/%u", root, count);
    assert_int_equal(mkdir(folder, 0700), 0);
    strcat(folder, "/repo");
    assert_int_equal(mkdir(folder, 0700), 0);
    let_disk_be();
    return folder;
}

static struct hf_backend *
open_backend(const char *folder)
{
    struct hf_backend *backend;
    struct hf_error err;
    hf_assert_ok(hf_backend_open_local(folder, &backend, &err), &err);
    return backend;
}

static void
upload(struct hf_backend *backend, const char *name, const char *text)
{
    struct hf_upload *writing;
    struct hf_error err;
    hf_assert_ok(hf_upload_begin(backend, name, 0, &writing, &err), &err);
    hf_assert_ok(hf_upload_append(writing, text, strlen(text), &err), &err);
    hf_assert_ok(hf_upload_finish(&writing, &err), &err);
}

static void
put(struct hf_backend *backend, const char *name, const char *text)
{
    struct hf_error err;
    hf_assert_ok(hf_backend_put_exclusive(backend, name, text, strlen(text), &err), &err);
}

static void
assert_holds(struct hf_backend *backend, const char *name, const char *text)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_backend_get(backend, name, &bytes, &err), &err);
    assert_string_equal(hf_buf_text(&bytes), text);
}

static bool
exists(struct hf_backend *backend, const char *name)
{
    bool found;
    uint64_t size;
    struct hf_error err;
    hf_assert_ok(hf_backend_stat(backend, name, &found, &size, &err), &err);
    return found;
}

/* Files in a folder of the repository; 0 when it is not there. */
static size_t
count_files(const char *folder, const char *name)
{
    char **names = NULL;
    size_t count = 0;
    if (!hf_dir_list(in(folder, name), 1000, &names, &count, NULL))
        return 0;
    hf_strv_freep(&names);
    return count;
}

static void
make_file(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(__real_write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

HF_TEST(a_folder_that_is_missing_or_a_file_is_no_repository)
{
    const char *folder = new_folder();
    struct hf_backend *backend = NULL;
    struct hf_error err;
    make_file(in(folder, "file"), "");

    assert_false(hf_backend_open_local(in(folder, "missing"), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "could not open repository folder"));
    assert_false(hf_backend_open_local(in(folder, "file"), &backend, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_null(backend);
}

HF_TEST(opening_and_reading_leave_an_empty_folder_empty)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;
    uint64_t objects, bytes;
    bool empty;

    assert_false(exists(backend, PACK));
    hf_assert_ok(hf_backend_list(backend, "", NULL, NULL, &err), &err);
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);
    hf_assert_ok(hf_backend_sweep(backend, &objects, &bytes, &err), &err);
    hf_assert_ok(hf_dir_is_empty(folder, &empty, &err), &err);
    assert_true(empty);
}

HF_TEST(an_object_appears_whole_when_it_is_finished)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    bool found;
    uint64_t size;
    char middle[5] = "";

    hf_assert_ok(hf_upload_begin(backend, PACK, 100000, &writing, &err), &err);
    hf_assert_ok(hf_upload_append(writing, "one ", 4, &err), &err);
    hf_upload_push(writing);
    hf_assert_ok(hf_upload_append(writing, "two ", 4, &err), &err);
    hf_upload_push(writing);
    hf_upload_push(writing);
    hf_assert_ok(hf_upload_append(writing, "three", 5, &err), &err);
    assert_false(exists(backend, PACK));
    hf_assert_ok(hf_upload_finish(&writing, &err), &err);
    assert_null(writing);
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);

    assert_holds(backend, PACK, "one two three");
    hf_assert_ok(hf_backend_stat(backend, PACK, &found, &size, &err), &err);
    assert_true(found);
    assert_int_equal(size, 13);
    hf_assert_ok(hf_backend_get_range(backend, PACK, 4, middle, 3, &err), &err);
    assert_string_equal(middle, "two");
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(room_that_was_reserved_and_not_used_is_given_back)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    struct stat status;

    hf_assert_ok(hf_upload_begin(backend, PACK, HF_MIB, &writing, &err), &err);
    assert_int_equal(stat(in(folder, VAULT "/staging/abcdefabcdefabcdefabcdefabcdefab"), &status), 0);
    assert_true(status.st_blocks * 512 >= (blkcnt_t)HF_MIB);
    hf_assert_ok(hf_upload_append(writing, "little", 6, &err), &err);
    hf_assert_ok(hf_upload_finish(&writing, &err), &err);
    assert_int_equal(stat(in(folder, PACK), &status), 0);
    assert_int_equal(status.st_size, 6);
    assert_true(status.st_blocks * 512 <= 64 * 1024);
}

HF_TEST(objects_are_read_only_and_folders_are_private)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct stat status;
    upload(backend, PACK, "pack");
    put(backend, VAULT "/log/0000000000000001", "entry");

    assert_int_equal(stat(in(folder, PACK), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0400);
    assert_int_equal(stat(in(folder, VAULT "/log/0000000000000001"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0400);
    const char *const folders[] = {"vaults", VAULT, VAULT "/packs", VAULT "/packs/ab", VAULT "/staging", VAULT "/log"};
    for (size_t i = 0; i < HF_LENGTH(folders); i++) {
        assert_int_equal(stat(in(folder, folders[i]), &status), 0);
        assert_int_equal(status.st_mode & 07777, 0700);
    }
}

HF_TEST(an_aborted_upload_leaves_nothing)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_upload *writing;
    struct hf_error err;
    hf_assert_ok(hf_upload_begin(backend, PACK, 1000, &writing, &err), &err);
    hf_assert_ok(hf_upload_append(writing, "half", 4, &err), &err);
    hf_upload_abortp(&writing);

    assert_null(writing);
    assert_false(exists(backend, PACK));
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(a_name_that_exists_is_never_written_over)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    upload(backend, PACK, "first");

    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &writing, &err), &err);
    hf_assert_ok(hf_upload_append(writing, "second", 6, &err), &err);
    assert_false(hf_upload_finish(&writing, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "\"" PACK "\" exists already"));
    assert_null(writing);
    assert_false(hf_backend_put_exclusive(backend, PACK, "third", 5, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_holds(backend, PACK, "first");
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(one_pack_id_is_not_begun_twice_at_once)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL, *again = NULL;
    struct hf_error err;
    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &writing, &err), &err);

    assert_false(hf_upload_begin(backend, PACK, 0, &again, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_null(again);
    hf_assert_ok(hf_upload_finish(&writing, &err), &err); // its file was not touched
}

HF_TEST(names_that_no_object_can_have_are_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    char longest[257];
    memset(longest, 'a', sizeof longest);
    longest[256] = '\0';
    const char *const names[] = {
        "",    "/a",  "a/",  "a//b", ".",     "..",        "a/../b",           "a/./b",   ".a/b",    "a/.b", "A",
        "a b", "a\n", "a_b", "a\\b", longest, "staging/a", VAULT "/staging/a", "locks/a", "\xc3\xa4"};
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        struct hf_upload *writing;
        struct hf_error err;
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(10);
        bool found;
        uint64_t size;
        assert_false(hf_upload_begin(backend, names[i], 0, &writing, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_false(hf_backend_put_exclusive(backend, names[i], "", 0, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_false(hf_backend_get(backend, names[i], &bytes, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_false(hf_backend_stat(backend, names[i], &found, &size, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_false(hf_backend_delete(backend, names[i], &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_false(hf_backend_retain_until(backend, names[i], 1, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
    longest[255] = '\0';
    put(backend, longest, "255 bytes are fine");
    put(backend, "a.b-0/c.d", "so are dots inside");
}

HF_TEST(reading_says_what_is_missing_cut_off_or_too_long)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(9);
    struct hf_error err;
    char part[16];
    put(backend, "keys/slot-1", "ten bytes!");

    assert_false(hf_backend_get(backend, "keys/slot-2", &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "has no \"keys/slot-2\""));
    assert_false(hf_backend_get(backend, "keys/slot-1", &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_string_equal(err.message, "\"keys/slot-1\" has 10 bytes, more than the 9 it may have");
    assert_int_equal(bytes.length, 0);
    assert_false(hf_backend_get_range(backend, "keys/slot-1", 4, part, 7, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "\"keys/slot-1\" ends at byte 10, and 7 bytes from byte 4 were asked for");
    assert_false(hf_backend_get_range(backend, "keys/slot-1", UINT64_MAX, part, 1, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
}

HF_TEST(links_pipes_and_folders_are_never_taken_for_objects)
{
    const char *folder = new_folder(), *outside = hf_test_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    make_file(in(outside, "secret"), "not ours");
    assert_int_equal(mkdir(in(folder, "keys"), 0700), 0);
    assert_int_equal(symlink(in(outside, "secret"), in(folder, "keys/link")), 0);
    assert_int_equal(mkfifo(in(folder, "keys/pipe"), 0600), 0);
    assert_int_equal(mkdir(in(folder, "keys/folder"), 0700), 0);
    assert_int_equal(symlink(outside, in(folder, "vaults")), 0);

    const char *const names[] = {"keys/link", "keys/pipe", "keys/folder", "vaults/secret"};
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(100);
        struct hf_error err;
        bool found;
        uint64_t size;
        char byte;
        assert_false(hf_backend_get(backend, names[i], &bytes, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, names[i]));
        assert_false(hf_backend_get_range(backend, names[i], 0, &byte, 1, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_false(hf_backend_stat(backend, names[i], &found, &size, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_false(hf_backend_put_exclusive(backend, names[i], "ours", 4, &err));
    }
    struct hf_upload *writing;
    struct hf_error err;
    assert_false(hf_upload_begin(backend, PACK, 0, &writing, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_int_equal(count_files(outside, "."), 1); // nothing was made behind the link
    hf_assert_ok(hf_backend_delete(backend, "keys/link", &err), &err);
    assert_int_equal(access(in(outside, "secret"), F_OK), 0);
}

HF_TEST(a_disk_mounted_inside_the_repository_is_refused_and_not_written_to)
{
    const char *folder = new_folder();
    assert_int_equal(mkdir(in(folder, "vaults"), 0700), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { // a mount that nobody else sees
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", in(folder, "vaults"), "tmpfs", 0, NULL) != 0)
            _exit(77);
        struct hf_backend *backend;
        struct hf_error err;
        bool opened = hf_backend_open_local(folder, &backend, &err);
        bool refused = opened && !hf_backend_put_exclusive(backend, VAULT "/log/1", "", 0, &err) &&
                       err.kind == HF_ERR_USAGE && strstr(err.message, "lies on another file system") != NULL;
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        HF_TEST_SKIP("mounting is not allowed here");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct listing {
    char text[2048];
};

static bool
note_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct listing *listing = context;
    size_t used = strlen(listing->text);
    snprintf(listing->text + used, sizeof listing->text - used, "%s %ju\n", object->name, (uintmax_t)object->size);
    assert_true(object->modified_at > hf_time_now_ms() - 60000 && object->modified_at <= hf_time_now_ms() + 1000);
    return true;
}

static const char *
list(struct hf_backend *backend, const char *prefix)
{
    static struct listing listing;
    struct hf_error err;
    listing.text[0] = '\0';
    hf_assert_ok(hf_backend_list(backend, prefix, note_object, &listing, &err), &err);
    return listing.text;
}

HF_TEST(a_list_is_sorted_by_whole_names_and_holds_only_objects)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    put(backend, "holdfast-repository", "1");
    put(backend, "a/x", "22");
    put(backend, "a-b", "333");
    put(backend, "a.b", "4444");
    put(backend, "a0", "55555");
    put(backend, "a/b/c/d", "");
    put(backend, VAULT "/log/0000000000000001", "x");
    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &writing, &err), &err);
    hf_assert_ok(hf_backend_retain_until(backend, "a0", 1, &err), &err);
    assert_int_equal(mkdir(in(folder, "lost+found"), 0700), 0);
    make_file(in(folder, "lost+found/a"), "");
    make_file(in(folder, "Notes.txt"), "");
    make_file(in(folder, ".hidden"), "");
    assert_int_equal(symlink("a0", in(folder, "link")), 0);
    assert_int_equal(mkfifo(in(folder, "pipe"), 0600), 0);

    assert_string_equal(list(backend, ""), "a-b 3\na.b 4\na/b/c/d 0\na/x 2\na0 5\nholdfast-repository 1\n" VAULT
                                           "/log/0000000000000001 1\n");
    assert_string_equal(list(backend, "a/"), "a/b/c/d 0\na/x 2\n");
    assert_string_equal(list(backend, "a"), "a-b 3\na.b 4\na/b/c/d 0\na/x 2\na0 5\n");
    assert_string_equal(list(backend, "a/b/c/d"), "a/b/c/d 0\n");
    assert_string_equal(list(backend, "missing/"), "");
    assert_false(hf_backend_list(backend, "../", note_object, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

static bool
stop_at_once(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)context;
    return hf_fail(err, HF_ERR_CANCELLED, "seen \"%s\"", object->name);
}

HF_TEST(a_visitor_can_end_a_listing)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    struct hf_error err;
    put(backend, "a/b/c", "");
    put(backend, "a/b/d", "");
    assert_false(hf_backend_list(backend, "", stop_at_once, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    assert_string_equal(err.message, "seen \"a/b/c\"");
}

HF_TEST(the_deepest_name_can_be_listed)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    char name[256];
    for (size_t i = 0; i < 255; i++)
        name[i] = i % 2 == 0 ? 'a' : '/';
    name[255] = '\0';
    put(backend, name, "down here");
    assert_holds(backend, name, "down here");
    assert_non_null(strstr(list(backend, ""), name));
}

HF_TEST(deleting_is_durable_and_a_missing_object_is_fine)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;
    upload(backend, PACK, "pack");
    let_disk_be();
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);
    assert_false(exists(backend, PACK));
    assert_string_equal(disk.journal, "fsync /" VAULT "/packs/ab\n");
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);

    disk.how = FAIL;
    disk.at = disk.calls + 1;
    assert_false(hf_backend_delete(backend, PACK, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
}

HF_TEST(a_locked_object_cannot_be_deleted_and_its_lock_only_grows)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;
    int64_t now = hf_time_now_ms();
    upload(backend, PACK, "pack");
    hf_assert_ok(hf_backend_retain_until(backend, PACK, now + 3600000, &err), &err);
    hf_assert_ok(hf_backend_retain_until(backend, PACK, now - 1000, &err), &err); // does not shorten

    assert_false(hf_backend_delete(backend, PACK, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "\"" PACK "\" is locked until 20"));
    assert_holds(backend, PACK, "pack");

    // A new process of ours knows the lock as well.
    _cleanup_(hf_backend_freep) struct hf_backend *other = open_backend(folder);
    assert_false(hf_backend_delete(other, PACK, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_false(hf_backend_retain_until(backend, "keys/missing", now, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

HF_TEST(a_lock_that_has_ended_goes_with_its_object)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;
    upload(backend, PACK, "pack");
    hf_assert_ok(hf_backend_retain_until(backend, PACK, hf_time_now_ms() - 1000, &err), &err);
    assert_int_equal(access(in(folder, "locks/" PACK), F_OK), 0);
    hf_assert_ok(hf_backend_delete(backend, PACK, &err), &err);
    assert_false(exists(backend, PACK));
    assert_int_equal(access(in(folder, "locks/" PACK), F_OK), -1);
}

HF_TEST(an_unreadable_lock_keeps_its_object)
{
    const char *const texts[] = {"",
                                 "holdfast-lock-1 ",
                                 "holdfast-lock-1 12",
                                 "holdfast-lock-1 12x\n",
                                 "holdfast-lock-1 012\n",
                                 "holdfast-lock-1 12\n ",
                                 "holdfast-lock-2 12\n",
                                 "holdfast-lock-1 99999999999999999999999999999999999999999999999999999999999999\n"};
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;
    upload(backend, PACK, "pack");
    hf_assert_ok(hf_backend_retain_until(backend, PACK, 12, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(texts); i++) {
        assert_int_equal(unlink(in(folder, "locks/" PACK)), 0);
        make_file(in(folder, "locks/" PACK), texts[i]);
        assert_false(hf_backend_delete(backend, PACK, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "locks/" PACK));
        assert_true(exists(backend, PACK));
    }
}

HF_TEST(a_full_disk_is_known_before_the_first_byte)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    uint64_t left;
    hf_assert_ok(hf_backend_free_space(backend, &left, &err), &err);
    assert_true(left > 0 && left < UINT64_MAX / 4);

    assert_false(hf_upload_begin(backend, PACK, left * 4, &writing, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, PACK));
    disk.no_fallocate = true; // then the file system is asked
    assert_false(hf_upload_begin(backend, PACK, left * 4, &writing, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_assert_ok(hf_upload_begin(backend, PACK, 1000, &writing, &err), &err);
    hf_upload_abortp(&writing);
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(after_a_failed_write_an_upload_can_only_be_aborted)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    struct hf_error err;
    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &writing, &err), &err);
    let_disk_be();
    disk.how = FAIL;
    disk.at = 1;
    disk.system = ENOSPC;
    assert_false(hf_upload_append(writing, "lost", 4, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    let_disk_be();

    assert_false(hf_upload_append(writing, "more", 4, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_string_equal(err.message, "cannot go on writing \"" PACK "\": an earlier write of it failed");
    hf_upload_push(writing);
    assert_false(hf_upload_finish(&writing, &err));
    assert_null(writing);
    assert_false(exists(backend, PACK));
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(bytes_are_synced_before_they_get_their_name_and_the_name_before_it_counts)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_error err;

    put(backend, "keys/one", "1");
    char *synced = strstr(disk.journal, "fdatasync /staging/");
    char *renamed = strstr(disk.journal, "rename /keys/one\n"), *named = strstr(disk.journal, "fsync /keys\nfsync \n");
    assert_true(synced != NULL && renamed > synced && named > renamed);

    // Every folder on the way was new, so all of them are synced; afterwards only the one with the new name.
    let_disk_be();
    upload(backend, PACK, "pack");
    assert_null(strstr(disk.journal, "fsync /"));
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);
    assert_non_null(strstr(disk.journal, "fdatasync /" VAULT "/staging/abcdefabcdefabcdefabcdefabcdefab\nrename /" PACK
                                         "\nfsync /" VAULT "/packs/ab\nfsync /" VAULT "/packs\nfsync /" VAULT
                                         "\nfsync /vaults\nfsync \n"));
    let_disk_be();
    upload(backend, VAULT "/packs/ab/00", "pack");
    upload(backend, VAULT "/packs/cd/00", "pack");
    disk.journal[0] = '\0';
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);
    assert_string_equal(disk.journal, "fsync /" VAULT "/packs/ab\nfsync /" VAULT "/packs/cd\nfsync /" VAULT "/packs\n");
    let_disk_be();
    hf_assert_ok(hf_backend_barrier(backend, &err), &err);
    assert_string_equal(disk.journal, ""); // nothing is new
}

HF_TEST(folders_that_another_process_made_are_synced_too)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *maker = open_backend(folder), *user = open_backend(folder);
    struct hf_error err;
    upload(maker, PACK, "made, and no barrier yet");
    upload(user, VAULT "/packs/ab/00", "pack");
    let_disk_be();
    hf_assert_ok(hf_backend_barrier(user, &err), &err);
    assert_string_equal(disk.journal,
                        "fsync /" VAULT "/packs/ab\nfsync /" VAULT "/packs\nfsync /" VAULT "\nfsync /vaults\nfsync \n");
}

HF_TEST(after_a_failed_barrier_none_succeeds)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    struct hf_error err;
    upload(backend, PACK, "pack");
    let_disk_be();
    disk.how = FAIL;
    disk.at = 1;
    assert_false(hf_backend_barrier(backend, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, VAULT "/packs/ab"));
    let_disk_be();
    assert_false(hf_backend_barrier(backend, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "a sync failed"));
}

/* Begins, writes, finishes and makes durable; false with the error of the first step that failed. */
static bool
store_pack(struct hf_backend *backend, struct hf_error *err)
{
    _cleanup_(hf_upload_abortp) struct hf_upload *writing = NULL;
    if (!hf_upload_begin(backend, PACK, 5000, &writing, err) || !hf_upload_append(writing, "all ", 4, err))
        return false;
    hf_upload_push(writing);
    return hf_upload_append(writing, "of it", 5, err) && hf_upload_finish(&writing, err) &&
           hf_backend_barrier(backend, err);
}

static bool
store_entry(struct hf_backend *backend, struct hf_error *err)
{
    return hf_backend_put_exclusive(backend, PACK, "all of it", 9, err);
}

/* Lets the first call to the disk fail, then the second, until the operation succeeds. */
static void
walk_faults(bool store(struct hf_backend *backend, struct hf_error *err), bool no_noreplace)
{
    for (unsigned at = 1;; at++) {
        const char *folder = new_folder();
        _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
        struct hf_error err = {0};
        disk.how = FAIL;
        disk.at = at;
        disk.no_noreplace = no_noreplace;
        bool stored = store(backend, &err);
        bool reached = disk.calls >= at;
        let_disk_be();

        assert_int_equal(count_files(folder, VAULT "/staging"), 0);
        if (exists(backend, PACK))
            assert_holds(backend, PACK, "all of it");
        (void)!hf_dir_remove_tree(folder, NULL);
        if (!reached) {
            hf_assert_ok(stored, &err);
            assert_true(at > 8);
            return;
        }
        assert_false(stored);
        assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
        assert_int_equal(err.system, EIO);
        assert_non_null(strstr(err.message, ": Input/output error"));
    }
}

HF_TEST(whichever_call_fails_an_upload_says_so_and_leaves_nothing_half)
{
    walk_faults(store_pack, false);
    walk_faults(store_pack, true);
}

HF_TEST(whichever_call_fails_an_exclusive_put_says_so_and_leaves_nothing_half)
{
    walk_faults(store_entry, false);
    walk_faults(store_entry, true);
}

/* Dies by kill -9 before its first call to the disk, then before its second, until it survives. */
static void
walk_deaths(bool store(struct hf_backend *backend, struct hf_error *err))
{
    for (unsigned at = 1;; at++) {
        const char *folder = new_folder();
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct hf_backend *backend = open_backend(folder);
            struct hf_error err;
            disk.how = DIE;
            disk.at = at;
            _exit(store(backend, &err) ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        let_disk_be();

        _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
        struct hf_error err;
        size_t left = count_files(folder, VAULT "/staging");
        uint64_t objects, bytes;
        hf_assert_ok(hf_backend_sweep(backend, &objects, &bytes, &err), &err);
        assert_int_equal(objects, left);
        assert_int_equal(count_files(folder, VAULT "/staging"), 0);
        bool there = exists(backend, PACK);
        if (there)
            assert_holds(backend, PACK, "all of it");
        else
            hf_assert_ok(store(backend, &err), &err); // and nothing stands in the way of the next
        (void)!hf_dir_remove_tree(folder, NULL);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_true(there);
            assert_true(at > 8);
            return;
        }
    }
}

HF_TEST(kill_9_at_any_step_leaves_a_whole_object_or_something_to_sweep)
{
    walk_deaths(store_pack);
    walk_deaths(store_entry);
}

HF_TEST(a_sweep_removes_what_the_dead_left_and_spares_the_living)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    _cleanup_(hf_upload_abortp) struct hf_upload *living = NULL;
    struct hf_error err;
    hf_assert_ok(hf_upload_begin(backend, PACK, 0, &living, &err), &err);
    hf_assert_ok(hf_upload_append(living, "alive", 5, &err), &err);

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct hf_backend *own = open_backend(folder);
        struct hf_upload *a, *b;
        if (hf_upload_begin(own, VAULT "/packs/00/00", HF_MIB, &a, &err) &&
            hf_upload_begin(own, "evidence/b", 0, &b, &err) && hf_upload_append(b, "lost", 4, &err))
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(symlink(folder, in(folder, VAULT "/staging/link")), 0); // foreign: not swept, not followed

    uint64_t objects, bytes;
    hf_assert_ok(hf_backend_sweep(backend, &objects, &bytes, &err), &err);
    assert_int_equal(objects, 2);
    assert_true(bytes >= HF_MIB);
    assert_int_equal(count_files(folder, "staging"), 0);
    hf_assert_ok(hf_upload_finish(&living, &err), &err);
    assert_holds(backend, PACK, "alive");
    hf_assert_ok(hf_backend_sweep(backend, &objects, &bytes, &err), &err);
    assert_int_equal(objects, 0);
    assert_holds(backend, PACK, "alive");
}

#define STAGED VAULT "/staging/abcdefabcdefabcdefabcdefabcdefab"

static const char *interfered_folder;

static void
sweep_it_away(void)
{
    struct hf_backend *other = open_backend(interfered_folder);
    uint64_t objects, bytes;
    struct hf_error err;
    hf_assert_ok(hf_backend_sweep(other, &objects, &bytes, &err), &err);
    assert_int_equal(objects, 1);
    hf_backend_freep(&other);
}

HF_TEST(an_upload_that_is_swept_before_it_has_its_lock_begins_again)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    interfered_folder = folder;
    before_lock = sweep_it_away;
    upload(backend, PACK, "pack");
    assert_null(before_lock);
    assert_holds(backend, PACK, "pack");
}

static void
publish_it_and_begin_another(void)
{
    assert_int_equal(rename(in(interfered_folder, STAGED), in(interfered_folder, "published")), 0);
    make_file(in(interfered_folder, STAGED), "of another writer");
}

HF_TEST(a_sweep_does_not_take_a_new_file_for_the_one_it_has_locked)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    uint64_t objects, bytes;
    struct hf_error err;
    assert_int_equal(mkdir(in(folder, "vaults"), 0700), 0);
    assert_int_equal(mkdir(in(folder, VAULT), 0700), 0);
    assert_int_equal(mkdir(in(folder, VAULT "/staging"), 0700), 0);
    make_file(in(folder, STAGED), "left behind, or so it seems");
    interfered_folder = folder;
    before_lock = publish_it_and_begin_another;
    hf_assert_ok(hf_backend_sweep(backend, &objects, &bytes, &err), &err);
    assert_int_equal(objects, 0);
    assert_holds(backend, "published", "left behind, or so it seems");
    assert_int_equal(access(in(folder, STAGED), F_OK), 0);
}

#define RACERS 8
#define ROUNDS 25

struct race {
    struct hf_backend *backend;
    pthread_barrier_t line;
    unsigned won[RACERS];
};
struct racer {
    struct race *race;
    unsigned number;
};

static void *
run_race(void *context)
{
    struct racer *racer = context;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char name[64], text[16];
        struct hf_error err;
        snprintf(name, sizeof name, VAULT "/log/%u", round);
        snprintf(text, sizeof text, "by %u", racer->number);
        pthread_barrier_wait(&racer->race->line);
        if (hf_backend_put_exclusive(racer->race->backend, name, text, strlen(text), &err))
            racer->race->won[racer->number] |= 1u << round;
        else if (err.kind != HF_ERR_CONFLICT)
            abort();
    }
    return NULL;
}

static void
race_threads(bool no_noreplace)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    disk.no_noreplace = no_noreplace;
    struct race race = {.backend = backend};
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    pthread_barrier_init(&race.line, NULL, RACERS);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){&race, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&race.line);

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned winners = 0, winner = 0;
        for (unsigned i = 0; i < RACERS; i++)
            if (race.won[i] >> round & 1) {
                winners++;
                winner = i;
            }
        assert_int_equal(winners, 1);
        char name[64], text[16];
        snprintf(name, sizeof name, VAULT "/log/%u", round);
        snprintf(text, sizeof text, "by %u", winner);
        assert_holds(backend, name, text);
    }
    assert_int_equal(count_files(folder, VAULT "/staging"), 0);
}

HF_TEST(of_eight_threads_that_put_one_name_one_wins)
{
    race_threads(false);
    race_threads(true); // where the file system has no RENAME_NOREPLACE
}

HF_TEST(of_two_processes_that_put_one_name_one_wins)
{
    const char *folder = new_folder();
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] > 0)
            continue;
        struct hf_backend *backend = open_backend(folder);
        int won = 0;
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct hf_error err;
            char name[64];
            snprintf(name, sizeof name, VAULT "/log/%u", round);
            if (hf_backend_put_exclusive(backend, name, "x", 1, &err))
                won++;
            else if (err.kind != HF_ERR_CONFLICT)
                _exit(255);
        }
        _exit(won);
    }
    int won = 0;
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
        won += WEXITSTATUS(status);
    }
    assert_int_equal(won, ROUNDS);
}

struct writer {
    struct hf_backend *backend;
    unsigned number;
};

static void *
write_packs(void *context)
{
    struct writer *writer = context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[96];
        struct hf_error err;
        struct hf_upload *writing;
        snprintf(name, sizeof name, VAULT "/packs/%02x/%u-%u", i, writer->number, i);
        if (!hf_upload_begin(writer->backend, name, 0, &writing, &err) ||
            !hf_upload_append(writing, name, strlen(name), &err) || !hf_upload_finish(&writing, &err) ||
            !hf_backend_barrier(writer->backend, &err))
            abort();
    }
    return NULL;
}

HF_TEST(threads_that_upload_beside_each_other_lose_nothing)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    struct writer writers[4];
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        writers[i] = (struct writer){backend, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_packs, &writers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 4 * ROUNDS; i++) {
        char name[96];
        snprintf(name, sizeof name, VAULT "/packs/%02x/%u-%u", i / 4, i % 4, i / 4);
        assert_holds(backend, name, name);
    }
}

HF_TEST(a_probe_says_what_it_saw_and_leaves_nothing)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_backend_report report;
    struct hf_error err;
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
    assert_true(report.exclusive_create);
    assert_true(report.durable_sync);
    assert_int_equal(report.locks, HF_IMMUTABLE_ADVISORY);
    assert_int_equal(strncmp(report.description, "local disk, ", 12), 0);
    assert_int_equal(count_files(folder, "staging"), 0);
    assert_string_equal(hf_backend_place(backend), folder);

    disk.no_noreplace = true;
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
    assert_true(report.exclusive_create);
}

HF_TEST(a_probe_sees_storage_that_lets_two_writers_win)
{
    const char *folder = new_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(folder);
    struct hf_backend_report report;
    struct hf_error err;
    disk.replaces = true;
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
    assert_false(report.exclusive_create);
    assert_int_equal(count_files(folder, "staging"), 0);
}

HF_TEST(a_probe_sees_storage_that_cannot_sync)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(new_folder());
    struct hf_backend_report report;
    struct hf_error err;
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err); // makes the staging folder
    let_disk_be();
    hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
    unsigned calls = disk.calls;
    for (unsigned at = calls - 1; at <= calls; at++) { // the last two are the syncs of a file and of its folder
        let_disk_be();
        disk.how = FAIL;
        disk.at = at;
        hf_assert_ok(hf_backend_probe(backend, &report, &err), &err);
        assert_false(report.durable_sync);
    }
}

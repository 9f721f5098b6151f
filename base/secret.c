#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"

static bool check_guarded(const char *path, const struct stat *status, struct hf_error *err);
static bool read_bytes(int fd, struct hf_secret *secret, size_t most, const char *path, struct hf_error *err);
static size_t without_line_end(const struct hf_secret *secret);

bool
hf_secret_init(struct hf_secret *secret, size_t length, struct hf_error *err)
{
    *secret = (struct hf_secret){0};
    if (length == 0)
        return true;

    secret->bytes = sodium_malloc(length);
    if (secret->bytes == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a secret of %zu bytes", length);
    memset(secret->bytes, 0, length);
    secret->length = length;
    return true;
}

bool
hf_secret_random(struct hf_secret *secret, size_t length, struct hf_error *err)
{
    if (!hf_secret_init(secret, length, err))
        return false;
    if (length > 0)
        randombytes_buf(secret->bytes, length);
    return true;
}

bool
hf_secret_copy(struct hf_secret *secret, const void *bytes, size_t length, struct hf_error *err)
{
    if (!hf_secret_init(secret, length, err))
        return false;
    if (length > 0)
        memcpy(secret->bytes, bytes, length);
    return true;
}

void
hf_secret_done(struct hf_secret *secret)
{
    sodium_free(secret->bytes); // which wipes
    *secret = (struct hf_secret){0};
}

bool
hf_secret_read_file(struct hf_secret *secret, const char *path, size_t most, bool text, struct hf_error *err)
{
    *secret = (struct hf_secret){0};

    struct stat status;
    _cleanup_(hf_closep) int fd = -1;
    if (!hf_file_open(path, &fd, &status, err) || !check_guarded(path, &status, err))
        return false;

    _cleanup_(hf_secret_done) struct hf_secret whole = {0};
    if (!read_bytes(fd, &whole, most, path, err))
        return false;
    return hf_secret_copy(secret, whole.bytes, text ? without_line_end(&whole) : whole.length, err);
}

bool
hf_secrets_setup(struct hf_error *err)
{
    if (sodium_init() < 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not start libsodium");

    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not turn core dumps off");

#ifndef __SANITIZE_ADDRESS__ // the leak sanitizer looks at us through ptrace
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not turn ptrace off");
#endif
    return true;
}

static bool
check_guarded(const char *path, const struct stat *status, struct hf_error *err)
{
    if (status->st_uid != geteuid() && status->st_uid != 0) {
        hf_fail(err, HF_ERR_DENIED, "secret file \"%s\" belongs to user %u, not to us (%u) or root", path,
                (unsigned)status->st_uid, (unsigned)geteuid());
        return hf_fail_hint(err, "Run: chown %u '%s' && chmod 600 '%s'.", (unsigned)geteuid(), path, path);
    }
    if ((status->st_mode & 077) != 0) {
        hf_fail(err, HF_ERR_DENIED, "secret file \"%s\" has mode %04o: others can read or change it", path,
                (unsigned)status->st_mode & 07777);
        return hf_fail_hint(err, "Run: chmod 600 '%s'.", path);
    }
    return true;
}

/* Into guarded memory at once: no byte of it ever lies in a buffer of ours or of stdio. */
static bool
read_bytes(int fd, struct hf_secret *secret, size_t most, const char *path, struct hf_error *err)
{
    if (!hf_secret_init(secret, most + 1, err)) // one more, to see that a file is too long
        return false;

    size_t length = 0;
    while (length < secret->length) {
        ssize_t got = read(fd, secret->bytes + length, secret->length - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read secret file \"%s\"", path);
        if (got == 0)
            break;
        length += (size_t)got;
    }
    if (length > most)
        return hf_fail(err, HF_ERR_NO_SPACE, "secret file \"%s\" is longer than %zu bytes", path, most);
    secret->length = length;
    return true;
}

static size_t
without_line_end(const struct hf_secret *secret)
{
    size_t length = secret->length;
    if (length > 0 && secret->bytes[length - 1] == '\n') {
        length--;
        if (length > 0 && secret->bytes[length - 1] == '\r')
            length--;
    }
    return length;
}

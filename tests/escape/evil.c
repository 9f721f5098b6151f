/*
 * evil.c - a library for PostgreSQL 15 that somebody hid in a data directory
 *
 * Merely loading it leaves a file where the server stands.  For a server it is a module like any other, and evil(int)
 * a function that gives back what it got: a backup cannot tell.  The structs are those of fmgr.h, as far as needed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

struct magic {
    int length, version, most_arguments, most_keys, name_bytes, float_by_value;
    char abi[32];
};

struct function_info {
    int api_version;
};

struct call {
    void *function, *context, *result;
    uint32_t collation;
    char is_null;
    int16_t argument_count;
    struct {
        uint64_t value;
        char is_null;
    } arguments[1];
};

const struct magic *Pg_magic_func(void);
const struct function_info *pg_finfo_evil(void);
uint64_t evil(const struct call *call);

__attribute__((constructor)) static void
be_evil(void)
{
    int fd = open("evil-was-here", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

const struct magic *
Pg_magic_func(void)
{
    static const struct magic magic = {sizeof magic, 1500, 100, 32, 64, 1, "PostgreSQL"};
    return &magic;
}

const struct function_info *
pg_finfo_evil(void)
{
    static const struct function_info info = {1};
    return &info;
}

uint64_t
evil(const struct call *call)
{
    return call->arguments[0].value;
}

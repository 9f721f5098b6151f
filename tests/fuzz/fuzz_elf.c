/* Whatever a file claims to be, its libraries are files of this host with names that are no paths, or it is refused. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/elf.h"
#include "tests/fuzz/fuzz.h"

static void write_file(const char *path, const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_elf_closure closure;
    struct hf_error err;
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/holdfast-fuzz-elf-%d", (int)getpid());
    write_file(path, data, size);
    bool fine = hf_elf_closure(path, NULL, NULL, &closure, &err);
    unlink(path);
    if (!fine) {
        assert(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_NOT_FOUND || err.kind == HF_ERR_NO_SPACE);
        assert(closure.libraries == NULL && closure.loader == NULL);
        return 0;
    }
    assert(closure.loader == NULL || closure.loader[0] == '/');
    for (size_t i = 0; i < closure.library_count; i++) {
        const struct hf_elf_library *library = &closure.libraries[i];
        assert(library->path[0] == '/' && strchr(library->name, '/') == NULL && library->name[0] != '\0');
        assert(strlen(library->name) < HF_ELF_NAME_BYTES && access(library->path, F_OK) == 0);
    }
    hf_elf_closure_done(&closure);
    return 0;
}

static void
write_file(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t put = write(fd, data + done, size - done);
        assert(put > 0);
        done += (size_t)put;
    }
    close(fd);
}

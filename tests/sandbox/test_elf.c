#include <elf.h>
#include <errno.h>
#include <unistd.h>

#include "tests/support/test.h"
#include "sandbox/elf.h"
#include "base/file.h"

static const char *write_elf(const uint8_t *bytes, size_t length);
static bool needs(const struct hf_elf_closure *closure, const char *name);
static size_t read_self(uint8_t **ret);

HF_TEST(a_program_needs_its_loader_and_libc)
{
    struct hf_elf_closure closure;
    struct hf_error err;
    hf_assert_ok(hf_elf_closure("/bin/ls", NULL, NULL, &closure, &err), &err);
    assert_non_null(closure.loader);
    assert_non_null(strstr(closure.loader, "ld-linux"));
    assert_true(needs(&closure, "libc.so.6"));
    for (size_t i = 0; i < closure.library_count; i++) {
        assert_int_equal(closure.libraries[i].path[0], '/');
        assert_int_equal(access(closure.libraries[i].path, R_OK), 0);
    }
    hf_elf_closure_done(&closure);
}

HF_TEST(libraries_of_libraries_are_found_and_none_twice)
{
    struct hf_elf_closure closure;
    struct hf_error err;
    hf_assert_ok(hf_elf_closure("/usr/lib/postgresql/15/bin/postgres", NULL, NULL, &closure, &err), &err);
    assert_true(needs(&closure, "libxml2.so.2"));     // asked for by the server
    assert_true(needs(&closure, "libicudata.so.72")); // asked for by libicuuc
    for (size_t i = 0; i < closure.library_count; i++) {
        for (size_t j = i + 1; j < closure.library_count; j++)
            assert_string_not_equal(closure.libraries[i].name, closure.libraries[j].name);
    }
    assert_false(needs(&closure, "libpq.so.5"));
    hf_elf_closure_done(&closure);

    const char *const modules[] = {"/usr/lib/postgresql/15/lib/libpqwalreceiver.so", NULL};
    hf_assert_ok(hf_elf_closure("/usr/lib/postgresql/15/bin/postgres", modules, NULL, &closure, &err), &err);
    assert_true(needs(&closure, "libpq.so.5"));
    hf_elf_closure_done(&closure);
}

HF_TEST(what_is_no_elf_file_is_refused_by_name)
{
    static const char script[] = "#!/bin/sh\necho this is long enough to be a header of sixty-four bytes, is it not?\n";
    const char *path = write_elf((const uint8_t *)script, sizeof script);
    struct hf_elf_closure closure;
    struct hf_error err;
    assert_false(hf_elf_closure(path, NULL, NULL, &closure, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is no 64-bit ELF file"));
    assert_false(hf_elf_closure("/nowhere", NULL, NULL, &closure, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_false(hf_elf_closure("/dev/zero", NULL, NULL, &closure, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
}

HF_TEST(a_library_that_is_missing_is_named_with_its_asker)
{
    _cleanup_(hf_freep) uint8_t *bytes = NULL;
    size_t length = read_self(&bytes);
    // In the table of names, and in the notes of symbol versions, which nobody reads here.
    for (size_t i = 0; i + 10 < length; i++) {
        if (memcmp(bytes + i, "libc.so.6", 10) == 0)
            bytes[i + 8] = '7';
    }
    const char *path = write_elf(bytes, length);
    struct hf_elf_closure closure;
    struct hf_error err;
    assert_false(hf_elf_closure(path, NULL, NULL, &closure, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"libc.so.7\""));
    assert_non_null(strstr(err.message, path));

    // A module that cannot be opened on this host is left at that.
    const char *const modules[] = {path, NULL};
    hf_assert_ok(hf_elf_closure("/bin/ls", modules, NULL, &closure, &err), &err);
    assert_false(needs(&closure, "libc.so.7"));
    hf_elf_closure_done(&closure);
}

HF_TEST(a_file_that_ends_early_is_refused_wherever_it_ends)
{
    _cleanup_(hf_freep) uint8_t *bytes = NULL;
    size_t length = read_self(&bytes), dynamic_end = 0;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(void *)bytes;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, bytes + header->e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type == PT_DYNAMIC)
            dynamic_end = segment.p_offset + segment.p_filesz;
    }
    assert_in_range(dynamic_end, 64, length);
    const char *path = write_elf(bytes, length);
    for (size_t cut = dynamic_end - 1; cut > 0; cut = cut * 3 / 4) {
        struct hf_elf_closure closure;
        struct hf_error err;
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_false(hf_elf_closure(path, NULL, NULL, &closure, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
}

HF_TEST(a_table_that_claims_too_much_is_refused)
{
    _cleanup_(hf_freep) uint8_t *bytes = NULL;
    size_t length = read_self(&bytes);
    Elf64_Ehdr header;
    memcpy(&header, bytes, sizeof header);
    header.e_phnum = 60000;
    memcpy(bytes, &header, sizeof header);
    struct hf_elf_closure closure;
    struct hf_error err;
    assert_false(hf_elf_closure(write_elf(bytes, length), NULL, NULL, &closure, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the table of segments"));
}

static const char *
write_elf(const uint8_t *bytes, size_t length)
{
    static char path[128];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/program", hf_test_folder());
    hf_assert_ok(hf_file_publish(path, bytes, length, 0755, HF_PUBLISH_REPLACE, &err), &err);
    return path;
}

static bool
needs(const struct hf_elf_closure *closure, const char *name)
{
    for (size_t i = 0; i < closure->library_count; i++) {
        if (strcmp(closure->libraries[i].name, name) == 0)
            return true;
    }
    return false;
}

/* A small program that everyone has. */
static size_t
read_self(uint8_t **ret)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(4 * HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_file_read("/bin/true", &buf, &err), &err);
    *ret = malloc(buf.length);
    memcpy(*ret, buf.data, buf.length);
    return buf.length;
}

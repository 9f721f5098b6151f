#include "sandbox/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define MOST_SEGMENTS      128
#define MOST_DYNAMIC_BYTES (64 * HF_KIB)
#define MOST_STRING_BYTES  (16 * HF_MIB) // C++ libraries hold megabytes of symbol names
#define RUN_PATH_BYTES     4096

static const char *const usual_folders[] = {"/lib64", "/usr/lib64", "/lib", "/usr/lib", NULL};

/* One file while it is being read. */
struct image {
    const char *path; // borrowed from the caller
    int fd;
    Elf64_Ehdr header;
    Elf64_Phdr segments[MOST_SEGMENTS];
    size_t segment_count;
    Elf64_Dyn *dynamic;
    size_t dynamic_count;
    char *strings;
    size_t string_bytes;
    char run_path[RUN_PATH_BYTES];
};

struct walk {
    struct hf_elf_closure *closure;
    const char *const *folders;
    char loader_folder[PATH_MAX]; // "" while there is none
};

static bool visit(struct walk *walk, const char *path, bool lenient, bool program, struct hf_error *err);
static bool open_image(const char *path, struct image *ret, struct hf_error *err);
static bool read_part(const struct image *image, void *data, size_t length, uint64_t offset, struct hf_error *err);
static bool read_header(struct image *image, struct hf_error *err);
static bool read_dynamic(struct image *image, struct hf_error *err);
static bool read_strings(struct image *image, struct hf_error *err);
static bool read_run_path(struct image *image, struct hf_error *err);
static bool take_loader(struct walk *walk, const struct image *image, struct hf_error *err);
static bool file_offset(const struct image *image, uint64_t address, uint64_t *ret);
static const char *string_at(const struct image *image, uint64_t offset);
static uint64_t dynamic_value(const struct image *image, Elf64_Sxword tag, bool *ret_found);
static bool take_needed(struct walk *walk, const struct image *image, const char *name, bool lenient,
                        struct hf_error *err);
static bool is_known(const struct hf_elf_closure *closure, const char *name);
static bool find_library(const struct walk *walk, const struct image *image, const char *name,
                         char path[static PATH_MAX]);
static bool find_in_run_path(const struct image *image, const char *name, char path[static PATH_MAX]);
static bool find_in_folder(const char *folder, const char *name, char path[static PATH_MAX]);
static bool add_library(struct hf_elf_closure *closure, const char *name, const char *path, struct hf_error *err);
static void close_image(struct image *image);
static bool damaged(const struct image *image, const char *part, struct hf_error *err);

bool
hf_elf_closure(const char *program, const char *const *modules, const char *const *folders, struct hf_elf_closure *ret,
               struct hf_error *err)
{
    struct walk walk = {.closure = ret, .folders = folders};
    *ret = (struct hf_elf_closure){0};
    bool fine = visit(&walk, program, false, true, err);
    // The list grows while it is walked: what it holds when the end is reached needs nothing more.
    size_t own = 0;
    for (; fine && own < ret->library_count; own++)
        fine = visit(&walk, ret->libraries[own].path, false, false, err);
    for (size_t i = 0; fine && modules != NULL && modules[i] != NULL; i++)
        fine = visit(&walk, modules[i], true, false, err);
    for (; fine && own < ret->library_count; own++)
        fine = visit(&walk, ret->libraries[own].path, true, false, err);
    if (!fine)
        hf_elf_closure_done(ret);
    return fine;
}

void
hf_elf_closure_done(struct hf_elf_closure *closure)
{
    for (size_t i = 0; i < closure->library_count; i++) {
        free(closure->libraries[i].name);
        free(closure->libraries[i].path);
    }
    free(closure->libraries);
    free(closure->loader);
    *closure = (struct hf_elf_closure){0};
}

static bool
visit(struct walk *walk, const char *path, bool lenient, bool program, struct hf_error *err)
{
    _cleanup_(close_image) struct image image;
    if (!open_image(path, &image, err) || !read_header(&image, err) || !read_dynamic(&image, err) ||
        !read_strings(&image, err) || !read_run_path(&image, err))
        return false;
    if (program && !take_loader(walk, &image, err))
        return false;
    for (size_t i = 0; i < image.dynamic_count; i++) {
        if (image.dynamic[i].d_tag != DT_NEEDED)
            continue;
        const char *name = string_at(&image, image.dynamic[i].d_un.d_val);
        if (name == NULL || name[0] == '\0' || strlen(name) >= HF_ELF_NAME_BYTES || strchr(name, '/') != NULL)
            return damaged(&image, "a library's name", err);
        if (!take_needed(walk, &image, name, lenient, err))
            return false;
    }
    return true;
}

static bool
open_image(const char *path, struct image *ret, struct hf_error *err)
{
    struct stat info;
    memset(ret, 0, sizeof *ret);
    ret->path = path;
    ret->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (ret->fd < 0 || fstat(ret->fd, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (!S_ISREG(info.st_mode))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is no file", path);
    return true;
}

/* An offset may be anything: the kernel takes no negative ones. */
static bool
read_part(const struct image *image, void *data, size_t length, uint64_t offset, struct hf_error *err)
{
    if (offset > INT64_MAX - length)
        return damaged(image, "an offset", err);
    return hf_pread_all(image->fd, data, length, offset, image->path, err);
}

static bool
read_header(struct image *image, struct hf_error *err)
{
    const Elf64_Ehdr *header = &image->header;
    if (!read_part(image, &image->header, sizeof *header, 0, err))
        return false;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_ident[EI_DATA] != ELFDATA2LSB)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is no 64-bit ELF file", image->path);
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > MOST_SEGMENTS)
        return damaged(image, "the table of segments", err);
    image->segment_count = header->e_phnum;
    return read_part(image, image->segments, image->segment_count * sizeof(Elf64_Phdr), header->e_phoff, err);
}

static bool
read_dynamic(struct image *image, struct hf_error *err)
{
    for (size_t i = 0; i < image->segment_count; i++) {
        const Elf64_Phdr *segment = &image->segments[i];
        if (segment->p_type != PT_DYNAMIC)
            continue;
        if (segment->p_filesz > MOST_DYNAMIC_BYTES || image->dynamic != NULL)
            return damaged(image, "the dynamic section", err);
        image->dynamic_count = segment->p_filesz / sizeof *image->dynamic;
        image->dynamic = calloc(image->dynamic_count + 1, sizeof *image->dynamic);
        if (image->dynamic == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for \"%s\"", image->path);
        if (!read_part(image, image->dynamic, image->dynamic_count * sizeof *image->dynamic, segment->p_offset, err))
            return false;
    }
    for (size_t i = 0; i < image->dynamic_count; i++) {
        if (image->dynamic[i].d_tag == DT_NULL)
            image->dynamic_count = i;
    }
    return true;
}

static bool
read_strings(struct image *image, struct hf_error *err)
{
    bool found, sized;
    uint64_t offset, address = dynamic_value(image, DT_STRTAB, &found), bytes = dynamic_value(image, DT_STRSZ, &sized);
    if (image->dynamic_count == 0)
        return true; // a static program
    if (!found || !sized || bytes == 0 || bytes > MOST_STRING_BYTES || !file_offset(image, address, &offset))
        return damaged(image, "the table of names", err);
    image->strings = malloc(bytes);
    if (image->strings == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for \"%s\"", image->path);
    image->string_bytes = bytes;
    return read_part(image, image->strings, bytes, offset, err);
}

/* $ORIGIN is the folder of the file itself, with links resolved, as the loader does it. */
static bool
read_run_path(struct image *image, struct hf_error *err)
{
    bool found;
    uint64_t offset = dynamic_value(image, DT_RUNPATH, &found);
    if (!found)
        offset = dynamic_value(image, DT_RPATH, &found);
    const char *text = found ? string_at(image, offset) : "";
    if (text == NULL)
        return damaged(image, "the run path", err);

    char origin[PATH_MAX];
    if (realpath(image->path, origin) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not resolve \"%s\"", image->path);
    *strrchr(origin, '/') = '\0';
    size_t used = 0;
    while (*text != '\0' && used < sizeof image->run_path) {
        bool short_form = strncmp(text, "$ORIGIN", 7) == 0, long_form = strncmp(text, "${ORIGIN}", 9) == 0;
        if (short_form || long_form) {
            used += (size_t)snprintf(image->run_path + used, sizeof image->run_path - used, "%s", origin);
            text += short_form ? 7 : 9;
        } else {
            image->run_path[used++] = *text++;
        }
    }
    if (used >= sizeof image->run_path)
        return damaged(image, "the run path", err);
    image->run_path[used] = '\0';
    return true;
}

static bool
take_loader(struct walk *walk, const struct image *image, struct hf_error *err)
{
    for (size_t i = 0; i < image->segment_count; i++) {
        const Elf64_Phdr *segment = &image->segments[i];
        char name[HF_ELF_NAME_BYTES] = "";
        if (segment->p_type != PT_INTERP)
            continue;
        if (segment->p_filesz == 0 || segment->p_filesz > sizeof name || walk->closure->loader != NULL)
            return damaged(image, "the loader's name", err);
        if (!read_part(image, name, segment->p_filesz, segment->p_offset, err))
            return false;
        if (name[0] != '/' || name[segment->p_filesz - 1] != '\0')
            return damaged(image, "the loader's name", err);
        if (realpath(name, walk->loader_folder) == NULL)
            return hf_fail_errno(err, HF_ERR_NOT_FOUND, "the loader \"%s\" of \"%s\" is missing", name, image->path);
        *strrchr(walk->loader_folder, '/') = '\0';
        walk->closure->loader = strdup(name);
        if (walk->closure->loader == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for \"%s\"", image->path);
    }
    return true;
}

static bool
file_offset(const struct image *image, uint64_t address, uint64_t *ret)
{
    for (size_t i = 0; i < image->segment_count; i++) {
        const Elf64_Phdr *segment = &image->segments[i];
        if (segment->p_type == PT_LOAD && address >= segment->p_vaddr &&
            address - segment->p_vaddr < segment->p_filesz) {
            *ret = segment->p_offset + (address - segment->p_vaddr);
            return *ret <= INT64_MAX;
        }
    }
    return false;
}

/* NULL unless the text ends inside the table. */
static const char *
string_at(const struct image *image, uint64_t offset)
{
    if (offset >= image->string_bytes || memchr(image->strings + offset, '\0', image->string_bytes - offset) == NULL)
        return NULL;
    return image->strings + offset;
}

static uint64_t
dynamic_value(const struct image *image, Elf64_Sxword tag, bool *ret_found)
{
    for (size_t i = 0; i < image->dynamic_count; i++) {
        if (image->dynamic[i].d_tag == tag) {
            *ret_found = true;
            return image->dynamic[i].d_un.d_val;
        }
    }
    *ret_found = false;
    return 0;
}

static bool
take_needed(struct walk *walk, const struct image *image, const char *name, bool lenient, struct hf_error *err)
{
    char path[PATH_MAX];
    if (is_known(walk->closure, name))
        return true;
    if (find_library(walk, image, name, path))
        return add_library(walk->closure, name, path, err);
    if (lenient)
        return true;
    return hf_fail(err, HF_ERR_NOT_FOUND, "library \"%s\", which \"%s\" needs, is not on this host", name, image->path);
}

static bool
is_known(const struct hf_elf_closure *closure, const char *name)
{
    const char *loader = closure->loader == NULL ? NULL : strrchr(closure->loader, '/') + 1;
    if (loader != NULL && strcmp(loader, name) == 0)
        return true; // libc asks for the loader as for a library
    for (size_t i = 0; i < closure->library_count; i++) {
        if (strcmp(closure->libraries[i].name, name) == 0)
            return true;
    }
    return false;
}

static bool
find_library(const struct walk *walk, const struct image *image, const char *name, char path[static PATH_MAX])
{
    if (find_in_run_path(image, name, path))
        return true;
    for (size_t i = 0; walk->folders != NULL && walk->folders[i] != NULL; i++) {
        if (find_in_folder(walk->folders[i], name, path))
            return true;
    }
    if (walk->loader_folder[0] != '\0' && find_in_folder(walk->loader_folder, name, path))
        return true;
    for (size_t i = 0; usual_folders[i] != NULL; i++) {
        if (find_in_folder(usual_folders[i], name, path))
            return true;
    }
    return false;
}

static bool
find_in_run_path(const struct image *image, const char *name, char path[static PATH_MAX])
{
    char folders[RUN_PATH_BYTES], *rest = folders;
    memcpy(folders, image->run_path, sizeof folders);
    for (char *folder; (folder = strsep(&rest, ":")) != NULL;) {
        if (folder[0] == '/' && find_in_folder(folder, name, path))
            return true;
    }
    return false;
}

static bool
find_in_folder(const char *folder, const char *name, char path[static PATH_MAX])
{
    char candidate[PATH_MAX];
    if ((size_t)snprintf(candidate, sizeof candidate, "%s/%s", folder, name) >= sizeof candidate)
        return false;
    return realpath(candidate, path) != NULL;
}

static bool
add_library(struct hf_elf_closure *closure, const char *name, const char *path, struct hf_error *err)
{
    if (closure->libraries == NULL)
        closure->libraries = calloc(HF_ELF_MOST_LIBRARIES, sizeof *closure->libraries);
    if (closure->library_count == HF_ELF_MOST_LIBRARIES)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %d libraries are needed", HF_ELF_MOST_LIBRARIES);
    if (closure->libraries == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for libraries");
    struct hf_elf_library *library = &closure->libraries[closure->library_count++];
    library->name = strdup(name);
    library->path = strdup(path);
    if (library->name == NULL || library->path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for libraries");
    return true;
}

static void
close_image(struct image *image)
{
    hf_closep(&image->fd);
    free(image->dynamic);
    free(image->strings);
}

static bool
damaged(const struct image *image, const char *part, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_CORRUPT, "%s of ELF file \"%s\" is damaged", part, image->path);
}

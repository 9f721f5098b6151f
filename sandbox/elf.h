/*
 * elf.h - which libraries a program needs, read from the files themselves
 *
 * No ldd: that runs the program's own loader.  Reads 64-bit little-endian ELF (System V gABI, chapters 4 and 5):
 * PT_INTERP, PT_DYNAMIC, DT_NEEDED, DT_RUNPATH and DT_RPATH with $ORIGIN.  A library is looked for in the
 * file's own run path, the folders given, the loader's folder, then the usual ones; ld.so.cache is not read.
 */
#pragma once
#include "base/error.h"

#define HF_ELF_MOST_LIBRARIES 512
#define HF_ELF_NAME_BYTES     256 // the longest library name

struct hf_elf_library {
    char *name; // as others ask for it: "libz.so.1"
    char *path; // the file, every link resolved
};

struct hf_elf_closure {
    char *loader; // as the program names it: "/lib64/ld-linux-x86-64.so.2"; NULL for a static program
    struct hf_elf_library *libraries;
    size_t library_count;
};

/*
 * Of a program and of modules it may open later; both lists end with NULL and may be NULL.  A library that a module
 * needs and this host lacks is left out (the module could not be opened here either); for the program it is an error.
 * Errors: NOT_FOUND names library and asker, CORRUPT names the file, NO_SPACE a limit.
 */
HF_MUST_CHECK bool hf_elf_closure(const char *program, const char *const *modules, const char *const *folders,
                                  struct hf_elf_closure *ret, struct hf_error *err);
void hf_elf_closure_done(struct hf_elf_closure *closure);

/*
 * fold_vm.h - visibility maps of an incremental base backup, whose blocks the server does not name completely
 *
 * A bit of the visibility map that is cleared is not noted in the log as a change of its block: the change of the
 * heap's block says it all.  So the server's summaries do not know it, an incremental backup leaves the block out, and
 * what is put together from it calls rows visible to everybody that are not: wrong answers from index-only scans (seen
 * with 17.10 and 18.4; `holdfast verify` found it).  So a block of a map that did not come is taken from the earlier
 * backup only if no block of the heap that it covers came either; else it is filled with zeros, which is what "nothing
 * is known to be visible" looks like: always right, and the next vacuum sets it anew.
 *
 * That is known only when all files have come: the maps wait until then, in memory.
 */
#pragma once
#include "server/source/postgres/fold.h"

#define HF_FOLD_VM_COVERS     32672              // blocks of the heap that one block of the map covers: 2 bits for each
#define HF_FOLD_VM_WAITING    (256 * HF_MIB)     // beyond that the next maps do not wait, and keep nothing
#define HF_FOLD_VM_MARKS_MOST (32 * 1024 * 1024) // stretches of changed blocks

struct hf_fold_vm;
HF_MUST_CHECK bool hf_fold_vm_new(const struct hf_backup_sink *sink, uint32_t segment_blocks, struct hf_fold_vm **ret,
                                  struct hf_error *err);
void hf_fold_vm_freep(struct hf_fold_vm **vm);

bool hf_fold_vm_is_map(const char *path); // "base/5/1259_vm"

/* Blocks [first, first + count) of a file of the heap came (its first block counted from the start of the relation). */
HF_MUST_CHECK bool hf_fold_vm_note(struct hf_fold_vm *vm, const char *path, uint64_t first, uint64_t count,
                                   struct hf_error *err);
/* A map's changed blocks have come: head and all.  `file` as hf_fold_new() has it; copied. */
HF_MUST_CHECK bool hf_fold_vm_take(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_buf *bytes,
                                   struct hf_error *err);
/* Everything has come. */
HF_MUST_CHECK bool hf_fold_vm_put_all(struct hf_fold_vm *vm, struct hf_error *err);

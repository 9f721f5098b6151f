#include "server/source/postgres/fold_vm.h"

#include <string.h>

#include "server/source/postgres/page_check.h"

/* Blocks of the map of one relation that cover what changed. */
struct mark {
    char *relation; // path of its first file: "base/5/1259"
    uint32_t from, to;
};

struct waiting {
    struct hf_backup_file file; // path in own memory
    struct hf_buf bytes;
};

struct hf_fold_vm {
    const struct hf_backup_sink *sink; // borrowed
    uint32_t segment_blocks;
    size_t mark_count, mark_room;
    struct mark *marks;
    bool sorted;
    size_t waiting_count, waiting_room, waiting_bytes;
    struct waiting *waiting;
};

static bool put(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_buf *bytes, bool all_come,
                struct hf_error *err);
static bool put_blocks(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_incremental *head,
                       const uint8_t *bytes, bool all_come, void *handle, struct hf_error *err);
static bool is_marked(struct hf_fold_vm *vm, const char *path, uint64_t block);
static size_t relation_length(const char *path);
static int by_relation(const void *a, const void *b);

bool
hf_fold_vm_new(const struct hf_backup_sink *sink, uint32_t segment_blocks, struct hf_fold_vm **ret,
               struct hf_error *err)
{
    struct hf_fold_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for visibility maps");
    vm->sink = sink;
    vm->segment_blocks = segment_blocks;
    *ret = vm;
    return true;
}

void
hf_fold_vm_freep(struct hf_fold_vm **vm)
{
    struct hf_fold_vm *gone = *vm;
    if (gone == NULL)
        return;
    for (size_t i = 0; i < gone->mark_count; i++)
        free(gone->marks[i].relation);
    for (size_t i = 0; i < gone->waiting_count; i++) {
        free((void *)(uintptr_t)gone->waiting[i].file.path);
        hf_buf_done(&gone->waiting[i].bytes);
    }
    free(gone->marks);
    free(gone->waiting);
    free(gone);
    *vm = NULL;
}

bool
hf_fold_vm_is_map(const char *path)
{
    const char *slash = strrchr(path, '/'), *fork = strstr(slash != NULL ? slash : path, "_vm");
    return fork != NULL && (fork[3] == '\0' || fork[3] == '.');
}

bool
hf_fold_vm_note(struct hf_fold_vm *vm, const char *path, uint64_t first, uint64_t count, struct hf_error *err)
{
    const size_t length = relation_length(path);
    const uint32_t from = (uint32_t)(first / HF_FOLD_VM_COVERS),
                   to = (uint32_t)((first + count - 1) / HF_FOLD_VM_COVERS);
    if (count == 0)
        return true;
    struct mark *last = vm->mark_count > 0 ? &vm->marks[vm->mark_count - 1] : NULL;
    if (last != NULL && strlen(last->relation) == length && strncmp(last->relation, path, length) == 0 &&
        from >= last->from && from <= last->to + 1) {
        last->to = to > last->to ? to : last->to;
        return true;
    }
    if (vm->mark_count == HF_FOLD_VM_MARKS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %d stretches of relations have changed", HF_FOLD_VM_MARKS_MOST);
    if (vm->mark_count == vm->mark_room) {
        const size_t room = vm->mark_room > 0 ? 2 * vm->mark_room : 256;
        struct mark *grown = reallocarray(vm->marks, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for visibility maps");
        vm->marks = grown;
        vm->mark_room = room;
    }
    char *relation = strndup(path, length);
    if (relation == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for visibility maps");
    vm->marks[vm->mark_count++] = (struct mark){relation, from, to};
    vm->sorted = false;
    return true;
}

bool
hf_fold_vm_take(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_buf *bytes,
                struct hf_error *err)
{
    if (vm->waiting_bytes + bytes->length > HF_FOLD_VM_WAITING)
        return put(vm, file, bytes, false, err);
    if (vm->waiting_count == vm->waiting_room) {
        const size_t room = vm->waiting_room > 0 ? 2 * vm->waiting_room : 64;
        struct waiting *grown = reallocarray(vm->waiting, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for visibility maps");
        vm->waiting = grown;
        vm->waiting_room = room;
    }
    char *path = strdup(file->path);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for visibility maps");
    struct waiting *waiting = &vm->waiting[vm->waiting_count++];
    *waiting = (struct waiting){.file = *file, .bytes = HF_BUF_INIT(HF_FOLD_VM_WAITING)};
    waiting->file.path = path;
    vm->waiting_bytes += bytes->length;
    return hf_buf_add(&waiting->bytes, bytes->data, bytes->length, err);
}

bool
hf_fold_vm_put_all(struct hf_fold_vm *vm, struct hf_error *err)
{
    for (size_t i = 0; i < vm->waiting_count; i++)
        if (!put(vm, &vm->waiting[i].file, &vm->waiting[i].bytes, true, err))
            return false;
    return true;
}

/* all_come: what changed in the heap is known. */
static bool
put(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_buf *bytes, bool all_come,
    struct hf_error *err)
{
    struct hf_incremental head;
    struct hf_backup_file whole = *file;
    void *handle;
    if (bytes->length < HF_INCREMENTAL_FIXED)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": its changed blocks end in their head", file->path);
    if (!hf_incremental_begin(bytes->data, vm->segment_blocks, bytes->length, &head, err) ||
        !hf_incremental_check(bytes->data, vm->segment_blocks, &head, err))
        return hf_fail_within(err, "\"%s\"", file->path);
    whole.size = (uint64_t)head.blocks * HF_POSTGRES_PAGE_BYTES;
    if (!vm->sink->file_begin(vm->sink->context, &whole, &handle, err))
        return false;
    if (!put_blocks(vm, file, &head, bytes->data, all_come, handle, err)) {
        vm->sink->file_drop(vm->sink->context, handle);
        return false;
    }
    return vm->sink->file_end(vm->sink->context, handle, err);
}

static bool
put_blocks(struct hf_fold_vm *vm, const struct hf_backup_file *file, const struct hf_incremental *head,
           const uint8_t *bytes, bool all_come, void *handle, struct hf_error *err)
{
    static const uint8_t zeros[HF_POSTGRES_PAGE_BYTES];
    const struct hf_backup_sink *sink = vm->sink;
    const uint64_t there = sink->parent_pages(sink->context, handle);
    uint32_t number = 0;
    for (uint32_t block = 0; block < head->blocks; block++) {
        bool ok;
        if (number < head->count && hf_incremental_block(bytes, number) == block)
            ok = sink->file_write(sink->context, handle,
                                  bytes + head->head_bytes + (size_t)number++ * HF_POSTGRES_PAGE_BYTES,
                                  HF_POSTGRES_PAGE_BYTES, err);
        else if (all_come && block < head->truncation && block < there &&
                 !is_marked(vm, file->path, file->first_block + (uint64_t)block))
            ok = sink->file_keep(sink->context, handle, 1, err);
        else
            ok = sink->file_write(sink->context, handle, zeros, sizeof zeros, err);
        if (!ok)
            return false;
    }
    return true;
}

static bool
is_marked(struct hf_fold_vm *vm, const char *path, uint64_t block)
{
    const size_t length = relation_length(path);
    if (!vm->sorted && vm->mark_count > 0)
        qsort(vm->marks, vm->mark_count, sizeof *vm->marks, by_relation);
    vm->sorted = true;
    size_t low = 0, high = vm->mark_count;
    while (low < high) { // the first mark of the relation
        const size_t middle = (low + high) / 2;
        const int order = strncmp(vm->marks[middle].relation, path, length);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < vm->mark_count && strncmp(vm->marks[low].relation, path, length) == 0; low++)
        if (vm->marks[low].relation[length] == '\0' && block >= vm->marks[low].from && block <= vm->marks[low].to)
            return true;
    return false;
}

/* Up to the fork or the segment of its file's name. */
static size_t
relation_length(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    return (size_t)(name - path) + strcspn(name, "_.");
}

static int
by_relation(const void *a, const void *b)
{
    const struct mark *left = a, *right = b;
    const int order = strcmp(left->relation, right->relation);
    return order != 0 ? order : (left->from > right->from) - (left->from < right->from);
}

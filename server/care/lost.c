#include "server/care/lost.h"

#include <stdio.h>
#include <string.h>

#include "server/care/check_internal.h"

/* One backup as it is walked through, and the run of pages that may still get longer. */
struct trace {
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    const struct hf_lost_slab *slabs;
    size_t count;
    const atomic_bool *cancel;
    hf_lost_visitor *visit;
    void *context;
    struct hf_leaf leaf;

    const char *path; // of the file
    uint64_t size;
    uint8_t page_log2;
    uint64_t first_page, pages; // of the run; no pages: there is none
};

static bool trace_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool trace_leaf(struct trace *trace, const struct hf_object_ref *ref, uint64_t first_page, uint64_t pages,
                       struct hf_error *err);
static bool leaf_is_touched(const struct trace *trace);
static bool add_run(struct trace *trace, uint64_t first_page, uint64_t pages, struct hf_error *err);
static bool end_run(struct trace *trace, struct hf_error *err);
static bool tell_lost_list(void *context, const char *folder, uint32_t files, const struct hf_error *why,
                           struct hf_error *err);
static bool is_cancelled(const atomic_bool *cancel, struct hf_error *err);
static size_t first_of_pack(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack);

int
hf_lost_slab_compare(const void *a, const void *b)
{
    const struct hf_lost_slab *left = a, *right = b;
    const int order = hf_id_compare(&left->pack, &right->pack);
    return order != 0 ? order : (left->slab > right->slab) - (left->slab < right->slab);
}

bool
hf_lost_slabs(struct hf_vault *vault, const struct hf_id *pack, const atomic_bool *cancel, hf_lost_slab_visitor *visit,
              void *context, struct hf_error *err)
{
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_pack_reader_freep) struct hf_pack_reader *packs = NULL;
    _cleanup_(hf_freep) struct hf_slab_info *slabs = NULL;
    size_t count;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST + HF_KIB);
    struct hf_lost_slab lost = {*pack, HF_LOST_WHOLE_PACK};
    struct hf_error why;
    if (!hf_slab_worker_new(1, &worker, err) || !hf_vault_pack_reader(vault, &packs, err))
        return false;
    if (!hf_pack_reader_slabs(packs, pack, &slabs, &count, &why)) {
        *err = why;
        return check_is_damage(&why) && visit(context, &lost, why.message, err);
    }
    for (lost.slab = 0; lost.slab < count; lost.slab++) {
        if (is_cancelled(cancel, err))
            return false;
        if (slabs[lost.slab].offset == HF_SLAB_LEFT_BEHIND)
            continue; // nobody needed it when the pack was moved
        if (hf_pack_reader_slab(packs, worker, pack, lost.slab, NULL, &plain, &why))
            continue;
        *err = why;
        if (!check_is_damage(&why) || !visit(context, &lost, why.message, err))
            return false;
    }
    return true;
}

bool
hf_lost_pages(struct hf_vault *vault, const struct hf_id *backup, const struct hf_lost_slab *slabs, size_t count,
              const atomic_bool *cancel, hf_lost_visitor *visit, void *context, struct hf_error *err)
{
    _cleanup_(hf_backup_freep) struct hf_backup *opened = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    const struct hf_lost whole = {.kind = HF_LOST_BACKUP, .path = ""};
    const struct hf_vault_state *state;
    if (!hf_vault_read(vault, NULL, NULL, &state, err) || !hf_slab_worker_new(1, &worker, err))
        return false;
    const struct hf_vault_backup *committed = hf_vault_state_backup(state, backup);
    if (committed != NULL && hf_lost_holds(slabs, count, &committed->root_pack, committed->root_slab))
        return visit(context, &whole, err);
    if (!hf_backup_open(vault, backup, &opened, err)) {
        const bool damaged = committed != NULL && !committed->pruned && check_is_damage(err);
        return damaged && visit(context, &whole, err);
    }

    /* What the summary does not list it does not use. */
    const struct hf_manifest_root *root = hf_backup_root(opened);
    bool touched = count == 0;
    for (size_t i = 0; i < root->summary_count && !touched; i++)
        touched = hf_lost_touches(slabs, count, &root->summary[i].pack);
    if (!touched)
        return true;

    struct trace trace = {.backup = opened,
                          .worker = worker,
                          .slabs = slabs,
                          .count = count,
                          .cancel = cancel,
                          .visit = visit,
                          .context = context};
    hf_leaf_init(&trace.leaf, HF_PAGE_LOG2_LEAST);
    const bool ok = hf_backup_files_left(opened, worker, trace_file, tell_lost_list, &trace, err);
    hf_leaf_done(&trace.leaf);
    return ok;
}

bool
hf_lost_holds(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack, uint32_t slab)
{
    for (size_t i = first_of_pack(slabs, count, pack); i < count && hf_id_equal(&slabs[i].pack, pack); i++)
        if (slabs[i].slab == slab || slabs[i].slab == HF_LOST_WHOLE_PACK)
            return true;
    return false;
}

bool
hf_lost_touches(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack)
{
    const size_t at = first_of_pack(slabs, count, pack);
    return at < count && hf_id_equal(&slabs[at].pack, pack);
}

static bool
trace_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct trace *trace = context;
    const uint64_t page_bytes = UINT64_C(1) << file->page_log2;
    const uint64_t pages = file->size / page_bytes + (file->size % page_bytes != 0);
    if (is_cancelled(trace->cancel, err))
        return false;
    trace->path = path;
    trace->size = file->size;
    trace->page_log2 = file->page_log2;
    trace->pages = 0;
    trace->leaf.page_log2 = file->page_log2;
    for (size_t i = 0; i < file->leaf_count; i++) {
        const uint64_t first = (uint64_t)i * HF_LEAF_PAGES;
        const uint64_t left = pages > first ? pages - first : 0;
        if (!trace_leaf(trace, &file->leaves[i], first, left < HF_LEAF_PAGES ? left : HF_LEAF_PAGES, err))
            return false;
    }
    return end_run(trace, err);
}

/* A leaf that does not read takes all its pages with it. */
static bool
trace_leaf(struct trace *trace, const struct hf_object_ref *ref, uint64_t first_page, uint64_t pages,
           struct hf_error *err)
{
    if (hf_lost_holds(trace->slabs, trace->count, &ref->pack, ref->slab))
        return add_run(trace, first_page, pages, err);
    if (!hf_backup_leaf(trace->backup, trace->worker, ref, &trace->leaf, err))
        return check_is_damage(err) && add_run(trace, first_page, pages, err);

    const bool touched = leaf_is_touched(trace);
    for (size_t i = 0; i < trace->leaf.extent_count; i++) {
        const struct hf_extent *extent = &trace->leaf.extents[i];
        const bool gone = extent->type == HF_EXTENT_LOST ||
                          (extent->type == HF_EXTENT_STORED && touched &&
                           hf_lost_holds(trace->slabs, trace->count, &trace->leaf.packs[extent->pack], extent->slab));
        if (gone && !add_run(trace, first_page + extent->start, extent->count, err))
            return false;
    }
    return true;
}

/* Few leaves are: the others' extents need not be looked up one by one. */
static bool
leaf_is_touched(const struct trace *trace)
{
    for (size_t i = 0; i < trace->leaf.pack_count; i++)
        if (hf_lost_touches(trace->slabs, trace->count, &trace->leaf.packs[i]))
            return true;
    return false;
}

static bool
add_run(struct trace *trace, uint64_t first_page, uint64_t pages, struct hf_error *err)
{
    if (trace->pages > 0 && trace->first_page + trace->pages == first_page) {
        trace->pages += pages;
        return true;
    }
    if (!end_run(trace, err))
        return false;
    trace->first_page = first_page;
    trace->pages = pages;
    return true;
}

static bool
end_run(struct trace *trace, struct hf_error *err)
{
    if (trace->pages == 0)
        return true;
    const uint64_t from = trace->first_page << trace->page_log2;
    const uint64_t to = (trace->first_page + trace->pages) << trace->page_log2;
    const struct hf_lost lost = {.kind = HF_LOST_PAGES,
                                 .path = trace->path,
                                 .page_log2 = trace->page_log2,
                                 .first_page = trace->first_page,
                                 .pages = trace->pages,
                                 .bytes = (to < trace->size ? to : trace->size) - from};
    trace->pages = 0;
    return trace->visit(trace->context, &lost, err);
}

static bool
tell_lost_list(void *context, const char *folder, uint32_t files, const struct hf_error *why, struct hf_error *err)
{
    const struct trace *trace = context;
    const struct hf_lost lost = {.kind = HF_LOST_FILES, .path = folder, .files = files};
    (void)why;
    return trace->visit(trace->context, &lost, err);
}

static bool
is_cancelled(const atomic_bool *cancel, struct hf_error *err)
{
    return cancel != NULL && atomic_load(cancel) &&
           !hf_fail(err, HF_ERR_CANCELLED, "looking for what is lost was cancelled");
}

/* Where its slabs begin, or would. */
static size_t
first_of_pack(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (hf_id_compare(&slabs[middle].pack, pack) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

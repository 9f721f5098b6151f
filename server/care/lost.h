/*
 * lost.h - what exactly is lost when stored bytes are
 *
 * Damage is found in packs; what people need to know is which pages of which files of which backups it costs, and
 * that everything else can still be restored.  Two steps lead there: hf_lost_slabs() narrows a pack that is not what
 * the log says down to the slabs that do not open, hf_lost_pages() follows a backup's maps to the pages that lie there.
 *
 * What is lost is told in runs, as long as they get, in the order of folders, names and pages.  Nothing of it is kept
 * here: memory is one map leaf and one page of the manifest, whatever the size of the backup.
 */
#pragma once
#include <stdatomic.h>
#include "server/repository/reader.h"

#define HF_LOST_WHOLE_PACK 0xffffffffu
struct hf_lost_slab {
    struct hf_id pack;
    uint32_t slab; // or HF_LOST_WHOLE_PACK
};
int hf_lost_slab_compare(const void *a, const void *b); // by pack, then slab: for qsort()

/* `why` is borrowed for the call. */
typedef bool hf_lost_slab_visitor(void *context, const struct hf_lost_slab *lost, const char *why,
                                  struct hf_error *err);
/*
 * Opens every slab of a pack and tells those that do not open; the whole pack, once, when it is missing or its
 * directory does not read.  Tells nothing when all of it can still be read.
 */
HF_MUST_CHECK bool hf_lost_slabs(struct hf_vault *vault, const struct hf_id *pack, const atomic_bool *cancel,
                                 hf_lost_slab_visitor *visit, void *context, struct hf_error *err);

enum hf_lost_kind {
    HF_LOST_PAGES,  // pages of a file
    HF_LOST_FILES,  // a page of the manifest: so many files of a folder, whose names nobody knows any more
    HF_LOST_BACKUP, // the manifest itself: every file
};
struct hf_lost {
    enum hf_lost_kind kind;
    const char *path;           // of the file, or of the folder; borrowed for the call; "" for the backup
    uint8_t page_log2;          // PAGES
    uint64_t first_page, pages; // PAGES
    uint64_t bytes;             // PAGES: of the file, as far as it reaches
    uint64_t files;             // FILES; 0 for the whole backup: unknown
};
typedef bool hf_lost_visitor(void *context, const struct hf_lost *lost, struct hf_error *err);

/*
 * Tells what a backup loses with these slabs (sorted by hf_lost_slab_compare), and with whatever of its manifest and
 * maps does not read.  Nothing of it is walked when it uses none of their packs; without any slabs it is walked for the
 * latter alone.  `slabs` is borrowed for the call.
 * Errors: NOT_FOUND: there is no such backup; CANCELLED; what the visitor fails with.
 */
HF_MUST_CHECK bool hf_lost_pages(struct hf_vault *vault, const struct hf_id *backup, const struct hf_lost_slab *slabs,
                                 size_t count, const atomic_bool *cancel, hf_lost_visitor *visit, void *context,
                                 struct hf_error *err);
/* Whether the slab is one of them, by itself or with its pack. */
bool hf_lost_holds(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack, uint32_t slab);
/* The same for anything of a pack. */
bool hf_lost_touches(const struct hf_lost_slab *slabs, size_t count, const struct hf_id *pack);

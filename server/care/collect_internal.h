/*
 * collect_internal.h - what the files behind collect.h share
 *
 *   collect.c       the steps: dead sessions, CONDEMN, DELETE, unlink
 *   collect_mark.c  what the backups need: packs from the manifests' summaries, slabs from the maps
 *   collect_move.c  thin objects into containers
 */
#pragma once
#include "server/care/collect.h"
#include "server/repository/container.h"

/* One pack and what of it is needed, by all backups together. */
struct marked_pack {
    struct hf_id pack; // first, for searching
    bool needed;
    uint32_t slab_room; // bits in `live`
    uint32_t live_count;
    uint8_t *live; // a bit for each slab; NULL: none so far
};
/* Of one moment in the log; later entries only make more of it garbage (log_rules.h says why). */
struct mark {
    size_t count;
    struct marked_pack *packs; // sorted
    size_t backup_count;       // of the state it was made from: those that come later need nothing else
    bool whole;                // every backup could be read
    char why[HF_ERROR_MESSAGE_BYTES];
};
HF_MUST_CHECK bool mark_packs(struct hf_vault *vault, const struct hf_vault_state *state, struct mark *ret,
                              struct hf_error *err);
/* Reads all maps; each leaf once, however many backups share it. */
HF_MUST_CHECK bool mark_slabs(struct hf_vault *vault, const struct hf_vault_state *state, const atomic_bool *cancel,
                              struct mark *mark, struct hf_error *err);
struct marked_pack *mark_find(const struct mark *mark, const struct hf_id *pack);
bool mark_is_live(const struct marked_pack *pack, uint32_t slab);
void mark_done(struct mark *mark);

struct collection {
    struct hf_vault *vault;
    const struct hf_collect_options *options;
    struct hf_collect_report *report;
    struct mark mark;
};
HF_MUST_CHECK bool collect_append(struct collection *collection, enum hf_log_kind kind, json_t *public_part,
                                  struct hf_error *err); // takes the part, which may be NULL (no memory)
HF_MUST_CHECK bool collect_go_on(const struct collection *collection, struct hf_error *err);
/* Moves what is worth it. */
HF_MUST_CHECK bool collect_move(struct collection *collection, struct hf_error *err);

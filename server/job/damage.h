/*
 * damage.h - from damage that was found to what it costs, and to the records of it
 *
 * A worker gathers what a check tells, narrows whole packs down to slabs, and follows every backup's maps to the pages
 * that are lost.  The daemon writes one VERDICT for each backup that loses something, unless it says what is known
 * already, and one ("healed") for each whose stored objects were all found whole again.
 *
 * A row of "affected", in results and (without vault and backup) in the sealed part of the VERDICT:
 *     {"vault", "backup", "packs": [[pack, slab or null], ...],
 *      "lost": {"files", "pages", "bytes", "ranges": [...], "more", "more_packs"}}
 * A range is {"file", "first_page", "pages", "bytes"}, or {"folder", "files"} where a list of files is lost, or
 * {"everything": true}.  At most HF_LOST_RANGES_MOST stand there, "more" counts the others, "more_packs" the pairs that
 * are left out; the sums are of all, as far as they are known.
 */
#pragma once
#include "server/care/check.h"
#include "server/care/lost.h"
#include "server/job/daemon.h"

#define HF_DAMAGES_SHOWN_MOST 1000  // rows of a result; the count goes on
#define HF_LOST_SLABS_MOST    65536 // followed to their pages; beyond that whole packs are
#define HF_LOST_RANGES_MOST   256

struct hf_found_slab {
    struct hf_id vault;
    struct hf_lost_slab lost;
    bool narrow; // the whole pack: which slabs it are is to be found out
};

/* What a check told. */
struct hf_damages {
    json_t *rows; // what people read: [{kind, vault, pack, slab, backup, file, message}]
    size_t found_count, found_room;
    struct hf_found_slab *found;
    bool out_of_memory;
};
HF_MUST_CHECK bool hf_damages_init(struct hf_damages *damages, struct hf_error *err);
void hf_damages_done(struct hf_damages *damages);
void hf_damages_take(void *context, const struct hf_damage *damage); // a hf_damage_visitor; context: the damages

/*
 * The rows of "affected".  Wants an unlocked repository.  A vault whose log does not read is left out: what it loses
 * nobody can say.
 */
HF_MUST_CHECK bool hf_damages_affected(struct hf_damages *damages, struct hf_repository *repository,
                                       const atomic_bool *cancel, json_t **ret, struct hf_error *err);
/* The row of one backup, by slabs that are known to be gone, in any order. */
HF_MUST_CHECK bool hf_damages_of_backup(struct hf_vault *vault, const struct hf_id *backup,
                                        const struct hf_lost_slab *slabs, size_t count, const atomic_bool *cancel,
                                        json_t **ret, struct hf_error *err);

/* What is lost of one backup, gathered as it is told, and the object "lost" above. */
struct hf_loss;
HF_MUST_CHECK bool hf_loss_new(struct hf_loss **ret, struct hf_error *err);
void hf_loss_freep(struct hf_loss **loss);
bool hf_loss_take(void *context, const struct hf_lost *lost, struct hf_error *err); // a hf_lost_visitor
bool hf_loss_is_any(const struct hf_loss *loss);                                    // false for NULL
HF_MUST_CHECK bool hf_loss_json(const struct hf_loss *loss, uint64_t more_packs, json_t **ret, struct hf_error *err);

/* In the daemon: the VERDICT of one row; nothing when that is known already. */
HF_MUST_CHECK bool hf_damage_record(struct hf_daemon *daemon, const json_t *affected, const char *reason,
                                    struct hf_error *err);
/*
 * In the daemon: backups of which a damage is known, while every pack that it names is in `sound` (an array of ids) and
 * no row of `affected` is theirs, are healed.
 */
HF_MUST_CHECK bool hf_damage_record_healed(struct hf_daemon *daemon, const json_t *sound, const json_t *affected,
                                           struct hf_error *err);
/* In the daemon: ids of the packs that known damages name, for a check to look at them: an array. */
HF_MUST_CHECK bool hf_damage_known_packs(struct hf_daemon *daemon, json_t **ret, struct hf_error *err);

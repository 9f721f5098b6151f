/*
 * seal.h - makes packs of journals, and says so in the vault log (private to writer.c)
 */
#pragma once
#include "server/stream/writer.h"

/* Everything is borrowed.  One thread at a time. */
struct stream_sealer {
    struct hf_vault *vault;
    const char *source;
    const struct hf_signing *signing;
    struct hf_slab_worker *worker; // owned
    struct hf_id session;
    bool begun;        // its INTENT is in the log
    uint64_t sequence; // of our last log entry
};

HF_MUST_CHECK bool sealer_init(struct stream_sealer *sealer, const struct hf_stream_options *options,
                               struct hf_error *err);
void sealer_done(struct stream_sealer *sealer);
/*
 * Seals what the journal holds and the log has not, then removes the file.  Errors: those of hf_journal_read and of
 * writing; the journal is there then, and what was sealed of it is not sealed again.
 */
HF_MUST_CHECK bool sealer_journal(struct stream_sealer *sealer, const char *path, struct hf_error *err);
HF_MUST_CHECK bool sealer_gap(struct stream_sealer *sealer, const struct hf_vault_gap *gap, const char *cause,
                              struct hf_error *err);
/* END, if there was an INTENT. */
HF_MUST_CHECK bool sealer_end(struct stream_sealer *sealer, struct hf_error *err);

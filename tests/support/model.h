/*
 * model.h - a data directory in memory: handed to a session, and compared with what a restore wrote
 *
 * What it holds follows from its size and its generation alone, so that another process, or a test after a crash,
 * knows what a backup must contain.  From one generation to the next about a tenth of the pages change.
 */
#pragma once
#include "server/repository/session.h"
#include "server/restore/restore.h"
#include "tests/support/vault.h"

#define MODEL_FILES 8

struct model_file {
    const char *path;
    enum hf_file_kind kind;
    uint8_t page_log2;
    uint32_t mode;
    int64_t modified_at;
    size_t size;
    uint8_t *bytes;
};
struct model {
    struct model_file files[MODEL_FILES]; // the first is half of the bytes, the last is global/pg_control
};

/* About `bytes` in all, at least 1 MiB: short tails, an empty file, stretches of zeros, a tablespace, set-id bits. */
void model_make(struct model *made, size_t bytes, unsigned generation);
void model_done(struct model *model);
size_t model_bytes(const struct model *model);

/* What the sessions of tests have in common: two workers, the vault's signer and cache folder. */
struct hf_session_options model_options(struct test_vault *vault);

/* Files, folders and the tablespace's link, in pieces that end nowhere in particular. */
HF_MUST_CHECK bool model_hand_over(const struct model *model, struct hf_session *session, struct hf_error *err);
/* One file, and only its first `length` bytes; the file is ended when that is all of it, else stays open in *ret. */
HF_MUST_CHECK bool model_hand_over_file(const struct model_file *from, size_t length, struct hf_session *session,
                                        struct hf_session_file **ret, struct hf_error *err);
/* From begin to commit; a failure ends the session. */
HF_MUST_CHECK bool model_back_up(const struct model *model, struct hf_vault *vault,
                                 const struct hf_session_options *options, struct hf_session_outcome *ret,
                                 struct hf_error *err);

/* Fails the test unless `folder` holds the model as a restore writes it, and no file or link besides. */
void model_assert_folder(const struct model *model, const char *folder);
/* Restores the backup into a folder of its own below `scratch`, compares it, and removes the folder. */
void model_assert_restores(const struct model *model, struct hf_vault *vault, const struct hf_id *backup,
                           const char *scratch);

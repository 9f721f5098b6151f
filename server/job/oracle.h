/*
 * oracle.h - what a worker may ask of the daemon while it runs: a signature, or the keys of its database's vault
 *
 * The appliance's signing key and the root key stay in the daemon.  A worker parses bytes of strangers, so it may be
 * somebody else's by now; it gets a signature only for a log entry that a worker of its kind writes in the ordinary
 * course, in its own vault.
 *
 * Frames over a socket pair, one request at a time:
 *   request  u32 length of the payload, u8 what, payload
 *   answer   u32 length of the payload, u8 1 for yes or 0 for no, payload (for no: an error event, see wire.h)
 *
 *   what  payload                                             answer's payload
 *   1     the bytes of a log entry without its signature      64 bytes of signature
 *   2     {"engine", "identity"} of the database it reached   the vault's keys, as hf_vault_keys_export() writes them
 *
 * Why it is safe.  1: magic, version, flags, repository, appliance and signer are compared, the lengths add up,
 * the vault is the job's own (a collection may write to all), the kind is one that its row in kinds.c lists, the
 * sequence never goes back; so
 * the bytes can be nothing but such an entry (evidence and checkpoints begin otherwise, server/evidence/sign.h).
 * 2: only for kinds that need it; the engine is the source's; a source that has a vault already gets no other one
 * (CONFLICT: another database answers under this name), and the answer is given once.
 */
#pragma once
#include "base/buf.h"
#include "base/json.h"
#include "server/repository/vault_log.h"

#define HF_ORACLE_HEADER        5
#define HF_ORACLE_IDENTITY_MOST 128

enum hf_oracle_what { HF_ORACLE_SIGN = 1, HF_ORACLE_VAULT = 2 };

/* What one worker may have signed. */
struct hf_oracle_rights {
    struct hf_id repository, appliance;
    uint8_t public_key[HF_PUBLIC_BYTES];
    struct hf_id vault;            // none: nothing
    bool every_vault;              // any; `vault` is then the one of the last entry signed
    const enum hf_log_kind *kinds; // borrowed
    size_t kind_count;
    uint64_t least_sequence; // raised by each entry signed
};

/*
 * Whether the bytes are an entry that the rights allow; raises least_sequence when they are.
 * Errors: DENIED says what is wrong.
 */
HF_MUST_CHECK bool hf_oracle_check_entry(struct hf_oracle_rights *rights, const uint8_t *bytes, size_t length,
                                         struct hf_error *err);

/* The worker's side: one request and its answer, over a blocking descriptor. */
HF_MUST_CHECK bool hf_oracle_ask(int fd, enum hf_oracle_what what, const void *payload, size_t length,
                                 struct hf_buf *answer, struct hf_error *err);

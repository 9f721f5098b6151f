/*
 * send_copy.h - a restored folder sent to another host over SFTP
 *
 * Place: ssh://[user@]host[:port]/absolute/path.  Nothing of ours runs there: sshd with its sftp subsystem is enough.
 * The copy belongs to the user who logs in (log in as postgres), files 0600 and folders 0700, which is what PostgreSQL
 * wants.  The folder there must be missing, with its parent there, or empty.
 *
 * Each file is written, synced where the server offers fsync@openssh.com, closed, and its length asked for.
 * global/pg_control goes last: no server starts on less than all of it.  Names in folders cannot be synced over SFTP.
 */
#pragma once
#include <stdatomic.h>
#include "server/storage/sftp_client.h"

struct hf_send_options {
    const atomic_bool *cancel;      // or NULL
    _Atomic uint64_t *done, *total; // bytes, for progress; or NULL
};
struct hf_send_outcome {
    uint64_t files, bytes;
    bool synced; // the server offers it
};

/* Connects, and makes sure that the folder there is new or empty: it is made then.  `bytes`: what it is to hold. */
HF_MUST_CHECK bool hf_send_begin(const char *place, uint64_t bytes, struct hf_sftp **ret,
                                 struct hf_ssh_place *ret_place, struct hf_error *err);
/* Sends everything below `folder`.  What a failure leaves there has no global/pg_control. */
HF_MUST_CHECK bool hf_send_folder(struct hf_sftp *client, const struct hf_ssh_place *place, const char *folder,
                                  const struct hf_send_options *options, struct hf_send_outcome *ret,
                                  struct hf_error *err);

/*
 * peer.h - who is at the other end of a socket of ours
 */
#pragma once
#include <sys/types.h>
#include "server/settings/settings.h"

/*
 * The user who connected.  DENIED unless he is ourselves, root, or one of those whom the settings log_readers and
 * shred_confirmers let ask for one thing.  The socket's mode says the same where a file system heeds it.
 */
HF_MUST_CHECK bool hf_peer_check(const struct hf_settings *settings, int fd, uid_t *ret_uid, struct hf_error *err);

/* Whether he is one of the users that a setting names, separated by commas; NULL: none. */
bool hf_peer_listed(const char *users, uid_t uid);

/*
 * Binds and listens, non-blocking; what lies there must be a dead socket of ours.  Open to others with those settings.
 */
HF_MUST_CHECK bool hf_peer_listen(const struct hf_settings *settings, const char *path, int backlog, int *ret_fd,
                                  struct hf_error *err);

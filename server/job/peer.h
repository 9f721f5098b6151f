/*
 * peer.h - who is at the other end of a socket of ours
 */
#pragma once
#include <sys/types.h>
#include "server/settings/settings.h"

/*
 * The user who connected.  DENIED unless he is ourselves, root, or one of those whom the setting log_readers lets
 * ask for
 * log.  The socket's mode says the same where a file system heeds it.
 */
HF_MUST_CHECK bool hf_peer_check(const struct hf_settings *settings, int fd, uid_t *ret_uid, struct hf_error *err);

/* Binds and listens, non-blocking; what lies there must be a dead socket of ours.  Open to others with log_readers. */
HF_MUST_CHECK bool hf_peer_listen(const struct hf_settings *settings, const char *path, int backlog, int *ret_fd,
                                  struct hf_error *err);

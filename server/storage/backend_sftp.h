/*
 * backend_sftp.h - a repository on another host, by SFTP through the OpenSSH client
 *
 * Place: ssh://[user@]host[:port]/absolute/path (ssh_place.h).  Nothing of ours runs there: sshd with internal-sftp is
 * enough, the account may be confined to it.  What the server must offer is asked for when the place is opened and
 * refused by name: fsync@openssh.com, hardlink@openssh.com (a name that exactly one of two writers gets),
 * posix-rename@openssh.com.
 *
 * How durable it is (hf_backend_durability), tried at every opening:
 *   synced    bytes by fsync@openssh.com on the file, names by the same on the folder, which the SFTP server of
 *             OpenSSH allows on Linux.  As good as that host's disk obeys it.
 *   contents  bytes are synced, but the server syncs no folder: an object that was finished shortly before a power cut
 *             there may have lost its name.  Nothing is taken for granted then: each run of copy lists what is there
 *             and writes again what is missing.
 *
 * An object is written as vaults/<id>/staging/<name> or staging/<name>, synced, linked to its name, and unlinked from
 * staging.  A cut connection leaves it in staging, under no name that counts.  flock() does not reach over SFTP, so a
 * sweep cannot tell whose an upload is: it removes all but those of this handle.  The writer it belonged to, if it
 * lives, then fails with that upload when it links it, and nothing else happens.
 *
 * A broken connection fails what was under way, also uploads; the next call connects again, once.
 * Locks on objects (retain_until) are not kept here; those that a local repository left are obeyed, whatever their
 * date.
 */
#pragma once
#include "server/storage/backend.h"

/* `make` makes the last folder of the path when it is missing.  Errors: USAGE, DENIED, NOT_FOUND, UNAVAILABLE. */
HF_MUST_CHECK bool hf_backend_open_sftp(const char *place, bool make, struct hf_backend **ret, struct hf_error *err);

/*
 * runner.h - the one thing that holds privilege for an appliance that runs as an ordinary user
 *
 * `holdfast-runner` is root, small, and answers four requests on a Unix socket, to one user.  With it a sandbox of an
 * ordinary user's appliance gets a uid of its own and a ceiling over its memory (level L3); without it the level is L2.
 *
 * One connection is one uid: it is claimed when the connection is made and let go when it ends.  With it end the
 * sandbox that was launched through it, and what was given away comes back, however the other side died.
 *
 *     client                            runner (sandbox/runner_main.c)
 *     connects                          the peer's uid must be the one user; claims a uid (uids.h)
 *     'G' + folder                ->    everything in it that is the client's becomes the sandbox's
 *     'L' + spec, events, control, errors -> reads the spec, checks it again, executes holdfast-sandbox
 *     'T' + folder                ->    what is the sandbox's becomes the client's
 *     'U'                         ->    which uid it is
 *     each is answered with one reply
 *
 * A request is one packet (SOCK_SEQPACKET): the letter, with its descriptors beside it (SCM_RIGHTS).  A reply is
 *
 *     offset  bytes  what
 *          0      4  enum hf_error_kind, 0: done                                         (in this machine's byte order)
 *          4      4  the uid
 *          8    248  why not, NUL-terminated
 *
 * Why this is safe to hand to somebody who may have been taken over: it never takes a path, only descriptors that he
 * could open himself, reads plain files and writes to pipes and sockets only; it changes the owner of nothing but his
 * files (to a uid that owns nothing else) and back; the launcher opens what a spec names with his rights and not with
 * root's, and measures no folder but one that was given to this sandbox; a spec may ask for level L3 only, with every
 * limit set, no layer left out, no group and no folder to remove; the program inside runs as a uid that nobody has, and
 * everything of that uid is killed before somebody else gets it.
 *
 * SIGTERM ends the service: sandboxes first, then what was given away comes back, then the socket goes.
 */
#pragma once
#include <sys/types.h>
#include "base/error.h"

#define HF_RUNNER_SOCKET "/run/holdfast-runner.sock"

#define HF_RUNNER_MESSAGE_BYTES 248
#define HF_RUNNER_GIVEN_MOST    8 // folders of one connection

enum { HF_RUNNER_ASK_UID = 'U', HF_RUNNER_GIVE = 'G', HF_RUNNER_TAKE = 'T', HF_RUNNER_LAUNCH = 'L' };

struct hf_runner_reply {
    uint32_t kind;
    uint32_t uid;
    char message[HF_RUNNER_MESSAGE_BYTES];
};
_Static_assert(sizeof(struct hf_runner_reply) == 256, "a reply is 256 bytes");

struct hf_runner;

/* Errors: NOT_FOUND when none listens there, DENIED when it serves somebody else, NO_SPACE. */
HF_MUST_CHECK bool hf_runner_open(const char *socket, struct hf_runner **ret, struct hf_error *err);
void hf_runner_freep(struct hf_runner **runner);
uid_t hf_runner_uid(const struct hf_runner *runner);
const char *
hf_runner_socket(const struct hf_runner *runner); // where it was reached: for another connection, another uid

HF_MUST_CHECK bool hf_runner_give(struct hf_runner *runner, const char *folder, struct hf_error *err);
HF_MUST_CHECK bool hf_runner_take(struct hf_runner *runner, const char *folder, struct hf_error *err);
/* The descriptors stay the caller's. */
HF_MUST_CHECK bool hf_runner_launch(struct hf_runner *runner, int spec, int events, int control, int errors,
                                    struct hf_error *err);

/*
 * cage.h - the sandbox's first process: makes the walls, then runs the engine and reaps what it leaves
 *
 * In namespaces it is pid 1: when it goes, the kernel takes everything inside along, and it goes when its
 * launcher does (death signal, and the end of the orders pipe).
 *
 *     launcher                            init                          engine
 *     hf_cage_start: clone       ->       waits at the gate
 *     maps, cgroup, opens gate   ->       uid, root, limits,
 *     hf_cage_next: notes        <-       capabilities, seccomp, fork -> Landlock, exec
 *     orders (signals)           ->       kill                       -> ...
 *     notes: exit                <-       waits, reaps                  ends
 */
#pragma once
#include <sys/types.h>
#include "sandbox/cgroup.h"
#include "sandbox/launch.h"

#define HF_NOTE_TEXT_BYTES 448

enum hf_note_kind {
    HF_NOTE_REACHED, // text: a layer's name
    HF_NOTE_MISSING, // text: a layer's name, a NUL, and why
    HF_NOTE_FAILED,  // text: the error's message; value: its kind; see `forbidden`
    HF_NOTE_STARTED, // the engine's program runs; value: its pid on the inside; text: digest of the call filter
    HF_NOTE_EXIT,    // value: the engine's status as from waitpid()
    HF_NOTE_END,     // init is gone without a word
};

/* Written whole by init, so never mixed with another. */
struct hf_note {
    uint32_t kind;
    int32_t value;
    uint32_t system;    // errno
    uint32_t forbidden; // the host does not allow this level: a lower one may work
    char text[HF_NOTE_TEXT_BYTES];
};

struct hf_cage {
    pid_t pid; // of init, on the host; -1: none
    int pidfd;
    int notes;
    int orders;
};

#define HF_CAGE_NONE ((struct hf_cage){.pid = -1, .pidfd = -1, .notes = -1, .orders = -1})

/*
 * Starts init at the given level, its processes inside the control groups.  *ret_forbidden tells a host that does not
 * allow this level from every other failure.  The engine's outputs go to descriptor 2; descriptors above the
 * launcher's own are none of its business.
 */
HF_MUST_CHECK bool hf_cage_start(const struct hf_launch *launch, enum hf_sandbox_level level, struct hf_cgroup *cgroup,
                                 struct hf_cage *ret, bool *ret_forbidden, struct hf_error *err);
/* The next note, waiting for it. */
HF_MUST_CHECK bool hf_cage_next(struct hf_cage *cage, struct hf_note *ret, struct hf_error *err);
bool hf_cage_order(struct hf_cage *cage, int signal); // sent to the engine's first process
/* Kills everything inside and waits until it is gone.  NONE is fine. */
void hf_cage_destroy(struct hf_cage *cage, enum hf_sandbox_level level);

/*
 * cgroup.h - one ceiling over the memory and the number of processes of a whole sandbox
 *
 * Each controller is looked for by itself, in version 1 or 2 of control groups: hosts mix them.  Where one
 * cannot be had, `why` says so in words and the sandbox runs without that limit.  Ours lie below the group
 * the launcher runs in (so that whatever limits us limits them too), or below one that was delegated to us.
 *
 * Groups outlive their processes: the kernel removes none.  Names carry the launcher's pid, and every
 * launcher first removes the groups of launchers that are gone.
 */
#pragma once
#include <sys/types.h>
#include "sandbox/launch.h"

struct hf_cgroup_part {
    int version;      // 1 or 2; 0: this limit could not be had
    char folder[512]; // of our group; "" when version is 0
    char home[384];   // of the group the launcher came from; "" when it does not enter
    bool entered;     // by the launcher, whose child was born in it
    char why[192];    // what was in the way; "" when version is not 0
};

struct hf_cgroup {
    struct hf_cgroup_part memory, processes;
};

/* Never fails: what is missing is in `why`.  `below` as in struct hf_launch. */
void hf_cgroup_make(const char *below, const struct hf_launch_limits *limits, struct hf_cgroup *ret);
/*
 * The launcher goes in, has its child born there, and comes out again.  In version 1 that takes a tenth of a
 * millisecond, where moving another process waits for all processors (10 to 20 ms): only a thread that moves itself
 * needs no lock.  The launcher must have one thread only.  A part that refuses is given up, with its reason.
 */
void hf_cgroup_enter(struct hf_cgroup *cgroup);
void hf_cgroup_leave(struct hf_cgroup *cgroup);
/* Moves a process into the parts that were not entered; its children will be born there. */
void hf_cgroup_add(struct hf_cgroup *cgroup, pid_t pid);
uint64_t hf_cgroup_oom_kills(const struct hf_cgroup *cgroup);
uint64_t hf_cgroup_peak_bytes(const struct hf_cgroup *cgroup); // 0 when not known
void hf_cgroup_remove(struct hf_cgroup *cgroup);               // once every process is gone

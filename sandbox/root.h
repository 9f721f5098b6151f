/*
 * root.h - the only file tree the engine ever sees
 *
 * A small tmpfs, read-only once filled, into which each file and folder of the spec is mounted by itself:
 * nothing is there because it happened to lie beside something needed.  The host's tree is detached, not
 * hidden.  Sources are opened as descriptors first, so that no path is walked twice.
 */
#pragma once
#include "sandbox/launch.h"

struct hf_root {
    const struct hf_launch *launch; // borrowed from the caller
    int *sources;                   // one descriptor an entry; -1 where it comes from nowhere
    bool *folders;                  // whether that entry's source is a folder
    bool detached;                  // sources are mounts of their own (open_tree), to be moved in; else plain places
};

/*
 * Opens what the entries come from.  Root does this before the namespaces are made, so that no folder on the way
 * needs to be searchable by the sandbox's uid; an ordinary user does it inside, where it may clone mounts.
 * Errors: NOT_FOUND and DENIED name the path.
 */
HF_MUST_CHECK bool hf_root_open(const struct hf_launch *launch, struct hf_root *ret, struct hf_error *err);

/*
 * Inside a new mount namespace: builds the tree, moves into it and lets go of the host's.
 * `uid` and `gid` will own what can be written.
 */
HF_MUST_CHECK bool hf_root_enter(struct hf_root *root, uid_t uid, gid_t gid, struct hf_error *err);
void hf_root_done(struct hf_root *root);

/*
 * launch.h - what the launcher is told: one JSON document, written by sandbox.c, read by main.c
 *
 * The launcher trusts its caller with the choice of files, yet reads the document as if a stranger had
 * written it: every member is required, unknown members are refused, everything has a limit.
 *
 *     {"lowest": "L2", "host_uid": 300017, "host_gid": 300017, "without": [],
 *      "entries": [{"kind": "run", "from": "/usr/lib/x/server", "to": "/usr/lib/x/server", "bytes": 0}, ...],
 *      "program": "/usr/lib/x/server", "directory": "/data",
 *      "arguments": ["server", ...], "environment": ["TZ=UTC", ...],
 *      "flat": {"program": ..., "directory": ..., "arguments": [...], "environment": [...]} or null,
 *      "limits": {"memory_bytes": 0, "processes": 0, "open_files": 1024, "disk_bytes": 0, "wall_ms": 0},
 *      "loopback": false, "inet": false, "cgroup": "", "watched": "/var/.../data", "remove": "/run/..."}
 *
 * Paths are absolute and plain: no "//", no "." or "..", no control bytes.  A limit of 0 is no limit.
 *
 * It answers with one JSON object a line.  First one of
 *
 *     {"event": "started", "level": "L3", "layers": ["user_namespace", ...], "missing": [{"layer": ..., "why": ...},
 *     ...],
 *      "kernel": "6.1.0", "machine": "x86_64", "landlock_version": 2, "seccomp_sha256": "9f86...",
 *      "memory_cgroup_version": 2, "pid": 4711, "create_us": 5200}
 *     {"event": "failed", "kind": "denied", "system": 1, "message": ..., "hint": ...}
 *
 * and, after "started", one of "failed" and
 *
 *     {"event": "ended", "exit_code": 0, "signal": 0, "killed_by": "", "oom_kills": 0, "memory_peak_bytes": 0,
 *      "teardown_us": 900}
 *
 * when nothing of the sandbox is left.  exit_code is -1 where a signal ended the engine.  killed_by is "" (it ended by
 * itself), "caller", "wall", "memory" or "disk".
 */
#pragma once
#include <sys/types.h>
#include "base/json.h"

#define HF_LAUNCH_MOST_BYTES       HF_MIB // of the document
#define HF_LAUNCH_MOST_EVENT_BYTES (16 * HF_KIB)
#define HF_LAUNCH_MOST_ENTRIES     1024
#define HF_LAUNCH_MOST_WORDS       512  // arguments, and as many variables
#define HF_LAUNCH_WORD_BYTES       8192 // the longest of them
#define HF_LAUNCH_PATH_BYTES       4096
#define HF_LAUNCH_MOST_FILES       65536 // open files: the program's descriptor is numbered above them

/* The descriptors the launcher is started with. */
enum { HF_LAUNCH_SPEC_FD = 3, HF_LAUNCH_EVENTS_FD = 4, HF_LAUNCH_CONTROL_FD = 5 };

/* From weak to strong.  L0 is no isolation at all: nothing ever runs there. */
enum hf_sandbox_level {
    HF_SANDBOX_L0,
    HF_SANDBOX_L1,  // no namespaces: no_new_privileges, seccomp, Landlock, rlimits
    HF_SANDBOX_L2,  // every namespace, started by an ordinary user, whose own uid it keeps
    HF_SANDBOX_L3R, // as L3, on a host that forbids user namespaces
    HF_SANDBOX_L3,  // every namespace, started by root, with a uid of its own
};

const char *hf_sandbox_level_name(enum hf_sandbox_level level); // "L3"
HF_MUST_CHECK bool hf_sandbox_level_parse(const char *name, enum hf_sandbox_level *ret, struct hf_error *err);

/* Layers left out on purpose, to stand in for a host that lacks them.  The report names each as missing. */
enum hf_sandbox_without {
    HF_WITHOUT_USER_NAMESPACE = 1 << 0,
    HF_WITHOUT_NAMESPACES = 1 << 1,
    HF_WITHOUT_MOUNT_CALLS = 1 << 2, // open_tree and its kin: mount() is used, as before Linux 5.12
    HF_WITHOUT_LANDLOCK = 1 << 3,
    HF_WITHOUT_CGROUP = 1 << 4,
};

enum hf_launch_kind {
    HF_LAUNCH_RUN,    // a file or folder, read-only, whose bytes may be executed
    HF_LAUNCH_READ,   // a file or folder, read-only
    HF_LAUNCH_WRITE,  // a folder that can be written, never executed
    HF_LAUNCH_MEMORY, // a tmpfs of `bytes`, never executed
    HF_LAUNCH_EMPTY,  // an empty folder
};

struct hf_launch_entry {
    enum hf_launch_kind kind;
    char *from; // on the host; "" for MEMORY and EMPTY
    char *to;   // inside
    uint64_t bytes;
};

struct hf_launch_command {
    char *program;      // path of the executable, as seen by the engine
    char *directory;    // where it starts
    char **arguments;   // ends with NULL
    char **environment; // ends with NULL
};

struct hf_launch_limits {
    uint64_t memory_bytes; // of all processes together, where a cgroup can hold it
    uint64_t processes;
    uint64_t open_files; // of one process; 16 to HF_LAUNCH_MOST_FILES
    uint64_t disk_bytes; // what lies under `watched`
    uint64_t wall_ms;
};

struct hf_launch {
    enum hf_sandbox_level lowest;
    uid_t host_uid; // whom the processes are on the host; ours when we are not root
    gid_t host_gid;
    unsigned without; // of enum hf_sandbox_without
    struct hf_launch_entry *entries;
    size_t entry_count;
    struct hf_launch_command command;
    struct hf_launch_command flat; // for L1, where the host's paths are seen; program NULL when L1 is not allowed
    struct hf_launch_limits limits;
    bool loopback;    // bring `lo` up
    bool inet;        // allow AF_INET and AF_INET6 sockets
    char *cgroup;     // the control group to make ours in, below each controller's root; "" for our own
    char *watched;    // the folder `disk_bytes` is about; "" for none
    uid_t client_uid; // not in the document: with whose rights the sources of entries are opened; 0: with our own
    gid_t client_gid;
    char *remove; // a folder to remove at the end; "" for none
};

/* CORRUPT names the member.  Free with hf_launch_done, also after an error. */
HF_MUST_CHECK bool hf_launch_parse(const void *text, size_t length, struct hf_launch *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_launch_write(const struct hf_launch *launch, struct hf_buf *out, struct hf_error *err);
void hf_launch_done(struct hf_launch *launch);

/* Whether a path is one the launcher takes. */
bool hf_launch_path_is_plain(const char *path);

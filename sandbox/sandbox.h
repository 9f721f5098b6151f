/*
 * sandbox.h - where restored data runs: hostile code behind walls
 *
 * A restored database is code from a stranger (promise 8).  It is started only here: in namespaces of its own, in a
 * file tree that holds nothing but the server, with limits, without network, and it ends when we do.  This room knows
 * neither repositories nor catalogs nor what a database is: the caller gives a folder and a spec, an engine (a table of
 * functions) says which files the server needs and how it is started, and what comes back is a socket, log lines and
 * an exit status.
 *
 *     spec -> hf_sandbox_start -> holdfast-sandbox (launcher) -> init -> engine
 *                  |                     events  ^                |
 *             socket, log  <---------------------+----------------+
 *
 * The launcher dies with the thread that called hf_sandbox_start(): call it from one that lives as long as the sandbox.
 * All other functions may be called from any thread, one at a time for one sandbox.
 */
#pragma once
#include <sys/types.h>
#include "sandbox/launch.h"
#include "sandbox/runner.h"

#define HF_SANDBOX_LINE_BYTES 4096 // a longer log line is cut in pieces

struct hf_sandbox;      // a running one
struct hf_sandbox_root; // what an engine fills: the files and folders it needs

#define HF_SANDBOX_SETTINGS "/settings" // places.settings, but at level L1

/* Where things lie, as the engine sees them: inside, or on the host at level L1. */
struct hf_sandbox_places {
    const char *data;     // the restored folder; writable
    const char *socket;   // for the server's socket; writable
    const char *memory;   // for temporary files, a tmpfs except at L1; writable
    const char *settings; // what hf_sandbox_root_add_setting() was given; read-only
    bool flat;            // level L1: everything lies where it lies on the host
};

/* The command an engine builds; grows by the functions below. */
struct hf_sandbox_command;
HF_MUST_CHECK bool hf_sandbox_command_program(struct hf_sandbox_command *command, const char *path,
                                              struct hf_error *err);
HF_MUST_CHECK bool hf_sandbox_command_argument(struct hf_sandbox_command *command, struct hf_error *err,
                                               const char *format, ...) HF_PRINTF(3, 4);
HF_MUST_CHECK bool hf_sandbox_command_variable(struct hf_sandbox_command *command, struct hf_error *err,
                                               const char *format, ...) HF_PRINTF(3, 4);

/*
 * Brings something of the host into the root, at the same path or at another.  Links are followed on the host's side.
 * The same thing twice is fine; two things at one place are not: CONFLICT.
 */
HF_MUST_CHECK bool hf_sandbox_root_add(struct hf_sandbox_root *root, enum hf_launch_kind kind, const char *from,
                                       const char *to, struct hf_error *err);
HF_MUST_CHECK bool hf_sandbox_root_add_memory(struct hf_sandbox_root *root, const char *to, uint64_t bytes,
                                              struct hf_error *err);
/*
 * A program, put at `to`, with its loader and every library it needs (see elf.h); `modules` are more files, opened at
 * run time, whose libraries are needed too; both lists end with NULL.  Libraries are put into /lib under their own
 * names.
 */
HF_MUST_CHECK bool hf_sandbox_root_add_program(struct hf_sandbox_root *root, const char *program, const char *to,
                                               const char *const *modules, const char *const *library_folders,
                                               struct hf_error *err);
/* A settings file of ours, at <places.settings>/<name>. */
HF_MUST_CHECK bool hf_sandbox_root_add_setting(struct hf_sandbox_root *root, const char *name, const char *text,
                                               struct hf_error *err);

/* What a log line says about the engine. */
enum hf_sandbox_news { HF_SANDBOX_NO_NEWS, HF_SANDBOX_READY };

struct hf_sandbox_engine {
    const char *name; // "postgres"
    /* Names every file and folder of the host that the server needs.  NOT_FOUND names the package that is missing. */
    bool (*list)(const void *settings, struct hf_sandbox_root *root, struct hf_error *err);
    /* Program, arguments and environment; called once for each way to see the files. */
    bool (*command)(const void *settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                    struct hf_error *err);
    /* Judges one log line: does it take connections now? */
    enum hf_sandbox_news (*judge)(const char *line);
    /* The server's socket below places.socket, or NULL: "/.s.PGSQL.5432" */
    const char *socket_name;
};

/* 0 means the default that stands behind. */
struct hf_sandbox_limits {
    uint64_t memory_bytes;    // 1 GiB: of all processes together, tmpfs included
    uint64_t processes;       // 256
    uint64_t open_files;      // 1024 in one process
    uint64_t disk_bytes;      // none: what may lie in the data folder altogether
    uint64_t log_bytes;       // 16 MiB: of what it writes to its outputs; more ends it
    uint64_t wall_ms;         // 1 h
    uint64_t temporary_bytes; // 256 MiB: of /tmp and of /dev/shm each
};

struct hf_sandbox_spec {
    const struct hf_sandbox_engine *engine;
    const void *settings; // the engine's own, borrowed until hf_sandbox_start() returns
    const char *data;     // absolute; it and all below belong to host_uid; NULL for none
    const char *folder;   // where a private folder for socket and settings is made; NULL: /run, /dev/shm or /tmp
    const char *launcher; // path of holdfast-sandbox; NULL: beside our own program, else where it is installed
    struct hf_sandbox_limits limits;
    enum hf_sandbox_level lowest; // refuse below this; L0: the default, L2
    uid_t host_uid;               // when root: whom the processes are on the host, not 0; else ignored
    gid_t host_gid;
    struct hf_runner
        *runner;        // when not root: who gives it a uid of its own (runner.h), and takes the data back; or NULL
    bool loopback;      // an interface `lo` of its own
    bool inet;          // TCP and UDP sockets (which reach nothing but that)
    const char *cgroup; // control group delegated to us, below each controller's root; NULL: our own
    unsigned without;   // of enum hf_sandbox_without: for tests
    void (*on_line)(void *context, const char *line); // each log line, on a thread of ours; may be NULL
    void *context;
};

/* Why a sandbox is no more. */
enum hf_sandbox_end {
    HF_SANDBOX_RUNNING,
    HF_SANDBOX_EXITED,    // by itself: exit_code or signal
    HF_SANDBOX_STOPPED,   // by us
    HF_SANDBOX_OVER_WALL, // killed at a limit
    HF_SANDBOX_OVER_MEMORY,
    HF_SANDBOX_OVER_DISK,
    HF_SANDBOX_OVER_LOG,
    HF_SANDBOX_BROKEN, // the launcher itself failed
};

struct hf_sandbox_exit {
    enum hf_sandbox_end end;
    int exit_code; // -1 when a signal ended it
    int signal;    // 0 when none did
};

/* "exited", "over_memory", ...; and in words: "the server was killed at its memory limit of 512 MiB" (into text). */
const char *hf_sandbox_end_name(enum hf_sandbox_end end);

/*
 * Returns when the server's program runs inside (which is not yet "ready").
 * Owner: the caller, until hf_sandbox_freep(), which stops it.
 * Errors: DENIED when the host gives no level the spec allows (the hint says what would help), USAGE for a spec that
 * makes no sense, NOT_FOUND for missing programs, NO_SPACE, NO_MEMORY, UNAVAILABLE.  Nothing is left behind then.
 */
HF_MUST_CHECK bool hf_sandbox_start(const struct hf_sandbox_spec *spec, struct hf_sandbox **ret, struct hf_error *err);
void hf_sandbox_freep(struct hf_sandbox **sandbox);

/* The folder on the host that holds the server's socket (libpq's "host"); good as long as the sandbox. */
const char *hf_sandbox_socket_path(const struct hf_sandbox *sandbox);

/* Waits at most timeout_ms (-1: for ever) for the server to take connections; false when it ended or time ran out. */
bool hf_sandbox_wait_ready(struct hf_sandbox *sandbox, int timeout_ms);
/* Waits until it has ended and nothing of it is left: end RUNNING when time ran out.  0 to look. */
HF_MUST_CHECK bool hf_sandbox_wait_exit(struct hf_sandbox *sandbox, int timeout_ms, struct hf_sandbox_exit *ret,
                                        struct hf_error *err);

/*
 * The first whole log line at or behind *position that contains the text; *position becomes the place behind it,
 * `found` (may be NULL) gets the line.  Waits at most timeout_ms for one to appear; false in *ret when none did, or the
 * sandbox ended first.  Positions count bytes of the log, from 0.
 */
HF_MUST_CHECK bool hf_sandbox_log_wait(struct hf_sandbox *sandbox, const char *text, uint64_t *position, int timeout_ms,
                                       struct hf_buf *found, bool *ret, struct hf_error *err);
/* Everything it wrote so far, at most limits.log_bytes.  Foreign bytes: may hold anything but NUL. */
HF_MUST_CHECK bool hf_sandbox_log_copy(struct hf_sandbox *sandbox, struct hf_buf *out, struct hf_error *err);

/* Sends a signal to the server's first process (SIGINT: PostgreSQL's fast shutdown). */
HF_MUST_CHECK bool hf_sandbox_signal(struct hf_sandbox *sandbox, int signal, struct hf_error *err);
/* Kills what still runs and waits until no process, mount, group or folder of it is left. */
HF_MUST_CHECK bool hf_sandbox_stop(struct hf_sandbox *sandbox, struct hf_sandbox_exit *ret, struct hf_error *err);

/*
 * What evidence records, as a new object: level, layers, missing (layer and why), kernel, landlock_version,
 * seccomp_sha256, limits, create_us (call to exec), and once it has ended: end, exit_code, signal, oom_kills,
 * memory_peak_bytes, log_bytes, teardown_us.
 */
HF_MUST_CHECK bool hf_sandbox_report(struct hf_sandbox *sandbox, json_t **ret, struct hf_error *err);

/*
 * Makes a sandbox that only tries to break out, in about fifty ways.  *ret_report: the report above and "attempts", an
 * array of {"name", "refused", "how"}; *ret_holds: every one was refused.  Of the spec only launcher, folder, lowest,
 * host_uid, host_gid, runner, cgroup and without count.
 */
HF_MUST_CHECK bool hf_sandbox_probe(const struct hf_sandbox_spec *spec, json_t **ret_report, bool *ret_holds,
                                    struct hf_error *err);

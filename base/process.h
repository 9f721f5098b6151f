/*
 * process.h - other programs: started without a shell, watched, never left behind
 *
 * Arguments are an array; nothing goes through a shell.  The child gets only the descriptors named
 * here, default signal handlers, an environment of our choosing, and dies with us.
 *
 * "With us" is the thread that started it: Linux sends the death signal when that thread ends, even if the process
 * lives on.  So start long-lived children from a thread that lives as long.
 */
#pragma once
#include <sys/types.h>
#include "base/buf.h"

struct hf_process_options {
    const char *const *argv;        // argv[0] is the path, or a name looked up in PATH; ends with NULL
    const char *const *environment; // "NAME=value"..., ends with NULL; NULL: PATH, LANG=C.UTF-8 and TZ=UTC only
    const char *directory;          // where it starts, or NULL
    int stdin_fd;                   // -1: /dev/null
    int stdout_fd;                  // -1: /dev/null
    int stderr_fd;                  // -1: /dev/null
    const int (*pass_fds)[2];       // {our descriptor, its number in the child (>= 3)}
    size_t pass_fd_count;
    uid_t uid; // with gid, when become is set: runs as that user, without extra groups
    gid_t gid;
    bool become;
    bool outlives_us; // true: no death signal from us, and a session of its own (a daemon)
};

#define HF_PROCESS_MOST_FDS 16 // most pass_fds

struct hf_process {
    pid_t pid;
    int pidfd;
};

#define HF_PROCESS_NONE ((struct hf_process){.pid = -1, .pidfd = -1})

/* Fails in the parent, with the child's errno, when the program could not be executed; nothing is left running then. */
HF_MUST_CHECK bool hf_process_start(const struct hf_process_options *options, struct hf_process *ret,
                                    struct hf_error *err);
/* False when it has ended. */
bool hf_process_signal(const struct hf_process *process, int signal);
/*
 * Waits at most timeout_ms (-1: for ever).  *ret_ended false on timeout.  Status as from waitpid(); *process is NONE
 * once it has ended.
 */
HF_MUST_CHECK bool hf_process_wait(struct hf_process *process, int timeout_ms, bool *ret_ended, int *ret_status,
                                   struct hf_error *err);
void hf_process_kill(struct hf_process *process); // SIGKILL and reap; NONE is fine: what _cleanup_() calls

/*
 * Runs to the end: feeds `input`, collects both outputs up to their limits (more is read and
 * dropped), kills at the timeout (-1: none).  False when it could not start or timed out; the exit status is
 * the caller's to judge.  A stream that is not asked for (input, output or errors NULL) is as in the options.
 */
HF_MUST_CHECK bool hf_process_run(const struct hf_process_options *options, const void *input, size_t input_length,
                                  int timeout_ms, struct hf_buf *output, struct hf_buf *errors, int *ret_status,
                                  struct hf_error *err);

/*
 * client.h - one request to holdfastd, and what comes back
 *
 * The daemon is found through its lock (server/job/lock.h).  When none runs, a private one is started: same code,
 * a socket of its own, gone when it is idle.  Ctrl-C asks the job to stop and waits for its answer; a second
 * one leaves at once, and the daemon then stops the job by itself.
 */
#pragma once
#include "server/job/wire.h"

/* How a request goes: each event that is no answer yet is handed to `watch`. */
typedef void hf_client_watch(void *context, const json_t *event);

struct hf_client_answer {
    json_t *result; // NULL when it failed
    enum hf_exit exit;
    struct hf_error error; // when it failed
};
void hf_client_answer_done(struct hf_client_answer *answer);

/*
 * Sends one request and waits for its answer.  `settings` is the option or NULL.  False: there is no answer; the
 * daemon could not be reached or went away.
 */
HF_MUST_CHECK bool hf_client_ask(const char *settings, const char *command, const json_t *arguments,
                                 hf_client_watch *watch, void *context, struct hf_client_answer *ret,
                                 struct hf_error *err);

/* The folder our own program lies in, for finding holdfastd; free() it. */
char *hf_client_program_folder(void);

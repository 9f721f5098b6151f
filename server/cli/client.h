/*
 * client.h - reaching holdfastd, or starting a private one
 *
 * First the service's socket; then the one that the lock file of the state folder names (an embedded daemon that
 * another `holdfast` started); else one is started, and leaves again when it is idle.
 */
#pragma once
#include "server/cli/command.h"

struct hf_client_watch {
    void *context;
    /* Hears job, progress and note events. */
    void (*event)(void *context, const json_t *event);
    /* Asked a few times a second; true: the job is to be cancelled. */
    bool (*wants_end)(void *context);
};

/*
 * Sends one request and waits for its end.  True: *ret_result and *ret_exit; the daemon's error otherwise.
 * Also UNAVAILABLE and DENIED when no daemon could be reached or started.
 */
HF_MUST_CHECK bool hf_client_ask(const struct hf_settings *settings, const char *command, const json_t *arguments,
                                 bool detach, const struct hf_client_watch *watch, json_t **ret_result,
                                 enum hf_exit *ret_exit, struct hf_error *err);

/*
 * Asks the worker that serves a source's log ("log get": log_socket.h), if there is one.  *ret_answered false: there is
 * none, or it left without a word, and the daemon is to be asked; never starts anything.
 */
HF_MUST_CHECK bool hf_client_ask_log(const struct hf_settings *settings, const json_t *arguments, bool *ret_answered,
                                     json_t **ret_result, struct hf_error *err);

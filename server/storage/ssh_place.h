/*
 * ssh_place.h - ssh://[user@]host[:port]/absolute/path, and the OpenSSH client that reaches it
 *
 * The path is taken as it stands.  The client runs without a person (BatchMode), with the host's key known beforehand
 * (StrictHostKeyChecking), and forwards nothing.  Its words are turned into an error that says what to do.
 */
#pragma once
#include "base/error.h"

#define HF_SSH_NAME_BYTES      256
#define HF_SSH_PATH_BYTES      1024
#define HF_SSH_ARGUMENTS_MOST  64
#define HF_SSH_CONNECT_SECONDS 20

struct hf_ssh_place {
    char user[HF_SSH_NAME_BYTES]; // "": as ssh finds it
    char host[HF_SSH_NAME_BYTES]; // an IPv6 address without its brackets
    char port[8];                 // "": as ssh finds it
    char path[HF_SSH_PATH_BYTES]; // without a slash at the end
};
/* USAGE says what form a place has. */
HF_MUST_CHECK bool hf_ssh_place_parse(const char *text, struct hf_ssh_place *ret, struct hf_error *err);
/* The same for a host alone, [user@]host[:port]; the path is "". */
HF_MUST_CHECK bool hf_ssh_host_parse(const char *text, struct hf_ssh_place *ret, struct hf_error *err);

/*
 * What the settings say of ssh; NULL is ssh's own choice.  One set for the whole process, given before the first
 * place is opened; the texts are copied.
 */
struct hf_ssh_options {
    const char *identity_file; // private key
    const char *known_hosts;   // keys of hosts; then no others are looked at
};
HF_MUST_CHECK bool hf_ssh_use(const struct hf_ssh_options *options, struct hf_error *err);

/* The arguments that start the sftp subsystem there. */
struct hf_ssh_command {
    const char *argv[HF_SSH_ARGUMENTS_MOST]; // ends with NULL; borrows from here and from the place
    char identity[HF_SSH_PATH_BYTES];
    char known_hosts[HF_SSH_PATH_BYTES + 32];
    char timeout[32];
    char read_secret[128];
};
void hf_ssh_command(const struct hf_ssh_place *place, struct hf_ssh_command *ret);

/*
 * The arguments that run a program there instead.  ssh gives them to the account's shell in one line, so every word
 * must be of [A-Za-z0-9%+,./:=@_-] and reads to a shell as it stands; USAGE names the first that is not.  With
 * `secret_in` (the name of a variable) the program gets the first line of stdin in its environment under that name.
 */
HF_MUST_CHECK bool hf_ssh_program(const struct hf_ssh_place *place, const char *const *words, const char *secret_in,
                                  struct hf_ssh_command *ret, struct hf_error *err);

/* Makes an error of what ssh printed before it ended, and returns false.  An empty text: the connection broke. */
bool hf_ssh_explain(const char *place, const char *said, struct hf_error *err);

/*
 * build.h - inside this room: gathers what an engine asks for into the launcher's spec
 */
#pragma once
#include "sandbox/sandbox.h"

struct hf_sandbox_root {
    struct hf_launch_entry *entries; // HF_LAUNCH_MOST_ENTRIES of them
    size_t count;
    const char *settings_folder; // on the host; borrowed from the sandbox
};

struct hf_sandbox_command {
    struct hf_launch_command command;
    size_t argument_count, variable_count;
};

HF_MUST_CHECK bool hf_sandbox_root_init(struct hf_sandbox_root *root, const char *settings_folder,
                                        struct hf_error *err);
void hf_sandbox_root_done(struct hf_sandbox_root *root);
HF_MUST_CHECK bool hf_sandbox_command_init(struct hf_sandbox_command *command, const char *directory,
                                           struct hf_error *err);
void hf_sandbox_command_done(struct hf_sandbox_command *command);

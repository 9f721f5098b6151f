/*
 * local.h - commands that need no daemon, or more than one request to it
 */
#pragma once
#include "server/cli/command.h"

HF_MUST_CHECK bool hf_cli_evidence_verify(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_settings(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_version(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_restore(struct hf_cli *cli, json_t **ret, struct hf_error *err); // folder, sandbox or dump

/*
 * retention.h - `holdfast retention apply`: what was looked at is what is done
 *
 * With --plan the daemon is asked at once.  Else it is asked for its plan; the plan is shown and the person at the
 * terminal asked, or --yes has said it all; and what the daemon is then asked for is that plan by name, so that it
 * refuses when anything has changed meanwhile.
 */
#pragma once
#include "server/cli/command.h"

HF_MUST_CHECK bool hf_cli_retention_apply(struct hf_cli *cli, json_t **ret, struct hf_error *err);

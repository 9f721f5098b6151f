/*
 * init.h - `holdfast init`: from nothing to a repository that can be backed up into
 *
 * Needs no daemon.  Makes, in this order: the key file, the signing key, the repository with the slot "server" for
 * unattended use, the slot "safe" when there is a passphrase, the house vault, the evidence ledger, and last the
 * settings, unless there are some already: then they say where everything lies.  Key file and signing key that are
 * there already are used, so that a run that failed half-way can be repeated; a repository never is.
 */
#pragma once
#include "server/cli/command.h"

HF_MUST_CHECK bool hf_cli_init(struct hf_cli *cli, json_t **ret, struct hf_error *err);

/*
 * collecting.h - pruning and collecting in a throw-away repository, for tests of what lies after backups
 */
#pragma once
#include "server/care/collect.h"
#include "tests/support/vault.h"

#define COLLECTING_NOW INT64_C(1800000000000)

/* What tests collect with: the vault's signer and cache folder, small containers. */
struct hf_collect_options collecting_options(struct test_vault *vault);
HF_MUST_CHECK bool collecting_prune(struct test_vault *vault, const struct hf_id *backup, struct hf_error *err);
/* PIN or UNPIN. */
HF_MUST_CHECK bool collecting_pin(struct test_vault *vault, enum hf_log_kind kind, const struct hf_id *reader,
                                  const struct hf_id *backup, struct hf_error *err);
/* Collects as `repo gc` does: staging too. */
HF_MUST_CHECK bool collecting_run(struct test_vault *vault, const struct hf_collect_options *options,
                                  struct hf_collect_report *ret, struct hf_error *err);
/* Fails unless level 2 finds nothing, and exactly `orphans` objects that nobody needs (UINT64_MAX: any number). */
void collecting_assert_whole(struct test_vault *vault, uint64_t orphans);

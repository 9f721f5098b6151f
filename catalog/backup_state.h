/*
 * backup_state.h - what is known of a backup's worth, and every way it changes
 *
 * Promise 1: a backup is unproven until it was restored, started, caught up and checked in the sandbox.
 *
 *                 passed                        passed, failed, inconclusive: an attempt ended (VERDICT)
 *     unproven ------------> proven             damaged: stored objects were found lost or altered (VERDICT)
 *        |                   |    ^             healed: all of them are back (VERDICT)
 *        | failed     failed |    | passed
 *        |                   v    |
 *        +----------------> failed             An inconclusive attempt (no memory, no disk, no time, cancelled)
 *                                              leaves every state as it is, and is never a pass.
 *     any state -- damaged --> damaged
 *     damaged -- healed --> unproven            The bytes are back; nobody has started them since.
 *     damaged -- passed --> proven              The attempt opened every slab and read everything: it is back.
 *     damaged -- failed --> damaged             The damage explains the failure.
 *
 * The one function that makes transitions is hf_backup_state_after(); catalog/apply.c calls it in the order of the
 * vault log, server/verify for what an attempt's evidence says of the state after it.
 */
#pragma once
#include "base/error.h"

enum hf_backup_state { HF_BACKUP_UNPROVEN, HF_BACKUP_PROVEN, HF_BACKUP_FAILED, HF_BACKUP_DAMAGED };

enum hf_backup_event {
    HF_BACKUP_PASSED,
    HF_BACKUP_DID_NOT_RECOVER, // "failed": the copy does not recover, or a check of its content failed
    HF_BACKUP_INCONCLUSIVE,
    HF_BACKUP_DAMAGE_FOUND, // "damaged"
    HF_BACKUP_HEALED,
};

enum hf_backup_state hf_backup_state_after(enum hf_backup_state state, enum hf_backup_event event);

/* "unproven", "proven", "failed", "damaged": in log, evidence, catalog and API.  CORRUPT for another word. */
const char *hf_backup_state_name(enum hf_backup_state state);
HF_MUST_CHECK bool hf_backup_state_parse(const char *name, enum hf_backup_state *ret, struct hf_error *err);

/* The results of VERDICT entries: "passed", "failed", "inconclusive", "damaged", "healed". */
const char *hf_backup_event_name(enum hf_backup_event event);
HF_MUST_CHECK bool hf_backup_event_parse(const char *name, enum hf_backup_event *ret, struct hf_error *err);

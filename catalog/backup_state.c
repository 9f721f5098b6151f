#include "catalog/backup_state.h"

#include <string.h>

#define UNPROVEN HF_BACKUP_UNPROVEN
#define PROVEN   HF_BACKUP_PROVEN
#define FAILED   HF_BACKUP_FAILED
#define DAMAGED  HF_BACKUP_DAMAGED

/* The drawing of backup_state.h: a row for each state, a column for each event. */
static const enum hf_backup_state after[][5] = {
    //             passed   failed    inconclusive  damaged  healed
    [UNPROVEN] = {PROVEN, FAILED, UNPROVEN, DAMAGED, UNPROVEN},
    [PROVEN] = {PROVEN, FAILED, PROVEN, DAMAGED, PROVEN},
    [FAILED] = {PROVEN, FAILED, FAILED, DAMAGED, FAILED},
    [DAMAGED] = {PROVEN, DAMAGED, DAMAGED, DAMAGED, UNPROVEN},
};

static const char *const state_names[] = {
    [UNPROVEN] = "unproven",
    [PROVEN] = "proven",
    [FAILED] = "failed",
    [DAMAGED] = "damaged",
};

static const char *const event_names[] = {
    [HF_BACKUP_PASSED] = "passed",
    [HF_BACKUP_DID_NOT_RECOVER] = "failed",
    [HF_BACKUP_INCONCLUSIVE] = "inconclusive",
    [HF_BACKUP_DAMAGE_FOUND] = "damaged",
    [HF_BACKUP_HEALED] = "healed",
};

enum hf_backup_state
hf_backup_state_after(enum hf_backup_state state, enum hf_backup_event event)
{
    return after[state][event];
}

const char *
hf_backup_state_name(enum hf_backup_state state)
{
    return state_names[state];
}

bool
hf_backup_state_parse(const char *name, enum hf_backup_state *ret, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(state_names); i++) {
        if (strcmp(state_names[i], name) == 0) {
            *ret = (enum hf_backup_state)i;
            return true;
        }
    }
    return hf_fail(err, HF_ERR_CORRUPT, "\"%.64s\" is no state of a backup", name);
}

const char *
hf_backup_event_name(enum hf_backup_event event)
{
    return event_names[event];
}

bool
hf_backup_event_parse(const char *name, enum hf_backup_event *ret, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(event_names); i++) {
        if (strcmp(event_names[i], name) == 0) {
            *ret = (enum hf_backup_event)i;
            return true;
        }
    }
    return hf_fail(err, HF_ERR_CORRUPT, "\"%.64s\" is no result of a verdict", name);
}

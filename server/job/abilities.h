/*
 * abilities.h - what this appliance can start and contain, for the doctor
 */
#pragma once
#include "server/job/worker.h"

/* Extensions and locales of this host, to be handed to an engine's doctor. */
extern const struct hf_appliance_abilities hf_abilities;

/* Adds whether the server binaries of a release are here: without them no backup of it can be proven. */
void hf_abilities_check_binaries(const struct hf_settings *settings, const char *engine, uint32_t server_version,
                                 struct hf_checks *checks);

/* The appliance itself: isolation really reached, room for scratch, room in the repository. */
void hf_abilities_check_appliance(struct hf_worker *worker, struct hf_checks *checks);

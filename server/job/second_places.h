/*
 * second_places.h - what the appliance remembers of the copies of its repository
 *
 * One fact of the catalog for each place, "second place <place>", a canonical JSON object:
 *   tried_at      when the last run ended
 *   completed_at  when the last run ended after which all that the repository then had was there; null: never
 *   durability    "synced" or "contents": see enum hf_durability
 *   heads         {vault id: sequence}: how far each log had been copied then
 *   problems      what the last run told of and could not mend: a count
 *   error         what ended the last run, or null
 *   compared_at   from when on what lies there has not been read again: see copy.h, reread_since; null: never was
 * A fact is local and lost with the catalog: the next run writes it anew.
 */
#pragma once
#include "catalog/local.h"
#include "server/settings/settings.h"

/* After a run: `row` is its part of the job's result ("place", "heads", "complete", ...), or NULL and `why`. */
HF_MUST_CHECK bool hf_second_place_keep(struct hf_catalog *catalog, const char *place, const json_t *row,
                                        const struct hf_error *why, int64_t now, struct hf_error *err);
/*
 * What `status` says of each place of the settings: [{"place", "state", "completed_at", "tried_at", "durability",
 * "behind", "newest_backup", "newest_backup_at", "problems", "error"}].  State: "never" (made, or not yet), "current",
 * "late" (older than second_place.oldest) or "failed" (the last run did, or left problems).  behind: log entries that
 * are not there yet.  *ret_bad: one of them is bad news.
 */
HF_MUST_CHECK bool hf_second_places_status(struct hf_catalog *catalog, const struct hf_settings *settings, int64_t now,
                                           json_t **ret, bool *ret_bad, struct hf_error *err);
/* {place: compared_at} of the places (an array of texts) of which it is known.  free() with json_decref. */
HF_MUST_CHECK bool hf_second_places_compared(struct hf_catalog *catalog, const json_t *places, json_t **ret,
                                             struct hf_error *err);
/* When the last run of any of them ended; -1: never. */
HF_MUST_CHECK bool hf_second_places_tried_at(struct hf_catalog *catalog, const struct hf_settings *settings,
                                             int64_t *ret, struct hf_error *err);

/*
 * gather.h - what the two kinds of report are made from, as it was found
 *
 * Internal to this folder.
 */
#pragma once
#include <stdio.h>
#include "server/report/words.h"

struct gathering {
    const struct hf_report_request *request; // borrowed
    struct hf_catalog *catalog;              // borrowed
    json_t *summaries;                       // of verified documents, in the order of the ledger
    json_t *documents;                       // evidence of the one backup, by id
    json_t *backups;                         // of the catalog, newest first
    json_t *attempts;                        // of the catalog: {evidence, backup, source, recorded_at}
    json_t *exceptions;                      // that somebody accepted, oldest first
    json_t *ledger, *problems;
    char origin[HF_KEY_NAME_BYTES];
    json_int_t acts; // documents of other kinds
};

HF_MUST_CHECK bool hf_gather_backup(struct gathering *work, json_t *model, struct hf_error *err);
HF_MUST_CHECK bool hf_gather_month(struct gathering *work, json_t *model, struct hf_error *err);

/*
 * gather_exceptions.c: a document of kind "act", which may be about one; those on an attempt, as they stood at a time.
 */
HF_MUST_CHECK bool hf_gather_exception(struct gathering *work, const struct hf_evidence *evidence,
                                       struct hf_error *err);
HF_MUST_CHECK bool hf_gather_exceptions_of(const struct gathering *work, const char *attempt, int64_t as_of,
                                           json_t **ret, struct hf_error *err);

/* What the daemon knows of a source; null when it does not. */
const json_t *hf_gather_known(const struct gathering *work, const char *source);
json_t *hf_gather_time(int64_t ms);                           // null below 0
json_t *hf_gather_name(const char *text);                     // printable; null for none
int64_t hf_gather_ms(const json_t *object, const char *path); // a time; -1 when there is none

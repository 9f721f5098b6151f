/*
 * clinic.h - a month of backups that never happened: catalog entries and signed documents, always the same ones
 *
 * Two sources, "clinic" and "archive", in November 2026.  Everything is drawn from numbers, so that a report about it
 * has one text.
 */
#pragma once
#include "server/report/report.h"
#include "tests/support/test.h"

struct clinic {
    const char *folder; // holds ledger/, catalog.db
    const char *ledger_folder;
    struct hf_signer *signer;
    struct hf_signer *before; // the one before it, after clinic_rotate(); else NULL
    struct hf_ledger *ledger;
    struct hf_catalog *catalog;
    unsigned entries[2]; // of each vault's log
    unsigned documents;
    json_t *known;
};

/* One backup and what came of it. */
struct clinic_day {
    unsigned source; // 0 clinic, 1 archive
    unsigned day, hour;
    const char *result;        // "passed", "failed", "inconclusive"; NULL: never tried
    const char *reason;        // NULL for one that passed
    const char *finding;       // where a check failed; NULL: none is named
    bool without_document;     // the catalog knows of the attempt, and the ledger does not
    const char *name;          // of the source in document and catalog; NULL: as above
    const char *hostile_check; // another title for the first check; or NULL
};

struct clinic clinic_new(void);
void clinic_done(struct clinic *clinic);
/* Adds it; returns the backup's id. */
struct hf_id clinic_add(struct clinic *clinic, const struct clinic_day *day);
/* A later attempt on that backup, of which the catalog knows and no document speaks. */
void clinic_add_unsupported(struct clinic *clinic, unsigned source, const struct hf_id *backup);
void clinic_add_gap(struct clinic *clinic, unsigned source, unsigned day, const char *cause);
/* From now on another key seals, under the same name. */
void clinic_rotate(struct clinic *clinic);
/*
 * The month as the tests tell it: proven days, a failure that was closed, one that was not, an inconclusive one, a gap.
 */
void clinic_fill(struct clinic *clinic);

/* The model of a month (source NULL: all) or of a backup, as of 24 November 2026, noon. */
json_t *clinic_month(struct clinic *clinic, const char *source);
json_t *clinic_backup(struct clinic *clinic, const struct hf_id *backup);
struct hf_buf clinic_render(const json_t *model, enum hf_report_format format, enum hf_paper paper);

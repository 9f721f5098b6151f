/*
 * report.h - the checks of one attempt, each with its own verdict
 *
 * A check is entered when it begins (not_run, with the reason that it was not reached) and settled once.
 * The result of the attempt is worked out from them and nothing else:
 *
 *   failed        a check failed
 *   passed        every required check passed, at least one, and none failed
 *   inconclusive  else: a required check could not be determined, or was never reached
 */
#pragma once
#include "base/json.h"

enum hf_verdict { HF_VERDICT_NOT_RUN, HF_VERDICT_PASSED, HF_VERDICT_FAILED, HF_VERDICT_NOT_DETERMINABLE };
const char *hf_verdict_name(enum hf_verdict verdict); // as in the evidence: "not_determinable"

enum hf_attempt_result { HF_ATTEMPT_PASSED, HF_ATTEMPT_FAILED, HF_ATTEMPT_INCONCLUSIVE };
const char *hf_attempt_result_name(enum hf_attempt_result result);

#define HF_CHECKS_OF_ATTEMPT 56
#define HF_FINDINGS_MOST     32 // listed by name; the count goes on

struct hf_finding {
    char what[64];    // a word: "missing_index_entry"
    char object[256]; // "clinic.public.patients", "pg_xact/0000"
    int64_t block;    // -1: none
};

struct hf_verify_check {
    const char *id; // never changes
    const char *title;
    bool required;
    enum hf_verdict verdict;
    char reason[512]; // "" only when passed; then also a note
    const char *method;
    int64_t examined; // -1: nothing is counted
    int64_t of;       // how many there are of what is examined; -1: nobody counted them
    int64_t bad;
    uint64_t duration_ms;
    uint64_t began_ns;
    size_t finding_count;
    struct hf_finding findings[HF_FINDINGS_MOST];
};

struct hf_verify_report {
    size_t count;
    struct hf_verify_check checks[HF_CHECKS_OF_ATTEMPT];
};

/* All checks of an attempt are declared first, in order, so that what was not reached is there too. */
struct hf_verify_check *hf_report_declare(struct hf_verify_report *report, const char *id, const char *title,
                                          bool required, const char *method);
struct hf_verify_check *hf_report_find(struct hf_verify_report *report, const char *id);
void hf_check_begin(struct hf_verify_check *check);
/* At the end of the check: it passes, unless there are findings (failed) or something could not be determined. */
void hf_check_pass(struct hf_verify_check *check, int64_t examined);
/*
 * How many there are of what the check counts as examined: what was counted by somebody else than the check's own loop.
 * Without it the evidence says nothing of the check's coverage: that all was looked at is never assumed.
 */
void hf_check_covers(struct hf_verify_check *check, int64_t of);
void hf_check_fail(struct hf_verify_check *check, const char *format, ...) HF_PRINTF(2, 3);
void hf_check_cannot_tell(struct hf_verify_check *check, const char *format, ...) HF_PRINTF(2, 3);
/* What a check that passed has to say all the same; of others their reason says it. */
void hf_check_note(struct hf_verify_check *check, const char *format, ...) HF_PRINTF(2, 3);
/* Notes a finding; the check still has to be settled. */
void hf_check_found(struct hf_verify_check *check, const char *what, int64_t block, const char *format, ...)
    HF_PRINTF(4, 5);

enum hf_attempt_result hf_report_result(const struct hf_verify_report *report, char *reason, size_t reason_bytes);
/* The evidence's "checks" array. */
HF_MUST_CHECK bool hf_report_json(const struct hf_verify_report *report, json_t **ret, struct hf_error *err);

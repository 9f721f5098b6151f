/*
 * doctor_internal.h - what the files of the doctor share (private to them)
 */
#pragma once
#include "server/source/postgres/connection.h"
#include "server/source/postgres/doctor.h"

#define DOCTOR_ANSWER_MS (60 * 1000)

struct doctor {
    const struct hf_source_target *target;          // borrowed from the caller
    const struct hf_appliance_abilities *abilities; // or NULL
    struct hf_checks *checks;
    PGconn *conn;
    char role[140]; // quoted
};

/* A check begins as not determinable; what is found and how it is mended follows. */
struct hf_check *doctor_add(struct doctor *doctor, const char *id, const char *title);
void doctor_find(struct hf_check *check, enum hf_check_verdict verdict, const char *format, ...) HF_PRINTF(3, 4);
void doctor_mend(struct hf_check *check, const char *format, ...) HF_PRINTF(2, 3);
void doctor_find_error(struct hf_check *check, enum hf_check_verdict verdict, const struct hf_error *why);
/* False: the check says why it could not be made. */
bool doctor_ask(struct doctor *doctor, struct hf_check *check, const char *sql, PGresult **ret);
bool doctor_ask_text(struct doctor *doctor, struct hf_check *check, const char *sql, char *ret, size_t size);
bool doctor_ask_numbers(struct doctor *doctor, struct hf_check *check, const char *sql, int64_t *ret, int count);

/* About the log and its stream: doctor_stream.c. */
void doctor_check_slot_wal_limit(struct doctor *doctor);
void doctor_check_leftover_slots(struct doctor *doctor);
void doctor_check_stream_slot(struct doctor *doctor);
void doctor_check_synchronous(struct doctor *doctor);
void doctor_check_clock(struct doctor *doctor);

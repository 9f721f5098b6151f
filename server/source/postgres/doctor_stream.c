#include "server/source/postgres/doctor_internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/time.h"
#include "server/source/postgres/leftovers.h"
#include "server/source/postgres/stream_slot.h"

#define CLOCKS_APART_MS 5000 // from here on a person is told

static const struct hf_postgres_patience patience = {.silence_ms = DOCTOR_ANSWER_MS};

void
doctor_check_slot_wal_limit(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "slot_wal_limit", "What a slot may keep of the log is limited");
    char limit[32];

    if (!doctor_ask_text(doctor, check, "SHOW max_slot_wal_keep_size", limit, sizeof limit))
        return;
    if (strcmp(limit, "-1") == 0) {
        doctor_find(check, doctor->target->stream_slot != NULL ? HF_CHECK_FAILED : HF_CHECK_WARNING,
                    "max_slot_wal_keep_size is -1: a slot whose reader is away fills the disk");
        doctor_mend(check,
                    "Set max_slot_wal_keep_size to what the disk can spare, such as 64GB, in postgresql.conf on the "
                    "source and run SELECT pg_reload_conf();");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "max_slot_wal_keep_size is %s", limit);
}

void
doctor_check_leftover_slots(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "leftover_slots", "No slot of ours is without a reader");
    struct hf_leftovers leftovers;
    struct hf_error why;

    if (!hf_postgres_leftovers(doctor->target, false, &leftovers, &why)) {
        doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    for (size_t i = 0; i < leftovers.count; i++) {
        const struct hf_leftover *slot = &leftovers.items[i];
        if (!slot->ours || slot->active || slot->temporary)
            continue;
        if (doctor->target->stream_slot != NULL && strcmp(slot->name, doctor->target->stream_slot) == 0)
            continue; // check_stream_slot() looks at it
        doctor_find(check, HF_CHECK_WARNING, "the slot \"%s\" keeps %" PRId64 " bytes of log and nobody reads it",
                    slot->name, slot->kept_bytes);
        doctor_mend(check, "If its stream is gone for good, run on the source: SELECT pg_drop_replication_slot('%s');",
                    slot->name);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "there is none");
}

void
doctor_check_stream_slot(struct doctor *doctor)
{
    const char *slot = doctor->target->stream_slot;
    const struct hf_leftover *ours = NULL;
    struct hf_leftovers leftovers;
    struct hf_slot_state state;
    struct hf_error why;

    if (slot == NULL)
        return;
    struct hf_check *check = doctor_add(doctor, "stream_slot", "The slot of the stream keeps the log for us");
    if (!hf_stream_slot_look(doctor->target, slot, &patience, &state, &why) ||
        !hf_postgres_leftovers(doctor->target, false, &leftovers, &why)) {
        doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    for (size_t i = 0; i < leftovers.count; i++)
        if (strcmp(leftovers.items[i].name, slot) == 0)
            ours = &leftovers.items[i];
    if (!state.exists) {
        doctor_find(check, HF_CHECK_WARNING, "the slot \"%s\" is not there yet", slot);
        doctor_mend(check, "It is made when holdfastd receives the stream: look at \"holdfast status\".");
    } else if (state.lost) {
        doctor_find(check, HF_CHECK_FAILED,
                    "the slot \"%s\" has lost its log: it held more than max_slot_wal_keep_size", slot);
        doctor_mend(check,
                    "The receiver makes it anew and records a gap. Raise max_slot_wal_keep_size in postgresql.conf.");
    } else if (!state.active) {
        doctor_find(check, HF_CHECK_FAILED, "nobody reads the slot \"%s\", which keeps %" PRId64 " bytes of log", slot,
                    ours == NULL ? 0 : ours->kept_bytes);
        doctor_mend(check, "Start holdfastd, or look at \"holdfast status\" for why it does not receive.");
    } else {
        doctor_find(check, HF_CHECK_OK, "\"%s\" is read, and keeps %" PRId64 " bytes", slot,
                    ours == NULL ? 0 : ours->kept_bytes);
    }
}

/* Whether a commit waits for our disk: what the server itself says of our connection. */
void
doctor_check_synchronous(struct doctor *doctor)
{
    static const char asking[] =
        "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), "
        "coalesce((SELECT r.sync_state || ' as ' || r.application_name FROM pg_replication_slots s "
        "JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1), ''), "
        "EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND active)";
    const char *const values[] = {doctor->target->stream_slot};
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    struct hf_error why;

    if (doctor->target->stream_slot == NULL)
        return;
    struct hf_check *check = doctor_add(doctor, "synchronous", "Whether a commit waits until we have it");
    if (!hf_postgres_query(doctor->conn, &patience, "ask for the synchronous standbys", asking, values, 1, &row,
                           &why)) {
        doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    const char *names = PQgetvalue(row, 0, 0), *commit = PQgetvalue(row, 0, 1), *state = PQgetvalue(row, 0, 2);
    const bool active = PQgetvalue(row, 0, 3)[0] == 't';
    const bool paired = strncmp(state, "sync", 4) == 0 || strncmp(state, "quorum", 6) == 0;
    if (names[0] == '\0') {
        doctor_find(check, HF_CHECK_OK,
                    "no: commits wait for nobody, and what is lost with the server is what we had not got");
    } else if (paired && strcmp(commit, "remote_apply") == 0) {
        doctor_find(check, HF_CHECK_FAILED,
                    "we are %s, and synchronous_commit is remote_apply, which no archive can answer", state);
        doctor_mend(check,
                    "Set synchronous_commit = on in postgresql.conf on the source and run SELECT pg_reload_conf();");
    } else if (paired) {
        doctor_find(check, HF_CHECK_OK, "yes: we are %s", state);
    } else if (active && state[0] == '\0') {
        doctor_find(check, HF_CHECK_NOT_DETERMINABLE,
                    "the server does not show the role whether we are one of \"%.200s\"", names);
        doctor_mend(check, "Run on the source: GRANT pg_monitor TO %s;", doctor->role);
    } else if (strstr(names, HF_POSTGRES_STREAM_NAME) != NULL) {
        doctor_find(check, HF_CHECK_FAILED, "synchronous_standby_names asks for us, and we are %s",
                    state[0] == '\0' ? "not connected" : state);
        doctor_mend(check, "Commits on the source may be waiting: start holdfastd, or look at \"holdfast status\".");
    } else {
        doctor_find(check, HF_CHECK_OK, "no: synchronous_standby_names names others%s%s",
                    state[0] == '\0' ? "" : ", we are ", state);
    }
}

/* Targets of a restore are times of the server's clock, and when a backup ended is known by ours. */
void
doctor_check_clock(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "clock", "The server's clock and this host's agree");
    int64_t server_ms;
    const int64_t before = hf_time_now_ms();
    if (!doctor_ask_numbers(doctor, check, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8", &server_ms,
                            1))
        return;
    const int64_t after = hf_time_now_ms(), ahead = server_ms - (before + after) / 2;
    const int64_t apart = ahead > 0 ? ahead : -ahead;
    if (apart > CLOCKS_APART_MS + (after - before)) {
        doctor_find(check, HF_CHECK_WARNING, "the server's clock is %" PRId64 " s %s this host's", apart / 1000,
                    ahead > 0 ? "ahead of" : "behind");
        doctor_mend(check,
                    "Let both hosts take their time from one place (NTP).  Until then a restore --at counts by the "
                    "server's clock.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "they are less than %d s apart", CLOCKS_APART_MS / 1000);
}

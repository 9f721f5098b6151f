/*
 * daemon_internal.h - what the files of the daemon share: its state, and who does what with it
 *
 *   daemon_main.c  arguments, start, end            server.c    the socket, clients, their requests
 *   loop.c         poll: who is heard next          commands.c  what is answered at once
 *   jobs.c         the queue, states, endings       sources.c   which database servers there are
 *   launch.c       starting a worker                watch.c     schedules of sources
 *   questions.c    what workers ask                 oracle.c    what they may have signed
 *   retention.c    plans, and carrying them out     holds.c     holds and locks on backups
 *   alarms.c       what the status must not hide
 *   keys.c         key slots, rotation, kits        vaults.c    the list of vaults, shredding
 *
 * All of it runs in one thread.  Nothing here blocks but the catalog's disk and the repository's log.
 */
#pragma once
#include <poll.h>
#include "base/process.h"
#include "server/job/daemon.h"
#include "server/job/kinds.h"
#include "server/job/lock.h"
#include "server/job/order.h"
#include "server/job/oracle.h"

#define HF_REQUESTED_BY_BYTES 64
#define HF_PERSON_BYTES       256
#define HF_BY_SCHEDULE        "schedule" // who asked, when nobody did
#define HF_BY_PERSON          "uid "     // ... and when somebody did, by the uid

/* Local facts (catalog/local.h). */
#define HF_FACT_CLOCK        "clock" // server/retention/clock.h: an earlier reading
#define HF_JOB_QUESTION_MOST (HF_LOG_ENTRY_MOST + HF_ORACLE_HEADER)
#define HF_JOB_ANSWER_MOST   HF_MIB

/* A request under way, from the moment it is queued until its ending has been told. */
struct hf_job {
    struct hf_id id;
    const struct hf_job_kind *kind; // borrowed from the program's table
    char subject[HF_JOB_SUBJECT_BYTES];
    char requested_by[HF_REQUESTED_BY_BYTES];
    int64_t asker; // -1: nobody
    json_t *arguments;
    struct hf_job_order order; // of a kind that is sandboxed
    enum hf_job_state state;
    int64_t queued_at, started_at;
    bool bad_news;

    bool cancelled;      // somebody asked for its end
    uint64_t kill_at_ns; // when SIGTERM becomes SIGKILL; 0: not asked

    struct hf_process process; // NONE before and after
    struct hf_wire events;     // from the worker
    bool broken;               // it sent what is no event; it is killed, and nothing more is heard
    char phase[HF_WIRE_PHASE_BYTES];
    json_t *result;  // of its "result" event
    json_t *report;  // of its last "state" event, or NULL
    bool has_failed; // it sent an "error" event, or ended without a word: `why`
    struct hf_error why;

    int oracle_fd;
    struct hf_buf question, answer; // one at a time
    size_t answered;                // bytes of `answer` written
    struct hf_oracle_rights rights;
    bool vault_given; // by its one question for a vault
    size_t pin_count; // what hf_job_pin() holds, of one vault
    struct hf_id pinned_vault, pinned_backups[HF_JOB_PINS_MOST];
};

/* One connection. */
struct hf_client {
    struct hf_wire wire;
    uid_t uid;
    struct hf_job *job; // it waits for; borrowed from the daemon, NULL when none
    bool owns_job;      // the job is cancelled when it goes away
    bool leaving;       // closed once its output is written
};

/* Between two receivers of a source. */
struct hf_stream_pause {
    char source[HF_SOURCE_NAME_BYTES];
    int64_t ms, until; // how long the last one was, and its end
};

struct hf_daemon {
    const struct hf_daemon_program *program; // borrowed from main()
    struct hf_settings *settings;
    struct hf_records *records;
    bool embedded;
    bool stopping; // no new jobs; ends when the running ones have
    int lock_fd, signal_fd, listen_fd;
    char socket[HF_SOCKET_BYTES];
    struct hf_job **jobs; // queued and running, in the order they came
    size_t job_count;
    struct hf_client *clients[HF_CLIENTS_MOST];
    size_t client_count;
    struct hf_stream_pause *pauses;
    size_t pause_count;
    int64_t look_at;                   // when schedules are looked at next, ms since 1970
    uint64_t idle_since_ns;            // 0: not idle
    char asker[HF_REQUESTED_BY_BYTES]; // whose request is being answered: "uid 1000"
};

/* ------------------------------------------------------------------------------------------ jobs.c */

struct hf_job_wish {
    const char *kind;
    const json_t *arguments; // borrowed
    const char *requested_by;
    int64_t asker; // a user's id, or -1
};
HF_MUST_CHECK bool hf_jobs_add(struct hf_daemon *daemon, const struct hf_job_wish *wish, struct hf_job **ret,
                               struct hf_error *err);
/*
 * At start: what a daemon that was killed had under way is lost, and its kind writes the records of that; so an attempt
 * to prove a backup that was cut off is an attempt all the same (promise 1).
 */
HF_MUST_CHECK bool hf_jobs_clear_up(struct hf_daemon *daemon, struct hf_error *err);
/* Asks for its end; a queued one ends at once. */
void hf_jobs_cancel(struct hf_daemon *daemon, struct hf_job *job);
void hf_jobs_cancel_all(struct hf_daemon *daemon);
struct hf_job *hf_jobs_find(struct hf_daemon *daemon, const struct hf_id *id); // NULL when it has ended
const struct hf_job_kind *hf_jobs_kind(const struct hf_daemon *daemon, const char *name);
/* Starts whatever may start, and kills what had its grace. */
void hf_jobs_advance(struct hf_daemon *daemon);
size_t hf_jobs_running(const struct hf_daemon *daemon);
/* Processors that one more copy in a sandbox may use beside those that run or wait. */
unsigned hf_jobs_sandbox_share(const struct hf_daemon *daemon);
/* When hf_jobs_advance() wants to be called at the latest, monotonic; 0: no wish. */
uint64_t hf_jobs_deadline_ns(const struct hf_daemon *daemon);
/* A descriptor of its worker is ready. */
void hf_jobs_hear_events(struct hf_daemon *daemon, struct hf_job *job);
void hf_jobs_hear_end(struct hf_daemon *daemon, struct hf_job *job); // frees it
/* prepare() found out more about the arguments (which backup "the newest" is): so they are kept, also over a crash. */
HF_MUST_CHECK bool hf_job_note_arguments(struct hf_daemon *daemon, const struct hf_job *job, struct hf_error *err);
/* A worker that does not keep to the protocol may be anybody's by now: it is killed, and its job fails. */
void hf_job_break(struct hf_job *job, const struct hf_error *why);
void hf_jobs_free_all(struct hf_daemon *daemon);

/* ------------------------------------------------------------------------------------------ launch.c */

/* Prepares the request, gathers the secrets and executes the worker. */
HF_MUST_CHECK bool hf_job_launch(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err);
/* What its worker may have signed, now that its vault is known. */
HF_MUST_CHECK bool hf_job_set_rights(struct hf_daemon *daemon, struct hf_job *job, struct hf_error *err);

/* ------------------------------------------------------------------------------------------ pins.c */

/* The job has ended.  A pin that cannot be taken back now goes at the next collection. */
void hf_job_unpin(struct hf_daemon *daemon, struct hf_job *job);
/* Takes back the pins of this appliance whose job is not running. */
HF_MUST_CHECK bool hf_pins_tidy(struct hf_daemon *daemon, struct hf_error *err);

/* ------------------------------------------------------------------------------------------ questions.c */

/* Its descriptor has something to read, or room for the answer. */
void hf_job_hear_question(struct hf_daemon *daemon, struct hf_job *job);
void hf_job_send_answer(struct hf_job *job);

/* ------------------------------------------------------------------------------------------ server.c */

HF_MUST_CHECK bool hf_server_listen(struct hf_daemon *daemon, struct hf_error *err);
void hf_server_accept(struct hf_daemon *daemon);
void hf_server_hear(struct hf_daemon *daemon, struct hf_client *client);
void hf_server_flush(struct hf_daemon *daemon, struct hf_client *client);
/* To everyone who waits for the job; takes the event, which may be NULL (no memory: it is lost). */
void hf_server_tell(struct hf_daemon *daemon, const struct hf_job *job, json_t *event);
/* The last event of the job: after it nobody waits for it any more. */
void hf_server_tell_end(struct hf_daemon *daemon, const struct hf_job *job, json_t *event);
/* Closes who is leaving. */
void hf_server_sweep(struct hf_daemon *daemon);
void hf_server_close(struct hf_daemon *daemon);

/* ------------------------------------------------------------------------------------------ commands.c */

/* What is answered at once.  *ret_found false: it is no such command, perhaps a kind of job. */
HF_MUST_CHECK bool hf_commands_answer(struct hf_daemon *daemon, const char *command, const json_t *arguments,
                                      bool *ret_found, json_t **ret_result, enum hf_exit *ret_exit,
                                      struct hf_error *err);
/* Only the named members, and only of the named types: "s" text, "b" boolean, "i" integer, "o" object; USAGE. */
struct hf_argument {
    const char *name;
    char type;
    bool required;
};
HF_MUST_CHECK bool hf_arguments_check(const json_t *arguments, const struct hf_argument *known, size_t count,
                                      struct hf_error *err);

/* A row of the table in commands.c.  *ret_exit is DONE when it is called. */
typedef bool hf_command_function(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                                 enum hf_exit *ret_exit, struct hf_error *err);

/* ------------------------------------------------------------------------------------------ retention.c, holds.c */

hf_command_function hf_takeover_answer; // takeover.c
hf_command_function hf_retention_answer_plan, hf_holds_answer_add, hf_holds_answer_release, hf_holds_answer_list;
hf_command_function hf_exceptions_answer_accept, hf_exceptions_answer_withdraw,
    hf_exceptions_answer_list; // exceptions.c
/* Keeps a reading of the clocks, unless there is one of this run of the kernel. */
void hf_retention_note_clock(struct hf_daemon *daemon);
/* The user's name of "uid 1000" where the system knows one, else the words themselves; returns name. */
const char *hf_person_name(const char *requested_by, char name[static HF_PERSON_BYTES]);

/* ------------------------------------------------------------------------------------------ alarms.c */

/*
 * Adds to a status "alarms": [{what, source or null, message, remedy}], what nobody would look for; and to each source
 * and damage the command that mends it, as "remedy".
 */
HF_MUST_CHECK bool hf_alarms_add(struct hf_daemon *daemon, json_t *status, enum hf_exit *ret_exit,
                                 struct hf_error *err);
hf_command_function hf_alarms_answer_acknowledge;

/* ------------------------------------------------------------------------------------------ sources.c */

/* Records what the settings file says of sources, where it differs from what is recorded. */
HF_MUST_CHECK bool hf_sources_follow_file(struct hf_daemon *daemon, struct hf_error *err);
HF_MUST_CHECK bool hf_sources_add(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                                  struct hf_error *err);
HF_MUST_CHECK bool hf_sources_remove(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                                     struct hf_error *err);
HF_MUST_CHECK bool hf_sources_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                                   struct hf_error *err);

/* ------------------------------------------------------------------------------------------ keys.c */

/* What opens a slot stays with `holdfast` (server/cli/keys.c); here is what needs the daemon's own hold. */
hf_command_function hf_keys_list, hf_keys_added, hf_keys_remove, hf_keys_drilled, hf_keys_rotate, hf_keys_settle,
    hf_keys_recovery_kit;
/* Whether the settings have what opens the slot without a person. */
bool hf_keys_open_unattended(const struct hf_daemon *daemon, const struct hf_slot_info *slot);

/* ------------------------------------------------------------------------------------------ vaults.c */

hf_command_function hf_vaults_list, hf_vaults_shred;
/* At the start: certificates of vaults that were shredded and have none. */
HF_MUST_CHECK bool hf_vaults_finish(struct hf_daemon *daemon, struct hf_error *err);

/* ------------------------------------------------------------------------------------------ watch.c */

/* The receiver of a source's log, waiting or running; NULL when there is none. */
struct hf_job *hf_stream_job(const struct hf_daemon *daemon, const char *source);
/* When the next may begin after one that ended (run_stream.c). */
int64_t hf_stream_paused_until(struct hf_daemon *daemon, const char *source);
/* A backup behind a gap: the log before it leads nowhere. */
HF_MUST_CHECK bool hf_watch_anchor(struct hf_daemon *daemon, const char *source, struct hf_error *err);
/* Starts what is due; sets look_at. */
void hf_watch_schedules(struct hf_daemon *daemon);

/* ------------------------------------------------------------------------------------------ loop.c */

/* Until a signal, or until an embedded daemon was idle for long. */
HF_MUST_CHECK bool hf_daemon_loop(struct hf_daemon *daemon, struct hf_error *err);

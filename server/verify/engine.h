/*
 * engine.h - what an engine brings to a verification: one table of functions
 *
 * An attempt (verify.c) is the same story for every engine.  Where the story needs to know what a database is, it calls
 * the table of the engine that the backup's facts name; nowhere does it ask which one that is.  The order of the calls,
 * with what the attempt does itself in between:
 *
 *     read_facts, begin     from the JSON that the backup's COMMIT keeps
 *        (the plan; room for the copy: room(); the copy is written, every page on its way shown to watch())
 *     check_restored        the files are those that were listed; no stored page is damaged
 *     prepare               what has to be done to the files before a server starts on them
 *     start                 the sandbox, with the server in it: hf_attempt_start_sandbox()
 *        (until the server's log says that it takes connections: checks "start" and "consistency")
 *     connect               the first one; which server answered
 *     reach_end             all log that the backup has is in the copy
 *     open                  it can be written to, as after a real restore
 *     check_relations       every table of every database, every index
 *     ask                   what the owner says must be true, one statement at a time (assertions.c)
 *        (the server is shut down)
 *     check_stopped         what can only be seen in files that nobody has open
 *     end                   always, once begin() returned true: also after errors, and before there was a copy
 *
 * How a step speaks.  It returns false only for what is no verdict and leaves no sensible outcome: no memory, cancelled
 * (hf_attempt_is_fatal), or what this program cannot do on this host for reasons of its own.  Everything else is a
 * verdict on one of the checks, and the step returns true.  If the attempt cannot go on after it, the step sets
 * attempt->over: the later steps are not called (a server that runs is stopped and reported all the same), and their
 * checks stay not_run.  Damage of one check that lets the others be made does not set it.  What is wrong here (no
 * binaries, no room, a limit of the sandbox, another collation) is hf_check_cannot_tell(), what is wrong with the
 * database is hf_check_fail(), and a check that looked at nothing must not pass: STYLE of verdicts is in report.h.
 *
 * Every check that the engine settles stands in its list of checks; hf_attempt_check() finds it.  An id that two
 * engines share means the same with both, since reports and controls (evidence.c) go by ids: "manifest",
 * "page_checksums", "start", "consistency", "replay", "promote", "tables_read", "indexes", "page_checksums_after".
 * "start" and "consistency" must be in every list; the attempt settles them.  The attempt's own, which come before
 * the engine's, are "key", "packs", "room" and "slabs".
 *
 * The copy is hostile (promise 8).  No step may follow a link below attempt->data, run anything of it outside of the
 * sandbox, or let a value of a row into a reason, a finding or the outcome; names of objects may stand there.
 */
#pragma once
#include "server/verify/asker/asker.h"
#include "server/verify/verify.h"

/* What an attempt has in hand.  Engines read it; of it they write `over` and `own` alone. */
struct hf_attempt {
    struct hf_vault *vault;
    struct hf_id backup;
    const struct hf_verify_engine *engine;
    const struct hf_verify_options *options;
    struct hf_verify_outcome *outcome; // its report, facts, relations and engine_version are for engines to fill
    uint64_t began_ns;                 // hf_monotonic_ns()
    uint64_t phase_ms;                 // longest time of one step
    struct hf_restore_plan *plan;      // from check_restored on
    struct hf_restore_size size;
    struct hf_scratch *scratch;
    char *data;                 // the copy's folder: absolute, a part of the scratch; from check_restored on
    struct hf_sandbox *sandbox; // from start on; NULL again in check_stopped and end
    struct hf_asker *asker;     // with it: who asks the copy, since we hold keys
    bool over;                  // the attempt goes no further; its checks say why
    void *own;                  // the engine's, made by begin(), freed by end()
    uint64_t phase_began_ns;
};

/* A row of an engine's list of checks, see hf_report_declare(). */
struct hf_verify_check_row {
    const char *id, *title;
    bool required;
    const char *method;
};

/* What a server's log tells about its end. */
struct hf_last_words {
    char line[300];  // the last line that says why; "" when there is none.  No row's values
    bool killed;     // the kernel took one of its processes: it had no memory for it
    bool is_of_host; // libraries, locales, room: nothing of the data
};

/* What a statement of the owner's was answered with. */
struct hf_answer {
    enum { HF_ANSWER_VALUE, HF_ANSWER_NOTHING, HF_ANSWER_OTHER, HF_ANSWER_REFUSED, HF_ANSWER_DAMAGE } kind;
    char text[64];  // VALUE: never goes into a report as it is
    char state[64]; // REFUSED, DAMAGE: a code or a word of ours; the server's words can hold a row's values
};

struct hf_verify_engine {
    const char *name; // as facts have it, and the evidence's subject.engine
    const struct hf_verify_check_row *checks;
    size_t check_count;

    /* What is not in the shared facts, which are there already.  CORRUPT names the member. */
    bool (*read_facts)(const json_t *facts, struct hf_verify_facts *ret, struct hf_error *err);
    /* Makes attempt->own.  The same facts; what it needs of them it copies. */
    bool (*begin)(struct hf_attempt *attempt, const json_t *facts, struct hf_error *err);
    void (*end)(struct hf_attempt *attempt);

    /* Bytes of scratch for a copy of `bytes`: with the log its checks write, temporary files, its own growth. */
    uint64_t (*room)(const struct hf_attempt *attempt, uint64_t bytes);
    /* A hf_restore_page_check, on any thread; context is the attempt.  NULL: it does not look at pages on their way. */
    hf_restore_page_check *watch;

    bool (*check_restored)(struct hf_attempt *attempt, struct hf_error *err);
    /* The files are ours; afterwards the attempt gives them to the sandbox's uid. */
    bool (*prepare)(struct hf_attempt *attempt, struct hf_error *err);
    bool (*start)(struct hf_attempt *attempt, struct hf_error *err);
    /* Sets outcome->engine_version. */
    bool (*connect)(struct hf_attempt *attempt, struct hf_error *err);
    bool (*reach_end)(struct hf_attempt *attempt, struct hf_error *err);
    bool (*open)(struct hf_attempt *attempt, struct hf_error *err);
    /* Fills outcome->relations. */
    bool (*check_relations)(struct hf_attempt *attempt, struct hf_error *err);
    /*
     * The statement's answer, from the copy or from the source itself (options->live): read-only, within a minute.
     * NOTHING: NULL or no row; OTHER: more than one row or column, or longer than `text`.  NULL: this engine does not
     * ask.
     */
    bool (*ask)(struct hf_attempt *attempt, const struct hf_assertion *assertion, bool live, struct hf_answer *ret,
                struct hf_error *err);
    bool (*check_stopped)(struct hf_attempt *attempt, struct hf_error *err);

    /*
     * Closes connections, so that the server can be shut down.  Before SIGTERM or SIGINT, whichever `stop_signal` is.
     */
    void (*disconnect)(struct hf_attempt *attempt);
    int stop_signal;

    /* From the whole log of a server that ended. */
    void (*last_words)(const char *log, struct hf_last_words *ret);
};

extern const struct hf_verify_engine hf_verify_postgres, hf_verify_mariadb;

/* NULL for a name nobody has. */
const struct hf_verify_engine *hf_verify_engine_find(const char *name);

/* ------------------------------------------------------------------------------------------ for the steps */

struct hf_verify_check *hf_attempt_check(const struct hf_attempt *attempt, const char *id);

/* Ends the phase that runs and begins another: time the evidence shows apart ("prepare").  The name is a constant. */
void hf_attempt_phase(struct hf_attempt *attempt, const char *name);

/* What every sandbox of this attempt is started with: limits, level, owner, launcher; engine and settings stay NULL. */
struct hf_sandbox_spec hf_attempt_sandbox_spec(const struct hf_attempt *attempt);

/*
 * Starts the server, attempt->sandbox, and for one that takes connections attempt->asker.  When this host cannot, the check "start" says so and the attempt is over.
 * `settings` is what the sandbox's engine takes, borrowed for the call.
 */
HF_MUST_CHECK bool hf_attempt_start_sandbox(struct hf_attempt *attempt, const struct hf_sandbox_engine *engine,
                                            const void *settings, struct hf_error *err);

/* The server's program on this host, whose hash the evidence has.  To be called before it runs. */
void hf_attempt_note_program(struct hf_attempt *attempt, const char *path);

/*
 * The server went away, or a connection to it: settles the check by why.  Its last words fail it; a limit of the
 * sandbox, or a host that cannot run it, leaves it open.
 */
void hf_attempt_judge_end(struct hf_attempt *attempt, struct hf_verify_check *check);

/* False, CANCELLED: somebody asked to stop.  To be called in every loop that waits. */
HF_MUST_CHECK bool hf_attempt_goes_on(const struct hf_attempt *attempt, struct hf_error *err);
/* An error that says nothing about the backup and leaves no sensible outcome. */
bool hf_attempt_is_fatal(const struct hf_error *err);
/*
 * For a step that failed at something of the backup's: fatal errors are handed on, CORRUPT fails the check, all else
 * leaves it open; the attempt is over.
 */
HF_MUST_CHECK bool hf_attempt_judge_failure(struct hf_attempt *attempt, struct hf_verify_check *check,
                                            const struct hf_error *failure, struct hf_error *err);
/* Connections at once, for checks: as asked for, else one for each processor. */
unsigned hf_attempt_jobs(const struct hf_attempt *attempt);

/* For verify.c: declares and settles a check for each of the owner's assertions. */
void hf_assertions_declare(const struct hf_assertions *assertions, struct hf_verify_report *report);
HF_MUST_CHECK bool hf_assertions_check(struct hf_attempt *attempt, struct hf_error *err);

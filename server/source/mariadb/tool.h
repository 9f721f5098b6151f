/*
 * tool.h - mariadb-backup or xtrabackup, run where the database's files are: here, or over ssh
 *
 * It writes the files to stdout (mbstream.h) and tells people on stderr how it goes.  What it says is read line by
 * line, matched with what we know of it, and forgotten: it can hold a password's hash, a statement, a row.  An error of
 * it becomes one of ours; what we do not know is told by its exit status alone.
 *
 * The password goes through the environment (MYSQL_PWD), over ssh through stdin into it: it is in no argument.  The
 * tool reads no option files.  It copies with one thread: its stream is then in few pieces, and one reader is faster
 * than it; a second open file is the redo log, which it copies all the while.
 */
#pragma once
#include "server/source/mariadb/flavour.h"
#include "server/source/source.h"

struct hf_backup_tool;

/* `throttle`: MiB a second that it may read of the data files; 0: no limit. */
HF_MUST_CHECK bool hf_backup_tool_start(const struct hf_flavour *flavour, const struct hf_source_target *target,
                                        uint64_t throttle, struct hf_backup_tool **ret, struct hf_error *err);
/* Kills it when it still runs. */
void hf_backup_tool_freep(struct hf_backup_tool **tool);

/* What it writes to stdout; not blocking. */
int hf_backup_tool_output(const struct hf_backup_tool *tool);

/*
 * After its stdout ended: waits until it does, and returns true only if it ended with 0 and said "completed OK!" last.
 * Errors: DENIED, USAGE, NOT_FOUND, UNAVAILABLE, NO_SPACE, CORRUPT as the tool's words mean, with what to do.
 */
HF_MUST_CHECK bool hf_backup_tool_finish(struct hf_backup_tool *tool, struct hf_error *err);

/* Version of the tool where it is, "10.11.19"; the same errors. */
#define HF_TOOL_VERSION_BYTES 32
HF_MUST_CHECK bool hf_backup_tool_version(const struct hf_flavour *flavour, const struct hf_source_target *target,
                                          char ret[static HF_TOOL_VERSION_BYTES], struct hf_error *err);

/* Whether the first two numbers of both are the same. */
bool hf_backup_tool_fits(const char *tool, const char *server);

/*
 * One line of stderr as it is understood; for tests.  Lines that say nothing to us leave *words as it is.
 */
struct hf_tool_words {
    bool completed;  // the last line that says anything was "completed OK!"
    int row;         // in the table of what we know: the first that came; -1: none
    char detail[96]; // what that row takes out of the line: a right, a path
};
void hf_tool_words_read(struct hf_tool_words *words, const char *line);
/* The error that those words and that exit status mean.  Returns false. */
bool hf_tool_words_fail(const struct hf_tool_words *words, const struct hf_flavour *flavour,
                        const struct hf_source_target *target, int status, struct hf_error *err);

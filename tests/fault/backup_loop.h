/*
 * backup_loop.h - a child process that takes backup after backup, to be killed at any moment
 *
 * Each backup holds the next generation of a model (support/model.h).  The child tells of a backup on a pipe when its
 * commit has returned: from then on it is acknowledged, and must be there whatever happens.
 */
#pragma once
#include <sys/types.h>
#include "tests/support/model.h"

struct backup_loop {
    struct test_vault *vault; // borrowed from the caller, who keeps it closed while the child runs
    size_t model_bytes;
    bool disk_may_fail;       // a backup that fails is then no fault, and the child waits to be killed
    unsigned next_generation; // of the model, for the next child's first backup
    pid_t child;              // -1: none
    int told;                 // our end of the pipe
    size_t known;             // backups in the log that were compared with their generation, or need not be
    size_t count, room;
    struct acknowledged {
        struct hf_id backup;
        unsigned generation;
    } * backups; // in the order of their commits; also those that were committed and could not be told of
};

void backup_loop_start(struct backup_loop *loop);
/* SIGKILL, whatever it does; returns how many backups the child had acknowledged. */
size_t backup_loop_kill(struct backup_loop *loop);
/*
 * With the vault opened again: the log holds what was acknowledged, and at most one backup more that could not be told
 * of.  Restores those that are new (or all), compares them, and notes which generation comes next.
 */
void backup_loop_assert(struct backup_loop *loop, bool all, const char *scratch);
/* One more backup, by ourselves: the next session works with nobody's help and ends what the child left open. */
void backup_loop_go_on(struct backup_loop *loop, const char *scratch);
void backup_loop_done(struct backup_loop *loop);

/* SEED of the environment, or one that is drawn; said aloud, and given to random(). */
void backup_loop_seed(void);
/* CAMPAIGN_SECONDS of the environment, or 0. */
unsigned backup_loop_seconds(void);

#include "server/storage/staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <unistd.h>

#define RACERS 8
#define RACES  2

/* Where threads wait until all have made their file, and are let go at once. */
struct starting_line {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t ready;
    bool go;
};

/* One of several threads that run for the same name. */
struct racer {
    const struct hf_tree *tree;
    struct starting_line *line;
    const char *goal;
    struct hf_staged staged; // its lock is held until all have arrived: the sweeper of another process keeps away
    enum hf_staged_outcome outcome;
    struct hf_error err;
};

static bool race_for_a_name(const struct hf_tree *tree, size_t *ret_winners, struct hf_error *err);
static void *race(void *context);
static bool try_syncs(const struct hf_tree *tree, bool *ret_durable, struct hf_error *err);
static const char *name_file_system(int root);

bool
hf_staging_probe(const struct hf_tree *tree, struct hf_backend_report *ret, struct hf_error *err)
{
    ret->exclusive_create = true;
    for (int i = 0; i < RACES; i++) {
        size_t winners;
        if (!race_for_a_name(tree, &winners, err))
            return false;
        ret->exclusive_create = ret->exclusive_create && winners == 1;
    }
    snprintf(ret->description, sizeof ret->description, "local disk, %s", name_file_system(tree->root));
    return try_syncs(tree, &ret->durable_sync, err);
}

static bool
race_for_a_name(const struct hf_tree *tree, size_t *ret_winners, struct hf_error *err)
{
    struct hf_id unique = hf_id_new();
    char goal[HF_ID_TEXT_BYTES];
    hf_id_format(&unique, goal);

    struct starting_line line = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    size_t started = 0;
    for (; started < RACERS; started++) {
        racers[started] = (struct racer){tree, &line, goal, HF_STAGED_NONE, HF_STAGED_FAILED, {0}};
        if (pthread_create(&threads[started], NULL, race, &racers[started]) != 0)
            break;
    }
    pthread_mutex_lock(&line.lock);
    while (line.ready < started)
        pthread_cond_wait(&line.changed, &line.lock);
    line.go = true;
    pthread_cond_broadcast(&line.changed);
    pthread_mutex_unlock(&line.lock);

    size_t winners = 0;
    const struct hf_error *problem = NULL;
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        winners += racers[i].outcome == HF_STAGED_PUBLISHED;
        if (racers[i].outcome == HF_STAGED_FAILED)
            problem = &racers[i].err;
    }
    for (size_t i = 0; i < started; i++)
        if (racers[i].outcome == HF_STAGED_PUBLISHED)
            unlinkat(racers[i].staged.folder, goal, 0);
    for (size_t i = 0; i < started; i++)
        hf_staged_done(&racers[i].staged);

    if (started < RACERS)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not start %d threads", RACERS);
    if (problem != NULL && err != NULL)
        *err = *problem;
    *ret_winners = winners;
    return problem == NULL;
}

static void *
race(void *context)
{
    struct racer *racer = context;
    bool ready = hf_staged_open(racer->tree, "", NULL, &racer->staged, &racer->err);

    pthread_mutex_lock(&racer->line->lock);
    racer->line->ready++;
    pthread_cond_broadcast(&racer->line->changed);
    while (!racer->line->go)
        pthread_cond_wait(&racer->line->changed, &racer->line->lock);
    pthread_mutex_unlock(&racer->line->lock);
    if (!ready)
        return NULL;

    racer->outcome = hf_staged_publish(&racer->staged, racer->staged.folder, racer->goal);
    if (racer->outcome == HF_STAGED_FAILED)
        hf_fail_errno(&racer->err, HF_ERR_NONE, "could not create a name exclusively");
    return NULL;
}

static bool
try_syncs(const struct hf_tree *tree, bool *ret_durable, struct hf_error *err)
{
    static const char bytes[] = "written, to see whether it can be synced";
    _cleanup_(hf_staged_done) struct hf_staged staged = HF_STAGED_NONE;
    if (!hf_staged_open(tree, "", NULL, &staged, err) || !hf_write_all(staged.fd, bytes, sizeof bytes, "staging", err))
        return false;
    *ret_durable = fdatasync(staged.fd) == 0 && fsync(staged.folder) == 0;
    return true;
}

static const char *
name_file_system(int root)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {
        {0xef53, "ext4"},
        {0x58465342, "xfs"},
        {0x9123683e, "btrfs"},
        {0xf2f52010, "f2fs"},
        {0x2fc12fc1, "zfs"},
        {0xca451a4e, "bcachefs"},
        {0x01021994, "tmpfs (memory)"},
        {0x6969, "nfs (network)"},
        {0xff534d42, "cifs (network)"},
        {0xfe534d42, "smb2 (network)"},
        {0x00c36400, "ceph (network)"},
        {0x794c7630, "overlayfs"},
        {0x65735546, "fuse"},
    };
    struct statfs disk;
    if (fstatfs(root, &disk) == 0)
        for (size_t i = 0; i < HF_LENGTH(known); i++)
            if (known[i].magic == ((unsigned long)disk.f_type & 0xffffffff))
                return known[i].name;
    return "file system of an unknown kind";
}

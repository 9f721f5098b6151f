/*
 * restore_internal.h - a plan, as plan.c proves it and restore.c writes it
 */
#pragma once
#include <pthread.h>
#include "server/restore/delta.h"
#include "server/restore/lost_runs.h"
#include "server/restore/restore.h"
#include "server/restore/slab_cache.h"

#define LAST_FILE "global/pg_control" // without it no server starts on what is there

/* One file on its way.  Its leaves are written by any workers; whoever ends the last one checks the digest. */
struct planned_file {
    char *path;
    struct hf_manifest_file file; // name NULL; leaves in own memory
    uint64_t first_task;          // number of its first leaf among all
    int fd;                       // -1: not open
    bool compared;                // it was there: its pages are compared before they are written
    size_t leaves_left;
    uint8_t *tags; // of all its pages, while it is being written
    bool lossy;    // some are lost: there is no digest to hold it against
};

/* A pack that is not there as the log says: told as soon as a file is known that needs it. */
struct lost_pack {
    struct hf_id pack;
    bool is_map;
    char why[160]; // pack "7f3a" is missing
};

struct hf_restore_plan {
    struct hf_vault *vault; // borrowed from the caller
    struct hf_restore_options options;
    struct hf_backup *backup;
    size_t file_count, file_room;
    struct planned_file *files;
    size_t lost_count;
    struct lost_pack *lost; // sorted
    struct hf_restore_size size;

    /* While writing. */
    pthread_mutex_t lock;
    int target;
    size_t next_file;
    size_t next_leaf;
    size_t end_file; // files from here on wait for the second round
    bool failed;
    struct hf_error failure;
    struct hf_slab_cache *cache;
    uint64_t pages, pages_kept, removed;
    struct hf_lost_runs lost_runs;
    struct hf_delta *delta; // NULL: the target was empty
};

uint64_t restore_page_count(const struct hf_manifest_file *file);

#include "server/job/log_ahead.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "server/job/log_place.h"
#include "server/source/postgres/wal_format.h"

/* One server, known by the folder into which it has its log put. */
struct place {
    struct hf_log_place beside;
    dev_t device; // of the wanted file's folder
    ino_t inode;
    uid_t uid;
    uint64_t used_ns;
    uint32_t timeline;
    uint64_t ready, next; // segments [ready, next) lie beside it
    uint64_t until;       // where fetching stops
};

struct hf_log_ahead {
    struct hf_archive *archive;
    bool readable;          // it was read to its end at least once, and did not fail since
    uint32_t segment_bytes; // 0: not known yet
    struct place places[HF_LOG_AHEAD_PLACES_MOST];
    size_t place_count;
    pthread_t thread;
    pthread_mutex_t lock; // around all of it
    pthread_cond_t changed;
    atomic_uint waiting; // who asks goes before what is fetched in advance
    bool stop;
};

static void *fetch_ahead(void *context);
static struct place *hungriest(struct hf_log_ahead *ahead);
static void fetch_one(struct hf_log_ahead *ahead, struct place *place);
static bool get(struct hf_log_ahead *ahead, const struct hf_log_wish *wish, enum hf_archive_answer *ret,
                struct hf_error *err);
static bool look_again(struct hf_log_ahead *ahead, struct hf_error *err);
static bool put(struct hf_log_ahead *ahead, const struct hf_log_place *place, const struct hf_archive_file *file,
                const char *name, bool whole_only, enum hf_archive_answer *ret, struct hf_error *err);
static struct place *find_place(struct hf_log_ahead *ahead, const struct hf_log_place *in);
static bool open_place(const struct hf_log_place *in, struct place *ret);
static bool take_ready(struct hf_log_ahead *ahead, struct place *place, const struct hf_archive_file *file,
                       const struct hf_log_place *in, const char *name);
static void go_on_behind(struct hf_log_ahead *ahead, struct place *place, const struct hf_archive_file *file,
                         int64_t segments);
static void forget_ready(struct hf_log_ahead *ahead, struct place *place, uint64_t before);
static void clear_folder(int folder);

bool
hf_log_ahead_start(struct hf_vault *vault, struct hf_log_ahead **ret, struct hf_error *err)
{
    struct hf_log_ahead *ahead = calloc(1, sizeof *ahead);
    if (ahead == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an archive");
    if (!hf_archive_open(vault, NULL, &ahead->archive, err)) {
        free(ahead);
        return false;
    }
    ahead->readable = true;
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->changed, NULL);
    if (pthread_create(&ahead->thread, NULL, fetch_ahead, ahead) != 0) {
        hf_archive_freep(&ahead->archive);
        free(ahead);
        return hf_fail(err, HF_ERR_NO_MEMORY, "could not start a thread that reads ahead");
    }
    *ret = ahead;
    return true;
}

bool
hf_log_ahead_get(struct hf_log_ahead *ahead, const struct hf_log_wish *wish, enum hf_archive_answer *ret,
                 struct hf_error *err)
{
    atomic_fetch_add(&ahead->waiting, 1);
    pthread_mutex_lock(&ahead->lock);
    atomic_fetch_sub(&ahead->waiting, 1);
    const bool got = get(ahead, wish, ret, err);
    pthread_cond_signal(&ahead->changed);
    pthread_mutex_unlock(&ahead->lock);
    return got || hf_fail_within(err, "could not get \"%.64s\" from the archive", wish->file);
}

void
hf_log_ahead_stopp(struct hf_log_ahead **ahead)
{
    struct hf_log_ahead *ended = *ahead;
    if (ended == NULL)
        return;
    pthread_mutex_lock(&ended->lock);
    ended->stop = true;
    pthread_cond_signal(&ended->changed);
    pthread_mutex_unlock(&ended->lock);
    pthread_join(ended->thread, NULL);
    for (size_t i = 0; i < ended->place_count; i++) {
        forget_ready(ended, &ended->places[i], ended->places[i].next);
        hf_log_place_done(&ended->places[i].beside);
    }
    pthread_cond_destroy(&ended->changed);
    pthread_mutex_destroy(&ended->lock);
    hf_archive_freep(&ended->archive);
    free(ended);
    *ahead = NULL;
}

static void *
fetch_ahead(void *context)
{
    struct hf_log_ahead *ahead = context;
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->stop) {
        struct place *place = atomic_load(&ahead->waiting) > 0 ? NULL : hungriest(ahead);
        if (place == NULL) {
            pthread_cond_wait(&ahead->changed, &ahead->lock);
            continue;
        }
        fetch_one(ahead, place);
        pthread_mutex_unlock(&ahead->lock); // whoever came meanwhile is counted as waiting, and is let in
        pthread_mutex_lock(&ahead->lock);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

/* Who has least of what it may have; NULL: nobody wants any. */
static struct place *
hungriest(struct hf_log_ahead *ahead)
{
    struct place *best = NULL;
    for (size_t i = 0; i < ahead->place_count; i++) {
        struct place *place = &ahead->places[i];
        if (place->next < place->until && (best == NULL || place->next - place->ready < best->next - best->ready))
            best = place;
    }
    return best;
}

/* What cannot be fetched is left to the server's own request for it, which tells why. */
static void
fetch_one(struct hf_log_ahead *ahead, struct place *place)
{
    const struct hf_archive_file file = {.timeline = place->timeline, .start = place->next};
    enum hf_archive_answer answer = HF_ARCHIVE_BEYOND;
    char name[HF_WAL_NAME_BYTES];
    struct statvfs disk;
    struct hf_error why;
    hf_wal_segment_name(file.timeline, file.start, ahead->segment_bytes, name);
    if (fstatvfs(place->beside.folder, &disk) == 0 &&
        (uint64_t)disk.f_bavail * disk.f_frsize >= HF_LOG_AHEAD_ROOM_LEFT + ahead->segment_bytes &&
        put(ahead, &place->beside, &file, name, true, &answer, &why) && answer == HF_ARCHIVE_WHOLE)
        place->next += ahead->segment_bytes;
    else
        place->until = place->next;
}

static bool
get(struct hf_log_ahead *ahead, const struct hf_log_wish *wish, enum hf_archive_answer *ret, struct hf_error *err)
{
    _cleanup_(hf_log_place_done) struct hf_log_place in = HF_LOG_PLACE_NONE;
    struct hf_archive_file file;
    const char *name;
    if (!hf_archive_file_parse(wish->file, HF_WAL_SEGMENT_LEAST, &file, err) ||
        !hf_log_place_open(wish->to, wish->asker, &in, &name, err))
        return false;
    if (file.history)
        return put(ahead, &in, &file, name, false, ret, err);
    if (ahead->segment_bytes == 0 &&
        (!look_again(ahead, err) || !hf_archive_segment_bytes(ahead->archive, &ahead->segment_bytes, err)))
        return false;
    if (!hf_archive_file_parse(wish->file, ahead->segment_bytes, &file, err))
        return false;

    struct place *place = wish->segments > 0 ? find_place(ahead, &in) : NULL;
    if (place != NULL && take_ready(ahead, place, &file, &in, name))
        *ret = HF_ARCHIVE_WHOLE;
    else if (!put(ahead, &in, &file, name, false, ret, err))
        return false;
    if (place != NULL && *ret == HF_ARCHIVE_WHOLE)
        go_on_behind(ahead, place, &file, wish->segments);
    return true;
}

static bool
look_again(struct hf_log_ahead *ahead, struct hf_error *err)
{
    ahead->readable = hf_archive_refresh(ahead->archive, err);
    return ahead->readable;
}

/* First from the archive as we know it; anything but a whole segment only from the archive as it is. */
static bool
put(struct hf_log_ahead *ahead, const struct hf_log_place *place, const struct hf_archive_file *file, const char *name,
    bool whole_only, enum hf_archive_answer *ret, struct hf_error *err)
{
    const struct hf_log_put first = {.whole_only = true}, then = {.whole_only = whole_only};
    struct hf_error ignored;
    if (!file->history && ahead->readable &&
        hf_archive_file_look(ahead->archive, file, ahead->segment_bytes, ret, &ignored) && *ret == HF_ARCHIVE_WHOLE &&
        hf_log_place_put(place, ahead->archive, file, ahead->segment_bytes, name, &first, ret, &ignored) &&
        *ret == HF_ARCHIVE_WHOLE)
        return true;
    return look_again(ahead, err) &&
           hf_log_place_put(place, ahead->archive, file, ahead->segment_bytes, name, &then, ret, err);
}

/* NULL: nothing is fetched in advance for it. */
static struct place *
find_place(struct hf_log_ahead *ahead, const struct hf_log_place *in)
{
    struct place *oldest = NULL, made;
    for (size_t i = 0; i < ahead->place_count; i++) {
        struct place *place = &ahead->places[i];
        if (place->device == in->device && place->inode == in->inode && place->uid == in->uid) {
            place->used_ns = hf_monotonic_ns();
            return place;
        }
        if (oldest == NULL || place->used_ns < oldest->used_ns)
            oldest = place;
    }
    if (!open_place(in, &made))
        return NULL;
    if (ahead->place_count < HF_LOG_AHEAD_PLACES_MOST) {
        oldest = &ahead->places[ahead->place_count++];
    } else {
        forget_ready(ahead, oldest, oldest->next);
        hf_log_place_done(&oldest->beside);
    }
    *oldest = made;
    return oldest;
}

static bool
open_place(const struct hf_log_place *in, struct place *ret)
{
    struct hf_error why;
    struct place place = {.device = in->device, .inode = in->inode, .uid = in->uid, .used_ns = hf_monotonic_ns()};
    if (!hf_log_place_beside(in, &place.beside, &why)) {
        hf_log_warning(&why, "nothing is fetched in advance");
        return false;
    }
    clear_folder(place.beside.folder);
    *ret = place;
    return true;
}

/* It was put there by us, in this life of ours, whole. */
static bool
take_ready(struct hf_log_ahead *ahead, struct place *place, const struct hf_archive_file *file,
           const struct hf_log_place *in, const char *name)
{
    char ready[HF_WAL_NAME_BYTES];
    if (file->timeline != place->timeline || file->start < place->ready || file->start >= place->next)
        return false;
    forget_ready(ahead, place, file->start);
    hf_wal_segment_name(file->timeline, file->start, ahead->segment_bytes, ready);
    return renameat(place->beside.folder, ready, in->folder, name) == 0;
}

/* What lies there stays when it is the very next; else fetching begins anew behind this segment. */
static void
go_on_behind(struct hf_log_ahead *ahead, struct place *place, const struct hf_archive_file *file, int64_t segments)
{
    const uint64_t behind = file->start + ahead->segment_bytes;
    uint64_t count = (uint64_t)segments < HF_LOG_AHEAD_SEGMENTS_MOST ? (uint64_t)segments : HF_LOG_AHEAD_SEGMENTS_MOST;
    if (count * ahead->segment_bytes > HF_LOG_AHEAD_BYTES_MOST)
        count = HF_LOG_AHEAD_BYTES_MOST / ahead->segment_bytes;
    if (file->timeline != place->timeline || behind < place->ready || behind > place->next) {
        forget_ready(ahead, place, place->next);
        place->timeline = file->timeline;
        place->next = behind;
    }
    place->ready = behind;
    place->until = behind + count * ahead->segment_bytes;
}

/* Removes those before a position. */
static void
forget_ready(struct hf_log_ahead *ahead, struct place *place, uint64_t before)
{
    char name[HF_WAL_NAME_BYTES];
    for (; place->ready < before; place->ready += ahead->segment_bytes) {
        hf_wal_segment_name(place->timeline, place->ready, ahead->segment_bytes, name);
        (void)unlinkat(place->beside.folder, name, 0);
    }
}

/* What another process left behind: nobody knows any more whether it is whole. */
static void
clear_folder(int folder)
{
    const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    if (listing == NULL) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        (void)unlinkat(folder, entry->d_name, 0); // folders stay: they are none of ours
    closedir(listing);
}

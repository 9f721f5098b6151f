#include "server/verify/postgres/pages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/postgres/path.h"
#include "server/verify/postgres/multixact.h"

#define PAGE_BYTES       8192
#define READ_BYTES       (1 * HF_MIB)
#define XIDS_A_PAGE      (PAGE_BYTES * 4)
#define PAGES_A_LOG_FILE 32
#define XIDS_THAT_COUNT  32     // fewer are easily cut off by a crash
#define ALL_VISIBLE      0x0004 // of a page's flags
#define XMAX_LOCKS_ONLY  0x0080 // of a row's infomask; both "xmin" bits together say frozen
#define XMIN_COMMITTED   0x0100
#define XMIN_INVALID     0x0200
#define XMAX_COMMITTED   0x0400
#define XMAX_INVALID     0x0800
#define XMAX_IS_MULTI    0x1000
#define VM_HEADER        24 // of a page of the visibility map; then two bits a block
#define VM_BLOCKS        ((PAGE_BYTES - VM_HEADER) * 4)

struct hf_pages_watch {
    struct hf_recovery_facts facts;
    struct hf_page_faults faults;
    pthread_mutex_t lock;
    size_t zero_count, zero_room;
    struct hf_zero_block *zeros;
    bool zeros_cut; // more than HF_ZERO_BLOCKS_MOST
};

/* Pages of pg_xact, read when first asked for. */
struct commit_log {
    int folder;            // -1: there is none
    uint32_t oldest, next; // transactions it can be asked about
    size_t page_count;
    uint8_t **pages; // by number; NULL: not read yet
    struct hf_verify_check *check;
    int64_t rows;                         // compared with it
    char last_file[HF_BACKUP_PATH_BYTES]; // where it was last found wrong, and by which page: told once for each pair
    uint32_t last_page;
};

/* The visibility map of one relation: the blocks of which it says that all rows are visible hold some. */
struct visibility {
    int fd; // -1: it has none
    uint32_t page_number;
    bool page_read;
    uint8_t page[PAGE_BYTES];
};

struct offline {
    const struct hf_offline_options *options;
    struct hf_page_faults faults;
    struct commit_log log;
    struct hf_multixacts *multixacts;
    struct visibility visibility; // of the relation that is being read
    struct hf_verify_check *blocks;
    int64_t visible; // blocks compared with it
    uint8_t *buffer;
};

enum xid_status { XID_SILENT = 0, XID_COMMITTED = 1, XID_ABORTED = 2, XID_SUB_COMMITTED = 3, XID_UNREADABLE = 4 };

static bool describe(const struct hf_recovery_facts *facts, const char *path, uint64_t size,
                     struct hf_backup_file *ret);
static bool main_fork(const char *path, uint32_t *ret_database, uint32_t *ret_file_node);
static void note_zeros(struct hf_pages_watch *watch, const struct hf_backup_file *file, uint64_t first_page,
                       const uint8_t *pages, size_t length);
static int by_place(const void *a, const void *b);
static void settle(const struct hf_page_faults *faults, bool pending_too, struct hf_verify_check *check);
static bool open_log(struct offline *offline, struct hf_error *err);
static void close_log(struct commit_log *log);
static const uint8_t *log_page(struct commit_log *log, uint32_t number);
static enum xid_status xid_status(struct commit_log *log, uint32_t xid);
static void check_log_pages(struct commit_log *log);
static void compare_rows(struct offline *offline, const struct hf_backup_file *file, uint64_t first_page,
                         const uint8_t *pages, size_t length);
static void open_visibility(struct offline *offline, int folder, const char *name);
static bool is_visible(struct visibility *map, uint32_t block, bool *ret_end);
static void compare_visible(struct offline *offline, const struct hf_backup_file *file, uint64_t first_page,
                            const uint8_t *pages, size_t length);
static const char *contradiction(struct commit_log *log, const uint8_t *page);
static void check_end(struct offline *offline, const struct hf_backup_file *file, uint32_t block);
static bool walk(struct offline *offline, int folder, const char *path, int depth, struct hf_error *err);
static bool check_file(struct offline *offline, int folder, const char *name, const char *path, struct hf_error *err);
static bool has_next_segment(int folder, const char *name);

bool
hf_pages_watch_new(const struct hf_recovery_facts *facts, struct hf_pages_watch **ret, struct hf_error *err)
{
    struct hf_pages_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page checks");
    watch->facts = *facts;
    hf_page_faults_init(&watch->faults);
    atomic_store(&watch->faults.start_lsn, facts->start_lsn);
    pthread_mutex_init(&watch->lock, NULL);
    *ret = watch;
    return true;
}

void
hf_pages_watch_freep(struct hf_pages_watch **watch)
{
    if (*watch == NULL)
        return;
    hf_page_faults_done(&(*watch)->faults);
    pthread_mutex_destroy(&(*watch)->lock);
    free((*watch)->zeros);
    free(*watch);
    *watch = NULL;
}

void
hf_pages_watch_check(void *context, const char *path, uint64_t file_size, uint64_t first_page, const uint8_t *pages,
                     size_t length)
{
    struct hf_pages_watch *watch = context;
    struct hf_backup_file file;
    if (!describe(&watch->facts, path, file_size, &file))
        return;
    hf_source_postgres.check_pages(&watch->faults, &file, first_page, pages, length);
    note_zeros(watch, &file, first_page, pages, length);
}

void
hf_pages_watch_settle(struct hf_pages_watch *watch, struct hf_verify_check *check)
{
    hf_page_faults_settle(&watch->faults, watch->facts.stop_lsn);
    settle(&watch->faults, false, check);
}

const struct hf_zero_block *
hf_pages_watch_zeros(struct hf_pages_watch *watch, size_t *ret_count, bool *ret_cut)
{
    if (watch->zero_count > 0)
        qsort(watch->zeros, watch->zero_count, sizeof *watch->zeros, by_place);
    *ret_count = watch->zero_count;
    *ret_cut = watch->zeros_cut;
    return watch->zeros;
}

bool
hf_pages_check_offline(const struct hf_offline_options *options, const struct hf_offline_checks *checks,
                       struct hf_error *err)
{
    _cleanup_(hf_freep) uint8_t *buffer = malloc(READ_BYTES);
    _cleanup_(hf_multixacts_freep) struct hf_multixacts *multixacts = NULL;
    struct offline offline = {.options = options,
                              .log = {.folder = -1, .check = checks->commit_log},
                              .visibility = {.fd = -1},
                              .blocks = checks->blocks,
                              .buffer = buffer};
    _cleanup_(hf_closep) int folder = open(options->data, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (offline.buffer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page checks");
    if (folder < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", options->data);
    if (!hf_multixacts_open(folder, options->oldest_multi, options->next_multi, checks->multixacts, &multixacts, err))
        return false;
    offline.multixacts = multixacts;
    hf_check_begin(checks->pages);
    hf_check_begin(checks->blocks);
    hf_check_begin(checks->commit_log);
    hf_page_faults_init(&offline.faults);
    atomic_store(&offline.faults.start_lsn, UINT64_MAX); // nothing is being written any more: no page may fail
    const bool ok = open_log(&offline, err) && walk(&offline, folder, "", 0, err);
    if (ok) {
        settle(&offline.faults, true, checks->pages);
        hf_check_pass(checks->blocks, offline.visible);
        hf_multixacts_settle(multixacts);
        if (offline.log.page_count == 0) {
            hf_check_cannot_tell(checks->commit_log, "which transactions there were is not known");
        } else {
            check_log_pages(&offline.log);
            hf_check_pass(checks->commit_log, offline.log.rows);
        }
    }
    close_log(&offline.log);
    hf_closep(&offline.visibility.fd);
    hf_page_faults_done(&offline.faults);
    return ok;
}

static bool
open_log(struct offline *offline, struct hf_error *err)
{
    struct commit_log *log = &offline->log;
    log->oldest = offline->options->oldest_xid;
    log->next = offline->options->next_xid;
    if (log->oldest < 3 || log->next - log->oldest > UINT32_MAX / 2)
        return true;
    char path[4096];
    snprintf(path, sizeof path, "%s/pg_xact", offline->options->data);
    log->folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    log->page_count = (size_t)UINT32_MAX / XIDS_A_PAGE + 1;
    log->pages = calloc(log->page_count, sizeof *log->pages);
    return log->pages != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the commit log");
}

static void
close_log(struct commit_log *log)
{
    for (size_t i = 0; log->pages != NULL && i < log->page_count; i++)
        free(log->pages[i]);
    free(log->pages);
    hf_closep(&log->folder);
}

/* NULL when it is not there, whole. */
static const uint8_t *
log_page(struct commit_log *log, uint32_t number)
{
    if (log->pages[number] != NULL)
        return log->pages[number];
    char name[16];
    snprintf(name, sizeof name, "%04X", number / PAGES_A_LOG_FILE);
    _cleanup_(hf_closep) int fd = log->folder >= 0 ? openat(log->folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    uint8_t *page = malloc(PAGE_BYTES);
    if (fd < 0 || page == NULL ||
        pread(fd, page, PAGE_BYTES, (off_t)(number % PAGES_A_LOG_FILE) * PAGE_BYTES) != PAGE_BYTES) {
        free(page);
        return NULL;
    }
    return log->pages[number] = page;
}

static enum xid_status
xid_status(struct commit_log *log, uint32_t xid)
{
    const uint8_t *page = log_page(log, xid / XIDS_A_PAGE);
    const uint32_t at = xid % XIDS_A_PAGE;
    return page == NULL ? XID_UNREADABLE : (enum xid_status)(page[at / 4] >> (at % 4 * 2) & 3);
}

/*
 * A page that is not there was lost.  One that says nothing of any of its transactions most likely was, too; but all
 * of them may have been parts of one transaction that a crash cut off, so that alone is no proof.
 */
static void
check_log_pages(struct commit_log *log)
{
    for (uint32_t xid = log->oldest; xid != log->next;) {
        const uint32_t left = log->next - xid, room = XIDS_A_PAGE - xid % XIDS_A_PAGE;
        const uint32_t count = left < room ? left : room;
        const uint8_t *page = log_page(log, xid / XIDS_A_PAGE);
        const uint32_t number = xid / XIDS_A_PAGE % PAGES_A_LOG_FILE;
        char name[32];
        bool silent = true;
        snprintf(name, sizeof name, "pg_xact/%04X", xid / XIDS_A_PAGE / PAGES_A_LOG_FILE);
        for (uint32_t i = 0; page != NULL && silent && i < count; i++)
            silent = xid_status(log, xid + i) == XID_SILENT;
        if (page == NULL)
            hf_check_found(log->check, "commit_log_missing", number, "%s", name);
        else if (silent && count >= XIDS_THAT_COUNT)
            hf_check_cannot_tell(log->check, "%s, page %u says nothing of any of its transactions", name, number);
        xid += count;
    }
}

/* Heap pages have no special space.  Row header: 0 u32 xmin, 4 u32 xmax, 20 u16 infomask, whose bits are above. */
static void
compare_rows(struct offline *offline, const struct hf_backup_file *file, uint64_t first_page, const uint8_t *pages,
             size_t length)
{
    struct commit_log *log = &offline->log;
    uint32_t database, file_node;
    if (log->page_count == 0 || !main_fork(file->path, &database, &file_node))
        return;
    for (size_t start = 0; start + PAGE_BYTES <= length; start += PAGE_BYTES) {
        const uint8_t *page = pages + start;
        const unsigned lower = hf_get_u16(page + 12), special = hf_get_u16(page + 16);
        if (special != PAGE_BYTES || lower < 24 || lower > PAGE_BYTES)
            continue;
        for (unsigned at = 24; at + 4 <= lower; at += 4) {
            const uint32_t pointer = hf_get_u32(page + at);
            const unsigned offset = pointer & 0x7fff, state = pointer >> 15 & 3;
            if (state != 1 || offset + 24 > PAGE_BYTES)
                continue;
            const uint32_t block = file->first_block + (uint32_t)(first_page + start / PAGE_BYTES);
            const uint16_t marks = hf_get_u16(page + offset + 20);
            const uint32_t xmin = hf_get_u32(page + offset);
            if ((marks & (XMAX_IS_MULTI | XMAX_INVALID)) == XMAX_IS_MULTI)
                hf_multixacts_check(offline->multixacts, hf_get_u32(page + offset + 4), file->path, block);
            if ((marks & (XMIN_COMMITTED | XMIN_INVALID)) != XMIN_COMMITTED ||
                xmin - log->oldest >= log->next - log->oldest)
                continue;
            log->rows++;
            const enum xid_status status = xid_status(log, xmin);
            if (status == XID_COMMITTED || status == XID_SUB_COMMITTED)
                continue;
            if (log->last_page == xmin / XIDS_A_PAGE && strcmp(log->last_file, file->path) == 0) {
                log->check->bad++; // counted, but named once
                continue;
            }
            log->last_page = xmin / XIDS_A_PAGE;
            snprintf(log->last_file, sizeof log->last_file, "%s", file->path);
            hf_check_found(log->check, "commit_log_disagrees", block, "%s and pg_xact/%04X: transaction %u", file->path,
                           xmin / XIDS_A_PAGE / PAGES_A_LOG_FILE, xmin);
        }
    }
}

/*
 * VACUUM marks a block as all visible when it has seen its rows, never one that is all zeros; cutting a table off
 * clears the marks behind its end.  So a marked block that is empty, or is not there, was lost.
 */
static void
open_visibility(struct offline *offline, int folder, const char *name)
{
    struct visibility *map = &offline->visibility;
    char map_name[64];
    const int length = snprintf(map_name, sizeof map_name, "%.*s_vm", (int)strcspn(name, "."), name);
    hf_closep(&map->fd);
    map->page_read = false;
    map->fd = length > 0 && (size_t)length < sizeof map_name
                  ? openat(folder, map_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
                  : -1;
}

/* False also past the map's end. */
static bool
is_visible(struct visibility *map, uint32_t block, bool *ret_end)
{
    const uint32_t number = block / VM_BLOCKS, at = block % VM_BLOCKS;
    *ret_end = map->fd < 0;
    if (!*ret_end && (!map->page_read || map->page_number != number)) {
        *ret_end = pread(map->fd, map->page, PAGE_BYTES, (off_t)number * PAGE_BYTES) != PAGE_BYTES;
        map->page_read = !*ret_end;
        map->page_number = number;
    }
    return !*ret_end && (map->page[VM_HEADER + at / 4] >> (at % 4 * 2) & 1) != 0;
}

static void
compare_visible(struct offline *offline, const struct hf_backup_file *file, uint64_t first_page, const uint8_t *pages,
                size_t length)
{
    bool end = false;
    for (size_t start = 0; !end && start + PAGE_BYTES <= length; start += PAGE_BYTES) {
        const uint8_t *page = pages + start;
        const uint32_t block = file->first_block + (uint32_t)(first_page + start / PAGE_BYTES);
        const bool visible = is_visible(&offline->visibility, block, &end);
        offline->visible += visible;
        const char *what = !visible ? NULL
                           : page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0
                               ? "zeroed_block"
                               : contradiction(&offline->log, page);
        if (what != NULL)
            hf_check_found(offline->blocks, what, block, "%s", file->path);
    }
}

/*
 * The map is never ahead of the page: what marks a page in the map marks the page, and what unmarks it, both.  On a
 * page that is marked no dead row lies, and none that a transaction deleted which committed.  An index-only count would
 * tell such rows as if they were there.
 */
static const char *
contradiction(struct commit_log *log, const uint8_t *page)
{
    const unsigned lower = hf_get_u16(page + 12);
    if (hf_get_u16(page + 16) != PAGE_BYTES || lower < 24 || lower > PAGE_BYTES)
        return NULL; // not sane: the check of pages says so
    if ((hf_get_u16(page + 10) & ALL_VISIBLE) == 0)
        return "map_says_more";
    for (unsigned at = 24; at + 4 <= lower; at += 4) {
        const uint32_t pointer = hf_get_u32(page + at);
        const unsigned offset = pointer & 0x7fff, state = pointer >> 15 & 3;
        if (state == 3)
            return "dead_row_marked_visible";
        if (state != 1 || offset + 24 > PAGE_BYTES)
            continue;
        const uint32_t xmax = hf_get_u32(page + offset + 4);
        const uint16_t marks = hf_get_u16(page + offset + 20);
        if (xmax == 0 || (marks & (XMAX_INVALID | XMAX_IS_MULTI | XMAX_LOCKS_ONLY)) != 0)
            continue;
        const bool known = log->page_count > 0 && xmax - log->oldest < log->next - log->oldest;
        if ((marks & XMAX_COMMITTED) != 0 || (known && xid_status(log, xmax) == XID_COMMITTED))
            return "deleted_row_marked_visible";
    }
    return NULL;
}

/* The relation ends at `block`: nothing from there on may be marked.  The first and the number of them are told. */
static void
check_end(struct offline *offline, const struct hf_backup_file *file, uint32_t block)
{
    bool end = false, told = false;
    for (; !end && block < UINT32_MAX; block++) {
        if (!is_visible(&offline->visibility, block, &end))
            continue;
        if (!told)
            hf_check_found(offline->blocks, "missing_block", block, "%s", file->path);
        else
            offline->blocks->bad++;
        told = true;
    }
}

static bool
describe(const struct hf_recovery_facts *facts, const char *path, uint64_t size, struct hf_backup_file *ret)
{
    uint32_t segment;
    if (!hf_postgres_path_is_relation(path, facts->segment_blocks, &segment))
        return false;
    *ret = (struct hf_backup_file){.path = path,
                                   .kind = HF_BACKUP_FILE_RELATION,
                                   .size = size,
                                   .page_bytes = PAGE_BYTES,
                                   .first_block = segment * facts->segment_blocks,
                                   .checksums = facts->data_checksums};
    return true;
}

/* "base/5/16384", "base/5/16384.1", "global/1260", "pg_tblspc/16400/PG_15_x/5/16401": database and file node. */
static bool
main_fork(const char *path, uint32_t *ret_database, uint32_t *ret_file_node)
{
    const char *name = strrchr(path, '/');
    if (name == NULL || strchr(name, '_') != NULL)
        return false;
    char *end;
    *ret_file_node = (uint32_t)strtoul(name + 1, &end, 10);
    if (end == name + 1 || (*end != 0 && *end != '.'))
        return false;
    const char *database = name;
    while (database > path && database[-1] != '/')
        database--;
    *ret_database = strncmp(path, "global/", 7) == 0 ? 0 : (uint32_t)strtoul(database, NULL, 10);
    return true;
}

/* Zeros at the very end of a file are room for growth; before that they are remembered. */
static void
note_zeros(struct hf_pages_watch *watch, const struct hf_backup_file *file, uint64_t first_page, const uint8_t *pages,
           size_t length)
{
    uint32_t database, file_node;
    for (size_t at = 0; at + PAGE_BYTES <= length; at += PAGE_BYTES) {
        if (pages[at + 18] != 0 || pages[at] != 0 || memcmp(pages + at, pages + at + 1, PAGE_BYTES - 1) != 0)
            continue;
        if (!main_fork(file->path, &database, &file_node))
            return;
        pthread_mutex_lock(&watch->lock);
        if (watch->zero_count == watch->zero_room && watch->zero_room < HF_ZERO_BLOCKS_MOST) {
            const size_t room = watch->zero_room > 0 ? 2 * watch->zero_room : 64;
            struct hf_zero_block *grown = realloc(watch->zeros, room * sizeof *grown);
            if (grown != NULL) {
                watch->zeros = grown;
                watch->zero_room = room;
            }
        }
        if (watch->zero_count < watch->zero_room)
            watch->zeros[watch->zero_count++] = (struct hf_zero_block){
                database, file_node, file->first_block + (uint32_t)(first_page + at / PAGE_BYTES)};
        else
            watch->zeros_cut = true;
        pthread_mutex_unlock(&watch->lock);
    }
}

static int
by_place(const void *a, const void *b)
{
    const struct hf_zero_block *left = a, *right = b;
    if (left->database != right->database)
        return left->database < right->database ? -1 : 1;
    if (left->file_node != right->file_node)
        return left->file_node < right->file_node ? -1 : 1;
    return (left->block > right->block) - (left->block < right->block);
}

static void
settle(const struct hf_page_faults *faults, bool pending_too, struct hf_verify_check *check)
{
    for (size_t i = 0; i < faults->count; i++)
        if (faults->items[i].verdict == HF_PAGE_BAD || pending_too)
            hf_check_found(check, "bad_page", faults->items[i].block, "%s", faults->items[i].path);
    const int64_t all = (int64_t)(faults->bad + (pending_too ? faults->pending : 0));
    if (check->bad < all)
        check->bad = all; // more than were listed
    hf_check_pass(check, (int64_t)atomic_load(&faults->pages));
}

static bool
walk(struct offline *offline, int folder, const char *path, int depth, struct hf_error *err)
{
    const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (entries == NULL) {
        if (copy >= 0)
            close(copy);
        return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\" of the copy", path);
    }
    bool ok = true;
    for (const struct dirent *entry; ok && (entry = readdir(entries)) != NULL;) {
        char inner[HF_BACKUP_PATH_BYTES];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const int length = snprintf(inner, sizeof inner, "%s%s%s", path, path[0] != 0 ? "/" : "", entry->d_name);
        if (length < 0 || (size_t)length >= sizeof inner ||
            fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISDIR(status.st_mode) && depth < 5) {
            _cleanup_(hf_closep) int child =
                openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            ok = child >= 0 ? walk(offline, child, inner, depth + 1, err)
                            : hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\" of the copy", inner);
        } else if (S_ISREG(status.st_mode)) {
            ok = check_file(offline, folder, entry->d_name, inner, err);
        }
        if (ok && offline->options->cancel != NULL && atomic_load(offline->options->cancel))
            ok = hf_fail(err, HF_ERR_CANCELLED, "the verification was cancelled");
    }
    closedir(entries);
    return ok;
}

static bool
check_file(struct offline *offline, int folder, const char *name, const char *path, struct hf_error *err)
{
    struct hf_backup_file file;
    struct stat status;
    uint32_t segment;
    if (!hf_postgres_path_is_relation(path, offline->options->facts->segment_blocks, &segment))
        return true;
    _cleanup_(hf_closep) int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\" of the copy", path);
    uint32_t database, file_node;
    if (!describe(offline->options->facts, path, (uint64_t)status.st_size, &file))
        return true;
    const bool main = main_fork(path, &database, &file_node);
    if (main)
        open_visibility(offline, folder, name);
    uint64_t page = 0;
    ssize_t got;
    do {
        got = pread(fd, offline->buffer, READ_BYTES, (off_t)(page * PAGE_BYTES));
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read \"%s\" of the copy", path);
        hf_source_postgres.check_pages(&offline->faults, &file, page, offline->buffer, (size_t)got);
        compare_rows(offline, &file, page, offline->buffer, (size_t)got);
        if (main)
            compare_visible(offline, &file, page, offline->buffer, (size_t)got);
        page += (uint64_t)got / PAGE_BYTES;
    } while ((size_t)got == READ_BYTES);

    if (main && (page < offline->options->facts->segment_blocks || !has_next_segment(folder, name)))
        check_end(offline, &file, file.first_block + (uint32_t)page);
    return true;
}

/* The relation ends with a segment that is not full, or that has none behind it. */
static bool
has_next_segment(int folder, const char *name)
{
    char next[64];
    const size_t base = strcspn(name, ".");
    const unsigned long segment = name[base] == '.' ? strtoul(name + base + 1, NULL, 10) : 0;
    const int length = snprintf(next, sizeof next, "%.*s.%lu", (int)base, name, segment + 1);
    return length > 0 && (size_t)length < sizeof next && faccessat(folder, next, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

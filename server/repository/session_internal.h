/*
 * session_internal.h - what the files behind session.h share
 *
 *   session.c           begin, the caller's side (files cut into spans), commit, abort
 *   session_parent.c    what pages are compared with: tags and maps of earlier backups
 *   session_partial.c   what a session that was cut off leaves to the next one
 *   session_pipeline.c  the threads: workers (tag spans, seal slabs) and the assembler (compare, gather, map)
 *   session_packs.c     slabs gathered, ordered, and written to packs by the writer thread
 *   session_manifest.c  the manifest at the end
 *
 * One lock guards all queues and counters.  Fields say who may touch them: [caller], [assembler] and
 * [writer] are single threads; [lock] is guarded; [once] is set before the threads start.  After
 * hf_session_flush() the caller may act as the assembler, which has nothing to do then.
 */
#pragma once
#include <pthread.h>
#include "server/repository/object_reader.h"
#include "server/repository/page_checks.h"
#include "server/repository/reader.h"
#include "server/repository/session.h"

#define SPAN_BYTES (512 * HF_KIB)
#define SPAN_PAGES (SPAN_BYTES >> HF_PAGE_LOG2_LEAST)

/* Where the page list goes: in front of the pages, right-aligned against them. */
#define LIST_ROOM (128 * HF_KIB)

/* One stretch of a parent's file: its tags and where its pages lie.  Shared by the spans of that stretch. */
struct parent_leaf {
    atomic_uint references;
    uint64_t number; // of the leaf in its file
    struct hf_object_ref ref;
    uint32_t pages;
    bool usable; // tags and map were read; else every page counts as changed
    uint8_t *tags;
    struct hf_leaf map;
};

/* A backup, or what a cut-off session left, whose pages need not be stored again. */
struct parent {
    struct hf_id backup;        // of a cut-off session: the id it would have had
    struct hf_tag_cache *cache; // NULL: there is none
    struct hf_census *census;   // NULL: its slabs are not known
};

struct span {
    struct span *next_free;     // [lock]
    struct span *next_in_order; // [lock]
    struct span *next_work;     // [lock]
    bool done;                  // [lock] tagged
    struct hf_session_file *file;
    uint64_t first_page;
    size_t length; // bytes
    uint32_t pages;
    uint32_t tagged; // of them, from the first: by the caller; a worker does the rest
    bool settled;    // compared with the parent: by a worker, or by the assembler where none was needed
    bool last;       // the file ends with it
    uint8_t *data;
    uint32_t crc32c;            // of all its bytes
    struct parent_leaf *parent; // holds a reference, or NULL
    uint8_t tags[SPAN_PAGES * HF_TAG_BYTES];
    uint32_t page_crc[SPAN_PAGES];
    bool zero[SPAN_PAGES];
    bool same[SPAN_PAGES]; // as the parent has it
    bool keeps;            // some page is taken from the parent unread:
    bool kept[SPAN_PAGES]; // these, whose bytes are not in `data`
};

struct open_pack {
    struct hf_pack_identity identity; // [once]
    struct hf_pack_cipher *cipher;    // [once] workers seal with it
    struct hf_pack_writer *writer;    // [writer] borrows the cipher
    uint64_t serial;                  // [once] counts packs of the session, from 1
    uint32_t next_slab;               // [assembler]
    _Atomic uint64_t stored;          // bytes written so far
};

struct slab_job {
    struct slab_job *next_free;     // [lock]
    struct slab_job *next_in_order; // [lock]
    struct slab_job *next_work;     // [lock]
    bool done;                      // [lock] sealed
    bool finish;                    // no slab: the pack ends here
    struct open_pack *pack;
    struct hf_slab_info info;
    uint8_t *plain; // LIST_ROOM, then the pages; or the objects
    size_t plain_room;
    size_t start, end; // of the plaintext in plain
    size_t run_count;
    struct hf_page_run *runs;
    struct hf_page_check *checks;
    struct hf_buf sealed;
};

/* Map objects waiting for their slab. */
struct object_gather {
    struct hf_buf bodies;
    size_t count, room;
    uint8_t *kinds;
    size_t *lengths;
};

struct hf_session_file {
    struct hf_session *session;
    uint32_t ordinal; // [once]
    char *path;       // [once]
    enum hf_file_kind kind;
    uint8_t page_log2;
    uint32_t mode;
    int64_t modified_at;
    void *check_context;
    const struct hf_cached_file *parent;  // [once] borrowed from the parent's cache; NULL: it has no such file
    const struct hf_cached_file *partial; // [once] the same of what a cut-off session left

    struct span *filling; // [caller]
    uint64_t next_page;   // [caller] first page of the next span

    pthread_mutex_t leaf_lock;
    struct parent_leaf *current; // guarded by leaf_lock: the newest one that was read

    struct file_work *work;       // [assembler] only while the file is open
    uint64_t size;                // [assembler], final once done
    uint32_t crc32c;              // [assembler]
    size_t leaf_count, leaf_room; // [assembler]
    struct hf_object_ref *leaves; // [assembler]
    uint8_t digest[HF_FILE_DIGEST_BYTES];
    bool done;          // [lock]
    uint64_t told_pack; // [writer] serial of the last pack that knows the path
};

struct session_pack { // a finished pack, as a row of COMMIT's packs
    struct hf_id pack;
    enum hf_pack_kind kind;
    uint64_t bytes;
    uint8_t sha256[HF_SHA256_BYTES];
};

struct live_pack { // a row of the manifest's summary
    struct hf_id pack;
    uint64_t live;
};

struct hf_session {
    struct hf_vault *vault; // borrowed from the caller
    struct hf_session_options options;
    char *source;
    struct hf_id id, backup;
    int64_t started_at;
    uint64_t epoch; // writer epoch
    int vault_lock;
    bool intent_written;        // and nothing yet that closes the session
    struct hf_upload *log_room; // holds room for the entry that ends the session, so that a full disk can be told of
    bool commit_tried;          // the log may hold our COMMIT, whatever we were told
    char why[160];              // why there is no parent
    char no_tags[160];          // [assembler] why the tag cache was given up, or ""

    struct parent parent;     // [once]
    struct parent partial;    // [once]
    struct hf_id builds_on;   // [once] the session that left the partial; or none
    uint64_t builds_on_bytes; // [once] how far it got
    uint64_t looked_bytes;    // [assembler] stored when it was last noted, or tried to note, what is there
    bool noted;               // [assembler] the note at hand is ours
    bool notes_failed;        // [assembler] and are not tried again
    size_t adopted_count;
    struct session_pack *adopted; // its packs, and those it had adopted itself; at COMMIT: those that are used
    struct hf_pack_reader *packs;
    struct hf_page_checks *page_checks; // of the parent's pages; NULL: none can be kept unread
    struct hf_object_reader *objects;
    struct hf_slab_worker *caller_worker; // for the caller's and assembler's own reading
    size_t heal_count;
    struct hf_heal *heal;                 // sorted
    uint64_t ageing_budget;               // pages [assembler]
    struct hf_manifest_root *parent_root; // or NULL

    pthread_mutex_t lock;
    pthread_cond_t work_ready, span_done, slab_done, room;
    bool stopping;           // [lock] threads leave
    bool failed;             // [lock]
    struct hf_error failure; // [lock] the first one

    struct span *free_spans, *first_span, *last_span, *span_work, *last_span_work;     // [lock]
    struct slab_job *free_slabs, *first_slab, *last_slab, *slab_work, *last_slab_work; // [lock]
    size_t spans_in_flight, slabs_in_flight;                                           // [lock]
    struct span *all_spans;
    struct slab_job *all_slabs;
    size_t span_count, slab_count;
    size_t thread_count;
    pthread_t threads[66];

    size_t open_files;              // [lock]
    size_t file_count, file_room;   // [lock]
    struct hf_session_file **files; // [lock] by ordinal
    size_t by_path_count;
    struct hf_session_file **by_path; // [lock] sorted, made when asked for
    size_t folder_count, folder_room;
    struct hf_manifest_folder *folders; // [caller]
    size_t link_count, link_room;
    struct hf_manifest_link *links; // [caller]

    struct slab_job *pages;                 // [assembler] being gathered
    struct object_gather gather;            // [assembler]
    struct open_pack *data_pack, *map_pack; // [assembler]
    uint64_t pack_serial;
    struct hf_tag_cache_writer *cache; // [assembler] or NULL: see no_tags
    struct hf_census *census;          // [assembler] of this backup
    size_t live_count, live_room;      // [assembler] hash table, room is a power of two
    struct live_pack *live;

    size_t pack_count, pack_room; // [lock] finished
    struct session_pack *finished;
    struct hf_session_counts counts;
};

/* session.c */
/* Page tags only save the next backup time: what keeps them from being written is noted, and the backup goes on. */
void session_drop_cache(struct hf_session *session, const struct hf_error *why); // [assembler]
HF_MUST_CHECK bool session_append(struct hf_session *session, const struct hf_log_append *entry, struct hf_error *err);
/* <cache folder>/<vault><suffix>; the caller frees it. */
HF_MUST_CHECK bool session_cache_path(const struct hf_session *session, const char *suffix, char **ret,
                                      struct hf_error *err);
void session_fail(struct hf_session *session, const struct hf_error *err);          // the first failure stays
HF_MUST_CHECK bool session_check(struct hf_session *session, struct hf_error *err); // false: it has failed

/* session_commit.c */
/* Packs, their names, then the COMMIT that makes them count (promise 2). */
HF_MUST_CHECK bool session_publish(struct hf_session *session, const char *facts_text, const json_t *facts,
                                   struct hf_session_outcome *ret, struct hf_error *err);
json_t *session_pack_row(const struct session_pack *pack); // [id, kind, bytes, sha256]; NULL without memory

/* session_parent.c */
HF_MUST_CHECK bool session_open_parents(struct hf_session *session, const struct hf_vault_state *state,
                                        struct hf_error *err);
void session_find_parent_file(struct hf_session *session, struct hf_session_file *file);
/* The parent's stretch that holds `page`, with a reference for the caller; NULL when the parent has none. */
struct parent_leaf *session_parent_leaf(struct hf_session_file *file, uint64_t page, struct hf_slab_worker *worker);
void session_release_leaf(struct parent_leaf **leaf);
void session_parent_done(struct parent *parent);
bool session_is_condemned(const struct hf_session *session, const struct hf_id *pack, uint32_t slab);

/* session_pipeline.c */
HF_MUST_CHECK bool session_start_threads(struct hf_session *session, struct hf_error *err);
void session_stop_threads(struct hf_session *session);      // joins them
struct span *session_take_span(struct hf_session *session); // waits; NULL: failed
/* Gives an open file's pages so far their leaf, and the tag cache what is known of it.  [assembler] */
HF_MUST_CHECK bool session_keep_unfinished(struct hf_session *session, struct hf_session_file *file,
                                           struct hf_error *err);
/* The leaves of an open file that are finished: borrowed, until it goes on.  False: there is none.  [assembler] */
bool session_finished_leaves(const struct hf_session_file *file, struct hf_cached_file *ret);
void session_submit_span(struct hf_session *session, struct span *span);
/*
 * Tags what has come into a span while it lies in the cache of the thread that brought it [caller].  That costs half of
 * what a worker needs, and with few processors it leaves one to the sender.  With many workers it does nothing.
 */
void session_tag_arrived(struct hf_session *session, struct span *span);

/* session_packs.c */
HF_MUST_CHECK bool session_store_page(struct hf_session *session, const struct hf_session_file *file, uint64_t page,
                                      const uint8_t *data, size_t length, const struct hf_page_check *check,
                                      struct hf_id *ret_pack, uint32_t *ret_slab, uint32_t *ret_index,
                                      struct hf_error *err); // [assembler]
HF_MUST_CHECK bool session_store_object(struct hf_session *session, enum hf_object_kind kind, const uint8_t *bytes,
                                        size_t length, struct hf_object_ref *ret, struct hf_error *err); // [assembler]
HF_MUST_CHECK bool session_close_packs(struct hf_session *session,
                                       struct hf_error *err); // [assembler], waits for the writer
HF_MUST_CHECK bool session_count_live(struct hf_session *session, const struct hf_id *pack, uint64_t live,
                                      struct hf_error *err);                                            // [assembler]
bool session_is_live(const struct hf_session *session, const struct hf_id *pack);                       // [assembler]
void session_seal_job(struct hf_session *session, struct hf_slab_worker *worker, struct slab_job *job); // worker
void *session_writer_main(void *context);
void session_open_pack_freep(struct open_pack **pack);

/* session_manifest.c */
HF_MUST_CHECK bool session_write_manifest(struct hf_session *session, const char *facts, struct hf_object_ref *ret,
                                          uint64_t *ret_logical_bytes, struct hf_error *err);

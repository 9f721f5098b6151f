/*
 * stretch.h - a part of a stream, sealed into one pack
 *
 * A stretch is a run of log bytes of one timeline without a hole, and the history files that came with it.  It
 * lies in one pack of kind stream (pack.h), which can be understood without the vault log: its last slab is an
 * index.  The COMMIT that brings the pack says the same (vault_log.h).
 *
 * Every slab of the pack is of kind 4, with one item.  Its plaintext:
 *      0      1  kind: 1 log, 2 history file, 3 index
 *      1      7  reserved
 *      8      8  log: position of its first byte; history: its timeline; index: 0
 *     16      -  log: bytes; history: the file; index: canonical JSON
 * Log slabs follow each other without a hole and are cut where the position is a multiple of 512 KiB.
 *
 * The index: timeline, start, end, whole (just behind the last whole record; texts as base/lsn.h has them),
 * first_time, last_time (of commits in it, 0: none), commits, previous (SHA-256 of the pack of the stretch committed
 * before it, hex; zeros for the first), logs [[slab, position, length], ...], histories [[slab, timeline], ...];
 * and, when the stream has marks (journal.h), marks [[position, text]] or [[position, text], [position, text]]: the
 * last one at or before its start if there was one, else the first; and the last one.
 */
#pragma once
#include "server/repository/repository.h"
#include "server/repository/pack.h"
#include "server/stream/journal.h"

#define HF_STRETCH_PREFIX     16
#define HF_STRETCH_SLAB_BYTES (512 * HF_KIB)
#define HF_STRETCH_MOST       (512 * HF_MIB) // log bytes of one stretch

struct hf_stretch {
    uint32_t timeline;
    uint64_t start, end, whole;
    int64_t first_time, last_time;
    uint64_t commits;
    uint8_t previous[HF_SHA256_BYTES];
    size_t history_count;
    uint32_t histories[64];
    uint64_t stored_bytes;
    uint8_t sha256[HF_SHA256_BYTES]; // of the pack
    size_t mark_count;
    struct hf_vault_mark marks[2]; // owned
};
void hf_stretch_done(struct hf_stretch *stretch);
/* Adds the member "marks", if there are any; false without memory. */
bool hf_stretch_describe_marks(const struct hf_stretch *stretch, json_t *object);

/* ------------------------------------------------------------------------------------------ writing */

struct hf_stretch_writer;

/* Everything in it is borrowed for the writer's life. */
struct hf_stretch_options {
    struct hf_vault *vault;
    struct hf_slab_worker *worker;
    struct hf_id session, pack; // the pack's id was drawn for it alone
    uint64_t epoch;
    const uint8_t *previous; // HF_SHA256_BYTES
};

HF_MUST_CHECK bool hf_stretch_writer_new(const struct hf_stretch_options *options, struct hf_stretch_writer **ret,
                                         struct hf_error *err);
/*
 * Whether this frame can be its next: a history file and a mark always, log when it is the first or goes on where it
 * stands.
 */
bool hf_stretch_writer_takes(const struct hf_stretch_writer *writer, const struct hf_frame *frame, size_t length);
HF_MUST_CHECK bool hf_stretch_writer_add(struct hf_stretch_writer *writer, const struct hf_frame *frame,
                                         const uint8_t *data, size_t length, struct hf_error *err);
/* The pack is on the disk, its name after the next barrier.  Frees the writer in any case; *ret is the caller's. */
HF_MUST_CHECK bool hf_stretch_writer_finish(struct hf_stretch_writer **writer, struct hf_stretch *ret,
                                            struct hf_error *err);
void hf_stretch_writer_abortp(struct hf_stretch_writer **writer);

/* ------------------------------------------------------------------------------------------ reading */

/* Log bytes in order of position; borrowed for the call. */
typedef bool hf_log_bytes_visitor(void *context, uint32_t timeline, uint64_t position, const uint8_t *data,
                                  size_t length, struct hf_error *err);

/*
 * Hands over the bytes [from, to), all of which the pack must have.  Errors: CORRUPT, naming the pack; those of
 * `visit`.
 */
HF_MUST_CHECK bool hf_stretch_read(struct hf_pack_reader *packs, struct hf_slab_worker *worker,
                                   const struct hf_id *pack, uint64_t from, uint64_t to, hf_log_bytes_visitor *visit,
                                   void *context, struct hf_error *err);
/* Adds the history file to the buffer.  CORRUPT when the pack does not hold it. */
HF_MUST_CHECK bool hf_stretch_history(struct hf_pack_reader *packs, struct hf_slab_worker *worker,
                                      const struct hf_id *pack, uint32_t timeline, struct hf_buf *out,
                                      struct hf_error *err);

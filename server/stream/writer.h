/*
 * writer.h - the one who receives a stream: into the journal, durable, and then into packs
 *
 *   append ─▶ journal (frames) ─ a thread syncs ─▶ durable: may be acknowledged
 *                    │ full, old, or asked for
 *                    ▼
 *             closed journal ─ a thread seals ─▶ stretches, COMMIT ─▶ the journal is removed
 *
 * A stream has one writer at a time: it holds a lock in the folder of journals.  What an earlier one left in
 * journals is sealed first, and only the COMMIT makes it count as durable: after a failed sync a file can read well
 * and not be on the disk.
 *
 * Its session is begun in the vault log with the first stretch, so that a stream that brings nothing writes nothing;
 * sessions of streams that this appliance left open are ended then.
 */
#pragma once
#include "server/stream/archive.h"

struct hf_stream_writer;

struct hf_stream_options {
    struct hf_vault *vault;           // borrowed; nobody else may use it meanwhile
    const char *source;               // the source's name, for the COMMITs
    const struct hf_signing *signing; // borrowed
    const char *journal_folder;       // NULL: the usual one
    uint64_t seal_bytes;              // a journal is sealed when it holds so much; 0: 64 MiB
    int64_t seal_ms;                  // or is so old; 0: 60 s
    int zstd_level;                   // 0: 1
};

/*
 * Takes the lock and seals what lies in journals.  CONFLICT: somebody else receives this stream.  A journal that
 * cannot be read at all is put aside under the name "<its name>.damaged".
 */
HF_MUST_CHECK bool hf_stream_writer_open(const struct hf_stream_options *options, struct hf_stream_writer **ret,
                                         struct hf_error *err);
/* Seals all there is and reads the archive anew.  *ret is borrowed, and good until the next append. */
HF_MUST_CHECK bool hf_stream_writer_archive(struct hf_stream_writer *writer, struct hf_archive **ret,
                                            struct hf_error *err);

/*
 * The next bytes of a timeline, of any length.  They may be acknowledged once `durable` (positions, below) has passed
 * them.
 * False once any of the threads has failed: nothing that was not durable by then ever will be.
 */
HF_MUST_CHECK bool hf_stream_writer_append(struct hf_stream_writer *writer, const struct hf_frame *frame,
                                           const uint8_t *data, size_t length, struct hf_error *err);
/* On the disk when it returns, as is all that was appended before. */
HF_MUST_CHECK bool hf_stream_writer_history(struct hf_stream_writer *writer, uint32_t timeline, uint64_t position,
                                            const void *data, size_t length, struct hf_error *err);
/*
 * What the engine knows of a position (journal.h), for whoever reads: at most HF_JOURNAL_MARK_MOST bytes.  Durable with
 * what was appended before and after.  Each journal begins with the last one, so that every stretch has one.
 */
HF_MUST_CHECK bool hf_stream_writer_mark(struct hf_stream_writer *writer, uint32_t timeline, uint64_t position,
                                         const char *text, struct hf_error *err);
/* Waits until all that was appended is durable. */
HF_MUST_CHECK bool hf_stream_writer_sync(struct hf_stream_writer *writer, struct hf_error *err);
/* Closes a journal that is old enough; call it now and then. */
HF_MUST_CHECK bool hf_stream_writer_tick(struct hf_stream_writer *writer, struct hf_error *err);
/* Closes the journal now and waits until everything is in packs. */
HF_MUST_CHECK bool hf_stream_writer_seal(struct hf_stream_writer *writer, struct hf_error *err);
/* Seals what is there, then records that what lies between will never come (sequence and noticed_at are not read). */
HF_MUST_CHECK bool hf_stream_writer_gap(struct hf_stream_writer *writer, const struct hf_vault_gap *gap,
                                        const char *cause, struct hf_error *err);

struct hf_stream_positions {
    uint32_t timeline;
    uint64_t received, durable, sealed; // just behind the last byte; 0: nothing yet in this writer's life
    uint64_t durable_whole;             // just behind the last whole record that is durable
    uint64_t synced;                    // frames that are durable, counted over its life
    uint64_t sequence;                  // of our last log entry; 0: none yet
    uint64_t journal_bytes;             // not in packs yet
    int64_t newest_time;                // of the newest commit that was appended; 0: none
};
/* Any thread. */
void hf_stream_writer_positions(struct hf_stream_writer *writer, struct hf_stream_positions *ret);
/* Readable after durable has moved, or a thread has failed; the caller reads 8 bytes from it.  Borrowed. */
int hf_stream_writer_event(const struct hf_stream_writer *writer);

/* Seals all of it and ends the session.  Frees the writer in any case. */
HF_MUST_CHECK bool hf_stream_writer_close(struct hf_stream_writer **writer, struct hf_error *err);
/* At once: what is in journals stays there for the next writer. */
void hf_stream_writer_freep(struct hf_stream_writer **writer);

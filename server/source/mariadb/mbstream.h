/*
 * mbstream.h - mbstream and xbstream: many files in one stream of chunks, as backup tools write them to stdout
 *
 * All numbers are little endian.  Every chunk begins alike:
 *
 *     0  8  "XBSTCK01"
 *     8  1  flags: 1 a reader that does not know the type may pass over the chunk; 2 (mbstream) the file is written
 *        anew:
 *           what came before under this name counts no more
 *     9  1  type
 *    10  4  length of the path, below 512
 *    14     path
 *
 * and goes on by its type:
 *
 *    'P' payload     u64 length, u64 offset in the file, u32 CRC-32 (zlib's) of the bytes, the bytes
 *    'E' end         nothing: the file is complete
 *    'R' rename      (mbstream) u32 length of the new path, the new path: of a file that has ended
 *    'D' remove      (mbstream) nothing: of a file that has ended.  Either may name a file that did not come;
 *                    one that was renamed has to come under its new name then (the tool forgets tables of Aria and
 *                    MyISAM that are renamed between its list of them and its copy, and says "completed OK!")
 *    'S' sparse      (xbstream) u32 pairs, u64 length, u64 offset, u32 CRC-32 of the map and the bytes, then the pairs
 *                    (u32 bytes to leave as a hole, u32 bytes that follow), the bytes.  The bytes fill the pairs in
 *                    order
 *    'S' go to       (mbstream) u64 offset in the file from which its next bytes are written.  Refused unless it is
 *                    where the file is anyway: a file is written from front to back
 *
 * A file begins with its first chunk; an 'E' alone is an empty file.  Its payloads follow each other without a gap or
 * an overlap; several files may be open at a time.  Tools end a stream between two chunks, also when they fail half
 * way: a stream is whole when every file that began has ended, and that is necessary, not sufficient.
 *
 * Source: the formats were read off what mariadb-backup 10.11 and mbstream write; 'S' of xbstream is from Percona
 * XtraBackup's documentation of xbstream.
 */
#pragma once
#include "server/source/source.h"

#define HF_MBSTREAM_PATH_MOST  511
#define HF_MBSTREAM_CHUNK_MOST (64 * HF_MIB) // tools write 10 MiB
#define HF_MBSTREAM_PAIRS_MOST 1048576
#define HF_MBSTREAM_OPEN_MOST  16                    // files at a time
#define HF_MBSTREAM_FILES_MOST 4194304               // files in one stream
#define HF_MBSTREAM_DEPTH_MOST 16                    // parts of a path
#define HF_MBSTREAM_FILE_MOST  (UINT64_C(256) << 40) // bytes: InnoDB's largest tablespace, with pages of 64 KiB

/*
 * What a stream does, in its order.  Paths are clean (see struct hf_backup_file) and borrowed for the call.  A function
 * that returns false with an error ends the reading.
 */
struct hf_mbstream_events {
    void *context;
    /* `again`: the name was used before; what had it is gone, or this file takes its place. */
    bool (*begin)(void *context, const char *path, bool again, void **ret_file, struct hf_error *err);
    bool (*data)(void *context, void *file, const uint8_t *data, size_t length, struct hf_error *err);
    bool (*hole)(void *context, void *file, uint64_t length, struct hf_error *err); // zeros
    bool (*end)(void *context, void *file, struct hf_error *err);
    bool (*renamed)(void *context, const char *from, const char *to, struct hf_error *err);
    bool (*removed)(void *context, const char *path, struct hf_error *err);
};

struct hf_mbstream;

/* `sparse`: 'S' is xbstream's.  The events are borrowed. */
HF_MUST_CHECK bool hf_mbstream_new(const struct hf_mbstream_events *events, bool sparse, struct hf_mbstream **ret,
                                   struct hf_error *err);
void hf_mbstream_freep(struct hf_mbstream **stream);

/*
 * Takes the next bytes, in pieces of any size.  A payload's checksum is compared at its end, after its bytes were
 * handed on.  Errors: CORRUPT, with the offset in the stream and the file; those of the events.  They stick.
 */
HF_MUST_CHECK bool hf_mbstream_feed(struct hf_mbstream *stream, const uint8_t *data, size_t length,
                                    struct hf_error *err);
/*
 * The stream has ended.  CORRUPT, with a name, when it does so within a chunk or a file; UNAVAILABLE, with a name, when
 * a file was renamed that never came.
 */
HF_MUST_CHECK bool hf_mbstream_end(struct hf_mbstream *stream, struct hf_error *err);

/* Files that are there at the end: those that ended, as renamed, without the removed. */
uint64_t hf_mbstream_files(const struct hf_mbstream *stream);
/* Whether a file of that name is there now. */
bool hf_mbstream_has(const struct hf_mbstream *stream, const char *path);

/*
 * Makes a tool's name a clean path: "./" in front goes; absolute ones, "..", empty parts, backslashes, control bytes,
 * more than HF_MBSTREAM_DEPTH_MOST parts, and names that are ours (holdfast_config/) are refused.
 */
HF_MUST_CHECK bool hf_mbstream_clean(const char *name, size_t length, char path[static HF_MBSTREAM_PATH_MOST + 1],
                                     struct hf_error *err);

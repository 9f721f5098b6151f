/*
 * archive_file.h - the archive as a server in recovery asks for it: one file at a time, by name
 *
 * What restore_command is asked for, and what the answer makes the server do, decides whether a standby promotes:
 *
 *   a segment that the archive has, whole       the file
 *   a segment in which the archive ends         the file, filled with zeros behind the last byte: there the log ends
 *   a segment behind the end of its timeline    BEYOND: the server may take it for the end of the log
 *   a segment in a gap, or before the archive   an error that names the gap: never an end of the log
 *   a history file that the archive has         the file
 *   the history file of timeline 1              BEYOND: there never is one
 *   one of a timeline above all in the archive  BEYOND: nobody was promoted to it, as far as the archive knows
 *   one of a timeline below the newest, missing an error: the server would take it for the end of the timelines, and
 *                                               stay on an older one without a word
 *
 * A segment in which a timeline begins has the bytes of the one before up to that place, as the server makes it.
 */
#pragma once
#include "server/stream/archive.h"

#define HF_ARCHIVE_FILE_NAME_MOST 24 // "000000010000000000000003"

struct hf_archive_file {
    bool history;
    uint32_t timeline;
    uint64_t start; // of a segment
};

/* USAGE for a name that is neither a segment's nor a history file's. */
HF_MUST_CHECK bool hf_archive_file_parse(const char *name, uint32_t segment_bytes, struct hf_archive_file *ret,
                                         struct hf_error *err);
/* The size of its log's segments, from the first page of the first one; NOT_FOUND: there is no log. */
HF_MUST_CHECK bool hf_archive_segment_bytes(struct hf_archive *archive, uint32_t *ret, struct hf_error *err);

enum hf_archive_answer { HF_ARCHIVE_WHOLE, HF_ARCHIVE_PART, HF_ARCHIVE_BEYOND };

/*
 * What the answer would be, from what is known of the archive, without reading any log: WHOLE does not say that it
 * can be
 * read.
 */
HF_MUST_CHECK bool hf_archive_file_look(struct hf_archive *archive, const struct hf_archive_file *file,
                                        uint32_t segment_bytes, enum hf_archive_answer *ret, struct hf_error *err);

/*
 * Writes it into an empty file, at its full length.  PART: the archive ends in it.  BEYOND: nothing was written.
 * Errors: CORRUPT names the gap or the damage; also when a journal cannot be read, for then nobody knows where the
 * archive ends.
 */
HF_MUST_CHECK bool hf_archive_file_write(struct hf_archive *archive, const struct hf_archive_file *file,
                                         uint32_t segment_bytes, int fd, enum hf_archive_answer *ret,
                                         struct hf_error *err);

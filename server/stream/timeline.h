/*
 * timeline.h - which log came before which: PostgreSQL's timelines and their history files
 *
 * Whenever a server is promoted it leaves its timeline at some position and goes on in a new one.  The new
 * timeline's history file lists all before it: one line each, "<timeline>\t<position where it was left>\t<reason>",
 * in order; lines that are empty or begin with # say nothing.
 *
 * A path is what one timeline's log consists of, from the beginning: pieces of its ancestors, then itself.
 */
#pragma once
#include "base/buf.h"
#include "base/lsn.h"

#define HF_TIMELINE_STEPS_MOST 1024
#define HF_TIMELINE_FILE_MOST  (256 * HF_KIB)
#define HF_TIMELINE_NAME_BYTES 20 // "00000002.history" and its NUL

struct hf_timeline_step {
    uint32_t timeline;
    uint64_t start, end; // [start, end) of this timeline belongs to the path
};
struct hf_timeline_path {
    size_t count;
    struct hf_timeline_step steps[HF_TIMELINE_STEPS_MOST]; // ascending; the last is the timeline itself, without end
};

const char *hf_timeline_file_name(uint32_t timeline, char name[static HF_TIMELINE_NAME_BYTES]); // returns name

/* Timeline 1, which has no history file: one step. */
void hf_timeline_path_of_first(struct hf_timeline_path *ret);
/* From a history file.  CORRUPT with the line. */
HF_MUST_CHECK bool hf_timeline_path_parse(uint32_t timeline, const void *text, size_t length,
                                          struct hf_timeline_path *ret, struct hf_error *err);
/* The step that holds the byte at `position`. */
const struct hf_timeline_step *hf_timeline_path_at(const struct hf_timeline_path *path, uint64_t position);
/* NULL when the timeline is not on the path. */
const struct hf_timeline_step *hf_timeline_path_find(const struct hf_timeline_path *path, uint32_t timeline);

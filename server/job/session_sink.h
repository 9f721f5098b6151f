/*
 * session_sink.h - connects a source's backup to a repository session
 *
 * The one place where the two meet: files become session files, bad pages are looked for on the session's
 * workers with the engine's own check.
 */
#pragma once
#include "server/repository/session.h"
#include "server/source/source.h"

struct hf_session_sink;

/* `engine` and `faults` are borrowed; the session is given later, since its options need ours first. */
HF_MUST_CHECK bool hf_session_sink_new(const struct hf_source_engine *engine, struct hf_page_faults *faults,
                                       struct hf_session_sink **ret, struct hf_error *err);
void hf_session_sink_freep(struct hf_session_sink **sink);
/* Sets page_check and its context. */
void hf_session_sink_options(struct hf_session_sink *sink, struct hf_session_options *options);
/* The sink to hand to the source; borrowed from `sink`. */
const struct hf_backup_sink *hf_session_sink_of(struct hf_session_sink *sink, struct hf_session *session);

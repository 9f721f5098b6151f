/*
 * object_reader.h - fetching map objects, with the last few map slabs kept open
 *
 * Leaves that are wanted one after the other lie in the same slab: it is opened once.  Any threads.
 */
#pragma once
#include "server/repository/map.h"
#include "server/repository/pack.h"

struct hf_object_reader;
HF_MUST_CHECK bool hf_object_reader_new(struct hf_pack_reader *packs, struct hf_object_reader **ret,
                                        struct hf_error *err);
void hf_object_reader_freep(struct hf_object_reader **reader);

/* Replaces the content of `out` by the object's bytes.  CORRUPT: damaged, or of another kind. */
HF_MUST_CHECK bool hf_object_read(struct hf_object_reader *reader, struct hf_slab_worker *worker,
                                  const struct hf_object_ref *ref, enum hf_object_kind kind, struct hf_buf *out,
                                  struct hf_error *err);

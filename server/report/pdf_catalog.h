/*
 * pdf_catalog.h - says in a PDF that its tags are meant, and in which language it is
 *
 * cairo 1.16 writes the tree of tags and not the mark that a reader for the blind looks for, nor the language.  Both
 * stand in the document's catalog, so the catalog is written once more behind the end (an incremental update, ISO
 * 32000-1, 7.5.6), with /MarkInfo, /Lang and the wish that the title be shown.
 */
#pragma once
#include "base/buf.h"

/* Of the form that cairo 1.16 writes; any other is left as it is, since it then says all that by itself. */
HF_MUST_CHECK bool hf_pdf_mark_tagged(struct hf_buf *pdf, struct hf_error *err);

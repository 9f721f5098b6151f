/*
 * source_names.h - the names of sources, gathered while the catalog lists them
 */
#pragma once
#include "catalog/view.h"

struct hf_source_names {
    char **list;
    size_t count;
    const char *origin; // only those that were set there ("file", "command"); NULL: all.  Borrowed
};

/* For hf_catalog_sources(); context is the names, which begin as zeros. */
HF_MUST_CHECK bool hf_source_names_keep(void *context, const struct hf_source_row *row, struct hf_error *err);
void hf_source_names_done(struct hf_source_names *names);

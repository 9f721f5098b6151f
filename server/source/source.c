#include "server/source/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/source/stream.h"

#define STORED_TEXT_MOST 65536

static const struct hf_source_engine *const engines[] = {&hf_source_postgres, &hf_source_mariadb, &hf_source_mysql};

static bool grow(struct hf_page_faults *faults);

bool
hf_backup_sink_put(const struct hf_backup_sink *sink, const struct hf_backup_file *file, const void *data,
                   size_t length, struct hf_error *err)
{
    void *handle;
    if (!sink->file_begin(sink->context, file, &handle, err))
        return false;
    if (length > 0 && !sink->file_write(sink->context, handle, data, length, err)) {
        sink->file_drop(sink->context, handle);
        return false;
    }
    return sink->file_end(sink->context, handle, err);
}

void
hf_page_faults_init(struct hf_page_faults *faults)
{
    *faults = (struct hf_page_faults){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void
hf_page_faults_done(struct hf_page_faults *faults)
{
    for (size_t i = 0; i < faults->count; i++)
        free(faults->items[i].path);
    free(faults->items);
    pthread_mutex_destroy(&faults->lock);
    hf_page_faults_init(faults);
}

void
hf_page_faults_add(struct hf_page_faults *faults, const char *path, uint32_t block, uint64_t lsn,
                   enum hf_page_verdict verdict)
{
    pthread_mutex_lock(&faults->lock);
    *(verdict == HF_PAGE_BAD ? &faults->bad : &faults->pending) += 1;

    char *name = faults->count < HF_PAGE_FAULTS_MOST && grow(faults) ? strdup(path) : NULL;
    if (name == NULL)
        faults->unlisted = true;
    else
        faults->items[faults->count++] =
            (struct hf_page_fault){.path = name, .block = block, .lsn = lsn, .verdict = verdict};
    pthread_mutex_unlock(&faults->lock);
}

void
hf_page_faults_settle(struct hf_page_faults *faults, uint64_t stop_lsn)
{
    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->count; i++) {
        struct hf_page_fault *fault = &faults->items[i];
        if (fault->verdict != HF_PAGE_PENDING || fault->lsn <= stop_lsn)
            continue;
        fault->verdict = HF_PAGE_BAD;
        faults->pending--;
        faults->bad++;
    }
    pthread_mutex_unlock(&faults->lock);
}

void
hf_backup_facts_done(struct hf_backup_facts *facts)
{
    free(facts->notices);
    hf_json_freep(&facts->own);
    *facts = (struct hf_backup_facts){0};
}

const char *
hf_check_verdict_name(enum hf_check_verdict verdict)
{
    switch (verdict) {
    case HF_CHECK_OK:
        return "ok";
    case HF_CHECK_WARNING:
        return "warning";
    case HF_CHECK_FAILED:
        return "failed";
    case HF_CHECK_NOT_DETERMINABLE:
        return "not_determinable";
    }
    return "not_determinable";
}

enum hf_check_verdict
hf_checks_worst(const struct hf_checks *checks)
{
    static const enum hf_check_verdict worst_first[] = {HF_CHECK_FAILED, HF_CHECK_WARNING, HF_CHECK_NOT_DETERMINABLE};

    for (size_t rank = 0; rank < HF_LENGTH(worst_first); rank++)
        for (size_t i = 0; i < checks->count; i++)
            if (checks->items[i].verdict == worst_first[rank])
                return worst_first[rank];
    return HF_CHECK_OK;
}

const struct hf_check *
hf_checks_find(const struct hf_checks *checks, const char *id)
{
    for (size_t i = 0; i < checks->count; i++)
        if (strcmp(checks->items[i].id, id) == 0)
            return &checks->items[i];
    return NULL;
}

const char *
hf_stream_slot_name(const char *slot_tag, char name[static HF_STREAM_SLOT_BYTES])
{
    snprintf(name, HF_STREAM_SLOT_BYTES, "holdfast_%s_stream", slot_tag);
    return name;
}

bool
hf_stream_check_slot(const char *slot, struct hf_error *err)
{
    const size_t length = strlen(slot);
    return (length > 0 && length < HF_STREAM_SLOT_BYTES &&
            strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") == length) ||
           hf_fail(err, HF_ERR_USAGE, "the slot name \"%.100s\" is not 1 to %d of a-z, 0-9 and _", slot,
                   HF_STREAM_SLOT_BYTES - 1);
}

const struct hf_source_engine *
hf_source_engine_find(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(engines); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

/* Room for one more. */
static bool
grow(struct hf_page_faults *faults)
{
    if (faults->count < faults->capacity)
        return true;
    size_t capacity = faults->capacity == 0 ? 64 : 2 * faults->capacity;
    struct hf_page_fault *items = reallocarray(faults->items, capacity, sizeof *items);
    if (items == NULL)
        return false;
    faults->items = items;
    faults->capacity = capacity;
    return true;
}

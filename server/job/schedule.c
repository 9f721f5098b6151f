#include "server/job/schedule.h"

#include <assert.h>

#include "catalog/local.h"

static int64_t first_due(const struct hf_schedule_entry *entry, int64_t now);

int64_t
hf_schedule_after(int64_t due, int64_t every_ms, int64_t now)
{
    assert(every_ms > 0);
    if (due > now)
        return due;
    return due + ((now - due) / every_ms + 1) * every_ms;
}

bool
hf_schedule_look(struct hf_catalog *catalog, const struct hf_schedule_entry *entry, int64_t now,
                 hf_schedule_start *start, void *context, int64_t *next_at, struct hf_error *err)
{
    bool known;
    int64_t every_ms, due;
    if (!hf_catalog_schedule_get(catalog, entry->source, entry->kind, &known, &every_ms, &due, err))
        return false;
    if (entry->every_ms == 0)
        return !known || hf_catalog_schedule_remove(catalog, entry->source, entry->kind, err);
    if (!known || every_ms != entry->every_ms) {
        due = first_due(entry, now);
        if (!hf_catalog_schedule_put(catalog, entry->source, entry->kind, entry->every_ms, due, err))
            return false;
    }
    if (due <= now) {
        if (!start(context, entry->source, entry->kind, err))
            return false;
        due = hf_schedule_after(due, entry->every_ms, now);
        if (!hf_catalog_schedule_put(catalog, entry->source, entry->kind, entry->every_ms, due, err))
            return false;
    }
    if (due < *next_at)
        *next_at = due;
    return true;
}

static int64_t
first_due(const struct hf_schedule_entry *entry, int64_t now)
{
    return entry->newest_at < 0 ? now : entry->newest_at + entry->every_ms;
}

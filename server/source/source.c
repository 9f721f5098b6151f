#include "server/source/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STORED_TEXT_MOST 65536

static const struct hf_source_engine *const engines[] = {&hf_source_postgres};

static bool grow(struct hf_page_faults *faults);
static json_t *text_to_json(const char *text);
static json_t *tablespaces_to_json(const struct hf_backup_facts *facts);
static json_t *faults_to_json(struct hf_page_faults *faults);
static json_t *fault_to_json(const struct hf_page_fault *fault);
static const char *format_lsn(uint64_t lsn, char *text, size_t size);

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
    for (size_t i = 0; i < facts->tablespace_count; i++)
        free(facts->tablespaces[i].location);
    free(facts->tablespaces);
    free(facts->backup_label);
    free(facts->notices);
    *facts = (struct hf_backup_facts){0};
}

bool
hf_backup_facts_to_json(const struct hf_backup_facts *facts, struct hf_page_faults *faults, json_t **ret,
                        struct hf_error *err)
{
    const struct {
        const char *name;
        uint64_t value;
    } positions[] = {
        {"start_lsn", facts->start_lsn},
        {"stop_lsn", facts->stop_lsn},
        {"wal_first_lsn", facts->wal_first_lsn},
        {"wal_end_lsn", facts->wal_end_lsn},
    };
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"server_version", facts->server_version},
        {"start_timeline", facts->start_timeline},
        {"stop_timeline", facts->stop_timeline},
        {"wal_commits", (int64_t)facts->wal_commits},
        {"wal_last_commit_at", facts->wal_last_commit_at},
        {"wal_segment_bytes", facts->wal_segment_bytes},
        {"block_bytes", facts->block_bytes},
        {"segment_blocks", facts->segment_blocks},
        {"control_version", facts->control_version},
        {"catalog_version", facts->catalog_version},
        {"max_connections", facts->max_connections},
        {"max_worker_processes", facts->max_worker_processes},
        {"max_wal_senders", facts->max_wal_senders},
        {"max_prepared_xacts", facts->max_prepared_xacts},
        {"max_locks_per_xact", facts->max_locks_per_xact},
        {"started_at", facts->started_at},
        {"stopped_at", facts->stopped_at},
        {"files", (int64_t)facts->files},
        {"bytes_received", (int64_t)facts->bytes_received},
        {"manifest_files", (int64_t)facts->manifest_files},
    };
    _cleanup_(hf_json_freep) json_t *object = json_object();
    char text[32];

    snprintf(text, sizeof text, "%" PRIu64, facts->system_identifier);
    if (!hf_json_set(object, "system_identifier", json_string(text), err) ||
        !hf_json_set(object, "server_version_text", text_to_json(facts->server_version_text), err) ||
        !hf_json_set(object, "data_checksums", json_boolean(facts->data_checksums), err) ||
        !hf_json_set(object, "from_standby", json_boolean(facts->from_standby), err) ||
        !hf_json_set(object, "tablespaces", tablespaces_to_json(facts), err) ||
        !hf_json_set(object, "pages", faults_to_json(faults), err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(positions); i++)
        if (!hf_json_set(object, positions[i].name, json_string(format_lsn(positions[i].value, text, sizeof text)),
                         err))
            return false;
    for (size_t i = 0; i < HF_LENGTH(numbers); i++)
        if (!hf_json_set(object, numbers[i].name, json_integer(numbers[i].value), err))
            return false;
    *ret = HF_TAKE(object);
    return true;
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

static json_t *
text_to_json(const char *text)
{
    return text == NULL ? json_string("") : hf_json_foreign_text(text, strlen(text), STORED_TEXT_MOST);
}

static json_t *
tablespaces_to_json(const struct hf_backup_facts *facts)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();

    for (size_t i = 0; i < facts->tablespace_count; i++) {
        json_t *entry = json_object();
        if (json_array_append_new(list, entry) != 0 ||
            json_object_set_new(entry, "oid", json_integer(facts->tablespaces[i].oid)) != 0 ||
            json_object_set_new(entry, "location", text_to_json(facts->tablespaces[i].location)) != 0)
            return NULL;
    }
    return HF_TAKE(list);
}

static json_t *
faults_to_json(struct hf_page_faults *faults)
{
    _cleanup_(hf_json_freep) json_t *object = json_object();
    json_t *list = json_array();
    bool ok = json_object_set_new(object, "list", list) == 0;

    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; ok && i < faults->count && i < HF_PAGE_FAULTS_STORED; i++)
        ok = json_array_append_new(list, fault_to_json(&faults->items[i])) == 0;
    bool unlisted = faults->unlisted || faults->count > HF_PAGE_FAULTS_STORED;
    ok = ok && json_object_set_new(object, "checked", json_integer((json_int_t)atomic_load(&faults->pages))) == 0 &&
         json_object_set_new(object, "bad", json_integer((json_int_t)faults->bad)) == 0 &&
         json_object_set_new(object, "pending", json_integer((json_int_t)faults->pending)) == 0 &&
         json_object_set_new(object, "unlisted", json_boolean(unlisted)) == 0;
    pthread_mutex_unlock(&faults->lock);
    return ok ? HF_TAKE(object) : NULL;
}

static json_t *
fault_to_json(const struct hf_page_fault *fault)
{
    _cleanup_(hf_json_freep) json_t *entry = json_object();
    char text[32];

    if (json_object_set_new(entry, "path", text_to_json(fault->path)) != 0 ||
        json_object_set_new(entry, "block", json_integer(fault->block)) != 0 ||
        json_object_set_new(entry, "lsn", json_string(format_lsn(fault->lsn, text, sizeof text))) != 0 ||
        json_object_set_new(entry, "verdict", json_string(fault->verdict == HF_PAGE_BAD ? "bad" : "pending")) != 0)
        return NULL;
    return HF_TAKE(entry);
}

static const char *
format_lsn(uint64_t lsn, char *text, size_t size)
{
    snprintf(text, size, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    return text;
}

#include "server/evidence/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/evidence/ledger_internal.h"

#define DOCUMENT_MODE 0640
#define LOCK_RETRY_US 2000

_Static_assert(HF_LEDGER_RECORD_BYTES == HF_ID_BYTES + HF_SHA256_BYTES, "format on disk");

/* What lies in `leaves` beyond the entries the checkpoint counts. */
struct tail {
    uint64_t bytes;
    struct hf_receipt record; // when bytes is that of a record
};

static bool gather_trust(const struct hf_ledger_options *options, struct hf_ledger *ledger, struct hf_error *err);
static bool load(struct hf_ledger *ledger, struct tail *ret_tail, struct hf_error *err);
static bool take_leaves(struct hf_ledger *ledger, struct hf_merkle *tree, uint64_t size, struct hf_error *err);
static bool finish_tail(struct hf_ledger *ledger, const struct tail *tail, struct hf_error *err);
static bool drop_tail(struct hf_ledger *ledger, struct hf_error *err);
static bool is_document_of(struct hf_ledger *ledger, const char *name, const struct hf_receipt *record, bool *ret_there,
                           bool *ret_fits, struct hf_error *err);
static bool find_entered(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret, bool *ret_found,
                         struct hf_error *err);
static bool write_pending(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret, struct hf_error *err);
static bool write_leaf(struct hf_ledger *ledger, const struct hf_receipt *entry, struct hf_error *err);
static bool publish_entry(struct hf_ledger *ledger, const struct hf_receipt *entry, bool is_pending,
                          struct hf_error *err);
static bool name_document(struct hf_ledger *ledger, const struct hf_receipt *entry, struct hf_error *err);
static bool publish_file(struct hf_ledger *ledger, const char *name, const struct hf_buf *bytes, struct hf_error *err);
static char *path_of(struct hf_ledger *ledger, const char *name, struct hf_error *err);

bool
hf_ledger_create(const char *folder, struct hf_signer *signer, struct hf_error *err)
{
    struct hf_checkpoint checkpoint = {0};
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    _cleanup_(hf_freep) char *leaves = hf_path_join(folder, HF_LEDGER_LEAVES);
    _cleanup_(hf_freep) char *state = hf_path_join(folder, HF_LEDGER_CHECKPOINT);
    struct stat found;

    if (leaves == NULL || state == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for ledger \"%s\"", folder);
    if (access(state, F_OK) == 0)
        return hf_fail(err, HF_ERR_CONFLICT, "there is already a ledger in \"%s\"", folder);
    bool has_leaves = stat(leaves, &found) == 0;
    if (has_leaves && found.st_size > 0)
        return hf_fail(err, HF_ERR_CORRUPT, "there are leaves of a ledger in \"%s\", but its checkpoint is missing",
                       folder);

    strcpy(checkpoint.origin, hf_signer_public_key(signer)->name);
    hf_merkle_root(&(struct hf_merkle){0}, &checkpoint.root);
    if (!hf_checkpoint_sign(&checkpoint, signer, &text, err) || !hf_dir_make(folder, 0750, err))
        return false;
    // The checkpoint comes last, since it is what makes a ledger; empty leaves may be there from an earlier try.
    if (!has_leaves && !hf_file_publish(leaves, "", 0, DOCUMENT_MODE, HF_PUBLISH_EXCLUSIVE, err))
        return false;
    return hf_file_publish(state, text.data, text.length, DOCUMENT_MODE, HF_PUBLISH_EXCLUSIVE, err);
}

bool
hf_ledger_open(const struct hf_ledger_options *options, struct hf_ledger **ret, struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    struct tail tail;

    if (!hf_ledger_prepare(options, &ledger, err) || !hf_ledger_open_leaves(ledger, err))
        return false;
    if (!hf_ledger_lock(ledger, ledger->signer != NULL ? LOCK_EX : LOCK_SH, err))
        return false;
    {
        _cleanup_(hf_ledger_unlock) struct hf_ledger *locked = ledger;
        if (!load(ledger, &tail, err) || (ledger->signer != NULL && !finish_tail(locked, &tail, err)))
            return false;
    }
    if (options->witness_path != NULL && !hf_ledger_compare_witness(ledger, options->witness_path, err))
        return false;

    *ret = HF_TAKE(ledger);
    return true;
}

void
hf_ledger_close(struct hf_ledger *ledger)
{
    if (ledger == NULL)
        return;
    hf_closep(&ledger->leaves);
    hf_buf_done(&ledger->checkpoint_text);
    free(ledger->folder);
    free(ledger);
}

void
hf_ledger_closep(struct hf_ledger **ledger)
{
    hf_ledger_close(*ledger);
    *ledger = NULL;
}

const struct hf_checkpoint *
hf_ledger_checkpoint(const struct hf_ledger *ledger)
{
    return &ledger->checkpoint;
}

bool
hf_ledger_append(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret, struct hf_error *err)
{
    struct hf_receipt entry;
    struct tail tail;
    bool found;

    if (ledger->signer == NULL)
        return hf_fail(err, HF_ERR_USAGE, "ledger \"%s\" is open for reading only", ledger->folder);
    if (!hf_evidence_check_content(content, err) || !hf_ledger_lock(ledger, LOCK_EX, err))
        return false;

    _cleanup_(hf_ledger_unlock) struct hf_ledger *locked = ledger;
    if (!load(locked, &tail, err) || !finish_tail(locked, &tail, err) ||
        !find_entered(locked, content, &entry, &found, err))
        return false;
    if (!found) {
        // What a failure leaves behind is the next writer's, as after a crash.
        if (!write_pending(locked, content, &entry, err))
            return false;
        if (!write_leaf(locked, &entry, err) || !publish_entry(locked, &entry, true, err))
            return hf_fail_within(err, "entry %llu of ledger \"%s\" is not finished", (unsigned long long)entry.index,
                                  ledger->folder);
    }
    *ret = entry;
    return true;
}

bool
hf_ledger_entry(struct hf_ledger *ledger, uint64_t index, struct hf_receipt *ret, struct hf_error *err)
{
    if (index >= ledger->tree.size)
        return hf_fail(err, HF_ERR_NOT_FOUND, "ledger \"%s\" has %llu entries, there is no entry %llu", ledger->folder,
                       (unsigned long long)ledger->tree.size, (unsigned long long)index);
    return hf_ledger_read_records(ledger, index, 1, ret, err);
}

bool
hf_ledger_prove(struct hf_ledger *ledger, uint64_t index, struct hf_buf *out, struct hf_error *err)
{
    struct hf_merkle_path path;
    struct hf_receipt entry;

    return hf_ledger_entry(ledger, index, &entry, err) &&
           hf_merkle_inclusion(index, ledger->tree.size, hf_ledger_range_root, ledger, &path, err) &&
           hf_proof_format(index, &path, ledger->checkpoint_text.data, ledger->checkpoint_text.length, out, err);
}

bool
hf_ledger_prove_consistency(struct hf_ledger *ledger, uint64_t old_size, struct hf_merkle_path *ret,
                            struct hf_error *err)
{
    return hf_merkle_consistency(old_size, ledger->tree.size, hf_ledger_range_root, ledger, ret, err);
}

bool
hf_ledger_load(struct hf_ledger *ledger, struct hf_error *err)
{
    struct tail tail;
    return load(ledger, &tail, err);
}

bool
hf_ledger_prepare(const struct hf_ledger_options *options, struct hf_ledger **ret, struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = calloc(1, sizeof *ledger);

    if (ledger == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for ledger \"%s\"", options->folder);
    ledger->leaves = -1;
    ledger->signer = options->signer;
    ledger->checkpoint_text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    ledger->folder = strdup(options->folder);
    if (ledger->folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for ledger \"%s\"", options->folder);
    if (!gather_trust(options, ledger, err))
        return false;
    *ret = HF_TAKE(ledger);
    return true;
}

static bool
gather_trust(const struct hf_ledger_options *options, struct hf_ledger *ledger, struct hf_error *err)
{
    size_t count = 0;

    if (options->signer != NULL)
        ledger->keys[count++] = *hf_signer_public_key(options->signer);
    for (size_t i = 0; i < options->trust.count; i++) {
        const struct hf_public_key *key = &options->trust.keys[i];
        const struct hf_trust so_far = {.keys = ledger->keys, .count = count};
        if (hf_trust_find(&so_far, key->name, key->id) != NULL)
            continue; // the signer's own, or one given twice
        if (count == HF_TRUST_MOST_KEYS)
            return hf_fail(err, HF_ERR_USAGE, "ledger \"%s\" was given more than %d keys", ledger->folder,
                           HF_TRUST_MOST_KEYS);
        ledger->keys[count++] = *key;
    }
    if (count == 0)
        return hf_fail(err, HF_ERR_USAGE, "ledger \"%s\" cannot be opened without a key to check it with",
                       ledger->folder);
    for (size_t i = 1; i < count; i++)
        if (strcmp(ledger->keys[i].name, ledger->keys[0].name) != 0)
            return hf_fail(err, HF_ERR_USAGE, "ledger \"%s\" was given keys of \"%s\" and of \"%s\"", ledger->folder,
                           ledger->keys[0].name, ledger->keys[i].name);
    ledger->trust = (struct hf_trust){.keys = ledger->keys, .count = count};
    return true;
}

bool
hf_ledger_open_leaves(struct hf_ledger *ledger, struct hf_error *err)
{
    _cleanup_(hf_freep) char *leaves = path_of(ledger, HF_LEDGER_LEAVES, err);
    _cleanup_(hf_freep) char *state = path_of(ledger, HF_LEDGER_CHECKPOINT, err);
    struct stat found;

    if (leaves == NULL || state == NULL)
        return false;
    ledger->leaves = open(leaves, (ledger->signer != NULL ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (ledger->leaves < 0 && errno == ENOENT && access(state, F_OK) == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the leaves of ledger \"%s\" are missing", ledger->folder);
    if (ledger->leaves < 0 && errno == ENOENT)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no ledger in \"%s\"", ledger->folder);
    if (ledger->leaves < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open ledger \"%s\"", ledger->folder);
    if (fstat(ledger->leaves, &found) != 0 || !S_ISREG(found.st_mode))
        return hf_fail(err, HF_ERR_CORRUPT, "the leaves of ledger \"%s\" are not a regular file", ledger->folder);
    return true;
}

/* Asks again and again: flock() itself would wait for ever for a process that hangs. */
bool
hf_ledger_lock(struct hf_ledger *ledger, int how, struct hf_error *err)
{
    uint64_t until = hf_monotonic_ns() + (uint64_t)HF_LEDGER_LOCK_WAIT_MS * 1000000;

    while (flock(ledger->leaves, how | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not lock ledger \"%s\"", ledger->folder);
        if (hf_monotonic_ns() > until)
            return hf_fail(err, HF_ERR_CONFLICT, "ledger \"%s\" has been locked by another process for %d ms",
                           ledger->folder, HF_LEDGER_LOCK_WAIT_MS);
        usleep(LOCK_RETRY_US);
    }
    return true;
}

void
hf_ledger_unlock(struct hf_ledger **ledger)
{
    (void)flock((*ledger)->leaves, LOCK_UN);
}

/* Brings the tree up to the checkpoint on disk: all of it at first, later what others have entered since. */
static bool
load(struct hf_ledger *ledger, struct tail *ret_tail, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    struct hf_checkpoint checkpoint;
    struct hf_merkle tree = ledger->tree;
    struct hf_hash root;
    struct stat found;
    struct tail tail = {0};

    if (!hf_ledger_read_checkpoint(ledger, &checkpoint, &text, err))
        return false;
    if (checkpoint.size < tree.size)
        return hf_fail(err, HF_ERR_CORRUPT, "ledger \"%s\" went back from %llu entries to %llu while it was open",
                       ledger->folder, (unsigned long long)tree.size, (unsigned long long)checkpoint.size);
    if (fstat(ledger->leaves, &found) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at the leaves of ledger \"%s\"", ledger->folder);
    if ((uint64_t)found.st_size / HF_LEDGER_RECORD_BYTES < checkpoint.size)
        return hf_fail(err, HF_ERR_CORRUPT, "ledger \"%s\" has %llu leaves, its checkpoint was signed for %llu",
                       ledger->folder, (unsigned long long)found.st_size / HF_LEDGER_RECORD_BYTES,
                       (unsigned long long)checkpoint.size);

    if (!take_leaves(ledger, &tree, checkpoint.size, err))
        return false;
    hf_merkle_root(&tree, &root);
    if (!hf_hash_equal(&root, &checkpoint.root))
        return hf_fail(err, HF_ERR_CORRUPT, "the %llu leaves of ledger \"%s\" do not give the root that was signed",
                       (unsigned long long)checkpoint.size, ledger->folder);

    tail.bytes = (uint64_t)found.st_size - checkpoint.size * HF_LEDGER_RECORD_BYTES;
    if (tail.bytes == HF_LEDGER_RECORD_BYTES && !hf_ledger_read_records(ledger, checkpoint.size, 1, &tail.record, err))
        return false;
    ledger->tree = tree;
    ledger->checkpoint = checkpoint;
    hf_buf_swap(&ledger->checkpoint_text, &text);
    *ret_tail = tail;
    return true;
}

bool
hf_ledger_read_checkpoint(struct hf_ledger *ledger, struct hf_checkpoint *ret, struct hf_buf *text,
                          struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = path_of(ledger, HF_LEDGER_CHECKPOINT, err);

    if (path == NULL)
        return false;
    hf_buf_clear(text);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return hf_fail(err, HF_ERR_CORRUPT, "the checkpoint of ledger \"%s\" is missing", ledger->folder);
    return hf_file_read(path, text, err) &&
           hf_checkpoint_open(text->data, text->length, path, &ledger->trust, ret, NULL, err);
}

static bool
take_leaves(struct hf_ledger *ledger, struct hf_merkle *tree, uint64_t size, struct hf_error *err)
{
    struct hf_receipt records[HF_LEDGER_RECORDS_AT_ONCE];

    while (tree->size < size) {
        size_t count =
            size - tree->size < HF_LEDGER_RECORDS_AT_ONCE ? (size_t)(size - tree->size) : HF_LEDGER_RECORDS_AT_ONCE;
        if (!hf_ledger_read_records(ledger, tree->size, count, records, err))
            return false;
        for (size_t i = 0; i < count; i++)
            hf_merkle_push(tree, &records[i].leaf);
    }
    return true;
}

bool
hf_ledger_read_records(struct hf_ledger *ledger, uint64_t first, size_t count, struct hf_receipt *records,
                       struct hf_error *err)
{
    uint8_t bytes[HF_LEDGER_RECORDS_AT_ONCE * HF_LEDGER_RECORD_BYTES];

    assert(count <= HF_LEDGER_RECORDS_AT_ONCE);
    if (!hf_pread_all(ledger->leaves, bytes, count * HF_LEDGER_RECORD_BYTES, first * HF_LEDGER_RECORD_BYTES,
                      HF_LEDGER_LEAVES, err))
        return hf_fail_within(err, "ledger \"%s\"", ledger->folder);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = bytes + i * HF_LEDGER_RECORD_BYTES;
        records[i].index = first + i;
        memcpy(records[i].evidence_id.bytes, at, HF_ID_BYTES);
        memcpy(records[i].leaf.bytes, at + HF_ID_BYTES, HF_SHA256_BYTES);
    }
    return true;
}

/* Deals with what a crash left behind the checkpoint; the header has the two cases. */
static bool
finish_tail(struct hf_ledger *ledger, const struct tail *tail, struct hf_error *err)
{
    char name[HF_LEDGER_ENTRY_NAME_BYTES];
    bool pending, fits;

    if (tail->bytes > HF_LEDGER_RECORD_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "ledger \"%s\" has %llu bytes of leaves beyond its checkpoint of size %llu, a crash leaves %d",
                       ledger->folder, (unsigned long long)tail->bytes, (unsigned long long)ledger->tree.size,
                       HF_LEDGER_RECORD_BYTES);
    if (tail->bytes < HF_LEDGER_RECORD_BYTES)
        return drop_tail(ledger, err);

    if (!is_document_of(ledger, HF_LEDGER_PENDING, &tail->record, &pending, &fits, err))
        return false;
    if (pending && !fits) // the leaf was being written: its bytes are whatever the disk had there
        return drop_tail(ledger, err);
    if (!pending) {
        bool there;
        hf_ledger_entry_name(&tail->record.evidence_id, ".json", name);
        if (!is_document_of(ledger, name, &tail->record, &there, &fits, err))
            return false;
        if (!there || !fits)
            return hf_fail(err, HF_ERR_CORRUPT, "entry %llu of ledger \"%s\" has a leaf, but its document is %s",
                           (unsigned long long)tail->record.index, ledger->folder, there ? "another" : "missing");
    }
    // The leaf is written again: after a failed fdatasync() the page cache may hold what the disk does not.
    return write_leaf(ledger, &tail->record, err) && publish_entry(ledger, &tail->record, pending, err);
}

static bool
drop_tail(struct hf_ledger *ledger, struct hf_error *err)
{
    _cleanup_(hf_freep) char *pending = path_of(ledger, HF_LEDGER_PENDING, err);
    uint64_t bytes = ledger->tree.size * HF_LEDGER_RECORD_BYTES;
    struct stat found;

    if (pending == NULL)
        return false;
    if (fstat(ledger->leaves, &found) != 0 ||
        ((uint64_t)found.st_size > bytes &&
         (ftruncate(ledger->leaves, (off_t)bytes) != 0 || fdatasync(ledger->leaves) != 0)))
        return hf_fail_errno(err, HF_ERR_NONE, "could not drop the unfinished leaf of ledger \"%s\"", ledger->folder);
    if (unlink(pending) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not drop the unfinished document of ledger \"%s\"",
                             ledger->folder);
    return true;
}

/* Whether the file is there, and is the sealed document that the record stands for. */
static bool
is_document_of(struct hf_ledger *ledger, const char *name, const struct hf_receipt *record, bool *ret_there,
               bool *ret_fits, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    struct hf_error why = {0};
    struct hf_hash leaf;

    *ret_there = *ret_fits = false;
    if (!hf_ledger_read_file(ledger, name, HF_EVIDENCE_MOST_BYTES, &bytes, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    *ret_there = true;
    if (!hf_evidence_parse(bytes.data, bytes.length, name, &evidence, &why) ||
        !hf_evidence_check_seal(&evidence, name, &ledger->trust, &why)) {
        if (hf_ledger_is_only_damage(&why))
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    if (!hf_merkle_leaf(bytes.data, bytes.length, &leaf, err))
        return false;
    *ret_fits = evidence.index == record->index && hf_id_equal(&evidence.evidence_id, &record->evidence_id) &&
                hf_hash_equal(&leaf, &record->leaf);
    return true;
}

/* A document of that id may be there already: then it has to be the very one that would be made now. */
static bool
find_entered(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret, bool *ret_found, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf there = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    struct hf_error why = {0};
    struct hf_id id;
    char name[HF_LEDGER_ENTRY_NAME_BYTES];

    *ret_found = false;
    if (!hf_json_id(json_object_get(content, "head"), "evidence_id", "evidence", &id, err))
        return false;
    hf_ledger_entry_name(&id, ".json", name);
    if (!hf_ledger_read_file(ledger, name, HF_EVIDENCE_MOST_BYTES, &there, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    if (!hf_evidence_parse(there.data, there.length, name, &evidence, err) ||
        !hf_evidence_seal(content, ledger->signer, evidence.index, &again, &id, err))
        return false;
    if (evidence.index >= ledger->tree.size || there.length != again.length ||
        memcmp(there.data, again.data, there.length) != 0)
        return hf_fail(err, HF_ERR_CONFLICT, "ledger \"%s\" has another document as \"%s\"", ledger->folder, name);
    *ret_found = true;
    return hf_ledger_entry(ledger, evidence.index, ret, err);
}

static bool
write_pending(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    struct hf_receipt entry = {.index = ledger->tree.size};

    if (!hf_evidence_seal(content, ledger->signer, entry.index, &bytes, &entry.evidence_id, err) ||
        !hf_merkle_leaf(bytes.data, bytes.length, &entry.leaf, err) ||
        !publish_file(ledger, HF_LEDGER_PENDING, &bytes, err))
        return false;
    *ret = entry;
    return true;
}

/* The commit point: from here on the entry is there. */
static bool
write_leaf(struct hf_ledger *ledger, const struct hf_receipt *entry, struct hf_error *err)
{
    uint8_t record[HF_LEDGER_RECORD_BYTES];

    memcpy(record, entry->evidence_id.bytes, HF_ID_BYTES);
    memcpy(record + HF_ID_BYTES, entry->leaf.bytes, HF_SHA256_BYTES);
    if (!hf_pwrite_all(ledger->leaves, record, sizeof record, entry->index * sizeof record, HF_LEDGER_LEAVES, err))
        return hf_fail_within(err, "ledger \"%s\"", ledger->folder);
    if (fdatasync(ledger->leaves) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make entry %llu of ledger \"%s\" durable",
                             (unsigned long long)entry->index, ledger->folder);
    return true;
}

/* Steps 3 to 5: gives the document its name, and publishes its proof and the checkpoint that counts it. */
static bool
publish_entry(struct hf_ledger *ledger, const struct hf_receipt *entry, bool is_pending, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf proof = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    struct hf_checkpoint checkpoint = ledger->checkpoint;
    struct hf_merkle tree = ledger->tree;
    struct hf_merkle_path path;
    char name[HF_LEDGER_ENTRY_NAME_BYTES];

    assert(entry->index == tree.size);
    if (is_pending && !name_document(ledger, entry, err))
        return false;

    hf_merkle_next_path(&tree, &path);
    hf_merkle_push(&tree, &entry->leaf);
    checkpoint.size = tree.size;
    hf_merkle_root(&tree, &checkpoint.root);
    if (!hf_checkpoint_sign(&checkpoint, ledger->signer, &text, err) ||
        !hf_proof_format(entry->index, &path, text.data, text.length, &proof, err) ||
        !publish_file(ledger, hf_ledger_entry_name(&entry->evidence_id, ".proof", name), &proof, err) ||
        !publish_file(ledger, HF_LEDGER_CHECKPOINT, &text, err))
        return false;

    ledger->tree = tree;
    ledger->checkpoint = checkpoint;
    hf_buf_swap(&ledger->checkpoint_text, &text);
    return true;
}

/*
 * Nothing of that name is there: find_entered() has looked, under the same lock.  The new name becomes durable with the
 * proof's, which is published next in the same folder.
 */
static bool
name_document(struct hf_ledger *ledger, const struct hf_receipt *entry, struct hf_error *err)
{
    char name[HF_LEDGER_ENTRY_NAME_BYTES];
    _cleanup_(hf_freep) char *pending = path_of(ledger, HF_LEDGER_PENDING, err);
    _cleanup_(hf_freep) char *path = path_of(ledger, hf_ledger_entry_name(&entry->evidence_id, ".json", name), err);

    if (pending == NULL || path == NULL)
        return false;
    if (rename(pending, path) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not name document \"%s\"", path);
    return true;
}

bool
hf_ledger_range_root(void *context, uint64_t first, uint64_t count, struct hf_hash *ret, struct hf_error *err)
{
    struct hf_ledger *ledger = context;
    struct hf_receipt records[HF_LEDGER_RECORDS_AT_ONCE];
    struct hf_merkle tree = {0};

    while (tree.size < count) {
        size_t some =
            count - tree.size < HF_LEDGER_RECORDS_AT_ONCE ? (size_t)(count - tree.size) : HF_LEDGER_RECORDS_AT_ONCE;
        if (!hf_ledger_read_records(ledger, first + tree.size, some, records, err))
            return false;
        for (size_t i = 0; i < some; i++)
            hf_merkle_push(&tree, &records[i].leaf);
    }
    hf_merkle_root(&tree, ret);
    return true;
}

/* What lies there is wrong, as opposed to: it could not be looked at. */
bool
hf_ledger_is_only_damage(const struct hf_error *err)
{
    return err->kind == HF_ERR_CORRUPT || err->kind == HF_ERR_NO_SPACE || // longer than any document
           err->kind == HF_ERR_USAGE;                                     // a link, a folder or a device
}

bool
hf_ledger_read_file(struct hf_ledger *ledger, const char *name, size_t most, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = path_of(ledger, name, err);

    assert(out->limit == most);
    return path != NULL && hf_file_read(path, out, err);
}

static bool
publish_file(struct hf_ledger *ledger, const char *name, const struct hf_buf *bytes, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = path_of(ledger, name, err);

    return path != NULL && hf_file_publish(path, bytes->data, bytes->length, DOCUMENT_MODE, HF_PUBLISH_REPLACE, err);
}

static char *
path_of(struct hf_ledger *ledger, const char *name, struct hf_error *err)
{
    char *path = hf_path_join(ledger->folder, name);
    if (path == NULL)
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path in ledger \"%s\"", ledger->folder);
    return path;
}

const char *
hf_ledger_entry_name(const struct hf_id *id, const char *suffix, char name[static HF_LEDGER_ENTRY_NAME_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, HF_LEDGER_ENTRY_NAME_BYTES, "%s%s", hf_id_format(id, text), suffix);
    return name;
}

#include "server/evidence/ledger.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/file.h"
#include "server/evidence/ledger_internal.h"

#define NAMES_BESIDES     4096 // in the folder, beyond two files an entry
#define ENTRY_WORDS_BYTES 128  // evidence "<evidence_id>" (entry 12)

/* A verification under way. */
struct inspection {
    struct hf_ledger *ledger;
    hf_ledger_document *document; // or NULL
    hf_ledger_found *found;       // or NULL
    void *context;
    struct hf_ledger_report report;
    struct hf_error first; // the first problem
    struct hf_merkle tree; // of the documents as they are now
    char **names;          // in the folder when the lock was held
    size_t name_count;
    uint64_t records;  // in the leaves file then
    struct hf_id *ids; // of the entries, and of the one that is not finished; sorted at the end
    size_t id_count;
};

static bool look_around(struct inspection *work, struct hf_error *err);
static bool inspect_entries(struct inspection *work, struct hf_error *err);
static bool inspect_entry(struct inspection *work, const struct hf_receipt *record, struct hf_error *err);
static bool inspect_proof(struct inspection *work, const struct hf_receipt *entry, const struct hf_evidence *evidence,
                          struct hf_error *err);
static void inspect_strays(struct inspection *work);
static void report_problem(struct inspection *work, const char *format, ...) HF_PRINTF(2, 3);
static const char *entry_words(const struct hf_receipt *entry, char words[static ENTRY_WORDS_BYTES]);

bool
hf_ledger_verify_all(const struct hf_ledger_options *options, hf_ledger_found *found, void *context,
                     struct hf_ledger_report *ret, struct hf_error *err)
{
    return hf_ledger_walk(options, NULL, found, context, ret, err);
}

bool
hf_ledger_walk(const struct hf_ledger_options *options, hf_ledger_document *document, hf_ledger_found *found,
               void *context, struct hf_ledger_report *ret, struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    struct inspection work = {.document = document, .found = found, .context = context};

    *ret = (struct hf_ledger_report){0};
    if (!hf_ledger_prepare(options, &ledger, err) || !hf_ledger_open_leaves(ledger, err))
        return false;

    work.ledger = ledger;
    bool done = look_around(&work, err) && inspect_entries(&work, err);
    if (done)
        inspect_strays(&work);
    hf_strv_freep(&work.names);
    free(work.ids);
    work.report.checkpoint = ledger->checkpoint;
    *ret = work.report;
    if (!done)
        return false;
    // The witness compares with the leaves, so it is asked once they are known to be those of the documents.
    if (work.report.problems == 0 && options->witness_path != NULL) {
        ledger->tree = work.tree;
        return hf_ledger_compare_witness(ledger, options->witness_path, err);
    }
    if (work.report.problems > 0 && err != NULL)
        *err = work.first;
    return work.report.problems == 0;
}

/* What must be of one moment.  Then writers may go on: what they add lies beyond, and what is there never changes. */
static bool
look_around(struct inspection *work, struct hf_error *err)
{
    struct hf_ledger *ledger = work->ledger;
    struct stat found;

    if (!hf_ledger_lock(ledger, LOCK_SH, err))
        return false;
    _cleanup_(hf_ledger_unlock) struct hf_ledger *locked = ledger;
    if (!hf_ledger_read_checkpoint(locked, &ledger->checkpoint, &ledger->checkpoint_text, err))
        return false;
    if (fstat(ledger->leaves, &found) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at the leaves of ledger \"%s\"", ledger->folder);
    work->report.entries = ledger->checkpoint.size;
    work->records = (uint64_t)found.st_size / HF_LEDGER_RECORD_BYTES;
    work->report.unfinished = (uint64_t)found.st_size > work->report.entries * HF_LEDGER_RECORD_BYTES;
    return hf_dir_list(ledger->folder, 2 * work->records + NAMES_BESIDES, &work->names, &work->name_count, err);
}

static bool
inspect_entries(struct inspection *work, struct hf_error *err)
{
    struct hf_ledger *ledger = work->ledger;
    struct hf_receipt record;
    struct hf_hash root;

    if (work->records < work->report.entries)
        report_problem(work, "ledger \"%s\" has %llu leaves, its checkpoint was signed for %llu", ledger->folder,
                       (unsigned long long)work->records, (unsigned long long)work->report.entries);
    uint64_t count = work->records < work->report.entries ? work->records : work->report.entries;
    work->ids = calloc(count + 1, sizeof *work->ids);
    if (work->ids == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the %llu ids of ledger \"%s\"",
                       (unsigned long long)count, ledger->folder);

    for (uint64_t i = 0; i < count; i++) {
        if (!hf_ledger_read_records(ledger, i, 1, &record, err) || !inspect_entry(work, &record, err))
            return false;
        work->ids[work->id_count++] = record.evidence_id;
    }
    if (work->records == work->report.entries + 1) { // it may have its name already
        if (!hf_ledger_read_records(ledger, count, 1, &record, err))
            return false;
        work->ids[work->id_count++] = record.evidence_id;
    }
    hf_merkle_root(&work->tree, &root);
    if (!hf_hash_equal(&root, &ledger->checkpoint.root))
        report_problem(work, "the documents of ledger \"%s\" do not give the root that was signed for %llu entries",
                       ledger->folder, (unsigned long long)work->report.entries);
    return true;
}

/* A missing document leaves its recorded leaf in the tree; it is a problem of its own. */
static bool
inspect_entry(struct inspection *work, const struct hf_receipt *record, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    struct hf_receipt entry = *record;
    struct hf_error why = {0};
    char name[HF_LEDGER_ENTRY_NAME_BYTES], words[ENTRY_WORDS_BYTES], other[HF_ID_TEXT_BYTES];

    hf_ledger_entry_name(&record->evidence_id, ".json", name);
    entry_words(record, words);
    bool read = hf_ledger_read_file(work->ledger, name, HF_EVIDENCE_MOST_BYTES, &bytes, &why);
    if (read && !hf_merkle_leaf(bytes.data, bytes.length, &entry.leaf, err))
        return false;
    hf_merkle_push(&work->tree, &entry.leaf);

    if (!read && why.kind == HF_ERR_NOT_FOUND) {
        report_problem(work, "%s is missing", words);
        return true;
    }
    if (!read || !hf_evidence_parse(bytes.data, bytes.length, words, &evidence, &why) ||
        !hf_evidence_check_seal(&evidence, words, &work->ledger->trust, &why)) {
        if (!hf_ledger_is_only_damage(&why)) {
            if (err != NULL)
                *err = why;
            return false;
        }
        report_problem(work, "%s", why.message);
    } else if (!hf_id_equal(&evidence.evidence_id, &record->evidence_id)) {
        report_problem(work, "%s: its file holds evidence \"%s\"", words, hf_id_format(&evidence.evidence_id, other));
    } else if (evidence.index != record->index) {
        report_problem(work, "%s was sealed as entry %llu: the order was changed", words,
                       (unsigned long long)evidence.index);
    } else if (!hf_hash_equal(&entry.leaf, &record->leaf)) {
        report_problem(work, "%s is not the document whose leaf was recorded", words);
    } else {
        return inspect_proof(work, &entry, &evidence, err);
    }
    return true;
}

static bool
inspect_proof(struct inspection *work, const struct hf_receipt *entry, const struct hf_evidence *evidence,
              struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    struct hf_proof proof;
    struct hf_error why = {0};
    char name[HF_LEDGER_ENTRY_NAME_BYTES], words[ENTRY_WORDS_BYTES];

    hf_ledger_entry_name(&entry->evidence_id, ".proof", name);
    entry_words(entry, words);
    if (!hf_ledger_read_file(work->ledger, name, HF_PROOF_MOST_BYTES, &text, &why) ||
        !hf_proof_open(text.data, text.length, words, &work->ledger->trust, &proof, &why)) {
        if (why.kind != HF_ERR_NOT_FOUND && !hf_ledger_is_only_damage(&why)) {
            if (err != NULL)
                *err = why;
            return false;
        }
        if (why.kind == HF_ERR_NOT_FOUND)
            report_problem(work, "%s has no proof beside it", words);
        else
            report_problem(work, "%s", why.message);
    } else if (proof.index != entry->index ||
               !hf_merkle_check_inclusion(&entry->leaf, proof.index, proof.checkpoint.size, &proof.path,
                                          &proof.checkpoint.root)) {
        report_problem(work, "%s has a proof that does not hold", words);
    } else if (work->document != NULL) {
        return work->document(work->context, evidence, err);
    }
    return true;
}

/* Documents that lie there without being entries: they could pass for evidence. */
static void
inspect_strays(struct inspection *work)
{
    qsort(work->ids, work->id_count, sizeof *work->ids, hf_id_compare);
    for (size_t i = 0; i < work->name_count; i++) {
        const char *name = work->names[i], *dot = strrchr(name, '.');
        char text[HF_ID_TEXT_BYTES];
        struct hf_id id;

        if (strcmp(name, HF_LEDGER_PENDING) == 0)
            work->report.unfinished = true;
        if (dot == NULL || strcmp(dot, ".json") != 0)
            continue;
        if (dot - name != HF_ID_TEXT_BYTES - 1) {
            report_problem(work, "file \"%s\" is not a document of the ledger", name);
            continue;
        }
        memcpy(text, name, HF_ID_TEXT_BYTES - 1);
        text[HF_ID_TEXT_BYTES - 1] = 0;
        if (!hf_id_parse(text, &id, NULL) ||
            bsearch(&id, work->ids, work->id_count, sizeof *work->ids, hf_id_compare) == NULL)
            report_problem(work, "evidence \"%s\" lies in the folder but was never entered", text);
    }
}

static void
report_problem(struct inspection *work, const char *format, ...)
{
    char problem[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    if (work->report.problems++ == 0)
        hf_fail(&work->first, HF_ERR_CORRUPT, "%s", problem);
    if (work->found != NULL)
        work->found(work->context, problem);
}

static const char *
entry_words(const struct hf_receipt *entry, char words[static ENTRY_WORDS_BYTES])
{
    char text[HF_ID_TEXT_BYTES];
    snprintf(words, ENTRY_WORDS_BYTES, "evidence \"%s\" (entry %llu)", hf_id_format(&entry->evidence_id, text),
             (unsigned long long)entry->index);
    return words;
}

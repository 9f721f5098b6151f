#include <sys/wait.h>
#include <unistd.h>

#include "tests/evidence/contents.h"

#include "base/time.h"

/* Wrapped, to count what an entry costs. */
static size_t hashes, reads;

void __real_hf_sha256(const void *data, size_t length, uint8_t digest[static HF_SHA256_BYTES]);
void __wrap_hf_sha256(const void *data, size_t length, uint8_t digest[static HF_SHA256_BYTES]);
ssize_t __real_pread64(int fd, void *data, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t length, off_t offset);

void
__wrap_hf_sha256(const void *data, size_t length, uint8_t digest[static HF_SHA256_BYTES])
{
    hashes++;
    __real_hf_sha256(data, length, digest);
}

ssize_t
__wrap_pread64(int fd, void *data, size_t length, off_t offset)
{
    reads++;
    return __real_pread64(fd, data, length, offset);
}

/* A ledger in a fresh folder, with its signer. */
struct place {
    const char *folder; // holds "evidence" and "witness"
    const char *ledger;
    const char *witness;
    struct hf_signer *signer;
};

static struct place
new_place(void)
{
    struct place place = {.folder = hf_test_folder()};
    struct hf_error err;

    place.ledger = test_path(place.folder, "evidence");
    place.witness = test_path(place.folder, "witness");
    place.signer = test_signer(place.folder);
    hf_assert_ok(hf_ledger_create(place.ledger, place.signer, &err), &err);
    return place;
}

static void
leave(struct place *place)
{
    hf_signer_close(place->signer);
}

static struct hf_ledger *
open_ledger(const struct place *place, bool with_witness)
{
    const struct hf_ledger_options options = {
        .folder = place->ledger, .signer = place->signer, .witness_path = with_witness ? place->witness : NULL};
    struct hf_ledger *ledger = NULL;
    struct hf_error err;

    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    return ledger;
}

static void
assert_open_refused(const struct place *place, bool with_witness, enum hf_error_kind kind, const char *part)
{
    const struct hf_ledger_options options = {
        .folder = place->ledger, .signer = place->signer, .witness_path = with_witness ? place->witness : NULL};
    struct hf_ledger *ledger = NULL;
    struct hf_error err;

    assert_false(hf_ledger_open(&options, &ledger, &err));
    assert_int_equal(err.kind, kind);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static struct hf_receipt
append(struct hf_ledger *ledger, unsigned number)
{
    json_t *content = test_content_numbered(number);
    struct hf_receipt receipt;
    struct hf_error err;

    hf_assert_ok(hf_ledger_append(ledger, content, &receipt, &err), &err);
    json_decref(content);
    return receipt;
}

/* A ledger of `count` entries with the ids 1 to count. */
static struct place
filled_place(unsigned count)
{
    struct place place = new_place();
    struct hf_ledger *ledger = open_ledger(&place, false);

    for (unsigned i = 1; i <= count; i++)
        append(ledger, i);
    hf_ledger_close(ledger);
    return place;
}

static const char *
document_path(const struct place *place, unsigned number, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%032x%s", number, suffix);
    return test_path(place->ledger, name);
}

/* All problems that an inspection finds, one a line. */
static char problems[8192];

static void
note_problem(void *context, const char *problem)
{
    size_t used = strlen(problems);
    assert_ptr_equal(context, problems);
    snprintf(problems + used, sizeof problems - used, "%s\n", problem);
}

static struct hf_ledger_report
inspect(const struct place *place, bool expected)
{
    const struct hf_ledger_options options = {.folder = place->ledger, .signer = place->signer};
    struct hf_ledger_report report;
    struct hf_error err;

    problems[0] = 0;
    bool fine = hf_ledger_verify_all(&options, note_problem, problems, &report, &err);
    if (fine != expected)
        fail_msg("inspection says: %s\n%s", fine ? "fine" : err.message, problems);
    if (!fine)
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    return report;
}

static void
assert_problem(const char *part)
{
    if (strstr(problems, part) == NULL)
        fail_msg("no problem says \"%s\", but:\n%s", part, problems);
}

/* Copies the ledger's files aside and back, as an administrator of the host could. */
static void
copy_folder(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

HF_TEST(a_new_ledger_is_empty_and_signed)
{
    struct place place = new_place();
    struct hf_ledger *ledger = open_ledger(&place, false);

    assert_int_equal(hf_ledger_checkpoint(ledger)->size, 0);
    assert_string_equal(hf_ledger_checkpoint(ledger)->origin, TEST_KEY_NAME);
    hf_ledger_close(ledger);
    assert_int_equal(inspect(&place, true).entries, 0);
    leave(&place);
}

HF_TEST(a_ledger_is_not_made_over_another)
{
    struct place place = filled_place(1);
    struct hf_error err;

    assert_false(hf_ledger_create(place.ledger, place.signer, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_int_equal(unlink(test_path(place.ledger, "checkpoint")), 0);
    assert_false(hf_ledger_create(place.ledger, place.signer, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    leave(&place);
}

HF_TEST(a_ledger_whose_making_was_cut_short_can_be_made_again)
{
    struct place place = new_place();
    struct hf_error err;

    assert_int_equal(unlink(test_path(place.ledger, "checkpoint")), 0);
    hf_assert_ok(hf_ledger_create(place.ledger, place.signer, &err), &err);
    hf_ledger_close(open_ledger(&place, false));
    leave(&place);
}

HF_TEST(entries_are_numbered_and_each_leaves_a_document_a_proof_and_a_checkpoint)
{
    struct place place = new_place();
    struct hf_ledger *ledger = open_ledger(&place, false);

    for (unsigned i = 1; i <= 20; i++) {
        struct hf_receipt receipt = append(ledger, i), again;
        struct hf_error err;
        assert_int_equal(receipt.index, i - 1);
        assert_int_equal(hf_ledger_checkpoint(ledger)->size, i);
        assert_int_equal(access(document_path(&place, i, ".json"), F_OK), 0);
        assert_int_equal(access(document_path(&place, i, ".proof"), F_OK), 0);
        hf_assert_ok(hf_ledger_entry(ledger, i - 1, &again, &err), &err);
        assert_memory_equal(&again, &receipt, sizeof again);
        assert_false(hf_ledger_entry(ledger, i, &again, &err));
        assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    }
    hf_ledger_close(ledger);
    struct hf_ledger_report report = inspect(&place, true);
    assert_int_equal(report.entries, 20);
    assert_int_equal(report.problems, 0);
    assert_false(report.unfinished);
    leave(&place);
}

HF_TEST(the_same_content_again_changes_nothing_and_gives_the_same_receipt)
{
    struct place place = filled_place(3);
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_receipt receipt = append(ledger, 2);

    assert_int_equal(receipt.index, 1);
    assert_int_equal(hf_ledger_checkpoint(ledger)->size, 3);
    hf_ledger_close(ledger);
    inspect(&place, true);
    leave(&place);
}

HF_TEST(another_content_under_an_id_that_is_there_is_a_conflict)
{
    struct place place = filled_place(1);
    struct hf_ledger *ledger = open_ledger(&place, false);
    json_t *content = test_content_numbered(1);
    struct hf_receipt receipt;
    struct hf_error err;

    json_object_set_new(json_object_get(content, "subject"), "source_name", json_string("other"));
    assert_false(hf_ledger_append(ledger, content, &receipt, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    json_decref(content);
    hf_ledger_close(ledger);
    inspect(&place, true);
    leave(&place);
}

HF_TEST(a_content_that_breaks_a_rule_leaves_the_ledger_as_it_was)
{
    struct place place = filled_place(1);
    struct hf_ledger *ledger = open_ledger(&place, false);
    json_t *content = test_content_numbered(2);
    struct hf_receipt receipt;
    struct hf_error err;

    json_object_set_new(json_object_get(content, "attempt"), "result", json_string("failed"));
    assert_false(hf_ledger_append(ledger, content, &receipt, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    json_decref(content);
    hf_ledger_close(ledger);
    assert_int_equal(inspect(&place, true).entries, 1);
    leave(&place);
}

HF_TEST(a_ledger_without_signer_is_read_but_not_written)
{
    struct place place = filled_place(3);
    const struct hf_public_key key = *hf_signer_public_key(place.signer);
    const struct hf_ledger_options options = {.folder = place.ledger, .trust = {.keys = &key, .count = 1}};
    struct hf_ledger *ledger = NULL;
    struct hf_receipt receipt;
    struct hf_error err;
    json_t *content = test_content_numbered(4);

    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    assert_int_equal(hf_ledger_checkpoint(ledger)->size, 3);
    assert_false(hf_ledger_append(ledger, content, &receipt, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    json_decref(content);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(a_ledger_is_opened_with_a_key_of_its_own_only)
{
    struct place place = filled_place(1);
    struct hf_ledger_options options = {.folder = place.ledger};
    struct hf_public_key keys[2] = {*hf_signer_public_key(place.signer), *hf_signer_public_key(place.signer)};
    struct hf_ledger *ledger = NULL;
    struct hf_signer *stranger = NULL;
    struct hf_error err;

    assert_false(hf_ledger_open(&options, &ledger, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    strcpy(keys[1].name, "other");
    options.trust = (struct hf_trust){.keys = keys, .count = 2};
    assert_false(hf_ledger_open(&options, &ledger, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);

    hf_assert_ok(hf_signer_create(test_path(place.folder, "stranger"), TEST_KEY_NAME, &err), &err);
    hf_assert_ok(hf_signer_open(test_path(place.folder, "stranger"), &stranger, &err), &err);
    options = (struct hf_ledger_options){.folder = place.ledger, .signer = stranger};
    assert_false(hf_ledger_open(&options, &ledger, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    hf_signer_close(stranger);
    leave(&place);
}

HF_TEST(a_new_key_goes_on_with_the_ledger_of_the_old_one)
{
    struct place place = filled_place(2);
    const struct hf_public_key old = *hf_signer_public_key(place.signer);
    struct hf_ledger_options options = {.folder = place.ledger, .trust = {.keys = &old, .count = 1}};
    struct hf_ledger *ledger = NULL;
    struct hf_ledger_report report;
    struct hf_error err;

    hf_signer_close(place.signer);
    place.signer = NULL;
    hf_assert_ok(hf_signer_create(test_path(place.folder, "new"), TEST_KEY_NAME, &err), &err);
    hf_assert_ok(hf_signer_open(test_path(place.folder, "new"), &place.signer, &err), &err);
    options.signer = place.signer;
    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    append(ledger, 3);
    hf_ledger_close(ledger);
    hf_assert_ok(hf_ledger_verify_all(&options, NULL, NULL, &report, &err), &err);
    assert_int_equal(report.entries, 3);
    leave(&place);
}

HF_TEST(what_is_missing_is_named_when_a_ledger_is_opened)
{
    struct place place = filled_place(2);

    assert_int_equal(unlink(test_path(place.ledger, "checkpoint")), 0);
    assert_open_refused(&place, false, HF_ERR_CORRUPT, "the checkpoint of ledger");
    leave(&place);
    place = filled_place(2);
    assert_int_equal(unlink(test_path(place.ledger, "leaves")), 0);
    assert_open_refused(&place, false, HF_ERR_CORRUPT, "the leaves of ledger");
    assert_int_equal(unlink(test_path(place.ledger, "checkpoint")), 0);
    assert_open_refused(&place, false, HF_ERR_NOT_FOUND, "there is no ledger in");
    leave(&place);
    place = filled_place(2);
    assert_int_equal(truncate(test_path(place.ledger, "leaves"), HF_LEDGER_RECORD_BYTES), 0);
    assert_open_refused(&place, false, HF_ERR_CORRUPT, "has 1 leaves, its checkpoint was signed for 2");
    leave(&place);
}

HF_TEST(any_changed_leaf_is_noticed_when_a_ledger_is_opened)
{
    struct place place = filled_place(5);
    struct hf_buf leaves = test_read(test_path(place.ledger, "leaves"));
    struct hf_error err;

    for (size_t i = HF_ID_BYTES; i < leaves.length; i += 7) {
        if (i % HF_LEDGER_RECORD_BYTES < HF_ID_BYTES)
            continue; // ids are checked against the documents, by an inspection
        leaves.data[i] ^= 4;
        hf_assert_ok(hf_file_publish(test_path(place.ledger, "leaves"), leaves.data, leaves.length, 0640,
                                     HF_PUBLISH_REPLACE, &err),
                     &err);
        assert_open_refused(&place, false, HF_ERR_CORRUPT, "do not give the root that was signed");
        leaves.data[i] ^= 4;
    }
    hf_buf_done(&leaves);
    leave(&place);
}

HF_TEST(more_leaves_than_a_crash_can_leave_are_not_dropped)
{
    struct place place = filled_place(2), more = filled_place(4);
    struct hf_buf leaves = test_read(test_path(more.ledger, "leaves"));
    struct hf_error err;

    for (size_t extra = 1; extra <= 2; extra++) {
        size_t length = (2 + extra) * HF_LEDGER_RECORD_BYTES;
        hf_assert_ok(
            hf_file_publish(test_path(place.ledger, "leaves"), leaves.data, length, 0640, HF_PUBLISH_REPLACE, &err),
            &err);
        assert_open_refused(&place, false, HF_ERR_CORRUPT,
                            extra == 1 ? "its document is missing" : "a crash leaves 48");
    }
    hf_buf_done(&leaves);
    leave(&place);
    leave(&more);
}

HF_TEST(a_ledger_that_goes_back_while_it_is_open_is_corrupt)
{
    struct place place = filled_place(2);
    const char *kept = test_path(place.folder, "kept");
    struct hf_ledger *ledger = open_ledger(&place, false);
    json_t *content = test_content_numbered(9);
    struct hf_buf old = test_read(test_path(place.ledger, "checkpoint"));
    struct hf_receipt receipt;
    struct hf_error err;

    copy_folder(place.ledger, kept);
    append(ledger, 3);
    hf_assert_ok(
        hf_file_publish(test_path(place.ledger, "checkpoint"), old.data, old.length, 0640, HF_PUBLISH_REPLACE, &err),
        &err);
    assert_false(hf_ledger_append(ledger, content, &receipt, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "went back from 3 entries to 2"));
    json_decref(content);
    hf_buf_done(&old);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(two_processes_enter_documents_side_by_side)
{
    struct place place = new_place();
    pid_t children[2];

    for (unsigned c = 0; c < HF_LENGTH(children); c++) {
        children[c] = fork();
        if (children[c] == 0) {
            struct hf_ledger *ledger = open_ledger(&place, false);
            for (unsigned i = 0; i < 20; i++)
                append(ledger, 1000 * (c + 1) + i);
            _exit(hf_ledger_checkpoint(ledger)->size >= 20 ? 0 : 1);
        }
    }
    for (unsigned c = 0; c < HF_LENGTH(children); c++) {
        int status;
        assert_int_equal(waitpid(children[c], &status, 0), children[c]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(inspect(&place, true).entries, 40);
    leave(&place);
}

HF_TEST(every_entry_can_be_proved_against_the_newest_checkpoint)
{
    struct place place = filled_place(11);
    struct hf_ledger *ledger = open_ledger(&place, false);
    const struct hf_public_key *key = hf_signer_public_key(place.signer);
    const struct hf_trust trust = {.keys = key, .count = 1};
    struct hf_error err;

    for (uint64_t i = 0; i < 11; i++) {
        struct hf_buf text = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
        struct hf_receipt entry;
        struct hf_proof proof;
        hf_assert_ok(hf_ledger_prove(ledger, i, &text, &err), &err);
        hf_assert_ok(hf_proof_open(text.data, text.length, "proof", &trust, &proof, &err), &err);
        hf_assert_ok(hf_ledger_entry(ledger, i, &entry, &err), &err);
        assert_int_equal(proof.index, i);
        assert_int_equal(proof.checkpoint.size, 11);
        assert_true(hf_merkle_check_inclusion(&entry.leaf, i, 11, &proof.path, &proof.checkpoint.root));
        hf_buf_done(&text);
    }
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(every_older_state_is_proved_to_be_the_beginning_of_the_newest)
{
    struct place place = new_place();
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_checkpoint seen[13];
    struct hf_merkle_path path;
    struct hf_error err;

    for (unsigned i = 0; i < 13; i++) {
        seen[i] = *hf_ledger_checkpoint(ledger);
        append(ledger, i + 1);
    }
    for (unsigned i = 0; i < 13; i++) {
        hf_assert_ok(hf_ledger_prove_consistency(ledger, i, &path, &err), &err);
        assert_true(hf_merkle_check_consistency(i, &seen[i].root, 13, &hf_ledger_checkpoint(ledger)->root, &path));
    }
    assert_false(hf_ledger_prove_consistency(ledger, 14, &path, &err));
    hf_ledger_close(ledger);
    leave(&place);
}

static const struct place *going_on; // what the callback below enters into

static void
enter_meanwhile(void *context, const char *problem)
{
    (void)context;
    (void)problem;
    struct hf_ledger *ledger = open_ledger(going_on, false);
    append(ledger, 77);
    hf_ledger_close(ledger);
}

HF_TEST(documents_can_be_entered_while_the_ledger_is_inspected)
{
    struct place place = filled_place(4);
    const struct hf_ledger_options options = {.folder = place.ledger, .signer = place.signer};
    struct hf_ledger_report report;
    struct hf_error err;

    assert_int_equal(unlink(document_path(&place, 1, ".proof")), 0); // one problem, to be called in the middle
    going_on = &place;
    assert_false(hf_ledger_verify_all(&options, enter_meanwhile, NULL, &report, &err));
    assert_int_equal(report.entries, 4);
    assert_int_equal(report.problems, 1);
    leave(&place);
}

HF_TEST(a_missing_document_is_named)
{
    struct place place = filled_place(5);

    assert_int_equal(unlink(document_path(&place, 3, ".json")), 0);
    inspect(&place, false);
    assert_string_equal(problems, "evidence \"00000000000000000000000000000003\" (entry 2) is missing\n");
    leave(&place);
}

HF_TEST(a_missing_or_wrong_proof_is_named)
{
    struct place place = filled_place(5);

    assert_int_equal(unlink(document_path(&place, 3, ".proof")), 0);
    assert_int_equal(rename(document_path(&place, 4, ".proof"), document_path(&place, 5, ".proof")), 0);
    inspect(&place, false);
    assert_string_equal(problems, "evidence \"00000000000000000000000000000003\" (entry 2) has no proof beside it\n"
                                  "evidence \"00000000000000000000000000000004\" (entry 3) has no proof beside it\n"
                                  "evidence \"00000000000000000000000000000005\" (entry 4) has a proof that does not "
                                  "hold\n");
    leave(&place);
}

HF_TEST(a_changed_document_is_named)
{
    struct place place = filled_place(5);
    const char *path = document_path(&place, 2, ".json");
    struct hf_buf bytes = test_read(path);
    struct hf_error err;

    memcpy(strstr((char *)bytes.data, "aes-256-gcm"), "aes-128-gcm", 11);
    hf_assert_ok(hf_file_publish(path, bytes.data, bytes.length, 0640, HF_PUBLISH_REPLACE, &err), &err);
    inspect(&place, false);
    assert_problem("evidence \"00000000000000000000000000000002\" (entry 1) was altered");
    assert_problem("do not give the root that was signed for 5 entries");
    hf_buf_done(&bytes);
    leave(&place);
}

HF_TEST(a_document_sealed_anew_with_the_appliances_own_key_is_named)
{
    struct place place = filled_place(5);
    json_t *content = test_content_numbered(2);
    struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    struct hf_id id;
    struct hf_error err;

    json_object_set_new(json_object_get(content, "backup"), "cipher", json_string("none"));
    hf_assert_ok(hf_evidence_seal(content, place.signer, 1, &bytes, &id, &err), &err);
    hf_assert_ok(
        hf_file_publish(document_path(&place, 2, ".json"), bytes.data, bytes.length, 0640, HF_PUBLISH_REPLACE, &err),
        &err);
    inspect(&place, false);
    assert_problem(
        "evidence \"00000000000000000000000000000002\" (entry 1) is not the document whose leaf was recorded");
    json_decref(content);
    hf_buf_done(&bytes);
    leave(&place);
}

HF_TEST(exchanged_documents_are_named)
{
    struct place place = filled_place(5);

    assert_int_equal(rename(document_path(&place, 2, ".json"), test_path(place.folder, "aside")), 0);
    assert_int_equal(rename(document_path(&place, 4, ".json"), document_path(&place, 2, ".json")), 0);
    assert_int_equal(rename(test_path(place.folder, "aside"), document_path(&place, 4, ".json")), 0);
    inspect(&place, false);
    assert_problem("evidence \"00000000000000000000000000000002\" (entry 1): its file holds evidence "
                   "\"00000000000000000000000000000004\"");
    assert_problem("evidence \"00000000000000000000000000000004\" (entry 3): its file holds evidence "
                   "\"00000000000000000000000000000002\"");
    leave(&place);
}

HF_TEST(exchanged_leaves_are_named_although_such_a_ledger_cannot_be_opened)
{
    struct place place = filled_place(5);
    const char *path = test_path(place.ledger, "leaves");
    struct hf_buf leaves = test_read(path);
    uint8_t record[HF_LEDGER_RECORD_BYTES];
    struct hf_error err;

    memcpy(record, leaves.data + 48, 48);
    memcpy(leaves.data + 48, leaves.data + 144, 48);
    memcpy(leaves.data + 144, record, 48);
    hf_assert_ok(hf_file_publish(path, leaves.data, leaves.length, 0640, HF_PUBLISH_REPLACE, &err), &err);
    assert_open_refused(&place, false, HF_ERR_CORRUPT, "do not give the root that was signed");
    inspect(&place, false);
    assert_problem(
        "evidence \"00000000000000000000000000000004\" (entry 1) was sealed as entry 3: the order was changed");
    assert_problem(
        "evidence \"00000000000000000000000000000002\" (entry 3) was sealed as entry 1: the order was changed");
    hf_buf_done(&leaves);
    leave(&place);
}

HF_TEST(lost_leaves_are_named_by_an_inspection)
{
    struct place place = filled_place(5);

    assert_int_equal(truncate(test_path(place.ledger, "leaves"), 3 * HF_LEDGER_RECORD_BYTES), 0);
    inspect(&place, false);
    assert_problem("has 3 leaves, its checkpoint was signed for 5");
    assert_problem("evidence \"00000000000000000000000000000004\" lies in the folder but was never entered");
    leave(&place);
}

HF_TEST(a_document_that_was_never_entered_is_named)
{
    struct place place = filled_place(2), other = filled_place(3);

    assert_int_equal(rename(document_path(&other, 3, ".json"), document_path(&place, 3, ".json")), 0);
    test_write(test_path(place.ledger, "report.json"), "{}", 0640);
    inspect(&place, false);
    assert_problem("evidence \"00000000000000000000000000000003\" lies in the folder but was never entered");
    assert_problem("file \"report.json\" is not a document of the ledger");
    leave(&place);
    leave(&other);
}

HF_TEST(a_link_in_place_of_a_document_is_a_problem_and_not_followed)
{
    struct place place = filled_place(2);

    assert_int_equal(rename(document_path(&place, 2, ".json"), test_path(place.folder, "aside")), 0);
    assert_int_equal(symlink(test_path(place.folder, "aside"), document_path(&place, 2, ".json")), 0);
    inspect(&place, false);
    assert_problem("is not a regular file");
    leave(&place);
}

HF_TEST(a_witness_follows_the_ledger)
{
    struct place place = filled_place(3);
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;

    assert_open_refused(&place, true, HF_ERR_NOT_FOUND, "could not ask the witness");
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    append(ledger, 4);
    hf_ledger_close(open_ledger(&place, true));
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err); // nothing new: nothing is added
    struct hf_buf witness = test_read(place.witness), newest = test_read(test_path(place.ledger, "checkpoint"));
    struct hf_buf last = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    hf_assert_ok(hf_witness_newest(witness.data, witness.length, "witness", &last, &err), &err);
    assert_string_equal(hf_buf_text(&last), hf_buf_text(&newest));
    size_t ends = 0; // the older checkpoint is still there
    for (const char *at = hf_buf_text(&witness); (at = strstr(at, "\n%%\n")) != NULL; at++)
        ends++;
    assert_int_equal(ends, 2);
    hf_buf_done(&last);
    hf_buf_done(&witness);
    hf_buf_done(&newest);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(a_ledger_that_was_rolled_back_is_betrayed_by_its_witness_with_both_sizes)
{
    struct place place = filled_place(3);
    const char *kept = test_path(place.folder, "kept");
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;
    struct hf_ledger_report report;

    copy_folder(place.ledger, kept);
    append(ledger, 4);
    append(ledger, 5);
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    hf_ledger_close(ledger);
    copy_folder(kept, place.ledger);

    hf_ledger_close(open_ledger(&place, false)); // consistent in itself
    assert_open_refused(&place, true, HF_ERR_CORRUPT, "has 3 entries, but its witness");
    assert_open_refused(&place, true, HF_ERR_CORRUPT, "has seen 5");
    ledger = open_ledger(&place, false);
    assert_false(hf_ledger_witness(ledger, place.witness, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    const struct hf_ledger_options options = {
        .folder = place.ledger, .signer = place.signer, .witness_path = place.witness};
    assert_false(hf_ledger_verify_all(&options, NULL, NULL, &report, &err));
    assert_non_null(strstr(err.message, "has seen 5"));
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(a_ledger_whose_history_was_rewritten_is_betrayed_by_its_witness)
{
    struct place place = filled_place(3);
    const char *kept = test_path(place.folder, "kept");
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;

    copy_folder(place.ledger, kept);
    append(ledger, 4);
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    hf_ledger_close(ledger);
    copy_folder(kept, place.ledger);
    for (unsigned last = 5; last <= 6; last++) { // another fourth entry: of the same size, then longer
        ledger = open_ledger(&place, false);
        append(ledger, last);
        hf_ledger_close(ledger);
        assert_open_refused(&place, true, HF_ERR_CORRUPT,
                            last == 5 ? "of 4 entries does not begin with the 4"
                                      : "of 5 entries does not begin with the 4");
    }
    leave(&place);
}

HF_TEST(a_witness_that_was_cut_off_at_any_byte_goes_on_and_still_knows_what_counted_before)
{
    struct place place = filled_place(3);
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;

    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    struct hf_buf first = test_read(place.witness);
    append(ledger, 4);
    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    struct hf_buf whole = test_read(place.witness);
    for (size_t cut = 0; cut < whole.length; cut++) {
        struct hf_buf newest = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
        hf_assert_ok(hf_file_publish(place.witness, whole.data, cut, 0644, HF_PUBLISH_REPLACE, &err), &err);
        if (cut >= first.length) {
            hf_assert_ok(hf_witness_newest(whole.data, cut, "witness", &newest, &err), &err);
            assert_int_equal(newest.length, first.length - 3);
        }
        hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
        struct hf_buf after = test_read(place.witness);
        assert_memory_equal(after.data, whole.data, cut); // nothing that was there was changed
        hf_buf_clear(&newest);
        hf_assert_ok(hf_witness_newest(after.data, after.length, "witness", &newest, &err), &err);
        assert_int_equal(newest.length, whole.length - first.length - 3);
        hf_buf_done(&newest);
        hf_buf_done(&after);
    }
    hf_buf_done(&first);
    hf_buf_done(&whole);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(a_witness_whose_newest_checkpoint_was_changed_is_refused)
{
    struct place place = filled_place(3);
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;

    hf_assert_ok(hf_ledger_witness(ledger, place.witness, &err), &err);
    struct hf_buf text = test_read(place.witness);
    for (size_t i = 0; i < text.length - 4; i++) {
        text.data[i] ^= 0x01;
        hf_assert_ok(hf_file_publish(place.witness, text.data, text.length, 0644, HF_PUBLISH_REPLACE, &err), &err);
        if (hf_ledger_witness(ledger, place.witness, &err))
            fail_msg("byte %zu of the witness was changed and it was believed", i);
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        text.data[i] ^= 0x01;
    }
    hf_buf_done(&text);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(a_witness_of_another_ledger_is_refused_and_kept)
{
    struct place place = filled_place(1);
    struct hf_ledger *ledger = open_ledger(&place, false);
    struct hf_error err;

    test_write(place.witness, "something else\n", 0644);
    assert_false(hf_ledger_witness(ledger, place.witness, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    struct hf_buf witness = test_read(place.witness);
    assert_string_equal(hf_buf_text(&witness), "something else\n");
    hf_buf_done(&witness);
    hf_ledger_close(ledger);
    leave(&place);
}

HF_TEST(an_entry_costs_the_logarithm_of_a_hundred_thousand_and_opening_is_quick)
{
    enum { ENTRIES = 100000 };
    struct place place = new_place();
    struct hf_buf leaves = HF_BUF_INIT((size_t)ENTRIES * HF_LEDGER_RECORD_BYTES), text = HF_BUF_INIT(HF_MIB);
    struct hf_merkle tree = {0};
    struct hf_checkpoint checkpoint = {.origin = TEST_KEY_NAME, .size = ENTRIES};
    struct hf_error err;

    // Leaves of documents that are not there: to open and to append, they are not needed.
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint8_t record[HF_LEDGER_RECORD_BYTES] = {0};
        struct hf_hash leaf = {{0}};
        memcpy(leaf.bytes, &i, sizeof i);
        memcpy(record + HF_ID_BYTES, leaf.bytes, sizeof leaf.bytes);
        hf_merkle_push(&tree, &leaf);
        hf_assert_ok(hf_buf_add(&leaves, record, sizeof record, &err), &err);
    }
    hf_merkle_root(&tree, &checkpoint.root);
    hf_assert_ok(hf_checkpoint_sign(&checkpoint, place.signer, &text, &err), &err);
    hf_assert_ok(
        hf_file_publish(test_path(place.ledger, "leaves"), leaves.data, leaves.length, 0640, HF_PUBLISH_REPLACE, &err),
        &err);
    hf_assert_ok(
        hf_file_publish(test_path(place.ledger, "checkpoint"), text.data, text.length, 0640, HF_PUBLISH_REPLACE, &err),
        &err);

    uint64_t before = hf_monotonic_ns();
    hashes = reads = 0;
    struct hf_ledger *ledger = open_ledger(&place, false);
    assert_true(hashes >= ENTRIES - 64 && reads >= 100 && reads < ENTRIES); // it has looked at all leaves, many at once
    assert_true(hf_monotonic_ns() - before < UINT64_C(2000000000));         // 0.05 s without sanitizers
    for (unsigned i = 1; i <= 5; i++) {
        hashes = reads = 0;
        struct hf_receipt receipt = append(ledger, i);
        assert_int_equal(receipt.index, ENTRIES + i - 1);
        assert_true(hashes <= 3 * 17 + 8); // two roots and the carry, and what a document takes
        assert_true(reads <= 1);
    }
    hf_ledger_close(ledger);
    hf_buf_done(&leaves);
    hf_buf_done(&text);
    leave(&place);
}

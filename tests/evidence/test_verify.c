#include <unistd.h>

#include "tests/evidence/contents.h"

#include "server/evidence/verify.h"

/* Entry 2 of a ledger of 5, with its proof against the newest checkpoint. */
struct piece {
    struct hf_buf document, proof;
    struct hf_public_key key;
    const char *ledger;
};

static struct piece
new_piece(void)
{
    const char *folder = hf_test_folder(), *path = test_path(folder, "evidence");
    struct hf_signer *signer = test_signer(folder);
    struct hf_ledger *ledger = NULL;
    struct piece piece = {
        .proof = HF_BUF_INIT(HF_PROOF_MOST_BYTES), .key = *hf_signer_public_key(signer), .ledger = path};
    struct hf_error err;

    hf_assert_ok(hf_ledger_create(path, signer, &err), &err);
    const struct hf_ledger_options options = {.folder = path, .signer = signer};
    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    for (unsigned i = 1; i <= 5; i++) {
        json_t *content = test_content_numbered(i);
        struct hf_receipt receipt;
        hf_assert_ok(hf_ledger_append(ledger, content, &receipt, &err), &err);
        json_decref(content);
    }
    hf_assert_ok(hf_ledger_prove(ledger, 2, &piece.proof, &err), &err);
    piece.document = test_read(test_path(path, "00000000000000000000000000000003.json"));
    hf_ledger_close(ledger);
    hf_signer_close(signer);
    return piece;
}

static void
drop_piece(struct piece *piece)
{
    hf_buf_done(&piece->document);
    hf_buf_done(&piece->proof);
}

static bool
verify(const struct hf_buf *document, const struct hf_buf *proof, const struct hf_public_key *key, struct hf_error *err)
{
    const struct hf_trust trust = {.keys = key, .count = 1};
    struct hf_evidence_report report;
    return hf_evidence_verify(document->data, document->length, proof->data, proof->length, &trust, &report, err);
}

static bool
verify_files(const char *document, const char *proof, const char *public_key, struct hf_evidence_report *ret,
             struct hf_error *err)
{
    const struct hf_evidence_files files = {.document = document, .proof = proof, .public_key = public_key};
    return hf_evidence_verify_files(&files, ret, err);
}

HF_TEST(a_document_its_proof_and_the_public_key_are_enough)
{
    struct piece piece = new_piece();
    const struct hf_trust trust = {.keys = &piece.key, .count = 1};
    struct hf_evidence_report report;
    char id[HF_ID_TEXT_BYTES];
    struct hf_error err;

    hf_assert_ok(hf_evidence_verify(piece.document.data, piece.document.length, piece.proof.data, piece.proof.length,
                                    &trust, &report, &err),
                 &err);
    assert_string_equal(hf_id_format(&report.evidence_id, id), "00000000000000000000000000000003");
    assert_string_equal(hf_id_format(&report.backup_id, id), "dddddddddddddddddddddddddddddddd");
    assert_string_equal(report.kind, "verify");
    assert_string_equal(report.result, "passed");
    assert_string_equal(report.state, "proven");
    assert_string_equal(report.created_at, "2026-11-22T14:03:07.123Z");
    assert_string_equal(report.origin, TEST_KEY_NAME);
    assert_int_equal(report.index, 2);
    assert_int_equal(report.checkpoint_size, 5);
    assert_int_equal(report.foreign_signatures, 0);
    drop_piece(&piece);
}

HF_TEST(the_proof_written_beside_a_document_verifies_too_and_for_acts_as_well)
{
    const char *folder = hf_test_folder(), *path = test_path(folder, "evidence"),
               *key = test_path(folder, "public-key");
    struct hf_signer *signer = test_signer(folder);
    const struct hf_ledger_options options = {.folder = path, .signer = signer};
    struct hf_ledger *ledger = NULL;
    struct hf_evidence_report report;
    struct hf_receipt receipt;
    struct hf_error err;
    json_t *contents[] = {test_content(TEST_VERIFY_CONTENT), test_content(TEST_ACT_CONTENT)};

    hf_assert_ok(hf_ledger_create(path, signer, &err), &err);
    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    hf_assert_ok(hf_public_key_write_file(hf_signer_public_key(signer), key, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(contents); i++) {
        hf_assert_ok(hf_ledger_append(ledger, contents[i], &receipt, &err), &err);
        json_decref(contents[i]);
    }
    hf_assert_ok(verify_files(test_path(path, "00000000000000000000000000000001.json"), NULL, key, &report, &err),
                 &err);
    assert_string_equal(report.state, "proven");
    hf_assert_ok(verify_files(test_path(path, "00000000000000000000000000000002.json"),
                              test_path(path, "00000000000000000000000000000002.proof"), key, &report, &err),
                 &err);
    assert_string_equal(report.kind, "act");
    assert_string_equal(report.result, "done");
    assert_string_equal(report.state, "");
    assert_true(hf_id_is_none(&report.backup_id));
    hf_ledger_close(ledger);
    hf_signer_close(signer);
}

/* Changes each byte of one part, three ways or all eight, and cuts it at each length. */
static void
damage_each_byte(struct piece *piece, struct hf_buf *part, const char *name, bool all_bits)
{
    struct hf_error err;

    hf_assert_ok(verify(&piece->document, &piece->proof, &piece->key, &err), &err);
    for (size_t i = 0; i < part->length; i++) {
        uint8_t kept = part->data[i], marks = all_bits ? 0xff : (uint8_t)(0xa0 | 1 << i % 8);
        for (unsigned bit = 0; bit < 8; bit++) {
            part->data[i] = kept ^ (uint8_t)(marks & 1 << bit);
            if (part->data[i] == kept)
                continue;
            if (verify(&piece->document, &piece->proof, &piece->key, &err))
                fail_msg("bit %u of byte %zu of the %s was changed and it still verifies", bit, i, name);
            assert_int_equal(err.kind, HF_ERR_CORRUPT);
        }
        part->data[i] = kept;
    }
    size_t length = part->length;
    for (part->length = 0; part->length < length; part->length++)
        if (verify(&piece->document, &piece->proof, &piece->key, &err))
            fail_msg("the %s was cut at byte %zu and still verifies", name, part->length);
    hf_assert_ok(verify(&piece->document, &piece->proof, &piece->key, &err), &err);
}

HF_TEST(no_changed_byte_and_no_truncation_of_the_document_verifies)
{
    struct piece piece = new_piece();
    damage_each_byte(&piece, &piece.document, "document", false);
    drop_piece(&piece);
}

HF_TEST(no_changed_byte_and_no_truncation_of_the_proof_verifies)
{
    struct piece piece = new_piece();
    damage_each_byte(&piece, &piece.proof, "proof", true);
    drop_piece(&piece);
}

HF_TEST(no_changed_byte_and_no_truncation_of_the_public_key_verifies)
{
    struct piece piece = new_piece();
    const char *folder = hf_test_folder(), *path = test_path(folder, "public-key");
    struct hf_evidence_report report;
    struct hf_error err;

    hf_assert_ok(hf_public_key_write_file(&piece.key, path, &err), &err);
    struct hf_buf text = test_read(path);
    const char *document = test_path(piece.ledger, "00000000000000000000000000000003.json");
    hf_assert_ok(verify_files(document, NULL, path, &report, &err), &err);
    for (size_t i = 0; i < text.length; i++)
        for (unsigned bit = 0; bit <= 8; bit++) {
            uint8_t kept = text.data[i];
            if (bit < 8)
                text.data[i] ^= (uint8_t)(1 << bit);
            hf_assert_ok(hf_file_publish(path, text.data, bit < 8 ? text.length : i, 0644, HF_PUBLISH_REPLACE, &err),
                         &err);
            if (verify_files(document, NULL, path, &report, &err))
                fail_msg("byte %zu of the public key was changed or cut off and the evidence still verifies", i);
            text.data[i] = kept;
        }
    hf_buf_done(&text);
    drop_piece(&piece);
}

HF_TEST(more_bytes_after_document_or_proof_do_not_verify)
{
    static const char *const more[] = {"\n", " ", "x", "{}", "\xe2\x80\x94 "};
    struct piece piece = new_piece();
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(more); i++) {
        size_t document = piece.document.length, proof = piece.proof.length;
        hf_assert_ok(hf_buf_add_text(&piece.document, more[i], &err), &err);
        assert_false(verify(&piece.document, &piece.proof, &piece.key, &err));
        piece.document.length = document;
        hf_assert_ok(hf_buf_add_text(&piece.proof, more[i], &err), &err);
        assert_false(verify(&piece.document, &piece.proof, &piece.key, &err));
        piece.proof.length = proof;
    }
    hf_assert_ok(verify(&piece.document, &piece.proof, &piece.key, &err), &err);
    drop_piece(&piece);
}

HF_TEST(the_proof_of_another_entry_does_not_verify)
{
    struct piece piece = new_piece();
    struct hf_error err;

    for (unsigned other = 1; other <= 5; other++) {
        char name[64];
        snprintf(name, sizeof name, "%032x.proof", other);
        struct hf_buf proof = test_read(test_path(piece.ledger, name));
        assert_int_equal(verify(&piece.document, &proof, &piece.key, &err), other == 3);
        if (other != 3)
            assert_non_null(strstr(err.message, "was sealed as entry 2"));
        hf_buf_done(&proof);
    }
    drop_piece(&piece);
}

HF_TEST(a_document_that_was_sealed_but_never_entered_does_not_verify)
{
    struct piece piece = new_piece();
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_buf other = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    json_t *content = test_content_numbered(77);
    struct hf_id id;
    struct hf_error err;

    hf_assert_ok(hf_evidence_seal(content, signer, 2, &other, &id, &err), &err);
    assert_false(verify(&other, &piece.proof, &piece.key, &err));
    assert_string_equal(err.message, "the proof does not lead from the document to the root of the ledger");
    json_decref(content);
    hf_signer_close(signer);
    hf_buf_done(&other);
    drop_piece(&piece);
}

HF_TEST(a_document_entered_in_another_trusted_ledger_does_not_verify_there)
{
    struct piece piece = new_piece();
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_buf checkpoint_text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES), proof = HF_BUF_INIT(HF_PROOF_MOST_BYTES);
    struct hf_checkpoint checkpoint = {.origin = "holdfast.example/other", .size = 3};
    struct hf_merkle tree = {0};
    struct hf_merkle_path way;
    struct hf_signer *other = NULL;
    struct hf_evidence_report report;
    struct hf_hash leaf;
    struct hf_error err;

    hf_assert_ok(hf_signer_create(path, checkpoint.origin, &err), &err);
    hf_assert_ok(hf_signer_open(path, &other, &err), &err);
    hf_assert_ok(hf_merkle_leaf(piece.document.data, piece.document.length, &leaf, &err), &err);
    hf_merkle_push(&tree, &leaf);
    hf_merkle_push(&tree, &leaf);
    hf_merkle_next_path(&tree, &way);
    hf_merkle_push(&tree, &leaf);
    hf_merkle_root(&tree, &checkpoint.root);
    hf_assert_ok(hf_checkpoint_sign(&checkpoint, other, &checkpoint_text, &err), &err);
    hf_assert_ok(hf_proof_format(2, &way, checkpoint_text.data, checkpoint_text.length, &proof, &err), &err);

    const struct hf_public_key keys[] = {piece.key, *hf_signer_public_key(other)};
    const struct hf_trust trust = {.keys = keys, .count = 2};
    assert_false(hf_evidence_verify(piece.document.data, piece.document.length, proof.data, proof.length, &trust,
                                    &report, &err));
    assert_string_equal(err.message,
                        "the proof is of ledger \"holdfast.example/other\", the document of \"" TEST_KEY_NAME "\"");
    hf_signer_close(other);
    hf_buf_done(&checkpoint_text);
    hf_buf_done(&proof);
    drop_piece(&piece);
}

HF_TEST(evidence_of_another_key_of_the_same_name_does_not_verify)
{
    struct piece piece = new_piece();
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_signer *stranger = NULL;
    struct hf_error err;

    hf_assert_ok(hf_signer_create(path, TEST_KEY_NAME, &err), &err);
    hf_assert_ok(hf_signer_open(path, &stranger, &err), &err);
    assert_false(verify(&piece.document, &piece.proof, hf_signer_public_key(stranger), &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "which we were not given"));
    hf_signer_close(stranger);
    drop_piece(&piece);
}

HF_TEST(without_a_public_key_the_error_explains_where_one_comes_from)
{
    struct hf_evidence_report report;
    struct hf_error err;

    assert_false(verify_files("x.json", NULL, NULL, &report, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "cannot verify \"x.json\" without the appliance's public key");
    assert_non_null(strstr(err.hint, "--public-key"));
    assert_non_null(strstr(err.hint, "must not come along with the evidence"));
}

HF_TEST(missing_files_and_names_without_json_are_named)
{
    struct piece piece = new_piece();
    const char *folder = hf_test_folder(), *key = test_path(folder, "public-key");
    const char *document = test_path(piece.ledger, "00000000000000000000000000000003.json");
    struct hf_evidence_report report;
    struct hf_error err;

    assert_false(verify_files(document, NULL, key, &report, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "could not read a public key"));
    hf_assert_ok(hf_public_key_write_file(&piece.key, key, &err), &err);
    assert_false(verify_files(test_path(folder, "none.json"), NULL, key, &report, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "could not read the document"));
    assert_false(verify_files("report.pdf", NULL, key, &report, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_int_equal(unlink(test_path(piece.ledger, "00000000000000000000000000000003.proof")), 0);
    assert_false(verify_files(document, NULL, key, &report, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "could not read the proof"));
    drop_piece(&piece);
}

/* The folder golden/ holds what this version wrote first.  Evidence is kept for years: these files verify for ever. */
HF_TEST(the_kept_files_of_version_1_verify_and_are_written_the_same_today)
{
    const char *source = getenv("HOLDFAST_SOURCE");
    if (source == NULL)
        HF_TEST_SKIP("HOLDFAST_SOURCE does not say where the kept files are");
    const char *folder = test_path(source, "tests/evidence/golden");
    const char *document = test_path(folder, "00000000000000000000000000000003.json");
    const char *proof = test_path(folder, "00000000000000000000000000000003.proof");
    struct piece piece = new_piece();
    struct hf_evidence_report report;
    struct hf_error err;

    hf_assert_ok(verify_files(document, NULL, test_path(folder, "public-key"), &report, &err), &err);
    assert_int_equal(report.index, 2);
    assert_int_equal(report.checkpoint_size, 5);
    struct hf_buf kept_document = test_read(document), kept_proof = test_read(proof);
    assert_string_equal(hf_buf_text(&kept_document), hf_buf_text(&piece.document));
    assert_string_equal(hf_buf_text(&kept_proof), hf_buf_text(&piece.proof));
    hf_buf_done(&kept_document);
    hf_buf_done(&kept_proof);
    drop_piece(&piece);
}

/* A document, its proof against the newest checkpoint, the key and that checkpoint, each in a file. */
struct held {
    struct hf_evidence_files files;
    const char *folder;
    struct hf_buf checkpoint;
};

static struct held
new_held(struct piece *piece)
{
    const char *folder = hf_test_folder();
    struct held held = {.folder = folder, .checkpoint = test_read(test_path(piece->ledger, "checkpoint"))};
    struct hf_error err;

    held.files = (struct hf_evidence_files){
        .document = test_path(piece->ledger, "00000000000000000000000000000003.json"),
        .proof = test_path(folder, "proof"),
        .public_key = test_path(folder, "public-key"),
        .checkpoint = test_path(folder, "checkpoint"),
    };
    hf_assert_ok(hf_public_key_write_file(&piece->key, held.files.public_key, &err), &err);
    test_write(held.files.proof, hf_buf_text(&piece->proof), 0644);
    test_write(held.files.checkpoint, hf_buf_text(&held.checkpoint), 0644);
    return held;
}

HF_TEST(a_checkpoint_from_elsewhere_is_held_against_the_proof_and_no_changed_byte_of_it_passes)
{
    struct piece piece = new_piece();
    struct held held = new_held(&piece);
    struct hf_evidence_report report;
    struct hf_error err;

    hf_assert_ok(hf_evidence_verify_files(&held.files, &report, &err), &err);
    assert_int_equal(report.held_size, 5);
    for (size_t i = 0; i < held.checkpoint.length; i++)
        for (unsigned bit = 0; bit <= 8; bit++) {
            uint8_t kept = held.checkpoint.data[i];
            if (bit < 8)
                held.checkpoint.data[i] ^= (uint8_t)(1 << bit);
            hf_assert_ok(hf_file_publish(held.files.checkpoint, held.checkpoint.data,
                                         bit < 8 ? held.checkpoint.length : i, 0644, HF_PUBLISH_REPLACE, &err),
                         &err);
            // A checkpoint of no byte at all is none that was held; every other one is refused.
            if (hf_evidence_verify_files(&held.files, &report, &err) && report.held_size != 0)
                fail_msg("byte %zu of the checkpoint was changed or cut off and the evidence still verifies", i);
            held.checkpoint.data[i] = kept;
        }
    hf_buf_done(&held.checkpoint);
    drop_piece(&piece);
}

HF_TEST(the_newest_checkpoint_of_a_witness_file_counts)
{
    struct piece piece = new_piece();
    struct held held = new_held(&piece);
    struct hf_buf older = test_read(test_path(piece.ledger, "00000000000000000000000000000001.proof"));
    struct hf_buf text = HF_BUF_INIT(HF_MIB);
    struct hf_evidence_report report;
    struct hf_error err;
    const char *first = strstr(hf_buf_text(&older), "\n\n") + 2; // the checkpoint in the first entry's proof

    hf_assert_ok(hf_buf_printf(&text, &err, "%s%%%%\ncut off\n--\n%s%%%%\n", first, hf_buf_text(&held.checkpoint)),
                 &err);
    test_write(held.files.checkpoint, hf_buf_text(&text), 0644);
    hf_assert_ok(hf_evidence_verify_files(&held.files, &report, &err), &err);
    assert_int_equal(report.held_size, 5);

    hf_buf_clear(&text);
    hf_assert_ok(hf_buf_printf(&text, &err, "%s%%%%\n%s", first, hf_buf_text(&held.checkpoint)), &err);
    test_write(held.files.checkpoint, hf_buf_text(&text), 0644);
    assert_false(hf_evidence_verify_files(&held.files, &report, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT); // it has one entry only, and the document is the third
    assert_non_null(strstr(err.hint, "was not in the ledger when that was signed"));
    hf_buf_done(&older);
    hf_buf_done(&text);
    hf_buf_done(&held.checkpoint);
    drop_piece(&piece);
}

HF_TEST(a_checkpoint_of_another_size_asks_for_another_proof)
{
    struct piece piece = new_piece();
    struct held held = new_held(&piece);
    struct hf_evidence_report report;
    struct hf_error err;

    held.files.proof = NULL; // the one beside the document leads to the third entry
    assert_false(hf_evidence_verify_files(&held.files, &report, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_non_null(strstr(err.message, "was signed for 5 entries"));
    assert_non_null(strstr(err.hint, "holdfast evidence export"));
    hf_buf_done(&held.checkpoint);
    drop_piece(&piece);
}

HF_TEST(two_checkpoints_of_one_size_that_differ_are_a_second_history)
{
    struct piece piece = new_piece();
    struct held held = new_held(&piece);
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_checkpoint other = {.origin = TEST_KEY_NAME, .size = 5};
    struct hf_buf text = HF_BUF_INIT(HF_CHECKPOINT_MOST_BYTES);
    struct hf_evidence_report report;
    struct hf_error err;

    hf_assert_ok(hf_checkpoint_sign(&other, signer, &text, &err), &err);
    test_write(held.files.checkpoint, hf_buf_text(&text), 0644);
    assert_false(hf_evidence_verify_files(&held.files, &report, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "were both signed for 5 entries, and differ"));
    hf_signer_close(signer);
    hf_buf_done(&text);
    hf_buf_done(&held.checkpoint);
    drop_piece(&piece);
}

HF_TEST(a_proof_may_be_given_as_the_checkpoint_it_carries)
{
    struct piece piece = new_piece();
    struct held held = new_held(&piece);
    struct hf_evidence_report report;
    struct hf_error err;

    held.files.checkpoint = held.files.proof;
    held.files.proof = NULL;
    hf_assert_ok(hf_evidence_verify_files(&held.files, &report, &err), &err);
    assert_int_equal(report.checkpoint_size, 5);
    hf_buf_done(&held.checkpoint);
    drop_piece(&piece);
}

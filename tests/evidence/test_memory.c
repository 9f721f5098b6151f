/*
 * Memory runs out at every single allocation, ours and the JSON library's: each time the error says so, nothing
 * leaks (the sanitizer's run sees that), and the ledger is as it was or has the entry.
 */
#include "tests/evidence/contents.h"

#include "server/evidence/verify.h"

static size_t allocations, failing; // the one of this number fails; 0: none

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool
is_out(void)
{
    return failing != 0 && ++allocations == failing;
}

void *
__wrap_malloc(size_t size)
{
    return is_out() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return is_out() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
    return is_out() ? NULL : __real_realloc(memory, size);
}

static void *
malloc_of_the_library(size_t size)
{
    return __real_malloc(size);
}

HF_TEST(entering_a_document_survives_any_allocation_that_fails)
{
    const char *folder = hf_test_folder(), *path = test_path(folder, "evidence");
    struct hf_signer *signer = test_signer(folder);
    const struct hf_ledger_options options = {.folder = path, .signer = signer};
    struct hf_ledger_report report;
    size_t failures = 0;
    struct hf_error err;

    json_set_alloc_funcs(__wrap_malloc, free);
    hf_assert_ok(hf_ledger_create(path, signer, &err), &err);
    for (unsigned at = 1;; at++) {
        json_t *content = test_content_numbered(at);
        struct hf_ledger *ledger = NULL;
        struct hf_receipt receipt;

        allocations = 0;
        failing = at;
        bool done = hf_ledger_open(&options, &ledger, &err) && hf_ledger_append(ledger, content, &receipt, &err);
        bool reached = allocations >= at;
        failing = 0;
        if (!done) {
            failures++;
            if (err.kind != HF_ERR_NO_MEMORY && strstr(err.message, "what was written does not verify") == NULL)
                fail_msg("allocation %u failed, but the error is: %s", at, err.message);
            hf_ledger_close(ledger);
            ledger = NULL;
            hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
            hf_assert_ok(hf_ledger_append(ledger, content, &receipt, &err), &err);
        }
        assert_int_equal(receipt.index, at - 1);
        hf_ledger_close(ledger);
        json_decref(content);
        if (!reached)
            break;
    }
    assert_true(failures > 100);
    hf_assert_ok(hf_ledger_verify_all(&options, NULL, NULL, &report, &err), &err);
    hf_signer_close(signer);
}

/* Runs `call` with every allocation failing in turn; a failure must be NO_MEMORY, or anything but "fine" when `any`. */
#define WALK_ALLOCATIONS(call, any)                                                                                    \
    for (unsigned at = 1;; at++) {                                                                                     \
        allocations = 0;                                                                                               \
        failing = at;                                                                                                  \
        bool fine = (call);                                                                                            \
        bool reached = allocations >= at;                                                                              \
        failing = 0;                                                                                                   \
        if (fine != !reached || (!fine && !(any) && err.kind != HF_ERR_NO_MEMORY))                                     \
            fail_msg("allocation %u failed, but: %s", at, fine ? "fine" : err.message);                                \
        if (!reached)                                                                                                  \
            break;                                                                                                     \
    }

HF_TEST(verifying_survives_any_allocation_that_fails)
{
    const char *folder = hf_test_folder(), *path = test_path(folder, "evidence"),
               *key = test_path(folder, "public-key");
    struct hf_signer *signer = test_signer(folder);
    const struct hf_ledger_options options = {.folder = path, .signer = signer};
    const char *document = test_path(path, "00000000000000000000000000000001.json");
    json_t *content = test_content_numbered(1);
    struct hf_evidence_report report;
    struct hf_ledger_report inspection;
    struct hf_ledger *ledger = NULL;
    struct hf_receipt receipt;
    struct hf_error err;

    hf_assert_ok(hf_ledger_create(path, signer, &err), &err);
    hf_assert_ok(hf_ledger_open(&options, &ledger, &err), &err);
    hf_assert_ok(hf_ledger_append(ledger, content, &receipt, &err), &err);
    hf_assert_ok(hf_public_key_write_file(hf_signer_public_key(signer), key, &err), &err);
    json_decref(content);

    json_set_alloc_funcs(malloc_of_the_library, free);
    WALK_ALLOCATIONS(
        hf_evidence_verify_files(&(struct hf_evidence_files){.document = document, .public_key = key}, &report, &err),
        false);
    WALK_ALLOCATIONS(hf_ledger_verify_all(&options, NULL, NULL, &inspection, &err), false);
    // The JSON library calls a text invalid when memory for it runs out: the wrong words, but never "verified".
    json_set_alloc_funcs(__wrap_malloc, free);
    WALK_ALLOCATIONS(
        hf_evidence_verify_files(&(struct hf_evidence_files){.document = document, .public_key = key}, &report, &err),
        true);
    WALK_ALLOCATIONS(hf_ledger_verify_all(&options, NULL, NULL, &inspection, &err), true);
    hf_ledger_close(ledger);
    hf_signer_close(signer);
}

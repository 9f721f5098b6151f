/*
 * contents.h - a key that is always the same, and contents to put into documents
 */
#pragma once
#include "tests/support/test.h"

#include "base/file.h"
#include "server/evidence/ledger.h"

#define TEST_KEY_NAME "holdfast.example/clinic-7"

/* RFC 8032's first test vector as the seed, so that files of this key can be kept and compared. */
#define TEST_KEY_SEED "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
#define TEST_KEY_ID   "04c89145"
#define TEST_KEY_FILE                                                                                                  \
    "holdfast-signing-key/v1\nname " TEST_KEY_NAME "\nkey_id " TEST_KEY_ID "\nseed " TEST_KEY_SEED "\n"

/* Every member is there, every "?" of document.h known but the few that show how unknown is written. */
#define TEST_VERIFY_CONTENT                                                                                            \
    "{\"schema\":\"holdfast.evidence/v1\","                                                                            \
    "\"head\":{\"evidence_id\":\"00000000000000000000000000000001\",\"kind\":\"verify\","                              \
    "\"appliance_id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"site\":\"Klinik Süd, Wien\","                            \
    "\"software\":{\"version\":\"0.1.0\",\"build\":null,\"unknown\":{\"build\":\"not a released build\"}},"            \
    "\"created_at\":\"2026-11-22T14:03:07.123Z\",\"clock\":{\"source\":\"ntp\",\"offset_ns\":-1200}},"                 \
    "\"policy\":{\"policy_id\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\","                                                  \
    "\"policy_sha256\":\"1111111111111111111111111111111111111111111111111111111111111111\",\"tier\":\"1\","           \
    "\"rpo_target_s\":300,\"rto_target_s\":3600,\"retention\":\"35 days\",\"approved_by\":\"m.huber\","                \
    "\"approved_at\":\"2026-01-07T08:00:00.000Z\"},"                                                                   \
    "\"subject\":{\"source_id\":\"cccccccccccccccccccccccccccccccc\",\"source_name\":\"clinic\","                      \
    "\"engine\":\"postgresql\",\"version\":\"15.14\",\"lineage\":\"7318349127349812347\","                             \
    "\"databases\":[{\"name\":\"clinic\",\"bytes\":2700000000,\"tables\":41,\"rows\":8000000}]},"                      \
    "\"backup\":{\"backup_id\":\"dddddddddddddddddddddddddddddddd\","                                                  \
    "\"vault_id\":\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"log_sequence\":17,"                                           \
    "\"log_head\":\"2222222222222222222222222222222222222222222222222222222222222222\","                               \
    "\"manifest_hash\":\"3333333333333333333333333333333333333333333333333333333333333333\","                          \
    "\"started_at\":\"2026-11-22T13:00:00.000Z\",\"ended_at\":\"2026-11-22T13:04:11.020Z\","                           \
    "\"start_position\":\"0/2000028\",\"stop_position\":\"0/2000138\",\"timeline\":1,\"bytes_logical\":2700000000,"    \
    "\"bytes_stored\":105000000,\"cipher\":\"aes-256-gcm\",\"state_before\":\"unproven\","                             \
    "\"state_after\":\"proven\"},"                                                                                     \
    "\"stream\":{\"from_position\":\"0/2000028\",\"to_position\":\"0/5000000\",\"bytes\":50331648,"                    \
    "\"newest_commit_at\":\"2026-11-22T14:00:00.000Z\",\"gaps\":[]},"                                                  \
    "\"attempt\":{\"attempt_id\":\"ffffffffffffffffffffffffffffffff\",\"level\":\"full\","                             \
    "\"started_at\":\"2026-11-22T13:59:00.000Z\",\"ended_at\":\"2026-11-22T14:03:07.000Z\",\"duration_ms\":247000,"    \
    "\"result\":\"passed\",\"reason\":null,\"unknown\":{\"reason\":\"it passed\"}},"                                   \
    "\"restore\":{\"target\":{\"kind\":\"latest\",\"value\":null,\"unknown\":{\"value\":\"latest has none\"}},"        \
    "\"key_slot\":\"passphrase-1\",\"requested_at\":\"2026-11-22T13:59:00.100Z\",\"bytes_restored\":2700000000,"       \
    "\"bytes_replayed\":50331648,\"engine_version\":\"15.14\","                                                        \
    "\"engine_sha256\":\"4444444444444444444444444444444444444444444444444444444444444444\","                          \
    "\"engine_log_sha256\":\"5555555555555555555555555555555555555555555555555555555555555555\","                      \
    "\"phases\":[{\"phase\":\"write\",\"started_at\":\"2026-11-22T13:59:01.000Z\",\"duration_ms\":30000},"             \
    "{\"phase\":\"replay\",\"started_at\":\"2026-11-22T13:59:31.000Z\",\"duration_ms\":9000}]},"                       \
    "\"rto_rpo\":{\"time_to_recover_ms\":41000,\"time_to_validate_ms\":246000,\"data_loss_window_ms\":2500,"           \
    "\"recovered_commit_at\":\"2026-11-22T13:59:58.000Z\",\"rto_target_met\":true,\"rpo_target_met\":true,"            \
    "\"caught_up\":{\"sampled_at\":\"2026-11-22T13:59:00.200Z\",\"source_position\":\"0/5000000\",\"bound_ms\":60000," \
    "\"waited_ms\":800,\"reached\":true}},"                                                                            \
    "\"checks\":[{\"id\":\"page_checksums\",\"title\":\"Checksum of every page\",\"verdict\":\"passed\","              \
    "\"required\":true,\"reason\":null,\"examined\":329000,\"bad\":0,\"duration_ms\":900,\"method\":\"CRC of pages\"," \
    "\"coverage_ppm\":1000000,\"detail_sha256\":null,\"findings\":[],"                                                 \
    "\"unknown\":{\"detail_sha256\":\"nothing was found\",\"reason\":\"it passed\"}},"                                 \
    "{\"id\":\"indexes\",\"title\":\"Every index against its table\",\"verdict\":\"not_determinable\","                \
    "\"required\":false,\"reason\":\"collation de_AT has version 2.36 here and 2.31 at the source\",\"examined\":12,"  \
    "\"bad\":0,\"duration_ms\":100000,\"method\":\"amcheck\",\"coverage_ppm\":900000,"                                 \
    "\"detail_sha256\":\"6666666666666666666666666666666666666666666666666666666666666666\","                          \
    "\"findings\":[{\"what\":\"collation_differs\",\"object\":\"public.patient_name_idx\",\"block\":null,"             \
    "\"unknown\":{\"block\":\"the whole index\"}}]}],"                                                                 \
    "\"sandbox\":{\"level\":\"namespaces\",\"minimum_level\":\"namespaces\",\"isolation\":[\"user\",\"net\",\"pid\"]," \
    "\"network\":\"none\",\"scratch\":{\"kind\":\"memory\",\"limit_bytes\":4000000000},"                               \
    "\"memory_limit_bytes\":1073741824,\"process_limit\":256,\"time_limit_ms\":3600000},"                              \
    "\"people\":{\"requested_by\":\"schedule\",\"reason\":null,\"ticket\":null,\"approved_by\":null,"                  \
    "\"unknown\":{\"approved_by\":\"needs no approval\",\"reason\":\"scheduled\",\"ticket\":\"scheduled\"}},"          \
    "\"controls\":[{\"framework\":\"HIPAA\",\"ref\":\"164.308(a)(7)(ii)(D)\",\"verdict\":\"passed\","                  \
    "\"because\":[\"page_checksums\"]}]}"

#define TEST_ACT_CONTENT                                                                                               \
    "{\"schema\":\"holdfast.evidence/v1\","                                                                            \
    "\"head\":{\"evidence_id\":\"00000000000000000000000000000002\",\"kind\":\"act\","                                 \
    "\"appliance_id\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"site\":\"Klinik Süd, Wien\","                            \
    "\"software\":{\"version\":\"0.1.0\",\"build\":\"5b1c\"},"                                                         \
    "\"created_at\":\"2026-11-23T09:00:00.000Z\",\"clock\":{\"source\":\"ntp\",\"offset_ns\":900}},"                   \
    "\"people\":{\"requested_by\":\"m.huber\",\"reason\":\"monthly review\",\"ticket\":\"BK-12\","                     \
    "\"approved_by\":\"a.gruber\"},"                                                                                   \
    "\"act\":{\"act\":\"review\",\"object_kind\":\"evidence\",\"object\":\"00000000000000000000000000000001\","        \
    "\"outcome\":\"done\",\"refers_to\":\"00000000000000000000000000000001\",\"detail\":\"reviewed the test "          \
    "result\"}}"

static inline json_t *
test_content(const char *text)
{
    struct hf_error err;
    json_t *content = NULL;
    hf_assert_ok(hf_json_parse(text, strlen(text), "content", &content, &err), &err);
    return content;
}

/* The content of a verification under an id made from a number. */
static inline json_t *
test_content_numbered(unsigned number)
{
    char id[HF_ID_TEXT_BYTES];
    struct hf_error err;
    json_t *content = test_content(TEST_VERIFY_CONTENT);

    snprintf(id, sizeof id, "%032x", number);
    hf_assert_ok(hf_json_set(json_object_get(content, "head"), "evidence_id", json_string(id), &err), &err);
    return content;
}

/* "<folder>/<name>"; it lives as long as the program. */
static inline const char *
test_path(const char *folder, const char *name)
{
    static struct kept {
        struct kept *before;
        char text[];
    } * newest;
    size_t size = strlen(folder) + strlen(name) + 2;
    struct kept *path = malloc(sizeof *path + size);

    assert_non_null(path);
    snprintf(path->text, size, "%s/%s", folder, name);
    path->before = newest;
    newest = path;
    return path->text;
}

static inline void
test_write(const char *path, const char *text, mode_t mode)
{
    struct hf_error err;
    hf_assert_ok(hf_file_publish(path, text, strlen(text), mode, HF_PUBLISH_REPLACE, &err), &err);
}

/* The signer of the key above; its file lies in the folder as "signing-key". */
static inline struct hf_signer *
test_signer(const char *folder)
{
    struct hf_signer *signer = NULL;
    struct hf_error err;
    const char *path = test_path(folder, "signing-key");

    test_write(path, TEST_KEY_FILE, 0600);
    hf_assert_ok(hf_signer_open(path, &signer, &err), &err);
    return signer;
}

/* A file's bytes, for the caller to free with hf_buf_done(). */
static inline struct hf_buf
test_read(const char *path)
{
    struct hf_buf bytes = HF_BUF_INIT(16 * HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_file_read(path, &bytes, &err), &err);
    return bytes;
}

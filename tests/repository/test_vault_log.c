#include "tests/support/test.h"

#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "server/repository/vault_log.h"

static const struct hf_id repository = {{0xaa}}, vault = {{0xcc}}, other_vault = {{0xdd}};

/* Kill -9 before call number `at` to the disk; 0 for never. */
static struct {
    unsigned at, calls;
} death;

#define WRAP(type, name, arguments, forwarded)                                                                         \
    type __real_##name arguments;                                                                                      \
    type __wrap_##name arguments;                                                                                      \
    type __wrap_##name arguments                                                                                       \
    {                                                                                                                  \
        if (++death.calls == death.at)                                                                                 \
            kill(getpid(), SIGKILL);                                                                                   \
        return __real_##name forwarded;                                                                                \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t length), (fd, data, length))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, mkdirat, (int at, const char *name, mode_t mode), (at, name, mode))
WRAP(int, renameat2, (int from, const char *old, int to, const char *new, unsigned flags), (from, old, to, new, flags))

struct signer {
    uint8_t secret[64];
    bool lies;
    struct hf_signing signing;
};

static bool
sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
     struct hf_error *err)
{
    struct signer *signer = context;
    (void)err;
    crypto_sign_detached(signature, NULL, bytes, length, signer->secret);
    signature[10] ^= signer->lies;
    return true;
}

/* A vault of its own, with its key and one known signer. */
struct scene {
    const char *folder;
    struct hf_backend *backend;
    struct hf_secret record_key;
    struct signer signer;
    struct hf_root_bundle signers;
};

static void
make_signer(struct signer *signer, uint8_t value)
{
    uint8_t seed[32];
    memset(seed, value, sizeof seed);
    *signer = (struct signer){.signing = {.context = signer, .appliance = {{value}}, .sign = sign}};
    crypto_sign_seed_keypair(signer->signing.public_key, signer->secret, seed);
}

static void
set_scene(struct scene *scene)
{
    struct hf_error err;
    memset(scene, 0, sizeof *scene);
    scene->folder = hf_test_folder();
    hf_assert_ok(hf_backend_open_local(scene->folder, &scene->backend, &err), &err);
    hf_assert_ok(hf_secret_init(&scene->record_key, HF_KEY_BYTES, &err), &err);
    memset(scene->record_key.bytes, 5, HF_KEY_BYTES);
    make_signer(&scene->signer, 1);
    scene->signers.signer_count = 1;
    memcpy(scene->signers.signers[0].public_key, scene->signer.signing.public_key, HF_PUBLIC_BYTES);
}

static void
scene_done(struct scene *scene)
{
    hf_backend_freep(&scene->backend);
    hf_secret_done(&scene->record_key);
}

static struct hf_vault_log *
open_log(struct scene *scene, const struct hf_id *of)
{
    struct hf_vault_log *log;
    struct hf_error err;
    const struct hf_vault_log_options options = {scene->backend, repository, *of, &scene->record_key, &scene->signers};
    hf_assert_ok(hf_vault_log_open(&options, &log, &err), &err);
    return log;
}

static bool
append_as(struct hf_vault_log *log, const struct signer *signer, enum hf_log_kind kind, const char *word,
          const char *sealed, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *public_part = json_pack("{s:s}", "word", word);
    _cleanup_(hf_json_freep) json_t *sealed_part = sealed == NULL ? NULL : json_pack("{s:s}", "secret", sealed);
    const struct hf_log_append append = {kind, 1000, 3, public_part, sealed_part};
    return hf_vault_log_append(log, &append, &signer->signing, err);
}

static void
append(struct scene *scene, struct hf_vault_log *log, const char *word, const char *sealed)
{
    struct hf_error err;
    hf_assert_ok(append_as(log, &scene->signer, HF_LOG_INTENT, word, sealed, &err), &err);
}

/* What a reading met: "1 INTENT one (hidden), 2 ..." */
struct seen {
    char text[1024];
};

static bool
see(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct seen *seen = context;
    const char *word, *secret = NULL;
    if (!hf_json_string(entry->public_part, "word", "entry", &word, err) ||
        (entry->sealed_part != NULL && !hf_json_string(entry->sealed_part, "secret", "entry", &secret, err)))
        return false;
    assert_int_equal(entry->time, 1000);
    assert_int_equal(entry->epoch, 3);
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof seen->text - used, "%" PRIu64 " %s %s%s%s%s\n", entry->sequence,
             hf_log_kind_name(entry->kind), word, secret == NULL ? "" : " (", secret == NULL ? "" : secret,
             secret == NULL ? "" : ")");
    return true;
}

static const char *
read_on(struct hf_vault_log *log)
{
    static struct seen seen;
    struct hf_error err;
    seen.text[0] = '\0';
    hf_assert_ok(hf_vault_log_read(log, see, &seen, &err), &err);
    return seen.text;
}

/* Opened anew, it must be refused; the message must hold this. */
static void
assert_corrupt(struct scene *scene, const struct hf_id *of, const char *message)
{
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(scene, of);
    struct hf_error err;
    assert_false(hf_vault_log_read(log, NULL, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", message, err.message);
}

static const char *
entry_path(const struct scene *scene, const struct hf_id *of, uint64_t sequence)
{
    static char paths[2][256];
    static size_t next;
    char *path = paths[next++ % 2], text[HF_ID_TEXT_BYTES];
    snprintf(path, sizeof paths[0], "%s/vaults/%s/log/%016" PRIx64, scene->folder, hf_id_format(of, text), sequence);
    return path;
}

static void
read_entry(const struct scene *scene, const struct hf_id *of, uint64_t sequence, struct hf_buf *bytes)
{
    struct hf_error err;
    hf_buf_clear(bytes);
    hf_assert_ok(hf_file_read(entry_path(scene, of, sequence), bytes, &err), &err);
}

static void
plant(const struct scene *scene, const struct hf_id *of, uint64_t sequence, const void *bytes, size_t length)
{
    struct hf_error err;
    hf_assert_ok(hf_file_publish(entry_path(scene, of, sequence), bytes, length, 0400, HF_PUBLISH_REPLACE, &err), &err);
}

static void
sign_again(const struct signer *signer, uint8_t *entry, size_t length)
{
    crypto_sign_detached(entry + length - 64, NULL, entry, length - 64, signer->secret);
}

HF_TEST(a_vault_without_entries_is_new)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    uint8_t hash[HF_SHA256_BYTES], zeros[HF_SHA256_BYTES] = {0};
    struct hf_error err;
    assert_string_equal(read_on(log), "");
    assert_int_equal(hf_vault_log_head(log, hash), 0);
    assert_memory_equal(hash, zeros, sizeof hash);
    hf_assert_ok(hf_vault_log_check_head(log, 0, zeros, &err), &err);
}

HF_TEST(entries_are_read_in_order_once_each)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault), *other = NULL;
    append(&scene, log, "one", "patient");
    assert_string_equal(read_on(log), "1 INTENT one (patient)\n"); // our own as well
    append(&scene, log, "two", NULL);
    append(&scene, log, "three", "x");
    assert_string_equal(read_on(log), "2 INTENT two\n3 INTENT three (x)\n");
    assert_string_equal(read_on(log), "");

    other = open_log(&scene, &vault);
    assert_string_equal(read_on(other), "1 INTENT one (patient)\n2 INTENT two\n3 INTENT three (x)\n");
    append(&scene, other, "four", NULL);
    assert_string_equal(read_on(log), "4 INTENT four\n");

    uint8_t a[HF_SHA256_BYTES], b[HF_SHA256_BYTES], real[HF_SHA256_BYTES];
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    assert_int_equal(hf_vault_log_head(log, a), 4);
    assert_int_equal(hf_vault_log_head(other, b), 4);
    read_entry(&scene, &vault, 4, &bytes);
    hf_sha256(bytes.data, bytes.length, real);
    assert_memory_equal(a, real, sizeof a);
    assert_memory_equal(b, real, sizeof b);
}

HF_TEST(an_entry_is_byte_for_byte_what_the_header_says)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    _cleanup_(hf_buf_done) struct hf_buf first = HF_BUF_INIT(HF_MIB), second = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", "patient");
    read_entry(&scene, &vault, 1, &first);
    read_entry(&scene, &vault, 2, &second);
    uint8_t hash[HF_SHA256_BYTES];
    hf_sha256(first.data, first.length, hash);

    const uint8_t *entry = second.data;
    size_t p = strlen("{\"word\":\"two\"}"), s = 128 + strlen("{\"secret\":\"patient\"}");
    assert_int_equal(second.length, 160 + p + s + 64);
    assert_memory_equal(entry, "HFLOG001\x01\x00\x02\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00", 24);
    assert_int_equal(hf_get_u64(entry + 24), 1000);
    assert_memory_equal(entry + 32, repository.bytes, 16);
    assert_memory_equal(entry + 48, vault.bytes, 16);
    assert_memory_equal(entry + 64, scene.signer.signing.appliance.bytes, 16);
    assert_int_equal(hf_get_u64(entry + 80), 3);
    assert_memory_equal(entry + 88, hash, 32);
    assert_memory_equal(entry + 120, scene.signer.signing.public_key, 32);
    assert_int_equal(hf_get_u32(entry + 152), p);
    assert_int_equal(hf_get_u32(entry + 156), s);
    assert_memory_equal(entry + 160, "{\"word\":\"two\"}", p);
    assert_memory_equal(entry + 160 + p, "HFSEAL01\x03", 9);
    assert_null(memmem(entry, second.length, "patient", 7));
    assert_int_equal(crypto_sign_verify_detached(entry + second.length - 64, entry, second.length - 64,
                                                 scene.signer.signing.public_key),
                     0);
    const uint8_t zeros[HF_SHA256_BYTES] = {0};
    assert_memory_equal(first.data + 88, zeros, 32);
    assert_int_equal(hf_get_u32(first.data + 156), 0);
}

HF_TEST(every_kind_has_its_name)
{
    assert_string_equal(hf_log_kind_name(HF_LOG_LINEAGE), "LINEAGE");
    assert_string_equal(hf_log_kind_name(HF_LOG_CHECKPOINT), "CHECKPOINT");
    for (int kind = HF_LOG_LINEAGE; kind <= HF_LOG_CHECKPOINT; kind++)
        assert_null(strchr(hf_log_kind_name((enum hf_log_kind)kind), ' '));
    assert_string_equal(hf_log_kind_name((enum hf_log_kind)0), "an unknown kind");
    assert_string_equal(hf_log_kind_name((enum hf_log_kind)22), "an unknown kind");
}

HF_TEST(without_the_record_key_sealed_parts_stay_shut_and_nothing_is_sealed)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault), *shut = NULL;
    struct hf_error err;
    append(&scene, log, "one", "patient");
    const struct hf_vault_log_options options = {scene.backend, repository, vault, NULL, NULL};
    hf_assert_ok(hf_vault_log_open(&options, &shut, &err), &err);
    assert_string_equal(read_on(shut), "1 INTENT one\n");
    append(&scene, shut, "two", NULL);
    assert_false(append_as(shut, &scene.signer, HF_LOG_GAP, "three", "patient", &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(of_two_writers_one_wins_and_the_other_reads_on)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *a = open_log(&scene, &vault), *b = open_log(&scene, &vault);
    struct hf_error err;
    append(&scene, a, "a", NULL);
    assert_false(append_as(b, &scene.signer, HF_LOG_INTENT, "b", NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "log entry 1 of vault \"cc000000000000000000000000000000\" was written by another "
                                     "process first");
    assert_string_equal(read_on(b), "1 INTENT a\n");
    append(&scene, b, "b", NULL);
    assert_string_equal(read_on(a), "1 INTENT a\n2 INTENT b\n");
}

#define WRITERS 3
#define ENTRIES 20

/* Appends, reading on whenever another was first.  In a process of its own. */
static int
write_beside_others(struct scene *scene)
{
    struct hf_vault_log *log = open_log(scene, &vault);
    struct hf_error err;
    for (unsigned i = 0; i < ENTRIES;) {
        if (append_as(log, &scene->signer, HF_LOG_INTENT, "x", "y", &err))
            i++;
        else if (err.kind != HF_ERR_CONFLICT || !hf_vault_log_read(log, NULL, NULL, &err))
            return 1;
    }
    return 0;
}

HF_TEST(processes_that_append_beside_each_other_lose_nothing)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    pid_t children[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(write_beside_others(&scene));
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    uint8_t hash[HF_SHA256_BYTES];
    struct hf_error err;
    hf_assert_ok(hf_vault_log_read(log, NULL, NULL, &err), &err);
    assert_int_equal(hf_vault_log_head(log, hash), WRITERS * ENTRIES);
}

HF_TEST(what_no_reader_would_take_is_never_written)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    struct signer stranger;
    struct hf_error err;
    make_signer(&stranger, 2);
    assert_false(append_as(log, &stranger, HF_LOG_INTENT, "x", NULL, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    scene.signer.lies = true;
    assert_false(append_as(log, &scene.signer, HF_LOG_INTENT, "x", NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    scene.signer.lies = false;
    assert_false(append_as(log, &scene.signer, (enum hf_log_kind)22, "x", NULL, &err));
    _cleanup_(hf_json_freep) json_t *array = json_array(), *real = json_pack("{s:f}", "r", 0.5), *plain = json_object();
    const struct hf_log_append odd[] = {
        {HF_LOG_INTENT, 1, 0, array, NULL}, {HF_LOG_INTENT, 1, 0, real, NULL}, {HF_LOG_INTENT, 1, 0, plain, array}};
    for (size_t i = 0; i < HF_LENGTH(odd); i++)
        assert_false(hf_vault_log_append(log, &odd[i], &scene.signer.signing, &err));
    assert_string_equal(read_on(log), "");
    append(&scene, log, "fine", NULL);
}

HF_TEST(every_flipped_byte_of_an_entry_is_found_and_the_entry_named)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", "patient");
    append(&scene, log, "three", NULL);
    read_entry(&scene, &vault, 2, &bytes);
    for (size_t at = 0; at < bytes.length; at++) {
        bytes.data[at] ^= (uint8_t)(1 << at % 8);
        plant(&scene, &vault, 2, bytes.data, bytes.length);
        assert_corrupt(&scene, &vault, "log entry 2 of vault \"cc000000000000000000000000000000\" ");
        bytes.data[at] ^= (uint8_t)(1 << at % 8);
    }
    for (size_t length = 0; length < bytes.length; length += 7) {
        plant(&scene, &vault, 2, bytes.data, length);
        assert_corrupt(&scene, &vault, "log entry 2 of vault ");
    }
    struct hf_error err;
    hf_assert_ok(hf_buf_put_u8(&bytes, 0, &err), &err);
    plant(&scene, &vault, 2, bytes.data, bytes.length);
    assert_corrupt(&scene, &vault, "which is not what it says");
}

HF_TEST(a_flipped_byte_under_a_known_signature_is_found_by_the_chain_or_the_seal)
{
    /* Someone holds a signing key, but not the vault's: they can rewrite the last entry, not what was sealed. */
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", "patient");
    read_entry(&scene, &vault, 2, &bytes);
    size_t sealed_from = 160 + strlen("{\"word\":\"two\"}");
    for (size_t at = 0; at < bytes.length - 64; at++) {
        if (at >= 160 && at < sealed_from)
            continue; // the public part is the signer's to say
        bytes.data[at] ^= 1;
        sign_again(&scene.signer, bytes.data, bytes.length);
        plant(&scene, &vault, 2, bytes.data, bytes.length);
        assert_corrupt(&scene, &vault, "log entry 2 of vault ");
        bytes.data[at] ^= 1;
    }
    // Rewriting an entry that others follow breaks the chain, whoever signs.
    sign_again(&scene.signer, bytes.data, bytes.length);
    plant(&scene, &vault, 2, bytes.data, bytes.length);
    append(&scene, log, "three", NULL);
    bytes.data[sealed_from - 3] = 'O';
    sign_again(&scene.signer, bytes.data, bytes.length);
    plant(&scene, &vault, 2, bytes.data, bytes.length);
    assert_corrupt(&scene, &vault,
                   "log entry 3 of vault \"cc000000000000000000000000000000\" does not follow the "
                   "entry before it");
}

HF_TEST(a_header_that_is_signed_and_still_wrong_is_refused)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    read_entry(&scene, &vault, 1, &bytes);
    for (size_t at = 0; at < 160; at++) {
        if ((at >= 24 && at < 32) || (at >= 64 && at < 88))
            continue; // time, appliance and epoch are the signer's to say
        bytes.data[at] ^= 0x20;
        sign_again(&scene.signer, bytes.data, bytes.length);
        plant(&scene, &vault, 1, bytes.data, bytes.length);
        assert_corrupt(&scene, &vault, "log entry 1 of vault ");
        bytes.data[at] ^= 0x20;
    }
    bytes.data[10] = 0; // a kind that is none
    sign_again(&scene.signer, bytes.data, bytes.length);
    plant(&scene, &vault, 1, bytes.data, bytes.length);
    assert_corrupt(&scene, &vault, "is of kind 0, which this program does not know");
}

HF_TEST(a_part_sealed_with_another_key_makes_the_entry_wrong)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    scene.record_key.bytes[0] ^= 1;
    append(&scene, log, "one", "patient");
    scene.record_key.bytes[0] ^= 1;
    assert_corrupt(&scene, &vault,
                   "log entry 1 of vault \"cc000000000000000000000000000000\" was sealed with another "
                   "key");
}

HF_TEST(a_missing_entry_in_the_middle_is_named)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", NULL);
    append(&scene, log, "three", NULL);
    assert_int_equal(unlink(entry_path(&scene, &vault, 2)), 0);
    assert_corrupt(&scene, &vault, "log entry 2 of vault \"cc000000000000000000000000000000\" is missing");
    assert_int_equal(unlink(entry_path(&scene, &vault, 1)), 0);
    assert_corrupt(&scene, &vault, "log entry 1 of vault \"cc000000000000000000000000000000\" is missing");
}

HF_TEST(what_is_no_entry_is_not_counted_and_a_link_in_an_entrys_place_is_refused)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
    append(&scene, log, "one", NULL);
    char path[256];
    snprintf(path, sizeof path, "%s", entry_path(&scene, &vault, 9));
    strcpy(strrchr(path, '/'), "/notes.txt");
    struct hf_error err;
    hf_assert_ok(hf_file_publish(path, "x", 1, 0400, HF_PUBLISH_EXCLUSIVE, &err), &err);
    assert_string_equal(read_on(log), "1 INTENT one\n");
    assert_int_equal(symlink(entry_path(&scene, &vault, 1), entry_path(&scene, &vault, 2)), 0);
    assert_corrupt(&scene, &vault, "is reached through a symbolic link");
}

HF_TEST(a_log_that_lost_its_end_is_known_by_the_head_that_was_seen)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault), *after = NULL;
    uint8_t first[HF_SHA256_BYTES], third[HF_SHA256_BYTES];
    struct hf_error err;
    append(&scene, log, "one", NULL);
    hf_vault_log_head(log, first);
    append(&scene, log, "two", NULL);
    append(&scene, log, "three", NULL);
    assert_int_equal(hf_vault_log_head(log, third), 3);
    hf_assert_ok(hf_vault_log_check_head(log, 3, third, &err), &err);
    hf_assert_ok(hf_vault_log_check_head(log, 1, first, &err), &err);
    assert_false(hf_vault_log_check_head(log, 2, first, &err));

    assert_int_equal(unlink(entry_path(&scene, &vault, 3)), 0);
    after = open_log(&scene, &vault);
    assert_string_equal(read_on(after), "1 INTENT one\n2 INTENT two\n"); // by itself it looks whole
    assert_false(hf_vault_log_check_head(after, 3, third, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "log of vault \"cc000000000000000000000000000000\" ends at entry 2, and entry 3 "
                                     "has been seen");

    append(&scene, after, "another three", NULL); // written to since
    assert_false(hf_vault_log_check_head(after, 3, third, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "entry 3 in the log of vault \"cc000000000000000000000000000000\" is not the one "
                                     "that was seen there");
    append(&scene, after, "four", NULL);
    assert_false(hf_vault_log_check_head(after, 3, third, &err));
    hf_assert_ok(hf_vault_log_check_head(after, 1, first, &err), &err);
}

HF_TEST(an_entry_from_another_place_is_refused)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault),
                                                      *other = open_log(&scene, &other_vault);
    _cleanup_(hf_buf_done) struct hf_buf mine = HF_BUF_INIT(HF_MIB), theirs = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", NULL);
    append(&scene, other, "theirs", NULL); // nothing sealed: the header alone must tell
    read_entry(&scene, &vault, 1, &mine);
    read_entry(&scene, &other_vault, 1, &theirs);

    plant(&scene, &vault, 1, theirs.data, theirs.length); // the same sequence of another vault
    assert_corrupt(&scene, &vault,
                   "log entry 1 of vault \"cc000000000000000000000000000000\" belongs to another vault");
    plant(&scene, &vault, 1, mine.data, mine.length);
    plant(&scene, &vault, 2, mine.data, mine.length); // an older entry once more
    assert_corrupt(&scene, &vault, "log entry 2 of vault \"cc000000000000000000000000000000\" says that it is entry 1");

    // Of another repository, with the same vault id and keys.
    struct hf_vault_log *foreign;
    struct hf_error err;
    const struct hf_vault_log_options options = {scene.backend, vault, vault, &scene.record_key, &scene.signers};
    hf_assert_ok(hf_vault_log_open(&options, &foreign, &err), &err);
    assert_false(hf_vault_log_read(foreign, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "belongs to another repository"));
    hf_vault_log_freep(&foreign);
}

HF_TEST(an_older_copy_in_an_entrys_place_breaks_the_chain)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault), *again = NULL;
    _cleanup_(hf_buf_done) struct hf_buf old = HF_BUF_INIT(HF_MIB);
    append(&scene, log, "one", NULL);
    append(&scene, log, "old two", NULL);
    read_entry(&scene, &vault, 2, &old);
    assert_int_equal(unlink(entry_path(&scene, &vault, 2)), 0);
    again = open_log(&scene, &vault);
    assert_string_equal(read_on(again), "1 INTENT one\n");
    append(&scene, again, "new two", NULL);
    append(&scene, again, "three", NULL);
    plant(&scene, &vault, 2, old.data, old.length);
    assert_corrupt(&scene, &vault, "log entry 3 of vault \"cc000000000000000000000000000000\" does not follow");
}

HF_TEST(an_entry_signed_by_a_stranger_is_refused)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    struct signer stranger;
    make_signer(&stranger, 2);
    struct hf_error err;
    struct hf_vault_log *unchecked;
    const struct hf_vault_log_options options = {scene.backend, repository, vault, &scene.record_key, NULL};
    hf_assert_ok(hf_vault_log_open(&options, &unchecked, &err), &err);
    hf_assert_ok(append_as(unchecked, &stranger, HF_LOG_INTENT, "forged", NULL, &err), &err);
    hf_vault_log_freep(&unchecked);
    assert_corrupt(&scene, &vault,
                   "log entry 1 of vault \"cc000000000000000000000000000000\" is signed by a key that "
                   "the repository does not know");

    // And one that only claims the known key.
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    read_entry(&scene, &vault, 1, &bytes);
    memcpy(bytes.data + 120, scene.signer.signing.public_key, 32);
    sign_again(&stranger, bytes.data, bytes.length);
    plant(&scene, &vault, 1, bytes.data, bytes.length);
    assert_corrupt(&scene, &vault, "its signature does not fit");
}

HF_TEST(json_that_is_not_canonical_is_refused_even_when_signed)
{
    static const char *const texts[] = {
        "{ \"word\":\"x\"}", "{\"word\":\"x\"} ",  "[]", "\"x\"", "{}x", "", "{\"b\":1,\"a\":1}", "{\"a\":1.0}",
        "{\"a\":1,\"a\":1}", "{\"a\":\"\\u0041\"}"};
    for (size_t i = 0; i < HF_LENGTH(texts); i++) {
        _cleanup_(scene_done) struct scene scene;
        set_scene(&scene);
        _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB), forged = HF_BUF_INIT(HF_MIB);
        struct hf_error err;
        append(&scene, log, "x", NULL);
        read_entry(&scene, &vault, 1, &bytes);
        hf_assert_ok(hf_buf_add(&forged, bytes.data, 160, &err) && hf_buf_add_text(&forged, texts[i], &err) &&
                         hf_buf_add_zeros(&forged, 64, &err),
                     &err);
        hf_put_u32(forged.data + 152, (uint32_t)strlen(texts[i]));
        sign_again(&scene.signer, forged.data, forged.length);
        plant(&scene, &vault, 1, forged.data, forged.length);
        assert_corrupt(&scene, &vault, "log entry 1 of vault ");
    }
}

static bool
refuse_the_second(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    (void)context;
    return entry->sequence < 2 || hf_fail(err, HF_ERR_CANCELLED, "not now");
}

HF_TEST(what_a_visitor_refused_is_handed_out_again)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault), *reader = NULL;
    struct hf_error err;
    uint8_t hash[HF_SHA256_BYTES];
    append(&scene, log, "one", NULL);
    append(&scene, log, "two", NULL);
    reader = open_log(&scene, &vault);
    assert_false(hf_vault_log_read(reader, refuse_the_second, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    assert_int_equal(hf_vault_log_head(reader, hash), 1);
    assert_string_equal(read_on(reader), "2 INTENT two\n");
}

HF_TEST(kill_9_at_any_step_leaves_the_entry_whole_or_not_there)
{
    _cleanup_(scene_done) struct scene scene;
    set_scene(&scene);
    uint64_t entries = 0, survivors = 0, lost = 0;
    for (unsigned at = 1; survivors == 0; at++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct hf_vault_log *log = open_log(&scene, &vault);
            struct hf_error err;
            if (!hf_vault_log_read(log, NULL, NULL, &err))
                _exit(1);
            death.at = at;
            death.calls = 0;
            _exit(append_as(log, &scene.signer, HF_LOG_INTENT, "x", "y", &err) ? 0 : 2);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);

        _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = open_log(&scene, &vault);
        uint8_t hash[HF_SHA256_BYTES];
        read_on(log);
        uint64_t now = hf_vault_log_head(log, hash);
        assert_true(now == entries || now == entries + 1);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_int_equal(now, entries + 1);
            survivors++;
        }
        lost += now == entries;
        append(&scene, log, "next", NULL); // the log goes on
        entries = now + 1;
    }
    assert_true(lost >= 3);

    uint64_t objects, bytes;
    struct hf_error err;
    hf_assert_ok(hf_backend_sweep(scene.backend, &objects, &bytes, &err), &err);
    assert_true(objects > 0);
    assert_true(objects <= lost);
}

/*
 * Every object of a small repository is altered in every way there is room for: bits, lengths, places.  Each time the
 * damage is found before anything is used, and the object that is named is the one that was altered.
 *
 * Under tests/campaign every bit is flipped; else one bit of every byte (in the sealed parts of packs: of every
 * fourth), and all bits of every kind of header.  With CORRUPTION_FOLDER the repository stays there, and a later run
 * goes on where one ended or was killed, until every bit had its turn.
 */
#include "tests/support/test.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/care/check.h"
#include "server/repository/pack.h"
#include "server/repository/reader.h"
#include "server/repository/session.h"
#include "server/repository/log_entry.h"
#include "tests/support/vault.h"

#define BACKUPS        12
#define PAGE           8192
#define SHARED_PAGES   3
#define OWN_PAGES      3
#define OBJECTS_MOST   256
#define LEAST_BYTES    (256 * HF_KIB)
#define WORKERS        2
#define READ_EACH      211 // of so many flips of packs one is also met by a reader
#define WHOLE_LOG_EACH 64  // of so many alterations of log entries one is met by who reads the whole log
#define CUT_EACH       61  // packs are cut after each so many bytes, and at every border

enum kind { SUPERBLOCK, SLOT, ROOT_BUNDLE, VAULT_BUNDLE, ENTRY, PACK, KINDS };
static const char *const kind_names[KINDS] = {"superblock", "slot", "root bundle", "vault bundle", "log entry", "pack"};

struct object {
    enum kind kind;
    char name[256];
    size_t length;
    uint8_t *bytes;
    struct hf_id vault, pack; // pack: none for others
    unsigned long sequence;   // of an entry
    size_t border_count, borders[64];
};

/* Shared with the workers. */
struct totals {
    _Atomic uint64_t flips[KINDS], cuts, extensions, swaps, removals, reads;
    _Atomic uint64_t missed, misnamed;
    char first[1024]; // of those
};

struct reference {
    struct test_vault vault;
    struct hf_id house;
    struct hf_id backups[BACKUPS];
    size_t object_count;
    struct object objects[OBJECTS_MOST];
    struct totals *totals;
    const char *folder; // it stays there; NULL: it does not
};

/* How far one process has come with a repository that stays; written every second. */
struct progress {
    uint64_t object, at;   // of the next flip
    uint64_t flips[KINDS]; // by all runs
    uint64_t missed, misnamed;
};

/* One process's own copy, in which it does harm. */
struct victim {
    const struct reference *reference;
    char place[600];
    struct hf_repository *repository;
    struct hf_vault *vault; // the one with backups, its log read
    struct hf_vault *house_vault;
    size_t flips_of_packs, looks_at_entries;
};

/* What a check said. */
struct verdict {
    size_t damages, others; // others: of some other object
    const struct object *object;
    char first[HF_ERROR_MESSAGE_BYTES];
};

static void
fill(uint8_t *bytes, size_t length, unsigned number)
{
    uint8_t seed[randombytes_SEEDBYTES] = {7};
    memcpy(seed + 1, &number, sizeof number);
    randombytes_buf_deterministic(bytes, length, seed);
}

static void
put_file(struct hf_session *session, const char *path, unsigned number, size_t length)
{
    struct hf_error err;
    struct hf_session_file *file;
    _cleanup_(hf_freep) uint8_t *bytes = malloc(length);
    const struct hf_session_file_info info = {
        .path = path, .kind = HF_FILE_RELATION, .page_log2 = 13, .mode = 0600, .modified_at = 1700000000000};
    assert_non_null(bytes);
    fill(bytes, length, number);
    hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
    hf_assert_ok(hf_session_file_write(file, bytes, length, &err), &err);
    hf_assert_ok(hf_session_file_end(&file, &err), &err);
}

/* One file that all share, one of its own with a short tail. */
static void
back_up(struct reference *made, unsigned number)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    char path[32];
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    const struct hf_session_options options = {.source = "clinic",
                                               .operation = "backup",
                                               .signing = &made->vault.signing,
                                               .cache_folder = made->vault.cache,
                                               .workers = 2};
    hf_assert_ok(hf_session_begin(made->vault.vault, &options, &session, &err), &err);
    put_file(session, "base/5/1", 0, SHARED_PAGES * PAGE);
    snprintf(path, sizeof path, "base/5/2%03u", number);
    put_file(session, path, number + 1, OWN_PAGES * PAGE - 1234);
    hf_assert_ok(hf_session_folder(session, "", 0700, &err), &err);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    made->backups[number] = outcome.backup;
}

static void
enter(struct hf_vault *vault, const struct hf_signing *signing, enum hf_log_kind kind, json_t *public_part,
      json_t *sealed_part)
{
    struct hf_error err;
    const struct hf_log_append entry = {
        .kind = kind, .time = hf_time_now_ms(), .public_part = public_part, .sealed_part = sealed_part};
    assert_non_null(public_part);
    hf_assert_ok(hf_vault_append(vault, &entry, signing, NULL, NULL, &err), &err);
    json_decref(public_part);
    json_decref(sealed_part);
}

static void
enter_all_kinds(struct reference *made)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_vault *vault = made->vault.vault;
    const struct hf_signing *signing = &made->vault.signing;
    char first[HF_ID_TEXT_BYTES], id[HF_ID_TEXT_BYTES];
    const struct hf_id other = hf_id_new();
    hf_id_format(&made->backups[1], first);
    hf_id_format(&other, id);
    enter(vault, signing, HF_LOG_VERDICT,
          json_pack("{s:s, s:s, s:s, s:s}", "backup", first, "attempt", id, "result", "passed", "state", "proven"),
          json_pack("{s:s}", "level", "L2"));
    enter(vault, signing, HF_LOG_HOLD, json_pack("{s:s}", "backup", first),
          json_pack("{s:s, s:s}", "person", "nurse", "reason", "inquiry"));
    enter(vault, signing, HF_LOG_RELEASE, json_pack("{s:s}", "backup", first), json_pack("{s:s}", "person", "nurse"));
    enter(vault, signing, HF_LOG_PIN, json_pack("{s:s, s:s}", "reader", id, "backup", first), NULL);
    enter(vault, signing, HF_LOG_UNPIN, json_pack("{s:s, s:s}", "reader", id, "backup", first), NULL);
    enter(vault, signing, HF_LOG_GAP, json_object(),
          json_pack("{s:i, s:s, s:i, s:s, s:s}", "from_timeline", 1, "from", "0/1", "timeline", 1, "to", "0/2", "cause",
                    "slot lost"));
    enter(vault, signing, HF_LOG_POLICY, json_pack("{s:s, s:s}", "subject", "retention", "id", id),
          json_pack("{s:i}", "daily", 7));
    const struct hf_session_options options = {
        .source = "clinic", .operation = "backup", .signing = signing, .cache_folder = made->vault.cache, .workers = 2};
    hf_assert_ok(hf_session_begin(vault, &options, &session, &err), &err);
    hf_session_abort(&session, "tested");
    const struct hf_vault_state *log;
    char hash[2 * HF_SHA256_BYTES + 1];
    hf_assert_ok(hf_vault_read(vault, NULL, NULL, &log, &err), &err);
    hf_hex_format(log->head_hash, HF_SHA256_BYTES, hash);
    enter(vault, signing, HF_LOG_CHECKPOINT, json_pack("{s:I, s:s}", "sequence", (json_int_t)log->head, "head", hash),
          NULL);
}

/* Further slots and a second signer, and the house with a record of its own. */
static void
furnish(struct reference *made)
{
    struct hf_error err;
    struct hf_slot_info info;
    struct hf_vault *house;
    char text[HF_ID_TEXT_BYTES];
    struct hf_repository *repository = made->vault.repository;
    const struct hf_secret *root_key = hf_repository_root_key(repository);
    _cleanup_(hf_credential_done) struct hf_credential passphrase = {.kind = HF_SLOT_PASSPHRASE};
    struct hf_credential recipient = {.kind = HF_SLOT_RECIPIENT};
    uint8_t secret[32], second_secret[64];
    struct hf_signing second = made->vault.signing;
    made->house = hf_repository_id(repository);
    hf_assert_ok(hf_secret_copy(&passphrase.passphrase, "battery staple", 14, &err), &err);
    crypto_box_keypair(recipient.recipient, secret);
    const struct hf_slot_options least = {.name = "safe", .argon2_operations = 1, .argon2_memory_bytes = 8192};
    const struct hf_slot_options escrow = {.name = "escrow"};
    struct hf_backend *backend = hf_repository_backend(repository);
    hf_assert_ok(hf_slot_add(backend, &made->house, &passphrase, &least, root_key, 1, &info, &err), &err);
    hf_assert_ok(hf_slot_add(backend, &made->house, &recipient, &escrow, root_key, 2, &info, &err), &err);

    struct hf_root_bundle bundle = *hf_repository_signers(repository);
    crypto_sign_keypair(second.public_key, second_secret);
    second.appliance = hf_id_new();
    hf_assert_ok(hf_root_bundle_add_signer(backend, &made->house, root_key, &bundle, &second, &made->vault.signing,
                                           "second", 3, &err),
                 &err);
    hf_assert_ok(hf_repository_reload_signers(repository, &err), &err);
    const struct hf_vault_new how = {.engine = "house",
                                     .identity = hf_id_format(&made->house, text),
                                     .name = "house",
                                     .signer = &made->vault.signing,
                                     .now = 4};
    hf_assert_ok(hf_vault_create(repository, &how, &house, &err), &err);
    enter(house, &made->vault.signing, HF_LOG_POLICY,
          json_pack("{s:s, s:s}", "subject", "account", "id", "0123456789abcdef0123456789abcdef"),
          json_pack("{s:s}", "name", "nurse"));
    hf_vault_freep(&house);
}

static bool
add_object(void *context, const struct hf_object_info *info, struct hf_error *err)
{
    struct reference *made = context;
    assert_true(made->object_count < OBJECTS_MOST);
    struct object *object = &made->objects[made->object_count++];
    const char *log = strstr(info->name, "/log/"), *packs = strstr(info->name, "/packs/");
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    snprintf(object->name, sizeof object->name, "%s", info->name);
    object->kind = strcmp(info->name, HF_SUPERBLOCK_NAME) == 0  ? SUPERBLOCK
                   : strncmp(info->name, "keys/slot-", 10) == 0 ? SLOT
                   : strncmp(info->name, "keys/root-", 10) == 0 ? ROOT_BUNDLE
                   : log != NULL                                ? ENTRY
                   : packs != NULL                              ? PACK
                                                                : VAULT_BUNDLE;
    if (strncmp(info->name, "vaults/", 7) == 0) {
        char text[HF_ID_TEXT_BYTES] = "";
        memcpy(text, info->name + 7, 2 * HF_ID_BYTES);
        hf_assert_ok(hf_id_parse(text, &object->vault, err), err);
    }
    if (log != NULL)
        object->sequence = strtoul(log + 5, NULL, 16);
    if (packs != NULL)
        hf_assert_ok(hf_id_parse(strrchr(info->name, '/') + 1, &object->pack, err), err);
    hf_assert_ok(hf_backend_get(hf_repository_backend(made->vault.repository), info->name, &bytes, err), err);
    object->length = bytes.length;
    object->bytes = malloc(bytes.length);
    assert_non_null(object->bytes);
    memcpy(object->bytes, bytes.data, bytes.length);
    return true;
}

/* Where the parts of a pack begin and end. */
static void
find_borders(struct reference *made, struct object *object)
{
    struct hf_error err;
    _cleanup_(hf_freep) struct hf_slab_info *slabs = NULL;
    _cleanup_(hf_pack_reader_freep) struct hf_pack_reader *packs = NULL;
    size_t count;
    hf_assert_ok(hf_vault_pack_reader(made->vault.vault, &packs, &err), &err);
    hf_assert_ok(hf_pack_reader_slabs(packs, &object->pack, &slabs, &count, &err), &err);
    object->borders[object->border_count++] = HF_PACK_HEADER;
    for (size_t i = 0; i < count && object->border_count < HF_LENGTH(object->borders) - 4; i++)
        object->borders[object->border_count++] = (size_t)slabs[i].offset;
    object->borders[object->border_count++] = (size_t)hf_get_u64(object->bytes + object->length - 56); // the directory
    object->borders[object->border_count++] = object->length - HF_PACK_TRAILER;
}

/* What opens a repository that stays: the credential's key, and the ids. */
struct opener {
    uint8_t key[HF_KEY_BYTES];
    struct hf_id vault, backups[BACKUPS];
};

/* The repository of an earlier run; false: there is none yet, and one was begun. */
static bool
take_up(struct reference *made)
{
    struct hf_error err;
    struct opener opener;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(sizeof opener);
    char path[600];
    made->folder = getenv("CAMPAIGN_SECONDS") != NULL ? getenv("CORRUPTION_FOLDER") : NULL;
    if (made->folder != NULL) {
        snprintf(path, sizeof path, "%s/opener", made->folder);
        if (hf_file_read(path, &bytes, &err)) {
            assert_int_equal(bytes.length, sizeof opener);
            memcpy(&opener, bytes.data, sizeof opener);
            snprintf(made->vault.place, sizeof made->vault.place, "%s/repository", made->folder);
            made->vault.credential.kind = HF_SLOT_KEY_FILE;
            hf_assert_ok(hf_secret_copy(&made->vault.credential.key, opener.key, HF_KEY_BYTES, &err), &err);
            made->vault.id = opener.vault;
            memcpy(made->backups, opener.backups, sizeof made->backups);
            test_vault_reopen(&made->vault);
            made->house = hf_repository_id(made->vault.repository);
            return true;
        }
        assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    }
    test_vault_make(&made->vault, made->folder != NULL ? made->folder : hf_test_folder());
    return false;
}

static void
put_down(const struct reference *made)
{
    struct hf_error err;
    struct opener opener = {.vault = made->vault.id};
    char path[600];
    if (made->folder == NULL)
        return;
    memcpy(opener.key, made->vault.credential.key.bytes, HF_KEY_BYTES);
    memcpy(opener.backups, made->backups, sizeof opener.backups);
    snprintf(path, sizeof path, "%s/opener", made->folder);
    hf_assert_ok(hf_file_publish(path, &opener, sizeof opener, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
}

/* *ret_begun false: it has not begun. */
static struct progress
read_progress(const struct reference *made, unsigned number, bool *ret_begun)
{
    struct hf_error err;
    struct progress progress = {0};
    char path[600];
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(sizeof progress);
    *ret_begun = false;
    if (made->folder == NULL)
        return progress;
    snprintf(path, sizeof path, "%s/progress-%u", made->folder, number);
    *ret_begun = hf_file_read(path, &bytes, &err);
    if (!*ret_begun) {
        assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
        return progress;
    }
    assert_int_equal(bytes.length, sizeof progress);
    memcpy(&progress, bytes.data, sizeof progress);
    return progress;
}

static void
write_progress(const struct reference *made, unsigned number, const struct progress *progress)
{
    struct hf_error err;
    char path[600];
    if (made->folder == NULL)
        return;
    snprintf(path, sizeof path, "%s/progress-%u", made->folder, number);
    hf_assert_ok(hf_file_publish(path, progress, sizeof *progress, 0600, HF_PUBLISH_REPLACE, &err), &err);
}

static struct reference *
make_reference(void)
{
    struct hf_error err;
    size_t bytes = 0, of_kind[KINDS] = {0};
    struct reference *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->totals = mmap(NULL, sizeof *made->totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(made->totals != MAP_FAILED);
    if (!take_up(made)) {
        for (unsigned i = 0; i < BACKUPS; i++)
            back_up(made, i);
        furnish(made);
        enter_all_kinds(made);
        put_down(made);
    }
    hf_assert_ok(hf_backend_list(hf_repository_backend(made->vault.repository), "", add_object, made, &err), &err);
    for (size_t i = 0; i < made->object_count; i++) {
        bytes += made->objects[i].length;
        of_kind[made->objects[i].kind]++;
        if (made->objects[i].kind == PACK)
            find_borders(made, &made->objects[i]);
    }
    for (size_t i = 0; i < KINDS; i++)
        assert_true(of_kind[i] > 0);
    print_message("# %zu objects of %zu bytes: %zu packs, %zu log entries, %zu slots, %zu bundles\n",
                  made->object_count, bytes, of_kind[PACK], of_kind[ENTRY], of_kind[SLOT],
                  of_kind[ROOT_BUNDLE] + of_kind[VAULT_BUNDLE]);
    assert_true(bytes >= LEAST_BYTES);
    return made;
}

static void
reference_free(struct reference *made)
{
    for (size_t i = 0; i < made->object_count; i++)
        free(made->objects[i].bytes);
    test_vault_done(&made->vault);
    munmap(made->totals, sizeof *made->totals);
    free(made);
}

/* ------------------------------------------------------------------------------------------ doing harm */

static void
write_object(const struct victim *victim, const struct object *object, const uint8_t *bytes, size_t length)
{
    char path[900];
    snprintf(path, sizeof path, "%s/%s", victim->place, object->name);
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, 0), (ssize_t)length);
}

static void
open_victim(struct victim *victim, const struct reference *made, unsigned number)
{
    struct hf_error err;
    struct hf_slot_info slot;
    const struct hf_vault_state *log;
    char command[2400];
    *victim = (struct victim){.reference = made};
    snprintf(victim->place, sizeof victim->place, "%s-%u", made->vault.place, number);
    snprintf(command, sizeof command, "rm -rf '%s'", victim->place); // of a run that was killed
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "cp -a '%s' '%s' && chmod -R u+w '%s'", made->vault.place, victim->place,
             victim->place);
    assert_int_equal(system(command), 0);
    hf_assert_ok(hf_repository_open(victim->place, HF_ACCESS_READ, &victim->repository, &err), &err);
    hf_assert_ok(hf_repository_unlock(victim->repository, &made->vault.credential, &slot, &err), &err);
    hf_assert_ok(hf_vault_open(victim->repository, &made->vault.id, &victim->vault, &err), &err);
    hf_assert_ok(hf_vault_read(victim->vault, NULL, NULL, &log, &err), &err);
    hf_assert_ok(hf_vault_open(victim->repository, &made->house, &victim->house_vault, &err), &err);
}

/* ------------------------------------------------------------------------------------------ looking for it */

static bool
names(const struct object *object, const char *message)
{
    char text[HF_ID_TEXT_BYTES], entry[128];
    if (object->kind == SUPERBLOCK)
        return strstr(message, "superblock of") != NULL;
    if (object->kind != ENTRY)
        return strstr(message, object->kind == PACK ? hf_id_format(&object->pack, text) : object->name) != NULL;
    snprintf(entry, sizeof entry, "log entry %lu of vault \"%s\"", object->sequence,
             hf_id_format(&object->vault, text));
    return strstr(message, entry) != NULL;
}

static void
take(void *context, const struct hf_damage *damage)
{
    struct verdict *verdict = context;
    if (verdict->damages++ == 0)
        snprintf(verdict->first, sizeof verdict->first, "%s", damage->message);
    const bool right = verdict->object->kind == PACK ? hf_id_equal(&damage->pack, &verdict->object->pack)
                                                     : names(verdict->object, damage->message);
    verdict->others += !right;
}

/* As the reader of a log does, when it has come to this entry: the entries before it need not be read each time. */
static bool
open_entry(struct victim *victim, const struct object *object, struct hf_error *err)
{
    const struct reference *made = victim->reference;
    struct hf_vault *vault = hf_id_equal(&object->vault, &made->house) ? victim->house_vault : victim->vault;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    _cleanup_(hf_log_entry_done) struct hf_log_entry entry = {0};
    struct hf_log_position before = {.sequence = object->sequence - 1};
    const struct hf_vault_log_options options = {.backend = hf_vault_backend(vault),
                                                 .repository = made->house,
                                                 .vault = object->vault,
                                                 .record_key = &hf_vault_keys(vault)->record_key,
                                                 .signers = hf_repository_signers(victim->repository)};
    if (object->sequence > 1) // they come sorted by name
        hf_sha256((object - 1)->bytes, (object - 1)->length, before.hash);
    return hf_backend_get(options.backend, object->name, &bytes, err) &&
           hf_log_entry_open(&options, &before, bytes.data, bytes.length, &entry, err);
}

/* Looks at the object alone, as far as that goes, with whatever looks at it before it is used. */
static struct verdict
look(struct victim *victim, const struct object *object)
{
    struct verdict verdict = {.object = object};
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_vault_state *log;
    const bool of_vault = object->kind == VAULT_BUNDLE;
    struct hf_check_options options = {.level = 2,
                                       .vault = of_vault ? &object->vault : &victim->reference->house,
                                       .packs = &object->pack,
                                       .pack_count = object->kind == PACK,
                                       .no_walk = object->kind == PACK,
                                       .workers = 1,
                                       .damage = take,
                                       .context = &verdict};
    bool ok;
    if (object->kind == ENTRY && ++victim->looks_at_entries % WHOLE_LOG_EACH != 0) {
        ok = open_entry(victim, object, &err);
    } else if (object->kind == ENTRY) {
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        ok = hf_vault_open(victim->repository, &object->vault, &vault, &err) &&
             hf_vault_read(vault, NULL, NULL, &log, &err);
    } else if (object->kind == PACK) {
        ok = hf_vault_check(victim->vault, &options, &report, &err);
    } else {
        ok = hf_repository_check(victim->repository, &options, &report, &err);
    }
    if (!ok && verdict.damages++ == 0) {
        snprintf(verdict.first, sizeof verdict.first, "%s", err.message);
        verdict.others += !names(object, err.message);
    }
    return verdict;
}

static void
judge(struct victim *victim, const struct object *object, const char *what, size_t at, unsigned bit)
{
    struct totals *totals = victim->reference->totals;
    const struct verdict verdict = look(victim, object);
    if (verdict.damages > 0 && verdict.others == 0)
        return;
    if (atomic_fetch_add(verdict.damages == 0 ? &totals->missed : &totals->misnamed, 1) == 0 &&
        totals->first[0] == '\0')
        snprintf(totals->first, sizeof totals->first, "%s %s, %s %zu bit %u: %s", kind_names[object->kind],
                 object->name, what, at, bit, verdict.damages == 0 ? "not found" : verdict.first);
}

/* A reader either fails or gets the bytes that were backed up. */
static void
meet(struct victim *victim, const struct object *object, size_t at, unsigned bit)
{
    const struct reference *made = victim->reference;
    struct hf_error err;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(HF_MIB);
    static uint8_t expected[SHARED_PAGES * PAGE];
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    for (unsigned i = 0; i < BACKUPS; i++) {
        _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
        char path[32];
        snprintf(path, sizeof path, "base/5/2%03u", i);
        atomic_fetch_add(&made->totals->reads, 1);
        fill(expected, OWN_PAGES * PAGE - 1234, i + 1);
        if (!hf_backup_open(victim->vault, &made->backups[i], &backup, &err) ||
            !hf_backup_read_file(backup, worker, path, &content, &err)) {
            if (names(object, err.message))
                continue;
        } else if (content.length == OWN_PAGES * PAGE - 1234 && memcmp(content.data, expected, content.length) == 0) {
            continue;
        }
        atomic_fetch_add(&made->totals->misnamed, 1);
        snprintf(made->totals->first, sizeof made->totals->first, "%s byte %zu bit %u met a reader: %s", object->name,
                 at, bit, err.message);
    }
}

/* ------------------------------------------------------------------------------------------ every bit */

static bool
is_header(const struct object *object, size_t at)
{
    if (object->kind != PACK)
        return at < 160;
    if (at < HF_PACK_HEADER || at >= object->length - HF_PACK_TRAILER)
        return true;
    for (size_t i = 0; i < object->border_count; i++)
        if (at >= object->borders[i] && at < object->borders[i] + HF_SLAB_HEADER)
            return true;
    return false;
}

/* All bits, or one; all of a header's where it is the first or second object of its kind. */
static unsigned
bits_of(const struct object *object, size_t ordinal, size_t at, bool all)
{
    const bool header = is_header(object, at);
    if (all || (ordinal < 2 && header))
        return 0xff;
    if (object->kind == PACK && !header && (at / WORKERS + ordinal) % 4 != 0)
        return 0;
    return 1u << (at * 7 + ordinal + object->length) % 8;
}

static void
flip_all(struct victim *victim, unsigned number, bool all, uint64_t until_ns, struct progress *progress)
{
    const struct reference *made = victim->reference;
    size_t ordinals[KINDS] = {0};
    uint64_t written_ns = hf_monotonic_ns();
    for (size_t i = 0; i < made->object_count; i++) {
        const struct object *object = &made->objects[i];
        const size_t ordinal = ordinals[object->kind]++;
        char path[900];
        if (i < progress->object)
            continue;
        const size_t from = i == progress->object && progress->at > number ? progress->at : number;
        snprintf(path, sizeof path, "%s/%s", victim->place, object->name);
        _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t at = from; at < object->length; at += WORKERS) {
            const unsigned bits = bits_of(object, ordinal, at, all);
            const uint64_t now = hf_monotonic_ns();
            progress->object = i;
            progress->at = at;
            if (until_ns != 0 && now >= until_ns)
                return;
            if (now - written_ns > UINT64_C(1000000000)) {
                write_progress(made, number, progress);
                written_ns = now;
            }
            for (unsigned bit = 0; bit < 8; bit++) {
                if ((bits >> bit & 1) == 0)
                    continue;
                const uint8_t altered = object->bytes[at] ^ (uint8_t)(1 << bit);
                assert_int_equal(pwrite(fd, &altered, 1, (off_t)at), 1);
                judge(victim, object, "byte", at, bit);
                if (object->kind == PACK && ++victim->flips_of_packs % READ_EACH == 0)
                    meet(victim, object, at, bit);
                progress->flips[object->kind]++;
            }
            assert_int_equal(pwrite(fd, &object->bytes[at], 1, (off_t)at), 1);
            progress->missed = made->totals->missed; // by all processes: either is a failure
            progress->misnamed = made->totals->misnamed;
        }
    }
    progress->object = made->object_count;
}

/* ------------------------------------------------------------------------------------------ every length */

static void
cut(struct victim *victim, const struct object *object, size_t length)
{
    write_object(victim, object, object->bytes, length);
    judge(victim, object, "cut to", length, 0);
    atomic_fetch_add(&victim->reference->totals->cuts, 1);
}

static void
cut_all(struct victim *victim, unsigned number)
{
    const struct reference *made = victim->reference;
    static const size_t extensions[] = {1, 8, 4096};
    for (size_t i = number; i < made->object_count; i += WORKERS) {
        const struct object *object = &made->objects[i];
        _cleanup_(hf_freep) uint8_t *longer = calloc(1, object->length + 4096);
        assert_non_null(longer);
        for (size_t length = 0; length < object->length; length += object->kind == PACK ? CUT_EACH : 1)
            cut(victim, object, length);
        for (size_t n = 0; n < object->border_count; n++)
            for (int off = -1; off <= 1; off++)
                cut(victim, object, object->borders[n] + (size_t)off);
        cut(victim, object, object->length - 1);
        memcpy(longer, object->bytes, object->length);
        for (size_t n = 0; n < 2 * HF_LENGTH(extensions); n++) {
            memset(longer + object->length, n % 2 == 0 ? 0 : 'x', 4096);
            write_object(victim, object, longer, object->length + extensions[n / 2]);
            judge(victim, object, "longer by", extensions[n / 2], 0);
            atomic_fetch_add(&made->totals->extensions, 1);
        }
        write_object(victim, object, object->bytes, object->length);
    }
}

/* ------------------------------------------------------------------------------------------ every place */

/* Each in the place of every other, newer for older and older for newer, of its own kind and of others. */
static void
swap_all(struct victim *victim, unsigned number)
{
    const struct reference *made = victim->reference;
    for (size_t i = 0; i < made->object_count; i++)
        for (size_t n = i + 1 + number; n < made->object_count; n += WORKERS) {
            const struct object *a = &made->objects[i], *b = &made->objects[n];
            write_object(victim, a, b->bytes, b->length);
            judge(victim, a, "instead of it object", n, 0);
            write_object(victim, a, a->bytes, a->length);
            write_object(victim, b, a->bytes, a->length);
            judge(victim, b, "instead of it object", i, 0);
            write_object(victim, b, b->bytes, b->length);
            atomic_fetch_add(&made->totals->swaps, 1);
        }
}

/* What is gone is named; the last entry of a log is missed by whoever has seen it (rollback). */
static void
remove_all(struct victim *victim, unsigned number)
{
    const struct reference *made = victim->reference;
    for (size_t i = number; i < made->object_count; i += WORKERS) {
        const struct object *object = &made->objects[i];
        char path[900];
        if (object->kind != PACK && object->kind != ENTRY)
            continue; // that a slot or a bundle was there nothing else tells yet
        snprintf(path, sizeof path, "%s/%s", victim->place, object->name);
        assert_int_equal(unlink(path), 0);
        const bool last = object->kind == ENTRY && (i + 1 == made->object_count || made->objects[i + 1].kind != ENTRY ||
                                                    !hf_id_equal(&made->objects[i + 1].vault, &object->vault));
        if (last) {
            struct hf_error err;
            _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
            const struct hf_vault_state *log;
            uint8_t hash[HF_SHA256_BYTES];
            hf_sha256(object->bytes, object->length, hash);
            hf_assert_ok(hf_vault_open(victim->repository, &object->vault, &vault, &err), &err);
            hf_assert_ok(hf_vault_read(vault, NULL, NULL, &log, &err), &err);
            assert_false(hf_vault_log_check_head(hf_vault_get_log(vault), object->sequence, hash, &err));
        } else {
            victim->looks_at_entries = WHOLE_LOG_EACH - 1; // a hole is seen by who reads all of it
            judge(victim, object, "removed", 0, 0);
        }
        write_object(victim, object, object->bytes, object->length);
        atomic_fetch_add(&made->totals->removals, 1);
    }
}

/* ------------------------------------------------------------------------------------------ all of it */

static void
work(const struct reference *made, unsigned number, bool all, uint64_t until_ns)
{
    struct victim victim;
    bool begun;
    struct progress progress = read_progress(made, number, &begun);
    open_victim(&victim, made, number);
    for (size_t i = 0; i < made->object_count; i++) // no false alarms
        assert_int_equal(look(&victim, &made->objects[i]).damages, 0);
    if (!begun) {
        remove_all(&victim, number);
        cut_all(&victim, number);
        swap_all(&victim, number);
    }
    flip_all(&victim, number, all, until_ns, &progress);
    write_progress(made, number, &progress);
    for (size_t i = 0; i < KINDS; i++)
        atomic_fetch_add(&made->totals->flips[i], progress.flips[i]);
    if (progress.missed > made->totals->missed || progress.misnamed > made->totals->misnamed)
        atomic_fetch_add(&made->totals->missed, 1); // by an earlier run
    for (size_t i = 0; i < made->object_count; i++)
        assert_int_equal(look(&victim, &made->objects[i]).damages, 0);
    hf_vault_freep(&victim.vault);
    hf_vault_freep(&victim.house_vault);
    hf_repository_freep(&victim.repository);
}

HF_TEST(every_bit_every_length_and_every_place_of_every_object_is_judged_rightly)
{
    const char *seconds = getenv("CAMPAIGN_SECONDS");
    const uint64_t until_ns =
        seconds != NULL ? hf_monotonic_ns() + strtoull(seconds, NULL, 10) * UINT64_C(1000000000) : 0;
    struct reference *made = make_reference();
    pid_t children[WORKERS];
    uint64_t flips = 0, bits = 0;
    fflush(NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            work(made, i, seconds != NULL, until_ns);
            _exit(0);
        }
    }
    bool ended_well = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        ended_well = ended_well && status == 0;
    }
    const struct totals *totals = made->totals;
    for (size_t i = 0; i < KINDS; i++)
        flips += totals->flips[i];
    for (size_t i = 0; i < made->object_count; i++)
        bits += 8 * made->objects[i].length;
    print_message("# %llu of %llu bits flipped one by one", (unsigned long long)flips, (unsigned long long)bits);
    for (size_t i = 0; i < KINDS; i++)
        print_message("%s%llu: %s", i == 0 ? ": " : ", ", (unsigned long long)totals->flips[i], kind_names[i]);
    print_message("\n# %llu truncations, %llu extensions, %llu swaps, %llu removals, %llu reads of what was flipped\n",
                  (unsigned long long)totals->cuts, (unsigned long long)totals->extensions,
                  (unsigned long long)totals->swaps, (unsigned long long)totals->removals,
                  (unsigned long long)totals->reads);
    print_message("# not found: %llu, found under another name: %llu%s%s\n", (unsigned long long)totals->missed,
                  (unsigned long long)totals->misnamed, totals->first[0] != '\0' ? "; first: " : "", totals->first);
    assert_int_equal(totals->missed, 0);
    assert_int_equal(totals->misnamed, 0);
    assert_true(ended_well);
    reference_free(made);
}

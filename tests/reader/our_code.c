/*
 * our_code write REPOSITORY KEY-FILE CACHE TREE...
 * our_code check REPOSITORY KEY-FILE
 * our_code log REPOSITORY KEY-FILE
 * our_code collect REPOSITORY KEY-FILE CACHE BACKUP...
 *
 * Our side of the comparison with the second reader, for test_second_reader.py (tests/reader/README.md).
 * "write" makes the repository and its key file when they are not there, then one backup of each folder, and prints
 * the backups' ids, one a line; a name that ends with "+abort" is written and then aborted.  "check" lists the
 * backups that count, checks all (level 2) and prints each damage; its exit status is 3 when there was one.  "log"
 * prints each entry of each vault: sequence, kind, and whether it counts.  "collect" prunes the backups named, moves
 * whatever is not wholly live into containers, and prints how many packs it moved.
 */
#include <fcntl.h>
#include <fts.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "server/repository/session.h"

#define LINEAGE_ENGINE   "postgres"
#define LINEAGE_IDENTITY "7000000000000000001"
#define ABORT_SUFFIX     "+abort"
#define SPAN_BYTES       (100 * HF_KIB + 77) // what is handed over at a time: no multiple of any page

/* A signer that lives in this file: its key comes from a fixed seed, so that a second run is the same appliance. */
struct signer {
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    struct hf_signing signing;
};

static int run_write(char **arguments, int count, struct hf_error *err);
static int run_check(char **arguments, struct hf_error *err);
static int run_collect(char **arguments, int count, struct hf_error *err);
static int run_log(char **arguments, struct hf_error *err);
static hf_log_visitor print_entry;
static bool read_slots(struct hf_repository *repository, struct hf_error *err);
static bool list_backups(struct hf_repository *repository, struct hf_error *err);
static void print_damage(void *context, const struct hf_damage *damage);
static bool signer_init(struct signer *signer, struct hf_error *err);
static bool sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
                 struct hf_error *err);
static bool open_repository(const char *place, const char *key_file, const struct signer *signer,
                            struct hf_repository **ret, struct hf_error *err);
static bool unlock_repository(const char *place, const char *key_file, enum hf_access how, struct hf_repository **ret,
                              struct hf_error *err);
static bool open_vault(struct hf_repository *repository, const struct signer *signer, struct hf_vault **ret,
                       struct hf_error *err);
static bool back_up(struct hf_vault *vault, const struct signer *signer, const char *cache, const char *tree,
                    struct hf_error *err);
static bool put_tree(struct hf_session *session, const char *tree, struct hf_error *err);
static bool put_entry(struct hf_session *session, const FTSENT *entry, const char *path, struct hf_error *err);
static bool put_file(struct hf_session *session, const FTSENT *entry, const char *path, struct hf_error *err);
static uint8_t page_log2_of(const char *path);
static void fts_closep(FTS **walk);

int
main(int argc, char **argv)
{
    struct hf_error err;
    int status;
    if (!hf_secrets_setup(&err))
        status = 1;
    else if (argc >= 6 && strcmp(argv[1], "write") == 0)
        status = run_write(argv + 2, argc - 2, &err);
    else if (argc == 4 && strcmp(argv[1], "check") == 0)
        status = run_check(argv + 2, &err);
    else if (argc >= 5 && strcmp(argv[1], "collect") == 0)
        status = run_collect(argv + 2, argc - 2, &err);
    else if (argc == 4 && strcmp(argv[1], "log") == 0)
        status = run_log(argv + 2, &err);
    else
        return fprintf(stderr, "usage: our_code write REPOSITORY KEY-FILE CACHE TREE... | check REPOSITORY KEY-FILE | "
                               "log REPOSITORY KEY-FILE | collect REPOSITORY KEY-FILE CACHE BACKUP...\n"),
               2;
    if (status == 1)
        fprintf(stderr, "our_code: %s\n", err.message);
    return status;
}

static int
run_write(char **arguments, int count, struct hf_error *err)
{
    struct signer signer;
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    bool ok = signer_init(&signer, err) && open_repository(arguments[0], arguments[1], &signer, &repository, err) &&
              open_vault(repository, &signer, &vault, err);
    for (int i = 3; ok && i < count; i++)
        ok = back_up(vault, &signer, arguments[2], arguments[i], err);
    return ok ? 0 : 1;
}

static int
run_check(char **arguments, struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    const struct hf_check_options options = {.level = 2, .workers = 1, .damage = print_damage};
    struct hf_check_report report;
    if (!unlock_repository(arguments[0], arguments[1], HF_ACCESS_READ, &repository, err) ||
        !read_slots(repository, err) || !list_backups(repository, err) ||
        !hf_repository_check(repository, &options, &report, err))
        return 1;
    printf("damages %llu\n", (unsigned long long)report.damages);
    return report.damages == 0 ? 0 : 3;
}

static int
run_collect(char **arguments, int count, struct hf_error *err)
{
    struct signer signer;
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    bool ok = signer_init(&signer, err) && open_repository(arguments[0], arguments[1], &signer, &repository, err) &&
              open_vault(repository, &signer, &vault, err);
    for (int i = 3; ok && i < count; i++) {
        _cleanup_(hf_json_freep) json_t *part = json_pack("{s:[s], s:s}", "backups", arguments[i], "reason", "expired");
        const struct hf_log_append prune = {HF_LOG_PRUNE, hf_time_now_ms(), HF_LOG_EPOCH_NOW, part, NULL};
        ok = hf_vault_append(vault, &prune, &signer.signing, NULL, NULL, err);
    }
    const struct hf_collect_options options = {
        .signing = &signer.signing, .cache_folder = arguments[2], .now = hf_time_now_ms(), .live_percent = 100};
    struct hf_collect_report report = {0};
    if (!ok || !hf_vault_collect(vault, &options, &report, err))
        return 1;
    printf("moved %llu\n", (unsigned long long)report.moved);
    return 0;
}

static int
run_log(char **arguments, struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (!unlock_repository(arguments[0], arguments[1], HF_ACCESS_READ, &repository, err) ||
        !hf_repository_vaults(repository, &vaults, &count, err))
        return 1;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        const struct hf_vault_state *state;
        if (!hf_vault_open(repository, &vaults[i], &vault, err) ||
            !hf_vault_read(vault, print_entry, NULL, &state, err))
            return 1;
    }
    return 0;
}

static bool
print_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    (void)context;
    (void)err;
    printf("%llu %s %s\n", (unsigned long long)entry->sequence, hf_log_kind_name(entry->kind),
           entry->counts ? "counts" : "void");
    return true;
}

/* The check looks at vaults only: a damaged slot shows here. */
static bool
read_slots(struct hf_repository *repository, struct hf_error *err)
{
    struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_MOST];
    size_t count;
    return hf_slot_list(hf_repository_backend(repository), &id, slots, &count, err);
}

static bool
list_backups(struct hf_repository *repository, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (!hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        const struct hf_vault_state *state;
        char id[HF_ID_TEXT_BYTES];
        if (!hf_vault_open(repository, &vaults[i], &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err))
            return false;
        for (size_t b = 0; b < state->backup_count; b++)
            printf("backup %s%s\n", hf_id_format(&state->backups[b].backup, id),
                   state->backups[b].pruned ? " pruned" : "");
    }
    return true;
}

static void
print_damage(__attribute__((unused)) void *context, const struct hf_damage *damage)
{
    printf("damage %s %s\n", hf_damage_kind_name(damage->kind), damage->message);
}

static bool
signer_init(struct signer *signer, struct hf_error *err)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = "the appliance that tests write";
    *signer = (struct signer){.signing = {.context = signer, .sign = sign, .appliance = {"an appliance"}}};
    if (crypto_sign_seed_keypair(signer->signing.public_key, signer->secret, seed) != 0)
        return hf_fail(err, HF_ERR_USAGE, "could not make a signing key");
    return true;
}

static bool
sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
     struct hf_error *err)
{
    struct signer *signer = context;
    if (crypto_sign_detached(signature, NULL, bytes, length, signer->secret) != 0)
        return hf_fail(err, HF_ERR_USAGE, "could not sign");
    return true;
}

static bool
open_repository(const char *place, const char *key_file, const struct signer *signer, struct hf_repository **ret,
                struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential credential = {0};
    if (access(place, F_OK) == 0)
        return unlock_repository(place, key_file, HF_ACCESS_WRITE, ret, err);
    if (!hf_key_file_create(key_file, &credential, err))
        return false;
    const struct hf_repository_new how = {
        .credential = &credential,
        .slot = {.name = "server"},
        .signer = &signer->signing,
        .signer_name = "test",
        .now = hf_time_now_ms(),
    };
    return hf_repository_create(place, &how, ret, err);
}

static bool
unlock_repository(const char *place, const char *key_file, enum hf_access how, struct hf_repository **ret,
                  struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential credential = {0};
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    struct hf_slot_info slot;
    if (!hf_key_file_read(key_file, &credential, err) || !hf_repository_open(place, how, &repository, err) ||
        !hf_repository_unlock(repository, &credential, &slot, err))
        return false;
    *ret = HF_TAKE(repository);
    return true;
}

static bool
open_vault(struct hf_repository *repository, const struct signer *signer, struct hf_vault **ret, struct hf_error *err)
{
    struct hf_id id;
    bool found;
    if (!hf_vault_find(repository, LINEAGE_ENGINE, LINEAGE_IDENTITY, &found, &id, err))
        return false;
    if (found)
        return hf_vault_open(repository, &id, ret, err);
    const struct hf_vault_new how = {
        .engine = LINEAGE_ENGINE,
        .identity = LINEAGE_IDENTITY,
        .name = "trees",
        .signer = &signer->signing,
        .now = hf_time_now_ms(),
    };
    return hf_vault_create(repository, &how, ret, err);
}

static bool
back_up(struct hf_vault *vault, const struct signer *signer, const char *cache, const char *tree, struct hf_error *err)
{
    _cleanup_(hf_session_freep) struct hf_session *session = NULL;
    _cleanup_(hf_freep) char *folder = strdup(tree);
    _cleanup_(hf_json_freep) json_t *facts = json_pack("{s:s}", "engine", "postgres");
    const struct hf_session_options options = {
        .source = "trees",
        .operation = "backup",
        .signing = &signer->signing,
        .cache_folder = cache,
        .workers = 2,
        .prove_slabs = true,
    };
    if (folder == NULL || facts == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup");
    char *suffix = strstr(folder, ABORT_SUFFIX);
    if (suffix != NULL)
        *suffix = '\0';

    if (!hf_session_begin(vault, &options, &session, err) || !put_tree(session, folder, err))
        return false;
    if (suffix != NULL) {
        hf_session_abort(&session, "test");
        printf("aborted\n");
        return true;
    }
    struct hf_session_outcome outcome;
    char id[HF_ID_TEXT_BYTES];
    if (!hf_session_commit(&session, facts, &outcome, err))
        return false;
    printf("%s\n", hf_id_format(&outcome.backup, id));
    return true;
}

static bool
put_tree(struct hf_session *session, const char *tree, struct hf_error *err)
{
    char *const roots[] = {(char *)tree, NULL};
    _cleanup_(fts_closep) FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (walk == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not walk \"%s\"", tree);
    for (FTSENT *entry = fts_read(walk); entry != NULL; entry = fts_read(walk)) {
        const char *path = entry->fts_path + strlen(tree);
        if (!put_entry(session, entry, path + (*path == '/'), err))
            return false;
    }
    return true;
}

static bool
put_entry(struct hf_session *session, const FTSENT *entry, const char *path, struct hf_error *err)
{
    char target[HF_PATH_MOST + 1];
    ssize_t length;
    switch (entry->fts_info) {
    case FTS_D:
        return hf_session_folder(session, path, entry->fts_statp->st_mode & 07777, err);
    case FTS_DP:
        return true;
    case FTS_F:
        return put_file(session, entry, path, err);
    case FTS_SL:
    case FTS_SLNONE:
        length = readlink(entry->fts_accpath, target, sizeof target - 1);
        if (length < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read link \"%s\"", path);
        target[length] = '\0';
        return hf_session_link(session, path, target, err);
    default:
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is no file, folder or link", path);
    }
}

static bool
put_file(struct hf_session *session, const FTSENT *entry, const char *path, struct hf_error *err)
{
    static uint8_t span[SPAN_BYTES];
    const struct hf_session_file_info info = {
        .path = path,
        .kind = page_log2_of(path) == HF_PAGE_LOG2_MOST ? HF_FILE_OTHER : HF_FILE_RELATION,
        .page_log2 = page_log2_of(path),
        .mode = entry->fts_statp->st_mode & 07777,
        .modified_at = (int64_t)entry->fts_statp->st_mtim.tv_sec * 1000 + entry->fts_statp->st_mtim.tv_nsec / 1000000,
    };
    struct hf_session_file *file;
    _cleanup_(hf_closep) int fd = open(entry->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (!hf_session_file_begin(session, &info, &file, err))
        return false;
    for (;;) {
        ssize_t length = read(fd, span, sizeof span);
        if (length < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read \"%s\"", path);
        if (length == 0)
            return hf_session_file_end(&file, err);
        if (!hf_session_file_write(file, span, (size_t)length, err))
            return false;
    }
}

/* As the engines would have it: 8 KiB below base/, 16 and 4 KiB for tables by their ending, else 64 KiB. */
static uint8_t
page_log2_of(const char *path)
{
    size_t length = strlen(path);
    if (strncmp(path, "base/", 5) == 0)
        return 13;
    if (length > 4 && strcmp(path + length - 4, ".ibd") == 0)
        return 14;
    if (length > 4 && strcmp(path + length - 4, ".ibz") == 0)
        return 12;
    return HF_PAGE_LOG2_MOST;
}

static void
fts_closep(FTS **walk)
{
    if (*walk != NULL)
        fts_close(*walk);
}

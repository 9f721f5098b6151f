#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "server/repository/reader.h"
#include "tests/verify/planted.h"

/*
 * Damage in the store.  Two backups of one database are made once; each fault is planted in a copy of the repository,
 * found by the proof of the second backup, and healed by the third.
 */

static struct planted planted;
static bool begun;
static char pristine[600];
static struct hf_id first, second;
static struct hf_id first_data, second_data, second_map; // packs
static struct hf_verify_outcome outcome;

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE patients (id int PRIMARY KEY, note text)");
    hf_test_sql(conn, "INSERT INTO patients SELECT i, md5(i::text) FROM generate_series(1, 5000) i");
}

static void
copy_repository(const char *from, const char *to)
{
    struct hf_error err;
    char command[1400];
    hf_assert_ok(hf_dir_remove_tree(to, &err), &err);
    snprintf(command, sizeof command, "cp -a '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static struct hf_id
pack_of(const struct hf_id *backup, enum hf_pack_kind kind)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    hf_assert_ok(hf_vault_read(planted.vault.vault, NULL, NULL, &state, &err), &err);
    const struct hf_vault_backup *committed = hf_vault_state_backup(state, backup);
    for (size_t i = 0; i < state->pack_count; i++)
        if (state->packs[i].sequence == committed->sequence && state->packs[i].kind == kind)
            return state->packs[i].pack;
    fail_msg("the backup brought no such pack");
    return HF_ID_NONE;
}

static void
begin(void)
{
    if (!begun) {
        planted_begin(&planted, &(struct hf_test_cluster_options){.checksums = true}, fill);
        first = planted_backup(&planted);
        PGconn *conn = planted_start(&planted);
        hf_test_sql(conn, "UPDATE patients SET note = 'changed' WHERE id % 50 = 0");
        planted_stop(&planted, conn);
        second = planted_backup(&planted);
        first_data = pack_of(&first, HF_PACK_DATA);
        second_data = pack_of(&second, HF_PACK_DATA);
        second_map = pack_of(&second, HF_PACK_MAP);
        snprintf(pristine, sizeof pristine, "%s.pristine", planted.vault.place);
        copy_repository(planted.vault.place, pristine);
    }
    begun = true;
    copy_repository(pristine, planted.vault.place);
    test_vault_reopen(&planted.vault);
}

static const char *
path_of(const struct hf_id *pack)
{
    static char paths[2][700];
    static unsigned next;
    char name[HF_PACK_NAME_BYTES];
    const struct hf_id vault = hf_vault_id(planted.vault.vault);
    snprintf(paths[++next % 2], sizeof paths[0], "%s/%s", planted.vault.place, hf_pack_name(&vault, pack, name));
    return paths[next % 2];
}

static void
flip_byte(const char *path, uint64_t at)
{
    uint8_t byte;
    assert_int_equal(chmod(path, 0600), 0);
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x04;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

static uint64_t
size_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (uint64_t)status.st_size;
}

static uint64_t
directory_of(const struct hf_id *pack)
{
    uint8_t trailer[HF_PACK_TRAILER];
    const char *path = path_of(pack);
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, trailer, sizeof trailer, (off_t)(size_of(path) - sizeof trailer)), sizeof trailer);
    return hf_get_u64(trailer + 8);
}

/* A slab of this pack with a page of the table: what any restore of the second backup needs. */
static uint32_t
slab_in_use(const struct hf_id *pack, struct hf_slab_info *ret)
{
    struct hf_error err;
    struct hf_pack_directory *directory;
    struct hf_slab_worker *worker;
    struct hf_pack_reader *reader;
    uint32_t found = HF_DAMAGE_NO_SLAB;
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_vault_pack_reader(planted.vault.vault, &reader, &err), &err);
    hf_assert_ok(hf_pack_reader_directory(reader, worker, pack, &directory, &err), &err);
    for (uint32_t i = 0; i < directory->slab_count && found == HF_DAMAGE_NO_SLAB; i++)
        for (size_t run = directory->run_start[i]; run < directory->run_start[i + 1]; run++)
            for (size_t file = 0; file < directory->file_count; file++)
                if (directory->files[file].ordinal == directory->runs[run].file &&
                    strcmp(directory->files[file].path, "base/1/1255") == 0) { // never changes
                    found = i;
                    *ret = directory->slabs[i];
                }
    assert_true(found != HF_DAMAGE_NO_SLAB);
    hf_pack_directory_freep(&directory);
    hf_pack_reader_freep(&reader);
    hf_slab_worker_freep(&worker);
    return found;
}

static void
prove(const struct hf_id *backup)
{
    test_vault_reopen(&planted.vault);
    planted_verify(&planted, backup, NULL, &outcome);
}

/* The proof of the second backup fails for the store's sake, and names this pack (and slab). */
static void
assert_damaged(const struct hf_id *pack, uint32_t slab)
{
    char text[HF_ID_TEXT_BYTES];
    prove(&second);
    bool listed = false;
    for (size_t i = 0; i < outcome.damage_count; i++)
        listed = listed || (hf_id_equal(&outcome.damages[i].pack, pack) && outcome.damages[i].slab == slab);
    if (outcome.result != HF_ATTEMPT_FAILED || !outcome.store_damaged || !listed ||
        !planted_named(&outcome, hf_id_format(pack, text))) {
        planted_print(&outcome);
        fail_msg("pack \"%s\", slab %u is not told of as damaged", hf_id_format(pack, text), slab);
    }
}

/* The next backup, told of the damages, is proven; and what it stores has nothing to do with what is damaged. */
static void
assert_healed(void)
{
    const struct hf_verify_outcome damages = outcome;
    const struct hf_id third = planted_backup_heal(&planted, &damages);
    hf_verify_outcome_done(&outcome);
    prove(&third);
    if (outcome.result != HF_ATTEMPT_PASSED)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(both_backups_are_proven_while_nothing_is_damaged)
{
    begin();
    prove(&first);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
    prove(&second);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_flipped_byte_anywhere_in_a_pack_names_it)
{
    struct hf_slab_info slab;
    begin();
    const uint32_t number = slab_in_use(&first_data, &slab);
    const uint64_t directory = directory_of(&first_data);
    const struct {
        const char *where;
        uint64_t at;
        uint32_t slab;
    } places[] = {
        {"the magic of the pack", 3, HF_DAMAGE_NO_SLAB},
        {"the session in the header", 70, HF_DAMAGE_NO_SLAB},
        {"the reserved end of the header", 200, HF_DAMAGE_NO_SLAB},
        {"the header of a slab", slab.offset + 9, number},
        {"the bytes of a slab", slab.offset + HF_SLAB_HEADER + slab.sealed_length / 2, number},
        {"the tag of a slab", slab.offset + HF_SLAB_HEADER + slab.sealed_length + 3, number},
        {"the directory", directory + HF_SLAB_HEADER + 100, HF_DAMAGE_NO_SLAB},
        {"the trailer", size_of(path_of(&first_data)) - 20, HF_DAMAGE_NO_SLAB},
    };
    for (size_t i = 0; i < HF_LENGTH(places); i++) {
        print_message("# %s\n", places[i].where);
        flip_byte(path_of(&first_data), places[i].at);
        assert_damaged(&first_data, places[i].slab);
        assert_int_equal(outcome.damage_count, 1);
        hf_verify_outcome_done(&outcome);
        flip_byte(path_of(&first_data), places[i].at);
    }
}

HF_TEST(a_damaged_slab_is_healed_by_the_next_backup)
{
    struct hf_slab_info slab;
    begin();
    const uint32_t number = slab_in_use(&first_data, &slab);
    flip_byte(path_of(&first_data), slab.offset + HF_SLAB_HEADER + 7);
    assert_damaged(&first_data, number);
    assert_healed();
}

HF_TEST(two_damaged_slabs_are_found_in_one_go_and_healed)
{
    struct hf_slab_info slab;
    begin();
    const uint32_t number = slab_in_use(&first_data, &slab);
    flip_byte(path_of(&first_data), slab.offset + HF_SLAB_HEADER + 7);
    flip_byte(path_of(&first_data), HF_PACK_HEADER + HF_SLAB_HEADER + 7);
    assert_true(number > 0);
    assert_damaged(&first_data, number);
    assert_int_equal(outcome.damage_count, 2);
    assert_healed();
}

HF_TEST(a_pack_that_was_cut_off_is_named_and_healed)
{
    begin();
    const char *path = path_of(&first_data);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, (off_t)(size_of(path) - 1000)), 0);
    assert_damaged(&first_data, HF_DAMAGE_NO_SLAB);
    assert_healed();
}

HF_TEST(a_lost_pack_is_named_and_healed)
{
    begin();
    assert_int_equal(unlink(path_of(&first_data)), 0);
    assert_damaged(&first_data, HF_DAMAGE_NO_SLAB);
    assert_healed();
}

HF_TEST(the_lost_pack_with_the_log_of_a_backup_is_named_and_healed)
{
    begin(); // what the second backup brought: the WAL since, and the few pages that had changed
    assert_int_equal(unlink(path_of(&second_data)), 0);
    assert_damaged(&second_data, HF_DAMAGE_NO_SLAB);
    assert_healed();
}

HF_TEST(a_lost_map_pack_is_named_and_healed)
{
    begin();
    assert_int_equal(unlink(path_of(&second_map)), 0);
    assert_damaged(&second_map, HF_DAMAGE_NO_SLAB);
    assert_healed();
}

HF_TEST(two_packs_under_each_others_names_are_both_named_and_healed)
{
    char aside[720];
    begin();
    snprintf(aside, sizeof aside, "%s/aside", planted.vault.place);
    assert_int_equal(rename(path_of(&first_data), aside), 0);
    assert_int_equal(rename(path_of(&second_data), path_of(&first_data)), 0);
    assert_int_equal(rename(aside, path_of(&second_data)), 0);
    assert_damaged(&first_data, HF_DAMAGE_NO_SLAB);
    hf_verify_outcome_done(&outcome);
    assert_damaged(&second_data, HF_DAMAGE_NO_SLAB);
    assert_healed();
}

static void
log_entry(unsigned sequence, char path[static 700])
{
    char vault[HF_ID_TEXT_BYTES];
    const struct hf_id id = hf_vault_id(planted.vault.vault);
    snprintf(path, 700, "%s/vaults/%s/log/%016x", planted.vault.place, hf_id_format(&id, vault), sequence);
}

static void
assert_log_damaged(const char *naming)
{
    prove(&second);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    assert_true(outcome.store_damaged);
    if (!planted_named(&outcome, naming)) {
        planted_print(&outcome);
        fail_msg("\"%s\" is not named", naming);
    }
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_missing_entry_of_the_log_is_named)
{
    char path[700];
    begin();
    log_entry(3, path);
    assert_int_equal(unlink(path), 0);
    assert_log_damaged("log entry 3");
}

HF_TEST(an_entry_of_the_log_replaced_by_an_older_one_is_named)
{
    char older[700], newer[700], command[1500];
    begin();
    log_entry(2, older);
    log_entry(4, newer);
    snprintf(command, sizeof command, "cp -f '%s' '%s'", older, newer);
    assert_int_equal(system(command), 0);
    assert_log_damaged("log entry 4");
}

HF_TEST(a_log_whose_end_was_cut_off_is_noticed_by_whoever_saw_it)
{
    struct hf_error err;
    const struct hf_vault_state *known;
    uint8_t hash[HF_SHA256_BYTES];
    char path[700];
    begin();
    hf_assert_ok(hf_vault_read(planted.vault.vault, NULL, NULL, &known, &err), &err);
    const uint64_t head = hf_vault_log_head(hf_vault_get_log(planted.vault.vault), hash);
    log_entry((unsigned)head, path);
    assert_int_equal(unlink(path), 0);
    test_vault_reopen(&planted.vault);
    assert_false(hf_verify_run(planted.vault.vault, &second, &(struct hf_verify_options){0}, &outcome, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND); // the COMMIT is gone, and with it the backup
    hf_assert_ok(hf_vault_read(planted.vault.vault, NULL, NULL, &known, &err), &err);
    assert_false(hf_vault_log_check_head(hf_vault_get_log(planted.vault.vault), head, hash, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    planted_done(&planted);
}

/*
 * The power goes while backups are taken: the file system forgets at once what it had not yet put on the disk.
 * Afterwards every acknowledged backup is there, and the next one works.  CAMPAIGN_SECONDS makes it last longer
 * (campaigns/power-cut).
 */
#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "server/care/check.h"
#include "tests/fault/backup_loop.h"
#include "tests/support/disk.h"

#define MODEL_BYTES   (2 * HF_MIB)
#define DISK_BYTES    (192 * HF_MIB)
#define CUTS          5
#define ALIVE_MOST_US 400000
#define BACKUPS_MOST  120 // then a fresh disk: the old one would be full

static bool
start_disk(struct backup_loop *loop, const char *image, const char *disk, const char **why)
{
    if (!test_disk_make_ext4(image, DISK_BYTES, why) || !test_disk_mount_ext4(image, disk, why))
        return false;
    test_vault_make(loop->vault, disk);
    return true;
}

static void
stop_disk(struct backup_loop *loop, const char *image, const char *disk)
{
    test_vault_done(loop->vault);
    backup_loop_done(loop);
    test_disk_unmount(disk);
    unlink(image);
    loop->backups = NULL;
    loop->count = loop->room = loop->known = 0;
    loop->next_generation = 0;
}

HF_TEST(power_may_go_at_any_moment)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_check_report report;
    char image[128], disk[128];
    const char *folder = hf_test_folder(), *why;
    size_t cuts = 0, acknowledged = 0;
    const uint64_t end = hf_monotonic_ns() + backup_loop_seconds() * UINT64_C(1000000000);
    struct backup_loop loop = {
        .vault = &vault, .model_bytes = MODEL_BYTES, .disk_may_fail = true, .child = -1, .told = -1};
    snprintf(image, sizeof image, "%s/image", folder);
    snprintf(disk, sizeof disk, "%s/disk", folder);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (!start_disk(&loop, image, disk, &why))
        HF_TEST_SKIP(why);
    backup_loop_seed();

    while (cuts < CUTS || hf_monotonic_ns() < end) {
        if (loop.count > BACKUPS_MOST) {
            stop_disk(&loop, image, disk);
            assert_true(start_disk(&loop, image, disk, &why));
        }
        test_vault_close(&vault);
        backup_loop_start(&loop);
        usleep((useconds_t)(random() % ALIVE_MOST_US));
        if (!test_disk_cut_power(disk)) {
            backup_loop_kill(&loop);
            HF_TEST_SKIP("this kernel does not cut the power of ext4");
        }
        acknowledged += backup_loop_kill(&loop);
        cuts++;
        test_disk_unmount(disk);
        if (!test_disk_mount_ext4(image, disk, &why))
            fail_msg("after the power cut: %s", why);

        test_vault_reopen(&vault);
        backup_loop_assert(&loop, true, folder);
        backup_loop_go_on(&loop, folder);
        const struct hf_check_options check = {.level = 2, .workers = 2};
        hf_assert_ok(hf_repository_check(vault.repository, &check, &report, &err), &err);
        assert_int_equal(report.damages, 0);
    }
    print_message("# %zu cuts, %zu backups acknowledged before\n", cuts, acknowledged);
    stop_disk(&loop, image, disk);
}

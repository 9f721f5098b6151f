/*
 * disk.h - file systems of a test's own: one that is soon full, and one whose power can be cut
 *
 * They are mounted in a mount namespace of the test program alone, which the first call enters: whatever happens to
 * the program, nothing stays mounted.  All return false where the host does not let us mount: skip the test then.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Mounts a tmpfs of so many bytes at `folder`, which exists. */
bool test_disk_mount_small(const char *folder, size_t bytes);
void test_disk_resize(const char *folder, size_t bytes);

/* Makes an ext4 file system in file `image`, and mounts it over a loop device.  `why` says what is missing. */
bool test_disk_make_ext4(const char *image, size_t bytes, const char **why);
bool test_disk_mount_ext4(const char *image, const char *folder, const char **why);
/* From now on nothing reaches the device any more, not even what the journal holds in memory. */
bool test_disk_cut_power(const char *folder);

void test_disk_unmount(const char *folder);

/*
 * own_groups.h - control groups of version 1 in which only this test and what it starts are
 *
 * What is left in them is ours, and of no test beside us. In version 2 a group that hands its controllers on may have no
 * process, so that there is none of our own, and the group that we are in is the one to look into.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Enters them, once; without root nothing happens. They are left and removed when this process exits. */
void hf_test_enter_own_groups(void);

/* A sandbox's group, below those that we are in, whose launcher is gone; false when there is none. */
bool hf_test_find_left_group(char *path, size_t size);

/*
 * selftest.h - what the launcher runs inside a sandbox to see that the walls are there
 */
#pragma once

/*
 * Tries what must not work and writes one line each: `refused mount: Operation not permitted` or `ALLOWED mount`,
 * then `done 47`, the number of attempts.  Returns the number that were allowed, at most 100: its exit status.
 */
int hf_self_test(void);

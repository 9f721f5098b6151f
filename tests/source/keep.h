/* keep.h - memory of tests that lives until the program ends: threads may still look at it */
#pragma once
#include <stddef.h>

/* Zeros; never NULL. */
void *hf_test_keep(size_t size);

/*
 * fuzz.h - what a fuzz target is: one function that is fed bytes
 *
 * It asserts a property of the parser behind it (what parses survives a round trip), and aborts when
 * that does not hold.  It links with libFuzzer, or with replay.c, which feeds it the corpus as an
 * ordinary test.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * test.h - how a test file reads: HF_TEST(a_sentence_about_the_module) { ... }
 *
 * Tests register themselves; support/main.c runs them in the order of the file, as TAP.  Use the asserts of
 * cmocka; hf_assert_ok(call, &err) shows the error's message when a call fails that should not.
 * HF_TEST_SKIP("why") ends a test that this host cannot run: it counts as skipped, with its reason.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"

typedef void hf_test_function(void **state);
void hf_test_register(const char *name, hf_test_function *function);

#define HF_TEST(name)                                                                                                  \
    static void name(void **state);                                                                                    \
    __attribute__((constructor)) static void hf_register_##name(void)                                                  \
    {                                                                                                                  \
        hf_test_register(#name, name);                                                                                 \
    }                                                                                                                  \
    static void name(__attribute__((unused)) void **state)

#define HF_TEST_SKIP(why)                                                                                              \
    do {                                                                                                               \
        print_message("# skipped: %s\n", why);                                                                         \
        skip();                                                                                                        \
    } while (0)

#define hf_assert_ok(call, err)                                                                                        \
    do {                                                                                                               \
        if (!(call)) {                                                                                                 \
            print_message("# %s\n# hint: %s\n", (err)->message, (err)->hint);                                          \
            fail_msg("%s: %s", #call, (err)->message);                                                                 \
        }                                                                                                              \
    } while (0)

/* A fresh folder for one test, removed when the process ends; the text lives until then. */
const char *hf_test_folder(void);

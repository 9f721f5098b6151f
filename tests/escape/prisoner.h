/*
 * prisoner.h - tests/escape/inside.c as an engine of the sandbox
 */
#pragma once
#include "sandbox/sandbox.h"

/* Its settings: the arguments behind the program's name, ending with NULL. */
extern const struct hf_sandbox_engine hf_engine_prisoner;

/* Where the build has put the program. */
const char *hf_test_prisoner_program(void);

/* An empty folder that belongs to the sandbox's uid. */
const char *hf_test_prisoner_data(void);

/* A spec for it, with that folder as its data and small limits. */
struct hf_sandbox_spec hf_test_prisoner_spec(const char *const *arguments);

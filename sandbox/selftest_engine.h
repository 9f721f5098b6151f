/*
 * selftest_engine.h - the launcher itself as an engine, for hf_sandbox_probe()
 */
#pragma once
#include "sandbox/sandbox.h"

/* Its settings are the path of holdfast-sandbox. */
extern const struct hf_sandbox_engine hf_engine_selftest;

/*
 * log.h - one line an event, written by whoever decides what to do about it
 *
 * Lines go to stderr: "2026-11-22T14:03:07.123Z warning backup: could not ...".  Control bytes in a
 * message, and bytes that are not UTF-8, are shown as \xNN, so that no stranger's text can forge a line or drive a
 * terminal.
 */
#pragma once
#include "base/error.h"

enum hf_log_level { HF_LOG_ERROR, HF_LOG_WARNING, HF_LOG_INFO, HF_LOG_DEBUG };

/* The process's name in each line and the least important level shown; default "holdfast", INFO. */
void hf_log_setup(const char *process, enum hf_log_level level);

void hf_log_error(const struct hf_error *err, const char *format, ...) HF_PRINTF(2, 3);   // err may be NULL
void hf_log_warning(const struct hf_error *err, const char *format, ...) HF_PRINTF(2, 3); // adds message and hint
void hf_log_info(const char *format, ...) HF_PRINTF(1, 2);
void hf_log_debug(const char *format, ...) HF_PRINTF(1, 2);

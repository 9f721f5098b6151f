/*
 * ask.h - questions to the person at the terminal
 *
 * Without a terminal nobody is asked: the option that answers is named in the error.
 */
#pragma once
#include "base/secret.h"

/* One line, not empty; free() it.  USAGE without a terminal: `option` would have said it. */
HF_MUST_CHECK bool hf_ask_line(const char *question, const char *option, char **ret, struct hf_error *err);

/*
 * A new passphrase, twice and unseen.  Stays empty without a terminal, and when the person just presses Enter.
 * USAGE when both are not the same.
 */
HF_MUST_CHECK bool hf_ask_passphrase(const char *question, struct hf_secret *ret, size_t most, struct hf_error *err);
/* One that exists, once and unseen.  USAGE without a terminal: `option` would have said where it stands. */
HF_MUST_CHECK bool hf_ask_secret(const char *question, const char *option, struct hf_secret *ret, size_t most,
                                 struct hf_error *err);

/*
 * controls.h - what rules and auditors ask for, and what a monthly report shows of it
 *
 * The table is data: what each control wants, which of our facts speak to it, and what they do not show.  The last
 * column is as important as the others: no report of a backup tool fulfils a control, it is a piece of the evidence for
 * it.
 *
 *   shown       all that our facts can show of it is there
 *   partly      some of it is
 *   not_shown   our facts do not show it, this month or at all
 */
#pragma once
#include "server/report/words.h"

/* Adds "controls" to the model of a month. */
HF_MUST_CHECK bool hf_controls_judge(json_t *model, struct hf_error *err);

/*
 * pages.h - the pages of InnoDB's files, looked at while no server has them open
 */
#pragma once
#include "sandbox/engine_mariadb.h"
#include "server/verify/engine.h"

/*
 * Settles the check: every page of every file of InnoDB below attempt->data (ibdata, undo and .ibd), by the checksum
 * that the file's own flags announce.  Before the prepare step it tells
 * of the backup, after it of the copy: mariadb-backup reads a page until its checksum holds, so that both must.
 * Aria and MyISAM files have none that could be checked without their server; CHECK TABLE looks at them.
 */
HF_MUST_CHECK bool hf_mariadb_check_pages(struct hf_attempt *attempt, const struct hf_mariadb_layout *layout,
                                          struct hf_verify_check *check, struct hf_error *err);

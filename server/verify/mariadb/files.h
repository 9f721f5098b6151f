/*
 * files.h - what a MariaDB backup must have before its prepare step: looked at as names, before a server sees it
 */
#pragma once
#include "server/verify/engine.h"

/*
 * Settles "files_complete": the files that belong to no table are there, and no table lacks a part of itself.  A table
 * of InnoDB is name.frm with name.ibd (or name.new, made during the backup), of MyISAM with name.MYD and name.MYI, of
 * Aria with name.MAD and name.MAI; parts of partitioned tables stand behind "#P#".  Which engine a definition names is
 * its fourth byte; definitions of views are texts.
 */
HF_MUST_CHECK bool hf_mariadb_check_files(struct hf_attempt *attempt, struct hf_error *err);

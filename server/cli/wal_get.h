/*
 * wal_get.h - `holdfast wal-get %f %p`, for restore_command of a standby or of any server in recovery
 *
 * What the exit status makes the server do is a promise of its own:
 *     0          the file is there
 *     1          the archive ends before it: the server may take that for the end of the log, and promote
 *     126        anything else, also wrong words, no daemon, a gap: the server stops, and promotes never
 *     a signal   SIGTERM ends us as it would end any command: the server is shutting down
 *
 * Segments that come next are fetched in advance while the server replays, by a worker that stays
 * (server/job/log_socket.h).
 */
#pragma once
#include "server/cli/command.h"

#define HF_WAL_GET_WORDS  "wal-get"
#define HF_WAL_GET_BEYOND 1
#define HF_WAL_GET_FAILED 126

/* Whether these are the words of such a call, whatever else is wrong with them. */
bool hf_wal_get_is_meant(int argc, char **argv);
HF_MUST_CHECK bool hf_cli_wal_get(struct hf_cli *cli, json_t **ret, struct hf_error *err);

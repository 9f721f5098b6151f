/*
 * log_socket.h - asking the worker that serves a source's log
 *
 * `holdfast wal-get` is called for every segment of a recovery.  The first call of a source goes through the daemon, as
 * the job "log get"; behind it the daemon starts the job "log serve" (log_serve.h), a worker that holds the vault's
 * keys, reads the
 * archive ahead of whoever asks (log_ahead.h) and leaves when nobody has asked for HF_LOG_SERVE_IDLE_MS.  Further calls
 * reach it without the daemon.
 *
 * Sockets, beside the daemon's own, with the same mode and peers (peer.h):
 *
 *     <daemon's socket>-log-<FNV-1a of the source's name, 8 hex digits>
 *     <daemon's socket>-log        when the source is the only one that is streamed
 *
 * One connection, one request, one answer, in the words of wire.h, so that the daemon's answer to the same request
 * reads the
 * same.  The table of requests has one row:
 *
 *     {"command": "log get", "arguments": {"file": name, "to": absolute path, "prefetch": 0 to 64, "source": name}}
 *     {"event": "result", "exit": 0, "result": {"file": name, "found": bool, "whole": bool, "source": name}}
 *     {"event": "error", ...}
 *
 * "found" false: the archive ends before it.  "source" may be left out.  Whoever meets nobody there, or is left
 * without a
 * word (the worker leaves, was killed, or serves another source), asks the daemon.
 */
#pragma once
#include "server/job/lock.h"

#define HF_LOG_SERVE_IDLE_MS      30000
#define HF_LOG_SERVE_CLIENTS_MOST 16
#define HF_LOG_SERVE_REQUEST_MS   5000 // a client that has not asked by then is left

/*
 * The socket of a source's worker; NULL or "": of the only one.  False: its path would be too long, and there is
 * none.
 */
bool hf_log_socket(const char *daemon_socket, const char *source, char path[static HF_SOCKET_BYTES]);

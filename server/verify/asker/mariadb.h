/*
 * mariadb.h - for holdfast-ask alone: Connector/C, and a server that is hostile
 *
 * A packet, a row and an answer have limits, a statement has a time, and no file is ever sent to the server.
 */
#pragma once
#include <mysql.h>
#include "server/verify/asker/postgres.h"

#define HF_CONNECTOR_PACKET_MOST (16 * HF_MIB)

/* timeout_ms is for connecting and for every wait for an answer. */
HF_MUST_CHECK bool hf_connector_connect(const char *socket, uint64_t timeout_ms, MYSQL **ret,
                                        struct hf_ask_refusal *refusal);
HF_MUST_CHECK bool hf_connector_run(MYSQL *conn, const char *statement, hf_direct_row *row, void *context,
                                    struct hf_ask_refusal *refusal);

/*
 * proxy.h - a link to a cluster that goes bad when the test says so
 *
 * Listens on a socket of its own and hands bytes on in both directions.  Connections are numbered as they
 * come; what goes wrong is done to one of them.
 */
#pragma once
#include "tests/support/cluster.h"

enum hf_test_mishap {
    HF_TEST_MISHAP_NONE,
    HF_TEST_MISHAP_CUT,    // both ends are closed
    HF_TEST_MISHAP_SILENT, // nothing is handed on any more, nothing is closed
};

struct hf_test_proxy_options {
    enum hf_test_mishap mishap;
    unsigned connection;  // which one, from 0
    uint64_t after_bytes; // from the server
};

/* For the whole test program.  Returns the connection string; the proxy is remade by each call. */
const char *hf_test_proxy_start(const struct hf_test_cluster *cluster, const struct hf_test_proxy_options *options);

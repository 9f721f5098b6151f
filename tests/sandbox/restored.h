/*
 * restored.h - a copy of a real cluster, ready for the sandbox
 */
#pragma once
#include "tests/support/cluster.h"
#include "sandbox/engine_postgres.h"

/* Whom sandboxes of these tests are on the host; ourselves when we are not root. */
uid_t hf_test_sandbox_uid(void);
gid_t hf_test_sandbox_gid(void);

/* A copy of a stopped cluster's data directory in a fresh folder, prepared and given to the sandbox's uid. */
const char *hf_test_restore(const struct hf_test_cluster *cluster, bool standby);

/* The spec of a PostgreSQL sandbox over such a copy; settings must outlive the start. */
struct hf_sandbox_spec hf_test_postgres_spec(const char *data, const struct hf_postgres_settings *settings);

/* Started and taking connections, or the test fails and shows the log. */
struct hf_sandbox *hf_test_sandbox_start(const struct hf_sandbox_spec *spec);

/* A connection from outside over the bound socket, with the options of the engine; PQfinish() it. */
PGconn *hf_test_sandbox_connect(const struct hf_sandbox *sandbox, const char *database);

/* The folder in which sandboxes of this program make theirs. */
const char *hf_test_run_folder(void);

/* Fails the test, by name, when a second from now a process, a mount, a folder or a control group of ours is left. */
void hf_test_nothing_is_left(void);
unsigned hf_test_processes_of(uid_t uid);

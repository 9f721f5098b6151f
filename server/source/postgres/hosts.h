/*
 * hosts.h - a source that is a cluster: several hosts in one connection string, of which any serves
 *
 * libpq takes the first host that answers.  That is not enough for us: two connections must reach one node, the node
 * must be of the cluster we know, and one that was the primary before another was promoted must be passed over.  So the
 * string is taken apart, and each node is spoken to by a string of its own.
 */
#pragma once
#include "server/source/postgres/connection.h"
#include "server/source/postgres/stream_slot.h"

#define HF_POSTGRES_HOSTS_MOST 16

struct hf_postgres_hosts {
    size_t count;
    char *conninfo[HF_POSTGRES_HOSTS_MOST]; // in the order of the string
};

/* USAGE for a string that cannot be read, or has more hosts.  Owner: the caller, hf_postgres_hosts_done(). */
HF_MUST_CHECK bool hf_postgres_hosts_of(const struct hf_source_target *target, struct hf_postgres_hosts *ret,
                                        struct hf_error *err);
void hf_postgres_hosts_done(struct hf_postgres_hosts *hosts);

/*
 * For the replication protocol: connects to the node that libpq takes, and when it is not of the cluster that the
 * target names, or was left behind, to the next of the string.  target->conninfo is then that node's, borrowed from
 * `hosts`.
 */
HF_MUST_CHECK bool hf_postgres_connect_node(const struct hf_postgres_hosts *hosts, struct hf_source_target *target,
                                            const struct hf_postgres_patience *patience, PGconn **ret,
                                            struct hf_postgres_identity *ret_identity, struct hf_error *err);

/* What a short look at a node found. */
struct hf_postgres_node {
    size_t host;
    bool reached; // it answers, and is of the cluster that the target names
    bool in_recovery, has_slot, slot_active;
    uint32_t timeline;
    struct hf_error why; // when it was not
};
/*
 * Looks at all of them, and sorts: primaries before standbys, higher timelines before lower ones, then as they stand in
 * the string; those that were not reached last.
 */
void hf_postgres_hosts_look(const struct hf_postgres_hosts *hosts, const struct hf_source_target *target,
                            const struct hf_postgres_patience *patience, struct hf_postgres_node *ret);

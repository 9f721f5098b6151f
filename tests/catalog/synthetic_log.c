#include "tests/catalog/synthetic_log.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/test.h"

static void hash_of(unsigned vault, const char *what, uint64_t n, uint8_t hash[static HF_SHA256_BYTES]);
static json_t *verdict(const char *result, const struct hf_id *backup, const struct hf_id *attempt);
static json_t *id(const struct hf_id *id);

struct hf_id
synthetic_id(unsigned vault, const char *what, uint64_t n)
{
    uint8_t hash[HF_SHA256_BYTES];
    struct hf_id made;
    hash_of(vault, what, n, hash);
    memcpy(made.bytes, hash, sizeof made.bytes);
    return made;
}

struct hf_catalog_entry
synthetic_entry(unsigned vault, uint64_t n)
{
    if (n == 1)
        return synthetic_entry_of(vault, n, "LINEAGE", json_pack("{s:s, s:s}", "engine", "postgres", "lineage", "00ff"),
                                  json_pack("{s:s, s:s}", "identity", "7123", "name", "clinic"));

    uint64_t round = (n - 2) / SYNTHETIC_ROUND, begin = round * SYNTHETIC_ROUND;
    struct hf_id session = synthetic_id(vault, "session", begin), backup = synthetic_id(vault, "backup", begin);
    struct hf_id older = synthetic_id(vault, "backup", begin - SYNTHETIC_ROUND), step = synthetic_id(vault, "step", n);
    switch ((n - 2) % SYNTHETIC_ROUND) {
    case 0:
        return synthetic_entry_of(vault, n, "INTENT",
                                  json_pack("{s:o, s:s}", "session", id(&session), "operation", "backup"), NULL);
    case 1:
        return synthetic_entry_of(vault, n, "COMMIT", synthetic_commit(vault, &session, &backup, n),
                                  json_pack("{s:s, s:{s:I, s:s, s:I, s:s}}", "source", "clinic", "facts",
                                            "logical_bytes", (json_int_t)(n * 1000), "start_lsn", "0/3000028",
                                            "timeline", (json_int_t)1, "server_version", "15.20"));
    case 2:
        return synthetic_entry_of(vault, n, "VERDICT", verdict("passed", &backup, &step),
                                  json_pack("{s:I, s:s}", "recovery_ms", (json_int_t)n, "level", "L2"));
    case 3: // a session that ends without a backup
        return synthetic_entry_of(vault, n, "INTENT",
                                  json_pack("{s:o, s:s}", "session", id(&step), "operation", "backup"), NULL);
    case 4:
        session = synthetic_id(vault, "step", n - 1);
        return synthetic_entry_of(vault, n, "ABORT",
                                  json_pack("{s:o, s:s}", "session", id(&session), "reason", "left_open"), NULL);
    case 5:
        return synthetic_entry_of(vault, n, "HOLD", json_pack("{s:o}", "backup", id(&backup)),
                                  json_pack("{s:s, s:s}", "person", "anna", "reason", "audit"));
    case 6:
        return synthetic_entry_of(vault, n, "VERDICT", verdict("damaged", &backup, &step),
                                  json_pack("{s:s}", "reason", "a pack is missing"));
    case 7:
        return synthetic_entry_of(vault, n, "VERDICT", verdict("healed", &backup, &step), json_object());
    case 8:
        return synthetic_entry_of(vault, n, "GAP", json_object(),
                                  json_pack("{s:s, s:s, s:s}", "from", "0/1", "to", "0/2", "cause", "slot lost"));
    default: // the round before gives way
        return synthetic_entry_of(vault, n, "PRUNE",
                                  json_pack("{s:[o], s:s}", "backups", id(&older), "reason", "expired"), NULL);
    }
}

struct hf_catalog_entry
synthetic_entry_of(unsigned vault, uint64_t n, const char *kind, json_t *public_part, json_t *sealed_part)
{
    assert_non_null(public_part);
    struct hf_catalog_entry entry = {
        .vault = synthetic_id(vault, "vault", 0),
        .sequence = n,
        .kind = kind,
        .time = (int64_t)(1000 * n),
        .appliance = synthetic_id(0, "appliance", 0),
        .counts = true,
        .public_part = public_part,
        .sealed_part = sealed_part,
    };
    hash_of(vault, kind, n, entry.hash);
    return entry;
}

void
synthetic_done(struct hf_catalog_entry *entry)
{
    json_decref((json_t *)entry->public_part);
    json_decref((json_t *)entry->sealed_part);
}

json_t *
synthetic_commit(unsigned vault, const struct hf_id *session, const struct hf_id *backup, uint64_t n)
{
    struct hf_id data = synthetic_id(vault, "data pack", n), map = synthetic_id(vault, "map pack", n);
    return json_pack("{s:o, s:o, s:n, s:{s:o, s:i, s:i}, s:[[o, i, i, s], [o, i, i, s]], s:[]}", "session", id(session),
                     "backup", id(backup), "parent", "root", "pack", id(&map), "slab", 3, "index", 4, "packs",
                     id(&data), 1, 1000, "aa", id(&map), 2, 24, "bb", "dropped");
}

static void
hash_of(unsigned vault, const char *what, uint64_t n, uint8_t hash[static HF_SHA256_BYTES])
{
    char text[128];
    int length = snprintf(text, sizeof text, "%u %s %llu", vault, what, (unsigned long long)n);
    hf_sha256(text, (size_t)length, hash);
}

static json_t *
verdict(const char *result, const struct hf_id *backup, const struct hf_id *attempt)
{
    return json_pack("{s:s, s:o, s:o, s:s}", "result", result, "backup", id(backup), "attempt", id(attempt), "state",
                     "proven");
}

static json_t *
id(const struct hf_id *which)
{
    return hf_json_id_text(which);
}

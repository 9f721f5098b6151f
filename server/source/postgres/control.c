#include "server/source/postgres/control.h"

#include "base/buf.h"
#include "base/digest.h"

/* Where the CRC stands, which is also how many bytes it covers. */
static const struct {
    uint32_t version;
    size_t crc_at;
} layouts[] = {{1300, 288}, {1700, 288}, {1800, 292}};

bool
hf_postgres_control_parse(const uint8_t *data, size_t length, struct hf_postgres_control *ret, struct hf_error *err)
{
    if (length != HF_POSTGRES_CONTROL_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "\"" HF_POSTGRES_CONTROL_PATH "\" has %zu bytes instead of %d", length,
                       HF_POSTGRES_CONTROL_BYTES);

    uint32_t version = hf_get_u32(data + 8);
    size_t crc_at = 0;
    for (size_t i = 0; i < HF_LENGTH(layouts); i++)
        if (layouts[i].version == version)
            crc_at = layouts[i].crc_at;
    if (crc_at == 0)
        return hf_fail(err, HF_ERR_USAGE, "\"" HF_POSTGRES_CONTROL_PATH "\" has version %u, which is not known here",
                       version) ||
               hf_fail_hint(err, "PostgreSQL 13 to 18 on little-endian hosts are known.");
    if (hf_crc32c(0, data, crc_at) != hf_get_u32(data + crc_at))
        return hf_fail(err, HF_ERR_CORRUPT, "\"" HF_POSTGRES_CONTROL_PATH "\" fails its checksum");

    *ret = (struct hf_postgres_control){
        .system_identifier = hf_get_u64(data),
        .version = version,
        .catalog_version = hf_get_u32(data + 12),
        .state = hf_get_u32(data + 16),
        .checkpoint_lsn = hf_get_u64(data + 32),
        .redo_lsn = hf_get_u64(data + 40),
        .timeline = hf_get_u32(data + 48),
        .min_recovery_lsn = hf_get_u64(data + 136),
        .wal_level = hf_get_u32(data + 172),
        .max_connections = hf_get_u32(data + 180),
        .max_worker_processes = hf_get_u32(data + 184),
        .max_wal_senders = hf_get_u32(data + 188),
        .max_prepared_xacts = hf_get_u32(data + 192),
        .max_locks_per_xact = hf_get_u32(data + 196),
        .block_bytes = hf_get_u32(data + 216),
        .segment_blocks = hf_get_u32(data + 220),
        .wal_block_bytes = hf_get_u32(data + 224),
        .wal_segment_bytes = hf_get_u32(data + 228),
        .checksum_version = hf_get_u32(data + 252),
    };
    return true;
}

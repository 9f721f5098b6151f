/* What is seen of log bytes does not depend on how they come, and never lies beyond them. */
#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "server/source/postgres/wal_format.h"
#include "tests/fuzz/fuzz.h"

static const struct hf_wal_origin origin = {
    .major_version = 15, .system_identifier = 7418237648237648234, .segment_bytes = 1024 * 1024, .timeline = 3};

#define START UINT64_C(0x700000)

static bool walk_in_pieces(const uint8_t *data, size_t size, size_t piece, struct hf_wal_seen *ret,
                           struct hf_error *err);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_wal_seen whole, pieces;
    struct hf_error err_whole, err_pieces;

    bool ok = walk_in_pieces(data, size, size + 1, &whole, &err_whole);
    bool also = walk_in_pieces(data, size, 13, &pieces, &err_pieces);
    assert(ok == also);
    if (!ok)
        assert(err_whole.kind == HF_ERR_CORRUPT && strcmp(err_whole.message, err_pieces.message) == 0);
    else
        assert(memcmp(&whole, &pieces, sizeof whole) == 0 && whole.position == START + size);

    assert(whole.position <= START + size && whole.last_record < START + size);
    assert(whole.records == 0 || (whole.first_record <= whole.last_record && whole.last_record < whole.end));
    assert(whole.commits + whole.aborts <= whole.records);
    assert(whole.stop == 0 || (whole.first_record <= whole.stop && whole.stop <= whole.last_record &&
                               whole.stop < whole.stop_end && whole.stop_end <= whole.end));
    return 0;
}

static bool
walk_in_pieces(const uint8_t *data, size_t size, size_t piece, struct hf_wal_seen *ret, struct hf_error *err)
{
    _cleanup_(hf_wal_walk_freep) struct hf_wal_walk *walk = NULL;
    bool ok = hf_wal_walk_new(&origin, START, &walk, err);

    assert(ok);
    const struct hf_wal_target target = {
        .kind = (enum hf_wal_target_kind)(size % 6), .position = START + 64, .transaction = 3, .point = "a"};
    hf_wal_walk_look_for(walk, &target);
    for (size_t at = 0; ok && at < size; at += piece)
        ok = hf_wal_walk_feed(walk, data + at, size - at < piece ? size - at : piece, err);
    *ret = hf_wal_walk_seen(walk);
    return ok;
}

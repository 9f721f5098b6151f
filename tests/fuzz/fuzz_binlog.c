/*
 * Whatever a binary log holds: transactions begin before they end, and the GTIDs that are read survive being written.
 */
#include <assert.h>
#include <string.h>

#include "server/source/mariadb/event.h"
#include "tests/fuzz/fuzz.h"

static void check_log(const uint8_t *data, size_t size);
static void check_set(const struct hf_gtid_set *set, enum hf_gtid_flavor flavor);
static void check_text(enum hf_gtid_flavor flavor, const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_log(data, size);
    check_text(HF_GTID_MARIADB, data, size);
    check_text(HF_GTID_MYSQL, data, size);
    return 0;
}

static void
check_log(const uint8_t *data, size_t size)
{
    struct hf_binlog_walk walk;
    struct hf_error err = {0};
    uint64_t begun = 0, ended = 0;
    hf_binlog_walk_begin(&walk, size % 2 == 1);
    for (size_t at = 0; size - at >= HF_BINLOG_HEADER;) {
        const size_t length = hf_binlog_event_length(data + at);
        if (length == 0 || length > size - at)
            return;
        struct hf_binlog_step step;
        if (!hf_binlog_walk_event(&walk, data + at, length, at, &step, &err)) {
            assert(err.kind == HF_ERR_CORRUPT && err.message[0] != 0);
            return;
        }
        assert(step.event.length == length && step.event.body_length <= length - HF_BINLOG_HEADER);
        assert(!(step.begins || step.ends) || step.group);
        begun += step.begins;
        ended += step.ends;
        assert(ended <= begun);
        assert(!step.ends || walk.state == HF_BINLOG_OUTSIDE);
        assert(!step.begins || step.ends || walk.state != HF_BINLOG_OUTSIDE);
        if (step.event.type == HF_BINLOG_GTID_LIST || step.event.type == HF_BINLOG_MYSQL_PREVIOUS) {
            struct hf_gtid_set set = {0};
            if (hf_binlog_before_read(&step.event, at, &set, &err))
                check_set(&set, step.event.type == HF_BINLOG_GTID_LIST ? HF_GTID_MARIADB : HF_GTID_MYSQL);
            hf_gtid_set_done(&set);
        }
        if (step.event.type == HF_BINLOG_ROTATE) {
            char name[HF_BINLOG_NAME_BYTES];
            uint64_t position;
            if (hf_binlog_rotate_read(&step.event, at, &position, name, &err))
                assert(name[0] != 0 && strlen(name) < sizeof name);
        }
        at += length;
    }
}

/* Text and wire form come back as they were; a set has all of itself, and nothing is added by a union with itself. */
static void
check_set(const struct hf_gtid_set *set, enum hf_gtid_flavor flavor)
{
    struct hf_buf text = HF_BUF_INIT(64 * HF_MIB), wire = HF_BUF_INIT(64 * HF_MIB);
    struct hf_gtid_set again = {0}, decoded = {0};
    struct hf_error err;
    if (hf_gtid_set_format(set, &text, &err) && text.length <= HF_GTID_TEXT_MOST) {
        assert(hf_gtid_set_parse(flavor, hf_buf_text(&text), text.length, &again, &err));
        assert(hf_gtid_set_equal(set, &again));
        assert(hf_gtid_set_contains_all(set, &again));
        assert(hf_gtid_set_union(&again, set, &err) && hf_gtid_set_equal(set, &again));
    }
    if (flavor == HF_GTID_MYSQL) {
        assert(hf_gtid_set_encode(set, &wire, &err));
        assert(hf_gtid_set_decode(wire.data, wire.length, &decoded, &err) && hf_gtid_set_equal(set, &decoded));
    }
    hf_gtid_set_done(&again);
    hf_gtid_set_done(&decoded);
    hf_buf_done(&text);
    hf_buf_done(&wire);
}

static void
check_text(enum hf_gtid_flavor flavor, const uint8_t *data, size_t size)
{
    struct hf_gtid_set set = {0};
    struct hf_error err;
    if (hf_gtid_set_parse(flavor, (const char *)data, size, &set, &err))
        check_set(&set, flavor);
    else
        assert(err.kind == HF_ERR_USAGE || err.kind == HF_ERR_NO_SPACE);
    hf_gtid_set_done(&set);
}

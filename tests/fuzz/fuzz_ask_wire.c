/* A body of any kind that is read can be written, and what was written is the same bytes. */
#include <assert.h>
#include <string.h>

#include "server/verify/asker/wire.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_ASK_FRAME_MOST), again = HF_BUF_INIT(HF_ASK_FRAME_MOST);
    struct hf_error err;
    struct hf_ask_postgres target;
    struct hf_ask_query query;
    struct hf_ask_cells cells;
    struct hf_ask_refusal refusal;
    uint64_t timeout_ms;
    uint32_t version;
    bool written;
    if (size < 1 || !hf_buf_add(&body, data + 1, size - 1, &err))
        return 0;
    switch (data[0]) {
    case HF_ASK_POSTGRES:
        if (!hf_ask_read_postgres(&body, &target, &err))
            return 0;
        written = hf_ask_write_postgres(&target, &again, &err);
        break;
    case HF_ASK_MARIADB:
        if (!hf_ask_read_mariadb(&body, &timeout_ms, &err))
            return 0;
        written = hf_ask_write_mariadb(timeout_ms, &again, &err);
        break;
    case HF_ASK_QUERY:
        if (!hf_ask_read_query(&body, &query, &err))
            return 0;
        written = hf_ask_write_query(&query, &again, &err);
        break;
    case HF_ASK_CONNECTED:
        if (!hf_ask_read_connected(&body, &version, &err))
            return 0;
        written = hf_ask_write_connected(version, &again, &err);
        break;
    case HF_ASK_ROW:
        if (!hf_ask_read_row(&body, &cells, &err))
            return 0;
        written = hf_ask_write_row(&cells, &again, &err);
        break;
    case HF_ASK_REFUSED:
        if (!hf_ask_read_refusal(&body, &refusal, &err))
            return 0;
        written = hf_ask_write_refusal(&refusal, &again, &err);
        break;
    default:
        return 0;
    }
    assert(written && again.length == body.length && memcmp(again.data, body.data, body.length) == 0);
    return 0;
}

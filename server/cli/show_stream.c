#include "server/cli/show.h"

#define CLOCKS_APART_MS 5000 // from here on status says it

static bool show_clock(const json_t *now, const char *source, struct hf_buf *out, struct hf_error *err);
static bool show_slot(const json_t *now, const char *source, struct hf_buf *out, struct hf_error *err);

bool
hf_show_stream_warnings(const json_t *source, struct hf_buf *out, struct hf_error *err)
{
    const json_t *now = json_object_get(json_object_get(source, "stream"), "now");
    const char *name = json_string_value(json_object_get(source, "name"));
    return name == NULL || (show_clock(now, name, out, err) && show_slot(now, name, out, err));
}

/* Commits are timed by the server's clock, all else by ours. */
static bool
show_clock(const json_t *now, const char *source, struct hf_buf *out, struct hf_error *err)
{
    const json_int_t ahead = json_integer_value(json_object_get(now, "server_clock_ahead_ms"));
    const json_int_t apart = ahead > 0 ? ahead : -ahead;
    return apart < CLOCKS_APART_MS ||
           hf_buf_printf(out, err,
                         "\nClock: the server's clock is %" JSON_INTEGER_FORMAT " s %s this host's, for source %s; "
                         "restore --at counts by the server's.\n",
                         apart / 1000, ahead > 0 ? "ahead of" : "behind", source);
}

static bool
show_slot(const json_t *now, const char *source, struct hf_buf *out, struct hf_error *err)
{
    const json_t *slot = json_object_get(now, "slot");
    return !json_is_true(json_object_get(slot, "alarm")) ||
           hf_buf_printf(out, err,
                         "\nSlot: it keeps %" JSON_INTEGER_FORMAT " MiB of log on the server of source %s, more than "
                         "slot_alarm.\n",
                         json_integer_value(json_object_get(slot, "kept_bytes")) >> 20, source);
}

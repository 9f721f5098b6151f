#include <inttypes.h>
#include <string.h>

#include "server/cli/show.h"
#include "server/cli/table.h"

#define RANGES_SHOWN 12 // all of them stand in --json

static int64_t number_of(const json_t *object, const char *member);
static bool show_range(const json_t *range, struct hf_buf *out, struct hf_error *err);

bool
hf_show_lost(const json_t *lost, struct hf_buf *out, struct hf_error *err)
{
    const json_t *range;
    size_t index, shown = 0;
    if (lost == NULL || json_is_null(lost))
        return true;
    const json_t *ranges = json_object_get(lost, "ranges");
    if (json_array_size(ranges) == 0)
        return hf_buf_add_text(out, "  no page is lost\n", err);
    if (!hf_buf_printf(out, err, "  lost: %" PRId64 " pages of %" PRId64 " files, %" PRId64 " bytes\n",
                       number_of(lost, "pages"), number_of(lost, "files"), number_of(lost, "bytes")))
        return false;
    json_array_foreach(ranges, index, range)
    {
        if (shown == RANGES_SHOWN)
            break;
        if (!show_range(range, out, err))
            return false;
        shown++;
    }
    const int64_t more = number_of(lost, "more") + (int64_t)(json_array_size(ranges) - shown);
    return more == 0 || hf_buf_printf(out, err, "    and %" PRId64 " more\n", more);
}

bool
hf_show_affected(const json_t *affected, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    size_t index;
    json_array_foreach(affected, index, row)
    {
        const char *backup = json_string_value(json_object_get(row, "backup"));
        if (!hf_buf_printf(out, err, "\nbackup %s\n", backup == NULL ? "-" : backup) ||
            !hf_show_lost(json_object_get(row, "lost"), out, err))
            return false;
    }
    return true;
}

bool
hf_show_scrub_line(const json_t *scrub, struct hf_buf *out, struct hf_error *err)
{
    const char *completed = json_string_value(json_object_get(scrub, "completed_at"));
    const char *oldest = json_string_value(json_object_get(scrub, "oldest_checked_at"));
    const int64_t bytes = number_of(scrub, "bytes"), done = number_of(scrub, "bytes_done");
    const int64_t never = number_of(scrub, "never_checked"), unsound = number_of(scrub, "unsound");
    if (scrub == NULL || number_of(scrub, "packs") == 0)
        return true;
    if (!hf_buf_printf(out, err, "scrub       last complete %.10s, %" PRId64 " %% of this pass",
                       completed == NULL ? "never" : completed,
                       bytes > 0 ? (int64_t)(100.0 * (double)done / (double)bytes) : 100))
        return false;
    if (never > 0 ? !hf_buf_printf(out, err, ", %" PRId64 " packs never read again", never)
                  : !hf_buf_printf(out, err, ", oldest look %.10s", oldest == NULL ? "-" : oldest))
        return false;
    if (unsound > 0 && !hf_buf_printf(out, err, ", %" PRId64 " packs are damaged", unsound))
        return false;
    return hf_buf_add_text(out, json_is_true(json_object_get(scrub, "late")) ? ", LATE\n" : "\n", err);
}

static int64_t
number_of(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

static bool
show_range(const json_t *range, struct hf_buf *out, struct hf_error *err)
{
    const char *file = json_string_value(json_object_get(range, "file"));
    const char *folder = json_string_value(json_object_get(range, "folder"));
    const int64_t first = number_of(range, "first_page"), pages = number_of(range, "pages");
    if (file == NULL && folder == NULL)
        return hf_buf_add_text(out, "    everything: its manifest does not read\n", err);
    if (!hf_buf_add_text(out, "    ", err) || !hf_add_plain(out, file != NULL ? file : folder, err))
        return false;
    if (file == NULL)
        return hf_buf_printf(out, err, "/: %" PRId64 " files whose names are lost\n", number_of(range, "files"));
    return pages == 1 ? hf_buf_printf(out, err, ": page %" PRId64 "\n", first)
                      : hf_buf_printf(out, err, ": pages %" PRId64 " to %" PRId64 "\n", first, first + pages - 1);
}

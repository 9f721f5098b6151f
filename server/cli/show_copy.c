#include <inttypes.h>

#include "base/time.h"
#include "server/cli/show.h"
#include "server/cli/table.h"

#define PROBLEMS_SHOWN 20 // all of them stand in --json

static int64_t number_of(const json_t *object, const char *member);
static const char *text_of(const json_t *object, const char *member);
static bool show_place(const json_t *place, struct hf_buf *out, struct hf_error *err);
static bool show_speed(const json_t *place, struct hf_buf *out, struct hf_error *err);
static bool show_objects(const json_t *objects, struct hf_buf *out, struct hf_error *err);
static bool show_job(const json_t *result, struct hf_buf *out, struct hf_error *err);

bool
hf_show_copy(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *place;
    size_t index;
    (void)cli;
    if (text_of(result, "job") != NULL)
        return show_job(result, out, err);
    json_array_foreach(json_object_get(result, "places"), index, place)
    {
        if (!show_place(place, out, err))
            return false;
    }
    return true;
}

bool
hf_show_heal(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char bytes[HF_TIME_TEXT_BYTES];
    const int64_t damaged = number_of(result, "damaged"), healed = number_of(result, "healed");
    (void)cli;
    if (text_of(result, "job") != NULL)
        return show_job(result, out, err);
    if (damaged == 0)
        return hf_buf_printf(out, err, "Nothing is missing or altered here.\n");
    if (!hf_buf_printf(out, err, "%" PRId64 " objects are damaged here; %" PRId64 " %s, %s\n", damaged, healed,
                       json_is_true(json_object_get(result, "dry_run")) ? "could be fetched" : "were fetched",
                       hf_bytes_format((uint64_t)number_of(result, "healed_bytes"), bytes)))
        return false;
    return show_objects(json_object_get(result, "objects"), out, err);
}

bool
hf_show_promoted(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "\"") && hf_add_plain(out, text_of(result, "place"), err) &&
           hf_buf_printf(out, err,
                         "\" is a repository now.  What the old appliance still writes into the original "
                         "does not reach it.\n");
}

bool
hf_show_second_places(const json_t *places, struct hf_buf *out, struct hf_error *err)
{
    const json_t *place;
    size_t index;
    json_array_foreach(places, index, place)
    {
        const char *state = text_of(place, "state"), *completed = text_of(place, "completed_at");
        const char *newest = text_of(place, "newest_backup_at"), *error = text_of(place, "error");
        const char *durability = text_of(place, "durability");
        if (!hf_buf_printf(out, err, "copy        ") || !hf_add_plain(out, text_of(place, "place"), err) ||
            !hf_buf_printf(out, err,
                           "  %s, last complete %s, behind by %" PRId64 " log entries, newest backup there %s%s%s\n",
                           state == NULL ? "-" : state, completed == NULL ? "never" : completed,
                           number_of(place, "behind"), newest == NULL ? "none" : newest,
                           durability == NULL ? "" : ", durability ", durability == NULL ? "" : durability))
            return false;
        if (error != NULL && (!hf_buf_add_text(out, "            ", err) || !hf_add_plain(out, error, err) ||
                              !hf_buf_add_text(out, "\n", err)))
            return false;
    }
    return true;
}

static int64_t
number_of(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

static const char *
text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static bool
show_place(const json_t *place, struct hf_buf *out, struct hf_error *err)
{
    char written[HF_TIME_TEXT_BYTES], kept[HF_TIME_TEXT_BYTES], removed[HF_TIME_TEXT_BYTES];
    const char *error = text_of(place, "error"), *durability = text_of(place, "durability");
    if (!hf_add_plain(out, text_of(place, "place"), err) || !hf_buf_add_text(out, "\n", err))
        return false;
    if (error != NULL)
        return hf_buf_add_text(out, "  failed: ", err) && hf_add_plain(out, error, err) &&
               hf_buf_add_text(out, "\n", err);
    if (!hf_buf_printf(out, err,
                       "  %s: %" PRId64 " log entries and %" PRId64 " objects written (%s), %" PRId64
                       " packs kept (%s), %" PRId64 " removed (%s)\n",
                       json_is_true(json_object_get(place, "complete")) ? "complete" : "NOT complete",
                       number_of(place, "entries"), number_of(place, "objects"),
                       hf_bytes_format((uint64_t)number_of(place, "bytes"), written), number_of(place, "kept"),
                       hf_bytes_format((uint64_t)number_of(place, "kept_bytes"), kept), number_of(place, "removed"),
                       hf_bytes_format((uint64_t)number_of(place, "removed_bytes"), removed)) ||
        !show_speed(place, out, err) ||
        !hf_buf_printf(out, err, "  durability %s: %s\n", durability == NULL ? "-" : durability,
                       durability != NULL && strcmp(durability, "synced") == 0
                           ? "bytes and names were synced there"
                           : "bytes were synced there; names as that file system keeps them"))
        return false;
    return show_objects(json_object_get(place, "problems"), out, err);
}

/* In the decimal units that disks and networks are sold in. */
static bool
show_speed(const json_t *place, struct hf_buf *out, struct hf_error *err)
{
    char compared[HF_TIME_TEXT_BYTES];
    return hf_buf_printf(out, err, "  took %.1f s, %.1f MB/s written; %" PRId64 " packs were read there again (%s)\n",
                         (double)number_of(place, "elapsed_ms") / 1e3,
                         (double)number_of(place, "bytes_per_second") / 1e6, number_of(place, "compared"),
                         hf_bytes_format((uint64_t)number_of(place, "compared_bytes"), compared));
}

static bool
show_objects(const json_t *objects, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    size_t index;
    json_array_foreach(objects, index, row)
    {
        if (index == PROBLEMS_SHOWN)
            return hf_buf_printf(out, err, "  and %zu more\n", json_array_size(objects) - index);
        if (!hf_buf_add_text(out, "  ", err) || !hf_add_plain(out, text_of(row, "object"), err) ||
            !hf_buf_add_text(out, " ", err) || !hf_add_plain(out, text_of(row, "message"), err) ||
            !hf_buf_add_text(out, "\n", err))
            return false;
    }
    return true;
}

static bool
show_job(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *job = text_of(result, "job");
    return hf_buf_printf(out, err, "Job %s is waiting or running.  \"holdfast job watch %s\" shows where it is.\n", job,
                         job);
}

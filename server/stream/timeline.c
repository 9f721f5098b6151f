#include "server/stream/timeline.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static bool parse_line(uint32_t timeline, unsigned number, const char *line, size_t length,
                       struct hf_timeline_path *path, struct hf_error *err);
static bool add_step(struct hf_timeline_path *path, uint32_t timeline, uint64_t end, struct hf_error *err);

const char *
hf_timeline_file_name(uint32_t timeline, char name[static HF_TIMELINE_NAME_BYTES])
{
    snprintf(name, HF_TIMELINE_NAME_BYTES, "%08X.history", timeline);
    return name;
}

void
hf_timeline_path_of_first(struct hf_timeline_path *ret)
{
    ret->count = 1;
    ret->steps[0] = (struct hf_timeline_step){.timeline = 1, .end = UINT64_MAX};
}

bool
hf_timeline_path_parse(uint32_t timeline, const void *text, size_t length, struct hf_timeline_path *ret,
                       struct hf_error *err)
{
    const char *at = text, *end = at + length;
    unsigned number = 0;
    if (length > HF_TIMELINE_FILE_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the history of timeline %u is longer than %zu bytes", timeline,
                       HF_TIMELINE_FILE_MOST);
    ret->count = 0;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t line = stop == NULL ? (size_t)(end - at) : (size_t)(stop - at);
        if (!parse_line(timeline, ++number, at, line, ret, err))
            return false;
        at += line + 1;
    }
    if (ret->count > 0 && ret->steps[ret->count - 1].timeline >= timeline)
        return hf_fail(err, HF_ERR_CORRUPT, "the history of timeline %u names timeline %u as its ancestor", timeline,
                       ret->steps[ret->count - 1].timeline);
    return add_step(ret, timeline, UINT64_MAX, err);
}

const struct hf_timeline_step *
hf_timeline_path_at(const struct hf_timeline_path *path, uint64_t position)
{
    for (size_t i = 0; i + 1 < path->count; i++)
        if (position < path->steps[i].end)
            return &path->steps[i];
    return &path->steps[path->count - 1];
}

const struct hf_timeline_step *
hf_timeline_path_find(const struct hf_timeline_path *path, uint32_t timeline)
{
    for (size_t i = 0; i < path->count; i++)
        if (path->steps[i].timeline == timeline)
            return &path->steps[i];
    return NULL;
}

static bool
parse_line(uint32_t timeline, unsigned number, const char *line, size_t length, struct hf_timeline_path *path,
           struct hf_error *err)
{
    char text[64]; // the reason behind is not looked at
    size_t at = 0;
    while (at < length && isspace((unsigned char)line[at]))
        at++;
    if (at == length || line[at] == '#')
        return true;
    snprintf(text, sizeof text, "%.*s", (int)(length - at), line + at);

    char *rest, *token;
    const unsigned long before = strtoul(text, &rest, 10);
    uint64_t end;
    token = strtok_r(rest, " \t\r", &rest);
    if (!isdigit((unsigned char)text[0]) || before == 0 || before > UINT32_MAX || token == NULL ||
        !hf_lsn_parse(token, &end, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "line %u of the history of timeline %u cannot be read", number, timeline);
    return add_step(path, (uint32_t)before, end, err) ||
           hf_fail_within(err, "line %u of the history of timeline %u", number, timeline);
}

static bool
add_step(struct hf_timeline_path *path, uint32_t timeline, uint64_t end, struct hf_error *err)
{
    const struct hf_timeline_step *before = path->count > 0 ? &path->steps[path->count - 1] : NULL;
    if (path->count == HF_TIMELINE_STEPS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %d timelines", HF_TIMELINE_STEPS_MOST);
    if (before != NULL && (timeline <= before->timeline || end < before->end))
        return hf_fail(err, HF_ERR_CORRUPT, "timelines and positions do not ascend");
    path->steps[path->count++] =
        (struct hf_timeline_step){.timeline = timeline, .start = before == NULL ? 0 : before->end, .end = end};
    return true;
}

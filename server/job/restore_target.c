#include "server/job/restore_target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"

#define TIMELINE_MOST 0x7fffffff

/* A kind of target: its option, the argument behind it, and its name in requests and answers. */
static const struct kind {
    enum hf_wal_target_kind kind;
    const char *option, *argument, *name;
} kinds[] = {
    {HF_WAL_TO_TIME, "--at", "at", "time"},
    {HF_WAL_TO_POSITION, "--lsn", "lsn", "lsn"},
    {HF_WAL_TO_TRANSACTION, "--xid", "xid", "xid"},
    {HF_WAL_BEFORE_TRANSACTION, "--before-xid", "before_xid", "before xid"},
    {HF_WAL_TO_RESTORE_POINT, "--restore-point", "restore_point", "restore point"},
    {HF_WAL_TO_THE_END, "--latest", "latest", "latest"},
};

static const char *const actions[] = {"promote", "pause", "shutdown"};

static bool parse_value(const struct kind *kind, const char *text, struct hf_wal_target *ret, struct hf_error *err);
static bool parse_transaction(const char *text, uint32_t *ret, struct hf_error *err);
static bool parse_point(const char *text, char ret[static HF_WAL_POINT_BYTES], struct hf_error *err);
static bool parse_action(const char *text, const char **ret, struct hf_error *err);
static const struct kind *kind_of(enum hf_wal_target_kind kind);

bool
hf_restore_target_parse(const json_t *arguments, struct hf_restore_target *ret, struct hf_error *err)
{
    const json_t *timeline = json_object_get(arguments, "timeline");
    const char *action = json_string_value(json_object_get(arguments, "action"));
    const struct kind *chosen = NULL;
    *ret = (struct hf_restore_target){.action = actions[0]};
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        const json_t *value = json_object_get(arguments, kinds[i].argument);
        if (value == NULL || json_is_false(value))
            continue;
        if (chosen != NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" and \"%s\" name two moments", chosen->option, kinds[i].option);
        chosen = &kinds[i];
        ret->wanted = true;
        ret->log.kind = chosen->kind;
        if (chosen->kind != HF_WAL_TO_THE_END && !parse_value(chosen, json_string_value(value), &ret->log, err))
            return false;
    }
    if (chosen == NULL && (timeline != NULL || action != NULL))
        return hf_fail(err, HF_ERR_USAGE,
                       "\"%s\" needs a moment: --at, --lsn, --xid, --before-xid, --restore-point or --latest",
                       timeline != NULL ? "--timeline" : "--action");
    if (timeline != NULL && (json_integer_value(timeline) < 1 || json_integer_value(timeline) > TIMELINE_MOST))
        return hf_fail(err, HF_ERR_USAGE, "a timeline is a number from 1 on");
    ret->timeline = (uint32_t)json_integer_value(timeline);
    return action == NULL || parse_action(action, &ret->action, err);
}

bool
hf_restore_target_to_json(const struct hf_restore_target *target, json_t **ret, struct hf_error *err)
{
    char text[HF_TIME_TEXT_BYTES], position[HF_LSN_TEXT_BYTES], transaction[16];
    const char *value = "";
    if (!target->wanted) {
        *ret = json_null();
        return true;
    }
    if (target->log.kind == HF_WAL_TO_TIME)
        value = hf_time_format(target->log.time, text);
    else if (target->log.kind == HF_WAL_TO_POSITION)
        value = hf_lsn_format(target->log.position, position);
    else if (target->log.kind == HF_WAL_TO_RESTORE_POINT)
        value = target->log.point;
    snprintf(transaction, sizeof transaction, "%" PRIu32, target->log.transaction);
    if (target->log.kind == HF_WAL_TO_TRANSACTION || target->log.kind == HF_WAL_BEFORE_TRANSACTION)
        value = transaction;
    *ret = json_pack("{s:s, s:s, s:I, s:s}", "kind", kind_of(target->log.kind)->name, "value", value, "timeline",
                     (json_int_t)target->timeline, "action", target->action);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_restore_target_from_json(const json_t *json, struct hf_restore_target *ret, struct hf_error *err)
{
    static const char what[] = "the request's target";
    const char *name, *value, *action;
    int64_t timeline;
    *ret = (struct hf_restore_target){.action = actions[0]};
    if (json_is_null(json))
        return true;
    if (!hf_json_string(json, "kind", what, &name, err) || !hf_json_string(json, "value", what, &value, err) ||
        !hf_json_string(json, "action", what, &action, err) ||
        !hf_json_integer(json, "timeline", what, 0, TIMELINE_MOST, &timeline, err) ||
        !parse_action(action, &ret->action, err))
        return false;
    ret->wanted = true;
    ret->timeline = (uint32_t)timeline;
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        ret->log.kind = kinds[i].kind;
        return kinds[i].kind == HF_WAL_TO_THE_END || parse_value(&kinds[i], value, &ret->log, err);
    }
    return hf_fail(err, HF_ERR_USAGE, "there is no moment of the kind \"%.32s\"", name);
}

static bool
parse_value(const struct kind *kind, const char *text, struct hf_wal_target *ret, struct hf_error *err)
{
    if (text == NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" wants a text", kind->option);
    if (kind->kind == HF_WAL_TO_TIME)
        return hf_time_parse(text, &ret->time, err);
    if (kind->kind == HF_WAL_TO_TRANSACTION || kind->kind == HF_WAL_BEFORE_TRANSACTION)
        return parse_transaction(text, &ret->transaction, err);
    if (kind->kind == HF_WAL_TO_RESTORE_POINT)
        return parse_point(text, ret->point, err);
    if (hf_lsn_parse(text, &ret->position, err))
        return true;
    return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not a position such as 16/B374D848", text);
}

static bool
parse_transaction(const char *text, uint32_t *ret, struct hf_error *err)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < 3 || number > UINT32_MAX)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not the number of a transaction, 3 to 4294967295", text);
    *ret = (uint32_t)number;
    return true;
}

/* What goes into a line of settings. */
static bool
parse_point(const char *text, char ret[static HF_WAL_POINT_BYTES], struct hf_error *err)
{
    const size_t length = strlen(text);
    if (length == 0 || length >= HF_WAL_POINT_BYTES)
        return hf_fail(err, HF_ERR_USAGE, "the name of a restore point has 1 to %d bytes", HF_WAL_POINT_BYTES - 1);
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)text[i] < 0x20)
            return hf_fail(err, HF_ERR_USAGE, "the name of a restore point has a control character");
    memcpy(ret, text, length + 1);
    return true;
}

static bool
parse_action(const char *text, const char **ret, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(actions); i++) {
        if (strcmp(actions[i], text) == 0) {
            *ret = actions[i];
            return true;
        }
    }
    return hf_fail(err, HF_ERR_USAGE, "the action \"%.32s\" is none of promote, pause and shutdown", text);
}

static const struct kind *
kind_of(enum hf_wal_target_kind kind)
{
    size_t at = 0;
    while (kinds[at].kind != kind)
        at++;
    return &kinds[at];
}

#include "server/job/restore_target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"

#define TIMELINE_MOST 0x7fffffff

struct kind;
typedef bool parse_value(const struct kind *kind, const char *text, struct hf_restore_target *ret,
                         struct hf_error *err);

static parse_value parse_time, parse_position, parse_transaction, parse_point, parse_gtid, parse_binlog_position;

#define NOBODYS (-1)

/*
 * A kind of target: its option, the argument behind it, its name in requests and answers, and what each engine calls
 * it.
 */
static const struct kind {
    const char *option, *argument, *name;
    parse_value *parse; // NULL: there is no value
    int wal, binlog;    // enum hf_wal_target_kind, enum hf_binlog_stop, or NOBODYS
} kinds[] = {
    {"--at", "at", "time", parse_time, HF_WAL_TO_TIME, HF_BINLOG_TO_TIME},
    {"--lsn", "lsn", "lsn", parse_position, HF_WAL_TO_POSITION, NOBODYS},
    {"--xid", "xid", "xid", parse_transaction, HF_WAL_TO_TRANSACTION, NOBODYS},
    {"--before-xid", "before_xid", "before xid", parse_transaction, HF_WAL_BEFORE_TRANSACTION, NOBODYS},
    {"--restore-point", "restore_point", "restore point", parse_point, HF_WAL_TO_RESTORE_POINT, NOBODYS},
    {"--gtid", "gtid", "gtid", parse_gtid, NOBODYS, HF_BINLOG_AFTER_GTID},
    {"--before-gtid", "before_gtid", "before gtid", parse_gtid, NOBODYS, HF_BINLOG_BEFORE_GTID},
    {"--binlog-position", "binlog_position", "binlog position", parse_binlog_position, NOBODYS, HF_BINLOG_TO_FILE},
    {"--latest", "latest", "latest", NULL, HF_WAL_TO_THE_END, HF_BINLOG_TO_END},
};

static const char *const actions[] = {"promote", "pause", "shutdown"};

static bool set_kind(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err);
static bool parse_action(const char *text, const char **ret, struct hf_error *err);
static const struct kind *kind_of(const struct hf_restore_target *target);

bool
hf_restore_target_parse(const json_t *arguments, struct hf_restore_target *ret, struct hf_error *err)
{
    const json_t *timeline = json_object_get(arguments, "timeline");
    const char *action = json_string_value(json_object_get(arguments, "action"));
    const struct kind *chosen = NULL;
    *ret = (struct hf_restore_target){.wanted = false};
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        const json_t *value = json_object_get(arguments, kinds[i].argument);
        if (value == NULL || json_is_false(value))
            continue;
        if (chosen != NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" and \"%s\" name two moments", chosen->option, kinds[i].option);
        chosen = &kinds[i];
        if (!set_kind(chosen, json_string_value(value), ret, err))
            return false;
    }
    if (chosen == NULL && (timeline != NULL || action != NULL))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" needs a moment, such as --at or --latest",
                       timeline != NULL ? "--timeline" : "--action");
    if (timeline != NULL && (json_integer_value(timeline) < 1 || json_integer_value(timeline) > TIMELINE_MOST))
        return hf_fail(err, HF_ERR_USAGE, "a timeline is a number from 1 on");
    ret->timeline = (uint32_t)json_integer_value(timeline);
    return action == NULL || parse_action(action, &ret->action, err);
}

bool
hf_restore_target_to_json(const struct hf_restore_target *target, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf value = HF_BUF_INIT(HF_BINLOG_NAME_BYTES + HF_WAL_POINT_BYTES + 64);
    char text[HF_TIME_TEXT_BYTES], position[HF_LSN_TEXT_BYTES], gtid[HF_GTID_TEXT_BYTES];
    if (!target->wanted) {
        *ret = json_null();
        return true;
    }
    const struct kind *kind = kind_of(target);
    bool ok = true;
    if (kind->parse == parse_time)
        ok = hf_buf_add_text(&value, hf_time_format(target->time_ms, text), err);
    else if (kind->parse == parse_position)
        ok = hf_buf_add_text(&value, hf_lsn_format(target->log.position, position), err);
    else if (kind->parse == parse_point)
        ok = hf_buf_add_text(&value, target->log.point, err);
    else if (kind->parse == parse_transaction)
        ok = hf_buf_printf(&value, err, "%" PRIu32, target->log.transaction);
    else if (kind->parse == parse_gtid)
        ok = hf_buf_add_text(&value, hf_gtid_format(&target->gtid, gtid), err);
    else if (kind->parse == parse_binlog_position)
        ok = hf_buf_printf(&value, err, "%s:%" PRIu64, target->file, target->file_position);
    if (!ok)
        return false;
    *ret = json_pack("{s:s, s:s, s:I, s:s}", "kind", kind->name, "value", hf_buf_text(&value), "timeline",
                     (json_int_t)target->timeline, "action", target->action != NULL ? target->action : "");
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_restore_target_from_json(const json_t *json, struct hf_restore_target *ret, struct hf_error *err)
{
    static const char what[] = "the request's target";
    const char *name, *value, *action;
    int64_t timeline;
    *ret = (struct hf_restore_target){.wanted = false};
    if (json_is_null(json))
        return true;
    if (!hf_json_string(json, "kind", what, &name, err) || !hf_json_string(json, "value", what, &value, err) ||
        !hf_json_string(json, "action", what, &action, err) ||
        !hf_json_integer(json, "timeline", what, 0, TIMELINE_MOST, &timeline, err) ||
        (action[0] != 0 && !parse_action(action, &ret->action, err)))
        return false;
    ret->timeline = (uint32_t)timeline;
    for (size_t i = 0; i < HF_LENGTH(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return set_kind(&kinds[i], value, ret, err);
    return hf_fail(err, HF_ERR_USAGE, "there is no moment of the kind \"%.32s\"", name);
}

static bool
set_kind(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    ret->wanted = true;
    ret->option = kind->option;
    ret->in_wal = kind->wal != NOBODYS;
    ret->in_binlog = kind->binlog != NOBODYS;
    if (ret->in_wal)
        ret->log.kind = (enum hf_wal_target_kind)kind->wal;
    if (ret->in_binlog)
        ret->stop = (enum hf_binlog_stop)kind->binlog;
    if (kind->parse == NULL)
        return true;
    if (text == NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" wants a text", kind->option);
    return kind->parse(kind, text, ret, err);
}

static bool
parse_time(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    (void)kind;
    if (!hf_time_parse(text, &ret->time_ms, err))
        return false;
    ret->log.time = ret->time_ms;
    return true;
}

static bool
parse_position(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    (void)kind;
    return hf_lsn_parse(text, &ret->log.position, err) ||
           hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not a position such as 16/B374D848", text);
}

static bool
parse_transaction(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    char *end;
    (void)kind;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < 3 || number > UINT32_MAX)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not the number of a transaction, 3 to 4294967295", text);
    ret->log.transaction = (uint32_t)number;
    return true;
}

/* What goes into a line of settings. */
static bool
parse_point(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    const size_t length = strlen(text);
    (void)kind;
    if (length == 0 || length >= HF_WAL_POINT_BYTES)
        return hf_fail(err, HF_ERR_USAGE, "the name of a restore point has 1 to %d bytes", HF_WAL_POINT_BYTES - 1);
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)text[i] < 0x20)
            return hf_fail(err, HF_ERR_USAGE, "the name of a restore point has a control character");
    memcpy(ret->log.point, text, length + 1);
    return true;
}

static bool
parse_gtid(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    struct hf_error why;
    return hf_gtid_parse(HF_GTID_MARIADB, text, &ret->gtid, &why) ||
           hf_fail(err, HF_ERR_USAGE, "\"%s\" wants one transaction such as 0-1-4711, and \"%.64s\" is none",
                   kind->option, text);
}

/* "bin.000007:12765": what SHOW MASTER STATUS and mysqlbinlog tell. */
static bool
parse_binlog_position(const struct kind *kind, const char *text, struct hf_restore_target *ret, struct hf_error *err)
{
    const char *colon = strrchr(text, ':');
    const size_t length = colon == NULL ? 0 : (size_t)(colon - text);
    const size_t digits = colon == NULL ? 0 : strspn(colon + 1, "0123456789");
    if (length == 0 || length >= sizeof ret->file || memchr(text, '/', length) != NULL || digits == 0 || digits > 18 ||
        colon[1 + digits] != '\0')
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" wants a file and a position such as bin.000007:12765, not \"%.64s\"",
                       kind->option, text);
    memcpy(ret->file, text, length);
    ret->file[length] = '\0';
    ret->file_position = strtoull(colon + 1, NULL, 10);
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
kind_of(const struct hf_restore_target *target)
{
    size_t at = 0;
    while (strcmp(kinds[at].option, target->option) != 0)
        at++;
    return &kinds[at];
}

#include "server/report/words.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"

static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

static bool split(const json_t *time, struct tm *ret);

bool
hf_words_add(json_t *blocks, json_t *block, struct hf_error *err)
{
    return json_array_append_new(blocks, block) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
}

bool
hf_words_heading(json_t *blocks, const char *text, struct hf_error *err)
{
    return hf_words_add(blocks, json_pack("{s:s, s:s}", "type", "heading", "text", text), err);
}

bool
hf_words_text(json_t *blocks, const char *tone, struct hf_error *err, const char *format, ...)
{
    char line[8 * HF_KIB];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    _cleanup_(hf_json_freep) json_t *valid = hf_json_foreign_text(line, strlen(line), sizeof line); // it may be cut
    return hf_words_add(blocks, json_pack("{s:s, s:s, s:O?}", "type", "text", "tone", tone, "text", valid), err);
}

bool
hf_words_row(json_t *rows, struct hf_error *err, ...)
{
    _cleanup_(hf_json_freep) json_t *row = json_array();
    const char *text;
    va_list arguments;
    bool ok = row != NULL;
    va_start(arguments, err);
    while (ok && (text = va_arg(arguments, const char *)) != NULL) {
        const char *end = text[0] == '\1' ? strchr(text + 1, '\1') : NULL;
        ok = json_array_append_new(row, end == NULL ? json_string(text)
                                                    : json_pack("{s:s%, s:s}", "tone", text + 1,
                                                                (size_t)(end - text - 1), "text", end + 1)) == 0;
    }
    va_end(arguments);
    if (!ok)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    return hf_words_add(rows, HF_TAKE(row), err);
}

/* A broken ledger is said before anything else. */
bool
hf_words_ledger_first(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const char *state = hf_text_at(model, "ledger.state");
    const json_t *problems = hf_at(model, "ledger.problems");
    char text[2 * HF_KIB];
    if (strcmp(state, "whole") == 0)
        return true;
    if (strcmp(state, "none") == 0)
        return hf_words_add(blocks,
                            json_pack("{s:s, s:s, s:s, s:s}", "type", "band", "tone", "bad", "word", "NO EVIDENCE",
                                      "text",
                                      "This appliance has no ledger of evidence, or cannot read it. Nothing below is "
                                      "supported by a signed document."),
                            err);
    snprintf(
        text, sizeof text,
        "The ledger of signed evidence does not hold together (%zu problem%s; the first: %.900s). Documents that are "
        "still sound one by one are used below. That nothing was removed or replaced cannot be said.",
        json_array_size(problems), json_array_size(problems) == 1 ? "" : "s",
        hf_cell_text(json_array_get(problems, 0)));
    return hf_words_add(
        blocks, json_pack("{s:s, s:s, s:s, s:s}", "type", "band", "tone", "bad", "word", "LEDGER BROKEN", "text", text),
        err);
}

bool
hf_words_sign_off(json_t *blocks, struct hf_error *err)
{
    return hf_words_heading(blocks, "Review", err) &&
           hf_words_add(blocks,
                        json_pack("{s:s, s:[s, s, s]}", "type", "lines", "items", "Reviewed by (name and role)",
                                  "Date and signature", "Corrective action, if any (reference)"),
                        err);
}

json_t *
hf_words_footer(const json_t *model)
{
    char text[512];
    const char *root = hf_text_at(model, "ledger.root");
    snprintf(text, sizeof text,
             "Holdfast %s, appliance %.60s. Signed ledger of %" PRId64 " entries, key %.8s, root %.16s\xE2\x80\xA6",
             hf_text_at(model, "software"), hf_text_at(model, "appliance.name"),
             hf_number_at(model, "ledger.entries", 0), hf_text_at(model, "ledger.key_id"), root);
    return json_string(text);
}

const char *
hf_words_time(const json_t *time, char text[static HF_WORDS_BYTES])
{
    struct tm at;
    strcpy(text, "-");
    if (split(time, &at))
        snprintf(text, HF_WORDS_BYTES, "%d %s %d, %02d:%02d UTC", at.tm_mday, months[at.tm_mon], at.tm_year + 1900,
                 at.tm_hour, at.tm_min);
    return text;
}

const char *
hf_words_day(const json_t *time, char text[static HF_WORDS_BYTES])
{
    struct tm at;
    strcpy(text, "-");
    if (split(time, &at))
        snprintf(text, HF_WORDS_BYTES, "%d %.3s %d", at.tm_mday, months[at.tm_mon], at.tm_year + 1900);
    return text;
}

const char *
hf_words_moment(const json_t *time, char text[static HF_WORDS_BYTES])
{
    struct tm at;
    strcpy(text, "-");
    if (split(time, &at))
        snprintf(text, HF_WORDS_BYTES, "%d %.3s %02d:%02d", at.tm_mday, months[at.tm_mon], at.tm_hour, at.tm_min);
    return text;
}

const char *
hf_words_span(const json_t *ms, char text[static HF_WORDS_BYTES])
{
    if (!json_is_integer(ms))
        return strcpy(text, "-");
    const json_int_t value = json_integer_value(ms);
    if (value >= 1000 && value < 60000) { // to the tenth: steps of a restore are often that short
        snprintf(text, HF_WORDS_BYTES, "%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT " s", value / 1000,
                 value % 1000 / 100);
        return text;
    }
    hf_duration_format((uint64_t)(value > 0 ? value : 0), text);
    // "15 min 0 s" is 15 min; below a second it says so many milliseconds.
    char *last = strstr(text, value >= 86400000 ? " 0 h" : value >= 3600000 ? " 0 min" : " 0 s");
    if (value >= 60000 && last != NULL && last > text)
        *last = '\0';
    return text;
}

const char *
hf_words_bytes(const json_t *bytes, char text[static HF_WORDS_BYTES])
{
    if (!json_is_integer(bytes))
        return strcpy(text, "-");
    const json_int_t value = json_integer_value(bytes);
    return hf_bytes_format((uint64_t)(value > 0 ? value : 0), text);
}

const char *
hf_words_number(const json_t *number, char text[static HF_WORDS_BYTES])
{
    char digits[32];
    if (!json_is_integer(number))
        return strcpy(text, "-");
    snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
    const size_t length = strlen(digits);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

const char *
hf_words_short(const char *id, char text[static HF_WORDS_BYTES])
{
    snprintf(text, HF_WORDS_BYTES, "%.8s", id[0] == '\0' ? "-" : id);
    return text;
}

/* No recursion: the path is ours. */
const char *
hf_words_exception(const json_t *exception, char text[static HF_WORDS_EXCEPTION_BYTES])
{
    char since[HF_WORDS_BYTES], until[HF_WORDS_BYTES], back[HF_WORDS_BYTES];
    const char *state = hf_text_at(exception, "state");
    const bool withdrawn = strcmp(state, "withdrawn") == 0, expired = strcmp(state, "expired") == 0;
    const int length = snprintf(text, HF_WORDS_EXCEPTION_BYTES, "%s by %.200s on %s, until %s: %.400s",
                                withdrawn ? "Withdrawn, was accepted"
                                : expired ? "EXPIRED, was accepted"
                                          : "Accepted",
                                hf_text_at(exception, "by"), hf_words_time(hf_at(exception, "accepted_at"), since),
                                hf_words_time(hf_at(exception, "until"), until), hf_text_at(exception, "reason"));
    if (withdrawn && length > 0 && length < HF_WORDS_EXCEPTION_BYTES)
        snprintf(text + length, HF_WORDS_EXCEPTION_BYTES - (size_t)length, " (taken back by %.100s on %s: %.200s)",
                 hf_text_at(exception, "withdrawn_by"), hf_words_time(hf_at(exception, "withdrawn_at"), back),
                 hf_text_at(exception, "withdrawn_reason"));
    return text;
}

json_t *
hf_own(const json_t *object, const char *path)
{
    return (json_t *)(uintptr_t)hf_at(object, path);
}

const json_t *
hf_at(const json_t *object, const char *path)
{
    char step[64];
    while (object != NULL && *path != '\0') {
        const size_t length = strcspn(path, ".");
        snprintf(step, sizeof step, "%.*s", (int)length, path);
        object = json_object_get(object, step);
        path += length + (path[length] == '.');
    }
    return object;
}

int64_t
hf_number_at(const json_t *object, const char *path, int64_t missing)
{
    const json_t *found = hf_at(object, path);
    return json_is_integer(found) ? json_integer_value(found) : missing;
}

const char *
hf_text_at(const json_t *object, const char *path)
{
    const char *text = json_string_value(hf_at(object, path));
    return text == NULL ? "" : text;
}

static bool
split(const json_t *time, struct tm *ret)
{
    int64_t ms;
    if (!json_is_string(time) || !hf_time_parse(json_string_value(time), &ms, NULL))
        return false;
    const time_t seconds = (time_t)(ms / 1000);
    return gmtime_r(&seconds, ret) != NULL;
}

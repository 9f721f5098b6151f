#include "server/settings/assertion.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define NAME_MOST 40
#define WORD_MOST 63

static const struct {
    const char *words;
    enum hf_assertion_rule rule;
} rules[] = {
    {"is", HF_ASSERT_IS},           {"at least", HF_ASSERT_AT_LEAST},
    {"at most", HF_ASSERT_AT_MOST}, {"newer than", HF_ASSERT_NEWER_THAN},
    {"as live", HF_ASSERT_AS_LIVE},
};

static bool parse_line(const char *line, size_t length, struct hf_assertion *ret);
static bool take_word(const char **at, const char *end, char *ret, size_t bytes);
static bool take_words(const char **at, const char *end, const char *words);
static bool take_number(const char **at, const char *end, double *ret);
static bool take_bound(const char **at, const char *end, struct hf_assertion *assertion);

bool
hf_assertions_parse(const char *text, struct hf_assertions *ret, struct hf_error *err)
{
    *ret = (struct hf_assertions){0};
    for (const char *at = text != NULL ? text : "", *next; *at != 0; at = next) {
        const size_t length = strcspn(at, "\n");
        next = at + length + (at[length] != 0);
        if (strspn(at, " \t") >= length)
            continue;
        if (ret->count == HF_ASSERTIONS_MOST)
            return hf_fail(err, HF_ERR_USAGE, "there are more than %d assertions", HF_ASSERTIONS_MOST);
        struct hf_assertion *assertion = &ret->items[ret->count];
        if (!parse_line(at, length, assertion)) {
            hf_fail(err, HF_ERR_USAGE, "\"%.*s\" is no assertion", length < 120 ? (int)length : 120, at);
            return hf_fail_hint(err, "Such as: patients in clinic at least 1000: SELECT count(*) FROM patients");
        }
        for (size_t i = 0; i < ret->count; i++)
            if (strcmp(ret->items[i].check, assertion->check) == 0)
                return hf_fail(err, HF_ERR_USAGE, "there are two assertions \"%s\"", assertion->check + 7);
        ret->count++;
    }
    return true;
}

static bool
parse_line(const char *line, size_t length, struct hf_assertion *ret)
{
    const char *at = line, *end = memchr(line, ':', length);
    char word[WORD_MOST + 1];
    *ret = (struct hf_assertion){.database = ""};
    if (end == NULL || !take_word(&at, end, word, NAME_MOST + 1) ||
        strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(word))
        return false;
    snprintf(ret->check, sizeof ret->check, "assert_%.40s", word);
    if (take_words(&at, end, "in") && !take_word(&at, end, ret->database, sizeof ret->database))
        return false;
    size_t rule = 0;
    while (rule < HF_LENGTH(rules) && !take_words(&at, end, rules[rule].words))
        rule++;
    if (rule == HF_LENGTH(rules))
        return false;
    ret->rule = rules[rule].rule;
    if (!take_bound(&at, end, ret) || (size_t)(end - at) != strspn(at, " "))
        return false;

    const char *sql = end + 1;
    sql += strspn(sql, " \t");
    const size_t left = sql < line + length ? (size_t)(line + length - sql) : 0;
    if (left == 0 || left >= sizeof ret->sql)
        return false;
    memcpy(ret->sql, sql, left);
    return true;
}

/* Up to a blank or the end; longer ones are not cut but refused. */
static bool
take_word(const char **at, const char *end, char *ret, size_t bytes)
{
    const char *from = *at + strspn(*at, " ");
    size_t length = 0;
    while (from + length < end && from[length] != ' ')
        length++;
    if (from >= end || length == 0 || length >= bytes)
        return false;
    memcpy(ret, from, length);
    ret[length] = 0;
    *at = from + length;
    return true;
}

static bool
take_words(const char **at, const char *end, const char *words)
{
    const char *from = *at + strspn(*at, " ");
    const size_t length = strlen(words);
    if (from + length > end || strncmp(from, words, length) != 0 || (from + length < end && from[length] != ' '))
        return false;
    *at = from + length;
    return true;
}

/* Digits, a sign and a point: nothing else that strtod would take. */
static bool
take_number(const char **at, const char *end, double *ret)
{
    char text[32], *stop;
    const char *from = *at + strspn(*at, " ");
    const size_t length = strspn(from, "-0123456789.");
    if (length == 0 || length >= sizeof text || from + length > end)
        return false;
    memcpy(text, from, length);
    text[length] = 0;
    *ret = strtod(text, &stop);
    *at = from + length;
    return *stop == 0 && isfinite(*ret);
}

static bool
take_bound(const char **at, const char *end, struct hf_assertion *assertion)
{
    static const struct {
        char letter;
        double ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    if (assertion->rule == HF_ASSERT_AS_LIVE) {
        if (!take_words(at, end, "within"))
            return true;
        if (!take_number(at, end, &assertion->bound) || assertion->bound < 0)
            return false;
        assertion->relative = *at < end && **at == '%';
        *at += assertion->relative;
        return true;
    }
    if (!take_number(at, end, &assertion->bound))
        return false;
    if (assertion->rule != HF_ASSERT_NEWER_THAN)
        return true;
    for (size_t i = 0; i < HF_LENGTH(units); i++)
        if (*at < end && **at == units[i].letter && assertion->bound > 0) {
            assertion->bound *= units[i].ms;
            (*at)++;
            return true;
        }
    return false;
}

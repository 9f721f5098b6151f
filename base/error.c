#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The macros of error.h are for callers; here the functions themselves are meant.
#undef hf_fail
#undef hf_fail_errno
#undef hf_fail_within
#undef hf_fail_hint

static const char *const kind_names[] = {
    [HF_ERR_NONE] = "none",
    [HF_ERR_USAGE] = "usage",
    [HF_ERR_NOT_FOUND] = "not_found",
    [HF_ERR_CONFLICT] = "conflict",
    [HF_ERR_DENIED] = "denied",
    [HF_ERR_CORRUPT] = "corrupt",
    [HF_ERR_UNAVAILABLE] = "unavailable",
    [HF_ERR_NO_SPACE] = "no_space",
    [HF_ERR_NO_MEMORY] = "no_memory",
    [HF_ERR_CANCELLED] = "cancelled",
};

static enum hf_error_kind kind_of_errno(int system);
static void put_text(char *at, size_t size, const char *format, ...) HF_PRINTF(3, 4);
static void put_text_of(char *at, size_t size, const char *format, va_list arguments) HF_PRINTF(3, 0);
static void drop_half_character(char *text);

bool
hf_fail(struct hf_error *err, enum hf_error_kind kind, const char *format, ...)
{
    if (err == NULL)
        return false;

    // The arguments may point into *err itself, so nothing of it is touched before the text is complete.
    char message[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    put_text_of(message, sizeof message, format, arguments);
    va_end(arguments);

    err->kind = kind;
    err->system = 0;
    err->hint[0] = '\0';
    memcpy(err->message, message, sizeof message);
    return false;
}

bool
hf_fail_errno(struct hf_error *err, enum hf_error_kind kind, const char *format, ...)
{
    int system = errno;
    if (err == NULL)
        return false;

    char message[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    put_text_of(message, sizeof message, format, arguments);
    va_end(arguments);

    const char *reason = strerrordesc_np(system);
    err->kind = kind == HF_ERR_NONE ? kind_of_errno(system) : kind;
    err->system = system;
    err->hint[0] = '\0';
    if (reason != NULL)
        put_text(err->message, sizeof err->message, "%s: %s", message, reason);
    else
        put_text(err->message, sizeof err->message, "%s: error %d", message, system);
    return false;
}

bool
hf_fail_within(struct hf_error *err, const char *format, ...)
{
    if (err == NULL)
        return false;

    char context[HF_ERROR_MESSAGE_BYTES], message[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    put_text_of(context, sizeof context, format, arguments);
    va_end(arguments);

    memcpy(message, err->message, sizeof message);
    put_text(err->message, sizeof err->message, "%s: %s", context, message);
    return false;
}

bool
hf_fail_hint(struct hf_error *err, const char *format, ...)
{
    if (err == NULL)
        return false;

    char added[HF_ERROR_HINT_BYTES], before[HF_ERROR_HINT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    put_text_of(added, sizeof added, format, arguments);
    va_end(arguments);

    memcpy(before, err->hint, sizeof before);
    put_text(err->hint, sizeof err->hint, "%s%s%s", before, before[0] == '\0' ? "" : " ", added);
    return false;
}

const char *
hf_error_kind_name(enum hf_error_kind kind)
{
    return (size_t)kind < HF_LENGTH(kind_names) ? kind_names[kind] : "none";
}

enum hf_error_kind
hf_error_kind_from_name(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(kind_names); i++)
        if (strcmp(kind_names[i], name) == 0)
            return (enum hf_error_kind)i;
    return HF_ERR_NONE;
}

static enum hf_error_kind
kind_of_errno(int system)
{
    switch (system) {
    case ENOSPC:
    case EDQUOT:
        return HF_ERR_NO_SPACE;
    case ENOENT:
        return HF_ERR_NOT_FOUND;
    case EEXIST:
        return HF_ERR_CONFLICT;
    case EACCES:
    case EPERM:
        return HF_ERR_DENIED;
    case ENOMEM:
        return HF_ERR_NO_MEMORY;
    default:
        return HF_ERR_UNAVAILABLE;
    }
}

static void
put_text(char *at, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    put_text_of(at, size, format, arguments);
    va_end(arguments);
}

static void
put_text_of(char *at, size_t size, const char *format, va_list arguments)
{
    if (vsnprintf(at, size, format, arguments) >= (int)size)
        drop_half_character(at);
}

/* A text cut at its limit may end inside a UTF-8 sequence, and JSON would refuse the whole message. */
static void
drop_half_character(char *text)
{
    size_t end = strlen(text), lead = end;
    while (lead > 0 && ((uint8_t)text[lead - 1] & 0xC0) == 0x80)
        lead--;
    if (lead == 0)
        return;

    uint8_t first = (uint8_t)text[lead - 1];
    size_t whole = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
    if (end - (lead - 1) < whole)
        text[lead - 1] = '\0';
}

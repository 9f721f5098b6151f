#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"

#define LINE_BYTES    4096 // a longer line is cut; one write() each, so that processes do not mix within a line
#define PROCESS_BYTES 32

static const char *const level_names[] = {
    [HF_LOG_ERROR] = "error",
    [HF_LOG_WARNING] = "warning",
    [HF_LOG_INFO] = "info",
    [HF_LOG_DEBUG] = "debug",
};

static char process_name[PROCESS_BYTES] = "holdfast";
static atomic_int least_level = HF_LOG_INFO;

static void write_line(enum hf_log_level level, const struct hf_error *err, const char *format, va_list arguments)
    HF_PRINTF(3, 0);
static void add_shown(char *line, size_t *length, const char *text);

void
hf_log_setup(const char *process, enum hf_log_level level)
{
    snprintf(process_name, sizeof process_name, "%s", process);
    atomic_store(&least_level, level);
}

void
hf_log_error(const struct hf_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(HF_LOG_ERROR, err, format, arguments);
    va_end(arguments);
}

void
hf_log_warning(const struct hf_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(HF_LOG_WARNING, err, format, arguments);
    va_end(arguments);
}

void
hf_log_info(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(HF_LOG_INFO, NULL, format, arguments);
    va_end(arguments);
}

void
hf_log_debug(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(HF_LOG_DEBUG, NULL, format, arguments);
    va_end(arguments);
}

static void
write_line(enum hf_log_level level, const struct hf_error *err, const char *format, va_list arguments)
{
    if ((int)level > atomic_load(&least_level))
        return;

    char event[LINE_BYTES], line[LINE_BYTES], moment[HF_TIME_TEXT_BYTES];
    vsnprintf(event, sizeof event, format, arguments);

    size_t length = (size_t)snprintf(line, sizeof line, "%s %s %s: ", hf_time_format(hf_time_now_ms(), moment),
                                     level_names[level], process_name);
    add_shown(line, &length, event);
    if (err != NULL && err->kind != HF_ERR_NONE) {
        add_shown(line, &length, ": ");
        add_shown(line, &length, err->message);
        if (err->hint[0] != '\0') {
            add_shown(line, &length, ". ");
            add_shown(line, &length, err->hint);
        }
    }
    line[length++] = '\n';

    // A log that cannot be written has nobody to tell.
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

/* Adds text with every byte as \xNN that is a control (C0, DEL, C1) or not UTF-8. */
static void
add_shown(char *line, size_t *length, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = (const uint8_t *)text;
    for (size_t left = strlen(text); left > 0;) {
        size_t bytes = hf_utf8_length(at, left);
        bool shown = bytes > 0 && at[0] >= 0x20 && at[0] != 0x7F && !(at[0] == 0xC2 && at[1] < 0xA0);
        if (bytes == 0)
            bytes = 1;
        if (*length + 4 * bytes > LINE_BYTES - 1) // the line end needs one
            return;

        for (size_t i = 0; i < bytes; i++) {
            if (shown) {
                line[(*length)++] = (char)at[i];
                continue;
            }
            line[(*length)++] = '\\';
            line[(*length)++] = 'x';
            line[(*length)++] = digits[at[i] >> 4];
            line[(*length)++] = digits[at[i] & 15];
        }
        at += bytes;
        left -= bytes;
    }
}

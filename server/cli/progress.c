#include "server/cli/progress.h"

#include <inttypes.h>
#include <string.h>

#include "base/time.h"

#define PLAIN_EVERY_NS UINT64_C(10000000000)
#define RATE_AFTER_NS  UINT64_C(500000000) // before that a rate says nothing

static void show_progress(struct hf_progress_line *line, const json_t *event, uint64_t now_ns);
static void print_place(struct hf_progress_line *line, uint64_t done, uint64_t total, uint64_t now_ns);
static void show_note(struct hf_progress_line *line, const json_t *event);

void
hf_progress_begin(struct hf_progress_line *line, FILE *out, bool terminal, bool silent)
{
    *line = (struct hf_progress_line){.out = out, .terminal = terminal, .silent = silent};
}

void
hf_progress_event(struct hf_progress_line *line, const json_t *event, uint64_t now_ns)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    if (name == NULL || line->silent)
        return;
    if (strcmp(name, "progress") == 0)
        show_progress(line, event, now_ns);
    else if (strcmp(name, "note") == 0)
        show_note(line, event);
}

void
hf_progress_end(struct hf_progress_line *line)
{
    if (line->open)
        fputs("\r\033[K", line->out);
    line->open = false;
    fflush(line->out);
}

static void
show_progress(struct hf_progress_line *line, const json_t *event, uint64_t now_ns)
{
    const char *phase = json_string_value(json_object_get(event, "phase"));
    uint64_t done = (uint64_t)json_integer_value(json_object_get(event, "done"));
    uint64_t total = (uint64_t)json_integer_value(json_object_get(event, "total"));
    if (phase == NULL)
        return;

    bool begins = strcmp(phase, line->phase) != 0;
    if (begins) {
        snprintf(line->phase, sizeof line->phase, "%s", phase);
        line->phase_done = done;
        line->phase_ns = now_ns;
    }
    if (!line->terminal && !begins && now_ns - line->shown_ns < PLAIN_EVERY_NS)
        return;
    line->shown_ns = now_ns;
    if (line->terminal)
        fputs("\r\033[K", line->out);
    print_place(line, done, total, now_ns);
    if (!line->terminal)
        fputc('\n', line->out);
    line->open = line->terminal;
    fflush(line->out);
}

/* "copy: 1.2 GiB of 3.4 GiB (35 %), 88.0 MiB/s" */
static void
print_place(struct hf_progress_line *line, uint64_t done, uint64_t total, uint64_t now_ns)
{
    char text[HF_TIME_TEXT_BYTES];
    uint64_t passed_ns = now_ns - line->phase_ns;
    fputs(line->phase, line->out);
    if (done > 0 || total > 0)
        fprintf(line->out, ": %s", hf_bytes_format(done, text));
    if (total > 0)
        fprintf(line->out, " of %s (%" PRIu64 " %%)", hf_bytes_format(total, text),
                done >= total ? 100 : (uint64_t)((double)done * 100 / (double)total));
    if (passed_ns > RATE_AFTER_NS && done > line->phase_done) {
        double rate = (double)(done - line->phase_done) * 1e9 / (double)passed_ns;
        fprintf(line->out, ", %s/s", hf_bytes_format((uint64_t)rate, text));
    }
}

static void
show_note(struct hf_progress_line *line, const json_t *event)
{
    const char *level = json_string_value(json_object_get(event, "level"));
    const char *message = json_string_value(json_object_get(event, "message"));
    hf_progress_end(line);
    if (message != NULL)
        fprintf(line->out, "%s%s\n", level != NULL && strcmp(level, "warning") == 0 ? "warning: " : "", message);
    fflush(line->out);
}

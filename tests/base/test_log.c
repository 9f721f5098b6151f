#include "tests/support/test.h"

#include <unistd.h>

#include "base/log.h"
#include "base/time.h"

#define MOST_CAUGHT 16384

/* Runs the calls of one test with stderr turned into a pipe. */
static char caught[MOST_CAUGHT];
static int kept_stderr, pipe_ends[2];

static void
catch_begin(void)
{
    assert_int_equal(pipe(pipe_ends), 0);
    kept_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[1]);
}

static const char *
catch_end(void)
{
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    ssize_t got = read(pipe_ends[0], caught, sizeof caught - 1);
    close(pipe_ends[0]);
    caught[got > 0 ? got : 0] = '\0';
    return caught;
}

HF_TEST(a_line_has_moment_level_process_and_event)
{
    hf_log_setup("backup", HF_LOG_INFO);
    catch_begin();
    hf_log_info("source \"%s\" is back", "clinic");
    const char *line = catch_end();

    int64_t moment;
    char text[64];
    struct hf_error err;
    snprintf(text, sizeof text, "%.24s", line);
    hf_assert_ok(hf_time_parse(text, &moment, &err), &err);
    assert_string_equal(line + 24, " info backup: source \"clinic\" is back\n");
}

HF_TEST(a_warning_carries_the_errors_message_and_hint)
{
    struct hf_error err;
    hf_fail(&err, HF_ERR_UNAVAILABLE, "could not reach \"db1\"");
    hf_fail_hint(&err, "Check the network.");
    hf_log_setup("backup", HF_LOG_INFO);
    catch_begin();
    hf_log_warning(&err, "trying again in %d s", 5);
    assert_string_equal(catch_end() + 24,
                        " warning backup: trying again in 5 s: could not reach \"db1\". Check the network.\n");
    catch_begin();
    hf_log_error(NULL, "giving up");
    assert_string_equal(catch_end() + 24, " error backup: giving up\n");
}

HF_TEST(less_important_lines_than_asked_for_are_left_out)
{
    hf_log_setup("backup", HF_LOG_WARNING);
    catch_begin();
    hf_log_info("quiet");
    hf_log_debug("quieter");
    hf_log_warning(NULL, "loud");
    assert_string_equal(catch_end() + 24, " warning backup: loud\n");
}

HF_TEST(control_bytes_cannot_forge_a_line_or_drive_a_terminal)
{
    hf_log_setup("backup", HF_LOG_INFO);
    catch_begin();
    hf_log_info("%s", "a\nb\x1b[2J\x7f\tc \xc3\xa9 \xc2\x9b \x9b");
    assert_string_equal(catch_end() + 24, " info backup: a\\x0ab\\x1b[2J\\x7f\\x09c \xc3\xa9 \\xc2\\x9b \\x9b\n");
}

HF_TEST(a_line_that_is_too_long_is_cut_and_still_one_line)
{
    static char text[9000];
    memset(text, '\n', sizeof text - 1);
    hf_log_setup("backup", HF_LOG_INFO);
    catch_begin();
    hf_log_info("%s", text);
    const char *line = catch_end();
    assert_in_range(strlen(line), 4000, 4096);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

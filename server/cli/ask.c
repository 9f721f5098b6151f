#include "server/cli/ask.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"

#define LINE_MOST 4096

static bool read_line(int fd, char *line, size_t size, struct hf_error *err);
static bool ask_unseen(int fd, const char *question, char *line, size_t size, struct hf_error *err);

bool
hf_ask_line(const char *question, const char *option, char **ret, struct hf_error *err)
{
    char line[LINE_MOST];
    if (!isatty(STDIN_FILENO))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is missing", option);
    fprintf(stderr, "%s: ", question);
    if (!read_line(STDIN_FILENO, line, sizeof line, err))
        return false;
    if (line[0] == '\0')
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is missing", option);
    if ((*ret = strdup(line)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    return true;
}

bool
hf_ask_passphrase(const char *question, struct hf_secret *ret, size_t most, struct hf_error *err)
{
    char first[LINE_MOST], second[LINE_MOST];
    if (!isatty(STDIN_FILENO))
        return true;
    bool done = ask_unseen(STDIN_FILENO, question, first, sizeof first, err);
    if (done && first[0] != '\0') {
        done = ask_unseen(STDIN_FILENO, "The same again", second, sizeof second, err);
        if (done && strcmp(first, second) != 0)
            done = hf_fail(err, HF_ERR_USAGE, "the two passphrases are not the same");
        if (done && strlen(first) > most)
            done = hf_fail(err, HF_ERR_USAGE, "the passphrase is longer than %zu bytes", most);
        done = done && hf_secret_copy(ret, first, strlen(first), err);
    }
    explicit_bzero(first, sizeof first);
    explicit_bzero(second, sizeof second);
    return done;
}

bool
hf_ask_secret(const char *question, const char *option, struct hf_secret *ret, size_t most, struct hf_error *err)
{
    char line[LINE_MOST];
    if (!isatty(STDIN_FILENO))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is missing", option);
    bool done = ask_unseen(STDIN_FILENO, question, line, sizeof line, err);
    if (done && (line[0] == '\0' || strlen(line) > most))
        done = hf_fail(err, HF_ERR_USAGE, "a passphrase has 1 to %zu bytes", most);
    done = done && hf_secret_copy(ret, line, strlen(line), err);
    explicit_bzero(line, sizeof line);
    return done;
}

/* Byte by byte: what stands behind the line is not ours to take. */
static bool
read_line(int fd, char *line, size_t size, struct hf_error *err)
{
    size_t length = 0;
    char byte;
    while (read(fd, &byte, 1) == 1 && byte != '\n') {
        if (length + 1 == size)
            return hf_fail(err, HF_ERR_USAGE, "the answer is longer than %zu bytes", size - 1);
        line[length++] = byte;
    }
    line[length] = '\0';
    return true;
}

static bool
ask_unseen(int fd, const char *question, char *line, size_t size, struct hf_error *err)
{
    struct termios before, unseen;
    fprintf(stderr, "%s: ", question);
    if (tcgetattr(fd, &before) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not turn the terminal's echo off");
    unseen = before;
    unseen.c_lflag &= ~(tcflag_t)ECHO;
    if (tcsetattr(fd, TCSAFLUSH, &unseen) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not turn the terminal's echo off");
    bool done = read_line(fd, line, size, err);
    tcsetattr(fd, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return done;
}

#include "server/source/mariadb/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/source/mariadb/words.h"
#include "server/storage/ssh_place.h"

#define WORDS_MOST     32
#define LINE_MOST      2048
#define SSH_WORDS_MOST (8 * HF_KIB) // of stderr, kept in memory for what ssh itself says
#define END_MS         120000       // between the end of its output and its own
#define VERSION_MS     40000
#define PASSWORD_MOST  1024
#define PASSWORD_NAME  "MYSQL_PWD"
#define SSH_FAILED     255
#define COMPLETED      "completed OK!"
#define PIPE_BYTES     (1024 * 1024)

/* The words of one run, and where it happens. */
struct command {
    const char *words[WORDS_MOST + 1]; // ends with NULL; the first is the tool
    size_t count;
    char user[300], host[300], port[32], socket[300], throttle[40], tls[300];
    struct hf_ssh_place place;
    struct hf_ssh_command ssh;
    bool remote;
};

struct hf_backup_tool {
    const struct hf_flavour *flavour;      // borrowed from the caller
    const struct hf_source_target *target; // borrowed from the caller
    struct hf_process process;
    int output, errors;
    pthread_t listener; // reads stderr
    bool listening;
    struct hf_tool_words words; // the listener's until it is joined
    struct hf_buf said;         // of ssh; likewise
    bool remote;
};

/* What the tools say when they fail, and what that means. */
static const struct {
    const char *words;
    enum hf_error_kind kind;
    const char *message; // with %s: the detail
    const char *hint;
    char from, to; // the detail stands between these letters behind the words; 0: the rest of the line
} known[] = {
    {"missing required privilege ", HF_ERR_DENIED, "the account lacks the right %s",
     "GRANT that right ON *.* TO the account; \"holdfast doctor\" prints the statement.", 0, ' '},
    {"you need (at least one of) the ", HF_ERR_DENIED, "the account lacks one of the rights %s",
     "\"holdfast doctor\" prints the GRANT that is missing.", 0, 'p'},
    {"Access denied for user", HF_ERR_DENIED, "the server does not let its account in",
     "Look at tool_connection and password_file: the account must be let in from the host where the tool runs.", 0, 0},
    {"Access denied", HF_ERR_DENIED, "the account lacks a right",
     "\"holdfast doctor\" prints the GRANT that is missing.", 0, 0},
    {"Failed to connect to M", HF_ERR_UNAVAILABLE, "it could not reach the server",
     "Set tool_connection to what reaches the server from the host where the tool runs, such as its socket.", 0, 0},
    {"Unsupported server version", HF_ERR_USAGE, "it is of another series than the server",
     "Install the package of the server's own release, or set backup_tool to its path.", 0, 0},
    {"Permission denied", HF_ERR_DENIED, "its user may not read the server's files",
     "Let ssh log in as a user who may read the data directory: mysql, or root.", 0, 0},
    {"Errcode: 13", HF_ERR_DENIED, "its user may not read the server's files",
     "Let ssh log in as a user who may read the data directory: mysql, or root.", 0, 0},
    {"cannot change directory", HF_ERR_DENIED, "its user may not enter the server's data directory",
     "Let the tool run on the server's own host (ssh), as a user who may read the data directory.", 0, 0},
    {"Can't change dir to", HF_ERR_DENIED, "it cannot enter the server's data directory",
     "Let the tool run on the server's own host (ssh), as a user who may read the data directory.", 0, 0},
    {"No space left on device", HF_ERR_NO_SPACE, "a disk of the server's host is full",
     "Make room in its folder for temporary files.", 0, 0},
    {"Errcode: 28", HF_ERR_NO_SPACE, "a disk of the server's host is full",
     "Make room in its folder for temporary files.", 0, 0},
    {"Database page corruption detected", HF_ERR_CORRUPT, "a page of the server is damaged", "", 0, 0},
    {"seems to be corrupted", HF_ERR_CORRUPT, "a file of the server is damaged: \"%s\"", "", '"', '"'},
    {"was only able to copy", HF_ERR_UNAVAILABLE, "the server overwrote its redo log before it was copied",
     "Raise innodb_log_file_size, or take the limit max_rate away.", 0, 0},
    {"copying the log failed", HF_ERR_UNAVAILABLE, "the redo log could not be copied to its end",
     "Raise innodb_log_file_size, or take the limit max_rate away.", 0, 0},
    {"plugin is not loaded", HF_ERR_USAGE, "the plugin with the keys of encrypted tables cannot be loaded there",
     "Make the plugin's file and its keys readable for the tool's user.", 0, 0},
    {"cannot be decrypted", HF_ERR_USAGE, "encrypted tables cannot be read there",
     "Make the file with the keys readable for the tool's user.", 0, 0},
    {"Dictionary unavailable", HF_ERR_CORRUPT, "InnoDB's list of tables cannot be read", "", 0, 0},
    {"Lock wait timeout exceeded", HF_ERR_UNAVAILABLE, "the server did not give it the locks of a backup in time",
     "A long transaction or statement was in the way: take the backup at another time.", 0, 0},
    {"unknown option", HF_ERR_USAGE, "it does not know what we ask of it: it is another program or release",
     "Install the package of the server's own release, or set backup_tool to its path.", 0, 0},
    {"command not found", HF_ERR_NOT_FOUND, "it is not there", "", 0, 0},
    {"No such file or directory", HF_ERR_NOT_FOUND, "it is not there, or a file of the server was removed under it", "",
     0, 0},
};

static bool set_up(const struct hf_flavour *flavour, const struct hf_source_target *target, struct command *command,
                   struct hf_error *err);
static bool add_connection(const struct hf_source_target *target, struct command *command, struct hf_error *err);
static void add_word(struct command *command, const char *word);
static bool check_password(const struct hf_source_target *target, struct hf_error *err);
static bool start(struct hf_backup_tool *tool, struct command *command, bool with_password, struct hf_error *err);
static bool start_process(struct hf_backup_tool *tool, struct command *command, const struct hf_secret *password,
                          int output, int errors, struct hf_error *err);
static bool send_password(int input, const struct hf_secret *password, struct hf_error *err);
static bool fail_missing(const struct hf_flavour *flavour, const struct hf_source_target *target, const char *why,
                         struct hf_error *err);
static const char *name_of(const struct hf_flavour *flavour, const struct hf_source_target *target);
static void *listen_to(void *context);
static bool stop_listening(struct hf_backup_tool *tool, int *ret_status, struct hf_error *err);
static bool judge(struct hf_backup_tool *tool, int status, struct hf_error *err);

bool
hf_backup_tool_start(const struct hf_flavour *flavour, const struct hf_source_target *target, uint64_t throttle,
                     struct hf_backup_tool **ret, struct hf_error *err)
{
    _cleanup_(hf_backup_tool_freep) struct hf_backup_tool *tool = calloc(1, sizeof *tool);
    _cleanup_(hf_freep) struct command *command = calloc(1, sizeof *command);
    if (tool == NULL || command == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup tool");
    *tool = (struct hf_backup_tool){.flavour = flavour, .target = target, .process = HF_PROCESS_NONE, .output = -1};
    tool->errors = -1;
    if (!set_up(flavour, target, command, err) || !check_password(target, err))
        return false;
    add_word(command, "--no-defaults");
    add_word(command, "--backup");
    add_word(command, flavour->stream);
    add_word(command, "--parallel=1");
    for (size_t i = 0; i < HF_LENGTH(flavour->options) && flavour->options[i] != NULL; i++)
        add_word(command, flavour->options[i]);
    if (throttle > 0) {
        snprintf(command->throttle, sizeof command->throttle, "--throttle=%llu", (unsigned long long)throttle);
        add_word(command, command->throttle);
    }
    if (!add_connection(target, command, err) || !start(tool, command, true, err))
        return false;
    *ret = HF_TAKE(tool);
    return true;
}

void
hf_backup_tool_freep(struct hf_backup_tool **tool)
{
    if (*tool == NULL)
        return;
    hf_process_kill(&(*tool)->process);
    hf_closep(&(*tool)->output);
    if ((*tool)->listening)
        pthread_join((*tool)->listener, NULL);
    hf_closep(&(*tool)->errors);
    hf_buf_done(&(*tool)->said);
    free(*tool);
    *tool = NULL;
}

int
hf_backup_tool_output(const struct hf_backup_tool *tool)
{
    return tool->output;
}

bool
hf_backup_tool_finish(struct hf_backup_tool *tool, struct hf_error *err)
{
    int status;
    return stop_listening(tool, &status, err) && judge(tool, status, err);
}

bool
hf_backup_tool_version(const struct hf_flavour *flavour, const struct hf_source_target *target,
                       char ret[static HF_TOOL_VERSION_BYTES], struct hf_error *err)
{
    _cleanup_(hf_freep) struct command *command = calloc(1, sizeof *command);
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(LINE_MOST), errors = HF_BUF_INIT(SSH_WORDS_MOST);
    int status;
    if (command == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup tool");
    if (!set_up(flavour, target, command, err))
        return false;
    add_word(command, "--version");
    if (command->remote && !hf_ssh_program(&command->place, command->words, NULL, &command->ssh, err))
        return false;
    const struct hf_process_options options = {
        .argv = command->remote ? command->ssh.argv : command->words, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct hf_error why;
    if (!hf_process_run(&options, NULL, 0, VERSION_MS, &output, &errors, &status, &why)) {
        if (why.system == ENOENT || why.kind == HF_ERR_NOT_FOUND)
            return fail_missing(flavour, target, why.message, err);
        *err = why;
        return false;
    }
    if (command->remote && WIFEXITED(status) && WEXITSTATUS(status) == SSH_FAILED)
        return hf_ssh_explain(target->tool_host, hf_buf_text(&errors), err);
    // "... based on MariaDB server 10.11.19-MariaDB ...", "xtrabackup version 8.0.35-30 ...": on stdout or stderr.
    for (int i = 0; i < 2 && status == 0; i++) {
        const char *text = hf_buf_text(i == 0 ? &output : &errors);
        const char *at = strstr(text, "server ");
        at = at != NULL ? at + 7 : (at = strstr(text, "version ")) != NULL ? at + 8 : NULL;
        const size_t length = at == NULL ? 0 : strspn(at, "0123456789.");
        if (length == 0 || length >= HF_TOOL_VERSION_BYTES)
            continue;
        memcpy(ret, at, length);
        ret[length] = '\0';
        return true;
    }
    struct hf_tool_words words = {.row = -1};
    if (status == 0)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" does not say which version it is", name_of(flavour, target)) ||
               hf_fail_hint(err, "Set backup_tool to the path of %s.", flavour->tool);
    return hf_tool_words_fail(&words, flavour, target, status, err);
}

bool
hf_backup_tool_fits(const char *tool, const char *server)
{
    size_t length = strspn(tool, "0123456789");
    if (length == 0 || tool[length] != '.')
        return false;
    length += 1 + strspn(tool + length + 1, "0123456789");
    return strncmp(tool, server, length) == 0 && (server[length] < '0' || server[length] > '9');
}

void
hf_tool_words_read(struct hf_tool_words *words, const char *line)
{
    if (strstr(line, COMPLETED) != NULL) {
        words->completed = true;
        return;
    }
    if (line[strspn(line, " \t")] != '\0')
        words->completed = false;
    for (size_t i = 0; words->row < 0 && i < HF_LENGTH(known); i++) {
        const char *at = strstr(line, known[i].words);
        if (at == NULL)
            continue;
        words->row = (int)i;
        at += strlen(known[i].words);
        if (known[i].from != '\0')
            at = strchr(line, known[i].from) != NULL ? strchr(line, known[i].from) + 1 : "";
        size_t length = 0;
        // Names of rights and files alone: nothing else of a line goes on.
        for (; at[length] != '\0' && length + 1 < sizeof words->detail; length++) {
            const char *const rights = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_, ";
            if (known[i].from != '\0' ? at[length] == known[i].to || (uint8_t)at[length] < 0x20
                                      : strchr(rights, at[length]) == NULL)
                break;
            words->detail[length] = at[length];
        }
        while (length > 0 && words->detail[length - 1] == ' ')
            length--;
        words->detail[length] = '\0';
        // "PROCESS on *.*" has left "PROCESS"; the "ON" of other releases goes, too.
        if (length > 3 && strcmp(words->detail + length - 3, " ON") == 0)
            words->detail[length - 3] = '\0';
    }
}

bool
hf_tool_words_fail(const struct hf_tool_words *words, const struct hf_flavour *flavour,
                   const struct hf_source_target *target, int status, struct hf_error *err)
{
    const char *name = name_of(flavour, target);
    char said[256];
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 127 || code == 126)
        return fail_missing(flavour, target, "it is not there, or cannot be run", err);
    if (words->row >= 0 && known[words->row].kind != HF_ERR_NOT_FOUND) {
        const char *percent = strstr(known[words->row].message, "%s");
        if (percent != NULL)
            snprintf(said, sizeof said, "%.*s%s%s", (int)(percent - known[words->row].message),
                     known[words->row].message, words->detail, percent + 2);
        else
            snprintf(said, sizeof said, "%s", known[words->row].message);
        hf_fail(err, known[words->row].kind, "\"%s\" could not copy \"%s\": %s", name, target->name, said);
        return known[words->row].hint[0] == '\0' ? false : hf_fail_hint(err, "%s", known[words->row].hint);
    }
    if (!WIFEXITED(status))
        hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" was killed by signal %d while it copied \"%s\"", name,
                WIFSIGNALED(status) ? WTERMSIG(status) : 0, target->name);
    else if (code != 0)
        hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" failed with status %d while it copied \"%s\"", name, code,
                target->name);
    else
        hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" did not say that it completed the copy of \"%s\"", name, target->name);
    return hf_fail_hint(err,
                        "Run \"%s --no-defaults --backup %s >/dev/null\" there to read its own words: they are "
                        "not kept here, since they can hold data.",
                        name, flavour->stream);
}

static bool
set_up(const struct hf_flavour *flavour, const struct hf_source_target *target, struct command *command,
       struct hf_error *err)
{
    const char *name = name_of(flavour, target);
    command->remote = target->tool_host != NULL;
    if (name[0] == '-' || name[0] == '\0')
        return hf_fail(err, HF_ERR_USAGE, "\"backup_tool\" is \"%.100s\", which is no program", name);
    add_word(command, name);
    return !command->remote || hf_ssh_host_parse(target->tool_host, &command->place, err);
}

static bool
add_connection(const struct hf_source_target *target, struct command *command, struct hf_error *err)
{
    struct hf_mariadb_words words;
    const bool own = target->tool_conninfo != NULL;
    if (!hf_mariadb_words_read(own ? "tool_connection" : "connection", own ? target->tool_conninfo : target->conninfo,
                               &words, err))
        return hf_fail_within(err, "source \"%s\"", target->name);
    if (words.user[0] != '\0') {
        snprintf(command->user, sizeof command->user, "--user=%s", words.user);
        add_word(command, command->user);
    }
    if (words.socket[0] != '\0') {
        snprintf(command->socket, sizeof command->socket, "--socket=%s", words.socket);
        add_word(command, command->socket);
        return true;
    }
    snprintf(command->host, sizeof command->host, "--host=%s", words.host);
    snprintf(command->port, sizeof command->port, "--port=%u", words.port);
    add_word(command, command->host);
    add_word(command, command->port);
    if (words.tls == HF_MARIADB_TLS_NO)
        return true;
    add_word(command, "--ssl");
    if (words.tls == HF_MARIADB_TLS_VERIFY)
        add_word(command, "--ssl-verify-server-cert");
    if (words.tls_ca[0] != '\0') {
        snprintf(command->tls, sizeof command->tls, "--ssl-ca=%s", words.tls_ca);
        add_word(command, command->tls);
    }
    return true;
}

static void
add_word(struct command *command, const char *word)
{
    if (command->count < WORDS_MOST)
        command->words[command->count++] = word;
}

static bool
check_password(const struct hf_source_target *target, struct hf_error *err)
{
    if (target->password == NULL)
        return true;
    const struct hf_secret *password = target->password;
    if (password->length > PASSWORD_MOST || memchr(password->bytes, '\n', password->length) != NULL ||
        memchr(password->bytes, '\0', password->length) != NULL)
        return hf_fail(err, HF_ERR_USAGE,
                       "the password of \"%s\" has more than one line, or more than %d bytes: the backup tool could "
                       "not be told it",
                       target->name, PASSWORD_MOST);
    return true;
}

static bool
start(struct hf_backup_tool *tool, struct command *command, bool with_password, struct hf_error *err)
{
    const struct hf_secret *password = with_password ? tool->target->password : NULL;
    int output[2], errors[2];
    tool->remote = command->remote;
    tool->words.row = -1;
    tool->said = HF_BUF_INIT(SSH_WORDS_MOST);
    if (pipe2(output, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe for a backup tool");
    tool->output = output[0];
    _cleanup_(hf_closep) int output_end = output[1];
    if (pipe2(errors, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe for a backup tool");
    tool->errors = errors[0];
    _cleanup_(hf_closep) int errors_end = errors[1];
    (void)fcntl(tool->output, F_SETPIPE_SZ, PIPE_BYTES); // a larger pipe is faster; the usual one does, too
    if (fcntl(tool->output, F_SETFL, O_NONBLOCK) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set up a pipe for a backup tool");
    if (!start_process(tool, command, password, output_end, errors_end, err))
        return false;
    hf_closep(&output_end);
    hf_closep(&errors_end);
    const int failure = pthread_create(&tool->listener, NULL, listen_to, tool);
    tool->listening = failure == 0;
    errno = failure;
    return tool->listening || hf_fail_errno(err, HF_ERR_NONE, "could not start a thread");
}

static bool
start_process(struct hf_backup_tool *tool, struct command *command, const struct hf_secret *password, int output,
              int errors, struct hf_error *err)
{
    char path[4096], secret[sizeof PASSWORD_NAME + 1 + PASSWORD_MOST + 1] = "";
    int input[2] = {-1, -1};
    const char *our_path = getenv("PATH");
    snprintf(path, sizeof path, "PATH=%s", our_path != NULL ? our_path : "/usr/local/bin:/usr/bin:/bin");
    const char *environment[] = {path, "LANG=C.UTF-8", "TZ=UTC", NULL, NULL};
    if (command->remote) {
        if (!hf_ssh_program(&command->place, command->words, password == NULL ? NULL : PASSWORD_NAME, &command->ssh,
                            err))
            return false;
        if (password != NULL && pipe2(input, O_CLOEXEC) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe for a backup tool");
    } else if (password != NULL) {
        memcpy(secret, PASSWORD_NAME "=", sizeof PASSWORD_NAME);
        memcpy(secret + sizeof PASSWORD_NAME, password->bytes, password->length);
        environment[3] = secret;
    }
    _cleanup_(hf_closep) int input_end = input[0];
    _cleanup_(hf_closep) int our_end = input[1];
    const struct hf_process_options options = {.argv = command->remote ? command->ssh.argv : command->words,
                                               .environment = environment,
                                               .stdin_fd = input_end,
                                               .stdout_fd = output,
                                               .stderr_fd = errors};
    struct hf_error why;
    const bool started = hf_process_start(&options, &tool->process, &why);
    explicit_bzero(secret, sizeof secret);
    if (!started && !command->remote && (why.system == ENOENT || why.kind == HF_ERR_NOT_FOUND))
        return fail_missing(tool->flavour, tool->target, "it is not on this host", err);
    if (!started) {
        *err = why;
        return false;
    }
    return our_end < 0 || send_password(our_end, password, err);
}

/* A line fits into the pipe: nothing waits here. */
static bool
send_password(int input, const struct hf_secret *password, struct hf_error *err)
{
    char line[PASSWORD_MOST + 1];
    memcpy(line, password->bytes, password->length);
    line[password->length] = '\n';
    const ssize_t sent = write(input, line, password->length + 1);
    explicit_bzero(line, sizeof line);
    return sent == (ssize_t)password->length + 1 ||
           hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not hand over the password to ssh");
}

static bool
fail_missing(const struct hf_flavour *flavour, const struct hf_source_target *target, const char *why,
             struct hf_error *err)
{
    hf_fail(err, HF_ERR_NOT_FOUND, "could not run the backup tool \"%s\"%s%s: %s", name_of(flavour, target),
            target->tool_host == NULL ? "" : " on ", target->tool_host == NULL ? "" : target->tool_host, why);
    return hf_fail_hint(err,
                        "Install the package %s of the server's own release there, or set backup_tool to its path.",
                        flavour->package);
}

static const char *
name_of(const struct hf_flavour *flavour, const struct hf_source_target *target)
{
    return target->tool != NULL ? target->tool : flavour->tool;
}

/* Lines that are too long lose their end. */
static void *
listen_to(void *context)
{
    struct hf_backup_tool *tool = context;
    char line[LINE_MOST], piece[4096];
    size_t length = 0;
    for (;;) {
        const ssize_t got = read(tool->errors, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        struct hf_error unheard;
        if (tool->remote && tool->said.length + (size_t)got <= SSH_WORDS_MOST)
            (void)!hf_buf_add(&tool->said, piece, (size_t)got, &unheard);
        for (ssize_t i = 0; i < got; i++) {
            if (piece[i] != '\n') {
                if (length + 1 < sizeof line && piece[i] != '\0')
                    line[length++] = piece[i];
                continue;
            }
            line[length] = '\0';
            hf_tool_words_read(&tool->words, line);
            length = 0;
        }
    }
    line[length] = '\0';
    hf_tool_words_read(&tool->words, line);
    explicit_bzero(line, sizeof line);
    explicit_bzero(piece, sizeof piece);
    return NULL;
}

static bool
stop_listening(struct hf_backup_tool *tool, int *ret_status, struct hf_error *err)
{
    bool ended;
    if (!hf_process_wait(&tool->process, END_MS, &ended, ret_status, err))
        return false;
    if (!ended)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" did not end when its output did",
                       name_of(tool->flavour, tool->target));
    pthread_join(tool->listener, NULL);
    tool->listening = false;
    return true;
}

static bool
judge(struct hf_backup_tool *tool, int status, struct hf_error *err)
{
    if (status == 0 && tool->words.completed)
        return true;
    if (tool->remote && WIFEXITED(status) && WEXITSTATUS(status) == SSH_FAILED)
        return hf_ssh_explain(tool->target->tool_host, hf_buf_text(&tool->said), err);
    return hf_tool_words_fail(&tool->words, tool->flavour, tool->target, status, err);
}

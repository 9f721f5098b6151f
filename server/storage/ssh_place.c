#include "server/storage/ssh_place.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SCHEME "ssh://"

#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define WORD_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,./:=@_-"
#define IPV6_LETTERS NAME_LETTERS ":%"

static size_t add_options(const struct hf_ssh_place *place, struct hf_ssh_command *ret, size_t count);
static bool take_part(const char *from, size_t length, const char *letters, char ret[static HF_SSH_NAME_BYTES]);
static bool take_host(const char **at, const char *end, struct hf_ssh_place *place);
static bool take_port(const char *from, size_t length, struct hf_ssh_place *place);
static bool take_path(const char *from, struct hf_ssh_place *place);
static bool keep_option(const char *name, const char *value, char kept[static HF_SSH_PATH_BYTES], struct hf_error *err);
static void last_line(const char *said, char ret[static 256]);

/* Of this process: hf_ssh_use(). */
static struct {
    pthread_mutex_t lock;
    char identity_file[HF_SSH_PATH_BYTES], known_hosts[HF_SSH_PATH_BYTES];
} chosen = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool
hf_ssh_place_parse(const char *text, struct hf_ssh_place *ret, struct hf_error *err)
{
    struct hf_ssh_place place = {0};
    const char *at = text + strlen(SCHEME);
    const char *path = strncmp(text, SCHEME, strlen(SCHEME)) == 0 ? strchr(at, '/') : NULL;
    const char *user = path == NULL ? NULL : memchr(at, '@', (size_t)(path - at));
    bool good = path != NULL;
    if (good && user != NULL) {
        good = take_part(at, (size_t)(user - at), NAME_LETTERS, place.user);
        at = user + 1;
    }
    if (!good || !take_host(&at, path, &place) || !take_path(path, &place)) {
        hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is not a place for a repository", text);
        return hf_fail_hint(err, "A place is an absolute path, or ssh://[user@]host[:port]/absolute/path.");
    }
    *ret = place;
    return true;
}

bool
hf_ssh_host_parse(const char *text, struct hf_ssh_place *ret, struct hf_error *err)
{
    struct hf_ssh_place place = {0};
    const char *at = text, *end = text + strlen(text), *user = strchr(text, '@');
    bool good = true;
    if (user != NULL) {
        good = take_part(at, (size_t)(user - at), NAME_LETTERS, place.user);
        at = user + 1;
    }
    if (!good || !take_host(&at, end, &place)) {
        hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is not a host", text);
        return hf_fail_hint(err, "A host is [user@]host[:port].");
    }
    *ret = place;
    return true;
}

bool
hf_ssh_use(const struct hf_ssh_options *options, struct hf_error *err)
{
    char identity[HF_SSH_PATH_BYTES], known_hosts[HF_SSH_PATH_BYTES];
    if (!keep_option("ssh.identity_file", options->identity_file, identity, err) ||
        !keep_option("ssh.known_hosts", options->known_hosts, known_hosts, err))
        return false;
    pthread_mutex_lock(&chosen.lock);
    memcpy(chosen.identity_file, identity, sizeof identity);
    memcpy(chosen.known_hosts, known_hosts, sizeof known_hosts);
    pthread_mutex_unlock(&chosen.lock);
    return true;
}

void
hf_ssh_command(const struct hf_ssh_place *place, struct hf_ssh_command *ret)
{
    ret->argv[0] = "ssh";
    ret->argv[1] = "-s";
    size_t count = add_options(place, ret, 2);
    ret->argv[count++] = "sftp";
    ret->argv[count] = NULL;
}

bool
hf_ssh_program(const struct hf_ssh_place *place, const char *const *words, const char *secret_in,
               struct hf_ssh_command *ret, struct hf_error *err)
{
    ret->argv[0] = "ssh";
    size_t count = add_options(place, ret, 1);
    if (secret_in != NULL) {
        snprintf(ret->read_secret, sizeof ret->read_secret, "IFS= read -r %s && export %s && exec", secret_in,
                 secret_in);
        ret->argv[count++] = ret->read_secret;
    } else
        ret->argv[count++] = "exec";
    for (size_t i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0' || strspn(words[i], WORD_LETTERS) != strlen(words[i]))
            return hf_fail(err, HF_ERR_USAGE,
                           "\"%.200s\" cannot be handed to a program on another host: of its letters only A-Z, a-z, "
                           "0-9 and %%+,./:=@_- may be there",
                           words[i]);
        if (count + 1 == HF_SSH_ARGUMENTS_MOST)
            return hf_fail(err, HF_ERR_USAGE, "a program on another host would get more than %d words",
                           HF_SSH_ARGUMENTS_MOST);
        ret->argv[count++] = words[i];
    }
    ret->argv[count] = NULL;
    return true;
}

/* Up to the host. */
static size_t
add_options(const struct hf_ssh_place *place, struct hf_ssh_command *ret, size_t count)
{
    // The first value of an option counts for ssh: these win over its configuration files.
    static const char *const fixed[] = {
        "BatchMode=yes",           "StrictHostKeyChecking=yes", "ServerAliveInterval=15", "ServerAliveCountMax=4",
        "ClearAllForwardings=yes", "ForwardAgent=no",           "ForwardX11=no",          "PermitLocalCommand=no",
        "ControlPath=none",        "ControlMaster=no",          "RequestTTY=no",          "UpdateHostKeys=no",
    };
    for (size_t i = 0; i < HF_LENGTH(fixed); i++) {
        ret->argv[count++] = "-o";
        ret->argv[count++] = fixed[i];
    }
    snprintf(ret->timeout, sizeof ret->timeout, "ConnectTimeout=%d", HF_SSH_CONNECT_SECONDS);
    ret->argv[count++] = "-o";
    ret->argv[count++] = ret->timeout;

    pthread_mutex_lock(&chosen.lock);
    memcpy(ret->identity, chosen.identity_file, sizeof ret->identity);
    snprintf(ret->known_hosts, sizeof ret->known_hosts, "UserKnownHostsFile=\"%s\"", chosen.known_hosts);
    const bool has_known_hosts = chosen.known_hosts[0] != '\0';
    pthread_mutex_unlock(&chosen.lock);
    if (ret->identity[0] != '\0') {
        ret->argv[count++] = "-o";
        ret->argv[count++] = "IdentitiesOnly=yes";
        ret->argv[count++] = "-i";
        ret->argv[count++] = ret->identity;
    }
    if (has_known_hosts) {
        ret->argv[count++] = "-o";
        ret->argv[count++] = ret->known_hosts;
        ret->argv[count++] = "-o";
        ret->argv[count++] = "GlobalKnownHostsFile=none";
    }
    if (place->user[0] != '\0') {
        ret->argv[count++] = "-l";
        ret->argv[count++] = place->user;
    }
    if (place->port[0] != '\0') {
        ret->argv[count++] = "-p";
        ret->argv[count++] = place->port;
    }
    ret->argv[count++] = "--";
    ret->argv[count++] = place->host;
    return count;
}

bool
hf_ssh_explain(const char *place, const char *said, struct hf_error *err)
{
    static const struct {
        const char *words;
        enum hf_error_kind kind;
        const char *what, *hint;
    } known[] = {
        {"REMOTE HOST IDENTIFICATION HAS CHANGED", HF_ERR_DENIED, "the key of the host is not the one that is known",
         "Someone may stand in between. If the host really has a new key, get it from its administrator and replace "
         "the old one in the known_hosts file."},
        {"Host key verification failed", HF_ERR_DENIED, "the key of the host is not known",
         "Get the host's key from its administrator and put it into the file that ssh.known_hosts names."},
        {"No such file or directory (identity", HF_ERR_NOT_FOUND, "the private key is missing", ""},
        {"Permission denied", HF_ERR_DENIED, "the host does not let us in",
         "Put the public half of the key that ssh.identity_file names into authorized_keys of that user there."},
        {"Could not resolve hostname", HF_ERR_UNAVAILABLE, "the name of the host is not known",
         "Mend the name in the place, or the name service."},
        {"Connection refused", HF_ERR_UNAVAILABLE, "the host refuses the connection",
         "Look whether sshd runs there, and on which port."},
        {"Connection timed out", HF_ERR_UNAVAILABLE, "the host does not answer",
         "Look at the network and its firewalls."},
        {"No route to host", HF_ERR_UNAVAILABLE, "there is no way to the host", "Look at the network."},
        {"Network is unreachable", HF_ERR_UNAVAILABLE, "there is no way to the host", "Look at the network."},
        {"subsystem request failed", HF_ERR_USAGE, "the host offers no SFTP",
         "Add the line \"Subsystem sftp internal-sftp\" to its sshd_config."},
        {"not responding", HF_ERR_UNAVAILABLE, "the host stopped answering",
         "What was finished is kept; the next run goes on from there."},
    };
    char line[256];
    last_line(said, line);
    for (size_t i = 0; i < HF_LENGTH(known); i++) {
        if (strstr(said, known[i].words) == NULL)
            continue;
        hf_fail(err, known[i].kind, "could not reach \"%s\": %s (%s)", place, known[i].what, line);
        return hf_fail_hint(err, "%s", known[i].hint);
    }
    if (line[0] == '\0')
        hf_fail(err, HF_ERR_UNAVAILABLE, "lost the connection to \"%s\"", place);
    else
        hf_fail(err, HF_ERR_UNAVAILABLE, "lost the connection to \"%s\": %s", place, line);
    return hf_fail_hint(err, "What was finished is kept; the next run goes on from there.");
}

static bool
take_part(const char *from, size_t length, const char *letters, char ret[static HF_SSH_NAME_BYTES])
{
    // ssh takes what begins with a dash for an option.
    if (length == 0 || length >= HF_SSH_NAME_BYTES || from[0] == '-')
        return false;
    memcpy(ret, from, length);
    ret[length] = '\0';
    return strspn(ret, letters) == length;
}

static bool
take_host(const char **at, const char *end, struct hf_ssh_place *place)
{
    const bool bracket = **at == '[';
    const char *from = *at + (bracket ? 1 : 0);
    const char *stop = memchr(from, bracket ? ']' : ':', (size_t)(end - from));
    if (bracket && stop == NULL)
        return false;
    if (!take_part(from, (size_t)((stop == NULL ? end : stop) - from), bracket ? IPV6_LETTERS : NAME_LETTERS,
                   place->host))
        return false;
    if (stop != NULL && bracket)
        stop++;
    return stop == NULL || stop == end || (*stop == ':' && take_port(stop + 1, (size_t)(end - stop - 1), place));
}

static bool
take_port(const char *from, size_t length, struct hf_ssh_place *place)
{
    if (length == 0 || length > 5)
        return false;
    unsigned port = 0;
    for (size_t i = 0; i < length; i++) {
        if (from[i] < '0' || from[i] > '9')
            return false;
        port = port * 10 + (unsigned)(from[i] - '0');
    }
    snprintf(place->port, sizeof place->port, "%u", port);
    return port >= 1 && port <= 65535;
}

static bool
take_path(const char *from, struct hf_ssh_place *place)
{
    size_t length = strlen(from);
    while (length > 1 && from[length - 1] == '/')
        length--;
    if (length < 2 || length >= sizeof place->path)
        return false;
    memcpy(place->path, from, length);
    place->path[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)place->path[i] < 0x20 || place->path[i] == 0x7F)
            return false;
    return strstr(place->path, "/../") == NULL && (length < 3 || strcmp(place->path + length - 3, "/..") != 0);
}

static bool
keep_option(const char *name, const char *value, char kept[static HF_SSH_PATH_BYTES], struct hf_error *err)
{
    const char *text = value == NULL ? "" : value;
    // It goes between quotes into an option of ssh, which expands what follows a percent sign.
    if (strlen(text) >= HF_SSH_PATH_BYTES || strpbrk(text, "\"\\%$\n") != NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%.200s\", a path that ssh would not take as it stands", name,
                       text);
    memset(kept, 0, HF_SSH_PATH_BYTES);
    memcpy(kept, text, strlen(text));
    return true;
}

/* The last line that says something, fit for a message. */
static void
last_line(const char *said, char ret[static 256])
{
    const char *end = said + strlen(said);
    while (end > said && strchr("\r\n ", end[-1]) != NULL)
        end--;
    const char *begin = end;
    while (begin > said && begin[-1] != '\n')
        begin--;
    size_t length = (size_t)(end - begin) < 255 ? (size_t)(end - begin) : 255;
    memcpy(ret, begin, length);
    ret[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)ret[i] < 0x20 || (uint8_t)ret[i] >= 0x7F)
            ret[i] = '?';
}

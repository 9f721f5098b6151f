#include "sandbox/engine_pg_dump.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/engine_postgres.h"

#define SERVER     "/run/server"
#define PATH_BYTES 512

/* As distributors lay it out: Debian, PGDG, a tree that was built with a prefix and moved. */
static const char *const layouts[] = {"/usr/lib/postgresql/%u/bin/pg_dump", "/usr/pgsql-%u/bin/pg_dump",
                                      "/%u/bin/pg_dump"};

static bool list(const void *engine_settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool command(const void *engine_settings, const struct hf_sandbox_places *places,
                    struct hf_sandbox_command *command, struct hf_error *err);
static enum hf_sandbox_news judge(const char *line);
static bool add_connection(const struct hf_pg_dump_settings *settings, const struct hf_sandbox_places *places,
                           struct hf_sandbox_command *command, struct hf_error *err);
static bool quote(const char *value, struct hf_buf *out, struct hf_error *err);
static bool find_in(const char *packages, unsigned major, char path[static PATH_BYTES]);
static void fill_path(char path[static PATH_BYTES], const char *packages, const char *pattern, unsigned major);

const struct hf_sandbox_engine hf_engine_pg_dump = {
    .name = "pg_dump", .list = list, .command = command, .judge = judge};

bool
hf_pg_dump_find(unsigned major, const char *const *packages, struct hf_pg_dump_found *ret, struct hf_error *err)
{
    char path[PATH_BYTES];
    for (unsigned newer = major; newer <= HF_POSTGRES_MOST; newer++) {
        const char *in = NULL;
        bool found = find_in(NULL, newer, path);
        for (size_t i = 0; !found && packages != NULL && packages[i] != NULL; i++) {
            in = packages[i];
            found = find_in(in, newer, path);
        }
        if (!found)
            continue;
        *ret = (struct hf_pg_dump_found){.program = strdup(path), .packages = in, .major = newer};
        return ret->program != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    }
    hf_fail(err, HF_ERR_NOT_FOUND, "there is no pg_dump of PostgreSQL %u or newer on this host", major);
    return hf_fail_hint(err, "Install the package postgresql-client-%u.", major);
}

static bool
list(const void *engine_settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    const struct hf_pg_dump_settings *settings = engine_settings;
    char own[PATH_BYTES], usual[PATH_BYTES], more[PATH_BYTES];
    fill_path(own, settings->packages, "/%u/lib", settings->major);
    fill_path(usual, settings->packages, "/usr/lib/" HF_SANDBOX_TRIPLET, 0);
    fill_path(more, settings->packages, "/usr/lib", 0);
    static const char *const no_modules[] = {NULL};
    const char *const folders[] = {own, usual, more, NULL};
    return hf_sandbox_root_add_program(root, settings->program, "/pg_dump", no_modules,
                                       settings->packages == NULL ? NULL : folders, err) &&
           hf_sandbox_root_add(root, HF_LAUNCH_READ, settings->socket, SERVER, err);
}

static bool
command(const void *engine_settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
        struct hf_error *err)
{
    const struct hf_pg_dump_settings *settings = engine_settings;
    if (places->data == NULL)
        return hf_fail(err, HF_ERR_USAGE, "pg_dump needs a folder to write to");
    const char *program = places->flat ? settings->program : "/pg_dump";
    if (!hf_sandbox_command_program(command, program, err) ||
        !hf_sandbox_command_argument(command, err, "%s", program) ||
        !hf_sandbox_command_argument(command, err, "--no-password") ||
        !hf_sandbox_command_argument(command, err, "--format=custom") ||
        !hf_sandbox_command_argument(command, err, "--file=%s/" HF_PG_DUMP_FILE, places->data) ||
        !add_connection(settings, places, command, err))
        return false;
    for (size_t i = 0; settings->tables != NULL && settings->tables[i] != NULL; i++)
        if (!hf_sandbox_command_argument(command, err, "--table=%s", settings->tables[i]))
            return false;
    return hf_sandbox_command_variable(command, err, "LC_ALL=C") &&
           hf_sandbox_command_variable(command, err, "TZ=UTC") &&
           hf_sandbox_command_variable(command, err, "PGCLIENTENCODING=UTF8") &&
           hf_sandbox_command_variable(command, err, "PGOPTIONS=%s", settings->options);
}

/* pg_dump takes a connection string for the name of a database: so a name that looks like one is one value in ours. */
static bool
add_connection(const struct hf_pg_dump_settings *settings, const struct hf_sandbox_places *places,
               struct hf_sandbox_command *command, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_KIB);
    return hf_buf_add_text(&text, "host=", err) && quote(places->flat ? settings->socket : SERVER, &text, err) &&
           hf_buf_printf(&text, err,
                         " port=%u sslmode=disable gssencmode=disable passfile=/dev/null/none user=", settings->port) &&
           quote(settings->user, &text, err) && hf_buf_add_text(&text, " dbname=", err) &&
           quote(settings->database, &text, err) &&
           hf_sandbox_command_argument(command, err, "--dbname=%s", hf_buf_text(&text));
}

/* libpq's quoting: a backslash before backslash and quote. */
static bool
quote(const char *value, struct hf_buf *out, struct hf_error *err)
{
    bool ok = hf_buf_put_u8(out, '\'', err);
    for (; ok && *value != '\0'; value++)
        ok = ((*value != '\'' && *value != '\\') || hf_buf_put_u8(out, '\\', err)) &&
             hf_buf_put_u8(out, (uint8_t)*value, err);
    return ok && hf_buf_put_u8(out, '\'', err);
}

/* It never serves anybody. */
static enum hf_sandbox_news
judge(const char *line)
{
    (void)line;
    return HF_SANDBOX_NO_NEWS;
}

static bool
find_in(const char *packages, unsigned major, char path[static PATH_BYTES])
{
    for (size_t i = 0; i < HF_LENGTH(layouts); i++) {
        fill_path(path, packages, layouts[i], major);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* The pattern is one of ours. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void
fill_path(char path[static PATH_BYTES], const char *packages, const char *pattern, unsigned major)
{
    int used = snprintf(path, PATH_BYTES, "%.300s", packages == NULL ? "" : packages);
    snprintf(path + used, PATH_BYTES - (size_t)used, pattern, major);
}
#pragma GCC diagnostic pop

#include "server/job/abilities.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/engine_postgres.h"
#include "sandbox/uids.h"

#define REPOSITORY_LEAST (1 * HF_GIB)
#define SCRATCH_LEAST    (1 * HF_GIB)

static bool has_extension(void *context, uint32_t major_version, const char *extension);
static bool has_locale(void *context, const char *provider, const char *locale);
static struct hf_check *add(struct hf_checks *checks, const char *id, const char *title);
static void check_postgres(const struct hf_settings *settings, uint32_t server_version, struct hf_check *check);
static void settle(struct hf_check *check, bool ok, const char *detail, const char *remedy);
static bool probe(struct hf_sandbox_spec *spec, json_t **ret_report, bool *ret_holds, struct hf_error *err);
static void check_isolation(struct hf_worker *worker, struct hf_checks *checks);
static void check_room(struct hf_checks *checks, const char *id, const char *title, const char *folder, uint64_t least,
                       const char *remedy);

/* What it takes to start a copy of an engine's release; an engine without a row cannot be started here. */
static const struct {
    const char *engine;
    void (*check)(const struct hf_settings *settings, uint32_t server_version, struct hf_check *check);
} starters[] = {{"postgresql", check_postgres}};

const struct hf_appliance_abilities hf_abilities = {.has_extension = has_extension, .has_locale = has_locale};

void
hf_abilities_check_binaries(const struct hf_settings *settings, const char *engine, uint32_t server_version,
                            struct hf_checks *checks)
{
    struct hf_check *check = add(checks, "engine_binaries", "This appliance can start that release");
    if (check == NULL)
        return;
    for (size_t i = 0; i < HF_LENGTH(starters); i++) {
        if (strcmp(starters[i].engine, engine) == 0) {
            starters[i].check(settings, server_version, check);
            return;
        }
    }
    settle(check, false, "copies of this engine cannot be started by this release of Holdfast",
           "Its backups can be taken, but stay unproven.");
}

static void
check_postgres(const struct hf_settings *settings, uint32_t server_version, struct hf_check *check)
{
    const unsigned major = server_version / 10000;
    char detail[128];
    struct hf_error why;
    const char *const *prefixes = (const char *const *)settings->sandbox.postgres_prefixes;
    const char *packages;
    const bool found = hf_postgres_find_among(major, prefixes, &packages, &why);
    snprintf(detail, sizeof detail, "PostgreSQL %u", major);
    settle(check, found, found ? detail : why.message,
           why.hint[0] != 0 ? why.hint : "Install the server package of that release on the appliance.");
}

void
hf_abilities_check_appliance(struct hf_worker *worker, struct hf_checks *checks)
{
    const struct hf_settings *settings = hf_worker_settings(worker);
    check_isolation(worker, checks);
    check_room(checks, "scratch_room", "There is room for restored copies", settings->scratch.folder, SCRATCH_LEAST,
               "Free space there, or set scratch.folder to a larger disk.");
    if (!hf_place_is_local(settings->repository))
        return;
    check_room(checks, "repository_room", "There is room in the repository", settings->repository, REPOSITORY_LEAST,
               "Free space there before the next backup.");
}

/* Debian's layout; a name that could lead elsewhere is no extension. */
static bool
has_extension(void *context, uint32_t major_version, const char *extension)
{
    char path[512];
    (void)context;
    if (strchr(extension, '/') != NULL)
        return false;
    snprintf(path, sizeof path, "/usr/share/postgresql/%u/extension/%.200s.control", major_version, extension);
    return access(path, R_OK) == 0;
}

/* ICU locales come with the server's own library; libc's have to be generated on this host. */
static bool
has_locale(void *context, const char *provider, const char *locale)
{
    (void)context;
    if (strcmp(provider, "libc") != 0)
        return true;
    const locale_t made = newlocale(LC_COLLATE_MASK | LC_CTYPE_MASK, locale, (locale_t)0);
    if (made == (locale_t)0)
        return false;
    freelocale(made);
    return true;
}

static struct hf_check *
add(struct hf_checks *checks, const char *id, const char *title)
{
    if (checks->count == HF_CHECKS_MOST)
        return NULL;
    struct hf_check *check = &checks->items[checks->count++];
    *check = (struct hf_check){.id = id, .title = title, .verdict = HF_CHECK_NOT_DETERMINABLE};
    return check;
}

static void
settle(struct hf_check *check, bool ok, const char *detail, const char *remedy)
{
    check->verdict = ok ? HF_CHECK_OK : HF_CHECK_FAILED;
    snprintf(check->detail, sizeof check->detail, "%s", detail);
    snprintf(check->remedy, sizeof check->remedy, "%s", ok ? "" : remedy);
}

/* As a uid that no other sandbox has, in the group of the same number. */
static bool
probe(struct hf_sandbox_spec *spec, json_t **ret_report, bool *ret_holds, struct hf_error *err)
{
    _cleanup_(hf_closep) int claim = -1;
    if (!hf_uid_claim(&spec->host_uid, &claim, err))
        return false;
    spec->host_gid = geteuid() == 0 ? (gid_t)spec->host_uid : getegid();
    return hf_sandbox_probe(spec, ret_report, ret_holds, err);
}

/* A sandbox is really made, and something in it really tries to break out. */
static void
check_isolation(struct hf_worker *worker, struct hf_checks *checks)
{
    const struct hf_settings *settings = hf_worker_settings(worker);
    struct hf_check *check = add(checks, "isolation", "Restored data can be contained");
    struct hf_sandbox_spec spec = {0};
    _cleanup_(hf_json_freep) json_t *report = NULL;
    struct hf_error why;
    bool holds;
    char detail[256];
    if (check == NULL)
        return;
    if (!hf_sandbox_level_parse(settings->sandbox.lowest_level, &spec.lowest, &why) ||
        !probe(&spec, &report, &holds, &why)) {
        settle(check, false, why.message, why.hint);
        return;
    }
    const char *level = json_string_value(json_object_get(report, "level"));
    snprintf(detail, sizeof detail, "level %s, %zu attempts to break out %s", level != NULL ? level : "?",
             json_array_size(json_object_get(report, "attempts")), holds ? "refused" : "made, not all refused");
    settle(check, holds, detail, "Do not verify on this host before it is mended: see the report in --json.");
}

static void
check_room(struct hf_checks *checks, const char *id, const char *title, const char *folder, uint64_t least,
           const char *remedy)
{
    struct hf_check *check = add(checks, id, title);
    struct hf_error why;
    uint64_t bytes;
    char text[HF_TIME_TEXT_BYTES], detail[300];
    if (check == NULL)
        return;
    if (!hf_dir_make(folder, 0711, &why) || !hf_disk_free(folder, &bytes, &why)) {
        settle(check, false, why.message, remedy);
        return;
    }
    snprintf(detail, sizeof detail, "%s free in \"%.200s\"", hf_bytes_format(bytes, text), folder);
    settle(check, true, detail, "");
    if (bytes < least) {
        check->verdict = HF_CHECK_WARNING;
        snprintf(check->remedy, sizeof check->remedy, "%s", remedy);
    }
}

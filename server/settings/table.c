#include "server/settings/table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/file.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)

static const char *const engines[] = {"postgresql", "mariadb", "mysql", NULL};
static const char *const checkpoints[] = {"fast", "spread", NULL};
static const char *const levels[] = {"L1", "L2", "L3r", "L3", NULL};

#define SLOT_MOST         ((int64_t)1 << 50) // bytes
#define APPLIANCE(member) .of = HF_SETTING_OF_APPLIANCE, .offset = offsetof(struct hf_settings, member)
#define SOURCE(member)    .of = HF_SETTING_OF_SOURCE, .offset = offsetof(struct hf_source_settings, member)
/* A rule of retention that counts backups. */
#define RULE(member, words)                                                                                            \
    {                                                                                                                  \
        SOURCE(retention.member), .name = "retention." #member, .type = HF_SETTING_COUNT, .can_be_off = true,          \
                                  .fallback = "off", .least = 1, .most = 100000, .unit = "backups", .sentence = words  \
    }
#define KEY_COMMAND(member) .of = HF_SETTING_OF_KEY_COMMAND, .offset = offsetof(struct hf_key_command, member)

static const struct hf_setting table[] = {
    {APPLIANCE(repository), .name = "repository", .type = HF_SETTING_PLACE, .required = true,
     .sentence = "Folder of the repository: the sealed packs, the wrapped keys and the logs."},
    {APPLIANCE(state), .name = "state", .type = HF_SETTING_PATH,
     .computed = "/var/lib/holdfast, or $HOME/.local/state/holdfast for an ordinary user",
     .sentence = "Folder of what the appliance keeps for itself: catalog, signing key, caches."},
    {APPLIANCE(socket), .name = "socket", .type = HF_SETTING_PATH, .computed = "holdfastd.sock in the state folder",
     .sentence = "Unix socket on which holdfastd listens."},
    {APPLIANCE(log_readers), .name = "log_readers", .type = HF_SETTING_TEXT,
     .sentence = "Users of this host, separated by commas, who may get log with \"wal-get\", and nothing else."},
    {APPLIANCE(shred_confirmers), .name = "shred_confirmers", .type = HF_SETTING_TEXT,
     .sentence = "Users of this host, separated by commas: one of them, and not the one who asked, must give \"vault "
                 "shred\" as well before a vault is shredded.  Without it one person is enough."},
    {APPLIANCE(jobs_at_once), .name = "jobs_at_once", .type = HF_SETTING_COUNT, .fallback = "2", .least = 1, .most = 64,
     .unit = "jobs", .sentence = "How many jobs may run at the same time; further ones wait."},
    {APPLIANCE(workers), .name = "workers", .type = HF_SETTING_COUNT, .fallback = "0", .least = 0, .most = 256,
     .unit = "threads", .sentence = "Threads that compress and seal one backup; 0 means one for each processor."},
    {APPLIANCE(compression_level), .name = "compression_level", .type = HF_SETTING_COUNT, .fallback = "1", .least = 1,
     .most = 19, .unit = "zstd level", .sentence = "How hard to compress: higher is smaller and slower."},
    {APPLIANCE(catalog_check_every_ms), .name = "catalog_check_every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "7d", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "How often the catalog is made again beside the one in use, and compared with it."},

    {APPLIANCE(unlock.key_file), .name = "unlock.key_file", .type = HF_SETTING_PATH,
     .sentence = "Key file, or a recipient's secret, that opens the repository without a person; give just one of "
                 "these three."},
    {APPLIANCE(unlock.passphrase_file), .name = "unlock.passphrase_file", .type = HF_SETTING_PATH,
     .sentence = "File that holds the passphrase of a slot of the repository."},

    {APPLIANCE(unlock.command), .name = "unlock.command", .type = HF_SETTING_TEXT,
     .sentence = "The entry of key_commands whose program gives the key of a slot."},

    {APPLIANCE(second_place.at), .name = "second_place.at", .type = HF_SETTING_PLACES,
     .sentence = "Further places that hold copies of the repository; each was made once with \"holdfast repo copy\"."},
    {APPLIANCE(second_place.sync_every_ms), .name = "second_place.sync_every", .type = HF_SETTING_DURATION,
     .can_be_off = true, .fallback = "6h", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "How often the copies are brought up to date by themselves."},
    {APPLIANCE(second_place.oldest_ms), .name = "second_place.oldest", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "1d", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "Age from which a copy that was not brought up to date is bad news."},
    {APPLIANCE(second_place.rate), .name = "second_place.rate", .type = HF_SETTING_SIZE, .can_be_off = true,
     .fallback = "off", .least = 64 * (int64_t)HF_KIB, .most = 64 * (int64_t)HF_GIB,
     .sentence = "Most bytes a second that are sent to a copy."},
    {APPLIANCE(ssh.identity_file), .name = "ssh.identity_file", .type = HF_SETTING_PATH, .computed = "as ssh finds it",
     .sentence = "Private key for places that begin with ssh://."},
    {APPLIANCE(ssh.known_hosts), .name = "ssh.known_hosts", .type = HF_SETTING_PATH, .computed = "as ssh finds it",
     .sentence = "Keys of the hosts of such places; a host that is not in it is refused."},

    {APPLIANCE(scratch.folder), .name = "scratch.folder", .type = HF_SETTING_PATH,
     .computed = "scratch in the state folder",
     .sentence = "Folder for restored databases while a sandbox runs, when memory is too small for them."},
    {APPLIANCE(scratch.memory), .name = "scratch.memory", .type = HF_SETTING_SIZE, .can_be_off = true,
     .fallback = "1GiB", .least = 64 * (int64_t)HF_MIB, .most = 1024 * (int64_t)HF_GIB,
     .sentence = "Largest scratch that is kept in memory; off means that scratch always lies in scratch.folder."},

    {APPLIANCE(sandbox.lowest_level), .name = "sandbox.lowest_level", .type = HF_SETTING_WORD, .fallback = "L2",
     .words = levels,
     .sentence = "Weakest isolation in which restored data may run; below it a verification refuses to start."},
    {APPLIANCE(sandbox.memory), .name = "sandbox.memory", .type = HF_SETTING_SIZE, .fallback = "2GiB",
     .least = 256 * (int64_t)HF_MIB, .most = 1024 * (int64_t)HF_GIB,
     .sentence = "Memory that the database in a sandbox may use, scratch not counted."},
    {APPLIANCE(sandbox.phase_ms), .name = "sandbox.phase", .type = HF_SETTING_DURATION, .fallback = "1h", .least = 5000,
     .most = 7 * DAY_MS,
     .sentence = "Longest that one phase of a verification may take before the attempt is inconclusive."},
    {APPLIANCE(sandbox.budget_memory), .name = "sandbox.budget_memory", .type = HF_SETTING_SIZE,
     .computed = "half of the machine's memory", .least = 256 * (int64_t)HF_MIB, .most = 65536 * (int64_t)HF_GIB,
     .sentence = "Memory for all copies in sandboxes together: as many run at once as fit, sandbox.memory and "
                 "scratch.memory each."},
    {APPLIANCE(sandbox.budget_processors), .name = "sandbox.budget_processors", .type = HF_SETTING_COUNT,
     .fallback = "0", .least = 0, .most = 1024, .unit = "processors",
     .sentence = "Processors for all copies in sandboxes together, one for each at least; 0 means all."},
    {APPLIANCE(sandbox.runner), .name = "sandbox.runner", .type = HF_SETTING_PATH,
     .fallback = "/run/holdfast-runner.sock",
     .sentence = "Socket of holdfast-runner, which gives sandboxes uids of their own when the appliance is an ordinary "
                 "user's; without it they reach level L2."},
    {APPLIANCE(sandbox.postgres_prefixes), .name = "sandbox.postgres_prefixes", .type = HF_SETTING_PATHS,
     .sentence = "Further folders with database servers, laid out as packages are (usr/lib/postgresql/15) or as "
                 "15/bin/postgres; looked into when this host lacks the version."},

    {APPLIANCE(scrub.every_ms), .name = "scrub.every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "1d", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "How often a share of the stored packs is read again and compared with the log."},
    {APPLIANCE(scrub.window_ms), .name = "scrub.window", .type = HF_SETTING_DURATION, .fallback = "30d",
     .least = MINUTE_MS, .most = 3660 * DAY_MS, .sentence = "Time within which every stored pack is read again once."},
    {APPLIANCE(scrub.rate), .name = "scrub.rate", .type = HF_SETTING_SIZE, .can_be_off = true, .fallback = "64MiB",
     .least = (int64_t)HF_MIB, .most = 64 * (int64_t)HF_GIB,
     .sentence = "Most bytes a second that are read again; off means no limit."},

    {APPLIANCE(evidence.witness), .name = "evidence.witness", .type = HF_SETTING_PATH,
     .sentence =
         "File elsewhere (another machine's share) to which every signed checkpoint of the evidence is appended."},
    {APPLIANCE(evidence.site), .name = "evidence.site", .type = HF_SETTING_TEXT,
     .sentence = "Where the appliance stands, as evidence and reports name it."},
    {APPLIANCE(key_drill_every_ms), .name = "key_drill_every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "90d", .least = MINUTE_MS, .most = 3660 * DAY_MS,
     .sentence = "How long a key slot may go without having opened the repository before its drill is overdue."},

    {SOURCE(engine), .name = "engine", .type = HF_SETTING_WORD, .required = true, .words = engines,
     .sentence = "What kind of database server it is."},
    {SOURCE(connection), .name = "connection", .type = HF_SETTING_TEXT, .required = true,
     .sentence = "How to reach it: key=value pairs without a password, libpq's for PostgreSQL; host, port, socket, "
                 "user, tls and tls_ca for the others."},
    {SOURCE(password_file), .name = "password_file", .type = HF_SETTING_PATH,
     .sentence = "File that holds the password alone, readable only by the user who runs holdfastd."},
    {SOURCE(max_rate), .name = "max_rate", .type = HF_SETTING_SIZE, .can_be_off = true, .fallback = "off",
     .least = 32 * (int64_t)HF_KIB, .most = (int64_t)HF_GIB,
     .sentence = "Most bytes a second that a backup may take from the server."},
    {SOURCE(checkpoint), .name = "checkpoint", .type = HF_SETTING_WORD, .fallback = "fast", .words = checkpoints,
     .sentence = "Whether the server's checkpoint at the start of a backup is done at once or gently."},
    {SOURCE(lowest_level), .name = "lowest_level", .type = HF_SETTING_WORD, .words = levels,
     .computed = "sandbox.lowest_level", .sentence = "Weakest isolation in which this source's data may run."},
    {SOURCE(full_scan_every), .name = "full_scan_every", .type = HF_SETTING_COUNT, .fallback = "7", .least = 1,
     .most = 1000, .unit = "backups",
     .sentence = "One backup of so many reads every page; the others only what changed, where PostgreSQL 17 or later "
                 "has summarize_wal on."},
    {SOURCE(backup_every_ms), .name = "backup_every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = MINUTE_MS, .most = 366 * DAY_MS, .sentence = "How often a backup is taken by itself."},
    {SOURCE(verify_every_ms), .name = "verify_every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "How often the newest backup is proved again by itself."},
    {SOURCE(verify_after_backup), .name = "verify_after_backup", .type = HF_SETTING_BOOLEAN, .fallback = "yes",
     .sentence = "Whether each backup is proved as soon as it is finished."},
    {SOURCE(retention_every_ms), .name = "retention_every", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "How often backups that no rule keeps are removed by themselves, and their space is freed."},
    RULE(last, "How many of the newest proven backups stay."),
    RULE(hourly, "Of how many hours with proven backups the newest one stays."),
    RULE(daily, "Of how many days (UTC) with proven backups the newest one stays."),
    RULE(weekly, "Of how many weeks (from Monday, UTC) with proven backups the newest one stays."),
    RULE(monthly, "Of how many months (UTC) with proven backups the newest one stays."),
    RULE(yearly, "Of how many years (UTC) with proven backups the newest one stays."),
    {SOURCE(retention.within_ms), .name = "retention.within", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = MINUTE_MS, .most = 36600 * DAY_MS,
     .sentence = "All proven backups stay that were taken within that time before the newest proven one."},
    {SOURCE(retention.stream_within_ms), .name = "retention.stream_within", .type = HF_SETTING_DURATION,
     .can_be_off = true, .fallback = "off", .least = MINUTE_MS, .most = 36600 * DAY_MS,
     .sentence =
         "How far back before the newest proven backup any moment of the stream can be restored; off: as far as "
         "backups stay."},
    {SOURCE(retention.minimum), .name = "retention.minimum", .type = HF_SETTING_COUNT, .fallback = "1", .least = 1,
     .most = 100000, .unit = "backups", .sentence = "So many proven backups stay, whatever the rules say."},
    {SOURCE(retention.unproven_grace_ms), .name = "retention.unproven_grace", .type = HF_SETTING_DURATION,
     .can_be_off = true, .fallback = "14d", .least = MINUTE_MS, .most = 36600 * DAY_MS,
     .sentence = "How long an unproven backup stays when there is a newer proven one."},
    {SOURCE(retention.failed_grace_ms), .name = "retention.failed_grace", .type = HF_SETTING_DURATION,
     .can_be_off = true, .fallback = "7d", .least = MINUTE_MS, .most = 36600 * DAY_MS,
     .sentence = "How long a failed or damaged backup stays when there is a newer proven one."},
    {SOURCE(retention.most_percent), .name = "retention.most_percent", .type = HF_SETTING_COUNT, .fallback = "30",
     .least = 1, .most = 100, .unit = "percent",
     .sentence = "Largest share of the proven backups that goes at once without a person saying the number."},
    {SOURCE(retention.most_at_once), .name = "retention.most_at_once", .type = HF_SETTING_COUNT, .fallback = "20",
     .least = 1, .most = 100000, .unit = "backups",
     .sentence = "How many backups go at once without a person saying the number."},
    {SOURCE(objective.recovery_ms), .name = "objective.recovery_time", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = SECOND_MS, .most = 366 * DAY_MS,
     .sentence = "Longest that a recovery may take; measured and forecast times are compared with it."},
    {SOURCE(objective.data_loss_ms), .name = "objective.data_loss", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "off", .least = SECOND_MS, .most = 366 * DAY_MS,
     .sentence = "Largest span of data that may be lost; measured windows are compared with it."},
    {SOURCE(tier), .name = "tier", .type = HF_SETTING_TEXT,
     .sentence = "How critical the database is, in the owner's words; evidence and reports repeat it."},
    {SOURCE(stream), .name = "stream", .type = HF_SETTING_BOOLEAN, .fallback = "no",
     .sentence = "Whether the server's log is received as it is written; makes a permanent replication slot there."},
    {SOURCE(stream_slot), .name = "stream_slot", .type = HF_SETTING_TEXT, .computed = "holdfast_<appliance>_stream",
     .sentence = "Name of that replication slot."},
    {SOURCE(catch_up_ms), .name = "catch_up", .type = HF_SETTING_DURATION, .can_be_off = true, .fallback = "1m",
     .least = SECOND_MS, .most = DAY_MS,
     .sentence =
         "How long a proof waits for log of the stream: for the copy to stand where the source stood when it was "
         "asked; off means that the source is not asked."},
    {SOURCE(slot_alarm), .name = "slot_alarm", .type = HF_SETTING_SIZE, .can_be_off = true, .fallback = "8GiB",
     .least = (int64_t)HF_MIB, .most = SLOT_MOST,
     .sentence = "When the slot keeps more log than this on the server, status says so."},
    {SOURCE(slot_most), .name = "slot_most", .type = HF_SETTING_SIZE, .can_be_off = true, .fallback = "off",
     .least = (int64_t)HF_MIB, .most = SLOT_MOST,
     .sentence = "When it keeps more than this, the slot is released, and what we had not got is a gap."},
    {SOURCE(slot_floor), .name = "slot_floor", .type = HF_SETTING_SIZE, .can_be_off = true, .fallback = "off",
     .least = (int64_t)HF_MIB, .most = SLOT_MOST,
     .sentence = "The same when max_slot_wal_keep_size leaves less room than this."},
    {SOURCE(assertions), .name = "assertions", .type = HF_SETTING_LINES,
     .sentence = "What must be true of every copy, one a line: patients in clinic at least 1000: SELECT count(*) FROM "
                 "patients.  Rules: is, at least, at most, newer than, as live [within]."},
    {SOURCE(ssh), .name = "ssh", .type = HF_SETTING_TEXT,
     .sentence = "Host of the database as ssh reaches it, [user@]host[:port], where the backup tool of MariaDB or "
                 "MySQL runs; without it the tool runs on this host."},
    {SOURCE(backup_tool), .name = "backup_tool", .type = HF_SETTING_TEXT,
     .computed = "mariadb-backup, or xtrabackup for MySQL",
     .sentence = "Name or path of the program that copies the files of MariaDB or MySQL."},
    {SOURCE(tool_connection), .name = "tool_connection", .type = HF_SETTING_TEXT, .computed = "the same as connection",
     .sentence = "How that program reaches the server from the host where it runs: host, port, socket, user."},
    {SOURCE(table_keys), .name = "table_keys", .type = HF_SETTING_PATH,
     .sentence = "File with the keys of MariaDB's encrypted tables, as file_key_management_filename of the server, "
                 "readable only by the user who runs holdfastd: proofs and restores need it, backups do not hold it."},
    {SOURCE(table_keys_password), .name = "table_keys_password", .type = HF_SETTING_PATH,
     .sentence = "File that holds the password of table_keys alone (the server's file_key_management_filekey)."},
    {SOURCE(longest_outage_ms), .name = "longest_outage", .type = HF_SETTING_DURATION, .can_be_off = true,
     .fallback = "1d", .least = MINUTE_MS, .most = 366 * DAY_MS,
     .sentence = "Longest time this appliance may be away without a gap: the doctor looks whether the server keeps its "
                 "binary log that long."},

    {KEY_COMMAND(run), .name = "run", .type = HF_SETTING_RUN, .required = true,
     .sentence = "The program, an absolute path, and its arguments; it prints the key: 32 bytes, or 64 hex digits."},
    {KEY_COMMAND(timeout_ms), .name = "timeout", .type = HF_SETTING_DURATION, .fallback = "30s", .least = SECOND_MS,
     .most = 10 * MINUTE_MS, .sentence = "How long the program may take before it is ended."},
};

/* A unit behind a number: "6h" is 6 of 3600000. */
struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first: a value is printed in the largest unit that divides it. */
static const struct unit size_units[] = {
    {"GiB", (int64_t)HF_GIB}, {"MiB", (int64_t)HF_MIB}, {"KiB", (int64_t)HF_KIB}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {{"d", DAY_MS},    {"h", HOUR_MS}, {"m", MINUTE_MS},
                                             {"s", SECOND_MS}, {"ms", 1},      {NULL, 0}};
static const struct unit count_units[] = {{"", 1}, {NULL, 0}};

static bool set_text(const struct hf_setting *setting, char **member, const char *text, struct hf_error *err);
static bool add_entry(const struct hf_setting *setting, char ***member, const char *text, struct hf_error *err);
static bool check_text(const struct hf_setting *setting, const char *text, struct hf_error *err);
static bool set_word(const struct hf_setting *setting, const char **member, const char *text, struct hf_error *err);
static bool set_boolean(const struct hf_setting *setting, bool *member, const char *text, struct hf_error *err);
static bool set_number(const struct hf_setting *setting, int64_t *member, const char *text, struct hf_error *err);
static const struct unit *units_of(enum hf_setting_type type);
static bool parse_number(const char *text, const struct unit *units, int64_t *ret);
static bool print_number(int64_t value, const struct unit *units, struct hf_buf *out, struct hf_error *err);
static bool print_setting(const struct hf_setting *setting, struct hf_buf *out, struct hf_error *err);
static bool print_limits(const struct hf_setting *setting, struct hf_buf *out, struct hf_error *err);

const struct hf_setting *
hf_settings_table(size_t *ret_count)
{
    *ret_count = HF_LENGTH(table);
    return table;
}

const struct hf_setting *
hf_setting_find(enum hf_setting_of of, const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(table); i++)
        if (table[i].of == of && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

bool
hf_setting_set(const struct hf_setting *setting, void *target, const char *text, struct hf_error *err)
{
    void *member = (char *)target + setting->offset;
    switch (setting->type) {
    case HF_SETTING_TEXT:
    case HF_SETTING_LINES:
    case HF_SETTING_PATH:
    case HF_SETTING_PLACE:
        return set_text(setting, member, text, err);
    case HF_SETTING_PATHS:
    case HF_SETTING_PLACES:
    case HF_SETTING_RUN:
        return add_entry(setting, member, text, err);
    case HF_SETTING_WORD:
        return set_word(setting, member, text, err);
    case HF_SETTING_BOOLEAN:
        return set_boolean(setting, member, text, err);
    case HF_SETTING_COUNT:
    case HF_SETTING_SIZE:
    case HF_SETTING_DURATION:
        return set_number(setting, member, text, err);
    }
    abort();
}

bool
hf_setting_set_defaults(enum hf_setting_of of, void *target, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(table); i++) {
        if (table[i].of != of || table[i].fallback == NULL)
            continue;
        if (!hf_setting_set(&table[i], target, table[i].fallback, err))
            return false;
    }
    return true;
}

bool
hf_setting_check_required(enum hf_setting_of of, const void *target, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(table); i++) {
        // Every required row is a text, a word or a list: a pointer that is NULL while unset.
        if (table[i].of != of || !table[i].required)
            continue;
        if (*(void *const *)((const char *)target + table[i].offset) == NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" is missing", table[i].name);
    }
    return true;
}

bool
hf_setting_print(const struct hf_setting *setting, const void *target, struct hf_buf *out, struct hf_error *err)
{
    const void *member = (const char *)target + setting->offset;
    switch (setting->type) {
    case HF_SETTING_TEXT:
    case HF_SETTING_LINES:
    case HF_SETTING_PATH:
    case HF_SETTING_PLACE:
    case HF_SETTING_WORD: {
        const char *text = *(const char *const *)member;
        return text == NULL || hf_buf_add_text(out, text, err);
    }
    case HF_SETTING_BOOLEAN:
        return hf_buf_add_text(out, *(const bool *)member ? "yes" : "no", err);
    case HF_SETTING_COUNT:
    case HF_SETTING_SIZE:
    case HF_SETTING_DURATION: {
        int64_t value = *(const int64_t *)member;
        if (value == 0 && setting->can_be_off)
            return hf_buf_add_text(out, "off", err);
        return print_number(value, units_of(setting->type), out, err);
    }
    case HF_SETTING_PATHS:
    case HF_SETTING_PLACES:
    case HF_SETTING_RUN:
        break;
    }
    abort();
}

void
hf_setting_release(enum hf_setting_of of, void *target)
{
    for (size_t i = 0; i < HF_LENGTH(table); i++) {
        if (table[i].of != of)
            continue;
        void *member = (char *)target + table[i].offset;
        if (table[i].type == HF_SETTING_TEXT || table[i].type == HF_SETTING_LINES || table[i].type == HF_SETTING_PATH ||
            table[i].type == HF_SETTING_PLACE)
            hf_freep(member);
        else if (hf_setting_is_list(table[i].type))
            hf_strv_freep(member);
    }
}

bool
hf_setting_is_list(enum hf_setting_type type)
{
    return type == HF_SETTING_PATHS || type == HF_SETTING_PLACES || type == HF_SETTING_RUN;
}

const char *
hf_setting_type_words(enum hf_setting_type type)
{
    static const char *const words[] = {
        [HF_SETTING_TEXT] = "text",
        [HF_SETTING_LINES] = "text, several lines",
        [HF_SETTING_PATH] = "an absolute path",
        [HF_SETTING_PATHS] = "a list of absolute paths",
        [HF_SETTING_PLACE] = "an absolute path, or ssh://[user@]host[:port]/path",
        [HF_SETTING_PLACES] = "a list of absolute paths or ssh://[user@]host[:port]/path",
        [HF_SETTING_RUN] = "a list: a program's absolute path, then its arguments",
        [HF_SETTING_WORD] = "a word",
        [HF_SETTING_BOOLEAN] = "yes or no",
        [HF_SETTING_COUNT] = "a whole number",
        [HF_SETTING_SIZE] = "a size such as 64KiB or 2GiB",
        [HF_SETTING_DURATION] = "a duration such as 30m, 6h or 1d",
    };
    return words[type];
}

bool
hf_settings_reference(struct hf_buf *out, struct hf_error *err)
{
    enum hf_setting_of section = HF_SETTING_OF_APPLIANCE;
    if (!hf_buf_add_text(out,
                         "The settings of Holdfast, in holdfast.yaml.  A dot means a level of indentation:\n"
                         "\"unlock.key_file\" is the key \"key_file\" below \"unlock\".\n\n",
                         err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(table); i++) {
        if (table[i].of != section) {
            section = table[i].of;
            if (!hf_buf_printf(out, err, "For each %s and its name (a-z, 0-9, _ and -):\n\n",
                               section == HF_SETTING_OF_SOURCE ? "source, below \"sources\""
                                                               : "key command, below \"key_commands\""))
                return false;
        }
        if (!print_setting(&table[i], out, err))
            return false;
    }
    return true;
}

static bool
set_text(const struct hf_setting *setting, char **member, const char *text, struct hf_error *err)
{
    if (!check_text(setting, text, err))
        return false;
    char *copy = strdup(text);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for setting \"%s\"", setting->name);
    free(*member);
    *member = copy;
    return true;
}

static bool
add_entry(const struct hf_setting *setting, char ***member, const char *text, struct hf_error *err)
{
    size_t count = 0;
    if (!check_text(setting, text, err))
        return false;
    while (*member != NULL && (*member)[count] != NULL)
        count++;
    if (count == HF_SETTINGS_LIST_MOST)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" has more than %d entries", setting->name, HF_SETTINGS_LIST_MOST);

    _cleanup_(hf_freep) char *copy = strdup(text);
    char **longer = copy == NULL ? NULL : realloc(*member, (count + 2) * sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for setting \"%s\"", setting->name);
    longer[count] = HF_TAKE(copy);
    longer[count + 1] = NULL;
    *member = longer;
    return true;
}

static bool
check_text(const struct hf_setting *setting, const char *text, struct hf_error *err)
{
    if (text[0] == '\0')
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is empty", setting->name);
    if (strlen(text) > HF_SETTINGS_TEXT_MOST)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is longer than %d bytes", setting->name, HF_SETTINGS_TEXT_MOST);
    for (const char *at = text; *at != '\0'; at++)
        if (((uint8_t)*at < 0x20 && !(*at == '\n' && setting->type == HF_SETTING_LINES)) || *at == 0x7F)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" contains a control character", setting->name);
    const bool place = setting->type == HF_SETTING_PLACE || setting->type == HF_SETTING_PLACES;
    const bool words =
        setting->type == HF_SETTING_TEXT || setting->type == HF_SETTING_LINES || setting->type == HF_SETTING_RUN;
    if (place && text[0] != '/' && strncmp(text, "ssh://", 6) != 0)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%s\", which is neither an absolute path nor ssh://...",
                       setting->name, text);
    if (!place && !words && text[0] != '/')
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%s\", which is not an absolute path", setting->name, text);
    return true;
}

static bool
set_word(const struct hf_setting *setting, const char **member, const char *text, struct hf_error *err)
{
    for (size_t i = 0; setting->words[i] != NULL; i++) {
        if (strcmp(setting->words[i], text) == 0) {
            *member = setting->words[i];
            return true;
        }
    }
    _cleanup_(hf_buf_done) struct hf_buf known = HF_BUF_INIT(HF_KIB);
    for (size_t i = 0; setting->words[i] != NULL; i++)
        if (!hf_buf_printf(&known, err, "%s\"%s\"", i == 0 ? "" : ", ", setting->words[i]))
            return false;
    return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%s\"; it can be %s", setting->name, text, hf_buf_text(&known));
}

static bool
set_boolean(const struct hf_setting *setting, bool *member, const char *text, struct hf_error *err)
{
    bool yes = strcmp(text, "yes") == 0 || strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "no") != 0 && strcmp(text, "false") != 0)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%s\", which is neither yes nor no", setting->name, text);
    *member = yes;
    return true;
}

static bool
set_number(const struct hf_setting *setting, int64_t *member, const char *text, struct hf_error *err)
{
    const struct unit *units = units_of(setting->type);
    int64_t value = 0;
    if (setting->can_be_off && strcmp(text, "off") == 0) {
        *member = 0;
        return true;
    }
    if (!parse_number(text, units, &value))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is \"%s\", which is not %s", setting->name, text,
                       hf_setting_type_words(setting->type));
    if (value < setting->least || value > setting->most) {
        _cleanup_(hf_buf_done) struct hf_buf limits = HF_BUF_INIT(HF_KIB);
        if (!print_limits(setting, &limits, err))
            return false;
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is %s, outside of %s", setting->name, text, hf_buf_text(&limits));
    }
    *member = value;
    return true;
}

static const struct unit *
units_of(enum hf_setting_type type)
{
    return type == HF_SETTING_SIZE ? size_units : type == HF_SETTING_DURATION ? duration_units : count_units;
}

/* Digits and one of the units, nothing else: no sign, no space, no fraction, no overflow. */
static bool
parse_number(const char *text, const struct unit *units, int64_t *ret)
{
    int64_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || (digits > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text[i] - '0', &value))
            return false;
    for (; units->name != NULL; units++)
        if (strcmp(units->name, text + digits) == 0)
            return !__builtin_mul_overflow(value, units->factor, ret);
    return false;
}

static bool
print_number(int64_t value, const struct unit *units, struct hf_buf *out, struct hf_error *err)
{
    while (units->factor > 1 && (value == 0 || value % units->factor != 0))
        units++;
    return hf_buf_printf(out, err, "%" PRId64 "%s", value / units->factor, units->name);
}

static bool
print_setting(const struct hf_setting *setting, struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_printf(out, err, "  %s%s\n      %s\n      ", setting->name, setting->required ? "  (required)" : "",
                       setting->sentence))
        return false;
    if (setting->type == HF_SETTING_WORD) {
        for (size_t i = 0; setting->words[i] != NULL; i++)
            if (!hf_buf_printf(out, err, "%s%s", i == 0 ? "One of: " : ", ", setting->words[i]))
                return false;
    } else if (setting->most > 0) {
        if (!hf_buf_printf(out, err, "%s%s%s, ", hf_setting_type_words(setting->type),
                           setting->unit == NULL ? "" : " of ", setting->unit == NULL ? "" : setting->unit) ||
            !print_limits(setting, out, err))
            return false;
    } else if (!hf_buf_add_text(out, hf_setting_type_words(setting->type), err))
        return false;

    const char *fallback = setting->computed != NULL ? setting->computed : setting->fallback;
    return hf_buf_printf(out, err, "%s%s.\n\n",
                         fallback == NULL ? "" : "; default: ", fallback == NULL ? "" : fallback);
}

static bool
print_limits(const struct hf_setting *setting, struct hf_buf *out, struct hf_error *err)
{
    const struct unit *units = units_of(setting->type);
    return print_number(setting->least, units, out, err) && hf_buf_add_text(out, " to ", err) &&
           print_number(setting->most, units, out, err) &&
           (!setting->can_be_off || hf_buf_add_text(out, ", or off", err));
}

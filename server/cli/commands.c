#include "server/cli/command.h"

#include "server/cli/init.h"
#include "server/cli/local.h"
#include "server/cli/retention.h"
#include "server/cli/show.h"

#define NAME                                                                                                           \
    {                                                                                                                  \
        .name = "NAME", .member = "name", .type = HF_CLI_TEXT, .required = true                                        \
    }
#define SOURCE                                                                                                         \
    {                                                                                                                  \
        .name = "SOURCE", .member = "source", .type = HF_CLI_TEXT, .required = true                                    \
    }
#define OPTIONAL_SOURCE                                                                                                \
    {                                                                                                                  \
        .name = "SOURCE", .member = "source", .type = HF_CLI_TEXT                                                      \
    }
#define JOB                                                                                                            \
    {                                                                                                                  \
        .name = "JOB", .member = "job", .type = HF_CLI_TEXT, .required = true                                          \
    }
#define BACKUP                                                                                                         \
    {                                                                                                                  \
        .name = "BACKUP", .member = "backup", .type = HF_CLI_TEXT, .required = true                                    \
    }
#define REPLACED                                                                                                       \
    {                                                                                                                  \
        "--replaced", NULL, "replaced", HF_CLI_FLAG,                                                                   \
            "Failed and damaged ones that a newer proven one has replaced go now, whatever the rules say."             \
    }
#define REASON                                                                                                         \
    {                                                                                                                  \
        "--reason", "TEXT", "reason", HF_CLI_TEXT, "Why; it is recorded with your name."                               \
    }
#define DETACH                                                                                                         \
    {                                                                                                                  \
        "--detach", NULL, NULL, HF_CLI_FLAG, "Only start it, print the job's id, and do not wait."                     \
    }

const struct hf_cli_command hf_cli_commands[] = {
    {.words = "init",
     .sentence = "Makes a repository with its keys, and prints the recovery kit.",
     .options = {{"--repository", "DIR", "repository", HF_CLI_PATH,
                  "The folder that will hold the backups; empty or new."},
                 {"--state", "DIR", "state", HF_CLI_PATH, "The folder of the appliance itself: catalog, signing key."},
                 {"--key-file", "FILE", "key_file", HF_CLI_PATH, "Where the key for unattended use is written."},
                 {"--passphrase-file", "FILE", "passphrase_file", HF_CLI_PATH,
                  "Holds the passphrase for the safe; else you are asked."},
                 {"--name", "NAME", "name", HF_CLI_TEXT, "The appliance's name in its evidence; else the host's."}},
     .local = hf_cli_init,
     .show = hf_show_init},

    {.words = "source add",
     .sentence = "Adds a database server to those that are backed up.",
     .arguments = {NAME},
     .options = {{"--replace", NULL, "replace", HF_CLI_FLAG, "Changes the source when there is one of that name."}},
     .setting_options = true,
     .request = "source add",
     .show = hf_show_source_added},
    {.words = "source remove",
     .sentence = "Takes no more backups of a source; those there are stay.",
     .arguments = {NAME},
     .request = "source remove",
     .show = hf_show_source_removed},
    {.words = "source list",
     .sentence = "Shows the sources and their settings.",
     .request = "source list",
     .show = hf_show_sources},

    {.words = "doctor",
     .sentence = "Looks at every precondition of a backup, and says how to mend what is missing.",
     .arguments = {OPTIONAL_SOURCE},
     .request = "doctor",
     .show = hf_show_doctor},
    {.words = "backup",
     .sentence = "Takes a backup of a source.",
     .arguments = {SOURCE},
     .options = {DETACH},
     .request = "backup",
     .show = hf_show_backup},
    {.words = "backups",
     .sentence = "Shows the backups, newest first, and whether they are proven.",
     .arguments = {OPTIONAL_SOURCE},
     .options = {{"--all", NULL, "all", HF_CLI_FLAG, "Those that were pruned too."}},
     .request = "backups",
     .show = hf_show_backups},
    {.words = "verify",
     .sentence = "Proves a backup: restores it in the sandbox, starts it, checks it, and signs the result.",
     .arguments = {SOURCE},
     .options = {{"--backup", "ID", "backup", HF_CLI_TEXT, "This backup; without it the newest one."}, DETACH},
     .request = "verify",
     .show = hf_show_verify},
    {.words = "restore",
     .sentence = "Restores a backup to an empty folder, ready to be started.",
     .arguments = {SOURCE},
     .options = {{"--to", "DIR", "to", HF_CLI_PATH,
                  "The folder; empty or new.  What is written there is not encrypted."},
                 {"--backup", "ID", "backup", HF_CLI_TEXT, "This backup; without it the newest proven one."},
                 {"--owner", "USER", "owner", HF_CLI_TEXT,
                  "Gives it to this user, such as postgres: PostgreSQL does not start on a folder of root's."},
                 {"--allow-damage", NULL, "allow_damage", HF_CLI_FLAG,
                  "Restores what is left of a damaged backup; lost pages are filled with a mark and listed beside it."},
                 DETACH},
     .request = "restore",
     .show = hf_show_restore},
    {.words = "status",
     .sentence = "Shows for each source whether its newest backup is proven.",
     .request = "status",
     .show = hf_show_status},

    {.words = "evidence verify",
     .sentence = "Checks a signed document with nothing but its proof and a public key.",
     .arguments = {{.name = "FILE", .member = "file", .type = HF_CLI_PATH, .required = true}},
     .options = {{"--public-key", "FILE", "public_key", HF_CLI_PATH,
                  "The key, as it was kept since the appliance was set up."},
                 {"--proof", "FILE", "proof", HF_CLI_PATH, "The proof; else FILE with \".proof\" for \".json\"."}},
     .local = hf_cli_evidence_verify,
     .show = hf_show_evidence_verify},
    {.words = "evidence list",
     .sentence = "Shows the attempts to prove backups and their evidence.",
     .arguments = {OPTIONAL_SOURCE},
     .request = "evidence list",
     .show = hf_show_evidence},

    {.words = "repo check",
     .sentence = "Checks the stored bytes; deletes nothing.",
     .options = {{"--level", "N", "level", HF_CLI_NUMBER,
                  "0: names and sizes; 1: the hash of every pack (default); 2: opens everything."},
                 DETACH},
     .request = "repo check",
     .show = hf_show_check},
    {.words = "repo scrub",
     .sentence = "Reads stored packs again, the one that has waited longest first, and compares them with the log.",
     .options = {{"--all", NULL, "all", HF_CLI_FLAG, "Every pack; without it what is due of the pass."},
                 {"--rate", "N", "rate", HF_CLI_NUMBER, "MiB a second, 0 for no limit; without it scrub.rate."},
                 DETACH},
     .request = "repo scrub",
     .show = hf_show_scrub},
    {.words = "repo gc",
     .sentence = "Makes room: removes what no backup needs, and rewrites what is mostly garbage.",
     .options = {DETACH},
     .request = "repo gc",
     .show = hf_show_gc},
    {.words = "retention plan",
     .sentence = "Shows for each backup whether it stays or goes by the rules of its source, and why.",
     .arguments = {OPTIONAL_SOURCE},
     .options = {REPLACED},
     .request = "retention plan",
     .show = hf_show_retention_plan},
    {.words = "retention apply",
     .sentence = "Removes the backups that the plan says go, after asking.",
     .arguments = {OPTIONAL_SOURCE},
     .options = {{"--plan", "NAME", "plan", HF_CLI_TEXT,
                  "This plan, as \"retention plan\" named it; refused when anything has changed."},
                 {"--yes", NULL, "yes", HF_CLI_FLAG, "Do not ask."},
                 {"--removing", "N", "removing", HF_CLI_NUMBER,
                  "Just so many go; needed when that is more than is usual."},
                 REPLACED,
                 {"--clock-is-right", NULL, "clock_is_right", HF_CLI_FLAG,
                  "Go on although the clock and the log do not agree."}},
     .local = hf_cli_retention_apply,
     .show = hf_show_retention_apply},
    {.words = "hold add",
     .sentence = "Keeps a backup, whatever the rules say, until the hold is released or ends.",
     .arguments = {BACKUP},
     .options = {REASON,
                 {"--until", "TIME", "until", HF_CLI_TEXT, "When it ends by itself, such as 2027-01-31T00:00:00Z."}},
     .request = "hold add",
     .show = hf_show_hold_added},
    {.words = "hold release",
     .sentence = "Ends the holds on a backup; locks stay.",
     .arguments = {BACKUP},
     .options = {REASON},
     .request = "hold release",
     .show = hf_show_hold_released},
    {.words = "hold list",
     .sentence = "Shows the backups that are held or locked, by whom, why and until when.",
     .arguments = {OPTIONAL_SOURCE},
     .request = "hold list",
     .show = hf_show_holds},
    {.words = "lock",
     .sentence = "Locks a backup and its packs until a time; a lock can be extended and never taken back.",
     .arguments = {BACKUP},
     .options = {{"--until", "TIME", "until", HF_CLI_TEXT, "When it ends, such as 2027-01-31T00:00:00Z."},
                 REASON,
                 DETACH},
     .request = "lock",
     .show = hf_show_lock},
    {.words = "repo copy",
     .sentence = "Makes a copy of the repository at a second place, or goes on with it; needs no key.",
     .options = {{"--to", "PLACE", "to", HF_CLI_PLACE, "An empty or new folder, or ssh://[user@]host[:port]/path."},
                 {"--fast", NULL, "fast", HF_CLI_FLAG, "Takes what is there already by its size, without reading it."},
                 {"--read-back", NULL, "read_back", HF_CLI_FLAG,
                  "Reads what was written again, also over ssh; on a folder that is done always."},
                 {"--rate", "N", "rate", HF_CLI_NUMBER, "KiB a second, 0 for no limit; without it second_place.rate."},
                 DETACH},
     .request = "repo copy",
     .show = hf_show_copy},
    {.words = "repo sync",
     .sentence = "Brings the copies at the second places up to date.",
     .options = {{"--to", "PLACE", "to", HF_CLI_PLACE, "Only this one; without it all of second_place.at."}, DETACH},
     .request = "repo sync",
     .show = hf_show_copy},
    {.words = "repo heal",
     .sentence = "Fetches what is missing or altered here from a copy, by the log's hashes.",
     .options = {{"--from", "PLACE", "from", HF_CLI_PLACE, "The copy: a folder, or ssh://[user@]host[:port]/path."},
                 {"--dry-run", NULL, "dry_run", HF_CLI_FLAG, "Only says what would be fetched."},
                 DETACH},
     .request = "repo heal",
     .show = hf_show_heal},
    {.words = "repo promote",
     .sentence = "Makes a repository of the copy that the settings name, when the original is lost.",
     .request = "repo promote",
     .show = hf_show_promoted},
    {.words = "catalog rebuild",
     .sentence = "Makes the catalog again from the repository and compares it with the one in use.",
     .request = "catalog rebuild",
     .show = hf_show_rebuild},
    {.words = "catalog check",
     .sentence = "Makes a second catalog from the repository and compares it with the one in use; changes nothing.",
     .options = {DETACH},
     .request = "catalog check",
     .show = hf_show_catalog_check},
    {.words = "catalog acknowledge",
     .sentence = "Ends the alarm about a damaged catalog that was made again.",
     .request = "catalog acknowledge",
     .show = hf_show_catalog_acknowledged},

    {.words = "job list",
     .sentence = "Shows jobs: waiting, running, and those of the last time.",
     .request = "job list",
     .show = hf_show_jobs},
    {.words = "job cancel",
     .sentence = "Asks a job to stop.",
     .arguments = {JOB},
     .request = "job cancel",
     .show = hf_show_job_cancelled},
    {.words = "job watch",
     .sentence = "Waits for a job that runs, showing where it is.",
     .arguments = {JOB},
     .request = "job watch",
     .show = hf_show_any},

    {.words = "settings",
     .sentence = "Prints every setting of holdfast.yaml with its type, default and limits.",
     .local = hf_cli_settings,
     .show = hf_show_settings},
    {.words = "version", .sentence = "Prints the version.", .local = hf_cli_version, .show = hf_show_version},
};
const size_t hf_cli_command_count = HF_LENGTH(hf_cli_commands);

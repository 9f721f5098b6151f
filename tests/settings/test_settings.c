#include "tests/support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/settings/assertion.h"
#include "server/settings/settings.h"

#define DAY INT64_C(86400000)

static const char whole_file[] = "repository: /srv/repository\n"
                                 "state: /srv/state\n"
                                 "socket: /run/holdfast.sock\n"
                                 "jobs_at_once: 3\n"
                                 "workers: 4\n"
                                 "compression_level: 3\n"
                                 "unlock:\n"
                                 "  key_file: /etc/holdfast/server.key\n"
                                 "scratch:\n"
                                 "  folder: /srv/scratch\n"
                                 "  memory: 512MiB\n"
                                 "sandbox:\n"
                                 "  lowest_level: L3\n"
                                 "  memory: 4GiB\n"
                                 "  phase: 90m\n"
                                 "  postgres_prefixes: [/opt/pg16, /opt/pg17]\n"
                                 "sources:\n"
                                 "  clinic:\n"
                                 "    engine: postgresql\n"
                                 "    connection: \"host=db.example user=holdfast\"\n"
                                 "    password_file: /etc/holdfast/clinic.password\n"
                                 "    max_rate: 64MiB\n"
                                 "    checkpoint: spread\n"
                                 "    lowest_level: L1\n"
                                 "    backup_every: 6h\n"
                                 "    verify_every: 1d\n"
                                 "    verify_after_backup: no\n"
                                 "    retention_every: 1d\n"
                                 "    retention:\n"
                                 "      last: 3\n"
                                 "      hourly: 24\n"
                                 "      daily: 14\n"
                                 "      weekly: 8\n"
                                 "      monthly: 12\n"
                                 "      yearly: 10\n"
                                 "      within: 2d\n"
                                 "      minimum: 5\n"
                                 "      unproven_grace: 10d\n"
                                 "      failed_grace: off\n"
                                 "      most_percent: 50\n"
                                 "      most_at_once: 7\n"
                                 "    catch_up: 5m\n"
                                 "  lab-2:\n"
                                 "    engine: postgresql\n"
                                 "    connection: host=/run/postgresql\n"
                                 "  ward:\n"
                                 "    engine: mariadb\n"
                                 "    connection: host=db.example user=holdfast\n"
                                 "    tool_connection: socket=/run/mysqld/mysqld.sock user=holdfast\n"
                                 "    ssh: backup@db.example:2222\n"
                                 "    backup_tool: /opt/mariadb/bin/mariadb-backup\n"
                                 "    longest_outage: 3d\n";

#define LEAST "repository: /r\nstate: /s\nunlock: {key_file: /k}\n"

/* What must be in the file, then a source, so that a case needs only its own lines. */
#define SOURCE LEAST "sources:\n  clinic:\n    engine: postgresql\n    connection: host=a\n"

static struct hf_settings *
must_parse(const char *text)
{
    struct hf_settings *settings = NULL;
    struct hf_error err;
    hf_assert_ok(hf_settings_parse("holdfast.yaml", text, strlen(text), &settings, &err), &err);
    return settings;
}

static void
must_refuse(const char *text, const char *message)
{
    struct hf_settings *settings = NULL;
    struct hf_error err;
    if (hf_settings_parse("holdfast.yaml", text, strlen(text), &settings, &err))
        fail_msg("was taken: %s", text);
    assert_null(settings);
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, message);
}

HF_TEST(every_setting_of_a_whole_file_arrives_where_it_belongs)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(whole_file);
    assert_string_equal(settings->file, "holdfast.yaml");
    assert_string_equal(settings->text, whole_file);
    assert_string_equal(settings->repository, "/srv/repository");
    assert_string_equal(settings->state, "/srv/state");
    assert_string_equal(settings->socket, "/run/holdfast.sock");
    assert_int_equal(settings->jobs_at_once, 3);
    assert_int_equal(settings->workers, 4);
    assert_int_equal(settings->compression_level, 3);
    assert_string_equal(settings->unlock.key_file, "/etc/holdfast/server.key");
    assert_null(settings->unlock.passphrase_file);
    assert_string_equal(settings->scratch.folder, "/srv/scratch");
    assert_int_equal(settings->scratch.memory, 512 * HF_MIB);
    assert_string_equal(settings->sandbox.lowest_level, "L3");
    assert_int_equal(settings->sandbox.memory, 4 * HF_GIB);
    assert_int_equal(settings->sandbox.phase_ms, 90 * 60000);
    assert_string_equal(settings->sandbox.postgres_prefixes[0], "/opt/pg16");
    assert_string_equal(settings->sandbox.postgres_prefixes[1], "/opt/pg17");
    assert_null(settings->sandbox.postgres_prefixes[2]);

    assert_int_equal(settings->source_count, 3);
    const struct hf_source_settings *clinic = hf_settings_source(settings, "clinic");
    assert_int_equal(clinic->line, 18);
    assert_string_equal(clinic->engine, "postgresql");
    assert_string_equal(clinic->connection, "host=db.example user=holdfast");
    assert_string_equal(clinic->password_file, "/etc/holdfast/clinic.password");
    assert_int_equal(clinic->max_rate, 64 * HF_MIB);
    assert_string_equal(clinic->checkpoint, "spread");
    assert_string_equal(clinic->lowest_level, "L1");
    assert_int_equal(clinic->backup_every_ms, 6 * 3600 * 1000);
    assert_int_equal(clinic->verify_every_ms, 24 * 3600 * 1000);
    assert_false(clinic->verify_after_backup);
    assert_int_equal(clinic->retention_every_ms, DAY);
    assert_int_equal(clinic->retention.last, 3);
    assert_int_equal(clinic->retention.hourly, 24);
    assert_int_equal(clinic->retention.daily, 14);
    assert_int_equal(clinic->retention.weekly, 8);
    assert_int_equal(clinic->retention.monthly, 12);
    assert_int_equal(clinic->retention.yearly, 10);
    assert_int_equal(clinic->retention.within_ms, 2 * DAY);
    assert_int_equal(clinic->retention.minimum, 5);
    assert_int_equal(clinic->retention.unproven_grace_ms, 10 * DAY);
    assert_int_equal(clinic->retention.failed_grace_ms, 0);
    assert_int_equal(clinic->retention.most_percent, 50);
    assert_int_equal(clinic->retention.most_at_once, 7);
}

HF_TEST(what_a_file_does_not_say_has_its_default)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(SOURCE);
    assert_string_equal(settings->socket, "/s/holdfastd.sock");
    assert_string_equal(settings->scratch.folder, "/s/scratch");
    assert_int_equal(settings->jobs_at_once, 2);
    assert_int_equal(settings->workers, 0);
    assert_int_equal(settings->compression_level, 1);
    assert_int_equal(settings->scratch.memory, HF_GIB);
    assert_string_equal(settings->sandbox.lowest_level, "L2");
    assert_int_equal(settings->sandbox.memory, 2 * HF_GIB);
    assert_int_equal(settings->sandbox.phase_ms, 60 * 60000);
    assert_null(settings->sandbox.postgres_prefixes);

    const struct hf_source_settings *clinic = hf_settings_source(settings, "clinic");
    assert_null(clinic->password_file);
    assert_int_equal(clinic->max_rate, 0);
    assert_string_equal(clinic->checkpoint, "fast");
    assert_null(clinic->lowest_level);
    assert_int_equal(clinic->backup_every_ms, 0);
    assert_int_equal(clinic->verify_every_ms, 0);
    assert_true(clinic->verify_after_backup);
    assert_int_equal(clinic->retention_every_ms, 0); // nothing goes by itself
    assert_int_equal(clinic->retention.last, 0);
    assert_int_equal(clinic->retention.yearly, 0);
    assert_int_equal(clinic->retention.within_ms, 0);
    assert_int_equal(clinic->retention.minimum, 1);
    assert_int_equal(clinic->retention.unproven_grace_ms, 14 * DAY);
    assert_int_equal(clinic->retention.failed_grace_ms, 7 * DAY);
    assert_int_equal(clinic->retention.most_percent, 30);
    assert_int_equal(clinic->retention.most_at_once, 20);
    assert_int_equal(settings->catalog_check_every_ms, 7 * DAY);
    assert_null(hf_settings_source(settings, "other"));
}

HF_TEST(the_state_folder_of_a_file_that_names_none_depends_on_the_user)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse("repository: /r\nunlock: {key_file: /k}\n");
    if (geteuid() == 0)
        assert_string_equal(settings->state, "/var/lib/holdfast");
    else
        assert_non_null(strstr(settings->state, "/.local/state/holdfast"));
}

HF_TEST(whatever_is_not_a_setting_is_refused_with_its_line)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "holdfast.yaml: there are no settings in it"},
        {"# only this\n", "holdfast.yaml: there are no settings in it"},
        {"- a\n", "holdfast.yaml:1: the settings are a list; they must be keys with values"},
        {"word\n", "holdfast.yaml:1: the settings are a single value; they must be keys with values"},
        {LEAST "repositroy: /r\n", "holdfast.yaml:4: there is no setting \"repositroy\""},
        {LEAST "sandbox:\n  colour: red\n", "holdfast.yaml:5: there is no setting \"sandbox.colour\""},
        {LEAST "sandbox.memory: 1GiB\n", "holdfast.yaml:4: there is no setting \"sandbox.memory\""},
        {LEAST "engine: postgresql\n", "holdfast.yaml:4: there is no setting \"engine\""},
        {SOURCE "    workers: 2\n", "holdfast.yaml:8: there is no setting \"workers\""},
        {LEAST "<<: {workers: 2}\n", "holdfast.yaml:4: there is no setting \"<<\""},
        {SOURCE "    retention:\n      dayly: 3\n", "holdfast.yaml:9: there is no setting \"retention.dayly\""},
        {SOURCE "    retention.daily: 3\n", "holdfast.yaml:8: there is no setting \"retention.daily\""},
        {SOURCE "    retention: 3\n", "holdfast.yaml:8: \"retention\" must have settings below it"},
        {SOURCE "    retention:\n      daily: {a: 1}\n", "holdfast.yaml:9: \"daily\" cannot have settings below it"},
        {SOURCE "    retention:\n      daily: [1]\n",
         "holdfast.yaml:9: \"daily\" is a list; it must be a whole number"},
        {SOURCE "    retention:\n      daily: 0\n",
         "holdfast.yaml:9: \"retention.daily\" is 0, outside of 1 to 100000, or off"},
        {SOURCE "    sandbox: {memory: 1GiB}\n", "holdfast.yaml:8: there is no setting \"sandbox\""},
        {LEAST "retention: {daily: 3}\n", "holdfast.yaml:4: there is no setting \"retention\""},

        {LEAST "state: /t\n", "holdfast.yaml:4: \"state\" stands here a second time; the first is in line 2"},
        {LEAST "unlock: {key_file: /x}\n",
         "holdfast.yaml:4: \"unlock\" stands here a second time; the first is in line 3"},
        {SOURCE "    engine: postgresql\n",
         "holdfast.yaml:8: \"engine\" stands here a second time; the first is in line 6"},
        {SOURCE "  clinic:\n    engine: postgresql\n",
         "holdfast.yaml:8: \"clinic\" stands here a second time; the first is in line 5"},

        {LEAST "workers:\t2\n", "holdfast.yaml:4: there is a tab; indent and separate with spaces"},
        {LEAST "workers: &n 2\n", "holdfast.yaml:4: anchors (\"&n\") are not allowed; write the value out"},
        {LEAST "sandbox: &s\n  phase: 1h\n", "holdfast.yaml:4: anchors (\"&s\") are not allowed; write the value out"},
        {LEAST "workers: *n\n", "holdfast.yaml:4: aliases (\"*name\") are not allowed; write the value out"},
        {LEAST "workers: !!int 2\n", "holdfast.yaml:4: tags (\"tag:yaml.org,2002:int\") are not allowed"},
        {LEAST "sandbox: {postgres_prefixes: !x [/a]}\n", "holdfast.yaml:4: tags (\"!x\") are not allowed"},
        {"%YAML 1.1\n---\n" LEAST, "holdfast.yaml:1: directives (\"%...\") are not allowed"},
        {LEAST "---\nworkers: 2\n", "holdfast.yaml:4: a second document begins; one file is one document"},
        {LEAST "sources: {\n",
         "holdfast.yaml:5: this is not YAML: while parsing a flow node, did not find expected node content"},

        {LEAST "workers:\n", "holdfast.yaml:4: \"workers\" has no value"},
        {LEAST "socket: ~\n", "holdfast.yaml:4: \"socket\" has no value"},
        {LEAST "socket: null\n", "holdfast.yaml:4: \"socket\" has no value"},
        {LEAST "socket: ''\n", "holdfast.yaml:4: \"socket\" is empty"},
        {LEAST "socket: \"a\\0b\"\n", "holdfast.yaml:4: there is a zero byte in a value"},
        {LEAST "socket: \"/a\\nb\"\n", "holdfast.yaml:4: \"socket\" contains a control character"},
        {LEAST "socket: run/x\n", "holdfast.yaml:4: \"socket\" is \"run/x\", which is not an absolute path"},
        {LEAST "workers: \"2\"\n", "holdfast.yaml:4: \"workers\" is text in quotes; it must be a whole number"},
        {LEAST "workers: two\n", "holdfast.yaml:4: \"workers\" is \"two\", which is not a whole number"},
        {LEAST "workers: -1\n", "holdfast.yaml:4: \"workers\" is \"-1\", which is not a whole number"},
        {LEAST "workers: 02\n", "holdfast.yaml:4: \"workers\" is \"02\", which is not a whole number"},
        {LEAST "workers: 2.5\n", "holdfast.yaml:4: \"workers\" is \"2.5\", which is not a whole number"},
        {LEAST "workers: 18446744073709551617\n",
         "holdfast.yaml:4: \"workers\" is \"18446744073709551617\", which is not a whole number"},
        {LEAST "workers: 257\n", "holdfast.yaml:4: \"workers\" is 257, outside of 0 to 256"},
        {LEAST "jobs_at_once: 0\n", "holdfast.yaml:4: \"jobs_at_once\" is 0, outside of 1 to 64"},
        {LEAST "workers: [2]\n", "holdfast.yaml:4: \"workers\" is a list; it must be a whole number"},
        {LEAST "workers: {a: 2}\n", "holdfast.yaml:4: \"workers\" cannot have settings below it"},
        {LEAST "sandbox: 3\n", "holdfast.yaml:4: \"sandbox\" must have settings below it"},
        {LEAST "sandbox: [3]\n", "holdfast.yaml:4: \"sandbox\" is a list; it must be keys with values"},
        {LEAST "sources: yes\n", "holdfast.yaml:4: \"sources\" must have settings below it"},
        {LEAST "sources:\n  clinic: x\n", "holdfast.yaml:5: \"clinic\" must have settings below it"},
        {LEAST "sandbox: {postgres_prefixes: /a}\n",
         "holdfast.yaml:4: \"sandbox.postgres_prefixes\" is a single value; it must be a list of absolute paths"},
        {LEAST "sandbox: {postgres_prefixes: [a]}\n",
         "holdfast.yaml:4: \"sandbox.postgres_prefixes\" is \"a\", which is not an absolute path"},
        {LEAST "sandbox: {postgres_prefixes: [[/a]]}\n",
         "holdfast.yaml:4: an entry of \"sandbox.postgres_prefixes\" is a list; it must be an absolute path"},
        {LEAST "sandbox: {postgres_prefixes: [{a: b}]}\n",
         "holdfast.yaml:4: an entry of \"sandbox.postgres_prefixes\" is a mapping; it must be an absolute path"},
        {LEAST "? {a: b}\n: 2\n", "holdfast.yaml:4: a key is a mapping; it must be a word"},
        {LEAST "? [a]\n: 2\n", "holdfast.yaml:4: a key is a list; it must be a word"},
        {LEAST "sandbox: {lowest_level: L9}\n",
         "holdfast.yaml:4: \"sandbox.lowest_level\" is \"L9\"; it can be \"L1\", \"L2\", \"L3r\", \"L3\""},
        {LEAST "scratch: {memory: 1GB}\n",
         "holdfast.yaml:4: \"scratch.memory\" is \"1GB\", which is not a size such as 64KiB or 2GiB"},
        {LEAST "scratch: {memory: 9999999999GiB}\n", "holdfast.yaml:4: \"scratch.memory\" is \"9999999999GiB\", which "
                                                     "is not a size such as 64KiB or 2GiB"},
        {LEAST "scratch: {memory: 1MiB}\n",
         "holdfast.yaml:4: \"scratch.memory\" is 1MiB, outside of 64MiB to 1024GiB, or off"},
        {LEAST "sandbox: {memory: off}\n",
         "holdfast.yaml:4: \"sandbox.memory\" is \"off\", which is not a size such as 64KiB or 2GiB"},
        {SOURCE "    backup_every: 6 h\n",
         "holdfast.yaml:8: \"backup_every\" is \"6 h\", which is not a duration such as 30m, 6h or 1d"},
        {SOURCE "    backup_every: 1s\n", "holdfast.yaml:8: \"backup_every\" is 1s, outside of 1m to 366d, or off"},
        {SOURCE "    verify_after_backup: maybe\n",
         "holdfast.yaml:8: \"verify_after_backup\" is \"maybe\", which is neither yes nor no"},

        {"state: /s\nunlock: {key_file: /k}\n", "holdfast.yaml: \"repository\" is missing"},
        {"repository: /r\n",
         "holdfast.yaml: \"unlock\" has neither \"key_file\" nor \"passphrase_file\" nor \"command\""},
        {"repository: /r\nunlock: {key_file: /k, passphrase_file: /p}\n",
         "holdfast.yaml: \"unlock\" has more than one of \"key_file\", \"passphrase_file\" and \"command\""},
        {"repository: /r\nunlock: {command: hsm}\n",
         "holdfast.yaml: \"unlock.command\" is \"hsm\", which \"key_commands\" does not have"},
        {LEAST "key_commands:\n  hsm: {run: [fetch-key]}\n",
         "holdfast.yaml: key command \"hsm\": \"run\" begins with \"fetch-key\", which is not an absolute path"},
        {LEAST "key_commands:\n  hsm: {run: []}\n", "holdfast.yaml:5: key command \"hsm\": \"run\" is missing"},
        {LEAST "key_commands:\n  hsm: {run: /bin/true}\n", "holdfast.yaml:5: \"run\" is a single value; it must be a "
                                                           "list: a program's absolute path, then its arguments"},
        {LEAST "key_commands:\n  hsm: {run: [/bin/true], shell: yes}\n",
         "holdfast.yaml:5: there is no setting \"shell\""},
        {LEAST "key_commands: [/bin/true]\n",
         "holdfast.yaml:4: \"key_commands\" is a list; it must be keys with values"},
        {LEAST "sources:\n  clinic:\n    engine: postgresql\n",
         "holdfast.yaml:5: source \"clinic\": \"connection\" is missing"},
        {LEAST "sources:\n  Clinic: {}\n", "holdfast.yaml:5: \"Clinic\" cannot be the name of a source"},
        {LEAST "sources:\n  clinic: {engine: postgresql, connection: host=a password=b}\n",
         "holdfast.yaml:5: source \"clinic\": \"connection\" holds a password (\"password\")"},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        must_refuse(cases[i].text, cases[i].message);
}

HF_TEST(a_key_command_is_a_program_with_its_arguments_each_a_text)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(
        "repository: /r\nunlock: {command: hsm}\nkey_commands:\n  hsm:\n    run: [/bin/fetch, --slot, \"1\"]\n"
        "  cloud: {run: [/bin/kms], timeout: 5m}\n");
    assert_string_equal(settings->unlock.command, "hsm");
    const struct hf_key_command *hsm = hf_settings_key_command(settings, "hsm");
    const struct hf_key_command *cloud = hf_settings_key_command(settings, "cloud");
    assert_non_null(hsm);
    assert_string_equal(hsm->run[0], "/bin/fetch");
    assert_string_equal(hsm->run[1], "--slot");
    assert_string_equal(hsm->run[2], "1");
    assert_null(hsm->run[3]);
    assert_int_equal(hsm->timeout_ms, 30000);
    assert_int_equal(cloud->timeout_ms, 300000);
    assert_null(hf_settings_key_command(settings, "hs"));
}

HF_TEST(no_prefix_of_a_file_crashes_the_reader_or_passes_as_the_whole)
{
    size_t whole = strlen(whole_file);
    for (size_t length = 0; length < whole; length++) {
        _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
        struct hf_error err;
        if (!hf_settings_parse("holdfast.yaml", whole_file, length, &settings, &err))
            assert_true(err.kind == HF_ERR_USAGE && strncmp(err.message, "holdfast.yaml:", 14) == 0);
        else
            assert_int_equal(strlen(settings->text), length);
    }
}

HF_TEST(deep_nesting_is_refused_without_following_it)
{
    char text[8192] = "repository: ";
    memset(text + strlen(text), '[', sizeof text - strlen(text) - 1);
    must_refuse(
        text,
        "holdfast.yaml:1: \"repository\" is a list; it must be an absolute path, or ssh://[user@]host[:port]/path");
}

HF_TEST(bytes_that_are_not_utf_8_are_refused)
{
    struct hf_settings *settings = NULL;
    struct hf_error err;
    static const char text[] = "repository: /\xff\n";
    assert_false(hf_settings_parse("f", text, sizeof text - 1, &settings, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_non_null(strstr(err.message, "f: byte 13: "));
}

HF_TEST(names_of_sources_follow_one_rule)
{
    static const char *const good[] = {"a", "0", "clinic", "clinic-2_b",
                                       "a23456789012345678901234567890123456789012345678901234567890123"};
    static const char *const bad[] = {
        "",       "-a",  "_a",
        "Clinic", "a b", "a/b",
        "a.b",    "ä",   "a234567890123456789012345678901234567890123456789012345678901234"};
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(good); i++)
        hf_assert_ok(hf_source_name_check(good[i], &err), &err);
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        assert_false(hf_source_name_check(bad[i], &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
}

HF_TEST(a_password_in_a_connection_is_found_however_it_is_written)
{
    static const char *const bad[] = {"password=x", "host=a password=x", "host=a password = 'x y'", "sslpassword=x",
                                      "host='a\\' b' password=x"};
    static const char *const good[] = {"host=password", "host='a password=x'", "passfile=/x", "host = a  user = b "};
    static const char *const broken[] = {"host", "host='a", "host=a\\", "=x", "host=a b"};
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(bad) + HF_LENGTH(good) + HF_LENGTH(broken); i++) {
        bool is_bad = i < HF_LENGTH(bad), is_good = !is_bad && i < HF_LENGTH(bad) + HF_LENGTH(good);
        const char *text = is_bad    ? bad[i]
                           : is_good ? good[i - HF_LENGTH(bad)]
                                     : broken[i - HF_LENGTH(bad) - HF_LENGTH(good)];
        _cleanup_(hf_json_freep) json_t *object = json_pack("{s:s, s:s}", "engine", "postgresql", "connection", text);
        _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
        bool taken = hf_source_settings_from_json("clinic", object, &source, &err);
        if (taken != is_good)
            fail_msg("%s: %s", text, taken ? "was taken" : err.message);
        if (is_bad)
            assert_non_null(strstr(err.hint, "\"password_file\""));
    }

    _cleanup_(hf_json_freep) json_t *object =
        json_pack("{s:s, s:s}", "engine", "postgresql", "connection", "postgresql://u:p@h/d");
    struct hf_source_settings *source = NULL;
    assert_false(hf_source_settings_from_json("clinic", object, &source, &err));
    assert_string_equal(err.message,
                        "source \"clinic\": \"connection\" is an address with \"://\", which may hold a password");
}

HF_TEST(a_proof_waits_a_minute_for_the_stream_unless_told_otherwise)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(whole_file);
    assert_int_equal(hf_settings_source(settings, "clinic")->catch_up_ms, 5 * 60000);
    assert_int_equal(hf_settings_source(settings, "lab-2")->catch_up_ms, 60000);
    must_refuse(SOURCE "    catch_up: 10ms\n", "holdfast.yaml:8: \"catch_up\" is 10ms, outside of 1s to 1d, or off");
    _cleanup_(hf_settings_freep) struct hf_settings *off = must_parse(SOURCE "    catch_up: off\n");
    assert_int_equal(hf_settings_source(off, "clinic")->catch_up_ms, 0);
}

static void
assert_no_assertion(const char *text, const char *message)
{
    struct hf_assertions assertions;
    struct hf_error err;
    assert_false(hf_assertions_parse(text, &assertions, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, message);
}

HF_TEST(what_must_be_true_of_a_copy_stands_one_a_line)
{
    struct hf_assertions assertions;
    struct hf_error err;
    hf_assert_ok(hf_assertions_parse("patients in clinic at least 1000: SELECT count(*) FROM patients\n"
                                     "\n"
                                     "sum is -2.5: SELECT 'a:b'\n"
                                     "fresh in clinic newer than 15m: SELECT max(at) FROM visits\n"
                                     "few at most 3: SELECT 1\n"
                                     "beds in clinic as live within 5%: SELECT count(*) FROM beds\n"
                                     "rooms as live within 2: SELECT 1\n"
                                     "floors as live: SELECT 1",
                                     &assertions, &err),
                 &err);
    const struct hf_assertion *items = assertions.items;
    assert_int_equal(assertions.count, 7);
    assert_string_equal(items[0].check, "assert_patients");
    assert_string_equal(items[0].database, "clinic");
    assert_string_equal(items[0].sql, "SELECT count(*) FROM patients");
    assert_true(items[0].rule == HF_ASSERT_AT_LEAST && items[0].bound == 1000);
    assert_string_equal(items[1].database, ""); // the engine's usual one
    assert_string_equal(items[1].sql, "SELECT 'a:b'");
    assert_true(items[1].rule == HF_ASSERT_IS && items[1].bound == -2.5);
    assert_true(items[2].rule == HF_ASSERT_NEWER_THAN && items[2].bound == 15 * 60000);
    assert_true(items[3].rule == HF_ASSERT_AT_MOST && items[3].bound == 3);
    assert_true(items[4].rule == HF_ASSERT_AS_LIVE && items[4].relative && items[4].bound == 5);
    assert_true(items[5].rule == HF_ASSERT_AS_LIVE && !items[5].relative && items[5].bound == 2);
    assert_true(items[6].rule == HF_ASSERT_AS_LIVE && items[6].bound == 0);
    hf_assert_ok(hf_assertions_parse(NULL, &assertions, &err), &err);
    assert_int_equal(assertions.count, 0);

    assert_no_assertion("a at least 1", "\"a at least 1\" is no assertion");
    assert_no_assertion("A is 1: SELECT 1", "\"A is 1: SELECT 1\" is no assertion");
    assert_no_assertion("a is 1: ", "\"a is 1: \" is no assertion");
    assert_no_assertion("a is nan: SELECT 1", "\"a is nan: SELECT 1\" is no assertion");
    assert_no_assertion("a is 1 2: SELECT 1", "\"a is 1 2: SELECT 1\" is no assertion");
    assert_no_assertion("a newer than 5: SELECT 1", "\"a newer than 5: SELECT 1\" is no assertion");
    assert_no_assertion("a as live within -1: SELECT 1", "\"a as live within -1: SELECT 1\" is no assertion");
    assert_no_assertion("a is 1: SELECT 1\na is 2: SELECT 2", "there are two assertions \"a\"");
    must_refuse(SOURCE "    assertions: what\n", "holdfast.yaml:5: source \"clinic\": \"what\" is no assertion");
    _cleanup_(hf_settings_freep) struct hf_settings *lines =
        must_parse(SOURCE "    assertions: |\n      a is 1: SELECT 1\n      b is 2: SELECT 2\n");
    hf_assert_ok(hf_assertions_parse(hf_settings_source(lines, "clinic")->assertions, &assertions, &err), &err);
    assert_int_equal(assertions.count, 2);
}

HF_TEST(a_tool_on_another_host_is_described_without_a_password)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(whole_file);
    const struct hf_source_settings *ward = hf_settings_source(settings, "ward");
    const struct hf_source_settings *clinic = hf_settings_source(settings, "clinic");
    assert_string_equal(ward->engine, "mariadb");
    assert_string_equal(ward->ssh, "backup@db.example:2222");
    assert_string_equal(ward->backup_tool, "/opt/mariadb/bin/mariadb-backup");
    assert_string_equal(ward->tool_connection, "socket=/run/mysqld/mysqld.sock user=holdfast");
    assert_int_equal(ward->longest_outage_ms, 3 * DAY);
    assert_null(clinic->ssh);
    assert_null(clinic->tool_connection);
    assert_int_equal(clinic->longest_outage_ms, DAY);

    struct hf_error err;
    struct hf_source_settings *source = NULL;
    _cleanup_(hf_json_freep) json_t *object =
        json_pack("{s:s, s:s, s:s}", "engine", "mysql", "connection", "host=a", "tool_connection", "password=x");
    assert_false(hf_source_settings_from_json("ward", object, &source, &err));
    assert_string_equal(err.message, "source \"ward\": \"tool_connection\" holds a password (\"password\")");
}

HF_TEST(a_source_survives_the_way_through_json)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = must_parse(whole_file);
    struct hf_error err;
    for (size_t i = 0; i < settings->source_count; i++) {
        _cleanup_(hf_json_freep) json_t *once = NULL, *twice = NULL;
        _cleanup_(hf_source_settings_freep) struct hf_source_settings *again = NULL;
        hf_assert_ok(hf_source_settings_to_json(settings->sources[i], &once, &err), &err);
        hf_assert_ok(hf_source_settings_from_json(settings->sources[i]->name, once, &again, &err), &err);
        hf_assert_ok(hf_source_settings_to_json(again, &twice, &err), &err);
        assert_true(json_equal(once, twice));
    }
    _cleanup_(hf_json_freep) json_t *clinic = NULL;
    hf_assert_ok(hf_source_settings_to_json(settings->sources[0], &clinic, &err), &err);
    assert_string_equal(json_string_value(json_object_get(clinic, "backup_every")), "6h");
    assert_string_equal(json_string_value(json_object_get(clinic, "verify_every")), "1d");
    assert_string_equal(json_string_value(json_object_get(clinic, "max_rate")), "64MiB");
    assert_string_equal(json_string_value(json_object_get(clinic, "verify_after_backup")), "no");
    assert_string_equal(json_string_value(json_object_get(clinic, "retention.daily")), "14");
    assert_string_equal(json_string_value(json_object_get(clinic, "retention.failed_grace")), "off");
    _cleanup_(hf_json_freep) json_t *lab = NULL;
    hf_assert_ok(hf_source_settings_to_json(settings->sources[1], &lab, &err), &err);
    assert_string_equal(json_string_value(json_object_get(lab, "backup_every")), "off");
    assert_null(json_object_get(lab, "password_file"));
}

HF_TEST(a_recorded_source_with_unknown_or_mistyped_members_is_refused)
{
    struct hf_source_settings *source = NULL;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *unknown = json_pack("{s:s}", "colour", "red");
    assert_false(hf_source_settings_from_json("clinic", unknown, &source, &err));
    assert_string_equal(err.message, "source \"clinic\": there is no setting \"colour\"");
    _cleanup_(hf_json_freep) json_t *number = json_pack("{s:i}", "max_rate", 1);
    assert_false(hf_source_settings_from_json("clinic", number, &source, &err));
    assert_string_equal(err.message, "source \"clinic\": \"max_rate\" is not text");
    _cleanup_(hf_json_freep) json_t *empty = json_object();
    assert_false(hf_source_settings_from_json("clinic", empty, &source, &err));
    assert_string_equal(err.message, "source \"clinic\": \"engine\" is missing");
    assert_null(source);
}

HF_TEST(a_file_that_others_could_change_is_not_believed)
{
    char path[128];
    struct hf_error err;
    struct hf_settings *settings = NULL;
    snprintf(path, sizeof path, "%s/holdfast.yaml", hf_test_folder());
    hf_assert_ok(hf_file_publish(path, LEAST, strlen(LEAST), 0600, HF_PUBLISH_REPLACE, &err), &err);
    hf_assert_ok(hf_settings_load(path, &settings, &err), &err);
    hf_settings_freep(&settings);

    static const mode_t modes[] = {0620, 0602, 0666};
    for (size_t i = 0; i < HF_LENGTH(modes); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_false(hf_settings_load(path, &settings, &err));
        assert_int_equal(err.kind, HF_ERR_DENIED);
    }
    assert_non_null(strstr(err.message, "can be changed by others (mode 0666)"));
    assert_non_null(strstr(err.hint, "chmod go-w "));

    if (geteuid() == 0) {
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_true(geteuid() != 65534);
        assert_false(hf_settings_load(path, &settings, &err));
        assert_int_equal(err.kind, HF_ERR_DENIED);
        assert_non_null(strstr(err.message, "belongs to user 65534"));
    }
}

HF_TEST(a_missing_file_is_named_and_the_way_out_is_told)
{
    struct hf_settings *settings = NULL;
    struct hf_error err;
    assert_false(hf_settings_load("/nowhere/holdfast.yaml", &settings, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_string_equal(err.message,
                        "could not read the settings: \"/nowhere/holdfast.yaml\": No such file or directory");
    assert_non_null(strstr(err.hint, "holdfast init"));
}

HF_TEST(the_option_wins_over_the_variable_and_that_over_the_default)
{
    struct hf_error err;
    char *path = NULL;
    unsetenv("HOLDFAST_SETTINGS");
    hf_assert_ok(hf_settings_path(NULL, &path, &err), &err);
    if (geteuid() == 0)
        assert_string_equal(path, "/etc/holdfast/holdfast.yaml");
    hf_freep(&path);

    setenv("HOLDFAST_SETTINGS", "/from/variable.yaml", 1);
    hf_assert_ok(hf_settings_path(NULL, &path, &err), &err);
    assert_string_equal(path, "/from/variable.yaml");
    hf_freep(&path);
    hf_assert_ok(hf_settings_path("/from/option.yaml", &path, &err), &err);
    assert_string_equal(path, "/from/option.yaml");
    hf_freep(&path);

    assert_int_equal(chdir("/"), 0);
    hf_assert_ok(hf_settings_path("here.yaml", &path, &err), &err);
    assert_true(path[0] == '/' && strstr(path, "here.yaml") != NULL);
    hf_freep(&path);
    unsetenv("HOLDFAST_SETTINGS");
}

HF_TEST(the_reference_tells_every_setting_with_type_default_and_limits)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(64 * HF_KIB);
    struct hf_error err;
    hf_assert_ok(hf_settings_reference(&text, &err), &err);
    assert_non_null(strstr(hf_buf_text(&text), "  repository  (required)\n      Folder of the repository"));
    assert_non_null(strstr(hf_buf_text(&text), "a whole number of threads, 0 to 256; default: 0."));
    assert_non_null(strstr(hf_buf_text(&text), "a size such as 64KiB or 2GiB, 32KiB to 1GiB, or off; default: off."));
    assert_non_null(strstr(hf_buf_text(&text), "One of: fast, spread; default: fast."));
    assert_non_null(strstr(hf_buf_text(&text), "For each source, below \"sources\""));
}

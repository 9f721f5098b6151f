#include "tests/support/test.h"

#include "server/source/mariadb/client.h"
#include "server/source/mariadb/tool.h"
#include "server/storage/ssh_place.h"

static const struct hf_source_target target = {.name = "clinic", .conninfo = "socket=/s user=u"};

HF_TEST(what_the_tool_says_becomes_an_error_that_says_what_to_do)
{
    static const struct {
        const char *line;
        enum hf_error_kind kind;
        const char *message;
    } known[] = {
        {"[00] 2026-11-23 20:47:31 Error: missing required privilege PROCESS on *.*", HF_ERR_DENIED,
         "the account lacks the right PROCESS"},
        {"[00] FATAL ERROR: failed to execute query SHOW MASTER STATUS: Access denied; you need (at least one of) the "
         "SUPER, BINLOG MONITOR privilege(s) for this operation",
         HF_ERR_DENIED, "the account lacks one of the rights SUPER, BINLOG MONITOR"},
        {"Failed to connect to MariaDB server: Access denied for user 'holdfast'@'localhost' (using password: YES).",
         HF_ERR_DENIED, "the server does not let its account in"},
        {"Failed to connect to MariaDB server: Can't connect to local server", HF_ERR_UNAVAILABLE,
         "it could not reach the server"},
        {"write: No space left on device", HF_ERR_NO_SPACE, "a disk of the server's host is full"},
        {"mariadb-backup: unknown option '--x'", HF_ERR_USAGE, "another program or release"},
    };
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(known); i++) {
        struct hf_tool_words words = {.row = -1};
        hf_tool_words_read(&words, "[00] 2026-11-23 20:47:31 Starting");
        hf_tool_words_read(&words, known[i].line);
        hf_tool_words_read(&words, "  1.GRANT RELOAD ON *.* TO `poor` IDENTIFIED BY PASSWORD '*B69027D44F6E5EDC'");
        assert_false(hf_tool_words_fail(&words, &hf_flavour_mariadb, &target, 256, &err));
        assert_int_equal(err.kind, known[i].kind);
        if (strstr(err.message, known[i].message) == NULL)
            fail_msg("%s, and not: %s", err.message, known[i].message);
        assert_null(strstr(err.message, "*B690")); // nothing of what it says goes on but rights
    }
}

HF_TEST(completed_counts_only_as_the_last_word)
{
    struct hf_tool_words words = {.row = -1};
    hf_tool_words_read(&words, "[00] 2026-11-23 20:54:30 completed OK!");
    assert_true(words.completed);
    hf_tool_words_read(&words, "   ");
    assert_true(words.completed);
    hf_tool_words_read(&words, "[00] Error: something came after it");
    assert_false(words.completed);
}

HF_TEST(a_tool_fits_a_server_of_its_series_alone)
{
    assert_true(hf_backup_tool_fits("10.11.6", "10.11.19-MariaDB-log"));
    assert_true(hf_backup_tool_fits("8.0.35", "8.0.36"));
    assert_false(hf_backup_tool_fits("10.6.18", "10.11.19-MariaDB"));
    assert_false(hf_backup_tool_fits("10.1.18", "10.11.19-MariaDB"));
    assert_false(hf_backup_tool_fits("10", "10.11.19"));
    assert_false(hf_backup_tool_fits("", ""));
}

HF_TEST(words_of_a_connection_are_taken_or_refused_by_name)
{
    struct hf_mariadb_words words;
    struct hf_error err;
    hf_assert_ok(hf_mariadb_words_read("connection", "host=db.example user='a b' port=3307 tls=required", &words, &err),
                 &err);
    assert_string_equal(words.host, "db.example");
    assert_string_equal(words.user, "a b");
    assert_int_equal(words.port, 3307);
    assert_int_equal(words.tls, HF_MARIADB_TLS_REQUIRED);
    hf_assert_ok(hf_mariadb_words_read("connection", "host=a", &words, &err), &err);
    assert_int_equal(words.tls, HF_MARIADB_TLS_VERIFY);
    assert_int_equal(words.port, HF_MARIADB_PORT);

    static const struct {
        const char *text, *message;
    } bad[] = {
        {"user=a", "\"connection\" must name a host or a socket, and not both"},
        {"host=a socket=/s", "\"connection\" must name a host or a socket, and not both"},
        {"host=a port=0", "\"connection\": \"port\" is \"0\", which is not from 1 to 65535"},
        {"host=a port=65536", "\"connection\": \"port\" is \"65536\", which is not from 1 to 65535"},
        {"host=a tls=maybe", "\"connection\": \"tls\" is \"maybe\"; it can be \"verify\", \"required\" or \"no\""},
        {"socket=relative", "\"connection\": \"socket\" is \"relative\", which is no absolute path"},
        {"host=--help", "\"connection\": \"host\" is \"--help\", which is no name"},
        {"hots=a", "\"connection\" has the word \"hots\", which is not known"},
        {"host=a tls_cert=/c", "\"connection\" names only one of tls_cert and tls_key"},
    };
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        assert_false(hf_mariadb_words_read("connection", bad[i].text, &words, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, bad[i].message);
    }
}

HF_TEST(a_program_on_another_host_gets_only_words_that_a_shell_leaves_alone)
{
    struct hf_ssh_place place;
    struct hf_ssh_command command;
    struct hf_error err;
    hf_assert_ok(hf_ssh_host_parse("mysql@db.example:2222", &place, &err), &err);
    assert_string_equal(place.user, "mysql");
    assert_string_equal(place.host, "db.example");
    assert_string_equal(place.port, "2222");
    assert_false(hf_ssh_host_parse("db.example/x", &place, &err));
    assert_false(hf_ssh_host_parse("-oProxyCommand=x", &place, &err));

    hf_assert_ok(hf_ssh_host_parse("db", &place, &err), &err);
    hf_assert_ok(hf_ssh_program(&place, (const char *const[]){"tool", "--user=a", NULL}, "SECRET", &command, &err),
                 &err);
    size_t count = 0;
    while (command.argv[count] != NULL)
        count++;
    assert_string_equal(command.argv[count - 5], "--");
    assert_string_equal(command.argv[count - 4], "db");
    assert_string_equal(command.argv[count - 3], "IFS= read -r SECRET && export SECRET && exec");
    assert_string_equal(command.argv[count - 1], "--user=a");
    static const char *const bad[] = {"a b", "a;b", "$(x)", "`x`", "a'b", "a\"b", "a|b", "a>b", "a\nb", "a*", "~", ""};
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        assert_false(hf_ssh_program(&place, (const char *const[]){"tool", bad[i], NULL}, NULL, &command, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
}

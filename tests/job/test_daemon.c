#include "tests/support/test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/repository/vault_log.h"
#include "tests/job/bench.h"

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "" : text;
}

static int64_t
number_of(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

/* Arguments of a nap that ends when the folder has a file "release". */
static json_t *
nap(const char *source, const char *folder)
{
    return json_pack("{s:s, s:s}", "source", source, "folder", folder);
}

static void
release(const char *folder)
{
    char path[256];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/release", folder);
    hf_assert_ok(hf_file_publish(path, "", 0, 0600, HF_PUBLISH_REPLACE, &err), &err);
}

/* How many naps of a source have begun there; *ret_pid is one of them. */
static int
count_begun(const char *folder, const char *source, pid_t *ret_pid)
{
    char prefix[80];
    int count = 0;
    snprintf(prefix, sizeof prefix, "began-%s-", source);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        count++;
        if (ret_pid != NULL)
            *ret_pid = atoi(entry->d_name + strlen(prefix));
    }
    closedir(dir);
    return count;
}

static void
await_begun(const char *folder, const char *source, int count, pid_t *ret_pid)
{
    for (int waited = 0; count_begun(folder, source, ret_pid) < count; waited++) {
        if (waited > 2000)
            fail_msg("%d naps of %s did not begin", count, source);
        usleep(5000);
    }
}

/* Queues a job without waiting for it; its id, good until the next call. */
static const char *
start_detached(const struct job_bench *bench, const char *command, json_t *arguments)
{
    static char id[HF_ID_TEXT_BYTES];
    struct job_client client;
    job_client_connect(&client, bench);
    job_client_send(&client, command, arguments, true);
    _cleanup_(hf_json_freep) json_t *event = job_client_until(&client, "result");
    snprintf(id, sizeof id, "%s", text_of(json_object_get(event, "result"), "job"));
    job_client_close(&client);
    return id;
}

/* Neither gone nor a zombie that nobody reaps here. */
static bool
is_alive(pid_t pid)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return read && strstr(text, ") Z") == NULL;
}

static void
await_state(const struct job_bench *bench, const char *job, const char *state)
{
    for (int waited = 0;; waited++) {
        _cleanup_(hf_json_freep) json_t *row = job_bench_row(bench, job);
        if (strcmp(text_of(row, "state"), state) == 0)
            return;
        if (waited > 2000)
            fail_msg("job %s is %s, not %s", job, text_of(row, "state"), state);
        usleep(5000);
    }
}

HF_TEST(a_job_tells_where_it_is_and_how_it_went)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    struct job_client client;
    job_client_connect(&client, &bench);
    job_client_send(&client, "nap", nap("clinic", folder), false);

    _cleanup_(hf_json_freep) json_t *queued = job_client_next(&client), *running = job_client_next(&client);
    assert_string_equal(text_of(queued, "event"), "job");
    assert_string_equal(text_of(queued, "state"), "queued");
    assert_string_equal(text_of(running, "state"), "running");
    _cleanup_(hf_json_freep) json_t *progress = job_client_until(&client, "progress");
    assert_string_equal(text_of(progress, "phase"), "nap");
    assert_int_equal(number_of(progress, "done"), 1);
    assert_int_equal(number_of(progress, "total"), 10);
    _cleanup_(hf_json_freep) json_t *note = job_client_until(&client, "note");
    assert_string_equal(text_of(note, "message"), "napping");
    assert_string_equal(text_of(note, "level"), "warning");

    _cleanup_(hf_json_freep) json_t *row = job_bench_row(&bench, text_of(queued, "job"));
    assert_string_equal(text_of(row, "state"), "running");
    assert_string_equal(text_of(row, "phase"), "nap");
    assert_string_equal(text_of(row, "subject"), "clinic");
    release(folder);
    _cleanup_(hf_json_freep) json_t *result = job_client_until(&client, "result");
    assert_int_equal(number_of(result, "exit"), HF_EXIT_DONE);
    assert_true(number_of(json_object_get(result, "result"), "pid") > 1);
    job_client_close(&client);
    await_state(&bench, text_of(queued, "job"), "finished");
}

HF_TEST(two_jobs_of_one_source_and_kind_wait_for_each_other_and_others_do_not)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, "jobs_at_once: 4\n");
    job_bench_start(&bench);
    const char *first = hf_test_folder(), *second = hf_test_folder();
    char waiting[HF_ID_TEXT_BYTES];
    (void)start_detached(&bench, "nap", nap("clinic", first));
    snprintf(waiting, sizeof waiting, "%s", start_detached(&bench, "nap", nap("clinic", second)));
    (void)start_detached(&bench, "nap", nap("lab", second));
    (void)start_detached(&bench, "nap2", nap("clinic", first));

    await_begun(first, "clinic", 2, NULL); // of two kinds
    await_begun(second, "lab", 1, NULL);   // of another source
    assert_int_equal(count_begun(second, "clinic", NULL), 0);
    _cleanup_(hf_json_freep) json_t *row = job_bench_row(&bench, waiting);
    assert_string_equal(text_of(row, "state"), "queued");
    release(first);
    await_begun(second, "clinic", 1, NULL);
    release(second);
    await_state(&bench, waiting, "finished");
}

HF_TEST(no_more_jobs_run_at_once_than_the_settings_allow)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, "jobs_at_once: 1\n");
    job_bench_start(&bench);
    const char *first = hf_test_folder(), *second = hf_test_folder();
    (void)start_detached(&bench, "nap", nap("clinic", first));
    await_begun(first, "clinic", 1, NULL);
    (void)start_detached(&bench, "nap", nap("lab", second));
    usleep(100000);
    assert_int_equal(count_begun(second, "lab", NULL), 0);
    release(first);
    await_begun(second, "lab", 1, NULL);
    release(second);
}

HF_TEST(copies_in_sandboxes_have_a_budget_of_their_own_and_take_no_place_of_other_jobs)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, "jobs_at_once: 1\nsandbox: {budget_processors: 1}\n");
    job_bench_start(&bench);
    const char *copy = hf_test_folder(), *other = hf_test_folder(), *waiting = hf_test_folder();
    (void)start_detached(&bench, "copy", nap("clinic", copy));
    await_begun(copy, "clinic", 1, NULL);
    (void)start_detached(&bench, "copy", nap("lab", waiting));
    (void)start_detached(&bench, "nap", nap("lab", other));
    await_begun(other, "lab", 1, NULL); // beside it
    assert_int_equal(count_begun(waiting, "lab", NULL), 0);
    release(copy);
    await_begun(waiting, "lab", 1, NULL);
    release(waiting);
    release(other);
}

HF_TEST(what_a_person_asked_for_overtakes_the_schedule)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, "sandbox: {budget_processors: 1}\n");
    job_bench_start(&bench);
    const char *first = hf_test_folder(), *scheduled = hf_test_folder(), *asked = hf_test_folder();
    (void)start_detached(&bench, "copy", nap("clinic", first));
    await_begun(first, "clinic", 1, NULL);
    _cleanup_(hf_json_freep) json_t *done =
        job_bench_ask(&bench, "scheduled", json_pack("{s:o}", "of", nap("lab", scheduled)));
    assert_string_equal(text_of(done, "event"), "result");
    (void)start_detached(&bench, "copy", nap("lab", asked));
    release(first);
    await_begun(asked, "lab", 1, NULL);
    assert_int_equal(count_begun(scheduled, "lab", NULL), 0);
    release(asked);
    await_begun(scheduled, "lab", 1, NULL);
    release(scheduled);
}

HF_TEST(cancelling_stops_a_running_job_and_its_process)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    struct job_client client;
    pid_t pid;
    job_client_connect(&client, &bench);
    job_client_send(&client, "nap", nap("clinic", folder), false);
    _cleanup_(hf_json_freep) json_t *queued = job_client_next(&client);
    await_begun(folder, "clinic", 1, &pid);
    job_client_send_text(&client, "{\"command\": \"cancel\"}\n");
    _cleanup_(hf_json_freep) json_t *error = job_client_until(&client, "error");
    assert_string_equal(text_of(error, "kind"), "cancelled");
    assert_string_equal(text_of(error, "message"), "the job was cancelled");
    assert_int_equal(number_of(error, "exit"), HF_EXIT_FAILED);
    assert_int_equal(kill(pid, 0), -1);
    job_client_close(&client);
    await_state(&bench, text_of(queued, "job"), "cancelled");
}

HF_TEST(a_cancelled_job_is_cancelled_whatever_its_worker_takes_it_for)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    char id[HF_ID_TEXT_BYTES];
    snprintf(id, sizeof id, "%s", start_detached(&bench, "grumpy", nap("clinic", folder)));
    await_begun(folder, "clinic", 1, NULL);
    json_decref(job_bench_ask(&bench, "job cancel", json_pack("{s:s}", "job", id)));
    await_state(&bench, id, "cancelled");
}

HF_TEST(whatever_a_worker_leaves_behind_is_killed)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    pid_t orphan = 0;
    json_decref(job_bench_ask(&bench, "orphan", json_pack("{s:s}", "folder", folder)));
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, "orphan-", 7) == 0)
            orphan = atoi(entry->d_name + 7);
    closedir(dir);
    assert_true(orphan > 1);
    for (int waited = 0; is_alive(orphan) && waited < 1000; waited++)
        usleep(5000);
    assert_false(is_alive(orphan));
}

HF_TEST(a_queued_job_is_cancelled_at_once_by_its_id)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    char waiting[HF_ID_TEXT_BYTES];
    (void)start_detached(&bench, "nap", nap("clinic", folder));
    snprintf(waiting, sizeof waiting, "%s", start_detached(&bench, "nap", nap("clinic", folder)));
    _cleanup_(hf_json_freep) json_t *answer = job_bench_ask(&bench, "job cancel", json_pack("{s:s}", "job", waiting));
    assert_string_equal(text_of(answer, "event"), "result");
    _cleanup_(hf_json_freep) json_t *row = job_bench_row(&bench, waiting);
    assert_string_equal(text_of(row, "state"), "cancelled");
    _cleanup_(hf_json_freep) json_t *again = job_bench_ask(&bench, "job cancel", json_pack("{s:s}", "job", waiting));
    assert_string_equal(text_of(again, "kind"), "not_found");
    release(folder);
}

HF_TEST(a_job_whose_client_goes_away_is_cancelled_unless_it_was_detached)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder(), *other = hf_test_folder();
    char detached[HF_ID_TEXT_BYTES];
    struct job_client client;
    pid_t pid, kept;
    snprintf(detached, sizeof detached, "%s", start_detached(&bench, "nap", nap("lab", other)));
    await_begun(other, "lab", 1, &kept);
    job_client_connect(&client, &bench);
    job_client_send(&client, "nap", nap("clinic", folder), false);
    _cleanup_(hf_json_freep) json_t *queued = job_client_next(&client);
    await_begun(folder, "clinic", 1, &pid);
    job_client_close(&client);
    await_state(&bench, text_of(queued, "job"), "cancelled");
    assert_int_equal(kill(pid, 0), -1);

    assert_int_equal(kill(kept, 0), 0);
    release(other);
    await_state(&bench, detached, "finished");
}

HF_TEST(a_job_can_be_watched_by_others_who_do_not_own_it)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder(), *id = start_detached(&bench, "nap", nap("clinic", folder));
    struct job_client watcher, leaver;
    await_begun(folder, "clinic", 1, NULL);
    job_client_connect(&watcher, &bench);
    job_client_connect(&leaver, &bench);
    job_client_send(&watcher, "job watch", json_pack("{s:s}", "job", id), false);
    job_client_send(&leaver, "job watch", json_pack("{s:s}", "job", id), false);
    json_decref(job_client_next(&watcher));
    json_decref(job_client_next(&leaver));
    job_client_close(&leaver);
    usleep(50000);
    release(folder);
    _cleanup_(hf_json_freep) json_t *result = job_client_until(&watcher, "result");
    assert_int_equal(number_of(result, "exit"), HF_EXIT_DONE);
    job_client_close(&watcher);
    _cleanup_(hf_json_freep) json_t *late = job_bench_ask(&bench, "job watch", json_pack("{s:s}", "job", id));
    assert_string_equal(text_of(late, "kind"), "not_found");
}

HF_TEST(a_worker_that_is_killed_fails_its_job_by_name_of_the_signal)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *crash = job_bench_ask(&bench, "crash", NULL);
    assert_string_equal(text_of(crash, "kind"), "unavailable");
    assert_string_equal(text_of(crash, "message"), "the job's worker was killed by signal 9 (Killed)");
    _cleanup_(hf_json_freep) json_t *silent = job_bench_ask(&bench, "silent", NULL);
    assert_string_equal(text_of(silent, "message"), "the job's worker ended with status 7 and no answer");
}

HF_TEST(errors_and_bad_news_of_a_worker_arrive_with_their_exit)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *failed = job_bench_ask(&bench, "fail", NULL);
    assert_string_equal(text_of(failed, "kind"), "no_space");
    assert_string_equal(text_of(failed, "message"), "the disk is full");
    assert_string_equal(text_of(failed, "hint"), "Make room.");
    assert_int_equal(number_of(failed, "exit"), HF_EXIT_FAILED);
    _cleanup_(hf_json_freep) json_t *news = job_bench_ask(&bench, "news", NULL);
    assert_int_equal(number_of(news, "exit"), HF_EXIT_BAD_NEWS);
    _cleanup_(hf_json_freep) json_t *usage = job_bench_ask(&bench, "unprepared", NULL);
    assert_int_equal(number_of(usage, "exit"), HF_EXIT_USAGE);
    assert_string_equal(text_of(usage, "message"), "this is not how it is asked for");
    _cleanup_(hf_json_freep) json_t *records = job_bench_ask(&bench, "unconcluded", NULL);
    assert_string_equal(text_of(records, "message"), "the record could not be written");
}

HF_TEST(a_job_without_a_worker_is_done_in_the_daemon_and_listed_like_any_other)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *done = job_bench_ask(&bench, "quick", json_pack("{s:i}", "number", 7));
    assert_int_equal(number_of(done, "exit"), HF_EXIT_DONE);
    const json_t *result = json_object_get(done, "result");
    assert_int_equal(number_of(result, "number"), 7);
    assert_true(strncmp(text_of(result, "concluded_for"), "uid ", 4) == 0);
    _cleanup_(hf_json_freep) json_t *refused = job_bench_ask(&bench, "quick", json_pack("{s:b}", "refuse", 1));
    assert_string_equal(text_of(refused, "message"), "not while it is raining");
    assert_int_equal(number_of(refused, "exit"), HF_EXIT_FAILED);

    _cleanup_(hf_json_freep) json_t *list = job_bench_ask(&bench, "job list", NULL);
    const json_t *row, *jobs = json_object_get(json_object_get(list, "result"), "jobs");
    int finished = 0, failed = 0;
    size_t index;
    json_array_foreach(jobs, index, row)
    {
        finished += strcmp(text_of(row, "state"), "finished") == 0 && json_is_string(json_object_get(row, "ended_at"));
        failed += strcmp(text_of(row, "message"), "not while it is raining") == 0;
    }
    assert_int_equal(finished, 1);
    assert_int_equal(failed, 1);
}

HF_TEST(a_worker_that_breaks_the_protocol_is_killed_and_nothing_it_said_counts)
{
    static const char after_the_last[] = "{\"event\":\"result\",\"exit\":0,\"result\":{}}\n"
                                         "{\"event\":\"result\",\"exit\":0,\"result\":{}}\n";
    static const char *const lies[] = {"garbage\n",
                                       "[]\n",
                                       "{\"event\":\"party\"}\n",
                                       "{}\n",
                                       "{\"event\":\"progress\",\"phase\":\"x\",\"done\":-1,\"total\":0}\n",
                                       "{\"event\":\"result\",\"exit\":9,\"result\":{}}\n",
                                       after_the_last};
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    for (size_t i = 0; i < HF_LENGTH(lies); i++) {
        _cleanup_(hf_json_freep) json_t *answer = job_bench_ask(&bench, "liar", json_pack("{s:s}", "text", lies[i]));
        assert_string_equal(text_of(answer, "event"), "error");
        assert_true(strncmp(text_of(answer, "message"), "the job's worker did not keep to the protocol: ", 46) == 0);
    }
}

HF_TEST(a_worker_gets_what_its_kind_needs_and_no_more)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *shown = job_bench_ask(&bench, "show", NULL);
    const json_t *result = json_object_get(shown, "result");
    assert_true(json_is_true(json_object_get(result, "credential")));
    assert_true(json_is_false(json_object_get(result, "vault")));
    assert_string_equal(text_of(result, "repository"), bench.repository);
    assert_true(strncmp(text_of(result, "concluded_for"), "uid ", 4) == 0);
}

static json_t *
writing(const char *source, const char *identity, enum hf_log_kind kind)
{
    return json_pack("{s:s, s:s, s:i}", "source", source, "identity", identity, "kind", (int)kind);
}

HF_TEST(a_worker_writes_the_entries_of_its_kind_into_its_own_vault_and_no_others)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *intent = job_bench_ask(&bench, "write", writing("clinic", "7001", HF_LOG_INTENT));
    assert_string_equal(text_of(intent, "message"), "");
    assert_int_equal(number_of(intent, "exit"), HF_EXIT_DONE);

    static const enum hf_log_kind others[] = {HF_LOG_COMMIT, HF_LOG_VERDICT, HF_LOG_POLICY, HF_LOG_SHRED, HF_LOG_PRUNE};
    for (size_t i = 0; i < HF_LENGTH(others); i++) {
        _cleanup_(hf_json_freep) json_t *refused = job_bench_ask(&bench, "write", writing("clinic", "7001", others[i]));
        assert_string_equal(text_of(refused, "kind"), "denied");
        assert_non_null(strstr(text_of(refused, "message"), "this job may not write "));
    }
    _cleanup_(hf_json_freep) json_t *foreign =
        job_bench_ask(&bench, "sign", json_pack("{s:s}", "text", "holdfast.evidence/v1"));
    assert_string_equal(text_of(foreign, "kind"), "denied");
    assert_non_null(strstr(text_of(foreign, "message"), "these bytes are no log entry"));
}

HF_TEST(a_worker_cannot_have_the_newest_entry_signed_anew)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    json_decref(job_bench_ask(&bench, "write", writing("clinic", "7001", HF_LOG_INTENT)));
    _cleanup_(hf_json_freep) json_t *refused =
        job_bench_ask(&bench, "rewrite", json_pack("{s:s, s:s}", "source", "clinic", "identity", "7001"));
    assert_non_null(strstr(text_of(refused, "message"), "log entry 2 is already written"));
}

HF_TEST(a_worker_gets_the_keys_of_one_vault_and_only_when_its_kind_needs_them)
{
    static const char question[] = "{\"engine\":\"postgresql\",\"identity\":\"7001\"}";
    static const struct {
        const char *command, *first, *second, *message;
    } cases[] = {
        {"unentitled", question, question, "first: this job may not ask for a vault"},
        {"greedy", question, question, "second: this job may not ask for a vault"},
        {"greedy", "{\"engine\":\"oracle\",\"identity\":\"1\"}", question,
         "first: source \"clinic\" is not of engine \"oracle\""},
        {"greedy", "{\"engine\":\"postgresql\",\"identity\":\"\"}", question,
         "first: the database's identity is no text of 1 to 128 bytes"},
        {"greedy", "garbage", question, "first: the worker's question is not valid JSON"},
    };
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        _cleanup_(hf_json_freep) json_t *refused = job_bench_ask(
            &bench, cases[i].command,
            json_pack("{s:s, s:s, s:s}", "source", "clinic", "first", cases[i].first, "second", cases[i].second));
        if (strncmp(text_of(refused, "message"), cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s", text_of(refused, "message"));
    }
}

HF_TEST(two_sources_of_one_database_share_its_vault_and_another_database_gets_another)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *first = job_bench_ask(&bench, "write", writing("clinic", "7001", HF_LOG_INTENT));
    _cleanup_(hf_json_freep) json_t *same = job_bench_ask(&bench, "write", writing("lab", "7001", HF_LOG_INTENT));
    _cleanup_(hf_json_freep) json_t *other = job_bench_ask(&bench, "write", writing("lab", "7002", HF_LOG_INTENT));
    const char *vault = text_of(json_object_get(first, "result"), "vault");
    assert_string_equal(vault, text_of(json_object_get(same, "result"), "vault"));
    assert_string_not_equal(vault, text_of(json_object_get(other, "result"), "vault"));
    assert_int_equal(strlen(text_of(json_object_get(other, "result"), "vault")), 32);
}

static json_t *
committing(const char *source, const char *identity)
{
    return json_pack("{s:s, s:s}", "source", source, "identity", identity);
}

HF_TEST(a_source_that_has_backups_stays_with_its_database)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *first = job_bench_ask(&bench, "commit", committing("clinic", "7001"));
    _cleanup_(hf_json_freep) json_t *next = job_bench_ask(&bench, "commit", committing("clinic", "7001"));
    assert_int_equal(number_of(first, "exit"), HF_EXIT_DONE);
    assert_int_equal(number_of(next, "exit"), HF_EXIT_DONE);
    _cleanup_(hf_json_freep) json_t *other = job_bench_ask(&bench, "commit", committing("clinic", "7002"));
    assert_string_equal(text_of(other, "kind"), "conflict");
    assert_string_equal(text_of(other, "message"),
                        "source \"clinic\" is another database than the one its backups are of");

    // No vault was made for the stranger, and what was done is known at once.
    _cleanup_(hf_json_freep) json_t *rebuilt = job_bench_ask(&bench, "catalog rebuild", NULL);
    assert_int_equal(number_of(json_object_get(rebuilt, "result"), "vaults"), 2);
    _cleanup_(hf_json_freep) json_t *list = job_bench_ask(&bench, "backups", NULL);
    const json_t *backups = json_object_get(json_object_get(list, "result"), "backups");
    assert_int_equal(json_array_size(backups), 2);
    assert_string_equal(text_of(json_array_get(backups, 0), "backup"),
                        text_of(json_object_get(next, "result"), "backup"));
    assert_string_equal(text_of(json_array_get(backups, 0), "state"), "unproven");
}

HF_TEST(jobs_of_a_daemon_that_was_killed_are_lost_and_their_workers_gone)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    char running[HF_ID_TEXT_BYTES], waiting[HF_ID_TEXT_BYTES];
    pid_t pid;
    snprintf(running, sizeof running, "%s", start_detached(&bench, "nap", nap("clinic", folder)));
    snprintf(waiting, sizeof waiting, "%s", start_detached(&bench, "nap", nap("clinic", folder)));
    await_begun(folder, "clinic", 1, &pid);
    assert_true(WIFSIGNALED(job_bench_stop(&bench, SIGKILL)));
    for (int waited = 0; kill(pid, 0) == 0 && waited < 1000; waited++)
        usleep(5000);
    assert_int_equal(kill(pid, 0), -1);

    job_bench_start(&bench); // in spite of the socket and the lock file that were left
    _cleanup_(hf_json_freep) json_t *first = job_bench_row(&bench, running), *second = job_bench_row(&bench, waiting);
    assert_string_equal(text_of(first, "state"), "lost");
    assert_string_equal(text_of(second, "state"), "lost");
    assert_true(json_is_string(json_object_get(first, "ended_at")));
}

HF_TEST(stopping_cancels_what_runs_and_ends_in_order)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    char running[HF_ID_TEXT_BYTES];
    snprintf(running, sizeof running, "%s", start_detached(&bench, "nap", nap("clinic", folder)));
    await_begun(folder, "clinic", 1, NULL);
    int status = job_bench_stop(&bench, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(access(bench.socket, F_OK), -1);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *row = job_bench_row(&bench, running);
    assert_string_equal(text_of(row, "state"), "cancelled");
}

HF_TEST(a_second_daemon_for_a_state_folder_is_refused_by_name_of_the_first)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    struct hf_process first;
    char pid[32];
    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(64 * HF_KIB);
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    first = bench.daemon;
    snprintf(pid, sizeof pid, "(process %d, ", (int)first.pid);
    assert_int_equal(job_bench_try(&bench, &errors), HF_EXIT_FAILED);
    assert_non_null(strstr(hf_buf_text(&errors), "holdfastd runs already for "));
    assert_non_null(strstr(hf_buf_text(&errors), pid));
    bench.daemon = first;
    _cleanup_(hf_json_freep) json_t *still = job_bench_ask(&bench, "version", NULL);
    assert_int_equal(number_of(json_object_get(still, "result"), "pid"), first.pid);
}

HF_TEST(garbage_from_a_client_is_answered_and_the_connection_closed)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"garbage\n", "the message is not valid JSON"},
        {"[]\n", "the message is not a JSON object"},
        {"{}\n", "argument \"command\" is missing"},
        {"{\"command\": 7}\n", "argument \"command\" is of the wrong type"},
        {"{\"command\": \"status\", \"more\": 1}\n", "there is no argument \"more\" here"},
        {"{\"command\": \"status\", \"arguments\": []}\n", "argument \"arguments\" is of the wrong type"},
    };
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct job_client client;
        job_client_connect(&client, &bench);
        job_client_send_text(&client, cases[i].text);
        _cleanup_(hf_json_freep) json_t *error = job_client_until(&client, "error");
        if (strncmp(text_of(error, "message"), cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s", text_of(error, "message"));
        assert_int_equal(number_of(error, "exit"), HF_EXIT_USAGE);
        assert_null(job_client_next(&client));
        job_client_close(&client);
    }
}

HF_TEST(a_request_that_is_too_long_is_cut_off)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    struct job_client client;
    job_client_connect(&client, &bench);
    char *text = malloc(4 * HF_WIRE_REQUEST_MOST);
    memset(text, 'x', 4 * HF_WIRE_REQUEST_MOST);
    signal(SIGPIPE, SIG_IGN);
    (void)!write(client.wire.fd, text, 4 * HF_WIRE_REQUEST_MOST); // the daemon may close before it has all
    free(text);
    struct hf_error err;
    json_t *event = NULL;
    if (hf_wire_wait(&client.wire, &event, &err) && event != NULL) {
        assert_string_equal(text_of(event, "message"), "a line is longer than 65536 bytes");
        json_decref(event);
    }
    job_client_close(&client);
    _cleanup_(hf_json_freep) json_t *alive = job_bench_ask(&bench, "version", NULL);
    assert_string_equal(text_of(alive, "event"), "result");
}

HF_TEST(unknown_commands_sources_and_arguments_are_usage_errors_or_not_found)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *command = job_bench_ask(&bench, "dance", NULL);
    assert_string_equal(text_of(command, "kind"), "usage");
    assert_string_equal(text_of(command, "message"), "this holdfastd does not know the command \"dance\"");
    _cleanup_(hf_json_freep) json_t *source = job_bench_ask(&bench, "nap", nap("nobody", "/"));
    assert_string_equal(text_of(source, "kind"), "not_found");
    assert_string_equal(text_of(source, "message"), "there is no source \"nobody\"");
    _cleanup_(hf_json_freep) json_t *none = job_bench_ask(&bench, "nap", NULL);
    assert_string_equal(text_of(none, "message"), "\"nap\" needs the name of a source");
    _cleanup_(hf_json_freep) json_t *argument = job_bench_ask(&bench, "status", json_pack("{s:i}", "a", 1));
    assert_string_equal(text_of(argument, "message"), "there is no argument \"a\" here");
    _cleanup_(hf_json_freep) json_t *cancel = job_bench_ask(&bench, "cancel", NULL);
    assert_string_equal(text_of(cancel, "kind"), "usage");
}

HF_TEST(only_cancel_is_heard_while_a_job_runs)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    const char *folder = hf_test_folder();
    struct job_client client;
    job_client_connect(&client, &bench);
    job_client_send(&client, "nap", nap("clinic", folder), false);
    json_decref(job_client_next(&client));
    job_client_send(&client, "status", NULL, false);
    _cleanup_(hf_json_freep) json_t *error = job_client_until(&client, "error");
    assert_string_equal(text_of(error, "message"), "while a job runs, only \"cancel\" is heard");
    job_client_close(&client);
}

HF_TEST(one_connection_can_ask_again_and_again)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    struct job_client client;
    job_client_connect(&client, &bench);
    for (int i = 0; i < 20; i++) {
        job_client_send(&client, i % 2 == 0 ? "version" : "show", NULL, false);
        json_decref(job_client_until(&client, "result"));
    }
    job_client_close(&client);
}

HF_TEST(the_socket_is_for_its_owner_alone)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    struct stat status;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    assert_int_equal(stat(bench.socket, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can become somebody else");

    // Somebody else who can reach the socket all the same is told why not.
    assert_int_equal(chmod(bench.folder, 0777), 0);
    assert_int_equal(chmod(bench.socket, 0777), 0);
    pid_t child = fork();
    if (child == 0) {
        struct job_client client;
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
            _exit(9);
        job_client_connect(&client, &bench);
        json_t *event = job_client_next(&client);
        _exit(event != NULL && strcmp(text_of(event, "kind"), "denied") == 0 ? 0 : 1);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 0);
}

HF_TEST(sources_of_the_file_and_of_commands_are_recorded_and_listed)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    static const char form[] = "{s:s, s:{s:s, s:s, s:s}}";
    _cleanup_(hf_json_freep) json_t *added =
        job_bench_ask(&bench, "source add",
                      json_pack(form, "name", "ward", "settings", "engine", "postgresql", "connection", "host=a",
                                "backup_every", "6h"));
    assert_string_equal(text_of(added, "event"), "result");
    _cleanup_(hf_json_freep) json_t *twice =
        job_bench_ask(&bench, "source add",
                      json_pack(form, "name", "ward", "settings", "engine", "postgresql", "connection", "host=b",
                                "backup_every", "6h"));
    assert_string_equal(text_of(twice, "kind"), "conflict");
    _cleanup_(hf_json_freep) json_t *of_file =
        job_bench_ask(&bench, "source add",
                      json_pack(form, "name", "clinic", "settings", "engine", "postgresql", "connection", "host=b",
                                "backup_every", "6h"));
    assert_non_null(strstr(text_of(of_file, "message"), "holdfast.yaml\": change it there"));
    _cleanup_(hf_json_freep) json_t *broken =
        job_bench_ask(&bench, "source add", json_pack("{s:s, s:{s:s}}", "name", "x", "settings", "colour", "red"));
    assert_string_equal(text_of(broken, "message"), "source \"x\": there is no setting \"colour\"");

    // They are in the log: a catalog that is made anew knows them.
    job_bench_stop(&bench, SIGTERM);
    char path[256];
    snprintf(path, sizeof path, "%s/catalog.db", bench.state);
    assert_int_equal(unlink(path), 0);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *list = job_bench_ask(&bench, "source list", NULL);
    const json_t *sources = json_object_get(json_object_get(list, "result"), "sources");
    assert_int_equal(json_array_size(sources), 3);
    assert_string_equal(text_of(json_array_get(sources, 0), "name"), "clinic");
    assert_string_equal(text_of(json_array_get(sources, 0), "origin"), "file");
    assert_string_equal(text_of(json_array_get(sources, 2), "name"), "ward");
    assert_string_equal(text_of(json_array_get(sources, 2), "origin"), "command");
    assert_string_equal(text_of(json_object_get(json_array_get(sources, 2), "settings"), "connection"), "host=a");

    _cleanup_(hf_json_freep) json_t *kept = job_bench_ask(&bench, "source remove", json_pack("{s:s}", "name", "lab"));
    assert_string_equal(text_of(kept, "kind"), "conflict");
    _cleanup_(hf_json_freep) json_t *gone = job_bench_ask(&bench, "source remove", json_pack("{s:s}", "name", "ward"));
    assert_string_equal(text_of(gone, "event"), "result");
    _cleanup_(hf_json_freep) json_t *none = job_bench_ask(&bench, "source remove", json_pack("{s:s}", "name", "ward"));
    assert_string_equal(text_of(none, "kind"), "not_found");
}

HF_TEST(a_source_that_left_the_settings_file_is_removed_at_the_next_start)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    struct hf_error err;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    job_bench_stop(&bench, SIGTERM);
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    hf_assert_ok(hf_file_read(bench.settings_path, &text, &err), &err);
    size_t kept = (size_t)(strstr(hf_buf_text(&text), "  lab:") - hf_buf_text(&text));
    hf_assert_ok(hf_file_publish(bench.settings_path, text.data, kept, 0600, HF_PUBLISH_REPLACE, &err), &err);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *list = job_bench_ask(&bench, "source list", NULL);
    assert_int_equal(json_array_size(json_object_get(json_object_get(list, "result"), "sources")), 1);
}

HF_TEST(sources_that_have_not_changed_are_not_recorded_again)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    for (int i = 0; i < 3; i++) {
        job_bench_start(&bench);
        _cleanup_(hf_json_freep) json_t *rebuilt = job_bench_ask(&bench, "catalog rebuild", NULL);
        assert_int_equal(number_of(json_object_get(rebuilt, "result"), "entries"), 3);
        job_bench_stop(&bench, SIGTERM);
    }
}

HF_TEST(status_is_bad_news_while_a_source_has_no_proven_backup)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    _cleanup_(hf_json_freep) json_t *status = job_bench_ask(&bench, "status", NULL);
    const json_t *sources = json_object_get(json_object_get(status, "result"), "sources");
    assert_int_equal(number_of(status, "exit"), HF_EXIT_BAD_NEWS);
    assert_int_equal(json_array_size(sources), 2);
    assert_string_equal(text_of(json_array_get(sources, 0), "health"), "none");
    _cleanup_(hf_json_freep) json_t *backups = job_bench_ask(&bench, "backups", json_pack("{s:s}", "source", "nobody"));
    assert_string_equal(text_of(backups, "kind"), "not_found");
}

HF_TEST(a_rebuild_over_the_socket_finds_the_catalog_equal)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    job_bench_start(&bench);
    json_decref(job_bench_ask(&bench, "write", writing("clinic", "7001", HF_LOG_INTENT)));
    _cleanup_(hf_json_freep) json_t *rebuilt = job_bench_ask(&bench, "catalog rebuild", NULL);
    const json_t *result = json_object_get(rebuilt, "result");
    assert_int_equal(number_of(rebuilt, "exit"), HF_EXIT_DONE);
    assert_int_equal(number_of(result, "vaults"), 2);
    assert_int_equal(number_of(result, "differences"), 0);
    assert_int_equal(number_of(result, "entries"), 5); // two lineages, two sources, one intent
}

#include "tests/support/test.h"
#include "sandbox/launch.h"

static const char whole[] =
    "{\"lowest\": \"L2\", \"host_uid\": 300017, \"host_gid\": 300018, \"without\": [\"landlock\"],"
    " \"entries\": [{\"kind\": \"run\", \"from\": \"/bin/true\", \"to\": \"/bin/true\", \"bytes\": 0},"
    "               {\"kind\": \"memory\", \"from\": \"\", \"to\": \"/tmp\", \"bytes\": 4096}],"
    " \"program\": \"/bin/true\", \"directory\": \"/tmp\", \"arguments\": [\"true\", \"\"], \"environment\": "
    "[\"TZ=UTC\"],"
    " \"flat\": null,"
    " \"limits\": {\"memory_bytes\": 1, \"processes\": 2, \"open_files\": 64, \"disk_bytes\": 4, \"wall_ms\": 5},"
    " \"loopback\": false, \"inet\": true, \"cgroup\": \"\", \"watched\": \"/var/data\", \"remove\": \"\"}";

static void assert_refused(const char *text, const char *reason);
static void assert_refused_with(const char *old, const char *new, const char *reason);

HF_TEST(what_is_written_is_read_back_alike)
{
    struct hf_launch launch, again;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_LAUNCH_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf twice = HF_BUF_INIT(HF_LAUNCH_MOST_BYTES);
    hf_assert_ok(hf_launch_parse(whole, sizeof whole - 1, &launch, &err), &err);
    assert_int_equal(launch.lowest, HF_SANDBOX_L2);
    assert_int_equal(launch.host_uid, 300017);
    assert_int_equal(launch.host_gid, 300018);
    assert_int_equal(launch.without, HF_WITHOUT_LANDLOCK);
    assert_int_equal(launch.entry_count, 2);
    assert_int_equal(launch.entries[1].kind, HF_LAUNCH_MEMORY);
    assert_int_equal(launch.entries[1].bytes, 4096);
    assert_string_equal(launch.command.arguments[1], "");
    assert_null(launch.command.arguments[2]);
    assert_null(launch.flat.program);
    assert_int_equal(launch.limits.wall_ms, 5);
    assert_true(launch.inet);
    assert_string_equal(launch.watched, "/var/data");

    hf_assert_ok(hf_launch_write(&launch, &text, &err), &err);
    hf_assert_ok(hf_launch_parse(text.data, text.length, &again, &err), &err);
    hf_assert_ok(hf_launch_write(&again, &twice, &err), &err);
    assert_string_equal(hf_buf_text(&text), hf_buf_text(&twice));
    hf_launch_done(&launch);
    hf_launch_done(&again);
}

HF_TEST(every_member_is_needed_and_no_other_is_taken)
{
    _cleanup_(hf_json_freep) json_t *spec = NULL;
    struct hf_error err;
    hf_assert_ok(hf_json_parse(whole, sizeof whole - 1, "test", &spec, &err), &err);
    const char *key;
    json_t *value;
    json_object_foreach(spec, key, value)
    {
        _cleanup_(hf_json_freep) json_t *less = json_copy(spec), *more = json_copy(spec);
        _cleanup_(hf_freep) char *name = strdup(key);
        json_object_del(less, name);
        _cleanup_(hf_freep) char *text = json_dumps(less, 0);
        assert_refused(text, "is missing");
        json_object_set(more, "surprise", value);
        _cleanup_(hf_freep) char *longer = json_dumps(more, 0);
        assert_refused(longer, "\"surprise\" is unknown");
    }
}

HF_TEST(paths_that_are_not_plain_are_refused)
{
    static const char *const crooked[] = {"/var/../etc", "/var/./data", "/var//data",      "var/data",
                                          "/var/data/",  "/",           "/var/\\u0001data"};
    for (size_t i = 0; i < HF_LENGTH(crooked); i++) {
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%s\"", crooked[i]);
        assert_refused_with("\"/var/data\"", quoted, "\"watched\" is no plain absolute path");
    }
    assert_true(hf_launch_path_is_plain("/a..b/.c/d..."));
}

HF_TEST(a_place_is_taken_once_and_nothing_lies_below_it)
{
    assert_refused_with("\"to\": \"/tmp\"", "\"to\": \"/bin/true\"", "lies in \"/bin/true\"");
    assert_refused_with("\"to\": \"/tmp\"", "\"to\": \"/bin\"", "\"/bin/true\" lies in \"/bin\"");
    assert_refused_with("\"to\": \"/tmp\"", "\"to\": \"/bin/true/x\"", "lies in \"/bin/true\"");
}

HF_TEST(levels_kinds_and_layers_are_known_by_name)
{
    assert_refused_with("\"L2\"", "\"L9\"", "there is no sandbox level \"L9\"");
    assert_refused_with("\"L2\"", "\"L0\"", "L0 is no isolation");
    assert_refused_with("\"run\"", "\"jump\"", "there is no kind \"jump\"");
    assert_refused_with("\"landlock\"", "\"moat\"", "names no layer");
    enum hf_sandbox_level level;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_level_parse("L3r", &level, &err), &err);
    assert_int_equal(level, HF_SANDBOX_L3R);
    assert_string_equal(hf_sandbox_level_name(level), "L3r");
    assert_true(HF_SANDBOX_L0 < HF_SANDBOX_L1 && HF_SANDBOX_L1 < HF_SANDBOX_L2 && HF_SANDBOX_L2 < HF_SANDBOX_L3R &&
                HF_SANDBOX_L3R < HF_SANDBOX_L3);
}

HF_TEST(kinds_and_their_members_must_agree)
{
    assert_refused_with("\"from\": \"\"", "\"from\": \"/x\"", "cannot come from");
    assert_refused_with("\"from\": \"/bin/true\"", "\"from\": \"\"", "no plain absolute path");
    assert_refused_with("\"bytes\": 4096", "\"bytes\": 0", "\"memory\" alone");
    assert_refused_with("\"bytes\": 0", "\"bytes\": 1", "\"memory\" alone");
    assert_refused_with("[\"true\", \"\"]", "[]", "\"arguments\" is empty");
    assert_refused_with("[\"true\", \"\"]", "[7]", "word 0 of \"arguments\"");
}

HF_TEST(numbers_have_limits)
{
    assert_refused_with("\"host_uid\": 300017", "\"host_uid\": 4294967295", "host_uid");
    assert_refused_with("\"host_uid\": 300017", "\"host_uid\": -1", "host_uid");
    assert_refused_with("\"open_files\": 64", "\"open_files\": 15", "less than 16");
    assert_refused_with("\"open_files\": 64", "\"open_files\": 65537", "open_files");
}

HF_TEST(a_document_that_is_too_long_is_not_even_read)
{
    char *spaces = malloc(HF_LAUNCH_MOST_BYTES + 1);
    struct hf_launch launch;
    struct hf_error err;
    memset(spaces, ' ', HF_LAUNCH_MOST_BYTES + 1);
    assert_false(hf_launch_parse(spaces, HF_LAUNCH_MOST_BYTES + 1, &launch, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_launch_done(&launch);
    free(spaces);
}

HF_TEST(too_many_entries_and_words_are_refused)
{
    _cleanup_(hf_json_freep) json_t *spec = NULL;
    struct hf_error err;
    hf_assert_ok(hf_json_parse(whole, sizeof whole - 1, "test", &spec, &err), &err);
    json_t *words = json_array(), *entries = json_array();
    for (int i = 0; i <= HF_LAUNCH_MOST_WORDS; i++)
        json_array_append_new(words, json_string("x"));
    for (int i = 0; i <= HF_LAUNCH_MOST_ENTRIES; i++)
        json_array_append_new(entries, json_null());
    _cleanup_(hf_json_freep) json_t *wordy = json_copy(spec), *crowded = json_copy(spec);
    json_object_set_new(wordy, "environment", words);
    json_object_set_new(crowded, "entries", entries);
    _cleanup_(hf_freep) char *one = json_dumps(wordy, 0), *other = json_dumps(crowded, 0);
    assert_refused(one, "has 513 words, the limit is 512");
    assert_refused(other, "has 1025 entries, the limit is 1024");
}

static void
assert_refused(const char *text, const char *reason)
{
    struct hf_launch launch;
    struct hf_error err;
    assert_false(hf_launch_parse(text, strlen(text), &launch, &err));
    hf_launch_done(&launch);
    if (strstr(err.message, reason) == NULL)
        fail_msg("\"%s\" was expected to say \"%s\"", err.message, reason);
}

static void
assert_refused_with(const char *old, const char *new, const char *reason)
{
    char text[4096];
    const char *at = strstr(whole, old);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - whole), whole, new, at + strlen(old));
    assert_refused(text, reason);
}

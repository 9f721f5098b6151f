#include "tests/support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/mariadb/corrections.h"

static void put_file(const char *folder, const char *path, const char *text);

HF_TEST(changes_are_made_in_a_restored_folder_and_nowhere_else)
{
    const char *folder = hf_test_folder();
    _cleanup_(hf_corrections_done) struct hf_corrections made = {0};
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    char by[HF_CORRECTIONS_BY_BYTES], path[300];
    struct hf_error err;
    hf_assert_ok(hf_corrections_apply(folder, &err), &err); // there are none
    hf_assert_ok(hf_corrections_init(&made, &err), &err);
    hf_assert_ok(hf_corrections_rename(&made, "clinic/a", "clinic/b", &err), &err);
    hf_assert_ok(hf_corrections_remove(&made, "clinic/c", &err), &err);
    hf_assert_ok(hf_corrections_replace(&made, "clinic/b", by, &err), &err);
    hf_assert_ok(hf_corrections_format(&made, &text, &err), &err);
    put_file(folder, "clinic/a", "old");
    put_file(folder, "clinic/c", "gone");
    put_file(folder, by, "new");
    put_file(folder, HF_CORRECTIONS_PATH, hf_buf_text(&text));
    hf_assert_ok(hf_corrections_apply(folder, &err), &err);
    snprintf(path, sizeof path, "%s/clinic/b", folder);
    hf_buf_clear(&text);
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    assert_string_equal(hf_buf_text(&text), "new");
    snprintf(path, sizeof path, "%s/clinic/a", folder);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/clinic/c", folder);
    assert_int_not_equal(access(path, F_OK), 0);

    static const char *const bad[] = {
        "{\"version\":1,\"changes\":[{\"do\":\"remove\",\"path\":\"../x\"}]}",
        "{\"version\":1,\"changes\":[{\"do\":\"remove\",\"path\":\"link/x\"}]}",
        "{\"version\":1,\"changes\":[{\"do\":\"rename\",\"path\":\"clinic/b\",\"to\":\"/tmp/x\"}]}",
        "{\"version\":1,\"changes\":[{\"by\":\"../b\",\"do\":\"replace\",\"path\":\"clinic/b\"}]}",
        "{\"version\":1,\"changes\":[{\"do\":\"run\",\"path\":\"clinic/b\"}]}",
        "{\"version\":2,\"changes\":[]}",
    };
    snprintf(path, sizeof path, "%s/link", folder);
    assert_int_equal(symlink("clinic", path), 0);
    put_file(folder, "clinic/x", "stays");
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        put_file(folder, HF_CORRECTIONS_PATH, bad[i]);
        if (hf_corrections_apply(folder, &err))
            fail_msg("%s was made", bad[i]);
    }
    snprintf(path, sizeof path, "%s/clinic/x", folder);
    assert_int_equal(access(path, F_OK), 0);
}

HF_TEST(a_file_that_has_another_name_now_is_told_unless_it_came_anew)
{
    const char *folder = hf_test_folder();
    _cleanup_(hf_json_freep) json_t *renamed = NULL;
    struct hf_error err;
    hf_assert_ok(hf_corrections_renamed(folder, ".MAD", &renamed, &err), &err);
    assert_int_equal(json_object_size(renamed), 0);
    hf_json_freep(&renamed);
    put_file(
        folder, HF_CORRECTIONS_PATH,
        "{\"version\":1,\"changes\":["
        "{\"do\":\"rename\",\"path\":\"c/a.MAD\",\"to\":\"c/b.MAD\"},"
        "{\"do\":\"rename\",\"path\":\"c/b.MAD\",\"to\":\"c/kept.MAD\"},"
        "{\"do\":\"rename\",\"path\":\"c/a.MAI\",\"to\":\"c/kept.MAI\"},"
        "{\"do\":\"rename\",\"path\":\"c/d.MAD\",\"to\":\"c/gone.MAD\"},{\"do\":\"remove\",\"path\":\"c/gone.MAD\"},"
        "{\"do\":\"rename\",\"path\":\"c/e.MAD\",\"to\":\"c/anew.MAD\"},"
        "{\"by\":\"holdfast_config/replaced/000001\",\"do\":\"replace\",\"path\":\"c/anew.MAD\"}]}");
    hf_assert_ok(hf_corrections_renamed(folder, ".MAD", &renamed, &err), &err);
    assert_int_equal(json_object_size(renamed), 1);
    assert_non_null(json_object_get(renamed, "c/kept.MAD"));
    put_file(folder, HF_CORRECTIONS_PATH, "{\"version\":1,\"changes\":[{\"do\":\"rename\",\"path\":\"c/a.MAD\"}]}");
    hf_json_freep(&renamed);
    assert_false(hf_corrections_renamed(folder, ".MAD", &renamed, &err));
}

static void
put_file(const char *folder, const char *path, const char *text)
{
    char full[300];
    struct hf_error err;
    snprintf(full, sizeof full, "%s/%s", folder, path);
    *strrchr(full, '/') = '\0';
    hf_assert_ok(hf_dir_make(full, 0700, &err), &err);
    snprintf(full, sizeof full, "%s/%s", folder, path);
    hf_assert_ok(hf_file_publish(full, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
}

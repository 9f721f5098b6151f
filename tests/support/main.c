#include <unistd.h>
#include "tests/support/test.h"

#include "base/file.h"
#include "base/secret.h"

#define MOST_TESTS 512

static struct CMUnitTest tests[MOST_TESTS];
static size_t test_count;
static char folders[64][64];
static size_t folder_count;
static pid_t owner;

void
hf_test_register(const char *name, hf_test_function *function)
{
    if (test_count == MOST_TESTS)
        abort();
    tests[test_count++] = (struct CMUnitTest){.name = name, .test_func = function};
}

static void
remove_folders(void)
{
    if (getpid() != owner)
        return;
    for (size_t i = 0; i < folder_count; i++)
        (void)!hf_dir_remove_tree(folders[i], NULL);
}

const char *
hf_test_folder(void)
{
    if (folder_count == HF_LENGTH(folders))
        fail_msg("more than %zu folders in one test program", HF_LENGTH(folders));
    char *folder = folders[folder_count];
    snprintf(folder, sizeof folders[0], "%s/hf-test-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(folder) == NULL)
        fail_msg("no folder for the test: %s", folder);
    folder_count++;
    return folder;
}

int
main(int argc, char **argv)
{
    struct hf_error err;
    setvbuf(stdout, NULL, _IOLBF, 0); // a test that is killed has told what it had done
    owner = getpid();
    atexit(remove_folders);
    if (!hf_secrets_setup(&err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (argc == 2)
        cmocka_set_test_filter(argv[1]);
    return _cmocka_run_group_tests("holdfast", tests, test_count, NULL, NULL);
}

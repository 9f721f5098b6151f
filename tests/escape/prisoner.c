#include "tests/escape/prisoner.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"

#define PROGRAM "/bin/inside" // in the sandbox

static bool list(const void *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool command(const void *settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                    struct hf_error *err);
static enum hf_sandbox_news judge(const char *line);

const struct hf_sandbox_engine hf_engine_prisoner = {
    .name = "prisoner", .list = list, .command = command, .judge = judge};

const char *
hf_test_prisoner_program(void)
{
    static char path[PATH_MAX];
    const char *build = getenv("HOLDFAST_BUILD");
    char own[PATH_MAX - 32];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    own[length < 0 ? 0 : length] = '\0';
    char *name = strrchr(own, '/');
    if (build != NULL)
        snprintf(path, sizeof path, "%s/tests/escape-inside", build);
    else
        snprintf(path, sizeof path, "%.*s/escape-inside", (int)(name - own), own);
    if (access(path, X_OK) != 0)
        fail_msg("%s has not been built", path);
    return path;
}

const char *
hf_test_prisoner_data(void)
{
    const char *folder = hf_test_folder();
    if (chmod(folder, 0700) != 0 ||
        (geteuid() == 0 && chown(folder, hf_test_sandbox_uid(), hf_test_sandbox_gid()) != 0))
        fail_msg("could not give %s to the sandbox", folder);
    return folder;
}

struct hf_sandbox_spec
hf_test_prisoner_spec(const char *const *arguments)
{
    return (struct hf_sandbox_spec){
        .engine = &hf_engine_prisoner,
        .settings = arguments,
        .data = hf_test_prisoner_data(),
        .folder = hf_test_run_folder(),
        .limits = {.memory_bytes = 256 * HF_MIB,
                   .processes = 32,
                   .open_files = 64,
                   .log_bytes = HF_MIB,
                   .wall_ms = 60000,
                   .temporary_bytes = 16 * HF_MIB},
        .host_uid = hf_test_sandbox_uid(),
        .host_gid = hf_test_sandbox_gid(),
    };
}

static bool
list(const void *settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    (void)settings;
    return hf_sandbox_root_add_program(root, hf_test_prisoner_program(), PROGRAM, NULL, NULL, err);
}

static bool
command(const void *settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
        struct hf_error *err)
{
    const char *const *arguments = settings;
    if (!hf_sandbox_command_program(command, places->flat ? hf_test_prisoner_program() : PROGRAM, err) ||
        !hf_sandbox_command_argument(command, err, "inside"))
        return false;
    for (; *arguments != NULL; arguments++) {
        if (!hf_sandbox_command_argument(command, err, "%s", *arguments))
            return false;
    }
    return true;
}

static enum hf_sandbox_news
judge(const char *line)
{
    return strcmp(line, "running") == 0 ? HF_SANDBOX_READY : HF_SANDBOX_NO_NEWS;
}

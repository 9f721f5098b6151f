#include "tests/fault/backup_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/support/test.h"

static void add(struct backup_loop *loop, const struct acknowledged *backup);
static _Noreturn void back_up_for_ever(struct backup_loop *loop, int told);
static void assert_one(struct backup_loop *loop, size_t number, const char *scratch);

void
backup_loop_start(struct backup_loop *loop)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    loop->child = fork();
    assert_true(loop->child >= 0);
    if (loop->child == 0) {
        close(ends[0]);
        back_up_for_ever(loop, ends[1]);
    }
    close(ends[1]);
    loop->told = ends[0];
}

size_t
backup_loop_kill(struct backup_loop *loop)
{
    int status;
    struct acknowledged backup;
    const size_t before = loop->count;
    assert_int_equal(kill(loop->child, SIGKILL), 0);
    assert_int_equal(waitpid(loop->child, &status, 0), loop->child);
    while (read(loop->told, &backup, sizeof backup) == sizeof backup)
        add(loop, &backup);
    hf_closep(&loop->told);
    loop->child = -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        fail_msg("the child ended by itself with status %d", WEXITSTATUS(status));
    return loop->count - before;
}

void
backup_loop_assert(struct backup_loop *loop, bool all, const char *scratch)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    hf_assert_ok(hf_vault_read(loop->vault->vault, NULL, NULL, &state, &err), &err);
    assert_true(state->backup_count == loop->count || state->backup_count == loop->count + 1);
    if (state->backup_count > loop->count)
        add(loop, &(struct acknowledged){state->backups[loop->count].backup, loop->next_generation});
    for (size_t i = all ? 0 : loop->known; i < loop->count; i++)
        assert_one(loop, i, scratch);
    loop->known = loop->count;
}

void
backup_loop_go_on(struct backup_loop *loop, const char *scratch)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *state;
    struct model model;
    model_make(&model, loop->model_bytes, loop->next_generation);
    const struct hf_session_options options = model_options(loop->vault);
    hf_assert_ok(model_back_up(&model, loop->vault->vault, &options, &outcome, &err), &err);
    model_done(&model);
    add(loop, &(struct acknowledged){outcome.backup, loop->next_generation});
    backup_loop_assert(loop, false, scratch);
    hf_assert_ok(hf_vault_read(loop->vault->vault, NULL, NULL, &state, &err), &err);
    for (size_t i = 0; i < state->session_count; i++)
        assert_int_not_equal(state->sessions[i].state, HF_SESSION_OPEN);
}

void
backup_loop_done(struct backup_loop *loop)
{
    free(loop->backups);
}

void
backup_loop_seed(void)
{
    const char *text = getenv("SEED");
    const unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10) : randombytes_random();
    print_message("# seed %u\n", seed);
    srandom(seed);
}

unsigned
backup_loop_seconds(void)
{
    const char *text = getenv("CAMPAIGN_SECONDS");
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static void
add(struct backup_loop *loop, const struct acknowledged *backup)
{
    if (loop->count == loop->room) {
        loop->room = loop->room > 0 ? 2 * loop->room : 64;
        loop->backups = realloc(loop->backups, loop->room * sizeof *loop->backups);
        assert_non_null(loop->backups);
    }
    loop->backups[loop->count++] = *backup;
    loop->next_generation = backup->generation + 1;
}

/* The child: nothing of the test's own may run in it, so it ends by itself where something fails. */
static _Noreturn void
back_up_for_ever(struct backup_loop *loop, int told)
{
    struct hf_error err = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_vault_reopen(loop->vault);
    for (unsigned generation = loop->next_generation;; generation++) {
        struct model model;
        struct hf_session_outcome outcome;
        model_make(&model, loop->model_bytes, generation);
        const struct hf_session_options options = model_options(loop->vault);
        const bool ok = model_back_up(&model, loop->vault->vault, &options, &outcome, &err);
        model_done(&model);
        if (!ok && loop->disk_may_fail)
            pause();
        if (!ok) {
            dprintf(STDOUT_FILENO, "# the child: %s\n", err.message);
            _exit(1);
        }
        const struct acknowledged backup = {outcome.backup, generation};
        if (write(told, &backup, sizeof backup) != sizeof backup)
            _exit(1);
    }
}

static void
assert_one(struct backup_loop *loop, size_t number, const char *scratch)
{
    struct model model;
    model_make(&model, loop->model_bytes, loop->backups[number].generation);
    model_assert_restores(&model, loop->vault->vault, &loop->backups[number].backup, scratch);
    model_done(&model);
}

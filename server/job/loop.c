#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/time.h"
#include "server/job/daemon_internal.h"

#define FIXED_FDS   2 // signals, the listening socket
#define FDS_PER_JOB 3 // events, oracle, the process
#define LONGEST_MS  60000

/* What one round of poll() looks at; the order of fds follows clients and jobs as they stood when it was made. */
struct round {
    struct pollfd *fds;
    size_t count;
    struct hf_client *clients[HF_CLIENTS_MOST];
    size_t client_count;
    struct hf_job **jobs;
    size_t job_count;
};

static bool make_round(struct hf_daemon *daemon, struct round *round, struct hf_error *err);
static void free_round(struct round *round);
static int timeout_ms(struct hf_daemon *daemon);
static void hear_signal(struct hf_daemon *daemon);
static void hear_round(struct hf_daemon *daemon, const struct round *round);
static bool is_listed(const struct hf_daemon *daemon, const struct hf_job *job);
static void hear_job(struct hf_daemon *daemon, struct hf_job *job, const struct pollfd *fds);
static bool is_over(struct hf_daemon *daemon);

bool
hf_daemon_loop(struct hf_daemon *daemon, struct hf_error *err)
{
    while (true) {
        hf_watch_schedules(daemon);
        hf_jobs_advance(daemon);
        // Endings may have put words into any client's output.
        for (size_t i = 0; i < daemon->client_count; i++)
            hf_server_flush(daemon, daemon->clients[i]);
        hf_server_sweep(daemon);
        // After the sweep: with the last client gone the time until we leave begins, and poll() must not oversleep it.
        if (is_over(daemon))
            return true;

        _cleanup_(free_round) struct round round = {0};
        if (!make_round(daemon, &round, err))
            return false;
        if (poll(round.fds, round.count, timeout_ms(daemon)) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not wait for clients");
        hear_round(daemon, &round);
        if (hf_daemon_catalog(daemon) == NULL)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the catalog is gone");
    }
}

static bool
make_round(struct hf_daemon *daemon, struct round *round, struct hf_error *err)
{
    round->fds = calloc(FIXED_FDS + daemon->client_count + daemon->job_count * FDS_PER_JOB, sizeof *round->fds);
    round->jobs = calloc(daemon->job_count + 1, sizeof *round->jobs);
    if (round->fds == NULL || round->jobs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the clients");
    round->fds[round->count++] = (struct pollfd){.fd = daemon->signal_fd, .events = POLLIN};
    round->fds[round->count++] = (struct pollfd){.fd = daemon->listen_fd, .events = POLLIN};
    for (size_t i = 0; i < daemon->client_count; i++) {
        struct hf_client *client = daemon->clients[i];
        short events = (short)((client->leaving ? 0 : POLLIN) | (hf_wire_has_output(&client->wire) ? POLLOUT : 0));
        round->fds[round->count++] = (struct pollfd){.fd = client->wire.fd, .events = events};
        round->clients[round->client_count++] = client;
    }
    for (size_t i = 0; i < daemon->job_count; i++) {
        struct hf_job *job = daemon->jobs[i];
        if (job->state != HF_JOB_RUNNING)
            continue;
        bool silent = job->events.ended || job->broken; // its end is awaited, and no word
        short oracle = job->answer.length > 0 ? POLLOUT : POLLIN;
        round->fds[round->count++] = (struct pollfd){.fd = silent ? -1 : job->events.fd, .events = POLLIN};
        round->fds[round->count++] = (struct pollfd){.fd = job->broken ? -1 : job->oracle_fd, .events = oracle};
        round->fds[round->count++] = (struct pollfd){.fd = job->process.pidfd, .events = POLLIN};
        round->jobs[round->job_count++] = job;
    }
    return true;
}

static void
free_round(struct round *round)
{
    free(round->fds);
    free(round->jobs);
}

static int
timeout_ms(struct hf_daemon *daemon)
{
    int64_t least = LONGEST_MS;
    uint64_t now_ns = hf_monotonic_ns(), deadline_ns = hf_jobs_deadline_ns(daemon);
    if (deadline_ns != 0) {
        int64_t left = deadline_ns <= now_ns ? 0 : (int64_t)((deadline_ns - now_ns) / 1000000 + 1);
        least = left < least ? left : least;
    }
    if (!daemon->embedded) {
        int64_t left = daemon->look_at - hf_daemon_now(daemon);
        least = left < 0 ? 0 : left < least ? left : least;
    }
    if (daemon->idle_since_ns != 0) {
        int64_t left = HF_DAEMON_IDLE_MS - (int64_t)((now_ns - daemon->idle_since_ns) / 1000000);
        least = left < 0 ? 0 : left < least ? left : least;
    }
    return (int)least;
}

/* SIGTERM and SIGINT: running jobs are asked to stop, and the daemon goes when they have; a second one kills. */
static void
hear_signal(struct hf_daemon *daemon)
{
    struct signalfd_siginfo signal;
    if (read(daemon->signal_fd, &signal, sizeof signal) != sizeof signal)
        return;
    if (daemon->stopping) {
        for (size_t i = 0; i < daemon->job_count; i++)
            hf_process_signal(&daemon->jobs[i]->process, SIGKILL);
        return;
    }
    hf_log_info("stopping");
    daemon->stopping = true;
    hf_jobs_cancel_all(daemon);
}

static void
hear_round(struct hf_daemon *daemon, const struct round *round)
{
    if (round->fds[0].revents != 0)
        hear_signal(daemon);
    const struct pollfd *at = round->fds + FIXED_FDS;
    for (size_t i = 0; i < round->client_count; i++, at++) {
        if ((at->revents & POLLOUT) != 0)
            hf_server_flush(daemon, round->clients[i]);
        if ((at->revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            hf_server_hear(daemon, round->clients[i]);
    }
    for (size_t i = 0; i < round->job_count; i++, at += FDS_PER_JOB)
        if (is_listed(daemon, round->jobs[i])) // what a client said may have ended it
            hear_job(daemon, round->jobs[i], at);
    if (round->fds[1].revents != 0)
        hf_server_accept(daemon);
}

static bool
is_listed(const struct hf_daemon *daemon, const struct hf_job *job)
{
    for (size_t i = 0; i < daemon->job_count; i++)
        if (daemon->jobs[i] == job)
            return job->state == HF_JOB_RUNNING; // a new one may have got the memory of one that ended
    return false;
}

static void
hear_job(struct hf_daemon *daemon, struct hf_job *job, const struct pollfd *fds)
{
    if (fds[0].revents != 0)
        hf_jobs_hear_events(daemon, job);
    if (fds[1].revents != 0 && job->oracle_fd >= 0 && !job->broken) {
        if (job->answer.length > 0)
            hf_job_send_answer(job);
        else
            hf_job_hear_question(daemon, job);
    }
    if (fds[2].revents != 0)
        hf_jobs_hear_end(daemon, job);
}

static bool
is_over(struct hf_daemon *daemon)
{
    bool idle = daemon->client_count == 0 && daemon->job_count == 0;
    if (daemon->stopping && daemon->job_count == 0)
        return true;
    if (!daemon->embedded || !idle) {
        daemon->idle_since_ns = 0;
        return false;
    }
    if (daemon->idle_since_ns == 0)
        daemon->idle_since_ns = hf_monotonic_ns();
    return hf_monotonic_ns() - daemon->idle_since_ns >= HF_DAEMON_IDLE_MS * UINT64_C(1000000);
}

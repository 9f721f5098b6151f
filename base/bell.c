#include "base/bell.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/time.h"

bool
hf_bell_init(struct hf_bell *bell, struct hf_error *err)
{
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd >= 0 || hf_fail_errno(err, HF_ERR_NONE, "could not make an event counter");
}

void
hf_bell_done(struct hf_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

/* Nobody takes the count back.  It cannot overflow into a failure that matters: it is read by poll() only. */
void
hf_bell_ring(struct hf_bell *bell)
{
    const uint64_t one = 1;
    const ssize_t written = write(bell->fd, &one, sizeof one);
    (void)written;
}

bool
hf_bell_wait(const struct hf_bell *bell, int timeout_ms)
{
    const uint64_t until = hf_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    struct pollfd waiting = {.fd = bell->fd, .events = POLLIN};
    for (;;) {
        const uint64_t now = hf_monotonic_ns();
        const int left_ms = now < until ? (int)((until - now + 999999) / 1000000) : 0;
        const int count = poll(&waiting, 1, left_ms);
        if (count > 0)
            return true;
        if (count == 0 || errno != EINTR)
            return false;
    }
}

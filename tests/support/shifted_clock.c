/*
 * A clock that is wrong by CLOCK_SHIFT_S seconds, for a program that is started with this library in LD_PRELOAD.
 */
#define gettimeofday gettimeofday_as_declared // its prototype differs between releases of the C library
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef gettimeofday

int gettimeofday(struct timeval *restrict now, void *restrict zone);

static time_t
shift(void)
{
    const char *text = getenv("CLOCK_SHIFT_S");
    return text == NULL ? 0 : (time_t)atoll(text);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec += shift();
    return 0;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return 0;
}

time_t
time(time_t *ret)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (ret != NULL)
        *ret = precise.tv_sec;
    return precise.tv_sec;
}

/* wait.c -- see wait.h. */
#include "blockdev/wait.h"

#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

#include "engine/base/cubby_assert.h"

enum {
    NS_PER_SECOND = 1000000000,
    SPIN_NS = 30000, /* waking up takes less, nearly always */
};

uint64_t wait_now_ns(void)
{
    struct timespec now;
    int status = clock_gettime(CLOCK_MONOTONIC, &now);
    CUBBY_ASSERT(status == 0);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void wait_until_ns(uint64_t time_ns)
{
    if (time_ns > wait_now_ns() + SPIN_NS) {
        /* The slack is the thread's own: put back what it had. */
        int slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
        uint64_t wake_ns = time_ns - SPIN_NS;
        struct timespec wake = {.tv_sec = (time_t)(wake_ns / NS_PER_SECOND),
                                .tv_nsec = (long)(wake_ns % NS_PER_SECOND)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR) {
        }
        if (slack_ns > 0) {
            prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0);
        }
    }
    while (wait_now_ns() < time_ns) {
    }
}

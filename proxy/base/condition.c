/* Bounded waits (condition.h). Any thread. */
#include "base/condition.h"

#include <time.h>

#include "holdfast/clock.h"

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

void condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    struct timespec until = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* the kernel's, whatever clock.h was given */
    until.tv_sec += (time_t)(left_ms / 1000u);
    until.tv_nsec += (long)(left_ms % 1000u) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_cond_timedwait(condition, mutex, &until);
}

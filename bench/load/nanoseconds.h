#ifndef HOLDFAST_BENCH_NANOSECONDS_H
#define HOLDFAST_BENCH_NANOSECONDS_H

/*
 * The system's clocks to the nanosecond: what is measured here may take less than the microseconds
 * of holdfast/clock.h tell. Any thread.
 */

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND UINT64_C(1000000000)

static inline uint64_t nanoseconds_of(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static inline uint64_t nanoseconds_now(void)
{
    return nanoseconds_of(CLOCK_MONOTONIC);
}

#endif

#ifndef HOLDFAST_BENCH_PACE_H
#define HOLDFAST_BENCH_PACE_H

/*
 * When operations are meant to begin in an open loop: number k at start + k / rate, whatever became
 * of those before it. One thread.
 */

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t start_ns;
    double interval_ns;
    uint64_t end_ns; /* none is meant to begin from then on; UINT64_MAX: not known yet */
    uint64_t taken;  /* so many have been begun */
};

static inline struct pace pace_make(uint64_t start_ns, double rate)
{
    return (struct pace){.start_ns = start_ns, .interval_ns = 1e9 / rate, .end_ns = UINT64_MAX};
}

/* When the next one is meant to begin. */
static inline uint64_t pace_next(const struct pace *pace)
{
    return pace->start_ns + (uint64_t)((double)pace->taken * pace->interval_ns);
}

/* Whether there is a next one at all. */
static inline bool pace_has_next(const struct pace *pace)
{
    return pace_next(pace) < pace->end_ns;
}

/* Takes the next one if it is due. */
static inline bool pace_take(struct pace *pace, uint64_t now_ns, uint64_t *ret_meant_ns)
{
    uint64_t meant_ns = pace_next(pace);
    if (meant_ns > now_ns || meant_ns >= pace->end_ns) {
        return false;
    }
    pace->taken++;
    *ret_meant_ns = meant_ns;
    return true;
}

#endif

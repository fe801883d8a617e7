#ifndef HOLDFAST_HISTOGRAM_H
#define HOLDFAST_HISTOGRAM_H

/*
 * Durations, counted in fixed buckets, as Prometheus takes them: from 0.1 ms to a minute, with one
 * more bucket for what takes longer.
 *
 * Any thread observes, any thread reads: relaxed additions and loads. A reader may see a duration
 * in a bucket and not yet in the sum; what it takes for the count is the sum of the buckets, so
 * that the two agree. Zero-initialised memory is an empty histogram.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 18u

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* the last: longer than any bound */
    _Atomic uint64_t sum_us;
};

/* The upper bounds, which belong to their buckets, rising. */
extern const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

/* The bucket of a duration: 0..HISTOGRAM_BOUNDS. */
size_t histogram_bucket(uint64_t us);

void histogram_observe(struct histogram *histogram, uint64_t us);

/* The same where one thread alone observes (its own shard): no locked instruction. */
void histogram_observe_alone(struct histogram *histogram, uint64_t us);

/* Adds what `from` holds to `to`, which nobody else uses. */
void histogram_add(struct histogram *to, const struct histogram *from);

/* Adds to a counter that this thread alone changes and others read: no locked instruction. */
static inline void counter_add_alone(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif

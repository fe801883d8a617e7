#ifndef HOLDFAST_BENCH_HISTOGRAM_H
#define HOLDFAST_BENCH_HISTOGRAM_H

/*
 * Counts of durations, in buckets whose width is at most 1/128 of their value (the layout of Gil
 * Tene's HdrHistogram; Debian has no C library of it): a percentile is never too low and less than
 * 1 % too high, and memory does not grow with the number of values.
 *
 * One thread at a time per histogram. A zeroed struct is empty.
 */

#include <stdint.h>

/* Values up to 2^42 ns, 73 minutes; larger ones count as that. */
#define HISTOGRAM_VALUE_BITS 42
#define HISTOGRAM_STEP_BITS 7
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t max; /* exact */
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* The smallest bound below which `percent` (0 to 100) of the values lie; 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* Adds what the other one holds. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/* By the middles of its buckets; 0 if there are none. */
double histogram_mean(const struct histogram *histogram);

#endif

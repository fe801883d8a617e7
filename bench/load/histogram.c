/*
 * Buckets: values below 2^7 have one each. From there on every power of two is cut into 2^7 equal
 * buckets:
 *
 *   index   0 … 127   128 … 255    256 … 383    384 …
 *   width   1         1            2            4
 */
#include "bench/load/histogram.h"

#include <math.h>
#include <stddef.h>

#define STEPS (UINT64_C(1) << HISTOGRAM_STEP_BITS)
#define VALUE_MAX ((UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1)

static size_t bucket_of(uint64_t value)
{
    if (value < STEPS) {
        return (size_t)value;
    }
    unsigned highest = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = highest - HISTOGRAM_STEP_BITS;
    return (size_t)(((uint64_t)shift << HISTOGRAM_STEP_BITS) + (value >> shift));
}

static uint64_t bucket_end(size_t bucket)
{
    if (bucket < 2 * STEPS) {
        return bucket;
    }
    uint64_t shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    return ((bucket - (shift << HISTOGRAM_STEP_BITS) + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    uint64_t counted = value > VALUE_MAX ? VALUE_MAX : value;
    histogram->counts[bucket_of(counted)]++;
    histogram->count++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t wanted = (uint64_t)ceil((double)histogram->count * percent / 100.0);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted && seen > 0) {
            uint64_t end = bucket_end(i);
            return end < histogram->max ? end : histogram->max;
        }
    }
    return histogram->max;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->counts[i] += other->counts[i];
    }
    histogram->count += other->count;
    histogram->max = other->max > histogram->max ? other->max : histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    double sum = 0;
    uint64_t begin = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t end = bucket_end(i);
        if (histogram->counts[i] > 0) {
            sum += (double)histogram->counts[i] * ((double)begin + (double)end) / 2;
        }
        begin = end + 1;
    }
    return histogram->count == 0 ? 0 : sum / (double)histogram->count;
}

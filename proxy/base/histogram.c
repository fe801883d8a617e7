/* Durations in fixed buckets (histogram.h). Any thread. */
#include "holdfast/histogram.h"

const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    100,    250,    500,    1000,    2500,    5000,    10000,    25000,    50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};

size_t histogram_bucket(uint64_t us)
{
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BOUNDS && us > histogram_bounds_us[bucket]) {
        bucket++;
    }
    return bucket;
}

void histogram_observe(struct histogram *histogram, uint64_t us)
{
    (void)atomic_fetch_add_explicit(&histogram->sum_us, us, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&histogram->counts[histogram_bucket(us)], 1,
                                    memory_order_relaxed);
}

void histogram_observe_alone(struct histogram *histogram, uint64_t us)
{
    counter_add_alone(&histogram->sum_us, us);
    counter_add_alone(&histogram->counts[histogram_bucket(us)], 1);
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    counter_add_alone(&to->sum_us, counter_read(&from->sum_us));
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        counter_add_alone(&to->counts[i], counter_read(&from->counts[i]));
    }
}

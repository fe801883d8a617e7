/* See statistics.h. */
#include "bench/report/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WANTED 0.95

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Puts the interval around the median of sorted values. */
static void put_interval(struct estimate *estimate, const double *sorted, size_t count)
{
    double probability = pow(0.5, (double)count); /* of B = 0 */
    double below = probability;                   /* of B < k */
    size_t k = 1;
    for (;;) {
        probability *= (double)(count - k + 1) / (double)k; /* of B = k */
        if (1 - 2 * (below + probability) < WANTED || 2 * (k + 1) > count) {
            break;
        }
        below += probability;
        k++;
    }
    estimate->low = sorted[k - 1];
    estimate->high = sorted[count - k];
    estimate->confidence = fmax(0, 1 - 2 * below);
}

struct estimate estimate_median(const double *values, size_t count)
{
    double sorted[STATISTICS_MAX];
    struct estimate estimate = {NAN, NAN, NAN, 0, 0};
    size_t used = 0;
    for (size_t i = 0; i < count && used < STATISTICS_MAX; i++) {
        if (isfinite(values[i])) {
            sorted[used++] = values[i];
        }
    }
    if (used == 0) {
        return estimate;
    }
    qsort(sorted, used, sizeof sorted[0], compare);
    estimate.count = used;
    estimate.middle =
        used % 2 == 1 ? sorted[used / 2] : (sorted[used / 2 - 1] + sorted[used / 2]) / 2;
    put_interval(&estimate, sorted, used);
    return estimate;
}

struct estimate estimate_ratio(const double *measured, const double *reference, size_t count)
{
    double ratios[STATISTICS_MAX];
    size_t used = 0;
    for (size_t i = 0; i < count && used < STATISTICS_MAX; i++) {
        if (isfinite(measured[i]) && isfinite(reference[i]) && measured[i] > 0 &&
            reference[i] > 0) {
            ratios[used++] = measured[i] / reference[i];
        }
    }
    return estimate_median(ratios, used);
}

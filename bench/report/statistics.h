#ifndef HOLDFAST_BENCH_STATISTICS_H
#define HOLDFAST_BENCH_STATISTICS_H

/*
 * What repeated measurements say. The middle is their median; its interval is that of the sign test
 * (order statistics): it assumes nothing about how they are spread, and one wild run moves neither.
 *
 *     sorted   x1 … xk … median … x(n+1-k) … xn     k: the largest with which the interval
 *                 '----- interval -----'              from xk to x(n+1-k) holds the true median
 *                                                     with a probability of 95 % at least
 *
 * The probability is 1 - 2 P(B < k) with B binomial (n, 1/2). Below 6 measurements no interval is
 * so sure: it is from the least to the greatest, and `confidence` says how sure that is.
 *
 * Runs that are compared are made shortly after one another, a round with each target: a ratio is
 * of a round, so that what slows the machine down slows both its sides. Pure functions.
 */

#include <stddef.h>

struct estimate {
    double middle; /* NaN: there is nothing to tell */
    double low;
    double high;
    double confidence; /* 0 to 1 */
    size_t count;      /* of the measurements */
};

/* Numbers that are not finite are left out. At most STATISTICS_MAX are looked at. */
#define STATISTICS_MAX 1000u
struct estimate estimate_median(const double *values, size_t count);

/* Of measured / reference, pair by pair; pairs with what is not finite or not above 0 are left out.
 */
struct estimate estimate_ratio(const double *measured, const double *reference, size_t count);

#endif

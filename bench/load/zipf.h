#ifndef HOLDFAST_BENCH_ZIPF_H
#define HOLDFAST_BENCH_ZIPF_H

/*
 * Random numbers for loads: the same sequence for the same seed, in every run. One thread at a
 * time.
 */

#include <stdint.h>

/* xorshift64*; any seed but 0. */
struct chance {
    uint64_t state;
};

uint64_t chance_next(struct chance *chance);
/* 0 to below - 1; `below` is at least 1. */
uint32_t chance_below(struct chance *chance, uint32_t below);
/* 0 included to 1 excluded. */
double chance_fraction(struct chance *chance);

/*
 * Which of `count` items: item i, from 0, with a probability proportional to 1 / (i + 1)^theta, by
 * the method of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (1994), which
 * YCSB uses as well. theta is above 0 and below 1; YCSB's is 0.99.
 */
struct zipf {
    uint32_t count;
    double theta;
    double zeta; /* the sum of 1 / i^theta for i from 1 to count */
    double alpha;
    double eta;
};

/* Takes time that grows with `count`: 10 million items a second or so. */
void zipf_init(struct zipf *zipf, uint32_t count, double theta);
/* Makes it one of `count` items; cheap where that has grown a little. */
void zipf_grow(struct zipf *zipf, uint32_t count);
uint32_t zipf_next(const struct zipf *zipf, struct chance *chance);

/*
 * Spreads the popular ones over all `count` items, so that they are not neighbours in the
 * collection (YCSB's scrambled zipfian): FNV-1a of the number's bytes.
 */
uint32_t zipf_scramble(uint32_t item, uint32_t count);

#endif

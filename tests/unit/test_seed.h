#ifndef HOLDFAST_TESTS_TEST_SEED_H
#define HOLDFAST_TESTS_TEST_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Of a random test: HOLDFAST_TEST_SEED, else the time. Printed, so that a failure can be repeated.
 */
static inline uint64_t seed_of_run(void)
{
    const char *chosen = getenv("HOLDFAST_TEST_SEED");
    uint64_t seed = chosen != NULL ? strtoull(chosen, NULL, 10) : (uint64_t)time(NULL);
    printf("HOLDFAST_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif

#ifndef HOLDFAST_TESTS_TEST_SEED_H
#define HOLDFAST_TESTS_TEST_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Of a random test: HOLDFAST_TEST_SEED, else a random one. Printed, so that a failure can be
   repeated. */
static inline uint64_t seed_of_run(void)
{
    const char *chosen = getenv("HOLDFAST_TEST_SEED");
    uint64_t seed = 0;
    if (chosen != NULL) {
        seed = strtoull(chosen, NULL, 10);
    } else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
        abort();
    }
    printf("HOLDFAST_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif

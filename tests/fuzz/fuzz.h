#ifndef HOLDFAST_TESTS_FUZZ_H
#define HOLDFAST_TESTS_FUZZ_H

/*
 * What a fuzz target consists of. replay.c or libfuzzer.c calls it; the target checks what must
 * hold for any input with FUZZ_REQUIRE() and never depends on what an earlier input left behind.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "holdfast/slice.h"

struct fuzz_seed {
    const void *bytes;
    size_t size;
};

/* Inputs that the parser accepts, from which mutations start; the last one has no bytes. */
extern const struct fuzz_seed fuzz_seeds[];

/* The first four bytes are the input's size: half of the mutations set them right again. */
extern const bool fuzz_size_comes_first;

/* One input, in memory of exactly its size. Whether the parser (any of them) accepted it. */
bool fuzz_one(struct slice input);

/* Ends the process: both drivers and the sanitizers show where. */
#define FUZZ_REQUIRE(condition)                                                                    \
    ((condition) ? (void)0                                                                         \
                 : (fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition),  \
                    abort()))

/* Whether `part` lies wholly inside `whole`, or is empty. */
static inline int fuzz_inside(struct slice whole, struct slice part)
{
    return part.size == 0 || (part.data >= whole.data && part.size <= whole.size &&
                              (size_t)(part.data - whole.data) <= whole.size - part.size);
}

#endif

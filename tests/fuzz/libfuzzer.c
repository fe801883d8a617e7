/*
 * Hands libFuzzer's inputs to the target. The seeds become inputs by way of a custom mutator: now
 * and then an input is replaced by one of them, so that no corpus of binary files has to be kept.
 */

#include "fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned int seed);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)fuzz_one(slice_make(data, size));
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned int seed)
{
    size_t count = 0;
    while (fuzz_seeds[count].bytes != NULL) {
        count++;
    }
    const struct fuzz_seed *chosen = &fuzz_seeds[(seed / 16) % count];
    if (seed % 16 == 0 && chosen->size <= capacity) {
        memcpy(data, chosen->bytes, chosen->size);
        size = chosen->size;
    }
    return LLVMFuzzerMutate(data, size, capacity);
}

/*
 * Drives a fuzz target without a fuzzer: the seeds, every seed cut at every byte, and a fixed
 * number of mutations from a fixed random sequence. The same inputs every time, so it is a test
 * like others.
 *
 * With file names as arguments it replays those instead: what a fuzzer found.
 */

#include "fuzz/fuzz.h"

#include <string.h>

#include "unit/wire_bytes.h"

enum { MUTATIONS = 30000, INPUT_BYTES_MAX = 65536 };

static bool run_exact(const void *bytes, size_t size)
{
    struct slice copy = exact_copy(bytes, size);
    bool accepted = fuzz_one(copy);
    exact_free(copy);
    return accepted;
}

static int replay_file(const char *path)
{
    static uint8_t bytes[INPUT_BYTES_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    (void)fclose(file);
    printf("%s: %s\n", path, run_exact(bytes, size) ? "accepted" : "refused");
    return 0;
}

/* Cuts a piece out, doubles one, or appends, so that sizes change as well. */
static size_t resize(uint8_t *bytes, size_t size, uint32_t *random)
{
    if (size < 2) {
        return size;
    }
    size_t at = random_next(random) % size;
    size_t piece = 1 + random_next(random) % (size - at);
    if (random_next(random) % 2 == 0) {
        memmove(bytes + at, bytes + at + piece, size - at - piece);
        return size - piece;
    }
    if (size + piece > INPUT_BYTES_MAX) {
        return size;
    }
    memmove(bytes + at + piece, bytes + at, size - at);
    return size + piece;
}

static bool mutate_seed(const struct fuzz_seed *seed, uint32_t *random)
{
    static uint8_t bytes[INPUT_BYTES_MAX];
    size_t size = seed->size;
    memcpy(bytes, seed->bytes, size);
    uint32_t kind = random_next(random) % 4;
    if (kind == 0) {
        size = resize(bytes, size, random);
    }
    if (fuzz_size_comes_first && kind <= 1 &&
        size >= 4) { /* a length that agrees lets the rest be looked at */
        slice_store_u32le(bytes, (uint32_t)size);
    }
    if (kind > 0) {
        bytes_mutate(bytes, size, random);
    }
    return run_exact(bytes, size);
}

int main(int argument_count, char **arguments)
{
    int failed = 0;
    for (int i = 1; i < argument_count; i++) {
        failed |= replay_file(arguments[i]);
    }
    if (argument_count > 1) {
        return failed;
    }
    size_t count = 0;
    for (; fuzz_seeds[count].bytes != NULL; count++) {
        for (size_t size = 0; size < fuzz_seeds[count].size; size++) {
            (void)run_exact(fuzz_seeds[count].bytes, size);
        }
        if (!run_exact(fuzz_seeds[count].bytes, fuzz_seeds[count].size)) {
            fprintf(stderr, "seed %zu is not accepted: it tests nothing\n", count);
            return 1;
        }
    }
    if (count == 0) {
        fprintf(stderr, "no seeds: it tests nothing\n");
        return 1;
    }
    uint32_t random = 20260101;
    int accepted = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        accepted += mutate_seed(&fuzz_seeds[(size_t)i % count], &random);
    }
    printf("%d of %d mutations accepted\n", accepted, MUTATIONS);
    return accepted > 0 ? 0 : 1;
}

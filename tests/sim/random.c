/* The one stream of random numbers that a run is made of (splitmix64). */
#include "sim.h"

static uint64_t state;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void random_seed(uint64_t seed)
{
    state = seed * 0x9E3779B97F4A7C15u + 0x1234567;
}

uint64_t random_next(void)
{
    return mix(state += 0x9E3779B97F4A7C15u);
}

uint64_t random_below(uint64_t bound)
{
    return bound == 0 ? 0 : random_next() % bound;
}

bool random_coin(uint64_t seed)
{
    return (mix(seed + 0x632BE59BD9B4E019u) & 1) != 0;
}

bool random_chance(uint64_t part, uint64_t whole)
{
    return part > 0 && random_below(whole) < part;
}

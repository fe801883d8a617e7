/* See zipf.h. */
#include "bench/load/zipf.h"

#include <math.h>

uint64_t chance_next(struct chance *chance)
{
    uint64_t x = chance->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    chance->state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

uint32_t chance_below(struct chance *chance, uint32_t below)
{
    return (uint32_t)(((chance_next(chance) >> 32) * below) >> 32);
}

double chance_fraction(struct chance *chance)
{
    return (double)(chance_next(chance) >> 11) * 0x1p-53;
}

void zipf_init(struct zipf *zipf, uint32_t count, double theta)
{
    *zipf = (struct zipf){.theta = theta, .alpha = 1.0 / (1.0 - theta)};
    zipf_grow(zipf, count);
}

void zipf_grow(struct zipf *zipf, uint32_t count)
{
    for (uint32_t i = zipf->count; i < count; i++) {
        zipf->zeta += pow((double)i + 1, -zipf->theta);
    }
    double zeta_of_2 = 1 + pow(2, -zipf->theta);
    zipf->count = count;
    zipf->eta = (1 - pow(2.0 / count, 1 - zipf->theta)) / (1 - zeta_of_2 / zipf->zeta);
}

uint32_t zipf_next(const struct zipf *zipf, struct chance *chance)
{
    double u = chance_fraction(chance);
    double uz = u * zipf->zeta;
    if (uz < 1 || zipf->count < 3) {
        return uz < 1 ? 0 : chance_below(chance, zipf->count);
    }
    if (uz < 1 + pow(0.5, zipf->theta)) {
        return 1;
    }
    uint32_t item =
        (uint32_t)((double)zipf->count * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
    return item < zipf->count ? item : zipf->count - 1;
}

uint32_t zipf_scramble(uint32_t item, uint32_t count)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ ((item >> (8 * i)) & 0xff)) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(hash % count);
}

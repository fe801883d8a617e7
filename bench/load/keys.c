/* See keys.h. */
#include "bench/load/keys.h"

#include <string.h>

/* Any, and always the same: runs that are compared ask for the same documents. */
#define SEED UINT64_C(0x9E3779B97F4A7C15)

void keys_init(struct keys *keys, uint32_t present, double theta)
{
    memset(keys, 0, sizeof *keys);
    keys->chance.state = SEED;
    keys->present = present;
    keys->next = present;
    zipf_init(&keys->zipf, present, theta);
}

uint32_t keys_popular(struct keys *keys)
{
    /* What was inserted later is left out: the popular ones stay the same during a run. */
    return zipf_scramble(zipf_next(&keys->zipf, &keys->chance), keys->zipf.count);
}

uint32_t keys_latest(struct keys *keys)
{
    return keys->present - 1 - zipf_next(&keys->zipf, &keys->chance);
}

uint32_t keys_insert(struct keys *keys)
{
    return keys->next++;
}

void keys_inserted(struct keys *keys, uint32_t key)
{
    keys->answered[key % KEYS_ON_THE_WAY] = true;
    while (keys->present < keys->next && keys->answered[keys->present % KEYS_ON_THE_WAY]) {
        keys->answered[keys->present % KEYS_ON_THE_WAY] = false;
        keys->present++;
    }
}

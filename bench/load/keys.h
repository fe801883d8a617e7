#ifndef HOLDFAST_BENCH_KEYS_H
#define HOLDFAST_BENCH_KEYS_H

/*
 * Which documents the operations of a run are about; shared by all its connections. One thread.
 *
 *     0 … present - 1     documents that are there: read them
 *     present … next - 1  inserts on their way, answered or not
 */

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/zipf.h"

/* At most as many inserts may be on their way as there are connections. */
#define KEYS_ON_THE_WAY 65536u

struct keys {
    struct chance chance;
    struct zipf zipf;
    uint32_t present;
    uint32_t next;
    bool answered[KEYS_ON_THE_WAY]; /* by number, modulo their count */
};

/* `present` documents, from 0; at least 1. */
void keys_init(struct keys *keys, uint32_t present, double theta);
/* A document, the popular ones more often. */
uint32_t keys_popular(struct keys *keys);
/* The same, where the latest are the popular ones. */
uint32_t keys_latest(struct keys *keys);
/* The number of a document that is to be inserted; it is there from keys_inserted() on. */
uint32_t keys_insert(struct keys *keys);
void keys_inserted(struct keys *keys, uint32_t key);

#endif

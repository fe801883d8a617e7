#ifndef HOLDFAST_OBSERVE_TOP_K_H
#define HOLDFAST_OBSERVE_TOP_K_H

/*
 * The most frequent keys of a stream in bounded memory: the space-saving method of Metwally,
 * Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams"
 * (ICDT 2005). A key that is not counted yet takes the place of the rarest when all are taken, and
 * its count too, as its error:
 *
 *     count - error <= true count <= count,   error <= N / capacity after N counts,
 *     and every key that came more often than N / capacity is there.
 *
 * An item is the head of a larger struct of the caller's, which lives in the table's memory; what
 * stands behind the head is the caller's, zeroed at first.
 *
 *     heap of items, the rarest first            buckets by hash: chains of items
 *
 * Thread: one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct top_k_item {
    uint64_t hash;
    uint64_t count; /* at least 1 */
    uint64_t error; /* by how much `count` may be too high */
    /* private */
    size_t heap_at;
    struct top_k_item *next;
};

struct top_k {
    size_t capacity; /* a power of two */
    size_t item_bytes;
    size_t used;
    unsigned char *items;
    struct top_k_item **heap;
    struct top_k_item **buckets;
};

/* False: out of memory. `capacity` is a power of two. */
bool top_k_init(struct top_k *top, size_t capacity, size_t item_bytes);
void top_k_destroy(struct top_k *top);

/* The item of a key, or NULL. `equal` tells whether an item of this hash is the key's. */
struct top_k_item *top_k_find(const struct top_k *top, uint64_t hash,
                              bool (*equal)(const struct top_k_item *item, const void *key),
                              const void *key);

/* Counts it once more. */
void top_k_count(struct top_k *top, struct top_k_item *item);

/*
 * A place for a key that was not found, counted once. *ret_taken_over: it was the rarest's; behind
 * the head still stands what that left, for the caller to give back.
 */
struct top_k_item *top_k_place(struct top_k *top, uint64_t hash, bool *ret_taken_over);

/* All items, `at` < used, in no order. */
struct top_k_item *top_k_at(const struct top_k *top, size_t at);

#endif

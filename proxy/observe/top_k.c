/*
 * The space-saving method (top_k.h).
 *
 * Invariants: heap[i]->count <= heap[2i + 1]->count and heap[2i + 2]->count, heap[i]->heap_at == i;
 * each used item is in the chain of its hash, once.
 */
#include "observe/top_k.h"

#include <stdlib.h>

bool top_k_init(struct top_k *top, size_t capacity, size_t item_bytes)
{
    *top = (struct top_k){
        .capacity = capacity,
        .item_bytes = item_bytes,
        .items = calloc(capacity, item_bytes),
        .heap = calloc(capacity, sizeof(struct top_k_item *)),
        .buckets = calloc(capacity, sizeof(struct top_k_item *)),
    };
    if (top->items == NULL || top->heap == NULL || top->buckets == NULL) {
        top_k_destroy(top);
        return false;
    }
    return true;
}

void top_k_destroy(struct top_k *top)
{
    free(top->items);
    free((void *)top->heap);
    free((void *)top->buckets);
    *top = (struct top_k){.used = 0};
}

static struct top_k_item **bucket_of(const struct top_k *top, uint64_t hash)
{
    /* The lowest bits may have chosen among several tables. */
    return &top->buckets[(hash >> 8) & (top->capacity - 1)];
}

struct top_k_item *top_k_find(const struct top_k *top, uint64_t hash,
                              bool (*equal)(const struct top_k_item *item, const void *key),
                              const void *key)
{
    struct top_k_item *item = *bucket_of(top, hash);
    while (item != NULL && (item->hash != hash || !equal(item, key))) {
        item = item->next;
    }
    return item;
}

static void swap(struct top_k *top, size_t left, size_t right)
{
    struct top_k_item *item = top->heap[left];
    top->heap[left] = top->heap[right];
    top->heap[right] = item;
    top->heap[left]->heap_at = left;
    top->heap[right]->heap_at = right;
}

static void sift_down(struct top_k *top, size_t at)
{
    for (;;) {
        size_t rarest = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < top->used; child++) {
            if (top->heap[child]->count < top->heap[rarest]->count) {
                rarest = child;
            }
        }
        if (rarest == at) {
            return;
        }
        swap(top, at, rarest);
        at = rarest;
    }
}

static void sift_up(struct top_k *top, size_t at)
{
    while (at > 0 && top->heap[at]->count < top->heap[(at - 1) / 2]->count) {
        swap(top, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

void top_k_count(struct top_k *top, struct top_k_item *item)
{
    item->count++;
    sift_down(top, item->heap_at);
}

static void chain(struct top_k *top, struct top_k_item *item, uint64_t hash)
{
    struct top_k_item **bucket = bucket_of(top, hash);
    item->hash = hash;
    item->next = *bucket;
    *bucket = item;
}

struct top_k_item *top_k_place(struct top_k *top, uint64_t hash, bool *ret_taken_over)
{
    struct top_k_item *item = NULL;
    *ret_taken_over = top->used == top->capacity;
    if (!*ret_taken_over) {
        item = (struct top_k_item *)(void *)(top->items + top->used * top->item_bytes);
        item->count = 1;
        item->heap_at = top->used;
        top->heap[top->used++] = item;
        chain(top, item, hash);
        sift_up(top, item->heap_at);
        return item;
    }
    item = top->heap[0];
    struct top_k_item **link = bucket_of(top, item->hash);
    while (*link != item) {
        link = &(*link)->next;
    }
    *link = item->next;
    item->error = item->count;
    chain(top, item, hash);
    top_k_count(top, item);
    return item;
}

struct top_k_item *top_k_at(const struct top_k *top, size_t at)
{
    return top->heap[at];
}

#ifndef HOLDFAST_TELEMETRY_POSTER_H
#define HOLDFAST_TELEMETRY_POSTER_H

/*
 * A ring of things to tell and a thread that tells them by HTTP POST.
 *
 *   poster_put() --> ring --> up to `batch` at a time, as soon as so many are there or the oldest
 *                             has waited wait_ms --> make() --> POST --> 2xx: delivered
 *                                  ^                              |
 *                                  '-- after a pause, tries_max --'  else: failed, dropped
 *
 * A receiver that is down or slow holds up this thread only; meanwhile the ring fills, and what
 * finds no place is dropped. 4xx other than 408 and 429 is not tried again: it would be refused
 * again. Every item is counted once: delivered, failed or dropped.
 *
 * Threads: poster_put() any; it holds a mutex for a copy. Start and stop on one.
 */

#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"

struct poster;

struct poster_options {
    const char *name; /* for the log: "trace.endpoint"; a literal */
    const char *url;
    const char *secret; /* "" or NULL: none; else Authorization: Bearer */
    size_t item_bytes;
    size_t ring_size;
    size_t batch;
    uint64_t wait_ms;
    uint64_t retry_ms; /* the first pause; each next is twice as long, up to retry_ms_max */
    uint64_t retry_ms_max;
    unsigned tries_max;
    /* The body, of bson_malloc(); NULL: out of memory. On the poster's thread. */
    char *(*make)(void *context, const void *items, size_t count);
    void *context;
};

/* The URL and the secret are copied. Errors: STATUS_INVALID, STATUS_MEMORY, STATUS_IO. */
MUST_CHECK enum status poster_start(const struct poster_options *options,
                                    struct poster **ret_poster, struct error *ret_error);

/* Sends what is left, for `wait_ms` at most. NULL is harmless; returns NULL. */
struct poster *poster_stop(struct poster *poster, uint64_t wait_ms);

/* Never blocks on the receiver. */
void poster_put(struct poster *poster, const void *item);

struct poster_figures {
    uint64_t delivered;
    uint64_t failed;  /* given up after its tries, or refused */
    uint64_t dropped; /* the ring was full */
    size_t waiting;
};

void poster_figures_get(struct poster *poster, struct poster_figures *ret_figures);

#endif

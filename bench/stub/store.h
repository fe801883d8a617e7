#ifndef HOLDFAST_BENCH_STORE_H
#define HOLDFAST_BENCH_STORE_H

/*
 * The stub service's pool of connections to MongoDB, or to holdfastd. A connection has one write
 * on its way; writes that find none free wait, first come first served. One thread, that of the
 * event loop.
 *
 * Each write is an update with upsert of one document by _id, as people's services make them:
 * without a session, in DOCUMENTS_DATABASE. Documents are taken in turn, so that writes that are at
 * work at the same time are of distinct documents.
 */

#include <stdint.h>

#include "bench/stub/watched.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "net/listener.h"

#define STORE_COLLECTION "calls"

struct store;

/* A write that was asked for; lies in the memory of who asked. */
struct store_write {
    /* Called once, from the loop; `error` is NULL, or why the write was refused. */
    void (*done)(struct store_write *write, const struct error *error);
    struct slice traceparent; /* for its comment; size 0: none. Valid until done() */
    struct store_write *next; /* private */
};

/*
 * Connects `connections` times and watches them in `epoll`. Errors: as link_open(), STATUS_MEMORY,
 * STATUS_IO.
 */
MUST_CHECK enum status store_open(const struct network_address *address, uint32_t connections,
                                  uint32_t documents, uint32_t first_document, int epoll,
                                  struct store **ret_store, struct error *ret_error);
/* No write is at work whose memory will be used again. NULL is harmless; returns NULL. */
struct store *store_close(struct store *store);

/* Sends it, or keeps it until a connection is free. Errors: STATUS_UNREACHABLE, STATUS_MEMORY. */
MUST_CHECK enum status store_begin(struct store *store, struct store_write *write,
                                   struct error *ret_error);

/* Something came on a connection of its. Errors: it ended (STATUS_UNREACHABLE), STATUS_PROTOCOL. */
MUST_CHECK enum status store_readable(struct store *store, struct watched *watched,
                                      struct error *ret_error);

#endif

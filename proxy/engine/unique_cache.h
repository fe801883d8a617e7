#ifndef HOLDFAST_ENGINE_UNIQUE_CACHE_H
#define HOLDFAST_ENGINE_UNIQUE_CACHE_H

/*
 * What a namespace is and which unique indexes it has: asked of the server when a unit writes
 * there, by the proxy's own connection, so that a client needs no right to list indexes; remembered
 * for UNIQUE_CACHE_MS, and until a command that may change them passes the proxy. An index that is
 * created around the proxy is seen that much later. Where the proxy's own user may not list
 * collections, all of them count as ordinary ones.
 *
 * Such a command passes only while no unit is inside its namespace's gate (unit/gate.h), and a unit
 * asks only inside: so an answer is never older than the last such command.
 *
 * Memory: UNIQUE_CACHE_COUNT_MAX namespaces. Threads: any; one of its own asks the server.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/namespace_kind.h"
#include "engine/unique_keys.h"
#include "holdfast/error.h"

#define UNIQUE_CACHE_MS 5000u
#define UNIQUE_CACHE_COUNT_MAX 1024u

struct unique_cache;

/* A question; lies in the caller's memory until `answered`. */
struct unique_lookup {
    const char *database; /* valid until `answered`, as the next */
    const char *collection;
    /* Called on the cache's thread, once for each unique_cache_get() that returned false. */
    void (*answered)(struct unique_lookup *lookup);
    /* The answer. */
    enum status status;
    struct error error;             /* unless status is STATUS_OK */
    enum namespace_kind kind;       /* STATUS_OK */
    bool listed;                    /* STATUS_OK: the server has let us list it: kind is certain */
    bool collated;                  /* STATUS_OK: namespace_is_collated() */
    bool validated;                 /* STATUS_OK: namespace_is_validated() */
    struct unique_indexes *indexes; /* STATUS_OK: the caller's, to unique_indexes_release() */
    /* private */
    struct unique_lookup *next;
};

/* `uri` and `connect_ms`: as for upstream_open(). STATUS_MEMORY, STATUS_IO: no thread. */
MUST_CHECK enum status unique_cache_start(const char *uri, uint64_t connect_ms,
                                          struct unique_cache **ret_cache, struct error *ret_error);
/* Nobody may be waiting for an answer. NULL is harmless; returns NULL. */
struct unique_cache *unique_cache_stop(struct unique_cache *cache);

/*
 * True: the answer is in *lookup at once, with STATUS_OK. False: `answered` will be called; the
 * errors are STATUS_UNREACHABLE, STATUS_REFUSED (the server does not let the proxy's own user
 * look), STATUS_PROTOCOL and STATUS_MEMORY.
 */
bool unique_cache_get(struct unique_cache *cache, struct unique_lookup *lookup);

/* Forgets the namespaces of a gate; all of them for GATE_SERVER. */
void unique_cache_forget(struct unique_cache *cache, uint32_t gate);

#endif

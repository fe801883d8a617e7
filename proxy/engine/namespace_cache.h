#ifndef HOLDFAST_ENGINE_NAMESPACE_CACHE_H
#define HOLDFAST_ENGINE_NAMESPACE_CACHE_H

/*
 * Which namespaces are views, and of what: what a reader has to know to tell which collections its
 * command reads. Asked of the server by the proxy's own connection, so that a client needs no right
 * to list collections; remembered for NAMESPACE_CACHE_MS, and until a command that may make another
 * thing of the namespace passes the proxy. What is made around the proxy counts that much later.
 *
 * No window. A reader resolves, then the server evaluates; a command may come between that makes a
 * view of the name. Each such command counts up the *generation* before it leaves and when its
 * reply is there, and while it is on its way namespace_cache_is_changing() says so:
 *
 *     reader:   generation, not changing?, what it is  ->  send  ->  reply  ->  same generation?
 *     command:  generation++, changing  ->  send  ->  reply  ->  generation++
 *
 * A reader that finds something changing knows nothing of any namespace.
 *
 * Looking at a collection costs a hash of its name and a few atomic loads; at a view, a mutex.
 *
 * Memory: 128 KiB, and NAMESPACE_CACHE_VIEWS_MAX views. Threads: any; one of its own asks the
 * server.
 */

#include <bson/bson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"

#define NAMESPACE_CACHE_MS 60000u
#define NAMESPACE_CACHE_VIEWS_MAX 1024u

struct namespace_cache;

/* Never changes. */
struct view_definition {
    atomic_uint references; /* private */
    char *view_on;          /* a collection or view of the same database */
    bson_t *pipeline;       /* the array */
    bson_t *collation;      /* empty: simple */
};

/* NULL is harmless; returns NULL. */
struct view_definition *view_definition_release(struct view_definition *view);

enum namespace_known {
    NAMESPACE_KNOWN_NOTHING,    /* ask */
    NAMESPACE_KNOWN_COLLECTION, /* or there is none */
    NAMESPACE_KNOWN_VIEW,
    NAMESPACE_KNOWN_REFUSED, /* the server does not let the proxy's own user list collections */
};

/* `uri` and `connect_ms`: as for upstream_open(). STATUS_MEMORY, STATUS_IO: no thread. */
MUST_CHECK enum status namespace_cache_start(const char *uri, uint64_t connect_ms,
                                             struct namespace_cache **ret_cache,
                                             struct error *ret_error);
/* From now on the server is not asked any more, and the answer comes at once, from the thread that
   asks: nothing is known. NULL is harmless. */
void namespace_cache_stop(struct namespace_cache *cache);
/* It was stopped, and nobody looks at it any more. NULL is harmless; returns NULL. */
struct namespace_cache *namespace_cache_free(struct namespace_cache *cache);

/* *ret_view: of a VIEW, for view_definition_release(). */
enum namespace_known namespace_cache_find(struct namespace_cache *cache, const char *database,
                                          const char *collection,
                                          struct view_definition **ret_view);

/* A question; lies in the caller's memory until `answered`. */
struct namespace_lookup {
    const char *database; /* valid until `answered`, as the next */
    const char *collection;
    /* Called once, on the cache's thread, if that is not stopped. */
    void (*answered)(struct namespace_lookup *lookup);
    /* The answer. */
    enum namespace_known known;   /* NOTHING: the server cannot be asked */
    struct view_definition *view; /* VIEW: the caller's */
    /* private */
    struct namespace_lookup *next;
};

void namespace_cache_ask(struct namespace_cache *cache, struct namespace_lookup *lookup);

/* ---- commands that may make another thing of a namespace; `name_hash` 0: of any */

/* Before it leaves. */
void namespace_cache_changing(struct namespace_cache *cache, uint64_t name_hash);
/* Its reply is there, or never comes. */
void namespace_cache_changed(struct namespace_cache *cache, uint64_t name_hash);
uint64_t namespace_cache_hash(const struct namespace_cache *cache, const char *database,
                              const char *collection);

uint64_t namespace_cache_generation(const struct namespace_cache *cache);
bool namespace_cache_is_changing(const struct namespace_cache *cache);

#endif

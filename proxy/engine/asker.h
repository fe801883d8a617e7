#ifndef HOLDFAST_ENGINE_ASKER_H
#define HOLDFAST_ENGINE_ASKER_H

/*
 * What a cache's thread asks the server with: the proxy's own connection, opened with the first
 * question. For questions only: one may be sent a second time.
 *
 * Threads: the one that asks.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "upstream/upstream.h"

/* Lies in the cache. */
struct asker {
    char *uri;
    uint64_t connect_ms;
    struct upstream *upstream; /* NULL: nothing was asked yet */
};

/* `uri` and `connect_ms`: as for upstream_open(). False: out of memory, and nothing is to be freed.
 */
bool asker_init(struct asker *asker, const char *uri, uint64_t connect_ms);
/* At the end of the thread that asks: the connection goes. */
void asker_close(struct asker *asker);
/* It was closed, or nothing was ever asked. */
void asker_free(struct asker *asker);

/* As upstream_command(); errors of upstream_open() besides. */
MUST_CHECK enum status asker_command(struct asker *asker, const char *database,
                                     const bson_t *command, bson_t *ret_reply, int32_t *ret_code,
                                     struct error *ret_error);

/* listCollections, of this one: what namespace_kind.h reads. */
MUST_CHECK enum status asker_list_collection(struct asker *asker, const char *database,
                                             const char *collection, bson_t *ret_reply,
                                             struct error *ret_error);

#endif

#ifndef HOLDFAST_ENGINE_NAMESPACE_KIND_H
#define HOLDFAST_ENGINE_NAMESPACE_KIND_H

/* What a namespace is, as far as writes in units differ by it. Pure; any thread. */

#include <bson/bson.h>
#include <stdbool.h>

enum namespace_kind {
    NAMESPACE_COLLECTION, /* an ordinary one, or none yet */
    NAMESPACE_CAPPED,
    NAMESPACE_TIME_SERIES,
    NAMESPACE_VIEW,
};

/*
 * From the server's reply to listCollections with the name as filter. Where the reply tells nothing
 * that is understood: NAMESPACE_COLLECTION.
 */
enum namespace_kind namespace_kind_parse(const bson_t *reply);

/* From the same reply: it was made with a collation by which texts that differ can be equal. */
bool namespace_is_collated(const bson_t *reply);

/* From the same reply: documents are validated, so that the server may refuse any write there. */
bool namespace_is_validated(const bson_t *reply);

/* Whether mongod keeps transactions out of it: the databases admin, config and local. */
bool namespace_is_internal_database(const char *database);

/* The same of writes: those databases, and the collections system.*. */
bool namespace_is_internal(const char *database, const char *collection);

#endif

#ifndef HOLDFAST_TESTS_SIM_DATABASE_H
#define HOLDFAST_TESTS_SIM_DATABASE_H

/*
 * The documents of the simulated server, and the few operators that it and the model know; written
 * without a look at the product's own (proxy/engine/apply_update.c).
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "sim.h"

/* ---- operators (operators.c), on documents that are given and made as bson_t */

/* {_id: value} in `document`; false: it has none. */
bool operators_id(const bson_t *document, bson_iter_t *ret_id);
bool operators_same_value(const bson_iter_t *a, const bson_iter_t *b);
/* Whether the filter selects the document. *ret_unknown is set to what it does not understand. */
bool operators_match(const bson_t *document, const bson_t *filter, const char **ret_unknown);
/*
 * What the update (operators, a replacement, or a pipeline of $replaceWith) makes of `before`, NULL
 * for an upsert that inserts, which takes over equalities of `filter`. A new document, or NULL with
 * *ret_unknown.
 */
bson_t *operators_apply(const bson_t *before, const bson_t *filter, const bson_iter_t *update,
                        int64_t now_ms, const char **ret_unknown);

/* ---- documents (database.c) */

/* Whoever changed a document: a client's command by its tag, 0: the proxy itself. */
typedef void database_watch(const char *namespace, const bson_t *key, const bson_t *before,
                            const bson_t *after, uint64_t tag);

/* A crash takes the newest change of the document back. */
typedef void database_watch_lost(const char *namespace, const bson_t *key);

void database_watch_with(database_watch *watch, database_watch_lost *watch_lost);
/* The document with this _id; false: there is none. *ret_document is a view. */
bool database_find(const char *namespace, const bson_iter_t *id, bson_t *ret_document);
size_t database_count(const char *namespace);
void database_get(const char *namespace, size_t index, bson_t *ret_document);
/* `after` NULL: removes it. */
void database_put(const char *namespace, const bson_iter_t *id, const bson_t *after, uint64_t tag);
void database_drop(const char *namespace);
/* "database.collection" of the index-th collection; NULL: no more. */
const char *database_namespace(size_t index);
/* Everything so far survives a crash of the server. */
void database_sync(void);
/* It crashes: what was not synced is lost, from a random moment on. */
void database_crash(void);
void database_reset(void);

#endif

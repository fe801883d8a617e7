#ifndef HOLDFAST_MIGRATE_CONFLICTS_H
#define HOLDFAST_MIGRATE_CONFLICTS_H

/*
 * Documents that could not be undone, in their migration's row; private to this folder.
 *
 * Threads: pure.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "holdfast/slice.h"
#include "migrate/migrate.h"
#include "migrate/row.h"

/* Appends the _id of `key`, a document {_id: value}, under `name`; nothing if it has none. */
void conflict_put_key(bson_t *target, const char *name, struct slice key);

/* `set` with the row's conflicts and these: all are counted, the first hundred kept. */
void conflicts_put(const struct row *row, bson_t *set, const struct migrate_conflict *conflicts,
                   size_t count);

/* A later step of the migration has met it already. As far as conflicts are kept. */
bool conflict_is_known(const struct row *row, const char *namespace, struct slice key);

#endif

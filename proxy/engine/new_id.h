#ifndef HOLDFAST_ENGINE_NEW_ID_H
#define HOLDFAST_ENGINE_NEW_ID_H

/*
 * The _id of a document that an upsert will make, where its filter does not say it: it must be in
 * the journal before the document is on the server. Pure; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "engine/statement.h"

/* Whether it is an expression of a pipeline: then what it yields is not known before the write. */
bool new_id_is_computed(const struct statement *statement);

/* Appends {_id: value} to *ret_key: what the update says, else a new ObjectId. */
void new_id_make(const struct statement *statement, bson_t *ret_key);

#endif

#ifndef HOLDFAST_ENGINE_EQUALITY_H
#define HOLDFAST_ENGINE_EQUALITY_H

/* The part of a filter that fixes fields to values: what an upsert puts into a new document. */

#include <bson/bson.h>
#include <stdbool.h>

#include "holdfast/slice.h"

/*
 * Appends to *equalities, sorted by name, the fields that the filter sets equal to a value, at its
 * top level and within $and: {a: 1}, {a: {$eq: 1}}. `filter` must have passed bson_check().
 */
void equality_collect(struct slice filter, bson_t *equalities);

/* True if they fix _id; then *ret_key, empty and initialised, becomes {_id: value}. */
bool equality_key(const bson_t *equalities, bson_t *ret_key);

/*
 * The same of a filter, if one document at most has that _id: null also finds what has none, an
 * array what holds it.
 */
bool equality_names_one(struct slice filter, bson_t *ret_key);

#endif

#ifndef HOLDFAST_ENGINE_ID_LIST_H
#define HOLDFAST_ENGINE_ID_LIST_H

/* Arrays of _ids, for filters and of what a search found. Pure; any thread. */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

/* Appends this _id, as the one of number *count, which counts up. */
void id_list_append(bson_t *ids, uint32_t *count, const bson_iter_t *id);
/* The same of a document, or of a key {_id: value}. False: it has none, and nothing was appended.
 */
bool id_list_append_of(bson_t *ids, uint32_t *count, struct slice document);

/*
 * Drops those of the `count` _ids in the array *ids that stand in it before: a search takes no
 * snapshot, so a document that others move along its index meanwhile may be found twice. What
 * MongoDB takes for equal (1 and 1.0) is one _id. STATUS_MEMORY: nothing has changed.
 */
MUST_CHECK enum status id_list_drop_repeated(bson_t *ids, uint32_t count);

#endif

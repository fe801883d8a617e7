#ifndef HOLDFAST_ENGINE_ID_LIST_H
#define HOLDFAST_ENGINE_ID_LIST_H

/* The _ids that a multi write's search found. Pure; any thread. */

#include <bson/bson.h>
#include <stdint.h>

#include "holdfast/error.h"

/*
 * Drops those of the `count` _ids in the array *ids that stand in it before: a search takes no
 * snapshot, so a document that others move along its index meanwhile may be found twice. What
 * MongoDB takes for equal (1 and 1.0) is one _id. STATUS_MEMORY: nothing has changed.
 */
MUST_CHECK enum status id_list_drop_repeated(bson_t *ids, uint32_t count);

#endif

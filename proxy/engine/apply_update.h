#ifndef HOLDFAST_ENGINE_APPLY_UPDATE_H
#define HOLDFAST_ENGINE_APPLY_UPDATE_H

/*
 * What an update makes of a document, computed here.
 *
 * A write whose after-image is known beforehand is journaled with both images and sent in a form
 * that every server finds by its _id index (command_build_replace()). Computed are replacements,
 * and $set, $unset, $inc and $setOnInsert on paths through plain sub-documents: what services send
 * most. Anything else, and anything doubtful, is the server's to compute: nothing is guessed.
 *
 * Pure; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "engine/statement.h"
#include "holdfast/slice.h"
#include "upstream/update_rules.h"

/*
 * `before`: the document, or size 0 if an upsert is to make it; then `key` is {_id: value} of the
 * document to be. `rules`: the server's; what depends on an unknown one is not computed. True:
 * *ret_after, an empty, initialised document, holds the after-image. False: not computed here;
 * *ret_after is empty.
 */
bool apply_update(const struct statement *statement, struct slice before, struct slice key,
                  const struct update_rules *rules, bson_t *ret_after);

#endif

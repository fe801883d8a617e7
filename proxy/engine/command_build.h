#ifndef HOLDFAST_ENGINE_COMMAND_BUILD_H
#define HOLDFAST_ENGINE_COMMAND_BUILD_H

/*
 * The commands that carry out one statement on one document.
 *
 *   resolve   { find, filter: the client's, sort, limit: 1 ... }      which document, and its image
 *   apply     { findAndModify, query: {$and: [the client's filter, {_id}, guard]}, update, new:
 * true } guard: {$expr: {$eq: ["$$ROOT", {$literal: before-image}]}} so that what was journaled is
 * what changes, and the reply is the exact after-image remove    { findAndModify, query: {$and:
 * [{_id}, guard]}, remove: true } insert    { insert, documents: [...], ordered: true }
 *
 * All functions append to an empty, initialised document. Slices must be whole, checked documents.
 */

#include <bson/bson.h>

#include "engine/statement.h"
#include "holdfast/slice.h"

struct command_target {
    const char *database;
    const char *collection;
    bool bypass_validation;
    int64_t max_time_ms; /* 0: none */
};

void command_build_resolve(bson_t *command, const struct command_target *target,
                           const struct statement *statement);

/* { find, filter: key, limit: 1, projection } ; `projection` may have size 0. */
void command_build_find_key(bson_t *command, const struct command_target *target, struct slice key,
                            struct slice projection);

/*
 * The repeatable command of an update without guard and $db, as the journal keeps it.
 * `key_in_filter`: the filter itself fixes _id (an upsert must not name it twice).
 * `insert`: the document is absent and the upsert is to make it; else it must be there, and the
 * command never inserts.
 */
void command_build_update(bson_t *command, const struct command_target *target,
                          const struct statement *statement, struct slice key, bool key_in_filter,
                          bool insert);

/*
 * `command`: from command_build_update(). Adds $db and the guard: the document equals `before`, or,
 * if `before` has size 0, no document matches at all, so that an upsert can only insert (a server
 * takes no $expr there).
 */
void command_build_guarded(bson_t *guarded, const struct command_target *target,
                           struct slice command, struct slice before);

void command_build_remove(bson_t *command, const struct command_target *target, struct slice key,
                          struct slice before);

void command_build_insert(bson_t *command, const struct command_target *target,
                          const struct slice *documents, size_t count);

#endif

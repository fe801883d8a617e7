#ifndef HOLDFAST_ENGINE_COMMAND_BUILD_H
#define HOLDFAST_ENGINE_COMMAND_BUILD_H

/*
 * The commands that carry out one statement.
 *
 *   resolve   { find, filter: the client's, sort, limit: 1 ... }    which document, and its image
 *   collect   { find, filter: the client's, projection: {_id: 1} }  which documents of a multi
 * write images    { find, filter: {$and: [{_id: {$in}}, the client's filter]} }   and their images
 *   select    { aggregate, pipeline: [images, {$match: the client's filter} ...] }
 *                                                                   which images of documents that
 *                                                                   others hide it selects
 *   replace   { update, updates: [ {q: {_id}, u: [ {$replaceWith: {$cond: [guard, after,
 *             "$$ROOT"]}} ]} ... ] }                                where the after-image is known
 *   apply     { findAndModify, query: {$and: [{_id}, guard]}, update, new: true }
 *                                                                   where the server computes it;
 *             with the client's filter as well for an upsert's insert and for `a.$`
 *   remove    { delete, deletes: [ {q: {_id: {$in}, guard}} ] }
 *   insert    { insert, documents: [...] }
 *
 * The guard, {$eq: ["$$ROOT", {$literal: before-image}]}, makes that what was journaled is what
 * changes. It stands inside the pipeline where it can, for some servers use the _id index only for
 * a filter of exactly _id.
 *
 * All functions append to an empty, initialised document. Slices must be whole, checked documents.
 */

#include <bson/bson.h>

#include "engine/statement.h"
#include "holdfast/slice.h"
#include "wire/overlay.h"

struct command_target {
    const char *database;
    const char *collection;
    bool bypass_validation;
    int64_t max_time_ms; /* 0: none */
};

void command_build_resolve(bson_t *command, const struct command_target *target,
                           const struct statement *statement);

/*
 * The statement upon an _id that nothing has: it changes nothing, and is an error if the server
 * finds its update, array filters or projection wrong in themselves.
 */
void command_build_probe(bson_t *command, const struct command_target *target,
                         const struct statement *statement, bool find_and_modify,
                         struct slice projection);

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

/* The same without the guard. */
void command_build_unguarded(bson_t *command, const struct command_target *target,
                             struct slice update);

/* One document of a command that changes several. */
struct command_document {
    struct slice key; /* {_id: value} */
    struct slice before;
    struct slice after; /* replace only */
};

/* Each document that still is `before` becomes `after`; n counts those found, nModified those that
   changed. Stops at the first error. */
void command_build_replace(bson_t *command, const struct command_target *target,
                           const struct command_document *documents, size_t count);

/* Removes each document that still is `before`, or whatever is there if the one document's `before`
   has size 0; n counts them. The guard costs count * count: keep
   it to about a hundred. */
void command_build_remove(bson_t *command, const struct command_target *target,
                          const struct command_document *documents, size_t count);

void command_build_insert(bson_t *command, const struct command_target *target,
                          const struct slice *documents, size_t count, bool ordered);

/* ---- multi writes: `ids` is an array of _id values */

void command_build_collect(bson_t *command, const struct command_target *target,
                           const struct statement *statement, int32_t batch_count);
void command_build_images(bson_t *command, const struct command_target *target,
                          const struct statement *statement, const bson_t *ids);
/*
 * { aggregate, pipeline: [the images as literals, {$match: the client's filter}, {$project: {_id:
 * 1}}] }: which of the images the statement would find in the collection; `one`: the first by its
 * sort. STATUS_MEMORY.
 */
MUST_CHECK enum status command_build_select_images(bson_t *command,
                                                   const struct command_target *target,
                                                   const struct statement *statement, bool one,
                                                   const struct overlay_image *images,
                                                   size_t image_count);
/*
 * { aggregate, pipeline: [{$match: {_id: {$in: ids}}}, the update's stages] }: what the statement's
 * pipeline makes of these documents; `ids` NULL: of `document`. STATUS_MEMORY.
 */
MUST_CHECK enum status command_build_evaluate(bson_t *command, const struct command_target *target,
                                              const struct statement *statement, const bson_t *ids,
                                              struct slice document);
/* { find, filter: {_id: {$in: ids}}, projection: {_id: 1} if `ids_only` } */
void command_build_find_ids(bson_t *command, const struct command_target *target, const bson_t *ids,
                            bool ids_only);
void command_build_get_more(bson_t *command, const struct command_target *target,
                            int64_t cursor_id);

#endif

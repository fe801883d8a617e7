#ifndef HOLDFAST_ENGINE_UNIQUE_KEYS_H
#define HOLDFAST_ENGINE_UNIQUE_KEYS_H

/*
 * The unique indexes of a namespace, and the locks that stand for a document's keys in them.
 *
 * A write that adds or removes a key of a unique index locks it until its unit ends: else another
 * write could take a value that a rollback has to restore. Two documents that the server would call
 * duplicates always share a lock. The reverse need not hold: where a key cannot be told exactly
 * (strings under a collation, index types other than ascending and descending, numeric path names)
 * one lock covers several keys or the whole index.
 *
 * The index on _id needs nothing, for the document's own lock stands for it; but where the
 * collection has a collation, texts that differ may be one _id: there it is like any other with a
 * collation, for _ids with text in them.
 *
 * A set is never changed after it is made and may be read by any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/statement.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "unit/lock_table.h"

struct unique_indexes;

/*
 * Takes the unique indexes from the server's reply to listIndexes. `collated`: of a collection for
 * which namespace_is_collated(). NULL: out of memory, or the reply is none of listIndexes or not
 * all of it. The caller gives it to unique_indexes_release().
 */
struct unique_indexes *unique_indexes_parse(const char *namespace, const bson_t *reply,
                                            bool collated);
/* The set of a namespace that does not exist. NULL: out of memory. */
struct unique_indexes *unique_indexes_none(void);

struct unique_indexes *unique_indexes_hold(struct unique_indexes *indexes);
/* The last one who lets go frees it. NULL is harmless; returns NULL. */
struct unique_indexes *unique_indexes_release(struct unique_indexes *indexes);

size_t unique_indexes_count(const struct unique_indexes *indexes);

/*
 * Whether an index, unique or not, may have no place for the document, whatever others hold: one of
 * a special kind for a value that it does not take, one of several fields for two arrays.
 */
bool unique_indexes_may_refuse(const struct unique_indexes *indexes, const bson_t *document);

/* Whether an update, which the server computes, may change a key. */
bool unique_indexes_touched(const struct unique_indexes *indexes,
                            const struct statement *statement);

/* Zero-initialised but for `count_max`; `names` is the caller's to free(). */
struct unique_keys {
    struct lock_name *names;
    size_t count;
    size_t count_max;
    size_t capacity;
};

/*
 * Adds the locks of all keys that the document has before or after a write that may change them.
 * Size 0: it is absent then. Both must have passed bson_check(). STATUS_MEMORY; STATUS_FULL: there
 * are more than count_max.
 */
MUST_CHECK enum status unique_keys_of_change(const struct unique_indexes *indexes,
                                             struct slice before, struct slice after,
                                             struct unique_keys *keys);

#endif

#ifndef HOLDFAST_BENCH_COMMANDS_H
#define HOLDFAST_BENCH_COMMANDS_H

/* The commands of the loads, as drivers would send them. Any thread. */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"

#define COMMANDS_SESSION_BYTES 16

/* Append to the empty document *command; numbers that change are put in later (script.c). */
void commands_find_one(bson_t *command, const char *collection);
/* The same by a filter that does not fix _id, as a serializable unit understands it. */
void commands_find_by_filter(bson_t *command, const char *collection);
void commands_find_all(bson_t *command, const char *collection, uint32_t count);
void commands_increment(bson_t *command, const char *collection);
/* The same of `count` documents in one command. */
void commands_increment_many(bson_t *command, const char *collection, uint32_t count);
void commands_set(bson_t *command, const char *collection);
/* Up to `limit` documents in the order of their _id, from one on. */
void commands_scan(bson_t *command, const char *collection, int32_t limit);
/* _id: an int64 (`wide_id`), or an int32. */
void commands_insert(bson_t *command, const char *collection, bool wide_id, const char *text);
/* `count` documents, from the _id `first` on, which stays as it is. */
void commands_insert_many(bson_t *command, const char *collection, uint32_t first, uint32_t count,
                          const char *text);
/* A change stream of one document; and what asks for its next events. */
void commands_watch(bson_t *command, const char *collection, int32_t document);
void commands_get_more(bson_t *command, const char *collection);

/* Appends to a write that it belongs to the unit of this name, and begins or ends it. */
void commands_put_unit(bson_t *command, const char *name, bool begin, bool last);

/* The stub service's write, ready to send. `traceparent` goes into its comment; size 0: none. */
void commands_upsert(bson_t *command, const char *collection, int32_t document,
                     struct slice traceparent);

/* Appends to the first command of a transaction that it is serializable. */
void commands_put_serializable(bson_t *command);

/* Appends what makes a command part of a transaction, its number still 0. */
void commands_put_transaction(bson_t *command, const uint8_t session[COMMANDS_SESSION_BYTES],
                              bool start);
/* `name`: commitTransaction or abortTransaction. */
void commands_end(bson_t *command, const char *name, const uint8_t session[COMMANDS_SESSION_BYTES]);

#endif

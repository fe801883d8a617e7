#ifndef HOLDFAST_ENGINE_WRITE_REPLY_H
#define HOLDFAST_ENGINE_WRITE_REPLY_H

/* The replies that mongod would give to write commands. */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/statement.h"
#include "holdfast/image.h"
#include "holdfast/slice.h"

/* What one statement has done, where the reply tells it. */
struct write_count {
    int32_t matched; /* an upsert's insert too */
    int32_t modified;
};

/* What the statements have done so far. Initialise with write_result_init(). */
struct write_result {
    int64_t matched;
    int64_t modified;
    bson_t upserted; /* array of {index, _id} */
    uint32_t upserted_count;
    bool updated_existing;
    bool has_value;
    bson_t value;  /* findAndModify */
    bson_t errors; /* the array writeErrors; findAndModify: the whole reply of the failure */
    uint32_t error_count;
    size_t error_bytes;
    bool stopped;             /* at the error: what follows was not tried */
    struct write_count *each; /* bulkWrite: of each statement; else NULL */
};

void write_result_init(struct write_result *result);
/* Counts each of `count` statements by itself, too. False: out of memory. */
bool write_result_count_each(struct write_result *result, size_t count);
/* Statement `index` has written a document. */
void write_result_count(struct write_result *result, size_t index, bool modified);
void write_result_free(struct write_result *result);
/* As if nothing had been done. `count`: of statements. */
void write_result_clear(struct write_result *result, size_t count);

/* `key` is {_id: value} of the document that statement `index` upserted. */
void write_result_upserted(struct write_result *result, size_t index, struct slice key);
/* Size 0: null. */
void write_result_value(struct write_result *result, struct slice document);

/*
 * Statement `index` failed on the server with `server_reply` (a reply with ok: 0, or with
 * writeErrors, of which the first counts).
 */
void write_result_error(struct write_result *result, enum statement_reply form, size_t index,
                        struct slice server_reply);
/* The same for the document of the array writeErrors. */
void write_result_write_error(struct write_result *result, enum statement_reply form, size_t index,
                              struct slice write_error);

/* Nothing was done and nothing failed so far. */
bool write_result_is_empty(const struct write_result *result);

/* Appends the reply of the command: what its statements did, and what failed. */
void write_reply_put(bson_t *reply, const struct statement_list *list,
                     const struct write_result *result);

/* The server's answer to an insert of a document whose _id exists, made here. `key`: {_id: value}.
 */
void write_reply_put_duplicate_id(bson_t *server_reply, const char *namespace, struct slice key);

#endif

#ifndef HOLDFAST_ENGINE_STATEMENT_H
#define HOLDFAST_ENGINE_STATEMENT_H

/*
 * Write commands taken apart: one statement for each document that may be written.
 *
 * All slices point into the command's message, which must outlive the list, or into the list
 * itself. Every sub-document that is taken over into a command or into the journal has been
 * validated. Time has become literals (literals.h): one time for the whole command.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "wire/command.h"
#include "wire/op_msg.h"

enum statement_kind {
    STATEMENT_INSERT,
    STATEMENT_UPDATE, /* operators, replacement or pipeline */
    STATEMENT_DELETE,
};

struct statement {
    enum statement_kind kind;
    uint32_t namespace_number; /* of the list's namespaces; 0 where it has none */
    struct slice document;     /* insert */
    struct slice filter;       /* update, delete; the empty document if absent */
    struct slice update;       /* update: a document, or an array if update_is_pipeline */
    bool update_is_pipeline;
    bool update_is_replacement;
    bool update_is_positional; /* "a.$": what it changes depends on how the filter matched */
    bool update_is_random;     /* holds $rand, to be replaced for each document */
    bool filter_is_random;     /* may choose other documents when it is evaluated again */
    bool upsert;
    bool multi;        /* every document that matches */
    struct slice sort; /* size 0: none; so all below */
    struct slice collation;
    struct slice array_filters; /* an array */
    bson_value_t hint;          /* BSON_TYPE_EOD: none; points into the message */
    struct slice variables;     /* let */
};

enum statement_reply {
    STATEMENT_REPLY_INSERT,          /* {n} */
    STATEMENT_REPLY_UPDATE,          /* {n, nModified, upserted} */
    STATEMENT_REPLY_DELETE,          /* {n} */
    STATEMENT_REPLY_FIND_AND_MODIFY, /* {lastErrorObject, value} */
    STATEMENT_REPLY_BULK,            /* {cursor: a result for each statement, counts} */
};

/* Texts belong to the list. */
struct statement_namespace {
    char *database;
    char *collection;
};

struct statement_list {
    enum statement_reply reply;
    struct statement *statements;
    size_t count;
    struct statement_namespace *namespaces; /* owned; NULL: all are in the command's own */
    size_t namespace_count;
    bool errors_only;   /* bulkWrite: results of what failed only */
    bson_t **rewritten; /* owned; what slices of statements point into */
    size_t rewritten_count;
    bool ordered; /* stops at the first error */
    bool bypass_validation;
    bool return_new;     /* findAndModify: new */
    struct slice fields; /* findAndModify: projection, size 0: none */
    int64_t max_time_ms;
};

/*
 * Parses the command in `view` and `message`. On failure *ret_code is the MongoDB error code for
 * the client and *ret_error the text; forms that units do not take yet are
 * OperationNotSupportedInTransaction. Give the list to statement_list_free().
 */
MUST_CHECK enum status statement_list_parse(const struct command_view *view,
                                            const struct op_msg *message,
                                            struct statement_list *ret_list, int *ret_code,
                                            struct error *ret_error);

void statement_list_free(struct statement_list *list);

/* Whether a write may write more than one document. What cannot be parsed may not. */
bool statement_is_several(const struct command_view *view, const struct op_msg *message);

#endif

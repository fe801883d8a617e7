#ifndef HOLDFAST_RECOVER_DOCUMENT_KEY_H
#define HOLDFAST_RECOVER_DOCUMENT_KEY_H

/*
 * Which document a write is of, for sorting and grouping; private to this folder.
 *
 * Two keys are one document if the server would say so: numbers that differ in type only (5 and
 * 5.0) are the same _id. A key of any other type is compared by its bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"

struct document_key {
    const char *namespace; /* borrowed, as `key` */
    bool whole;            /* the _id is a whole number: `number` decides, else `key` */
    int64_t number;
    struct slice key;
};

/* `key` is a document {_id: value}; both must outlive the result. */
struct document_key document_key_make(const char *namespace, struct slice key);

/* Below, equal to or above 0; a total order, by namespace first. */
int document_key_compare(const struct document_key *a, const struct document_key *b);

#endif

#ifndef HOLDFAST_RECOVER_CONFLICT_LIST_H
#define HOLDFAST_RECOVER_CONFLICT_LIST_H

/*
 * The documents of a unit that are in conflict, as they go into its CONFLICT record, within bounds:
 * more are counted, not shown. Private to this folder.
 */

#include <bson/bson.h>
#include <stddef.h>

#include "holdfast/error.h"
#include "recover/record.h"

/* Zeros are an empty list. */
struct conflict_list {
    struct record_conflict_document *shown; /* their images are owned */
    size_t shown_count;
    size_t capacity;
    size_t bytes; /* of the images */
    size_t left_out;
};

/* Takes over the images of *document, which is not used any more, also after STATUS_MEMORY. Its
   namespace and key must outlive the list. */
MUST_CHECK enum status conflict_list_add(struct conflict_list *list,
                                         struct record_conflict_document *document,
                                         struct error *ret_error);

/* Appends the payload of a CONFLICT record to *payload, an empty document. */
void conflict_list_put(const struct conflict_list *list, const char *reason, bson_t *payload);

void conflict_list_free(struct conflict_list *list);

/* The images that a document owns by now; for one that was not added. */
void conflict_document_free(struct record_conflict_document *document);

#endif

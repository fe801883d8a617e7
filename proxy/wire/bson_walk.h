#ifndef HOLDFAST_WIRE_BSON_WALK_H
#define HOLDFAST_WIRE_BSON_WALK_H

/*
 * Walks the elements of one BSON document that may be anything.
 *
 *     document:  length (4) | elements … | 0         element:  type (1) | name, NUL | value
 *
 * Why not libbson's bson_iter_t for bytes of a peer: it takes a sub-document of length 0 to 4,
 * whose bytes it then reads as the next elements while a server reads them otherwise, and for a few
 * types it looks a few bytes past the end before it refuses. Once bson_check() has accepted a
 * document, libbson is the tool for it.
 *
 *     struct slice fields;
 *     struct bson_element element;
 *     if (!bson_fields_open(document, &fields)) { refuse }
 *     while (bson_element_next(&fields, &element)) { … }
 *     if (fields.size != 0) { refuse: the walk stopped at broken bytes }
 *
 * Pure functions; any thread; nothing is allocated, nothing recurses.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct bson_element {
    bson_type_t type;
    const char *name; /* NUL-terminated, looks into the document */
    struct slice
        value;        /* its bytes as they stand in the document, of the right size for its type */
    struct slice raw; /* the whole element: type, name and value */
};

/* *ret_fields: the elements' bytes. False unless `document` is exactly one document. */
MUST_CHECK bool bson_fields_open(struct slice document, struct slice *ret_fields);

/* Cuts one element off. False, with nothing changed, at the end (size 0) and at broken bytes. */
MUST_CHECK bool bson_element_next(struct slice *fields, struct bson_element *ret_element);

/* The field `name` of `document`, false if it is not there or bytes before it are broken. */
MUST_CHECK bool bson_element_find(struct slice document, const char *name,
                                  struct bson_element *ret_element);

/* The bytes of the field `name` if that is a document; size 0: it is another type, or not there. */
struct slice bson_document_find(struct slice document, const char *name);

/* The text of a string value; NULL for another type and for a text with a NUL inside. */
const char *bson_element_text(const struct bson_element *element);

/* A whole number from an int32, an int64, or a double that is one; false for anything else. */
MUST_CHECK bool bson_element_integer(const struct bson_element *element, int64_t *ret_number);

/* The inner document or array of a code with scope; false for another type. */
MUST_CHECK bool bson_element_scope(const struct bson_element *element, struct slice *ret_scope);

/* Each field of each command is compared with dozens of names, and nearly all of them differ in the
   first byte: that is seen without a call. */
static inline bool bson_name_is(const char *name, const char *other)
{
    return name[0] == other[0] && strcmp(name, other) == 0;
}

static inline bool bson_element_is(const struct bson_element *element, const char *name)
{
    return bson_name_is(element->name, name);
}

/* `names` is ended by NULL. */
static inline bool bson_name_is_one_of(const char *name, const char *const *names)
{
    while (*names != NULL && !bson_name_is(name, *names)) {
        names++;
    }
    return *names != NULL;
}

#endif

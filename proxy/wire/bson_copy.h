#ifndef HOLDFAST_WIRE_BSON_COPY_H
#define HOLDFAST_WIRE_BSON_COPY_H

/*
 * Copying elements byte for byte.
 *
 * Why not bson_append_iter(): it writes some values anew. It sorts the options of a regular
 * expression and ends a code at its first NUL, so that another value is stored than was sent.
 *
 * Pure; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>

/* Appends the element that `at` stands on, its name included. False: `into` would be too large. */
bool bson_copy_element(bson_t *into, const bson_iter_t *at);

#endif

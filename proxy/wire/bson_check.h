#ifndef HOLDFAST_WIRE_BSON_CHECK_H
#define HOLDFAST_WIRE_BSON_CHECK_H

/*
 * The check that a document passes before it is stored, rewritten or handed to code that recurses.
 *
 * It visits every element on every level (code with scope included) without recursion: types,
 * lengths, terminators, each document ending exactly where it says, nesting no deeper than
 * LIMIT_BSON_DEPTH. Not checked: UTF-8 (servers store strings that are none, and an image must be
 * kept byte for byte) and the names of array elements.
 *
 * Errors: STATUS_INVALID with a sentence that gives the offset. Pure; any thread; about 20 KiB of
 * stack.
 */

#include "holdfast/error.h"
#include "holdfast/slice.h"

MUST_CHECK enum status bson_check(struct slice document, struct error *ret_error);

#endif

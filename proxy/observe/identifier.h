#ifndef HOLDFAST_OBSERVE_IDENTIFIER_H
#define HOLDFAST_OBSERVE_IDENTIFIER_H

/* Whether a segment of a path (of a URL, of a field) names one thing rather than a kind. Pure. */

#include <stdbool.h>

#include "holdfast/slice.h"

/* Longer segments that hold a digit: "2024-01-01T10:00:00Z", "pod-7f9c6d5b4-abcde-xyz". */
#define IDENTIFIER_DIGITS_BYTES 20u
/* Longer segments, whatever they hold, and hexadecimal ones from here on. */
#define IDENTIFIER_BYTES_MAX 64u
#define IDENTIFIER_HEX_BYTES 16u

/*
 * True: a number, a UUID, hexadecimal of IDENTIFIER_HEX_BYTES and more, anything longer than
 * IDENTIFIER_DIGITS_BYTES that holds a digit, anything longer than IDENTIFIER_BYTES_MAX.
 */
bool identifier_is(struct slice segment);

#endif

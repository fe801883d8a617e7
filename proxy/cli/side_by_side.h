#ifndef HOLDFAST_CLI_SIDE_BY_SIDE_H
#define HOLDFAST_CLI_SIDE_BY_SIDE_H

#include <stdio.h>

#include "holdfast/image.h"

/*
 * Prints three images of one document as a table, a line per top-level field; an exclamation mark
 * stands before the fields in which what was found is neither of the others.
 */
void side_by_side_print(FILE *stream, struct image before, struct image after, struct image found);

#endif

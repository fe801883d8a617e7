#ifndef HOLDFAST_IMAGE_H
#define HOLDFAST_IMAGE_H

/* A document as it was before or after a write. */

#include <stdbool.h>

#include "holdfast/slice.h"

enum image_presence {
    IMAGE_UNKNOWN, /* nobody has seen it */
    IMAGE_ABSENT,  /* there was no document */
    IMAGE_PRESENT,
};

struct image {
    enum image_presence presence;
    struct slice document; /* PRESENT only: one whole BSON document */
};

/* Byte for byte. Two UNKNOWN images are not equal. */
static inline bool image_equal(struct image a, struct image b)
{
    if (a.presence != b.presence || a.presence == IMAGE_UNKNOWN) {
        return false;
    }
    return a.presence == IMAGE_ABSENT || slice_equal(a.document, b.document);
}

#endif

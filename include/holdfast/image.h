#ifndef HOLDFAST_IMAGE_H
#define HOLDFAST_IMAGE_H

/* A document as it was before or after a write. */

#include <stdbool.h>
#include <stdlib.h>

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

/*
 * A copy whose document is in memory of its own; false if there is none. Give it to image_free().
 * Most images are views of somebody else's bytes: only copies may be freed.
 */
MUST_CHECK static inline bool image_copy(struct image image, struct image *ret_copy)
{
    struct image copy = {.presence = image.presence};
    if (image.presence == IMAGE_PRESENT) {
        uint8_t *bytes = malloc(image.document.size);
        if (bytes == NULL) {
            return false;
        }
        memcpy(bytes, image.document.data, image.document.size);
        copy.document = slice_make(bytes, image.document.size);
    }
    *ret_copy = copy;
    return true;
}

/* Frees a copy; afterwards it is UNKNOWN, so that a second call is harmless. */
static inline void image_free(struct image *copy)
{
    free((void *)(uintptr_t)copy->document.data);
    *copy = (struct image){.presence = IMAGE_UNKNOWN};
}

#endif

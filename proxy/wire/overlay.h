#ifndef HOLDFAST_WIRE_OVERLAY_H
#define HOLDFAST_WIRE_OVERLAY_H

/*
 * The committed state of a collection, told to the server: everything it holds but the documents
 * with some _ids, and these documents instead.
 *
 *     { $match: { $and: [ filter, without the _ids ] } }
 *     { $unionWith: { coll, pipeline: [ the images as literals ..., { $match: filter } ] } }
 *
 * Only stages of MongoDB 4.4, and no collection of the proxy's own, for a client may have rights on
 * its own collections only. The literals come from a $facet, which gives one document even where
 * nothing matches:
 *
 *     { $match: { _id: { $in: [] } } }, { $facet: { images: [ { $limit: 1 } ] } },
 *     { $project: { images: { $literal: [ ... ] } } }, { $unwind }, { $replaceRoot }
 *
 * Of many images the literal is a list of lists, for some servers copy all of a document for each
 * element that $unwind gives. And of many _ids of a type whose order is beyond doubt the exclusion
 * is a search tree of comparisons, for some servers walk the whole list of a $nin for each
 * document: both make the cost grow with the number of images, not with its square.
 *
 * Pure; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

/* A document as it was committed. Slices must be whole, checked documents. */
struct overlay_image {
    struct slice key;      /* { _id: value } */
    struct slice document; /* size 0: there is none */
};

/* Whether strings are compared by their bytes in any part of its key's value; then a collation
   that a command names would take other _ids for this one. */
bool overlay_key_has_text(struct slice key);

/*
 * Appends the first of these stages at `*at` (index in the array `pipeline`, which counts up): what
 * the collection holds, without the images' _ids. A document must match all filters. STATUS_MEMORY.
 */
MUST_CHECK enum status overlay_append_live(bson_t *pipeline, uint32_t *at,
                                           const struct slice *filters, size_t filter_count,
                                           const struct overlay_image *images, size_t image_count);

/* The second one: with the images that match all filters. Nothing if all of them are absent. */
MUST_CHECK enum status overlay_append_union(bson_t *pipeline, uint32_t *at, const char *collection,
                                            const struct slice *filters, size_t filter_count,
                                            const struct overlay_image *images, size_t image_count);

/* Nothing but the images: what the collection holds is not looked at. */
MUST_CHECK enum status overlay_append_images(bson_t *pipeline, uint32_t *at,
                                             const struct slice *filters, size_t filter_count,
                                             const struct overlay_image *images,
                                             size_t image_count);

/* A whole number as the name of an array's element; `*at` counts up. */
struct overlay_index {
    char text[16];
    int size;
};
struct overlay_index overlay_index_next(uint32_t *at);
static inline const char *overlay_index_text(const struct overlay_index *index)
{
    return index->text;
}

#endif

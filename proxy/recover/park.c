/* Undoing a step between images too big for one command (park.h). The struct upstream's thread. */
#include "recover/park.h"

#include "holdfast/crash_point.h"

static void make(uint64_t unit, struct slice key, bson_t *ret_document)
{
    bson_t view;
    bson_t mark;
    bson_init(ret_document);
    if (bson_init_static(&view, key.data, key.size)) {
        bson_concat(ret_document, &view);
    }
    BSON_APPEND_DOCUMENT_BEGIN(ret_document, "holdfast", &mark);
    BSON_APPEND_INT64(&mark, "undo", (int64_t)unit);
    bson_append_document_end(ret_document, &mark);
}

static struct image image_of(const bson_t *document)
{
    return (struct image){.presence = IMAGE_PRESENT,
                          .document = slice_make(bson_get_data(document), document->len)};
}

bool park_is_parked(uint64_t unit, struct slice key, struct image found)
{
    bson_t document;
    make(unit, key, &document);
    bool same = image_equal(image_of(&document), found);
    bson_destroy(&document);
    return same;
}

enum status park_replace_image(struct upstream *upstream, struct park_step *step,
                               enum upstream_swap *ret_swap, struct error *ret_error)
{
    enum upstream_swap swap = UPSTREAM_SWAP_DONE;
    enum status status = STATUS_OK;
    if (!step->parked && !step->two_steps &&
        upstream_images_fit(step->key, step->expected, step->wanted)) {
        return upstream_replace_image(upstream, step->namespace, step->key, step->expected,
                                      step->wanted, step->comment, ret_swap, ret_error);
    }
    bson_t document;
    make(step->unit, step->key, &document);
    if (!step->parked) {
        status = upstream_replace_image(upstream, step->namespace, step->key, step->expected,
                                        image_of(&document), step->comment, &swap, ret_error);
        step->parked = status == STATUS_OK && swap == UPSTREAM_SWAP_DONE;
        CRASH_POINT(undo_restored);
    }
    if (step->parked) {
        status = upstream_replace_image(upstream, step->namespace, step->key, image_of(&document),
                                        step->wanted, step->comment, &swap, ret_error);
        step->parked = status != STATUS_OK || swap != UPSTREAM_SWAP_DONE;
    }
    bson_destroy(&document);
    if (status == STATUS_OK) {
        *ret_swap = swap;
    }
    return status;
}

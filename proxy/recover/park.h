#ifndef HOLDFAST_RECOVER_PARK_H
#define HOLDFAST_RECOVER_PARK_H

/*
 * One step of an undo or redo where two images are too big for one command, or where documents
 * stand in each other's way in a unique index; private to this folder.
 *
 *     expected --> {_id, holdfast: {undo: unit}} --> wanted
 *
 * Either is a guarded swap. Nobody else writes such a document: one that is found is of this unit's
 * own undo, which was interrupted there and goes on.
 */

#include <stdbool.h>
#include <stdint.h>

#include "upstream/upstream.h"

struct park_step {
    uint64_t unit;
    const char *namespace;
    struct slice key;
    struct image expected;
    struct image wanted;
    bool two_steps; /* also where both images fit one command */
    bool parked;    /* the document is between the two already */
    const char *comment;
};

/* Whether `found` is the document between two images of this unit. */
bool park_is_parked(uint64_t unit, struct slice key, struct image found);

/*
 * Takes the step, by way of the small document if that must be. Returns as
 * upstream_replace_image(); step->parked says where the document is after a failure.
 */
MUST_CHECK enum status park_replace_image(struct upstream *upstream, struct park_step *step,
                                          enum upstream_swap *ret_swap, struct error *ret_error);

#endif

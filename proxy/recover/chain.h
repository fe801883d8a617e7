#ifndef HOLDFAST_RECOVER_CHAIN_H
#define HOLDFAST_RECOVER_CHAIN_H

/*
 * The images of each document of a unit; private to this folder.
 *
 *     image 0      image 1      image 2
 *     before w0    after w0     after w1      links: indexes into the unit's writes
 *                  = before w1
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "recover/history.h"

struct chain {
    size_t *links;     /* this document's writes, oldest first */
    size_t link_count; /* so there are link_count + 1 images */
    size_t position;   /* the image that the document is at now */
    bool parked;       /* it is on its way from there to an older one (park.h) */
};

#define CHAIN_NONE SIZE_MAX

/* All chains of a unit. */
struct chain_set {
    const struct history_write *writes;
    size_t write_count;
    struct chain *chains;
    size_t chain_count;
    size_t *links;    /* memory of all chains' links */
    size_t *chain_of; /* for each write, its chain; CHAIN_NONE: it did not happen */
    size_t *place_of; /* for each write, its place in its chain */
};

/* Groups the writes by document. STATUS_CORRUPT, STATUS_MEMORY. */
MUST_CHECK enum status chain_set_make(const struct unit_history *history, struct chain_set *ret_set,
                                      struct error *ret_error);
void chain_set_free(struct chain_set *set);

/* The image `index` of the chain, 0 to link_count; UNKNOWN only for the last. */
struct history_image chain_image(const struct chain_set *set, const struct chain *chain,
                                 size_t index);

/* The unit's last write to the document. */
const struct history_write *chain_last(const struct chain_set *set, const struct chain *chain);

/*
 * Compares the document that was found with the chain's images, byte for byte. *ret_position: the
 * newest image that equals it, CHAIN_NONE if none does. *ret_oldest: it is the oldest, whatever
 * newer one it is, too. *ret_broken: somebody else wrote between two of the unit's writes. Errors:
 * those of history.h.
 */
MUST_CHECK enum status chain_compare(const struct unit_history *history,
                                     const struct chain_set *set, const struct chain *chain,
                                     struct image found, size_t *ret_position, bool *ret_oldest,
                                     bool *ret_broken, struct error *ret_error);

#endif

#ifndef HOLDFAST_RECOVER_UNDO_H
#define HOLDFAST_RECOVER_UNDO_H

/*
 * Rolls one unit back: brings every document that it wrote to what it was before, or finds that
 * this would destroy somebody's newer data and touches nothing.
 *
 * Each document has a chain of images: before the unit's first write to it, and after each write.
 *   1. All current images are read. Each must be, byte for byte, some image of its chain; where the
 *      last after-image is not in the journal and the current one is none of the others, the server
 *      says what the journaled command makes of the before-image. If any document is something
 *      else, the unit is in conflict and nothing was written.
 *   2. The images are restored strictly newest write first, because only the order of the writes,
 *      reversed, is sure to pass unique indexes. Writes that follow each other on one document are
 *      one step. Each step is guarded by the image that it replaces.
 * Two images that are too big for one command take two steps (park.h): until the second the
 * document is {_id, holdfast: {undo: <unit>}}. A document that is at its oldest image already is
 * left alone, so a rollback that was interrupted can be begun again any number of times.
 *
 * Preconditions, not checked here: nothing that the unit sent can still arrive (fence.h, or all its
 * replies are here), and no one else of this proxy writes to these documents (their locks are
 * held). After STATUS_UNREACHABLE a step may still be on its way: fence before the next attempt.
 *
 * Only wal, unit, writes and write_count of the history are used. One document's images are in
 * memory at a time, and what goes into a CONFLICT; no reader of the journal is open while the
 * server is asked anything. Needs the struct upstream of the calling thread.
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "recover/history.h"
#include "upstream/upstream.h"

enum undo_result {
    UNDO_DONE,     /* every before-image is in place: an ABORT record may be written */
    UNDO_CONFLICT, /* set the unit aside with the payload in *conflict */
};

/* What a rollback would do. */
struct undo_summary {
    size_t documents;  /* that the unit wrote */
    size_t restorable; /* of these, those that are not at their oldest image yet */
    size_t conflicts;  /* of these, those that are none of their images */
};

/*
 * Rolls back. After UNDO_CONFLICT *conflict holds the payload of a CONFLICT record; it must be an
 * empty, initialised document, stays untouched otherwise, and is the caller's. Where a step failed
 * after others were done (a stranger's write in between), its reason says that the unit is undone
 * in part.
 *
 * Errors: those of upstream.h; nothing is decided then and the call can be repeated.
 * STATUS_CORRUPT if the writes contradict each other (number, missing image) or an image cannot be
 * read any more; those of reading the journal.
 */
MUST_CHECK enum status undo_unit(struct upstream *upstream, const struct unit_history *history,
                                 enum undo_result *ret_result, bson_t *conflict,
                                 struct error *ret_error);

/* The same without a single write to the user's data; says what undo_unit() would do now. */
MUST_CHECK enum status undo_check(struct upstream *upstream, const struct unit_history *history,
                                  enum undo_result *ret_result, bson_t *conflict,
                                  struct undo_summary *ret_summary, struct error *ret_error);

/*
 * What the server makes of the write's before-image by its journaled command; for a write whose
 * after-image the journal does not say. The caller gives *ret_after to image_free().
 * STATUS_CONFLICT: nobody can tell, *ret_after is untouched. Errors also: those of upstream.h and
 * of reading the journal.
 */
MUST_CHECK enum status undo_evaluate(struct upstream *upstream, const struct unit_history *history,
                                     const struct history_write *write, struct image *ret_after,
                                     struct error *ret_error);

#endif

#ifndef HOLDFAST_RECOVER_REDO_H
#define HOLDFAST_RECOVER_REDO_H

/*
 * After a crash of the server: brings every document that the units named wrote to its last
 * committed image, whatever of it the server has lost.
 *
 * The server has lost the end of what it did (probe.h). So a document that a unit wrote may be at
 * any image that the journal has of it. All units' writes to it in the order of their LSNs are its
 * chain:
 *
 *     unit 7 (committed)   unit 8 (rolled back)   unit 9 (committed)   unit 11 (open)
 *     A --> B              B --> C --> B          B --> D              D --> E
 *
 *     there may be: A, B, C, D or E                 wanted: D
 *
 *   1. Every document is read. One that is none of its chain's images was changed by somebody else:
 *      the units of that chain are in conflict. But where a plain write, of which the journal knows
 *      nothing, may have made the first image and been lost with it (record.h, plainProbe), what is
 *      there is older, not newer: it is kept in the journal, as the before-image of a unit of its
 *      own, and the chain goes on from there.
 *   2. Each is moved to its last committed image, those of committed units first, each step guarded
 *      by the image that was found. A step that a unique index refuses waits for the others; where
 *      documents stand in each other's way, they go by way of a small document (park.h).
 *   3. What of the units is to be journaled is told by the caller's function: see `unit_done`.
 *
 * Nothing is written before every document was read. It may be killed anywhere and run again.
 *
 * Memory: that of the units' histories (history.h), and 150 bytes for each write. A document that
 * is at its wanted image already costs a find and no more.
 *
 * Preconditions: as in undo.h. Needs the struct upstream of the calling thread.
 *
 * Crash points: redo_checked, redo_adopted, redo_moved.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "recover/history.h"
#include "upstream/upstream.h"

enum redo_fate {
    REDO_WHOLE,    /* committed, and nothing of it was lost */
    REDO_REDONE,   /* committed, and something of it was lost: it is there again */
    REDO_ABSENT,   /* open or rolled back: nothing of it is there any more */
    REDO_CONFLICT, /* committed or open: to be set aside with the payload in `conflict` */
};

struct redo_unit {
    const struct unit_history *history;
    enum redo_fate fate;
    struct slice conflict; /* REDO_CONFLICT: the payload of its record */
};

struct redo_options {
    const uint64_t *units; /* all whose last record is above the surviving probe's LSN, or open */
    size_t unit_count;
    int64_t probe; /* number of the probe that survived */
    bool dry_run;  /* nothing is changed: neither upstream nor in the journal */
    /*
     * Called for each unit, after everything was moved; everything in *unit is valid during the
     * call only. Anything but STATUS_OK ends the redo with that status.
     */
    enum status (*unit_done)(const struct redo_unit *unit, void *context, struct error *ret_error);
    void *context;
};

struct redo_report {
    uint64_t documents; /* that the units wrote */
    uint64_t moved;     /* of them, those that were not at their last committed image */
    uint64_t adopted;   /* of these, those that were older than all that the journal had of them */
};

/*
 * Errors: those of upstream.h, history.h and of appending to the journal (STATUS_FULL: there is no
 * room to keep an older document); nothing is decided then and the call can be repeated, after a
 * fence if it was STATUS_UNREACHABLE. *ret_report is filled in also after an error.
 */
MUST_CHECK enum status redo_run(struct wal *wal, struct upstream *upstream,
                                const struct redo_options *options, struct redo_report *ret_report,
                                struct error *ret_error);

#endif

#ifndef HOLDFAST_RECOVER_RECOVERY_H
#define HOLDFAST_RECOVER_RECOVERY_H

/*
 * Recovery: brings the database to a state in which every unit of the journal is wholly there or
 * wholly absent, or set aside as a conflict. The daemon runs it at start, before it accepts
 * anyone; `holdfast recover` runs the same on a stopped proxy's journal.
 *
 *   1. Read every open unit. If one cannot be read, STATUS_CORRUPT names its record and nothing is
 *      applied: an operator must look (holdfast verify).
 *   2. Fence the connections that carried their writes (fence.h).
 *   3. Newest first, roll each back (undo.h) and write ABORT, or CONFLICT, durably.
 * Committed units need nothing: all their writes were answered before their COMMIT was written.
 * Units that are in conflict already are left alone and counted; they are never tried again.
 *
 * It may be killed anywhere and run again: a document that is restored is recognised as restored.
 *
 * Preconditions: the journal is open for writing, the lease is ours (lease.h), no unit is being
 * made. With dry_run a look-only lease is enough and nothing is changed but the scratch collection.
 *
 * Crash points: recovery_fenced, undo_checked, undo_restored, abort_undone, abort_durable,
 * recovery_unit_done, recovery_finished.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "recover/fence.h"
#include "recover/history.h"
#include "recover/undo.h"
#include "upstream/upstream.h"

struct recovery_unit {
    const struct unit_history *history;
    enum undo_result result;     /* dry_run: what it would be */
    struct undo_summary summary; /* dry_run only */
    struct slice conflict;       /* UNDO_CONFLICT: the payload of its record */
};

struct recovery_options {
    bool dry_run;
    uint64_t fence_ms;
    /* The lease was taken from another journal: wait fence_ms even if no unit is open. */
    bool fence_blindly;
    const char *reason; /* of the ABORT records; NULL: "recovery" */
    /*
     * Called after each unit, for example to renew the lease; everything in *unit is valid during
     * the call only. Anything but STATUS_OK ends the recovery with that status. May be NULL.
     */
    enum status (*unit_done)(const struct recovery_unit *unit, void *context,
                             struct error *ret_error);
    fence_progress *fencing; /* may be NULL */
    void *context;
};

struct recovery_report {
    enum fence_certainty fence;
    uint64_t units_rolled_back; /* dry_run: would be */
    uint64_t conflicts_new;     /* dry_run: would be */
    uint64_t conflicts_left;    /* in the journal now, old and new */
};

/*
 * Errors: STATUS_CORRUPT (see above), those of upstream.h, fence.h and of appending to a journal.
 * *ret_report is filled in also after an error, with what was done until then.
 */
MUST_CHECK enum status recovery_run(struct wal *wal, struct upstream *upstream,
                                    const struct recovery_options *options,
                                    struct recovery_report *ret_report, struct error *ret_error);

#endif

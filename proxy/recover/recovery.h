#ifndef HOLDFAST_RECOVER_RECOVERY_H
#define HOLDFAST_RECOVER_RECOVERY_H

/*
 * Recovery: brings the database to a state in which every unit of the journal is wholly there or
 * wholly absent, or set aside as a conflict. The daemon runs it at start, before it accepts
 * anyone; `holdfast recover` runs the same on a stopped proxy's journal.
 *
 *   1. Read every open unit. If one cannot be read, STATUS_CORRUPT names its record and nothing is
 *      applied: an operator must look (holdfast verify).
 *   2. Fence the connections that carried their writes (fence.h). Those of the former proxy's own
 *      undos are in no record: for them the whole wait passes, if there was anything to undo.
 *   3. If the server is still the process that took the last probe (probe.h), it has lost nothing,
 *      and committed units need nothing. Newest first, each open unit is rolled back (undo.h) and
 *      ABORT, or CONFLICT, written durably. If it has restarted, all units that the surviving probe
 *      does not cover are looked at together, and every document is brought to its last committed
 *      image (redo.h); then the same records are written, and CONFLICT for a committed unit that
 *      cannot be done again.
 *   4. A new probe says that everything up to here is there.
 * Units that are in conflict already are left alone and counted; they are never tried again.
 *
 * With a lease all of it happens on one connection, or fails: `upstream` is pinned to it
 * (upstream.h) when this returns.
 *
 * It may be killed anywhere and run again: a document that is restored is recognised as restored.
 *
 * Preconditions: the journal is open for writing, the lease is ours (lease.h), no unit is being
 * made. With dry_run a look-only lease is enough and nothing is changed but the scratch collection.
 *
 * Crash points: recovery_fenced, undo_checked, undo_restored, those of redo.h, abort_undone,
 * abort_durable, recovery_unit_done, probe_made, recovery_finished.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "recover/fence.h"
#include "recover/history.h"
#include "recover/lease.h"
#include "recover/probe.h"
#include "upstream/upstream.h"

enum recovery_result {
    RECOVERY_ROLLED_BACK,
    RECOVERY_REDONE,   /* committed; what the server had lost of it is there again */
    RECOVERY_CONFLICT, /* set aside */
};

struct recovery_unit {
    const struct unit_history *history;
    enum recovery_result result; /* dry_run: what it would be */
    struct slice conflict;       /* CONFLICT: the payload of its record */
};

struct recovery_options {
    const struct lease *lease; /* the journal's */
    bool dry_run;
    uint64_t fence_ms;
    /* The lease was taken from another journal: wait fence_ms even if no unit is open. */
    bool fence_blindly;
    /* Since the lease was taken, fence_alone() has said so: nothing is on its way any more. */
    bool alone;
    const char *reason; /* of the ABORT records; NULL: "recovery" */
    /* Called after each unit; everything in *unit is valid during the call only. May be NULL. */
    void (*unit_done)(const struct recovery_unit *unit, void *context);
    fence_progress *fencing; /* may be NULL */
    void *context;
};

struct recovery_report {
    enum fence_certainty fence;
    bool server_restarted;   /* since its last probe */
    uint64_t survived_lsn;   /* server_restarted only: up to here it has lost nothing */
    uint64_t units_in_doubt; /* likewise: those that ended after that, or are open */
    uint64_t documents_lost; /* that were not at their last committed image after that */
    uint64_t units_redone;   /* dry_run: would be, as all that follow */
    uint64_t units_rolled_back;
    uint64_t conflicts_new;
    uint64_t conflicts_left; /* in the journal now, old and new */
    struct probe probe;      /* that is on the server now; not after dry_run */
};

/*
 * Errors: STATUS_CORRUPT (see above), those of upstream.h, fence.h and of appending to a journal;
 * STATUS_FOREIGN: the database is not the one that the journal knows (survey.c).
 * *ret_report is filled in also after an error, with what was done until then.
 */
MUST_CHECK enum status recovery_run(struct wal *wal, struct upstream *upstream,
                                    const struct recovery_options *options,
                                    struct recovery_report *ret_report, struct error *ret_error);

#endif

#ifndef HOLDFAST_RECOVER_NATIVE_LEFT_H
#define HOLDFAST_RECOVER_NATIVE_LEFT_H

/*
 * What a killed proxy left open at the server: transactions in sessions of its own making, which
 * hold their documents until the server's own timeout. Recovery aborts them, so that whoever writes
 * there next does not wait for it.
 *
 * Only a unit whose commit was never sent is aborted: one that is open in the journal, for
 * COMMITTING is durable before. And only where nobody can still be at work on it:
 *
 *   a driver's transaction   is never aborted here: its session is the driver's, who may go on with
 *                            it by another proxy. BEGIN does not tell of it
 *   another proxy's          has a session that is in no journal but its own
 *   this journal's           is dead if its owner held the lock that we hold. A copy of the journal
 *                            has another lock, and its owner may be alive: so the journal remembers
 *                            in which place it is served (struct wal_place), and in another one
 *                            nothing is aborted
 *
 * What is not aborted is the server's, which ends it by itself. So is a first command that was sent
 * before the kill and reaches the server after the abort: it begins the transaction anew.
 *
 * Threads: the struct upstream's.
 */

#include <stdbool.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/history.h"
#include "upstream/upstream.h"

/* Name of the journal's property: file and host, one line each; absent: never recovered. */
#define NATIVE_PROPERTY_PLACE "place"

struct native_left {
    struct upstream *upstream;
    bool here;        /* the journal is where its last owner had it */
    bool unreachable; /* the server has not answered: the others are not tried */
};

MUST_CHECK enum status native_left_begin(struct wal *wal, struct upstream *upstream,
                                         struct native_left *ret_left, struct error *ret_error);

/*
 * Aborts the transaction of `history`, a unit that is open. Returns NULL, or why it is left to the
 * server, a literal: never a reason not to end the unit in the journal.
 */
const char *native_left_abort(struct native_left *left, const struct unit_history *history);

/* Nothing is left open: from here on the journal is served in this place. */
MUST_CHECK enum status native_left_end(struct wal *wal, const struct native_left *left,
                                       struct error *ret_error);

#endif

#ifndef HOLDFAST_RECOVER_RESTORE_POINT_H
#define HOLDFAST_RECOVER_RESTORE_POINT_H

/*
 * What a restored database and a journal have to do with each other, and the marks that a replay
 * leaves in the database.
 *
 * The backup carries holdfast.state with it (lease.h). What stands there was written by a living
 * proxy while it served, with the newest LSN of its journal as it was before: so all units that had
 * ended by then are in the backup as a whole, if the backup is of one moment (a snapshot, or taken
 * while nobody wrote).
 *
 *   holdfast.state { _id: "replay", journal: "<hex>", throughLsn: Int64, whole: Bool, at: Date }
 *
 * is what a replay leaves: everything of that journal up to throughLsn is there. `whole` false:
 * units that were committed later were left out, by --until. Then the database has gone another way
 * than the journal, and it gets a new identity, so that no proxy takes that journal for its own.
 *
 * Threads: those of the struct upstream that is handed in.
 */

#include "recover/lease.h"

struct restore_point {
    struct lease_state lease;
    bool lease_ours; /* it names this journal */
    bool living;     /* the lease is being renewed: somebody serves this database */
    bool identity_exists;
    bool identity_ours; /* as the journal remembers it, or a replay of this journal has made it */
    bool replayed;      /* by this journal */
    bool replayed_whole;
    bool proven;         /* the database itself tells the next */
    uint64_t backup_lsn; /* what had ended by then is there as a whole; 0: unknown or nothing */
    uint64_t pruned_lsn; /* units that ended up to here are not in the journal any more */
    uint64_t last_lsn;   /* the journal's end */
    uint64_t units_open; /* in the journal */
    char journal[LEASE_JOURNAL_TEXT_BYTES];
};

/* Errors: those of upstream.h and of reading the journal. */
MUST_CHECK enum status restore_point_read(struct upstream *upstream, struct wal *wal,
                                          struct restore_point *ret_point, struct error *ret_error);

/*
 * Takes the lease for a replay, as it was `point`, keeping what it tells of the backup. Waits for
 * up to wait_ms where somebody seems to serve the database. STATUS_OWNED: and goes on doing so.
 * Renew it by lease_renew() with point->lease.last_lsn.
 */
MUST_CHECK enum status restore_point_take(struct upstream *upstream, struct wal *wal,
                                          uint64_t wait_ms, struct restore_point *point,
                                          struct lease *ret_lease, struct error *ret_error);

/*
 * Gives the lease back without any mark, as that of a database that is not done with: also after a
 * failure.
 */
MUST_CHECK enum status restore_point_leave(struct upstream *upstream,
                                           const struct restore_point *point,
                                           const struct lease *lease, struct error *ret_error);

/*
 * After a replay: leaves the marks, with a new identity unless `whole`, and gives the lease back.
 * Durable on the server where it has a journal, and with it all that was written before.
 */
MUST_CHECK enum status restore_point_finish(struct upstream *upstream, struct wal *wal,
                                            const struct restore_point *point,
                                            const struct lease *lease, uint64_t through_lsn,
                                            bool whole, struct error *ret_error);

#endif

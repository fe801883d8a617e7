#ifndef HOLDFAST_RECOVER_STATE_H
#define HOLDFAST_RECOVER_STATE_H

/*
 * The two documents of holdfast.state as they go over the wire; private to this folder. The rules
 * are in lease.c.
 */

#include "recover/lease.h"

struct state_identity {
    bool exists;
    uint8_t id[12];
};

MUST_CHECK enum status state_read_identity(struct upstream *upstream,
                                           struct state_identity *ret_identity,
                                           struct error *ret_error);

/* Makes the identity `id` if there is none; *ret_identity is what is there afterwards. */
MUST_CHECK enum status state_make_identity(struct upstream *upstream, const uint8_t id[12],
                                           struct state_identity *ret_identity,
                                           struct error *ret_error);

/* What a new owner writes into the lease. */
struct state_owner {
    const char *journal;
    int64_t epoch;
    const char *owner;
    const char *host;
    int32_t pid;
    int64_t last_lsn;
    const struct wal_place *place;
};

/*
 * Takes the lease if it still stands as in `seen` (or still does not exist). *ret_taken false:
 * somebody was faster, or it was renewed; read it again.
 */
MUST_CHECK enum status state_take_lease(struct upstream *upstream, const struct lease_state *seen,
                                        const struct state_owner *owner, bool *ret_taken,
                                        struct error *ret_error);

/* Renews our lease; *ret_ours false: it is not ours any more. */
MUST_CHECK enum status state_renew_lease(struct upstream *upstream, const struct lease *lease,
                                         uint64_t last_lsn, uint32_t units_open, bool clean,
                                         bool *ret_ours, struct error *ret_error);

#endif

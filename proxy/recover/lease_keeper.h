#ifndef HOLDFAST_RECOVER_LEASE_KEEPER_H
#define HOLDFAST_RECOVER_LEASE_KEEPER_H

/*
 * Keeps a lease: renews it from threads of its own, and sees to it that nothing leaves this process
 * any more when it could not be renewed.
 *
 *     milliseconds since the last renewal that succeeded was sent off
 *
 *     0         2,000        LEASE_HOLD_MS      LEASE_KILL_MS     LEASE_VALID_MS    + fence
 *     |           |                |                  |                 |             |
 *     renewed     renewed again    the permit to      the kernel kills  a successor   it reads the
 *                 if the server    write is taken     a process that    may take      first image
 *                 answers          away; when all     did not come so   the lease
 *                                  threads know it,   far
 *                                  this is called off
 *
 * So of a proxy that was stopped, frozen or asleep and wakes up, nothing is sent after
 * LEASE_KILL_MS, whatever it had prepared: it is dead (base/dead_man.h). And one that merely does
 * not reach the server lives on without a permit (holdfast/write_permit.h), as if the server did
 * not answer, until it does and the lease is still ours. What the kernel has taken over of us by
 * then it sends again for STREAM_RESEND_MS at the most (net/stream.h).
 *
 * Threads: two, made here. The functions are called by one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/lease.h"

#define LEASE_HOLD_MS 6000u
#define LEASE_KILL_MS 8000u

struct lease_keeper;

struct lease_keeper_options {
    const char *upstream_uri;
    uint64_t connect_ms;
    const struct lease *lease; /* copied */
    const char *directory;     /* of the journal; outlives the keeper */
    struct wal *wal;           /* outlives the keeper */
    /* Somebody else has the lease: recovers our units now. Must not return. A keeper's thread. */
    void (*lost)(void *context, const struct error *error);
    /* The permit was taken away, or is back: in turns, one call after the other. May be NULL. A
       keeper's thread. */
    void (*permit)(void *context, bool up, const char *failure);
    void *context;
};

/* Renews once, then begins. Errors: those of upstream_open() and lease_renew(), STATUS_LIMIT. */
MUST_CHECK enum status lease_keeper_start(const struct lease_keeper_options *options,
                                          struct lease_keeper **ret_keeper,
                                          struct error *ret_error);

/* The number of open units that is written into the lease. */
void lease_keeper_note_units(struct lease_keeper *keeper, uint32_t units_open);

/*
 * What makes all threads that send see that the permit is gone: returns true once each of them has
 * passed a point at which it was sending nothing, false after wait_ms. NULL: there are none; the
 * former one is not called any more afterwards.
 */
void lease_keeper_settle(struct lease_keeper *keeper,
                         bool (*settle)(void *context, uint64_t wait_ms), void *context);

/* Why the last renewal failed; empty if it did not. */
void lease_keeper_failure(struct lease_keeper *keeper, struct error *ret_error);

/* Ends the threads, which may take as long as a renewal. Nothing may write any more but who called.
   The permit is there afterwards. NULL is harmless; returns NULL. */
struct lease_keeper *lease_keeper_stop(struct lease_keeper *keeper);

#endif

#ifndef HOLDFAST_RECOVER_FENCE_H
#define HOLDFAST_RECOVER_FENCE_H

/*
 * The fence: waits until nothing that was sent earlier on given connections can still arrive.
 *
 * A command may sit in the server's socket buffer after its sender died, and be carried out after
 * its unit was undone. So nothing is read for an undo before the connections that carried the
 * unit's writes are fenced.
 *
 * What is certain, and what is not:
 *   FENCE_NONE    there are no connections to wait for.
 *   FENCE_GONE    certain. The server shows its clients' addresses (mongod does) and none of these
 *                 is among them; or it has no connection but ours. A server closes a connection
 *                 after it has read it to its end and ended its last operation.
 *   FENCE_IDLE    as good as certain. They are still there, but in no operation, at each look for
 *                 the whole wait. That is the picture of a host that died without closing anything;
 *                 what it had sent was read long since.
 *   FENCE_WAITED  not certain. The server shows no addresses, or something between us and it
 *                 translates them; the whole wait has passed. A server reads a closed socket within
 *                 milliseconds unless it is overloaded or suspended: choose wait_ms by the longest
 *                 such pause (upstream.fenceWait, 2 s unless configured).
 *
 * An operation of these connections that is still running after the wait is STATUS_OWNED: nothing
 * may be undone yet.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "upstream/upstream.h"

/*
 * An address that no connection has. Where the address of what may still be on its way is not
 * known, it stands for it: no server shows it, so that the whole wait passes.
 */
#define FENCE_NOBODY "0.0.0.0:0"

enum fence_certainty {
    FENCE_NONE,
    FENCE_GONE,
    FENCE_IDLE,
    FENCE_WAITED,
};

/* "none", "gone", "idle", "waited". Never NULL. */
const char *fence_certainty_name(enum fence_certainty certainty);

/* Called about twice a second while waiting, with the milliseconds left and still present (0 if
   the server does not show them). May be NULL. */
typedef void fence_progress(uint64_t left_ms, uint64_t present, void *context);

/*
 * Waits at most about wait_ms. `addresses` are the proxy's own ends, "address:port", of the
 * connections; an address may be there several times. Errors also: those of upstream.h, and
 * STATUS_OWNED (see above).
 */
MUST_CHECK enum status fence_wait(struct upstream *upstream, const char *const *addresses,
                                  size_t address_count, uint64_t wait_ms, fence_progress *progress,
                                  void *context, enum fence_certainty *ret_certainty,
                                  struct error *ret_error);

/*
 * Whether the server has no connection but that of `upstream`: FENCE_GONE, whatever there was
 * before, if nobody who may write connects any more. Looks again for at most about wait_ms, for a
 * server takes a moment to close those of a process that has just died. False: it has others, or
 * does not tell; that proves nothing. To be asked before this process makes another connection.
 */
MUST_CHECK enum status fence_alone(struct upstream *upstream, uint64_t wait_ms, bool *ret_alone,
                                   struct error *ret_error);

#endif

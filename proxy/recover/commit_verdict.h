#ifndef HOLDFAST_RECOVER_COMMIT_VERDICT_H
#define HOLDFAST_RECOVER_COMMIT_VERDICT_H

/*
 * What an answer to commitTransaction says of the transaction (driver specification: Transactions;
 * mongod: src/mongo/db/s/transaction_coordinator and service_entry_point).
 *
 *   ok, no write concern error                     COMMITTED
 *   ok, write concern error                        OPEN: committed here, perhaps not for good
 *   NoSuchTransaction, or any error that is        LOST
 *     labelled TransientTransactionError
 *     - asked again, and the server may have       UNKNOWN
 *       forgotten what it did
 *     - with a write concern error                 OPEN: it may be an old primary that says so
 *     - PreparedTransactionInProgress, asked again OPEN: it may yet be committed
 *   the server, or the way to it, is changing      OPEN: ask again
 *   asked first: InternalError, UnknownError       OPEN: how far it had come nobody says
 *   asked first: what refuses the command          LOST: nothing was committed by it
 *   asked again: not allowed to ask                FORBIDDEN
 *   asked again: a newer transaction of the        UNKNOWN
 *     session has begun, or any other error
 *
 * Pure; any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/slice.h"

enum commit_verdict {
    COMMIT_COMMITTED,
    COMMIT_LOST,      /* it is certain that nothing of it is there */
    COMMIT_OPEN,      /* ask again */
    COMMIT_UNKNOWN,   /* the server cannot tell any more */
    COMMIT_FORBIDDEN, /* this user may not ask */
};

struct commit_asked {
    bool again;      /* it may have been sent before */
    bool conclusive; /* `again`: the server still knows all that it did in this session */
};

/* *ret_code (may be NULL): the answer's error code, 0: none. What is no answer at all is OPEN. */
enum commit_verdict commit_verdict(struct slice reply, const struct commit_asked *asked,
                                   int32_t *ret_code);

/* Whether a driver takes an OPEN answer for "unknown", and so asks again, or tells so. */
bool commit_is_told_unknown(struct slice reply);

/*
 * Whether a commit that was recorded at `recorded_ms` may be older than the server's memory of its
 * session: then "no such transaction" says nothing. Wall clocks, perhaps of two hosts: a record of
 * the future tells that they differ, so that its age is not known, and it counts as too old.
 */
bool commit_is_too_old(uint64_t recorded_ms, uint64_t now_ms, uint64_t session_ms);

/* "committed", "lost", ... Never NULL. */
const char *commit_verdict_name(enum commit_verdict verdict);

#endif

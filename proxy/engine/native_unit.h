#ifndef HOLDFAST_ENGINE_NATIVE_UNIT_H
#define HOLDFAST_ENGINE_NATIVE_UNIT_H

/*
 * Units of other boundaries than driver transactions on the native engine (native.h): the proxy
 * gives their commands a session and a transaction number, and begins and ends the transaction.
 *
 * These are the native engine's write, commit and rollback behind the interface that the boundaries
 * know (write.h, finish.h). One command of a unit is at work at a time; they may come on several
 * connections of one user, for a transaction is its session's, not its connection's.
 *
 *   the first write   with startTransaction --> the server's answer, as it is
 *   a write           the same, without
 *   an error          as in mongod it ends the transaction: told to abort, unit rolled back; the
 *                     client gets the server's own answer, and NoSuchTransaction from there on
 *   commit            COMMITTING durable --> commitTransaction, majority --> COMMIT durable
 *                     no answer: asked elsewhere (native_asker.c)
 *   rollback          abortTransaction, on the client's connection or another --> ABORT
 *
 * The connection's worker, but where finish.h says otherwise.
 */

#include <stdbool.h>

#include "engine/finish.h"
#include "engine/write.h"

void native_unit_write(struct write_operation *operation, const struct command_view *view,
                       const struct op_msg *message);
/* False: it has sent nothing to the server, and the journal is all there is. */
bool native_unit_commit(struct commit *commit);
void native_unit_roll_back(struct rollback *rollback);

#endif

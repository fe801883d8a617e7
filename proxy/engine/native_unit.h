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
 *   the first that writes   BEGIN on its way to the journal, with the session: what a killed proxy
 * had open recovery aborts (recover/native.h) the first command with startTransaction --> the
 * server's answer, as it is a write, a read   the same, without an error          as in mongod it
 * ends the transaction: told to abort, unit rolled back; the client gets the server's own answer,
 * and NoSuchTransaction from there on commit            COMMITTING durable --> commitTransaction,
 * majority --> COMMIT durable no answer: asked elsewhere (native_asker.c) rollback
 * abortTransaction, on the client's connection or another --> ABORT
 *
 * The connection's worker, but where finish.h says otherwise.
 */

#include <stdbool.h>

#include "engine/finish.h"
#include "engine/write.h"

/* Gives the unit its session, so that BEGIN tells it; the first command does so else. False: out of
   memory; nothing changes then. */
bool native_unit_prepare(struct unit *unit);

void native_unit_write(struct write_operation *operation, const struct command_view *view,
                       const struct op_msg *message);
/*
 * The same for a command that reads; what it is told of the cursor is noted (unit_cursor_note()).
 * Where a transaction begins with it, it is with the command's read concern. To the caller it is a
 * write that changes nothing. native_unit_touch() is the caller's, who knows what it reads.
 */
void native_unit_read(struct write_operation *operation, const struct command_view *view,
                      const struct op_msg *message);

/* The transaction comes to this collection. NULL: to any. */
void native_unit_touch(struct unit *unit, const char *database, const char *collection);
/* Whether it has been there, so that a command that creates or drops something there would wait for
   its end. NULL: anywhere. */
bool native_unit_has_touched(const struct unit *unit, const char *database, const char *collection);
/* Whether there is a transaction that has to be ended on the server. */
bool native_unit_has_begun(const struct unit *unit);

/*
 * False: it has sent nothing to the server, and the journal is all there is. What has only read is
 * left by abortTransaction, then commit_journal() does the rest. Without a channel the server is
 * asked by way of the proxy's own connection.
 */
bool native_unit_commit(struct commit *commit);
void native_unit_roll_back(struct rollback *rollback);

/*
 * After STATUS_OK of the commit, while the unit is checked out: *reply, an answer that the client
 * gets for the unit, gets operationTime and $clusterTime of the commit, for a session that reads
 * what it wrote. As it is if they are not known: the answer to the commit was lost, or nothing was
 * sent.
 */
void native_unit_put_times(const struct unit *unit, bson_t *reply);

#endif

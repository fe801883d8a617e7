#ifndef HOLDFAST_ENGINE_DEFERRED_H
#define HOLDFAST_ENGINE_DEFERRED_H

/*
 * Writes of a driver's transaction that are put off (unit.writes: deferred).
 *
 * A write-ahead log costs a barrier of the disk for each write that its client waits for. A write
 * whose effect is computed here, of documents that the unit has locked, need not be on the server
 * until somebody could see it: it is answered at once and kept here.
 *
 *     write --> locked, read, computed --> kept, answered        (nothing of it is journaled)
 *     commit, or a command of the unit that may meet it --> flush.h --> the command itself
 *     abort, crash, lost client --> forgotten: nothing has happened
 *
 * What is put off: an update or a removal of documents that their _id names, and an insert, in an
 * ordinary collection where the server has no reason to refuse it that the proxy knows of: no
 * validator, no changed key of a unique index. What it refuses all the same (a right that is
 * missing, a document that was changed around the proxy) ends the transaction with the commit's
 * answer, where it would have been the write's.
 *
 * Memory: DEFERRED_UNIT_BYTES_MAX a unit, LIMIT_DEFERRED_BYTES_MAX all together; beyond, writes are
 * carried out at once. Worker of the unit's channel only.
 */

#include <stdbool.h>

#include "unit/unit.h"
#include "wire/command.h"

struct write_operation;

#define DEFERRED_UNIT_BYTES_MAX (64u * 1024u)
#define DEFERRED_UNIT_COUNT_MAX 64u

/* Whether the command, a read of the unit, may see something that is put off. */
bool deferred_may_show(const struct unit *unit, const struct command_view *view);

/* Documents that the unit has put off. */
size_t deferred_count(const struct unit *unit);

/* ---- for write.c */

/* The batch at work is put off, and counted as if it were done: true. False: it is not to be. */
bool deferred_take(struct write_operation *operation);

/* Whether the statement that was selected may meet something that is put off. */
bool deferred_concerns(const struct write_operation *operation);

/* ---- for flush.c */

/* Takes everything out of the unit: a list of operations with their documents, the rest of which
   is to be filled in. */
struct write_operation *deferred_release(struct unit *unit);
/* One of them, with all that it holds. */
void deferred_free_operation(struct write_operation *operation);

#endif

#ifndef HOLDFAST_READ_LOCKED_READ_H
#define HOLDFAST_READ_LOCKED_READ_H

/*
 * One reading command inside a serializable unit: it locks what it reads until the unit ends
 * (strict two-phase locking), and reads when it has the locks: what is committed then, and what the
 * unit has written itself.
 *
 *   find of one _id         that document, there or not, shared
 *   any other read          its namespaces as a whole (unit/namespace_lock.h): no other unit and no
 *                           plain write changes what its filter has seen, phantoms included
 *   more than LOCKED_DOCUMENTS_MAX documents of one unit: namespaces from then on
 *
 * Nobody else has anything uncommitted there then, so the command goes to the server as it is. What
 * cannot be locked is refused: a view, a pipeline of no collection or of more than READ_GATES_MAX,
 * a tailable cursor. A getMore is taken only for a cursor that the unit has opened, whose locks it
 * has: what another one holds in its buffer may be old.
 *
 * An _id of text is looked for as a namespace where the collection was made with a collation, for
 * it may be equal to another text there.
 *
 * Everything on the channel's worker.
 */

#include <event2/event_struct.h>

#include "engine/engine.h"
#include "engine/enter.h"
#include "engine/unique_cache.h"
#include "read/read.h"

/* Of one unit, that it has read by _id. Each takes 100 bytes, and as much for its document. */
#define LOCKED_DOCUMENTS_MAX 1000u

/* Lies in the caller's memory from locked_read_start() to `completed`, as do the view and `read`.
 */
struct locked_read {
    /* filled in by the caller */
    struct engine *engine;
    struct engine_channel *channel;
    struct unit *unit; /* checked out, open, serializable */
    const struct command_view *view;
    struct read_operation *read; /* room for it */
    bool in_transaction;         /* the server is sent no fields of a transaction */
    /*
     * `reply`: valid during the call; size 0: the connection to the server broke. If locked->failed
     * the locks could not be had, and the unit must be rolled back.
     */
    void (*completed)(struct locked_read *locked, struct slice reply);
    void *context;
    bool failed;

    /* private */
    struct read_command command;
    size_t at; /* of the command's gates */
    enum locked_read_step {
        LOCKED_READ_ENTERING,
        LOCKED_READ_LEARNING,
        LOCKED_READ_LOCKING, /* namespaces */
        LOCKED_READ_LOCKING_DOCUMENT,
        LOCKED_READ_AT_SERVER,
    } step;
    bool collated; /* the command's own collection */
    bool cancelled;
    struct lock_name name;
    struct enter enter;
    struct unique_lookup lookup;
    struct lock_waiter lock;
    struct worker_task task;
    struct event timer;
    bson_t error;
};

/* Any command that reads; killCursors goes to the server as it is. */
void locked_read_start(struct locked_read *locked);

/* The client has gone: stops waiting; `completed` still comes. Harmless at any time. */
void locked_read_cancel(struct locked_read *locked);

#endif

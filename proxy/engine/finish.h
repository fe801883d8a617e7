#ifndef HOLDFAST_ENGINE_FINISH_H
#define HOLDFAST_ENGINE_FINISH_H

/*
 * The two ends of a unit.
 *
 * Both are started by whoever has the unit checked out, who neither touches nor checks in the unit
 * until `completed` was called; then the unit's state says how it ended, its locks are released and
 * its gates left.
 */

#include "engine/engine.h"
#include "holdfast/error.h"
#include "upstream/server_process.h"

/* ---- commit */

struct commit {
    struct engine *engine;
    struct unit *unit;
    /* Native engine: what the commit is sent on; NULL: the proxy's own connection. commit_start()
       is called on its worker. */
    struct engine_channel *channel;
    const uint8_t *process; /* native engine: of the server there; NULL: not known. For the call */
    /* A retryable command's answer, or a request's, kept in the COMMIT record; size 0: none. */
    struct slice reply;
    void (*completed)(struct commit *commit, enum status status);
    /* Native engine: the connection of `channel` broke, or the answer settles nothing: it is not
       used any more, while another one is asked, perhaps for long. On its worker, before
       `completed`. NULL: nobody wants to know. */
    void (*left)(struct commit *commit);
    void *context;
    /* private */
    uint64_t started_us;
    struct wal_append append;
    bson_t payload;
    struct wal_append begin; /* of a request that wrote nothing */
    bson_t begin_payload;
    struct worker_task task;
};

/*
 * Native engine: the unit's transaction is committed first (native_unit.h). STATUS_CONFLICT: it is
 * not, or nobody knows; the unit has ended, its state says how.
 *
 * Appends the COMMIT record and, when it is durable, releases the locks. `completed` is called on
 * the journal's writer thread, or from inside if nothing was ever journaled. STATUS_OK: the unit is
 * UNIT_COMMITTED. STATUS_FULL: the journal has no room even for that; the unit is UNIT_ABORTING and
 * must be rolled back. Any other failure of the journal ends the process: what is durable is then
 * unknown here, and recovery finds out.
 */
void commit_start(struct commit *commit);

/* For the native engine: what is left of it when the server has nothing of the unit any more. */
void commit_journal(struct commit *commit);

/* ---- rollback */

struct rollback {
    struct engine *engine;
    struct unit *unit;
    const char *reason; /* a literal; goes into the journal and the log */
    /* Native engine: what the server is told on; NULL: another connection. */
    struct engine_channel *channel;
    void (*completed)(struct rollback *rollback);
    void *context;
    struct rollback *next; /* private */
};

/*
 * Rolls the unit back on one of the pool's threads, which may wait for the server for as long as it
 * is away: fence if a write's fate is unknown, read the unit's writes back from the journal, undo
 * every image, ABORT durable, locks released. A
 * unit that cannot be undone without overwriting somebody's newer data is set aside
 * (UNIT_CONFLICT). `completed` is called on that thread, or from inside if nothing was ever
 * written.
 */
void rollback_start(struct rollback *rollback);

/*
 * The same for a unit of a client that is no longer there, or of none: checks the unit in by
 * itself.
 */
void rollback_detached(struct engine *engine, struct unit *unit, const char *reason);

/* The last step: the unit's state, its locks, `completed`. */
void rollback_finish(struct rollback *rollback, enum unit_state state);

/* What the journal says of a unit; OPEN if it says nothing. */
enum wal_unit_state rollback_state_of(struct wal *wal, uint64_t id);

struct rollback_pool_options {
    const char *upstream_uri;
    struct server_process *process; /* outlives the pool */
    uint64_t connect_ms;
    uint64_t fence_ms;
    size_t threads;
};

MUST_CHECK enum status rollback_pool_start(const struct rollback_pool_options *options,
                                           struct rollback_pool **ret_pool,
                                           struct error *ret_error);
/* Finishes what was started; what cannot be, because the server is away, is left to the next
   start's recovery. NULL is harmless. Returns NULL. */
struct rollback_pool *rollback_pool_stop(struct rollback_pool *pool);

/*
 * From when this returns no rollback touches the server; those that were running are queued again.
 * Waits for the command that each has at the server.
 */
void rollback_pool_hold(struct rollback_pool *pool);
/* They go on. A unit that meanwhile ended in the journal, by recovery, ends here the same way. */
void rollback_pool_resume(struct rollback_pool *pool);

/* Rollbacks that wait for a thread. NULL: none. */
size_t rollback_pool_queued(struct rollback_pool *pool);

#endif

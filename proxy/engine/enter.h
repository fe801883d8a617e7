#ifndef HOLDFAST_ENGINE_ENTER_H
#define HOLDFAST_ENGINE_ENTER_H

/*
 * A unit's way into a namespace, before its first read or write there: through the gate of the
 * server and that of the namespace (unit/gate.h), and to its lock (unit/namespace_lock.h). The
 * first one begins the unit's view: what others commit after it conflicts with what this unit
 * writes. Before that it takes the locks over which earlier tries of the unit's work have failed
 * (unit/lock_hints.h).
 *
 * Everything on the worker's thread.
 */

#include <event2/event_struct.h>
#include <stdbool.h>

#include "engine/engine.h"
#include "unit/gate.h"
#include "unit/gate_wait.h"
#include "unit/namespace_lock.h"

enum enter_wait {
    ENTER_WAIT_NONE,
    ENTER_WAIT_GATE,
    ENTER_WAIT_NAMESPACE,
    ENTER_WAIT_LOCK,
};

#define ENTER_GATES_MAX (16 + UNIT_GATES_MAX)

struct enter {
    /* filled in by the caller */
    struct engine *engine;
    struct unit *unit;
    struct worker *worker;
    unsigned modes; /* NAMESPACE_READ, NAMESPACE_WRITE */
    /* Called from the loop, only if enter_start() returned ENTER_WAITING. Not inside, and the unit
       is a deadlock's victim: as ENTER_DEADLOCK. */
    void (*completed)(struct enter *enter, bool inside);
    void *context;
    /* private */
    uint32_t gates[1 + ENTER_GATES_MAX]; /* that of the server first */
    size_t count;
    size_t at;
    bool begins;    /* the unit's view */
    bool renews;    /* its owner was begun before that, and has waited */
    size_t hint_at; /* of the locks to take first */
    enum enter_wait waiting;
    struct lock_waiter lock_waiter;
    struct gate_waiter waiter;
    struct gate_wait wait;
    struct worker_task task;
    struct event timer;
};

enum enter_result {
    ENTER_INSIDE,
    ENTER_WAITING,  /* `completed` will be called, after lock_wait_ms for each gate and lock at the
                       latest */
    ENTER_DEADLOCK, /* the unit is the victim: roll it back */
    ENTER_NO_MEMORY,
};

enum enter_result enter_start(struct enter *enter, const char *database, const char *collection);
/* The same of several namespaces, by their gates; ENTER_GATES_MAX without UNIT_GATES_MAX at most.
 */
enum enter_result enter_start_gates(struct enter *enter, const uint32_t *gates, size_t count);

/* From here on reads for a unit that `reads_snapshot` can see what is committed at this moment.
   Harmless if it was called before. */
void enter_snapshot(struct engine *engine, struct unit *unit);

/* Stops waiting at once: `completed` comes with false, from inside. Harmless if it does not wait.
 */
void enter_cancel(struct enter *enter);

#endif

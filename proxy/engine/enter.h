#ifndef HOLDFAST_ENGINE_ENTER_H
#define HOLDFAST_ENGINE_ENTER_H

/*
 * A unit's way into a namespace, before its first read or write there: through the gate of the
 * server and that of the namespace (unit/gate.h), and to its lock (unit/namespace_lock.h). It
 * begins the unit's view: what others commit after it conflicts with what this unit writes.
 *
 * Everything on the worker's thread.
 */

#include <event2/event_struct.h>
#include <stdbool.h>

#include "engine/engine.h"
#include "unit/gate.h"
#include "unit/gate_wait.h"
#include "unit/namespace_lock.h"

struct enter {
    /* filled in by the caller */
    struct engine *engine;
    struct unit *unit;
    struct worker *worker;
    unsigned modes; /* NAMESPACE_READ, NAMESPACE_WRITE */
    /* Called from the loop, only if enter_start() returned ENTER_WAITING. */
    void (*completed)(struct enter *enter, bool inside);
    void *context;
    /* private */
    uint32_t gates[2];
    size_t at;
    bool waiting;
    bool locking; /* it is the lock that it waits for */
    struct lock_waiter lock;
    struct gate_waiter waiter;
    struct gate_wait wait;
    struct worker_task task;
    struct event timer;
};

enum enter_result {
    ENTER_INSIDE,
    ENTER_WAITING, /* `completed` will be called, after lock_wait_ms at the latest */
    ENTER_NO_MEMORY,
    ENTER_VICTIM, /* of a deadlock: roll the unit back */
};

/* `completed` with false: it waited too long, or the unit is the victim of a deadlock. */
enum enter_result enter_start(struct enter *enter, const char *database, const char *collection);

/* Stops waiting at once: `completed` comes with false, from inside. Harmless if it does not wait.
 */
void enter_cancel(struct enter *enter);

#endif

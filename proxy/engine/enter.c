/*
 * A unit's way through the gates; see enter.h. Owned by the worker of the unit's present command.
 *
 *   the gates, one after the other --> (the unit's first time) the locks that its work has failed
 *   over before --> its view begins
 */
#include "engine/enter.h"

#include <assert.h>

#include "unit/lock_hints.h"

static enum enter_result go_on(struct enter *enter);

static void stop_waiting(struct enter *enter)
{
    if (enter->waiting == ENTER_WAIT_GATE) {
        gate_wait_end(enter->engine->locks, &enter->unit->locks);
    }
    enter->waiting = ENTER_WAIT_NONE;
    (void)event_del(&enter->timer);
}

static void resume(struct enter *enter)
{
    stop_waiting(enter);
    enum enter_result result = go_on(enter);
    if (result != ENTER_WAITING) {
        enter->completed(enter, result == ENTER_INSIDE);
    }
}

static void on_task(struct worker_task *task)
{
    resume((struct enter *)(void *)((uint8_t *)task - offsetof(struct enter, task)));
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    struct enter *enter = context;
    if (enter->waiting != ENTER_WAIT_LOCK) {
        enter_cancel(enter);
    } else if (lock_cancel(enter->engine->locks, &enter->lock_waiter)) {
        enter->hint_at++; /* it was only a hint */
        resume(enter);
    } /* else its task is on the way */
}

static void on_pass(struct gate_wait *wait)
{
    struct enter *enter = (struct enter *)(void *)((uint8_t *)wait - offsetof(struct enter, wait));
    gate_pass(enter->engine->gates, &enter->waiter);
}

static void on_admitted(struct gate_waiter *waiter)
{
    struct enter *enter =
        (struct enter *)(void *)((uint8_t *)waiter - offsetof(struct enter, waiter));
    worker_post(enter->worker, &enter->task);
}

static void on_lock_wait_ended(struct lock_waiter *waiter)
{
    struct enter *enter =
        (struct enter *)(void *)((uint8_t *)waiter - offsetof(struct enter, lock_waiter));
    worker_post(enter->worker, &enter->task);
}

void enter_cancel(struct enter *enter)
{
    if (enter->waiting == ENTER_WAIT_GATE && gate_cancel(enter->engine->gates, &enter->waiter)) {
        stop_waiting(enter);
        gate_list_drop(enter->engine->locks, &enter->unit->locks);
    } else if ((enter->waiting == ENTER_WAIT_LOCK || enter->waiting == ENTER_WAIT_NAMESPACE) &&
               lock_cancel(enter->engine->locks, &enter->lock_waiter)) {
        stop_waiting(enter);
    } else {
        return; /* not waiting, or its task is on the way */
    }
    enter->completed(enter, false);
}

static void wait_for(struct enter *enter, enum enter_wait what)
{
    enter->waiting = what;
    worker_timer_start(&enter->timer, enter->engine->lock_wait_ms);
}

static enum enter_result pass_gates(struct enter *enter)
{
    struct lock_owner *owner = &enter->unit->locks;
    while (enter->at < enter->count) {
        uint32_t gate = enter->gates[enter->at++];
        if (gate_list_has(owner, gate)) {
            continue;
        }
        if (gate_list_add(enter->engine->locks, owner, gate) != STATUS_OK) {
            return ENTER_NO_MEMORY;
        }
        if (gate_unit_enter(enter->engine->gates, gate, &enter->waiter)) {
            continue;
        }
        wait_for(enter, ENTER_WAIT_GATE);
        if (!owner->registered && enter->at > 2) {
            /* It is inside another namespace's gate, and may be in somebody's way. */
            lock_owner_begin(enter->engine->locks, owner);
            enter->renews = true;
        }
        if (owner->registered) {
            enter->wait.gate = gate;
            gate_wait_begin(enter->engine->locks, owner, &enter->wait);
        }
        return ENTER_WAITING;
    }
    return ENTER_INSIDE;
}

/* Begins the unit, too. Nothing is to be done where it has the lock already. */
static enum enter_result take_namespace(struct enter *enter)
{
    struct lock_table *locks = enter->engine->locks;
    struct lock_owner *owner = &enter->unit->locks;
    uint32_t gate = enter->gates[1];
    if (enter->modes == 0) {
        lock_owner_begin(locks, owner);
        return ENTER_INSIDE;
    }
    if (namespace_is_locked(owner, gate, enter->modes)) {
        return ENTER_INSIDE;
    }
    switch (namespace_lock(locks, owner, gate, enter->modes, &enter->lock_waiter)) {
    case LOCK_WAITING:
        enter->renews = true;
        wait_for(enter, ENTER_WAIT_NAMESPACE);
        return ENTER_WAITING;
    case LOCK_DEADLOCK:
        return ENTER_DEADLOCK;
    default:
        return ENTER_INSIDE;
    }
}

/*
 * What cannot be had at once, but by waiting, is left out. So is all while readers wait for those
 * who hold locks: who holds one would be let past them (write_admit()).
 */
static enum enter_result take_hints(struct enter *enter)
{
    struct engine *engine = enter->engine;
    struct lock_owner *owner = &enter->unit->locks;
    size_t count = owner->hints == NULL ? 0 : owner->hints->count;
    for (; enter->hint_at < count; enter->hint_at++) {
        const struct lock_hint *hint = &owner->hints->hints[enter->hint_at];
        if (uncommitted_is_draining(engine->uncommitted, hint->gate)) {
            continue;
        }
        switch (lock_acquire(engine->locks, owner, &hint->name, &enter->lock_waiter)) {
        case LOCK_WAITING:
            wait_for(enter, ENTER_WAIT_LOCK);
            return ENTER_WAITING;
        case LOCK_DEADLOCK:
            owner->hints->failed = true;
            return ENTER_DEADLOCK;
        case LOCK_GRANTED:
        case LOCK_CONFLICT: /* its view begins only now */
        case LOCK_LIMIT:
        case LOCK_NO_MEMORY:
            break;
        }
    }
    return ENTER_INSIDE;
}

static enum enter_result go_on(struct enter *enter)
{
    struct lock_owner *owner = &enter->unit->locks;
    enum enter_result result = pass_gates(enter);
    if (result == ENTER_INSIDE && (enter->begins || enter->modes != 0)) {
        result = take_namespace(enter);
    }
    if (result != ENTER_INSIDE || !enter->begins) {
        return result;
    }
    result = take_hints(enter);
    if (result != ENTER_INSIDE) {
        return result;
    }
    if (owner->held_count > 0 || enter->renews) {
        lock_owner_renew(enter->engine->locks, owner);
    }
    enter_snapshot(enter->engine, enter->unit);
    return ENTER_INSIDE;
}

void enter_snapshot(struct engine *engine, struct unit *unit)
{
    if (unit->reads_snapshot && engine->committed_reads && !unit->uncommitted.has_snapshot) {
        uncommitted_snapshot_begin(engine->uncommitted, &unit->uncommitted,
                                   gate_epoch_next(engine->gates));
    }
}

static void put_gates(struct enter *enter, const uint32_t *gates, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (gates[i] != GATE_SERVER) {
            enter->gates[enter->count++] = gates[i];
        }
    }
}

enum enter_result enter_start_gates(struct enter *enter, const uint32_t *gates, size_t count)
{
    const struct unit_gates *early = &enter->unit->early;
    assert(count <= ENTER_GATES_MAX - UNIT_GATES_MAX);
    enter->gates[0] = GATE_SERVER;
    enter->count = 1;
    put_gates(enter, gates, count);
    if (!enter->unit->uncommitted.has_snapshot) {
        put_gates(enter, early->gates, early->count);
    }
    enter->at = 0;
    enter->begins = !enter->unit->locks.registered;
    enter->renews = false;
    enter->hint_at = 0;
    enter->waiting = ENTER_WAIT_NONE;
    enter->waiter.admitted = on_admitted;
    enter->wait.pass = on_pass;
    enter->lock_waiter.ended = on_lock_wait_ended;
    enter->lock_waiter.unless_changed = false;
    enter->task.run = on_task;
    int assigned = event_assign(&enter->timer, worker_base(enter->worker), -1, 0, on_timer, enter);
    assert(assigned == 0);
    return go_on(enter);
}

enum enter_result enter_start(struct enter *enter, const char *database, const char *collection)
{
    uint32_t gate = gate_of(database, collection);
    return enter_start_gates(enter, &gate, 1);
}

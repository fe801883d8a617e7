/* A unit's way through the gates; see enter.h. Owned by the worker of the unit's present command.
 */
#include "engine/enter.h"

#include <assert.h>

static enum enter_result go_on(struct enter *enter);

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    enter_cancel(context);
}

static void on_pass(struct gate_wait *wait)
{
    struct enter *enter = (struct enter *)(void *)((uint8_t *)wait - offsetof(struct enter, wait));
    gate_pass(enter->engine->gates, &enter->waiter);
}

static void stop_waiting(struct enter *enter)
{
    enter->waiting = false;
    (void)event_del(&enter->timer);
    if (!enter->locking) {
        gate_wait_end(enter->engine->locks, &enter->unit->locks);
    }
}

static void wait_begins(struct enter *enter, bool locking)
{
    uint64_t ms = enter->engine->lock_wait_ms;
    struct timeval timeout = {.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    enter->waiting = true;
    enter->locking = locking;
    (void)event_add(&enter->timer, &timeout);
}

static void on_task(struct worker_task *task)
{
    struct enter *enter = (struct enter *)(void *)((uint8_t *)task - offsetof(struct enter, task));
    stop_waiting(enter);
    switch (go_on(enter)) {
    case ENTER_INSIDE:
        enter->completed(enter, true);
        break;
    case ENTER_WAITING:
        break;
    case ENTER_NO_MEMORY:
    case ENTER_VICTIM:
        enter->completed(enter, false);
        break;
    }
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
        (struct enter *)(void *)((uint8_t *)waiter - offsetof(struct enter, lock));
    worker_post(enter->worker, &enter->task);
}

void enter_cancel(struct enter *enter)
{
    if (enter->waiting && enter->locking) {
        if (lock_cancel(enter->engine->locks, &enter->lock)) {
            stop_waiting(enter);
            enter->completed(enter, false);
        }
        return;
    }
    if (!enter->waiting || !gate_cancel(enter->engine->gates, &enter->waiter)) {
        return; /* not waiting, or its task is on the way */
    }
    stop_waiting(enter);
    gate_list_drop(enter->engine->locks, &enter->unit->locks);
    enter->completed(enter, false);
}

static enum enter_result go_on(struct enter *enter)
{
    struct lock_owner *owner = &enter->unit->locks;
    while (enter->at < 2) {
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
        wait_begins(enter, false);
        if (owner->registered) {
            enter->wait.gate = gate;
            gate_wait_begin(enter->engine->locks, owner, &enter->wait);
        }
        return ENTER_WAITING;
    }
    switch (
        namespace_lock(enter->engine->locks, owner, enter->gates[1], enter->modes, &enter->lock)) {
    case LOCK_WAITING:
        wait_begins(enter, true);
        return ENTER_WAITING;
    case LOCK_DEADLOCK:
        return ENTER_VICTIM;
    default:
        break;
    }
    if (enter->unit->reads_snapshot && enter->engine->committed_reads) {
        uncommitted_snapshot_begin(enter->engine->uncommitted, &enter->unit->uncommitted);
    }
    return ENTER_INSIDE;
}

enum enter_result enter_start(struct enter *enter, const char *database, const char *collection)
{
    enter->gates[0] = GATE_SERVER;
    enter->gates[1] = gate_of(database, collection);
    enter->at = 0;
    enter->waiting = enter->locking = false;
    enter->lock.ended = on_lock_wait_ended;
    enter->waiter.admitted = on_admitted;
    enter->wait.pass = on_pass;
    enter->task.run = on_task;
    int assigned = event_assign(&enter->timer, worker_base(enter->worker), -1, 0, on_timer, enter);
    assert(assigned == 0);
    return go_on(enter);
}

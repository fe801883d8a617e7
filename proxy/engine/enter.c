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
    gate_wait_end(enter->engine->locks, &enter->unit->locks);
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

void enter_cancel(struct enter *enter)
{
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
        uint64_t ms = enter->engine->lock_wait_ms;
        struct timeval timeout = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_usec = (suseconds_t)(ms % 1000) * 1000};
        enter->waiting = true;
        (void)event_add(&enter->timer, &timeout);
        if (owner->registered) {
            enter->wait.gate = gate;
            gate_wait_begin(enter->engine->locks, owner, &enter->wait);
        }
        return ENTER_WAITING;
    }
    lock_owner_begin(enter->engine->locks, owner);
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
    enter->waiting = false;
    enter->waiter.admitted = on_admitted;
    enter->wait.pass = on_pass;
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

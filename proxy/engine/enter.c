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

static void on_task(struct worker_task *task)
{
    struct enter *enter = (struct enter *)(void *)((uint8_t *)task - offsetof(struct enter, task));
    enter->waiting = false;
    (void)event_del(&enter->timer);
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
    enter->waiting = false;
    (void)event_del(&enter->timer);
    enter->unit->gate_count--; /* listed before it was entered, and it was not */
    enter->completed(enter, false);
}

static enum enter_result go_on(struct enter *enter)
{
    struct unit *unit = enter->unit;
    while (enter->at < 2) {
        uint32_t gate = enter->gates[enter->at++];
        if (unit_gate_inside(unit, gate)) {
            continue;
        }
        if (unit_gate_add(unit, gate) != STATUS_OK) {
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
        return ENTER_WAITING;
    }
    lock_owner_begin(enter->engine->locks, &unit->locks);
    return ENTER_INSIDE;
}

enum enter_result enter_start(struct enter *enter, const char *database, const char *collection)
{
    enter->gates[0] = GATE_SERVER;
    enter->gates[1] = gate_of(database, collection);
    enter->at = 0;
    enter->waiting = false;
    enter->waiter.admitted = on_admitted;
    enter->task.run = on_task;
    int assigned = event_assign(&enter->timer, worker_base(enter->worker), -1, 0, on_timer, enter);
    assert(assigned == 0);
    return go_on(enter);
}

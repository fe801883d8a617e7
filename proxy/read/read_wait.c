/*
 * Turns, and what a reading command waits for: the end of units, a lull between them, its turn. See
 * read.h.
 *
 * At most one thing is waited for; its end comes as the operation's task. The channel's worker.
 */
#include <assert.h>

#include "holdfast/clock.h"
#include "read/read_private.h"

/* How long units that are not there yet are kept out, and how often. */
#define DRAIN_MS 50
#define DRAIN_PAUSE_MS 200

static bool others_are_clear(const struct read_operation *operation, size_t first)
{
    const struct read_command *command = &operation->command;
    for (size_t i = first; i < command->gate_count; i++) {
        uint32_t gate = command->gates[i];
        if (!uncommitted_is_empty(operation->engine->uncommitted, gate) &&
            uncommitted_has_others(operation->engine->uncommitted, gate, &operation->reader)) {
            return false;
        }
    }
    return true;
}

static uint32_t turn_gate(const struct read_operation *operation)
{
    return operation->command.gate_count > 1 ? GATE_SERVER : operation->command.gates[0];
}

static void set_timer(struct read_operation *operation, uint64_t until_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t end_ms = until_ms < operation->deadline_ms ? until_ms : operation->deadline_ms;
    worker_timer_start(&operation->timer, end_ms > now_ms ? end_ms - now_ms : 1);
}

void read_begin_turn(struct read_operation *operation, enum uncommitted_turn_kind kind)
{
    operation->turn.gate = turn_gate(operation);
    operation->turn.kind = kind;
    operation->drain_until_ms = clock_monotonic_ms() + DRAIN_MS;
    if (uncommitted_turn_begin(operation->engine->uncommitted, &operation->turn)) {
        operation->has_turn = true;
        read_look(operation);
        return;
    }
    operation->step = READ_TURN_QUEUED;
    set_timer(operation, UINT64_MAX);
}

/* Until a unit ends, or `until_ms`. */
static void watch(struct read_operation *operation, enum read_step step, uint64_t until_ms)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    operation->watch.gate = turn_gate(operation);
    operation->step = step;
    bool waiting = uncommitted_watch(table, &operation->watch, &operation->reader);
    /* What it waits for may have ended before it was watched. */
    if (!waiting ||
        (others_are_clear(operation, 0) && uncommitted_unwatch(table, &operation->watch))) {
        worker_post(operation->channel->worker, &operation->task);
        return;
    }
    set_timer(operation, until_ms);
}

void read_wait_for_units(struct read_operation *operation)
{
    uint64_t now_ms = clock_monotonic_ms();
    bool draining = read_has_turn(operation, UNCOMMITTED_TURN_DRAIN);
    if (operation->cancelled || now_ms >= operation->deadline_ms) {
        read_fail_for_time(operation);
    } else if (draining && now_ms < operation->drain_until_ms) {
        watch(operation, READ_DRAINING, operation->drain_until_ms);
    } else if (!operation->has_turn && now_ms >= operation->drain_after_ms) {
        operation->drain_after_ms = now_ms + DRAIN_MS + DRAIN_PAUSE_MS;
        read_begin_turn(operation, UNCOMMITTED_TURN_DRAIN);
    } else {
        read_end_turn(operation);
        watch(operation, READ_WAITING, operation->drain_after_ms);
    }
}

bool read_is_clear_now(struct read_operation *operation, size_t first)
{
    if (!others_are_clear(operation, first)) {
        return false;
    }
    if (!read_has_turn(operation, UNCOMMITTED_TURN_DRAIN)) {
        return true;
    }
    uncommitted_turn_make_read(operation->engine->uncommitted, &operation->turn);
    return others_are_clear(operation, first); /* who may pass a drain may have been faster */
}

/* ------------------------------------------------------------------ ends of waiting */

static void on_turn(struct uncommitted_turn *turn)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)turn - offsetof(struct read_operation, turn));
    worker_post(operation->channel->worker, &operation->task);
}

static void on_unit_ended(struct uncommitted_watch *ended)
{
    struct read_operation *operation =
        (struct read_operation *)(void *)((uint8_t *)ended -
                                          offsetof(struct read_operation, watch));
    worker_post(operation->channel->worker, &operation->task);
}

bool read_stop_waiting(struct read_operation *operation)
{
    struct uncommitted_table *table = operation->engine->uncommitted;
    switch (operation->step) {
    case READ_TURN_QUEUED:
        return uncommitted_turn_cancel(table, &operation->turn);
    case READ_DRAINING:
    case READ_WAITING:
        return uncommitted_unwatch(table, &operation->watch);
    case READ_RESOLVING:
    case READ_ENTERING:
    case READ_AT_SERVER:
    case READ_KILLING:
        break;
    }
    return false;
}

/* The reply takes longer than units have to wait for it. */
static void give_turn_up(struct read_operation *operation)
{
    if (operation->has_turn) {
        operation->stamp = read_stamp_now(operation);
        operation->gave_up = true;
        read_end_turn(operation);
    }
}

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    struct read_operation *operation = context;
    (void)descriptor;
    (void)what;
    if (operation->step == READ_AT_SERVER) {
        give_turn_up(operation);
        return;
    }
    if (!read_stop_waiting(operation)) {
        return; /* its task is on the way */
    }
    if (operation->step == READ_TURN_QUEUED) {
        read_fail_for_time(operation);
    } else {
        read_look(operation);
    }
}

void read_wait_init(struct read_operation *operation)
{
    operation->turn.begun = on_turn;
    operation->watch.ended = on_unit_ended;
    int assigned = event_assign(&operation->timer, worker_base(operation->channel->worker), -1, 0,
                                on_timer, operation);
    assert(assigned == 0);
}

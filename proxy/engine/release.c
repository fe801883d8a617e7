/* Letting go of what a unit held. Any thread; the unit is checked out by the caller. */
#include "engine/release.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "unit/unit_log.h"

static const char *const outcome_names[] = {
    [ENGINE_COMMITTED] = "committed",
    [ENGINE_ROLLED_BACK] = "rolled_back",
    [ENGINE_CONFLICT] = "conflict",
};

const char *engine_outcome_name(enum engine_outcome outcome)
{
    return outcome_names[outcome];
}

uint64_t engine_ended(const struct engine_counters *counters, enum engine_outcome outcome)
{
    uint64_t ended = 0;
    for (size_t i = 0; i < UNIT_BOUNDARIES; i++) {
        ended += atomic_load_explicit(&counters->ended[i][outcome], memory_order_relaxed);
    }
    return ended;
}

static void count(_Atomic uint64_t *counter)
{
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static enum engine_outcome outcome_of(const struct unit *unit)
{
    return unit->state == UNIT_COMMITTED ? ENGINE_COMMITTED
           : unit->state == UNIT_ABORTED ? ENGINE_ROLLED_BACK
                                         : ENGINE_CONFLICT;
}

static void count_end(struct engine_counters *counters, const struct unit *unit)
{
    enum engine_outcome outcome = outcome_of(unit);
    count(&counters->ended[unit->boundary][outcome]);
    if (outcome != ENGINE_COMMITTED) {
        count(&counters->reasons[rollback_reason_of(unit->end_reason)]);
    }
    if (unit->begun) {
        count(&counters->journaled);
    }
}

static void end_span(const struct unit *unit)
{
    if (!span_is_wanted(&unit->trace)) {
        return;
    }
    bool is_call = unit->boundary == UNIT_BOUNDARY_HTTP;
    struct span span = {
        .context = unit->trace,
        .kind = is_call ? SPAN_SERVER : SPAN_INTERNAL,
        .failed = unit->state == UNIT_CONFLICT,
        .started_us = unit->began_wall_us,
        .ended_us = clock_wall_us(),
        .unit = unit->id,
        .boundary = unit_boundary_name(unit->boundary),
        .outcome = engine_outcome_name(outcome_of(unit)),
        .reason = unit->state == UNIT_COMMITTED
                      ? NULL
                      : rollback_reason_label(rollback_reason_of(unit->end_reason)),
    };
    (void)snprintf(span.name, sizeof span.name, "%s", is_call ? unit->name : "unit");
    (void)snprintf(span.user, sizeof span.user, "%s", unit->user);
    (void)snprintf(span.application, sizeof span.application, "%s", unit->application);
    (void)snprintf(span.client, sizeof span.client, "%s", unit->client);
    span_end(&span);
}

void release_unit(struct engine *engine, struct unit *unit)
{
    count_end(&engine->counters, unit);
    end_span(unit);
    uncommitted_end(engine->uncommitted, &unit->uncommitted, unit->state == UNIT_COMMITTED);
    lock_release_all(engine->locks, &unit->locks, unit->state == UNIT_ABORTED);
    struct lock_owner *owner = &unit->locks;
    /* Its last record is durable, so that no later one has to be waited for by much. */
    uint64_t end_lsn = unit->begun ? wal_last_lsn(engine->wal) : 0;
    while (owner->gate_count > 0) {
        gate_unit_leave(engine->gates, owner->gates[--owner->gate_count].gate, end_lsn);
    }
}

void release_end_process(const char *message, const struct unit *unit, enum status status)
{
    LOG(LOG_ERROR, "journal", message, LOG_UNIT(unit), LOG_TEXT("status", status_name(status)),
        LOG_TEXT("action", "ending the process; the next start recovers"));
    _exit(70);
}

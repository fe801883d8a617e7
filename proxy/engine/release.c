/* Letting go of what a unit held. Any thread; the unit is checked out by the caller. */
#include "engine/release.h"

#include <stdatomic.h>
#include <unistd.h>

#include "holdfast/log.h"

static void count_end(struct engine_counters *counters, enum unit_state state)
{
    _Atomic uint64_t *counter = state == UNIT_COMMITTED ? &counters->committed
                                : state == UNIT_ABORTED ? &counters->rolled_back
                                                        : &counters->conflicts;
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void release_unit(struct engine *engine, struct unit *unit)
{
    count_end(&engine->counters, unit->state);
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
    LOG(LOG_ERROR, "journal", message, LOG_NUMBER("unit", unit->id),
        LOG_TEXT("status", status_name(status)),
        LOG_TEXT("action", "ending the process; the next start recovers"));
    _exit(70);
}

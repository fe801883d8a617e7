/* A line for each deadlock, within bounds; see deadlock_log.h. Any thread. */
#include "engine/deadlock_log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"

#define PERIOD_MS 1000u

static atomic_uint_least64_t next_line_ms;

void deadlock_log(const struct lock_deadlock *deadlock)
{
    uint64_t now = clock_monotonic_ms();
    uint64_t next = atomic_load(&next_line_ms);
    if (now < next || !atomic_compare_exchange_strong(&next_line_ms, &next, now + PERIOD_MS)) {
        return;
    }
    char units[LOCK_DEADLOCK_UNITS_MAX * 21 + 1] = ""; /* a number of 64 bits and a space each */
    size_t size = 0;
    for (size_t i = 0; i < deadlock->unit_count && i < LOCK_DEADLOCK_UNITS_MAX; i++) {
        size += (size_t)snprintf(units + size, sizeof units - size, "%s%" PRIu64, i == 0 ? "" : " ",
                                 deadlock->units[i]);
    }
    LOG(LOG_INFO, "unit", "Deadlock: the youngest unit is rolled back",
        LOG_NUMBER("unit", deadlock->victim), LOG_TEXT("cycle", units),
        LOG_NUMBER("units", deadlock->unit_count), LOG_NUMBER("total", deadlock->total));
}

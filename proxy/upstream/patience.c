/*
 * Waits for the server at the end of the process (patience.h).
 *
 * Invariant: after `stopped_ms` is set `silent_ms` is the moment since when somebody has waited in
 * vain and nobody has got an answer, 0 if there is none. A wait that failed leaves it: whoever asks
 * next has the rest of the time only.
 *
 * Any thread.
 */
#include "upstream/patience.h"

#include <stdatomic.h>
#include <stddef.h>

#include "holdfast/clock.h"
#include "upstream/upstream.h"

static _Atomic uint64_t stopped_ms; /* 0: it goes on */
static _Atomic uint64_t silent_ms;
static bool (*_Atomic told_to_end)(void);

void upstream_watch_end(bool (*told)(void))
{
    atomic_store(&told_to_end, told);
}

void upstream_stop_waiting(void)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t before = 0;
    (void)atomic_compare_exchange_strong(&stopped_ms, &before, now_ms == 0 ? 1 : now_ms);
}

bool upstream_waits_are_stopped(void)
{
    return atomic_load(&stopped_ms) != 0;
}

bool patience_is_over(uint64_t began_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t stopped = atomic_load(&stopped_ms);
    if (stopped == 0) {
        bool (*told)(void) = atomic_load(&told_to_end);
        return now_ms - began_ms >= UPSTREAM_END_ANSWER_MS && told != NULL && told();
    }
    uint64_t since_ms = began_ms > stopped ? began_ms : stopped;
    uint64_t silent = 0;
    if (atomic_compare_exchange_strong(&silent_ms, &silent, since_ms)) {
        silent = since_ms;
    }
    return now_ms - silent >= UPSTREAM_END_ANSWER_MS || now_ms - stopped >= UPSTREAM_END_MS;
}

void patience_answered(void)
{
    if (atomic_load_explicit(&silent_ms, memory_order_relaxed) != 0) {
        atomic_store(&silent_ms, 0);
    }
}

int32_t patience_next_ms(uint64_t began_ms, int32_t wait_ms)
{
    if (wait_ms < 0) {
        return PATIENCE_LOOK_MS; /* for ever */
    }
    uint64_t passed_ms = clock_monotonic_ms() - began_ms;
    uint64_t left_ms = passed_ms < (uint64_t)wait_ms ? (uint64_t)wait_ms - passed_ms : 0;
    return left_ms < PATIENCE_LOOK_MS ? (int32_t)left_ms : PATIENCE_LOOK_MS;
}

/*
 * Cursors that read several collections, as bits of two generations; see cursor_gates.h.
 *
 * Invariant: what was noted is in one of the two for at least CURSOR_GATES_KEPT_MS, for only the
 * older one is emptied, and no sooner after the last time. Any thread.
 */
#include "unit/cursor_gates.h"

static uint32_t bit_of(int64_t cursor_id)
{
    return (uint32_t)((uint64_t)cursor_id * 0x9e3779b97f4a7c15u >> 48);
}

static void turn(struct cursor_gates *cursors, uint64_t now_ms)
{
    uint64_t turned_ms = atomic_load(&cursors->turned_ms);
    if (now_ms < turned_ms + CURSOR_GATES_KEPT_MS ||
        !atomic_compare_exchange_strong(&cursors->turned_ms, &turned_ms, now_ms)) {
        return; /* or another thread does it */
    }
    uint32_t older = 1 - atomic_load(&cursors->current);
    for (uint32_t i = 0; i < CURSOR_GATES_BITS / 64; i++) {
        atomic_store(&cursors->bits[older][i], 0);
    }
    atomic_store(&cursors->current, older);
}

void cursor_gates_note(struct cursor_gates *cursors, int64_t cursor_id, uint64_t now_ms)
{
    uint32_t bit = bit_of(cursor_id);
    turn(cursors, now_ms);
    (void)atomic_fetch_or(&cursors->bits[atomic_load(&cursors->current)][bit / 64],
                          (uint64_t)1 << bit % 64);
}

void cursor_gates_note_all(struct cursor_gates *cursors, uint64_t now_ms)
{
    turn(cursors, now_ms);
    uint32_t current = atomic_load(&cursors->current);
    for (uint32_t i = 0; i < CURSOR_GATES_BITS / 64; i++) {
        atomic_store(&cursors->bits[current][i], UINT64_MAX);
    }
}

bool cursor_gates_has(struct cursor_gates *cursors, int64_t cursor_id, uint64_t now_ms)
{
    uint32_t bit = bit_of(cursor_id);
    uint64_t both =
        atomic_load(&cursors->bits[0][bit / 64]) | atomic_load(&cursors->bits[1][bit / 64]);
    bool has = (both >> bit % 64 & 1) != 0;
    if (has) {
        cursor_gates_note(cursors, cursor_id, now_ms);
    }
    return has;
}

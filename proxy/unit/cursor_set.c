/* A set of cursors, by hash and with few places for each; see cursor_set.h. Any thread. */
#include "unit/cursor_set.h"

static uint32_t row_of(int64_t cursor_id)
{
    return (uint32_t)((uint64_t)cursor_id * 0x9e3779b97f4a7c15u >> 32) %
           (CURSOR_SET_COUNT / CURSOR_SET_WAYS);
}

void cursor_set_note(struct cursor_set *set, int64_t cursor_id)
{
    if (cursor_id == 0 || cursor_set_has(set, cursor_id)) {
        return;
    }
    _Atomic int64_t *row = set->ids[row_of(cursor_id)];
    for (uint32_t way = 0; way < CURSOR_SET_WAYS; way++) {
        int64_t none = 0;
        if (atomic_compare_exchange_strong(&row[way], &none, cursor_id)) {
            return;
        }
    }
    atomic_store(&row[atomic_fetch_add(&set->next, 1) % CURSOR_SET_WAYS], cursor_id);
}

bool cursor_set_has(const struct cursor_set *set, int64_t cursor_id)
{
    const _Atomic int64_t *row = set->ids[row_of(cursor_id)];
    bool found = false;
    for (uint32_t way = 0; way < CURSOR_SET_WAYS; way++) {
        found |= atomic_load(&row[way]) == cursor_id;
    }
    return cursor_id != 0 && found;
}

void cursor_set_clear(struct cursor_set *set)
{
    for (uint32_t i = 0; i < CURSOR_SET_COUNT / CURSOR_SET_WAYS; i++) {
        for (uint32_t way = 0; way < CURSOR_SET_WAYS; way++) {
            atomic_store(&set->ids[i][way], 0);
        }
    }
}

/*
 * Finding deadlocks: what a cycle is, and why it is enough to look where a wait begins, stands in
 * lock_table.h.
 *
 * Invariant, with the table's mutex held and outside lock_acquire(): no cycle. So the walk from a
 * unit that begins to wait ends at a unit that does not wait, or at the asker itself.
 */
#include <assert.h>

#include "unit/lock_table_private.h"

/* For whom the owner waits. NULL: it does not wait. */
static struct lock_owner *blocker(const struct lock_owner *owner)
{
    return owner->waiting == NULL ? NULL : owner->waiting->entry->holder;
}

struct lock_owner *deadlock_find(struct lock_table *table, struct lock_owner *asker,
                                 struct lock_deadlock *ret_deadlock)
{
    struct lock_owner *youngest = asker;
    struct lock_owner *at = asker;
    struct lock_deadlock found = {0};
    do {
        if (found.unit_count < LOCK_DEADLOCK_UNITS_MAX) {
            found.units[found.unit_count] = at->unit;
        }
        found.unit_count++;
        assert(found.unit_count <= table->owner_count);
        if (at->place > youngest->place) {
            youngest = at;
        }
        at = blocker(at);
    } while (at != NULL && at != asker);
    if (at == NULL) {
        return NULL;
    }
    found.victim = youngest->unit;
    found.total = ++table->deadlock_count;
    *ret_deadlock = found;
    return youngest;
}

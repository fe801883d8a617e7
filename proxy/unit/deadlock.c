/*
 * Finding deadlocks: what a cycle is, and why it is enough to look where a wait begins, stands in
 * lock_table.h; what gates add to it in gate_wait.h.
 *
 * Invariant, with the table's mutex held and outside lock_acquire() and gate_wait_begin(): no
 * cycle. So the walk from a unit that begins to wait ends at a unit that waits for no lock, or at
 * the asker itself. If that unit waits at a gate a search goes on from there; a cycle that it finds
 * is new and so leads through the asker, and through that unit: once it passes, no cycle is left.
 */
#include <assert.h>

#include "unit/gate_wait.h"
#include "unit/lock_table_private.h"

/* Who holds the lock that the owner waits for. NULL: it waits for none. */
static struct lock_owner *blocker(const struct lock_owner *owner)
{
    return owner->waiting == NULL ? NULL : owner->waiting->entry->holder;
}

/* ------------------------------------------------------------------ through gates */

static void visit(const struct lock_table *table, struct lock_owner *owner,
                  struct lock_owner **to_visit)
{
    if (owner->visited != table->search_number) {
        owner->visited = table->search_number;
        owner->next_visit = *to_visit;
        *to_visit = owner;
    }
}

/* A unit that waits at the gate is not inside it. */
static bool is_inside(const struct lock_owner *owner, uint32_t gate)
{
    bool waits_there = owner->at_gate != NULL && owner->at_gate->gate == gate;
    return !waits_there && gate_list_has(owner, gate);
}

static void visit_all_inside(struct lock_table *table, uint32_t gate, struct lock_owner **to_visit)
{
    if (table->gates_visited[gate] == table->search_number) {
        return;
    }
    table->gates_visited[gate] = table->search_number;
    for (struct lock_owner *at = table->oldest_owner; at != NULL; at = at->younger) {
        if (is_inside(at, gate)) {
            visit(table, at, to_visit);
        }
    }
}

static bool waits_for_itself(struct lock_table *table, const struct lock_owner *owner)
{
    struct lock_owner *to_visit = NULL;
    table->search_number++;
    visit_all_inside(table, owner->at_gate->gate, &to_visit);
    while (to_visit != NULL) {
        struct lock_owner *at = to_visit;
        to_visit = at->next_visit;
        if (at == owner) {
            return true;
        }
        if (at->waiting != NULL) {
            visit(table, blocker(at), &to_visit);
        } else if (at->at_gate != NULL) {
            visit_all_inside(table, at->at_gate->gate, &to_visit);
        }
    }
    return false;
}

void deadlock_pass_gate(struct lock_table *table, struct lock_owner *owner)
{
    if (owner->at_gate != NULL && waits_for_itself(table, owner)) {
        struct gate_wait *wait = owner->at_gate;
        owner->at_gate = NULL;
        wait->pass(wait);
    }
}

/* ------------------------------------------------------------------ between locks */

struct lock_owner *deadlock_find(struct lock_table *table, struct lock_owner *asker,
                                 struct lock_deadlock *ret_deadlock)
{
    struct lock_owner *youngest = asker;
    struct lock_owner *at = asker;
    struct lock_owner *last = NULL;
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
        last = at;
        at = blocker(at);
    } while (at != NULL && at != asker);
    if (at == NULL) {
        deadlock_pass_gate(table, last);
        return NULL;
    }
    found.victim = youngest->unit;
    found.total = ++table->deadlock_count;
    *ret_deadlock = found;
    return youngest;
}

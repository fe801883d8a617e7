/*
 * Finding deadlocks: what a cycle is, and why it is enough to look where a wait begins, stands in
 * lock_table.h; what gates add to it in gate_wait.h.
 *
 * Invariant, with the table's mutex held and outside lock_acquire() and gate_wait_begin(): no
 * cycle. So each new one leads through the asker, and a search from it finds one if there is one.
 * Where the search meets units that wait at gates, others go on from there; a cycle that they find
 * leads through such a unit: once it passes, that cycle is none any more.
 */
#include "unit/gate_wait.h"
#include "unit/lock_table_private.h"

/* A depth-first search along waits. */
struct search {
    struct lock_table *table;
    struct lock_owner *to_visit;
    struct lock_owner *from;  /* whose wait is followed at the moment */
    struct lock_owner *asker; /* who is looked for among those that are waited for; NULL: nobody */
};

static void search_begin(struct search *search, struct lock_table *table)
{
    table->search_number++;
    *search = (struct search){.table = table};
}

static void visit(struct search *search, struct lock_owner *owner)
{
    if (owner->visited != search->table->search_number) {
        owner->visited = search->table->search_number;
        owner->came_from = search->from;
        owner->next_visit = search->to_visit;
        search->to_visit = owner;
    }
}

/* The next one to look at, from which what it waits for is visited; NULL: none is left. */
static struct lock_owner *search_next(struct search *search)
{
    struct lock_owner *next = search->to_visit;
    if (next != NULL) {
        search->to_visit = next->next_visit;
        search->from = next;
    }
    return next;
}

/* ------------------------------------------------------------------ who is waited for */

/*
 * Where one owner holds the entry exclusively, all in its queue wait for that one. Else it is
 * shared, and its queue is led by who wants it exclusively.
 */
static void visit_of_entry(struct search *search, const struct lock_waiter *waiter)
{
    const struct lock_entry *entry = waiter->entry;
    bool exclusive = waiter->share == NULL;
    if (entry->holder != NULL) {
        visit(search, entry->holder);
        return;
    }
    for (const struct lock_share *at = entry->shares; exclusive && at != NULL; at = at->next) {
        if (at->owner != waiter->owner) {
            visit(search, at->owner);
        }
    }
    for (const struct lock_waiter *at = entry->queue.first; at != waiter; at = at->next) {
        if (exclusive || at->share == NULL) {
            visit(search, at->owner);
        }
    }
}

/*
 * Who wants the same modes as one behind it in the queue waits for nobody that the other does not
 * wait for, but perhaps for the other itself. So of those with the same modes one look at all who
 * are there does for a whole search; else its cost would be the square of who waits.
 */
static void visit_of_namespace(struct search *search, const struct lock_waiter *waiter)
{
    const struct lock_table *table = search->table;
    uint32_t gate = (uint32_t)(waiter->namespace - table->namespaces);
    if (waiter->passed == table->search_number) {
        if (search->asker != NULL && search->asker != waiter->owner &&
            namespace_conflicts(namespace_modes_of(search->asker, gate), waiter->modes)) {
            visit(search, search->asker);
        }
        return;
    }
    for (struct lock_owner *at = table->oldest_owner; at != NULL; at = at->younger) {
        if (at != waiter->owner &&
            namespace_conflicts(namespace_modes_of(at, gate), waiter->modes)) {
            visit(search, at);
        }
    }
    for (struct lock_waiter *at = waiter->namespace->queue.first; at != waiter; at = at->next) {
        if (namespace_conflicts(at->modes, waiter->modes)) {
            visit(search, at->owner);
        }
        if (at->modes == waiter->modes) {
            at->passed = table->search_number;
        }
    }
}

static void visit_blockers(struct search *search, const struct lock_owner *owner)
{
    const struct lock_waiter *waiter = owner->waiting;
    if (waiter != NULL && waiter->entry != NULL) {
        visit_of_entry(search, waiter);
    } else if (waiter != NULL) {
        visit_of_namespace(search, waiter);
    }
}

struct lock_owner *deadlock_blocker(struct lock_table *table, struct lock_owner *owner)
{
    struct search search;
    search_begin(&search, table);
    visit_blockers(&search, owner);
    return search.to_visit;
}

/* ------------------------------------------------------------------ through gates */

/* A unit that waits at the gate is not inside it. */
static bool is_inside(const struct lock_owner *owner, uint32_t gate)
{
    bool waits_there = owner->at_gate != NULL && owner->at_gate->gate == gate;
    return !waits_there && gate_list_has(owner, gate);
}

static void visit_all_inside(struct search *search, uint32_t gate)
{
    struct lock_table *table = search->table;
    if (table->gates_visited[gate] == table->search_number) {
        return;
    }
    table->gates_visited[gate] = table->search_number;
    for (struct lock_owner *at = table->oldest_owner; at != NULL; at = at->younger) {
        if (is_inside(at, gate)) {
            visit(search, at);
        }
    }
}

static bool waits_for_itself(struct lock_table *table, const struct lock_owner *owner)
{
    struct search search;
    struct lock_owner *at;
    search_begin(&search, table);
    visit_all_inside(&search, owner->at_gate->gate);
    while ((at = search_next(&search)) != NULL) {
        if (at == owner) {
            return true;
        }
        if (at->waiting != NULL) {
            visit_blockers(&search, at);
        } else if (at->at_gate != NULL) {
            visit_all_inside(&search, at->at_gate->gate);
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

/* The cycle from the asker to `last`, which waits for it. Returns its youngest. */
static struct lock_owner *tell(struct lock_table *table, struct lock_owner *asker,
                               struct lock_owner *last, struct lock_deadlock *ret_deadlock)
{
    struct lock_deadlock found = {.unit_count = 1, .total = ++table->deadlock_count};
    struct lock_owner *youngest = asker;
    for (struct lock_owner *at = last; at != asker; at = at->came_from) {
        found.unit_count++;
    }
    size_t number = found.unit_count;
    for (struct lock_owner *at = last; number > 1; at = at->came_from) {
        if (--number < LOCK_DEADLOCK_UNITS_MAX) {
            found.units[number] = at->unit;
        }
        if (at->place > youngest->place) {
            youngest = at;
        }
    }
    found.units[0] = asker->unit;
    found.victim = youngest->unit;
    *ret_deadlock = found;
    return youngest;
}

struct lock_owner *deadlock_find(struct lock_table *table, struct lock_owner *asker,
                                 struct lock_deadlock *ret_deadlock)
{
    struct search search;
    struct lock_owner *at;
    bool through_gate = false;
    search_begin(&search, table);
    search.asker = asker;
    search.from = asker; /* which is not visited, so that it is found if somebody waits for it */
    visit_blockers(&search, asker);
    while ((at = search_next(&search)) != NULL) {
        if (at == asker) {
            return tell(table, asker, asker->came_from, ret_deadlock);
        }
        through_gate = through_gate || at->at_gate != NULL;
        visit_blockers(&search, at);
    }
    at = through_gate ? table->oldest_owner : NULL;
    for (; at != NULL; at = at->younger) {
        deadlock_pass_gate(table, at);
    }
    return NULL;
}

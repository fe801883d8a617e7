/*
 * Locks on namespaces (namespace_lock.h). Everything belongs to the lock table's mutex; an owner's
 * own modes are changed by nobody else but who hands it what it waits for.
 *
 * Invariants: `readers` and `writers` count the owners with that mode; if one has both, nobody else
 * has any but READ, and nobody READ but it.
 */
#include "unit/namespace_lock.h"

#include <assert.h>

#include "unit/lock_table_private.h"

bool namespace_conflicts(unsigned a, unsigned b)
{
    return ((a & NAMESPACE_READ) != 0 && (b & NAMESPACE_WRITE) != 0) ||
           ((a & NAMESPACE_WRITE) != 0 && (b & NAMESPACE_READ) != 0);
}

unsigned namespace_modes_of(const struct lock_owner *owner, uint32_t gate)
{
    const struct lock_gate *found = gate_list_find(owner, gate);
    return found == NULL ? 0 : found->modes;
}

bool namespace_is_locked(const struct lock_owner *owner, uint32_t gate, unsigned modes)
{
    return (namespace_modes_of(owner, gate) & modes) == modes;
}

static uint32_t number_of(const struct lock_table *table, const struct lock_namespace *namespace)
{
    return (uint32_t)(namespace - table->namespaces);
}

/* Whether others stand against `wanted`. */
static bool is_blocked(const struct lock_namespace *namespace, unsigned held, unsigned wanted)
{
    uint32_t other_readers = namespace->readers - ((held & NAMESPACE_READ) != 0);
    uint32_t other_writers = namespace->writers - ((held & NAMESPACE_WRITE) != 0);
    return ((wanted & NAMESPACE_READ) != 0 && other_writers > 0) ||
           ((wanted & NAMESPACE_WRITE) != 0 && other_readers > 0);
}

static void give(struct lock_namespace *namespace, struct lock_gate *gate, unsigned modes)
{
    unsigned more = modes & ~gate->modes;
    namespace->readers += (more & NAMESPACE_READ) != 0;
    namespace->writers += (more & NAMESPACE_WRITE) != 0;
    gate->modes |= modes;
}

/* ------------------------------------------------------------------ the queue */

static void enqueue(struct lock_table *table, struct lock_namespace *namespace,
                    struct lock_owner *owner, unsigned modes, struct lock_waiter *waiter)
{
    uint32_t number = number_of(table, namespace);
    bool first = namespace_modes_of(owner, number) != 0;
    struct lock_waiter **at = first ? &namespace->queue.first : lock_queue_end(&namespace->queue);
    while (first && *at != NULL && namespace_modes_of((*at)->owner, number) != 0) {
        at = &(*at)->next;
    }
    waiter->namespace = namespace;
    waiter->modes = modes;
    waiter->passed = 0;
    lock_queue_insert(&namespace->queue, at, owner, waiter);
}

static void pass_on(struct lock_table *table, struct lock_namespace *namespace,
                    struct lock_ended *ended)
{
    uint32_t number = number_of(table, namespace);
    struct lock_waiter *waiter = namespace->queue.first;
    while (waiter != NULL &&
           !is_blocked(namespace, namespace_modes_of(waiter->owner, number), waiter->modes)) {
        lock_queue_remove(&namespace->queue, waiter);
        give(namespace, gate_list_find(waiter->owner, number), waiter->modes);
        lock_ended_add(ended, waiter);
        waiter = namespace->queue.first;
    }
}

void namespace_dequeue(struct lock_table *table, struct lock_waiter *waiter,
                       struct lock_ended *ended)
{
    struct lock_namespace *namespace = waiter->namespace;
    lock_queue_remove(&namespace->queue, waiter);
    pass_on(table, namespace, ended);
}

/* ------------------------------------------------------------------ locking */

enum lock_result namespace_lock(struct lock_table *table, struct lock_owner *owner, uint32_t gate,
                                unsigned modes, struct lock_waiter *waiter)
{
    struct lock_namespace *namespace = &table->namespaces[gate];
    pthread_mutex_lock(&table->mutex);
    assert(owner->waiting == NULL);
    lock_owner_begin_locked(table, owner);
    struct lock_gate *own = gate_list_find(owner, gate);
    assert(own != NULL);
    enum lock_result result = LOCK_GRANTED;
    if (owner->victim) {
        result = LOCK_DEADLOCK;
    } else if ((own->modes & modes) != modes) {
        bool in_turn = namespace->queue.first == NULL || own->modes != 0;
        if (in_turn && !is_blocked(namespace, own->modes, modes)) {
            give(namespace, own, modes);
        } else {
            enqueue(table, namespace, owner, modes, waiter);
            return lock_wait(table, owner, waiter);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return result;
}

void namespace_release_all(struct lock_table *table, struct lock_owner *owner,
                           struct lock_ended *ended)
{
    for (size_t i = 0; i < owner->gate_count; i++) {
        struct lock_namespace *namespace = &table->namespaces[owner->gates[i].gate];
        unsigned modes = owner->gates[i].modes;
        if (modes != 0) {
            owner->gates[i].modes = 0;
            namespace->readers -= (modes & NAMESPACE_READ) != 0;
            namespace->writers -= (modes & NAMESPACE_WRITE) != 0;
            pass_on(table, namespace, ended);
        }
    }
}

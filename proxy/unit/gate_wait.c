/*
 * Who is inside which gate and waits at which. Changed under the lock table's mutex, for the search
 * for deadlocks reads it; the owner's own thread reads its list without, as nobody else changes it.
 */
#include "unit/gate_wait.h"

#include <assert.h>
#include <stdlib.h>

#include "unit/lock_table_private.h"

enum status gate_list_add(struct lock_table *table, struct lock_owner *owner, uint32_t gate)
{
    pthread_mutex_lock(&table->mutex);
    struct lock_gate *gates = realloc(owner->gates, (owner->gate_count + 1) * sizeof *gates);
    if (gates != NULL) {
        owner->gates = gates;
        owner->gates[owner->gate_count++] = (struct lock_gate){.gate = gate};
    }
    pthread_mutex_unlock(&table->mutex);
    return gates == NULL ? STATUS_MEMORY : STATUS_OK;
}

void gate_list_drop(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    assert(owner->gate_count > 0);
    owner->gate_count--;
    pthread_mutex_unlock(&table->mutex);
}

struct lock_gate *gate_list_find(const struct lock_owner *owner, uint32_t gate)
{
    size_t i = 0;
    while (i < owner->gate_count && owner->gates[i].gate != gate) {
        i++;
    }
    return i == owner->gate_count ? NULL : &owner->gates[i];
}

bool gate_list_has(const struct lock_owner *owner, uint32_t gate)
{
    return gate_list_find(owner, gate) != NULL;
}

void gate_list_free(struct lock_owner *owner)
{
    free(owner->gates);
    owner->gates = NULL;
    owner->gate_count = 0;
}

void gate_wait_begin(struct lock_table *table, struct lock_owner *owner, struct gate_wait *wait)
{
    pthread_mutex_lock(&table->mutex);
    assert(owner->registered && owner->waiting == NULL && owner->at_gate == NULL);
    owner->at_gate = wait;
    deadlock_pass_gate(table, owner);
    pthread_mutex_unlock(&table->mutex);
}

void gate_wait_end(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    owner->at_gate = NULL;
    pthread_mutex_unlock(&table->mutex);
}

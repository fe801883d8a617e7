#ifndef HOLDFAST_UNIT_GATE_WAIT_H
#define HOLDFAST_UNIT_GATE_WAIT_H

/*
 * Gates in the search for deadlocks: inside which gates a unit is, and at which one it waits.
 *
 * A unit may wait at a gate behind a plain command (createIndexes and the like) that waits until no
 * unit is inside (gate.h). If one of those inside waits for a document that the unit holds, or at a
 * gate that the unit is inside of, that is a cycle. It needs no victim: the unit queues for
 * fairness only, so it goes past the plain command, which could not have gone on before it anyway.
 *
 * From a unit at a gate many ways lead on, to all units inside: the search visits each unit and
 * each gate once at most (unit.maxOpen times the gates a unit is inside of), and takes place only
 * if the way from holder to holder ends at such a unit. What it takes for a wait may have ended a
 * moment ago; then a unit goes past that need not have, which harms nobody.
 *
 * A unit's first gate is not looked at: who is inside none and holds nothing is in nobody's way.
 *
 * Threads: any; the lock table's mutex.
 */

#include <stdbool.h>

#include "unit/lock_table.h"

/* Lies in the caller's memory from gate_wait_begin() to gate_wait_end(). */
struct gate_wait {
    /*
     * Let the unit go past those that it is queued behind (gate_pass()). Called on the thread that
     * closes the cycle, perhaps from inside gate_wait_begin(), with the table's mutex held: it must
     * not call the lock table.
     */
    void (*pass)(struct gate_wait *wait);
    uint32_t gate;
};

/* The owner is inside the gate, or is about to be: call it before gate_unit_enter(). */
MUST_CHECK enum status gate_list_add(struct lock_table *table, struct lock_owner *owner,
                                     uint32_t gate);
/* It did not get in: takes back the last gate_list_add(). */
void gate_list_drop(struct lock_table *table, struct lock_owner *owner);
/* By who works on the unit. */
bool gate_list_has(const struct lock_owner *owner, uint32_t gate);
/* Frees the list of an owner that lock_release_all() has forgotten, or that never began. */
void gate_list_free(struct lock_owner *owner);

/* The owner, which has begun, waits at a gate; it waits for nothing else until the end. */
void gate_wait_begin(struct lock_table *table, struct lock_owner *owner, struct gate_wait *wait);
void gate_wait_end(struct lock_table *table, struct lock_owner *owner);

#endif

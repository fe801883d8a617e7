#ifndef HOLDFAST_UNIT_NAMESPACE_LOCK_H
#define HOLDFAST_UNIT_NAMESPACE_LOCK_H

/*
 * Locks on namespaces as a whole, beside the locks on documents (lock_table.h): granularity of
 * locks, J. Gray et al., 1976.
 *
 *   NAMESPACE_READ    what is in the namespace stays as it is: for reads of serializable units that
 *                     do not name their document by _id, so that what their filter found or did not
 *                     find stays so. Gray's S
 *   NAMESPACE_WRITE   the owner is about to lock documents of it exclusively: every unit that
 *                     writes. Gray's IX
 *   both              for writes of serializable units with such a filter: SIX
 *
 * READ of one owner and WRITE of another exclude each other; READ and READ go together, so do WRITE
 * and WRITE. Who reads a document by _id needs nothing here, for nobody holds a namespace so that
 * it could not be read.
 *
 * A namespace is told by its gate (gate.h), so two that share one share the lock. Its owner is
 * inside that gate, so that plain writes do not go by.
 *
 * As for documents: first come first served, but who has one mode already goes to the front; waits
 * are part of the search for deadlocks; everything is held until lock_release_all(). Nothing is
 * allocated. Where nobody reads, WRITE costs a comparison and an addition in a section that the
 * unit enters anyway.
 *
 * Threads: any; the lock table's mutex.
 */

#include "unit/lock_table.h"

#define NAMESPACE_READ 1u
#define NAMESPACE_WRITE 2u

/*
 * Begins the owner as lock_owner_begin() does, and gives it the modes beside those that it has. The
 * owner is inside the gate. LOCK_GRANTED, LOCK_DEADLOCK, or LOCK_WAITING: then as lock_acquire().
 */
enum lock_result namespace_lock(struct lock_table *table, struct lock_owner *owner, uint32_t gate,
                                unsigned modes, struct lock_waiter *waiter);

/* By who works on the unit: whether it has them all. */
bool namespace_is_locked(const struct lock_owner *owner, uint32_t gate, unsigned modes);

#endif

#ifndef HOLDFAST_UNIT_LOCK_HINTS_H
#define HOLDFAST_UNIT_LOCK_HINTS_H

/*
 * What to lock first when a transaction is run again.
 *
 * A transaction that reads a document and then writes it fails if another one has committed the
 * document between the two. Run again, it may fail again, and again: with 64 of them on one
 * document each commit makes 63 fail, and who wins next is luck. So the locks over which a try has
 * failed are taken before the next one's first read: it waits for them in line, its view begins
 * when it has them, and then nobody can come between.
 *
 * They are hints: the next transaction of the session may be another one. Then it holds a lock too
 * many until it ends; one that cannot be had in time is left out. The session keeps them (unit.h)
 * until a transaction of it does not fail over a lock.
 *
 * They are taken in the order of their names, so that two that take the same ones cannot wait for
 * each other.
 *
 * Threads: the holder's of the unit, or of the session's table.
 */

#include <stddef.h>
#include <stdint.h>

#include "unit/lock_table.h"

/* Documents that one transaction contends for: beyond these it is run again as before. */
#define LOCK_HINTS_MAX 8
#define LOCK_HINTS_NAMESPACES_MAX 4

struct lock_hint {
    struct lock_name name;
    uint32_t gate; /* of its namespace */
};

struct lock_hints {
    size_t count;
    bool failed;                            /* the unit that has them now failed over one of them */
    struct lock_hint hints[LOCK_HINTS_MAX]; /* in the order of their names */
    /* Gates of namespaces that it had locked for reading, and failed when it was to write there:
       the next try locks them for both when it first reads them (namespace_lock.h). The session
       keeps these as long as its transactions write. */
    size_t namespace_count;
    uint32_t namespaces[LOCK_HINTS_NAMESPACES_MAX];
};

/*
 * The unit failed over this lock. *hints may be NULL, and stays so without memory. What is one too
 * many is left out.
 */
void lock_hints_add(struct lock_hints **hints, const struct lock_name *name, uint32_t gate);

/* The same of a namespace. */
void lock_hints_add_namespace(struct lock_hints **hints, uint32_t gate);
/* NULL has none. */
bool lock_hints_has_namespace(const struct lock_hints *hints, uint32_t gate);

/* NULL is harmless; returns NULL. */
struct lock_hints *lock_hints_free(struct lock_hints *hints);

#endif

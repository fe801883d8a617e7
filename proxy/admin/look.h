#ifndef HOLDFAST_ADMIN_LOOK_H
#define HOLDFAST_ADMIN_LOOK_H

/* The open units and their locks as the pages list them. Any thread. */

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

/* The oldest of the open units, among which the pages are; the figures count all. */
#define ADMIN_UNITS_LOOKED_AT_MAX 10000u

struct admin_look {
    size_t open; /* also those not looked at */
    size_t unit_count;
    size_t lock_count;
    struct unit_view units[ADMIN_UNITS_LOOKED_AT_MAX]; /* oldest first */
    struct lock_view locks[ADMIN_UNITS_LOOKED_AT_MAX]; /* in the order of their units' numbers */
};

/*
 * Up to units_max units, and what up to locks_max have locked: each of these costs a search under
 * the mutex that locks are taken with, so without a unit to list none is made. One table after the
 * other: of a unit that has begun or ended in between, one half may be missing. To be given to
 * free(); NULL: out of memory.
 */
struct admin_look *admin_look_take(const struct engine *engine, size_t units_max, size_t locks_max);

/* NULL: it holds and awaits none. */
const struct lock_view *admin_look_locks(const struct admin_look *look, uint64_t unit);

#endif

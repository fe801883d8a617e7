#ifndef HOLDFAST_WRITE_PERMIT_H
#define HOLDFAST_WRITE_PERMIT_H

/*
 * Whether this process may send anything to the server at this moment.
 *
 * It may while its lease is fresh (recover/lease_keeper.h): a proxy that could not renew it,
 * because it was cut off, must expect a successor to recover its units, and nothing that it had
 * prepared may follow. Without a keeper the permit is always there.
 *
 * One relaxed load, so that it can be asked before each send. Whoever lowers the permit lets the
 * threads that may have seen it pass some other barrier before relying on it.
 *
 * Any thread.
 */

#include <stdatomic.h>
#include <stdbool.h>

extern _Atomic bool write_permit_flag; /* private: see below */

static inline bool write_permit_is_up(void)
{
    return atomic_load_explicit(&write_permit_flag, memory_order_relaxed);
}

void write_permit_set(bool up);

#endif

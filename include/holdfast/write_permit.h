#ifndef HOLDFAST_WRITE_PERMIT_H
#define HOLDFAST_WRITE_PERMIT_H

/*
 * Whether this process may send anything to the server at this moment.
 *
 * It may while its lease is fresh (recover/lease_keeper.h): a proxy that could not renew it,
 * because it was cut off, must expect a successor to recover its units, and nothing that it had
 * prepared may follow. Without a keeper the permit is always there.
 *
 * Workers ask with one relaxed load before each send; whoever lowers the permit lets them pass some
 * other barrier before relying on it. All others enter and leave around each send, and are waited
 * for until nobody is inside.
 *
 * Any thread.
 */

#include <stdatomic.h>
#include <stdbool.h>

/* How long the kernel may send again what it has taken over (TCP_USER_TIMEOUT). */
#define WRITE_PERMIT_RESEND_MS 4000u

extern _Atomic bool write_permit_flag; /* private, as what follows: see below */
extern _Atomic unsigned write_permit_inside;

static inline bool write_permit_is_up(void)
{
    return atomic_load_explicit(&write_permit_flag, memory_order_relaxed);
}

/* Whether it may send now. Call write_permit_leave() afterwards, whatever it says. */
static inline bool write_permit_enter(void)
{
    (void)atomic_fetch_add(&write_permit_inside, 1);
    return atomic_load(&write_permit_flag);
}

static inline void write_permit_leave(void)
{
    (void)atomic_fetch_sub(&write_permit_inside, 1);
}

void write_permit_set(bool up);

/* With the permit gone: nobody who has seen it is still sending. */
bool write_permit_is_left(void);

#endif

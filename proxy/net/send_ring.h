#ifndef HOLDFAST_NET_SEND_RING_H
#define HOLDFAST_NET_SEND_RING_H

/*
 * Many sends by one system call: an io_uring that is only ever used within a call. None of its
 * operations waits, so that none is left when the call returns; the kernel keeps no memory of ours
 * and no descriptor.
 *
 * Source: io_uring_enter(2).
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct send_ring;

struct send_ring_operation {
    int descriptor;
    const void *memory;
    size_t size;
    ssize_t result; /* as send(2), but -errno in place of -1 */
};

/*
 * On the thread that will use it. `count`: the operations of one call at most. NULL: the kernel has
 * none for us (it is older than 6.1, or a policy forbids it: errno), or there is no memory.
 */
struct send_ring *send_ring_new(unsigned count);

/* Any thread, if it is the last. NULL is fine. */
struct send_ring *send_ring_free(struct send_ring *ring);

/*
 * Does them in order, each as send(2) with MSG_NOSIGNAL and MSG_DONTWAIT, and fills in the results.
 * False: the kernel refused to go on, and the ring is of no more use. Then a result is -ECANCELED
 * where that one was not done, -EIO where nobody knows.
 */
bool send_ring_run(struct send_ring *ring, struct send_ring_operation *operations, size_t count);

#endif

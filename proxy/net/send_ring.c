/*
 * See send_ring.h.
 *
 * Invariant: between two calls the ring is empty.
 */
#include "net/send_ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdint.h>
#include <stdlib.h>

struct send_ring {
    struct io_uring ring;
};

struct send_ring *send_ring_new(unsigned count)
{
    struct send_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        return NULL;
    }
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    int failure = io_uring_queue_init_params(count, &ring->ring, &params);
    if (failure < 0) {
        free(ring);
        errno = -failure;
        return NULL;
    }
    /* Saves looking the descriptor up; works without, too. */
    (void)io_uring_register_ring_fd(&ring->ring);
    return ring;
}

struct send_ring *send_ring_free(struct send_ring *ring)
{
    if (ring != NULL) {
        io_uring_queue_exit(&ring->ring);
        free(ring);
    }
    return NULL;
}

/* How many results there were. */
static size_t take_results(struct send_ring *ring, struct send_ring_operation *operations,
                           size_t count)
{
    struct io_uring_cqe *completion = NULL;
    unsigned head = 0;
    unsigned taken = 0;
    io_uring_for_each_cqe(&ring->ring, head, completion)
    {
        uint64_t index = io_uring_cqe_get_data64(completion);
        if (index < count) {
            operations[index].result = completion->res;
        }
        taken++;
    }
    io_uring_cq_advance(&ring->ring, taken);
    return taken;
}

/* What the kernel has taken over and told nothing of must not be sent again. */
static void doubt(struct send_ring_operation *operations, size_t taken_over)
{
    for (size_t i = 0; i < taken_over; i++) {
        if (operations[i].result == -ECANCELED) {
            operations[i].result = -EIO;
        }
    }
}

bool send_ring_run(struct send_ring *ring, struct send_ring_operation *operations, size_t count)
{
    size_t prepared = 0;
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        operations[i].result = -ECANCELED;
    }
    for (; prepared < count; prepared++) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
        if (entry == NULL) {
            break;
        }
        struct send_ring_operation *operation = &operations[prepared];
        io_uring_prep_send(entry, operation->descriptor, operation->memory, operation->size,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        io_uring_sqe_set_data64(entry, prepared);
    }
    while (done < prepared) {
        int submitted = io_uring_submit_and_wait(&ring->ring, (unsigned)(prepared - done));
        done += take_results(ring, operations, prepared);
        if (submitted < 0 && submitted != -EINTR) {
            doubt(operations, prepared - io_uring_sq_ready(&ring->ring));
            return false;
        }
    }
    return prepared == count;
}

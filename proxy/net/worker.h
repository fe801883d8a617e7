#ifndef HOLDFAST_NET_WORKER_H
#define HOLDFAST_NET_WORKER_H

/*
 * Event-loop threads. Each connection belongs to one worker for its whole life, and everything of
 * it is touched by that worker's thread only. Other threads (the journal's writer, rollback
 * threads, other workers) hand it tasks.
 */

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"

struct send_queue;
struct worker;
struct worker_pool;

/* A piece of work for a worker. The poster owns it and leaves it alone until `run` was called. */
struct worker_task {
    struct worker_task *next; /* private */
    void (*run)(struct worker_task *task);
};

/*
 * Starts `count` workers (1..256). Errors: STATUS_MEMORY, STATUS_IO (threads or descriptors).
 * Give the result to worker_pool_stop().
 */
MUST_CHECK enum status worker_pool_start(size_t count, struct worker_pool **ret_pool,
                                         struct error *ret_error);

/*
 * Ends the loops after the tasks that are already posted, and joins the threads. Others may still
 * post, until worker_pool_stop(): nothing that they post runs any more. Harmless if repeated.
 */
void worker_pool_end(struct worker_pool *pool);

/* worker_pool_end(), and frees: nobody posts any more. NULL is fine. */
struct worker_pool *worker_pool_stop(struct worker_pool *pool);

/* Their sends go by io_uring where the kernel lets them. Before there are connections. */
void worker_pool_allow_ring(struct worker_pool *pool);

size_t worker_pool_count(const struct worker_pool *pool);
struct worker *worker_pool_get(struct worker_pool *pool, size_t index);

/* Any thread. Tasks run in the order in which they were posted by one thread. Never blocks. */
void worker_post(struct worker *worker, struct worker_task *task);

/*
 * Waits until each worker has come back to its loop since the call, so that it has seen what was
 * stored before. False: some had not after wait_ms. Not from a worker's thread.
 */
bool worker_pool_settle(struct worker_pool *pool, uint64_t wait_ms);

/* The rest: on the worker's own thread only. */
struct event_base *worker_base(struct worker *worker);
size_t worker_index(const struct worker *worker);

/* Starts a timer of its loop, also one that runs already. */
void worker_timer_start(struct event *timer, uint64_t milliseconds);

/* LIMIT_RECEIVE_BUFFER_BYTES, shared by all connections of the worker: valid until one returns to
   the loop. */
uint8_t *worker_receive_buffer(struct worker *worker);

/* What is sent when the loop's turn ends. */
struct send_queue *worker_sends(struct worker *worker);

/* What the layers above keep per worker (the list of its connections). */
void worker_set_user(struct worker *worker, void *user);
void *worker_user(struct worker *worker);

#endif

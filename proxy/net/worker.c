/*
 * Event-loop threads and their mailboxes.
 *
 * A mailbox is a stack that any thread pushes onto with one compare-and-swap; the owner takes the
 * whole stack with one exchange and reverses it. Who pushes onto an empty stack rings the eventfd,
 * so a burst of completions costs one system call.
 *
 * Invariants: the bell is taken before the mailbox, so that nothing that is pushed in between waits
 * for another push. And each time that the stack is emptied follows the ring of the one who pushed
 * first onto it, for nothing else wakes the owner: so when a task runs, nobody who has posted it or
 * one behind it will touch the worker any more, and who has seen its task run may free the worker.
 */
#include "net/worker.h"

#include <assert.h>
#include <errno.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "holdfast/limits.h"
#include "holdfast/race_point.h"
#include "net/send_queue.h"

struct worker {
    size_t index;
    struct event_base *base;
    struct event *wake_event;
    int wake_descriptor;
    _Atomic(struct worker_task *) mailbox;
    pthread_t thread;
    bool started;
    bool stopping; /* worker's thread only */
    struct worker_task stop_task;
    uint8_t *receive_buffer;
    struct send_queue *sends;
    void *user;
};

struct worker_pool {
    size_t count;
    struct worker workers[];
};

static void mailbox_drain(struct worker *worker)
{
    struct worker_task *newest = atomic_exchange(&worker->mailbox, NULL);
    struct worker_task *oldest = NULL;
    while (newest != NULL) {
        struct worker_task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct worker_task *next = oldest->next; /* the task may be freed by its run */
        oldest->run(oldest);
        oldest = next;
    }
}

static void on_wake(evutil_socket_t descriptor, short what, void *context)
{
    (void)what;
    struct worker *worker = context;
    uint64_t rings;
    if (read((int)descriptor, &rings, sizeof rings) < 0) {
        /* EAGAIN: another turn took the bell already; the mailbox is looked at all the same. */
    }
    RACE_POINT(worker_bell_taken);
    mailbox_drain(worker);
    if (worker->stopping) {
        event_base_loopbreak(worker->base);
    }
}

#ifdef HOLDFAST_CRASH_POINTS
static void let_go(void *context)
{
    send_queue_send(context);
}
#endif

static void *worker_main(void *context)
{
    struct worker *worker = context;
    CRASH_POINT_BEFORE(let_go, worker->sends);
    event_base_dispatch(worker->base);
    CRASH_POINT_BEFORE(NULL, NULL);
    send_queue_send(worker->sends); /* the turn that was broken off had no end */
    return NULL;
}

static enum status worker_init(struct worker *worker, size_t index, struct error *ret_error)
{
    worker->index = index;
    worker->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->receive_buffer = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    struct event_config *config = event_config_new();
    if (config != NULL) {
        /* Only the owner touches its loop: no locks inside libevent, and edges, not levels. */
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        (void)event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
        worker->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    worker->sends = worker->base == NULL ? NULL : send_queue_new(worker->base);
    if (worker->wake_descriptor < 0 || worker->receive_buffer == NULL || worker->sends == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "cannot set up an event loop: %s",
                         strerror(errno));
    }
    worker->wake_event =
        event_new(worker->base, worker->wake_descriptor, EV_READ | EV_PERSIST, on_wake, worker);
    if (worker->wake_event == NULL || event_add(worker->wake_event, NULL) != 0) {
        return error_set(ret_error, STATUS_MEMORY, "cannot set up an event loop's bell");
    }
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    worker->started = true;
    return STATUS_OK;
}

static void on_stop(struct worker_task *task)
{
    struct worker *worker =
        (struct worker *)(void *)((uint8_t *)task - offsetof(struct worker, stop_task));
    worker->stopping = true;
}

enum status worker_pool_start(size_t count, struct worker_pool **ret_pool, struct error *ret_error)
{
    struct worker_pool *pool = calloc(1, sizeof *pool + count * sizeof(struct worker));
    if (pool == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for %zu event loops", count);
    }
    pool->count = count;
    for (size_t i = 0; i < count; i++) {
        pool->workers[i].wake_descriptor = -1;
    }
    for (size_t i = 0; i < count; i++) {
        enum status status = worker_init(&pool->workers[i], i, ret_error);
        if (status != STATUS_OK) {
            worker_pool_stop(pool);
            return status;
        }
    }
    *ret_pool = pool;
    return STATUS_OK;
}

void worker_pool_end(struct worker_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->started) {
            worker->stop_task.run = on_stop;
            worker_post(worker, &worker->stop_task);
        }
    }
    for (size_t i = 0; i < pool->count; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->started) {
            (void)pthread_join(worker->thread, NULL);
            worker->started = false;
        }
        if (worker->wake_event != NULL) {
            event_free(worker->wake_event);
            worker->wake_event = NULL;
        }
        if (worker->base != NULL) {
            event_base_free(worker->base);
            worker->base = NULL;
        }
    }
}

struct worker_pool *worker_pool_stop(struct worker_pool *pool)
{
    if (pool == NULL) {
        return NULL;
    }
    worker_pool_end(pool);
    for (size_t i = 0; i < pool->count; i++) {
        if (pool->workers[i].wake_descriptor >= 0) {
            (void)close(pool->workers[i].wake_descriptor);
        }
        free(pool->workers[i].receive_buffer);
        send_queue_free(pool->workers[i].sends);
    }
    free(pool);
    return NULL;
}

void worker_pool_allow_ring(struct worker_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        send_queue_allow_ring(pool->workers[i].sends);
    }
}

size_t worker_pool_count(const struct worker_pool *pool)
{
    return pool->count;
}

struct worker *worker_pool_get(struct worker_pool *pool, size_t index)
{
    assert(index < pool->count);
    return &pool->workers[index];
}

void worker_post(struct worker *worker, struct worker_task *task)
{
    struct worker_task *head = atomic_load(&worker->mailbox);
    do {
        task->next = head;
    } while (!atomic_compare_exchange_weak(&worker->mailbox, &head, task));
    RACE_POINT(worker_posted);
    if (head == NULL) {
        uint64_t one = 1;
        /* Cannot fail but when the counter is full, and then the bell rings anyway. */
        if (write(worker->wake_descriptor, &one, sizeof one) < 0) {
            assert(errno == EAGAIN);
        }
    }
}

/* Freed by the last that drops it: a worker may come late, after the one who waits has gone. */
struct settling {
    _Atomic size_t users;
    _Atomic size_t left; /* workers that have not come by yet */
};

struct settling_task {
    struct worker_task task; /* first: see on_settle() */
    struct settling *settling;
};

static void settling_drop(struct settling *settling)
{
    if (atomic_fetch_sub(&settling->users, 1) == 1) {
        free(settling);
    }
}

static void on_settle(struct worker_task *task)
{
    struct settling_task *mine = (struct settling_task *)task;
    (void)atomic_fetch_sub(&mine->settling->left, 1);
    settling_drop(mine->settling);
    free(mine);
}

bool worker_pool_settle(struct worker_pool *pool, uint64_t wait_ms)
{
    struct settling *settling = calloc(1, sizeof *settling);
    if (settling == NULL) {
        return false;
    }
    atomic_store(&settling->users, 1);
    for (size_t i = 0; i < pool->count; i++) {
        struct settling_task *task = calloc(1, sizeof *task);
        (void)atomic_fetch_add(&settling->left, 1);
        if (task != NULL) { /* else it never comes by */
            task->task.run = on_settle;
            task->settling = settling;
            (void)atomic_fetch_add(&settling->users, 1);
            worker_post(&pool->workers[i], &task->task);
        }
    }
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    while (atomic_load(&settling->left) > 0 && clock_monotonic_ms() < until_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
    }
    bool settled = atomic_load(&settling->left) == 0;
    settling_drop(settling);
    return settled;
}

struct event_base *worker_base(struct worker *worker)
{
    return worker->base;
}

size_t worker_index(const struct worker *worker)
{
    return worker->index;
}

void worker_timer_start(struct event *timer, uint64_t milliseconds)
{
    const struct timeval after = {.tv_sec = (time_t)(milliseconds / 1000),
                                  .tv_usec = (suseconds_t)(milliseconds % 1000 * 1000)};
    (void)event_add(timer, &after);
}

struct send_queue *worker_sends(struct worker *worker)
{
    return worker->sends;
}

uint8_t *worker_receive_buffer(struct worker *worker)
{
    return worker->receive_buffer;
}

void worker_set_user(struct worker *worker, void *user)
{
    worker->user = user;
}

void *worker_user(struct worker *worker)
{
    return worker->user;
}

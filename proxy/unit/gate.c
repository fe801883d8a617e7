/*
 * Namespace gates; the protocol is in gate.h.
 *
 * Invariants, with the mutex held:
 *   - units[gate] counts the units inside and those of `entering` (which wait for plain commands in
 *     flight); a nonzero value closes the fast path.
 *   - units of `queued` wait behind plain commands of `plain` and are not counted.
 *   - plain is not empty only while units[gate] > 0.
 */
#include "unit/gate.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "holdfast/limits.h"

struct gate_queues {
    struct gate_waiter *entering;
    struct gate_waiter *plain;
    struct gate_waiter *queued;
};

struct gate_table {
    size_t worker_count;
    pthread_mutex_t mutex;
    atomic_uint units[LIMIT_NAMESPACE_GATES];
    struct gate_queues queues[LIMIT_NAMESPACE_GATES];
    atomic_uint in_flight[]; /* [worker][gate] */
};

struct gate_table *gate_table_new(size_t worker_count)
{
    size_t counters = worker_count * LIMIT_NAMESPACE_GATES;
    struct gate_table *table =
        calloc(1, sizeof(struct gate_table) + counters * sizeof(atomic_uint));
    if (table != NULL) {
        table->worker_count = worker_count;
        (void)pthread_mutex_init(&table->mutex, NULL);
    }
    return table;
}

struct gate_table *gate_table_free(struct gate_table *table)
{
    if (table != NULL) {
        (void)pthread_mutex_destroy(&table->mutex);
        free(table);
    }
    return NULL;
}

uint32_t gate_of(const char *database, const char *collection)
{
    /* FNV-1a: spread matters here, resistance to collisions does not. */
    uint32_t hash = 2166136261u;
    for (const char *at = database; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    }
    hash = (hash ^ '.') * 16777619u;
    for (const char *at = collection; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    }
    return 1 + hash % (LIMIT_NAMESPACE_GATES - 1);
}

static atomic_uint *counter(struct gate_table *table, uint32_t gate, size_t worker)
{
    return &table->in_flight[worker * LIMIT_NAMESPACE_GATES + gate];
}

static bool plain_in_flight(struct gate_table *table, uint32_t gate)
{
    for (size_t worker = 0; worker < table->worker_count; worker++) {
        if (atomic_load(counter(table, gate, worker)) != 0) {
            return true;
        }
    }
    return false;
}

static void queue_push(struct gate_waiter **list, struct gate_waiter *waiter)
{
    /* A ring with the oldest first: list->previous is the newest. */
    waiter->list = list;
    if (*list == NULL) {
        waiter->next = waiter->previous = waiter;
        *list = waiter;
        return;
    }
    waiter->next = *list;
    waiter->previous = (*list)->previous;
    waiter->previous->next = waiter;
    waiter->next->previous = waiter;
}

static void queue_remove(struct gate_waiter *waiter)
{
    assert(waiter->next != NULL && waiter->previous != NULL); /* a ring has no ends */
    if (waiter->next == waiter) {
        *waiter->list = NULL;
    } else {
        waiter->previous->next = waiter->next;
        waiter->next->previous = waiter->previous;
        if (*waiter->list == waiter) {
            *waiter->list = waiter->next;
        }
    }
    waiter->list = NULL;
}

/* Moves a whole ring onto a singly linked list of those to call, in order. */
static void queue_take_all(struct gate_waiter **list, struct gate_waiter ***tail)
{
    while (*list != NULL) {
        struct gate_waiter *waiter = *list;
        queue_remove(waiter);
        waiter->next = NULL;
        **tail = waiter;
        *tail = &waiter->next;
    }
}

static void call_all(struct gate_waiter *admitted)
{
    while (admitted != NULL) {
        struct gate_waiter *next = admitted->next;
        admitted->admitted(admitted);
        admitted = next;
    }
}

/* Admits whoever may go in now. The mutex is held; returns those to call once it is not. */
static struct gate_waiter *settle(struct gate_table *table, uint32_t gate)
{
    struct gate_waiter *admitted = NULL;
    struct gate_waiter **tail = &admitted;
    struct gate_queues *queues = &table->queues[gate];
    if (atomic_load(&table->units[gate]) == 0 && queues->plain != NULL) {
        for (struct gate_waiter *at = queues->plain;;) {
            (void)atomic_fetch_add(counter(table, gate, at->worker), 1);
            at = at->next;
            if (at == queues->plain) {
                break;
            }
        }
        queue_take_all(&queues->plain, &tail);
    }
    if (queues->plain == NULL) {
        while (queues->queued != NULL) {
            struct gate_waiter *unit = queues->queued;
            queue_remove(unit);
            (void)atomic_fetch_add(&table->units[gate], 1);
            queue_push(&queues->entering, unit);
        }
    }
    if (queues->entering != NULL && !plain_in_flight(table, gate)) {
        queue_take_all(&queues->entering, &tail);
    }
    return admitted;
}

bool gate_plain_enter(struct gate_table *table, uint32_t gate, size_t worker)
{
    (void)atomic_fetch_add(counter(table, gate, worker), 1);
    if (atomic_load(&table->units[gate]) == 0) {
        return true;
    }
    gate_plain_leave(table, gate, worker);
    return false;
}

void gate_plain_leave(struct gate_table *table, uint32_t gate, size_t worker)
{
    (void)atomic_fetch_sub(counter(table, gate, worker), 1);
    if (atomic_load(&table->units[gate]) == 0) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    struct gate_waiter *admitted = settle(table, gate);
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
}

bool gate_plain_wait(struct gate_table *table, uint32_t gate, size_t worker,
                     struct gate_waiter *waiter)
{
    waiter->gate = gate;
    waiter->worker = worker;
    waiter->is_unit = false;
    waiter->list = NULL;
    pthread_mutex_lock(&table->mutex);
    bool free_now = atomic_load(&table->units[gate]) == 0;
    if (free_now) {
        (void)atomic_fetch_add(counter(table, gate, worker), 1);
    } else {
        queue_push(&table->queues[gate].plain, waiter);
    }
    pthread_mutex_unlock(&table->mutex);
    return free_now;
}

bool gate_unit_enter(struct gate_table *table, uint32_t gate, struct gate_waiter *waiter)
{
    waiter->gate = gate;
    waiter->is_unit = true;
    waiter->list = NULL;
    pthread_mutex_lock(&table->mutex);
    bool inside = false;
    if (table->queues[gate].plain != NULL) {
        queue_push(&table->queues[gate].queued, waiter);
    } else {
        (void)atomic_fetch_add(&table->units[gate], 1);
        inside = !plain_in_flight(table, gate);
        if (!inside) {
            queue_push(&table->queues[gate].entering, waiter);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return inside;
}

void gate_unit_leave(struct gate_table *table, uint32_t gate)
{
    pthread_mutex_lock(&table->mutex);
    (void)atomic_fetch_sub(&table->units[gate], 1);
    struct gate_waiter *admitted = settle(table, gate);
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
}

void gate_pass(struct gate_table *table, struct gate_waiter *waiter)
{
    struct gate_waiter *admitted = NULL;
    pthread_mutex_lock(&table->mutex);
    struct gate_queues *queues = &table->queues[waiter->gate];
    if (waiter->list == &queues->queued) {
        queue_remove(waiter);
        (void)atomic_fetch_add(&table->units[waiter->gate], 1);
        queue_push(&queues->entering, waiter);
        admitted = settle(table, waiter->gate);
    }
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
}

bool gate_cancel(struct gate_table *table, struct gate_waiter *waiter)
{
    struct gate_waiter *admitted = NULL;
    pthread_mutex_lock(&table->mutex);
    bool waiting = waiter->list != NULL;
    if (waiting) {
        bool counted = waiter->list == &table->queues[waiter->gate].entering;
        queue_remove(waiter);
        if (counted) {
            (void)atomic_fetch_sub(&table->units[waiter->gate], 1);
        }
        /* The last plain waiter may have been what units were queued behind. */
        admitted = settle(table, waiter->gate);
    }
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
    return waiting;
}

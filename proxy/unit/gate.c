/*
 * Namespace gates; the protocol is in gate.h.
 *
 * Invariants, with the mutex held:
 *   - units[gate] counts the units inside and those of `entering` (which wait for plain commands in
 *     flight); a nonzero value closes the fast path.
 *   - units of `queued` wait behind plain commands of `plain` and are not counted.
 *   - plain is not empty only while units[gate] > 0, or no probe covers ended[gate].
 *   - ended[gate] is stored before units[gate] falls: who sees that nobody is inside sees how far
 *     probes must have come.
 */
#include "unit/gate.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "holdfast/limits.h"
#include "holdfast/race_point.h"

struct gate_queues {
    struct gate_waiter *entering;
    struct gate_waiter *plain;
    struct gate_waiter *queued;
};

/* A worker's plain commands at one gate. */
struct gate_counter {
    atomic_uint in_flight;
    _Atomic int64_t probe;  /* the newest that was sent when the last of them ended */
    _Atomic uint64_t epoch; /* gate_epoch_next() as it was then */
};

struct gate_table {
    size_t worker_count;
    pthread_mutex_t mutex;
    void (*probe_wanted)(void *context);
    void *probe_context;
    _Atomic int64_t probe_sent; /* number of the newest probe */
    _Atomic uint64_t epoch;
    _Atomic bool probes_fail;
    _Atomic uint64_t covered;                      /* LSN of the newest answered probe */
    _Atomic uint64_t ended_last;                   /* the highest of `ended` */
    _Atomic uint64_t ended[LIMIT_NAMESPACE_GATES]; /* LSN of the last unit's end */
    int64_t first_probe;                           /* sent before any plain write */
    atomic_uint units[LIMIT_NAMESPACE_GATES];
    struct gate_queues queues[LIMIT_NAMESPACE_GATES];
    struct gate_counter counters[]; /* [worker][gate], and one more that stands for all gates */
};

#define COUNTERS (LIMIT_NAMESPACE_GATES + 1u)
#define ANY_GATE LIMIT_NAMESPACE_GATES

struct gate_table *gate_table_new(size_t worker_count)
{
    size_t counters = worker_count * COUNTERS;
    struct gate_table *table =
        calloc(1, sizeof(struct gate_table) + counters * sizeof(struct gate_counter));
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

static struct gate_counter *counter(struct gate_table *table, uint32_t gate, size_t worker)
{
    return &table->counters[worker * COUNTERS + gate];
}

static bool is_covered(const struct gate_table *table, uint32_t gate)
{
    return atomic_load(&table->ended[gate]) <= atomic_load(&table->covered);
}

static bool plain_in_flight(struct gate_table *table, uint32_t gate)
{
    for (size_t worker = 0; worker < table->worker_count; worker++) {
        if (atomic_load(&counter(table, gate, worker)->in_flight) != 0) {
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

static void want_probe(const struct gate_table *table)
{
    if (table->probe_wanted != NULL) {
        table->probe_wanted(table->probe_context);
    }
}

/* Then what waits for it keeps nobody else out. */
static bool waits_for_failing_probe(const struct gate_table *table, uint32_t gate)
{
    return atomic_load(&table->probes_fail) && !is_covered(table, gate);
}

/* Admits whoever may go in now. The mutex is held; returns those to call once it is not. */
static struct gate_waiter *settle(struct gate_table *table, uint32_t gate)
{
    struct gate_waiter *admitted = NULL;
    struct gate_waiter **tail = &admitted;
    struct gate_queues *queues = &table->queues[gate];
    bool nobody = atomic_load(&table->units[gate]) == 0;
    if (nobody && queues->plain != NULL && !is_covered(table, gate)) {
        want_probe(table);
    } else if (nobody && queues->plain != NULL) {
        for (struct gate_waiter *at = queues->plain;;) {
            (void)atomic_fetch_add(&counter(table, gate, at->worker)->in_flight, 1);
            at = at->next;
            if (at == queues->plain) {
                break;
            }
        }
        queue_take_all(&queues->plain, &tail);
    }
    if (queues->plain == NULL || waits_for_failing_probe(table, gate)) {
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

static void leave(struct gate_table *table, uint32_t gate, size_t worker)
{
    (void)atomic_fetch_sub(&counter(table, gate, worker)->in_flight, 1);
    RACE_POINT(gate_plain_left);
    if (atomic_load(&table->units[gate]) == 0) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    struct gate_waiter *admitted = settle(table, gate);
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
}

enum gate_plain gate_plain_enter(struct gate_table *table, uint32_t gate, size_t worker)
{
    (void)atomic_fetch_add(&counter(table, gate, worker)->in_flight, 1);
    RACE_POINT(gate_plain_counted);
    bool nobody = atomic_load(&table->units[gate]) == 0;
    RACE_POINT(gate_plain_nobody);
    if (nobody && is_covered(table, gate)) {
        return GATE_PLAIN_ADMITTED;
    }
    leave(table, gate, worker);
    return nobody && !atomic_load(&table->probes_fail) ? GATE_PLAIN_UNCOVERED : GATE_PLAIN_UNITS;
}

void gate_plain_note(struct gate_table *table, uint32_t gate, size_t worker)
{
    int64_t probe = atomic_load_explicit(&table->probe_sent, memory_order_relaxed);
    struct gate_counter *own = counter(table, gate, worker);
    if (atomic_load_explicit(&own->probe, memory_order_relaxed) != probe) {
        atomic_store_explicit(&own->probe, probe, memory_order_relaxed);
        atomic_store_explicit(&counter(table, ANY_GATE, worker)->probe, probe,
                              memory_order_relaxed);
    }
    uint64_t epoch = atomic_load(&table->epoch);
    RACE_POINT(gate_epoch_seen);
    if (atomic_load_explicit(&own->epoch, memory_order_relaxed) != epoch) {
        atomic_store(&own->epoch, epoch);
        atomic_store(&counter(table, ANY_GATE, worker)->epoch, epoch);
    }
}

void gate_plain_leave(struct gate_table *table, uint32_t gate, size_t worker)
{
    gate_plain_note(table, gate, worker);
    RACE_POINT(gate_plain_noted);
    leave(table, gate, worker);
}

bool gate_plain_wait(struct gate_table *table, uint32_t gate, size_t worker,
                     struct gate_waiter *waiter)
{
    waiter->gate = gate;
    waiter->worker = worker;
    waiter->is_unit = false;
    waiter->turned_away = false;
    waiter->list = NULL;
    pthread_mutex_lock(&table->mutex);
    bool nobody = atomic_load(&table->units[gate]) == 0;
    bool free_now = nobody && is_covered(table, gate);
    if (free_now) {
        (void)atomic_fetch_add(&counter(table, gate, worker)->in_flight, 1);
    } else {
        queue_push(&table->queues[gate].plain, waiter);
        if (nobody) {
            want_probe(table);
        }
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
    if (table->queues[gate].plain != NULL && !waits_for_failing_probe(table, gate)) {
        queue_push(&table->queues[gate].queued, waiter);
    } else {
        (void)atomic_fetch_add(&table->units[gate], 1);
        RACE_POINT(gate_unit_counted);
        inside = !plain_in_flight(table, gate);
        if (!inside) {
            queue_push(&table->queues[gate].entering, waiter);
        }
    }
    pthread_mutex_unlock(&table->mutex);
    return inside;
}

static void raise_to(_Atomic uint64_t *value, uint64_t to)
{
    if (atomic_load(value) < to) {
        atomic_store(value, to); /* under the mutex: nobody else raises it */
    }
}

void gate_unit_leave(struct gate_table *table, uint32_t gate, uint64_t end_lsn)
{
    pthread_mutex_lock(&table->mutex);
    raise_to(&table->ended[gate], end_lsn);
    raise_to(&table->ended_last, end_lsn);
    RACE_POINT(gate_end_noted);
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

/* ------------------------------------------------------------------ epochs */

uint64_t gate_epoch_next(struct gate_table *table)
{
    return atomic_fetch_add(&table->epoch, 1) + 1;
}

static bool plain_since(struct gate_table *table, uint32_t gate, uint64_t epoch)
{
    for (size_t worker = 0; worker < table->worker_count; worker++) {
        if (atomic_load(&counter(table, gate, worker)->in_flight) != 0 ||
            atomic_load(&counter(table, gate, worker)->epoch) >= epoch) {
            return true;
        }
    }
    return false;
}

bool gate_plain_since(struct gate_table *table, uint32_t gate, uint64_t epoch)
{
    if (gate != GATE_SERVER) {
        return plain_since(table, gate, epoch) || plain_since(table, GATE_SERVER, epoch);
    }
    /* Who is on its way before who has ended: it says that it has before it is on its way no more,
       so the other way round it could slip through between the two looks. */
    bool any = false;
    for (uint32_t i = 0; i < LIMIT_NAMESPACE_GATES && !any; i++) {
        any = plain_in_flight(table, i);
    }
    RACE_POINT(gate_one_look);
    return any || plain_since(table, ANY_GATE, epoch);
}

/* ------------------------------------------------------------------ probes */

void gate_on_probe_wanted(struct gate_table *table, void (*wanted)(void *context), void *context)
{
    pthread_mutex_lock(&table->mutex);
    table->probe_wanted = wanted;
    table->probe_context = context;
    pthread_mutex_unlock(&table->mutex);
}

void gate_probe_sent(struct gate_table *table, int64_t number)
{
    if (table->first_probe == 0) {
        table->first_probe = number;
    }
    atomic_store(&table->probe_sent, number);
}

void gate_probe_answered(struct gate_table *table, uint64_t lsn)
{
    struct gate_waiter *admitted = NULL;
    struct gate_waiter **tail = &admitted;
    pthread_mutex_lock(&table->mutex);
    atomic_store(&table->probes_fail, false);
    raise_to(&table->covered, lsn);
    for (uint32_t gate = 0; gate < LIMIT_NAMESPACE_GATES; gate++) {
        if (table->queues[gate].plain != NULL) {
            *tail = settle(table, gate);
            while (*tail != NULL) {
                tail = &(*tail)->next;
            }
        }
    }
    pthread_mutex_unlock(&table->mutex);
    call_all(admitted);
}

/* Takes those out that have another way. The mutex is held. */
static void turn_away(struct gate_queues *queues, struct gate_waiter ***tail)
{
    struct gate_waiter *kept = NULL;
    while (queues->plain != NULL) {
        struct gate_waiter *waiter = queues->plain;
        queue_remove(waiter);
        if (waiter->has_other_way) {
            waiter->turned_away = true;
            waiter->next = NULL;
            **tail = waiter;
            *tail = &waiter->next;
        } else {
            queue_push(&kept, waiter);
        }
    }
    while (kept != NULL) {
        struct gate_waiter *waiter = kept;
        queue_remove(waiter);
        queue_push(&queues->plain, waiter);
    }
}

void gate_probe_failed(struct gate_table *table)
{
    struct gate_waiter *called = NULL;
    struct gate_waiter **tail = &called;
    pthread_mutex_lock(&table->mutex);
    atomic_store(&table->probes_fail, true);
    for (uint32_t gate = 0; gate < LIMIT_NAMESPACE_GATES; gate++) {
        if (table->queues[gate].plain != NULL && !is_covered(table, gate) &&
            atomic_load(&table->units[gate]) == 0) {
            turn_away(&table->queues[gate], &tail);
            *tail = settle(table, gate);
            while (*tail != NULL) {
                tail = &(*tail)->next;
            }
        }
    }
    pthread_mutex_unlock(&table->mutex);
    call_all(called);
}

bool gate_has_uncovered(struct gate_table *table)
{
    return atomic_load(&table->ended_last) > atomic_load(&table->covered);
}

bool gate_has_plain(struct gate_table *table)
{
    int64_t sent = atomic_load(&table->probe_sent);
    for (size_t worker = 0; worker < table->worker_count; worker++) {
        if (atomic_load_explicit(&counter(table, ANY_GATE, worker)->probe, memory_order_relaxed) ==
            sent) {
            return true;
        }
    }
    return false;
}

int64_t gate_plain_probe(struct gate_table *table, uint32_t gate)
{
    const uint32_t gates[] = {gate, GATE_SERVER};
    int64_t newest = table->first_probe - 1; /* whatever was there before it, it covers */
    for (size_t i = 0; i < 2 * table->worker_count; i++) {
        int64_t probe =
            atomic_load_explicit(&counter(table, gates[i % 2], i / 2)->probe, memory_order_relaxed);
        newest = probe > newest ? probe : newest;
    }
    return newest;
}

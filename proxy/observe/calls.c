/*
 * The calls that are open (calls.h).
 *
 *   number = generation << 14 | index      index % SHARDS is the shard, index / SHARDS the slot
 *
 * A slot is free (in the list), open (found by its number, or in a bucket by its trace-id), or
 * being counted: taken out of both under the mutex, read without it, then given back.
 *
 * Invariants: a slot's call holds its texts while the slot is not free; a shard's idle list has all
 * open traces, the one that has been idle longest first; slots behind `touched` are untouched
 * memory.
 */
#include "observe/calls.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS 16u
#define SLOTS (OBSERVE_CALLS_MAX / SHARDS)
#define INDEX_BITS 14
#define ENDED_AT_ONCE 64 /* traces that one tick takes out of a shard at a time */

_Static_assert(OBSERVE_CALLS_MAX == 1u << INDEX_BITS, "an index fills its bits");

struct slot {
    uint64_t number; /* 0: free, or being counted */
    uint64_t generation;
    struct slot *next; /* free list, or bucket */
    struct observed_call call;
    uint64_t writer_hash; /* of the last write */
    /* traces */
    struct trace_id trace;
    uint64_t began_ms;
    uint64_t last_ms;
    struct slot *idle_next;
    struct slot *idle_previous;
};

struct shard {
    pthread_mutex_t mutex;
    struct slot *slots;
    size_t touched;
    struct slot *free;
    struct slot *buckets[SLOTS]; /* traces */
    struct slot *idle_first;
    struct slot *idle_last;
    struct calls_figures figures;
};

struct calls {
    struct text_table *texts;
    struct findings *findings;
    uint64_t seed;
    atomic_uint_fast64_t now_ms;
    atomic_uint next_shard;
    struct shard shards[SHARDS];
};

struct calls *calls_new(struct text_table *texts, struct findings *findings, uint64_t seed,
                        uint64_t now_ms)
{
    struct calls *calls = calloc(1, sizeof *calls);
    bool made = calls != NULL;
    if (calls == NULL) {
        return NULL;
    }
    calls->texts = texts;
    calls->findings = findings;
    calls->seed = seed;
    atomic_init(&calls->now_ms, now_ms);
    for (size_t i = 0; i < SHARDS; i++) {
        (void)pthread_mutex_init(&calls->shards[i].mutex, NULL);
        /* Ten MiB in all, of which only as much is ever touched as calls were open at a time. */
        calls->shards[i].slots = calloc(SLOTS, sizeof(struct slot));
        made = made && calls->shards[i].slots != NULL;
    }
    return made ? calls : calls_free(calls);
}

static void slot_forget(struct calls *calls, struct slot *slot)
{
    text_release(calls->texts, slot->call.service);
    text_release(calls->texts, slot->call.route);
    sequence_release(&slot->call.sequence, calls->texts);
    people_release(&slot->call.people, calls->texts);
    slot->call.service = NULL;
    slot->call.route = NULL;
}

struct calls *calls_free(struct calls *calls)
{
    if (calls == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &calls->shards[i];
        for (size_t at = 0; shard->slots != NULL && at < shard->touched; at++) {
            slot_forget(calls, &shard->slots[at]);
        }
        free(shard->slots);
        (void)pthread_mutex_destroy(&shard->mutex);
    }
    free(calls);
    return NULL;
}

/* ------------------------------------------------------------------ slots, under the mutex */

static struct slot *slot_take(struct calls *calls, struct shard *shard)
{
    struct slot *slot = shard->free;
    if (slot != NULL) {
        shard->free = slot->next;
    } else if (shard->touched < SLOTS) {
        slot = &shard->slots[shard->touched++];
    } else {
        return NULL;
    }
    uint64_t at = (uint64_t)(slot - shard->slots);
    uint64_t index = at * SHARDS + (uint64_t)(shard - calls->shards);
    uint64_t generation = slot->generation + 1;
    *slot = (struct slot){.generation = generation};
    slot->number = generation << INDEX_BITS | index;
    return slot;
}

static struct shard *shard_of_number(struct calls *calls, uint64_t number)
{
    return &calls->shards[number % SHARDS];
}

static struct slot *slot_find(struct shard *shard, uint64_t number)
{
    size_t at = (size_t)(number % OBSERVE_CALLS_MAX / SHARDS);
    struct slot *slot = &shard->slots[at];
    return number != 0 && at < shard->touched && slot->number == number ? slot : NULL;
}

static struct slot **bucket_of(struct shard *shard, uint64_t hash)
{
    return &shard->buckets[hash / SHARDS % SLOTS];
}

static struct slot *trace_find(struct shard *shard, uint64_t hash, const struct trace_id *trace)
{
    struct slot *slot = *bucket_of(shard, hash);
    while (slot != NULL && memcmp(&slot->trace, trace, sizeof *trace) != 0) {
        slot = slot->next;
    }
    return slot;
}

static void idle_unlink(struct shard *shard, struct slot *slot)
{
    *(slot->idle_previous == NULL ? &shard->idle_first : &slot->idle_previous->idle_next) =
        slot->idle_next;
    *(slot->idle_next == NULL ? &shard->idle_last : &slot->idle_next->idle_previous) =
        slot->idle_previous;
}

static void idle_append(struct shard *shard, struct slot *slot)
{
    slot->idle_next = NULL;
    slot->idle_previous = shard->idle_last;
    *(shard->idle_last == NULL ? &shard->idle_first : &shard->idle_last->idle_next) = slot;
    shard->idle_last = slot;
}

static void note_end(struct shard *shard, const struct slot *slot, bool torn)
{
    enum observed_by by = slot->call.by;
    shard->figures.open[by]--;
    shard->figures.calls[by]++;
    shard->figures.calls_several[by] += slot->call.writes > 1;
    shard->figures.torn += torn && slot->call.writes > 0;
}

/* Nobody finds it any more. */
static void trace_detach(struct calls *calls, struct shard *shard, struct slot *slot)
{
    uint64_t hash = text_hash(calls->seed, &slot->trace, sizeof slot->trace);
    struct slot **link = bucket_of(shard, hash);
    while (*link != slot) {
        link = &(*link)->next;
    }
    *link = slot->next;
    idle_unlink(shard, slot);
    slot->number = 0;
    note_end(shard, slot, false);
}

/* ------------------------------------------------------------------ ending, without the mutex */

static void count(struct calls *calls, struct shard *shard, struct slot *slot, bool torn)
{
    const struct observed_call *call = &slot->call;
    if (call->writes > 1 || (call->writes == 1 && call->several)) {
        findings_count(calls->findings, call, torn);
    }
    slot_forget(calls, slot);
    pthread_mutex_lock(&shard->mutex);
    slot->next = shard->free;
    shard->free = slot;
    pthread_mutex_unlock(&shard->mutex);
}

/* ------------------------------------------------------------------ writes */

static void slot_write(struct calls *calls, struct shard *shard, struct slot *slot,
                       const struct calls_write *write)
{
    struct observed_call *call = &slot->call;
    call->writes++;
    call->bytes += write->bytes;
    call->several = call->several || write->shape->several;
    sequence_append(&call->sequence, calls->texts, write->shape, write->shape_hash);
    if (slot->writer_hash != write->writer->hash) {
        slot->writer_hash = write->writer->hash;
        people_add(&call->people, write->writer, calls->texts);
    }
    shard->figures.writes[call->by]++;
    shard->figures.bytes[call->by] += write->bytes;
}

uint64_t calls_begin(struct calls *calls, struct text *service, struct text *route)
{
    unsigned int first = atomic_fetch_add_explicit(&calls->next_shard, 1, memory_order_relaxed);
    for (unsigned int i = 0; i < SHARDS; i++) {
        struct shard *shard = &calls->shards[(first + i) % SHARDS];
        uint64_t number = 0;
        pthread_mutex_lock(&shard->mutex);
        struct slot *slot = slot_take(calls, shard);
        if (slot != NULL) {
            slot->call.by = OBSERVED_BY_HTTP;
            slot->call.service = service;
            slot->call.route = route;
            shard->figures.open[OBSERVED_BY_HTTP]++;
            number = slot->number;
        } else if (i == SHARDS - 1) {
            shard->figures.missed++;
        }
        pthread_mutex_unlock(&shard->mutex);
        if (number != 0) {
            return number;
        }
    }
    text_release(calls->texts, service);
    text_release(calls->texts, route);
    return 0;
}

bool calls_write(struct calls *calls, uint64_t number, const struct calls_write *write)
{
    struct shard *shard = shard_of_number(calls, number);
    pthread_mutex_lock(&shard->mutex);
    struct slot *slot = slot_find(shard, number);
    /* The numbers of traces are nobody's. */
    bool found = slot != NULL && slot->call.by == OBSERVED_BY_HTTP;
    if (found) {
        slot_write(calls, shard, slot, write);
    }
    pthread_mutex_unlock(&shard->mutex);
    return found;
}

static struct slot *trace_open(struct calls *calls, struct shard *shard, uint64_t hash,
                               const struct trace_id *trace, const struct calls_write *write,
                               uint64_t now_ms)
{
    struct slot *slot = slot_take(calls, shard);
    if (slot == NULL) {
        shard->figures.missed++;
        return NULL;
    }
    slot->call.by = OBSERVED_BY_TRACE;
    /* Nobody says which service it is: the first writer's application has to do. */
    slot->call.service = people_keep(write->writer, PEOPLE_APPLICATIONS, calls->texts);
    if (slot->call.service == NULL) {
        slot->call.service = text_keep(calls->texts, (struct slice){0});
    }
    slot->trace = *trace;
    slot->began_ms = now_ms;
    struct slot **bucket = bucket_of(shard, hash);
    slot->next = *bucket;
    *bucket = slot;
    idle_append(shard, slot);
    shard->figures.open[OBSERVED_BY_TRACE]++;
    return slot;
}

bool calls_write_traced(struct calls *calls, const struct trace_id *trace,
                        const struct calls_write *write)
{
    uint64_t hash = text_hash(calls->seed, trace, sizeof *trace);
    uint64_t now_ms = atomic_load_explicit(&calls->now_ms, memory_order_relaxed);
    struct shard *shard = &calls->shards[hash % SHARDS];
    struct slot *old = NULL;
    pthread_mutex_lock(&shard->mutex);
    struct slot *slot = trace_find(shard, hash, trace);
    if (slot != NULL && now_ms - slot->began_ms > OBSERVE_TRACE_LIFE_MS) {
        old = slot;
        trace_detach(calls, shard, old);
        slot = NULL;
    }
    if (slot == NULL) {
        slot = trace_open(calls, shard, hash, trace, write, now_ms);
    }
    if (slot != NULL) {
        slot->last_ms = now_ms;
        idle_unlink(shard, slot);
        idle_append(shard, slot);
        slot_write(calls, shard, slot, write);
    }
    pthread_mutex_unlock(&shard->mutex);
    if (old != NULL) {
        count(calls, shard, old, false);
    }
    return slot != NULL;
}

/* ------------------------------------------------------------------ ends */

void calls_end(struct calls *calls, uint64_t number, bool torn)
{
    struct shard *shard = shard_of_number(calls, number);
    pthread_mutex_lock(&shard->mutex);
    struct slot *slot = slot_find(shard, number);
    if (slot != NULL && slot->call.by == OBSERVED_BY_HTTP) {
        slot->number = 0;
        note_end(shard, slot, torn);
    } else {
        slot = NULL;
    }
    pthread_mutex_unlock(&shard->mutex);
    if (slot != NULL) {
        count(calls, shard, slot, torn);
    }
}

/* Ends what has been idle in one shard, a few at a time. Returns how many. */
static size_t end_idle(struct calls *calls, struct shard *shard, uint64_t now_ms)
{
    struct slot *ended[ENDED_AT_ONCE];
    size_t ended_count = 0;
    pthread_mutex_lock(&shard->mutex);
    while (ended_count < ENDED_AT_ONCE && shard->idle_first != NULL &&
           now_ms >= shard->idle_first->last_ms + OBSERVE_TRACE_IDLE_MS) {
        struct slot *slot = shard->idle_first;
        trace_detach(calls, shard, slot);
        ended[ended_count++] = slot;
    }
    pthread_mutex_unlock(&shard->mutex);
    for (size_t i = 0; i < ended_count; i++) {
        count(calls, shard, ended[i], false);
    }
    return ended_count;
}

void calls_tick(struct calls *calls, uint64_t now_ms)
{
    uint64_t known_ms = atomic_load(&calls->now_ms);
    while (known_ms < now_ms && !atomic_compare_exchange_weak(&calls->now_ms, &known_ms, now_ms)) {
    }
    for (size_t i = 0; i < SHARDS; i++) {
        while (end_idle(calls, &calls->shards[i], now_ms) == ENDED_AT_ONCE) {
        }
    }
}

void calls_figures_get(struct calls *calls, struct calls_figures *ret_figures)
{
    *ret_figures = (struct calls_figures){.missed = 0};
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &calls->shards[i];
        pthread_mutex_lock(&shard->mutex);
        const struct calls_figures *figures = &shard->figures;
        for (size_t by = 0; by < 2; by++) {
            ret_figures->calls[by] += figures->calls[by];
            ret_figures->calls_several[by] += figures->calls_several[by];
            ret_figures->writes[by] += figures->writes[by];
            ret_figures->bytes[by] += figures->bytes[by];
            ret_figures->open[by] += figures->open[by];
        }
        ret_figures->torn += figures->torn;
        ret_figures->missed += figures->missed;
        pthread_mutex_unlock(&shard->mutex);
    }
}

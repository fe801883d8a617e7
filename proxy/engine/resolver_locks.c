/*
 * What a decision about a conflict holds while it is carried out (resolver.h): gates, locks of
 * namespaces, of documents and of keys of unique indexes; and telling readers.
 *
 * Everything is waited for on the resolver's thread, which may block; callbacks of the tables, on
 * any thread, post the semaphore and nothing else.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/resolver_private.h"
#include "holdfast/clock.h"
#include "unit/namespace_lock.h"

/* Locks of keys of unique indexes; beyond it a decision is for a stopped proxy. */
#define KEYS_MAX 100000u

/* ------------------------------------------------------------------ waiting */

#define DECIDER_OF(member, pointer)                                                                \
    ((struct decider *)(void *)((uint8_t *)(pointer)-offsetof(struct decider, member)))

static void on_admitted(struct gate_waiter *waiter)
{
    (void)sem_post(&DECIDER_OF(gate_waiter, waiter)->come);
}

static void on_pass(struct gate_wait *wait)
{
    struct decider *decider = DECIDER_OF(gate_wait, wait);
    gate_pass(decider->engine->gates, &decider->gate_waiter);
}

static void on_lock_ended(struct lock_waiter *waiter)
{
    (void)sem_post(&DECIDER_OF(lock_waiter, waiter)->come);
}

static void on_looked_up(struct unique_lookup *lookup)
{
    (void)sem_post(&DECIDER_OF(lookup, lookup)->come);
}

static void on_published(struct uncommitted_publication *publication)
{
    (void)sem_post(&DECIDER_OF(publication, publication)->come);
}

static void wait_for_it(struct decider *decider)
{
    while (sem_wait(&decider->come) != 0) {
        assert(errno == EINTR);
    }
}

/* False: unit.lockWait has passed. */
static bool wait_a_while(struct decider *decider)
{
    uint64_t until_ms = clock_monotonic_ms() + atomic_load(&decider->engine->lock_wait_ms);
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000L};
    int result = 0;
    do {
        result = sem_clockwait(&decider->come, CLOCK_MONOTONIC, &until);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

static enum status no_memory(struct error *ret_error)
{
    return error_set(ret_error, STATUS_MEMORY, "out of memory");
}

static enum status in_the_way(const char *what, const char *namespace, struct error *ret_error)
{
    return error_set(ret_error, STATUS_LIMIT,
                     "%s of %.200s for longer than unit.lockWait: nothing was done, try again",
                     what, namespace);
}

/* ------------------------------------------------------------------ gates and locks */

static enum status enter_gate(struct decider *decider, uint32_t gate, const char *namespace,
                              struct error *ret_error)
{
    struct engine *engine = decider->engine;
    struct lock_owner *owner = &decider->unit->locks;
    if (gate_list_has(owner, gate)) {
        return STATUS_OK;
    }
    if (gate_list_add(engine->locks, owner, gate) != STATUS_OK) {
        return no_memory(ret_error);
    }
    decider->gate_waiter = (struct gate_waiter){.admitted = on_admitted};
    if (gate_unit_enter(engine->gates, gate, &decider->gate_waiter)) {
        return STATUS_OK;
    }
    if (owner->registered) {
        decider->gate_wait = (struct gate_wait){.pass = on_pass, .gate = gate};
        gate_wait_begin(engine->locks, owner, &decider->gate_wait);
    }
    bool inside = wait_a_while(decider);
    if (!inside && !gate_cancel(engine->gates, &decider->gate_waiter)) {
        wait_for_it(decider); /* it was let in at the last moment */
        inside = true;
    }
    gate_wait_end(engine->locks, owner);
    if (!inside) {
        gate_list_drop(engine->locks, owner);
        return in_the_way("writes outside of units are at work in a collection", namespace,
                          ret_error);
    }
    return STATUS_OK;
}

static void split(const char *namespace, char *database, size_t capacity, const char **collection)
{
    const char *dot = strchr(namespace, '.');
    size_t size = dot == NULL ? strlen(namespace) : (size_t)(dot - namespace);
    (void)snprintf(database, capacity, "%.*s", (int)size, namespace);
    *collection = dot == NULL ? "" : dot + 1;
}

uint32_t decider_gate_of(const char *namespace)
{
    char database[256];
    const char *collection = NULL;
    split(namespace, database, sizeof database, &collection);
    return gate_of(database, collection);
}

/* The wait for a lock; false: it is not to be had, or was given at the last moment. */
static bool wait_for_lock(struct decider *decider)
{
    if (wait_a_while(decider)) {
        return true;
    }
    if (lock_cancel(decider->engine->locks, &decider->lock_waiter)) {
        return false;
    }
    wait_for_it(decider);
    return true;
}

static enum status judge(enum lock_result result, const char *namespace, struct error *ret_error)
{
    switch (result) {
    case LOCK_GRANTED:
    case LOCK_CONFLICT: /* held all the same, and it is read only now */
        return STATUS_OK;
    case LOCK_WAITING:
        return in_the_way("an open unit has a lock on a document", namespace, ret_error);
    case LOCK_DEADLOCK:
        return error_set(ret_error, STATUS_LIMIT,
                         "a deadlock with open units: nothing was done, try again");
    case LOCK_LIMIT:
        return error_set(ret_error, STATUS_LIMIT, "unit.maxLocks documents are locked already");
    case LOCK_NO_MEMORY:
        break;
    }
    return no_memory(ret_error);
}

static enum status lock(struct decider *decider, const struct lock_name *name,
                        const char *namespace, struct error *ret_error)
{
    struct lock_table *table = decider->engine->locks;
    struct lock_owner *owner = &decider->unit->locks;
    decider->lock_waiter = (struct lock_waiter){.ended = on_lock_ended};
    enum lock_result result = lock_acquire(table, owner, name, &decider->lock_waiter);
    if (result == LOCK_WAITING && wait_for_lock(decider)) {
        result = lock_acquire(table, owner, name, NULL);
    }
    return judge(result, namespace, ret_error);
}

/* Begins the unit, too. Serializable units that have read the whole namespace are waited for. */
static enum status lock_namespace(struct decider *decider, const char *namespace,
                                  struct error *ret_error)
{
    struct lock_table *table = decider->engine->locks;
    struct lock_owner *owner = &decider->unit->locks;
    uint32_t gate = decider_gate_of(namespace);
    if (namespace_is_locked(owner, gate, NAMESPACE_WRITE)) {
        return STATUS_OK;
    }
    decider->lock_waiter = (struct lock_waiter){.ended = on_lock_ended};
    enum lock_result result =
        namespace_lock(table, owner, gate, NAMESPACE_WRITE, &decider->lock_waiter);
    if (result == LOCK_WAITING && wait_for_lock(decider)) {
        result = namespace_lock(table, owner, gate, NAMESPACE_WRITE, NULL);
    }
    return judge(result, namespace, ret_error);
}

enum status decider_lock_documents(struct decider *decider, struct error *ret_error)
{
    const struct resolve_plan *plan = &decider->plan;
    enum status status = enter_gate(decider, GATE_SERVER, "the server", ret_error);
    for (size_t i = 0; status == STATUS_OK && i < plan->document_count; i++) {
        const char *namespace = plan->documents[i].namespace;
        status = enter_gate(decider, decider_gate_of(namespace), namespace, ret_error);
        if (status == STATUS_OK) {
            status = lock_namespace(decider, namespace, ret_error);
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < plan->document_count; i++) {
        struct lock_name name;
        lock_name_of(plan->documents[i].namespace, plan->documents[i].key, &name);
        status = lock(decider, &name, plan->documents[i].namespace, ret_error);
    }
    return status;
}

/* What the server can take of unique values must stay free until the unit has ended. */
enum status decider_lock_keys(struct decider *decider, const struct record_write *write,
                              struct error *ret_error)
{
    char database[256];
    struct unique_keys keys = {.count_max = KEYS_MAX};
    decider->lookup = (struct unique_lookup){.database = database, .answered = on_looked_up};
    split(write->namespace, database, sizeof database, &decider->lookup.collection);
    if (!unique_cache_get(decider->engine->unique, &decider->lookup)) {
        wait_for_it(decider);
        if (decider->lookup.status != STATUS_OK) {
            *ret_error = decider->lookup.error;
            return error_prefix(ret_error, "the unique indexes of %.200s", write->namespace);
        }
    }
    enum status status = unique_keys_of_change(decider->lookup.indexes, write->before.document,
                                               write->after.document, &keys);
    if (status != STATUS_OK) {
        status = error_set(ret_error, status == STATUS_FULL ? STATUS_LIMIT : status,
                           "too many keys of unique indexes change");
    }
    for (size_t i = 0; status == STATUS_OK && i < keys.count; i++) {
        status = lock(decider, &keys.names[i], write->namespace, ret_error);
    }
    free(keys.names);
    unique_indexes_release(decider->lookup.indexes);
    return status;
}

enum status decider_publish(struct decider *decider, size_t index, struct error *ret_error)
{
    const struct record_write *write = &decider->decision.writes[index];
    const struct wal_append *record = &decider->decision.records[1 + index];
    struct uncommitted_document *document =
        uncommitted_document_new(write->namespace, write->key, &decider->names[index]);
    bson_iter_t at;
    if (document == NULL) {
        return no_memory(ret_error);
    }
    if (write->before.presence == IMAGE_PRESENT &&
        bson_iter_init_from_data(&at, record->payload.data, record->payload.size) &&
        bson_iter_find(&at, "before") && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        const uint8_t *data = NULL;
        bson_iter_document(&at, &document->size, &data);
        document->offset = (uint32_t)slice_offset(record->payload, slice_make(data, 0));
        document->was_present = true;
    }
    document->lsn = record->lsn;
    decider->publication = (struct uncommitted_publication){
        .owner = &decider->unit->uncommitted,
        .gate = decider_gate_of(write->namespace),
        .documents = &document,
        .count = 1,
        .published = on_published,
    };
    if (uncommitted_publish(decider->engine->uncommitted, &decider->publication)) {
        return STATUS_OK;
    }
    if (!wait_a_while(decider)) {
        if (uncommitted_publish_cancel(decider->engine->uncommitted, &decider->publication)) {
            uncommitted_document_release(document);
            return in_the_way("a read is at work in a collection", write->namespace, ret_error);
        }
        wait_for_it(decider);
    }
    return STATUS_OK;
}

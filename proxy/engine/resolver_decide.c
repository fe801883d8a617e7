/*
 * Carrying a decision about a conflict out in the living proxy (resolver.h).
 *
 * Invariants: no document is read for the decision before its lock is held; none is touched before
 * the records with its images are durable and published; what was begun and cannot be finished is
 * rolled back by the pool, as of any unit.
 *
 * The unit is made before it is asked which process the server is: so a recovery after a restart of
 * the server either is seen here, or waits for this unit (restart/restart.c).
 *
 * Threads: the resolver's, which may block. Callbacks of tables post the semaphore, nothing else.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/finish.h"
#include "engine/release.h"
#include "engine/resolver_private.h"
#include "engine/unique_cache.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "recover/fence.h"
#include "unit/gate_wait.h"

/* An operator sees how a decision that was taken back ended, if the server answers. */
#define TAKEN_BACK_MS 10000u
#define LOOK_MS 20
/* Locks of keys of unique indexes; beyond it a decision is for a stopped proxy. */
#define KEYS_MAX 100000u

static const char reason[] = "a conflict could not be resolved";

struct decider {
    const struct resolver_options *options;
    struct engine *engine;
    struct upstream *upstream;
    struct resolver_job *job;
    struct unit *unit;
    struct resolve_plan plan;
    struct resolve_decision decision;
    struct lock_name *names; /* of the decision's writes */
    sem_t come;              /* what is waited for; one thing at a time */
    struct gate_waiter gate_waiter;
    struct gate_wait gate_wait;
    struct lock_waiter lock_waiter;
    struct unique_lookup lookup;
    struct uncommitted_publication publication;
};

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

static uint32_t gate_of_namespace(const char *namespace)
{
    char database[256];
    const char *collection = NULL;
    split(namespace, database, sizeof database, &collection);
    return gate_of(database, collection);
}

static enum status lock(struct decider *decider, const struct lock_name *name,
                        const char *namespace, struct error *ret_error)
{
    struct lock_table *table = decider->engine->locks;
    struct lock_owner *owner = &decider->unit->locks;
    decider->lock_waiter = (struct lock_waiter){.ended = on_lock_ended};
    enum lock_result result = lock_acquire(table, owner, name, &decider->lock_waiter);
    if (result == LOCK_WAITING) {
        if (!wait_a_while(decider)) {
            if (lock_cancel(table, &decider->lock_waiter)) {
                return in_the_way("an open unit has a lock on a document", namespace, ret_error);
            }
            wait_for_it(decider);
        }
        result = lock_acquire(table, owner, name, NULL);
    }
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

static enum status lock_documents(struct decider *decider, struct error *ret_error)
{
    const struct resolve_plan *plan = &decider->plan;
    enum status status = enter_gate(decider, GATE_SERVER, "the server", ret_error);
    for (size_t i = 0; status == STATUS_OK && i < plan->document_count; i++) {
        const char *namespace = plan->documents[i].namespace;
        status = enter_gate(decider, gate_of_namespace(namespace), namespace, ret_error);
        lock_owner_begin(decider->engine->locks, &decider->unit->locks);
    }
    for (size_t i = 0; status == STATUS_OK && i < plan->document_count; i++) {
        struct lock_name name;
        lock_name_of(plan->documents[i].namespace, plan->documents[i].key, &name);
        status = lock(decider, &name, plan->documents[i].namespace, ret_error);
    }
    return status;
}

/* What the server can take of unique values must stay free until the unit has ended. */
static enum status lock_keys_of(struct decider *decider, const struct record_write *write,
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

/* ------------------------------------------------------------------ carrying out */

static enum status journal(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    for (size_t i = 0; i < decision->write_count; i++) {
        struct record_write *write = &decision->writes[i];
        write->plain_probe =
            gate_plain_probe(decider->engine->gates, gate_of_namespace(write->namespace));
    }
    decision->unit = decider->unit->id;
    (void)snprintf(decider->unit->connection, sizeof decider->unit->connection, "%s", FENCE_NOBODY);
    enum status status = resolve_journal(decider->engine->wal, decision, ret_error);
    if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", decider->unit, status);
    }
    if (status == STATUS_OK) {
        decider->unit->begun = true;
        decider->unit->write_count = decision->write_count;
    }
    return status;
}

/* Readers are told of the document, with the place of its image in record `index`. */
static enum status publish(struct decider *decider, size_t index, struct error *ret_error)
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
        .gate = gate_of_namespace(write->namespace),
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

static enum status replace(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    enum status status = STATUS_OK;
    decider->names = calloc(decision->write_count, sizeof *decider->names);
    if (decider->names == NULL) {
        return no_memory(ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        lock_name_of(decision->writes[i].namespace, decision->writes[i].key, &decider->names[i]);
        status = publish(decider, i, ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        lock_mark_written(decider->engine->locks, &decider->unit->locks, &decider->names[i], true);
    }
    if (status == STATUS_OK) {
        status = resolve_replace(decider->upstream, decision, ret_error);
        /* A step may still be on its way. */
        decider->unit->undo_broken = status == STATUS_UNREACHABLE;
    }
    return status;
}

static enum status end(struct decider *decider, struct error *ret_error)
{
    unit_state_set(decider->unit, UNIT_COMMITTING);
    enum status status = resolve_end(decider->engine->wal, &decider->decision, ret_error);
    if (status == STATUS_IO) {
        release_end_process("the end of a conflict could not be made durable", decider->unit,
                            status);
    }
    return status;
}

static enum status change(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    enum status status = resolver_choose(&decider->plan, decider->job->choices, ret_error);
    if (status == STATUS_OK) {
        status = resolve_decide(&decider->plan, decision, ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        status = lock_keys_of(decider, &decision->writes[i], ret_error);
    }
    if (status == STATUS_OK && decision->write_count > 0) {
        status = journal(decider, ret_error);
        if (status == STATUS_OK) {
            status = replace(decider, ret_error);
        }
    }
    return status == STATUS_OK ? end(decider, ret_error) : status;
}

/* Under the locks: is it what the operator saw? */
static enum status look_again(struct decider *decider, struct error *ret_error)
{
    char digest[RESOLVER_DIGEST_BYTES];
    resolve_plan_free(&decider->plan);
    enum status status = resolve_look(decider->engine->wal, decider->upstream, decider->job->unit,
                                      RESOLVER_BYTES_MAX, &decider->plan, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    resolver_digest(&decider->plan, digest);
    return strcmp(digest, decider->job->seen) == 0
               ? STATUS_OK
               : error_set(
                     ret_error, STATUS_CONFLICT,
                     "a document has changed since it was shown: nothing was done, look again");
}

/* ------------------------------------------------------------------ the unit */

static enum status make_unit(struct decider *decider, struct error *ret_error)
{
    char application[64];
    (void)snprintf(application, sizeof application, "holdfast resolve %" PRIu64,
                   decider->job->unit);
    struct unit_request request = {
        .user = "",
        .client = "",
        .application = application,
        .id = wal_unit_next(decider->engine->wal),
    };
    decider->unit = unit_table_new_plain(decider->engine->units, &request);
    if (decider->unit == NULL) {
        return error_set(ret_error, STATUS_LIMIT, "unit.maxOpen units are open: try again later");
    }
    decider->unit->boundary = "resolve";
    return STATUS_OK;
}

static enum wal_unit_state state_of(struct wal *wal, uint64_t id)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit = {.state = WAL_UNIT_OPEN};
    enum status status = wal_reader_begin(wal, &reader, NULL);
    if (status == STATUS_OK) {
        status = wal_read_unit(reader, id, &unit, NULL);
    }
    wal_reader_end(reader);
    return status == STATUS_OK ? unit.state : WAL_UNIT_OPEN;
}

/* Says after `why` what became of what was begun. */
static enum status tell_taken_back(struct wal *wal, uint64_t id, const struct error *why,
                                   struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + TAKEN_BACK_MS;
    enum wal_unit_state state = state_of(wal, id);
    while (state == WAL_UNIT_OPEN && why->status != STATUS_UNREACHABLE &&
           clock_monotonic_ms() < until_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        state = state_of(wal, id);
    }
    switch (state) {
    case WAL_UNIT_ABORTED:
        return error_set(ret_error, why->status,
                         "%s: nothing was changed, the unit is still in conflict", why->message);
    case WAL_UNIT_CONFLICT:
        return error_set(ret_error, why->status,
                         "%s; taking the other changes back met a conflict, too: see unit %" PRIu64,
                         why->message, id);
    default:
        return error_set(ret_error, why->status,
                         "%s; what was begun is taken back when the server answers: the unit is "
                         "still in conflict",
                         why->message);
    }
}

/* The unit goes: what it did stays, or is undone by the pool. */
static enum status end_unit(struct decider *decider, enum status status, struct error *ret_error)
{
    struct unit *unit = decider->unit;
    uint64_t id = unit->id;
    if (status == STATUS_OK) {
        unit_state_set(unit, UNIT_COMMITTED);
        release_unit(decider->engine, unit);
        const char *left = unit_table_checkin(decider->engine->units, unit);
        assert(left == NULL); /* an ended unit is always taken back */
        return STATUS_OK;
    }
    bool begun = unit->begun;
    rollback_detached(decider->engine, unit, reason);
    if (!begun) {
        return status;
    }
    struct error why = *ret_error;
    why.status = status;
    return tell_taken_back(decider->engine->wal, id, &why, ret_error);
}

enum status resolver_decide(const struct resolver_options *options, struct upstream *upstream,
                            struct resolver_job *job, struct error *ret_error)
{
    struct decider decider = {
        .options = options, .engine = options->engine, .upstream = upstream, .job = job};
    (void)sem_init(&decider.come, 0, 0);
    enum status status = resolve_look(decider.engine->wal, upstream, job->unit, RESOLVER_BYTES_MAX,
                                      &decider.plan, ret_error);
    if (status == STATUS_OK) {
        status = make_unit(&decider, ret_error);
    }
    if (status == STATUS_OK) {
        status = server_process_check_upstream(options->process, upstream, ret_error);
        if (status == STATUS_OK) {
            status = lock_documents(&decider, ret_error);
        }
        if (status == STATUS_OK) {
            status = look_again(&decider, ret_error);
        }
        if (status == STATUS_OK) {
            status = change(&decider, ret_error);
        }
        job->changed = decider.decision.write_count;
        status = end_unit(&decider, status, ret_error);
    }
    if (status == STATUS_OK) {
        LOG(LOG_INFO, "unit", "Conflict resolved by an operator", LOG_NUMBER("unit", job->unit),
            LOG_NUMBER("changed", job->changed), LOG_TEXT("choices", job->choices));
    }
    resolve_decision_free(&decider.decision);
    resolve_plan_free(&decider.plan);
    free(decider.names);
    (void)sem_destroy(&decider.come);
    return status;
}

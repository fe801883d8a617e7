/*
 * What units have published and not ended; the protocol is in uncommitted.h.
 *
 * Invariants, with the mutex held:
 *   - what is kept for snapshots (`past`) is in the order of its end: all of it, that of each gate,
 *     and that of each name. The oldest snapshot needs the oldest of it.
 *   - a name is published by one unit at most: it holds the lock of that name. Two documents of the
 *     unit may share it (unit/lock_name.c); `names` has the first of them, and that has the others.
 *   - open[gate] is the length of the gate's list, open[GATE_SERVER] the number of all documents.
 *   - a publication waits only while a turn is on that it may not pass; a queued turn only while a
 *     publication waits.
 * A turn begins and ends with the mutex held, but for uncommitted_read_enter(): there the reader
 * counts its turn first and then looks who publishes or intends to; who publishes counts its intent
 * first and then looks for turns. Both sequentially consistent: one of them sees the other. In the
 * same way the reader that leaves looks for who waits after it has counted its turn off, and who
 * has begun to wait looks for turns once more.
 *
 * Stamps and counts are atomic for those who look without the mutex; they change with it held, and
 * a publication counts up the stamp after it has counted itself as open. So who reads the stamp
 * first and finds nothing open after it sees every later publication as another stamp.
 */
#include "unit/uncommitted.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/memory.h"
#include "holdfast/limits.h"
#include "unit/gate.h"

struct uncommitted_links {
    atomic_uint references; /* of the table and of readers */
    struct uncommitted_owner *owner;
    uint32_t gate;
    struct uncommitted_document *next_of_owner;
    struct uncommitted_links *same_name;   /* others of the owner, of another _id */
    struct uncommitted_document *next;     /* of the gate */
    struct uncommitted_document *previous; /* of the gate */
    /* Of one that has ended, and is kept for snapshots: */
    uint64_t ended_at;               /* 0: published */
    struct uncommitted_links *newer; /* of all that are kept */
    struct uncommitted_links *older_of_name;
    struct uncommitted_links *newer_of_name;
    struct uncommitted_links *newest_of_name; /* of the oldest one only, which the hash has */
    UT_hash_handle hh;
    struct uncommitted_document document;
    char namespace_and_key[];
};

struct gate_state {
    _Atomic uint64_t stamp;
    _Atomic size_t open;
    struct uncommitted_document *first;
    struct uncommitted_document *first_past; /* kept for snapshots */
    _Atomic size_t intents;                  /* publications that are being decided */
    _Atomic size_t read_turns;
    _Atomic size_t drain_turns;
    struct uncommitted_turn *queued; /* turns, oldest first */
    struct uncommitted_watch *watches;
};

struct stripe {
    _Atomic uint32_t stamp;
    _Atomic uint32_t open;
};

struct uncommitted_table {
    pthread_mutex_t mutex;
    struct uncommitted_links *names; /* uthash head */
    struct uncommitted_links *past;  /* uthash head: the oldest of each name */
    struct uncommitted_links *oldest_past;
    struct uncommitted_links *youngest_past;
    size_t past_count;
    size_t past_max;
    uint64_t moment; /* counts ends of units that have changed something */
    uint64_t forgotten_at;
    struct uncommitted_owner *oldest_snapshot;
    struct uncommitted_owner *youngest_snapshot;
    size_t look_count;                              /* of the snapshots */
    struct uncommitted_publication *waiting;        /* oldest first, of all gates */
    _Atomic size_t waiting_count;                   /* its length */
    struct gate_state gates[LIMIT_NAMESPACE_GATES]; /* GATE_SERVER: of all */
    struct stripe stripes[UNCOMMITTED_STRIPES];
};

/* Callbacks to make when the mutex is free again. */
struct outbox {
    struct uncommitted_publication *published;
    struct uncommitted_turn *begun;
    struct uncommitted_watch *ended;
};

struct uncommitted_table *uncommitted_table_new(size_t past_max)
{
    struct uncommitted_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        (void)pthread_mutex_init(&table->mutex, NULL);
        table->past_max = past_max;
    }
    return table;
}

struct uncommitted_table *uncommitted_table_free(struct uncommitted_table *table)
{
    if (table != NULL) {
        struct uncommitted_links *links;
        struct uncommitted_links *next;
        HASH_ITER(hh, table->names, links, next)
        {
            HASH_DEL(table->names, links);
            uncommitted_document_release(&links->document);
        }
        (void)pthread_mutex_destroy(&table->mutex);
        free(table);
    }
    return NULL;
}

/* ------------------------------------------------------------------ documents */

struct uncommitted_document *uncommitted_document_new(const char *namespace, struct slice key,
                                                      const struct lock_name *name)
{
    size_t text_size = strlen(namespace) + 1;
    struct uncommitted_links *links = calloc(1, sizeof *links + text_size + key.size);
    if (links == NULL) {
        return NULL;
    }
    memcpy(links->namespace_and_key, namespace, text_size);
    if (key.size > 0) {
        memcpy(links->namespace_and_key + text_size, key.data, key.size);
    }
    atomic_init(&links->references, 1);
    links->document = (struct uncommitted_document){
        .namespace = links->namespace_and_key,
        .key = slice_make(links->namespace_and_key + text_size, key.size),
        .name = *name,
        .links = links,
    };
    return &links->document;
}

void uncommitted_document_release(struct uncommitted_document *document)
{
    if (document != NULL && atomic_fetch_sub(&document->links->references, 1) == 1) {
        free(document->links);
    }
}

static struct uncommitted_document *share(struct uncommitted_document *document)
{
    (void)atomic_fetch_add(&document->links->references, 1);
    return document;
}

static const struct stripe *stripe_of(const struct uncommitted_table *table,
                                      const struct lock_name *name)
{
    return &table->stripes[slice_load_u32le(name->digest) % UNCOMMITTED_STRIPES];
}

static struct stripe *stripe_to_change(struct uncommitted_table *table,
                                       const struct lock_name *name)
{
    return &table->stripes[slice_load_u32le(name->digest) % UNCOMMITTED_STRIPES];
}

static struct uncommitted_links *find(const struct uncommitted_table *table,
                                      const struct lock_name *name)
{
    struct uncommitted_links *links;
    HASH_FIND(hh, table->names, name->digest, LOCK_DIGEST_BYTES, links);
    return links;
}

/* That of this _id among those that share a name; NULL: none. */
static struct uncommitted_links *find_key(struct uncommitted_links *first, struct slice key)
{
    while (first != NULL && !slice_equal(first->document.key, key)) {
        first = first->same_name;
    }
    return first;
}

static void list_add(struct uncommitted_document **first, struct uncommitted_document *document)
{
    document->links->previous = NULL;
    document->links->next = *first;
    if (*first != NULL) {
        (*first)->links->previous = document;
    }
    *first = document;
}

static void list_remove(struct uncommitted_document **first, struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    if (links->previous == NULL) {
        *first = links->next;
    } else {
        links->previous->links->next = links->next;
    }
    if (links->next != NULL) {
        links->next->links->previous = links->previous;
    }
}

static bool sees(const struct uncommitted_reader *reader,
                 const struct uncommitted_document *document)
{
    return (reader->unit != 0 && reader->unit == document->unit) ||
           (reader->group != 0 && reader->group == document->group);
}

/* ------------------------------------------------------------------ publishing */

static void add(struct uncommitted_table *table, struct uncommitted_publication *publication,
                struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    struct uncommitted_owner *owner = publication->owner;
    struct uncommitted_links *known = find(table, &document->name);
    assert(known == NULL || known->owner == owner); /* who holds its lock */
    if (find_key(known, document->key) != NULL) {
        uncommitted_document_release(document);
        return;
    }
    struct gate_state *gate = &table->gates[publication->gate];
    struct stripe *stripe = stripe_to_change(table, &document->name);
    document->unit = owner->unit;
    document->group = owner->group;
    links->owner = owner;
    links->gate = publication->gate;
    links->next_of_owner = owner->first;
    owner->first = document;
    list_add(&gate->first, document);
    if (known == NULL) {
        HASH_ADD(hh, table->names, document.name.digest, LOCK_DIGEST_BYTES, links);
    } else {
        links->same_name = known->same_name;
        known->same_name = links;
    }
    (void)atomic_fetch_add(&gate->open, 1);
    (void)atomic_fetch_add(&table->gates[GATE_SERVER].open, 1);
    (void)atomic_fetch_add(&stripe->open, 1);
    (void)atomic_fetch_add(&stripe->stamp, 1);
}

static bool is_admission(const struct uncommitted_publication *publication)
{
    return publication->count == 0;
}

static void carry_out(struct uncommitted_table *table, struct uncommitted_publication *publication)
{
    if (is_admission(publication)) {
        return;
    }
    for (size_t i = 0; i < publication->count; i++) {
        add(table, publication, publication->documents[i]);
    }
    (void)atomic_fetch_add(&table->gates[publication->gate].stamp, 1);
    (void)atomic_fetch_add(&table->gates[GATE_SERVER].stamp, 1);
}

static bool may_go_on(const struct gate_state *state,
                      const struct uncommitted_publication *publication)
{
    return is_admission(publication) ? state->drain_turns == 0 : state->read_turns == 0;
}

static bool may_publish(const struct uncommitted_table *table,
                        const struct uncommitted_publication *publication)
{
    return may_go_on(&table->gates[GATE_SERVER], publication) &&
           may_go_on(&table->gates[publication->gate], publication);
}

static bool publish_if_possible(struct uncommitted_table *table,
                                struct uncommitted_publication *publication)
{
    struct gate_state *gate = &table->gates[publication->gate];
    (void)atomic_fetch_add(&gate->intents, 1);
    bool possible = may_publish(table, publication);
    if (possible) {
        carry_out(table, publication);
    }
    (void)atomic_fetch_sub(&gate->intents, 1);
    return possible;
}

/* To publish, that is: who waits for its admission has no part in the order of turns. */
static bool somebody_waits(const struct uncommitted_table *table, uint32_t gate)
{
    const struct uncommitted_publication *at = table->waiting;
    while (at != NULL && (is_admission(at) || (gate != GATE_SERVER && at->gate != gate))) {
        at = at->next;
    }
    return at != NULL;
}

static void count_turn(struct gate_state *state, const struct uncommitted_turn *turn, bool begin)
{
    _Atomic size_t *turns =
        turn->kind == UNCOMMITTED_TURN_READ ? &state->read_turns : &state->drain_turns;
    assert(begin || *turns > 0);
    (void)(begin ? atomic_fetch_add(turns, 1) : atomic_fetch_sub(turns, 1));
}

static void begin_queued(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct gate_state *state = &table->gates[gate];
    if (state->queued == NULL || somebody_waits(table, gate)) {
        return;
    }
    while (state->queued != NULL) {
        struct uncommitted_turn *turn = state->queued;
        state->queued = turn->next;
        turn->queued = false;
        count_turn(state, turn, true);
        turn->next = outbox->begun;
        outbox->begun = turn;
    }
}

/* A turn has ended in the gate: those who waited for it go on. */
static void settle(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct uncommitted_publication **at = &table->waiting;
    struct uncommitted_publication **tail = &outbox->published;
    while (*at != NULL) {
        struct uncommitted_publication *publication = *at;
        if (!publish_if_possible(table, publication)) {
            at = &publication->next;
            continue;
        }
        *at = publication->next;
        (void)atomic_fetch_sub(&table->waiting_count, 1);
        publication->next = NULL;
        *tail = publication;
        tail = &publication->next;
    }
    /* Also of gates whose last reader is leaving without the mutex: once nobody waits any more it
       takes no look at who is queued there. */
    for (struct uncommitted_publication *one = outbox->published; one != NULL; one = one->next) {
        begin_queued(table, one->gate, outbox);
    }
    begin_queued(table, gate, outbox);
    if (gate != GATE_SERVER) {
        begin_queued(table, GATE_SERVER, outbox);
    } else {
        for (uint32_t i = 1; i < LIMIT_NAMESPACE_GATES; i++) {
            begin_queued(table, i, outbox);
        }
    }
}

static void deliver(struct outbox *outbox)
{
    while (outbox->published != NULL) {
        struct uncommitted_publication *publication = outbox->published;
        outbox->published = publication->next;
        publication->published(publication);
    }
    while (outbox->begun != NULL) {
        struct uncommitted_turn *turn = outbox->begun;
        outbox->begun = turn->next;
        turn->begun(turn);
    }
    while (outbox->ended != NULL) {
        struct uncommitted_watch *watch = outbox->ended;
        outbox->ended = watch->next;
        watch->ended(watch);
    }
}

bool uncommitted_publish(struct uncommitted_table *table,
                         struct uncommitted_publication *publication)
{
    assert(publication->gate != GATE_SERVER && publication->gate < LIMIT_NAMESPACE_GATES);
    pthread_mutex_lock(&table->mutex);
    bool at_once = publish_if_possible(table, publication);
    if (!at_once) {
        (void)atomic_fetch_add(&table->waiting_count, 1);
        at_once = publish_if_possible(table, publication);
        if (at_once) {
            (void)atomic_fetch_sub(&table->waiting_count, 1);
        }
    }
    if (!at_once) {
        struct uncommitted_publication **at = &table->waiting;
        while (*at != NULL) {
            at = &(*at)->next;
        }
        publication->next = NULL;
        *at = publication;
    }
    pthread_mutex_unlock(&table->mutex);
    return at_once;
}

bool uncommitted_publish_cancel(struct uncommitted_table *table,
                                struct uncommitted_publication *publication)
{
    struct outbox outbox = {0};
    pthread_mutex_lock(&table->mutex);
    struct uncommitted_publication **at = &table->waiting;
    while (*at != NULL && *at != publication) {
        at = &(*at)->next;
    }
    bool waiting = *at != NULL;
    if (waiting) {
        *at = publication->next;
        (void)atomic_fetch_sub(&table->waiting_count, 1);
        settle(table, publication->gate, &outbox); /* turns may have been queued behind it */
    }
    pthread_mutex_unlock(&table->mutex);
    deliver(&outbox);
    return waiting;
}

static void remove_document(struct uncommitted_table *table, struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    struct gate_state *gate = &table->gates[links->gate];
    list_remove(&gate->first, document);
    struct uncommitted_links *first = find(table, &document->name);
    if (first == links) {
        HASH_DEL(table->names, links);
        if (links->same_name != NULL) {
            HASH_ADD(hh, table->names, document.name.digest, LOCK_DIGEST_BYTES, links->same_name);
        }
    } else {
        while (first->same_name != links) {
            first = first->same_name;
        }
        first->same_name = links->same_name;
    }
    (void)atomic_fetch_sub(&gate->open, 1);
    (void)atomic_fetch_sub(&table->gates[GATE_SERVER].open, 1);
    (void)atomic_fetch_sub(&stripe_to_change(table, &document->name)->open, 1);
}

/* ------------------------------------------------------------------ snapshots */

static struct uncommitted_links *find_past(struct uncommitted_table *table,
                                           const struct lock_name *name)
{
    struct uncommitted_links *links;
    HASH_FIND(hh, table->past, name->digest, LOCK_DIGEST_BYTES, links);
    return links;
}

/* It has ended at table->moment, which none did later. */
static void past_add(struct uncommitted_table *table, struct uncommitted_document *document)
{
    struct uncommitted_links *links = document->links;
    struct uncommitted_links *oldest = find_past(table, &document->name);
    links->ended_at = table->moment;
    if (oldest == NULL) {
        HASH_ADD(hh, table->past, document.name.digest, LOCK_DIGEST_BYTES, links);
        oldest = links;
    } else {
        links->older_of_name = oldest->newest_of_name;
        oldest->newest_of_name->newer_of_name = links;
    }
    oldest->newest_of_name = links;
    *(table->youngest_past == NULL ? &table->oldest_past : &table->youngest_past->newer) = links;
    table->youngest_past = links;
    list_add(&table->gates[links->gate].first_past, document);
    table->past_count++;
}

/* The oldest of all, so it is that of its name, too. */
static struct uncommitted_links *past_take_oldest(struct uncommitted_table *table)
{
    struct uncommitted_links *oldest = table->oldest_past;
    struct uncommitted_links *next_of_name = oldest->newer_of_name;
    HASH_DEL(table->past, oldest);
    if (next_of_name != NULL) {
        next_of_name->older_of_name = NULL;
        next_of_name->newest_of_name = oldest->newest_of_name;
        HASH_ADD(hh, table->past, document.name.digest, LOCK_DIGEST_BYTES, next_of_name);
    }
    table->oldest_past = oldest->newer;
    if (table->oldest_past == NULL) {
        table->youngest_past = NULL;
    }
    list_remove(&table->gates[oldest->gate].first_past, &oldest->document);
    table->past_count--;
    return oldest;
}

/* Puts what no snapshot needs, and the oldest beyond the bound, onto the list. */
static void forget_past(struct uncommitted_table *table, struct uncommitted_document **released)
{
    while (table->oldest_past != NULL) {
        bool needed = table->oldest_snapshot != NULL &&
                      table->oldest_snapshot->snapshot_at < table->oldest_past->ended_at;
        if (needed && table->past_count <= table->past_max) {
            return;
        }
        struct uncommitted_links *oldest = past_take_oldest(table);
        if (needed) {
            table->forgotten_at = oldest->ended_at;
        }
        oldest->next_of_owner = *released;
        *released = &oldest->document;
    }
}

static void snapshot_begin(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    owner->has_snapshot = true;
    owner->snapshot_at = table->moment;
    owner->older = table->youngest_snapshot;
    owner->younger = NULL;
    *(owner->older == NULL ? &table->oldest_snapshot : &owner->older->younger) = owner;
    table->youngest_snapshot = owner;
}

void uncommitted_snapshot_begin(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    if (owner->has_snapshot) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    snapshot_begin(table, owner);
    pthread_mutex_unlock(&table->mutex);
}

void uncommitted_look_begin(struct uncommitted_table *table, struct uncommitted_owner *look)
{
    pthread_mutex_lock(&table->mutex);
    snapshot_begin(table, look);
    look->is_look = true;
    table->look_count++;
    pthread_mutex_unlock(&table->mutex);
}

static void snapshot_end(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    if (!owner->has_snapshot) {
        return;
    }
    *(owner->older == NULL ? &table->oldest_snapshot : &owner->older->younger) = owner->younger;
    *(owner->younger == NULL ? &table->youngest_snapshot : &owner->younger->older) = owner->older;
    owner->has_snapshot = false;
    table->look_count -= owner->is_look;
    owner->is_look = false;
}

/* What only the older snapshot needed goes with the next unit that ends. */
void uncommitted_snapshot_renew(struct uncommitted_table *table, struct uncommitted_owner *owner)
{
    pthread_mutex_lock(&table->mutex);
    if (owner->has_snapshot) {
        snapshot_end(table, owner);
        snapshot_begin(table, owner);
    }
    pthread_mutex_unlock(&table->mutex);
}

bool uncommitted_snapshot_is_lost(struct uncommitted_table *table,
                                  const struct uncommitted_reader *reader)
{
    pthread_mutex_lock(&table->mutex);
    bool lost = reader->has_snapshot && reader->snapshot_at < table->forgotten_at;
    pthread_mutex_unlock(&table->mutex);
    return lost;
}

/* ------------------------------------------------------------------ ending */

static void watch_remove(struct uncommitted_table *table, struct uncommitted_watch *watch)
{
    struct gate_state *state = &table->gates[watch->gate];
    if (watch->previous == NULL) {
        state->watches = watch->next;
    } else {
        watch->previous->next = watch->next;
    }
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    watch->waiting = false;
}

static void take_watches(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct gate_state *state = &table->gates[gate];
    while (state->watches != NULL) {
        struct uncommitted_watch *watch = state->watches;
        watch_remove(table, watch);
        watch->next = outbox->ended;
        outbox->ended = watch;
    }
}

void uncommitted_end(struct uncommitted_table *table, struct uncommitted_owner *owner, bool changed)
{
    struct outbox outbox = {0};
    struct uncommitted_document *released = NULL;
    if (owner->first == NULL && !owner->has_snapshot) {
        return;
    }
    pthread_mutex_lock(&table->mutex);
    snapshot_end(table, owner);
    /* What was undone shows a snapshot the same image as the document itself does. */
    bool keep = table->look_count > 0 || (changed && table->oldest_snapshot != NULL);
    table->moment += owner->first != NULL;
    if (owner->first != NULL) {
        take_watches(table, GATE_SERVER, &outbox);
    }
    while (owner->first != NULL) {
        struct uncommitted_document *document = owner->first;
        owner->first = document->links->next_of_owner;
        remove_document(table, document);
        take_watches(table, document->links->gate, &outbox);
        if (keep) {
            past_add(table, document);
        } else {
            document->links->next_of_owner = released;
            released = document;
        }
    }
    forget_past(table, &released);
    pthread_mutex_unlock(&table->mutex);
    while (released != NULL) {
        struct uncommitted_document *document = released;
        released = document->links->next_of_owner;
        uncommitted_document_release(document);
    }
    deliver(&outbox);
}

/* ------------------------------------------------------------------ looking */

uint64_t uncommitted_stamp(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].stamp);
}

bool uncommitted_is_empty(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].open) == 0;
}

uint32_t uncommitted_name_stamp(const struct uncommitted_table *table, const struct lock_name *name)
{
    return atomic_load(&stripe_of(table, name)->stamp);
}

bool uncommitted_name_is_free(const struct uncommitted_table *table, const struct lock_name *name)
{
    return atomic_load(&stripe_of(table, name)->open) == 0;
}

/* The newest of the name, if it was changed since the reader's snapshot. */
static struct uncommitted_links *newest_since(struct uncommitted_table *table,
                                              const struct lock_name *name,
                                              const struct uncommitted_reader *reader)
{
    struct uncommitted_links *oldest = reader->has_snapshot ? find_past(table, name) : NULL;
    return oldest == NULL || oldest->newest_of_name->ended_at <= reader->snapshot_at
               ? NULL
               : oldest->newest_of_name;
}

/* From this one of a name on, the newest change of the _id since the snapshot. */
static const struct uncommitted_links *newest_of_key(const struct uncommitted_links *links,
                                                     struct slice key,
                                                     const struct uncommitted_reader *reader)
{
    while (links != NULL && links->ended_at > reader->snapshot_at) {
        if (slice_equal(links->document.key, key)) {
            return links;
        }
        links = links->older_of_name;
    }
    return NULL;
}

/* Whether it has the image that the snapshot shows: the first change of its document since. */
static bool is_first_since(const struct uncommitted_links *links,
                           const struct uncommitted_reader *reader)
{
    return newest_of_key(links->older_of_name, links->document.key, reader) == NULL;
}

static struct uncommitted_links *find_since(struct uncommitted_table *table,
                                            const struct lock_name *name,
                                            const struct uncommitted_reader *reader)
{
    struct uncommitted_links *links = newest_since(table, name, reader);
    while (links != NULL && !is_first_since(links, reader)) {
        links = links->older_of_name;
    }
    return links;
}

struct uncommitted_document *uncommitted_find(struct uncommitted_table *table,
                                              const struct lock_name *name,
                                              const struct uncommitted_reader *reader)
{
    struct uncommitted_document *found = NULL;
    pthread_mutex_lock(&table->mutex);
    struct uncommitted_links *links = find(table, name);
    if (links == NULL || !sees(reader, &links->document)) {
        struct uncommitted_links *past = find_since(table, name, reader);
        links = past == NULL ? links : past;
        found = links == NULL ? NULL : share(&links->document);
    }
    pthread_mutex_unlock(&table->mutex);
    return found;
}

static bool is_others(const struct uncommitted_document *document, const char *namespace,
                      const struct uncommitted_reader *reader)
{
    return !sees(reader, document) &&
           (namespace == NULL || strcmp(document->namespace, namespace) == 0);
}

/* False: out of memory. */
static bool take(struct uncommitted_view *view, struct uncommitted_document *document,
                 size_t *capacity)
{
    void *more = memory_reserve(view->documents, view->count, capacity,
                                sizeof(struct uncommitted_document *));
    if (more == NULL) {
        return false;
    }
    view->documents = more;
    view->documents[view->count++] = share(document);
    return true;
}

static struct uncommitted_document *first_of(const struct uncommitted_table *table, uint32_t gate)
{
    if (gate != GATE_SERVER) {
        return table->gates[gate].first;
    }
    return table->names == NULL ? NULL : &table->names->document;
}

static struct uncommitted_document *next_of(const struct uncommitted_table *table,
                                            const struct uncommitted_document *document,
                                            uint32_t gate)
{
    const struct uncommitted_links *links = document->links;
    if (gate != GATE_SERVER) {
        return links->next;
    }
    struct uncommitted_links *next = links->same_name;
    if (next == NULL) {
        struct uncommitted_links *first = find(table, &document->name);
        next = first->hh.next;
    }
    return next == NULL ? NULL : &next->document;
}

struct collecting {
    struct uncommitted_table *table;
    const char *namespace;
    const struct uncommitted_reader *reader;
    size_t count_max;
    size_t capacity;
    struct uncommitted_view view;
};

static enum status collect_one(struct collecting *collecting, struct uncommitted_document *document)
{
    if (!is_others(document, collecting->namespace, collecting->reader)) {
        return STATUS_OK;
    }
    if (collecting->view.count == collecting->count_max) {
        return STATUS_LIMIT;
    }
    return take(&collecting->view, document, &collecting->capacity) ? STATUS_OK : STATUS_MEMORY;
}

/* What was changed since the reader's snapshot: the newest of the gate's come first. What the
   reader has written itself it sees as it is. */
static enum status collect_past(struct collecting *collecting, uint32_t gate)
{
    const struct uncommitted_reader *reader = collecting->reader;
    enum status status = STATUS_OK;
    for (struct uncommitted_document *at = collecting->table->gates[gate].first_past;
         at != NULL && status == STATUS_OK && at->links->ended_at > reader->snapshot_at;
         at = at->links->next) {
        struct uncommitted_links *open = find_key(find(collecting->table, &at->name), at->key);
        bool own = open != NULL && sees(reader, &open->document);
        if (!own && is_first_since(at->links, reader)) {
            status = collect_one(collecting, at);
        }
    }
    return status;
}

enum status uncommitted_collect(struct uncommitted_table *table, uint32_t gate,
                                const char *namespace, const struct uncommitted_reader *reader,
                                size_t count_max, struct uncommitted_view *ret_view)
{
    struct collecting collecting = {
        .table = table, .namespace = namespace, .reader = reader, .count_max = count_max};
    enum status status = STATUS_OK;
    pthread_mutex_lock(&table->mutex);
    collecting.view.stamp = atomic_load(&table->gates[gate].stamp);
    for (struct uncommitted_document *at = first_of(table, gate); at != NULL && status == STATUS_OK;
         at = next_of(table, at, gate)) {
        if (newest_of_key(newest_since(table, &at->name, reader), at->key, reader) == NULL) {
            status = collect_one(&collecting, at);
        }
    }
    if (status == STATUS_OK && reader->has_snapshot) {
        status = collect_past(&collecting, gate);
    }
    pthread_mutex_unlock(&table->mutex);
    if (status != STATUS_OK) {
        uncommitted_view_free(&collecting.view);
        return status;
    }
    *ret_view = collecting.view;
    return STATUS_OK;
}

void uncommitted_view_free(struct uncommitted_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        uncommitted_document_release(view->documents[i]);
    }
    free(view->documents);
    *view = (struct uncommitted_view){0};
}

static bool has_others(const struct uncommitted_table *table, uint32_t gate, const char *namespace,
                       const struct uncommitted_reader *reader)
{
    for (const struct uncommitted_document *at = first_of(table, gate); at != NULL;
         at = next_of(table, at, gate)) {
        if (is_others(at, namespace, reader)) {
            return true;
        }
    }
    return false;
}

bool uncommitted_has_others(struct uncommitted_table *table, uint32_t gate, const char *namespace,
                            const struct uncommitted_reader *reader)
{
    pthread_mutex_lock(&table->mutex);
    bool found = has_others(table, gate, namespace, reader);
    pthread_mutex_unlock(&table->mutex);
    return found;
}

/* ------------------------------------------------------------------ turns and watches */

bool uncommitted_is_draining(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].drain_turns) > 0 ||
           atomic_load(&table->gates[GATE_SERVER].drain_turns) > 0;
}

bool uncommitted_read_enter(struct uncommitted_table *table, uint32_t gate)
{
    struct gate_state *state = &table->gates[gate];
    (void)atomic_fetch_add(&state->read_turns, 1);
    /* Who waits goes first. */
    if (atomic_load(&state->open) == 0 && atomic_load(&state->intents) == 0 &&
        atomic_load(&table->waiting_count) == 0) {
        return true;
    }
    uncommitted_read_leave(table, gate);
    return false;
}

void uncommitted_read_leave(struct uncommitted_table *table, uint32_t gate)
{
    struct outbox outbox = {0};
    (void)atomic_fetch_sub(&table->gates[gate].read_turns, 1);
    if (atomic_load(&table->waiting_count) == 0) {
        return; /* and so no turn is queued */
    }
    pthread_mutex_lock(&table->mutex);
    settle(table, gate, &outbox);
    pthread_mutex_unlock(&table->mutex);
    deliver(&outbox);
}

bool uncommitted_turn_begin(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    turn->queued = somebody_waits(table, turn->gate);
    if (turn->queued) {
        struct uncommitted_turn **at = &table->gates[turn->gate].queued;
        while (*at != NULL) {
            at = &(*at)->next;
        }
        turn->next = NULL;
        *at = turn;
    } else {
        count_turn(&table->gates[turn->gate], turn, true);
    }
    bool begun = !turn->queued;
    pthread_mutex_unlock(&table->mutex);
    return begun;
}

bool uncommitted_turn_cancel(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    bool queued = turn->queued;
    if (queued) {
        struct uncommitted_turn **at = &table->gates[turn->gate].queued;
        while (*at != turn) {
            at = &(*at)->next;
        }
        *at = turn->next;
        turn->queued = false;
    }
    pthread_mutex_unlock(&table->mutex);
    return queued;
}

void uncommitted_turn_end(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    struct outbox outbox = {0};
    pthread_mutex_lock(&table->mutex);
    count_turn(&table->gates[turn->gate], turn, false);
    settle(table, turn->gate, &outbox);
    pthread_mutex_unlock(&table->mutex);
    deliver(&outbox);
}

void uncommitted_turn_make_read(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    count_turn(&table->gates[turn->gate], turn, false);
    turn->kind = UNCOMMITTED_TURN_READ;
    count_turn(&table->gates[turn->gate], turn, true);
    pthread_mutex_unlock(&table->mutex);
}

bool uncommitted_watch(struct uncommitted_table *table, struct uncommitted_watch *watch,
                       const char *namespace, const struct uncommitted_reader *reader)
{
    struct gate_state *state = &table->gates[watch->gate];
    pthread_mutex_lock(&table->mutex);
    watch->waiting = has_others(table, watch->gate, namespace, reader);
    if (watch->waiting) {
        watch->previous = NULL;
        watch->next = state->watches;
        if (watch->next != NULL) {
            watch->next->previous = watch;
        }
        state->watches = watch;
    }
    bool waiting = watch->waiting;
    pthread_mutex_unlock(&table->mutex);
    return waiting;
}

bool uncommitted_unwatch(struct uncommitted_table *table, struct uncommitted_watch *watch)
{
    pthread_mutex_lock(&table->mutex);
    bool waiting = watch->waiting;
    if (waiting) {
        watch_remove(table, watch);
    }
    pthread_mutex_unlock(&table->mutex);
    return waiting;
}

size_t uncommitted_count(struct uncommitted_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = atomic_load(&table->gates[GATE_SERVER].open);
    pthread_mutex_unlock(&table->mutex);
    return count;
}

#ifndef HOLDFAST_UNIT_UNCOMMITTED_PRIVATE_H
#define HOLDFAST_UNIT_UNCOMMITTED_PRIVATE_H

/*
 * The table of uncommitted documents, for its own files; nobody else includes it. The protocol is
 * in uncommitted.h.
 *
 *   uncommitted.c        the table: documents, publications, ends
 *   uncommitted_past.c   what is kept for snapshots
 *   uncommitted_look.c   readers' looks
 *   uncommitted_turns.c  who waits for whom: publications, turns, watches
 *
 * Invariants, with the mutex held:
 *   - what is kept for snapshots (`past`) is in the order of its end: all of it, that of each gate,
 *     and that of each name. The oldest snapshot needs the oldest of it.
 *   - a name is published by one unit at most: it holds the lock of that name. Two documents of the
 *     unit may share it (unit/lock_name.c); `names` has the first of them, and that has the others.
 *   - open[gate] is the number of documents in the gate's heaps, open[GATE_SERVER] that of all.
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
 *
 * All functions want the mutex held, but for those that say so.
 */

#include <pthread.h>

#include <uthash.h>
#include <utlist.h>

#include "holdfast/limits.h"
#include "unit/gate.h"
#include "unit/uncommitted.h"

/*
 * All that one owner has published in one gate. It lies in the first of these documents, the
 * *head*: so who looks whether others have anything there walks units, not documents.
 */
struct uncommitted_heap {
    struct uncommitted_links *next; /* heads of the gate */
    struct uncommitted_links *prev;
    struct uncommitted_links *next_of_all;
    struct uncommitted_links *prev_of_all;
    struct uncommitted_links *next_of_owner;
    struct uncommitted_document *first;
    uint64_t bytes; /* uncommitted_document_bytes() of all of them */
};

/* A document of a unit that has ended, kept for snapshots. */
struct uncommitted_past {
    uint64_t ended_at;
    bool undone;                     /* kept for looks only */
    struct uncommitted_links *newer; /* of all that are kept */
    struct uncommitted_links *older_of_name;
    struct uncommitted_links *newer_of_name;
    struct uncommitted_links *newest_of_name; /* of the oldest one only, which the hash has */
};

struct uncommitted_links {
    atomic_uint references; /* of the table and of readers */
    struct uncommitted_owner *owner;
    uint32_t gate;
    struct uncommitted_document *next_of_owner;
    struct uncommitted_links *same_name;   /* others of the owner, of another _id */
    struct uncommitted_document *next;     /* of its heap; kept: of the gate */
    struct uncommitted_document *previous; /* the same */
    union {
        struct uncommitted_heap heap; /* published, of a head */
        struct uncommitted_past past; /* kept */
    };
    UT_hash_handle hh;
    struct uncommitted_document document;
    char namespace_and_key[];
};

struct gate_state {
    _Atomic uint64_t stamp;
    _Atomic size_t open;
    struct uncommitted_links *heads;         /* GATE_SERVER: of all gates */
    struct uncommitted_document *first_past; /* kept for snapshots, newest first */
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

/* ---- uncommitted.c */

static inline struct uncommitted_document *
uncommitted_document_share(struct uncommitted_document *document)
{
    (void)atomic_fetch_add(&document->links->references, 1);
    return document;
}

/* Which of the table's stripes stands for the name. */
static inline uint32_t uncommitted_stripe(const struct lock_name *name)
{
    return slice_load_u32le(name->digest) % UNCOMMITTED_STRIPES;
}

/* A list by `next_of_owner`. With the mutex free. */
void uncommitted_documents_release(struct uncommitted_document *first);

/* Whether the reader sees what the document's unit has written. */
static inline bool uncommitted_sees(const struct uncommitted_reader *reader,
                                    const struct uncommitted_document *document)
{
    return (reader->unit != 0 && reader->unit == document->unit) ||
           (reader->group != 0 && reader->group == document->group);
}

/* Some of what its snapshot is made of was forgotten: no look at what is left tells it. */
static inline bool uncommitted_is_lost(const struct uncommitted_table *table,
                                       const struct uncommitted_reader *reader)
{
    return reader->has_snapshot && reader->snapshot_at < table->forgotten_at;
}

/* Heads, from gates[gate].heads on. */
static inline struct uncommitted_links *uncommitted_next_head(const struct uncommitted_links *head,
                                                              uint32_t gate)
{
    return gate == GATE_SERVER ? head->heap.next_of_all : head->heap.next;
}

/* The first of this name that is published; NULL: none. */
struct uncommitted_links *uncommitted_links_find(const struct uncommitted_table *table,
                                                 const struct lock_name *name);
/* That of this _id among those that share a name; NULL: none. */
struct uncommitted_links *uncommitted_links_of_key(struct uncommitted_links *first,
                                                   struct slice key);

void uncommitted_list_add(struct uncommitted_document **first,
                          struct uncommitted_document *document);
void uncommitted_list_remove(struct uncommitted_document **first,
                             struct uncommitted_document *document);

static inline bool uncommitted_is_admission(const struct uncommitted_publication *publication)
{
    return publication->count == 0;
}

/* Nothing that it would have to wait for is on. */
void uncommitted_carry_out(struct uncommitted_table *table,
                           struct uncommitted_publication *publication);

/* ---- uncommitted_past.c */

/* The oldest change of this name that is kept; NULL: none. */
struct uncommitted_links *uncommitted_past_find(struct uncommitted_table *table,
                                                const struct lock_name *name);
/* It has ended at table->moment, which none did later. */
void uncommitted_past_add(struct uncommitted_table *table, struct uncommitted_document *document,
                          bool undone);
/* Puts what no snapshot needs, and the oldest beyond the bound, onto the list. */
void uncommitted_past_forget(struct uncommitted_table *table,
                             struct uncommitted_document **released);
void uncommitted_snapshot_end(struct uncommitted_table *table, struct uncommitted_owner *owner);

/* ---- uncommitted_look.c */

bool uncommitted_others_found(const struct uncommitted_table *table, uint32_t gate,
                              const struct uncommitted_reader *reader);

/* ---- uncommitted_turns.c */

void uncommitted_take_watches(struct uncommitted_table *table, uint32_t gate,
                              struct outbox *outbox);
/* Calls whoever is in it. With the mutex free. */
void uncommitted_deliver(struct outbox *outbox);

#endif

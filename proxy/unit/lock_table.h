#ifndef HOLDFAST_UNIT_LOCK_TABLE_H
#define HOLDFAST_UNIT_LOCK_TABLE_H

/*
 * Document locks of units: strict two-phase, exclusive, first come first served.
 *
 * A lock is named by (namespace, document key) through a digest, so that documents whose keys
 * MongoDB takes for equal ({_id: 1} and {_id: 1.0}) share one lock.
 *
 * The table also remembers when each document was last changed by a unit that has ended, for as
 * long as a unit lives that began before: such a unit may have read the older document, so its
 * write is refused (LOCK_CONFLICT). Without that two units lose an update (first committer wins;
 * Berenson et al., "A Critique of ANSI SQL Isolation Levels", SIGMOD 1995). A unit that was rolled
 * back counts as well: somebody may have read what it wrote.
 *
 * Memory: one entry a held lock, and at most `remembered_max` remembered changes; beyond that the
 * oldest are forgotten and units that began before those get LOCK_CONFLICT on any document.
 *
 * Threads: any. Waiters' callbacks run on the thread that releases, with no lock held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct lock_table;
struct lock_entry;

#define LOCK_DIGEST_BYTES 16
struct lock_name {
    uint8_t digest[LOCK_DIGEST_BYTES];
};

/* The owner of locks; lies in its unit. Zero-initialised. */
struct lock_owner {
    uint64_t began_at;       /* change number at which its first operation ran */
    struct lock_entry *held; /* list */
    size_t held_count;
    bool registered;          /* its beginning holds back forgetting */
    struct lock_owner *older; /* private: list of registered owners */
    struct lock_owner *younger;
};

struct lock_waiter {
    void (*granted)(struct lock_waiter *waiter);
    /* private */
    struct lock_owner *owner;
    struct lock_entry *entry;
    struct lock_waiter *next;
};

enum lock_result {
    LOCK_GRANTED,  /* held now, also if it was before */
    LOCK_WAITING,  /* `granted` will be called */
    LOCK_CONFLICT, /* the document was changed after the owner began */
    LOCK_NO_MEMORY,
};

struct lock_table *lock_table_new(size_t remembered_max);
struct lock_table *lock_table_free(struct lock_table *table);

/*
 * The name of a document: `key` is {_id: value}. Numbers of equal value give one name whatever
 * their type (Decimal128 too where it is a whole number).
 */
void lock_name_of(const char *namespace, struct slice key, struct lock_name *ret_name);

/* The first operation of a unit: fixes began_at. Harmless if it was called before. */
void lock_owner_begin(struct lock_table *table, struct lock_owner *owner);

/* `waiter` is used only for LOCK_WAITING. After `granted` call again: it may be LOCK_CONFLICT. */
enum lock_result lock_acquire(struct lock_table *table, struct lock_owner *owner,
                              const struct lock_name *name, struct lock_waiter *waiter);

/* Stops waiting. True: it will not be called. False: it was granted already. */
bool lock_cancel(struct lock_table *table, struct lock_waiter *waiter);

/* Marks the lock, which the owner holds, as of a document it has written (or may have). */
void lock_mark_written(struct lock_table *table, struct lock_owner *owner,
                       const struct lock_name *name);

/* Releases everything, remembers written documents as changed now, and forgets the owner. */
void lock_release_all(struct lock_table *table, struct lock_owner *owner);

/* For figures and tests. */
size_t lock_table_held(struct lock_table *table);
size_t lock_table_remembered(struct lock_table *table);

#endif

#ifndef HOLDFAST_UNIT_LOCK_TABLE_PRIVATE_H
#define HOLDFAST_UNIT_LOCK_TABLE_PRIVATE_H

/* What the files of the lock table share. Everything here belongs to the table's mutex. */

#include <pthread.h>

#include <uthash.h>

#include "holdfast/limits.h"
#include "unit/lock_table.h"

struct lock_entry {
    struct lock_name name;
    struct lock_owner *holder; /* NULL: only remembered */
    struct lock_entry *next_held;
    uint64_t written_at; /* moment of the holder's first write; 0: it has not written */
    bool undoable;       /* a rollback undoes all its writes */
    /* What is remembered; moments, 0: nothing. Between dirty_from, the first write that was undone,
       and restored_at, the last rollback, nobody knows what a reader saw. */
    uint64_t changed_at;
    uint64_t restored_at;
    uint64_t dirty_from;
    struct lock_waiter *first_waiter;
    struct lock_waiter **last_waiter;
    struct lock_entry *older; /* remembered list */
    struct lock_entry *younger;
    bool remembered;
    UT_hash_handle hh;
};

struct lock_table {
    pthread_mutex_t mutex;
    struct lock_entry *entries; /* uthash head */
    uint64_t moment;            /* counts everything that must be told apart in time */
    uint64_t forgotten_up_to;   /* changes up to here may have been forgotten too early */
    size_t locks_max;
    size_t remembered_max;
    size_t remembered_count;
    size_t held_count;
    struct lock_entry *oldest_remembered;
    struct lock_entry *youngest_remembered;
    struct lock_owner *oldest_owner;
    struct lock_owner *youngest_owner;
    size_t owner_count;
    uint64_t newest_place;
    uint64_t deadlock_count;
    uint64_t search_number;
    uint64_t gates_visited[LIMIT_NAMESPACE_GATES]; /* by search number */
    void (*on_deadlock)(const struct lock_deadlock *deadlock);
};

/*
 * deadlock.c: `asker` has just begun to wait for a lock. If that closed a cycle of locks, returns
 * its victim and tells of it; else NULL. If it closed one that leads through a gate, the unit there
 * was told to pass.
 */
struct lock_owner *deadlock_find(struct lock_table *table, struct lock_owner *asker,
                                 struct lock_deadlock *ret_deadlock);

/* If the owner waits at a gate, and waits for itself there, it is told to pass. */
void deadlock_pass_gate(struct lock_table *table, struct lock_owner *owner);

#endif

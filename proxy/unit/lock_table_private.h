#ifndef HOLDFAST_UNIT_LOCK_TABLE_PRIVATE_H
#define HOLDFAST_UNIT_LOCK_TABLE_PRIVATE_H

/* What the files of the lock table share. Everything here belongs to the table's mutex. */

#include <pthread.h>

#include <uthash.h>

#include "holdfast/limits.h"
#include "unit/lock_table.h"

/* An owner that holds an entry shared. */
struct lock_share {
    struct lock_owner *owner;
    struct lock_entry *entry;
    struct lock_share *next; /* of the entry */
    struct lock_share *previous;
    struct lock_share *next_held; /* of the owner */
};

/* Who waits, first come first served. Zeros: nobody has ever waited. */
struct lock_queue {
    struct lock_waiter *first;
    struct lock_waiter **last;
};

/* Who has locked the namespaces of a gate as a whole (namespace_lock.h). */
struct lock_namespace {
    uint32_t readers; /* owners */
    uint32_t writers;
    struct lock_queue queue;
};

struct lock_entry {
    struct lock_name name;
    struct lock_owner *holder; /* exclusively; NULL: nobody */
    struct lock_share *shares; /* list; the holder's own may be in it */
    struct lock_entry *next_held;
    uint64_t written_at; /* moment of the holder's first write; 0: it has not written */
    bool undoable;       /* a rollback undoes all its writes */
    /* What is remembered; moments, 0: nothing. Between dirty_from, the first write that was undone,
       and restored_at, the last rollback, nobody knows what a reader saw. */
    uint64_t changed_at;
    uint64_t restored_at;
    uint64_t dirty_from;
    struct lock_queue queue;
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
    struct lock_namespace namespaces[LIMIT_NAMESPACE_GATES];
    void (*on_deadlock)(const struct lock_deadlock *deadlock);
};

/* Waits that have ended, to be told without the mutex. */
struct lock_ended {
    struct lock_waiter *first;
    struct lock_waiter **tail;
};

static inline void lock_ended_add(struct lock_ended *ended, struct lock_waiter *waiter)
{
    waiter->next = NULL;
    *ended->tail = waiter;
    ended->tail = &waiter->next;
}

/* lock_table.c: where in the queue one is put that comes last. */
struct lock_waiter **lock_queue_end(struct lock_queue *queue);
/* The owner waits there from now on. */
void lock_queue_insert(struct lock_queue *queue, struct lock_waiter **at, struct lock_owner *owner,
                       struct lock_waiter *waiter);
/* Takes out the one that *at points to: its wait has ended. */
struct lock_waiter *lock_queue_remove_at(struct lock_queue *queue, struct lock_waiter **at);
void lock_queue_remove(struct lock_queue *queue, const struct lock_waiter *waiter);

/* lock_table.c. Without the mutex: tells them. */
void lock_ended_call(struct lock_ended *ended);

/* lock_table.c: `waiter` has just been queued, its owner waits. Looks for deadlocks; releases the
   mutex. LOCK_WAITING or LOCK_DEADLOCK. */
enum lock_result lock_wait(struct lock_table *table, struct lock_owner *owner,
                           struct lock_waiter *waiter);

/* lock_table.c: lock_owner_begin(). */
void lock_owner_begin_locked(struct lock_table *table, struct lock_owner *owner);

/* lock_share.c: whether somebody else has a share. */
bool lock_is_shared_by_others(const struct lock_entry *entry, const struct lock_owner *owner);
bool lock_has_share(const struct lock_entry *entry, const struct lock_owner *owner);
void lock_share_add(struct lock_table *table, struct lock_entry *entry, struct lock_owner *owner,
                    struct lock_share *share);
/* The last of the owner's; frees it. Returns its entry. */
struct lock_entry *lock_share_drop(struct lock_table *table, struct lock_owner *owner);

/* gate_wait.c: that of the owner's list; NULL: it is not in it. */
struct lock_gate *gate_list_find(const struct lock_owner *owner, uint32_t gate);

/* namespace_lock.c */
bool namespace_conflicts(unsigned a, unsigned b);
unsigned namespace_modes_of(const struct lock_owner *owner, uint32_t gate);
/* Takes it out of its queue; those behind it that need not wait any more are added to *ended. */
void namespace_dequeue(struct lock_table *table, struct lock_waiter *waiter,
                       struct lock_ended *ended);
/* Takes all modes of the owner back. */
void namespace_release_all(struct lock_table *table, struct lock_owner *owner,
                           struct lock_ended *ended);

/* For lock_share.c: lock_table.c's. */
struct lock_entry *lock_entry_find(struct lock_table *table, const struct lock_name *name);
struct lock_entry *lock_entry_add(struct lock_table *table, const struct lock_name *name);
void lock_entry_enqueue(struct lock_entry *entry, struct lock_owner *owner,
                        struct lock_waiter *waiter, bool first);

/*
 * deadlock.c: `asker` has just begun to wait for a lock. If that closed a cycle of locks, returns
 * its victim and tells of it; else NULL. If it closed one that leads through a gate, the unit there
 * was told to pass.
 */
struct lock_owner *deadlock_find(struct lock_table *table, struct lock_owner *asker,
                                 struct lock_deadlock *ret_deadlock);

/* One of those that the owner's wait for a lock waits for; NULL: it waits for none. */
struct lock_owner *deadlock_blocker(struct lock_table *table, struct lock_owner *owner);

/* If the owner waits at a gate, and waits for itself there, it is told to pass. */
void deadlock_pass_gate(struct lock_table *table, struct lock_owner *owner);

#endif

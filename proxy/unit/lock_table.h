#ifndef HOLDFAST_UNIT_LOCK_TABLE_H
#define HOLDFAST_UNIT_LOCK_TABLE_H

/*
 * Document locks of units: strict two-phase, first come first served. Writers hold documents
 * exclusively. Units that are serializable also hold what they have read: documents shared
 * (lock_acquire_shared()), or a namespace (namespace_lock.h).
 *
 * A lock is named by (namespace, document key) through a digest, so that documents whose keys
 * MongoDB takes for equal ({_id: 1} and {_id: 1.0}) share one lock. Other names stand for what is
 * no document: an upsert's equality key, a key of a unique index (engine/unique_keys.h). Those are
 * never marked as written, so nothing is remembered of them.
 *
 * The table also remembers when each document was last changed by a unit that has ended, for as
 * long as a unit lives that began before: such a unit may have read the older document, so its
 * write is refused (LOCK_CONFLICT). Without that two units lose an update (first committer wins;
 * Berenson et al., "A Critique of ANSI SQL Isolation Levels", SIGMOD 1995).
 *
 * A unit that was rolled back has left its documents as they were, which harms only those who may
 * have read them in between: owners that have read (lock_owner_read()) after the document was first
 * written. Without this difference the survivor of a deadlock would fail as well, for it waits for
 * nothing but a document that the victim has written.
 *
 * Who has read before cannot write what was changed since: for such an owner waiting on would be in
 * vain, so its wait ends with the commit that makes it so (`unless_changed`), not when its turn has
 * come. Who has answered nothing yet may let its view begin when the lock is its own
 * (lock_owner_renew()). And who runs failed work again may lock first what that failed over
 * (lock_hints.h). So a document that many want is handed on in the order of asking, and each commit
 * of it costs the others one conflict at most, not one for each time that somebody is before them.
 *
 * Deadlocks. A unit waits for one thing at a time, and only a wait that begins can close a cycle: a
 * lock that is handed on goes to a unit that no longer waits. So the beginning of each wait is
 * where they are looked for. A waiter also waits for those before it in its queue; where one owner
 * holds the lock exclusively those wait for the same one, so that whatever cycle leads through them
 * leads past them too, and there is one way to go. Who waits for several that share a lock waits
 * for each of them, and for those before it. No cycle was there before: the search visits each
 * waiting unit once at most (unit.maxOpen), with the mutex held, and is done again until none is
 * left, for a wait that begins can close several.
 *
 * The youngest unit of the cycle is its victim: it gets LOCK_DEADLOCK, at once if it is the one
 * that asks, else as the end of its wait, and for every lock from then on; its locks go when it is
 * rolled back. Young is who has a high `place`: places are given in the order in which units begin,
 * and who runs a victim's work again keeps the victim's place. So nobody starves: those with an
 * earlier place than one's own become fewer, and the one with the earliest is never a victim.
 *
 * What else a unit waits for, and why it is no part of a cycle:
 *   - a gate, for plain commands on their way: the server answers those without us (unit/gate.h)
 *   - the server, the journal, its own rollback: none of them waits for a unit
 *   - a command that waits until its session's unit is checked in (unit/unit.h) holds nothing yet
 *
 * One more wait can be part of a cycle: at a gate, behind a plain command that waits until no unit
 * is inside. It ends without a victim (gate_wait.h).
 *
 * Memory: one entry a held lock, and one share for each that holds it shared, both counted in
 * `locks_max`; at most `remembered_max` remembered changes; beyond that the
 * oldest are forgotten and units that began before those get LOCK_CONFLICT on any document.
 *
 * Threads: any. Waiters' callbacks run on the thread that releases, or that asks and closes a
 * cycle, with no lock held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct lock_table;
struct lock_entry;
struct lock_share;
struct lock_namespace;
struct lock_hints;
struct gate_wait;

#define LOCK_DIGEST_BYTES 16
struct lock_name {
    uint8_t digest[LOCK_DIGEST_BYTES];
};

/* A namespace's gate (gate.h) that a unit is inside of, and how it has locked the namespace. */
struct lock_gate {
    uint32_t gate;
    unsigned modes; /* private to namespace_lock.h */
};

/* The owner of locks; lies in its unit. Zero-initialised. */
struct lock_owner {
    bool serializable;       /* it locks what it reads: nothing that was changed is news to it */
    uint64_t began_at;       /* moment of its first operation: changes after it are news to it */
    uint64_t read_at;        /* moment after its last read of what it has not locked; 0: none */
    bool view_used;          /* its client knows something of it: began_at stays. Its holder's */
    struct lock_entry *held; /* list */
    size_t held_count;
    struct lock_share *shares; /* list; private */
    size_t share_count;        /* documents that it holds shared */
    uint64_t unit;             /* number, for who reads of a deadlock; set by the unit */
    uint64_t place; /* 0: given by lock_owner_begin(); else that of a victim whose work this is */
    bool victim;    /* of a deadlock: gets no lock any more. Valid for whoever works on the unit */
    struct lock_hints *hints;    /* its holder's: over what earlier tries of its work have failed */
    struct lock_waiter *waiting; /* private */
    struct gate_wait *at_gate;   /* private to gate_wait.h, as what follows */
    struct lock_gate *gates;     /* those that its unit is inside of */
    size_t gate_count;
    uint64_t visited; /* by search number */
    struct lock_owner *next_visit;
    struct lock_owner *came_from; /* whose wait the search followed to it */
    bool registered;              /* its beginning holds back forgetting */
    struct lock_owner *older;     /* private: list of registered owners */
    struct lock_owner *younger;
};

struct lock_waiter {
    void (*ended)(struct lock_waiter *waiter); /* the wait is over: call lock_acquire() again */
    bool unless_changed; /* a document that was changed after the owner began is not waited for */
    /* private */
    struct lock_owner *owner;
    struct lock_entry *entry;
    struct lock_share *share; /* not NULL: it waits to share the entry */
    struct lock_namespace *namespace;
    unsigned modes;  /* wanted of `namespace` */
    uint64_t passed; /* by search number */
    struct lock_waiter *next;
};

enum lock_result {
    LOCK_GRANTED,  /* held now, also if it was before */
    LOCK_WAITING,  /* `ended` will be called */
    LOCK_CONFLICT, /* the document was changed after the owner began; it is held all the same, but
                      for a waiter with `unless_changed` while another one holds it */
    LOCK_DEADLOCK, /* the owner is a victim; nothing new is held: roll its unit back */
    LOCK_LIMIT,    /* so many locks are held in all; it does not wait: roll its unit back */
    LOCK_NO_MEMORY,
};

/* A cycle that was found. */
#define LOCK_DEADLOCK_UNITS_MAX 8
struct lock_deadlock {
    uint64_t victim;
    uint64_t units[LOCK_DEADLOCK_UNITS_MAX]; /* each waits for the next, from the one that asked */
    size_t unit_count;                       /* of the cycle; only the first of them are listed */
    uint64_t total;                          /* found so far, with this one */
};

/*
 * `remembered_max`: changes that are remembered; beyond it the oldest are forgotten, and units that
 * began before them get LOCK_CONFLICT. `locks_max`: locks held in all. An entry of either is 200
 * bytes. NULL: out of memory.
 */
struct lock_table *lock_table_new(size_t locks_max, size_t remembered_max);
/* From now on; locks beyond it that are held already stay. */
void lock_table_set_locks_max(struct lock_table *table, size_t locks_max);
struct lock_table *lock_table_free(struct lock_table *table);

/*
 * Tells of each deadlock: called on the thread that asked, with no lock held. Set it before the
 * table is used by several threads. NULL: nobody is told.
 */
void lock_table_on_deadlock(struct lock_table *table,
                            void (*found)(const struct lock_deadlock *deadlock));

/*
 * The name of a document: `key` is {_id: value}. Numbers of equal value give one name whatever
 * their type.
 */
void lock_name_of(const char *namespace, struct slice key, struct lock_name *ret_name);
/* The same name, of the namespace "DATABASE.COLLECTION". */
void lock_name_in(const char *database, const char *collection, struct slice key,
                  struct lock_name *ret_name);

/* The first operation of a unit: fixes began_at and place. Harmless if it was called before. */
void lock_owner_begin(struct lock_table *table, struct lock_owner *owner);

/*
 * `waiter` is used only for LOCK_WAITING: it lies in the caller's memory until `ended` or a
 * lock_cancel() that returns true. An owner waits for one lock at a time. After `ended` call again,
 * for the same name: the answer is not LOCK_WAITING, unless the wait ended for a change that is
 * forgotten already. NULL: the owner does not wait; LOCK_WAITING then says that another one holds
 * the lock.
 */
enum lock_result lock_acquire(struct lock_table *table, struct lock_owner *owner,
                              const struct lock_name *name, struct lock_waiter *waiter);

/*
 * The same of a lock that others may hold shared at the same time: for what a serializable owner
 * reads. Who holds it exclusively has it already. Never LOCK_CONFLICT.
 */
enum lock_result lock_acquire_shared(struct lock_table *table, struct lock_owner *owner,
                                     const struct lock_name *name, struct lock_waiter *waiter);

/* Stops waiting, also for a namespace. True: `ended` will not be called. False: the wait has ended
 * already. */
bool lock_cancel(struct lock_table *table, struct lock_waiter *waiter);

/*
 * The owner's view begins anew at this moment: what was changed before is no news to it. Only while
 * it has not used its view, and waits for nothing.
 */
void lock_owner_renew(struct lock_table *table, struct lock_owner *owner);

/*
 * A read of the owner's unit has ended that may have seen what other units have written and not
 * committed: of documents that the unit has not locked, or of which of them match something. Sets
 * `view_used`, which whoever works on the unit sets for anything else that its client gets to know.
 */
void lock_owner_read(struct lock_table *table, struct lock_owner *owner);

/*
 * Marks the lock, which the owner holds, as of a document that it is about to write. `undoable`: a
 * rollback restores the document.
 */
void lock_mark_written(struct lock_table *table, struct lock_owner *owner,
                       const struct lock_name *name, bool undoable);

/*
 * Releases everything, remembers written documents as changed or restored now, and forgets the
 * owner. `restored`: a rollback has undone all writes that can be undone.
 */
void lock_release_all(struct lock_table *table, struct lock_owner *owner, bool restored);

/* The place to begin the unit with that runs this one's work again. 0: none, it was no victim. */
uint64_t lock_owner_place_kept(const struct lock_owner *owner);

/* One owner as somebody sees it who looks on: whom it blocks, and who blocks it. */
struct lock_view {
    uint64_t unit;
    uint64_t waits_for; /* a unit that holds the lock it waits for; 0: it waits for none */
    size_t held_count;
    size_t share_count;
    size_t namespace_count; /* that it has read as a whole */
};

/* Up to `max` of the owners that have begun, oldest first; returns how many. */
size_t lock_table_view(struct lock_table *table, struct lock_view *views, size_t max);

/* For figures and tests. */
uint64_t lock_table_deadlocks(struct lock_table *table);
size_t lock_table_held(struct lock_table *table);
size_t lock_table_remembered(struct lock_table *table);

#endif

#ifndef HOLDFAST_UNIT_GATE_H
#define HOLDFAST_UNIT_GATE_H

/*
 * Namespace gates: keep plain commands (outside any unit) and units from meeting unseen.
 *
 * A unit that locks a document must not do so while a plain write to the same document is on its
 * way to the server, for its undo would erase that write. So a plain write is counted while it is
 * on its way, and the first unit to enter a namespace waits until those counted have ended. While
 * units are inside, plain writes do not use the fast path: a write of one document becomes a small
 * unit of its own, any other write waits until no unit is inside.
 *
 *    plain write:  count++ (this worker's)  ->  units inside?  -- no ->  forward, count-- at its
 * reply | yes
 *                                                    v
 *                                           count--, slow path
 *    unit:         units++  ->  sum of counts == 0 ?  -- no ->  wait
 *
 * Both sides write first and look after (sequentially consistent), so one of them always sees the
 * other: there is no window. Fast path: two atomic additions and four loads, no lock.
 *
 * After a crash of the server the journal brings its units' documents back, and must not take what
 * a plain write did to them later for what the crash has left of them. So a plain write follows a
 * unit only once a probe (recover/probe.h) that covers the unit's end was answered: then the server
 * cannot lose the unit and keep the plain write. And of plain writes it is remembered after which
 * probe the last one ended, because units that follow build on them.
 *
 * Fairness: once a plain write waits, units that are not inside yet wait behind it, but for those
 * that would wait for themselves there (gate_wait.h).
 *
 * Names are hashed into a fixed table of LIMIT_NAMESPACE_GATES gates; a collision makes two
 * namespaces wait for each other, nothing else. Gate 0 is the gate of the whole server: every unit
 * enters it too, for commands that touch more than one namespace (dropDatabase, renameCollection).
 *
 * Threads: any. The callbacks of waiters run on whatever thread opens the gate, with no lock held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"

struct gate_table;

#define GATE_SERVER 0u

/* Lies in the caller's memory from the call that queues it until `admitted` or gate_cancel(). */
struct gate_waiter {
    void (*admitted)(struct gate_waiter *waiter);
    /* gate_plain_wait(): it can be carried out another way, as a unit. */
    bool has_other_way;
    /* When `admitted` is called: true only for what has another way and should take it now; then it
       is not counted. */
    bool turned_away;
    /* private */
    struct gate_waiter *next;
    struct gate_waiter *previous;
    struct gate_waiter **list;
    uint32_t gate;
    bool is_unit;
    size_t worker;
};

/* `worker_count`: how many workers count plain commands. NULL: out of memory. */
struct gate_table *gate_table_new(size_t worker_count);
struct gate_table *gate_table_free(struct gate_table *table);

/* 1 .. LIMIT_NAMESPACE_GATES - 1. */
uint32_t gate_of(const char *database, const char *collection);

enum gate_plain {
    GATE_PLAIN_ADMITTED,  /* it is counted: forward it and call gate_plain_leave() when its reply is
                             here or can no longer come */
    GATE_PLAIN_UNITS,     /* units are inside */
    GATE_PLAIN_UNCOVERED, /* none is, but no probe covers the last one yet */
};

/* A plain write comes. */
enum gate_plain gate_plain_enter(struct gate_table *table, uint32_t gate, size_t worker);
void gate_plain_leave(struct gate_table *table, uint32_t gate, size_t worker);

/* A write of a unit ended of which the journal does not know: it counts as a plain one. */
void gate_plain_note(struct gate_table *table, uint32_t gate, size_t worker);

/*
 * Waits until no unit is inside and a probe covers the last one; then it is counted as after
 * gate_plain_enter() and `admitted` is called. True: admitted at once, no callback.
 */
bool gate_plain_wait(struct gate_table *table, uint32_t gate, size_t worker,
                     struct gate_waiter *waiter);

/*
 * A unit comes. True: it is inside at once. False: `admitted` will be called. Either way
 * gate_unit_leave() takes it out again (also after gate_cancel() returned false).
 */
bool gate_unit_enter(struct gate_table *table, uint32_t gate, struct gate_waiter *waiter);
/* `end_lsn`: the LSN of the record that ended it, or a greater one; 0: it has written nothing. */
void gate_unit_leave(struct gate_table *table, uint32_t gate, uint64_t end_lsn);

/*
 * A unit that waits behind plain commands goes past them: `admitted` is called, perhaps from
 * inside, or when the plain commands in flight have ended. Harmless if it does not wait behind any.
 */
void gate_pass(struct gate_table *table, struct gate_waiter *waiter);

/* ---- snapshots: plain writes are in no list, but it is known when the last one ended */

/* A snapshot begins. */
uint64_t gate_epoch_next(struct gate_table *table);
/*
 * Whether a plain write behind this gate (GATE_SERVER: any) has ended since this epoch began, or is
 * on its way. May be true of one that ended right before. Of a gate that a unit is inside of the
 * answer does not change.
 */
bool gate_plain_since(struct gate_table *table, uint32_t gate, uint64_t epoch);

/* ---- probes */

/*
 * `wanted` is called, on any thread and with the table locked, when somebody waits for a probe that
 * covers a unit which has just ended: it must not block and must not call the table.
 */
void gate_on_probe_wanted(struct gate_table *table, void (*wanted)(void *context), void *context);

/* Before the probe `number` is sent. Numbers grow. The first is to be told before any command. */
void gate_probe_sent(struct gate_table *table, int64_t number);

/* A probe was answered that covers all units which ended up to `lsn`; admits whoever waited. */
void gate_probe_answered(struct gate_table *table, uint64_t lsn);

/*
 * The server does not take probes, though it may take other commands; until the next answered one.
 * Plain writes that have another way find units inside, or are turned away; others wait on, but
 * keep no unit out.
 */
void gate_probe_failed(struct gate_table *table);

/* A unit has ended that no answered probe covers. */
bool gate_has_uncovered(struct gate_table *table);

/* A plain write has ended since the newest probe was sent. */
bool gate_has_plain(struct gate_table *table);

/*
 * The number of the newest probe that was sent before a plain write behind this gate last ended, or
 * the one before the first: what is there now may be lost unless a later probe survives.
 */
int64_t gate_plain_probe(struct gate_table *table, uint32_t gate);

/* Stops waiting. True: it will not be called and is not inside. False: it was admitted already. */
bool gate_cancel(struct gate_table *table, struct gate_waiter *waiter);

#endif

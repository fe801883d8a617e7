#ifndef HOLDFAST_MIGRATE_LOCK_H
#define HOLDFAST_MIGRATE_LOCK_H

/*
 * The lock by which one process at a time migrates a database: the document
 *
 *   { _id: "lock", owner: "...", host: "...", pid: Int64, on: "...", since: Date, expiresAt: Date }
 *
 * of ROW_COLLECTION. It expires LOCK_VALID_MS after it was last renewed, by one clock for all, that
 * of the server; of a process of this host that is dead it is taken at once. A thread renews it.
 *
 * It is for courtesy, so that the second one waits instead of failing: what makes a second one
 * harmless is the mark of row.h.
 *
 * Threads: one, and the renewing thread behind it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "maintain/maintain.h"

#define LOCK_VALID_MS 15000
#define LOCK_RENEW_MS 4000

struct lock;

struct lock_options {
    struct maintain_options connection; /* the renewing thread makes one of its own */
    const char *database;
    const char *owner;                                  /* of this process alone */
    uint64_t wait_ms;                                   /* for another one */
    void (*waiting)(void *context, const char *holder); /* said once; may be NULL */
    void *context;
};

/*
 * Takes the lock. STATUS_OWNED: another process has it, and had it to the end of wait_ms (the
 * message names it). Errors also: those of maintain.h. Give *ret_lock to lock_release().
 */
MUST_CHECK enum status lock_acquire(struct maintain *maintain, const struct lock_options *options,
                                    struct lock **ret_lock, struct error *ret_error);

/* Whether it could not be renewed for so long that another one may have it. Any thread. */
bool lock_is_lost(struct lock *lock);

/* NULL is harmless; returns NULL. */
struct lock *lock_release(struct maintain *maintain, struct lock *lock);

/* Who holds the lock now, for people; "" if nobody. */
MUST_CHECK enum status lock_holder(struct maintain *maintain, const char *database, char *holder,
                                   size_t capacity, struct error *ret_error);

#endif

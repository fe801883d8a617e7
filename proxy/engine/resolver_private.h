#ifndef HOLDFAST_ENGINE_RESOLVER_PRIVATE_H
#define HOLDFAST_ENGINE_RESOLVER_PRIVATE_H

/* What the files of the resolver share: resolver.c, resolver_decide.c and resolver_locks.c. */

#include <semaphore.h>

#include "engine/resolver.h"
#include "engine/unique_cache.h"
#include "unit/gate_wait.h"

/* SHA-256 of all that was looked at: the unit, its last record, each key and image. */
void resolver_digest(const struct resolve_plan *plan, char ret_digest[RESOLVER_DIGEST_BYTES]);

/* Carries the job's decision out. `upstream` is good for closing only after an error. */
MUST_CHECK enum status resolver_decide(const struct resolver_options *options,
                                       struct upstream *upstream, struct resolver_job *job,
                                       struct error *ret_error);

/* One decision on its way. */
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

/* ---- resolver_locks.c: each waits for unit.lockWait at most, and is then STATUS_LIMIT */

/* Gates and locks of all documents of the plan. */
MUST_CHECK enum status decider_lock_documents(struct decider *decider, struct error *ret_error);

/* The keys of unique indexes that a write changes stay as they are until the unit has ended. */
MUST_CHECK enum status decider_lock_keys(struct decider *decider, const struct record_write *write,
                                         struct error *ret_error);

/* Readers are told of the document of the write `index`, which is journaled. */
MUST_CHECK enum status decider_publish(struct decider *decider, size_t index,
                                       struct error *ret_error);

uint32_t decider_gate_of(const char *namespace);

#endif

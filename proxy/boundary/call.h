#ifndef HOLDFAST_BOUNDARY_CALL_H
#define HOLDFAST_BOUNDARY_CALL_H

/*
 * One API call, as the HTTP front sees it: from where its request is whole, or as much of it as is
 * read ahead (front/front.h), to the end of its handler.
 *
 *   call_begin() --> CALL_ADMITTED: forward the request to the service
 *     |  `--> CALL_WAITING: nothing of it is forwarded; `admitted` will tell (or call_cancel())
 *     |  `--> anything else: it never begins; answer 503, nothing to release
 *     v
 *   the service's complete answer             --> call_handler_ended(ANSWERED), then
 *        2xx, 3xx                                 call_commit()    --> `ended`
 *        4xx, 5xx                                 call_roll_back() --> `ended`
 *   its connection breaks before that         --> call_handler_ended(LOST), call_roll_back()
 *   timeout                                   --> call_roll_back() --> `ended`; the front goes on
 *                                                 reading, and drops, what the service answers:
 *                                                 call_handler_ended()
 *
 * call_handler_ended(ANSWERED) comes right before call_commit() or call_roll_back(), or after.
 *
 * The call lies in the front's memory from call_begin() until both its handler has ended and
 * `ended` was called (for a joined call: until its handler has ended). An answer's first byte goes
 * to the caller only after `ended`.
 *
 * A joined call (call->joined) came in by the inside listener while the call that it belongs to is
 * open: it has no unit of its own, its answer passes at once, and only call_handler_ended() is
 * called for it.
 *
 * Thread: the worker's, for every function; callbacks come from its loop, never from inside.
 */

#include <stdbool.h>
#include <stdint.h>

#include "boundary/catch_up.h"
#include "boundary/domain.h"
#include "boundary/lend.h"
#include "engine/finish.h"
#include "net/worker.h"

enum call_admission {
    CALL_ADMITTED,
    CALL_WAITING,
    CALL_QUEUE_FULL,    /* as many wait as may */
    CALL_QUEUE_TIMEOUT, /* waited as long as it may */
    CALL_LATE,          /* inside: what it belongs to has ended already */
    CALL_LIMIT,         /* unit.maxOpen units are open, or out of memory */
    CALL_DRAINING,      /* the proxy is shutting down */
};

enum call_handler_end {
    CALL_HANDLER_ANSWERED, /* its complete answer has come */
    CALL_HANDLER_LOST,     /* its connection broke before that */
};

enum call_end {
    CALL_COMMITTED,   /* durable */
    CALL_ROLLED_BACK, /* call->reason: why */
    CALL_CONFLICT,    /* set aside for an operator: a rollback met a document changed by others */
};

struct call {
    /* filled in by the front; texts are valid until `ended` */
    struct domain *domain;
    struct worker *worker;
    /* Number of the service that handles it. In a domain of instances: the one that it would rather
       have, or DOMAIN_NO_INSTANCE; once it is admitted, the one that handles it. */
    size_t service;
    const char *service_name;
    bool inside; /* came by the inside listener, or from a listed peer */
    struct trace_id
        trace; /* of the request's traceparent, or of the one that was added; none: zeros */
    struct span_context span; /* of its unit: with that trace, or none */
    const char *method;
    const char *target;
    const char *caller; /* address:port */
    /* Not NULL: the request may be repeated; its unit is found by this key (idempotency.h). */
    const struct unit_session_key *request_key;
    /* Set before call_commit(): a document for the COMMIT record; size 0: none. */
    struct slice answer;
    void (*admitted)(struct call *call, enum call_admission admission);
    void (*ended)(struct call *call, enum call_end end);

    /* to be read by the front */
    bool joined;
    uint64_t unit;      /* number of its unit; 0: none (joined, observe only) */
    const char *reason; /* a literal, after CALL_ROLLED_BACK */

    /* private to call.c and domain.c */
    struct engine *engine;
    struct observe *observe;
    bool handler_answered;
    bool ending; /* call_commit() or call_roll_back() was called */
    struct catch_up catch_up;
    uint64_t late_ms; /* when not to wait for the service's writes any longer */
    struct domain_slot *slot;
    struct domain_handler *handler;
    struct call *next;
    struct call *previous; /* the domain's lists */
    uint64_t wait_until_ms;
    enum call_admission admission;
    struct unit_session_key key;
    struct unit *checked_out;
    struct unit_waiter waiter;
    struct worker_task task;
    void (*resume)(struct call *call);
    struct commit commit;
    enum status commit_status;
    struct rollback rollback;
    struct loan *loan; /* native engine: of the connection that ends the transaction; NULL: none */
    enum call_end end;
    bool committing;
    uint64_t observed;
    bool is_read; /* call_wait_read() */
    bool waiting; /* in a queue */
    char name[UNIT_NAME_BYTES];
};

enum call_admission call_begin(struct call *call);

/*
 * For `reads: wait`: a call that changes nothing waits until no call is open in its slot. Only
 * CALL_ADMITTED, CALL_WAITING and CALL_QUEUE_FULL; `admitted` comes with CALL_ADMITTED,
 * CALL_QUEUE_TIMEOUT or CALL_DRAINING. After CALL_ADMITTED nothing is held and nothing is to be
 * ended.
 */
enum call_admission call_wait_read(struct call *call);

/*
 * In a domain of instances, admitted, nothing of it sent: its instance cannot be connected to, as
 * domain_instance_failed() was told. True: it has another one, call->service. False: none is free,
 * or can be reached.
 */
bool call_move(struct call *call);

/* The caller has gone while it waited. True: `admitted` will not be called. */
bool call_cancel(struct call *call);

/* Exactly once for a call that was admitted. */
void call_handler_ended(struct call *call, enum call_handler_end end);

/* Exactly one of these, once, for a call that was admitted and has not joined. */
void call_commit(struct call *call);
void call_roll_back(struct call *call, const char *reason);

#endif

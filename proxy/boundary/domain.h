#ifndef HOLDFAST_BOUNDARY_DOMAIN_H
#define HOLDFAST_BOUNDARY_DOMAIN_H

/*
 * A domain: one service or several that work on one database, and the API calls that are open in
 * it. It answers two questions: may this call begin now, and to which call does this write belong.
 *
 * Correlation
 *   exclusive   one mutating call at a time; every write of any of the services belongs to it
 *   trace       many at once, each named by its trace-id, which its writes carry in `comment`
 *   instances   one at a time for each instance of its one service; a write belongs to the call
 *               that is open on the instance by whose connection it comes
 *
 * All are the same thing here: *slots*, one in an exclusive domain, one for each trace-id or
 * instance in the others. A slot holds one call at a time, and a fair, bounded queue of those that
 * wait for it; instances have one queue together.
 *
 *                 call_begin()             the unit has ended, and no handler is left
 *      (queue) ------------------> OPEN ------------------------------------------------> free
 *                                   |                                                       ^
 *                                   | the unit has ended, a handler may be alive            |
 *                                   `----------------------> FENCED ------------------------'
 *
 * A *handler* is the service's code at work for one request. It has ended when its complete answer
 * has come. If its connection broke instead, it may be dead or go on writing: it counts as ended
 * when its service has closed every mongo connection that it had at that moment, and they are read
 * empty, or when no write has been refused for the quiet period. Connections that the proxy itself
 * has closed (the server went away, the proxy ends) tell nothing of a handler, nor does a
 * service that had none before the call began, and may open one for each write: there the quiet
 * period alone decides. As long as a slot is fenced its writes are
 * refused, and no other call begins in it: a handler that outlives its unit can write neither
 * outside of it nor into the next one. After a start of the proxy the whole domain is fenced for
 * the quiet period, since handlers of the former life may be alive.
 *
 * Threads: any; one mutex for each domain, short sections. Callbacks come on the worker that the
 * call names, from its loop.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boundary/domain_retries.h"
#include "engine/engine.h"
#include "observe/observe.h"
#include "unit/unit.h"
#include "wire/traceparent.h"

enum domain_correlation {
    DOMAIN_EXCLUSIVE,
    DOMAIN_TRACE,
    DOMAIN_INSTANCES,
};

/* In place of an instance's number: none. */
#define DOMAIN_NO_INSTANCE SIZE_MAX

/* Waits are in milliseconds. */
struct domain_options {
    const char *name; /* for log and metrics; copied */
    enum domain_correlation correlation;
    size_t instance_count; /* DOMAIN_INSTANCES: 1 or more */
    bool observe_only;     /* no units, no queue, no fence: only the report */
    bool refuse_beside;    /* writes of documents while no call is open are refused */
    uint64_t queue_wait_ms;
    size_t queue_max;
    uint64_t quiet_ms;
    bool fenced_at_start;    /* handlers of a former life may be alive */
    struct engine *engine;   /* outlives the domain */
    struct observe *observe; /* outlives the domain; NULL: nothing is observed */
};

struct domain;

/* NULL: out of memory. */
struct domain *domain_new(const struct domain_options *options);
/* No call and no link is left. NULL is harmless; returns NULL. */
struct domain *domain_free(struct domain *domain);

const char *domain_name(const struct domain *domain);
bool domain_is_observe_only(const struct domain *domain);
/*
 * Who sees what the domain's calls write before it is committed (unit/uncommitted.h): its services,
 * or, of instances, the one on which the call is open. Of a connection of `service`; 0: nobody.
 */
uint64_t domain_reader_group(struct domain *domain, size_t service);

/* Housekeeping: ends waits and quiet periods that are over. Every 50 ms or so, one thread. */
void domain_tick(struct domain *domain, uint64_t now_ms);

/* No call begins any more: those that wait are told CALL_DRAINING. */
void domain_drain(struct domain *domain);

/* While it is held no call begins: those that come wait in the queue. What is open goes on. */
void domain_hold(struct domain *domain, bool held);

/* Changes limits while it is used. */
void domain_set_waits(struct domain *domain, uint64_t queue_wait_ms, size_t queue_max,
                      uint64_t quiet_ms);

/* Calls that are open, for the end of the process. */
size_t domain_calls(struct domain *domain);

/* ---- instances; any thread */

/* 0: it has none, and none of these may be called. */
size_t domain_instance_count(const struct domain *domain);

/*
 * For a request that is no call: the instance that it goes to, of those that can be reached the one
 * with the least to do, `preferred` among equals. It counts as at work until
 * domain_instance_leave().
 */
size_t domain_instance_enter(struct domain *domain, size_t preferred);
void domain_instance_leave(struct domain *domain, size_t instance);

/* It could not be connected to: for a second others are taken, if there is one that can be. */
void domain_instance_failed(struct domain *domain, size_t instance);

struct domain_instance_figures {
    bool open;           /* a call is */
    bool fenced;         /* none can begin: a handler may have outlived its call */
    bool reached;        /* false: it could not be connected to a moment ago */
    size_t others;       /* requests at work that are no calls */
    size_t connections;  /* mongo connections */
    uint64_t calls;      /* since the start */
    uint64_t writes;     /* in calls, since the start */
    uint64_t writes_out; /* beside calls, or refused */
};

void domain_instance_figures_get(struct domain *domain, size_t instance,
                                 struct domain_instance_figures *ret_figures);

/* ---- mongo connections */

enum domain_lent {
    DOMAIN_LENT,
    DOMAIN_LENT_BUSY,  /* something is on its way there */
    DOMAIN_LENT_NEVER, /* it is another user's, or has ended */
};

/* One mongo connection of a service of the domain; lies in the connection's memory. */
struct domain_link {
    /* filled in by the connection */
    struct worker *worker;
    int descriptor;
    /* catch_up.h, on the worker. `readable`: there are bytes, or the end, in the socket. Reads and
       decides them as far as possible; returns whether some of what has come is not decided. */
    bool (*settle)(struct domain_link *link, bool readable);
    /* lend.h, on the worker: nothing is read from it until it is taken back, and it is there until
       then. */
    enum domain_lent (*lend)(struct domain_link *link, const char *user,
                             struct engine_channel **ret_channel);
    void (*take_back)(struct domain_link *link);

    struct domain *domain; /* NULL: not linked */
    size_t service;        /* or instance */
    uint64_t opened;       /* private */
    struct domain_link *next;
    struct domain_link *previous;
};

/* `link` is filled in. `service`: its number in the domain; of instances, the instance's. */
void domain_link_open(struct domain *domain, size_t service, struct domain_link *link);
/* Everything that was read from it has been decided. `by_service`: it has ended the connection, not
   we. Harmless for a link that is not open. */
void domain_link_close(struct domain_link *link, bool by_service);

/* Where a write belongs that comes now. */
enum domain_write {
    DOMAIN_WRITE_IN_CALL, /* into the unit of *ret_call */
    DOMAIN_WRITE_BESIDE,  /* no call is open: a background task's, a plain write */
    DOMAIN_WRITE_REFUSED, /* of a handler that has outlived its call, or of none: see *ret_reason */
};

struct domain_write_call {
    struct unit_session_key key; /* of its unit */
    struct domain_slot *slot;    /* of documents: for domain_write_done() */
    uint64_t observed;           /* its number for observe_write(), or 0 */
};

/*
 * Decides, and counts. `service`: whose connection it comes by, as domain_link_open() had it.
 * `trace`: what the write carries, or NULL. `of_documents`: it is no creation
 * or dropping of collections and indexes. `retry`: its driver may send it again, and the server or
 * its call's unit knows it then: it goes the way that it went the first time, and is refused if
 * that was into another call; else NULL. *ret_reason is a literal fit for the client. In an
 * observe-only domain always BESIDE, with ret_call->observed set if it can be told to which call
 * the write belongs.
 */
enum domain_write domain_write_decide(struct domain *domain, size_t service,
                                      const struct trace_id *trace, bool of_documents,
                                      const struct domain_retry *retry,
                                      struct domain_write_call *ret_call, const char **ret_reason);

/*
 * Whether a call is open to which a read belongs that comes now, of this trace or none; *ret_key:
 * of its unit. Counts nothing.
 */
bool domain_find_call(struct domain *domain, size_t service, const struct trace_id *trace,
                      struct unit_session_key *ret_key);

/*
 * The same for a read where the units of calls are serializable: true, it is part of the call that
 * is open. False: of none.
 */
bool domain_read_decide(struct domain *domain, size_t service, const struct trace_id *trace,
                        struct domain_write_call *ret_call);

/*
 * A write of documents, or a read, that was decided to be in a call has been answered, or will not
 * be carried out. Its call does not end before.
 */
void domain_write_done(struct domain_slot *slot);

/*
 * For writes that say themselves to which unit they belong (a driver's transaction, a name in their
 * comment): whether the domain is fenced against them, too. Counts a refusal.
 */
bool domain_refuses(struct domain *domain, size_t service, const struct trace_id *trace,
                    const char **ret_reason);

/* ---- figures */

struct domain_figures {
    const char *name;
    size_t open;        /* calls */
    size_t fenced;      /* slots; an exclusive domain after a start counts as one */
    bool closed;        /* fenced as a whole: no call can begin at all */
    size_t waiting;     /* in the queue */
    size_t instances;   /* that it has */
    size_t unreached;   /* of them, that could not be connected to a moment ago */
    uint64_t committed; /* calls, since the start */
    uint64_t rolled_back;
    uint64_t conflicts;
    uint64_t queued;        /* had to wait */
    uint64_t queue_refused; /* 503 at its end */
    uint64_t writes_in_calls;
    uint64_t writes_beside;  /* plain: no call was open */
    uint64_t writes_refused; /* of handlers that have outlived their call, or untraced */
};

void domain_figures_get(struct domain *domain, struct domain_figures *ret_figures);

#endif

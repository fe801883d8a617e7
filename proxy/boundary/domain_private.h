#ifndef HOLDFAST_BOUNDARY_DOMAIN_PRIVATE_H
#define HOLDFAST_BOUNDARY_DOMAIN_PRIVATE_H

/*
 * What a domain is made of. For domain*.c only; everything here is with the domain's mutex held.
 */

#include <pthread.h>

#include <uthash.h>

#include "boundary/call_private.h"
#include "boundary/catch_up.h"
#include "boundary/domain_retries.h"

struct domain_handler {
    struct domain_slot *slot;
    size_t service;
    bool lost;
    bool quiet_only;         /* its service's connections tell nothing of it */
    uint64_t links_from;     /* connections opened up to this moment were there when it began */
    uint64_t closed_ms;      /* when its service closed one of those; 0: none */
    uint64_t links_until;    /* lost: connections opened up to this moment may be its own */
    uint64_t quiet_until_ms; /* lost: moved on by each write that is refused */
    struct domain_handler *next;
};

struct call_list {
    struct call *first;
    struct call *last;
};

struct domain_slot {
    struct domain *domain;
    struct trace_id trace;
    struct call *open;
    bool closing;       /* the open call's unit is about to end */
    size_t writes;      /* of the open call, that have not been answered yet */
    struct call *ready; /* the open call, if it waits for them, or for the next tick */
    bool ready_at_tick;
    struct domain_handler *handlers;
    struct call_list waiting;
    struct call_list reads;
    /* of an instance */
    size_t instance;
    size_t others; /* requests that are no calls */
    uint64_t used; /* the higher, the later it was picked */
    uint64_t failed_until_ms;
    uint64_t calls;
    struct catch_up_rounds *rounds;
    /* figures of an instance */
    uint64_t writes_in_calls;
    uint64_t writes_out;
    UT_hash_handle hh;
};

struct domain {
    struct domain_options options;
    char *name;
    pthread_mutex_t mutex;
    uint64_t fenced_until_ms; /* after a start; 0: it is over */
    bool draining;
    bool held;
    struct domain_slot exclusive;
    struct domain_slot *traces;    /* uthash head */
    struct domain_slot *instances; /* as many as options.instance_count; NULL: it has none */
    uint64_t instances_used;
    struct catch_up_rounds *rounds;
    struct domain_link *links;
    uint64_t links_opened;
    struct domain_retries retries;
    struct call *observed; /* observe only: calls that are open */
    size_t waiting_count;
    struct domain_figures figures; /* the counters of it */
};

/* ---- domain_slots.c */

bool domain_is_trace(const struct domain *domain);
/* Of a command by a connection of this service or instance, with this trace, NULL: with none. NULL:
   nothing is or waits there, or only a trace could tell. */
struct domain_slot *slot_find(struct domain *domain, size_t service, const struct trace_id *trace);
bool slot_is_free(const struct domain_slot *slot);
/* It is: the call's unit is made, and the slot is its own. */
enum call_admission slot_admit(struct domain_slot *slot, struct call *call);
void slot_leave_queue(struct call *call);
/* Something about the slot has ended: who waits goes on, as far as that goes. It may be gone. */
void slot_advance(struct domain_slot *slot);
/* Takes the call out of its queue and tells it. */
void slot_stop_waiting(struct call *call, enum call_admission admission);
/* Off its slot, and onto another. */
void slot_take_handler(struct domain_handler *handler);
void slot_give_handler(struct domain_slot *slot, struct domain_handler *handler);
void slot_free_handlers(struct domain_slot *slot);
/* Frees the handler; slot_advance() is the caller's. */
void slot_remove_handler(struct domain_handler *handler);
/* What domain_call_close() waits for may be there. */
void slot_wake_ready(struct domain_slot *slot);
/* `visit` may free the slot that it is given. */
void slots_visit(struct domain *domain, void (*visit)(struct domain_slot *slot, uint64_t now_ms),
                 uint64_t now_ms);

/* ---- domain_instances.c */

/* False: out of memory. Those of a domain without any are none. */
bool domain_instances_make(struct domain *domain);
void domain_instances_free(struct domain *domain);
/* A free one for the call. NULL: none is. */
struct domain_slot *domain_instance_pick(struct domain *domain, const struct call *call);
/* Who waits for one goes on, as far as that goes. */
void domain_instances_advance(struct domain *domain);
/* Those that could not be connected to a moment ago. */
size_t domain_instances_unreached(const struct domain *domain);
/* domain_instance_enter(), with the mutex held. */
size_t domain_instance_enter_observed(struct domain *domain, size_t preferred);

/* ---- domain_links.c */

/* Lost handlers that are known by now to have ended leave the slot, which may be gone then. */
void slot_settle_lost(struct domain_slot *slot, uint64_t now_ms);

#endif

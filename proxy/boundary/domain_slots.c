/*
 * Slots of a domain: which call is open, who waits for it, what follows when it ends. The states
 * are drawn in domain.h, the invariants stand in domain.c.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "boundary/domain_private.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

/* ------------------------------------------------------------------ slots */

bool domain_is_trace(const struct domain *domain)
{
    return domain->options.correlation == DOMAIN_TRACE;
}

struct domain_slot *slot_find(struct domain *domain, size_t service, const struct trace_id *trace)
{
    struct domain_slot *slot = NULL;
    if (domain->instances != NULL) {
        return &domain->instances[service];
    }
    if (!domain_is_trace(domain)) {
        return &domain->exclusive;
    }
    if (trace != NULL) {
        HASH_FIND(hh, domain->traces, trace->bytes, sizeof trace->bytes, slot);
    }
    return slot;
}

/* NULL: out of memory. */
static struct domain_slot *slot_get(struct domain *domain, const struct call *call)
{
    const struct trace_id *trace = &call->trace;
    struct domain_slot *slot = slot_find(domain, call->service, trace);
    if (slot == NULL && (slot = calloc(1, sizeof *slot)) != NULL) {
        slot->domain = domain;
        slot->trace = *trace;
        HASH_ADD(hh, domain->traces, trace.bytes, sizeof slot->trace.bytes, slot);
    }
    return slot;
}

static void list_add(struct call_list *list, struct call *call)
{
    call->next = NULL;
    call->previous = list->last;
    *(call->previous == NULL ? &list->first : &call->previous->next) = call;
    list->last = call;
}

static void list_remove(struct call_list *list, struct call *call)
{
    *(call->previous == NULL ? &list->first : &call->previous->next) = call->next;
    *(call->next == NULL ? &list->last : &call->next->previous) = call->previous;
    call->next = call->previous = NULL;
}

static struct call_list *list_of(struct call *call)
{
    return call->is_read ? &call->slot->reads : &call->slot->waiting;
}

void slot_leave_queue(struct call *call)
{
    struct domain *domain = call->slot->domain;
    list_remove(list_of(call), call);
    domain->waiting_count--;
    call->waiting = false;
    call->slot = NULL;
}

void slot_stop_waiting(struct call *call, enum call_admission admission)
{
    slot_leave_queue(call);
    call_tell_admitted(call, admission);
}

static bool add_handler(struct domain_slot *slot, struct call *call)
{
    struct domain_handler *handler = calloc(1, sizeof *handler);
    if (handler == NULL) {
        return false;
    }
    handler->service = call->service;
    handler->links_from = slot->domain->links_opened;
    slot_give_handler(slot, handler);
    call->handler = handler;
    return true;
}

void slot_give_handler(struct domain_slot *slot, struct domain_handler *handler)
{
    handler->slot = slot;
    handler->next = slot->handlers;
    slot->handlers = handler;
}

void slot_take_handler(struct domain_handler *handler)
{
    struct domain_handler **at = &handler->slot->handlers;
    while (*at != handler) {
        at = &(*at)->next;
    }
    *at = handler->next;
}

void slot_remove_handler(struct domain_handler *handler)
{
    slot_take_handler(handler);
    free(handler);
}

void slot_free_handlers(struct domain_slot *slot)
{
    while (slot->handlers != NULL) {
        slot_remove_handler(slot->handlers);
    }
}

enum call_admission slot_admit(struct domain_slot *slot, struct call *call)
{
    if (slot->domain->instances != NULL) {
        call->service = slot->instance;
    }
    if (!add_handler(slot, call)) {
        return CALL_LIMIT;
    }
    if (!call_open_unit(call)) {
        slot_remove_handler(call->handler);
        call->handler = NULL;
        return CALL_LIMIT;
    }
    slot->open = call;
    slot->closing = false;
    slot->ready = NULL;
    slot->calls++;
    call->slot = slot;
    return CALL_ADMITTED;
}

bool slot_is_free(const struct domain_slot *slot)
{
    return slot->open == NULL && slot->handlers == NULL && slot->domain->fenced_until_ms == 0 &&
           !slot->domain->held;
}

/* Something about the slot has ended: who waits goes on, as far as that goes. It may be gone. */
void slot_advance(struct domain_slot *slot)
{
    struct domain *domain = slot->domain;
    if (domain->instances != NULL) {
        domain_instances_advance(domain);
        return;
    }
    while (slot->open == NULL && slot->reads.first != NULL) {
        slot_stop_waiting(slot->reads.first, CALL_ADMITTED);
    }
    while (slot_is_free(slot) && slot->waiting.first != NULL) {
        struct call *call = slot->waiting.first;
        slot_leave_queue(call);
        call_tell_admitted(call, slot_admit(slot, call));
    }
    if (domain_is_trace(domain) && slot->open == NULL && slot->handlers == NULL &&
        slot->writes == 0 && slot->waiting.first == NULL && slot->reads.first == NULL) {
        HASH_DEL(domain->traces, slot);
        free(slot);
    }
}

void slots_visit(struct domain *domain, void (*visit)(struct domain_slot *slot, uint64_t now_ms),
                 uint64_t now_ms)
{
    struct domain_slot *slot;
    struct domain_slot *next;
    if (!domain_is_trace(domain)) {
        visit(&domain->exclusive, now_ms);
    }
    for (size_t i = 0; i < domain_instance_count(domain); i++) {
        visit(&domain->instances[i], now_ms);
    }
    HASH_ITER(hh, domain->traces, slot, next)
    {
        visit(slot, now_ms);
    }
}

/* ------------------------------------------------------------------ calls begin */

static enum call_admission wait_in(struct call_list *list, struct domain_slot *slot,
                                   struct call *call)
{
    struct domain *domain = slot->domain;
    if (domain->waiting_count >= domain->options.queue_max) {
        domain->figures.queue_refused++;
        return CALL_QUEUE_FULL;
    }
    call->slot = slot;
    call->wait_until_ms = clock_monotonic_ms() + domain->options.queue_wait_ms;
    call->waiting = true;
    domain->waiting_count++;
    domain->figures.queued++;
    list_add(list, call);
    return CALL_WAITING;
}

/* Observe only: nothing waits, nothing is refused. */
static enum call_admission begin_observed(struct domain *domain, struct call *call)
{
    if (domain->instances != NULL) {
        call->service = domain_instance_enter_observed(domain, call->service);
    }
    if (call->inside && domain->observed != NULL) {
        call->joined = true;
        return CALL_ADMITTED;
    }
    call_begin_observing(call);
    call->previous = NULL;
    call->next = domain->observed;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    domain->observed = call;
    return CALL_ADMITTED;
}

/* By the inside listener: into the call that is open, never into a queue behind its own parent. */
static enum call_admission join(struct domain_slot *slot, struct call *call)
{
    if (slot->closing) {
        return CALL_LATE;
    }
    if (!add_handler(slot, call)) {
        return CALL_LIMIT;
    }
    call->joined = true;
    call->slot = slot;
    return CALL_ADMITTED;
}

/* Nothing of it comes by an inside listener: whose call that would belong to, nobody could tell. */
static enum call_admission begin_on_instance(struct domain *domain, struct call *call)
{
    struct domain_slot *slot = NULL;
    if (domain->draining) {
        return CALL_DRAINING;
    }
    if (domain->exclusive.waiting.first == NULL) {
        slot = domain_instance_pick(domain, call);
    }
    return slot != NULL ? slot_admit(slot, call)
                        : wait_in(&domain->exclusive.waiting, &domain->exclusive, call);
}

static enum call_admission begin(struct domain *domain, struct call *call)
{
    if (domain->options.observe_only) {
        return begin_observed(domain, call);
    }
    if (domain->instances != NULL) {
        return begin_on_instance(domain, call);
    }
    struct domain_slot *slot = slot_get(domain, call);
    if (slot == NULL) {
        return CALL_LIMIT;
    }
    enum call_admission admission;
    if (call->inside && slot->open != NULL) {
        admission = join(slot, call);
    } else if (call->inside && slot->handlers != NULL) {
        admission = CALL_LATE;
    } else if (domain->draining) {
        admission = CALL_DRAINING;
    } else if (slot_is_free(slot) && slot->waiting.first == NULL) {
        admission = slot_admit(slot, call);
    } else {
        admission = wait_in(&slot->waiting, slot, call);
    }
    if (admission != CALL_ADMITTED && admission != CALL_WAITING) {
        slot_advance(slot); /* a slot that was made for it */
    }
    return admission;
}

enum call_admission domain_call_begin(struct call *call)
{
    struct domain *domain = call->domain;
    pthread_mutex_lock(&domain->mutex);
    enum call_admission admission = begin(domain, call);
    pthread_mutex_unlock(&domain->mutex);
    return admission;
}

enum call_admission domain_read_begin(struct call *call)
{
    struct domain *domain = call->domain;
    enum call_admission admission = CALL_ADMITTED;
    pthread_mutex_lock(&domain->mutex);
    if (!domain_is_trace(domain) && domain->exclusive.open != NULL) {
        admission = wait_in(&domain->exclusive.reads, &domain->exclusive, call);
    }
    pthread_mutex_unlock(&domain->mutex);
    return admission;
}

bool domain_call_cancel(struct call *call)
{
    struct domain *domain = call->domain;
    pthread_mutex_lock(&domain->mutex);
    bool waiting = call->waiting;
    if (waiting) {
        struct domain_slot *slot = call->slot;
        list_remove(list_of(call), call);
        domain->waiting_count--;
        call->waiting = false;
        call->slot = NULL;
        slot_advance(slot);
    }
    pthread_mutex_unlock(&domain->mutex);
    return waiting;
}

/* ------------------------------------------------------------------ calls end */

void domain_call_closing(struct call *call)
{
    pthread_mutex_lock(&call->domain->mutex);
    if (call->slot != NULL) {
        call->slot->closing = true;
    }
    pthread_mutex_unlock(&call->domain->mutex);
}

void slot_wake_ready(struct domain_slot *slot)
{
    if (slot->ready != NULL) {
        struct call *call = slot->ready;
        slot->ready = NULL;
        call_tell_ready(call);
    }
}

bool domain_call_close(struct call *call, bool behind, bool late)
{
    struct domain *domain = call->domain;
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = call->slot;
    bool closes = late || (!behind && slot->writes == 0);
    if (closes) {
        slot->closing = true;
    } else {
        slot->ready = call;
        slot->ready_at_tick = slot->writes == 0;
    }
    pthread_mutex_unlock(&domain->mutex);
    return closes;
}

void domain_write_done(struct domain_slot *slot)
{
    struct domain *domain = slot->domain;
    pthread_mutex_lock(&domain->mutex);
    assert(slot->writes > 0);
    if (--slot->writes == 0) {
        slot_wake_ready(slot);
        slot_advance(slot);
    }
    pthread_mutex_unlock(&domain->mutex);
}

static void count_end(struct domain_figures *figures, enum call_end end)
{
    switch (end) {
    case CALL_COMMITTED:
        figures->committed++;
        break;
    case CALL_ROLLED_BACK:
        figures->rolled_back++;
        break;
    case CALL_CONFLICT:
        figures->conflicts++;
        break;
    }
}

void domain_call_ended(struct call *call)
{
    struct domain *domain = call->domain;
    pthread_mutex_lock(&domain->mutex);
    if (domain->options.observe_only) {
        *(call->previous == NULL ? &domain->observed : &call->previous->next) = call->next;
        if (call->next != NULL) {
            call->next->previous = call->previous;
        }
        if (domain->instances != NULL) {
            domain->instances[call->service].others--;
        }
    } else {
        struct domain_slot *slot = call->slot;
        assert(slot->open == call);
        slot->open = NULL;
        count_end(&domain->figures, call->end);
        if (slot->handlers != NULL) {
            LOG(LOG_INFO, "http", "Domain fenced: a handler may have outlived its call",
                LOG_TEXT("domain", domain->name), LOG_TEXT("method", call->method),
                LOG_TEXT("service", call->service_name), LOG_NUMBER("unit", call->unit),
                LOG_HEX("trace", call->trace.bytes, TRACE_ID_BYTES));
        }
        slot_advance(slot);
    }
    pthread_mutex_unlock(&domain->mutex);
}

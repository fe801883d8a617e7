/*
 * Which API call is open in a domain, who waits for it, and to which call a write belongs; the
 * states of a slot are drawn in domain.h.
 *
 * Invariants, with the mutex held:
 *   - `open` of a slot is the call whose unit is open or about to end; at most one
 *   - a handler is on its slot's list from the call's admission until it is known to have ended
 *   - a call begins only in a slot without an open call and without handlers, and while the domain
 *     is not fenced; who is in a queue begins before who comes
 *   - an exclusive domain has its one slot for life; a slot of a trace lives while it holds
 *     anything
 *
 * So a write that is decided to be in a call has been sent after that call began: no handler of an
 * earlier one was alive when it began.
 */
#include "boundary/domain.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "boundary/call_private.h"
#include "boundary/catch_up.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

/* The connections of a process that is killed end together, in any order. */
#define CLOSED_TOGETHER_MS 1000u

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
    UT_hash_handle hh;
};

struct domain {
    struct domain_options options;
    char *name;
    pthread_mutex_t mutex;
    uint64_t fenced_until_ms; /* after a start; 0: it is over */
    bool draining;
    struct domain_slot exclusive;
    struct domain_slot *traces; /* uthash head */
    struct catch_up_rounds *rounds;
    struct domain_link *links;
    uint64_t links_opened;
    struct call *observed; /* observe only: calls that are open */
    size_t waiting_count;
    struct domain_figures figures; /* the counters of it */
};

/* ------------------------------------------------------------------ making */

struct domain *domain_new(const struct domain_options *options)
{
    struct domain *domain = calloc(1, sizeof *domain);
    if (domain == NULL || (domain->name = strdup(options->name)) == NULL ||
        (domain->rounds = catch_up_rounds_new(domain)) == NULL) {
        if (domain != NULL) {
            free(domain->name);
        }
        free(domain);
        return NULL;
    }
    domain->options = *options;
    domain->options.name = domain->name;
    domain->exclusive.domain = domain;
    if (options->fenced_at_start && !options->observe_only) {
        domain->fenced_until_ms = clock_monotonic_ms() + options->quiet_ms;
    }
    (void)pthread_mutex_init(&domain->mutex, NULL);
    return domain;
}

static void free_handlers(struct domain_slot *slot)
{
    while (slot->handlers != NULL) {
        struct domain_handler *next = slot->handlers->next;
        free(slot->handlers);
        slot->handlers = next;
    }
}

struct domain *domain_free(struct domain *domain)
{
    if (domain == NULL) {
        return NULL;
    }
    struct domain_slot *slot;
    struct domain_slot *next;
    HASH_ITER(hh, domain->traces, slot, next)
    {
        HASH_DEL(domain->traces, slot);
        free_handlers(slot);
        free(slot);
    }
    free_handlers(&domain->exclusive);
    catch_up_rounds_free(domain->rounds);
    (void)pthread_mutex_destroy(&domain->mutex);
    free(domain->name);
    free(domain);
    return NULL;
}

const char *domain_name(const struct domain *domain)
{
    return domain->name;
}

void domain_engine(const struct domain *domain, struct engine **ret_engine,
                   struct observe **ret_observe)
{
    *ret_engine = domain->options.engine;
    *ret_observe = domain->options.observe;
}

bool domain_is_observe_only(const struct domain *domain)
{
    return domain->options.observe_only;
}

void domain_set_waits(struct domain *domain, uint64_t queue_wait_ms, size_t queue_max,
                      uint64_t quiet_ms)
{
    pthread_mutex_lock(&domain->mutex);
    domain->options.queue_wait_ms = queue_wait_ms;
    domain->options.queue_max = queue_max;
    domain->options.quiet_ms = quiet_ms;
    pthread_mutex_unlock(&domain->mutex);
}

/* ------------------------------------------------------------------ slots */

static bool is_trace(const struct domain *domain)
{
    return domain->options.correlation == DOMAIN_TRACE;
}

static struct domain_slot *slot_find(struct domain *domain, const struct trace_id *trace)
{
    struct domain_slot *slot = NULL;
    if (!is_trace(domain)) {
        return &domain->exclusive;
    }
    HASH_FIND(hh, domain->traces, trace->bytes, sizeof trace->bytes, slot);
    return slot;
}

/* NULL: out of memory. */
static struct domain_slot *slot_get(struct domain *domain, const struct trace_id *trace)
{
    struct domain_slot *slot = slot_find(domain, trace);
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

static void stop_waiting(struct call *call, enum call_admission admission)
{
    struct domain *domain = call->slot->domain;
    list_remove(list_of(call), call);
    domain->waiting_count--;
    call->waiting = false;
    if (admission != CALL_ADMITTED) {
        call->slot = NULL;
    }
    call_tell_admitted(call, admission);
}

static bool add_handler(struct domain_slot *slot, struct call *call)
{
    struct domain_handler *handler = calloc(1, sizeof *handler);
    if (handler == NULL) {
        return false;
    }
    handler->slot = slot;
    handler->service = call->service;
    handler->links_from = slot->domain->links_opened;
    handler->next = slot->handlers;
    slot->handlers = handler;
    call->handler = handler;
    return true;
}

static void remove_handler(struct domain_handler *handler)
{
    struct domain_handler **at = &handler->slot->handlers;
    while (*at != handler) {
        at = &(*at)->next;
    }
    *at = handler->next;
    free(handler);
}

/* The slot is free: the call's unit is made, and the slot is its own. */
static enum call_admission admit(struct domain_slot *slot, struct call *call)
{
    if (!add_handler(slot, call)) {
        return CALL_LIMIT;
    }
    if (!call_open_unit(call)) {
        remove_handler(call->handler);
        call->handler = NULL;
        return CALL_LIMIT;
    }
    slot->open = call;
    slot->closing = false;
    slot->ready = NULL;
    call->slot = slot;
    return CALL_ADMITTED;
}

static bool is_free(const struct domain_slot *slot)
{
    return slot->open == NULL && slot->handlers == NULL && slot->domain->fenced_until_ms == 0;
}

/* Something about the slot has ended: who waits goes on, as far as that goes. It may be gone. */
static void slot_advance(struct domain_slot *slot)
{
    struct domain *domain = slot->domain;
    while (slot->open == NULL && slot->reads.first != NULL) {
        stop_waiting(slot->reads.first, CALL_ADMITTED);
    }
    while (is_free(slot) && slot->waiting.first != NULL) {
        struct call *call = slot->waiting.first;
        stop_waiting(call, admit(slot, call));
    }
    if (is_trace(domain) && slot->open == NULL && slot->handlers == NULL && slot->writes == 0 &&
        slot->waiting.first == NULL && slot->reads.first == NULL) {
        HASH_DEL(domain->traces, slot);
        free(slot);
    }
}

static void for_each_slot(struct domain *domain,
                          void (*visit)(struct domain_slot *slot, uint64_t now_ms), uint64_t now_ms)
{
    struct domain_slot *slot;
    struct domain_slot *next;
    if (!is_trace(domain)) {
        visit(&domain->exclusive, now_ms);
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

static enum call_admission begin(struct domain *domain, struct call *call)
{
    if (domain->options.observe_only) {
        return begin_observed(domain, call);
    }
    struct domain_slot *slot = slot_get(domain, &call->trace);
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
    } else if (is_free(slot) && slot->waiting.first == NULL) {
        admission = admit(slot, call);
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
    if (!is_trace(domain) && domain->exclusive.open != NULL) {
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

static void wake_ready(struct domain_slot *slot)
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
        wake_ready(slot);
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
    } else {
        struct domain_slot *slot = call->slot;
        assert(slot->open == call);
        slot->open = NULL;
        count_end(&domain->figures, call->end);
        if (slot->handlers != NULL) {
            LOG(LOG_INFO, "http", "Domain fenced: a handler may have outlived its call",
                LOG_TEXT("domain", domain->name), LOG_TEXT("method", call->method),
                LOG_TEXT("service", call->service_name), LOG_NUMBER("unit", call->unit));
        }
        slot_advance(slot);
    }
    pthread_mutex_unlock(&domain->mutex);
}

/* ------------------------------------------------------------------ handlers and links */

/* Whether its service has one open of the first `until` connections. */
static bool has_links(const struct domain *domain, const struct domain_handler *handler,
                      uint64_t until)
{
    for (const struct domain_link *link = domain->links; link != NULL; link = link->next) {
        if (link->service == handler->service && link->opened <= until) {
            return true;
        }
    }
    return false;
}

/* Lost handlers that are known by now to have ended. */
static void settle_lost(struct domain_slot *slot, uint64_t now_ms)
{
    struct domain_handler **at = &slot->handlers;
    bool some = false;
    while (*at != NULL) {
        struct domain_handler *handler = *at;
        bool dead = !handler->quiet_only && !has_links(slot->domain, handler, handler->links_until);
        if (handler->lost && (now_ms >= handler->quiet_until_ms || dead)) {
            *at = handler->next;
            free(handler);
            some = true;
        } else {
            at = &handler->next;
        }
    }
    if (some) {
        slot_advance(slot);
    }
}

void domain_handler_answered(struct domain *domain, struct domain_handler *handler)
{
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = handler->slot;
    remove_handler(handler);
    slot_advance(slot);
    pthread_mutex_unlock(&domain->mutex);
}

void domain_handler_lost(struct call *call)
{
    struct domain *domain = call->domain;
    struct domain_handler *handler = call->handler;
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = handler->slot;
    uint64_t now_ms = clock_monotonic_ms();
    bool had_links = has_links(domain, handler, handler->links_from) ||
                     (handler->closed_ms != 0 && now_ms - handler->closed_ms <= CLOSED_TOGETHER_MS);
    call->handler = NULL;
    handler->lost = true;
    handler->links_until = domain->links_opened;
    handler->quiet_until_ms = now_ms + domain->options.quiet_ms;
    handler->quiet_only = handler->quiet_only || !had_links;
    if (slot->open == call) {
        /* Before its rollback begins: what it has sent and we have not read yet is refused. */
        slot->closing = true;
    }
    settle_lost(slot, now_ms);
    pthread_mutex_unlock(&domain->mutex);
}

void domain_link_open(struct domain *domain, size_t service, struct domain_link *link)
{
    pthread_mutex_lock(&domain->mutex);
    link->domain = domain;
    link->service = service;
    link->opened = ++domain->links_opened;
    link->previous = NULL;
    link->next = domain->links;
    if (link->next != NULL) {
        link->next->previous = link;
    }
    domain->links = link;
    pthread_mutex_unlock(&domain->mutex);
}

/* A connection is closed: what that tells of the handlers of its service. */
static void note_closed(struct domain_slot *slot, const struct domain_link *link, bool by_service,
                        uint64_t now_ms)
{
    for (struct domain_handler *at = slot->handlers; at != NULL; at = at->next) {
        if (at->service != link->service) {
            continue;
        }
        at->quiet_only = at->quiet_only || !by_service;
        if (link->opened <= at->links_from) {
            at->closed_ms = now_ms;
        }
    }
}

void domain_link_close(struct domain_link *link, bool by_service)
{
    struct domain *domain = link->domain;
    if (domain == NULL) {
        return;
    }
    pthread_mutex_lock(&domain->mutex);
    *(link->previous == NULL ? &domain->links : &link->previous->next) = link->next;
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    link->domain = NULL;
    uint64_t now_ms = clock_monotonic_ms();
    note_closed(&domain->exclusive, link, by_service, now_ms);
    for (struct domain_slot *at = domain->traces; at != NULL; at = at->hh.next) {
        note_closed(at, link, by_service, now_ms);
    }
    for_each_slot(domain, settle_lost, now_ms);
    pthread_mutex_unlock(&domain->mutex);
}

struct catch_up_rounds *domain_rounds(struct domain *domain)
{
    return domain->rounds;
}

size_t domain_link_workers(struct domain *domain, struct worker **workers, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&domain->mutex);
    for (const struct domain_link *link = domain->links; link != NULL; link = link->next) {
        size_t at = 0;
        while (at < count && workers[at] != link->worker) {
            at++;
        }
        if (at == count && count < max) {
            workers[count++] = link->worker;
        }
    }
    pthread_mutex_unlock(&domain->mutex);
    return count;
}

size_t domain_links_of(struct domain *domain, const struct worker *worker, uint64_t *before,
                       struct domain_link **links, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&domain->mutex);
    /* The youngest comes first. */
    for (struct domain_link *link = domain->links; link != NULL && count < max; link = link->next) {
        if (link->worker == worker && link->opened < *before) {
            links[count++] = link;
            *before = link->opened;
        }
    }
    pthread_mutex_unlock(&domain->mutex);
    return count;
}

/* ------------------------------------------------------------------ writes */

static enum domain_write refuse(struct domain *domain, struct domain_slot *slot, const char *why,
                                const char **ret_reason)
{
    uint64_t until_ms = clock_monotonic_ms() + domain->options.quiet_ms;
    domain->figures.writes_refused++;
    if (domain->fenced_until_ms != 0) {
        domain->fenced_until_ms = until_ms;
    }
    for (struct domain_handler *at = slot == NULL ? NULL : slot->handlers; at != NULL;
         at = at->next) {
        at->quiet_until_ms = until_ms;
    }
    *ret_reason = why;
    return DOMAIN_WRITE_REFUSED;
}

static const char started_reason[] =
    "the proxy was started a moment ago: a call that was open before it has been rolled back, and "
    "writes are refused until its handler is silent";
static const char ended_reason[] =
    "the API call that this write belongs to has ended: it is not carried out";

static enum domain_write decide(struct domain *domain, const struct trace_id *trace,
                                bool of_documents, struct domain_write_call *ret_call,
                                const char **ret_reason)
{
    static const struct trace_id none;
    if (domain->fenced_until_ms != 0) {
        return refuse(domain, NULL, started_reason, ret_reason);
    }
    if (is_trace(domain) && trace == NULL) {
        return refuse(domain, NULL,
                      "the write carries no traceparent in its comment: it cannot be told to which "
                      "API call it belongs",
                      ret_reason);
    }
    struct domain_slot *slot = slot_find(domain, trace == NULL ? &none : trace);
    if (slot != NULL && slot->open != NULL && !slot->closing) {
        domain->figures.writes_in_calls++;
        *ret_call = (struct domain_write_call){
            .key = slot->open->key,
            .slot = of_documents ? slot : NULL,
            .observed = slot->open->observed,
        };
        slot->writes += of_documents;
        return DOMAIN_WRITE_IN_CALL;
    }
    if (slot == NULL || slot->handlers != NULL || is_trace(domain)) {
        return refuse(domain, slot, ended_reason, ret_reason);
    }
    if (domain->options.refuse_beside && of_documents) {
        return refuse(domain, slot,
                      "no API call is open to which this write could belong "
                      "(http.backgroundWrites: refuse)",
                      ret_reason);
    }
    domain->figures.writes_beside++;
    return DOMAIN_WRITE_BESIDE;
}

/* Observe only: of several calls at a time only a trace can tell. */
static uint64_t observed_call(const struct domain *domain, const struct trace_id *trace)
{
    const struct call *found = NULL;
    for (const struct call *at = domain->observed; at != NULL; at = at->next) {
        if (trace != NULL && memcmp(&at->trace, trace, sizeof *trace) == 0) {
            return at->observed;
        }
        if (found != NULL && trace == NULL) {
            return 0;
        }
        found = at;
    }
    return trace == NULL && found != NULL ? found->observed : 0;
}

enum domain_write domain_write_decide(struct domain *domain, const struct trace_id *trace,
                                      bool of_documents, struct domain_write_call *ret_call,
                                      const char **ret_reason)
{
    enum domain_write result = DOMAIN_WRITE_BESIDE;
    pthread_mutex_lock(&domain->mutex);
    *ret_call = (struct domain_write_call){0};
    if (domain->options.observe_only) {
        ret_call->observed = observed_call(domain, trace);
    } else {
        result = decide(domain, trace, of_documents, ret_call, ret_reason);
    }
    pthread_mutex_unlock(&domain->mutex);
    return result;
}

bool domain_refuses(struct domain *domain, const struct trace_id *trace, const char **ret_reason)
{
    bool refused = false;
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *slot = is_trace(domain) && trace == NULL ? NULL : slot_find(domain, trace);
    bool over = slot != NULL && slot->handlers != NULL && (slot->open == NULL || slot->closing);
    if (domain->fenced_until_ms != 0 || over) {
        (void)refuse(domain, slot, over ? ended_reason : started_reason, ret_reason);
        refused = true;
    }
    pthread_mutex_unlock(&domain->mutex);
    return refused;
}

/* ------------------------------------------------------------------ housekeeping */

static void end_waits(struct call_list *list, uint64_t now_ms, enum call_admission admission)
{
    struct call *call = list->first;
    while (call != NULL) {
        struct call *next = call->next;
        if (admission == CALL_DRAINING || now_ms >= call->wait_until_ms) {
            call->slot->domain->figures.queue_refused++;
            stop_waiting(call, admission);
        }
        call = next;
    }
}

static void tick_slot(struct domain_slot *slot, uint64_t now_ms)
{
    if (slot->ready_at_tick) {
        slot->ready_at_tick = false;
        wake_ready(slot);
    }
    /* The last of these may free it. */
    end_waits(&slot->waiting, now_ms, CALL_QUEUE_TIMEOUT);
    end_waits(&slot->reads, now_ms, CALL_QUEUE_TIMEOUT);
    for (struct domain_handler *at = slot->handlers; at != NULL; at = at->next) {
        if (at->lost) {
            settle_lost(slot, now_ms);
            return;
        }
    }
    slot_advance(slot);
}

void domain_tick(struct domain *domain, uint64_t now_ms)
{
    pthread_mutex_lock(&domain->mutex);
    if (domain->fenced_until_ms != 0 && now_ms >= domain->fenced_until_ms) {
        domain->fenced_until_ms = 0;
        LOG(LOG_INFO, "http", "Domain open", LOG_TEXT("domain", domain->name));
    }
    for_each_slot(domain, tick_slot, now_ms);
    pthread_mutex_unlock(&domain->mutex);
}

static void drain_slot(struct domain_slot *slot, uint64_t now_ms)
{
    end_waits(&slot->waiting, now_ms, CALL_DRAINING);
    end_waits(&slot->reads, now_ms, CALL_DRAINING);
    slot_advance(slot);
}

void domain_drain(struct domain *domain)
{
    pthread_mutex_lock(&domain->mutex);
    domain->draining = true;
    for_each_slot(domain, drain_slot, 0);
    pthread_mutex_unlock(&domain->mutex);
}

/* ------------------------------------------------------------------ figures */

static void count_slot(const struct domain_slot *slot, struct domain_figures *figures)
{
    figures->open += slot->open != NULL;
    figures->fenced += slot->open == NULL && slot->handlers != NULL;
}

void domain_figures_get(struct domain *domain, struct domain_figures *ret_figures)
{
    pthread_mutex_lock(&domain->mutex);
    *ret_figures = domain->figures;
    ret_figures->name = domain->name;
    ret_figures->waiting = domain->waiting_count;
    ret_figures->fenced = domain->fenced_until_ms != 0;
    count_slot(&domain->exclusive, ret_figures);
    for (const struct domain_slot *at = domain->traces; at != NULL; at = at->hh.next) {
        count_slot(at, ret_figures);
    }
    for (const struct call *at = domain->observed; at != NULL; at = at->next) {
        ret_figures->open++;
    }
    pthread_mutex_unlock(&domain->mutex);
}

size_t domain_calls(struct domain *domain)
{
    struct domain_figures figures;
    domain_figures_get(domain, &figures);
    return figures.open;
}

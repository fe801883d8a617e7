/*
 * The instances of a domain's one service: which of them gets a request, and what is known of each.
 *
 * A slot for each. A write belongs to the call that is open on the instance by whose mongo
 * connection it comes, whatever is open on others: so the proof is that of an exclusive domain,
 * for each instance by itself. Those that wait have one queue, that of `exclusive`, in which no
 * call is ever open.
 *
 * With the domain's mutex held, as domain_private.h says, but for what domain.h declares.
 */
#include <assert.h>
#include <stdlib.h>

#include "boundary/domain_private.h"
#include "holdfast/clock.h"

/* For so long after a connection that could not be made others are taken. */
#define FAILED_MS 1000u

bool domain_instances_make(struct domain *domain)
{
    size_t count = domain->options.instance_count;
    if (domain->options.correlation != DOMAIN_INSTANCES) {
        return true;
    }
    assert(count > 0);
    domain->instances = calloc(count, sizeof *domain->instances);
    for (size_t i = 0; domain->instances != NULL && i < count; i++) {
        struct domain_slot *slot = &domain->instances[i];
        slot->domain = domain;
        slot->instance = i;
        slot->rounds = catch_up_rounds_new(domain, i);
        if (slot->rounds == NULL) {
            domain_instances_free(domain);
        }
    }
    return domain->instances != NULL;
}

void domain_instances_free(struct domain *domain)
{
    for (size_t i = 0; domain->instances != NULL && i < domain->options.instance_count; i++) {
        slot_free_handlers(&domain->instances[i]);
        catch_up_rounds_free(domain->instances[i].rounds);
    }
    free(domain->instances);
    domain->instances = NULL;
}

size_t domain_instance_count(const struct domain *domain)
{
    return domain->instances == NULL ? 0 : domain->options.instance_count;
}

/* ------------------------------------------------------------------ which one */

static bool is_reached(const struct domain_slot *slot, uint64_t now_ms)
{
    return now_ms >= slot->failed_until_ms;
}

size_t domain_instances_unreached(const struct domain *domain)
{
    size_t count = 0;
    uint64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < domain_instance_count(domain); i++) {
        count += !is_reached(&domain->instances[i], now_ms);
    }
    return count;
}

/* A call counts as one request, and so does what is left of one. */
static size_t load_of(const struct domain_slot *slot)
{
    return slot->others + (slot->open != NULL || slot->handlers != NULL);
}

static bool is_better(const struct domain_slot *slot, const struct domain_slot *best,
                      size_t preferred)
{
    if (best == NULL || load_of(slot) != load_of(best)) {
        return best == NULL || load_of(slot) < load_of(best);
    }
    if (slot->instance == preferred || best->instance == preferred) {
        return slot->instance == preferred;
    }
    return slot->used < best->used;
}

static struct domain_slot *pick(struct domain *domain, size_t preferred, bool for_call,
                                bool only_reached)
{
    struct domain_slot *best = NULL;
    uint64_t now_ms = clock_monotonic_ms();
    /* If none can be reached, whoever is asked will tell. */
    only_reached =
        only_reached || domain_instances_unreached(domain) < domain->options.instance_count;
    for (size_t i = 0; i < domain->options.instance_count; i++) {
        struct domain_slot *slot = &domain->instances[i];
        if ((for_call && !slot_is_free(slot)) || (only_reached && !is_reached(slot, now_ms))) {
            continue;
        }
        if (is_better(slot, best, preferred)) {
            best = slot;
        }
    }
    if (best != NULL) {
        best->used = ++domain->instances_used;
    }
    return best;
}

struct domain_slot *domain_instance_pick(struct domain *domain, const struct call *call)
{
    return pick(domain, call->service, true, false);
}

void domain_instances_advance(struct domain *domain)
{
    struct call *call;
    struct domain_slot *slot;
    while ((call = domain->exclusive.waiting.first) != NULL &&
           (slot = domain_instance_pick(domain, call)) != NULL) {
        slot_leave_queue(call);
        call_tell_admitted(call, slot_admit(slot, call));
    }
}

size_t domain_instance_enter_observed(struct domain *domain, size_t preferred)
{
    struct domain_slot *slot = pick(domain, preferred, false, false);
    slot->others++;
    return slot->instance;
}

size_t domain_instance_enter(struct domain *domain, size_t preferred)
{
    pthread_mutex_lock(&domain->mutex);
    size_t instance = domain_instance_enter_observed(domain, preferred);
    pthread_mutex_unlock(&domain->mutex);
    return instance;
}

void domain_instance_leave(struct domain *domain, size_t instance)
{
    pthread_mutex_lock(&domain->mutex);
    assert(domain->instances[instance].others > 0);
    domain->instances[instance].others--;
    pthread_mutex_unlock(&domain->mutex);
}

void domain_instance_failed(struct domain *domain, size_t instance)
{
    pthread_mutex_lock(&domain->mutex);
    domain->instances[instance].failed_until_ms = clock_monotonic_ms() + FAILED_MS;
    pthread_mutex_unlock(&domain->mutex);
}

/* ------------------------------------------------------------------ moving */

static void move(struct call *call, struct domain_slot *from, struct domain_slot *to)
{
    struct domain_handler *handler = call->handler;
    slot_take_handler(handler);
    handler->service = to->instance;
    handler->quiet_only = false;
    handler->links_from = to->domain->links_opened;
    handler->closed_ms = 0;
    slot_give_handler(to, handler);
    from->open = NULL;
    to->open = call;
    to->closing = false;
    to->ready = NULL;
    to->calls++;
    call->slot = to;
    call->service = to->instance;
}

/* One that is looked on only has no slot: it is one of the instance's other requests. */
static struct domain_slot *move_observed(struct call *call)
{
    struct domain *domain = call->domain;
    struct domain_slot *from = &domain->instances[call->service];
    struct domain_slot *to = pick(domain, DOMAIN_NO_INSTANCE, false, true);
    if (to != NULL) {
        from->others--;
        to->others++;
        call->service = to->instance;
    }
    return to;
}

bool domain_call_move(struct call *call)
{
    struct domain *domain = call->domain;
    struct domain_slot *to = NULL;
    pthread_mutex_lock(&domain->mutex);
    struct domain_slot *from = call->slot;
    if (domain->options.observe_only) {
        to = move_observed(call);
        pthread_mutex_unlock(&domain->mutex);
        return to != NULL;
    }
    /* What a background task of the instance writes meanwhile is of the call, as ever. */
    if (from != NULL && from->open == call && call->handler != NULL && !from->closing &&
        from->writes == 0) {
        to = pick(domain, DOMAIN_NO_INSTANCE, true, true);
    }
    if (to != NULL) {
        move(call, from, to);
        slot_advance(from);
    }
    pthread_mutex_unlock(&domain->mutex);
    return to != NULL;
}

/* ------------------------------------------------------------------ who sees what */

/* Beside those of domains, which are addresses, and of names. */
#define INSTANCE_GROUP ((uint64_t)1 << 63)

uint64_t domain_call_group(const struct domain *domain, uint64_t unit)
{
    return domain->instances == NULL ? (uint64_t)(uintptr_t)domain : INSTANCE_GROUP | unit;
}

uint64_t domain_reader_group(struct domain *domain, size_t service)
{
    uint64_t group = 0;
    if (domain->instances == NULL) {
        return (uint64_t)(uintptr_t)domain; /* never 0, and nobody else's */
    }
    pthread_mutex_lock(&domain->mutex);
    const struct domain_slot *slot = &domain->instances[service];
    if (slot->open != NULL && !slot->closing) {
        group = INSTANCE_GROUP | slot->open->unit;
    }
    pthread_mutex_unlock(&domain->mutex);
    return group;
}

/* ------------------------------------------------------------------ figures */

void domain_instance_figures_get(struct domain *domain, size_t instance,
                                 struct domain_instance_figures *ret_figures)
{
    pthread_mutex_lock(&domain->mutex);
    const struct domain_slot *slot = &domain->instances[instance];
    *ret_figures = (struct domain_instance_figures){
        .open = slot->open != NULL,
        .fenced = domain->fenced_until_ms != 0 || (slot->open == NULL && slot->handlers != NULL),
        .reached = is_reached(slot, clock_monotonic_ms()),
        .others = slot->others,
        .calls = slot->calls,
        .writes = slot->writes_in_calls,
        .writes_out = slot->writes_out,
    };
    for (const struct domain_link *link = domain->links; link != NULL; link = link->next) {
        ret_figures->connections += link->service == instance;
    }
    pthread_mutex_unlock(&domain->mutex);
}

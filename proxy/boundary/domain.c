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
#include <stdlib.h>
#include <string.h>

#include "boundary/domain_private.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"

/* ------------------------------------------------------------------ making */

struct domain *domain_new(const struct domain_options *options)
{
    struct domain *domain = calloc(1, sizeof *domain);
    if (domain == NULL) {
        return NULL;
    }
    domain->options = *options;
    if ((domain->name = strdup(options->name)) == NULL ||
        (domain->rounds = catch_up_rounds_new(domain, DOMAIN_NO_INSTANCE)) == NULL ||
        !domain_instances_make(domain)) {
        catch_up_rounds_free(domain->rounds);
        free(domain->name);
        free(domain);
        return NULL;
    }
    domain->options.name = domain->name;
    domain->exclusive.domain = domain;
    if (options->fenced_at_start && !options->observe_only) {
        domain->fenced_until_ms = clock_monotonic_ms() + options->quiet_ms;
    }
    (void)pthread_mutex_init(&domain->mutex, NULL);
    return domain;
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
        slot_free_handlers(slot);
        free(slot);
    }
    slot_free_handlers(&domain->exclusive);
    domain_retries_free(&domain->retries);
    domain_instances_free(domain);
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

/* ------------------------------------------------------------------ housekeeping */

static void end_waits(struct call_list *list, uint64_t now_ms, enum call_admission admission)
{
    struct call *call = list->first;
    while (call != NULL) {
        struct call *next = call->next;
        if (admission == CALL_DRAINING || now_ms >= call->wait_until_ms) {
            call->slot->domain->figures.queue_refused++;
            slot_stop_waiting(call, admission);
        }
        call = next;
    }
}

static void tick_slot(struct domain_slot *slot, uint64_t now_ms)
{
    if (slot->ready_at_tick) {
        slot->ready_at_tick = false;
        slot_wake_ready(slot);
    }
    /* The last of these may free it. */
    end_waits(&slot->waiting, now_ms, CALL_QUEUE_TIMEOUT);
    end_waits(&slot->reads, now_ms, CALL_QUEUE_TIMEOUT);
    for (struct domain_handler *at = slot->handlers; at != NULL; at = at->next) {
        if (at->lost) {
            slot_settle_lost(slot, now_ms);
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
    slots_visit(domain, tick_slot, now_ms);
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
    slots_visit(domain, drain_slot, 0);
    pthread_mutex_unlock(&domain->mutex);
}

static void go_on(struct domain_slot *slot, uint64_t now_ms)
{
    (void)now_ms;
    slot_advance(slot);
}

void domain_hold(struct domain *domain, bool held)
{
    pthread_mutex_lock(&domain->mutex);
    domain->held = held;
    slots_visit(domain, go_on, 0);
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
    for (size_t i = 0; i < domain_instance_count(domain); i++) {
        count_slot(&domain->instances[i], ret_figures);
    }
    ret_figures->instances = domain_instance_count(domain);
    ret_figures->unreached = domain_instances_unreached(domain);
    ret_figures->closed =
        domain->fenced_until_ms != 0 ||
        ret_figures->fenced >= (domain->instances == NULL ? 1 : domain->options.instance_count);
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

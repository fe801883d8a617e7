/*
 * Handlers whose connection broke, and the mongo connections of their services, which tell when
 * they have ended.
 */
#include <stdlib.h>

#include "boundary/domain_private.h"
#include "holdfast/clock.h"

/* The connections of a process that is killed end together, in any order. */
#define CLOSED_TOGETHER_MS 1000u

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
void slot_settle_lost(struct domain_slot *slot, uint64_t now_ms)
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
    slot_remove_handler(handler);
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
    slot_settle_lost(slot, now_ms);
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
    for (size_t i = 0; i < domain_instance_count(domain); i++) {
        note_closed(&domain->instances[i], link, by_service, now_ms);
    }
    for (struct domain_slot *at = domain->traces; at != NULL; at = at->hh.next) {
        note_closed(at, link, by_service, now_ms);
    }
    slots_visit(domain, slot_settle_lost, now_ms);
    pthread_mutex_unlock(&domain->mutex);
}

struct catch_up_rounds *domain_rounds(struct domain *domain, size_t service)
{
    return domain->instances == NULL ? domain->rounds : domain->instances[service].rounds;
}

/* Of a round that looks at one instance only what is its. */
static bool is_of(const struct domain_link *link, size_t instance)
{
    return instance == DOMAIN_NO_INSTANCE || link->service == instance;
}

size_t domain_link_workers(struct domain *domain, size_t instance, struct worker **workers,
                           size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&domain->mutex);
    for (const struct domain_link *link = domain->links; link != NULL; link = link->next) {
        size_t at = 0;
        while (at < count && workers[at] != link->worker) {
            at++;
        }
        if (at == count && count < max && is_of(link, instance)) {
            workers[count++] = link->worker;
        }
    }
    pthread_mutex_unlock(&domain->mutex);
    return count;
}

size_t domain_links_of(struct domain *domain, size_t instance, const struct worker *worker,
                       uint64_t *before, struct domain_link **links, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&domain->mutex);
    /* The youngest comes first. */
    for (struct domain_link *link = domain->links; link != NULL && count < max; link = link->next) {
        if (link->worker == worker && link->opened < *before && is_of(link, instance)) {
            links[count++] = link;
            *before = link->opened;
        }
    }
    pthread_mutex_unlock(&domain->mutex);
    return count;
}

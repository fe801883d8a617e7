/*
 * Requests by their route (route_figures.h).
 *
 * Invariant: a figure's name and service are written before `count` (release) covers it, and never
 * again; so a reader that has loaded `count` (acquire) sees them whole.
 *
 * Threads: the worker's changes, any reads.
 */
#include "front/route_figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/exchange.h"
#include "holdfast/clock.h"
#include "holdfast/histogram.h"
#include "observe/observe.h"

#define SLOTS 512u /* of the worker's own hash table: a power of two, four times the routes */

struct route_figure {
    size_t service;
    uint64_t hash;
    char route[OBSERVE_ROUTE_BYTES];
    _Atomic uint64_t answers[FRONT_ANSWER_CLASSES];
    struct histogram duration;
};

struct route_figures {
    _Atomic size_t count;
    uint16_t slots[SLOTS]; /* 0: free; else the figure's place and one */
    size_t service_count;
    struct route_figure figures[]; /* the routes, then "other" of each service */
};

struct route_figures *route_figures_new(size_t service_count)
{
    struct route_figures *figures = calloc(1, sizeof *figures + (FRONT_ROUTES_MAX + service_count) *
                                                                    sizeof(struct route_figure));
    if (figures != NULL) {
        figures->service_count = service_count;
        for (size_t i = 0; i < service_count; i++) {
            struct route_figure *other = &figures->figures[FRONT_ROUTES_MAX + i];
            other->service = i;
            memcpy(other->route, "other", sizeof "other");
        }
    }
    return figures;
}

struct route_figures *route_figures_free(struct route_figures *figures)
{
    free(figures);
    return NULL;
}

/* FNV-1a: routes come from callers, but of a full bucket nothing worse comes than a longer walk of
   a table that is a quarter full. */
static uint64_t hash_of(size_t service, const char *route)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ service;
    for (; *route != '\0'; route++) {
        hash = (hash ^ (uint8_t)*route) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static struct route_figure *figure_get(struct route_figures *figures, size_t service,
                                       const char *route)
{
    uint64_t hash = hash_of(service, route);
    size_t slot = (size_t)(hash ^ hash >> 32) % SLOTS;
    size_t count = atomic_load_explicit(&figures->count, memory_order_relaxed);
    while (figures->slots[slot] != 0) {
        struct route_figure *at = &figures->figures[figures->slots[slot] - 1];
        if (at->hash == hash && at->service == service && strcmp(at->route, route) == 0) {
            return at;
        }
        slot = (slot + 1) % SLOTS;
    }
    if (count == FRONT_ROUTES_MAX) {
        return &figures->figures[FRONT_ROUTES_MAX + service];
    }
    struct route_figure *made = &figures->figures[count];
    made->service = service;
    made->hash = hash;
    (void)snprintf(made->route, sizeof made->route, "%s", route);
    figures->slots[slot] = (uint16_t)(count + 1);
    atomic_store_explicit(&figures->count, count + 1, memory_order_release);
    return made;
}

void route_figures_begin(struct exchange *exchange)
{
    char route[OBSERVE_ROUTE_BYTES];
    struct route_figures *figures = exchange->owner->figures;
    if (figures == NULL) {
        return;
    }
    const char *method = (const char *)exchange->texts.data;
    (void)observe_route(exchange->shared->observe, exchange->service->name, method,
                        method + strlen(method) + 1, route);
    exchange->figure = figure_get(figures, exchange->service->number, route);
    exchange->started_us = clock_monotonic_us();
}

void route_figures_end(struct exchange *exchange)
{
    struct route_figure *figure = exchange->figure;
    if (figure == NULL) {
        return;
    }
    unsigned status =
        exchange->own_answer ? error_answer_status(exchange->refusal) : exchange->status;
    size_t class = exchange->caller_gone || status >= 600 ? 0 : status / 100;
    exchange->figure = NULL;
    counter_add_alone(&figure->answers[class], 1);
    histogram_observe_alone(&figure->duration, clock_monotonic_us() - exchange->started_us);
}

static size_t add_one(const struct route_figure *figure, struct front_route *routes, size_t count,
                      size_t max)
{
    size_t at = 0;
    while (at < count && (routes[at].service != figure->service ||
                          strcmp(routes[at].route, figure->route) != 0)) {
        at++;
    }
    if (at == max) {
        return count;
    }
    struct front_route *route = &routes[at];
    if (at == count) {
        memset(route, 0, sizeof *route);
        route->service = figure->service;
        (void)snprintf(route->route, sizeof route->route, "%s", figure->route);
        count++;
    }
    for (size_t i = 0; i < FRONT_ANSWER_CLASSES; i++) {
        route->answers[i] += counter_read(&figure->answers[i]);
    }
    histogram_add(&route->duration, &figure->duration);
    return count;
}

static bool is_used(const struct route_figure *figure)
{
    uint64_t any = 0;
    for (size_t i = 0; i < FRONT_ANSWER_CLASSES; i++) {
        any |= counter_read(&figure->answers[i]);
    }
    return any != 0;
}

size_t route_figures_add(const struct route_figures *figures, struct front_route *routes,
                         size_t count, size_t max)
{
    size_t known = atomic_load_explicit(&figures->count, memory_order_acquire);
    for (size_t i = 0; i < known; i++) {
        count = add_one(&figures->figures[i], routes, count, max);
    }
    for (size_t i = 0; i < figures->service_count; i++) {
        const struct route_figure *other = &figures->figures[FRONT_ROUTES_MAX + i];
        count = is_used(other) ? add_one(other, routes, count, max) : count;
    }
    return count;
}

#ifndef HOLDFAST_FRONT_ROUTE_FIGURES_H
#define HOLDFAST_FRONT_ROUTE_FIGURES_H

/*
 * Requests by their route: how many, how they were answered, how long they took.
 *
 * Each worker has a table of its own, which it alone changes and others read, with relaxed atomics
 * and no lock. FRONT_ROUTES_MAX routes have a place; what comes after that counts as "other" of its
 * service.
 */

#include <stddef.h>
#include <stdint.h>

#include "front/front.h"

struct exchange;
struct route_figure;
struct route_figures;

/* NULL: out of memory. */
struct route_figures *route_figures_new(size_t service_count);
/* NULL is harmless; returns NULL. */
struct route_figures *route_figures_free(struct route_figures *figures);

/* A request's head is there, with its texts. The worker's thread. */
void route_figures_begin(struct exchange *exchange);
/* Its answer is out, or never will be. Harmless if it was counted before. The worker's thread. */
void route_figures_end(struct exchange *exchange);

/*
 * Adds this table's to the `count` routes that are there already, of up to `max`; returns how many
 * there are then. Any thread.
 */
size_t route_figures_add(const struct route_figures *figures, struct front_route *routes,
                         size_t count, size_t max);

#endif

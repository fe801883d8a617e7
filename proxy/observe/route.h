#ifndef HOLDFAST_OBSERVE_ROUTE_H
#define HOLDFAST_OBSERVE_ROUTE_H

/*
 * Routes: a request's method and path with what names one thing taken out, so that calls of one
 * kind have one route.
 *
 *   POST /v2/projects/p7/apps?x=1            POST /v2/projects/p7/apps      (a small number of
 * them) after more than 32 different projects    POST /v2/projects/{}/apps GET
 * /users/3f2504e0-4f89-...        GET /users/{}                   (looks like an identifier)
 *
 * A segment becomes "{}" if it looks like an identifier (identifier.h), if it holds what fixed
 * parts of a path do not (a "%", an "@"), or if more than ROUTE_VALUES_MAX different values have
 * come at its place: behind the same prefix, with the same method, of the same service. What stood
 * behind those values is then taken together, too.
 *
 * Bounded: ROUTE_NODES_MAX segments are remembered. When they are used up, the place with the most
 * values becomes "{}"; where that does not help, the rest of a path is one "…".
 *
 * Threads: any; one mutex, since only the beginning of a call asks.
 */

#include <stddef.h>
#include <stdint.h>

#define ROUTE_VALUES_MAX 32u
#define ROUTE_NODES_MAX 8192u
#define ROUTE_SEGMENTS_MAX 24u
#define ROUTE_BYTES_MAX 256u

struct route_table;

/* NULL: out of memory. */
struct route_table *route_table_new(void);
/* NULL is harmless; returns NULL. */
struct route_table *route_table_free(struct route_table *table);

/*
 * The route of a request to `service` (cleaned by text_clean()), and learns of it. NUL-terminated
 * and printable; returns its size.
 */
size_t route_make(struct route_table *table, const char *service, const char *method,
                  const char *target, char ret_route[ROUTE_BYTES_MAX + 1]);

#endif

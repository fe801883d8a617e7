#ifndef HOLDFAST_ADMIN_OPEN_UNITS_H
#define HOLDFAST_ADMIN_OPEN_UNITS_H

/* The pages about open units: which there are with what they have written, and who waits for whom.
 */

#include <event2/buffer.h>

#include "admin/facts.h"

#define ADMIN_UNITS_PAGE_MAX 100u
/* Of a unit's writes, the last ones are looked at for their namespaces. */
#define ADMIN_UNIT_WRITES_LOOKED_AT_MAX 32u

/*
 * GET /units?from=N&count=M: {open, from, units: [{unit, state, boundary, user, client, appName,
 * ageMillis, busy, locksHeld, waitsFor, endsWith, writes, namespaces: [..]}], more}, oldest first.
 * `writes` and `namespaces` are as in the journal: a write that is not durable yet is not counted.
 * Returns the HTTP status.
 */
int admin_units_write(const struct admin_facts *facts, const char *query, struct evbuffer *body);

/*
 * GET /waits: {waits: [{unit, user, client, appName, ageMillis, waitsFor, holder: {user, client,
 * appName, boundary, ageMillis, waitsFor}}], more}; up to ADMIN_UNITS_PAGE_MAX, oldest first.
 * Returns the HTTP status.
 */
int admin_waits_write(const struct admin_facts *facts, const char *query, struct evbuffer *body);

#endif

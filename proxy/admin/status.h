#ifndef HOLDFAST_ADMIN_STATUS_H
#define HOLDFAST_ADMIN_STATUS_H

/* The page /status. */

#include <stddef.h>

#include "admin/facts.h"

/* Units listed; the figures count all. */
#define ADMIN_UNITS_LISTED_MAX 1000

/*
 * One JSON object, to be freed with bson_free(); NULL: out of memory. Beside what
 * `holdfast status --json` shows of the journal:
 *
 *   proxy        {version, pid, phase, ready, reason (if not ready), uptimeMillis}
 *   quotaBytes   of the journal
 *   groups, batches, appended to the journal since the start, and its commits that
 *                carried them
 *   settledLsn   up to which the server has itself made everything durable (only while serving)
 *   upstream     {answers, answeredMillisAgo}
 *   connections  clients' connections now
 *   units        {open, committed, rolledBack, conflicts, deadlocks (all since the start),
 * locksHeld, list: [{unit, state, boundary, user, client, appName, ageMillis, busy, isolation,
 *                         locksHeld, locksShared (documents that it has read), namespacesRead (as
 *                         a whole; both of serializable units), waitsFor (a unit that holds the
 *                         lock it waits for), endsWith}],
 *                 listed: how many of `open` the list shows, oldest first}
 *
 * The list has `units_max` units, and ADMIN_UNITS_LISTED_MAX at most.
 */
char *admin_status_json(const struct admin_facts *facts, size_t units_max);

#endif

#ifndef HOLDFAST_ADMIN_CONTROL_H
#define HOLDFAST_ADMIN_CONTROL_H

/* What an operator can do to the living proxy. The control server's thread. */

#include <event2/buffer.h>

#include "admin/facts.h"

/*
 * POST /rollback?unit=N. Starts the rollback of an open unit; its client's next command is answered
 * NoSuchTransaction. Appends a line for the operator and returns 200; 202 (its command is at work:
 * it is rolled back when that has ended, unless that was its commit, or the unit is a plain write,
 * which commits itself), 400 (no number), 404 (no such open unit) or 503 (not serving).
 */
int admin_control_rollback(const struct admin_facts *facts, const char *query,
                           struct evbuffer *body);

/*
 * POST /prune?before=MS. Has units that ended before that time (milliseconds since 1970; 0: as
 * retention says) removed from the journal, and does not wait for it. Appends a JSON document with
 * what the pruner goes by, { endedBefore: Int64, settledLsn: Int64 } (-1: no bound), and returns
 * 200; or a line and 400 (no number) or 503 (not serving).
 */
int admin_control_prune(const struct admin_facts *facts, const char *query, struct evbuffer *body);

/*
 * POST /drain. The proxy takes no new connections, calls and units from now on; what is open goes
 * on and may end, and /readyz tells when nothing is left. It does not end by itself. Appends {
 * draining: true } and returns 202, or a line and 503 (not serving yet).
 */
int admin_control_drain(const struct admin_facts *facts, struct evbuffer *body);

/*
 * POST /upgrade. As SIGUSR2: the program at the proxy's path takes its place. Appends what an
 * outcome is told by, { generation: Int64, failed: Int64 }, and returns 202: on success another
 * process answers with a higher generation, on failure this one with more that have failed. Or a
 * line and 409 (an upgrade is under way) or 503 (not serving).
 */
int admin_control_upgrade(const struct admin_facts *facts, struct evbuffer *body);

/*
 * POST /backup?for=MS&keep=LSN&pause=1. While a backup is made, for the next MS milliseconds (up to
 * ADMIN_BACKUP_MS_MAX; 0 ends it): retention keeps what is newer than LSN, and with pause=1 all
 * writes wait (engine/pause.h). To be asked again before the time is over. Appends { pause:
 * none|waiting|held, unitsOpen: Int64 } and returns 200, or a line and 400, 503 (not serving).
 */
#define ADMIN_BACKUP_MS_MAX 60000u
int admin_control_backup(const struct admin_facts *facts, const char *query, struct evbuffer *body);

#endif

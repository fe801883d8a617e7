#ifndef HOLDFAST_ROUTE_ELSEWHERE_H
#define HOLDFAST_ROUTE_ELSEWHERE_H

/*
 * Reads that go to another member of a replica set than the primary, by their `$readPreference`
 * (upstream/selection.h), on a second connection of the client's; and the getMores and killCursors
 * of the cursors that these opened.
 *
 *   none --wanted--> waiting for a member --> connecting --> asked hello --> idle <--> at work
 *     ^                ^                          |              |            |          |
 *     |                `---- broken, or not what it was thought to be -------'  answered with a
 *     `---------------- unused for ELSEWHERE_IDLE_MS, or broken ---------------' label, or as it is
 *
 * find, aggregate, count and distinct, outside of transactions, of a client that has not logged in:
 * a member answers nothing to a connection that has not, and only the client could repeat its login
 * there. Nor of a service behind the front, whose reads may be an API call's. All else goes to the
 * primary, as ever. Of a cluster a router chooses by itself.
 *
 * One at a time: nothing else is read from the client until the reply is there, and it begins only
 * when the primary's replies are; so replies keep their order. A reply is taken whole before any of
 * it goes on (LIMIT_MESSAGE_BYTES_MAX), for its cursor stands behind its documents.
 *
 * Where no member fits one is waited for, router_options.selection_ms at most, then the client gets
 * FailedToSatisfyReadPreference. If the member breaks it gets HostUnreachable, and the driver's
 * retry goes to another one.
 *
 * Thread: the connection's worker.
 */

#include <stdbool.h>

#include "route/connection.h"
#include "wire/command.h"

#define ELSEWHERE_IDLE_MS 60000u

/* True: decided, it is no message for the primary. */
bool elsewhere_decide(struct connection *connection, const struct wire_header *header,
                      struct slice available, const struct command_view *view,
                      struct dispatch *dispatch);

/* Carries out a DISPATCH_ELSEWHERE: `elsewhere_busy` until it is answered. `message` is whole. */
void elsewhere_start(struct connection *connection, const struct wire_header *header,
                     struct slice message, const struct dispatch *dispatch);

/* The client takes more. Harmless if there is nothing. */
void elsewhere_read(struct connection *connection);

/* Ends what there is of it. Harmless if there is nothing, as the next. */
void elsewhere_close(struct connection *connection);
/* Before the connection is freed. */
void elsewhere_free(struct connection *connection);

#endif

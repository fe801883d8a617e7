#ifndef HOLDFAST_ROUTE_FOLLOW_H
#define HOLDFAST_ROUTE_FOLLOW_H

/*
 * A client's connection to the server where that may become another one: a replica set's primary, a
 * cluster's router (upstream/topology.h). The client's side outlives the server's:
 *
 *   dialling --the server says that it is the primary--> here --broken, or not current--> away
 *      ^  `--it does not, or cannot be reached: again--'                                   |
 *      `-------------------------- the client sends something ----------------------------'
 *
 * Going away answers what was on its way with HostUnreachable and the label that a mongos would
 * set, so that the driver's own retry comes, and finds the new primary. Only a connection that has
 * logged in cannot go: the login passes through, and the new server would have to see it. Nor can
 * one in the middle of a message. Those are closed, as if the server itself had closed them.
 *
 * While there is no primary a command waits for one, as behind a mongos; after
 * router_options.selection_ms it gets FailedToSatisfyReadPreference. A hello is answered
 * with what a server said last, so that drivers go on taking the proxy for a living mongos; one
 * that begins a login waits, too.
 *
 * Thread: the connection's worker. Where nothing is followed (router_options.topology is NULL) only
 * follow_is_on() is called.
 */

#include <stdbool.h>

#include "route/connection.h"
#include "wire/command.h"

/* A longer reply is no error that a server gives for itself. */
#define FOLLOW_LOOK_BYTES 4096u

static inline bool follow_is_on(const struct connection *connection)
{
    return connection->shared->options.topology != NULL;
}

/* Begins to connect, from the loop. Harmless if it has begun. */
void follow_dial(struct connection *connection);

/* The attempt failed, or what was reached is not the primary: another one, or the end. */
void follow_failed(struct connection *connection);

/* What was connected to has answered hello. False: it is not to be worked with; follow_failed() was
   called. */
bool follow_accept(struct connection *connection, struct slice hello);

/* The server's side has broken. True: the client's goes on; false: nothing was done. */
bool follow_lost(struct connection *connection);

/* Before something is read from the client: if its server is not the current one, goes away. */
void follow_look(struct connection *connection);

/* Of a connection that is away: whether there is anything that it may answer by itself now. */
bool follow_answers(const struct connection *connection);

/* The same: decides about a message, in place of dispatch_decide(). */
void follow_decide(struct connection *connection, const struct wire_header *header,
                   struct slice available, struct dispatch *dispatch);

/*
 * A reply's document is to pass, which may tell that the server is not the primary any more. False:
 * it must not, the client's side ends instead. It has logged in, so it is closed in any case, and a
 * driver retries once only: told first that this is not the primary, then closed, it would have
 * retried in vain. A connection that breaks makes it drop all that are as old.
 */
bool follow_reply(struct connection *connection, struct slice document);

/* What the client sent last needs no primary: who waits for one waits from now on. */
void follow_not_needed(struct connection *connection);

/* Answers a request whose answer is lost with its server, and one for which no member was found of
   that mode. */
void follow_answer_lost(struct connection *connection, const struct expected *expected);
void follow_answer_unsatisfied(struct connection *connection, const struct expected *expected,
                               const char *mode);

/* Notes of a request what its client is told if its answer is lost. */
void follow_note(const struct command_view *view, struct expected *expected);

/* One that another process has handed over: finds out whether its server is the current one; it
   goes away if not. False: it cannot. */
bool follow_adopt(struct connection *connection);

/* The topology has changed: who waits tries at once, and who has logged in and cannot follow is
   closed. */
void follow_changed(struct route_worker *worker);

/* Before a connection is freed, or has no server's side any more. */
void follow_end(struct connection *connection);

#endif

#ifndef HOLDFAST_ROUTE_DISPATCH_PRIVATE_H
#define HOLDFAST_ROUTE_DISPATCH_PRIVATE_H

/* What the files that decide about a message share; nobody else includes it. */

#include "route/command_table.h"
#include "route/connection.h"
#include "wire/traceparent.h"

/*
 * For what the proxy answers itself: one message at a time, whole, with nothing before it still
 * unanswered. Sets `kind`, or DISPATCH_MORE or DISPATCH_BLOCKED.
 */
void dispatch_own(struct connection *connection, const struct wire_header *header,
                  struct slice available, enum dispatch_kind kind, struct dispatch *dispatch);

/* DISPATCH_ANSWER with an error. The message must be one that may be answered now. */
void dispatch_error(struct dispatch *dispatch, int code, const char *message);

/*
 * A write of a service of a domain, which is whole and may be decided now (dispatch_own()). True:
 * decided. False: it is a plain write as any other.
 */
bool dispatch_domain_write(struct connection *connection, const struct command_view *view,
                           enum command_class class, size_t message_bytes,
                           struct dispatch *dispatch);

/*
 * The same for what says itself to which unit it belongs. True: decided, it is refused, for its
 * domain is fenced.
 */
bool dispatch_domain_refuses(struct connection *connection, const struct command_view *view,
                             struct dispatch *dispatch);

/* A write that is no call's passes: for the report. `message_bytes`: of the whole message. */
void dispatch_observe(struct connection *connection, const struct command_view *view,
                      const struct op_msg *message, size_t message_bytes);

/* The traceparent that its comment carries. False: none. */
bool dispatch_traceparent(const struct command_view *view, struct traceparent *ret_traceparent);
/* Its trace, in *found; NULL: none. */
const struct trace_id *dispatch_trace(const struct command_view *view, struct traceparent *found);

/* dispatch.c. Whose connection it is, from a hello. False: decided, it is refused. */
MUST_CHECK bool dispatch_note_application(struct connection *connection,
                                          const struct command_view *view,
                                          struct dispatch *dispatch);
/* A hello, or a step of a login: forwarded and followed, one at a time. */
void dispatch_hello(struct connection *connection, const struct command_view *view,
                    struct dispatch *dispatch);
void dispatch_login(struct connection *connection, const struct command_view *view,
                    struct dispatch *dispatch);
/* Whether it changes anything, and does it as a plain command. */
bool dispatch_is_any_write(enum command_class class);
/* Also by a comment that is not of its grammar: that is an error, and the boundary tells it. */
bool dispatch_names_a_unit(const struct command_view *view);
/* A command for the unit that its comment names. */
void dispatch_named(struct connection *connection, const struct wire_header *header,
                    struct slice available, const struct command_view *view,
                    enum command_class class, struct dispatch *dispatch);
/* So that a unit is found whose client has gone. */
void dispatch_note_session(struct connection *connection, const struct command_view *view);

/* dispatch_native.c: any command, with the native engine. */
void dispatch_native(struct connection *connection, const struct wire_header *header,
                     struct slice available, const struct command_view *view,
                     enum command_class class, struct dispatch *dispatch);

/* A command that is no write and belongs to no unit. */
void dispatch_read(struct connection *connection, const struct wire_header *header,
                   struct slice available, const struct command_view *view,
                   struct dispatch *dispatch);

#endif

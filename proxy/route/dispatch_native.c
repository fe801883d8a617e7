/*
 * What to do with a command where the server has transactions of its own (engine/native.h).
 *
 *   hello, logins           followed, as ever
 *   a driver's transaction
 *     statements            as they are; of those that begin or write it is noted
 *     abortTransaction      as it is
 *     commitTransaction     to the boundary: its record first, then as it is
 *   units in comments       to the boundary, as ever: they become transactions (native_unit.h)
 *   of services behind the front, while an API call is open
 *     writes, reads         to the boundary: they are of the call's unit (boundary/call_native.c)
 *     a write sent again    the way that it went the first time (boundary/domain_retries.h)
 *     reads of the server's own databases and of system.* pass: a transaction does not take them
 *     what creates, drops   the same, for it must not wait for that unit
 *   reads by preference     perhaps to another member of the set (elsewhere.h)
 *   several documents       to the boundary under `unit.multiWrites: strict`
 *   everything else         as it is: locks, isolation and retries are the server's
 *
 * The connection's worker.
 */
#include <string.h>

#include "engine/native.h"
#include "route/dispatch_private.h"
#include "route/elsewhere.h"
#include "wire/bson_walk.h"

static bool is_transaction(const struct command_view *view)
{
    return view->has_autocommit && !view->autocommit && view->has_transaction_number &&
           view->session_id.size > 0;
}

/* What the audit keeps must be here whole; what is longer than its bound is not waited for. */
static void decide_statement(struct connection *connection, const struct wire_header *header,
                             struct slice available, const struct command_view *view,
                             enum command_class class, struct dispatch *dispatch)
{
    struct native *native = connection->shared->options.engine->native;
    bool writes = dispatch_is_any_write(class);
    bool whole = available.size == header->length;
    bool begins = view->has_start_transaction && view->start_transaction;
    if (!writes && !begins) {
        return;
    }
    if (writes && !whole && header->length <= native_audit_bytes(native)) {
        dispatch->kind = DISPATCH_MORE;
        return;
    }
    native_note(native, connection->login.user, view, whole ? &dispatch->message : NULL, writes);
}

/* How many documents a write has stands behind them, so it must be whole. */
static void decide_plain_write(struct connection *connection, const struct wire_header *header,
                               struct slice available, const struct command_view *view,
                               struct dispatch *dispatch)
{
    const struct engine *engine = connection->shared->options.engine;
    dispatch->kind = DISPATCH_FORWARD;
    if (engine->multi_writes != ENGINE_MULTI_WRITES_STRICT) {
        return;
    }
    if (available.size < header->length) {
        dispatch->kind = DISPATCH_MORE;
    } else if (plain_is_unit(engine, view, &dispatch->message)) {
        dispatch->boundary = DISPATCH_TO_PLAIN;
        dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    }
}

/* ------------------------------------------------------------------ services behind the front */

static void decide_domain_write(struct connection *connection, const struct wire_header *header,
                                struct slice available, const struct command_view *view,
                                enum command_class class, struct dispatch *dispatch)
{
    dispatch_own(connection, header, available, DISPATCH_FORWARD, dispatch);
    if (dispatch->kind != DISPATCH_FORWARD ||
        dispatch_domain_write(connection, view, class, header->length, dispatch)) {
        return;
    }
    if (dispatch->in_call) {
        dispatch->kind = DISPATCH_OPERATION;
        dispatch->boundary = DISPATCH_TO_CALL;
        dispatch->part = class == COMMAND_NAMESPACE_WRITE ? CALL_PART_NAMESPACE : CALL_PART_SERVER;
    } else {
        dispatch_observe(connection, view, &dispatch->message, header->length);
        if (class == COMMAND_WRITE) {
            decide_plain_write(connection, header, available, view, dispatch);
        }
    }
}

/* What a transaction does not take, so that its refusal would end the call's unit. */
static bool is_of_the_server(const struct read_command *command)
{
    static const char *const databases[] = {"admin", "config", "local", NULL};
    return (command->database != NULL && bson_name_is_one_of(command->database, databases)) ||
           (command->collection != NULL && strncmp(command->collection, "system.", 7) == 0);
}

/* What shows no documents of a collection, or waits for new ones, is no part of a transaction. */
static void decide_domain_read(struct connection *connection, const struct wire_header *header,
                               struct slice available, const struct command_view *view,
                               struct dispatch *dispatch)
{
    struct read_command command;
    struct traceparent traceparent;
    if (!dispatch->expects_reply || dispatch->message.has_sequence ||
        read_command_parse(view, &command) != STATUS_OK || command.is_special ||
        (command.kind == READ_GET_MORE && command.awaits) || is_of_the_server(&command)) {
        return;
    }
    dispatch_own(connection, header, available, DISPATCH_FORWARD, dispatch);
    if (dispatch->kind == DISPATCH_FORWARD &&
        domain_read_decide(connection->link.domain, connection->link.service,
                           dispatch_trace(view, &traceparent), &dispatch->call)) {
        dispatch->kind = DISPATCH_OPERATION;
        dispatch->boundary = DISPATCH_TO_CALL;
        dispatch->part = CALL_PART_READ;
    }
}

static void decide_domain(struct connection *connection, const struct wire_header *header,
                          struct slice available, const struct command_view *view,
                          enum command_class class, struct dispatch *dispatch)
{
    if (dispatch_is_any_write(class)) {
        decide_domain_write(connection, header, available, view, class, dispatch);
    } else {
        decide_domain_read(connection, header, available, view, dispatch);
    }
}

/* ------------------------------------------------------------------ transactions of drivers */

static void decide_transaction(struct connection *connection, const struct wire_header *header,
                               struct slice available, const struct command_view *view,
                               enum command_class class, struct dispatch *dispatch)
{
    struct native *native = connection->shared->options.engine->native;
    if (connection->link.domain != NULL && dispatch_is_any_write(class)) {
        dispatch_own(connection, header, available, DISPATCH_FORWARD, dispatch);
        if (dispatch->kind != DISPATCH_FORWARD ||
            dispatch_domain_refuses(connection, view, dispatch)) {
            return;
        }
    }
    if (class != COMMAND_TRANSACTION) {
        decide_statement(connection, header, available, view, class, dispatch);
    } else if (bson_name_is(view->name, "commitTransaction")) {
        dispatch->boundary = DISPATCH_TO_NATIVE;
        dispatch_own(connection, header, available, DISPATCH_OPERATION, dispatch);
    } else {
        native_forget(native, connection->login.user, view->session_id, view->transaction_number);
    }
}

void dispatch_native(struct connection *connection, const struct wire_header *header,
                     struct slice available, const struct command_view *view,
                     enum command_class class, struct dispatch *dispatch)
{
    dispatch->kind = DISPATCH_FORWARD;
    if (class == COMMAND_HELLO) {
        dispatch_hello(connection, view, dispatch);
    } else if (class == COMMAND_LOGIN) {
        dispatch_login(connection, view, dispatch);
    } else if (class == COMMAND_UNIT ||
               (dispatch_is_any_write(class) && dispatch_names_a_unit(view))) {
        dispatch_named(connection, header, available, view, class, dispatch);
    } else if (is_transaction(view)) {
        decide_transaction(connection, header, available, view, class, dispatch);
    } else if (connection->link.domain != NULL) {
        decide_domain(connection, header, available, view, class, dispatch);
    } else if (class == COMMAND_WRITE) {
        decide_plain_write(connection, header, available, view, dispatch);
    } else if (view->read_preference.size > 0 ||
               cursor_places_any(&connection->shared->cursor_places)) {
        (void)elsewhere_decide(connection, header, available, view, dispatch);
    }
}
